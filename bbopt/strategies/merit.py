"""Which told rows are best, and which candidates are told already: what every strategy with a model asks."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

Array = np.ndarray[Any, np.dtype[Any]]


def by_merit(values: Array, holds: Array) -> Array:
    """Row numbers from best to worst: rows that hold by the objective (column 0), then the others by total violation.

    >>> by_merit(np.array([[3.0, -1.0], [1.0, 2.0], [2.0, -1.0]]), np.array([True, False, True])).tolist()
    [2, 0, 1]
    """
    violation = np.maximum(values[:, 1:], 0.0).sum(axis=1)
    return np.lexsort((np.where(holds, values[:, 0], violation), ~holds))


def taken(X: Array, groups: tuple[tuple[Array, float], ...]) -> Array:
    """(q,) whether a row lies within a group's distance (in its widest column) of a row of that group.

    >>> taken(np.array([[0.0], [0.5]]), ((np.array([[0.4]]), 0.2),)).tolist()
    [False, True]
    """
    near: Array = np.zeros(len(X), bool)
    for rows, distance in groups:
        if len(rows) and len(X):
            bound = np.nextafter(distance, np.inf)  # which the tree leaves out
            near |= cKDTree(rows).query(X, p=np.inf, distance_upper_bound=bound)[0] <= distance
    return near
