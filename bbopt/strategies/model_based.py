"""What strategies with a model have in common: a first design, then rows that are sought one after the other.

A strategy says how it sees the told rows (an `Outlook`, made once per ask); here is the rest: how many rows come from the
design, what is asked while nothing or nothing but failures is known, finite spaces, what may not be asked again, and how the rows
of one ask come to know of each other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from bbopt.errors import UsageError
from bbopt.query import Answer, Key, Query, Request
from bbopt.strategies.blas_thread import one_blas_thread
from bbopt.strategies.gp_domain import design_size, domain_of, finite_points, spread_rows
from bbopt.strategies.gp_state import GPState
from bbopt.strategies.merit import by_merit, taken
from bbopt.task import Task

if TYPE_CHECKING:
    from bbopt.acquisition.domain import Domain
    from bbopt.acquisition.search import Score, Taken
    from bbopt.deadline import Deadline

Array = np.ndarray[Any, np.dtype[Any]]
NEAR = 1e-7  # encoded distance, in the widest column, below which a point counts as told already
NEAR_PENDING = 1e-3  # the same for points that are out: several workers are not sent to one place
CENTRES = 3  # good points around which candidates are sought
CANDIDATES = 5  # of an ask that the next one tries again
THOROUGH = 16  # rows of one ask that are searched for with full effort; those after them are there to explore


class Outlook(Protocol):
    """The told rows as a strategy's model sees them, and how it looks for the next one."""

    @property
    def tried(self) -> Array:
        """(k, D) runners-up of an earlier ask, to be tried again."""
        ...

    def score(self, domain: Domain, pending: Array, rng: np.random.Generator) -> tuple[Score, Array]:
        """What is to be maximised given (p, D) points that are out, and (k, D) points around which to search."""
        ...

    def candidates(
        self, score: Any, domain: Domain, centres: Array, tried: Array, away: Taken,
        rng: np.random.Generator,
    ) -> Array:  # fmt: skip
        """(k, D) points in order of that score, best first; tried: runners-up of the search before; away: what may not be."""
        ...

    def memo(self, tried: Array) -> dict[str, Any]:
        """Plain data from which the next ask starts; tried: runners-up of the last search."""
        ...


