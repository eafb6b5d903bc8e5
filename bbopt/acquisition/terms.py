"""Terms that a user or the told costs add to the logarithm of an acquisition: what is believed of the optimum, what a point costs.

    UserPrior   (beta / n) log pi(x)   piBO: the prior's weight fades with the n told rows (Hvarfner, Stoll, Souza, Lindauer,
                Hutter, Nardi 2022, "piBO", arXiv 2204.11051, equation 6)
    CostPer     - alpha E[log cost(x)]   gain per cost (Snoek, Larochelle, Adams 2012, arXiv 1206.2944, section 3.2), with alpha
                falling from 1 to 0 as the budget is used up (EI-cool: Lee, Perrone, Archambeau, Seeger 2020, arXiv 2003.10870)

Both are a `Chance` (`bbopt.acquisition.constrained`): something that is added to a score in logarithms, besides another (`also`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bbopt.acquisition.constrained import Chance
from surrogates.predictor import Beliefs

Array = NDArray[np.float64]


def _more(also: Chance | None, X: Array, value: Array, gradient: Array, with_gradient: bool) -> tuple[Array, Array]:
    if also is None:
        return value, gradient
    other, slope = also.log_chance(X, with_gradient)
    return value + other, gradient + slope


def _rough(also: Chance | None) -> Chance | None:
    make = getattr(also, "rough", None)
    cheaper: Chance | None = also if make is None else make()
    return cheaper


@dataclass(frozen=True)
class UserPrior:
    """Independent beliefs of columns, in encoded units.

    columns, centre, spread: (k,) of numbers, normal about the centre; choices: column to the logarithm of the probability of each of
    its encoded values; weight: beta / n.
    """

    columns: NDArray[np.intp]
    centre: Array
    spread: Array
    choices: Mapping[int, Mapping[float, float]]
    weight: float
    also: Chance | None = None

    def log_chance(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        """(q,) values and their (q, d) gradients (zero for choices)."""
        away = (X[:, self.columns] - self.centre) / self.spread
        value, gradient = -0.5 * self.weight * (away**2).sum(axis=1), np.zeros_like(X)
        gradient[:, self.columns] = -self.weight * away / self.spread
        for column, logs in self.choices.items():
            known, log = (np.array(list(part)) for part in (logs, logs.values()))
            value = value + self.weight * log[np.abs(X[:, [column]] - known).argmin(axis=1)]
        return _more(self.also, X, value, gradient, with_gradient)

    def rough(self) -> UserPrior:
        """The same with a cheaper stand-in for the other term, where there is one."""
        cheaper = _rough(self.also)
        return self if cheaper is self.also else replace(self, also=cheaper)


@dataclass(frozen=True)
class CostPer:
    """model: its only output is the logarithm of the cost; weight: alpha."""

    model: Beliefs
    weight: float
    also: Chance | None = None

    def log_chance(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        """(q,) values and their (q, d) gradients (or zeros)."""
        moments = self.model.forward(X)
        value, gradient = -self.weight * moments.mean[0, :, 0], np.zeros_like(X)
        if with_gradient:
            rates = np.full((1, len(X), 1), -self.weight)
            gradient = self.model.backward(moments, rates, np.zeros((1, len(X))))
        return _more(self.also, X, value, gradient, with_gradient)

    def rough(self) -> CostPer:
        """The same with a cheaper stand-in for the other term, where there is one."""
        cheaper = _rough(self.also)
        return self if cheaper is self.also else replace(self, also=cheaper)
