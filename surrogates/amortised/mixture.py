"""Mixtures of K Gaussians at q points in NumPy: moments, tails in logarithms, expected improvement and quantiles.

Everywhere log_weight is (K,), the same at all points, and mean and sd are (K, q). The formulas are those of a Gaussian per
component (`surrogates.improvement`), joined by log-sum-exp, so that no tail becomes 0 before its logarithm is taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp, ndtri, ndtri_exp

from bbopt.errors import UsageError
from surrogates.improvement import log_h

Array = NDArray[np.float64]
EPSILON = float(np.finfo(float).eps)
ROUNDS = 200  # at most, of the search for a quantile
PATIENCE = 6  # rounds after which every third halves the interval, whatever Newton says
NEAR = 1e-13  # error of a quantile's normal score at which it is found


def moments(log_weight: Array, mean: Array, variance: Array) -> tuple[Array, Array]:
    """(q,) means and variances, by the law of total variance; variance: (K, q).

    >>> centre, total = moments(np.log([0.5, 0.5]), np.array([[-1.0], [1.0]]), np.array([[1.0], [1.0]]))
    >>> centre.round(12), total.round(12)
    (array([0.]), array([2.]))
    """
    weight = np.exp(log_weight)
    centre = weight @ mean
    return centre, weight @ (variance + (mean - centre) ** 2)


def log_below(log_weight: Array, mean: Array, sd: Array, limit: Array | float) -> Array:
    """(q,) log P(value <= limit).

    >>> log_below(np.zeros(1), np.zeros((1, 1)), np.ones((1, 1)), -10.0).round(4)
    array([-53.2313])
    """
    return np.asarray(logsumexp(log_weight[:, None] + log_ndtr((limit - mean) / sd), axis=0))


def log_improvement(log_weight: Array, mean: Array, sd: Array, best: Array | float) -> Array:
    """(q,) log E max(best - value, 0).

    >>> log_improvement(np.zeros(1), np.zeros((1, 1)), np.ones((1, 1)), 0.0).round(4)
    array([-0.9189])
    """
    return np.asarray(logsumexp(log_weight[:, None] + np.log(sd) + log_h((best - mean) / sd), axis=0))


def quantiles(log_weight: Array, mean: Array, sd: Array, probabilities: Array) -> Array:
    """(q, k) quantiles at (k,) probabilities between 0 and 1, ends excluded; UsageError for others.

    The root of cdf(y) = p lies between the least and the greatest quantile of the components. Within that interval
    Newton's method runs on the normal score of the nearer tail's probability, which is close to linear in y; halvings keep
    it from circling. The result is right to a relative error of about 1e-12 in y - mean.

    >>> quantiles(np.log([0.5, 0.5]), np.array([[-1.0], [1.0]]), np.full((2, 1), 0.1), np.array([0.25, 0.5])).round(6)
    array([[-1.,  0.]])
    """
    p = np.asarray(probabilities, dtype=float)
    if p.ndim != 1 or not np.all((p > 0.0) & (p < 1.0)):
        raise UsageError(f"expected (k,) probabilities between 0 and 1, ends excluded; got {probabilities}")
    side = np.tile(np.where(p > 0.5, -1.0, 1.0), mean.shape[1])  # an upper tail is the lower one of the mirror image
    target = side * np.tile(ndtri(p), mean.shape[1])  # (q k,) normal scores, at most 0
    mu, spread = side * np.repeat(mean, len(p), axis=1), np.repeat(sd, len(p), axis=1)  # (K, q k)
    ends = mu + spread * target
    low, high = ends.min(axis=0), ends.max(axis=0)
    centre, total = moments(log_weight, mu, spread**2)
    y = np.clip(centre + np.sqrt(total) * target, low, high)
    left = np.arange(len(y))  # those not found yet
    for turn in range(ROUNDS):
        y[left], low[left], high[left], found = _closer(
            log_weight, mu[:, left], spread[:, left], target[left], y[left], low[left], high[left], turn
        )
        left = left[~found]
        if not len(left):
            break
    return np.asarray((side * y).reshape(-1, len(p)))


def _closer(
    log_weight: Array, mean: Array, sd: Array, target: Array, y: Array, low: Array, high: Array, turn: int
) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    """One step of the search for y with normal score `target`, all (N,): y, low, high and which were found before it."""
    u = (y - mean) / sd
    score = ndtri_exp(logsumexp(log_weight[:, None] + log_ndtr(u), axis=0))
    error = score - target
    low, high = np.where(error < 0.0, y, low), np.where(error < 0.0, high, y)
    narrow = high - low <= 4.0 * EPSILON * np.maximum(np.abs(low), np.abs(high))
    found = (np.abs(error) <= NEAR * np.maximum(1.0, np.abs(target))) | narrow
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        slope = np.exp(logsumexp(log_weight[:, None] - 0.5 * u * u - np.log(sd), axis=0) + 0.5 * score * score)
        step = y - error / slope
    halve = ~((step > low) & (step < high)) | (turn >= PATIENCE and turn % 3 == 0)
    return np.where(found, y, np.where(halve, 0.5 * (low + high), step)), low, high, found
