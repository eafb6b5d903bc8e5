"""One call of `run_bench`: check what was asked, hand out the runs, collect what became of them, estimate the rest."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import problems
from bbopt.bench.plan import SELECTION, Job, Plan, as_seeds, join, machine, now, read_json, versions, write_json
from bbopt.bench.pool import STORE, Assignment, Pool, Report, folder_lock
from bbopt.errors import UsageError
from bbopt.ray_cluster import open_cluster
from bbopt.store import SQLiteStore
from bbopt.strategy import Strategy
from bbopt.table import configured
from bbopt.worker_process import cores

__all__ = ["Outcome", "Progress", "run_bench"]

DEFINITION, RUNS = "bench.json", "runs.json"
COMMIT_SECONDS = 0.012  # what an evaluation costs without a model: three commits


@dataclass(frozen=True)
class Progress:
    """How far a benchmark is; `seconds_left` is None while there is nothing to estimate it from."""

    runs: int
    runs_total: int
    evaluations: int
    evaluations_total: int
    failed: int
    seconds_left: float | None
    running: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of the runs that a call asked for: `failed` has the error of each run that failed."""

    folder: Path
    complete: int
    planned: int
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every run is complete."""
        return self.complete == self.planned


def run_bench(
    suite: str | Sequence[str],
    strategies: Mapping[str, Strategy | str] | Sequence[str],
    budget: int,
    seeds: int | Sequence[int],
    out: str | Path,
    *,
    initial: int = 20,
    workers: int | None = None,
    progress: bool | Callable[[Progress], None] = True,
    ray: bool | str = False,
) -> Outcome:
    """Run every strategy on every problem with every seed, and return what became of it.

    suite: name of a suite, or names of problems; strategies: configured strategies by the name they get in the report, or
    names of strategies; budget: evaluations per run, the initial ones included; seeds: how many, or a list; out: the
    folder, made if it is not there; initial: points of the shared initial design, uniform in the unit cube; workers:
    processes, by default one per core; progress: True shows a bar on standard error, a function gets `Progress` about
    five times a second, False is silent; ray: evaluate problems by `RayEvaluator`, on the cluster of this address, or with
    True on that of RAY_ADDRESS or a new one on this machine. Every run has one evaluation at a time there, so the trials
    are those of a benchmark without Ray; strategies, and the store, stay on this machine.

    A folder that holds the same benchmark is continued, and may be extended by problems, strategies, seeds or a larger
    budget. A run that fails is recorded with its traceback in `runs.json`, the rest goes on, and the next call tries it
    again. Raises `BenchDiffers` for a folder with another benchmark, `UsageError` for unknown names or a folder at work.
    """
    given = strategies if isinstance(strategies, Mapping) else {name: name for name in strategies}
    names = (suite,) if isinstance(suite, str) else tuple(suite)
    label, chosen = _problems(names)
    made = {name: s if s == "auto" or not isinstance(s, str) else configured(s, {}) for name, s in given.items()}
    plan = Plan(label, chosen, made, as_seeds(seeds), budget, initial)
    tasks = {name: problems.get(name).task for name in plan.problems}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(folder_lock(folder))
        address = None
        if ray is not False:
            workers, address = _on_ray(stack, None if ray is True else ray, workers)
        sizes = {n: (t.space.dimension, t.c) for n, t in tasks.items()}
        session = _Session(folder, plan, sizes, workers or cores(), address)
        show = progress if callable(progress) else None
        if progress is True:
            from bbopt.bench.progress import bar

            show = stack.enter_context(bar(plan.suite))
        return session.run(show or (lambda _: None))


def _on_ray(stack: ExitStack, address: str | None, workers: int | None) -> tuple[int, str]:
    """How many runs at once, each with an evaluation on one CPU of a cluster, and its address."""
    cluster = stack.enter_context(open_cluster(address, cpus=workers))
    room = cluster.size("bench", workers, 1.0, 0.0)
    return (min(room, cores()) if workers is None else room), cluster.address


def _problems(names: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Label and problems of a suite, or of a list of problems."""
    if len(names) == 1 and names[0] in problems.suites():
        return names[0], problems.names(names[0])
    return SELECTION, tuple(problems.get(name).name for name in names)


