"""Weighted hyperparameters of one output: drawn where a network and the curvature say, weighed by the exact posterior.

The first draws come from the network's density q. Where their weights are even, so do all others: that is so for few rows.
Where they are not, the posterior is sharper than a network can say; but then it is nearly Gaussian. From the best draw of
each kernel, Newton's method goes uphill on the exact log posterior, and Gaussians with the inverse curvature as covariance
around the tops give the rest. All draws are weighed as if each had come from the whole mixture (Veach and Guibas 1995;
Cornuet et al. 2012, "adaptive multiple importance sampling"), a the network's share:

    w = p(z | k, v) p(k, v) / [ a q(k, v) + (1 - a) sum_t c_t N_t(v) 1(k = k_t) ]

with the largest weights cut at the mean times the root of their number (Ionides 2008). Draws are quasi-random and the same
every time: what is believed is a function of the data alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import logsumexp, ndtri
from scipy.stats import qmc

from surrogates.amortised.evidence import LEAST_CURVATURE, Evidence, Likelihood

__all__ = ["Believed", "Parts", "tempered", "weigh", "widened"]

Array = NDArray[np.float64]
LOG_2PI = math.log(2.0 * math.pi)
FIRST = 0.375  # share of the draws that the network makes in any case
GOOD = 0.35  # effective share of those from which on it makes all
WORTH = 0.03  # share of the weight, or of the mass around the highest top, that a kernel needs for a top of its own
SURE = 4.0  # effective first draws below which they do not say which kernels matter
STEPS = 12  # of Newton's method, unless the next, which is taken still, gains less than ENOUGH nats
ENOUGH = 0.1
HALVED = 40
SLACK, PROMISED = 3.5, 1.5  # nats that a kernel may be behind, after so many times what a step promises
LONGEST = 2.5  # step, in any coordinate
HALVINGS = 5
WIDER = 1.25  # variances of the Gaussians, in units of the inverse curvature


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
    """S weighted draws of one output: kernels (S,), coordinates (S, size), log weights (S,) of weights that add up to 1.

    likelihoods: of every draw. ess: effective number of draws. log_evidence: estimate of the log density of all values.
    best: the draw of highest posterior density, by number. tops: Gaussians that some came from, and by_network: how many
    came from the network's density.
    """

    kernel: NDArray[np.intp]
    v: Array
    log_weight: Array
    likelihoods: tuple[Likelihood, ...]
    ess: float
    log_evidence: float
    best: int
    tops: tuple[Top, ...] = ()
    by_network: int = 0


def weigh(evidence: Evidence, parts: Parts, draws: int) -> Believed:
    """`draws` weighted draws for one output."""
    first = max(4, round(FIRST * draws))
    base = _base(draws, 2 + parts.size + parts.loading.shape[-1])
    kernel, v = parts.draw(base[:first])
    found = evidence.at(kernel, v)
    height = evidence.height(found, kernel, v)
    log_q = parts.log_density(kernel, v)
    tops: list[Top] = []
    if _effective(height - log_q) < GOOD * first:
        tops = _tops(evidence, parts, kernel, v, found, height, height - log_q)
    if tops:
        more_kernel, more_v = _around(tops, _base(draws - first, 1 + parts.size))
    else:
        more_kernel, more_v = parts.draw(base[first:])
    found += evidence.at(more_kernel, more_v)
    kernel, v = np.concatenate([kernel, more_kernel]), np.concatenate([v, more_v])
    log_q = _mixed(parts, kernel, v, first if tops else draws, [(tops, draws - first)] if tops else [])
    height = evidence.height(found, kernel, v)
    return _believed(kernel, v, found, height, height - log_q, tuple(tops), first if tops else draws)


def widened(evidence: Evidence, parts: Parts, belief: Believed, tail: float) -> Believed:
    """More draws, as many as are there, from the Gaussians around the tops with `tail` times the variances; all weighed anew.

    What the network alone has drawn stays as it is.
    """
    if not belief.tops:
        return belief
    wide = [replace(top, root=math.sqrt(tail) * top.root) for top in belief.tops]
    count = len(belief.kernel)
    more_kernel, more_v = _around(wide, _base(count, 1 + parts.size))
    found = [*belief.likelihoods, *evidence.at(more_kernel, more_v)]
    kernel, v = np.concatenate([belief.kernel, more_kernel]), np.concatenate([belief.v, more_v])
    groups = [(list(belief.tops), count - belief.by_network), (wide, count)]
    height = evidence.height(found, kernel, v)
    log_q = _mixed(parts, kernel, v, belief.by_network, groups)
    return _believed(kernel, v, found, height, height - log_q, belief.tops, belief.by_network)


def _around(tops: list[Top], base: Array) -> tuple[NDArray[np.intp], Array]:
    """(S,) kernels and (S, size) coordinates around the tops, at uniform numbers base (S, 1 + size)."""
    chosen = np.minimum((base[:, 0] * len(tops)).astype(int), len(tops) - 1)
    normal = ndtri(base[:, 1:])
    v = np.empty_like(normal)
    for t, top in enumerate(tops):
        v[chosen == t] = top.draw(normal[chosen == t])
    return np.array([top.kernel for top in tops])[chosen], v


def _mixed(
    parts: Parts, kernel: NDArray[np.intp], v: Array, by_network: int, groups: list[tuple[list[Top], int]]
) -> Array:
    """(S,) log densities of the mixture that all draws came from: so many of the network, so many of each group of tops."""
    total = by_network + sum(count for _, count in groups)
    each = [parts.log_density(kernel, v) + math.log(by_network / total)]
    for tops, count in groups:
        each += [top.log_density(kernel, v) + math.log(count / total / len(tops)) for top in tops]
    return np.asarray(logsumexp(np.stack(each), axis=0))


def tempered(belief: Believed, least: float) -> Believed:
    """The same draws with weights to the power below 1 at which `least` of them count.

    Where a few draws carry everything, that may be luck as much as knowledge: more uncertain is safer than any one of them.
    """
    usable = np.isfinite(belief.log_weight)
    low, high = 0.0, 1.0
    for _ in range(HALVED):
        power = 0.5 * (low + high)
        if _effective(np.where(usable, power * belief.log_weight, -np.inf)) < least:
            high = power
        else:
            low = power
    log_weight = np.where(usable, low * belief.log_weight, -np.inf)
    return replace(belief, log_weight=log_weight - logsumexp(log_weight))


def _effective(log_weight: Array) -> float:
    """Effective number of draws with such weights."""
    finite = np.where(np.isfinite(log_weight), log_weight, -np.inf)
    total = logsumexp(finite)
    return float(np.exp(2.0 * total - logsumexp(2.0 * finite))) if np.isfinite(total) else 0.0


def _tops(
    evidence: Evidence, parts: Parts, kernel: NDArray[np.intp], v: Array, found: list[Likelihood], height: Array,
    log_weight: Array,
) -> list[Top]:  # fmt: skip
    """Gaussians around the tops of the kernels that matter, from the highest of its draws and of the network's means."""
    usable = np.isfinite(height)
    if not usable.any():
        return []
    share = [
        logsumexp(log_weight[usable & (kernel == k)]) if (usable & (kernel == k)).any() else -np.inf for k in range(3)
    ]
    tops: list[Top] = []
    climbed: list[float] = []
    sure = _effective(log_weight) >= SURE
    for k in np.argsort(share, kind="stable")[::-1]:
        if evidence.believed.kernels[k] == 0.0:
            continue
        if sure and share[k] - logsumexp(share) < math.log(WORTH):
            break
        begin = None
        own = np.flatnonzero(usable & (kernel == k))
        if len(own):
            start = int(own[height[own].argmax()])
            begin = v[start], found[start], float(height[start])
        # kernels differ little in where their tops are
        others = tops[int(np.argmax(climbed))].mean[None] if tops else parts.mean
        which = np.full(len(others), k)
        there = evidence.at(which, others)
        at = evidence.height(there, which, others)
        best = int(np.where(np.isfinite(at), at, -np.inf).argmax())
        if np.isfinite(at[best]) and (begin is None or at[best] > begin[2]):
            begin = others[best], there[best], float(at[best])
        if begin is None:
            continue
        made = _climb(evidence, int(k), *begin, parts.order, max(climbed, default=-np.inf) - SLACK)
        if made is not None:
            tops.append(made[0])
            climbed.append(made[1])
    return [top for top, mass in zip(tops, climbed, strict=True) if mass > max(climbed) + math.log(WORTH)]


