"""A score whose model has its inputs in another frame: u = (x - shift) * rate, column by column.

A model of a small neighbourhood is fitted to inputs that are stretched over the unit cube, where its priors and its nugget
mean what they mean for the whole box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bbopt.acquisition.search import Score

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """shift, rate: (d,)."""

    shift: Array
    rate: Array

    @classmethod
    def around(cls, centre: Array, half: float) -> Frame:
        """The frame in which all within `half` of a row is the unit cube.

        >>> Frame.around(np.array([0.5]), 0.25).inside(np.array([[0.25], [0.75]])).tolist()
        [[0.0], [1.0]]
        """
        return cls(centre - half, np.full(len(centre), 0.5 / half))

    def inside(self, X: Array) -> Array:
        """(n, d) rows in the frame."""
        return np.asarray((X - self.shift) * self.rate)

    def outside(self, U: Array) -> Array:
        """(n, d) rows of the frame as they are outside it."""
        return np.asarray(U / self.rate + self.shift)


@dataclass(frozen=True)
class Framed:
    """`score`, which takes rows of the frame, as a function of rows outside it."""

    score: Score
    frame: Frame

    def value(self, X: Array) -> Array:
        """(q,) values of (q, d) points."""
        return self.score.value(self.frame.inside(X))

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        """(q,) values and (q, d) gradients."""
        value, gradient = self.score.value_and_gradient(self.frame.inside(X))
        return value, np.asarray(gradient * self.frame.rate)