class _Session:
    """One call of `run_bench`: what there is to do, what was done, and how long the rest may take."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        sizes: Mapping[str, tuple[int, int]],
        workers: int,
        ray: str | None = None,
    ) -> None:
        if workers < 1:
            raise UsageError(f"bench: expected workers >= 1, got {workers}")
        self.folder, self.plan, self.sizes, self.workers, self._ray = folder, plan, sizes, workers, ray
        found = read_json(folder / DEFINITION)
        document = join(found, plan, folder) if found else {**plan.to_json(), "sessions": []}
        self._session = {
            "began": now(),
            "ended": None,
            "workers": workers,
            "ray": ray is not None,
            "versions": versions(),
            "machine": machine(),
        }
        document["sessions"].append(self._session)
        self._document = document
        self.ends: dict[str, Any] = read_json(folder / RUNS)
        self.told: dict[Job, int] = dict.fromkeys(plan.jobs(), 0)
        self.failed: dict[str, str] = {}
        self._start_of: dict[Job, tuple[float, int]] = {}
        self._spent: defaultdict[str, float] = defaultdict(float)  # seconds per strategy in this session
        self._units: defaultdict[str, float] = defaultdict(float)  # and the units of work that they bought

    def run(self, show: Callable[[Progress], None]) -> Outcome:
        """Do all that is left to do."""
        write_json(self.folder / DEFINITION, self._document)
        self._count()
        waiting = sorted((job for job in self.told if not self._done(job)), key=self.units)
        try:
            with Pool(self.folder, min(self.workers, max(1, len(waiting))), self._ray) as pool:
                while waiting or pool.busy:
                    while waiting and pool.idle:
                        self._give(pool, waiting.pop())
                    for report in pool.reports(timeout=1.0):
                        self._take(report)
                    show(self.progress(pool.busy))
        finally:
            self._session["ended"] = now()
            write_json(self.folder / DEFINITION, self._document)
        show(self.progress([]))
        done = sum(self._done(job) for job in self.told)
        return Outcome(self.folder, done, len(self.told), self.failed)

    def _count(self) -> None:
        """Answered evaluations of each run. The store, made here once, knows those of runs that never came to an end."""
        store = SQLiteStore(self.folder / STORE)
        try:
            studies = set(store.studies())
            for job in self.told:
                end = self.ends.get(job.study, {})
                n = int(end.get("evaluations", 0))
                if n < self.plan.budget and end.get("state") != "exhausted" and job.study in studies:
                    n = sum(event.kind == "tell" for event in store.read(job.study, 0))
                self.told[job] = min(n, self.plan.budget)
        finally:
            store.close()

    def _done(self, job: Job) -> bool:
        end = self.ends.get(job.study, {})
        return self.told[job] >= self.plan.budget or (end.get("state") == "exhausted")

    def _give(self, pool: Pool, job: Job) -> None:
        self._start_of[job] = (time.monotonic(), self.told[job])
        pool.give(Assignment(job, self.plan.strategies[job.strategy], self.plan.budget, self.plan.initial))

    def _take(self, report: Report) -> None:
        job = report.job
        self.told[job] = max(self.told[job], report.told)
        if not report.last:
            return
        began, _ = self._start_of.pop(job)
        seconds = time.monotonic() - began
        end: dict[str, Any] = {"evaluations": self.told[job], "ended": now()}
        end["wall_seconds"] = round(seconds + float(self.ends.get(job.study, {}).get("wall_seconds", 0.0)), 3)
        if report.finished is not None:
            end["state"] = "exhausted" if report.finished.exhausted else "complete"
            self._spent[job.strategy] += seconds
            self._units[job.strategy] += self.units(job, self.told[job] - report.finished.new, self.told[job])
            self.failed.pop(job.study, None)
        else:
            end |= {"state": "failed", "error": report.error, "traceback": report.traceback}
            self.failed[job.study] = report.error
        self.ends[job.study] = end
        write_json(self.folder / RUNS, self.ends)

    # -- how long it may take ------------------------------------------------------------------------------------------

    def units(self, job: Job, start: int | None = None, stop: int | None = None) -> float:
        """Expected seconds of a run's evaluations start to stop, on some machine: what matters is the order of runs.

        An evaluation costs commits; one that asks a model also costs time that grows with dimension, constraints and the
        number of points.
        """
        low = self.told[job] if start is None else start
        high = self.plan.budget if stop is None else stop
        strategy = self.plan.strategies[job.strategy]
        light = not isinstance(strategy, str) and strategy.instant
        total = COMMIT_SECONDS * max(0, high - low)
        if not light:
            dimension, constraints = self.sizes[job.problem]
            asked = max(0, high - max(low, self.plan.initial))
            middle = (high + max(low, self.plan.initial)) / 2
            total += asked * 0.03 * (1 + 0.3 * constraints) * (1 + 0.1 * dimension) * (0.5 + middle / 100)
        return total

    def progress(self, running: Sequence[Job]) -> Progress:
        """How far it is. The time left counts units of work at the rate that each strategy has shown in this session."""
        spent, units = dict(self._spent), dict(self._units)
        moment = time.monotonic()
        for job, (began, told) in self._start_of.items():
            if self.told[job] > told:
                spent[job.strategy] = spent.get(job.strategy, 0.0) + moment - began
                units[job.strategy] = units.get(job.strategy, 0.0) + self.units(job, told, self.told[job])
        rates = {name: spent[name] / units[name] for name in units if units[name] > 0}
        left = None
        if rates:
            usual = sum(spent[name] for name in rates) / sum(units[name] for name in rates)
            jobs = [job for job in self.told if not self._done(job) and job.study not in self.failed]
            work = [self.units(job) * rates.get(job.strategy, usual) for job in jobs]
            left = max(sum(work) / self.workers, max(work, default=0.0))
        return Progress(
            runs=sum(self._done(job) for job in self.told),
            runs_total=len(self.told),
            evaluations=sum(self.told.values()),
            evaluations_total=self.plan.budget * len(self.told),
            failed=len(self.failed),
            seconds_left=left,
            running=tuple(job.study for job in running),
        )
