"""The ledger: asks, values and failures of a study's log, and what they add up to. `bbopt.book` adds rankings and corrections.

`apply` takes the events in order and keeps, per query, the state of each row; which rows are out, waiting to be asked
again, or queued; which points were seen; and the lessons, in the order in which answers came: what the strategy's state
is folded from. It checks nothing (the optimizer does, before an event is written) and decides everything that has to
come out the same for whoever reads the log.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import numpy as np

from bbopt.derivatives import encoded_slopes
from bbopt.query import Query, Values, rows_from_plain
from bbopt.record import AGAIN, CANCELLED, IMPOSSIBLE, LOST, OK, OPEN, QUEUED, STATUS, Issue, Record
from bbopt.store import Event
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]


class Ledger:
    """Derived state of one study. `retries`: how often a lost row goes out again; `quorum`: people per ranked query;
    `scripted`: the strategy is a script, or another machine of steps, whose path is not changed by older corrections."""

    def __init__(self, task: Task, retries: int, quorum: int, scripted: bool) -> None:
        self.task, self.retries, self.quorum, self.scripted = task, retries, quorum, scripted
        self.position = 0
        self._event: Event  # the one that is being applied
        self.records: list[Record] = []
        self._firsts: list[int] = []
        self.count = 0  # trials made so far
        self.open: dict[int, Record] = {}  # queries with rows that may still get an answer
        self.leased = False
        self.seen: dict[bytes, int] = {}  # encoded rows of every trial, cancelled ones excepted
        self.forbidden: set[bytes] = set()  # impossible rows
        self.lessons: list[tuple[int, int]] = []  # (query, row) as answers came; see `learnt`
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

    def counts(self) -> dict[str, int]:
        """How many trials have each status, for those statuses that occur."""
        each = sum(
            (np.bincount(record.status, minlength=len(STATUS)) for record in self.records), np.zeros(len(STATUS), int)
        )
        found: dict[str, int] = {}
        for status, count in zip(STATUS, each.tolist(), strict=True):
            if count:
                found[status] = found.get(status, 0) + count
        return found

    def used(self) -> int:
        """How many rows have used up an evaluation: answered, or lost for good."""
        return sum(int(np.isin(record.status, (OK, IMPOSSIBLE, LOST)).sum()) for record in self.records)

    def rows_in(self, *statuses: int) -> Iterator[tuple[Record, Array]]:
        """Open queries, in order, with their rows that have one of these states, where there are any."""
        for record in self.open.values():
            rows = record.rows(*statuses)
            if len(rows):
                yield record, rows

    def learnt(self, query: int, row: int) -> Array:
        """The rows of a lesson: all of the query for -1 (or its ranking), chunk -2 - row below that, else the row alone."""
        record = self.records[query]
        if row >= 0:
            return np.array([row])
        return np.arange(record.query.size) if row == -1 else record.chunks[-2 - row]

    def pending(self) -> Array:
        """(p, D) rows that may still get an answer; those of lazy queries are left out."""
        parts = [
            np.asarray(record.query.X)[record.rows(OPEN, QUEUED, AGAIN)]
            for record in self.open.values()
            if not record.query.lazy
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.task.space.dimension))

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
        return Values(Y, G, std, cost, status, rows, self._slopes(record, rows))

    def _slopes(self, record: Record, rows: Array) -> Array | None:
        """(k, m + c, D) derivatives that were told with some rows, None where there are none."""
        if record.gradients.keys().isdisjoint(rows.tolist()):
            return None
        return np.stack(
            [encoded_slopes(self.task, record.query.X[row], record.gradients.get(row, {})) for row in rows.tolist()]
        )

    def feasible(self, record: Record, row: int) -> bool:
        _, G = self.inside(record.metrics[row : row + 1])
        return bool((G <= 0).all())

    # -- folding -------------------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take one event; positions must be consecutive."""
        assert event.position == self.position + 1, (event.position, self.position)
        self._event = event
        getattr(self, f"_on_{event.kind}")(event.body)
        self.position = event.position

    def _add_query(self, plain: dict[str, Any]) -> Record:
        query = Query(
            rows_from_plain(plain["X"], self.task.space), plain["memo"], plain["origin"], len(self.records), self.count
        )
        record = Record(query, len(self.task.metrics), self.quorum)
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
            self._add_query(plain).seen = body["seen"]
        self.leased = self.leased or body["expires"] is not None
        issue = Issue(body["owner"], body["expires"], body["seconds"], self._event.time)
        for first, count, attempt in body["issue"]:
            while count:  # consecutive numbers may belong to several queries
                record, row = self.find(first)
                here = min(count, record.query.size - row)
                record.issue(row, row + here, attempt, issue)
                first, count = first + here, count - here

    def _on_enqueue(self, body: dict[str, Any]) -> None:
        self._add_query(body)

    def _on_add(self, body: dict[str, Any]) -> None:
        for plain, told in zip(body["queries"], body["told"], strict=True):
            record = self._add_query(plain)
            self._on_tell({"number": record.query.first, **told})

    def _on_tell(self, body: dict[str, Any]) -> None:
        record, row = self.find(body["number"])
        self._write(record, row, body)
        self._settle(record, row, OK)

    def _write(self, record: Record, row: int, body: dict[str, Any]) -> None:
        names = self.task.metrics
        std = np.array([body["std"].get(name, np.nan) for name in names]) if body.get("std") else None
        record.keep(np.array([body["values"][name] for name in names]), std, body.get("cost"), row)
        record.gradients.pop(row, None)
        if body.get("gradient"):
            record.gradients[row] = body["gradient"]

    def _settle(self, record: Record, row: int, status: int) -> None:
        """A row has its final state. One that had another final state before is no news: what was learnt changes."""
        before = int(record.status[row])
        record.status[row] = status
        self._see(record, row, status)
        if status in (OK, IMPOSSIBLE):
            self._teach(record, row)
        self._settled(record, 1, late=int(before in (LOST, CANCELLED)))

    def _settle_rows(self, record: Record, rows: Array, codes: Array, whole: bool) -> None:
        """The same for many rows at once; `whole`: for every row of the query, which is one lesson then."""
        late = np.isin(record.status[rows], (LOST, CANCELLED))
        record.status[rows] = codes
        if not record.query.lazy:
            for row, code in zip(rows.tolist(), codes.tolist(), strict=True):
                self._see(record, row, code)
        taught = rows[(codes == OK) | (codes == IMPOSSIBLE)]
        if whole:
            self._teach(record, -1)
        elif len(taught) == 1:
            self._teach(record, int(taught[0]))
        elif len(taught):
            record.chunks.append(taught)
            self._teach(record, -1 - len(record.chunks))
        self._settled(record, len(rows), int(late.sum()))

    def _see(self, record: Record, row: int, status: int) -> None:
        """Which points were seen, and which cannot work, once a row has this state."""
        if record.query.lazy:
            return
        key, number = record.query.X[row].tobytes(), record.query.first + row
        if status != CANCELLED:
            self.seen.setdefault(key, number)
        elif self.seen.get(key) == number:
            del self.seen[key]
        if status == IMPOSSIBLE:
            self.forbidden.add(key)

    def _settled(self, record: Record, rows: int, late: int) -> None:
        if late:
            self._revise(record)
        record.remaining -= rows - late
        if rows > late and not record.remaining:
            self._complete(record)

    def _teach(self, record: Record, lesson: int) -> None:
        record.since = record.since or self._event.position
        self.lessons.append((record.query.id, lesson))

    def _revise(self, record: Record) -> None:
        """What the strategy may have learnt from this query is not so any more."""
        self.revision += 1
        record.version += 1

    def _complete(self, record: Record) -> None:
        self.completed.append(record.query.id)
        self.open.pop(record.query.id, None)
        record.slate = None

    def _on_fail(self, body: dict[str, Any]) -> None:
        record, row = self.find(body["number"])
        record.reasons[row] = body["reason"]
        if body["impossible"]:
            self._settle(record, row, IMPOSSIBLE)
        elif record.status[row] not in (LOST, CANCELLED):
            if max(record.attempt(row), 1) <= self.retries:
                record.status[row] = AGAIN
            else:
                self._settle(record, row, LOST)

    def _on_fail_rows(self, body: dict[str, Any]) -> None:
        record = self.records[body["query"]]
        rows = rows_of(record, body["rows"])
        record.reasons.update(dict.fromkeys(rows.tolist(), body["reason"]))
        if body["impossible"]:
            self._settle_rows(record, rows, np.full(len(rows), IMPOSSIBLE, np.int8), whole=False)
            return
        rows = rows[~np.isin(record.status[rows], (LOST, CANCELLED))]
        again = np.maximum(record.attempts[rows], 1) <= self.retries
        record.status[rows[again]] = AGAIN
        ended = rows[~again]
        if len(ended):
            self._settle_rows(record, ended, np.full(len(ended), LOST, np.int8), whole=False)

    def _on_cancel(self, body: dict[str, Any]) -> None:
        for number in body["numbers"]:
            self._settle(*self.find(number), CANCELLED)

    def _on_tell_query(self, body: dict[str, Any]) -> None:
        record = self.records[body["query"]]
        rows = rows_of(record, body.get("rows"))
        record.keep(body["metrics"], body["std"], body["cost"], rows)
        status = np.zeros(len(rows), int) if body["status"] is None else body["status"]
        codes = np.array([OK, LOST, IMPOSSIBLE], np.int8)[status]
        self._settle_rows(record, rows, codes, whole=body.get("rows") is None)

    def _on_superseded(self, body: dict[str, Any]) -> None:
        """A late answer to an earlier attempt: kept in the log, changes nothing."""


def rows_of(record: Record, plain: Any) -> Array:
    """Rows as they stand in the log: None for all of them, [start, stop], or an array."""
    if plain is None:
        return np.arange(record.query.size)
    return plain if isinstance(plain, np.ndarray) else np.arange(*plain)


def rows_to_log(rows: Array) -> Any:
    """The form for `rows_of`: consecutive rows as a range."""
    start, stop = int(rows[0]), int(rows[-1]) + 1
    return [start, stop] if np.array_equal(rows, np.arange(start, stop)) else rows
