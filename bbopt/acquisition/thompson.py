"""Thompson sampling: the next point is the best one of a function that is drawn from the posterior.

    score(x) = -f(x)                              where g_c(x) <= limit_c for all c,
               -(HOPELESS + sum_c max(0, g_c(x) - limit_c))    elsewhere,

f and all g_c being paths (`surrogates.paths`): what is feasible in this draw comes first, then what violates least, as in SCBO
(Eriksson and Poloczek 2021, arXiv 2002.08526, section 3). Points that are out need no care: each ask draws a function of
its own (Kandasamy et al. 2018, "Parallelised Bayesian optimisation via Thompson sampling", AISTATS).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bbopt.acquisition.constrained import Chance
from surrogates.paths import Paths

Array = NDArray[np.float64]
HOPELESS = 1e4  # worse than any objective in standardised units


@dataclass(frozen=True)
class PathScore:
    """The score along the first function of each output: 0 is the objective, the rest are constraints with `limits` (c,).

    evaluable: where points can be evaluated at all, or None.
    """

    paths: Paths
    limits: Array
    evaluable: Chance | None = None

    def value(self, X: Array) -> Array:
        """(q,) scores of (q, d) points."""
        score = self._scored(self.paths.value(X)[0])
        return score if self.evaluable is None else score + self.evaluable.log_chance(X, False)[0]

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        """(q,) scores and (q, d) gradients; zero for category columns."""
        values, slopes = self.paths.along(X, np.zeros(len(X), np.intp))
        over = np.asarray(values[:, 1:] > self.limits)
        hopeless = np.asarray(over.any(axis=1))
        gradient = -np.where(hopeless[:, None], (slopes[:, 1:] * over[:, :, None]).sum(axis=1), slopes[:, 0])
        score = self._scored(values)
        if self.evaluable is not None:
            chance, slope = self.evaluable.log_chance(X, True)
            score, gradient = score + chance, gradient + slope
        return score, gradient

    def _scored(self, values: Array) -> Array:
        violation = np.maximum(values[:, 1:] - self.limits, 0.0).sum(axis=1)
        return np.asarray(-np.where(violation > 0.0, HOPELESS + violation, values[:, 0]))
