"""Preference optimisation: a Gaussian process of utility learns from rankings which slate to show next.

The model is a probit process over pairs (`surrogates.preference`); how rankings, ties, verdicts
and numbers become pairs stands in `bbopt.strategies.preference_gp_state`. A slate holds the incumbent (the told row with
the best posterior mean), hidden at a random place, and rows that make the best of the slate as good as can be expected
(`bbopt.acquisition.eubo`), or the maximisers of joint draws (Thompson). Slates that are out are taken to be shown
already: rows of a new one are chosen beside theirs, so several people get different ones. After an answer that taught
nothing (a skip, "cannot tell", ties alone) the next slate is spread over the space, and its rows are not shown again.

Numbers are learnt from by their order alone: the result is the same after any increasing transformation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from bbopt.acquisition.constrained import ConstrainedLogEI
from bbopt.acquisition.domain import Domain
from bbopt.acquisition.draws import normal_numbers
from bbopt.acquisition.eubo import given_rows
from bbopt.acquisition.search import Effort, around, enumerate_best, maximise, refine
from bbopt.errors import UsageError
from bbopt.query import Answer, Key, Query, Request
from bbopt.strategies.failures import caution
from bbopt.strategies.gp_domain import design_size, domain_of, finite_points, spread_rows
from bbopt.strategies.gp_model import inputs_of
from bbopt.strategies.merit import taken
from bbopt.strategies.preference_gp_model import best_first, build
from bbopt.strategies.preference_gp_state import PreferenceState
from bbopt.task import Task
from surrogates.preference import PreferenceProcess

Array = np.ndarray[Any, np.dtype[Any]]
DRAWS = 64
NEAR = 1e-6  # encoded distance, in the widest column, below which a row counts as told already
APART = 1e-3  # the same for rows of one slate, and of slates that are out
PASSED = 0.02  # the same for rows of slates that taught nothing
CENTRES = 3
LEADERS = 50  # told rows from which the incumbent is chosen where parameters are held
MOST_PENDING = 60  # rows that are out, and are taken into account
LOOK = Effort(raw=256, around=8, starts=4, iterations=30)
CANDIDATES = 512  # points on which a Thompson draw is made, besides those around the best


@dataclass(frozen=True)
class PreferenceGP:
    """Bayesian optimisation from rankings of slates, for few parameters (up to 8 or so) and few answers.

    slate: rows of a slate where the ask names no number (`ask_query()`; `ask_query(4)` makes one of 4), incumbent included;
    initial: rows of the first, space-filling slates, None: one slate; where numbers are told, twice (d + 1), at least 5, at
    most 50, and at most a quarter of `budget` (rows planned, used for nothing else); acquisition: "eubo" or "thompson";
    kernel: "rbf" or "matern52"; caution: 0 to believe that the pairs of one ranking are independent judgements, 1 that they
    are as dependent as among equals (`bbopt.strategies.preference_gp_state`).

    >>> PreferenceGP(slate=8)
    PreferenceGP(slate=8, initial=None, budget=None, acquisition='eubo', kernel='matern52', caution=0.5)
    """

    slate: int = 6
    initial: int | None = None
    budget: int | None = None
    acquisition: Literal["eubo", "thompson"] = "eubo"
    kernel: Literal["rbf", "matern52"] = "matern52"
    caution: float = 0.5

    handles: ClassVar[frozenset[str]] = frozenset(
        {"rankings", "noise", "fixed", "context", "categorical", "conditional"}
    )
    learns: ClassVar[Literal["rows", "queries"]] = "rows"
    instant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, least in (("slate", 2), ("initial", 1), ("budget", 1)):
            value = getattr(self, name)
            if value is None and name != "slate":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                also = "" if name == "slate" else ", or None"
                raise UsageError(
                    f"PreferenceGP: expected {name} as a whole number of at least {least}{also}; got {value!r}"
                )
        if self.acquisition not in ("eubo", "thompson"):
            raise UsageError(f"PreferenceGP: expected acquisition 'eubo' or 'thompson', got {self.acquisition!r}")
        if self.kernel not in ("rbf", "matern52"):
            raise UsageError(f"PreferenceGP: expected kernel 'rbf' or 'matern52', got {self.kernel!r}")
        number = isinstance(self.caution, int | float) and not isinstance(self.caution, bool)
        if not number or not 0.0 <= self.caution <= 1.0:
            raise UsageError(f"PreferenceGP: expected caution as a number from 0 to 1, got {self.caution!r}")

    def init(self, task: Task, key: Key) -> PreferenceState:
        return PreferenceState.empty(task)

    def tell(self, task: Task, state: PreferenceState, query: Query, answer: Answer) -> PreferenceState:
        return state.after(query, answer)

    def ask(self, task: Task, state: PreferenceState, request: Request, key: Key) -> Query:
        ranked = task.feedback == "ranking"
        n = self.slate if ranked and request.n == 1 else request.n
        size = n if ranked and self.initial is None else design_size(task, self.initial, self.budget)
        left = max(size - request.number, 0)
        told = state.comparisons(not task.noisy)
        with np.errstate(all="ignore"):
            if not len(told) or (ranked and left):
                return Query(_distinct(spread_rows(task, request, key, n), ranked), {"design": n})
            spread = 0 if ranked else min(left, n)
            rows = spread_rows(task, request, key, spread)
            if spread == n:
                return Query(rows, {"design": n})
            try:
                more, memo = self._slate(task, state, request, key, n - spread, rows)
            except (FloatingPointError, np.linalg.LinAlgError) as trouble:
                note = f"the model failed ({trouble}); space-filling points instead"
                return Query(_distinct(spread_rows(task, request, key, n), ranked), {"note": note})
        return Query(np.concatenate([rows, more]), memo)

    def recommend(self, task: Task, state: PreferenceState) -> Array | None:
        """The told row with the best posterior mean (with exact numbers: the best of them)."""
        if not len(state.comparisons(not task.noisy)):
            return None if not len(state.X) else np.array(state.X[0])
        with np.errstate(all="ignore"):
            try:
                process, _ = build(task, state, state.warm(()), self.kernel, self.caution, refit=False)
            except FloatingPointError:
                return np.array(state.X[state.leader])
            return np.array(state.X[best_first(task, state, process)[0]])

    def _slate(
        self, task: Task, state: PreferenceState, request: Request, key: Key, n: int, before: Array
    ) -> tuple[Array, dict[str, Any]]:
        """(n, D) rows, fewer where the space has no more, and the memo; before: rows of the same ask from the design."""
        ranked = task.feedback == "ranking"
        process, memo = build(task, state, state.warm(request.open), self.kernel, self.caution)
        domain = domain_of(task, request.held)
        rng = key.rng("slate")
        order = best_first(task, state, process)
        centres, mean = self._leaders(state, process, domain, order, bool(request.held), rng)
        incumbent = centres[mean.argmax()][None]
        pending = np.concatenate([request.pending, before])[-MOST_PENDING:]
        pending = pending[~taken(pending, ((incumbent, 0.0),))]
        if ranked and state.fruitless:
            rest = spread_rows(task, request, key, n - 1)
            rest = rest[~taken(rest, ((incumbent, 0.0),))]
        else:
            choose = self._thompson if self.acquisition == "thompson" else self._eubo
            rest = choose(
                task, state, process, domain, incumbent, centres, pending, n - 1 if ranked else n, request, rng
            )
        if not ranked:
            return np.concatenate([rest, domain.sample(n - len(rest), rng)]) if len(rest) < n else rest, memo
        slate = np.concatenate([incumbent, _distinct(rest, True)])
        return slate[key.rng("hide").permutation(len(slate))], memo

    def _leaders(
        self, state: PreferenceState, process: PreferenceProcess, domain: Domain, order: Array, held: bool,
        rng: np.random.Generator,
    ) -> tuple[Array, Array]:  # fmt: skip
        """(CENTRES, D) the best rows that this ask may show, best first, and their posterior means (by rank otherwise)."""
        if not held:
            rows = state.X[order[:CENTRES]]
            return rows, -np.arange(len(rows))  # in the order that was given
        rows = np.unique(domain.settle(state.X[order[:LEADERS]], rng), axis=0)
        mean = process.mean_variance(rows)[0][:, 0]
        best = np.argsort(-mean, kind="stable")[:CENTRES]
        return rows[best], mean[best]

    def _eubo(
        self, task: Task, state: PreferenceState, process: PreferenceProcess, domain: Domain, incumbent: Array,
        centres: Array, pending: Array, n: int, request: Request, rng: np.random.Generator,
    ) -> Array:  # fmt: skip
        """(n, D) rows, one after the other where the best of all rows so far is expected to gain most; then once more."""
        points = finite_points(task, request.held)
        normal = normal_numbers(1 + len(pending) + n, DRAWS, rng)
        fixed = np.concatenate([incumbent, pending])
        chance = self._chance(task, state)
        rows = np.zeros((0, task.space.dimension))

        def score(others: Array) -> ConstrainedLogEI:
            model, values = given_rows(process.regret, np.concatenate([fixed, others]), normal)
            return ConstrainedLogEI(model, values.min(axis=0), np.zeros(0), chance)

        def away(others: Array, X: Array) -> Array:
            return taken(X, self._avoided(task, state, np.concatenate([fixed, others])))

        for _ in range(n):
            if points is not None:
                found = self._listed(task, state, score(rows), points, np.concatenate([fixed, rows]))
                if not len(found):
                    break
            else:
                found, _ = maximise(score(rows), domain, rng, centres, rows[:0], partial(away, rows), LOOK)
            if not len(found):
                found = domain.sample(1, rng)
            rows = np.concatenate([rows, found[:1]])
        if points is None and len(rows) > 1:
            for i in range(len(rows)):
                others = np.delete(rows, i, axis=0)
                found, _ = refine(
                    score(others), domain, rows[i : i + 1], partial(away, others), starts=1, iterations=20
                )
                rows[i] = found[0] if len(found) else rows[i]
        return rows

    def _thompson(
        self, task: Task, state: PreferenceState, process: PreferenceProcess, domain: Domain, incumbent: Array,
        centres: Array, pending: Array, n: int, request: Request, rng: np.random.Generator,
    ) -> Array:  # fmt: skip
        """(n, D) rows, each the best of many candidates under a joint draw of its own."""
        points = finite_points(task, request.held)
        if points is None:
            points = np.concatenate([domain.sample(CANDIDATES, rng), around(centres, domain, LOOK.around, rng)])
        elif len(points) > 2 * CANDIDATES:
            points = points[np.sort(rng.permutation(len(points))[: 2 * CANDIDATES])]
        rows = np.zeros((0, task.space.dimension))
        chance = self._chance(task, state)
        drawn = process.sample(points, n, rng)[:, :, 0]
        penalty = 0.0 if chance is None else np.minimum(chance.log_chance(points, False)[0], 0.0)
        for values in drawn + penalty:
            used = taken(points, self._avoided(task, state, np.concatenate([incumbent, pending, rows])))
            if used.all():
                break
            rows = np.concatenate([rows, points[np.where(used, -np.inf, values).argmax()][None]])
        return rows

    def _chance(self, task: Task, state: PreferenceState) -> Any:
        """The probability that a point works, as a term of a score, where some did not."""
        if not len(state.failed):
            return None
        from bbopt.acquisition.constrained import Evaluable
        from surrogates.region import fit_region

        works = state.X if len(state.X) else state.failed[:0]
        return Evaluable(fit_region(inputs_of(task), works, state.failed).predictor, caution(state.outcomes))

    def _avoided(self, task: Task, state: PreferenceState, out: Array) -> tuple[tuple[Array, float], ...]:
        """Rows, and distances from them within which no row of a new slate may lie; out: its own, and those of others."""
        told = state.X if not task.noisy or task.feedback == "ranking" else state.X[:0]
        return (told, NEAR), (state.failed, NEAR), (out, APART), (state.passed, PASSED)

    def _listed(self, task: Task, state: PreferenceState, score: ConstrainedLogEI, points: Array, out: Array) -> Array:
        """The points of a small finite space, best first: new ones, or where noise allows it and there are none, told ones."""
        told = (state.X, 0.0), (state.failed, 0.0), (out, 0.0), (state.passed, 0.0)
        found, _ = enumerate_best(score, points, partial(taken, groups=told))
        if not len(found) and task.noisy:
            found, _ = enumerate_best(score, points, partial(taken, groups=told[1:3]))
        return found


def _distinct(rows: Array, ranked: bool) -> Array:
    """Without rows that repeat an earlier one, which nobody can rank."""
    if not ranked or len(rows) < 2:
        return rows
    first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
    return rows[first]
