"""What became of a query's rows: one array entry per row, so that a query of 10^5 rows costs what its arrays cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from bbopt.query import Query, Ranking, pool
from bbopt.slates import Ranked, Slate, is_second_look

Array = np.ndarray[Any, np.dtype[Any]]

QUEUED, OPEN, OK, LOST, IMPOSSIBLE, CANCELLED, RANKED, AGAIN = range(8)
STATUS = ("queued", "open", "ok", "lost", "impossible", "cancelled", "ranked", "lost")
"""As people see them. A lost row that waits to go out again has a state of its own inside: AGAIN; LOST is final."""


class Issue:
    """Rows given out together, to an owner, perhaps until a time; seconds: CPU time of that ask; time: of its event."""

    __slots__ = ("expires", "owner", "seconds", "time")

    def __init__(self, owner: str, expires: float | None, seconds: float | None, time: str):
        self.owner, self.expires, self.seconds, self.time = owner, expires, seconds, time


class Record:
    """A query and what became of its rows. Arrays have one entry per row; metrics are in the user's sign. `quorum`: how
    many people must rank it, unless its memo says so."""

    def __init__(self, query: Query, metrics: int, quorum: int) -> None:
        k = query.size
        self.query = query
        self.quorum = int(query.memo.get("quorum", quorum))
        self.step: int | None = query.memo.get("step")  # queries of one step do not depend on each other's answers
        self.seen = 0  # the log position that the strategy knew when it made this query
        self.version = 0  # counts corrections
        self.since = 0  # the log position from which on its answer was known; 0 before
        self.status = np.zeros(k, np.int8)
        self.attempts = np.zeros(k, np.int32)  # 0 before a row is given out
        self.remaining = k  # rows that may still get an answer
        self.issues: list[Issue] = []
        self._issued = np.zeros(k, np.int32)  # how many issues there were with the last one of each row
        self._expires: Array | None = None  # when the lease of each row ends
        self.metrics = np.full((k, metrics), np.nan)
        self.std: Array | None = None
        self.cost: Array | None = None
        self.gradients: dict[int, dict[str, Any]] = {}  # derivatives told with a row, as the user gave them
        self.original: Array | None = None  # metrics as first told, where a script's path must not change
        self.reasons: dict[int, str] = {}
        self.chunks: list[Array] = []  # rows that were answered together, where these are not all
        self.raters: dict[str, Ranked] = {}  # standing answers, in the order in which people first answered
        self.settled: tuple[str, ...] = ()  # whose answers were declared enough
        self.applied: tuple[str, ...] = ()  # whose answers are pooled in the ranking
        self.ranking: Ranking | None = None
        self._before: tuple[Array, int] | None = None  # status and remaining, before it was ranked
        self.slate: Slate | None = None  # as last shown; None after a change

    def issue(self, start: int, stop: int, attempt: int, issue: Issue) -> None:
        """Rows start to stop - 1 are given out."""
        if not self.issues or self.issues[-1] is not issue:
            self.issues.append(issue)
        self._issued[start:stop] = len(self.issues)
        self.attempts[start:stop] = attempt
        self.status[start:stop] = OPEN
        self.slate = None
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
        """Whether any answer came, also one that does not count yet."""
        return bool(self.raters) or len(self.rows(OK, IMPOSSIBLE)) > 0

    # -- rankings ------------------------------------------------------------------------------------------------------

    def standing(self) -> tuple[str, ...]:
        """Who ranks it, second looks left out, in the order in which they did."""
        return tuple(rater for rater in self.raters if not is_second_look(rater))

    def pool(self) -> tuple[str, ...]:
        """Bring the ranking up to date with the raters; whose answers it had before.

        The answers of the first `quorum` people count, or those that were declared enough, as long as they stand.
        """
        standing, before = self.standing(), self.applied
        if self.settled and set(self.settled) <= set(standing):
            self.applied = self.settled
        else:
            self.settled = ()
            self.applied = standing[: self.quorum] if len(standing) >= self.quorum else ()
        answers = tuple(self.raters[rater].ranking for rater in self.applied)
        self.ranking = pool(answers, self.query.size) if answers else None
        self.slate = None
        return before

    def close(self) -> None:
        """Its rows have their answer: a ranking."""
        self._before = self.status.copy(), self.remaining
        self.status[self.rows(QUEUED, OPEN, LOST, AGAIN)] = RANKED
        self.remaining = 0

    def reopen(self) -> None:
        """The ranking is gone: its rows are as they were."""
        assert self._before is not None
        self.status, self.remaining = self._before
        self._before = None

    def as_slate(self, waits: bool) -> Slate:
        """What people see of it; waits: some row may still get an answer."""
        answered = self.ranking is not None or (not waits and len(self.rows(OK, IMPOSSIBLE)) > 0)
        issue = self.issues[-1] if self.issues else None
        return Slate(self.query.id, self.query.numbers, self.query.memo, self.query.origin, self.quorum, tuple(self.raters),
                     answered, not (answered or waits), issue.owner if issue else "", issue.time if issue else "")  # fmt: skip
