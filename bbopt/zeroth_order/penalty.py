"""Outcome constraints as an exact penalty: f + sum_c w_c max(0, g_c), with weights that grow while constraints are violated.

The l1 penalty is exact: its minimum is that of the constrained problem once every w_c exceeds the multiplier of its
constraint (J. Nocedal, S. Wright, Numerical Optimization, 2006, section 17.2). Multipliers are ratios of slopes, so the
first violation of a constraint sets its weight to twice the ratio of the objective's slopes to the constraint's own, as
measured around the iterate: no unit matters. Each further query around an infeasible iterate multiplies it by `GROWTH`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

FIRST, GROWTH, LARGEST_WEIGHT = 2.0, 1.5, 1e30
LARGEST = 1e150  # of a value: squares and differences of such are still numbers


def bounded(values: Array) -> Array:
    """Values that may be squared and subtracted: within +-1e150."""
    return np.clip(values, -LARGEST, LARGEST)


def penalised(values: Array, weights: Array) -> Array:
    """(k,) f + sum_c w_c max(0, g_c) of (k, 1 + c) values, f first; NaN where they are.

    >>> penalised(np.array([[1.0, -2.0], [1.0, 0.5]]), np.array([4.0])).tolist()
    [1.0, 3.0]
    """
    return bounded(bounded(values[:, 0]) + np.minimum(np.maximum(values[:, 1:], 0.0), LARGEST) @ weights)


def grown(weights: Array, slopes: Array, level: Array) -> Array:
    """(c,) weights after a query: slopes (n, 1 + c) around the iterate, f first, and the level (c,) of the constraints there.

    >>> slopes = np.array([[3.0, 1.0], [4.0, 0.0]])
    >>> first = grown(np.zeros(1), slopes, np.array([0.2]))
    >>> first.tolist(), grown(first, slopes, np.array([0.1])).tolist(), grown(first, slopes, np.array([-0.1])).tolist()
    ([10.0], [15.0], [10.0])
    """
    size = np.abs(bounded(slopes)).max(axis=0, initial=0.0)  # of squares alone small slopes would leave nothing
    unit = np.where(size > 0.0, size, 1.0)
    length = unit * np.sqrt(((bounded(slopes) / unit) ** 2).sum(axis=0))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        wanted = FIRST * np.where(length[1:] > 0.0, length[0] / length[1:], 0.0)
    larger = np.where(weights > 0.0, GROWTH * weights, np.where(wanted > 0.0, wanted, 1.0))
    return np.where(level > 0.0, np.minimum(np.maximum(larger, wanted), LARGEST_WEIGHT), weights)
