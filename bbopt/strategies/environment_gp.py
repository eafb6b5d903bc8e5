"""Designs for an environment that nature draws: the least mean, VaR, CVaR or worst case, from evaluations in chosen environments.

A Gaussian process over designs and environments gives every design a posterior of its risk (`environment_model`); the next
evaluation is the design and the environment that are worth most for the design of least risk
(`bbopt.acquisition.environment`). References there and in Frazier 2018 (arXiv 1807.02811), section 6.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bbopt.acquisition.domain import Domain
from bbopt.acquisition.environment import RiskGain
from bbopt.acquisition.search import Effort, Taken, maximise
from bbopt.deadline import Deadline
from bbopt.query import Key, Query, Request
from bbopt.strategies.blas_thread import one_blas_thread
from bbopt.strategies.environment_model import SEED, EnvironmentModel, build
from bbopt.strategies.environment_search import ROUNDS, best_design, distinct, first_of, pool_of
from bbopt.strategies.failures import chance_to_work
from bbopt.strategies.gp import GP
from bbopt.strategies.gp_domain import domain_of
from bbopt.strategies.gp_state import GPState
from bbopt.strategies.haste import fits_in
from bbopt.strategies.model_based import CENTRES, ModelBased, Outlook, check_counts
from bbopt.task import Task
from surrogates.integrated import at_environments

Array = np.ndarray[Any, np.dtype[Any]]
TOLD = 48  # told designs, the best ones, among which the best is sought after the next evaluation
SOUGHT, ANY = 32, 32  # others: of least risk as the model has it now, and any
SPREAD = 192  # designs all over the space from which these come
PAIRED = 6  # best designs that are tried in the environments that matter to them
EFFORT = Effort(raw=384, around=12, starts=5, iterations=25)
NEIGHBOURS = 12  # such environments


@dataclass(frozen=True)
class EnvironmentGP(ModelBased):
    """Gaussian process over designs and environments, for objectives over what nature draws.

    initial: rows of the first, space-filling design, whose environments follow nature's distribution; None: as `gp`.
    budget: evaluations planned, used for nothing else. A task without environment parameters is treated as `gp` does. Rows
    that cannot work teach where not to evaluate; that a design fails in some environments does not count against it.

    >>> EnvironmentGP(initial=12)
    EnvironmentGP(initial=12, budget=None)
    """

    initial: int | None = None
    budget: int | None = None

    handles: ClassVar[frozenset[str]] = frozenset(
        {"environment", "noise", "fixed", "context", "categorical", "conditional"}
    )

    def __post_init__(self) -> None:
        check_counts(self)

    @property
    def _plain(self) -> GP:
        return GP(self.initial, self.budget)

    def ask(self, task: Task, state: GPState, request: Request, key: Key) -> Query:
        return (
            super().ask(task, state, request, key) if task.environment else self._plain.ask(task, state, request, key)
        )

    def recommend(self, task: Task, state: GPState) -> Array | None:
        """The told row whose design has the least posterior mean of its risk."""
        if not task.environment:
            return self._plain.recommend(task, state)
        if not len(state.X):
            return None
        with np.errstate(all="ignore"), one_blas_thread():
            model = build(task, state, state.warm(()), with_region=False, hurried=False)
            order = _told_designs(model, state)
        return np.array(state.X[order[0]])

    def judge(self, task: Task, state: GPState) -> tuple[Array, float, float] | None:
        """The design of least posterior mean of its risk among all, told or not, with that mean and its standard deviation."""
        if not len(state.X):
            return None
        with np.errstate(all="ignore"), one_blas_thread():
            model = build(task, state, state.warm(()), with_region=False, hurried=False)
            told = state.X[_told_designs(model, state)[:TOLD]]
            row = best_design(model, domain_of(task, {}), told, np.random.default_rng(SEED))
            mean, sd = model.believed(row[None])
            return row, float(model.warp.inverse(mean)[0]), float(sd[0] * model.warp.factor)

    def _torch(self, state: GPState) -> AbstractContextManager[None]:
        return nullcontext()

    def _affords_model(self, task: Task, state: GPState, deadline: Deadline | None) -> bool:
        return fits_in(deadline, len(state.X), 1, refit=False)

    def _outlook(self, task: Task, state: GPState, request: Request) -> Outlook:
        warm = state.warm(request.open)
        hurried = not fits_in(request.deadline, len(state.X), 1, refit=True)
        model = build(task, state, warm, with_region=True, hurried=hurried)
        tried = np.asarray(warm.get("candidates", np.zeros((0, task.space.dimension))))
        return _Outlook(task, state, model, request.held, tried)


@dataclass(frozen=True, eq=False)
class _Outlook:
    """Told rows with their posterior; tried: see `model_based.Outlook`."""

    task: Task
    state: GPState
    model: EnvironmentModel
    held: Mapping[int, float]
    tried: Array

    def memo(self, tried: Array) -> dict[str, Any]:
        return {**self.model.memo, "candidates": tried}

    def score(self, domain: Domain, pending: Array, rng: np.random.Generator) -> tuple[RiskGain, Array]:
        model, columns = self.model.given(pending), self.model.nature.columns
        told = self.state.X[_told_designs(model, self.state)[:TOLD]]
        told = distinct(np.concatenate([domain.settle(told, rng), pending]), columns)
        pool, _ = pool_of(model, domain, np.concatenate([told, self.tried]), SPREAD, ROUNDS, rng)
        some = SOUGHT + rng.permutation(max(len(pool) - SOUGHT, 0))[:ANY]
        designs = distinct(np.concatenate([told, pool[:SOUGHT], pool[some]]), columns)
        risks, functionals = model.outlook(designs)
        region = chance_to_work("distance", self.task, self.state, model.region) if len(self.state.failed) else None
        best = np.argsort(risks, kind="stable")[:PAIRED]
        nodes = model.nature.nodes[rng.permutation(len(model.nature.nodes))[:NEIGHBOURS]]
        pairs = domain.settle(at_environments(designs[best], columns, nodes), rng)
        score = RiskGain(functionals, risks, model.noise, region)
        return score, pairs[np.argsort(-score.screen.value(pairs), kind="stable")[:CENTRES]]

    def candidates(
        self, score: RiskGain, domain: Domain, centres: Array, tried: Array, away: Taken, rng: np.random.Generator
    ) -> Array:
        return maximise(score, domain, rng, centres, tried, away, EFFORT, score.screen)[0]


def _told_designs(model: EnvironmentModel, state: GPState) -> Array:
    """Numbers of told rows with different designs, the least risk first."""
    first = first_of(state.X, model.nature.columns)
    risks = model.rough(state.X[first])
    order = first[np.argsort(risks, kind="stable")]
    head = order[:TOLD]
    return np.concatenate([head[np.argsort(model.outlook(state.X[head])[0], kind="stable")], order[TOLD:]])
