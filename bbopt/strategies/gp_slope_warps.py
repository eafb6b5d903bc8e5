"""Which warp an output has where derivatives were told: the one under which values and derivatives together are most probable.

A warp that makes values alone look likely may bend the function so much that its derivatives ask for very short lengthscales.
With d derivatives at a point the raw density has the warp's slope there to the power 1 + d (`surrogates.warps`, equation 6 of
Snelson, Rasmussen, Ghahramani 2003, and the chain rule for each derivative).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bbopt.strategies.gp_slopes import chosen_rows, warped_slopes
from bbopt.strategies.gp_state import GPState
from surrogates.columns import Inputs
from surrogates.kernels import Kernel
from surrogates.map_fit import Fitted, Prior
from surrogates.slope_fit import SlopeObjective, fit_with_slopes
from surrogates.slope_kernel import Sites
from surrogates.warps import Warp, constraint_warps, objective_warps

Array = np.ndarray[Any, np.dtype[Any]]
COMPARED = 160  # values and derivatives that warps are compared by
ROUGH = 40  # iterations of each fit that is compared
Starts = tuple[Fitted, ...]


def warps_with_slopes(
    inputs: Inputs,
    state: GPState,
    names: Sequence[str],
    warps: Sequence[Warp],
    noisy: Array,
    starts: Sequence[Starts],
    priors: Sequence[Prior],
    kernel: Kernel,
) -> tuple[list[str], tuple[Warp, ...], list[Starts]]:
    """Names and warps of all outputs, and hyperparameters to start from; outputs with noise or without derivatives keep theirs."""
    found = [
        (name, warp, start) if noisy[j] else _best(inputs, state, j, name, warp, start, priors[j], kernel)
        for j, (name, warp, start) in enumerate(zip(names, warps, starts, strict=True))
    ]
    return [one[0] for one in found], tuple(one[1] for one in found), [one[2] for one in found]


def _best(
    inputs: Inputs, state: GPState, j: int, name: str, warp: Warp, start: Starts, prior: Prior, kernel: Kernel
) -> tuple[str, Warp, Starts]:
    y = state.values[:, j]
    candidates = objective_warps(y) if j == 0 else constraint_warps(y)
    rows, columns, raw = (state.slopes[state.slopes[:, 1] == j][:, k] for k in (0, 2, 3))
    at = rows.astype(int)
    usable = np.all([~np.isnan(warped_slopes(each, y[at], raw)) for each in candidates.values()], axis=0)
    at, columns, raw = at[usable], columns[usable].astype(int), raw[usable]
    if not len(at):
        return name, warp, start
    few = np.flatnonzero(chosen_rows(y, 1 + np.bincount(at, minlength=len(y)), COMPARED))
    mine = np.isin(at, few)
    if not mine.any():
        return name, warp, start
    at, columns, raw = at[mine], columns[mine], raw[mine]
    sites = Sites(np.searchsorted(few, at), columns, len(few))
    objective = SlopeObjective(inputs, state.X[few], sites, kernel, prior)
    fits, worth = {}, {}
    for each, candidate in candidates.items():
        steep = warped_slopes(candidate, y[at], raw)
        fits[each] = fit_with_slopes(objective, candidate.forward(y[few]), steep, None, start[:1], ROUGH)
        bent = np.log(candidate.slope(y))
        worth[each] = fits[each].value * (len(few) + len(at)) + bent[few].sum() + bent[at].sum()
    best = max(worth, key=lambda each: worth[each])
    return best, candidates[best], (fits[best], *start)
