"""The process in which peers run, one run after the other: spawned, with one numerical thread, replaced if it dies.

What peers print goes to the log file of the folder, and what some write without being asked to `scratch` in it. Ctrl-C is
the parent's affair. A run in the process that dies is recorded as failed with the way the process ended.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Self

from bbopt.compare.cell import Cell, run_cell
from bbopt.compare.peers import find
from bbopt.worker_process import follow_parent, how_it_ended, kill_worker, start_worker

__all__ = ["Worker"]

LOG, SCRATCH = "peers.log", "scratch"
SAY_SECONDS = 0.5


@dataclass(frozen=True)
class _Version:
    """What is installed of a peer? The answer is its version, or why there is none, which begins with a minus."""

    peer: str


@dataclass(frozen=True)
class _Run:
    problem: str
    peer: str
    seed: int
    budget: int


def work(connection: Connection, folder: str) -> None:
    """The life of the process: answers questions about peers, and carries out runs."""
    follow_parent()
    with (Path(folder) / LOG).open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        scratch = Path(folder) / SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        os.chdir(scratch)
        while True:
            try:
                wish = connection.recv()
            except EOFError:
                return
            if wish is None:
                return
            connection.send(_version(wish.peer) if isinstance(wish, _Version) else _run(wish, connection))


def _version(peer: str) -> str:
    try:
        return find(peer).version()
    except Exception as error:  # a package that is there and cannot be imported is as good as none
        return f"-{type(error).__name__}: {error}"


def _run(wish: _Run, connection: Connection) -> Cell:
    said = time.monotonic()

    def told(n: int) -> None:
        nonlocal said
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            connection.send(n)

    return replace(run_cell(wish.problem, find(wish.peer), wish.seed, wish.budget, told), peer=wish.peer)


class Worker:
    """The process, started when it is needed. A context; leaving it ends the process, at work or not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._connection is not None:
            kill_worker(self._process)
            self._connection.close()
        self._process = self._connection = None

    def version(self, peer: str) -> tuple[str | None, str]:
        """(version, "") of a peer, or (None, why it cannot be had)."""
        answer = self._ask(_Version(peer), lambda n: None)
        if isinstance(answer, str) and not answer.startswith("-"):
            return answer, ""
        return None, answer[1:] if isinstance(answer, str) else "its import ended the process"

    def run(self, problem: str, peer: str, seed: int, budget: int, told: Callable[[int], None]) -> Cell:
        """One run; `told` hears about twice a second how many evaluations it has."""
        answer = self._ask(_Run(problem, peer, seed, budget), told)
        if isinstance(answer, Cell):
            return answer
        text = f"the process {answer}; see {self._folder / LOG}"
        ended = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        return Cell(problem, peer, seed, budget, "", find(peer).settings, (), (), (), 0.0, ended, text, text)

    def _ask(self, wish: _Version | _Run, told: Callable[[int], None]) -> str | Cell:
        if self._process is None or self._connection is None:
            self._process, self._connection = start_worker(work, str(self._folder.resolve()))
        try:
            self._connection.send(wish)
            while True:
                answer = self._connection.recv()
                if not isinstance(answer, int):
                    assert isinstance(answer, str | Cell)
                    return answer
                told(answer)
        except (EOFError, OSError):
            self._process.join()
            self._connection.close()
            text = how_it_ended(self._process)
            self._process = self._connection = None
            return text if isinstance(wish, _Run) else f"-{text}"
