"""Driving a study the way a user does: ask, hold some trials open, tell; and the facts by which two studies are compared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.errors import Exhausted, Waiting
from bbopt.optimizer import Optimizer
from bbopt.strategy import Strategy
from bbopt.trial import Trial
from contract.tasks import Case

Path = str | os.PathLike[str] | None


def study(strategy: Strategy | str, case: Case, path: Path = None, **options: Any) -> Optimizer:
    return Optimizer(case.task, strategy, store=path, **options)


def reopen(opt: Optimizer, path: Path, strategy: Strategy | None = None) -> Optimizer:
    """The same study in a new object, as another process would see it."""
    opt.close()
    return Optimizer.open(path, opt.name, strategy=strategy or opt.strategy)


def measure(case: Case, trial: Trial) -> dict[str, float]:
    return case.function({**trial.params, **trial.context})


def tell(opt: Optimizer, case: Case, trial: Trial) -> None:
    opt.tell(trial, measure(case, trial))


def ask_some(opt: Optimizer, case: Case, n: int) -> list[Trial]:
    """n trials, or what can be had, or none; checks that a Waiting says truly what it carries."""
    try:
        return opt.ask(n, context=case.context)
    except Waiting as raised:
        waiting = raised
    carried = {trial.number for trial in waiting.open}
    assert carried or waiting.available, "waiting for answers, yet no trial is open: a livelock"
    assert carried == {trial.number for trial in opt.trials() if trial.status == "open"}
    assert 0 <= waiting.available < n
    if not waiting.available:
        return []
    some = opt.ask(n, fewer=True, context=case.context)
    assert len(some) == waiting.available, (len(some), waiting.available)
    return some


def drive(
    opt: Optimizer, case: Case, rows: int, sizes: Sequence[int] = (1,), hold: int = 0, seed: int = 0
) -> list[Trial]:
    """Ask in the given sizes until `rows` trials were handed out, tell in random order, keep at most `hold` open.

    Ends early where the space is used up. Returns what was handed out.
    """
    rng = np.random.default_rng(seed)
    asked: list[Trial] = []
    waiting: list[Trial] = []
    turn = 0
    while len(asked) < rows:
        try:
            new = ask_some(opt, case, min(sizes[turn % len(sizes)], rows - len(asked)))
        except Exhausted:
            break
        asked += new
        waiting += new
        turn += 1
        if not new and not waiting:  # left open before this drive
            waiting = [trial for trial in opt.trials() if trial.status == "open"]
        assert new or waiting, "no trials, and none to wait for"
        while len(waiting) > (hold if new else 0):
            tell(opt, case, waiting.pop(int(rng.integers(len(waiting)))))
    while waiting:
        tell(opt, case, waiting.pop(int(rng.integers(len(waiting)))))
    return asked


@dataclass
class Loop:
    """An asynchronous loop that is a function of the log alone, so that any process can go on with it.

    Asks one trial at a time; tells the oldest open one when three are out, or all of them where the strategy waits.
    """

    case: Case

    def run(self, opt: Optimizer, asks: int) -> None:
        for _ in range(asks):
            self.step(opt)

    def step(self, opt: Optimizer) -> None:
        try:
            opt.ask(context=self.case.context)
        except Waiting:
            for trial in self.open(opt):
                tell(opt, self.case, trial)
            opt.ask(context=self.case.context)
        out = self.open(opt)
        if len(out) >= 3:
            tell(opt, self.case, out[0])

    @staticmethod
    def open(opt: Optimizer) -> list[Trial]:
        return [trial for trial in opt.trials() if trial.status == "open"]


def facts(opt: Optimizer) -> list[dict[str, Any]]:
    """Everything of every trial that must come out the same, to the bit: not who asked, nor how long that took."""
    rows = []
    for trial in opt.trials():
        row = trial.to_json()
        for name in ("owner", "seconds"):
            del row[name]
        rows.append(row)
    return rows


def points(trials: Sequence[Trial]) -> list[tuple[Any, ...]]:
    """Parameters in a form that can be compared and put in a set."""
    return [tuple((name, repr(value)) for name, value in sorted(trial.params.items())) for trial in trials]
