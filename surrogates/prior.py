"""What is believed before any data: random data sets of the kind that engineering problems give, with the exact answer.

A task is a function drawn from a mixture of families, rows told of it, points to predict, and, wherever the family
allows it, the distribution of the values at those points given the told rows AND the true hyperparameters: the oracle,
against which a predictive distribution is scored with little of the noise of a sampled target. It comes as stratified
draws (so that it goes through monotone output warps, and so that no spike of a prediction can sit on a node of a fixed
quadrature rule, which networks learn to do) with the oracle's own log density at them.

Families: Gaussian processes (four kernels, lengthscales per column, some columns irrelevant, Kumaraswamy input warps,
trends, steps, warped outputs, plateaus, labels), random networks, and formulas (sums, products, powers, ratios). Noise:
next to none, homogeneous, varying. Rows: spread out, in blobs around good values as a search leaves them, in boxes.
Choosing rows by told values leaves the posterior as it is. Shared by every surrogate that is trained here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from surrogates.prior_functions import formula, random_network

NODES = 8
DTYPE = torch.float64


@dataclass(frozen=True)
class Prior:
    """Shares of families and ranges of hyperparameters; the defaults are the mixture that the shipped weights saw.

    lengthscale: location, relative to sqrt(d), and spread of log lengthscales. quiet: share of functions with next to no
    noise; noisy: range of the noise standard deviations of the others. Shares not named go to what is plain.

    >>> Prior.plain().network
    0.0
    """

    kernels: tuple[float, float, float, float] = (0.3, 0.35, 0.2, 0.15)  # RBF, Matern-5/2, Matern-3/2, two scales
    lengthscale: tuple[float, float] = (0.35, 0.75)
    irrelevant: float = 0.25
    warped_inputs: float = 0.4
    trend: float = 0.35
    steps: float = 0.1
    warped_outputs: float = 0.25
    plateau: float = 0.07
    labels: float = 0.08
    network: float = 0.05
    formula: float = 0.25
    quiet: float = 0.6
    quiet_noise: tuple[float, float] = (1e-4, 1e-2)
    noisy: tuple[float, float] = (1e-2, 0.4)
    varying_noise: float = 0.1
    discrete: float = 0.15
    blobs: float = 0.35
    boxes: float = 0.15

    @classmethod
    def plain(cls) -> Prior:
        """Matern-5/2 processes with uniform rows: the prior of published comparisons with a fitted process."""
        return cls(
            kernels=(0.0, 1.0, 0.0, 0.0), lengthscale=(0.25, 0.75), irrelevant=0.0, warped_inputs=0.0, trend=0.0,
            steps=0.0, warped_outputs=0.0, plateau=0.0, labels=0.0, network=0.0, formula=0.0, quiet=0.0,
            noisy=(0.01, 0.3), varying_noise=0.0, discrete=0.0, blobs=0.0, boxes=0.0,
        )  # fmt: skip


@dataclass(frozen=True)
class Tasks:
    """B data sets of n rows, with q points to predict, in d columns; J nodes of the target distribution.

    X: (B, n, d) and Q: (B, q, d), in the unit cube. y: (B, n) told values. latent, told: (B, q, J) nodes of the noise-free
    value and of the value that would be told, of equal weight. latent_density, told_density:
    (B, q, J) log densities of the oracle at the nodes; NaN where there is no oracle. labels: (B,) values are -1 or 1.
    hyperparameters: of the Gaussian processes, name to (B, ...) tensor.
    """

    X: Tensor
    y: Tensor
    Q: Tensor
    latent: Tensor
    told: Tensor
    latent_density: Tensor
    told_density: Tensor
    labels: Tensor
    hyperparameters: dict[str, Tensor]


def sample_tasks(prior: Prior, batch: int, n: int, q: int, d: int, generator: torch.Generator) -> Tasks:
    """Independent tasks of equal size.

    >>> tasks = sample_tasks(Prior(), 3, 10, 4, 2, torch.Generator().manual_seed(0))
    >>> tasks.X.shape, tasks.latent.shape
    (torch.Size([3, 10, 2]), torch.Size([3, 4, 7]))
    """
    draw = _Draw(generator)
    levels = torch.where(draw.chance(prior.discrete, batch, d), draw.whole(2, 11, batch, d), torch.zeros(batch, d, dtype=DTYPE))  # fmt: skip
    family = draw.uniform(batch)
    drawn = family < prior.network, (family >= prior.network) & (family < prior.network + prior.formula)
    process = _Process.draw(prior, batch, d, draw)
    made = [random_network(batch, d, generator), formula(batch, d, generator)]

    def known(X: Tensor) -> Tensor:
        """(B, k) the part of each function that is not a process: all of it for networks and formulas."""
        shift = process.shift(X)
        for is_it, function in zip(drawn, made, strict=True):
            shift = torch.where(is_it[:, None], function(X), shift)
        return shift

    exact = ~(drawn[0] | drawn[1])
    low, high = _boxes(prior, batch, d, draw)
    first = max(1, n if n < 4 else int(round(n * float(draw.uniform(1)[0] * 0.6 + 0.2))))
    X1 = _round(low + (high - low) * draw.uniform(batch, first, d), levels)
    noise_1 = process.noise(X1)
    normal = draw.normal(batch, n)
    drawn_1 = (_lower(process.covariance(X1, X1), noise_1) @ normal[:, :first, None]).squeeze(-1)
    value_1 = torch.where(exact[:, None], drawn_1, torch.zeros_like(drawn_1)) + known(X1)
    blobs = draw.chance(prior.blobs, batch)
    spread_out = low + (high - low) * draw.uniform(batch, n - first, d)
    X2 = torch.where(blobs[:, None, None], _near(X1, value_1, n - first, draw), spread_out)
    X = torch.cat([X1, _round(X2, levels)], 1)
    near = draw.chance(0.5, batch, q)[..., None]
    Q = torch.where(near, _near(X[:, :first], value_1, q, draw), low + (high - low) * draw.uniform(batch, q, d))
    Q = _round(Q, levels)
    noise, noise_q = process.noise(X), process.noise(Q)
    L = _lower(process.covariance(X, X), noise)
    half = torch.linalg.solve_triangular(L, process.covariance(X, Q), upper=False)
    mean = (half.transpose(-1, -2) @ normal[..., None]).squeeze(-1)
    variance = (1.0 - half.square().sum(-2)).clamp_min(1e-12)
    f_rows = torch.where(exact[:, None], (L @ normal[..., None]).squeeze(-1), normal * noise.sqrt()) + known(X)
    mean = torch.where(exact[:, None], mean, torch.zeros_like(mean)) + known(Q)
    variance = torch.where(exact[:, None], variance, torch.zeros_like(variance))
    order = draw.uniform(batch, n).argsort(-1)
    X, f_rows = X.gather(1, order[..., None].expand(-1, -1, d)), f_rows.gather(1, order)
    return _targets(prior, draw, X, f_rows, Q, mean, variance, noise_q, exact, process)


def _targets(
    prior: Prior, draw: _Draw, X: Tensor, v: Tensor, Q: Tensor, mean: Tensor, variance: Tensor, noise: Tensor,
    exact: Tensor, process: _Process,
) -> Tasks:  # fmt: skip
    """Told values and target nodes from values before the output's warp."""
    B, q = mean.shape
    strata = (torch.arange(NODES, dtype=DTYPE, device=mean.device) + draw.uniform(B, q, NODES)) / NODES
    at = torch.special.ndtri(strata.clamp(1e-9, 1.0 - 1e-9))
    spread = torch.sqrt(variance)
    # plateaus and labels have no oracle: their targets are a draw
    which = draw.uniform(B)
    plateau = which < prior.plateau
    labels = (which >= prior.plateau) & (which < prior.plateau + prior.labels)
    sampled = plateau | labels
    value = mean + spread * draw.normal(B, q)
    mean = torch.where(sampled[:, None], value, mean)
    variance = torch.where(sampled[:, None], torch.zeros_like(variance), variance)
    spread = torch.sqrt(variance)
    latent = mean[..., None] + spread[..., None] * at
    total = torch.sqrt(variance + noise)
    told = mean[..., None] + total[..., None] * at
    latent_density = -0.5 * at.square() - torch.log(spread)[..., None] - 0.5 * math.log(2 * math.pi)
    told_density = -0.5 * at.square() - torch.log(total)[..., None] - 0.5 * math.log(2 * math.pi)
    oracle = (exact & ~sampled)[:, None, None]
    warp = _OutputWarp.draw(prior, v, draw)
    nan = torch.full_like(latent_density, torch.nan)
    latent_density = torch.where(oracle, latent_density - warp.log_slope(latent), nan)
    told_density = torch.where(oracle, told_density - warp.log_slope(told), nan)
    y, latent, told = warp(v), warp(latent), warp(told)
    level = _quantile(v, draw.uniform(B) * 0.9 + 0.05)[:, None]
    side = torch.where(draw.chance(0.5, B), 1.0, -1.0).to(DTYPE)[:, None]
    base = warp(level)
    clip = lambda values, cut: torch.where(side > 0, values.flatten(1).maximum(cut), values.flatten(1).minimum(cut)).reshape(values.shape)  # noqa: E731, E501  # fmt: skip
    sign = lambda values: torch.where(values.flatten(1) > base, 1.0, -1.0).to(DTYPE).reshape(values.shape)  # noqa: E731
    pick = lambda values: torch.where(  # noqa: E731
        labels.reshape(-1, *[1] * (values.dim() - 1)), sign(values),
        torch.where(plateau.reshape(-1, *[1] * (values.dim() - 1)), clip(values, base), values),
    )  # fmt: skip
    return Tasks(X, pick(y), Q, pick(latent), pick(told), latent_density, told_density, labels, process.facts())


