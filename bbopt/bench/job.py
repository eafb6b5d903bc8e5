"""One run of a benchmark: a strategy on a problem with a seed, continued from wherever the store has it.

The first points of a run are the initial design of its (problem, seed): uniform in the unit cube of encoded parameters,
the same for every strategy. They are enqueued, so that a strategy meets them as points of the user, answers included,
before it is asked for the first time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import problems
from bbopt.bench.plan import Job
from bbopt.errors import Exhausted, UsageError
from bbopt.optimizer import Optimizer
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
    return [space.decode(rows[key]) for key in distinct]


def run_job(
    job: Job,
    strategy: Strategy | str,
    budget: int,
    initial: int,
    store: Path,
    told: Callable[[int], None] = lambda evaluations: None,
) -> Finished:
    """Carry a run to `budget` answered evaluations; `told` hears their number after each one.

    An open trial that a dead process left behind is answered first. An exception of the problem ends the run and is
    raised; the trial stays open, so that the next attempt begins with it.
    """
    problem = problems.get(job.problem)
    if problem.task.m != 1:
        raise UsageError(f"bench: expected problems with one objective, {job.problem} has {problem.task.m}")
    design = initial_design(job.problem, problem.task, job.seed, min(initial, budget))
    with Optimizer.create_or_open(
        problem.task, strategy, seed=job.seed, budget=budget, store=store, name=job.study, retries=0
    ) as opt:
        trials = opt.trials()
        answered = sum(trial.status in ANSWERED for trial in trials)
        created, new = len(trials), 0

        def answer(number: int, params: Mapping[str, Any]) -> None:
            nonlocal answered, new
            opt.tell(number, problem(params))
            answered, new = answered + 1, new + 1
            told(answered)

        for trial in trials:
            if trial.status == "open" and answered < budget:
                answer(trial.number, trial.params)
        queued = any(trial.status == "queued" for trial in trials)
        while answered < budget:
            if created < len(design) and not queued:
                opt.enqueue(design[created])
                created += 1
            queued = False
            try:
                trial = opt.ask()
            except Exhausted:
                return Finished(answered, new, True)
            answer(trial.number, trial.params)
    return Finished(answered, new, False)
