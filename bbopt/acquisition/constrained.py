"""Log expected improvement under constraints, noise and pending points, in one formula.

    score(x) = log mean_s [ EI_s(x) prod_c P_s(g_c(x) <= limit_c) ] + log P(x can be evaluated)

s runs over joint draws of the objective and the constraints at the points whose exact values are not known: noisy
ones and pending ones. Every EI_s is that of the model given draw s, against the best point that is feasible in draw s
(Letham, Karrer, Ottoni, Bakshy 2019, "Constrained Bayesian Optimization with Noisy Experiments", arXiv 1706.07094,
equation 8). With exact values and nothing pending there is one draw, the data, and this is log EI times the
probability of feasibility (Gardner et al., ICML 2014) to the last bit. A draw in which no point is feasible counts
only the probability of feasibility, in units of improvement that any feasible point would bring.

The rule "cei+" of Yu, Picard, Ahmed 2024 (arXiv 2404.04495) has min(1, 2 P_s(g_c(x) <= limit_c)) in place of each
probability: a constraint that holds rather than not is taken to hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bbopt.acquisition.gains import Gain
from surrogates.improvement import log_expected_improvement, log_probability_below
from surrogates.predictor import Beliefs

Array = NDArray[np.float64]
PENALTY = 1e4
EDGE_SD = 1e-3  # blur of the edge of a failing region, in units of the region model's values
SMALLEST_SD = 1e-7  # of any output, in units of its standardised values
Rule = Literal["cei", "cei+"]
LOG_2 = float(np.log(2.0))


class Chance(Protocol):
    """How likely points are to be evaluable at all."""

    def log_chance(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        """(q,) logarithms and their (q, d) gradients (or zeros)."""
        ...


@dataclass(frozen=True)
class ConstrainedLogEI:
    """The score as a function of points.

    predictor: output 0 is the objective (minimised), the rest are constraints; S vectors of base values each.
    best: (S,) lowest objective value among the feasible base points of each draw, NaN where there is none.
    limits: (c,) a constraint holds at or below its limit. reward: log improvement credited where best is NaN.
    rule: "cei", or "cei+" with each probability doubled and at most 1. gain: what a point is worth by the objective there,
    log EI unless said (others in `bbopt.acquisition.gains`).
    evaluable: where points can be evaluated at all, or None if that is everywhere.
    """

    predictor: Beliefs
    best: Array
    limits: Array
    evaluable: Chance | None = None
    reward: float = 0.0
    rule: Rule = "cei"
    gain: Gain = log_expected_improvement

    def value(self, X: Array) -> Array:
        """(q,) scores of (q, d) points."""
        return self._evaluate(X, False)[0]

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        """(q,) scores and (q, d) gradients; zero for category columns."""
        return self._evaluate(X, True)

    def _evaluate(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        moments = self.predictor.forward(X)
        mean = moments.mean
        sd = np.sqrt(np.maximum(moments.variance, SMALLEST_SD**2))[:, :, None]
        draws = len(self.best)
        seen = ~np.isnan(self.best)
        by_mean, by_sd = np.zeros((*mean.shape[:2], draws)), np.zeros((*mean.shape[:2], draws))
        scores = np.full((mean.shape[1], draws), self.reward)
        if seen.any():
            gain = self.gain(mean[0][:, _of(mean, seen)], sd[0], self.best[seen])
            scores[:, seen], by_mean[0][:, seen], by_sd[0][:, seen] = gain
        if len(self.limits):
            value, d_mean, d_sd = log_probability_below(mean[1:], sd[1:], self.limits[:, None, None])
            if self.rule == "cei+":
                likely = value >= -LOG_2
                value = np.where(likely, 0.0, value + LOG_2)
                d_mean, d_sd = np.where(likely, 0.0, d_mean), np.where(likely, 0.0, d_sd)
            scores += value.sum(axis=0)
            by_mean[1:], by_sd[1:] = d_mean, d_sd
        top = scores.max(axis=1, keepdims=True)
        shares = np.exp(scores - top)
        total = shares.sum(axis=1, keepdims=True)
        value = top[:, 0] + np.log(total[:, 0] / draws)
        gradient = np.zeros_like(X)
        if with_gradient:
            shares /= total
            floored = moments.variance <= SMALLEST_SD**2
            by_variance = (by_sd * shares).sum(axis=2) / (2.0 * sd[:, :, 0])
            by_variance[floored] = 0.0
            weights = by_mean * shares
            if mean.shape[2] == 1:
                weights = weights.sum(axis=2, keepdims=True)
            gradient = self.predictor.backward(moments, weights, by_variance)
        if self.evaluable is not None:
            chance, slope = self.evaluable.log_chance(X, with_gradient)
            value, gradient = value + chance, gradient + slope
        return value, gradient


def incumbents(objective: Array, feasible: NDArray[np.bool_]) -> Array:
    """(S,) the lowest of (n, S) objective values among feasible points of each draw; NaN where no draw has one.

    Where only some draws have a feasible point, the others get the highest value of all.

    >>> incumbents(np.array([[1.0, 3.0], [2.0, 0.0]]), np.array([[False, False], [True, False]]))
    array([2., 3.])
    """
    lowest = np.where(feasible, objective, np.inf).min(axis=0)
    seen = np.isfinite(lowest)
    if not seen.any():
        return np.full(len(lowest), np.nan)
    return np.where(seen, lowest, float(objective.max()))


@dataclass(frozen=True)
class Evaluable:
    """The logarithm of the probability that a point can be evaluated, with a floor under that probability.

    model: its only output is at most 0 where points work. floor: in standard deviations; where the model is less sure
    than that, a steep penalty is added, because expected improvement grows without limit across the edge of the region
    and a factor alone would send every point there.
    """

    model: Beliefs
    floor: float = 0.0

    def log_chance(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        """(q,) values and their (q, d) gradients (or zeros)."""
        moments = self.model.forward(X)
        mean = moments.mean[0, :, 0]
        sd = np.sqrt(moments.variance[0] + EDGE_SD**2)
        value, by_mean, by_sd = log_probability_below(mean, sd, 0.0)
        missing = np.maximum(self.floor + mean / sd, 0.0)
        value = value - PENALTY * missing**2
        if not with_gradient:
            return value, np.zeros_like(X)
        by_mean = by_mean - 2.0 * PENALTY * missing / sd
        by_sd = by_sd + 2.0 * PENALTY * missing * mean / sd**2
        return value, self.model.backward(moments, by_mean[None, :, None], (by_sd / (2.0 * sd))[None])


def _of(mean: Array, seen: NDArray[np.bool_]) -> NDArray[np.bool_] | slice:
    return slice(None) if mean.shape[2] == 1 else seen
