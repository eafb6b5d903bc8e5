"""Calls and options that must be refused, by a typed error that names what was wrong, with nothing recorded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract.study import facts
from contract.tasks import small_finite
from contract.toys import Climber, Population

from bbopt.errors import (
    AlreadyTold,
    BboptError,
    Exhausted,
    NotHandled,
    SpaceError,
    UnknownTrial,
    UsageError,
    ValueRefused,
    Waiting,
)
from bbopt.optimizer import Optimizer
from bbopt.parameters import Categorical, Float, Int
from bbopt.query import Values
from bbopt.space import Space
from bbopt.task import Constraint, Objective, Task

SINGLE = Task(Space(x=Float(0.0, 1.0)), objectives=(Objective("cost"),))
SEVERAL = Task(
    Space(x=Float(0.0, 1.0), k=Int(1, 9), s=Categorical(("a", "b"), ordered=True)),
    objectives=(Objective("cost"), Objective("gain", maximize=True)),
    constraints=(Constraint("load", lower=0.0, upper=1.0),),
    where=("x * k <= 5",),
)
GOOD = {"cost": 1.0, "gain": 2.0, "load": 0.5}


@pytest.fixture(params=["memory", "file"])
def opt(request: pytest.FixtureRequest, tmp_path: Path) -> Optimizer:
    path = tmp_path / "study.db" if request.param == "file" else None
    made = Optimizer(SEVERAL, "random", store=path)
    made.tell(made.ask(), GOOD)
    made.ask()
    return made


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", True], ids=repr)
def test_ask_for_a_strange_number(opt: Optimizer, n: Any) -> None:
    with pytest.raises(UsageError, match="ask"):
        opt.ask(n)


def test_ask_with_strange_options(opt: Optimizer) -> None:
    before = facts(opt)
    with pytest.raises(SpaceError, match="nothing_there"):
        opt.ask(fixed={"nothing_there": 1})
    with pytest.raises(SpaceError, match="x"):
        opt.ask(fixed={"x": 5.0})
    with pytest.raises(UsageError, match="context"):
        opt.ask(context={"x": 0.5})
    with pytest.raises(BboptError, match=r"x \* k <= 5"):
        opt.ask(fixed={"x": 1.0, "k": 9})
    assert facts(opt) == before


def test_context_must_be_given() -> None:
    task = Task(Space(x=Float(0.0, 1.0), heat=Float(0.0, 100.0, role="context")))
    opt = Optimizer(task, "random")
    with pytest.raises(UsageError, match="heat"):
        opt.ask()
    with pytest.raises(UsageError, match="heat"):
        opt.ask(context={"x": 0.5})
    with pytest.raises(SpaceError, match="heat"):
        opt.ask(context={"heat": 200.0})
    with pytest.raises(UsageError, match="heat"):
        opt.ask(context={"heat": 20.0}, fixed={"heat": 20.0})
    trial = opt.ask(context={"heat": 20.0})
    assert trial.context == {"heat": 20.0} and set(trial.params) == {"x"}
    assert opt.trials() == [opt.trial(0)]


@pytest.mark.parametrize(
    "options",
    [
        {"seed": -1},
        {"seed": 1.5},
        {"seed": None},
        {"seed": True},
        {"retries": -1},
        {"quorum": 0},
        {"budget": 0},
        {"budget": 1.5},
    ],
    ids=repr,
)
def test_strange_options_of_a_study(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        Optimizer(SINGLE, "random", **options)


@pytest.mark.parametrize("strategy", ["randm", "", None, 3, Population, object()], ids=lambda s: type(s).__name__)
def test_strange_strategies(strategy: Any) -> None:
    with pytest.raises(UsageError) as caught:
        Optimizer(SINGLE, strategy)
    if strategy == "randm":
        assert "did you mean 'random'" in str(caught.value)


@pytest.mark.parametrize("lease", [0, -1.0, "5", True, math.nan], ids=repr)
def test_strange_leases(opt: Optimizer, lease: Any) -> None:
    before = facts(opt)
    with pytest.raises(UsageError, match="lease"):
        opt.ask(lease=lease)
    with pytest.raises(UsageError, match="lease"):
        Optimizer(SINGLE, "random", lease=lease).ask()
    assert facts(opt) == before


def test_strange_stores() -> None:
    wrong: Any
    for wrong in (5, True, ["runs.db"], b"runs.db"):
        with pytest.raises(UsageError, match="store"):
            Optimizer(SINGLE, "random", store=wrong)
        with pytest.raises(UsageError, match="store"):
            Optimizer.open(wrong)


def test_strange_tasks() -> None:
    for wrong in (None, "task", Space(x=Float(0, 1))):
        with pytest.raises(UsageError, match="Task"):
            Optimizer(wrong)  # type: ignore[arg-type]


def test_array_level_answers_are_checked() -> None:
    opt = Optimizer(SEVERAL, "random")
    query = opt.ask_query(3)
    before = facts(opt)
    Y, G = np.zeros((3, 2)), np.zeros((3, 2))
    wrong: list[Any] = [
        Values.of(Y[:2], G[:2]),
        Values.of(Y[:, :1], G),
        Values.of(Y, G[:, :1]),
        Values.of(np.full((3, 2), np.nan), G),
        Values.of(Y, np.full((3, 2), np.inf)),
        Values.of(Y, G, rows=[0, 1, 1]),
        np.zeros(3),
    ]
    for values in wrong:
        with pytest.raises(ValueRefused):
            opt.tell_query(query, values)
    for index in (99, -1, "0", None, True):
        with pytest.raises(UsageError):
            opt.tell_query(index, Values.of(Y, G))  # type: ignore[arg-type]
    with pytest.raises(ValueRefused):
        Values.of(Y, G, status=("ok", "good", "ok"))
    assert facts(opt) == before
    opt.tell_query(query, Values.of(Y, G, status=("ok", "lost", "impossible")))
    assert [trial.status for trial in opt.trials()] == ["ok", "lost", "impossible"]
    with pytest.raises(AlreadyTold):
        opt.tell_query(query, Values.of(Y, G))


def test_rankings_are_checked() -> None:
    opt = Optimizer(SINGLE, Population())
    first = [trial.number for trial in opt.ask(5)]
    extra = opt.enqueue({"x": 0.5}).number
    before = facts(opt)
    for order, unseen in (([], []), ([0, 0], []), ([0, [1, 0]], []), ([0, 1], [1]), ([0, extra], [])):
        with pytest.raises(UsageError):
            opt.rank(order, unseen=unseen)
    with pytest.raises(BboptError, match="99"):
        opt.rank([0, 99])
    with pytest.raises(UnknownTrial, match="99"):
        opt.rank([99])
    assert facts(opt) == before
    with pytest.raises(NotHandled, match="cmaes"):
        Optimizer(SINGLE, Climber()).rank([0])
    opt.tell(first[0], 1.0)
    with pytest.raises(AlreadyTold):
        opt.rank(first)


def test_exhausted_says_how_many_are_left() -> None:
    case = small_finite()
    opt = Optimizer(case.task, "random")
    opt.ask(25)
    with pytest.raises(Exhausted, match="2"):
        opt.ask(3)
    assert len(opt.trials()) == 25
    assert len(opt.ask(3, fewer=True)) == 2
    with pytest.raises(Exhausted, match="noise"):
        opt.ask(3, fewer=True)


def test_waiting_carries_what_a_caller_needs() -> None:
    opt = Optimizer(SINGLE, Population())
    opt.ask(3)
    with pytest.raises(Waiting, match="fewer=True") as caught:
        opt.ask(4)
    assert [trial.number for trial in caught.value.open] == [0, 1, 2] and caught.value.available == 2
    assert len(opt.ask(4, fewer=True)) == 2
    with pytest.raises(Waiting, match="5 open trials") as caught:
        opt.ask(1, fewer=True)
    assert caught.value.available == 0
