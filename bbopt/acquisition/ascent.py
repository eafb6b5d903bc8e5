"""Many box-constrained climbs at once: projected L-BFGS in lockstep over a batch of starts.

Every start has its own history, step and active bounds, but all are evaluated in one call, because a posterior at b
points costs little more than at one. Nocedal and Wright 2006, Numerical Optimization: two-loop recursion (algorithm
7.4) on the free variables, Armijo backtracking along the projected path (section 16.7).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
MEMORY = 8
SUFFICIENT = 1e-4
TRIES = 12


def climb(
    function: Callable[[Array], tuple[Array, Array]],
    starts: Array,
    low: Array,
    high: Array,
    free: Mask,
    iterations: int = 60,
    largest_step: float = 0.25,
    tolerance: float = 1e-6,
) -> tuple[Array, Array]:
    """Local maxima of `function`, one per start: points (b, d) and values (b,).

    function: (q, d) points to values (q,) and gradients (q, d); minus infinity marks points that are not allowed.
    starts: (b, d) inside the bounds; low, high: (d,); free: (b, d), False where a coordinate must stay.
    largest_step: in the largest coordinate, per iteration. tolerance: a climb ends when one iteration gains less.

    >>> value = lambda X: (-(X**2).sum(axis=1), -2 * X)
    >>> low, high = np.array([-1.0, 0.5]), np.ones(2)
    >>> x, v = climb(value, np.array([[0.9, 0.9]]), low, high, np.ones((1, 2), bool))
    >>> bool(np.allclose(x, [[0.0, 0.5]], atol=1e-4))
    True
    """
    x = np.array(starts, dtype=float)
    b, d = x.shape
    value, slope = function(x)
    value, slope = -value, -slope  # minimise inside
    history_s, history_y = np.zeros((MEMORY, b, d)), np.zeros((MEMORY, b, d))
    curvature = np.zeros((MEMORY, b))
    running = np.isfinite(value)
    for step in range(iterations):
        if not running.any():
            break
        rows = np.flatnonzero(running)
        xr, gr = x[rows], slope[rows]
        stuck = ((xr <= low) & (gr > 0.0)) | ((xr >= high) & (gr < 0.0))
        moving = free[rows] & ~stuck
        projected = np.where(moving, gr, 0.0)
        direction = np.where(
            moving, -_two_loops(projected, history_s[:, rows], history_y[:, rows], curvature[:, rows], step), 0.0
        )
        descent = (direction * gr).sum(axis=1)
        bad = ~(descent < 0.0)
        direction[bad] = -projected[bad]
        fresh = bad | (curvature[:, rows].max(axis=0, initial=0.0) == 0.0)
        length = np.abs(direction).max(axis=1)
        limit = np.where(fresh, 0.1 * largest_step, largest_step)
        direction *= np.minimum(1.0, limit / np.maximum(length, 1e-300))[:, None]
        direction[fresh] *= np.where(length < limit, limit / np.maximum(length, 1e-300), 1.0)[fresh, None]
        new_x, new_value, new_slope, moved = _backtrack(function, xr, value[rows], gr, direction, low, high)
        s, y = new_x - xr, new_slope - gr
        sy = (s * y).sum(axis=1)
        slot = step % MEMORY
        good = moved & (sy > 1e-12 * np.sqrt((s * s).sum(axis=1) * (y * y).sum(axis=1)))
        history_s[slot, rows] = np.where(good[:, None], s, 0.0)
        history_y[slot, rows] = np.where(good[:, None], y, 0.0)
        curvature[slot, rows] = np.where(good, sy, 0.0)
        gain = value[rows] - new_value
        x[rows], value[rows], slope[rows] = new_x, new_value, new_slope
        running[rows] = moved & (gain > tolerance) & (length > 1e-14)
    return x, -value


def _two_loops(g: Array, S: Array, Y: Array, sy: Array, newest: int) -> Array:
    """Inverse Hessian estimate times g, per row; unused history slots have sy = 0."""
    order = [(newest - 1 - i) % MEMORY for i in range(MEMORY)]
    used = sy > 0.0
    safe = np.where(used, sy, 1.0)
    q = g.copy()
    shares = np.zeros_like(sy)
    for i in order:
        shares[i] = np.where(used[i], (S[i] * q).sum(axis=1) / safe[i], 0.0)
        q -= shares[i][:, None] * Y[i]
    scaled = np.zeros(len(g), dtype=bool)
    for i in order:
        first = used[i] & ~scaled
        yy = (Y[i] ** 2).sum(axis=1)
        q[first] *= (sy[i] / np.where(yy > 0.0, yy, 1.0))[first, None]
        scaled |= used[i]
    for i in reversed(order):
        back = np.where(used[i], (Y[i] * q).sum(axis=1) / safe[i], 0.0)
        q += np.where(used[i], shares[i] - back, 0.0)[:, None] * S[i]
    return q


def _backtrack(
    function: Callable[[Array], tuple[Array, Array]],
    x: Array,
    value: Array,
    slope: Array,
    direction: Array,
    low: Array,
    high: Array,
) -> tuple[Array, Array, Array, Mask]:
    new_x, new_value, new_slope = x.copy(), value.copy(), slope.copy()
    moved = np.zeros(len(x), dtype=bool)
    length = np.ones(len(x))
    open_rows = np.arange(len(x))
    for _ in range(TRIES):
        trial = np.clip(x[open_rows] + length[open_rows, None] * direction[open_rows], low, high)
        got, gradient = function(trial)
        got, gradient = -got, -gradient
        expected = (slope[open_rows] * (trial - x[open_rows])).sum(axis=1)
        accept = np.isfinite(got) & (got <= value[open_rows] + SUFFICIENT * expected) & (expected < 0.0)
        done = open_rows[accept]
        new_x[done], new_value[done], new_slope[done] = trial[accept], got[accept], gradient[accept]
        moved[done] = True
        rest = ~accept
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            rise = got[rest] - value[open_rows[rest]] - expected[rest]
            best = -0.5 * expected[rest] / rise  # minimum of the parabola through both values and the slope
        shrink = np.where(np.isfinite(best), np.clip(best, 0.05, 0.5), 0.2)
        open_rows = open_rows[rest]
        length[open_rows] *= shrink
        if not len(open_rows):
            break
    return new_x, new_value, new_slope, moved
