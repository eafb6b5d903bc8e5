"""Points that cannot work: the models that learn where they lie, for every strategy with a model of its own."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from bbopt.acquisition.constrained import Chance, Evaluable
from bbopt.query import Key, Request
from bbopt.strategies.gp_domain import domain_of
from bbopt.strategies.gp_model import inputs_of
from bbopt.strategies.gp_state import GPState
from bbopt.task import Task
from surrogates.gp import GaussianProcess
from surrogates.region import fit_region

Array = np.ndarray[Any, np.dtype[Any]]
Kind = Literal["distance", "pfn", "tabpfn"]
CAUTION = 0.35  # standard deviations per failure
MOST_CAUTION = 3.0


def chance_to_work(kind: Kind, task: Task, state: GPState, region: GaussianProcess | None = None) -> Chance:
    """The logarithm of the probability that a point works, as a term of a score; `region`: the distance model if made."""
    inputs, floor = inputs_of(task), caution(state.outcomes)
    if kind == "distance":
        made = region or fit_region(inputs, state.X, state.failed)
        return Evaluable(made.predictor, floor)
    from bbopt.acquisition.class_chance import ClassChance, NetworkChance

    rows = np.concatenate([state.X, state.failed])
    works = np.concatenate([np.ones(len(state.X), int), np.zeros(len(state.failed), int)])
    if kind == "pfn":
        from surrogates.pfn.classify import fit_classes

        return NetworkChance(fit_classes(inputs, rows, works), floor)
    from surrogates.tabpfn import fit_tabpfn_classes

    return ClassChance(fit_tabpfn_classes(inputs, rows, works), floor)


def rough_chance(chance: Chance | None) -> Chance | None:
    """A cheaper stand-in for the first of two searches, where there is one."""
    make = getattr(chance, "rough", None)
    cheaper: Chance | None = chance if make is None else make()
    return cheaper


def caution(outcomes: Array) -> float:
    """How sure of a point, in standard deviations, the model of the failing region must be.

    Each failure asks for more and each success for less, in a ratio that settles at one failure in eleven answers.

    >>> caution(np.array([True, True])), caution(np.array([False] * 5))
    (0.7, 0.0)
    """
    floor = 0.0
    for failed in outcomes:
        floor = min(max(floor + (CAUTION if failed else -CAUTION / 10.0), 0.0), MOST_CAUTION)
    return floor


def rows_away(task: Task, state: GPState, request: Request, key: Key, n: int, pending: Array) -> Array:
    """While every answer was a failure: random rows that are likely to work and far from each other."""
    domain, rng = domain_of(task, request.held), key.rng("away")
    region = Evaluable(fit_region(inputs_of(task), state.X, state.failed).predictor)
    rows = domain.sample(max(256, 4 * n), rng)
    known = np.concatenate([state.failed, pending])
    chosen = []
    for _ in range(n):
        distance = np.sqrt(((rows[:, None, :] - known[None]) ** 2).sum(axis=2)).min(axis=1)
        merit = region.log_chance(rows, False)[0] + np.log(np.maximum(distance, 1e-300))
        chosen.append(rows[int(merit.argmax())])
        known = np.concatenate([known, chosen[-1][None]])
    return np.array(chosen)
