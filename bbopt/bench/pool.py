"""Worker processes for a benchmark: spawned, one numerical thread each, and gone as soon as their parent is.

A worker takes a job, reports how far it is, and takes the next one. It holds a shared lock on the folder, so that a new
benchmark does not start while workers of a killed one are still writing. What it prints goes to the folder's log file.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import IO, Self

from bbopt.bench.job import Finished, run_job
from bbopt.bench.plan import Job
from bbopt.errors import UsageError
from bbopt.evaluate_ray import RayEvaluator
from bbopt.ray_cluster import open_cluster
from bbopt.strategy import Strategy
from bbopt.worker_process import follow_parent, how_it_ended, kill_worker, start_worker

__all__ = ["Pool", "Report", "folder_lock"]

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


def work(connection: Connection, folder: str, ray: str | None = None) -> None:
    """The life of a worker process; `ray`: address of the cluster on which it has problems evaluated, if any."""
    import fcntl

    follow_parent()
    with (Path(folder) / LOCK).open("r+b") as lock, (Path(folder) / LOG).open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        _byte(lock, fcntl.LOCK_SH, 1)
        with ExitStack() as stack:
            evaluator = None
            while True:
                try:
                    assignment: Assignment | None = connection.recv()
                except EOFError:
                    return
                if assignment is None:
                    return
                try:
                    if ray is not None and evaluator is None:  # connected once, for all assignments
                        stack.enter_context(open_cluster(ray))
                        evaluator = RayEvaluator(workers=1)
                except Exception as error:
                    connection.send(_failed(assignment.job, error))
                else:
                    connection.send(_carry_out(assignment, Path(folder) / STORE, connection, evaluator))


def _failed(job: Job, error: Exception) -> Report:
    return Report(job, error=f"{type(error).__name__}: {error}", traceback="".join(traceback.format_exception(error)))


def _carry_out(assignment: Assignment, store: Path, connection: Connection, evaluator: RayEvaluator | None) -> Report:
    said = time.monotonic()

    def told(evaluations: int) -> None:
        nonlocal said
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            connection.send(Report(assignment.job, evaluations))

    job = assignment.job
    try:
        finished = run_job(job, assignment.strategy, assignment.budget, assignment.initial, store, told, evaluator)
    except Exception as error:  # whatever it is, it is one run's failure, recorded with its traceback
        return _failed(job, error)
    return Report(job, finished.evaluations, finished)


class Pool:
    """Workers that take assignments, at most one each. Use as a context; leaving it ends them, at work or not.

    ray: address of the cluster on which problems are evaluated; None: in the workers themselves.
    """

    def __init__(self, folder: Path, workers: int, ray: str | None = None) -> None:
        self._folder, self._size, self._ray = folder, workers, ray
        self._workers: dict[Connection, SpawnProcess] = {}
        self._busy: dict[Connection, Job] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection, process in self._workers.items():
            if connection in self._busy:
                kill_worker(process)  # everything told is in the store
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
                text = f"the worker process {how_it_ended(process)}; see {self._folder / LOG}"
                report = Report(job, error=text, traceback=text)
            if report.last:
                del self._busy[connection]
            found.append(report)
        return found

    def _start(self) -> Connection:
        process, ours = start_worker(work, str(self._folder), self._ray)
        self._workers[ours] = process
        return ours
