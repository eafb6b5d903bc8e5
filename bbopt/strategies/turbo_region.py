"""The trust region of `turbo` as a state machine: told rows move its counters, the counters its length.

Eriksson, Pearce, Gardner, Turner, Poloczek 2019, "Scalable Global Optimization via Local Bayesian Optimization" (arXiv
1910.01739, section 2 and appendix) for one region (TuRBO-1); Eriksson and Poloczek 2021, "Scalable Constrained Bayesian
Optimization" (SCBO, arXiv 2002.08526) for what counts as better under constraints:

* a batch succeeds if one of its rows is better than the best row of the region by more than a thousandth of its absolute
  value, or the first that is feasible, or, while none is, violates the constraints less in total (of their bilog values);
* after `SUCCESSES` batches in a row that succeed the length doubles, after as many rows in a row without success as there
  are columns (at least 4, at most `MOST_FAILURES`) it is halved. With batches of q rows and few columns that are
  ceil(max(4, d) / q) of them, as published;
* below 2^-7 the region is given up: the next one starts with a design of its own, and knows the rows told from then on.

Differences: the published tolerance of failures has no upper end; its runs have thousands of rows, in large batches, and with
some hundred rows a region of 60 columns would hardly ever shrink. Rows may be told one by one and late. A batch counts once all its rows are told, or once a row of another one
is; rows of a region that was given up no longer count; a row is compared with those told for the same held columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bbopt.query import Answer, Query, Values
from bbopt.strategies.gp_state import GPState
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]
START, SMALLEST, LARGEST = 0.8, 2.0**-7, 1.6  # lengths, in widths of the box
SUCCESSES = 3
BETTER = 1e-3  # of the best value, by which a success is better
NO_BATCH = (-1, 0, False, 0)
MOST_FAILURES = 20


def tolerance(columns: int) -> int:
    """Rows in a row without success after which the region shrinks, by default.

    >>> [tolerance(columns) for columns in (2, 10, 100)]
    [4, 10, 20]
    """
    return min(max(4, columns), MOST_FAILURES)


@dataclass(frozen=True, eq=False)
class TurboState:
    """All told rows, and where the region stands.

    region: (n,) of the told rows, the number of the region for which they were told; failed: rows of the current region
    that cannot work; number: of the current region; batch: of the query whose rows are coming in its id, how many rows of
    it count, whether one was better, and how many rows were told before it.
    """

    told: GPState
    region: Array
    failed: int = 0
    number: int = 0
    length: float = START
    successes: int = 0
    failures: int = 0
    batch: tuple[int, int, bool, int] = NO_BATCH

    @classmethod
    def empty(cls, task: Task) -> TurboState:
        """The state before any answer."""
        return cls(GPState.empty(task), np.zeros(0, int))

    @property
    def rows(self) -> Array:
        """Row numbers, among the told ones, of the current region."""
        return np.flatnonzero(self.region == self.number)

    def after(self, query: Query, answer: Answer, successes: int, failures: int) -> TurboState:
        """The state after an answer; successes and failures: the tolerances, in batches and in rows."""
        if not isinstance(answer, Values):
            return self
        state = self
        for i in range(len(answer.rows)):
            state = state._after_row(query, answer, i, successes, failures)
        return replace(state, told=state.told.after(query, answer), region=state._labels(query, answer))

    def _labels(self, query: Query, answer: Values) -> Array:
        """Region of every told row, those of this answer included: the user's own rows belong to the one of now."""
        label = int(query.memo.get("region", self.number))
        return np.concatenate([self.region, np.full(int(answer.ok.sum()), label)])

    def _after_row(self, query: Query, answer: Values, i: int, successes: int, failures: int) -> TurboState:
        state, status = self, answer.status[i]
        current = query.origin == "user" or query.memo.get("region") == self.number
        if status == "lost" or not current:
            return state
        if status == "impossible":
            state = replace(state, failed=state.failed + 1)
        if query.origin == "user" or int(answer.rows[i]) < int(query.memo.get("design", 0)):
            return state
        if state.batch[0] not in (query.id, NO_BATCH[0]):
            state = state._settled(successes, failures)
            if state.number != query.memo["region"]:
                return state
        _, counted, succeeded, known = state.batch if state.batch[0] == query.id else (0, 0, False, len(state.told.X))
        better = status == "ok" and state._better(query, answer, i, known)
        state = replace(state, batch=(query.id, counted + 1, succeeded or better, known))
        local = query.size - int(query.memo.get("design", 0))
        return state._settled(successes, failures) if counted + 1 >= local else state

    def _better(self, query: Query, answer: Values, i: int, known: int) -> bool:
        """Whether row i of an answer is better than those of the region among the first `known` told rows."""
        rows = self.rows[self.rows < known]
        held = query.memo.get("held", ())
        for column, value in held:
            rows = rows[self.told.X[rows, int(column)] == value]
        if not len(rows):
            return True
        values = self.told.values[rows]
        total = violations(values)
        y, g = float(answer.Y[i, 0]), float(violations(np.concatenate([answer.Y[i], answer.G[i]])[None])[0])
        if (total > 0.0).all():
            return g < float(total.min())
        best = float(values[total <= 0.0, 0].min())
        return g <= 0.0 and y < best - BETTER * abs(best)

    def _settled(self, successes: int, failures: int) -> TurboState:
        """With the batch counted: algorithm 1 of the paper, lines on success and failure."""
        _, counted, succeeded, _ = self.batch
        ups, downs = (self.successes + 1, 0) if succeeded else (0, self.failures + counted)
        length = self.length
        if ups >= successes:
            length, ups = min(2.0 * length, LARGEST), 0
        elif downs >= failures:
            length, downs = length / 2.0, 0
        if length < SMALLEST:
            return replace(
                self, number=self.number + 1, failed=0, length=START, successes=0, failures=0, batch=NO_BATCH
            )
        return replace(self, length=length, successes=ups, failures=downs, batch=NO_BATCH)


def violations(values: Array) -> Array:
    """(n,) total violation of (n, 1 + c) values: the sum of log(1 + g) over constraints with g > 0.

    >>> violations(np.array([[5.0, -1.0, 0.0], [5.0, 0.0, np.e - 1.0]])).tolist()
    [0.0, 1.0]
    """
    return np.asarray(np.log1p(np.maximum(values[:, 1:], 0.0)).sum(axis=1))


def better_first(values: Array) -> Array:
    """Row numbers of (n, 1 + c) values from best to worst: feasible rows by objective, then the others by violation.

    >>> better_first(np.array([[3.0, -1.0], [1.0, 2.0], [2.0, -1.0], [0.0, 1.0]])).tolist()
    [2, 0, 3, 1]
    """
    total = violations(values)
    return np.lexsort((np.where(total > 0.0, total, values[:, 0]), total > 0.0))
