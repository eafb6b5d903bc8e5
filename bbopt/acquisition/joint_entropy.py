"""Joint entropy search: how much a value tells of the place and the value of the minimum together.

    score(x) = 1/2 log(v(x) + s^2) - mean_k 1/2 log(w_k(x) + s^2)

v is the posterior variance at x, s^2 the noise, and w_k the variance once the pair (x_k, m_k) of draw k is known: the model
is conditioned on f(x_k) = m_k, and f(x) >= m_k cuts off the rest of the normal, whose variance is then
    w = u (1 - r (g + r)),   g = (mean - m_k) / sqrt(u),   r = phi(g) / Phi(g).
Hvarfner, Hutter, Nardi 2022, "Joint Entropy Search for Maximally-Informed Bayesian Optimization" (arXiv 2206.04771),
equations 10 to 12, with the truncated normal by moment matching (Tu, Gandy, Kantas, Shafei 2022, arXiv 2210.02905, the lower
bound that BoTorch calls "LB"). Constraints multiply it by their probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from bbopt.acquisition.constrained import SMALLEST_SD, Chance
from surrogates.improvement import LOG_ROOT_2PI, log_probability_below
from surrogates.predictor import Predictor

Array = NDArray[np.float64]
SMALLEST = 1e-300
LEAST_NOISE = (
    1e-6  # of a value, in units of the objective's scale: paths miss what they must go through by about its root
)


@dataclass(frozen=True)
class JointEntropy:
    """The logarithm of the score, as a function of points.

    predictor: output 0 is the objective, the rest are constraints with `limits`; rows, minima: (k, D) and (k,) sampled pairs
    (`bbopt.acquisition.minima`); noise: variance of the value to be told, at least LEAST_NOISE; evaluable: see ConstrainedLogEI.
    """

    predictor: Predictor
    rows: Array
    minima: Array
    limits: Array
    noise: float = 0.0
    evaluable: Chance | None = None

    def value(self, X: Array) -> Array:
        """(q,) log scores of (q, d) points."""
        return self._evaluate(X, False)[0]

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        """(q,) log scores and (q, d) gradients; zero for category columns."""
        return self._evaluate(X, True)

    def _evaluate(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        predictor, smallest = self.predictor, SMALLEST_SD**2
        moments, there = predictor.forward(X), predictor.forward(self.rows)
        least = LEAST_NOISE * float(predictor.scale[0])
        mean, v = moments.mean[0].mean(axis=1), np.maximum(moments.variance[0], smallest)
        cross = predictor.covariance(X, self.rows)[0]  # (q, k)
        at = there.variance[0] + least
        lift = (self.minima - there.mean[0].mean(axis=1)) / at
        mu = mean[:, None] + cross * lift
        u = np.maximum(v[:, None] - cross**2 / at, smallest)
        floored = u <= smallest
        sd = np.sqrt(u)
        g = (mu - self.minima) / sd
        r = np.exp(np.minimum(-0.5 * g * g - LOG_ROOT_2PI - log_ndtr(g), 700.0))
        cut = np.minimum(r * (g + r), 1.0 - 1e-9)
        w = u * (1.0 - cut)
        noise = max(self.noise, least)
        gain = 0.5 * np.log(v + noise) - 0.5 * np.log(w + noise).mean(axis=1)
        total, none = np.maximum(gain, SMALLEST), gain <= SMALLEST
        value, gradient = np.log(total), np.zeros_like(X)
        sds = np.sqrt(np.maximum(moments.variance, smallest))
        by_mean, by_variance = np.zeros((*sds.shape, 1)), np.zeros_like(sds)
        if len(self.limits):
            chances, d_mean, d_sd = log_probability_below(
                moments.mean[1:, :, :].mean(axis=2), sds[1:], self.limits[:, None]
            )
            value = value + chances.sum(axis=0)
            by_mean[1:, :, 0], by_variance[1:] = d_mean, d_sd / (2.0 * sds[1:])
        if with_gradient:
            scale = np.where(none, 0.0, 1.0 / total)[:, None] / len(self.minima)
            by_w = -0.5 / (w + noise) * scale
            fall = -r * (g + r)
            by_g = by_w * -u * (fall * (g + r) + r * (1.0 + fall))
            by_u = np.where(floored, 0.0, by_w * (1.0 - cut) - by_g * g / (2.0 * u))
            by_mu = by_g / sd
            by_mean[0, :, 0] = by_mu.sum(axis=1)
            by_variance[0] = by_u.sum(axis=1) + np.where(none, 0.0, 0.5 / (v + noise) / total)
            spread = np.broadcast_to(by_mean, moments.mean.shape) / moments.mean.shape[2]
            gradient = predictor.backward(moments, spread, by_variance)
            gradient = gradient + predictor.pull_covariance(moments, self.rows, by_mu * lift - 2.0 * by_u * cross / at)
        if self.evaluable is not None:
            chance, slope = self.evaluable.log_chance(X, with_gradient)
            value, gradient = value + chance, gradient + slope
        return value, gradient
