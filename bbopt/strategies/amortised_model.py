"""From told rows to an amortised Gaussian process: warps and weighted hyperparameters of every output, on a refit schedule.

The schedule, and when warps are chosen again, are those of `bbopt.strategies.gp_model`. In between, the hyperparameters of
the last fit are kept, and the rows told since change their weights. A search works with a few hyperparameter vectors per
output, evenly spaced among all that were found: the same prediction at a fraction of the price.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bbopt.strategies.gp_model import (
    NUGGET,
    SUBSET,
    WARP_EVERY,
    Fits,
    inputs_of,
    noises_of,
    refit_due,
    region_starts,
    schedule_memo,
    warped_variances,
)
from bbopt.strategies.gp_state import GPState
from bbopt.task import Task
from surrogates.amortised.components import Components, components_of
from surrogates.amortised.fit import propose_components
from surrogates.amortised.hyperprior import Hyperprior
from surrogates.amortised.posterior import AmortisedGP, condition_components
from surrogates.columns import Inputs
from surrogates.gp import GaussianProcess
from surrogates.map_fit import Fitted, Prior
from surrogates.region import fit_region
from surrogates.warped_fit import fit_warped
from surrogates.warps import Warp, constraint_warps, objective_warps

Array = np.ndarray[Any, np.dtype[Any]]
FEW_ROWS = 50  # up to which a search can afford twice as many hyperparameter vectors of the objective
OBJECTIVE = 8  # hyperparameter vectors of the objective that a search works with
CONSTRAINT = 4  # of each constraint, where there are many; of a few, twice as many
EXACT = Hyperprior(kernels=(0.8, 0.15, 0.05))  # most responses are smooth
NOISY = replace(EXACT, noise=Hyperprior.noisy().noise)
CONSTRAINTS = 64  # of all constraints together, above which it is the lower number


@dataclass(frozen=True, eq=False)
class AmortisedModel:
    """Belief about the objective (output 0) and the constraints in warped values, where a constraint holds at or below 0.

    posterior: with few components per output; warps, noisy, region, memo: as in `gp_model.Model`, with a note where the
    network's proposal was not enough.
    """

    posterior: AmortisedGP
    warps: tuple[Warp, ...]
    noisy: Array
    region: GaussianProcess | None
    memo: dict[str, Any]


def build(task: Task, state: GPState, warm: Mapping[str, Any], with_region: bool = True) -> AmortisedModel:
    """The model of all told rows (at least one), with hyperparameters of an earlier ask's memo where they are new enough.

    with_region: whether rows that cannot work are modelled here.
    """
    inputs, n = inputs_of(task), len(state.X)
    learnt, noisy, noise = noises_of(task, state)
    if warm and not refit_due(n, warm["fitted"]):
        at, selected, names, notes = warm["fitted"], warm["selected"], list(warm["names"]), warm.get("note")
        warps = tuple(Warp(*row) for row in np.asarray(warm["warps"]).tolist())
        Z, variances = _targets(state, warps, noise if noisy.any() else None)
        found = components_of(warm["components"])
    else:
        choose = not warm or n - warm["selected"] >= WARP_EVERY
        at, selected = n, n if choose else warm["selected"]
        names, warps = _warps(inputs, state, noisy, warm, choose)
        Z, variances = _targets(state, warps, noise if noisy.any() else None)
        found, notes = _fitted(inputs, state.X, Z, learnt, variances)
    first = slice(None, at)
    posterior = condition_components(
        inputs, state.X[first], Z[first], found, None if variances is None else variances[first]
    )
    components = posterior.hyperparameters()
    if at < n:
        rest = slice(at, None)
        posterior = posterior.given(state.X[rest], Z[rest], None if variances is None else variances[rest])
    region = None
    if with_region and len(state.failed):
        region = fit_region(inputs, state.X, state.failed, region_starts(warm))
    memo = {"components": components} | schedule_memo(state, at, selected, names, warps, region)
    if notes:
        memo["note"] = notes
    return AmortisedModel(posterior, warps, noisy, region, memo)


def representatives(components: Components, count: int) -> Components:
    """At most `count` of the components, each for an equal share of the weight, in order of kernel and mean lengthscale.

    >>> many = Components(np.zeros(9, int), np.arange(1.0, 10.0)[:, None], np.ones(9), np.ones(9), np.log(np.full(9, 1 / 9)))
    >>> few = representatives(many, 3)
    >>> few.lengthscales.ravel(), np.exp(few.log_weight).round(3)
    (array([2., 5., 8.]), array([0.333, 0.333, 0.333]))
    """
    if len(components) <= count:
        return components
    order = np.lexsort((np.log(components.lengthscales).mean(axis=1), components.kernel))
    share = np.exp(components.log_weight[order]).cumsum()
    teeth = (np.arange(count) + 0.5) / count * share[-1]
    kept, times = np.unique(np.minimum(np.searchsorted(share, teeth), len(order) - 1), return_counts=True)
    return components.take(order[kept]).weighted(np.log(times))


def _fitted(
    inputs: Inputs, X: Array, Z: Array, learnt: Array, variances: Array | None
) -> tuple[tuple[Components, ...], str | None]:
    """A few weighted hyperparameter vectors per output, and what is to be said about how they were found."""
    rows = np.arange(len(X)) if len(X) <= SUBSET else np.unique(np.linspace(0, len(X) - 1, SUBSET).astype(int))
    priors = [NOISY if unknown else EXACT for unknown in learnt]
    known = None if variances is None else variances[rows]
    found, diagnosis = propose_components(inputs, X[rows], Z[rows], priors, known)
    notes = [f"output {j}: {each.reason}" for j, each in enumerate(diagnosis) if each.how != "network"]
    objective = OBJECTIVE * (2 if len(X) <= FEW_ROWS else 1)
    other = CONSTRAINT * (2 if 2 * CONSTRAINT * (Z.shape[1] - 1) <= CONSTRAINTS else 1)
    few = tuple(representatives(part, other if j else objective) for j, part in enumerate(found))
    return few, "; ".join(notes) or None


def _warps(
    inputs: Inputs, state: GPState, noisy: Array, warm: Mapping[str, Any], choose: bool
) -> tuple[list[str], tuple[Warp, ...]]:
    """The name of every output's warp, and the warp as the told values make it."""
    fits = Fits(inputs, state.X, "rbf")
    starts = [_start(part) for part in components_of(warm["components"])] if warm else [None] * len(noisy)
    names, warps = [], []
    for j, y in enumerate(state.values.T):
        maps = constraint_warps(y) if j else objective_warps(y)
        name = "linear"
        if not noisy[j] and choose and len(maps) > 1:
            objective = fits.objective(Prior.noiseless(inputs.dimension, NUGGET), few=len(fits.few) < len(state.X))
            name, _ = fit_warped(objective, y[fits.few], maps, starts[j])
        elif not noisy[j] and not choose and warm["names"][j] in maps:
            name = warm["names"][j]
        names.append(name)
        warps.append(maps[name])
    return names, tuple(warps)


def _start(components: Components) -> Fitted:
    """The heaviest component, from which a fit of the most probable hyperparameters may start."""
    k = int(components.log_weight.argmax())
    return Fitted(components.lengthscales[k], float(components.scale[k]), 0.0, 0.0, NUGGET, value=0.0, evaluations=0)


def _targets(state: GPState, warps: tuple[Warp, ...], noise: Array | None) -> tuple[Array, Array | None]:
    """(n, m) warped values, and their (n, m) noise variances, or None where there are none in raw units."""
    Z = np.column_stack([warp.forward(state.values[:, j]) for j, warp in enumerate(warps)])
    return Z, None if noise is None else warped_variances(warps, state.values, noise)
