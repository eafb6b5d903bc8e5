"""The optimizer keeps the books: ask for points, tell what came of them, from any number of processes.

Every call is one transaction on the log of the study. The state of the strategy is folded from the log, never stored, so
closing, killing and reopening a study changes nothing.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from bbopt import table
from bbopt.asking import Plan, make_plan, waiting_rows
from bbopt.book import CANCELLED, IMPOSSIBLE, LOST, OK, OPEN, QUEUED, RANKED, STATUS, Book, Record
from bbopt.errors import AlreadyTold, Exhausted, NotHandled, StudyExists, TaskMismatch, UnknownTrial, UsageError, ValueRefused, Waiting
from bbopt.pareto import non_dominated
from bbopt.query import Key, Query, Ranking, Request, Values, rows_to_plain
from bbopt.store import Event, MemoryStore, SQLiteStore, Store, Writer, process_name
from bbopt.strategy import Recommends, Strategy
from bbopt.task import Task, read_number
from bbopt.trial import Trial

Array = np.ndarray[Any, np.dtype[Any]]
StorePath = str | os.PathLike[str] | Store | None

ASKER_SECONDS = 120.0  # after this, another process may take over an ask that never ended
FORMAT = 1


class Optimizer:
    """A study: a task, a strategy, and the log of what was asked and told.

    task: what to solve; strategy: a name from `bbopt strategies` or an instance; seed: of all randomness; budget: a hint
    (evaluations in all) for `auto`; store: path of an SQLite file, None keeps the study in memory; name: of the study in
    the file, which must be new there (`open` and `create_or_open` go on with one); retries: how often a lost trial goes
    out again; quorum: how many people must rank a query; lease: seconds after which an unanswered trial goes out again,
    None for never; owner: who asks, by default this process.

    >>> from bbopt.space import Float, Space
    >>> opt = Optimizer(Task(Space(x=Float(-1, 1))), strategy="random", seed=1)
    >>> for _ in range(20):
    ...     trial = opt.ask()
    ...     opt.tell(trial, trial.params["x"] ** 2)
    >>> opt.best().values["objective"] < 0.1
    True
    """

    def __init__(
        self,
        task: Task,
        strategy: str | Strategy = "auto",
        *,
        seed: int = 0,
        budget: int | None = None,
        store: StorePath = None,
        name: str = "study",
        retries: int = 2,
        quorum: int = 1,
        lease: float | None = None,
        owner: str | None = None,
    ) -> None:
        if not isinstance(task, Task):
            raise UsageError(f"Optimizer: expected a Task, got {task!r}; make one by bbopt.Task(space)")
        for what, value, least in (("seed", seed, 0), ("retries", retries, 0), ("quorum", quorum, 1), ("budget", budget, 1)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise UsageError(f"Optimizer: {what}: expected a whole number of at least {least}, got {value!r}")
        made, reason = table.make(strategy, task, budget)
        table.check(made, task)
        definition = {
            "format": FORMAT,
            "task": task.to_json(),
            "strategy": table.to_json(made),
            "reason": reason,
            "seed": seed,
            "budget": budget,
            "retries": retries,
            "quorum": quorum,
        }
        opened = _open_store(store, create=True)
        opened.create(name, definition)
        self._start(opened, name, definition, task, made, lease, owner)

    @classmethod
    def open(
        cls,
        store: StorePath,
        name: str = "study",
        *,
        strategy: Strategy | None = None,
        task: Task | None = None,
        lease: float | None = None,
        owner: str | None = None,
    ) -> Optimizer:
        """Go on with a study. `strategy` must be given again for a class of the user's own; a `task`, if given, must be the
        study's. Raises StoreMissing, StudyMissing, TaskMismatch."""
        opened = _open_store(store, create=False)
        definition = opened.definition(name)
        saved = Task.from_json(definition["task"])
        if task is not None and task != saved:
            lines = "\n  ".join(task.difference(saved))
            raise TaskMismatch(
                f"the study {name!r} was made for another task:\n  {lines}\n"
                "Open it without a task, or make a new study for the new task and bring the trials along: "
                "old.to_csv(path); new.from_csv(path)"
            )
        if strategy is None:
            strategy = table.from_json(definition["strategy"])
        elif table.to_json(strategy) != definition["strategy"]:
            raise TaskMismatch(
                f"the study {name!r} was made with {definition['strategy']}, got {table.to_json(strategy)}; "
                "open it with that strategy, or make a new study"
            )
        self = cls.__new__(cls)
        self._start(opened, name, definition, saved, strategy, lease, owner)
        return self

    @classmethod
    def create_or_open(
        cls,
        task: Task,
        strategy: str | Strategy = "auto",
        *,
        seed: int = 0,
        budget: int | None = None,
        store: StorePath,
        name: str = "study",
        retries: int = 2,
        quorum: int = 1,
        lease: float | None = None,
        owner: str | None = None,
    ) -> Optimizer:
        """The study of this name, made if it is not there. An existing one keeps its strategy, seed and options; its task
        must be equal (TaskMismatch otherwise)."""
        opened = _open_store(store, create=True)
        if name not in opened.studies():
            try:
                return cls(task, strategy, seed=seed, budget=budget, store=opened, name=name, retries=retries, quorum=quorum,
                           lease=lease, owner=owner)  # fmt: skip
            except StudyExists:  # another process was quicker
                pass
        instance = None if isinstance(strategy, str) else strategy
        return cls.open(opened, name, strategy=instance, task=task, lease=lease, owner=owner)

    def _start(
        self,
        store: Store,
        name: str,
        definition: Mapping[str, Any],
        task: Task,
        strategy: Strategy,
        lease: float | None,
        owner: str | None,
    ) -> None:
        self.task, self.strategy, self.name = task, strategy, name
        self.seed: int = definition["seed"]
        self.budget: int | None = definition["budget"]
        self.retries: int = definition["retries"]
        self.reason: str = definition["reason"]
        self.owner = owner or process_name()
        self.lease = lease
        self._store = store
        self._lock = threading.RLock()
        self._clock: Callable[[], float] = time.time
        self._asker = f"{process_name()}:{uuid.uuid4().hex[:8]}"
        self._book = Book(task, definition["retries"], definition["quorum"], getattr(strategy, "scripted", False))
        self._fold: tuple[int, int, Any] | None = None  # (revision, lessons taken, state)
        self._sync()

    # -- asking --------------------------------------------------------------------------------------------------------

    @overload
    def ask(self, n: None = None, *, context: Mapping[str, Any] | None = None, fixed: Mapping[str, Any] | None = None,
            owner: str | None = None, lease: float | None = None) -> Trial: ...  # fmt: skip
    @overload
    def ask(self, n: int, *, fewer: bool = False, context: Mapping[str, Any] | None = None,
            fixed: Mapping[str, Any] | None = None, owner: str | None = None, lease: float | None = None) -> list[Trial]: ...  # fmt: skip
    def ask(
        self,
        n: int | None = None,
        *,
        fewer: bool = False,
        context: Mapping[str, Any] | None = None,
        fixed: Mapping[str, Any] | None = None,
        owner: str | None = None,
        lease: float | None = None,
    ) -> Trial | list[Trial]:
        """One trial, or a list of n. With `fewer`, up to n (at least one).

        context: values of the context parameters; fixed: values that this ask must keep; owner, lease: as in the
        constructor, for these trials. Raises Waiting (answers must come first) or Exhausted (no points left) where n
        cannot be had; nothing was handed out then.
        """
        wanted = 1 if n is None else n
        if isinstance(wanted, bool) or not isinstance(wanted, int | np.integer) or wanted < 1:
            raise UsageError(f"ask: expected a positive number of trials, got {n!r}")
        held = self._held(fixed or {}, context or {})
        with self._lock:
            plan = self._issue(int(wanted), fewer, *held, owner, lease)
            numbers = [first + i for first, count, _ in plan.issue for i in range(count)]
            trials = [self._trial(number) for number in numbers]
        return trials[0] if n is None else trials

    def ask_query(self, n: int = 1, *, owner: str | None = None, lease: float | None = None) -> Query:
        """The next query as a whole, at array level: n rows from a strategy of free batch size, else its own number.

        A query that waits for its rows to be handed out comes first. Answer it by `tell_query`, by `rank`, or row by row.
        """
        with self._lock:
            for record in list(self._book.open.values()):
                if (record.status == QUEUED).all():
                    self._issue_rows(record.query.first, record.query.size, owner, lease)
                    return record.query
            count = len(self._book.records)
            self._issue(n, True, {}, {}, owner, lease, whole=True)
            return self._book.records[count].query

    def _issue_rows(self, first: int, count: int, owner: str | None, lease: float | None) -> None:
        with self._writing() as (writer, events):
            plan = Plan(issue=[[first, count, 1]])
            events.append(writer.append("ask", plan.body(self._book.position, owner or self.owner, self._expiry(lease))))

    def _held(self, fixed: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[dict[int, float], dict[int, float]]:
        space = self.task.space
        contexts = space.roles("context")
        if set(context) != set(contexts):
            got = ", ".join(context) or "nothing"
            raise UsageError(f"ask: expected context= with {', '.join(contexts) or 'nothing'} (the context parameters), got {got}")
        for name in fixed:
            if name in contexts:
                raise UsageError(f"ask: {name} is a context parameter; give it in context=, not in fixed=")
        if fixed and "fixed" not in self.strategy.handles:
            raise NotHandled(f"ask: {type(self.strategy).__name__} cannot keep parameters fixed; strategies that can: "
                             f"{', '.join(table.having('fixed'))}")  # fmt: skip
        return space.encode_some(fixed), space.encode_some(context)

    def _expiry(self, lease: float | None) -> float | None:
        seconds = self.lease if lease is None else lease
        return None if seconds is None else self._clock() + seconds

    def _issue(
        self,
        n: int,
        fewer: bool,
        fixed: dict[int, float],
        context: dict[int, float],
        owner: str | None,
        lease: float | None,
        whole: bool = False,
    ) -> Plan:
        """Plan and write one ask. An instant strategy works inside the transaction; others on a snapshot, under the
        asker's lock, and again if another process asked meanwhile."""

        def planned() -> Plan:
            book = self._book
            request = Request(n, book.count, book.pending(), fixed=fixed, context=context)
            plan = make_plan(self.task, self.strategy, self._state(), book, self.seed, request, self._clock(), whole)
            self._check_short(plan, n, fewer)
            return plan

        def commit(writer: Writer, events: list[Event], plan: Plan, seen: int) -> None:
            events.append(writer.append("ask", plan.body(seen, owner or self.owner, self._expiry(lease))))

        if self.strategy.instant:
            with self._writing() as (writer, events):
                plan = planned()
                commit(writer, events, plan, self._book.position)
            return plan
        self._sync()
        if not whole and len(waiting_rows(self._book, {**context, **fixed}, self._clock())) >= n:
            with self._writing() as (writer, events):  # nothing to compute: no need to wait for other askers
                if len(waiting_rows(self._book, {**context, **fixed}, self._clock())) >= n:
                    plan = planned()
                    commit(writer, events, plan, self._book.position)
                    return plan
        with self._asking():
            while True:
                self._sync()
                seen, made = self._book.position, len(self._book.records)
                waits = waiting_rows(self._book, {**context, **fixed}, self._clock())
                plan = planned()
                with self._writing() as (writer, events):
                    if len(self._book.records) != made or waiting_rows(
                        self._book, {**context, **fixed}, self._clock()
                    ) != waits:
                        continue  # somebody asked, enqueued or lost something meanwhile: plan again
                    commit(writer, events, plan, seen)
                    writer.release(self._asker)
                return plan

    def _check_short(self, plan: Plan, n: int, fewer: bool) -> None:
        if plan.short is None or (fewer and plan.rows):
            return
        rows = f"{plan.rows} row{'s' if plan.rows != 1 else ''}"
        if isinstance(plan.short, Waiting):
            trials = [self._trial(r.query.first + row) for r, row in self._book.rows_with(OPEN)] if not self._wide() else []
            hint = f"{rows} can be had now by ask({n}, fewer=True)" if plan.rows else "tell, fail or cancel the open trials first"
            raise Waiting(f"ask: expected {n} rows, but the strategy waits for {len(trials)} open trials; {hint}",
                          open=trials, available=plan.rows)  # fmt: skip
        raise Exhausted(f"{plan.short}" if not plan.rows else f"ask: expected {n} rows, {rows} left in the space: ask({plan.rows})")

    def _wide(self) -> bool:
        return any(record.query.lazy for record in self._book.open.values())

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """The asker's lock: of several processes one computes, the others wait for their turn."""
        pause = 0.005
        while not self._store.lock(self.name, self._asker, ASKER_SECONDS):
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
        try:
            yield
        except BaseException:
            self._store.unlock(self.name, self._asker)
            raise

    def enqueue(self, params: Mapping[str, Any]) -> Trial:
        """Put a point in front: the next ask hands it out. Conditions of `where` are checked here."""
        x = self._known_point(params, "enqueue")
        with self._lock, self._writing() as (writer, events):
            number = self._book.count
            events.append(writer.append("enqueue", {"X": rows_to_plain(x[None]), "memo": {}, "origin": "user"}))
        return self._trial(number)

    def _known_point(self, params: Mapping[str, Any], what: str) -> Array:
        x = self.task.space.encode(params)
        if self.task.where and not self.task.known(x[None])[0]:
            failed = [text for text, rule in zip(self.task.where, self.task._rules, strict=True)
                      if not rule.holds(self.task.space.values(x[None]), 1)[0]]  # fmt: skip
            raise UsageError(f"{what}: expected a point that satisfies `where`, but {failed[0]!r} does not hold for {dict(params)}")
        return x

    # -- telling -------------------------------------------------------------------------------------------------------

    def tell(
        self,
        trial: Trial | int,
        values: Any,
        *,
        std: Mapping[str, float] | float | None = None,
        cost: float | None = None,
    ) -> None:
        """Record the result of a trial, durably. The same result twice is a no-op.

        values: a dict from metric to number (a bare number for a single metric); std: standard errors; cost: what the
        evaluation cost. Raises ValueRefused, UnknownTrial, or AlreadyTold for another result than before.
        """
        self.tell_many([(trial, values, std, cost)])

    def tell_many(self, results: Iterable[Sequence[Any]]) -> None:
        """Several results in one transaction: (trial, values), (trial, values, std) or (trial, values, std, cost) each.

        All are recorded, or none if one is refused.
        """
        told = []
        for trial, values, *rest in results:
            number = self._number(trial)
            told.append((trial, number, self._read_result(values, *rest, what=f"trial {number}")))
        with self._lock, self._writing() as (writer, events):
            for trial, number, body in told:
                record, row = self._find(number)
                code = int(record.status[row])
                if code in (OK, IMPOSSIBLE, RANKED):
                    if code == OK and _same_result(self._body_of(record, row), body):
                        continue
                    self._refuse_second(writer, events, trial, record, row, body)
                    continue
                event = writer.append("tell", {"number": number, "attempt": record.attempt(row), **body})
                events.append(event)
                self._apply(events)

    def _read_result(self, values: Any, std: Any = None, cost: Any = None, what: str = "the result") -> dict[str, Any]:
        metrics = self.task.read_metrics(values, what)
        deviations = self.task.read_deviations(std, f"{what}: std")
        price = None if cost is None else read_number(cost, f"{what}: cost")
        return {"values": metrics, "std": deviations, "cost": price}

    def _refuse_second(
        self, writer: Writer, events: list[Event], trial: Any, record: Record, row: int, body: dict[str, Any]
    ) -> None:
        """A second, different answer: a late one of an earlier attempt is logged, anything else is an error."""
        number, attempt = record.query.first + row, record.attempt(row)
        if attempt > 1 and (not isinstance(trial, Trial) or trial.attempt <= attempt):
            events.append(writer.append("superseded", {"number": number, **body}))
            self._apply(events)
            return
        before = self._trial(number)
        raise AlreadyTold(f"trial {number} is {before.status} already ({_short(before)}), got {_short_body(body)}; "
                          f"amend({number}, ...) corrects it, retract({number}) takes it back")  # fmt: skip

    def fail(self, trial: Trial | int, reason: str = "", *, impossible: bool = False) -> None:
        """Record that a trial has no result: lost (it goes out again, up to `retries` times), or impossible (the point
        cannot work: it is never asked again, and strategies learn to keep away from its like)."""
        number = self._number(trial)
        with self._lock, self._writing() as (writer, events):
            record, row = self._find(number)
            code = int(record.status[row])
            if code in (OK, RANKED) or (code == IMPOSSIBLE and not impossible):
                if record.attempt(row) > 1 and isinstance(trial, Trial) and trial.attempt < record.attempt(row):
                    events.append(writer.append("superseded", {"number": number, "reason": str(reason)}))
                    return
                raise AlreadyTold(f"trial {number} is {STATUS[code]} already ({_short(self._trial(number))}); "
                                  f"retract({number}) takes that back")  # fmt: skip
            late = isinstance(trial, Trial) and trial.attempt < record.attempt(row) and not impossible
            if code == IMPOSSIBLE or (code in (LOST, CANCELLED) and not impossible) or late:
                return
            body = {"number": number, "attempt": record.attempt(row), "reason": str(reason), "impossible": bool(impossible)}
            events.append(writer.append("fail", body))

    def cancel(self, trial: Trial | int) -> None:
        """Take an open or queued trial out: nobody will answer it. Its point may be asked again one day."""
        number = self._number(trial)
        with self._lock, self._writing() as (writer, events):
            record, row = self._find(number)
            code = int(record.status[row])
            if code in (OK, IMPOSSIBLE, RANKED):
                raise AlreadyTold(f"trial {number} is {STATUS[code]} already; retract({number}) takes its answer back")
            if code == CANCELLED or (code == LOST and number not in self._book.retry):
                return
            events.append(writer.append("cancel", {"numbers": [number]}))

    def add(
        self,
        params: Mapping[str, Any],
        values: Any,
        *,
        std: Mapping[str, float] | float | None = None,
        cost: float | None = None,
    ) -> Trial:
        """Record a point that was never asked, with its result."""
        return self.add_many([(params, values, std, cost)])[0]

    def add_many(self, points: Iterable[Sequence[Any]]) -> list[Trial]:
        """Several points with results, as for `add`, in one transaction."""
        queries, told = [], []
        for params, values, *rest in points:
            x = self.task.space.encode(params)
            queries.append({"X": rows_to_plain(x[None]), "memo": {}, "origin": "user"})
            told.append(self._read_result(values, *rest, what=f"point {len(told)}"))
        if not queries:
            return []
        with self._lock, self._writing() as (writer, events):
            first = self._book.count
            events.append(writer.append("add", {"queries": queries, "told": told}))
        return [self._trial(first + i) for i in range(len(queries))]

    def tell_query(self, query: Query | int, values: Values | Any) -> None:
        """Record the answer to a whole query at array level: `Values` in inside units (minimised; G <= 0 is feasible), or
        an array of objective values (k,) or (k, m) for a task without constraints, in inside units too."""
        index = query.id if isinstance(query, Query) else query
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self._book.records):
            raise UsageError(f"tell_query: expected a query of this study, got {query!r}")
        given = values if isinstance(values, Values) else Values.of(values)
        with self._lock, self._writing() as (writer, events):
            record = self._book.records[index]
            shape = (record.query.size, self.task.m), (record.query.size, self.task.c)
            if (given.Y.shape, given.G.shape) != shape or not np.array_equal(given.rows, np.arange(record.query.size)):
                raise ValueRefused(f"tell_query: expected Y {shape[0]} and G {shape[1]} for every row in order, got Y {given.Y.shape} and G {given.G.shape}")  # fmt: skip
            ok = given.ok
            if not (np.isfinite(given.Y[ok]).all() and np.isfinite(given.G[ok]).all()):
                row = int(np.flatnonzero(ok)[~np.isfinite(np.hstack([given.Y, given.G])[ok]).all(axis=1)][0])
                raise ValueRefused(f"tell_query: row {row}: expected finite numbers, got {given.Y[row]}, {given.G[row]}")
            if (np.isin(record.status, (OK, IMPOSSIBLE, RANKED))).any():
                raise AlreadyTold(f"query {index} has answers already; amend or retract its trials {record.query.numbers}")
            plain = ok.all() and np.isnan(given.std).all()
            codes = np.array([("ok", "lost", "impossible").index(status) for status in given.status], np.int8)
            std = None if np.isnan(given.std).all() else self._book.std_from(given.std)
            body = {
                "query": index,
                "metrics": self._book.metrics_from(given.Y, given.G),
                "std": std,
                "cost": None if np.isnan(given.cost).all() else given.cost,
                "status": None if plain or ok.all() else codes,
            }
            events.append(writer.append("tell_query", body))

    def rank(
        self,
        order: Sequence[Any],
        *,
        unseen: Sequence[Trial | int] = (),
        rater: str = "",
        verdict: Literal["all bad", "cannot tell"] | None = None,
    ) -> None:
        """Record a person's order of the rows of one query: best first, ties as nested lists.

        Rows of the query that are neither in `order` nor `unseen` are worse than those listed. `verdict` speaks of the
        whole slate instead (`order` then names any of its trials). Raises UsageError for rows of different queries,
        AlreadyTold for another answer of the same rater, NotHandled if the strategy takes no rankings.
        """
        if "rankings" not in self.strategy.handles:
            raise NotHandled(f"rank: {type(self.strategy).__name__} does not learn from rankings; strategies that do: "
                             f"{', '.join(table.having('rankings'))}")  # fmt: skip
        groups = [[self._number(t) for t in (item if isinstance(item, list | tuple) else [item])] for item in order]
        hidden = [self._number(t) for t in unseen]
        listed = [number for group in groups for number in group] + hidden
        if not listed or len(set(listed)) < len(listed):
            raise UsageError(f"rank: expected each trial once, best first, ties as nested lists; got {listed}")
        with self._lock, self._writing() as (writer, events):
            record, _ = self._find(listed[0])
            first, size = record.query.first, record.query.size
            if any(not first <= number < first + size for number in listed):
                raise UsageError(f"rank: expected trials of one query ({first} to {first + size - 1}), got {sorted(listed)}")
            if (np.isin(record.status, (OK, IMPOSSIBLE))).any():
                raise AlreadyTold(f"the query of trials {first} to {first + size - 1} was told values; it cannot be ranked too")
            rest = [row for row in range(size) if first + row not in listed]
            ordered = [tuple(number - first for number in group) for group in groups if group]
            ranking = Ranking(verdict=verdict) if verdict else Ranking(
                tuple(ordered) + ((tuple(rest),) if rest else ()), tuple(number - first for number in hidden)
            )  # fmt: skip
            before = record.raters.get(rater)
            if before == ranking:
                return
            if before is not None:
                raise AlreadyTold(f"{rater or 'this rater'} ranked this query already; retract({first}, rater={rater!r}) takes that back")  # fmt: skip
            events.append(writer.append("rank", {"query": record.query.id, "rater": rater, "ranking": ranking.to_plain()}))

    # -- corrections ---------------------------------------------------------------------------------------------------

    def amend(
        self,
        trial: Trial | int,
        values: Any,
        *,
        std: Mapping[str, float] | float | None = None,
        cost: float | None = None,
    ) -> None:
        """Correct the result of an answered trial. The log keeps what was there; strategies learn the new value."""
        number = self._number(trial)
        body = self._read_result(values, std, cost, what=f"trial {number}")
        with self._lock, self._writing() as (writer, events):
            record, row = self._find(number)
            if record.status[row] in (OPEN, QUEUED, RANKED):
                raise UsageError(f"amend: trial {number} is {STATUS[record.status[row]]}, there is no value to correct; use tell")
            if record.status[row] == OK and _same_result(self._body_of(record, row), body):
                return
            events.append(writer.append("amend", {"number": number, **body}))

    def retract(self, trial: Trial | int, *, rater: str | None = None) -> None:
        """Take an answer back: the trial is open again. For a ranked query, one rater's answer or all of them.

        The answers of a Script can be taken back while no later query was answered.
        """
        number = self._number(trial)
        with self._lock, self._writing() as (writer, events):
            record, row = self._find(number)
            if rater is not None and rater not in record.raters:
                raise UsageError(f"retract: {rater!r} has not ranked this query; it has {', '.join(record.raters) or 'no'} raters")
            if record.status[row] in (OPEN, QUEUED) and not record.raters:
                raise UsageError(f"retract: trial {number} is {STATUS[record.status[row]]}, there is no answer to take back")
            if record.status[row] in (LOST, CANCELLED):
                raise UsageError(f"retract: trial {number} is {STATUS[record.status[row]]}; tell it a result if one came late")
            if self._book.scripted and self._book.later_answer(record.query.id):
                raise UsageError(f"retract: trial {number} belongs to a script that has gone on from this answer; amend corrects the record without changing its path")  # fmt: skip
            events.append(writer.append("retract", {"number": number, "rater": rater}))

    # -- looking -------------------------------------------------------------------------------------------------------

    def trial(self, number: int) -> Trial:
        """One trial as it is now. Raises UnknownTrial."""
        with self._lock:
            self._sync()
            self._find(self._number(number))
            return self._trial(number)

    def trials(self) -> list[Trial]:
        """All trials, in the order of their numbers."""
        with self._lock:
            self._sync()
            return [self._trial(number) for number in range(self._book.count)]

    def open_queries(self) -> list[Query]:
        """Queries that wait for an answer to at least one row."""
        with self._lock:
            self._sync()
            return [record.query for record in self._book.open.values()]

    def best(self) -> Trial | None:
        """The told feasible trial with the best objective, or None; after rankings only, the winner of the last one.

        Raises UsageError for several objectives: `front()` has the best compromises.
        """
        if self.task.m > 1:
            raise UsageError(f"best: the task has {self.task.m} objectives, no single trial is best; use front()")
        with self._lock:
            self._sync()
            numbers, Y = self._told()
            if len(numbers):
                return self._trial(int(numbers[np.argmin(Y[:, 0])]))
            for query, _ in reversed(self._book.lessons):
                ranking = self._book.records[query].ranking
                if ranking is not None and ranking.groups:
                    return self._trial(self._book.records[query].query.first + ranking.groups[0][0])
            return None

    def recommend(self) -> Trial | None:
        """The told trial that the strategy's model believes to be best (it differs from `best` under noise), or `best()`
        where the strategy has no opinion."""
        with self._lock:
            self._sync()
            if isinstance(self.strategy, Recommends):
                row = self.strategy.recommend(self.task, self._state())
                number = None if row is None else self._book.seen.get(np.asarray(row, float).tobytes())
                if number is not None:
                    return self._trial(number)
            return self.best()

    def front(self) -> list[Trial]:
        """The told feasible trials that no other one beats in every objective."""
        with self._lock:
            self._sync()
            numbers, Y = self._told()
            return [self._trial(int(number)) for number in numbers[non_dominated(Y)]]

    def history(self, trial: Trial | int | None = None) -> list[Event]:
        """The log: every ask, answer and correction, or those that name one trial. Bodies are plain data."""
        with self._lock:
            self._sync()
            events = self._store.read(self.name, 0)
            if trial is None:
                return events
            number = self._number(trial)
            record, _ = self._find(number)
            return [event for event in events if _names(event, number, record.query.id)]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write all trials: number, status, attempt, parameters, metrics, standard errors, cost."""
        from bbopt.tables import write_csv

        write_csv(self, Path(path))

    def from_csv(self, source: Any) -> list[Trial]:
        """Read results from a CSV file, or a data frame, in one transaction: rows with the `number` of an open trial are
        told, others are added as new points. Raises ValueRefused or SpaceError naming the line; then nothing is recorded."""
        from bbopt.tables import read_rows

        return read_rows(self, source)

    def close(self) -> None:
        """Close the store's file. Nothing is lost without it."""
        self._store.close()

    def __enter__(self) -> Optimizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[tuple[Writer, list[Event]]]:
        """A transaction with the book up to date; events appended in it are applied once it is committed."""
        events: list[Event] = []
        applied = self._book.position
        with self._store.writing(self.name) as writer:
            for event in writer.read(self._book.position):
                self._book.apply(event)
            applied = self._book.position
            try:
                yield writer, events
            except BaseException:
                if self._book.position != applied:
                    self._forget()
                raise
        self._apply(events)

    def _apply(self, events: list[Event]) -> None:
        for event in events:
            if event.position > self._book.position:
                self._book.apply(event)

    def _forget(self) -> None:
        """Start the book anew: events were applied that did not get written."""
        book = self._book
        self._book = Book(self.task, book.retries, book.quorum, book.scripted)
        self._fold = None

    def _sync(self) -> None:
        for event in self._store.read(self.name, self._book.position):
            self._book.apply(event)

    def _state(self) -> Any:
        """The strategy's state: the fold of `tell` over the lessons, continued where it stopped last time."""
        book = self._book
        by_rows = self.strategy.learns == "rows"
        lessons: list[Any] = book.lessons if by_rows else book.completed
        if self._fold is None or self._fold[0] != book.revision or self._fold[1] > len(lessons):
            self._fold = (book.revision, 0, self.strategy.init(self.task, Key(self.seed, -1)))
        _, taken, state = self._fold
        for lesson in lessons[taken:]:
            query, row = lesson if by_rows else (lesson, -1)
            record = book.records[query]
            rows = np.arange(record.query.size) if row < 0 else np.array([row])
            answer = record.ranking if record.ranking is not None else book.values(record, rows)
            state = self.strategy.tell(self.task, state, record.query, answer)
        self._fold = (book.revision, len(lessons), state)
        return state

    def _told(self) -> tuple[Array, Array]:
        """Numbers (t,) and inside objectives (t, m) of the told feasible trials."""
        numbers, values = [np.zeros(0, int)], [np.zeros((0, self.task.m))]
        for record in self._book.records:
            rows = np.flatnonzero(record.status == OK)
            if len(rows):
                Y, G = self._book.inside(record.metrics[rows])
                good = (G <= 0).all(axis=1)
                numbers.append(record.query.first + rows[good])
                values.append(Y[good])
        return np.concatenate(numbers), np.concatenate(values)

    def _number(self, trial: Trial | int) -> int:
        number = trial.number if isinstance(trial, Trial) else trial
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise UsageError(f"expected a Trial or its number, got {trial!r}")
        return int(number)

    def _find(self, number: int) -> tuple[Record, int]:
        if not 0 <= number < self._book.count:
            have = f"it has 0 to {self._book.count - 1}" if self._book.count else "it has none yet"
            raise UnknownTrial(f"the study {self.name!r} has no trial {number}; {have}")
        return self._book.find(number)

    def _body_of(self, record: Record, row: int) -> dict[str, Any]:
        names = self.task.metrics
        std = {} if record.std is None else {n: float(v) for n, v in zip(names, record.std[row], strict=True) if v == v}
        cost = None if record.cost is None or record.cost[row] != record.cost[row] else float(record.cost[row])
        return {"values": dict(zip(names, record.metrics[row].tolist(), strict=True)), "std": std, "cost": cost}

    def _trial(self, number: int) -> Trial:
        record, row = self._book.find(number)
        issue = record.issue_of(row)
        code = int(record.status[row])
        params = self.task.space.decode(record.query.X[row])
        context = {name: params.pop(name) for name in self.task.space.roles("context") if name in params}
        told = self._body_of(record, row) if code == OK else {"values": None, "std": {}, "cost": None}
        return Trial(
            number,
            params,
            attempt=issue.attempt if issue else 1,
            status=STATUS[code],  # type: ignore[arg-type]
            context=context,
            values=told["values"],
            std=told["std"],
            cost=told["cost"],
            feasible=self._book.feasible(record, row) if code == OK else None,
            owner=issue.owner if issue else "",
            reason=record.reasons.get(row, ""),
            seconds=record.issues[0].seconds if record.issues else None,
            note=str(record.query.memo.get("note", "")),
            query=record.query.id,
        )


def _open_store(store: StorePath, create: bool) -> Store:
    if store is None:
        if not create:
            raise UsageError("open: expected the path of a store, got None; a study in memory ends with its process")
        return MemoryStore()
    if isinstance(store, str | os.PathLike):
        return SQLiteStore(store, create=create)
    return store


def _same_result(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return bool(a["values"] == b["values"] and a["std"] == b["std"] and a["cost"] == b["cost"])


def _short(trial: Trial) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in (trial.values or {}).items()) or trial.reason or "no values"


def _short_body(body: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in body["values"].items())


def _names(event: Event, number: int, query: int) -> bool:
    body = event.body
    if event.kind == "ask":
        return any(first <= number < first + count for first, count, _ in body["issue"])
    return number == body.get("number") or number in body.get("numbers", ()) or body.get("query") == query
