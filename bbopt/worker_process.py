"""Processes that work for this one: spawned, one numerical thread each, and gone as soon as their parent is.

A worker has a process group of its own, so that what its work starts (a solver, a shell) can be ended with it, and so that
Ctrl-C in a terminal, which goes to a whole group, leaves the decision to the parent.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes that start in this block find one numerical thread in their environment; afterwards ours is as before."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def start_worker(work: Callable[..., None], *arguments: Any) -> tuple[SpawnProcess, Connection]:
    """A process that runs `work(connection, *arguments)`, and our end of the connection."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, *arguments), daemon=True)
    try:
        with one_thread_each():
            process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours


def follow_parent() -> None:
    """Called by a worker, first thing: ignore Ctrl-C, lead a group of its own, and end with it once the parent has ended,
    however that came about."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    with suppress(AttributeError, OSError):  # no groups on Windows; a session leader has its own already
        os.setpgid(0, 0)
    multiprocessing.current_process().daemon = False  # it may have processes of its own: they are in its group
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    with suppress(AttributeError, OSError):
        if os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)
    os._exit(1)


def kill_worker(process: BaseProcess) -> None:
    """End a worker at once, if it still runs, and in any case what it started."""
    if process.pid is not None:
        with suppress(AttributeError, OSError):  # it has no group yet, or the group is gone
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.join()


def how_it_ended(process: BaseProcess) -> str:
    """The end of a process that is over, in words: "ended by signal 9 (SIGKILL)".

    >>> how_it_ended(type("Process", (), {"exitcode": 3})())
    'ended by exit status 3'
    """
    code = process.exitcode or 0
    if code >= 0:
        return f"ended by exit status {code}"
    names = {int(item): item.name for item in signal.Signals}
    return f"ended by signal {-code} ({names.get(-code, 'unknown')})"


def cores() -> int:
    """Number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
