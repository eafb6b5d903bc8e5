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

from surrogates.prior_draws import DTYPE, Draw
from surrogates.prior_functions import formula, random_network
from surrogates.prior_process import Process, lower_factors
from surrogates.prior_warps import OutputWarp

__all__ = ["NODES", "Prior", "Tasks", "sample_tasks"]

NODES = 8  # draws from the oracle per point


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
    quiet_noise: tuple[float, float] = (1e-6, 1e-2)
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
    """B data sets of n rows, with q points to predict, in d columns; J nodes of the target distribution, with n >= 1 and d >= 1.

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
    """Independent tasks of equal size, on the device of the generator, each a function of its state alone.

    >>> tasks = sample_tasks(Prior(), 3, 10, 4, 2, torch.Generator().manual_seed(0))
    >>> tasks.X.shape, tasks.latent.shape
    (torch.Size([3, 10, 2]), torch.Size([3, 4, 8]))
    """
    draw = Draw(generator)
    levels = torch.where(draw.chance(prior.discrete, batch, d), draw.whole(2, 11, batch, d), draw.zeros(batch, d))
    family = draw.uniform(batch)
    drawn = family < prior.network, (family >= prior.network) & (family < prior.network + prior.formula)
    process = Process.draw(prior, batch, d, draw)
    made = [random_network(batch, d, generator), formula(batch, d, generator)]

    def known(X: Tensor) -> Tensor:
        """(B, k) the part of each function that is not a process: all of it for networks and formulas."""
        shift = process.shift(X)
        for is_it, function in zip(drawn, made, strict=True):
            shift = torch.where(is_it[:, None], function(X), shift)
        return shift

    exact = ~(drawn[0] | drawn[1])
    low, high = _boxes(prior, batch, d, draw)
    first = max(1, n if n < 4 else round(n * float(draw.uniform(1)[0] * 0.6 + 0.2)))
    X1 = _round(low + (high - low) * draw.uniform(batch, first, d), levels)
    noise_1 = process.noise(X1)
    normal = draw.normal(batch, n)
    drawn_1 = (lower_factors(process.covariance(X1, X1), noise_1) @ normal[:, :first, None]).squeeze(-1)
    value_1 = torch.where(exact[:, None], drawn_1, torch.zeros_like(drawn_1)) + known(X1)
    blobs = draw.chance(prior.blobs, batch)
    spread_out = low + (high - low) * draw.uniform(batch, n - first, d)
    X2 = torch.where(blobs[:, None, None], _near(X1, value_1, n - first, draw), spread_out)
    X = torch.cat([X1, _round(X2, levels)], 1)
    near = draw.chance(0.5, batch, q)[..., None]
    Q = torch.where(near, _near(X[:, :first], value_1, q, draw), low + (high - low) * draw.uniform(batch, q, d))
    Q = _round(Q, levels)
    noise = process.noise(X)
    L = lower_factors(process.covariance(X, X), noise)
    half = torch.linalg.solve_triangular(L, process.covariance(X, Q), upper=False)
    mean = (half.transpose(-1, -2) @ normal[..., None]).squeeze(-1)
    variance = (1.0 - half.square().sum(-2)).clamp_min(1e-12)
    told = torch.where(exact[:, None], (L @ normal[..., None]).squeeze(-1), normal * noise.sqrt()) + known(X)
    mean = torch.where(exact[:, None], mean, torch.zeros_like(mean)) + known(Q)
    variance = torch.where(exact[:, None], variance, torch.zeros_like(variance))
    order = draw.uniform(batch, n).argsort(-1)
    X, told = X.gather(1, order[..., None].expand(-1, -1, d)), told.gather(1, order)
    return _targets(prior, draw, _Unwarped(X, told, Q, mean, variance, process.noise(Q), exact), process.facts())


@dataclass(frozen=True)
class _Unwarped:
    """Tasks before the outputs' warps: oracle means and variances (B, q) at the points, noise variances there."""

    X: Tensor
    told: Tensor
    Q: Tensor
    mean: Tensor
    variance: Tensor
    noise: Tensor
    exact: Tensor


def _targets(prior: Prior, draw: Draw, tasks: _Unwarped, facts: dict[str, Tensor]) -> Tasks:
    """Told values and target nodes, through the warps, the plateaus and the labels."""
    B, q = tasks.mean.shape
    strata = (torch.arange(NODES, dtype=DTYPE, device=draw.device) + draw.uniform(B, q, NODES)) / NODES
    at = torch.special.ndtri(strata.clamp(1e-9, 1.0 - 1e-9))
    which = draw.uniform(B)
    plateau = which < prior.plateau
    labels = (which >= prior.plateau) & (which < prior.plateau + prior.labels)
    sampled = plateau | labels  # these have no oracle: their targets are a draw
    value = tasks.mean + torch.sqrt(tasks.variance) * draw.normal(B, q)
    mean = torch.where(sampled[:, None], value, tasks.mean)
    variance = torch.where(sampled[:, None], torch.zeros_like(value), tasks.variance)
    warp = OutputWarp.draw(prior.warped_outputs, tasks.told, draw)
    oracle = (tasks.exact & ~sampled)[:, None, None]
    (latent, latent_density), (told, told_density) = (
        _nodes(mean, variance + more, at, warp, oracle) for more in (torch.zeros_like(tasks.noise), tasks.noise)
    )
    level = _quantile(tasks.told, draw.uniform(B) * 0.9 + 0.05)[:, None]
    side = torch.where(draw.chance(0.5, B), 1.0, -1.0).to(DTYPE)[:, None]
    cut = warp(level)

    def seen(values: Tensor) -> Tensor:
        """Values (B, ...), cut where there is a plateau, as sides of the level where there are labels."""
        flat = values.flatten(1)
        clipped = torch.where(side > 0, flat.maximum(cut), flat.minimum(cut))
        signs = torch.where(flat > cut, 1.0, -1.0).to(DTYPE)
        made = torch.where(labels[:, None], signs, torch.where(plateau[:, None], clipped, flat))
        return made.reshape(values.shape)

    y = seen(warp(tasks.told))
    return Tasks(tasks.X, y, tasks.Q, seen(latent), seen(told), latent_density, told_density, labels, facts)


def _nodes(mean: Tensor, variance: Tensor, at: Tensor, warp: OutputWarp, oracle: Tensor) -> tuple[Tensor, Tensor]:
    """(B, q, J) warped values at standard normal numbers `at`, and their log densities, NaN where there is no oracle."""
    spread = torch.sqrt(variance)[..., None]
    value = mean[..., None] + spread * at
    density = -0.5 * at.square() - torch.log(spread) - 0.5 * math.log(2 * math.pi)
    return warp(value), torch.where(oracle, density - warp.log_slope(value), torch.nan)


def _boxes(prior: Prior, B: int, d: int, draw: Draw) -> tuple[Tensor, Tensor]:
    """(B, 1, d) ends of the boxes that rows lie in: the whole cube, or for some tasks a smaller one."""
    small = draw.chance(prior.boxes, B)[:, None, None]
    width = torch.where(small, draw.log_uniform(0.05, 0.8, B, 1, 1), draw.ones(B, 1, 1))
    low = draw.uniform(B, 1, d) * (1.0 - width)
    return low, low + width


def _near(X: Tensor, value: Tensor, k: int, draw: Draw) -> Tensor:
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
