"""The driver's bookkeeping: budgets, stops, what others hold, and evaluators that break their promise."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from contract.tasks import plain, small_finite
from contract.toys import Climber, Population

import bbopt
from bbopt.errors import EvaluatorError, Waiting
from bbopt.evaluate import Function, Supply
from bbopt.outcome import Batch, Failure, Outcome
from bbopt.run import minimize
from bbopt.task import Task

CASE = plain(2)


@dataclass(frozen=True)
class Greedy:
    """Pulls whenever it has room for `room` rows, and answers one row at a time, the newest first."""

    room: int
    pulled: list[tuple[int, int]]
    fails: Callable[[int, int], Failure | None] = lambda number, attempt: None

    def run(self, function: Function, task: Task, supply: Supply) -> Iterator[Outcome]:
        work: list[Batch] = []
        while True:
            while len(work) < self.room:
                batches = supply(self.room - len(work), self.room - len(work))
                self.pulled.append((self.room - len(work), sum(map(len, batches))))
                if not batches:
                    break
                work += [one for batch in batches for one in batch.split(1)]
            if not work:
                return
            assert len(work) <= self.room
            batch = work.pop()
            failure = self.fails(int(batch.numbers[0]), batch.attempt)
            if failure is None:
                yield Outcome(batch, [function(task.space.decode(batch.X[0]))])
            else:
                yield Outcome(batch, [None], {0: failure})


@pytest.mark.parametrize("room", [1, 3, 7, 50])
@pytest.mark.parametrize("strategy", [Climber(), Population(size=5), "random"], ids=str)
def test_never_more_than_the_budget_is_handed_out(room: int, strategy: Any) -> None:
    greedy = Greedy(room, [])
    result = minimize(CASE.function, CASE.task, 23, strategy, greedy, progress=False)
    assert (result.evaluations, result.stopped) == (23, "budget")
    assert sum(given for _, given in greedy.pulled) == 23
    assert result.optimizer.statuses()["ok"] == 23 and "open" not in result.optimizer.statuses()


@pytest.mark.parametrize("room", [1, 4])
def test_lost_rows_go_out_again_and_count_once(room: int) -> None:
    """Infrastructure's losses are never raised; a row that is given up used its share of the budget."""
    lost = Failure(None, "power cut", lost=True)
    greedy = Greedy(room, [], lambda number, attempt: lost if number % 3 == 0 and attempt <= number % 4 else None)
    result = minimize(CASE.function, CASE.task, 12, "random", greedy, progress=False)
    assert (result.evaluations, result.stopped) == (12, "budget")
    trials = result.optimizer.trials()
    assert [trial.attempt for trial in trials] == [1, 1, 1, 3, 1, 1, 3, 1, 1, 2, 1, 1]
    assert [trial.number for trial in trials if trial.status == "lost"] == [3]
    assert trials[3].reason == "power cut"


def test_a_used_up_space_with_losses_in_flight() -> None:
    lost = Failure(None, "power cut", lost=True)
    case = small_finite()
    greedy = Greedy(8, [], lambda number, attempt: lost if number == 25 and attempt == 1 else None)
    result = minimize(case.function, case.task, 100, "random", greedy, progress=False)
    assert (result.stopped, result.evaluations) == ("exhausted", 27)
    assert result.optimizer.statuses() == {"ok": 27}


def test_rows_that_others_hold_are_evaluated_where_the_strategy_waits_for_them(tmp_path: Any) -> None:
    opt = bbopt.Optimizer(CASE.task, Population(size=5), store=tmp_path / "runs.db")
    opt.ask(3)  # and never told
    result = minimize(
        CASE.function, CASE.task, 10, Population(size=5), Greedy(4, []), store=tmp_path / "runs.db", progress=False
    )
    assert (result.evaluations, result.stopped) == (10, "budget")
    assert [trial.attempt for trial in opt.trials()] == [1] * 10
    result.optimizer.close()
    opt.close()