class _Draw:
    """Random tensors from one generator, on its device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=DTYPE, device=self.generator.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=DTYPE, device=self.generator.device)

    def chance(self, share: float, *shape: int) -> Tensor:
        return self.uniform(*shape) < share

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from low to high - 1."""
        return torch.floor(low + (high - low) * self.uniform(*shape))

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.exp(math.log(low) + math.log(high / low) * self.uniform(*shape))


@dataclass(frozen=True)
class _Process:
    """B Gaussian processes of unit variance with trends and steps."""

    kernel: Tensor  # (B,) 0 to 3
    rate: Tensor  # (B, d) inverse lengthscales; 0 for irrelevant columns
    fine: Tensor  # (B, 2) share and lengthscale ratio of the second scale
    warp: Tensor  # (B, 2, d) exponents of the Kumaraswamy warp
    trend: Tensor  # (B, 2 d + 1) slopes and curvatures, and centre of the curvature along all columns
    step: Tensor  # (B, S, d + 3) directions, level, height, is a box
    noise_log: Tensor  # (B, 1 + d) log variance at the centre and its slopes

    @classmethod
    def draw(cls, prior: Prior, B: int, d: int, draw: _Draw) -> _Process:
        edges = torch.tensor(prior.kernels, dtype=DTYPE).cumsum(0).to(draw.generator.device)
        kernel = torch.searchsorted(edges, draw.uniform(B).clamp_max(float(edges[-1]) - 1e-9), right=True)
        location, spread = prior.lengthscale
        log_ell = math.log(location) + 0.5 * math.log(d) + spread * draw.normal(B, d)
        irrelevant = draw.chance(prior.irrelevant, B, d)
        irrelevant[torch.arange(B), draw.whole(0, d, B).long()] = False
        rate = torch.where(irrelevant, 0.0, torch.exp(-log_ell))
        fine = torch.stack([0.05 + 0.45 * draw.uniform(B), draw.log_uniform(0.1, 0.5, B)], -1)
        warped = draw.chance(prior.warped_inputs, B)[:, None, None]
        strength = 0.25 + 0.5 * draw.uniform(B)[:, None, None]
        warp = torch.exp(torch.where(warped, strength * draw.normal(B, 2, d), torch.zeros(B, 2, d, dtype=DTYPE, device=rate.device)))  # fmt: skip
        has_trend = draw.chance(prior.trend, B)[:, None]
        size = draw.log_uniform(0.1, 10.0, B)[:, None] / math.sqrt(d)
        sides = torch.where(draw.chance(0.5, B)[:, None], draw.normal(B, d).abs(), draw.normal(B, d))
        sides = torch.where(draw.chance(0.5, B)[:, None], sides, torch.zeros_like(sides))
        trend = torch.cat([3.0 * draw.normal(B, d), 6.0 * sides], -1) * size * torch.where(draw.chance(0.3, B, 2 * d), 0.0, 1.0)  # fmt: skip
        trend = torch.cat([torch.where(has_trend, trend, torch.zeros_like(trend)), draw.uniform(B, 1)], -1)
        has_steps = draw.chance(prior.steps, B)[:, None]
        heights = torch.where(has_steps & draw.chance(0.6, B, 4), 2.0 * draw.normal(B, 4), torch.zeros(B, 4, dtype=DTYPE, device=rate.device))  # fmt: skip
        axis = torch.nn.functional.one_hot(draw.whole(0, d, B, 4).long(), d).to(DTYPE)
        direction = torch.where(draw.chance(0.6, B, 4)[..., None], axis, draw.normal(B, 4, d) / math.sqrt(d))
        level = (direction * draw.uniform(B, 4, d)).sum(-1, keepdim=True)
        step = torch.cat([direction, level, heights[..., None], draw.chance(0.4, B, 4)[..., None].to(DTYPE)], -1)
        quiet = draw.chance(prior.quiet, B)
        sd = torch.where(quiet, draw.log_uniform(*prior.quiet_noise, B), draw.log_uniform(*prior.noisy, B))
        varying = (draw.chance(prior.varying_noise, B) & ~quiet)[:, None]
        slopes = torch.where(varying, 2.0 * draw.normal(B, d), torch.zeros(B, d, dtype=DTYPE, device=rate.device))
        return cls(kernel, rate, fine, warp, trend, step, torch.cat([2.0 * torch.log(sd)[:, None], slopes], -1))

    def covariance(self, A: Tensor, B: Tensor) -> Tensor:
        """(B, a, b) prior covariances."""
        left, right = (self._warped(part) * self.rate[:, None, :] for part in (A, B))
        r = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
        kind, share, ratio = self.kernel[:, None, None], self.fine[:, :1, None], self.fine[:, 1:, None]
        s5, s3 = math.sqrt(5.0) * r, math.sqrt(3.0) * r
        smooth = torch.exp(-0.5 * r.square())
        five = (1.0 + s5 + s5.square() / 3.0) * torch.exp(-s5)
        three = (1.0 + s3) * torch.exp(-s3)
        two = (1.0 - share) * smooth + share * (1.0 + s5 / ratio + (s5 / ratio).square() / 3.0) * torch.exp(-s5 / ratio)
        return torch.where(kind == 0, smooth, torch.where(kind == 1, five, torch.where(kind == 2, three, two)))

    def shift(self, X: Tensor) -> Tensor:
        """(B, k) trend and steps."""
        d = X.shape[-1]
        centre = self.trend[:, -1:, None]
        value = (X @ self.trend[:, :d, None]).squeeze(-1) + ((X - centre).square() @ self.trend[:, d : 2 * d, None]).squeeze(-1)  # fmt: skip
        along = X @ self.step[..., :d].transpose(1, 2)  # (B, k, S)
        level, height, box = self.step[..., d], self.step[..., d + 1], self.step[..., d + 2]
        inside = torch.where(box[:, None] > 0, (along - level[:, None]).abs() < 0.15, along > level[:, None])
        return value + (inside * height[:, None]).sum(-1)

    def noise(self, X: Tensor) -> Tensor:
        """(B, k) noise variances."""
        return torch.exp(
            (self.noise_log[:, :1] + ((X - 0.5) @ self.noise_log[:, 1:, None]).squeeze(-1)).clamp(-20.0, 1.0)
        )

    def facts(self) -> dict[str, Tensor]:
        """The hyperparameters, for those who learn them."""
        return {"kernel": self.kernel, "inverse_lengthscales": self.rate, "warp": self.warp, "log_noise": self.noise_log}  # fmt: skip

    def _warped(self, X: Tensor) -> Tensor:
        a, b = self.warp[:, 0, None, :], self.warp[:, 1, None, :]
        plain = (self.warp == 1.0).all(-1).all(-1)[:, None, None]
        inside = X.clamp(1e-9, 1.0 - 1e-9)
        return torch.where(plain, X, 1.0 - (1.0 - inside**a) ** b)


