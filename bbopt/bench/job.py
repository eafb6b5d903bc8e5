"""One run of a benchmark: a strategy on a problem with a seed, continued from wherever the store has it.

The first points of a run are the initial design of its (problem, seed): uniform in the unit cube of encoded parameters,
the same for every strategy. They are enqueued, so that a strategy meets them as points of the user, answers included,
before it is asked for the first time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

import problems
from bbopt.bench.plan import Job
from bbopt.errors import EvaluatorError, Exhausted, UsageError
from bbopt.evaluate import Evaluator, InProcess
from bbopt.optimizer import Optimizer
from bbopt.outcome import Batch, Outcome
from bbopt.strategy import Strategy
from bbopt.task import Task

__all__ = ["Finished", "initial_design", "run_job"]

ANSWERED = ("ok", "impossible")


@dataclass(frozen=True)
class Finished:
    """How a run ended: answered evaluations in the store, those among them that this session made, and whether the
    space was used up."""

    evaluations: int
    new: int
    exhausted: bool


def initial_design(problem: str, task: Task, seed: int, n: int) -> list[dict[str, Any]]:
    """The n initial points of a problem and a seed, as params.

    Uniform in the unit cube (every level of a discrete parameter equally likely); for a task with known conditions,
    drawn from the points that satisfy them. Repeats, in small spaces, are left out: fewer than n come back then.
    """
    digest = hashlib.sha256(problem.encode()).digest()
    rng = np.random.default_rng([int.from_bytes(digest[:8], "big"), seed])
    space = task.space
    X = task.feasible.sample(n, rng) if task.where else space.from_uniform(rng.random((n, space.dimension)))
    distinct = dict.fromkeys(row.tobytes() for row in X)
    rows = {row.tobytes(): row for row in X}
    contexts = space.roles("context")
    if contexts:
        raise UsageError(f"bench: {problem} has context parameters ({', '.join(contexts)}), which nobody gives here")
    if task.environment:
        raise UsageError(f"bench: {problem} has environment parameters ({', '.join(task.environment)}): the values told on the way "
                         "are not what a design is judged by; bbopt.problems.get(name).risk(params) judges one")  # fmt: skip
    return [space.decode(rows[key]) for key in distinct]


@dataclass(frozen=True)
class Named:
    """A problem by its name, which is what travels to a worker.

    >>> Named("jlh1")({"x1": 0.375, "x2": 0.375})
    {'f': 0.03125, 'g1': 0.0}
    """

    problem: str

    def __call__(self, params: dict[str, Any]) -> dict[str, float]:
        return problems.get(self.problem)(params)


def run_job(
    job: Job,
    strategy: Strategy | str,
    budget: int,
    initial: int,
    store: Path,
    told: Callable[[int], None] = lambda evaluations: None,
    evaluator: Evaluator | None = None,
) -> Finished:
    """Carry a run to `budget` answered evaluations, one at a time; `told` hears their number after each one.

    evaluator: what calls the problem, `InProcess()` by default. An open trial that a dead process left behind is answered
    first. An exception of the problem, or a worker that dies, ends the run and is raised; the trial stays open, so that
    the next attempt begins with it.
    """
    problem = problems.get(job.problem)
    if problem.task.m != 1:
        raise UsageError(f"bench: expected problems with one objective, {job.problem} has {problem.task.m}")
    design = initial_design(job.problem, problem.task, job.seed, min(initial, budget))
    place = InProcess() if evaluator is None else evaluator
    function = problem if evaluator is None else Named(job.problem)
    with Optimizer.create_or_open(
        problem.task, strategy, seed=job.seed, budget=budget, store=store, name=job.study, retries=0
    ) as opt:
        trials = opt.trials()
        answered = sum(trial.status in ANSWERED for trial in trials)
        created, new = len(trials), 0
        open_rows = [batch.take(slice(i, i + 1)) for batch in opt.open_rows() for i in range(len(batch))]
        queued = any(trial.status == "queued" for trial in trials)
        out = exhausted = False

        def supply(rows: int, fresh: int) -> list[Batch]:
            """The next row, once the last one is answered: what a strategy is told before it is asked is the same
            wherever the problem is evaluated."""
            nonlocal created, queued, out, exhausted
            if out or answered >= budget:
                return []
            if open_rows:
                batches = [open_rows.pop(0)]
            else:
                if created < len(design) and not queued:
                    opt.enqueue(design[created])
                    created += 1
                queued = False
                try:
                    batches = opt.ask_rows(1)
                except Exhausted:
                    exhausted = True
                    return []
            out = True
            return batches

        with closing(cast(Generator[Outcome], place.run(function, problem.task, supply))) as outcomes:
            for outcome in outcomes:
                failure = outcome.failures.get(0)
                if failure is not None:
                    raise failure.error or EvaluatorError(failure.reason)
                opt.tell(int(outcome.batch.numbers[0]), outcome.results[0])
                out, answered, new = False, answered + 1, new + 1
                told(answered)
    return Finished(answered, new, exhausted)
