"""`minimize`: the whole loop around a function, with a budget, progress, and nothing lost when it is interrupted."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bbopt.deadline import Deadline
from bbopt.drive import Drive
from bbopt.errors import UsageError
from bbopt.evaluate import Evaluator, Function, InProcess
from bbopt.interrupt import held_back
from bbopt.optimizer import Optimizer
from bbopt.strategy import Strategy
from bbopt.task import Task
from bbopt.trial import Trial

OWNER = "minimize"
SHOW_SECONDS = 0.1  # how often the progress bar is drawn anew, at most


@dataclass(frozen=True)
class Result:
    """What a run came to. best: the best feasible trial, or None (with environment parameters, the best
    design: see `Optimizer.recommend`); front: the best compromises of several objectives, or the
    best trial; evaluations: trials that were answered; stopped: why it ended (budget, target, seconds, callback, exhausted);
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
    ask_deadline: float | None = None,
) -> Result:
    """Evaluate `function(params)` at up to `budget` points and return the best.

    function: takes a dict of parameter values, returns a dict of metrics (a number for a single one), or raises
    `bbopt.Impossible` for a point that cannot work; budget: answered evaluations in all, those of an earlier run on the
    same `store` included; target: stop at an objective at least this good (in the user's sign); seconds: stop asking
    after this time; catch: exceptions that count as a lost evaluation, retried; any other exception is recorded and
    raised again at once; callback: called after each answer, a true result stops; ask_deadline: seconds that each ask may
    take (see `Optimizer.ask`). Ctrl-C may be pressed at any time: what
    has arrived is told, and with a `store`, the same call goes on where it stopped.

    evaluator: where the function runs: `bbopt.InProcess()` (the default), `bbopt.Processes(workers)`, or
    `bbopt.RayEvaluator(...)`; each worker that becomes free is given the next point at once, on the answers there are. What
    a worker did when it died or ran out of time is a lost evaluation, retried.

    >>> from bbopt.space import Float, Space
    >>> result = minimize(lambda p: (p["x"] - 1) ** 2, Task(Space(x=Float(-2, 2))), 15, "random", progress=False)
    >>> result.evaluations, result.stopped
    (15, 'budget')
    """
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise UsageError(f"minimize: expected a positive whole number as budget, got {budget!r}")
    if target is not None and task.m > 1:
        raise UsageError("minimize: a target is for one objective; leave it out")
    if ask_deadline is not None:
        Deadline.after(ask_deadline)  # refused now rather than at the first ask
    if target is not None and task.environment:
        raise UsageError(
            "minimize: a target is for told values, which are those of single environments here; leave it out"
        )
    worker = InProcess() if evaluator is None else evaluator
    if not isinstance(worker, Evaluator) or isinstance(worker, type):
        raise UsageError(f"minimize: expected an evaluator, such as bbopt.Processes(2), got {worker!r}")
    if store is None:
        opt = Optimizer(task, strategy, seed=seed, budget=budget, name=name, owner=OWNER)
    else:
        opt = Optimizer.create_or_open(task, strategy, seed=seed, budget=budget, store=store, name=name, owner=OWNER)
    drive = Drive(opt, budget, target, seconds, catch, callback, ask_deadline)
    with _shown(progress, task, budget, drive), held_back():
        drive.go(worker, function)
    if task.m > 1:
        return Result(None, tuple(opt.front()), drive.answered, drive.stopped, opt)
    best = opt.best()
    return Result(best, () if best is None else (best,), drive.answered, drive.stopped, opt)


@contextmanager
def _shown(progress: bool, task: Task, budget: int, drive: Drive) -> Iterator[None]:
    """A progress bar on standard error, if it is a terminal."""
    if not progress or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[best]}"))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        line = bar.add_task("minimize", total=budget, completed=drive.answered, best="")
        shown = 0.0

        def show(last: bool = False) -> None:
            nonlocal shown
            if not last and time.monotonic() - shown < SHOW_SECONDS:
                return
            best = drive.opt.best() if task.m == 1 and not task.environment else None
            text = (
                ("" if task.environment else "nothing feasible yet")
                if best is None or best.values is None
                else f"best {next(iter(best.values.values())):.6g}"
            )
            bar.update(line, completed=drive.answered, best=text)
            shown = time.monotonic()

        drive.heard = show
        try:
            yield
        finally:
            show(last=True)
