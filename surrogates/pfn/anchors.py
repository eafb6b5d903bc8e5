"""What kernel regression says of a data set, in closed form: the ground on which the network stands.

A plain transformer has to learn linear algebra before it can interpolate noise-free data (its attention layers are
kernel smoothers, not solves), and a small one never does. So the solves are made for it: K Gaussian process regressions
with lengthscales read off the data by formula. The network sees their predictions as features and puts its own
distribution around them; how much each is worth, and what all of them miss, is what it learns.

The work is fixed in advance: every data set gets the same number of factorisations, batched over data sets.

1. Isotropic Matern-5/2 kernels, lengthscales relative to sqrt(p), scored by their evidence.
2. Relative lengthscales from the gradient of the best one's mean: for a stationary process E[(df/dx_j)^2] is
   proportional to 1 / l_j^2 (Rasmussen and Williams 2006, section 5.1), so the mean squared slopes at the rows give all
   of them at once. Radhakrishnan et al. (2024, Science 383, "recursive feature machines") iterate the same thing.
3. From the best scale of those, a Matern-5/2 and a squared exponential kernel, a few sign steps up the evidence
   (Riedmiller and Braun 1993, Rprop), in all log lengthscales and the log noise.
4. Both at several scales and noises; of everything seen, the K best by evidence, best first.

Mean and scale of each process are integrated out: the mean with a normal prior, the scale with an inverse gamma prior,
which gives evidence = |C|^(-1/2) (1 + z'C^-1 z)^(-(n+1)/2) up to a constant (Rasmussen and Williams 2006, sections 2.7
and 9.1; O'Hagan 1994). Everything is float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bbopt.errors import ValueRefused

ISOTROPIC = (0.15, 0.4, 1.0, 2.5)  # lengthscales, in units of the metric
ADAPTED = (0.4, 1.0, 2.5)
COARSE_NOISE = (1e-6, 1e-3, 5e-2)  # variances relative to the process's scale
AROUND = (0.6, 1.0, 1.7)  # lengthscales relative to those found
NOISE_AROUND = (0.03, 1.0, 30.0)
MOST_ANCHORS = len(ISOTROPIC) + 2 * len(AROUND)
LEAST_NOISE = 1e-10
CACHED = 20_000  # squared rows of the data sets worked on at once: what a core's cache holds of all kernels
MOST_NOISE = 10.0
LARGEST_JITTER = 1e3
MEAN_VARIANCE = 1.0
CENTRE, SPREAD = 0.4, 1.0  # of the prior of log lengthscales, relative to sqrt(p)
NOISE_CENTRE, NOISE_SPREAD = 1e-4, 4.0  # of the prior of the log noise
STEPS = 10
FIRST_STEP, LONGER, SHORTER = 0.8, 1.3, 0.5
FLOOR = 0.01  # share of the mean squared slope that every feature is given
SMALLEST_SHARE = 1e-12  # of the prior variance that a posterior variance may have


@dataclass(frozen=True)
class Anchors:
    """K kernel regressions per data set; B data sets of n rows with p features each.

    X: (B, n, p) rows. rate: (B, K, p) inverse squared lengthscales. smooth: (B, K) 1 for squared exponential, 0 for
    Matern-5/2. noise: (B, K) variances relative to scale. scale: (B, K) variances. weights: (B, K, n) = C^-1 z.
    factor: (B, K, n, n) inverses of the lower Cholesky factors of C. evidence: (B, K) logarithms, falling.
    left_out_mean, left_out_sd: (B, K, n) prediction of each row's value from the other rows, noise included.
    relevance: (B, p) inverse squared lengthscales found by the ascent, relative; their sum is 1.
    found_rate: (B, 2, p) and found_noise: (B, 2): where the ascent ended, Matern-5/2 first, for the next one to start from.
    """

    X: Tensor
    rate: Tensor
    smooth: Tensor
    noise: Tensor
    scale: Tensor
    weights: Tensor
    factor: Tensor
    evidence: Tensor
    left_out_mean: Tensor
    left_out_sd: Tensor
    relevance: Tensor
    found_rate: Tensor
    found_noise: Tensor

    def predict(self, Q: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, q) means and standard deviations of the noise-free values at (B, q, p) points; differentiable in Q."""
        root = self.rate.sqrt()[:, :, None, :]
        r2 = squared_distances(Q[:, None] * root, self.X[:, None] * root)
        cross = correlation(r2, self.smooth[:, :, None, None]) + MEAN_VARIANCE
        mean = (cross @ self.weights[..., None]).squeeze(-1)
        half = cross @ self.factor.transpose(-1, -2)
        share = (1.0 + MEAN_VARIANCE) - half.square().sum(-1)
        return mean, (self.scale[..., None] * share.clamp_min(SMALLEST_SHARE)).sqrt()


