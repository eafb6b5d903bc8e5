"""Bayesian optimisation with amortised Gaussian processes: hyperparameters integrated out, and nothing fitted for long.

A network proposes hyperparameters, the exact posterior weighs them (`surrogates.amortised`), and what is believed of every
output is a weighted set of exact Gaussian processes. The search is that of `gp`: log expected improvement times the
probability of feasibility, of the mixtures themselves (`bbopt.acquisition.ensemble`), integrated over what noise and pending
points leave open (`bbopt.acquisition.ensemble_draws`), over space and corners of the model. Names of the rules are those of
Yu, Picard, Ahmed 2024 (arXiv 2404.04495). Integrating expected improvement over hyperparameters: Snoek, Larochelle,
Adams 2012, "Practical Bayesian Optimization of Machine Learning Algorithms" (arXiv 1206.2944), section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bbopt.acquisition.constrained import Chance, Rule, incumbents
from bbopt.acquisition.domain import Domain
from bbopt.acquisition.ensemble import EnsembleLogEI
from bbopt.acquisition.ensemble_draws import drawn_ensemble
from bbopt.acquisition.finish import belief_of, corner_candidates
from bbopt.acquisition.search import Effort, Taken, maximise, refine
from bbopt.errors import UsageError
from bbopt.query import Request
from bbopt.strategies.failures import chance_to_work, rough_chance
from bbopt.strategies.gp_state import GPState
from bbopt.strategies.merit import by_merit
from bbopt.strategies.model_based import CENTRES, ModelBased, check_counts
from bbopt.strategies.penalty import penalised_view
from bbopt.strategies.torch_thread import one_torch_thread
from bbopt.task import Task

if TYPE_CHECKING:
    from bbopt.strategies.amortised_model import AmortisedModel

Array = np.ndarray[Any, np.dtype[Any]]
DRAWS = 32
ALONE = Effort(iterations=30)  # of the search for an objective without constraints, screened under one component
TOGETHER = Effort(iterations=20)  # of the search with constraints, under one component per output
STEPS = 8  # of the climbs under all components that follow it
MANY = 32  # components in all, above which corners are sought from the best row alone
MARGINS = (0.0, 1.0, 2.0)  # of corner candidates, in standard deviations of the constraints


@dataclass(frozen=True)
class Amortised(ModelBased):
    """Amortised Gaussian processes with constrained (noisy) log expected improvement.

    initial: rows of the first, space-filling design; None: twice (d + 1), at least 5, at most 50, and at most a quarter
    of `budget`. budget: evaluations planned, used for nothing else. acquisition: "cei"; "cei+", where a constraint that
    holds rather than not is taken to hold; or "penalty", expected improvement of f + rho sum max(0, g)^2. failures: which
    model learns where points cannot work, "distance" (a Gaussian process of the distance to the other kind), "pfn" (a network
    as a classifier) or "tabpfn" (where its weights are on this machine).

    >>> Amortised(initial=20).acquisition
    'cei'
    """

    initial: int | None = None
    budget: int | None = None
    acquisition: Literal["cei", "cei+", "penalty"] = "cei"
    failures: Literal["distance", "pfn", "tabpfn"] = "distance"

    def __post_init__(self) -> None:
        choices = {"acquisition": ("cei", "cei+", "penalty"), "failures": ("distance", "pfn", "tabpfn")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UsageError(f"Amortised: expected {name} of {', '.join(known)}; got {getattr(self, name)!r}")
        check_counts(self)

    def recommend(self, task: Task, state: GPState) -> Array | None:
        """The told row with the best posterior mean among those believed feasible; the least violating one if none is."""
        if not len(state.X):
            return None
        with np.errstate(all="ignore"), self._torch(state):
            from bbopt.strategies.amortised_model import build

            view, seen = self._view(task, state)
            order = _Standing.of(build(view, seen, seen.warm(()), with_region=False), seen).order
        if seen is not state and (feasible := np.asarray((state.values[:, 1:] <= 0.0).all(axis=1))).any():
            order = order[feasible[order]]
        return np.array(state.X[order[0]])

    def _view(self, task: Task, state: GPState) -> tuple[Task, GPState]:
        """What is modelled: the outputs as they are, or the penalised objective alone."""
        return penalised_view(task, state) if self.acquisition == "penalty" else (task, state)

    def _torch(self, state: GPState) -> AbstractContextManager[None]:
        return one_torch_thread("the strategy amortised-gp")

    def _outlook(self, task: Task, state: GPState, request: Request) -> _Outlook:
        from bbopt.strategies.amortised_model import build

        view, seen = self._view(task, state)
        warm = seen.warm(request.open)
        model = build(view, seen, warm, self.failures == "distance")
        tried = np.asarray(warm.get("candidates", np.zeros((0, task.space.dimension))))
        chance = chance_to_work(self.failures, view, seen, model.region) if len(state.failed) else None
        return _Outlook(self, task, seen, model, _Standing.of(model, seen), chance, request.held, tried)


@dataclass(frozen=True, eq=False)
class _Standing:
    """Row numbers (n,) from best to worst, by told values, or by the means believed there of outputs with noise."""

    order: Array

    @classmethod
    def of(cls, model: AmortisedModel, state: GPState) -> _Standing:
        posterior, noisy = model.posterior, model.noisy
        values = posterior.Z
        if noisy.any():
            values = np.where(noisy, posterior.mean_variance(state.X)[0], values)
        holds = np.where(noisy[1:], values[:, 1:] <= 0.0, state.values[:, 1:] <= 0.0).all(axis=1)
        return cls(by_merit(values, np.asarray(holds)))


@dataclass(frozen=True, eq=False)
class _Outlook:
    """Told rows and what is believed after them; tried: see `model_based.Outlook`."""

    strategy: Amortised
    task: Task
    state: GPState
    model: AmortisedModel
    standing: _Standing
    evaluable: Chance | None
    held: Mapping[int, float]
    tried: Array

    def memo(self, tried: Array) -> dict[str, Any]:
        return {**self.model.memo, "candidates": tried}

    def candidates(
        self, score: EnsembleLogEI, domain: Domain, centres: Array, tried: Array, away: Taken, rng: np.random.Generator
    ) -> Array:
        rough, extra = score.rough(rough_chance(score.evaluable)), tried
        many = len(score.ensemble.component) > MANY
        if not self.task.where:
            margins = MARGINS if len(score.limits) else MARGINS[:1]
            belief = belief_of(rough.ensemble.predictor)
            corners = corner_candidates(belief, score.limits, centres[: 1 if many else 2], domain, margins)
            extra = np.concatenate([tried, corners])
        if not len(score.limits) and rough.evaluable is score.evaluable:
            return maximise(score, domain, rng, centres, extra, away, ALONE, rough)[0]
        first, _ = maximise(rough, domain, rng, centres, extra, away, TOGETHER)
        return refine(score, domain, np.concatenate([extra, first]), away, iterations=STEPS)[0]

    def score(self, domain: Domain, pending: Array, rng: np.random.Generator) -> tuple[EnsembleLogEI, Array]:
        model, state, order = self.model, self.state, self.standing.order
        n = len(state.X)
        centres = domain.settle(state.X[order[:CENTRES]], rng)
        ensemble, drawn = drawn_ensemble(model.posterior, model.noisy, pending, DRAWS, rng)
        if self.held:  # the best known under these values, not the best of all
            here = domain.settle(np.concatenate([state.X[order[:200]], pending]), rng)
            drawn = ensemble.means(here)
        feasible = np.asarray((drawn[1:] <= 0.0).all(axis=0))
        if not self.held and not model.noisy[1:].any():
            feasible[:n] = np.asarray((state.values[:, 1:] <= 0.0).all(axis=1))[:, None]
        rule: Rule = "cei+" if self.strategy.acquisition == "cei+" else "cei"
        best = incumbents(drawn[0], feasible)
        return EnsembleLogEI(ensemble, best, np.zeros(len(drawn) - 1), self.evaluable, rule=rule), centres
