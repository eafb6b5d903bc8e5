"""What the `gp` strategy remembers: the told rows, and the last hyperparameters that came back in a memo."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bbopt.query import Answer, Query, Ranking, Values
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class GPState:
    """Told rows in the order in which they came.

    X: (n, D); values: (n, 1 + c) the objective, then the constraint columns; std: (n, 1 + c) standard errors, NaN where
    unknown; failed: (b, D) rows that cannot work; outcomes: (n + b,) True where an answer was a failure, in order;
    slopes: (s, 4) told derivatives in encoded columns: row of X, output, column, value; memo: of the query with the most data
    behind it, or empty; earlier: rows (e, D) and values (e, 1 + c), NaN where unknown, of earlier studies; costs: (n,) of the told
    rows, NaN where none was told; known: (n,) how many rows had been told when each of them was asked for. These two are left
    out where there is nothing to tell of them: then rows were asked for one after the other.
    """

    X: Array
    values: Array
    std: Array
    failed: Array
    outcomes: Array
    memo: Mapping[str, Any] = field(default_factory=dict)
    slopes: Array = field(default_factory=lambda: np.zeros((0, 4)))
    earlier: tuple[tuple[Array, Array], ...] = ()
    costs: Array = field(default_factory=lambda: np.zeros(0))
    known: Array = field(default_factory=lambda: np.zeros(0, int))

    def __post_init__(self) -> None:
        if len(self.costs) != len(self.X):
            object.__setattr__(self, "costs", np.full(len(self.X), np.nan))
        if len(self.known) != len(self.X):
            object.__setattr__(self, "known", np.arange(len(self.X)))

    @classmethod
    def empty(cls, task: Task) -> GPState:
        """The state before any answer."""
        rows, columns = np.zeros((0, task.space.dimension)), np.zeros((0, 1 + task.c))
        return cls(rows, columns, columns, rows, np.zeros(0, bool))

    def after(self, query: Query, answer: Answer, gradients: bool = False) -> GPState:
        """The state after an answer, with its derivatives if these are learnt from. Lost rows teach nothing; rankings are not this strategy's."""
        if isinstance(answer, Ranking):
            return self
        assert isinstance(answer, Values)
        rows = np.asarray(query.X[answer.rows], float).reshape(len(answer.rows), -1)
        ok = answer.ok
        count = len(self.X) + int(ok.sum())
        told = np.arange(len(self.X), count)
        impossible = np.array([status == "impossible" for status in answer.status], bool)
        return replace(
            self,
            X=np.concatenate([self.X, rows[ok]]),
            values=np.concatenate([self.values, np.hstack([answer.Y, answer.G])[ok]]),
            std=np.concatenate([self.std, answer.std[ok]]),
            costs=np.concatenate([self.costs, answer.cost[ok]]),
            known=np.concatenate([self.known, np.minimum(told, query.memo.get("seen", count))]),
            failed=np.concatenate([self.failed, rows[impossible]]),
            outcomes=np.concatenate([self.outcomes, impossible[ok | impossible]]),
            slopes=self._with_slopes(answer.slopes[ok]) if gradients and answer.slopes is not None else self.slopes,
            memo=newer(self.memo, query.memo),
        )

    def _with_slopes(self, slopes: Array) -> Array:
        """(s, 4) all told derivatives, with (k, 1 + c, D) of the next rows, NaN where none was told."""
        row, output, column = np.nonzero(~np.isnan(slopes))
        added = np.column_stack([len(self.X) + row, output, column, slopes[row, output, column]])
        return np.concatenate([self.slopes, added])

    def pick(self, kept: Array) -> GPState:
        """The state of some of the told rows, (n,) bool, with their derivatives."""
        number = np.cumsum(kept) - 1
        slopes = self.slopes[kept[self.slopes[:, 0].astype(int)]]
        slopes[:, 0] = number[slopes[:, 0].astype(int)]
        return replace(
            self, X=self.X[kept], values=self.values[kept], std=self.std[kept], slopes=slopes, costs=self.costs[kept],
            known=self.known[kept],
        )  # fmt: skip

    @property
    def observations(self) -> int:
        """How many rows a model of all this has: values, and told derivatives of the output that has the most."""
        most = np.bincount(self.slopes[:, 1].astype(int)).max() if len(self.slopes) else 0
        return len(self.X) + int(most)

    def fingerprint(self, n: int) -> str:
        """A hash of the first n told rows, by which hyperparameters that were fitted to other data are recognised."""
        digest = hashlib.sha256(str(n).encode())
        for part in (self.X, self.values, self.std):
            digest.update(np.ascontiguousarray(part[:n]).tobytes())
        digest.update(np.ascontiguousarray(self.slopes[self.slopes[:, 0] < n]).tobytes())
        return digest.hexdigest()[:16]

    def warm(self, open_queries: tuple[Query, ...]) -> Mapping[str, Any]:
        """The newest memo, among those told and those still out, that was fitted to the first rows of this state."""
        memo = self.memo
        for query in open_queries:
            memo = newer(memo, query.memo)
        n = memo.get("fitted", 0)
        if not 0 < n <= len(self.X) or memo["hash"] != self.fingerprint(n):
            return {}
        return memo


def newer(old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
    """The memo with more data behind it; the new one where both have the same."""
    return new if "fitted" in new and new["seen"] >= old.get("seen", 0) else old
