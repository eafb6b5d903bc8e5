"""`minimize`: the whole loop around a function, with a budget, progress, and nothing lost when it is interrupted."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bbopt.errors import Exhausted, UsageError, Waiting
from bbopt.evaluate import Evaluator, Function, Impossible, InProcess, Outcome
from bbopt.optimizer import Optimizer
from bbopt.strategy import Strategy
from bbopt.task import Task
from bbopt.trial import Trial

OWNER = "minimize"


@dataclass(frozen=True)
class Result:
    """What a run came to. best: the best feasible trial, or None; front: the best compromises of several objectives;
    evaluations: trials that were answered; stopped: why it ended (budget, target, seconds, callback, exhausted);
    optimizer: the study, to look closer or to go on."""

    best: Trial | None
    front: tuple[Trial, ...]
    evaluations: int
    stopped: str
    optimizer: Optimizer


def minimize(
    function: Function,
    task: Task,
    budget: int = 60,
    strategy: str | Strategy = "auto",
    evaluator: Evaluator | None = None,
    seed: int = 0,
    target: float | None = None,
    seconds: float | None = None,
    catch: tuple[type[Exception], ...] = (),
    progress: bool = True,
    *,
    store: str | os.PathLike[str] | None = None,
    name: str = "study",
    callback: Callable[[Optimizer, Trial], bool | None] | None = None,
) -> Result:
    """Evaluate `function(params)` at up to `budget` points and return the best.

    function: takes a dict of parameter values, returns a dict of metrics (a number for a single one), or raises
    `bbopt.Impossible` for a point that cannot work; budget: answered evaluations in all, those of an earlier run on the
    same `store` included; target: stop at an objective at least this good (in the user's sign); seconds: stop asking
    after this time; catch: exceptions that count as a lost evaluation, retried; any other exception is recorded and
    raised again at once; callback: called after each answer, a true result stops. Ctrl-C may be pressed at any time:
    with a `store`, the same call goes on where it stopped.

    >>> from bbopt.space import Float, Space
    >>> result = minimize(lambda p: (p["x"] - 1) ** 2, Task(Space(x=Float(-2, 2))), 15, "random", progress=False)
    >>> result.evaluations, result.stopped
    (15, 'budget')
    """
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise UsageError(f"minimize: expected a positive whole number as budget, got {budget!r}")
    if target is not None and task.m > 1:
        raise UsageError("minimize: a target is for one objective; leave it out")
    if store is None:
        opt = Optimizer(task, strategy, seed=seed, budget=budget, name=name, owner=OWNER)
    else:
        opt = Optimizer.create_or_open(task, strategy, seed=seed, budget=budget, store=store, name=name, owner=OWNER)
    worker = evaluator or InProcess()
    answered = sum(trial.status in ("ok", "impossible") for trial in opt.trials())
    left = [trial for trial in opt.trials() if trial.status == "open" and trial.owner == OWNER]
    started = time.monotonic()
    stopped = "target" if _reached(task, opt, target) else ""
    with _shown(progress, task, budget, answered) as show:
        while not stopped:
            if answered >= budget:
                stopped = "budget"
            elif seconds is not None and time.monotonic() - started >= seconds:
                stopped = "seconds"
            if stopped:
                break
            want = min(worker.capacity, budget - answered)
            batch, left = left[:want], left[want:]  # left open by an earlier run that was killed
            if not batch:
                try:
                    batch = opt.ask(want, fewer=True)
                except Exhausted:
                    stopped = "exhausted"
                    break
                except Waiting as waiting:
                    if not waiting.open:
                        raise
                    batch = list(waiting.open)[:want]
            for outcome in worker.evaluate(function, batch):
                answered += _record(opt, outcome, catch)
                trial = opt.trial(outcome.trial.number)
                show(answered, opt)
                if callback is not None and callback(opt, trial):
                    stopped = stopped or "callback"
                if _reached(task, opt, target):
                    stopped = "target"
    best = opt.best() if task.m == 1 else None
    return Result(best, tuple(opt.front()), answered, stopped, opt)


def _record(opt: Optimizer, outcome: Outcome, catch: tuple[type[Exception], ...]) -> int:
    """Tell what happened; 1 if the trial is answered. An exception nobody named is recorded, then raised."""
    if outcome.failure is None:
        opt.tell(outcome.trial, outcome.values)
        return 1
    impossible = isinstance(outcome.failure, Impossible)
    opt.fail(outcome.trial, str(outcome.failure) if impossible else outcome.reason, impossible=impossible)
    if impossible:
        return 1
    if not isinstance(outcome.failure, catch):
        raise outcome.failure
    return int(opt.trial(outcome.trial.number).attempt > opt.retries)  # given up: it used its share of the budget


def _reached(task: Task, opt: Optimizer, target: float | None) -> bool:
    if target is None:
        return False
    best = opt.best()
    if best is None or best.values is None:
        return False
    objective = task.objectives[0]
    value = best.values[objective.name]
    return value >= target if objective.maximize else value <= target


@contextmanager
def _shown(progress: bool, task: Task, budget: int, answered: int) -> Iterator[Callable[[int, Optimizer], None]]:
    """A progress bar on standard error, if it is a terminal."""
    if not progress or not sys.stderr.isatty():
        yield lambda answered, opt: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[best]}"))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        line = bar.add_task("minimize", total=budget, completed=answered, best="")

        def show(answered: int, opt: Optimizer) -> None:
            best = opt.best() if task.m == 1 else None
            text = (
                "nothing feasible yet"
                if best is None or best.values is None
                else f"best {next(iter(best.values.values())):.6g}"
            )
            bar.update(line, completed=answered, best=text)

        yield show
