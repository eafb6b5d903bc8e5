"""A study as it can be read: the log, the book it adds up to, the state of the strategy, and the trials people see."""

from __future__ import annotations

import copy
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, overload

import numpy as np

from bbopt.book import Book, rows_of
from bbopt.design_trial import believed_design, told_design
from bbopt.errors import UnknownTrial, UsageError
from bbopt.fold import Fold
from bbopt.outcome import Batch
from bbopt.pareto import non_dominated
from bbopt.prediction import Prediction, predictions
from bbopt.process_name import process_name
from bbopt.query import Query
from bbopt.record import OK, OPEN, STATUS, Record
from bbopt.store import Event, Store, Writer
from bbopt.strategy import Judges, Predicts, Recommends, Strategy
from bbopt.task import Task
from bbopt.trial import Trial

Array = np.ndarray[Any, np.dtype[Any]]

AT_ONCE = 500  # trials that are looked at while answers wait


class Study:
    """What `Optimizer` can look at: trials, the best of them, the log. `telling` and `optimizer` add writing and asking."""

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
        self.quorum: int = definition["quorum"]
        self.reason: str = definition["reason"]
        self.owner = owner or process_name()
        self.lease = lease
        self._store = store
        self._lock = threading.RLock()  # of the book; held for moments
        self._thinking = threading.RLock()  # of whoever asks; held while the strategy thinks
        self._clock: Callable[[], float] = time.time
        self._asker = f"{process_name()}:{uuid.uuid4().hex[:8]}"
        self._book = Book(task, definition["retries"], definition["quorum"], definition["scripted"])
        self._fold = Fold(strategy, task, self.seed)
        self._advising = threading.Lock()  # of whoever asks the strategy for its recommendation
        self._advice: tuple[Any, int | None] = (None, None)  # (state, number) of the last recommendation
        self._judged: tuple[Any, tuple[Array, float, float] | None] = (None, None)  # the same of the best design
        self._sync()

    # -- looking -------------------------------------------------------------------------------------------------------

    def trial(self, number: int) -> Trial:
        """One trial as it is now. Raises UnknownTrial."""
        with self._lock:
            self._sync()
            self._find(self._number(number))
            return self._trial(number)

    def trials(self) -> list[Trial]:
        """All trials, in the order of their numbers. Others may go on answering meanwhile: of a study with many trials, each
        is as it was when its turn came."""
        with self._lock:
            self._sync()
            queries = [record.query for record in self._book.records]
        points = [self.task.space.decode(query.X[row]) for query in queries for row in range(query.size)]
        found: list[Trial] = []
        while len(found) < len(points):
            with self._lock:
                self._sync()
                number = len(found)
                found += [self._trial(number + i, point) for i, point in enumerate(points[number : number + AT_ONCE])]
        return found

    def statuses(self) -> dict[str, int]:
        """How many trials have each status that occurs, without decoding any."""
        with self._lock:
            self._sync()
            return self._book.counts()

    def evaluations(self) -> int:
        """How many trials have used up an evaluation: answered, or lost as often as `retries` allows."""
        with self._lock:
            self._sync()
            return self._book.used()

    @property
    def position(self) -> int:
        """How many events the log has: whatever is derived from it is the same as long as this is."""
        with self._lock:
            self._sync()
            return self._book.position

    def open_queries(self) -> list[Query]:
        """Queries that wait for an answer to at least one row."""
        with self._lock:
            self._sync()
            return [record.query for record in self._book.open.values()]

    def open_rows(self, owner: str | None = None) -> list[Batch]:
        """Rows that are out without an answer, as `ask_rows` gives them; with `owner`, those that were given to it."""
        with self._lock:
            self._sync()
            found = []
            for record, rows in self._book.rows_in(OPEN):
                mine = rows if owner is None else record.owned(rows, owner)
                found += [Batch(record.query, mine[record.attempts[mine] == attempt], int(attempt))
                          for attempt in np.unique(record.attempts[mine])]  # fmt: skip
            return found

    def best(self) -> Trial | None:
        """The told feasible trial with the best objective, or None; after rankings only, the one that the strategy
        recommends, or the winner of the last ranking where it has no opinion.

        With environment parameters, no told value is what is sought: it is then the design of best believed risk, as
        `recommend` gives it. Raises UsageError for several objectives: `front()` has the best compromises.
        """
        if self.task.m > 1:
            raise UsageError(f"best: the task has {self.task.m} objectives, no single trial is best; use front()")
        if self.task.environment:
            return self._best_design()
        with self._lock:
            self._sync()
            numbers, Y = self._told()
            if len(numbers):
                return self._trial(int(numbers[np.argmin(Y[:, 0])]))
            winner = self._winner()
        if winner is None:
            return None
        number = self._recommended()
        with self._lock:
            return self._trial(winner if number is None else number)

    def _winner(self) -> int | None:
        """The first trial of the last ranking that has an order."""
        for query, _ in reversed(self._book.lessons):
            record = self._book.records[query]
            if record.ranking is not None and record.ranking.groups:
                return record.query.first + record.ranking.groups[0][0]
        return None

    def recommend(self) -> Trial | None:
        """The told trial that the strategy's model believes to be best (it differs from `best` under noise), or `best()`
        where the strategy has no opinion. With environment parameters: the design of best believed risk, which need not be
        told, with that risk for its value (see `bbopt.design_trial`)."""
        if self.task.environment:
            return self._best_design()
        number = self._recommended()
        if number is None:
            return self.best()
        with self._lock:
            return self._trial(number)

    @overload
    def predict(self, points: Mapping[str, Any]) -> Prediction | None: ...
    @overload
    def predict(self, points: Sequence[Mapping[str, Any]]) -> list[Prediction] | None: ...
    def predict(self, points: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Prediction | list[Prediction] | None:
        """What the strategy's model believes of the metrics at one point or at several, noise taken away, in your units and sign
        (see `Prediction`); None before the first value. Raises UsageError where the strategy has no such model."""
        if not isinstance(self.strategy, Predicts):
            raise UsageError(
                f"predict: {type(self.strategy).__name__} has no model of the metrics; take a strategy that has one, as 'gp'"
            )
        many = [points] if isinstance(points, Mapping) else list(points)
        X = np.array([self.task.space.encode(params) for params in many]).reshape(len(many), self.task.space.dimension)
        with self._advising:
            with self._lock:
                self._sync()
                state = self._state()
            belief = self.strategy.predict(self.task, state, X)
        if belief is None:
            return None
        found = predictions(self.task, *belief)
        return found[0] if isinstance(points, Mapping) else found

    def _best_design(self) -> Trial | None:
        """The design of best believed risk, or that of the best told value where the strategy has no belief."""
        with self._advising:
            with self._lock:
                self._sync()
                state = self._state()
            if isinstance(self.strategy, Judges):
                if self._judged[0] is not state:
                    self._judged = (state, self.strategy.judge(self.task, state))
                judged = self._judged[1]
                return None if judged is None else believed_design(self.task, *judged)
        with self._lock:
            numbers, Y = self._told()
            return told_design(self.task, self._trial(int(numbers[np.argmin(Y[:, 0])]))) if len(numbers) else None

    def _recommended(self) -> int | None:
        """The number of the trial that the strategy recommends now. It may think for a while: tells go on meanwhile."""
        if not isinstance(self.strategy, Recommends):
            return None
        with self._advising:
            with self._lock:
                self._sync()
                state = self._state()
            if self._advice[0] is not state:
                row = self.strategy.recommend(self.task, state)
                with self._lock:
                    number = None if row is None else self._book.seen.get(np.asarray(row, float).tobytes())
                self._advice = (state, number)
            return self._advice[1]

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
            record, row = self._find(number)
            return [event for event in events if _names(event, number, record, row)]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write all trials: number, status, attempt, parameters, metrics, standard errors, cost."""
        from bbopt.tables import write_csv

        write_csv(self, Path(path))

    def close(self) -> None:
        """Close the store's file. Nothing is lost without it."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[tuple[Writer, list[Event]]]:
        """A transaction with the book up to date; events appended in it are applied once it is committed."""
        events: list[Event] = []
        applied = self._book.position
        try:
            with self._store.writing(self.name) as writer:
                for event in writer.read(self._book.position):
                    self._book.apply(event)
                applied = self._book.position
                yield writer, events
        except BaseException:  # the commit itself may fail, too
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
        self._fold = Fold(self.strategy, self.task, self.seed)

    def _sync(self) -> None:
        for event in self._store.read(self.name, self._book.position):
            self._book.apply(event)

    def _state(self) -> Any:
        """The strategy's state: the fold of `tell` over the lessons, continued where it stopped last time."""
        return self._fold.state(self._book)

    def _told(self) -> tuple[Array, Array]:
        """Numbers (t,) and inside objectives (t, m) of the told feasible trials."""
        numbers, values = [np.zeros(0, int)], [np.zeros((0, self.task.m))]
        for record in self._book.records:
            if record.ranking is not None or record.remaining == record.query.size:
                continue
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
        values = dict(zip(names, record.metrics[row].tolist(), strict=True))
        return {"values": values, "std": std, "cost": cost, "gradient": record.gradients.get(row, {})}

    def _trial(self, number: int, point: dict[str, Any] | None = None) -> Trial:
        """A trial as it is now; point: its row, where it is decoded already."""
        record, row = self._book.find(number)
        issue = record.issue_of(row)
        code = int(record.status[row])
        params = self.task.space.decode(record.query.X[row]) if point is None else point
        context = {name: params.pop(name) for name in self.task.space.roles("context") if name in params}
        told = self._body_of(record, row) if code == OK else {"values": None, "std": {}, "cost": None, "gradient": {}}
        notes = [str(record.query.memo.get("note", ""))]
        if told["gradient"] and not getattr(self.strategy, "gradients", False):
            notes.append(f"its derivatives are kept, but {type(self.strategy).__name__} does not learn from them")
        return Trial(
            number,
            params,
            attempt=max(record.attempt(row), 1),
            status=STATUS[code],  # type: ignore[arg-type]
            context=context,
            values=told["values"],
            std=told["std"],
            cost=told["cost"],
            gradient=copy.deepcopy(told["gradient"]),
            feasible=self._book.feasible(record, row) if code == OK else None,
            owner=issue.owner if issue else "",
            reason=record.reasons.get(row, ""),
            seconds=record.issues[0].seconds if record.issues else None,
            note="; ".join(filter(None, notes)),
            query=record.query.id,
        )


def _names(event: Event, number: int, record: Record, row: int) -> bool:
    body = event.body
    if event.kind == "ask":
        return any(first <= number < first + count for first, count, _ in body["issue"])
    if body.get("query") == record.query.id:
        return body.get("rows") is None or row in rows_of(record, body["rows"])
    return number == body.get("number") or number in body.get("numbers", ())
