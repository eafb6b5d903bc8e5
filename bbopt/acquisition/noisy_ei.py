"""Frazier's expected improvement under noise: the gain in the best posterior mean over the points evaluated.

    value(x) = E[ min_i mu_n(x_i) - min_i mu_{n+1}(x_i) | next point x ],   i over the told, the pending and the new point

(Frazier 2018, arXiv 1807.02811, section 5, and Scott, Frazier, Powell 2011, "The correlated knowledge gradient"). The
new means are a_i + b_i Z with Z standard normal, so the value is an expected maximum of lines, exact in O(n log n).
Without noise it is expected improvement. Under constraints it is multiplied by the probability of feasibility, and the
old minimum runs over points that are believed feasible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bbopt.acquisition.constrained import SMALLEST_SD, Chance
from surrogates.gp import GaussianProcess
from surrogates.improvement import LOG_ROOT_2PI, log_h, log_probability_below

Array = NDArray[np.float64]
SMALLEST = 1e-300


def expected_maximum(a: Array, b: Array) -> float:
    """E max_i (a_i + b_i Z) - max_i a_i for standard normal Z, never negative; a and b have shape (n,).

    >>> round(expected_maximum(np.array([0.0, 0.0]), np.array([0.0, 1.0])), 6)
    0.398942
    """
    return float(np.exp(_log_gain(*_hull(a, b)))) if len(a) > 1 else 0.0


def _hull(a: Array, b: Array) -> tuple[Array, Array, NDArray[np.intp]]:
    """Lines of the upper envelope in order of slope: crossings (k - 1,), slope steps (k - 1,), and their indices (k,)."""
    order = np.lexsort((a, b))
    last = np.append(np.diff(b[order]) > 0.0, True)  # of equal slopes, the highest line
    order = order[last]
    kept: list[int] = []
    crossings: list[float] = []
    for i in order:
        while kept:
            j = kept[-1]
            z = (a[j] - a[i]) / (b[i] - b[j])
            if crossings and z <= crossings[-1]:
                kept.pop()
                crossings.pop()
                continue
            crossings.append(float(z))
            break
        kept.append(int(i))
    index = np.array(kept)
    return np.array(crossings), np.diff(b[index]), index


def _log_gain(crossings: Array, steps: Array, index: NDArray[np.intp]) -> float:
    """log of sum_i (b_{i+1} - b_i) h(-|c_i|): equation 14 of Scott, Frazier, Powell."""
    if not len(crossings):
        return -np.inf
    terms = np.log(steps) + log_h(-np.abs(crossings))
    top = float(terms.max())
    return top + float(np.log(np.exp(terms - top).sum())) if np.isfinite(top) else -np.inf


@dataclass(frozen=True)
class NoisyEI:
    """The logarithm of the value above, as a function of points, for `bbopt.acquisition.search`.

    model: output 0 is minimised, the rest are constraints with `limits`; points: (k, d) told and pending points;
    believed: (k,) which of them the model believes feasible; evaluable: see ConstrainedLogEI.
    """

    model: GaussianProcess
    points: Array
    believed: NDArray[np.bool_]
    limits: Array
    evaluable: Chance | None = None

    @classmethod
    def of(cls, model: GaussianProcess, points: Array, limits: Array, evaluable: Chance | None = None) -> Self:
        """With beliefs taken from the model's means."""
        mean, _ = model.mean_variance(points)
        believed = np.asarray((mean[:, 1:] <= limits).all(axis=1))
        return cls(model, points, believed, limits, evaluable)

    def value(self, X: Array) -> Array:
        """(q,) log values of (q, d) points."""
        return self._evaluate(X, False)[0]

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        """(q,) log values and (q, d) gradients."""
        return self._evaluate(X, True)

    def _evaluate(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        predictor = self.model.predictor
        moments = predictor.forward(X)
        sd = np.sqrt(np.maximum(moments.variance, SMALLEST_SD**2))
        value, gradient = np.zeros(len(X)), np.zeros_like(X)
        by_mean, by_sd = np.zeros_like(sd), np.zeros_like(sd)
        if len(self.limits):
            chances, by_mean[1:], by_sd[1:] = log_probability_below(
                moments.mean[1:, :, 0], sd[1:], self.limits[:, None]
            )
            value += chances.sum(axis=0)
        if self.believed.any():
            gain, slope = self._gain(X, moments.mean[0, :, 0], moments.variance[0], with_gradient)
            value, gradient = value + gain, gradient + slope
        if with_gradient:
            gradient = gradient + predictor.backward(moments, by_mean[:, :, None], by_sd / (2.0 * sd))
        if self.evaluable is not None:
            chance, slope = self.evaluable.log_chance(X, with_gradient)
            value, gradient = value + chance, gradient + slope
        return value, gradient

    def _gain(self, X: Array, mean: Array, variance: Array, with_gradient: bool) -> tuple[Array, Array]:
        one = self.model.output(0)
        fitted = one.fitted[0]
        known = self.points[self.believed]
        noise = fitted.noise + fitted.nugget * fitted.scale
        if one.variances is not None:
            noise += float(np.median(one.variances))
        old = one.mean_variance(known)[0][:, 0]
        cross = one.predictor.covariance(X, known)[0]  # (q, k)
        total = variance + noise
        root = np.sqrt(total)
        values, gradient = np.empty(len(X)), np.zeros_like(X)
        by_cross, by_mean, by_total = np.zeros_like(cross), np.zeros(len(X)), np.zeros(len(X))
        by_own = np.zeros(len(X))
        for q in range(len(X)):
            a = -np.append(old, mean[q])
            b = -np.append(cross[q], variance[q]) / root[q]
            crossings, steps, index = _hull(a, b)
            sure = max(
                a[-1] - a[:-1].max(), 0.0
            )  # where the new point's mean is the best already, that gain is certain
            log_gain = np.logaddexp(_log_gain(crossings, steps, index), np.log(sure) if sure > 0.0 else -np.inf)
            values[q] = max(log_gain, np.log(SMALLEST))
            if not with_gradient or not np.isfinite(log_gain):
                continue
            gain = np.exp(values[q])
            edges = np.concatenate([[-np.inf], crossings, [np.inf]])
            share = np.diff(ndtr(edges))  # P(line is the highest)
            density = -np.diff(np.exp(-0.5 * edges**2 - LOG_ROOT_2PI))  # E[Z; line is the highest]
            by_a, by_b = np.zeros(len(a)), np.zeros(len(a))
            by_a[index], by_b[index] = share / gain, density / gain
            by_mean[q] = -by_a[-1]
            by_cross[q] = -by_b[:-1] / root[q]
            by_own[q] = -by_b[-1] / root[q]
            by_total[q] = -0.5 * (by_b @ b) / total[q]
        if with_gradient:
            predictor = one.predictor
            moments = predictor.forward(X)
            gradient = predictor.backward(moments, by_mean[None, :, None], (by_own + by_total)[None])
            gradient = gradient + predictor.pull_covariance(moments, known, by_cross)
        return values, gradient
