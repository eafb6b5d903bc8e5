"""The model of `gp` where derivatives were told with values: which are used, in which units, and the fit to all of them.

A derivative of a warped output is the warp's slope times the derivative (chain rule). One is left out where it says nothing of the
warped output, on a fence, or is steeper than any function that the shortest lengthscale allows. Every derivative is a row
of the linear system: beyond `MOST` rows in all, the derivatives at the best and at the newest points are kept, in turns, and
hyperparameters are fitted to `FITTED` rows chosen alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bbopt.strategies.gp_state import GPState
from surrogates.columns import Inputs
from surrogates.gp_gradients import SlopeProcess, condition_with_slopes
from surrogates.kernels import Kernel
from surrogates.map_fit import Fitted, Prior
from surrogates.slope_fit import SlopeObjective, fit_with_slopes
from surrogates.slope_kernel import Sites
from surrogates.warps import Warp

Array = np.ndarray[Any, np.dtype[Any]]
MOST = 1500  # values and derivatives in all
FITTED = 400  # of these, what hyperparameters are fitted to
STEEPEST = 1e3  # standard deviations of the warped output per width of the box
REFINE = 15  # iterations of a fit that starts from an earlier one


def usable_slopes(state: GPState, warps: Sequence[Warp]) -> tuple[Array, Array, Array]:
    """Rows (t,) and columns (t,) that have derivatives, and these in warped units, (1 + c, t), NaN where an output has none."""
    row, output, column = state.slopes[:, :3].astype(int).T
    pairs, place = np.unique(np.column_stack([row, column]), axis=0, return_inverse=True)
    found = np.full((len(warps), len(pairs)), np.nan)
    for j, warp in enumerate(warps):
        mine = output == j
        found[j, place.ravel()[mine]] = warped_slopes(warp, state.values[row[mine], j], state.slopes[mine, 3])
    some = ~np.isnan(found).all(axis=0)
    return pairs[some, 0], pairs[some, 1], found[:, some]


def warped_slopes(warp: Warp, y: Array, slopes: Array) -> Array:
    """(s,) derivatives of the warped output from those of the raw one at values y (s,), NaN where they are left out."""
    z = warp.forward(y)
    steep = warp.slope(y) * slopes
    return np.where((z > warp.low) & (z < warp.high) & (np.abs(steep) <= STEEPEST), steep, np.nan)


def chosen_rows(z: Array, counts: Array, most: int) -> Array:
    """Which rows keep what they have, (n,) bool: the best and the newest in turns until `most` is reached.

    z: (n,) values, lower is better; counts: (n,) what each row has.

    >>> chosen_rows(np.array([0.0, 3.0, 2.0, 1.0]), np.array([2, 2, 0, 2]), 4).tolist()
    [True, False, True, True]
    """
    n = len(z)
    turns = np.column_stack([np.argsort(z, kind="stable"), np.arange(n)[::-1]]).ravel()
    _, first = np.unique(turns, return_index=True)
    order = turns[np.sort(first)]
    kept = np.zeros(n, bool)
    kept[order] = np.cumsum(counts[order]) <= most
    return kept


def model_with_slopes(
    inputs: Inputs,
    state: GPState,
    warps: Sequence[Warp],
    Z: Array,
    starts: Sequence[tuple[Fitted, ...]],
    priors: Sequence[Prior],
    kernel: Kernel,
    variances: Array | None,
    refit: bool,
) -> SlopeProcess | None:
    """The posterior given the told values Z (n, 1 + c) and the derivatives in use; None where no derivative is of use.

    starts: per output, hyperparameters from which the fit starts; without `refit` the first ones are kept.
    """
    n = len(Z)
    rows, columns, slopes = usable_slopes(state, warps)
    counts = np.bincount(rows, minlength=n)
    kept = chosen_rows(Z[:, 0], counts, max(MOST - n, 0))[rows]
    rows, columns, slopes = rows[kept], columns[kept], slopes[:, kept]
    if not len(rows):
        return None
    sites = Sites(rows, columns, n)
    fitted = [start[0] for start in starts]
    if refit:
        few = np.flatnonzero(chosen_rows(Z[:, 0], 1 + counts, FITTED)) if n + len(rows) > FITTED else np.arange(n)
        used = np.isin(rows, few)
        objectives: dict[tuple[Prior, bytes], SlopeObjective] = {}
        found = []
        for j, (start, prior) in enumerate(zip(starts, priors, strict=True)):
            mine = used & ~np.isnan(slopes[j])
            if not mine.any():
                found.append(start[0])
                continue
            if (prior, mine.tobytes()) not in objectives:
                part = Sites(np.searchsorted(few, rows[mine]), columns[mine], len(few))
                objectives[prior, mine.tobytes()] = SlopeObjective(inputs, state.X[few], part, kernel, prior)
            objective = objectives[prior, mine.tobytes()]
            known = None if variances is None else variances[few, j]
            many = len(few) < n
            found.append(fit_with_slopes(objective, Z[few, j], slopes[j, mine], known, start, REFINE if many else 200))
        fitted = found
    return condition_with_slopes(inputs, state.X, Z, sites, slopes, fitted, kernel, variances)
