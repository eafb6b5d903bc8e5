"""Evaluations in processes of this machine: each holds the function, with one numerical thread, and ends with its parent.

The function travels to a worker once, in memory, by its name in its module. A lazy query travels once per worker, and then
the numbers of rows. Results come back row by row, grouped only as far as rows take less than a few milliseconds.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

from bbopt.device_batch import batching_of
from bbopt.errors import BboptError, UsageError
from bbopt.evaluate import Function, Supply, check_count, check_seconds, task_rows
from bbopt.evaluate_pool import Gone, Pool, Ready, Refused, Report, Said, Worker
from bbopt.evaluate_work import Work, sendable
from bbopt.outcome import Batch, Outcome
from bbopt.query import Rows
from bbopt.task import Task
from bbopt.worker_process import cores, follow_parent, how_it_ended, kill_worker, start_worker

Array = np.ndarray[Any, np.dtype[Any]]

FLUSH_SECONDS = 0.005  # results that are younger may wait for the next one
GRACE_SECONDS = 1.0  # how long an idle worker may take to end by itself
READY = "ready"
LOAD_ADVICE = (
    "it must be defined at the top level of a module, or of a script that starts its work under "
    '`if __name__ == "__main__":`, and what it needs must be importable'
)
START_ADVICE = (
    ' (its messages are on standard error; a script that uses Processes does so under `if __name__ == "__main__":`)'
)


@dataclass(frozen=True)
class Processes:
    """Worker processes on this machine, each with the function in memory and one numerical thread.

    workers: how many, by default as many as this process may use CPUs; batch: rows per task of a plain function (some tens,
    where a call takes about a millisecond), or at most so many of one marked by `bbopt.batched`; seconds: time limit per
    row, after which its worker is ended and replaced.

    The function must be defined by name in a module, or in a script that starts its work under
    `if __name__ == "__main__":`, since workers import it. What a worker did when it died or ran out of time is a lost
    evaluation and tried again.

    >>> Processes(workers=2, seconds=60.0)
    Processes(workers=2, batch=None, seconds=60.0)
    """

    workers: int | None = None
    batch: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        check_count("Processes", "workers", self.workers)
        check_count("Processes", "batch", self.batch)
        check_seconds("Processes", self.seconds)

    def run(self, function: Function, task: Task, supply: Supply) -> Iterator[Outcome]:
        """Outcomes of what `supply` gives, as they come; see `bbopt.evaluate.Evaluator`."""
        batching = batching_of(function)
        rows, fresh = task_rows(self.batch, batching, task)
        crew = _Crew(_pickled(function, (function, batching, task)), reports_rows=batching is None)
        return Pool(crew, self.workers or cores(), rows, fresh, self.seconds).run(supply)


def _pickled(function: Function, held: Any) -> bytes:
    try:
        return bytes(ForkingPickler.dumps(held))
    except Exception as error:  # whatever the objects that a function carries raise
        name = getattr(function, "__qualname__", repr(function))
        raise UsageError(
            f"Processes: expected a function that other processes can import, but {name} cannot be sent to them ({error}); "
            "define it with `def` at the top level of a module, give it what it needs by functools.partial, or evaluate it "
            "by bbopt.InProcess()"
        ) from error


class _Member:
    """A worker process, seen from here."""

    def __init__(self, held: bytes) -> None:
        self.process, self.connection = start_worker(_work, held)
        self.ready = False
        self._query = -1  # the lazy query whose rows it has
        self._dismissed = False

    def give(self, batch: Batch) -> None:
        query = batch.query
        if isinstance(query.X, np.ndarray):
            self._send((batch.X, np.arange(len(batch))))
        else:
            self._send((None if self._query == query.id else query.X, batch.rows))
            self._query = query.id

    def dismiss(self) -> None:
        self._dismissed = True
        self._send(None)

    def end(self) -> None:
        if self._dismissed:
            self.process.join(GRACE_SECONDS)
        kill_worker(self.process)
        self.connection.close()

    def _send(self, message: Any) -> None:
        with suppress(OSError):  # it died a moment ago, which will be heard
            self.connection.send(message)

    def hear(self) -> Iterator[Report]:
        """What it said by now."""
        over = not self.process.is_alive()  # looked at first: what it said before is still in the pipe
        try:
            while self.connection.poll():
                yield self._report(self.connection.recv())
        except (EOFError, OSError):
            over = True
        if over:
            kill_worker(self.process)
            self.connection.close()
            advice = "" if self.ready else START_ADVICE
            yield Gone(self, f"{how_it_ended(self.process)}{advice}")

    def _report(self, message: Any) -> Report:
        if isinstance(message, list):
            return Said(self, message)
        if message == READY:
            self.ready = True
            return Ready(self)
        return Refused(self, message)


class _Crew:
    """Processes for `bbopt.evaluate_pool`. `held`: what a worker needs, pickled."""

    def __init__(self, held: bytes, reports_rows: bool) -> None:
        self._held, self._reports_rows = held, reports_rows

    @property
    def reports_rows(self) -> bool:
        return self._reports_rows

    def start(self) -> _Member:
        return _Member(self._held)

    def wait(self, workers: Collection[Worker], timeout: float | None) -> None:
        members = [member for member in workers if isinstance(member, _Member)]
        wait([item for member in members for item in (member.connection, member.process.sentinel)], timeout)

    def hear(self, workers: Collection[Worker]) -> list[Report]:
        return [report for member in workers if isinstance(member, _Member) for report in member.hear()]


# -- in the worker -------------------------------------------------------------------------------------------------------


def _work(connection: Connection, held: bytes) -> None:
    """The life of a worker process."""
    follow_parent()
    try:
        work = Work(*ForkingPickler.loads(held))
    except BboptError as error:
        connection.send(str(error))
        return
    except Exception:  # whatever goes wrong in the module of the user's function
        connection.send(f"a worker process cannot load the function: {LOAD_ADVICE}\n{traceback.format_exc()}")
        return
    connection.send(READY)
    query: Rows = np.zeros((0, 0))
    with suppress(EOFError):
        while (task := connection.recv()) is not None:
            given, rows = task
            query = query if given is None else given
            said, ready = time.monotonic(), []
            for part in work.parts(query, rows):
                ready.append(sendable(part, ForkingPickler.dumps, ForkingPickler.loads))
                if time.monotonic() - said >= FLUSH_SECONDS:
                    connection.send(ready)
                    said, ready = time.monotonic(), []
            if ready:
                connection.send(ready)