@dataclass(frozen=True)
class _Curve:
    """Slope and curvature of the log posterior somewhere, the inverse of the one that leads uphill, half of a log volume."""

    slope: Array
    actual: Array
    inverse: Array
    flatness: float


def _curve(evidence: Evidence, kernel: int, v: Array, found: Likelihood) -> _Curve | None:
    """What the posterior is like at v; None where there is no number."""
    slope, expected, actual = evidence.slope_and_curvature(kernel, v, found)
    if not (np.isfinite(slope).all() and np.isfinite(expected).all() and np.isfinite(actual).all()):
        return None
    bowl = np.linalg.eigvalsh(actual)[0] > 1.001 * LEAST_CURVATURE  # else it is no guide to the top
    inverse = np.asarray(np.linalg.inv(actual if bowl else expected), dtype=float)
    return _Curve(slope, actual, inverse, -0.5 * float(np.linalg.slogdet(actual)[1]))


def _climb(
    evidence: Evidence, kernel: int, v: Array, found: Likelihood, height: float, order: NDArray[np.intp],
    hopeless: float = -math.inf,
) -> tuple[Top, float] | None:  # fmt: skip
    """Uphill by Newton's steps to a top, and the logarithm of the mass around it (Laplace); None where there is no number.

    hopeless: mass, of another top, that this one has to come near to; None too where the gain in sight is not enough.
    """
    which = np.array([kernel])
    curve = _curve(evidence, kernel, v, found)
    fresh = True
    for _ in range(STEPS):
        if curve is None:
            return None
        slope = curve.slope if fresh else evidence.slope(kernel, v, found)
        move = curve.inverse @ slope
        gain = 0.5 * float(slope @ move)
        if not height + curve.flatness + PROMISED * gain >= hopeless:
            return None
        if gain < ENOUGH:
            break
        share = min(1.0, LONGEST / max(float(np.abs(move).max()), 1e-300))
        there, risen = v, 0.0
        for _ in range(HALVINGS):
            there = v + share * move
            new = evidence.at(which, there[None])
            risen = float(evidence.height(new, which, there[None])[0]) - height
            if risen > 0.0:
                v, found, height = there, new[0], height + risen
                break
            share *= 0.3
        if fresh and not risen > 0.0:
            break
        fresh = not (risen > 0.5 * gain and share == 1.0)  # else the curvature may serve once more
        if fresh:
            curve = _curve(evidence, kernel, v, found)
    if not fresh:  # the curvature at the top is what is wanted
        curve = _curve(evidence, kernel, v, found)
    if curve is None:
        return None
    move = curve.inverse @ curve.slope
    if 0.5 * float(curve.slope @ move) < ENOUGH:  # a last step that needs no check
        v = v + move
    covariance = np.linalg.inv(curve.actual)[np.ix_(order, order)]
    root = np.asarray(np.linalg.cholesky(WIDER * 0.5 * (covariance + covariance.T)), dtype=float)
    mass = height + float(np.log(np.diagonal(root)).sum())
    return Top(kernel, v, root, order), mass


