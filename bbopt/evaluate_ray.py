"""Evaluations on Ray, on this machine or on many: workers hold the function and the task, rows go out and answers come back.

What travels is small: the function and the task are stored on the cluster once, a query's rows once where they are lazy
or large, and a task for a worker is a handful of row numbers, or the rows themselves where these are few and short. Only
the process that runs the study touches its store. Retries are the study's, by trial number and attempt; Ray's are off.
"""

from __future__ import annotations

import functools
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.device_batch import Batching, batching_of
from bbopt.errors import UsageError
from bbopt.evaluate import Function, Supply, check_count, check_seconds, task_rows
from bbopt.evaluate_pool import Gone, Pool, Ready, Refused, Report, Said, Worker
from bbopt.evaluate_work import Part, Work, sendable
from bbopt.outcome import Batch, Outcome
from bbopt.query import Rows
from bbopt.ray_cluster import Cluster, RayWorker, WorkerDied, open_cluster, pickler
from bbopt.task import Task

__all__ = ["RayEvaluator"]

Array = np.ndarray[Any, np.dtype[Any]]

LARGE_BYTES = 2**16  # rows of a query that are stored on the cluster once; smaller ones travel with each task
QUERIES = 4  # stored queries that are kept: those that rows are still given out of
PATIENCE_SECONDS = 60.0  # how long all workers may wait for their share of the cluster
LOOK_SECONDS = 5.0
FLUSH_SECONDS = 0.01  # results that are younger may wait for the next one


@dataclass(frozen=True)
class RayEvaluator:
    """Workers on a Ray cluster, each with the function in memory.

    workers: how many, by default as many as the cluster has room for; address: of a running cluster ("host:port" or "auto",
    from one of its machines), None for the one this process is connected to, that of RAY_ADDRESS, or a new one on this
    machine for the time of the run; cpus, gpus: share of each worker, which may be a fraction; batch: rows per task of a
    plain function, or at most so many of one marked by `bbopt.batched`; seconds: time limit per row, after which its
    worker is ended and replaced.

    `ray.init()` before `minimize` keeps one cluster for many runs. The function must be found where workers run: what is
    defined in the script itself travels with it, modules that it imports must be installed there.

    >>> RayEvaluator(workers=2, gpus=0.5)
    RayEvaluator(workers=2, address=None, cpus=1.0, gpus=0.5, batch=None, seconds=None)
    """

    workers: int | None = None
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    batch: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        who = "RayEvaluator"
        for what, count in (("workers", self.workers), ("batch", self.batch)):
            check_count(who, what, count)
        for what, share in (("cpus", self.cpus), ("gpus", self.gpus)):
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < math.inf:
                raise UsageError(f"{who}: {what}: expected a number of at least 0, got {share!r}")
            if share > 1 and share != int(share):
                raise UsageError(f"{who}: {what}: expected a whole number above 1, as Ray does, got {share!r}")
        if not self.cpus and not self.gpus and self.workers is None:
            raise UsageError(f"{who}: expected workers= where a worker takes no share of CPUs or GPUs")
        check_seconds(who, self.seconds)

    def run(self, function: Function, task: Task, supply: Supply) -> Iterator[Outcome]:
        """Outcomes of what `supply` gives, as they come; see `bbopt.evaluate.Evaluator`."""
        batching = batching_of(function)
        rows, fresh = task_rows(self.batch, batching, task)
        wanted = None if self.workers is None else max(1, math.ceil(self.workers * self.cpus))
        with open_cluster(self.address, cpus=wanted) as cluster:
            size = cluster.size("RayEvaluator", self.workers, self.cpus, self.gpus)
            make = functools.partial(_RayWork, function, batching, task)
            crew = _Crew(cluster, make, self.cpus, self.gpus, reports_rows=batching is None)
            yield from Pool(crew, size, rows, fresh, self.seconds).run(supply)


class _RayWork:
    """What a worker on Ray holds."""

    def __init__(self, function: Callable[..., Any], batching: Batching | None, task: Task) -> None:
        self._work = Work(function, batching, task)

    def evaluate(self, X: Rows, rows: Array) -> Iterator[list[Part]]:
        """What becomes of these rows, as it comes, grouped only as far as rows take less than some milliseconds."""
        said, ready = time.monotonic(), []
        for part in self._work.parts(X, rows):
            ready.append(sendable(part, *pickler()))
            if time.monotonic() - said >= FLUSH_SECONDS:
                yield ready
                said, ready = time.monotonic(), []
        if ready:
            yield ready


