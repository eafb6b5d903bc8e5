"""From comparisons to a model of utility, on a refit schedule, and which told rows it holds to be best.

Hyperparameters are found again whenever a twentieth more rows is there (every answer at first); in between those of the
last fit are kept and only the comparisons grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bbopt.strategies.gp_model import inputs_of
from bbopt.strategies.preference_gp_state import PreferenceState
from bbopt.task import Task
from surrogates.kernels import Kernel
from surrogates.preference import PreferenceProcess, condition_preferences, fit_preferences
from surrogates.preference_fit import Comparisons, preference_prior

Array = np.ndarray[Any, np.dtype[Any]]
WARM_STEPS, COLD_STEPS = 8, 30  # of the search for hyperparameters
MANY = 200  # rows from which on the first search looks at the last ones alone
WINNERS = 9.0  # how much better than others rows that win are represented where there are more rows than pivots


def build(
    task: Task,
    state: PreferenceState,
    warm: Mapping[str, Any],
    kernel: Kernel,
    caution: float,
    refit: bool = True,
) -> tuple[PreferenceProcess, dict[str, Any]]:
    """The model, and plain data from which the next ask starts. Raises FloatingPointError where it cannot be made."""
    told = state.comparisons(not task.noisy, caution)
    inputs, importance = inputs_of(task), importance_of(len(state.X), told)
    size = [len(state.X), len(state.pairs), len(state.values)]
    start = (np.asarray(warm["lengthscales"], float), float(warm["scale"])) if warm else None
    before = sum(warm["fitted"][::2]) if warm else 0
    rows = len(state.X) + len(state.values)
    if start is not None and (not refit or rows - before < max(1, before // 20)):
        process = condition_preferences(inputs, state.X, told, *start, kernel, importance=importance)
        fitted, digest = list(warm["fitted"]), warm["hash"]
    else:
        prior = preference_prior(task.space.dimension, wide=not len(state.pairs))
        if start is None and len(state.X) > MANY:
            part = fit_preferences(
                inputs, state.X[-MANY:], _among_last(told, len(state.X) - MANY), kernel, prior=prior, max_iterations=COLD_STEPS
            )  # fmt: skip
            process = condition_preferences(
                inputs, state.X, told, part.lengthscales, part.scale, kernel, importance=importance
            )
        else:
            steps = COLD_STEPS if start is None else WARM_STEPS
            process = fit_preferences(
                inputs, state.X, told, kernel, start, importance=importance, max_iterations=steps, prior=prior
            )
        fitted, digest = size, state.fingerprint(size[0], size[1], size[2])
    memo = {"lengthscales": process.lengthscales, "scale": process.scale, "fitted": fitted, "hash": digest}
    return process, memo


def _among_last(told: Comparisons, first: int) -> Comparisons:
    """The comparisons of rows from number `first` on, which is number 0 of the result."""
    both = (told.better >= first) & (told.worse >= first)
    return Comparisons(told.better[both] - first, told.worse[both] - first, told.weight[both])


def importance_of(rows: int, told: Comparisons) -> Array:
    """(rows,) factors by which rows must be represented well: those that win most of their comparisons count more."""
    wins = np.bincount(told.better, minlength=rows)
    losses = np.bincount(told.worse, minlength=rows)
    return np.asarray(1.0 + WINNERS * (wins / np.maximum(wins + losses, 1)) ** 2)


def best_first(task: Task, state: PreferenceState, process: PreferenceProcess) -> Array:
    """Numbers of the compared rows from best to worst: by posterior mean; by the numbers told where these are exact."""
    if len(state.values) and not len(state.pairs) and not task.noisy:
        return np.asarray(state.places[np.argsort(state.values, kind="stable")])
    told = state.comparisons(not task.noisy)
    rows = np.unique(np.concatenate([told.better, told.worse]))
    mean = process.mean_variance(state.X[rows])[0][:, 0]
    return np.asarray(rows[np.argsort(-mean, kind="stable")])