@dataclass(frozen=True)
class _OutputWarp:
    """Strictly increasing maps of standardised values, one per task: none, sinh-arcsinh, exponential, signed power."""

    centre: Tensor
    width: Tensor
    kind: Tensor
    amount: Tensor
    skew: Tensor

    @classmethod
    def draw(cls, prior: Prior, v: Tensor, draw: _Draw) -> _OutputWarp:
        B = len(v)
        kind = torch.where(draw.chance(prior.warped_outputs, B), draw.whole(1, 4, B), torch.zeros(B, dtype=DTYPE, device=v.device))  # fmt: skip
        width = (
            v.std(-1, correction=0).clamp_min(1e-3) if v.shape[1] > 1 else torch.ones(B, dtype=DTYPE, device=v.device)
        )
        return cls(v.mean(-1), width, kind, draw.log_uniform(0.4, 2.5, B), draw.normal(B) * 0.6)

    def __call__(self, v: Tensor) -> Tensor:
        return self._map(v)[0]

    def log_slope(self, v: Tensor) -> Tensor:
        return self._map(v)[1]

    def _map(self, v: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, *[1] * (v.dim() - 1))
        centre, width, kind, amount, skew = (part.reshape(shape) for part in (self.centre, self.width, self.kind, self.amount, self.skew))  # fmt: skip
        u = ((v - centre) / width).clamp(-30.0, 30.0)
        bent = amount * torch.asinh(u) + skew
        grown = (amount * u).clamp_max(30.0)
        root = 0.05 + u.abs()
        pairs = [
            (torch.sinh(bent), torch.log(amount * torch.cosh(bent)) - 0.5 * torch.log1p(u.square())),
            (torch.exp(grown), torch.log(amount) + grown),
            (u.sign() * (root**amount - 0.05**amount), torch.log(amount) + (amount - 1.0) * torch.log(root)),
        ]
        value, slope = v, torch.zeros_like(v)
        for index, (warped, log_slope) in enumerate(pairs, 1):
            value = torch.where(kind == index, warped, value)
            slope = torch.where(kind == index, log_slope - torch.log(width), slope)
        return value, slope