def _believed(
    kernel: NDArray[np.intp], v: Array, found: list[Likelihood], height: Array, log_weight: Array,
    tops: tuple[Top, ...], by_network: int,
) -> Believed:  # fmt: skip
    """Weights cut and normalised."""
    log_weight = np.where(np.isfinite(height), log_weight, -np.inf)
    if not np.isfinite(log_weight).any():
        raise FloatingPointError("no hyperparameters were found under which the told values are possible")
    total = float(logsumexp(log_weight))
    cut = np.minimum(log_weight, total - 0.5 * math.log(len(log_weight)))
    cut = cut - logsumexp(cut)
    ess = _effective(log_weight)
    best = int(np.where(np.isfinite(height), height, -np.inf).argmax())
    return Believed(kernel, v, cut, tuple(found), ess, total - math.log(len(log_weight)), best, tops, by_network)


@lru_cache(maxsize=256)
def _base(count: int, columns: int) -> Array:
    """(count, columns) quasi-random numbers in (0, 1), always the same; more columns than Sobol's sequence has are random."""
    rng = np.random.default_rng(0)
    if columns > qmc.Sobol.MAXDIM or count == 0:
        return rng.random((count, columns))
    drawn = qmc.Sobol(columns, scramble=True, rng=rng).random(1 << (count - 1).bit_length())[:count]
    return np.asarray(np.clip(drawn, 1e-6, 1.0 - 1e-6))
