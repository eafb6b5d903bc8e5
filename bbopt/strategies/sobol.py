"""A scrambled Sobol' sequence: rows that fill the space more evenly than random ones, whatever was answered.

Trial number i is the i-th point of the sequence that satisfies `where`, however the asks were cut. (A part of a sequence
of low discrepancy is not one itself, so the sequence is read from its start, and no number is left out.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from bbopt.designs import LARGEST_DIMENSION, sobol
from bbopt.errors import NotHandled
from bbopt.query import Answer, Key, Query, Request
from bbopt.strategy import ABILITIES
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]

READ = 100_000  # points of the sequence that one ask reads at most


@dataclass(frozen=True)
class SobolState:
    """The scrambling that the study got."""

    scramble: int


@dataclass(frozen=True)
class Sobol:
    """Rows of a scrambled Sobol' sequence over all columns, by trial number. It learns nothing.

    Where the conditions leave so little of the space that reading the sequence does not pay, rows are drawn at random.

    >>> Sobol().learns
    'rows'
    """

    handles: ClassVar[frozenset[str]] = frozenset(ABILITIES)
    learns: ClassVar[Literal["rows", "queries"]] = "rows"
    instant: ClassVar[bool] = False

    def init(self, task: Task, key: Key) -> SobolState:
        if task.space.dimension > LARGEST_DIMENSION:
            raise NotHandled(
                f"sobol: expected at most {LARGEST_DIMENSION} columns, the task has {task.space.dimension}; use 'random'"
            )
        return SobolState(int(key.rng("scramble").integers(2**31)))

    def ask(self, task: Task, state: SobolState, request: Request, key: Key) -> Query:
        if not task.space.dimension:
            return Query(np.zeros((request.n, 0)))
        found = (
            self._fitting(task, state, request)
            if task.where
            else self._rows(task, state, request, request.number, request.n)
        )
        if len(found) < request.n:
            rest = task.feasible.sample(request.n - len(found), key.rng("rows"), request.held)
            found = np.concatenate([found, rest])
        return Query(found)

    def _fitting(self, task: Task, state: SobolState, request: Request) -> Array:
        """Points of the sequence that satisfy `where`, as many of the wanted ones as are found in reading it."""
        wanted = request.number + request.n
        rows: list[Array] = []
        read, size = 0, 4 * wanted
        while read < READ and sum(map(len, rows)) < wanted:
            size = min(size, READ - read)
            more = self._rows(task, state, request, read, size)
            rows.append(more[task.feasible.contains(more)])
            read, size = read + size, 2 * size
        return np.concatenate(rows)[request.number : wanted]

    def _rows(self, task: Task, state: SobolState, request: Request, start: int, n: int) -> Array:
        """(n, D) canonical rows of points start to start + n - 1, with the held columns at their values."""
        space, held = task.space, request.held
        X = space.from_uniform(sobol(start, n, space.dimension, state.scramble))
        X[:, list(held)] = list(held.values())
        return space.canonical(X) if held and space.conditional else X

    def tell(self, task: Task, state: SobolState, query: Query, answer: Answer) -> SobolState:
        return state
