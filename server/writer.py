"""One thread per study that writes: answers that arrive together are committed together.

A commit with full sync costs milliseconds, whatever is in it. While one is on its way to the disk, the answers that arrive
wait in a queue; the next commit takes all of them (group commit). Being alone also makes the decision about an answer (new,
the same again, a correction, too late) and its writing one step.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import bbopt
from server.errors import ApiError

log = logging.getLogger("bbopt.server")

MOST = 200  # answers in one commit
SECONDS = 60.0  # that a request waits for its commit


class Answering(Protocol):
    """An answer on its way into the log."""

    @property
    def key(self) -> tuple[int, str]:
        """Query and name: two answers of one key are never decided together."""
        ...

    def decide(self) -> bbopt.RankRequest | None:
        """What to write, None if there is nothing to write. Raises ApiError for an answer that is refused."""
        ...

    def reply(self, error: bbopt.BboptError | None) -> Any:
        """What the request gets once it is committed, or was refused by the core with this error."""
        ...


@dataclass
class _Job:
    work: Answering | Callable[[], Any]
    done: Future[Any] = field(default_factory=Future)


class Writer:
    """Writes a study's answers, in the order in which they came. `write` is the core's `rank_many`.

    The thread starts with the first answer.
    """

    def __init__(
        self, name: str, write: Callable[[Sequence[bbopt.RankRequest]], list[bbopt.BboptError | None]]
    ) -> None:
        self._name, self._write = name, write
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._written = self._commits = 0

    def submit(self, work: Answering | Callable[[], Any]) -> Future[Any]:
        """Put an answer, or any other change, in the queue. The result is that of its `reply`, or of the function."""
        job = _Job(work)
        with self._lock:
            if self._closed:
                raise ApiError(503, "Stopping", "the server is stopping: nothing was recorded, send it again in a moment",
                               headers={"Retry-After": "2"})  # fmt: skip
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"writer of {self._name}", daemon=True)
                self._thread.start()
            self._jobs.put(job)
        return job.done

    def wait(self, work: Answering | Callable[[], Any]) -> Any:
        """The same, and wait for it."""
        try:
            return self.submit(work).result(SECONDS)
        except TimeoutError:
            raise ApiError(503, "Slow", "the store could not be written in a minute; send the same again, it is recorded once",
                           headers={"Retry-After": "5"}) from None  # fmt: skip

    def close(self) -> None:
        """Write what is in the queue, and end."""
        with self._lock:
            self._closed = True
            if self._thread is not None:
                self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()
            log.info("study %s: %d answers in %d commits", self._name, self._written, self._commits)

    def _run(self) -> None:
        while True:
            jobs: list[_Job | None] = [self._jobs.get()]
            while jobs[-1] is not None and len(jobs) < MOST and not self._jobs.empty():
                jobs.append(self._jobs.get())
            self._work([job for job in jobs if job is not None])
            if jobs[-1] is None:
                return

    def _work(self, jobs: list[_Job]) -> None:
        group: list[tuple[_Job, Answering, bbopt.RankRequest]] = []
        for job in jobs:
            if not job.done.set_running_or_notify_cancel():
                continue  # whoever wanted it has gone before it was begun
            if callable(job.work):
                self._commit(group)
                _settle(job, job.work)
                continue
            if any(work.key == job.work.key for _, work, _ in group):
                self._commit(group)
            try:
                request = job.work.decide()
                if request is None:
                    job.done.set_result(job.work.reply(None))
                else:
                    group.append((job, job.work, request))
            except BaseException as error:
                job.done.set_exception(error)
        self._commit(group)

    def _commit(self, group: list[tuple[_Job, Answering, bbopt.RankRequest]]) -> None:
        """Write a group in one transaction, and tell those who wait. Empties the group."""
        if not group:
            return
        taken, group[:] = list(group), []
        try:
            errors = self._write([request for _, _, request in taken])
        except BaseException as error:
            for job, _, _ in taken:
                job.done.set_exception(error)
            return
        self._written, self._commits = self._written + len(taken), self._commits + 1
        for (job, work, _), refused in zip(taken, errors, strict=True):
            _settle(job, lambda work=work, refused=refused: work.reply(refused))  # type: ignore[misc]


def _settle(job: _Job, function: Callable[[], Any]) -> None:
    try:
        job.done.set_result(function())
    except BaseException as error:
        job.done.set_exception(error)
