"""The first rows of a search that is to be local: the centre of the box, and a step along each column.

So begin methods with linear models (Powell 1994, COBYLA), which are the ones to beat where evaluations are few for the
number of columns. From the same d + 1 rows a Gaussian process has a slope in every direction; rows spread over the whole
box tell it little there. The sign of each step is the study's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bbopt.query import Key, Request
from bbopt.strategies.gp_domain import spread_rows
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]
STEP = 1.0 / 6.0  # of the box


def simplex_rows(task: Task, request: Request, key: Key, n: int, offset: int = 0) -> Array:
    """The next n rows of a study that starts with the centre and a simplex; spread rows after these, or where a condition
    among parameters fails. Continuous spaces only."""
    rows = spread_rows(task, request, key, n, offset)
    d = task.space.dimension
    signs = Key(key.seed, -1).rng("simplex").choice([-1.0, 1.0], size=d)
    start = np.full((d + 1, d), 0.5)
    start[np.arange(1, d + 1), np.arange(d)] += STEP * signs
    numbers = request.number + offset + np.arange(n)
    first = numbers <= d
    rows[first] = task.space.canonical(start[numbers[first]])
    return rows


def centred_rows(task: Task, request: Request, key: Key, n: int, offset: int = 0) -> Array:
    """The next n rows of a study that starts with the centre, then spreads its rows. Continuous spaces only."""
    rows = spread_rows(task, request, key, n, offset)
    if n and request.number + offset == 0:
        rows[0] = task.space.canonical(np.full((1, task.space.dimension), 0.5))[0]
    return rows