def _lower(K: Tensor, noise: Tensor) -> Tensor:
    """Lower Cholesky factors of K plus noise on the diagonal, with as much jitter as it takes."""
    K = K + torch.diag_embed(noise)
    L, wrong = torch.linalg.cholesky_ex(K)
    jitter = 1e-8
    while bool((wrong > 0).any()):
        bad = wrong > 0
        L[bad], still = torch.linalg.cholesky_ex(K[bad] + jitter * torch.eye(K.shape[-1], dtype=DTYPE, device=K.device))
        wrong = torch.zeros_like(wrong).masked_scatter_(bad, still)
        jitter *= 10.0
    return L


def _boxes(prior: Prior, B: int, d: int, draw: _Draw) -> tuple[Tensor, Tensor]:
    """(B, 1, d) ends of the boxes that rows lie in: the whole cube, or for some tasks a smaller one."""
    width = torch.where(draw.chance(prior.boxes, B)[:, None, None], draw.log_uniform(0.05, 0.8, B, 1, 1), torch.ones(B, 1, 1, dtype=DTYPE, device=draw.generator.device))  # fmt: skip
    low = draw.uniform(B, 1, d) * (1.0 - width)
    return low, low + width


def _near(X: Tensor, value: Tensor, k: int, draw: _Draw) -> Tensor:
    """(B, k, d) points around the rows with the lowest values, sometimes around any, at a random scale per task."""
    B, n, d = X.shape
    best = value.argsort(-1)[:, : max(1, min(3, n))]
    some = best.gather(1, draw.whole(0, best.shape[1], B, k).long())
    some = torch.where(draw.chance(0.7, B, k), some, draw.whole(0, n, B, k).long())
    centre = X.gather(1, some[..., None].expand(-1, -1, d))
    moved = draw.chance(1.0, B, k, d) if d == 1 else draw.uniform(B, k, d) < draw.uniform(B, k, 1).clamp_min(1.0 / d)
    scale = draw.log_uniform(2e-3, 0.2, B, 1, 1) * draw.log_uniform(0.3, 3.0, B, k, 1)
    return (centre + moved * scale * draw.normal(B, k, d)).clamp(0.0, 1.0)


def _round(X: Tensor, levels: Tensor) -> Tensor:
    """Columns with levels at the nearest one."""
    steps = (levels - 1.0).clamp_min(1.0)[:, None, :]
    return torch.where(levels[:, None, :] > 0, torch.round(X * steps) / steps, X)


def _quantile(v: Tensor, share: Tensor) -> Tensor:
    """(B,) the value of each row of v at the given share of its order."""
    place = (share * v.shape[1]).long().clamp(0, v.shape[1] - 1)
    return v.sort(-1).values.gather(1, place[:, None]).squeeze(1)
