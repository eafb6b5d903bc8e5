"""Tasks: what is measured, in whose sign, what is refused, and what is known before measuring."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt.errors import ExpressionError, SpaceError, TaskError, ValueRefused
from bbopt.parameters import Categorical, Float, Int
from bbopt.space import Space
from bbopt.strategy import ABILITIES
from bbopt.task import Constraint, Objective, Task, read_number

SPACE = Space(x=Float(0, 1), y=Float(0, 1))
FULL = Task(
    SPACE,
    objectives=(Objective("cost"), Objective("strength", maximize=True, noise=0.5)),
    constraints=(
        Constraint("stress", upper=250.0, tolerance=1.0),
        Constraint("gap", lower=0.1),
        Constraint("load", lower=1.0, upper=2.0, tolerance=0.25, noise="unknown"),
    ),
)
METRICS = {"cost": 3.0, "strength": 7.0, "stress": 240.0, "gap": 0.3, "load": 1.5}


def test_inside_everything_is_minimised_and_feasible_at_or_below_0() -> None:
    """By hand: upper 250 with tolerance 1 is g = v - 251; lower 0.1 is 0.1 - v; both limits make two columns."""
    y, g = FULL.to_inside(METRICS)
    assert y.tolist() == [3.0, -7.0]
    assert np.allclose(g, [240 - 251, 0.1 - 0.3, 1.5 - 2.25, 0.75 - 1.5], rtol=1e-15)
    assert (FULL.m, FULL.c) == (2, 4)
    assert FULL.metrics == ("cost", "strength", "stress", "gap", "load")
    assert FULL.noises == (None, 0.5, None, None, "unknown", "unknown") and FULL.noisy


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=5))
def test_inside_and_back(values: list[float]) -> None:
    metrics = dict(zip(FULL.metrics, values, strict=True))
    back = FULL.metrics_of(*FULL.to_inside(metrics))
    assert back == pytest.approx(metrics, abs=1e-6)
    _, g = FULL.to_inside(metrics)
    inside = metrics["stress"] <= 251 and metrics["gap"] >= 0.1 and 0.75 <= metrics["load"] <= 2.25
    assert bool((g <= 0).all()) is inside


def test_the_limit_itself_is_feasible() -> None:
    task = Task(SPACE, constraints=(Constraint("g", upper=0.3), Constraint("h", lower=0.7)))
    assert (task.to_inside({"objective": 0.0, "g": 0.3, "h": 0.7})[1] == 0).all()


@pytest.mark.parametrize(
    "told",
    [
        METRICS,
        [3.0, 7.0, 240.0, 0.3, 1.5],
        (3, 7, 240, 0.3, 1.5),
        np.array([3.0, 7.0, 240.0, 0.3, 1.5]),
        {
            **METRICS,
            "cost": np.float32(3.0),
            "strength": np.int64(7),
            "stress": np.array([240.0]),
            "gap": Fraction(3, 10),
        },
    ],
    ids=["mapping", "list", "tuple", "array", "kinds of numbers"],
)
def test_results_in_every_form(told: Any) -> None:
    assert FULL.read_metrics(told) == METRICS


def test_a_number_will_do_for_one_objective() -> None:
    assert Task(SPACE).read_metrics(2) == {"objective": 2.0}
    assert Task(SPACE).read_metrics(np.float64(2.5)) == {"objective": 2.5}


class Scalar:
    """Like a tensor with one entry."""

    def item(self) -> float:
        return 1.5


def test_a_scalar_of_another_library() -> None:
    assert read_number(Scalar(), "y") == 1.5


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (3.0, "a mapping with cost, strength, stress, gap, load; got the single number"),
        ({**METRICS, "cost": math.nan}, r"cost: expected a finite number, got nan; .* fail\(\)"),
        ({**METRICS, "gap": math.inf}, "gap: expected a finite number, got inf"),
        ({**METRICS, "gap": 10**400}, "gap: expected a finite number"),
        ({**METRICS, "load": "1.5"}, "load: expected a number, got '1.5'"),
        ({**METRICS, "load": None}, "load: expected a number, got None"),
        ({**METRICS, "load": True}, "load: expected a number, got True"),
        ({**METRICS, "load": 1j}, "load: expected a number"),
        ({**METRICS, "load": np.array([1.0, 2.0])}, "load: expected a number"),
        ({k: v for k, v in METRICS.items() if k != "gap"}, "'gap' is missing"),
        ({**METRICS, "gab": 1.0}, "unknown metric 'gab'"),
        ([1.0, 2.0], r"expected 5 numbers \(cost, .*\), got 2"),
        ("3.0", "a number or a mapping"),
        (None, "a number or a mapping"),
        (True, "a number or a mapping"),
    ],
)
def test_results_that_are_refused(told: Any, words: str) -> None:
    with pytest.raises(ValueRefused, match=words):
        FULL.read_metrics(told)


def test_standard_errors() -> None:
    assert FULL.read_deviations(None) == {} and FULL.read_deviations({"cost": 0.5}) == {"cost": 0.5}
    assert Task(SPACE).read_deviations(0.25) == {"objective": 0.25}
    row = FULL.std_inside({"load": 0.5, "strength": 1.0})
    assert np.isnan(row[[0, 2, 3]]).all() and row[[1, 4, 5]].tolist() == [1.0, 0.5, 0.5]
    for std, words in (
        (1.0, "a mapping"),
        ({"q": 1.0}, "unknown metric"),
        ({"cost": -1.0}, ">= 0"),
        ({"cost": "1"}, "a number"),
    ):
        with pytest.raises(ValueRefused, match=words):
            FULL.read_deviations(std)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Objective(""), "a name"),
        (lambda: Objective("y", noise=-1.0), "standard deviation"),
        (lambda: Objective("y", noise="some"), "standard deviation"),
        (lambda: Constraint("g"), "a limit"),
        (lambda: Constraint("g", lower=2.0, upper=1.0), "lower <= upper"),
        (lambda: Constraint("g", upper=math.nan), "finite"),
        (lambda: Constraint("g", upper=1.0, tolerance=-1.0), "tolerance >= 0"),
        (lambda: Task(SPACE, objectives=()), "at least one objective"),
        (lambda: Task(SPACE, objectives=("cost",)), "list of Objective"),  # type: ignore[arg-type]
        (lambda: Task(SPACE, constraints=(Constraint("objective", upper=1.0),)), "'objective' twice"),
        (lambda: Task(SPACE, feedback="stars"), "feedback"),
        (lambda: Task(3), "a Space"),  # type: ignore[arg-type]
        (lambda: Task(SPACE, where=(3,)), "list of str"),  # type: ignore[arg-type]
    ],
)
def test_bad_tasks_are_refused(make: Any, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        make()


def test_bad_conditions_are_refused_with_the_task() -> None:
    for text, words in (
        ("x + z <= 1", "'z'"),
        ("x + y", "not a comparison"),
        ("x[0] <= 1", "no vector"),
        ("x <= 'a'", "text with text"),
    ):
        with pytest.raises(ExpressionError, match=words):
            Task(SPACE, where=[text])
    with pytest.raises(SpaceError):
        Task({"x": 3})  # type: ignore[dict-item]


def test_single_things_need_no_list() -> None:
    task = Task({"x": Float(0, 1)}, objectives=Objective("y"), constraints=Constraint("g", upper=0.0), where="x <= 0.5")  # type: ignore[arg-type]
    assert task.metrics == ("y", "g") and task.where == ("x <= 0.5",) and isinstance(task.space, Space)


def test_known_conditions_and_their_violation() -> None:
    task = Task(
        Space(a=Float(0, 1), b=Float(0, 1), s=Categorical(["p", "q"])), where=["a + b <= 1", "s == 'p' or a >= 0.5"]
    )
    X = np.array([[0.25, 0.5, 0.0], [0.75, 0.75, 0.0], [0.25, 0.5, 1.0], [0.25, 1.0, 1.0]])
    assert task.known(X).tolist() == [True, False, False, False]
    assert np.allclose(task.violation(X), [0.0, 0.5, 0.25, 0.5], atol=1e-9)
    assert Task(SPACE).known(X[:, :2]).all() and (Task(SPACE).violation(X[:, :2]) == 0).all()


def test_a_condition_on_an_inactive_parameter_does_not_apply() -> None:
    space = Space(k=Categorical(["on", "off"]), a=Float(0, 1, when="k == 'on'"), b=Float(0, 1))
    task = Task(space, where=["a + b <= 0.5"])
    X = np.array([space.encode({"k": "off", "b": 1.0}), space.encode({"k": "on", "a": 0.25, "b": 1.0})])
    assert task.known(X).tolist() == [True, False]
    assert task.violation(X)[0] == 0 < task.violation(X)[1]


def test_needs_name_what_a_strategy_must_handle() -> None:
    assert Task(SPACE).needs() == set()
    space = Space(
        x=Float(0, 1), k=Categorical(["a", "b"]), c=Float(0, 1, when="k == 'a'"), u=Float(scale=1.0), f=Float(0, 1, role="fidelity"),
        s=Int(1, 3, role="source"), t=Float(0, 1, role="context"),
    )  # fmt: skip
    task = Task(
        space,
        objectives=(Objective("p", noise="unknown"), Objective("q")),
        constraints=(Constraint("g", upper=0.0),),
        feedback="ranking",
    )
    assert task.needs() == set(ABILITIES) - {"fixed", "environment"}  # which goes with one objective and values


def test_json_and_difference() -> None:
    task = Task(
        Space(x=Float(0, 1), k=Categorical(["a", True])),
        (Objective("c"),),
        (Constraint("g", upper=1.0),),
        ("x <= 0.5",),
    )
    again = Task.from_json(json.loads(json.dumps(task.to_json())))
    assert again == task and again.difference(task) == []
    other = Task(
        Space(x=Float(0, 2), k=Categorical(["a", True])),
        (Objective("c", maximize=True),),
        (Constraint("g", upper=1.0),),
    )
    lines = "\n".join(task.difference(other))
    assert "high" in lines and "maximize" in lines and "where" in lines and "limit" not in lines
    assert len(task.difference(other)) == 3
