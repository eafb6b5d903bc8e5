"""The slates of a search by ranking: perturbations around a point, and the points of a line search. Pure functions.

Rows are canonical, within bounds and `where`; what is drawn is a function of the generator.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bbopt.query import DirectionRows, Rows
from bbopt.task import Task
from bbopt.zeroth_order.columns import bounded_columns, limits
from bbopt.zeroth_order.descent import FARTHEST
from bbopt.zeroth_order.rank_line_search import along
from bbopt.zeroth_order.rank_state import JITTER, RankState

Array = np.ndarray[Any, np.dtype[Any]]

WIDE = 2**15  # entries beyond which the rows of a gradient slate are kept as a recipe
DRAWS = 20  # of a perturbation that `where` forbids, before it is repaired


def perturbed(
    task: Task, columns: Array, base: Array, radius: float, n: int, orthogonal: bool, rng: np.random.Generator
) -> Array:
    """(n, D) rows base + radius N(0, I) on some columns."""
    X = np.tile(base, (n, 1))
    wrong = np.arange(n)
    for _ in range(DRAWS):
        X[wrong] = base
        X[wrong[:, None], columns] += radius * normal(rng, len(wrong), len(columns), orthogonal)
        X[wrong] = task.space.canonical(X[wrong])
        wrong = wrong[~task.feasible.contains(X[wrong])]
        if not len(wrong):
            return X
    return task.feasible.repair(X, rng)


def gradient_rows(
    task: Task, columns: Array, base: Array, radius: float, n: int, orthogonal: bool, rng: np.random.Generator
) -> Rows:
    """The rows of a gradient slate: an array, or a recipe (of independent perturbations) where that would be large."""
    if n * len(columns) <= WIDE or task.where:
        return perturbed(task, columns, base, radius, n, orthogonal, rng)
    seed, ones = int(rng.integers(2**63)), np.ones(n, int)
    return DirectionRows(base, columns, radius, "gaussian", seed, ones, np.arange(n), task.space)


def normal(rng: np.random.Generator, n: int, d: int, orthogonal: bool) -> Array:
    """(n, d) numbers, every row N(0, I); with `orthogonal`, each d rows in turn are at right angles to each other.

    >>> u = normal(np.random.default_rng(0), 3, 4, orthogonal=True)
    >>> bool(np.abs(u @ u.T - np.diag((u**2).sum(axis=1))).max() < 1e-12)
    True
    """
    drawn = rng.standard_normal((n, d))
    if orthogonal and d > 1:
        for first in range(0, n, d):
            part = drawn[first : first + d]
            q, r = np.linalg.qr(part.T)  # rows of q.T: uniform directions, given the lengths
            lengths = np.sqrt((part**2).sum(axis=1)) * np.sign(np.diag(r))
            drawn[first : first + d] = lengths[:, None] * q.T
    return drawn


def steps_along(task: Task, columns: Array, state: RankState, sizes: Array) -> Array:
    """(n, D) x - sqrt(d) size q g for n sizes, with g the direction and q its expected squared cosine to the gradient."""
    low, high = limits(task.space, columns)
    lengths = sizes * math.sqrt(len(columns)) * state.share
    rows = along(state.x, columns, state.direction, lengths, np.maximum(low, -FARTHEST), np.minimum(high, FARTHEST))
    return task.space.canonical(rows)


def shown(task: Task, columns: Array, x: Array, rng: np.random.Generator) -> Array:
    """(D,) x itself, or where no point may be asked twice a point next to it that cannot be told from it."""
    row = np.array(x)
    if not task.noisy and len(columns):
        column = int(rng.choice(columns))
        inward = -1.0 if bounded_columns(task.space)[column] and row[column] > 0.5 else 1.0
        row[column] += inward * JITTER * (0.5 + 0.5 * rng.random())
    there: Array = task.feasible.repair(row[None], rng)[0]
    return there


def different(X: Array, x: Array) -> Array:
    """(n,) bool: rows that are neither x nor an earlier one of them."""
    there = {x.tobytes()}
    new = np.zeros(len(X), bool)
    for i, row in enumerate(X):
        new[i] = row.tobytes() not in there
        there.add(row.tobytes())
    return new
