"""Bayesian optimisation with Gaussian processes: one objective, constraints, noise, failures, pending points.

The method: a Gaussian process per output (BoTorch's current model, see `surrogates.map_fit`), outputs warped where the
data ask for it (`surrogates.warps`); log expected improvement times the probability of feasibility, integrated over what
noise and pending points leave open (`bbopt.acquisition.constrained`); while nothing feasible is known, the probability
of feasibility alone. By the names of Yu, Picard, Ahmed 2024 (arXiv 2404.04495) that is CEI; their CEI+ and their penalty are
options (`bbopt.acquisition.constrained`, `bbopt.strategies.penalty`). Candidates near the constrained optimum of the model itself give the last digits
(`bbopt.acquisition.finish`). Over continuous boxes the search begins around the centre and goes on in a trust region around the
best row, with a model of its own, until that has become small; then every other row is sought elsewhere
(`bbopt.strategies.nearby`). References: Frazier 2018 (arXiv 1807.02811), Gardner et al. 2014 (ICML), Letham et al. 2019
(arXiv 1706.07094), Ament et al. 2023 (arXiv 2310.20708), Hvarfner et al. 2024 (arXiv 2402.02229).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np

from bbopt.acquisition.constrained import ConstrainedLogEI, Rule, incumbents
from bbopt.acquisition.domain import Domain
from bbopt.acquisition.finish import belief_of, corner_candidates
from bbopt.acquisition.local_penalty import LocalPenalty
from bbopt.acquisition.menu import OF_VALUES, OTHERS, OneShot, Scene, check_task, gain_of, parse, score_of
from bbopt.acquisition.pending import BATCHES, Batch, given_pending
from bbopt.acquisition.search import Score, Taken, maximise, refine
from bbopt.acquisition.thompson import PathScore
from bbopt.deadline import Deadline
from bbopt.earlier_data import encode_earlier
from bbopt.errors import UsageError
from bbopt.query import Key, Request
from bbopt.strategies.blas_thread import one_blas_thread
from bbopt.strategies.failures import chance_to_work, rough_chance
from bbopt.strategies.gp_domain import design_size, spread_rows
from bbopt.strategies.gp_earlier import check_option, rows_from_earlier
from bbopt.strategies.gp_inputs import check_inputs
from bbopt.strategies.gp_local import Far, Near, Turns, local_model, smooth, start_of
from bbopt.strategies.gp_model import Model, build
from bbopt.strategies.gp_noise import NOISE_MODELS, NoiseModel, believed, check_noise
from bbopt.strategies.gp_state import GPState
from bbopt.strategies.gp_terms import Cost, believed_first, read_belief, with_terms
from bbopt.strategies.haste import fits_in
from bbopt.strategies.local_start import centred_rows, simplex_rows
from bbopt.strategies.merit import by_merit
from bbopt.strategies.model_based import CENTRES, ModelBased, Outlook, check_counts
from bbopt.strategies.nearby import nearby
from bbopt.strategies.penalty import penalised_view
from bbopt.strategies.torch_thread import one_torch_thread
from bbopt.task import Task
from surrogates.paths import draw_paths, of_values
from surrogates.saas import Lengthscales

Array = np.ndarray[Any, np.dtype[Any]]
DRAWS = 32


@dataclass(frozen=True)
class GP(ModelBased):
    """Gaussian process with constrained (noisy) log expected improvement.

    initial: rows of the first, space-filling design; None: twice (d + 1), at least 5, at most 50, and at most a quarter
    of `budget`; d + 1 around the centre where the search is local. budget: evaluations planned. kernel: "rbf" or "matern52". acquisition: "logei";
    "cei+", where a constraint that holds rather than not is taken to hold; "penalty", expected improvement of
    f + rho sum max(0, g)^2 (without constraints these three are the same); or another of those in `bbopt.acquisition.menu`,
    which seek every row in the whole box. failures: which model learns where points cannot work, "distance" (a Gaussian process of the distance to the other kind), "pfn" (the
    network as a classifier) or "tabpfn" (where its weights are on this machine). batch: what is assumed of points that are
    out, so that several asks do not go to one place (`bbopt.acquisition.pending`). Derivatives that are told with values
    become part of the model (`bbopt.strategies.gp_slopes`). lengthscales: "dimension", a prior that grows with the number of
    columns, or "sparse", for many columns of which few matter (`surrogates.saas`). search: "local" begins around the centre of
    the box and stays near the best row while that pays (`bbopt.strategies.gp_local`), where all columns are continuous and
    values exact; "whole" seeks every row in the whole box. Other than default acquisitions and batches always do the latter. noise: of outputs whose noise the task declares: "plain", one variance where it is unknown; "heteroscedastic",
    where it is unknown, one that may depend on the point (`surrogates.heteroscedastic`); "outliers", for values some of which are wrong
    altogether (`surrogates.relevance_pursuit`). With the latter two, derivatives are left out.
    inputs: "warped" for a learnt warp of every number (`surrogates.input_warp`); derivatives are left out then, too.
    earlier: what `bbopt.earlier` gives of studies of similar tasks (`bbopt.strategies.gp_earlier`): the first rows are their best
    ones; once derivatives are told they are left out. Values of a categorical context may become tasks
    (`bbopt.strategies.gp_tasks`). belief: where the optimum is thought to be, {'x': [centre, spread]} in the parameter's units or
    {'steel': {'S355': 3, 'S235': 1}}; its weight fades with the told rows. cost: "told" divides the gain by what a point is expected
    to cost, by the costs told so far, less and less as `budget` is used up (`bbopt.acquisition.terms`).

    >>> GP(initial=20)
    GP(initial=20, budget=None, kernel='rbf', acquisition='logei', failures='distance', batch='greedy', lengthscales='dimension', search='local', noise='plain', inputs='plain', cost='ignored')
    """

    gradients: ClassVar[bool] = True

    initial: int | None = None
    budget: int | None = None
    kernel: Literal["rbf", "matern52"] = "rbf"
    acquisition: str = "logei"
    failures: Literal["distance", "pfn", "tabpfn"] = "distance"
    batch: Batch = "greedy"
    lengthscales: Lengthscales = "dimension"
    search: Literal["local", "whole"] = "local"
    noise: NoiseModel = "plain"
    inputs: Literal["plain", "warped"] = "plain"
    belief: Mapping[str, Any] = field(default_factory=dict, repr=False)
    cost: Cost = "ignored"
    earlier: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.kernel not in ("rbf", "matern52"):
            raise UsageError(f"GP: expected kernel 'rbf' or 'matern52', got {self.kernel!r}")
        name, _ = parse(self.acquisition)
        if self.failures not in ("distance", "pfn", "tabpfn"):
            raise UsageError(f"GP: expected failures 'distance', 'pfn' or 'tabpfn', got {self.failures!r}")
        if self.lengthscales not in ("dimension", "sparse"):
            raise UsageError(f"GP: expected lengthscales 'dimension' or 'sparse', got {self.lengthscales!r}")
        if self.search not in ("local", "whole"):
            raise UsageError(f"GP: expected search 'local' or 'whole', got {self.search!r}")
        if self.batch not in BATCHES:
            raise UsageError(f"GP: expected batch {', '.join(BATCHES)}; got {self.batch!r}")
        if self.batch != "greedy" and self.acquisition not in ("logei", "cei+", "penalty"):
            raise UsageError(
                f"GP: batch {self.batch!r} goes with acquisition 'logei', 'cei+' or 'penalty', got {self.acquisition!r}"
            )
        if self.noise not in NOISE_MODELS:
            raise UsageError(f"GP: expected noise {', '.join(NOISE_MODELS)}; got {self.noise!r}")
        check_inputs(self.inputs, self.batch, bool(self.earlier), self.lengthscales)
        if self.inputs == "warped" and name in OF_VALUES:
            raise UsageError(f"GP: inputs 'warped' do not go with acquisition {self.acquisition!r}")
        if self.noise != "plain" and (self.earlier or self.acquisition == "penalty"):
            raise UsageError(
                f"GP: noise {self.noise!r} goes neither with earlier studies nor with acquisition 'penalty'"
            )
        if self.cost not in ("ignored", "told"):
            raise UsageError(f"GP: expected cost 'ignored' or 'told', got {self.cost!r}")
        if (self.belief or self.cost == "told") and "thompson" in (name, self.batch):
            raise UsageError("GP: belief and cost='told' weigh the logarithm of a gain, which 'thompson' does not have")
        check_counts(self)
        check_option(self)

    def init(self, task: Task, key: Key) -> GPState:
        check_noise(self.noise, task)
        check_task(self.acquisition, task.c, smooth(task))
        read_belief(task, self.belief)
        return replace(super().init(task, key), earlier=tuple(encode_earlier(task, data) for data in self.earlier))

    def recommend(self, task: Task, state: GPState) -> Array | None:
        """The told row with the best posterior mean among those believed feasible; the least violating one if none is."""
        if not len(state.X):
            return None
        with np.errstate(all="ignore"):
            seen_task, seen = self._view(task, state)
            warm = seen.warm(())
            options = self.lengthscales, self.noise, self.inputs == "warped"
            model = build(seen_task, seen, warm, self.kernel, False, False, *options)
            values = np.where(model.noisy, model.gp.mean_variance(seen.X)[0], model.gp.Z)
            order = by_merit(values, _holds(model, seen, values))
        if seen is not state and (feasible := np.asarray((state.values[:, 1:] <= 0.0).all(axis=1))).any():
            order = order[feasible[order]]
        return np.array(state.X[order[0]])

    def predict(self, task: Task, state: GPState, X: Array) -> tuple[Array, Array] | None:
        """(q, 1 + c) means and standard deviations of the outputs at (q, D) rows (see `bbopt.strategy.Predicts`)."""
        if not len(state.X):
            return None
        with np.errstate(all="ignore"), one_blas_thread():
            warm = {} if self.acquisition == "penalty" else state.warm(())
            options = self.lengthscales, self.noise, self.inputs == "warped"
            model = build(task, state, warm, self.kernel, False, False, *options)
            return believed(model.gp, model.warps, X)

    def _view(self, task: Task, state: GPState) -> tuple[Task, GPState]:
        """What is modelled: the outputs as they are, or the penalised objective alone."""
        return penalised_view(task, state) if self.acquisition == "penalty" else (task, state)

    def _torch(self, state: GPState) -> AbstractContextManager[None]:
        network = self.failures == "pfn" and len(state.failed) > 0
        return one_torch_thread("GP(failures='pfn')") if network else nullcontext()

    def _affords_model(self, task: Task, state: GPState, deadline: Deadline | None) -> bool:
        return fits_in(deadline, state.observations, 1 + task.c, refit=False)

    def _outlook(self, task: Task, state: GPState, request: Request) -> Outlook:
        seen_task, seen = self._view(task, state)
        warm = seen.warm(request.open)
        hurried = not fits_in(request.deadline, seen.observations, 1 + seen_task.c, refit=True)
        model = build(
            seen_task, seen, warm, self.kernel, self.failures == "distance", hurried, self.lengthscales, self.noise,
            self.inputs == "warped",
        )  # fmt: skip
        tried = np.asarray(warm.get("candidates", np.zeros((0, task.space.dimension))))
        whole = _Outlook(self, task, seen_task, seen, model, request.held, tried)
        if hurried or request.held or not self._looks_near(task) or len(seen.failed) or len(seen.slopes):
            return whole
        region = nearby(seen.X, seen.values, self._design_size(task, state, request), seen.known)
        if region is None:
            return whole
        centre, told = seen.X[region.centre], len(seen.X)

        def near() -> Near:
            few, nearer = local_model(seen_task, seen, region, self.kernel)
            return Near(whole, _Outlook(self, task, seen_task, few, nearer, {}, tried[:0]), centre, region, told)

        return Turns(near, Far(whole, centre, region), told) if region.small else near()

    def _looks_near(self, task: Task) -> bool:
        rules = ("logei",) if task.c else ("logei", "cei+", "penalty")  # without constraints these are one
        usual = self.search == "local" and self.acquisition in rules and self.batch == "greedy"
        plain = self.lengthscales == "dimension" and self.inputs == "plain" and self.cost == "ignored"
        return usual and plain and not self.earlier and not self.belief and smooth(task)

    def _start(self, task: Task, request: Request) -> Literal["simplex", "centre", "spread"]:
        usual = self._looks_near(task) and self.initial is None and not request.held
        return start_of(task, self.budget) if usual else "spread"

    def _design_size(self, task: Task, state: GPState, request: Request) -> int:
        if self._start(task, request) == "simplex":
            if not len(state.failed):
                return task.space.dimension + 1
            # rows around the centre say too little of where points can work: at the first failure spread rows follow
            return int(state.outcomes.argmax()) + 1 + design_size(task, None, self.budget)
        if self.earlier and self.initial is None:
            return len(self.earlier) + task.space.dimension
        return super()._design_size(task, state, request)

    def _design_rows(self, task: Task, request: Request, key: Key, n: int) -> Array:
        if self.earlier:
            return rows_from_earlier(task, self.earlier, request, key, n)
        start = self._start(task, request)
        rows = simplex_rows if start == "simplex" else centred_rows if start == "centre" else spread_rows
        found = rows(task, request, key, n)
        prior = read_belief(task, self.belief) if request.number == 0 and not request.held else None
        return found if prior is None else believed_first(task, prior, found)


@dataclass(frozen=True, eq=False)
class _Outlook:
    """Told rows of a task (as `view` and `state` model it) with their posterior; tried: see `model_based.Outlook`."""

    gp: GP
    task: Task
    view: Task
    state: GPState
    model: Model
    held: Mapping[int, float]
    tried: Array

    def memo(self, tried: Array) -> dict[str, Any]:
        return {**self.model.memo, "candidates": tried}

    def candidates(
        self, score: Any, domain: Domain, centres: Array, tried: Array, away: Taken,
        rng: np.random.Generator,
    ) -> Array:  # fmt: skip
        extra = tried
        if isinstance(score, OneShot):
            found = domain.settle(score.candidates(domain, rng), rng)
            if not away(found).any():
                return found
        if isinstance(score, ConstrainedLogEI) and not self.task.where:
            corners = corner_candidates(belief_of(score.predictor), score.limits, centres[:2], domain)
            extra = np.concatenate([tried, corners])
        first = replace(score, evaluable=rough_chance(score.evaluable))
        found, _ = maximise(first, domain, rng, centres, extra, away)
        if first.evaluable is not score.evaluable:
            found, _ = refine(score, domain, found, away)
        return found

    def score(self, domain: Domain, pending: Array, rng: np.random.Generator) -> tuple[Score, Array]:
        model, gp, state = self.model, self.model.gp, self.state
        n, limits = len(state.X), np.zeros(self.view.c)
        region = chance_to_work(self.gp.failures, self.view, state, model.region) if len(state.failed) else None
        region = with_terms(self.task, state, self.gp.belief, self.gp.cost, self.gp.budget, gp.inputs, region)
        values = np.where(model.noisy, gp.mean_variance(state.X)[0], gp.Z)
        order = by_merit(values, _holds(model, state, values))
        centres = domain.settle(state.X[order[:CENTRES]], rng)
        name, beta = parse(self.gp.acquisition)
        scene = Scene(gp, model.noisy, pending, limits, centres, domain, region)
        if name in OTHERS and (name != "frazier" or model.noisy.any()):
            return score_of(name, scene, rng), centres
        if self.gp.batch == "thompson":
            return PathScore(draw_paths(of_values(gp), 1, rng), limits, region), centres
        base, drawn = given_pending(self.gp.batch, gp, model.noisy, pending, DRAWS, rng)
        if self.held:  # the best known under these values, not the best of all
            assumed = pending if drawn.shape[1] > n else pending[:0]
            here = domain.settle(np.concatenate([state.X[order[:200]], assumed]), rng)
            drawn = base.forward(here).mean
        feasible = np.asarray((drawn[1:] <= 0.0).all(axis=0))
        if not self.held and not model.noisy[1:].any():
            feasible[:n] = np.asarray((state.values[:, 1:] <= 0.0).all(axis=1))[:, None]
        rule: Rule = "cei+" if self.gp.acquisition == "cei+" else "cei"
        best, chance = incumbents(drawn[0], feasible), region
        if self.gp.batch == "penalised" and len(pending):
            lowest = float(np.nanmean(best)) if not np.isnan(best).all() else float(drawn[0].min())
            chance = LocalPenalty.of(gp.inputs, base, pending, lowest, domain, rng, region)
        gain = gain_of(name, beta, scene, rng)
        return ConstrainedLogEI(base, best, limits, chance, rule=rule, gain=gain), centres


def _holds(model: Model, state: GPState, values: Array) -> Array:
    """(n,) whether the told rows satisfy every constraint: by their values where exact, by the model where noisy."""
    ok = np.where(model.noisy[1:], values[:, 1:] <= 0.0, state.values[:, 1:] <= 0.0)
    return np.asarray(ok.all(axis=1))
