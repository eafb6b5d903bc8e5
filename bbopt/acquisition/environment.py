"""Which design to try in which environment: the value of one more evaluation for the design of least risk.

    value(x, w) = E[ min_i rho_n(x_i) - min_i rho_{n+1}(x_i) | next evaluation at (x, w) ],    i over a set of designs

where rho is the posterior mean of the risk (`bbopt.risk`) of a design. For the expectation, rho_{n+1} = rho_n + b_i Z with
b_i = cov(F_i, f(x, w)) / sd of the next value, and F the integrated process: the value is exact (Toscano-Palmerin, Frazier
2018, arXiv 1803.08661, section 4, with a set of designs in place of all of them). For VaR, CVaR and the worst case it is
so to first order in what the next value moves: the derivative of the posterior mean of a risk in the means of a Gaussian f
is the posterior mean of the risk's weights (differentiation under the integral), so that F is the mean of f over the
environments by which each design's risk is made, and the weights are averaged over draws. (Cakmak et al. 2020, arXiv
2007.05554, compute this value, their rho-KG, by nested fantasies.) At level 0, CVaR is the expectation in both ways.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bbopt.acquisition.constrained import SMALLEST_SD, Chance
from bbopt.acquisition.noisy_ei import SMALLEST, _hull, _log_gain
from surrogates.improvement import LOG_ROOT_2PI
from surrogates.integrated import Functionals

Array = NDArray[np.float64]
GRID = np.linspace(-5.0, 5.0, 41)  # values of Z at which envelopes of lines are compared


@dataclass(frozen=True, eq=False)
class RiskGain:
    """The logarithm of the value above, as a function of points (x, w), for `bbopt.acquisition.search`.

    functionals: F of the set of designs; risks: (a,) their present risks; noise: variance of the next value around f;
    evaluable: see ConstrainedLogEI.
    """

    functionals: Functionals
    risks: Array
    noise: float
    evaluable: Chance | None = None

    def value(self, X: Array) -> Array:
        """(q,) log values of (q, d) points."""
        return self._evaluate(X, False)[0]

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        """(q,) log values and (q, d) gradients."""
        return self._evaluate(X, True)

    @property
    def screen(self) -> RoughGain:
        """A cheaper score that puts points in much the same order."""
        return RoughGain(self)

    def _slopes(self, X: Array, variance: Array) -> tuple[Array, Array]:
        """(q, a) changes of minus the risks per standard deviation of the next value, and (q,) the variance of that value."""
        total = np.maximum(variance, SMALLEST_SD**2) + self.noise
        return -self.functionals.with_values(X) / np.sqrt(total)[:, None], total

    def _evaluate(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        predictor = self.functionals.gp.predictor
        moments = predictor.forward(X)
        b, total = self._slopes(X, moments.variance[0])
        values, gradient = np.empty(len(X)), np.zeros_like(X)
        by_b = np.zeros_like(b)
        for q in range(len(X)):
            crossings, steps, index = _hull(-self.risks, b[q])
            gain = _log_gain(crossings, steps, index)
            values[q] = max(gain, np.log(SMALLEST))
            if with_gradient and values[q] == gain:
                edges = np.concatenate([[-np.inf], crossings, [np.inf]])
                density = np.exp(-0.5 * edges**2 - LOG_ROOT_2PI)
                by_b[q, index] = -np.diff(density) / np.exp(gain)  # E[Z; line is the highest]
        if with_gradient:
            by_total = -0.5 * (by_b * b).sum(axis=1) / total
            gradient = predictor.backward(moments, np.zeros_like(moments.mean), by_total[None])
            gradient = gradient + self.functionals.pull(X, -by_b / np.sqrt(total)[:, None])
        if self.evaluable is not None:
            chance, slope = self.evaluable.log_chance(X, with_gradient)
            values, gradient = values + chance, gradient + slope
        return values, gradient


@dataclass(frozen=True, eq=False)
class RoughGain:
    """The same value by the trapezoidal rule over Z, for many points at once; it serves to choose among raw candidates."""

    exact: RiskGain

    def value(self, X: Array) -> Array:
        """(q,) log values of (q, d) points."""
        moments = self.exact.functionals.gp.predictor.forward(X)
        b, _ = self.exact._slopes(X, moments.variance[0])
        lines = -self.exact.risks
        weights = np.exp(-0.5 * GRID**2) / np.exp(-0.5 * GRID**2).sum()
        mean = sum(w * (lines + z * b).max(axis=1) for z, w in zip(GRID.tolist(), weights.tolist(), strict=True))
        values = np.log(np.maximum(np.asarray(mean) - lines.max(), SMALLEST))
        if self.exact.evaluable is not None:
            values = values + self.exact.evaluable.log_chance(X, False)[0]
        return np.asarray(values)

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        """The exact value and gradient: nothing climbs on this one."""
        return self.exact.value_and_gradient(X)