@dataclass(frozen=True)
class Stuck(Population):
    def ask(self, *given: Any) -> Any:
        raise Waiting("for ever")


def test_a_strategy_that_waits_for_nothing_is_an_error() -> None:
    with pytest.raises(Waiting, match="for ever"):
        minimize(CASE.function, CASE.task, 10, Stuck(), Greedy(4, []), progress=False)


@dataclass(frozen=True)
class Forgetful:
    """Loses every third row on the way, or never asks for one."""

    asks: bool

    def run(self, function: Function, task: Task, supply: Supply) -> Iterator[Outcome]:
        while self.asks and (batches := supply(3, 3)):
            for one in batches[0].split(1)[:2]:
                yield Outcome(one, [1.0])


@pytest.mark.parametrize(("asks", "message"), [(True, "3 rows unanswered"), (False, "0 rows unanswered")])
def test_an_evaluator_that_forgets_rows_is_an_error(asks: bool, message: str) -> None:
    with pytest.raises(EvaluatorError, match=f"Forgetful .*{message}"):
        minimize(CASE.function, CASE.task, 9, "random", Forgetful(asks), progress=False)


@dataclass(frozen=True)
class AtOnce:
    """Evaluates all rows in one array, in one outcome."""

    metrics: Callable[[Any], Any]

    def run(self, function: Function, task: Task, supply: Supply) -> Iterator[Outcome]:
        while batches := supply(100, 8):
            for batch in batches:
                yield Outcome(batch, self.metrics(batch.X))


def test_refused_rows_of_an_array_stay_open_and_the_others_are_told() -> None:
    opt: list[bbopt.Optimizer] = []

    def metrics(X: Any) -> Any:
        Y = X[:, :1].copy()
        Y[[2, 5]] = np.nan
        return Y

    with pytest.raises(bbopt.ValueRefused, match=r"trial 2 at x0 = 0\.\d+, x1 = .*finite"):
        minimize(
            CASE.function, CASE.task, 40, "random", AtOnce(metrics), progress=False,
            callback=lambda study, trial: opt.append(study),
        )  # fmt: skip
    assert [trial.status for trial in opt[0].trials()] == ["ok"] * 2 + ["open"] + ["ok"] * 2 + ["open"] + ["ok"] * 2
    for wrong in (lambda X: X[:, :1].ravel()[1:], lambda X: np.zeros((len(X), 3)), lambda X: np.zeros((len(X), 0))):
        with pytest.raises(bbopt.ValueRefused, match=r"trials 0 to 7: expected 8 results, got 7|expected 1 numbers"):
            minimize(CASE.function, CASE.task, 40, "random", AtOnce(wrong), progress=False)


def test_the_target_is_seen_in_arrays() -> None:
    """In the user's sign, by feasible rows alone."""
    task = Task(CASE.task.space, [bbopt.Objective("gain", maximize=True)], [bbopt.Constraint("load", upper=0.5)])

    def metrics(X: Any) -> Any:
        load = np.where(X[:, 0] > 0.9, 1.0, 0.0)
        return np.stack([X[:, 0], load], axis=1)

    result = minimize(CASE.function, task, 400, "random", AtOnce(metrics), target=0.8, progress=False)
    assert result.stopped == "target" and result.best is not None and result.best.values is not None
    assert 0.8 <= result.best.values["gain"] <= 0.9 and result.evaluations < 400
    result = minimize(CASE.function, task, 64, "random", AtOnce(metrics), target=0.95, progress=False)
    assert result.stopped == "budget", "an infeasible row is not the target"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    result = minimize(CASE.function, CASE.task, 30, "random")
    assert result.best is not None and result.best.values is not None
    text = screen.getvalue()
    assert "minimize" in text and "30/30" in text and f"best {result.best.values['objective']:.6g}" in text
    screen.truncate(0)
    minimize(CASE.function, CASE.task, 5, "random", progress=False)
    assert screen.getvalue() == ""
