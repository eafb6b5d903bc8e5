"""Logarithms of expected improvement and of the probability of feasibility, accurate far into their tails.

Minimisation. With z = (best - mean) / sd, expected improvement is sd h(z), h(z) = phi(z) + z Phi(z).
Ament, Daulton, Eriksson, Balandat, Bakshy 2023, "Unexpected Improvements to Expected Improvement for Bayesian
Optimization" (arXiv 2310.20708), equation 9, for log h; here the lower branch is written with the scaled Mills ratio.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, log_ndtr

Array = NDArray[np.float64]
LOG_ROOT_2PI = float(0.5 * np.log(2.0 * np.pi))
ROOT_HALF_PI = float(np.sqrt(0.5 * np.pi))
FAR = 300.0  # beyond this x, 1 - x mills(x) loses its digits to rounding, and its series in 1/x^2 is exact


def log_h(z: Array) -> Array:
    """log(phi(z) + z Phi(z)) for any real z: relative error below 1e-8 in h, no overflow, no minus infinity.

    >>> log_h(np.array([0.0, -30.0, -1e6])).round(6).tolist()
    [-0.918939, -457.724654, -500000000028.55]
    """
    z = np.asarray(z, dtype=float)
    out = np.empty_like(z)
    high = z > -1.0
    up = z[high]
    out[high] = np.log(np.exp(-0.5 * up * up - LOG_ROOT_2PI) + up * np.exp(log_ndtr(up)))
    x = -z[~high]
    square = x * x
    with np.errstate(over="ignore"):
        near = 1.0 - x * ROOT_HALF_PI * erfcx(x / np.sqrt(2.0))  # h / phi, by the scaled Mills ratio
    series = (1.0 - 3.0 / square + 15.0 / square**2 - 105.0 / square**3) / square
    out[~high] = -0.5 * square - LOG_ROOT_2PI + np.log(np.where(x > FAR, series, np.maximum(near, 1e-300)))
    return out


def log_expected_improvement(mean: Array, sd: Array, best: Array | float) -> tuple[Array, Array, Array]:
    """log EI below `best`, and its derivatives in the mean and in the standard deviation; all broadcast.

    >>> value, by_mean, by_sd = log_expected_improvement(np.array([0.0]), np.array([1.0]), 0.0)
    >>> value.round(4), by_mean.round(4), by_sd.round(4)
    (array([-0.9189]), array([-1.2533]), array([1.]))
    """
    z = np.asarray((best - mean) / sd)
    log_improvement = log_h(z)
    rate = np.exp(log_ndtr(z) - log_improvement)  # Phi / h
    by_sd = np.exp(-0.5 * z * z - LOG_ROOT_2PI - log_improvement) / sd  # phi / (sd h)
    return log_improvement + np.log(sd), -rate / sd, by_sd


def log_probability_below(mean: Array, sd: Array, limit: Array | float) -> tuple[Array, Array, Array]:
    """log P(value <= limit), and its derivatives in the mean and in the standard deviation; all broadcast.

    >>> value, by_mean, by_sd = log_probability_below(np.array([0.0]), np.array([1.0]), 0.0)
    >>> value.round(4), by_mean.round(4), by_sd.round(4)
    (array([-0.6931]), array([-0.7979]), array([-0.]))
    """
    z = np.asarray((limit - mean) / sd)
    value = log_ndtr(z)
    ratio = np.exp(np.minimum(-0.5 * z * z - LOG_ROOT_2PI - value, 700.0))  # phi / Phi
    return value, -ratio / sd, -ratio * z / sd
