"""The driver of a crew of workers: rows are pulled from the study as workers become free, outcomes are yielded as they come.

Rows are asked for only when a worker can take them at once (back-pressure), and every worker that is free gets the next
task before anything is waited for. What a worker was doing when it died or ran out of time goes out again in smaller
tasks, until the row that ends its worker stands alone; only that one is lost, and the study decides whether it is tried
again. Workers are started when there is something for them to do, and ended with the loop, at work or not.

The same loop serves processes and Ray: they differ in the `Crew`, which starts workers and hears what they say.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np

from bbopt.errors import EvaluatorError
from bbopt.evaluate import Stopped, Supply
from bbopt.evaluate_work import Part
from bbopt.interrupt import let_through
from bbopt.outcome import Batch, Failure, Outcome

STARTS = 3  # workers that die one after the other before any was ready: then the fault is not theirs
SLACK_SECONDS = 0.05  # on top of a time limit: what a report may take


class Worker(Protocol):
    """A worker that holds the function. It has at most one task."""

    def give(self, batch: Batch) -> None:
        """Start on these rows, which wait for nothing else. Only after `Ready`, and when the last task is over. One that
        has died meanwhile does nothing: the crew will say so."""
        ...

    def dismiss(self) -> None:
        """There is nothing more to do: it may end by itself. Does not wait for that."""
        ...

    def end(self) -> None:
        """End it, at work or not; one that was dismissed has a moment to end by itself."""
        ...


@dataclass(frozen=True)
class Ready:
    """A worker has loaded the function and can take rows."""

    worker: Worker


@dataclass(frozen=True)
class Said:
    """What became of the next rows of its task."""

    worker: Worker
    parts: list[Part]


@dataclass(frozen=True)
class Refused:
    """A worker cannot load the function, and no other one will: `text` says why and what to do."""

    worker: Worker
    text: str


@dataclass(frozen=True)
class Gone:
    """A worker has ended, and `how`: "ended by signal 9 (SIGKILL)"."""

    worker: Worker
    how: str


Report = Ready | Said | Refused | Gone


class Crew(Protocol):
    """Where workers come from. `reports_rows`: whether they say of each row of a task when it is done, so that a time limit
    per row can be watched row by row; otherwise it is watched for all rows of a task together."""

    @property
    def reports_rows(self) -> bool: ...

    def start(self) -> Worker:
        """A worker that will say when it is ready."""
        ...

    def wait(self, workers: Collection[Worker], timeout: float | None) -> None:
        """Wait until one of these workers has something to say, for `timeout` seconds at most (None: as long as it takes).
        Takes nothing: Ctrl-C may end this at any moment."""
        ...

    def hear(self, workers: Collection[Worker]) -> list[Report]:
        """What these workers have said by now, without waiting; in order for each, and nothing of one after `Gone`."""
        ...


@dataclass
class _Task:
    """Rows that a worker has, of which `done` are over; `due`: when the next report must have come."""

    batch: Batch
    due: float | None
    done: int = 0


class Pool:
    """Up to `size` workers of a crew on tasks of at most `batch` rows; `fresh`: new rows that a strategy of free batch size
    is asked for per free worker; `seconds`: time limit of a row."""

    def __init__(self, crew: Crew, size: int, batch: int, fresh: int, seconds: float | None) -> None:
        self._crew, self._size, self._batch, self._fresh, self._seconds = crew, size, batch, fresh, seconds
        self._tasks: dict[Worker, _Task | None] = {}  # of workers that are ready
        self._starting: set[Worker] = set()
        self._queue: deque[Batch] = deque()
        self._outcomes: deque[Outcome] = deque()
        self._failed_starts, self._how = 0, ""

    def run(self, supply: Supply) -> Iterator[Outcome]:
        """Outcomes of what `supply` gives, until it gives nothing and nothing is at work."""
        try:
            while True:
                self._fill(supply)
                if not self._queue and not self._busy:
                    return
                with let_through():
                    self._crew.wait(self._workers, self._patience())
                self._hear()
                self._end_the_late()
                while self._outcomes:
                    yield self._outcomes.popleft()
        except GeneratorExit:
            raise
        except BaseException:  # Ctrl-C, Stopped, or no way to go on: what has arrived is not lost
            with suppress(EvaluatorError):
                self._hear()
            while self._outcomes:
                with suppress(Stopped):  # that is known
                    yield self._outcomes.popleft()
            raise
        finally:
            self._end()

    @property
    def _workers(self) -> list[Worker]:
        return [*self._tasks, *self._starting]

    @property
    def _busy(self) -> list[Worker]:
        return [worker for worker, task in self._tasks.items() if task is not None]

    # -- handing out ---------------------------------------------------------------------------------------------------

    def _fill(self, supply: Supply) -> None:
        """Give every free worker a task, as far as there are rows; start workers for the rest."""
        seats = self._size - len(self._busy) - len(self._queue)
        while seats > 0:
            batches = supply(seats * self._batch, seats * self._fresh)
            if not batches:
                break
            rows = sum(map(len, batches))
            size = min(self._batch, -(-rows // seats))  # a few rows are shared out evenly
            for batch in batches:
                # a row that was lost before stands alone, so that it takes no others with it
                self._queue.extend(batch.split(size if batch.attempt == 1 else 1))
            seats = self._size - len(self._busy) - len(self._queue)
        for worker, task in self._tasks.items():
            if task is None and self._queue:
                self._give(worker, self._queue.popleft())
        missing = min(len(self._queue), self._size - len(self._tasks)) - len(self._starting)
        for _ in range(missing):
            self._starting.add(self._crew.start())

    def _give(self, worker: Worker, batch: Batch) -> None:
        self._tasks[worker] = _Task(batch, self._due(len(batch)))
        worker.give(batch)

    def _due(self, rows: int) -> float | None:
        if self._seconds is None:
            return None
        return time.monotonic() + self._seconds * (1 if self._crew.reports_rows else rows) + SLACK_SECONDS

    def _patience(self) -> float | None:
        dues = [task.due for task in self._tasks.values() if task is not None and task.due is not None]
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    # -- hearing -------------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        trouble = ""
        for report in self._crew.hear(self._workers):
            worker = report.worker
            if isinstance(report, Ready):
                self._starting.remove(worker)
                self._tasks[worker] = None
                self._failed_starts = 0
            elif isinstance(report, Said):
                self._take(worker, report.parts)
            elif isinstance(report, Refused):
                trouble = trouble or report.text
            else:
                self._lose(worker, report.how)
        if self._failed_starts >= STARTS:
            trouble = (
                trouble or f"expected workers that start, but {STARTS} in a row {self._how} before they were ready"
            )
        if trouble:
            raise EvaluatorError(trouble)

    def _take(self, worker: Worker, parts: list[Part]) -> None:
        task = self._tasks[worker]
        assert task is not None, "a worker spoke of rows that it was not given"
        for part in _joined(parts):
            rows = task.batch.take(slice(task.done, task.done + len(part)))
            self._outcomes.append(Outcome(rows, part.results, part.failures))
            task.done += len(part)
        left = len(task.batch) - task.done
        task.due = self._due(left)
        if not left:
            self._tasks[worker] = None

    def _lose(self, worker: Worker, how: str) -> None:
        """A worker is gone: its rows go out again, in smaller tasks; one that stood alone is lost."""
        if worker in self._starting:
            self._starting.remove(worker)
            self._failed_starts, self._how = self._failed_starts + 1, how
            return
        task = self._tasks.pop(worker)
        if task is None:
            return
        left = task.batch.take(slice(task.done, None))
        if len(left) == 1:
            reason = f"its worker {how}"
            self._outcomes.append(Outcome(left, [None], {0: Failure(None, reason, lost=True)}))
            return
        first = 1 if self._crew.reports_rows else len(left) // 2  # it died of the first one that it did not report
        self._queue.extendleft([left.take(slice(first, None)), left.take(slice(0, first))])

    def _end_the_late(self) -> None:
        now = time.monotonic()
        for worker in self._busy:
            task = self._tasks[worker]
            if task is not None and task.due is not None and task.due <= now:
                worker.end()
                self._lose(worker, f"gave no answer within {self._seconds:g} s, and was ended")

    def _end(self) -> None:
        for worker, task in self._tasks.items():
            if task is None:
                worker.dismiss()
        for worker in self._workers:
            worker.end()
        self._tasks, self._starting = {}, set()


def _joined(parts: list[Part]) -> list[Part]:
    """One part of all, if all have the same kind of results: what arrived together is told together."""
    if len(parts) < 2 or len({type(part.results) for part in parts}) > 1:
        return parts
    failures: dict[int, Failure] = {}
    start = 0
    for part in parts:
        failures.update({start + i: failure for i, failure in part.failures.items()})
        start += len(part)
    results: Any = [part.results for part in parts]
    return [Part(np.concatenate(results) if isinstance(results[0], np.ndarray) else list(chain(*results)), failures)]
