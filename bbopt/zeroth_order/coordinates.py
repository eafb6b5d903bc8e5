"""Coordinate-wise finite differences (CGE): one entry of the gradient from one or two values along its coordinate.

    forward   g_i = (f(x + h_i e_i) - f(x)) / h_i                       d + 1 values, error (h_i / 2) f''_ii
    central   g_i = (f(x + h_i e_i) - f(x - h_i e_i)) / (2 h_i)         2 d values,   error (h_i^2 / 6) f'''_iii

What floating point and bounds leave of this: the divisor is the difference of the two points as they are, not the h that
was meant ((x + h) - x is not h); a forward step that would leave the bounds goes backward; a central pair is moved to the
bounds, and where one of its points then is x itself, the value at x takes its place (a one-sided difference).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from bbopt.errors import UsageError

Array = np.ndarray[Any, np.dtype[Any]]
Scheme = Literal["forward", "central"]
Bound = float | Array


def check_scheme(scheme: str, who: str) -> None:
    """Raise UsageError, in the name of `who`, for a scheme that there is not."""
    if scheme not in ("forward", "central"):
        raise UsageError(f"{who}: expected scheme 'forward' or 'central', got {scheme!r}")


def coordinate_steps(
    x: Array, radius: float | Array, scheme: Scheme, low: Bound = -np.inf, high: Bound = np.inf
) -> tuple[Array, Array]:
    """(d,) steps up (at least 0) and (d,) steps down (at most 0) from x, within the bounds; 0 where none is to be made.

    >>> coordinate_steps(np.array([0.5, 1.0]), 0.25, "forward", 0.0, 1.0)
    (array([0.25, 0.  ]), array([ 0.  , -0.25]))
    >>> coordinate_steps(np.array([0.5, 1.0]), 0.25, "central", 0.0, 1.0)
    (array([0.25, 0.  ]), array([-0.25, -0.25]))
    """
    h = np.broadcast_to(np.asarray(radius, float), x.shape)
    up, down = np.minimum(x + h, high) - x, np.maximum(x - h, low) - x
    if scheme == "central":
        return up, down
    forward = (x + h <= high) | (up >= -down)
    return np.where(forward, up, 0.0), np.where(forward, 0.0, down)


def difference_quotients(x: Array, at: Array | float, upper: tuple[Array, Array], lower: tuple[Array, Array]) -> Array:
    """(d,) slopes from what is known: the value `at` x, and (points, values) above and below; NaN where that is too little.

    Two points make a central difference, one and x a one-sided one. An unknown value is NaN.

    >>> x, none = np.zeros(2), np.full(2, np.nan)
    >>> difference_quotients(x, 1.0, (x + 0.5, np.array([3.0, np.nan])), (x - 0.5, np.array([np.nan, 0.0]))).tolist()
    [4.0, 2.0]
    """
    (x_up, f_up), (x_down, f_down) = upper, lower
    has_up, has_down = np.isfinite(f_up), np.isfinite(f_down)
    top_x, top_f = np.where(has_up, x_up, x), np.where(has_up, f_up, at)
    low_x, low_f = np.where(has_down, x_down, x), np.where(has_down, f_down, at)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        slopes: Array = (top_f - low_f) / (top_x - low_x)
    slopes[~(has_up | has_down)] = np.nan
    return slopes


def coordinate_gradient(
    function: Callable[[Array], Array],
    x: Array,
    radius: float | Array,
    scheme: Scheme = "forward",
    low: Bound = -np.inf,
    high: Bound = np.inf,
) -> Array:
    """(d,) the gradient of a function at x (d,). The function takes rows (k, d), gives values (k,), and is called once.

    >>> coordinate_gradient(lambda X: (X**2).sum(axis=1), np.array([1.0, 2.0]), 0.25, "central").tolist()
    [2.0, 4.0]
    """
    check_scheme(scheme, "coordinate_gradient")
    up, down = coordinate_steps(x, radius, scheme, low, high)
    rise, fall = np.flatnonzero(up), np.flatnonzero(down)
    base_needed = scheme == "forward" or bool(((up == 0.0) | (down == 0.0)).any())
    rows = np.tile(x, (len(rise) + len(fall) + base_needed, 1))
    rows[np.arange(len(rise)), rise] += up[rise]
    rows[len(rise) + np.arange(len(fall)), fall] += down[fall]
    values = np.asarray(function(rows), float)
    above, below = np.full((2, len(x)), np.nan), np.full((2, len(x)), np.nan)
    above[:, rise] = rows[np.arange(len(rise)), rise], values[: len(rise)]
    below[:, fall] = rows[len(rise) + np.arange(len(fall)), fall], values[len(rise) : len(rise) + len(fall)]
    at = float(values[-1]) if base_needed else np.nan
    return difference_quotients(x, at, (above[0], above[1]), (below[0], below[1]))
