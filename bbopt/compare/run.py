"""One call of `run_compare`: check what was asked, see which peers are there, do the runs that the folder lacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import problems
from bbopt.bench.plan import as_seeds, machine, now, read_json, versions, write_json
from bbopt.bench.run import Progress
from bbopt.compare.cell import Cell, path_of, read_cell, write_cell
from bbopt.compare.peers import PEERS, find
from bbopt.compare.view import View
from bbopt.compare.worker import Worker
from bbopt.errors import UsageError

__all__ = ["CORE", "Compared", "compare_lock", "run_compare", "suite_of"]

DEFINITION, LOCK = "compare.json", "compare.lock"
FORMAT = 1
CORE = (
    "branin",
    "hartmann6",
    "styblinski_tang_6",
    "rosenbrock_8",
    "ackley_10@shift0",
    "levy_20@shift0",
    "gkxwc2",
    "spring",
    "pressure_vessel",
    "welded_beam",
    "concrete_beam_mixed",
    "pressure_vessel_mixed",
)
"""The suite "core": three unconstrained problems of up to six parameters and three larger ones, four constrained ones and
two with discrete parameters."""


@dataclass(frozen=True)
class Compared:
    """What became of a call. complete, planned: runs; failed: error by "problem/peer/seed"; left_out: why a peer is not in
    it; refused: why a peer does not have a problem, by (problem, peer); stale: how many runs of a peer were made by
    another version of it than the one that is installed."""

    folder: Path
    complete: int
    planned: int
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    stale: dict[str, int] = field(default_factory=dict)


def suite_of(names: Sequence[str]) -> tuple[str, ...]:
    """The problems that are meant: "core", suites and problems, in any mixture, each problem once.

    >>> len(suite_of(["core", "branin"])), suite_of(["engineering-mixed"])[0]
    (12, 'concrete_beam_mixed')
    """
    found: list[str] = []
    for name in names:
        if name == "core":
            found += CORE
        elif name in problems.suites():
            found += problems.names(name)
        else:
            found.append(problems.get(name).name)
    if not found:
        raise UsageError("compare: expected a suite or a problem, got none")
    return tuple(dict.fromkeys(found))


def _checked(problem: str) -> View:
    made = problems.get(problem)
    try:
        view = View(made.task)
    except UsageError as error:
        raise UsageError(f"{error} ({problem})") from None
    if made.optimum.value is None:
        raise UsageError(f"compare: {problem} has no known optimum, so there is no gap to compare")
    return view


@contextmanager
def compare_lock(folder: Path) -> Iterator[None]:
    """Hold the folder for this process alone. Raises UsageError where another one has it."""
    import fcntl

    with (folder / LOCK).open("a+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"another `bbopt compare` is at work in {folder}; wait for it, or choose another folder"
            ) from None
        yield


def run_compare(
    suite: str | Sequence[str],
    peers: Sequence[str] = (),
    *,
    budget: int = 60,
    seeds: int | Sequence[int] = 10,
    slow_seeds: int | None = None,
    out: str | Path,
    again: Sequence[str] = (),
    progress: bool | Callable[[Progress], None] = True,
) -> Compared:
    """Run bbopt beside other toolkits, and return what became of it; `summarize` and `write_comparison` show the results.

    suite: "core", a suite, problems, or several of these; peers: names of `PEERS`, by default all that are installed, or
    "bbopt:STRATEGY" with options; budget: evaluations per run, each peer starting as it recommends itself; seeds: how many,
    or a list; slow_seeds: how many of them slow peers get, by default all; out: the folder, made if it is not there;
    again: peers whose runs in the folder are thrown away first, or "failed" for the runs that failed.

    Runs go seed by seed, then problem by problem, the peers of each one after the other in one process with one numerical
    thread. The same call again goes on where it stopped, whatever stopped it; one run at most is lost. A run in which a
    peer fails is kept with the error. A peer that is not installed is left out, with a note; so is a peer for a problem
    that it cannot have. Raises `UsageError` for unknown names, or a folder with another budget or at work.
    """
    names = suite_of((suite,) if isinstance(suite, str) else suite)
    chosen = tuple(dict.fromkeys(peers or PEERS))
    for peer in chosen:
        find(peer)
    numbers = as_seeds(seeds)
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise UsageError(f"compare: expected different seeds >= 0, at least one; got {seeds!r}")
    if budget < 1 or (slow_seeds is not None and slow_seeds < 0):
        raise UsageError(f"compare: expected budget >= 1 and slow_seeds >= 0, got {budget} and {slow_seeds}")
    views = {name: _checked(name) for name in names}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(compare_lock(folder))
        document = _definition(folder, names, chosen, budget, numbers)
        write_json(folder / DEFINITION, document)
        _throw_away(folder, again)
        worker = stack.enter_context(Worker(folder))
        show: Callable[[Progress], None] = progress if callable(progress) else lambda _: None
        if progress is True:
            from bbopt.bench.progress import bar

            show = stack.enter_context(bar("compare"))
        session = _Session(folder, views, chosen, budget, numbers, slow_seeds, worker, show)
        try:
            return session.run(document)
        finally:
            document["sessions"][-1]["ended"] = now()
            write_json(folder / DEFINITION, document)


def _definition(
    folder: Path, names: Sequence[str], peers: Sequence[str], budget: int, seeds: Sequence[int]
) -> dict[str, Any]:
    found = read_json(folder / DEFINITION)
    if found and (found.get("format") != FORMAT or found.get("budget") != budget):
        raise UsageError(
            f"compare: {folder} holds runs of {found.get('budget')} evaluations (format {found.get('format')}), this is "
            f"{budget} (format {FORMAT}); choose another folder, or the budget that is there"
        )
    session = {"began": now(), "ended": None, "versions": versions(), "machine": machine()}
    return {
        "format": FORMAT,
        "budget": budget,
        "problems": list(dict.fromkeys([*found.get("problems", ()), *names])),
        "peers": list(dict.fromkeys([*found.get("peers", ()), *peers])),
        "seeds": sorted({*found.get("seeds", ()), *seeds}),
        "left_out": found.get("left_out", {}),
        "sessions": [*found.get("sessions", ()), session],
    }


def _throw_away(folder: Path, again: Sequence[str]) -> None:
    for name in again:
        if name != "failed":
            find(name)
    if again:
        for path in (folder / "cells").glob("*/*/*.json"):
            cell = read_cell(path)
            if cell is not None and (cell.peer in again or ("failed" in again and cell.error is not None)):
                path.unlink()


class _Session:
    """The runs of one call, and how far they are."""

    def __init__(
        self,
        folder: Path,
        views: dict[str, View],
        peers: Sequence[str],
        budget: int,
        seeds: Sequence[int],
        slow_seeds: int | None,
        worker: Worker,
        show: Callable[[Progress], None],
    ) -> None:
        self.folder, self.views, self.peers, self.budget = folder, views, peers, budget
        self.seeds, self.slow_seeds, self.worker, self.show = seeds, slow_seeds, worker, show
        self.spent: dict[tuple[str, str], list[float]] = {}  # seconds of runs, by problem and peer
        self.failed: dict[str, str] = {}

    def run(self, document: dict[str, Any]) -> Compared:
        """Do what is lacking."""
        found = {peer: self.worker.version(peer) for peer in self.peers}
        left_out = {peer: why for peer, (version, why) in found.items() if version is None}
        there = [peer for peer in self.peers if peer not in left_out]
        for peer in there:
            document["left_out"].pop(peer, None)
        document["left_out"].update(left_out)
        if not there:
            raise UsageError(f"compare: none of these peers is installed: {', '.join(self.peers)}")
        refused = {
            (problem, peer): why
            for problem, view in self.views.items()
            for peer in there
            if (why := find(peer).refuses(view)) is not None
        }
        jobs = [
            (problem, peer, seed)
            for place, seed in enumerate(self.seeds)
            for problem, view in self.views.items()
            for peer in there
            if (problem, peer) not in refused
            and (self.slow_seeds is None or place < self.slow_seeds or not find(peer).slow(view))
        ]
        done: set[tuple[str, str, int]] = set()
        stale: dict[str, int] = {}
        for job in jobs:
            cell = read_cell(path_of(self.folder, *job))
            if cell is not None:
                done.add(job)
                self._seen(cell)
                stale[cell.peer] = stale.get(cell.peer, 0) + (cell.version != found[cell.peer][0])
        for job in jobs:
            if job not in done:
                self._carry_out(job, jobs, done)
        self._say(jobs, done, None, 0)
        return Compared(self.folder, len(done) - len(self.failed), len(jobs), dict(self.failed), left_out, refused,
                        {peer: n for peer, n in stale.items() if n})  # fmt: skip

    def _seen(self, cell: Cell) -> None:
        self.spent.setdefault((cell.problem, cell.peer), []).append(sum(cell.ask) + sum(cell.tell))
        if cell.error is not None:
            self.failed[f"{cell.problem}/{cell.peer}/{cell.seed}"] = cell.error

    def _carry_out(self, job: tuple[str, str, int], jobs: Sequence[Any], done: set[tuple[str, str, int]]) -> None:
        self._say(jobs, done, job, 0)
        begun = time.monotonic()
        cell = self.worker.run(*job, self.budget, lambda n: self._say(jobs, done, job, n))
        write_cell(self.folder, cell)
        done.add(job)
        self._seen(cell)
        self.spent[job[0], job[1]][-1] = time.monotonic() - begun

    def _say(self, jobs: Sequence[Any], done: set[tuple[str, str, int]], job: Any, n: int) -> None:
        seconds = [self._expected(*left[:2]) for left in jobs if left not in done]
        known = [value for value in seconds if value is not None]
        usual = sum(known) / len(known) if known else None
        left = None if usual is None and seconds else sum(usual or 0.0 if s is None else s for s in seconds)
        self.show(
            Progress(
                runs=len(done) - len(self.failed),
                runs_total=len(jobs),
                evaluations=self.budget * len(done) + n,
                evaluations_total=self.budget * len(jobs),
                failed=len(self.failed),
                seconds_left=left,
                running=() if job is None else ("/".join(map(str, job)),),
            )
        )

    def _expected(self, problem: str, peer: str) -> float | None:
        """Seconds of a run: as others of the same problem and peer, else as others of the peer."""
        found = self.spent.get((problem, peer)) or [s for (_, q), many in self.spent.items() if q == peer for s in many]
        return sum(found) / len(found) if found else None
