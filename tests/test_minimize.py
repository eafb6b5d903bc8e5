"""`minimize`: budgets, stops, failures of the user's function, and going on after an interruption."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from contract.tasks import one_point, plain, small_finite
from contract.toys import Climber, Population

from bbopt.errors import UsageError, ValueRefused
from bbopt.evaluate import Function, Impossible, Supply
from bbopt.optimizer import Optimizer
from bbopt.outcome import Outcome
from bbopt.parameters import Float
from bbopt.run import minimize
from bbopt.space import Space
from bbopt.strategy import Strategy
from bbopt.task import Constraint, Objective, Task
from bbopt.trial import Trial

CASE = plain(2)


class Counted:
    """The case's function, which counts its calls and can misbehave at some of them."""

    def __init__(self, fail: dict[int, BaseException] | None = None) -> None:
        self.calls = 0
        self.fail = fail or {}

    def __call__(self, params: dict[str, Any]) -> dict[str, float]:
        self.calls += 1
        if self.calls in self.fail:
            raise self.fail[self.calls]
        return CASE.function(params)


@pytest.mark.parametrize("strategy", [Climber(), Population(), "random"], ids=lambda s: type(s).__name__)
def test_the_budget_is_the_number_of_evaluations(strategy: Strategy | str) -> None:
    """Also where it does not divide the population."""
    function = Counted()
    result = minimize(function, CASE.task, 23, strategy, progress=False)
    assert (function.calls, result.evaluations, result.stopped) == (23, 23, "budget")
    assert result.best is not None and result.best.values == CASE.function(result.best.params)
    assert result.front == (result.best,)


def test_same_seed_same_run() -> None:
    runs = [
        [t.params for t in minimize(Counted(), CASE.task, 12, Climber(), seed=s, progress=False).optimizer.trials()]
        for s in (1, 1, 2)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_stop_at_the_target_in_the_users_sign() -> None:
    result = minimize(Counted(), CASE.task, 500, Climber(), target=0.01, progress=False)
    assert result.stopped == "target" and result.best is not None and result.best.values is not None
    assert result.best.values["objective"] <= 0.01 and result.evaluations < 500
    task = Task(CASE.task.space, objectives=(Objective("gain", maximize=True),))
    result = minimize(lambda p: -CASE.function(p)["objective"], task, 500, Climber(), target=-0.01, progress=False)
    assert result.stopped == "target" and result.best is not None and (result.best.values or {})["gain"] >= -0.01


def test_an_infeasible_point_is_not_the_target() -> None:
    task = Task(CASE.task.space, objectives=(Objective("objective"),), constraints=(Constraint("load", upper=0.0),))
    result = minimize(lambda p: {"objective": -1.0, "load": 1.0}, task, 10, "random", target=0.0, progress=False)
    assert (result.stopped, result.best, result.front) == ("budget", None, ())


def test_stop_by_time_and_by_callback() -> None:
    result = minimize(Counted(), CASE.task, 50, "random", seconds=0.0, progress=False)
    assert result.stopped == "seconds" and result.evaluations == 0 and result.best is None
    seen: list[int] = []

    def callback(opt: Optimizer, trial: Trial) -> bool:
        seen.append(trial.number)
        assert trial.status == "ok" and opt.trial(trial.number) == trial
        return len(seen) == 4

    result = minimize(Counted(), CASE.task, 50, "random", callback=callback, progress=False)
    assert (result.stopped, result.evaluations, seen) == ("callback", 4, [0, 1, 2, 3])


def test_a_used_up_space_is_an_end() -> None:
    case = small_finite()
    result = minimize(case.function, case.task, 100, "random", progress=False)
    assert (result.stopped, result.evaluations) == ("exhausted", 27)
    assert result.best is not None and result.best.values == {"objective": 0.0}
    result = minimize(one_point().function, one_point().task, 5, "random", progress=False)
    assert (result.stopped, result.evaluations) == ("exhausted", 1)


def test_unexpected_exceptions_are_recorded_and_raised_at_once(tmp_path: Path) -> None:
    function = Counted({4: ZeroDivisionError("in the user's code")})
    with pytest.raises(ZeroDivisionError, match="in the user's code"):
        minimize(function, CASE.task, 20, "random", store=tmp_path / "runs.db", progress=False)
    assert function.calls == 4
    opt = Optimizer.open(tmp_path / "runs.db")
    assert [trial.status for trial in opt.trials()] == ["ok", "ok", "ok", "lost"]
    assert "ZeroDivisionError" in opt.trial(3).reason and "in the user's code" in opt.trial(3).reason
    opt.close()


def test_named_exceptions_are_lost_evaluations() -> None:
    """They are tried again; one that fails every time is given up and counts, or the run would never end."""
    function = Counted({2: OSError("network"), 5: TimeoutError("slow")})
    result = minimize(function, CASE.task, 10, "random", catch=(OSError,), progress=False)
    assert (result.evaluations, result.stopped, function.calls) == (10, "budget", 12)
    assert {trial.attempt for trial in result.optimizer.trials()} == {1, 2}

    def broken(params: dict[str, Any]) -> float:
        raise OSError("always")

    result = minimize(broken, CASE.task, 4, "random", catch=(OSError,), progress=False)
    assert result.stopped == "budget" and result.best is None
    assert {trial.status for trial in result.optimizer.trials()} == {"lost"}


def test_what_was_given_up_is_not_made_up_for_by_the_next_call(tmp_path: Path) -> None:
    """A run that used its budget does nothing when it is called again, also where some of it was lost."""

    def half(params: dict[str, Any]) -> dict[str, float]:
        if params["x0"] > 0.5:
            raise OSError("always")
        return CASE.function(params)

    for _ in range(2):
        result = minimize(half, CASE.task, 12, "random", catch=(OSError,), progress=False, store=tmp_path / "runs.db")
        assert (result.evaluations, result.stopped, len(result.optimizer.trials())) == (12, "budget", 12)
        assert result.optimizer.evaluations() == 12
        assert {trial.status for trial in result.optimizer.trials()} == {"ok", "lost"}
        result.optimizer.close()


@pytest.mark.parametrize("strategy", [Climber(), Population()], ids=lambda s: type(s).__name__)
def test_impossible_points_count_and_teach(strategy: Strategy) -> None:
    def function(params: dict[str, Any]) -> dict[str, float]:
        if params["x0"] > 0.5:
            raise Impossible("the beam does not fit")
        return CASE.function(params)

    result = minimize(function, CASE.task, 30, strategy, progress=False)
    trials = result.optimizer.trials()[:30]
    assert result.evaluations == 30 and result.best is not None
    assert {trial.status for trial in trials} == {"ok", "impossible"}
    assert {trial.reason for trial in trials if trial.status == "impossible"} == {"the beam does not fit"}
    assert all((trial.params["x0"] > 0.5) == (trial.status == "impossible") for trial in trials)


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "1.0", {"cost": 1.0}], ids=repr)
def test_results_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(ValueRefused, match=r"objective|cost"):
        minimize(lambda params: value, CASE.task, 5, "random", progress=False)


