"""Bayesian optimisation with a prior-data fitted network: no fitting, one pass for the objective and all constraints.

The network (`surrogates.pfn`) reads the told rows and predicts all outputs at once; candidates are screened by its kernel
regressions, then by the network, and the best are refined along gradients through it. Rules for choosing, by the names of
Yu, Picard, Ahmed 2024 (arXiv 2404.04495): `cei` and `cei+` (`bbopt.acquisition.mixture_ei`) and `penalty`, expected
improvement of f + rho sum max(0, g)^2 with rho growing while the search stalls. Differences from the paper: the incumbent
is the best feasible value, everything is in logarithms, outputs are warped by evidence and not by Yeo-Johnson, candidates
are refined; `search="random"` is the paper's search, the best of 1000 uniform points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from bbopt.errors import UsageError
from bbopt.query import Answer, Key, Query, Request
from bbopt.strategies.gp_domain import design_size, domain_of, finite_points, spread_rows
from bbopt.strategies.gp_state import GPState
from bbopt.strategies.merit import by_merit, taken
from bbopt.strategies.penalty import penalised
from bbopt.strategies.torch_thread import one_torch_thread
from bbopt.task import Task

if TYPE_CHECKING:
    from bbopt.acquisition.constrained import Chance
    from bbopt.acquisition.domain import Domain
    from bbopt.acquisition.mixture_ei import MixtureEI
    from bbopt.strategies.pfn_model import PFNModel
    from surrogates.pfn.posterior import PFNPosterior

Array = np.ndarray[Any, np.dtype[Any]]
NEAR = 1e-7  # encoded distance, in the widest column, below which a point counts as told already
NEAR_PENDING = 2e-3
CENTRES = 3
RANDOM_CANDIDATES = 1000


@dataclass(frozen=True)
class PFN:
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

    handles: ClassVar[frozenset[str]] = frozenset(
        {"constraints", "noise", "fixed", "context", "categorical", "conditional"}
    )
    learns: ClassVar[Literal["rows", "queries"]] = "rows"
    instant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        choices = {
            "acquisition": ("cei", "cei+", "penalty"), "search": ("refined", "random"), "batch": ("mean", "sample"),
            "failures": ("distance", "pfn", "tabpfn"),
        }  # fmt: skip
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UsageError(f"PFN: expected {name} of {', '.join(known)}; got {getattr(self, name)!r}")
        for name in ("initial", "budget"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UsageError(f"PFN: expected {name} as a whole number of at least 1, or None; got {value!r}")

    def init(self, task: Task, key: Key) -> GPState:
        return GPState.empty(task)

    def ask(self, task: Task, state: GPState, request: Request, key: Key) -> Query:
        with np.errstate(all="ignore"):
            spread = min(max(design_size(task, self.initial, self.budget) - request.number, 0), request.n)
            rows, memo = [spread_rows(task, request, key, spread)], {"design": spread}
            if spread < request.n:
                more, memo = self._modelled(task, state, request, key, request.n - spread, rows[0])
                rows.append(more)
        return Query(np.concatenate(rows), memo)

    def tell(self, task: Task, state: GPState, query: Query, answer: Answer) -> GPState:
        return state.after(query, answer)

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

    def _modelled(
        self, task: Task, state: GPState, request: Request, key: Key, n: int, before: Array
    ) -> tuple[Array, dict[str, Any]]:
        if not len(state.X):
            if not len(state.failed):
                return spread_rows(task, request, key, n, len(before)), {}
            from bbopt.strategies.failures import rows_away

            return rows_away(task, state, request, key, n, np.concatenate([request.pending, before])), {}
        with one_torch_thread("the strategy pfn"):
            return self._search(task, state, request, key, n, np.concatenate([request.pending, before]))

    def _model(self, task: Task, state: GPState, open_queries: tuple[Query, ...]) -> PFNModel:
        from bbopt.strategies.pfn_model import build

        values = state.values
        if self.acquisition == "penalty":
            values = penalised(values)
        order = by_merit(state.values, _satisfied(state.values))
        return build(task, values, state, order, state.warm(open_queries))

    def _search(
        self, task: Task, state: GPState, request: Request, key: Key, n: int, pending: Array
    ) -> tuple[Array, dict[str, Any]]:
        from bbopt.acquisition.constrained import ConstrainedLogEI
        from bbopt.acquisition.finish import belief_of, corner_candidates
        from bbopt.acquisition.search import enumerate_best, maximise, refine
        from bbopt.strategies.failures import chance_to_work, rough_chance
        from surrogates.pfn.kernel_belief import KernelBelief

        model = self._model(task, state, request.open)
        domain, points = domain_of(task, request.held), finite_points(task, request.held)
        told = state.failed if task.noisy else np.concatenate([state.X, state.failed])
        standing = _Standing.of(task, state, model)
        evaluable = chance_to_work(self.failures, task, state) if len(state.failed) else None
        rows: list[Array] = []
        posterior, answered = model.posterior, 0
        for i in range(n):
            rng = key.rng(f"search {i}")
            new = pending[answered:]
            if len(new):
                guess = posterior.sample(new, 1, rng)[0] if self.batch == "sample" else posterior.mean_variance(new)[0]
                posterior, answered = posterior.given(new, guess), len(pending)
            centres = domain.settle(state.X[standing.order[:CENTRES]], rng)
            score = self._score(state, standing, posterior, request, domain, evaluable, rng)
            away = partial(taken, groups=((told, NEAR), (pending, NEAR_PENDING)))
            if points is not None:
                avoid = told if task.noisy else np.concatenate([told, pending])
                found, _ = enumerate_best(score, points, partial(taken, groups=((avoid, 0.0),)))
            elif self.search == "random":
                found, _ = enumerate_best(score, domain.sample(RANDOM_CANDIDATES, rng), away)
            else:
                belief = KernelBelief.of(posterior.inputs, posterior.anchors)
                limits, best = score.limits.numpy(), np.nan if score.best is None else score.best
                rough = ConstrainedLogEI(
                    belief, np.array([best]), limits, rough_chance(score.evaluable), rule=score.rule
                )
                extra = centres[:0]
                if not task.where:
                    extra = corner_candidates(belief_of(belief), limits, centres[:2], domain)
                first, _ = maximise(rough, domain, rng, centres, extra, away)
                found, _ = refine(score, domain, np.concatenate([extra, first]), away)
            if not len(found):
                found = domain.sample(1, rng)
            rows.append(found[0])
            pending = np.concatenate([pending, found[:1]])
        return np.array(rows), model.memo

    def _score(
        self, state: GPState, standing: _Standing, posterior: PFNPosterior, request: Request, domain: Domain,
        evaluable: Chance | None, rng: np.random.Generator,
    ) -> MixtureEI:  # fmt: skip
        import torch

        from bbopt.acquisition.mixture_ei import MixtureEI

        outputs = posterior.outputs
        zero = torch.from_numpy(posterior.standardised(np.zeros((1, outputs)))[0])
        best: float | None = None
        if request.held:  # the best believed under these values, not the best of all
            here = domain.settle(state.X[standing.order[:100]], rng)
            mean = posterior.mean_variance(here)[0]
            fits = (posterior.log_probability_below(here, np.zeros(outputs))[:, 1:] >= np.log(0.5)).all(axis=1)
            if fits.any():
                best = float(posterior.standardised(mean)[fits, 0].min())
        elif standing.holds.any():
            best = float(posterior.standardised(standing.values[standing.order[:1]])[0, 0])
        rule: Literal["cei", "cei+"] = "cei+" if self.acquisition == "cei+" else "cei"
        return MixtureEI(posterior, best, zero[1:], rule, evaluable)


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