class _Member:
    """A worker of the crew, and what it is expected to answer next."""

    def __init__(self, crew: _Crew, worker: RayWorker) -> None:
        self._crew, self.worker = crew, worker
        self.ready = False
        self.answer: Any = worker.prepared  # the reference or stream that is waited for
        self._left = 0  # rows of its task that it has not reported

    def give(self, batch: Batch) -> None:
        self._left = len(batch)
        self.answer = self.worker.stream("evaluate", *self._crew.arguments(batch))

    def said(self, parts: list[Part]) -> Said:
        self._left -= sum(map(len, parts))
        if not self._left:
            self.answer = None
        return Said(self, parts)

    def dismiss(self) -> None:
        """Nothing to do: `end` is quick."""

    def end(self) -> None:
        self.worker.kill()


class _Crew:
    """Workers on Ray for `bbopt.evaluate_pool`."""

    def __init__(self, cluster: Cluster, make: Callable[[], Any], cpus: float, gpus: float, reports_rows: bool) -> None:
        self._cluster, self._share, self._reports_rows = cluster, (cpus, gpus), reports_rows
        self._made = cluster.put(make)
        self._stored: OrderedDict[int, Any] = OrderedDict()
        self._since = time.monotonic()  # when a worker last got its share of the cluster

    @property
    def reports_rows(self) -> bool:
        return self._reports_rows

    def start(self) -> _Member:
        return _Member(self, self._cluster.start(self._made, *self._share))

    def arguments(self, batch: Batch) -> tuple[Any, Array]:
        """(X, rows) as `Work.parts` takes them, with a reference in place of rows that are lazy or large."""
        query = batch.query
        if isinstance(query.X, np.ndarray) and query.X.nbytes <= LARGE_BYTES:
            return query.X[batch.rows], np.arange(len(batch))
        if query.id not in self._stored:
            self._stored[query.id] = self._cluster.put(query.X)
            while len(self._stored) > QUERIES:  # one that is needed again is stored again
                self._stored.popitem(last=False)
        self._stored.move_to_end(query.id)
        return self._stored[query.id], batch.rows

    def wait(self, workers: Collection[Worker], timeout: float | None) -> None:
        members = _members(workers)
        if not all(member.ready for member in members):
            timeout = LOOK_SECONDS if timeout is None else min(timeout, LOOK_SECONDS)
        self._cluster.wait([member.answer for member in members if member.answer is not None], timeout)

    def hear(self, workers: Collection[Worker]) -> list[Report]:
        members = [member for member in _members(workers) if member.answer is not None]
        done = self._cluster.wait([member.answer for member in members], 0.0)
        reports: list[Report] = []
        for member in members:
            if member.answer in done:
                reports.append(self._report(member))
        return reports or self._waited(members)

    def _report(self, member: _Member) -> Report:
        try:
            value = self._cluster.take(member.answer)
        except WorkerDied as death:
            member.answer = None
            return Gone(member, str(death))
        if member.ready:
            return member.said(value)
        member.ready, member.answer, self._since = True, None, time.monotonic()
        if value is None:
            return Ready(member)
        error, text = value
        if isinstance(error, UsageError):
            return Refused(member, str(error))
        return Refused(member, f"expected a function that workers on Ray can load, got: {error}\n{text}")

    def _waited(self, members: list[_Member]) -> list[Report]:
        """Nobody has a share of the cluster, and nobody got one for a long time."""
        if not members or any(member.ready for member in members):
            self._since = time.monotonic()
            return []
        waited = time.monotonic() - self._since
        if waited < PATIENCE_SECONDS:
            return []
        cpus, gpus = self._share
        text = f"expected {cpus:g} CPUs and {gpus:g} GPUs of the Ray cluster for a worker within {waited:.0f} seconds; {self._cluster.free()}: end what else runs there, or ask for less"
        return [Refused(members[0], text)]


def _members(workers: Collection[Worker]) -> list[_Member]:
    return [worker for worker in workers if isinstance(worker, _Member)]
