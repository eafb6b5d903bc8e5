"""Thompson sampling over candidates: each row of a batch is the best candidate of a posterior draw of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bbopt.acquisition.constrained import Chance, Evaluable
from bbopt.acquisition.search import Taken
from bbopt.strategies.failures import caution
from bbopt.strategies.gp_model import inputs_of
from bbopt.strategies.gp_state import GPState
from bbopt.strategies.model_based import NEAR, NEAR_PENDING
from bbopt.strategies.turbo_region import TurboState, better_first
from bbopt.task import Task
from surrogates.gp import GaussianProcess
from surrogates.paths import draw_paths
from surrogates.region import fit_region

Array = np.ndarray[Any, np.dtype[Any]]
EXACT = 500  # candidates up to which draws are exact and joint
FAILED_ROWS = 200  # of either kind, the nearest to the best, in the model of the failing region
LIKELY = float(np.log(0.5))


@dataclass(frozen=True, eq=False)
class Scene:
    """Candidates (k, d), the model, which rows may not be asked, and how likely rows are to work at all."""

    gp: GaussianProcess
    candidates: Array
    away: Taken
    chance: Chance | None = None


def choose(scene: Scene, n: int, rng: np.random.Generator) -> Array:
    """At most n distinct candidates, one for each of n draws; fewer where no more may be asked."""
    rows, likely = scene.candidates, np.zeros(len(scene.candidates))
    if scene.chance is not None:
        chance = scene.chance.log_chance(rows, False)[0]
        likely = np.where(chance >= LIKELY, 0.0, -chance)
    draws = sample(scene.gp, rows, n, rng)
    used = np.zeros(len(rows), bool)
    for draw in draws:
        order = better_first(draw)
        order = order[np.argsort(likely[order], kind="stable")]
        for i in order:
            if not used[i] and not scene.away(rows[i : i + 1])[0]:
                if any(np.array_equal(rows[i], rows[k]) for k in np.flatnonzero(used)):
                    continue
                used[i] = True
                break
    return np.asarray(rows[used])


def sample(gp: GaussianProcess, X: Array, count: int, rng: np.random.Generator) -> Array:
    """(count, k, m) posterior draws at (k, d) candidates: exact and joint, or paths (`surrogates.paths`) of many candidates."""
    if len(X) <= EXACT:
        return gp.sample(X, count, rng)
    each = (draw_paths(gp.output(j), count, rng).value(X) for j in range(gp.outputs))  # one by one: they are large
    return np.concatenate(list(each), axis=2)


def away_from(task: Task, told: GPState, pending: Array, distance: float | None = None) -> Taken:
    """Which rows may not be asked: those out, those that cannot work and, without noise, those told, and what is near.

    distance: below which a row is near in its widest column; by default the same as for `gp`.
    """
    known = told.failed if task.noisy else np.concatenate([told.X, told.failed])
    near = (NEAR, NEAR_PENDING) if distance is None else (distance, distance)
    return partial(_near, groups=((known, near[0]), (pending, near[1])))


def _near(X: Array, groups: tuple[tuple[Array, float], ...]) -> Array:
    """(q,) as `merit.taken`, for few X and many rows."""
    return np.array(
        [any((np.abs(rows - x).max(axis=1) <= distance).any() for rows, distance in groups if len(rows)) for x in X],
        bool,
    )


def local_chance(task: Task, state: TurboState, rows: Array) -> Chance | None:
    """How likely rows are to work, learnt from the nearest of those that did (`rows`) and of those that cannot."""
    told = state.told
    if not len(told.failed):
        return None
    at = told.X[rows[better_first(told.values[rows])[0]]]
    worked, failed = (
        part[np.argsort(np.abs(part - at).sum(axis=1), kind="stable")[:FAILED_ROWS]]
        for part in (told.X[rows], told.failed)
    )
    return Evaluable(fit_region(inputs_of(task), worked, failed).predictor, caution(told.outcomes))
