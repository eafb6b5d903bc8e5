"""One call of `run_classify`: check what was asked, train and score what is missing, in this process or in several."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from bbopt.bench import Progress
from bbopt.bench.plan import as_seeds, machine, now, read_json, versions, write_json
from bbopt.bench.pool import folder_lock
from bbopt.bench_classify.job import run_job
from bbopt.bench_classify.models import MODELS, need_sklearn, unavailable
from bbopt.bench_classify.plan import DEFINITION, SIZES, SUITE, TEST, Job, Plan, join
from bbopt.bench_classify.results import RESULTS, Log, Result, read_results
from bbopt.errors import BboptError, MissingPackage
from bbopt.worker_process import cores, one_thread_each
from problems.classification import data_sets

__all__ = ["Outcome", "run_classify"]

SHOW_SECONDS = 0.2  # how often progress is worked out


@dataclass(frozen=True)
class Outcome:
    """What became of the jobs that a call asked for: `failed` has the error of each that failed, `left_out` the models that
    cannot be used on this machine, with the reason."""

    folder: Path
    complete: int
    planned: int
    failed: dict[Job, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every job is complete."""
        return self.complete == self.planned


def run_classify(
    out: str | Path,
    data: Sequence[str] = (),
    models: Sequence[str] = (),
    *,
    sizes: Sequence[int] = SIZES,
    seeds: int | Sequence[int] = 20,
    test: int = TEST,
    workers: int | None = None,
    progress: bool | Callable[[Progress], None] = True,
) -> Outcome:
    """Train every model on every data set at every size with every seed, and return what became of it.

    out: the folder, made if it is not there; data, models: names, all of them by default; sizes: numbers of training rows;
    seeds: how many training draws, or a list; test: number of test rows; workers: processes with one thread each, by
    default one per core; 1 works in this process. progress: True shows a bar on standard error, a function gets
    `bbopt.bench.Progress` (runs are pairs of data set and seed, evaluations are trained models), False is silent.

    Models that were not named and cannot be used here (no package, no weights) are left out, with the reason in the outcome;
    for one that was named this is an error. A folder that holds the same comparison is continued, and may be extended. A
    job that fails is recorded, the rest goes on, and the next call tries it again. Raises `MissingPackage` without
    scikit-learn, `BenchDiffers` for a folder with another comparison, `UsageError` for unknown names or a folder at work.
    """
    need_sklearn()
    wanted = Plan(tuple(data) or data_sets(), tuple(models) or tuple(MODELS), tuple(sizes), as_seeds(seeds), test)
    reasons = {name: reason for name in wanted.models if (reason := unavailable(name))}
    if models and reasons:
        raise MissingPackage("; ".join(f"the model {name} cannot be used here: {why}" for name, why in reasons.items()))
    usable = tuple(name for name in wanted.models if name not in reasons)
    plan = Plan(wanted.data, usable, wanted.sizes, wanted.seeds, wanted.test)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(folder_lock(folder))
        found = read_json(folder / DEFINITION)
        document = join(found, plan, folder) if found else {**plan.to_json(), "sessions": []}
        session = {
            "began": now(),
            "ended": None,
            "versions": {**versions(), "scikit-learn": importlib.metadata.version("scikit-learn")},
            "machine": machine(),
            "left_out": reasons,
        }
        document["sessions"].append(session)
        write_json(folder / DEFINITION, document)
        show = progress if callable(progress) else (lambda _: None)
        if progress is True:
            from bbopt.bench.progress import bar

            show = stack.enter_context(bar(SUITE))
        try:
            return _work(folder, plan, workers or cores(), reasons, show)
        finally:
            session["ended"] = now()
            write_json(folder / DEFINITION, document)


def _work(
    folder: Path, plan: Plan, workers: int, left_out: dict[str, str], show: Callable[[Progress], None]
) -> Outcome:
    """Do all that is left to do."""
    known = read_results(folder / RESULTS)
    jobs = list(plan.jobs())
    done = {job: known[job] for job in jobs if job in known and not known[job].error}
    left = [job for job in jobs if job not in done]
    failed: dict[Job, str] = {}
    state = _State(plan, jobs, done, failed, known, min(workers, max(1, len(left))))
    shown = time.monotonic()
    show(state.progress())
    with Log(folder / RESULTS) as log, _worked(left, plan.test, state.workers) as results:
        for result in results:
            log.add(result)
            if result.error:
                failed[result.job] = result.error
            else:
                done[result.job] = known[result.job] = result
            if time.monotonic() - shown > SHOW_SECONDS:
                shown = time.monotonic()
                show(state.progress())
    show(state.progress())
    return Outcome(folder, len(done), len(jobs), failed, left_out)


@dataclass(frozen=True)
class _State:
    """What is done and what is left; time left is estimated from the CPU seconds of the model at the same size."""

    plan: Plan
    jobs: list[Job]
    done: dict[Job, Result]
    failed: dict[Job, str]
    known: dict[Job, Result]
    workers: int

    def progress(self) -> Progress:
        costs: dict[tuple[str, int], list[float]] = {}
        for result in self.known.values():
            costs.setdefault((result.job.model, result.job.size), []).append(result.seconds)
        means = {key: sum(values) / len(values) for key, values in costs.items()}
        usual = sum(means.values()) / len(means) if means else 0.0
        seconds, open_runs, failed_runs = 0.0, set(), set()
        for job in self.jobs:
            if job in self.failed:
                failed_runs.add((job.data, job.seed))
            elif job not in self.done:
                open_runs.add((job.data, job.seed))
                seconds += means.get((job.model, job.size), usual)
        total = len(self.plan.data) * len(self.plan.seeds)
        return Progress(
            runs=total - len(open_runs | failed_runs),
            runs_total=total,
            evaluations=len(self.done),
            evaluations_total=len(self.jobs),
            failed=len(failed_runs - open_runs),
            seconds_left=seconds / self.workers if means else None,
        )


# --- in this process, or in several ----------------------------------------------------------------------------------


@contextmanager
def _worked(jobs: Sequence[Job], test: int, workers: int) -> Iterator[Iterator[Result]]:
    """The results of jobs as they come. Leaving the context early ends what is being worked on."""
    if workers == 1:
        from threadpoolctl import threadpool_limits  # comes with scikit-learn

        with threadpool_limits(limits=1):
            yield (run_job(job, test) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    with one_thread_each():
        executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(theirs,))
        try:
            yield _collected([executor.submit(run_job, job, test) for job in jobs])
        finally:
            ours.close()  # workers end at once, at work or not: what was scored is in the file
            theirs.close()
            executor.shutdown(wait=True, cancel_futures=True)


def _collected(futures: Sequence[Future[Result]]) -> Iterator[Result]:
    try:
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise BboptError(
            "a worker process died, perhaps for want of memory; what was scored is safe, and the same command goes on "
            "from here, with fewer --workers if need be"
        ) from error


def _begin(lifeline: Connection) -> None:
    """In a worker: leave Ctrl-C to the parent, and end when the parent has closed its end of the lifeline, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        lifeline.poll(None)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
