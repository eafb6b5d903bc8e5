"""How an ask is planned: which rows go out again, which wait already, and what the strategy has to add.

Rows go out in this order: lost ones (attempt + 1) and expired leases, points that people enqueued, rows of open queries
not handed out yet, and then new queries of the strategy. What the strategy proposes is made honest here, for every
strategy alike: held columns are set, rows are canonical, satisfy `where`, and are not repeats (unless noise is declared).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bbopt.book import Book
from bbopt.deadline import Deadline
from bbopt.errors import BboptError, Exhausted, NotHandled, Waiting
from bbopt.outcome import Batch
from bbopt.query import Key, Query, Request, rows_to_plain
from bbopt.record import AGAIN, QUEUED, Record
from bbopt.strategy import Strategy
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]

FEW = 20_000  # finite spaces up to this size are written out as soon as points become scarce
MANY = 500_000  # and up to this size before saying that none is left


@dataclass
class Plan:
    """What one ask will write: new queries, and rows to issue as [first number, count, attempt]."""

    queries: list[Query] = field(default_factory=list)
    issue: list[list[int]] = field(default_factory=list)
    short: Exception | None = None  # why there are fewer rows than wanted
    seconds: float = 0.0

    def add(self, first: int, count: int, attempt: int) -> None:
        """Consecutive numbers go out."""
        last = self.issue[-1] if self.issue else None
        if last and last[0] + last[1] == first and last[2] == attempt:
            last[1] += count
        else:
            self.issue.append([first, count, attempt])

    @property
    def rows(self) -> int:
        return sum(count for _, count, _ in self.issue)

    def body(self, seen: int, owner: str, expires: float | None) -> dict[str, Any]:
        queries = [{"X": rows_to_plain(q.X), "memo": dict(q.memo), "origin": q.origin} for q in self.queries]
        return {"seen": seen, "owner": owner, "expires": expires, "seconds": self.seconds,
                "queries": queries, "issue": self.issue}  # fmt: skip


def batches_of(book: Book, issue: list[list[int]]) -> list[Batch]:
    """Rows as a plan issues them, in batches: those of one query and attempt that follow each other are one."""
    parts: list[tuple[Query, int, list[Array]]] = []
    for first, count, attempt in issue:
        while count:  # consecutive numbers may belong to several queries
            record, row = book.find(first)
            here = min(count, record.query.size - row)
            if not parts or parts[-1][0] is not record.query or parts[-1][1] != attempt:
                parts.append((record.query, attempt, []))
            parts[-1][2].append(np.arange(row, row + here))
            first, count = first + here, count - here
    return [Batch(query, np.concatenate(rows), attempt) for query, attempt, rows in parts]


Waits = tuple[tuple[int, int, int], ...]
"""Rows that can go out without asking the strategy, in order: (first number, count, next attempt) of consecutive ones."""


def waiting_rows(book: Book, held: Mapping[int, float], now: float, most: int) -> Waits:
    """The first `most` rows that can go out as they are: lost ones, expired leases, people's points, then the strategy's."""
    runs: list[tuple[int, int, int]] = []
    wanted = most
    for record, rows in _in_order(book, now):
        chosen = _holding(record, rows, held)[:wanted]
        if len(chosen):
            wanted -= len(chosen)
            runs += _runs(record, chosen)
        if not wanted:
            break
    return tuple(runs)


def _in_order(book: Book, now: float) -> Iterator[tuple[Record, Array]]:
    yield from book.rows_in(AGAIN)
    if book.leased:
        for record in book.open.values():
            yield record, record.expired(now)
    fresh = list(book.rows_in(QUEUED))
    yield from (item for item in fresh if item[0].query.origin == "user")
    yield from (item for item in fresh if item[0].query.origin != "user")


def _holding(record: Record, rows: Array, held: Mapping[int, float]) -> Array:
    """Those of some rows that have these columns at these values."""
    if not held or not len(rows):
        return rows
    columns = list(held)
    same = [np.array_equal(record.query.X[row][columns], list(held.values())) for row in rows.tolist()]
    return np.asarray(rows[np.array(same)])


def _runs(record: Record, rows: Array) -> list[tuple[int, int, int]]:
    attempts = record.attempts[rows] + 1
    starts = np.flatnonzero(np.append(True, (np.diff(rows) != 1) | (np.diff(attempts) != 0)))
    counts = np.diff(np.append(starts, len(rows)))
    numbers = record.query.first + rows[starts]
    return list(zip(numbers.tolist(), counts.tolist(), attempts[starts].tolist(), strict=True))


def count_of(waits: Waits) -> int:
    """How many rows wait."""
    return sum(count for _, count, _ in waits)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A study at one log position, as far as an ask needs it: planning works on this while tells go on.

    request: what is wanted; rows: how many may go out if they are there; state: of the strategy; waits: the first of those
    that can go out as they are; queries: how many there are; avoid: encoded rows that must not be asked (it may grow
    meanwhile, which does no harm); position: in the log.
    """

    request: Request
    rows: int
    state: Any
    waits: Waits
    queries: int
    avoid: Collection[bytes]
    position: int

    @staticmethod
    def of(
        task: Task,
        book: Book,
        state: Any,
        n: int,
        rows: int,
        fixed: dict[int, float],
        context: dict[int, float],
        now: float,
        deadline: Deadline | None = None,
    ) -> Snapshot:
        mine = tuple(record.query for record in book.open.values() if record.query.origin == "strategy")
        request = Request(n, book.count, book.pending(), open=mine, fixed=fixed, context=context, deadline=deadline)
        waits = waiting_rows(book, request.held, now, rows)
        return Snapshot(
            request, rows, state, waits, len(book.records), book.forbidden if task.noisy else book.seen, book.position
        )


