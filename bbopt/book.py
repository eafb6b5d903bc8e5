"""The book: what a study's log adds up to.

`Book.apply` takes the events in order and keeps, per query, the state of each row; which rows are out, waiting to be
asked again, or queued; which points were seen; and the lessons, in the order in which answers came: what the strategy's
state is folded from. It checks nothing (the optimizer does, before an event is written) and decides everything that has
to come out the same for whoever reads the log.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import numpy as np

from bbopt.query import Query, Ranking, Values, pool, rows_from_plain
from bbopt.store import Event
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]

QUEUED, OPEN, OK, LOST, IMPOSSIBLE, CANCELLED, RANKED = range(7)
STATUS = ("queued", "open", "ok", "lost", "impossible", "cancelled", "ranked")


class Issue:
    """Rows given out together: [start, stop) of a query, to an owner, with an attempt, perhaps until a time."""

    __slots__ = ("attempt", "expires", "owner", "seconds", "start", "stop")

    def __init__(self, start: int, stop: int, attempt: int, owner: str, expires: float | None, seconds: float | None):
        self.start, self.stop, self.attempt = start, stop, attempt
        self.owner, self.expires, self.seconds = owner, expires, seconds


class Record:
    """A query and what became of its rows. Arrays have one entry per row; metrics are in the user's sign."""

    def __init__(self, query: Query, metrics: int) -> None:
        k = query.size
        self.query = query
        self.status = np.zeros(k, np.int8)
        self.remaining = k  # rows that may still get an answer
        self.issues: list[Issue] = []
        self.metrics = np.full((k, metrics), np.nan)
        self.std: Array | None = None
        self.cost: Array | None = None
        self.original: Array | None = None  # metrics as first told, where a script's path must not change
        self.reasons: dict[int, str] = {}
        self.raters: dict[str, Ranking] = {}
        self.ranking: Ranking | None = None

    def issue_of(self, row: int) -> Issue | None:
        """The last time this row was given out."""
        return next((issue for issue in reversed(self.issues) if issue.start <= row < issue.stop), None)

    def attempt(self, row: int) -> int:
        issue = self.issue_of(row)
        return issue.attempt if issue else 0

    @property
    def answered(self) -> bool:
        """Whether any answer came."""
        return self.ranking is not None or bool(np.isin(self.status, (OK, IMPOSSIBLE)).any())