def test_functions_cannot_change_a_trial() -> None:
    def function(params: dict[str, Any]) -> float:
        total = float(params["x0"])
        params.clear()
        return total

    result = minimize(function, CASE.task, 5, "random", progress=False)
    assert all(set(trial.params) == {"x0", "x1"} for trial in result.optimizer.trials())


@pytest.mark.parametrize("strategy", [Climber(), Population()], ids=lambda s: type(s).__name__)
def test_the_same_call_goes_on(strategy: Strategy, tmp_path: Path) -> None:
    """After Ctrl-C the open trial is evaluated first, and the whole run is what it would have been."""
    path = tmp_path / "runs.db"
    with pytest.raises(KeyboardInterrupt):
        minimize(Counted({9: KeyboardInterrupt()}), CASE.task, 20, strategy, seed=2, store=path, progress=False)
    function = Counted()
    result = minimize(function, CASE.task, 20, strategy, seed=2, store=path, progress=False)
    assert (result.evaluations, result.stopped, function.calls) == (20, "budget", 12)
    whole = minimize(Counted(), CASE.task, 20, strategy, seed=2, progress=False)
    assert [t.params for t in result.optimizer.trials()[:20]] == [t.params for t in whole.optimizer.trials()[:20]]
    assert [t.attempt for t in result.optimizer.trials()] == [1] * len(result.optimizer.trials())
    again = Counted()
    result = minimize(again, CASE.task, 20, strategy, seed=2, store=path, progress=False)
    assert (again.calls, result.evaluations) == (0, 20)
    result.optimizer.close()


@dataclass(frozen=True)
class Backwards:
    """Works on three rows at once and answers the last one first."""

    def run(self, function: Function, task: Task, supply: Supply) -> Iterator[Outcome]:
        while batches := supply(3, 3):
            for batch in reversed(batches):
                for one in reversed(batch.split(1)):
                    yield Outcome(one, [function(task.space.decode(one.X[0]))])


@pytest.mark.parametrize("strategy", [Climber(), Population(), "random"], ids=lambda s: type(s).__name__)
def test_evaluators_with_several_trials_at_once(strategy: Strategy | str) -> None:
    result = minimize(Counted(), CASE.task, 25, strategy, evaluator=Backwards(), progress=False)
    assert result.evaluations == 25 and result.stopped == "budget"
    assert sum(trial.status == "ok" for trial in result.optimizer.trials()) == 25


def test_strange_arguments() -> None:
    for budget in (0, -1, 1.5, True):
        with pytest.raises(UsageError, match="budget"):
            minimize(Counted(), CASE.task, budget, progress=False)  # type: ignore[arg-type]
    task = Task(Space(x=Float(0, 1)), objectives=(Objective("a"), Objective("b")))
    with pytest.raises(UsageError, match="target"):
        minimize(Counted(), task, 5, "random", target=1.0, progress=False)


def test_several_objectives_give_a_front() -> None:
    task = Task(Space(x=Float(0, 1)), objectives=(Objective("a"), Objective("b")))
    result = minimize(lambda p: {"a": p["x"], "b": 1 - p["x"]}, task, 7, "random", progress=False)
    assert result.best is None and len(result.front) == 7
