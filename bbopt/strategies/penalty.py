"""Constraints as a penalty on the objective: f + rho sum_c max(0, g_c)^2, with rho growing while the search stalls.

The penalty variant of Yu, Picard, Ahmed 2024 (arXiv 2404.04495), for every strategy with a model: the penalised values are
modelled as one function, its lowest told value is the incumbent, and the constraints themselves have no model. rho starts
at 1 and is multiplied by 1.5 at every fifth answer that did not improve the best feasible value; improvements do not set
the count back. Answers to a first design are counted too (the paper begins after them). Constraint values enter as they
are told, as in the paper: a task whose constraints have very different scales is better served by the other rules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bbopt.strategies.gp_state import GPState
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]
STALLS, GROWTH = 5, 1.5
LARGEST_WEIGHT = 1e30
LARGEST = 1e300


def penalty_weight(values: Array) -> float:
    """rho after n answers, (n, 1 + c) in the order in which they came: the objective, then constraints that hold at <= 0.

    >>> penalty_weight(np.array([[1.0, -1.0]] * 5)), penalty_weight(np.array([[1.0, -1.0]] * 6))
    (1.0, 1.5)
    """
    if not len(values):
        return 1.0
    holds = (values[:, 1:] <= 0.0).all(axis=1)
    best = np.minimum.accumulate(np.where(holds, values[:, 0], np.inf))
    stalled = int((~(best[1:] < best[:-1])).sum())
    growth = min(stalled // STALLS, 1000)  # beyond any cap; a power of more would not be a number
    return float(min(GROWTH**growth, LARGEST_WEIGHT))


def penalised(values: Array) -> Array:
    """(n, 1) penalised objectives of (n, 1 + c) values, at most 1e300; without constraints the objective itself.

    >>> penalised(np.array([[1.0, -1.0], [0.0, 2.0]])).tolist()
    [[1.0], [4.0]]
    """
    if values.shape[1] == 1:
        return values
    with np.errstate(over="ignore"):
        excess = (np.maximum(values[:, 1:], 0.0) ** 2).sum(axis=1, keepdims=True)
        return np.asarray(np.minimum(values[:, :1] + penalty_weight(values) * excess, LARGEST))


def penalised_view(task: Task, state: GPState) -> tuple[Task, GPState]:
    """The task and the told rows as a model of the penalised objective sees them: one output, no constraints or conditions.

    Hyperparameters that were fitted under another rho are not taken up again, because the state's fingerprint is that of
    the penalised values. Noise of a constraint is carried over to first order: its standard deviation times the slope of
    the penalty. Without constraints both come back as they are.
    """
    if not task.c:
        return task, state
    declared = [np.nan if isinstance(kind, str) else float(kind or 0.0) for kind in task.noises]
    deviations = np.where(np.isnan(state.std), declared, state.std)
    with np.errstate(all="ignore"):
        slopes = 2.0 * penalty_weight(state.values) * np.maximum(state.values[:, 1:], 0.0)
        parts = np.hstack([deviations[:, :1], np.where(slopes > 0.0, slopes * deviations[:, 1:], 0.0)])
        std = np.minimum(np.sqrt((parts**2).sum(axis=1, keepdims=True)), LARGEST)
    unknown = any(isinstance(kind, str) for kind in task.noises)
    objective = replace(task.objectives[0], noise="unknown" if unknown else None)
    return replace(task, objectives=(objective,), constraints=(), where=()), replace(
        state, values=penalised(state.values), std=std, slopes=_slopes_where_held(state)
    )


def _slopes_where_held(state: GPState) -> Array:
    """Derivatives of the penalised objective that are those of the objective: at points that keep every limit."""
    held = np.asarray((state.values[:, 1:] <= 0.0).all(axis=1))
    return np.asarray(state.slopes[(state.slopes[:, 1] == 0) & held[state.slopes[:, 0].astype(int)]])