class ModelBased(ABC):
    """The base of such strategies, which are frozen dataclasses with fields `initial` and `budget` among others."""

    initial: int | None
    budget: int | None

    handles: ClassVar[frozenset[str]] = frozenset(
        {"constraints", "noise", "fixed", "context", "categorical", "conditional"}
    )
    learns: ClassVar[Literal["rows", "queries"]] = "rows"
    instant: ClassVar[bool] = False
    gradients: ClassVar[bool] = False

    @abstractmethod
    def _outlook(self, task: Task, state: GPState, request: Request) -> Outlook:
        """How the told rows are seen."""

    @abstractmethod
    def _torch(self, state: GPState) -> AbstractContextManager[None]:
        """What its computations need around them: one thread of torch, or nothing."""

    def init(self, task: Task, key: Key) -> GPState:
        return GPState.empty(task)

    def ask(self, task: Task, state: GPState, request: Request, key: Key) -> Query:
        with np.errstate(all="ignore"):
            spread = min(max(self._design_size(task, state, request) - request.number, 0), request.n)
            rows, memo = [self._design_rows(task, request, key, spread)], {"design": spread}
            if spread < request.n:
                more, memo = self._modelled(task, state, request, key, request.n - spread, rows[0])
                rows.append(more)
        return Query(np.concatenate(rows), memo)

    def tell(self, task: Task, state: GPState, query: Query, answer: Answer) -> GPState:
        return state.after(query, answer, self.gradients)

    def _design_size(self, task: Task, state: GPState, request: Request) -> int:
        """Rows of the first design."""
        return design_size(task, self.initial, self.budget)

    def _design_rows(self, task: Task, request: Request, key: Key, n: int) -> Array:
        """The next n rows of the first design."""
        return spread_rows(task, request, key, n)

    def _affords_model(self, task: Task, state: GPState, deadline: Deadline | None) -> bool:
        """Whether the told rows can be looked at before the deadline; strategies without a guess just look."""
        return True

    def _modelled(self, task: Task, state: GPState, request: Request, key: Key, n: int, before: Array) -> Found:
        """(n, D) rows that the model asks for, and the memo; before: rows of the same ask that the design gave."""
        pending = np.concatenate([request.pending, before])
        if not len(state.X):
            if not len(state.failed):
                return spread_rows(task, request, key, n, len(before)), {}
            from bbopt.strategies.failures import rows_away

            return rows_away(task, state, request, key, n, pending), {}
        try:
            with one_blas_thread(), self._torch(state):
                return self._search(task, state, request, key, n, pending)
        except (ArithmeticError, np.linalg.LinAlgError) as trouble:
            note = f"the model failed ({trouble}); space-filling points instead"
            return spread_rows(task, request, key, n, len(before)), {"note": note}

    def _search(self, task: Task, state: GPState, request: Request, key: Key, n: int, pending: Array) -> Found:
        """(n, D) rows, each the best by the outlook's score given those before it, and the memo."""
        from bbopt.acquisition.search import enumerate_best, maximise
        from bbopt.strategies.haste import NO_MODEL, SMALL, SMALLER, near_best, searches_in, with_note

        domain, points = domain_of(task, request.held), finite_points(task, request.held)
        told = state.failed if task.noisy else np.concatenate([state.X, state.failed])
        deadline, hurry = request.deadline, key.rng("haste")
        holds = np.asarray((state.values[:, 1:] <= 0.0).all(axis=1))
        best = state.X[by_merit(state.values, holds)[:CENTRES]]
        if not self._affords_model(task, state, deadline):
            away = partial(taken, groups=((told, NEAR), (pending, NEAR_PENDING)))
            return near_best(domain, domain.settle(best, hurry), away, hurry, n), {"note": NO_MODEL}
        outlook = self._outlook(task, state, request)
        rows: list[Array] = []
        tried, left_out = outlook.tried, ""
        for i in range(n):
            rng = key.rng(f"search {i}")
            if i and deadline is not None and deadline.left() <= 0.0:
                away = partial(taken, groups=((told, NEAR), (pending, NEAR_PENDING)))
                rows += list(near_best(domain, domain.settle(best, hurry), away, hurry, n - i))
                left_out = f"deadline: {n - i} of {n} rows not searched, points near the best"
                break
            score, centres = outlook.score(domain, pending, rng)
            if points is not None:
                avoid = told if task.noisy else np.concatenate([told, pending])
                found, _ = enumerate_best(score, points, partial(taken, groups=((avoid, 0.0),)))
            else:
                away = partial(taken, groups=((told, NEAR), (pending, NEAR_PENDING)))
                if i < THOROUGH and searches_in(deadline, score, domain, hurry, n - i):
                    found = outlook.candidates(score, domain, centres, tried, away, rng)
                else:
                    found, _ = maximise(score, domain, rng, centres, tried, away, SMALL)
                    left_out = SMALLER if i < THOROUGH else left_out
            if not len(found):
                found = domain.sample(1, rng)
            rows.append(found[0])
            tried = found[1 : 1 + CANDIDATES]
            pending = np.concatenate([pending, found[:1]])
        return np.array(rows), with_note(outlook.memo(tried), left_out)


Found = tuple[Array, dict[str, Any]]


def check_counts(strategy: ModelBased) -> None:
    """Raise UsageError unless `initial` and `budget` are None or whole numbers of at least 1."""
    for name in ("initial", "budget"):
        value = getattr(strategy, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UsageError(
                f"{type(strategy).__name__}: expected {name} as a whole number of at least 1, or None; got {value!r}"
            )
