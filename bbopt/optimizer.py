"""The optimizer keeps the books: ask for points, tell what came of them, from any number of processes.

Every call is one transaction on the log of the study. The state of the strategy is folded from the log, never stored, so
closing, killing and reopening a study changes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, overload

import numpy as np

from bbopt import table
from bbopt.asking import Plan, Snapshot, batches_of, count_of, make_plan, waiting_rows
from bbopt.deadline import Deadline
from bbopt.earlier_data import with_earlier
from bbopt.errors import Exhausted, NotHandled, StudyExists, TaskMismatch, UsageError, Waiting
from bbopt.interrupt import let_through
from bbopt.outcome import Batch
from bbopt.query import Key, Query, rows_to_plain
from bbopt.record import OPEN, QUEUED
from bbopt.store import Event, MemoryStore, SQLiteStore, Store, Writer
from bbopt.strategy import Strategy
from bbopt.task import Task
from bbopt.telling_ranks import TellingRanks
from bbopt.trial import Trial

Array = np.ndarray[Any, np.dtype[Any]]
StorePath = str | os.PathLike[str] | Store | None

ASKER_SECONDS = 120.0  # after this, another process may take over an ask that never ended
FORMAT = 1


class Optimizer(TellingRanks):
    """A study: a task, a strategy, and the log of what was asked and told.

    task: what to solve; strategy: a name from `bbopt strategies` or an instance; seed: of all randomness; budget: a hint
    (evaluations in all) for `auto`; store: path of an SQLite file, None keeps the study in memory; name: of the study in
    the file, which must be new there (`open` and `create_or_open` go on with one); retries: how often a lost trial goes
    out again; quorum: how many people must rank a query; lease: seconds after which an unanswered trial goes out again,
    None for never; owner: who asks, by default this process; earlier: studies (or what `bbopt.earlier` gives) of similar
    tasks to start from, for strategies that learn from them (`gp`): their told points are kept with the study. One object may be used from many threads at once.

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
        earlier: Sequence[Any] = (),
    ) -> None:
        if not isinstance(task, Task):
            raise UsageError(f"Optimizer: expected a Task, got {task!r}; make one by bbopt.Task(space)")
        for what, value, least in (
            ("seed", seed, 0),
            ("retries", retries, 0),
            ("quorum", quorum, 1),
            ("budget", budget, 1),
        ):
            if what == "budget" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(f"Optimizer: {what}: expected a whole number of at least {least}, got {value!r}")
        made, reason = table.make(strategy, task, budget)
        made = with_earlier(task, made, earlier)
        table.check(made, task)
        if task.where:
            task.feasible.sample(1, Key(seed, -1).rng("where"))  # a condition that nothing satisfies is refused now
        definition = {
            "format": FORMAT,
            "task": task.to_json(),
            "strategy": table.to_json(made),
            "scripted": getattr(made, "scripted", False),
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
        earlier: Sequence[Any] = (),
    ) -> Optimizer:
        """The study of this name, made if it is not there. An existing one keeps its strategy, seed and options; its task
        must be equal (TaskMismatch otherwise)."""
        opened = _open_store(store, create=True)
        if name not in opened.studies():
            try:
                return cls(task, strategy, seed=seed, budget=budget, store=opened, name=name, retries=retries, quorum=quorum,
                           lease=lease, owner=owner, earlier=earlier)  # fmt: skip
            except StudyExists:  # another process was quicker
                pass
        instance = None if isinstance(strategy, str) else strategy
        return cls.open(opened, name, strategy=instance, task=task, lease=lease, owner=owner)

    # -- asking --------------------------------------------------------------------------------------------------------

    @overload
    def ask(self, n: None = None, *, context: Mapping[str, Any] | None = None, fixed: Mapping[str, Any] | None = None,
            owner: str | None = None, lease: float | None = None, deadline: float | None = None) -> Trial: ...  # fmt: skip
    @overload
    def ask(self, n: int, *, fewer: bool = False, context: Mapping[str, Any] | None = None,
            fixed: Mapping[str, Any] | None = None, owner: str | None = None, lease: float | None = None,
            deadline: float | None = None) -> list[Trial]: ...  # fmt: skip
    def ask(
        self,
        n: int | None = None,
        *,
        fewer: bool = False,
        context: Mapping[str, Any] | None = None,
        fixed: Mapping[str, Any] | None = None,
        owner: str | None = None,
        lease: float | None = None,
        deadline: float | None = None,
    ) -> Trial | list[Trial]:
        """One trial, or a list of n. With `fewer`, up to n (at least one).

        context: values of the context parameters; fixed: values that this ask must keep; owner, lease: as in the
        constructor, for these trials; deadline: seconds in which to be back, by less thought if need be (the trial's note
        says what was left out; strategies without a cheaper way take what they need). Raises Waiting (answers must come first) or Exhausted (no points left) where n
        cannot be had; nothing was handed out then.
        """
        wanted = 1 if n is None else n
        _check_count("ask", "trials", wanted)
        held = self._held(fixed or {}, context or {})
        until = None if deadline is None else Deadline.after(deadline)
        plan = self._issue(int(wanted), int(wanted), 1 if fewer else int(wanted), *held, owner, lease, deadline=until)
        with self._lock:
            trials = [self._trial(first + i) for first, count, _ in plan.issue for i in range(count)]
        return trials[0] if n is None else trials

    def ask_query(self, n: int = 1, *, owner: str | None = None, lease: float | None = None) -> Query:
        """The next query as a whole, at array level: n rows from a strategy of free batch size, else its own number.

        A query that waits for its rows to be handed out comes first. Answer it by `tell_query`, by `rank`, or row by row.
        """
        with self._lock:
            self._sync()
            if any(len(rows) == record.query.size for record, rows in self._book.rows_in(QUEUED)):
                with self._writing() as (writer, events):  # unless another process was quicker
                    for record, rows in self._book.rows_in(QUEUED):
                        if len(rows) == record.query.size:
                            plan = Plan(issue=[[record.query.first, record.query.size, 1]])
                            body = plan.body(self._book.position, owner or self.owner, self._expiry(lease))
                            events.append(writer.append("ask", body))
                            return record.query
        plan = self._issue(n, n, 1, {}, {}, owner, lease, whole=True)
        with self._lock:
            return self._find(plan.issue[0][0])[0].query

    def ask_rows(
        self, n: int, *, fresh: int | None = None, owner: str | None = None, lease: float | None = None,
        deadline: float | None = None,
    ) -> list[Batch]:  # fmt: skip
        """Up to n rows, at least one, at array level: batches of rows of one query and attempt each, with nothing decoded.

        Rows that wait (lost ones, enqueued points, open queries) go first; where fewer than `fresh` (by default n) wait, the
        strategy is asked for the rest of these. Raises Waiting or Exhausted where there are none. `tell_rows` takes what
        became of a batch, `tell_query` its values at array level.

        >>> from bbopt.space import Float, Space
        >>> opt = Optimizer(Task(Space(x=Float(0, 1))), "random")
        >>> (batch,) = opt.ask_rows(3)
        >>> batch.numbers.tolist(), batch.X.shape
        ([0, 1, 2], (3, 1))
        """
        _check_count("ask_rows", "rows", n)
        _check_count("ask_rows", "fresh rows", n if fresh is None else fresh)
        held = self._held({}, {})
        until = None if deadline is None else Deadline.after(deadline)
        plan = self._issue(n if fresh is None else min(n, fresh), n, 0, *held, owner, lease, deadline=until)
        if plan.short is not None and not plan.rows:
            raise plan.short
        with self._lock:
            return batches_of(self._book, plan.issue)

    def _held(self, fixed: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[dict[int, float], dict[int, float]]:
        space = self.task.space
        contexts = space.roles("context")
        if set(context) != set(contexts):
            got = ", ".join(context) or "nothing"
            raise UsageError(
                f"ask: expected context= with {', '.join(contexts) or 'nothing'} (the context parameters), got {got}"
            )
        for name in fixed:
            if name in contexts:
                raise UsageError(f"ask: {name} is a context parameter; give it in context=, not in fixed=")
        if fixed and "fixed" not in self.strategy.handles:
            raise NotHandled(f"ask: {type(self.strategy).__name__} cannot keep parameters fixed; strategies that can: "
                             f"{', '.join(table.having('fixed'))}")  # fmt: skip
        return space.encode_some(fixed), space.encode_some(context)

    def _expiry(self, lease: float | None) -> float | None:
        seconds = self.lease if lease is None else lease
        if seconds is not None and (
            isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0
        ):
            raise UsageError(f"ask: lease: expected seconds above 0, or None for no lease; got {seconds!r}")
        return None if seconds is None else self._clock() + seconds

    def _issue(
        self,
        n: int,
        most: int,
        least: int,
        fixed: dict[int, float],
        context: dict[int, float],
        owner: str | None,
        lease: float | None,
        whole: bool = False,
        deadline: Deadline | None = None,
    ) -> Plan:
        """Plan and write one ask: n rows, up to `most` if so many are there, or fewer, but at least `least`. An instant strategy
        works inside the transaction; others on a snapshot, under the asker's lock, and again if another process asked."""

        def look() -> Snapshot:
            return Snapshot.of(self.task, self._book, self._state(), n, most, fixed, context, self._clock(), deadline)

        def commit(writer: Writer, events: list[Event], plan: Plan, seen: int) -> None:
            if plan.rows:
                events.append(writer.append("ask", plan.body(seen, owner or self.owner, self._expiry(lease))))

        if self.strategy.instant:
            with self._lock, self._writing() as (writer, events):
                plan = make_plan(self.task, self.strategy, self.seed, look(), whole)
                self._check_short(plan, n, least)
                commit(writer, events, plan, self._book.position)
                return plan
        held = {**context, **fixed}
        with self._lock:
            self._sync()
            if not whole and count_of(waiting_rows(self._book, held, self._clock(), n)) >= n:
                with self._writing() as (writer, events):  # nothing to compute: no need to wait for other askers
                    seen = look()
                    if count_of(seen.waits) >= n:
                        plan = make_plan(self.task, self.strategy, self.seed, seen, whole)
                        commit(writer, events, plan, self._book.position)
                        return plan
        with self._thinking, self._asking():
            while True:
                with self._lock:
                    self._sync()
                    seen = look()
                with let_through():
                    plan = make_plan(self.task, self.strategy, self.seed, seen, whole)  # tells go on meanwhile
                with self._lock:
                    self._sync()
                    if plan.short is not None and self._book.position != seen.position:
                        continue  # an answer came: perhaps there is no need to wait any more
                    self._check_short(plan, n, least)
                    with self._writing() as (writer, events):
                        waits = waiting_rows(self._book, held, self._clock(), most)
                        if len(self._book.records) != seen.queries or waits != seen.waits:
                            continue  # somebody asked, enqueued or lost something meanwhile: plan again
                        commit(writer, events, plan, seen.position)
                        writer.release(self._asker)
                    return plan

    def _check_short(self, plan: Plan, n: int, least: int) -> None:
        if plan.short is None or plan.rows >= least:
            return
        rows = f"{plan.rows} row{'s' if plan.rows != 1 else ''}"
        if isinstance(plan.short, Waiting):
            out = sum(len(open_) for _, open_ in self._book.rows_in(OPEN))
            trials = [self._trial(record.query.first + row) for record, open_ in self._book.rows_in(OPEN)
                      if not record.query.lazy for row in open_.tolist()]  # fmt: skip
            hint = f"{rows} can be had now by ask({n}, fewer=True)" if plan.rows else "answer or cancel those first"
            raise Waiting(
                f"ask: expected {n} rows, but the strategy waits for {out} open trials; {hint}",
                open=trials,
                available=plan.rows,
            )
        raise Exhausted(
            f"{plan.short}" if not plan.rows else f"ask: expected {n} rows, {rows} left: use ask({plan.rows})"
        )

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """The asker's lock: of several processes one computes, the others wait for their turn."""
        pause = 0.005
        while not self._store.lock(self.name, self._asker, ASKER_SECONDS):
            with let_through():
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
            raise UsageError(
                f"{what}: expected a point that satisfies `where`, but {failed[0]!r} does not hold for {dict(params)}"
            )
        return x


def _check_count(call: str, what: str, n: Any) -> None:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise UsageError(f"{call}: expected a positive number of {what}, got {n!r}")


def _open_store(store: StorePath, create: bool) -> Store:
    if store is None:
        if not create:
            raise UsageError("open: expected the path of a store, got None; a study in memory ends with its process")
        return MemoryStore()
    if isinstance(store, str | os.PathLike):
        return SQLiteStore(store, create=create)
    if not hasattr(store, "writing"):
        raise UsageError(f"store: expected the path of a file, or None to keep the study in memory; got {store!r}")
    return store
