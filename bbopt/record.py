"""What became of a query's rows: one array entry per row, so that a query of 10^5 rows costs what its arrays cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from bbopt.query import Query, Ranking

Array = np.ndarray[Any, np.dtype[Any]]

QUEUED, OPEN, OK, LOST, IMPOSSIBLE, CANCELLED, RANKED, AGAIN = range(8)
STATUS = ("queued", "open", "ok", "lost", "impossible", "cancelled", "ranked", "lost")
"""As people see them. A lost row that waits to go out again has a state of its own inside: AGAIN; LOST is final."""


class Issue:
    """Rows given out together, to an owner, perhaps until a time; seconds: CPU time of that ask."""

    __slots__ = ("expires", "owner", "seconds")

    def __init__(self, owner: str, expires: float | None, seconds: float | None):
        self.owner, self.expires, self.seconds = owner, expires, seconds


class Record:
    """A query and what became of its rows. Arrays have one entry per row; metrics are in the user's sign."""

    def __init__(self, query: Query, metrics: int) -> None:
        k = query.size
        self.query = query
        self.status = np.zeros(k, np.int8)
        self.attempts = np.zeros(k, np.int32)  # 0 before a row is given out
        self.remaining = k  # rows that may still get an answer
        self.issues: list[Issue] = []
        self._issued = np.zeros(k, np.int32)  # how many issues there were with the last one of each row
        self._expires: Array | None = None  # when the lease of each row ends
        self.metrics = np.full((k, metrics), np.nan)
        self.std: Array | None = None
        self.cost: Array | None = None
        self.original: Array | None = None  # metrics as first told, where a script's path must not change
        self.reasons: dict[int, str] = {}
        self.chunks: list[Array] = []  # rows that were answered together, where these are not all
        self.raters: dict[str, Ranking] = {}
        self.ranking: Ranking | None = None

    def issue(self, start: int, stop: int, attempt: int, issue: Issue) -> None:
        """Rows start to stop - 1 are given out."""
        if not self.issues or self.issues[-1] is not issue:
            self.issues.append(issue)
        self._issued[start:stop] = len(self.issues)
        self.attempts[start:stop] = attempt
        self.status[start:stop] = OPEN
        if issue.expires is not None and self._expires is None:
            self._expires = np.full(len(self.status), np.inf)
        if self._expires is not None:
            self._expires[start:stop] = np.inf if issue.expires is None else issue.expires

    def issue_of(self, row: int) -> Issue | None:
        """The last time this row was given out."""
        last = int(self._issued[row])
        return self.issues[last - 1] if last else None

    def attempt(self, row: int) -> int:
        """How often this row was given out."""
        return int(self.attempts[row])

    def rows(self, *statuses: int) -> Array:
        """Rows that have one of these states."""
        found = self.status == statuses[0]
        for status in statuses[1:]:
            found |= self.status == status
        return np.flatnonzero(found)

    def expired(self, now: float) -> Array:
        """Open rows whose lease has run out."""
        if self._expires is None:
            return np.zeros(0, np.int64)
        return np.flatnonzero((self.status == OPEN) & (self._expires <= now))

    def owned(self, rows: Array, owner: str) -> Array:
        """Those of some rows that were last given out to this owner."""
        mine = np.array([False] + [issue.owner == owner for issue in self.issues])  # the first one stands for no issue
        return np.asarray(rows[mine[self._issued[rows]]])

    def keep(self, metrics: Array, std: Array | None, cost: Array | None, rows: Array | int) -> None:
        """What was told of some rows; standard errors and costs that were told before are replaced, too."""
        self.metrics[rows] = metrics
        if std is not None and self.std is None:
            self.std = np.full(self.metrics.shape, np.nan)
        if self.std is not None:
            self.std[rows] = np.nan if std is None else std
        if cost is not None and self.cost is None:
            self.cost = np.full(len(self.metrics), np.nan)
        if self.cost is not None:
            self.cost[rows] = np.nan if cost is None else cost

    @property
    def answered(self) -> bool:
        """Whether any answer came."""
        return self.ranking is not None or len(self.rows(OK, IMPOSSIBLE)) > 0
