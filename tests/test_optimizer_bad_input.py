"""What must be refused: by a typed error that names what was wrong, with nothing recorded and the trial still open."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract.study import facts

from bbopt.errors import (
    AlreadyTold,
    BboptError,
    SpaceError,
    UnknownTrial,
    UsageError,
    ValueRefused,
)
from bbopt.optimizer import Optimizer
from bbopt.parameters import Categorical, Float, Int
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


NOT_NUMBERS: list[tuple[Any, str]] = [
    (math.nan, "nan"),
    (math.inf, "inf"),
    (-math.inf, "inf"),
    (np.float64("nan"), "nan"),
    (10**400, "inf"),
    ("1.5", "'1.5'"),
    ("", "''"),
    (b"1", "b'1'"),
    (None, "None"),
    (True, "True"),
    (np.bool_(False), "False"),
    ([1.0], r"\[1.0\]"),
    ({}, "{}"),
    (1j, "1j"),
    (np.complex128(1), "complex"),
    (np.array([1.0, 2.0]), "array"),
    (object(), "object"),
]


@pytest.mark.parametrize(("value", "shown"), NOT_NUMBERS, ids=lambda item: repr(item)[:20])
def test_values_that_are_no_numbers(opt: Optimizer, value: Any, shown: str) -> None:
    before = facts(opt)
    with pytest.raises(ValueRefused, match=rf"trial 1.*gain.*{shown}"):
        opt.tell(1, {**GOOD, "gain": value})
    with pytest.raises(ValueRefused, match=r"trial 1.*load"):
        opt.tell(1, GOOD, std={"load": value if value is not None else math.nan})
    if value is not None:
        with pytest.raises(ValueRefused, match=r"trial 1.*cost"):
            opt.tell(1, GOOD, cost=value)
    with pytest.raises(ValueRefused, match="gain"):
        opt.amend(0, {**GOOD, "gain": value})
    with pytest.raises(ValueRefused, match="gain"):
        opt.add({"x": 0.5, "k": 1, "s": "a"}, {**GOOD, "gain": value})
    assert facts(opt) == before
    opt.tell(1, GOOD)
    assert opt.trial(1).status == "ok"


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"cost": 1.0, "gain": 2.0}, "load"),
        ({}, "cost"),
        ({**GOOD, "mass": 1.0}, "mass"),
        ({"Cost": 1.0, "gain": 2.0, "load": 0.5}, "Cost"),
        (1.0, "mapping"),
        ([1.0, 2.0], "3 numbers"),
        ([1.0, 2.0, 3.0, 4.0], "3 numbers"),
        (np.zeros(2), "3 numbers"),
        ("cost", "cost"),
        (None, "None"),
        ({1.0, 2.0, 3.0}, "mapping"),
        ({0: 1.0, "gain": 2.0, "load": 0.5}, "0"),
    ],
    ids=repr,
)
def test_results_of_the_wrong_shape(opt: Optimizer, told: Any, named: str) -> None:
    before = facts(opt)
    with pytest.raises(ValueRefused, match=named) as caught:
        opt.tell(1, told)
    assert "trial 1" in str(caught.value)
    assert facts(opt) == before and opt.trial(1).status == "open"


def test_one_metric_takes_a_number_and_nothing_else() -> None:
    opt = Optimizer(SINGLE, "random")
    trial = opt.ask()
    for wrong in (math.nan, "1", None, True, [1.0, 2.0], {"Cost": 1.0}):
        with pytest.raises(ValueRefused):
            opt.tell(trial, wrong)
    for number, right in enumerate((1, 1.0, np.float32(1), np.int64(1), np.array(1.0), [1.0], (1.0,), {"cost": 1.0},
                                    Fraction(1), np.array([1.0]))):  # fmt: skip
        opt.tell(opt.ask() if number else trial, right)
        assert opt.trials()[-1].values == {"cost": 1.0}
        assert type((opt.trials()[-1].values or {})["cost"]) is float


def test_scalars_of_other_libraries_are_numbers() -> None:
    """Zero-dimensional arrays, NumPy scalars and anything with `item()` are what users have at hand."""

    class Tensor:
        def item(self) -> float:
            return 2.5

    opt = Optimizer(SINGLE, "random")
    for value in (Tensor(), np.float16(2.5), np.array(2.5), np.array([[2.5]])):
        opt.tell(opt.ask(), {"cost": value}, std=np.float64(0.5), cost=np.float64(3))
    assert {(t.values or {})["cost"] for t in opt.trials()} == {2.5}
    assert {(t.std["cost"], t.cost) for t in opt.trials()} == {(0.5, 3.0)}
    with pytest.raises(ValueRefused):
        opt.tell(opt.ask(), Decimal("NaN"))


def test_standard_errors(opt: Optimizer) -> None:
    for wrong, named in (
        ({"cost": -1.0}, "cost"),
        ({"mass": 1.0}, "mass"),
        (0.5, "mapping"),
        ({"cost": math.nan}, "cost"),
    ):
        with pytest.raises(ValueRefused, match=named):
            opt.tell(1, GOOD, std=wrong)
    opt.tell(1, GOOD, std={"cost": 0.0, "load": 1.0})
    assert opt.trial(1).std == {"cost": 0.0, "load": 1.0}


@pytest.mark.parametrize("number", [2, 99, -1, 10**30])
def test_unknown_trials(opt: Optimizer, number: int) -> None:
    before = facts(opt)
    calls: list[Any] = [
        lambda: opt.tell(number, GOOD),
        lambda: opt.tell_many([(1, GOOD), (number, GOOD)]),
        lambda: opt.fail(number),
        lambda: opt.cancel(number),
        lambda: opt.amend(number, GOOD),
        lambda: opt.retract(number),
        lambda: opt.trial(number),
        lambda: opt.history(number),
    ]
    for call in calls:
        with pytest.raises(UnknownTrial, match=str(number)) as caught:
            call()
        assert isinstance(caught.value, KeyError) and "0 to 1" in str(caught.value)
    assert facts(opt) == before


@pytest.mark.parametrize("trial", [None, "1", 1.0, True, (1,), {"number": 1}, object()], ids=lambda t: type(t).__name__)
def test_what_is_no_trial(opt: Optimizer, trial: Any) -> None:
    before = facts(opt)
    for call in (lambda: opt.tell(trial, GOOD), lambda: opt.fail(trial), lambda: opt.cancel(trial), lambda: opt.retract(trial),
                 lambda: opt.amend(trial, GOOD), lambda: opt.trial(trial)):  # fmt: skip
        with pytest.raises(UsageError, match="Trial"):
            call()
    assert facts(opt) == before


def test_told_twice(opt: Optimizer) -> None:
    """The same again is a no-op, something else an error that says how to correct it."""
    positions = len(opt.history())
    opt.tell(0, GOOD)
    opt.tell(0, {"cost": 1, "gain": np.float32(2), "load": 0.5})
    assert len(opt.history()) == positions
    for other, options in (({**GOOD, "gain": 3.0}, {}), (GOOD, {"cost": 1.0}), (GOOD, {"std": {"cost": 1.0}})):
        with pytest.raises(AlreadyTold, match=r"trial 0.*amend.*retract"):
            opt.tell(0, other, **options)
    with pytest.raises(AlreadyTold, match="trial 0"):
        opt.fail(0)
    with pytest.raises(AlreadyTold, match="trial 0"):
        opt.fail(0, impossible=True)
    with pytest.raises(AlreadyTold, match="trial 0"):
        opt.cancel(0)
    opt.fail(1, "no", impossible=True)
    opt.fail(1, "no", impossible=True)
    with pytest.raises(AlreadyTold, match=r"trial 1.*impossible"):
        opt.tell(1, GOOD)
    assert [trial.status for trial in opt.trials()] == ["ok", "impossible"]
    assert opt.trial(0).values == GOOD


def test_corrections_of_nothing(opt: Optimizer) -> None:
    for call in (partial(opt.amend, 1, GOOD), partial(opt.retract, 1)):
        with pytest.raises(UsageError, match="trial 1 is open"):
            call()
    opt.cancel(1)
    with pytest.raises(UsageError, match="trial 1 is cancelled"):
        opt.retract(1)


def test_several_at_once_are_all_or_nothing(opt: Optimizer) -> None:
    numbers = [trial.number for trial in opt.ask(3)]
    before = facts(opt)
    for results in (
        [(numbers[0], GOOD), (numbers[1], {**GOOD, "cost": math.nan})],
        [(numbers[0], GOOD), (99, GOOD)],
        [(numbers[0], GOOD), (0, {**GOOD, "cost": 7.0})],
        [(numbers[0], GOOD), (numbers[0], {**GOOD, "cost": 7.0})],
    ):
        with pytest.raises(BboptError):
            opt.tell_many(results)
        assert facts(opt) == before
    with pytest.raises(SpaceError):
        opt.add_many([({"x": 0.5, "k": 1, "s": "a"}, GOOD), ({"x": 9.0, "k": 1, "s": "a"}, GOOD)])
    assert facts(opt) == before
    opt.tell_many([(number, GOOD) for number in numbers])


@pytest.mark.parametrize(
    ("point", "named"),
    [
        ({"x": 0.5, "k": 1}, "s"),
        ({"x": 0.5, "k": 1, "s": "a", "z": 1}, "z"),
        ({"x": 1.5, "k": 1, "s": "a"}, "x"),
        ({"x": math.nan, "k": 1, "s": "a"}, "x"),
        ({"x": 0.5, "k": 1.5, "s": "a"}, "k"),
        ({"x": 0.5, "k": "1", "s": "a"}, "k"),
        ({"x": 0.5, "k": 1, "s": "c"}, "s"),
        ({"x": True, "k": 1, "s": "a"}, "x"),
        ({"x": None, "k": 1, "s": "a"}, "x"),
    ],
    ids=repr,
)
def test_points_outside_the_space(opt: Optimizer, point: dict[str, Any], named: str) -> None:
    before = facts(opt)
    for call in (partial(opt.enqueue, point), partial(opt.add, point, GOOD)):
        with pytest.raises(SpaceError, match=f"^{named}:"):
            call()
    assert facts(opt) == before


def test_points_that_break_a_condition(opt: Optimizer) -> None:
    before = facts(opt)
    with pytest.raises(UsageError, match=r"x \* k <= 5"):
        opt.enqueue({"x": 1.0, "k": 9, "s": "a"})
    assert facts(opt) == before
