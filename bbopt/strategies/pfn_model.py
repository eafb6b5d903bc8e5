"""From told rows to the network's belief: warps of the outputs, rows that fit into a context, standardised thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bbopt.strategies.gp_model import inputs_of
from bbopt.strategies.gp_state import GPState
from bbopt.task import Task
from surrogates.pfn.posterior import TRAINED_COLUMNS, TRAINED_ROWS, PFNPosterior, fit_pfn
from surrogates.pfn.warp_choice import choose_warps
from surrogates.warps import Warp, constraint_warps, objective_warps

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class PFNModel:
    """Belief about the objective (output 0) and the constraints in warped values, where a constraint holds at or below 0.

    rows: (k,) numbers of the told rows that it was shown; values: (n, 1 + c) warped values of all told rows; memo: plain
    data from which the next ask starts, with a note where something lies outside the network's training.
    """

    posterior: PFNPosterior
    rows: Array
    values: Array
    memo: dict[str, Any]


def build(task: Task, values: Array, state: GPState, order: Array, warm: Mapping[str, Any]) -> PFNModel:
    """The belief after all told rows (at least one). values: (n, m) raw outputs; order: row numbers from best to worst.

    warm: the memo of an earlier ask, whose kernels are where the search for kernels starts, or empty.
    """
    inputs = inputs_of(task)
    shown = context_rows(inputs.features(state.X), order, TRAINED_ROWS)
    X = state.X[shown]
    noisy = [kind is not None for kind in task.noises[: values.shape[1]]]
    maps: list[dict[str, Warp]] = []
    for j, is_noisy in enumerate(noisy):
        found = objective_warps(values[shown, j]) if j == 0 else constraint_warps(values[shown, j])
        maps.append({"linear": found["linear"]} if is_noisy else found)
    names = choose_warps(inputs, X, values[shown], maps)
    warped = np.column_stack([maps[j][name].forward(values[:, j]) for j, name in enumerate(names)])
    notes = []
    if len(shown) < len(values):
        notes.append(
            f"{len(values)} told rows are more than the network was trained for; it is shown {len(shown)} of them"
        )
    if (wide := inputs.features(X).shape[1]) > TRAINED_COLUMNS:
        notes.append(f"{wide} columns are more than the {TRAINED_COLUMNS} that the network was trained for")
    start = (torch.from_numpy(np.array(warm["rate"])), torch.from_numpy(np.array(warm["noise"]))) if warm else None
    posterior = fit_pfn(inputs, X, warped[shown], start=start)
    anchors, n = posterior.anchors, len(state.X)
    memo = {
        "rate": anchors.found_rate.numpy(), "noise": anchors.found_noise.numpy(), "warps": names, "rows": len(shown),
        "fitted": n, "seen": n, "hash": state.fingerprint(n),
    }  # fmt: skip
    return PFNModel(posterior, shown, warped, memo | ({"note": "; ".join(notes)} if notes else {}))


def context_rows(features: Array, order: Array, limit: int) -> Array:
    """Numbers of at most `limit` rows: the best half, then those farthest from all chosen so far.

    >>> context_rows(np.array([[0.0], [0.1], [0.2], [1.0]]), np.array([0, 1, 2, 3]), 2).tolist()
    [0, 3]
    """
    if len(features) <= limit:
        return np.arange(len(features))
    chosen = [int(i) for i in order[: max(limit // 2, 1)]]
    distance = np.min([((features - features[i]) ** 2).sum(axis=1) for i in chosen], axis=0)
    while len(chosen) < limit:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((features - features[chosen[-1]]) ** 2).sum(axis=1))
    return np.sort(chosen)