def make_plan(task: Task, strategy: Strategy, seed: int, look: Snapshot, whole: bool) -> Plan:
    """What waits, up to `look.rows` rows, and what the strategy proposes where these are fewer than `request.n`. Fewer than
    that, with the reason, if there are no more. With `whole`, one new query with all its rows instead.
    """
    plan = Plan()
    request, n = look.request, look.request.n
    started = time.thread_time()
    if not whole:
        for run in look.waits:
            plan.add(*run)
    count, index = request.number, look.queries
    open_queries, pending = list(request.open), request.pending
    taken: set[bytes] = set()
    while plan.rows < n:
        key = Key(seed, index)
        wanted = replace(request, n=n - plan.rows, number=count, pending=pending, open=tuple(open_queries))
        try:
            query = strategy.ask(task, look.state, wanted, key)
            _check_memo(query)
            query = _in_time(query, request.deadline)
            query = replace(query, X=honest_rows(task, query, wanted, key, look.avoid, taken), id=index, first=count)
        except (Waiting, Exhausted) as reason:
            plan.short = reason
            break
        plan.queries.append(query)
        open_queries.append(query)
        if not query.lazy:
            X = np.asarray(query.X)
            taken.update(row.tobytes() for row in X)
            pending = np.concatenate([pending, X])
        if whole:
            plan.issue.append([count, query.size, 1])
            break
        plan.add(count, min(query.size, look.rows - plan.rows), 1)
        count, index = count + query.size, index + 1
    plan.seconds = time.thread_time() - started
    return plan


def _in_time(query: Query, deadline: Deadline | None) -> Query:
    """The query, with a note where it came too late: not every strategy has a cheaper way."""
    late = "" if deadline is None else deadline.missed()
    notes = [str(query.memo["note"])] if query.memo.get("note") else []
    return replace(query, memo={**query.memo, "note": "; ".join([*notes, late])}) if late else query


def _check_memo(query: Query) -> None:
    """What the book reads of a memo is what the book expects."""
    for name, least in (("quorum", 1), ("step", 0)):
        value = query.memo.get(name, least)
        if type(value) is not int or value < least:
            raise BboptError(f"the strategy gave a query with {name} = {value!r} in its memo: expected a whole number of at least {least}")  # fmt: skip


def honest_rows(
    task: Task, query: Query, request: Request, key: Key, avoid: Collection[bytes], taken: set[bytes]
) -> Any:
    """The rows of a proposed query as they will be asked."""
    space = task.space
    if not isinstance(query.X, np.ndarray):
        if space.conditional or task.where:
            raise NotHandled(
                "lazy query rows need a space without `when=` and a task without `where=`: ask dense rows instead"
            )
        return query.X.canonical(space)
    held = request.held
    X = np.array(query.X)
    for column, value in held.items():
        X[:, column] = value
    X = space.canonical(np.where(np.isfinite(X), X, 0.5))
    if task.where:
        wrong = ~task.known(X)
        if wrong.any():
            X[wrong] = task.feasible.repair(X[wrong], key.rng("repair"), held)
    return _distinct(task, X, held, key, avoid, taken)


def _distinct(
    task: Task, X: Array, held: Mapping[int, float], key: Key, avoid: Collection[bytes], taken: set[bytes]
) -> Array:
    """Rows without repeats. A repeat is replaced by a point drawn from what is left; without one, Exhausted."""
    new: set[bytes] = set()
    repeats = []
    for i, row in enumerate(X):
        name = row.tobytes()
        if name in avoid or (not task.noisy and (name in taken or name in new)):
            repeats.append(i)
        new.add(name)
    if not repeats:
        return X
    fresh = _fresh(task, len(repeats), held, key.rng("distinct"), avoid, new if task.noisy else new | taken, task.noisy)
    if len(fresh) < len(repeats):
        left = len(X) - len(repeats) + len(fresh)
        if task.noisy or not left:
            raise Exhausted("every point of the space has been asked (or cannot work), and repeats are not wanted: "
                            "stop here, or declare noise on the objective to allow repeats")  # fmt: skip
        keep = [i for i in range(len(X)) if i not in repeats]
        return np.concatenate([X[keep], fresh]) if len(fresh) else X[keep]
    X[repeats] = fresh
    return X


def _fresh(
    task: Task, n: int, held: Mapping[int, float], rng: np.random.Generator, avoid: Any, new: set[bytes], noisy: bool
) -> Array:
    """Up to n feasible rows that are not among those to avoid; different ones, as long as there are any."""
    found: dict[bytes, Array] = {}
    known = set() if noisy else new
    for _ in range(20):
        for row in task.feasible.sample(4 * n + 16, rng, held):
            name = row.tobytes()
            if name not in avoid and name not in known:
                found.setdefault(name, row)
        if len(found) >= n:
            return np.array(list(found.values())[:n])
        if task.space.size is not None and task.space.size <= FEW:
            break
    everything = task.feasible.enumerate(MANY) if task.space.size is not None else None
    if everything is not None:
        for column, value in held.items():
            everything = everything[everything[:, column] == value]
        for row in everything[rng.permutation(len(everything))]:
            name = row.tobytes()
            if name not in avoid and name not in known:
                found.setdefault(name, row)
    rows = list(found.values())[:n]
    if noisy and rows:
        rows = [rows[i % len(rows)] for i in range(n)]
    return np.array(rows) if rows else np.zeros((0, task.space.dimension))
