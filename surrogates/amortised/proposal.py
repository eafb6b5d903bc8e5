"""Weighted hyperparameters of one output: drawn where a network and the curvature say, weighed by the exact posterior.

Half of the draws come from the network's density q. From the best of them per kernel, Fisher scoring goes uphill on the
exact log posterior (its coordinates have a standard normal prior, so the steps solve (F + I) step = gradient); around the
tops, Gaussians with the inverse information as covariance give the other half. All draws are weighed as if each had come
from the whole mixture of both (Veach and Guibas 1995; Cornuet et al. 2012, "adaptive multiple importance sampling"):

    w = p(z | k, v) p(k, v) / [ q(k, v) / 2 + sum_t c_t N_t(v) 1(k = k_t) / 2 ]

with the largest weights cut at the mean times the root of their number (Ionides 2008). Draws are quasi-random and the same
every time: what is believed is a function of the data alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import logsumexp, ndtri
from scipy.stats import qmc

from surrogates.amortised.evidence import Evidence, Likelihood

__all__ = ["Believed", "Parts", "weigh"]

Array = NDArray[np.float64]
LOG_2PI = math.log(2.0 * math.pi)
TOPS = 2  # kernels around whose best hyperparameters draws are made
WORTH = 0.03  # share of the weight that a kernel needs for that
STEPS = 3  # of Fisher scoring, unless it gains less than ENOUGH nats before
ENOUGH = 0.02
HALVINGS = 3
WIDER = 1.3  # variances of the Gaussians, in units of the inverse information


@dataclass(frozen=True)
class Parts:
    """A network's density, of K parts over `size` coordinates: as in `surrogates.amortised.density`, NumPy, one data set.

    log_part: (K,); log_kernel: (K, 3); mean, log_sd: (K, size); loading: (K, size, r).
    """

    log_part: Array
    log_kernel: Array
    mean: Array
    log_sd: Array
    loading: Array

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return int(self.mean.shape[1])

    @property
    def order(self) -> NDArray[np.intp]:
        """(size,) coordinates in the order of their means: numbers are dealt in this order, whatever that of the columns is."""
        return np.argsort(np.exp(self.log_part) @ self.mean, kind="stable")

    def draw(self, base: Array) -> tuple[NDArray[np.intp], Array]:
        """(S,) kernels and (S, size) coordinates at uniform numbers base (S, 2 + size + r)."""
        part = np.minimum(np.searchsorted(np.exp(self.log_part).cumsum(), base[:, 0]), len(self.log_part) - 1)
        odds = np.exp(self.log_kernel[part]).cumsum(-1)
        kernel = np.minimum((base[:, 1:2] > odds / odds[:, -1:]).sum(-1), 2)
        normal = ndtri(base[:, 2:])
        own = np.empty((len(base), self.size))
        own[:, self.order] = normal[:, : self.size]
        moved = np.exp(self.log_sd[part]) * own
        moved += np.einsum("sdr,sr->sd", self.loading[part], normal[:, self.size :])
        return kernel, self.mean[part] + moved

    def log_density(self, kernel: NDArray[np.intp], v: Array) -> Array:
        """(S,) log densities of kernels (S,) with coordinates (S, size)."""
        parts = []
        for k in range(len(self.log_part)):
            sd = np.exp(self.log_sd[k])
            scaled, W = (v - self.mean[k]) / sd, self.loading[k] / sd[:, None]
            L = np.linalg.cholesky(np.eye(W.shape[1]) + W.T @ W)
            half = solve_triangular(L, (scaled @ W).T, lower=True)
            fit = (scaled**2).sum(-1) - (half**2).sum(0)
            log_det = self.log_sd[k].sum() + np.log(np.diagonal(L)).sum()
            parts.append(self.log_part[k] + self.log_kernel[k, kernel] - 0.5 * (fit + self.size * LOG_2PI) - log_det)
        return np.asarray(logsumexp(np.stack(parts), axis=0))


@dataclass(frozen=True)
class Top:
    """A Gaussian around hyperparameters from which scoring goes no higher.

    kernel, mean; root: Cholesky factor of the covariance of the coordinates in the given order.
    """

    kernel: int
    mean: Array
    root: Array
    order: NDArray[np.intp]

    def draw(self, normal: Array) -> Array:
        """(S, size) coordinates at standard normal numbers (S, size)."""
        v = np.empty_like(normal)
        v[:, self.order] = normal @ self.root.T
        return v + self.mean

    def log_density(self, kernel: NDArray[np.intp], v: Array) -> Array:
        """(S,) log densities, minus infinity for other kernels."""
        half = solve_triangular(self.root, (v - self.mean)[:, self.order].T, lower=True)
        log_det = np.log(np.diagonal(self.root)).sum()
        normal = -0.5 * ((half**2).sum(0) + len(self.mean) * LOG_2PI) - log_det
        return np.where(kernel == self.kernel, normal, -np.inf)


@dataclass(frozen=True)
class Believed:
    """S weighted draws of one output: kernels (S,), coordinates (S, size), log weights (S,) that add up to 1.

    likelihoods: of every draw. ess: effective number of draws. log_evidence: estimate of the log density of all values.
    best: the draw of highest posterior density, by number.
    """

    kernel: NDArray[np.intp]
    v: Array
    log_weight: Array
    likelihoods: tuple[Likelihood, ...]
    ess: float
    log_evidence: float
    best: int


def weigh(evidence: Evidence, parts: Parts, draws: int, more_steps: int = 0) -> Believed:
    """Weighted draws, about `draws` of them, for one output; more_steps: of scoring, beyond the usual ones."""
    first = draws // 2
    kernel, v = parts.draw(_base(first, 2 + parts.size + parts.loading.shape[-1]))
    found = [evidence.at(int(k), each) for k, each in zip(kernel, v, strict=True)]
    height = np.array([likelihood.value for likelihood in found]) + evidence.believed.log_density(kernel, v)
    log_q = parts.log_density(kernel, v)
    each = [logsumexp((height - log_q)[kernel == k]) if (kernel == k).any() else -np.inf for k in range(3)]
    shares = np.array(each) - logsumexp(each) if np.isfinite(height).any() else np.full(3, -np.inf)
    promising = [int(k) for k in np.argsort(-shares, kind="stable")[:TOPS] if shares[k] > math.log(WORTH)]
    tops: list[Top] = []
    for k in promising:
        own = np.flatnonzero(kernel == k)
        start = int(own[height[own].argmax()])
        top = _climb(evidence, k, v[start], found[start], float(height[start]), STEPS + more_steps, parts.order)
        if top is not None:
            tops.append(top)
    if not tops:
        return _believed(kernel, v, found, height, height - log_q)
    base = _base(draws - first, 1 + parts.size)
    chosen = np.minimum((base[:, 0] * len(tops)).astype(int), len(tops) - 1)
    normal = ndtri(base[:, 1:])
    more_v = np.empty_like(normal)
    for t, top in enumerate(tops):
        more_v[chosen == t] = top.draw(normal[chosen == t])
    more_kernel = np.array([tops[t].kernel for t in chosen])
    found += [evidence.at(int(k), each) for k, each in zip(more_kernel, more_v, strict=True)]
    kernel, v = np.concatenate([kernel, more_kernel]), np.concatenate([v, more_v])
    values = np.array([each.value for each in found])
    height = values + evidence.believed.log_density(kernel, v)
    share = first / draws
    parts_of = [parts.log_density(kernel, v) + math.log(share)]
    parts_of += [top.log_density(kernel, v) + math.log((1.0 - share) / len(tops)) for top in tops]
    return _believed(kernel, v, found, height, height - logsumexp(np.stack(parts_of), axis=0))


def _climb(
    evidence: Evidence, kernel: int, v: Array, found: Likelihood, height: float, steps: int, order: NDArray[np.intp]
) -> Top | None:
    """Uphill by Fisher scoring; None where the start cannot be factored."""
    if found.factor is None:
        return None
    precision = np.eye(len(v))
    for step in range(steps + 1):
        slope, information = evidence.slope_and_information(kernel, v, found)
        if not (np.isfinite(slope).all() and np.isfinite(information).all()):
            return None
        precision = information + np.eye(len(v))
        move = np.linalg.solve(precision, slope - v)
        if step == steps or 0.5 * float((slope - v) @ move) < ENOUGH:
            break
        share = min(1.0, 3.0 / max(float(np.abs(move).max()), 1e-300))
        for _ in range(HALVINGS):
            there = v + share * move
            new = evidence.at(kernel, there)
            new_height = new.value + float(evidence.believed.log_density(np.array(kernel), there))
            if new_height > height:
                break
            share *= 0.3
        else:
            break
        v, found, height = there, new, new_height
    try:
        root = np.linalg.cholesky(WIDER * np.linalg.inv(precision)[np.ix_(order, order)])
    except np.linalg.LinAlgError:
        return None
    return Top(kernel, v, root, order)


def _believed(
    kernel: NDArray[np.intp], v: Array, found: list[Likelihood], height: Array, log_weight: Array
) -> Believed:
    """Weights cut and normalised."""
    log_weight = np.where(np.isfinite(height), log_weight, -np.inf)
    if not np.isfinite(log_weight).any():
        raise FloatingPointError("no hyperparameters were found under which the told values are possible")
    total = float(logsumexp(log_weight))
    cut = np.minimum(log_weight, total - 0.5 * math.log(len(log_weight)))
    cut = cut - logsumexp(cut)
    ess = float(np.exp(-logsumexp(2.0 * (log_weight - total))))
    best = int(np.where(np.isfinite(height), height, -np.inf).argmax())
    return Believed(kernel, v, cut, tuple(found), ess, total - math.log(len(log_weight)), best)


@lru_cache(maxsize=256)
def _base(count: int, columns: int) -> Array:
    """(count, columns) quasi-random numbers in (0, 1), always the same; more columns than Sobol's sequence has are random."""
    rng = np.random.default_rng(0)
    if columns > qmc.Sobol.MAXDIM or count == 0:
        return rng.random((count, columns))
    drawn = qmc.Sobol(columns, scramble=True, rng=rng).random(1 << (count - 1).bit_length())[:count]
    return np.asarray(np.clip(drawn, 1e-6, 1.0 - 1e-6))
