"""Dominance between points with several objectives, all minimised."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def non_dominated(Y: Array) -> Array:
    """(n,) bool: rows of Y (n, m) that no other row equals or beats everywhere and beats somewhere. Equal rows all stay.

    >>> non_dominated(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0]])).tolist()
    [True, True, False]
    """
    keep = np.ones(len(Y), bool)
    for i in np.lexsort(Y.T[::-1]):
        if keep[i]:
            worse = (Y >= Y[i]).all(axis=1) & (Y > Y[i]).any(axis=1)
            keep &= ~worse
    return keep
