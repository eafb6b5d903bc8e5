"""Asks with a deadline: what is left out at which time left, that it is said, and that the point is a valid one."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

from bbopt import Categorical, Constraint, Float, Int, Objective, Optimizer, Space, Task, UsageError, minimize
from bbopt.deadline import Deadline
from bbopt.query import Key, Query, Request, Values
from bbopt.strategies import haste
from bbopt.strategies.gp import GP
from bbopt.strategies.gp_state import GPState

TASK = Task(Space(a=Float(0, 1), b=Float(0, 1)))


def told(rows: int, task: Task = TASK) -> GPState:
    """The state after that many random rows of a smooth function."""
    X = task.space.from_uniform(np.random.default_rng(0).random((rows, task.space.dimension)))
    values = Values.of(((X - 0.4) ** 2).sum(axis=1), np.tile(X[:, :1] - 0.7, (1, task.c)))
    return GP().tell(task, GP().init(task, Key(0, 0)), Query(X, {}), values)


def ask(state: GPState, left: float | None, n: int = 1, task: Task = TASK) -> Query:
    """An ask with that many seconds left whenever somebody looks."""
    deadline = None if left is None else Deadline(left, 0.0, lambda: 0.0)
    rows = np.zeros((0, task.space.dimension))
    return GP(initial=1).ask(task, state, Request(n, len(state.X), rows, deadline=deadline), Key(0, len(state.X)))


def test_with_plenty_of_time_an_ask_is_the_one_without_a_deadline() -> None:
    state = told(30)
    with_deadline, without = ask(state, 1e6), ask(state, None)
    assert np.array_equal(with_deadline.X, without.X) and "note" not in with_deadline.memo


@pytest.mark.parametrize(
    ("factor", "each", "note"),
    [
        (1e-9, 1e-9, ""),
        (0.2, 1e-9, haste.NO_FIT),
        (0.2, 1.0, f"{haste.NO_FIT}; {haste.SMALLER}"),
        (100.0, 1.0, haste.NO_MODEL),
    ],
)
def test_what_does_not_fit_is_left_out_and_said(
    factor: float, each: float, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that needs `factor` seconds for the probe, and `each` for 32 scores."""
    monkeypatch.setattr(haste, "_probe", lambda: factor)
    steps = count()
    monkeypatch.setattr(haste.time, "perf_counter", lambda: next(steps) * each)
    query = ask(told(60), 1.0, n=3)
    assert query.memo.get("note", "") == note
    assert query.X.shape == (3, 2) and len(np.unique(query.X, axis=0)) == 3
    assert ((query.X >= 0.0) & (query.X <= 1.0)).all()


def test_hyperparameters_found_in_a_hurry_are_fitted_again_when_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    state = told(80)
    monkeypatch.setattr(haste, "_probe", lambda: 0.2)
    first = ask(state, 1.0)
    assert haste.NO_FIT in first.memo["note"] and first.memo["fitted"] == 1
    after = GP().tell(TASK, state, first, Values.of([0.5]))
    second = ask(after, None)
    assert second.memo["fitted"] == 81 and "note" not in second.memo
    third = GP().tell(TASK, after, second, Values.of([0.4]))
    kept = ask(third, 1.0)
    assert np.array_equal(kept.memo["lengthscales"], second.memo["lengthscales"])


def test_points_without_a_model_obey_everything_that_points_obey(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Space(a=Float(0, 1), k=Int(0, 9), c=Categorical(["x", "y"]), u=Float(0, 1, when="c == 'y'"))
    task = Task(space, constraints=[Constraint("g", upper=0.0)], where=["a <= 0.8"])
    monkeypatch.setattr(haste, "_probe", lambda: 1e6)
    opt = Optimizer(task, GP(initial=5), seed=0)
    for trial in opt.ask(5):
        opt.tell(trial, {"objective": trial.params["a"], "g": 0.5 - trial.params["a"]})
    asked = opt.ask(20, deadline=0.5, fixed={"k": 3})
    assert haste.NO_MODEL in asked[0].note
    assert all(
        t.params["k"] == 3 and t.params["a"] <= 0.8 and ("u" in t.params) == (t.params["c"] == "y") for t in asked
    )
    assert len({tuple(t.params.items()) for t in asked}) == 20


def test_a_deadline_that_was_missed_is_said_whatever_the_strategy() -> None:
    opt = Optimizer(TASK, "sobol")
    trial = opt.ask(deadline=1e-9)
    assert "deadline 1e-09 s" in trial.note and trial.params
    assert "deadline" not in opt.ask(deadline=60.0).note


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan"), float("inf"), "soon", True])
def test_what_is_no_time_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="deadline: expected seconds above 0"):
        Optimizer(TASK, "random").ask(deadline=wrong)
    with pytest.raises(UsageError, match="deadline: expected seconds above 0"):
        minimize(lambda p: 0.0, TASK, 3, "random", progress=False, ask_deadline=wrong)


def test_a_whole_search_in_a_hurry_still_learns() -> None:
    noisy = Task(TASK.space, objectives=[Objective("f", noise="unknown")])
    result = minimize(lambda p: (p["a"] - 0.3) ** 2 + p["b"], noisy, 25, GP(), progress=False, ask_deadline=0.02)
    assert result.best is not None and result.best.values is not None and result.best.values["f"] < 0.2
