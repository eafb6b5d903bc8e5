"""Worker processes for a benchmark: spawned, one numerical thread each, and gone as soon as their parent is.

A worker takes a job, reports how far it is, and takes the next one. It holds a shared lock on the folder, so that a new
benchmark does not start while workers of a killed one are still writing. What it prints goes to the folder's log file.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Self

from bbopt.bench.job import Finished, run_job
from bbopt.bench.plan import Job
from bbopt.errors import UsageError
from bbopt.strategy import Strategy

__all__ = ["Pool", "Report", "folder_lock"]

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
LOCK, LOG, STORE = "bench.lock", "workers.log", "runs.db"
SAY_SECONDS = 0.2  # how often a worker says how far it is


@dataclass(frozen=True)
class Assignment:
    """What a worker is told to do."""

    job: Job
    strategy: Strategy | str
    budget: int
    initial: int


@dataclass(frozen=True)
class Report:
    """What a worker says of its job: `told` evaluations so far; at the end `finished`, or `error` with its traceback."""

    job: Job
    told: int = 0
    finished: Finished | None = None
    error: str = ""
    traceback: str = ""

    @property
    def last(self) -> bool:
        """Whether the job has ended."""
        return self.finished is not None or bool(self.error)


def _byte(file: IO[bytes], kind: int, start: int) -> None:
    import fcntl

    fcntl.lockf(file, kind, 1, start)


@contextmanager
def folder_lock(folder: Path, patience: float = 30.0) -> Iterator[None]:
    """Hold the folder for this process alone, once all workers of earlier ones are gone.

    Raises UsageError if another benchmark is at work in the folder, or its workers do not end within `patience` seconds.
    """
    import fcntl

    with (folder / LOCK).open("a+b") as file:
        try:
            _byte(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 0)
        except OSError:
            raise UsageError(
                f"another `bbopt bench` is at work in {folder}; wait for it, or choose another folder"
            ) from None
        deadline = time.monotonic() + patience
        while True:
            try:
                _byte(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise UsageError(
                        f"workers of an earlier benchmark still run in {folder}; end them and repeat"
                    ) from None
                time.sleep(0.05)
        _byte(file, fcntl.LOCK_UN, 1)
        yield


def _follow(parent: BaseProcess) -> None:
    """End this process when its parent has ended, however that came about."""
    parent.join()
    os._exit(1)


def work(connection: Connection, folder: str) -> None:
    """The life of a worker process."""
    import fcntl

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    with (Path(folder) / LOCK).open("r+b") as lock, (Path(folder) / LOG).open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        _byte(lock, fcntl.LOCK_SH, 1)
        while True:
            try:
                assignment: Assignment | None = connection.recv()
            except EOFError:
                return
            if assignment is None:
                return
            connection.send(_carry_out(assignment, Path(folder) / STORE, connection))


def _carry_out(assignment: Assignment, store: Path, connection: Connection) -> Report:
    said = time.monotonic()

    def told(evaluations: int) -> None:
        nonlocal said
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            connection.send(Report(assignment.job, evaluations))

    job = assignment.job
    try:
        finished = run_job(job, assignment.strategy, assignment.budget, assignment.initial, store, told)
    except Exception as error:  # whatever it is, it is one run's failure, recorded with its traceback
        return Report(job, error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
    return Report(job, finished.evaluations, finished)


class Pool:
    """Workers that take assignments, at most one each. Use as a context; leaving it ends them, at work or not."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder, self._size = folder, workers
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[Connection, SpawnProcess] = {}
        self._busy: dict[Connection, Job] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection, process in self._workers.items():
            if connection in self._busy:
                process.kill()  # everything told is in the store
            else:
                connection.send(None)
        for connection, process in self._workers.items():
            process.join()
            connection.close()
        self._workers, self._busy = {}, {}

    @property
    def idle(self) -> int:
        """How many assignments could be taken now."""
        return self._size - len(self._busy)

    @property
    def busy(self) -> list[Job]:
        """Jobs that are being worked on."""
        return list(self._busy.values())

    def give(self, assignment: Assignment) -> None:
        """Hand an assignment to an idle worker, started if need be."""
        free = next((connection for connection in self._workers if connection not in self._busy), None)
        connection = self._start() if free is None else free
        self._busy[connection] = assignment.job
        connection.send(assignment)

    def reports(self, timeout: float) -> list[Report]:
        """What workers said, waiting up to `timeout` seconds for the first. A worker that died is a report too."""
        found = []
        for connection in wait(list(self._busy), timeout):
            assert isinstance(connection, Connection)
            job = self._busy[connection]
            try:
                report: Report = connection.recv()
            except (EOFError, OSError):
                process = self._workers.pop(connection)
                process.join()
                code = process.exitcode or 0
                how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit status {code}"
                text = f"the worker process ended by {how}; see {self._folder / LOG}"
                report = Report(job, error=text, traceback=text)
            if report.last:
                del self._busy[connection]
            found.append(report)
        return found

    def _start(self) -> Connection:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs, str(self._folder)), daemon=True)
        before = {name: os.environ.get(name) for name in THREADS}
        os.environ.update(dict.fromkeys(THREADS, "1"))  # inherited by the process that starts here, then restored
        try:
            process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        theirs.close()
        self._workers[ours] = process
        return ours
