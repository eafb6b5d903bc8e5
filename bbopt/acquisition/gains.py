"""What a point is worth by the mean and the standard deviation of the objective there: the gains of `constrained`.

Each takes (q, S) means, standard deviations (q, 1) and the incumbents (S,) of S models, and gives the logarithm of the gain and its
derivatives in the mean and in the standard deviation. For minimisation, with z = (best - mean) / sd:

    EI    sd (phi(z) + z Phi(z))       `surrogates.improvement.log_expected_improvement`; Mockus 1978, Jones et al. 1998
    PI    Phi(z)                       `surrogates.improvement.log_probability_below`; Kushner 1964
    UCB   best - (mean - sqrt(beta) sd)   Srinivas et al. 2010, arXiv 0912.3995; made positive by a softplus, which
                                          leaves its order alone and lets it be multiplied by probabilities
    MES   mean_k [ g_k phi(g_k) / (2 Phi(g_k)) - log Phi(g_k) ],  g_k = (mean - m_k) / sd
                                       Wang and Jegelka 2017 (arXiv 1703.01968), equation 6, over sampled minima m_k
    GIBBON  -1/2 mean_k log(1 - rho^2 r_k (g_k + r_k)),  r_k = phi(g_k) / Phi(g_k),  rho^2 = sd^2 / (sd^2 + noise)
                                       Moss, Leslie, Gonzalez, Rayson 2021 (arXiv 2102.03324), equation 8 for one point
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from surrogates.improvement import LOG_ROOT_2PI

Array = NDArray[np.float64]
SMALLEST = 1e-300


class Gain(Protocol):
    """See above."""

    def __call__(self, mean: Array, sd: Array, best: Array, /) -> tuple[Array, Array, Array]: ...


@dataclass(frozen=True)
class LowerBound:
    """The confidence bound: sqrt(beta) standard deviations of optimism.

    >>> value, by_mean, by_sd = LowerBound(4.0)(np.array([[0.0]]), np.array([[1.0]]), np.array([1.0]))
    >>> value.round(4), by_mean.round(4), by_sd.round(4)
    (array([[1.1147]]), array([[-0.3125]]), array([[0.6249]]))
    """

    beta: float = 4.0

    def __call__(self, mean: Array, sd: Array, best: Array) -> tuple[Array, Array, Array]:
        root = float(np.sqrt(self.beta))
        gain = best - mean + root * sd
        plus = np.logaddexp(0.0, gain)
        rate = np.exp(-np.logaddexp(0.0, -gain)) / np.maximum(plus, SMALLEST)
        far = gain < -30.0  # softplus is exp there, and its logarithm the gain itself
        rate = np.where(far, 1.0, rate)
        return np.where(far, gain, np.log(np.maximum(plus, SMALLEST))), -rate, root * rate


@dataclass(frozen=True)
class Confident:
    """Another gain with `share` of the standard deviation: where a point is to be as good as its mean says.

    >>> from surrogates.improvement import log_expected_improvement
    >>> value, _, by_sd = Confident(log_expected_improvement, 0.5)(np.array([[0.0]]), np.array([[1.0]]), np.array([0.0]))
    >>> value.round(4), by_sd.round(4)
    (array([[-1.6121]]), array([[1.]]))
    """

    gain: Gain
    share: float

    def __call__(self, mean: Array, sd: Array, best: Array) -> tuple[Array, Array, Array]:
        value, by_mean, by_sd = self.gain(mean, self.share * sd, best)
        return value, by_mean, self.share * by_sd


@dataclass(frozen=True)
class MaxValueEntropy:
    """What a value tells of the minimum. minima: (k,) sampled; noise: variance of the value's noise; bound: GIBBON's form,
    which knows of noise, in place of the exact one of a noise-free value.

    >>> MaxValueEntropy(np.array([-2.0]))(np.zeros((1, 1)), np.ones((1, 1)), np.zeros(1))[0].round(4)
    array([[-2.5477]])
    """

    minima: Array
    noise: float = 0.0
    bound: bool = False

    def __call__(self, mean: Array, sd: Array, best: Array) -> tuple[Array, Array, Array]:
        mean, sd = np.broadcast_arrays(mean, sd)
        g = (mean[..., None] - self.minima) / sd[..., None]
        log_share = log_ndtr(g)
        r = np.exp(np.minimum(-0.5 * g * g - LOG_ROOT_2PI - log_share, 700.0))
        if self.bound:
            rho = sd**2 / (sd**2 + self.noise)
            known = np.minimum(
                rho[..., None] * r * (g + r), 1.0 - 1e-12
            )  # share of the variance that the minimum explains
            value = -0.5 * np.log1p(-known)
            by_left = -0.5 / (1.0 - known)
            by_g = by_left * -rho[..., None] * _slope(g, r)
            by_rho = (by_left * -r * (g + r)).mean(axis=-1)
        else:
            value = 0.5 * g * r - log_share
            by_g = 0.5 * r + 0.5 * g * -r * (g + r) - r
            by_rho = np.zeros_like(sd)
        gain = value.mean(axis=-1)
        total, none = np.maximum(gain, SMALLEST), gain <= SMALLEST  # nothing is to be learnt here: no slope either
        by_mean = (by_g / sd[..., None]).mean(axis=-1) / total
        by_sd = (-by_g * g / sd[..., None]).mean(axis=-1) / total
        by_sd = by_sd + by_rho / total * 2.0 * sd * self.noise / (sd**2 + self.noise) ** 2
        return np.log(total), np.where(none, 0.0, by_mean), np.where(none, 0.0, by_sd)


def _slope(g: Array, r: Array) -> Array:
    """The derivative of r (g + r) in g, where dr/dg = -r (g + r)."""
    fall = -r * (g + r)
    return np.asarray(fall * (g + r) + r * (1.0 + fall))