class Book:
    """Derived state of one study. `retries`: how often a lost row goes out again; `quorum`: people per ranked query;
    `scripted`: the strategy is a Script, whose path is not changed by older corrections."""

    def __init__(self, task: Task, retries: int, quorum: int, scripted: bool) -> None:
        self.task, self.retries, self.quorum, self.scripted = task, retries, quorum, scripted
        self.position = 0
        self.records: list[Record] = []
        self._firsts: list[int] = []
        self.count = 0  # trials made so far
        self.open: dict[int, Record] = {}  # queries with rows that may still get an answer
        self.retry: list[int] = []  # lost rows that wait to go out again
        self.leased = False
        self.seen: dict[bytes, int] = {}  # encoded rows of every trial, cancelled ones excepted
        self.forbidden: set[bytes] = set()  # impossible rows
        self.lessons: list[tuple[int, int]] = []  # (query, row) as answers came; row -1: a ranking
        self.completed: list[int] = []  # queries, as they were complete
        self.revision = 0  # counts corrections of what was learnt before
        self._sign = np.array([-1.0 if item.maximize else 1.0 for item in task.objectives])
        columns = [(task.m + i, *limit) for i, item in enumerate(task.constraints) for limit in item.limits]
        self._metric = np.array([column for column, _, _ in columns], int)
        self._side = np.array([side for _, side, _ in columns])
        self._limit = np.array([limit for _, _, limit in columns])

    # -- reading -------------------------------------------------------------------------------------------------------

    def find(self, number: int) -> tuple[Record, int]:
        """The query and the row of a trial number (which must exist)."""
        index = bisect_right(self._firsts, number) - 1
        return self.records[index], number - self._firsts[index]

    def rows_with(self, *statuses: int) -> Iterator[tuple[Record, int]]:
        """Rows of open queries that have one of these states, in order of their numbers."""
        for record in self.open.values():
            for row in np.flatnonzero(np.isin(record.status, statuses)).tolist():
                yield record, row

    def pending(self) -> Array:
        """(p, D) rows that may still get an answer; those of lazy queries are left out."""
        parts = []
        for record in self.open.values():
            if not record.query.lazy:
                waits = (record.status == OPEN) | (record.status == QUEUED) | self._again(record)
                parts.append(np.asarray(record.query.X)[waits])
        return np.concatenate(parts) if parts else np.zeros((0, self.task.space.dimension))

    def _again(self, record: Record) -> Array:
        again = np.zeros(len(record.status), bool)
        if self.retry:
            for row in np.flatnonzero(record.status == LOST).tolist():
                again[row] = record.query.first + row in self.retry
        return again

    def inside(self, metrics: Array) -> tuple[Array, Array]:
        """Y (k, m) and G (k, c) from metrics (k, number of metrics) in the user's sign."""
        m = self.task.m
        return metrics[:, :m] * self._sign, self._side * (metrics[:, self._metric] - self._limit)

    def metrics_from(self, Y: Array, G: Array) -> Array:
        """The inverse of `inside`, for queries told as arrays."""
        metrics = np.full((len(Y), len(self.task.metrics)), np.nan)
        metrics[:, : self.task.m] = Y * self._sign
        for column in range(len(self._metric) - 1, -1, -1):  # of two limits, the first speaks
            metrics[:, self._metric[column]] = self._side[column] * G[:, column] + self._limit[column]
        return metrics

    def std_from(self, std: Array) -> Array:
        """Standard errors per metric from those per inside column."""
        errors = np.full((len(std), len(self.task.metrics)), np.nan)
        errors[:, : self.task.m] = std[:, : self.task.m]
        errors[:, self._metric] = std[:, self.task.m :]
        return errors

    def values(self, record: Record, rows: Array) -> Values:
        """What was told of some rows, in inside units."""
        told = record.metrics if record.original is None else record.original
        Y, G = self.inside(told[rows])
        m, k = self.task.m, len(rows)
        std = np.full((k, m + self.task.c), np.nan)
        if record.std is not None:
            std[:, :m] = record.std[rows, :m]
            std[:, m:] = record.std[rows][:, self._metric]
        cost = np.full(k, np.nan) if record.cost is None else record.cost[rows]
        codes = record.status[rows]
        status = ("ok",) * k if (codes == OK).all() else tuple(
            "ok" if code == OK else "impossible" if code == IMPOSSIBLE else "lost" for code in codes.tolist()
        )  # fmt: skip
        return Values(Y, G, std, cost, status, rows)

    def feasible(self, record: Record, row: int) -> bool:
        _, G = self.inside(record.metrics[row : row + 1])
        return bool((G <= 0).all())

    # -- folding -------------------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take one event; positions must be consecutive."""
        assert event.position == self.position + 1, (event.position, self.position)
        getattr(self, f"_on_{event.kind}")(event.body)
        self.position = event.position

    def _add_query(self, plain: dict[str, Any]) -> Record:
        query = Query(
            rows_from_plain(plain["X"], self.task.space), plain["memo"], plain["origin"], len(self.records), self.count
        )
        record = Record(query, len(self.task.metrics))
        self.records.append(record)
        self._firsts.append(self.count)
        self.count += query.size
        self.open[query.id] = record
        if not query.lazy:
            for number, row in zip(query.numbers, np.asarray(query.X), strict=True):
                self.seen.setdefault(row.tobytes(), number)
        return record

    def _on_ask(self, body: dict[str, Any]) -> None:
        for plain in body["queries"]:
            self._add_query(plain)
        for first, count, attempt in body["issue"]:
            self.leased = self.leased or body["expires"] is not None
            if self.retry:
                gone = set(range(first, first + count))
                self.retry = [number for number in self.retry if number not in gone]
            while count:  # consecutive numbers may belong to several queries
                record, row = self.find(first)
                here = min(count, record.query.size - row)
                record.issues.append(Issue(row, row + here, attempt, body["owner"], body["expires"], body["seconds"]))
                record.status[row : row + here] = OPEN
                first, count = first + here, count - here

    def _on_enqueue(self, body: dict[str, Any]) -> None:
        self._add_query(body)

    def _on_add(self, body: dict[str, Any]) -> None:
        for plain, told in zip(body["queries"], body["told"], strict=True):
            record = self._add_query(plain)
            self._on_tell({"number": record.query.first, **told})

    def _on_tell(self, body: dict[str, Any]) -> None:
        record, row = self.find(body["number"])
        late = record.status[row] in (LOST, CANCELLED) and record.query.first + row not in self.retry
        self._write(record, row, body)
        self._settle(record, row, OK, late)

    def _write(self, record: Record, row: int, body: dict[str, Any]) -> None:
        names = self.task.metrics
        record.metrics[row] = [body["values"][name] for name in names]
        if body.get("std"):
            if record.std is None:
                record.std = np.full(record.metrics.shape, np.nan)
            record.std[row] = [body["std"].get(name, np.nan) for name in names]
        elif record.std is not None:
            record.std[row] = np.nan
        if body.get("cost") is not None:
            if record.cost is None:
                record.cost = np.full(len(record.metrics), np.nan)
            record.cost[row] = body["cost"]
        elif record.cost is not None:
            record.cost[row] = np.nan

    def _settle(self, record: Record, row: int, status: int, late: bool) -> None:
        """A row has its final state; `late`: it had another final one before."""
        number = record.query.first + row
        if number in self.retry:
            self.retry.remove(number)
        record.status[row] = status
        if not record.query.lazy:
            key = record.query.X[row].tobytes()
            if status == CANCELLED:
                if self.seen.get(key) == number:
                    del self.seen[key]
            else:
                self.seen.setdefault(key, number)
            if status == IMPOSSIBLE:
                self.forbidden.add(key)
        if status in (OK, IMPOSSIBLE):
            self.lessons.append((record.query.id, row))
        if late:
            self.revision += 1
            return
        record.remaining -= 1
        if not record.remaining:
            self._complete(record)

    def _complete(self, record: Record) -> None:
        self.completed.append(record.query.id)
        self.open.pop(record.query.id, None)

    def _on_fail(self, body: dict[str, Any]) -> None:
        record, row = self.find(body["number"])
        record.reasons[row] = body["reason"]
        late = record.status[row] in (LOST, CANCELLED) and body["number"] not in self.retry
        if body["impossible"]:
            self._settle(record, row, IMPOSSIBLE, late)
        elif not late and max(record.attempt(row), 1) <= self.retries:
            record.status[row] = LOST
            if body["number"] not in self.retry:
                self.retry.append(body["number"])
        elif not late:
            self._settle(record, row, LOST, late)

    def _on_cancel(self, body: dict[str, Any]) -> None:
        for number in body["numbers"]:
            record, row = self.find(number)
            self._settle(record, row, CANCELLED, late=False)

    def _on_tell_query(self, body: dict[str, Any]) -> None:
        record = self.records[body["query"]]
        record.metrics[:] = body["metrics"]
        record.std = None if body["std"] is None else np.array(body["std"])
        record.cost = None if body["cost"] is None else np.array(body["cost"])
        codes = np.array([OK, LOST, IMPOSSIBLE], np.int8)[body["status"]] if body["status"] is not None else None
        record.status[:] = OK if codes is None else codes
        first = record.query.first
        self.retry = [number for number in self.retry if not first <= number < first + record.query.size]
        if not record.query.lazy and codes is not None:
            self.forbidden.update(record.query.X[row].tobytes() for row in np.flatnonzero(codes == IMPOSSIBLE).tolist())
        self.lessons.append((record.query.id, -1))
        record.remaining = 0
        self._complete(record)

    def _on_rank(self, body: dict[str, Any]) -> None:
        record = self.records[body["query"]]
        record.raters[body["rater"]] = Ranking.from_plain(body["ranking"])
        if record.ranking is None and len(record.raters) >= self.quorum:  # later answers are kept, not applied
            record.ranking = pool(tuple(record.raters.values()), record.query.size)
            for row in np.flatnonzero(np.isin(record.status, (QUEUED, OPEN, LOST))).tolist():
                number = record.query.first + row
                if number in self.retry:
                    self.retry.remove(number)
                record.status[row] = RANKED
            record.remaining = 0
            self.lessons.append((record.query.id, -1))
            self._complete(record)

    def _on_superseded(self, body: dict[str, Any]) -> None:
        """A late answer to an earlier attempt: kept in the log, changes nothing."""

    # -- corrections ---------------------------------------------------------------------------------------------------

    def _on_amend(self, body: dict[str, Any]) -> None:
        record, row = self.find(body["number"])
        if self.scripted and self.later_answer(record.query.id):
            if record.original is None:
                record.original = record.metrics.copy()
        elif self.scripted:
            self._cancel_later(record.query.id)
        if record.status[row] != OK:
            record.status[row] = OK
            if body["number"] in self.retry:  # every other state that can be amended was settled before
                self.retry.remove(body["number"])
                record.remaining -= 1
                if not record.remaining:
                    self._complete(record)
            if not {(record.query.id, row), (record.query.id, -1)} & set(self.lessons):
                self.lessons.append((record.query.id, row))
            if not record.query.lazy:
                key = record.query.X[row].tobytes()
                self.forbidden.discard(key)
                self.seen.setdefault(key, body["number"])
        self._write(record, row, body)
        self.revision += 1

    def _on_retract(self, body: dict[str, Any]) -> None:
        record, row = self.find(body["number"])
        query = record.query.id
        if self.scripted:
            self._cancel_later(query)
        if record.ranking is not None or record.raters:
            for rater in [body["rater"]] if body["rater"] else list(record.raters):
                record.raters.pop(rater, None)
            if record.ranking is not None and len(record.raters) < self.quorum:
                record.ranking = None
                record.status[record.status == RANKED] = OPEN
                record.remaining = int((record.status == OPEN).sum())
                self._reopen(record, -1)
            elif record.ranking is not None:
                record.ranking = pool(tuple(record.raters.values()), record.query.size)
        else:
            record.metrics[row] = np.nan
            for array in (record.std, record.cost):
                if array is not None:
                    array[row] = np.nan
            record.status[row] = OPEN
            record.reasons.pop(row, None)
            record.remaining += 1
            if not record.query.lazy:
                key = record.query.X[row].tobytes()
                self.forbidden.discard(key)
                self.seen.setdefault(key, body["number"])
            self._reopen(record, row)
        self.revision += 1

    def _reopen(self, record: Record, row: int) -> None:
        query = record.query.id
        if (query, -1) in self.lessons:  # told as a whole: the other rows stay told, one by one
            self.lessons.remove((query, -1))
            if row >= 0:
                told = np.flatnonzero(np.isin(record.status, (OK, IMPOSSIBLE))).tolist()
                self.lessons += [(query, other) for other in told if other != row]
        if (query, row) in self.lessons:
            self.lessons.remove((query, row))
        if query in self.completed:
            self.completed.remove(query)
        self.open[query] = record
        self.open = dict(sorted(self.open.items()))

    def later_answer(self, query: int) -> bool:
        """Whether a later query of the strategy has an answer."""
        return any(other.answered and other.query.origin == "strategy" for other in self.records[query + 1 :])

    def _cancel_later(self, query: int) -> None:
        for other in self.records[query + 1 :]:
            if other.query.origin == "strategy" and other.query.id in self.open:
                for row in np.flatnonzero(np.isin(other.status, (QUEUED, OPEN, LOST))).tolist():
                    self._settle(other, row, CANCELLED, late=False)
                self.completed.remove(other.query.id)
