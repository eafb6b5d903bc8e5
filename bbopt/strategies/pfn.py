"""Bayesian optimisation with a prior-data fitted network: no fitting, one pass for the objective and all constraints.

The network (`surrogates.pfn`) reads the told rows and predicts all outputs at once; candidates are screened by its kernel
regressions, then by the network, and the best are refined along gradients through it. Rules for choosing, by the names of
Yu, Picard, Ahmed 2024 (arXiv 2404.04495): `cei` and `cei+` (`bbopt.acquisition.mixture_ei`) and `penalty`, expected
improvement of f + rho sum max(0, g)^2 with rho growing while the search stalls. Differences from the paper: the incumbent
is the best feasible value, everything is in logarithms, outputs are warped by evidence and not by Yeo-Johnson, candidates
are refined; `search="random"` is the paper's search, the best of 1000 uniform points.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bbopt.errors import UsageError
from bbopt.query import Query, Request
from bbopt.strategies.gp_state import GPState
from bbopt.strategies.merit import by_merit
from bbopt.strategies.model_based import CENTRES, ModelBased, check_counts
from bbopt.strategies.penalty import penalised
from bbopt.strategies.torch_thread import one_torch_thread
from bbopt.task import Task

if TYPE_CHECKING:
    from bbopt.acquisition.constrained import Chance
    from bbopt.acquisition.domain import Domain
    from bbopt.acquisition.mixture_ei import MixtureEI
    from bbopt.acquisition.search import Taken
    from bbopt.strategies.pfn_model import PFNModel
    from surrogates.pfn.posterior import PFNPosterior

Array = np.ndarray[Any, np.dtype[Any]]
RANDOM_CANDIDATES = 1000


@dataclass(frozen=True)
class PFN(ModelBased):
    """Prior-data fitted network with constrained log expected improvement.

    initial: rows of the first, space-filling design; None: twice (d + 1), at least 5, at most 50, and at most a quarter
    of `budget`. budget: evaluations planned, used for nothing else. acquisition: "cei", "cei+" or "penalty". search:
    "refined" or "random". batch: what pending points are taken to answer, "mean" of the belief or a "sample" of it.
    failures: which model learns where points cannot work, "distance" (a Gaussian process of the distance to the other
    kind), "pfn" (this network as a classifier) or "tabpfn" (where its weights are on this machine).

    >>> PFN(acquisition="cei+").search
    'refined'
    """

    initial: int | None = None
    budget: int | None = None
    acquisition: Literal["cei", "cei+", "penalty"] = "cei"
    search: Literal["refined", "random"] = "refined"
    batch: Literal["mean", "sample"] = "mean"
    failures: Literal["distance", "pfn", "tabpfn"] = "distance"

    def __post_init__(self) -> None:
        choices = {
            "acquisition": ("cei", "cei+", "penalty"), "search": ("refined", "random"), "batch": ("mean", "sample"),
            "failures": ("distance", "pfn", "tabpfn"),
        }  # fmt: skip
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UsageError(f"PFN: expected {name} of {', '.join(known)}; got {getattr(self, name)!r}")
        check_counts(self)

    def recommend(self, task: Task, state: GPState) -> Array | None:
        """The told row with the best predicted mean among those believed feasible; the least violating one if none is."""
        if not len(state.X):
            return None
        with np.errstate(all="ignore"), one_torch_thread("the strategy pfn"):
            model = self._model(task, state, ())
            order = _Standing.of(task, state, model).order
        if self.acquisition == "penalty" and (feasible := _satisfied(state.values)).any():
            order = order[feasible[order]]
        return np.array(state.X[order[0]])

    def _torch(self, state: GPState) -> AbstractContextManager[None]:
        return one_torch_thread("the strategy pfn")

    def _outlook(self, task: Task, state: GPState, request: Request) -> _Outlook:
        from bbopt.strategies.failures import chance_to_work

        model = self._model(task, state, request.open)
        standing = _Standing.of(task, state, model)
        evaluable = chance_to_work(self.failures, task, state) if len(state.failed) else None
        return _Outlook(self, task, state, model, standing, evaluable, request.held, model.posterior)

    def _model(self, task: Task, state: GPState, open_queries: tuple[Query, ...]) -> PFNModel:
        from bbopt.strategies.pfn_model import build

        values = state.values
        if self.acquisition == "penalty":
            values = penalised(values)
        order = by_merit(state.values, _satisfied(state.values))
        return build(task, values, state, order, state.warm(open_queries))


@dataclass(eq=False)
class _Outlook:
    """Told rows and what the network believes of them; `posterior` also believes answers to the first `answered` points that
    are out.
    """

    pfn: PFN
    task: Task
    state: GPState
    model: PFNModel
    standing: _Standing
    evaluable: Chance | None
    held: Mapping[int, float]
    posterior: PFNPosterior
    answered: int = 0

    @property
    def tried(self) -> Array:
        return np.zeros((0, self.task.space.dimension))

    def memo(self, tried: Array) -> dict[str, Any]:
        return self.model.memo

    def candidates(
        self, score: MixtureEI, domain: Domain, centres: Array, tried: Array, away: Taken, rng: np.random.Generator
    ) -> Array:
        from bbopt.acquisition.constrained import ConstrainedLogEI
        from bbopt.acquisition.finish import belief_of, corner_candidates
        from bbopt.acquisition.search import enumerate_best, maximise, refine
        from bbopt.strategies.failures import rough_chance
        from surrogates.pfn.kernel_belief import KernelBelief

        if self.pfn.search == "random":
            return enumerate_best(score, domain.sample(RANDOM_CANDIDATES, rng), away)[0]
        belief = KernelBelief.of(self.posterior.inputs, self.posterior.anchors)
        limits, best = score.limits.numpy(), np.nan if score.best is None else score.best
        rough = ConstrainedLogEI(belief, np.array([best]), limits, rough_chance(score.evaluable), rule=score.rule)
        extra = centres[:0]
        if not self.task.where:
            extra = corner_candidates(belief_of(belief), limits, centres[:2], domain)
        first, _ = maximise(rough, domain, rng, centres, extra, away)
        return refine(score, domain, np.concatenate([extra, first]), away)[0]

    def score(self, domain: Domain, pending: Array, rng: np.random.Generator) -> tuple[MixtureEI, Array]:
        import torch

        from bbopt.acquisition.mixture_ei import MixtureEI

        new = pending[self.answered :]
        if len(new):
            sampled = self.pfn.batch == "sample"
            guess = self.posterior.sample(new, 1, rng)[0] if sampled else self.posterior.mean_variance(new)[0]
            self.posterior, self.answered = self.posterior.given(new, guess), len(pending)
        standing, posterior, outputs = self.standing, self.posterior, self.posterior.outputs
        centres = domain.settle(self.state.X[standing.order[:CENTRES]], rng)
        zero = torch.from_numpy(posterior.standardised(np.zeros((1, outputs)))[0])
        best: float | None = None
        if self.held:  # the best believed under these values, not the best of all
            here = domain.settle(self.state.X[standing.order[:100]], rng)
            mean = posterior.mean_variance(here)[0]
            fits = (posterior.log_probability_below(here, np.zeros(outputs))[:, 1:] >= np.log(0.5)).all(axis=1)
            if fits.any():
                best = float(posterior.standardised(mean)[fits, 0].min())
        elif standing.holds.any():
            best = float(posterior.standardised(standing.values[standing.order[:1]])[0, 0])
        rule: Literal["cei", "cei+"] = "cei+" if self.pfn.acquisition == "cei+" else "cei"
        return MixtureEI(posterior, best, zero[1:], rule, self.evaluable), centres


@dataclass(frozen=True, eq=False)
class _Standing:
    """How the told rows compare: (n, m) warped values, told ones or, where outputs are noisy, the means believed there;
    (n,) row numbers from best to worst; (n,) which rows hold all constraints, by the same values.
    """

    values: Array
    order: Array
    holds: Array

    @classmethod
    def of(cls, task: Task, state: GPState, model: PFNModel) -> _Standing:
        values = model.posterior.mean_variance(state.X)[0] if task.noisy else model.values
        single = values.shape[1] == 1  # no constraints, or they are in the objective as a penalty
        holds: Array = np.ones(len(values), bool) if single else _satisfied(values if task.noisy else state.values)
        return cls(values, by_merit(values, holds), holds)


def _satisfied(values: Array) -> Array:
    """(n,) whether all constraints hold by their values."""
    return np.asarray((values[:, 1:] <= 0.0).all(axis=1))
