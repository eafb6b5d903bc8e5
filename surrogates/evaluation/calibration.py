"""Whether a prediction's probabilities mean what they say.

A central interval of probability p should hold the value in a share p of the cases, over many tasks. On tasks of the
prior the values are the oracle's stratified draws of what would be told; on given functions they are the noise-free
values. Points of one task go wrong together, so the error is that over tasks; the binomial one, as if points were
independent, is smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogates.evaluation.gaps import Belief
from surrogates.prior import Tasks

__all__ = ["LEVELS", "Coverage", "coverage", "function_coverage", "told_coverage"]

Array = NDArray[np.float64]
Function = Callable[[Array], Array]
"""From points of the unit cube (k, d) to values (k,)."""
Believer = Callable[[Tensor, Tensor, Tensor], Belief]
"""From rows X (B, n, d), values y (B, n) and points Q (B, q, d) to what is predicted there."""

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
DESIGN_POINTS = 256


@dataclass(frozen=True)
class Coverage:
    """Shares of values inside central intervals: shares[l][task] for the l-th of `LEVELS`; points: of each task."""

    shares: tuple[tuple[float, ...], ...]
    points: int

    def at(self, level: float) -> tuple[float, float, float]:
        """Mean share at a level, its standard error over tasks, and the binomial error of that many points."""
        shares = np.asarray(self.shares[LEVELS.index(level)])
        error = float(shares.std(ddof=1) / math.sqrt(len(shares))) if len(shares) > 1 else math.nan
        return float(shares.mean()), error, math.sqrt(level * (1.0 - level) / (len(shares) * self.points))


def coverage(below: Tensor) -> Coverage:
    """From probabilities (B, q, J) that the prediction gives to values of at most the true one.

    >>> even = (torch.arange(100.0) + 0.5).reshape(1, 100, 1) / 100
    >>> round(coverage(even).at(0.9)[0], 2)
    0.9
    """
    shares = []
    for level in LEVELS:
        inside = (below - 0.5).abs() <= 0.5 * level
        shares.append(tuple(float(share) for share in inside.double().mean((-1, -2))))
    return Coverage(tuple(shares), below.shape[1])


def told_coverage(tasks: Tasks, belief: Belief) -> Coverage:
    """Of told values on tasks of the prior.

    >>> from surrogates.evaluation.rivals import nothing
    >>> from surrogates.evaluation.tasks import Cell
    >>> cell = Cell("plain", 1, 8)
    >>> tasks = cell.tasks(20)
    >>> told_coverage(tasks, nothing(cell, tasks)).at(0.9)[0] > 0.5
    True
    """
    return coverage(belief.below(False, tasks.told))


def function_coverage(
    believe: Believer, function: Function, dimension: int, rows: int, designs: int, seed: int
) -> tuple[Coverage, float]:
    """Of noise-free values of a function after uniform random designs, and the rms error of the mean in sds of the values.

    function: takes points of the unit cube. Every design is a task of `DESIGN_POINTS` uniform points.
    """
    rng = np.random.default_rng([seed, dimension, rows])
    X, Q = rng.random((designs, rows, dimension)), rng.random((designs, DESIGN_POINTS, dimension))
    y = torch.from_numpy(np.stack([function(part) for part in X]))
    truth = torch.from_numpy(np.stack([function(part) for part in Q]))
    belief = believe(torch.from_numpy(X), y, torch.from_numpy(Q))
    error = float(((belief.middle() - truth).square().mean() / truth.var()).sqrt())
    return coverage(belief.below(True, truth[..., None])), error
