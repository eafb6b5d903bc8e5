"""Designs of little risk, as a model of designs and environments sees it: the pool of an ask, and the one to be named in the end."""

from __future__ import annotations

from typing import Any

import numpy as np

from bbopt.acquisition.domain import Domain
from bbopt.acquisition.search import around
from bbopt.strategies.environment_model import EnvironmentModel

Array = np.ndarray[Any, np.dtype[Any]]
CENTRES = 3  # best designs around which others are sought
NEAR = 6  # others for each of these and each scale
ROUNDS, FINAL_ROUNDS = 2, 6
JUDGED = 32  # designs whose risk is not taken from the mean of the model alone


def pool_of(
    model: EnvironmentModel, domain: Domain, starts: Array, spread: int, rounds: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """(p, d) different designs and (p,) their rough risks, least first: `starts`, `spread` others and what is near the best."""
    columns = model.nature.columns
    pool = distinct(np.concatenate([domain.settle(starts, rng), domain.sample(spread, rng)]), columns)
    risks = model.rough(pool)
    for _ in range(rounds):
        best = np.argsort(risks, kind="stable")[:CENTRES]
        near = distinct(around(pool[best], domain, NEAR, rng), columns)
        pool, risks = np.concatenate([pool, near]), np.concatenate([risks, model.rough(near)])
    kept = first_of(pool, columns)
    order = kept[np.argsort(risks[kept], kind="stable")]
    return pool[order], risks[order]


def best_design(model: EnvironmentModel, domain: Domain, told: Array, rng: np.random.Generator) -> Array:
    """(d,) the design of least posterior mean of the risk, its environment columns without meaning."""
    columns = model.nature.columns
    pool, _ = pool_of(model, domain, told, 256, FINAL_ROUNDS, rng)
    chosen = distinct(np.concatenate([pool[:JUDGED], told[:JUDGED]]), columns)
    risks, _ = model.outlook(chosen)
    for _ in range(ROUNDS):
        near = distinct(around(chosen[[risks.argmin()]], domain, NEAR, rng), columns)
        chosen, risks = np.concatenate([chosen, near]), np.concatenate([risks, model.outlook(near)[0]])
    return np.array(chosen[risks.argmin()])


def first_of(rows: Array, columns: Array) -> Array:
    """Places of the rows that are the first of their design; columns: those of the environment.

    >>> first_of(np.array([[0.1, 0.3], [0.2, 0.3], [0.1, 0.9]]), np.array([1])).tolist()
    [0, 1]
    """
    bare = np.array(rows)
    bare[:, columns] = 0.0
    return np.sort(np.unique(bare, axis=0, return_index=True)[1])


def distinct(rows: Array, columns: Array) -> Array:
    """The rows that are the first of their design."""
    return np.asarray(rows[first_of(rows, columns)])
