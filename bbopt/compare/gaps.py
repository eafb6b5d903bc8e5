"""How far a run is from the optimum after each evaluation.

The gap after n evaluations is (best feasible value so far) - (best value known of the problem), both as minimised. Its
common logarithm is not let below that of 1e-9 * max(1, |optimum|), where the optimum is hardly known any better. Before
its first feasible point a run has no gap: it counts as one decade more than the largest gap that any run of the
comparison had on the problem after finding a feasible point, so that never feasible is worse than whatever is feasible.
A run that ended early, by an error or because the space was used up, keeps its last gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import problems
from bbopt.compare.cell import Cell
from bbopt.compare.view import View

__all__ = ["FLOOR", "CLASSES", "Curve", "class_of", "curve_of", "log_gaps"]

Array = np.ndarray[Any, np.dtype[Any]]

FLOOR = 1e-9
SMALL = 6
CLASSES = (
    f"unconstrained, up to {SMALL} parameters",
    f"unconstrained, more than {SMALL} parameters",
    "constrained",
    "mixed",
)


@dataclass(frozen=True, eq=False)
class Curve:
    """best: (n,) the best feasible value so far less the optimum, inf before there is one; scale: max(1, |optimum|)."""

    best: Array
    scale: float


def class_of(problem: str) -> str:
    """The class of a problem: mixed if it has any discrete parameter, else by constraints and size.

    >>> class_of("branin"), class_of("pressure_vessel_mixed")
    ('unconstrained, up to 6 parameters', 'mixed')
    """
    view = View(problems.get(problem).task)
    if not view.continuous:
        return CLASSES[3]
    if view.constraints:
        return CLASSES[2]
    return CLASSES[0] if len(view.columns) <= SMALL else CLASSES[1]


def curve_of(cell: Cell) -> Curve:
    """The gap of a cell after each of `budget` evaluations, not yet in logarithms."""
    made = problems.get(cell.problem)
    view = View(made.task)
    assert made.optimum.value is not None
    optimum = -made.optimum.value if made.task.objectives[0].maximize else made.optimum.value
    found = np.full(cell.budget, math.inf)
    for n, (params, metrics) in enumerate(cell.points):
        if metrics is not None:
            result = view.result(params, metrics)
            if result.feasible:
                found[n] = result.y - optimum
    return Curve(np.minimum.accumulate(found), max(1.0, abs(optimum)))


def log_gaps(curves: Sequence[Curve]) -> list[Array]:
    """The common logarithms of the gaps of all runs on one problem, each (n,).

    >>> curves = [Curve(np.array([np.inf, 10.0, 0.0]), 1.0), Curve(np.array([np.inf, np.inf, np.inf]), 1.0)]
    >>> [gaps.tolist() for gaps in log_gaps(curves)]
    [[2.0, 1.0, -9.0], [2.0, 2.0, 2.0]]
    """
    logs = []
    for curve in curves:
        known = np.isfinite(curve.best)
        log = np.full(len(curve.best), math.nan)
        log[known] = np.log10(np.maximum(curve.best[known], FLOOR * curve.scale))
        logs.append(log)
    finite = [float(np.nanmax(log)) for log in logs if not np.isnan(log).all()]
    worst = max(finite, default=0.0) + 1.0
    return [np.where(np.isnan(log), worst, log) for log in logs]