def squared_distances(A: Tensor, B: Tensor) -> Tensor:
    """(..., a, b) squared distances between rows of (..., a, p) and (..., b, p)."""
    cross = A @ B.transpose(-1, -2)
    return (A.square().sum(-1)[..., :, None] + B.square().sum(-1)[..., None, :] - 2.0 * cross).clamp_min(0.0)


def correlation(r2: Tensor, smooth: Tensor) -> Tensor:
    """Squared exponential correlations where `smooth` is 1, Matern-5/2 ones where it is 0, at squared distances r2."""
    root = (5.0 * (r2 + 1e-30)).sqrt()  # the square root has no slope at 0
    decay = torch.exp(-torch.where(smooth > 0.5, 0.5 * r2, root))
    return torch.where(smooth > 0.5, decay, (1.0 + root + root.square() / 3.0) * decay)


@dataclass(frozen=True)
class _Grid:
    """Scored kernels: rate (B, G, p), smooth (B, G), noise (B, G), evidence (B, G)."""

    rate: Tensor
    smooth: Tensor
    noise: Tensor
    evidence: Tensor

    def take(self, index: Tensor) -> _Grid:
        """The kernels (B, g) of each data set at `index` (B, g)."""
        rate = self.rate.gather(1, index[..., None].expand(-1, -1, self.rate.shape[-1]))
        return _Grid(rate, *(part.gather(1, index) for part in (self.smooth, self.noise, self.evidence)))

    def best(self) -> _Grid:
        """The one kernel of each data set with the most evidence."""
        return self.take(self.evidence.argmax(1, keepdim=True))

    def part(self, low: int, high: int | None) -> _Grid:
        """Kernels `low` to `high` of each data set."""
        return _Grid(*(getattr(self, name)[:, low:high] for name in self.__dataclass_fields__))

    @classmethod
    def join(cls, parts: Sequence[_Grid]) -> _Grid:
        """All kernels of all grids."""
        return cls(*(torch.cat([getattr(part, name) for part in parts], 1) for name in cls.__dataclass_fields__))


def fit_anchors(X: Tensor, z: Tensor, count: int, start: tuple[Tensor, Tensor] | None = None) -> Anchors:
    """The `count` best kernel regressions of standardised values z (B, n) at rows X (B, n, p).

    start: found_rate and found_noise of an earlier set of anchors for much the same data, from which the ascent goes on
    where they have more evidence than what is read off the data.

    >>> X = torch.linspace(0, 1, 9, dtype=torch.float64)[None, :, None]
    >>> z = torch.sin(6 * X[..., 0])
    >>> mean, sd = fit_anchors(X, z, 6).predict(X[:, :3] + 0.05)
    >>> bool((mean[:, 0] - torch.sin(6 * (X[:, :3, 0] + 0.05))).abs().max() < 0.02)
    True
    """
    with torch.no_grad():
        B, n, _ = X.shape
        at_once = B if X.is_cuda else max(1, CACHED // n**2)
        parts = [
            _fit(
                X[i : i + at_once], z[i : i + at_once], count,
                None if start is None else (start[0][i : i + at_once], start[1][i : i + at_once]),
            )
            for i in range(0, B, at_once)
        ]  # fmt: skip
        return Anchors(*(torch.cat([getattr(part, name) for part in parts]) for name in Anchors.__dataclass_fields__))


def _fit(X: Tensor, z: Tensor, count: int, start: tuple[Tensor, Tensor] | None) -> Anchors:
    B, _, p = X.shape
    even = X.new_full((B, 1, p), 1.0 / p)
    first = _score(
        X,
        z,
        _scaled(even, ISOTROPIC),
        X.new_zeros(B, len(ISOTROPIC)),
        X.new_tensor(COARSE_NOISE).expand(B, len(ISOTROPIC), -1),
    )
    rate = _scaled(_metric(X, z, first.best())[:, None], ADAPTED).repeat(1, 2, 1)
    smooth = torch.cat([X.new_zeros(B, len(ADAPTED)), X.new_ones(B, len(ADAPTED))], 1)
    second = _score(X, z, rate, smooth, first.best().noise[..., None].expand(B, rate.shape[1], 1))
    families = [second.part(0, len(ADAPTED)), second.part(len(ADAPTED), None)]
    if start is not None:
        kinds = torch.cat([smooth[:, :1], smooth[:, -1:]], 1)
        known = _score(X, z, start[0], kinds, start[1].clamp(LEAST_NOISE, MOST_NOISE)[..., None])
        families = [_Grid.join([part, known.part(g, g + 1)]) for g, part in enumerate(families)]
    found = _ascend(X, z, _Grid.join([part.best() for part in families]))
    rate = torch.cat([_scaled(found.rate[:, g : g + 1], AROUND) for g in (0, 1)], 1)
    noise = (found.noise[..., None] * X.new_tensor(NOISE_AROUND)).clamp(LEAST_NOISE, MOST_NOISE)
    third = _score(X, z, rate, found.smooth.repeat_interleave(len(AROUND), 1), noise.repeat_interleave(len(AROUND), 1))
    every = _Grid.join([first, third])
    chosen = every.take(every.evidence.argsort(dim=1, descending=True, stable=True)[:, :count])
    return _solve(X, z, chosen, found)


def _scaled(rate: Tensor, lengthscales: tuple[float, ...]) -> Tensor:
    """(B, G, p) inverse squared lengthscales: those of rate (B, 1, p), each lengthscale times a factor."""
    return rate / rate.new_tensor(lengthscales).square()[None, :, None]


def _covariance(X: Tensor, rate: Tensor, smooth: Tensor, noise: Tensor) -> Tensor:
    """(B, G, n, n) covariances of told values in units of the scale."""
    scaled = X[:, None] * rate.sqrt()[:, :, None, :]
    C = correlation(squared_distances(scaled, scaled), smooth[:, :, None, None]) + MEAN_VARIANCE
    C.diagonal(dim1=-2, dim2=-1).copy_(1.0 + MEAN_VARIANCE + noise[..., None] + torch.zeros_like(C[..., 0]))
    return C


def _cholesky(C: Tensor) -> Tensor:
    """Lower factors; where rounding made a matrix indefinite, of the matrix with a larger diagonal.

    Raises ValueRefused where no diagonal helps, which means rows or values that are not finite.
    """
    factor: Tensor
    factor, wrong = torch.linalg.cholesky_ex(C)
    jitter = 1e-9
    while bool(wrong.any()):
        if jitter > LARGEST_JITTER:
            raise ValueRefused("expected finite rows and values, got NaN, infinity or numbers whose squares overflow")
        bad = wrong > 0
        eye = torch.eye(C.shape[-1], dtype=C.dtype, device=C.device)
        fixed, still = torch.linalg.cholesky_ex(C[bad] + jitter * eye)
        factor[bad] = fixed
        wrong = torch.zeros_like(wrong).masked_scatter_(bad, still)
        jitter *= 10.0
    return factor


def _score(X: Tensor, z: Tensor, rate: Tensor, smooth: Tensor, noise: Tensor) -> _Grid:
    """Kernels (B, G), each with the best of its T noises (B, G, T)."""
    B, n, _ = X.shape
    G, T = noise.shape[1:]
    C = _covariance(X, rate, smooth, torch.zeros_like(smooth))[:, :, None].repeat(1, 1, T, 1, 1)
    C.diagonal(dim1=-2, dim2=-1).add_(noise[..., None])
    factor = _cholesky(C.reshape(-1, n, n))
    half = torch.linalg.solve_triangular(factor, z[:, None, :].expand(B, G * T, n).reshape(-1, n, 1), upper=False)
    evidence = _evidence(half[..., 0].square().sum(-1), factor).reshape(B, G, T)
    evidence = evidence + _log_prior(rate)[..., None] + _log_noise_prior(noise)
    top, which = evidence.max(-1)
    return _Grid(rate, smooth, noise.gather(-1, which[..., None])[..., 0], top)


def _evidence(quadratic: Tensor, factor: Tensor) -> Tensor:
    n = factor.shape[-1]
    return -0.5 * (n + 1) * torch.log1p(quadratic) - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _log_prior(rate: Tensor) -> Tensor:
    """(B, G) log prior densities of lengthscales, up to a constant."""
    p = rate.shape[-1]
    off = -0.5 * rate.clamp_min(1e-12).log() - math.log(CENTRE * math.sqrt(p))
    return -0.5 * (off / SPREAD).square().sum(-1)


def _log_noise_prior(noise: Tensor) -> Tensor:
    return -0.5 * ((noise.log() - math.log(NOISE_CENTRE)) / NOISE_SPREAD).square()


def shared_evidence(X: Tensor, Z: Tensor) -> Tensor:
    """(M,) log evidence of each of M standardised data sets Z (M, n) at the same rows X (n, p), best isotropic kernel."""
    n, p = X.shape
    G, T = len(ISOTROPIC), len(COARSE_NOISE)
    noise = X.new_tensor(COARSE_NOISE).repeat(G)[None]
    rate = _scaled(X.new_full((1, 1, p), 1.0 / p), ISOTROPIC).repeat_interleave(T, 1)
    factor = _cholesky(_covariance(X[None], rate, torch.zeros_like(noise), noise)[0])
    half = torch.linalg.solve_triangular(factor, Z.T.expand(G * T, n, len(Z)), upper=False)
    determinant = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
    return (-0.5 * (n + 1) * torch.log1p(half.square().sum(1)) - determinant).amax(0)


def _ascend(X: Tensor, z: Tensor, start: _Grid) -> _Grid:
    """Sign steps from each kernel in log rates and log noise; the best point on the way."""
    n, p = X.shape[1:]
    smooth = start.smooth
    theta = torch.cat([start.rate.log(), start.noise.log()[..., None]], -1)  # (B, G, p + 1)
    step, before = torch.full_like(theta, FIRST_STEP), torch.zeros_like(theta)
    low = torch.full_like(theta, math.log(1e-4 / p))
    low[..., -1] = math.log(LEAST_NOISE)
    best_theta, best = theta, torch.full_like(smooth, -torch.inf)
    centre = -2.0 * math.log(CENTRE * math.sqrt(p))
    for _ in range(STEPS + 1):
        rate, noise = theta[..., :-1].exp(), theta[..., -1].exp()
        scaled = X[:, None] * rate.sqrt()[:, :, None, :]
        r2 = squared_distances(scaled, scaled)
        root = (5.0 * (r2 + 1e-30)).sqrt()
        decay = torch.exp(-torch.where(smooth[..., None, None] > 0.5, 0.5 * r2, root))
        C = (
            torch.where(smooth[..., None, None] > 0.5, decay, (1.0 + root + root.square() / 3.0) * decay)
            + MEAN_VARIANCE
        )
        slope = torch.where(smooth[..., None, None] > 0.5, -0.5 * decay, (-5.0 / 6.0) * (1.0 + root) * decay)
        C.diagonal(dim1=-2, dim2=-1).add_(noise[..., None])
        L = _cholesky(C.flatten(0, 1)).reshape(C.shape)
        inverse = torch.cholesky_inverse(L)
        alpha = (inverse @ z[:, None, :, None]).squeeze(-1)
        quadratic = (alpha * z[:, None]).sum(-1).clamp_min(0.0)
        value = _evidence(quadratic, L) + _log_prior(rate) + _log_noise_prior(noise)
        better = value > best
        best, best_theta = torch.where(better, value, best), torch.where(better[..., None], theta, best_theta)
        share = ((n + 1) / (1.0 + quadratic))[..., None, None]
        outer = share * alpha[..., :, None] * alpha[..., None, :] - inverse  # twice the derivative in C
        pull = outer * slope
        by_rate = (scaled.square() * pull.sum(-1, keepdim=True)).sum(-2) - (scaled * (pull @ scaled)).sum(-2)
        by_rate = by_rate - 0.5 * (theta[..., :-1] - centre) / (2.0 * SPREAD**2)
        by_noise = 0.5 * noise * outer.diagonal(dim1=-2, dim2=-1).sum(-1)
        by_noise = by_noise - (theta[..., -1] - math.log(NOISE_CENTRE)) / NOISE_SPREAD**2
        sign = torch.cat([by_rate, by_noise[..., None]], -1).sign()
        step = torch.where(sign * before > 0, step * LONGER, torch.where(sign * before < 0, step * SHORTER, step))
        before = sign
        theta = (theta + sign * step).maximum(low).clamp_max(math.log(1e4))
    return _Grid(best_theta[..., :-1].exp(), smooth, best_theta[..., -1].exp(), best)


def _metric(X: Tensor, z: Tensor, best: _Grid) -> Tensor:
    """(B, p) mean squared slopes of the one kernel's mean at the rows, relative."""
    C = _covariance(X, best.rate, best.smooth, best.noise)
    alpha = torch.cholesky_solve(z[:, None, :, None], _cholesky(C))[:, 0, :, 0]
    rate = best.rate[:, 0]
    scaled = X * rate.sqrt()[:, None, :]
    root = (5.0 * squared_distances(scaled, scaled)).sqrt()
    pull = (1.0 + root) * torch.exp(-root) * alpha[:, None, :]  # -5/6 of it is the derivative in r^2
    slope = (X * pull.sum(-1, keepdim=True) - pull @ X) * rate[:, None, :]
    power = slope.square().mean(1)
    power = power + FLOOR * power.mean(-1, keepdim=True) + 1e-300
    return power / power.sum(-1, keepdim=True)


def _solve(X: Tensor, z: Tensor, grid: _Grid, found: _Grid) -> Anchors:
    n = X.shape[1]
    L = _cholesky(_covariance(X, grid.rate, grid.smooth, grid.noise))
    eye = torch.eye(n, dtype=X.dtype, device=X.device).expand_as(L)
    factor = torch.linalg.solve_triangular(L, eye, upper=False)
    half = (factor @ z[:, None, :, None]).squeeze(-1)
    weights = (factor.transpose(-1, -2) @ half[..., None]).squeeze(-1)
    scale = (1.0 + half.square().sum(-1)) / (n + 1)
    precision = factor.square().sum(-2)  # diagonal of C^-1
    metric = found.best().rate[:, 0]
    return Anchors(
        X, grid.rate, grid.smooth, grid.noise, scale, weights, factor, grid.evidence,
        z[:, None] - weights / precision, (scale[..., None] / precision).sqrt(), metric / metric.sum(-1, keepdim=True),
        found.rate, found.noise,
    )  # fmt: skip
