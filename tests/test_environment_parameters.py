"""Parameters that nature draws: definitions, distributions, storage, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import bbopt
from bbopt import Categorical, Constraint, Float, Int, Objective, Optimizer, Space, Task
from bbopt.cli_study import task_facts
from bbopt.environment import draws_of, grid, normal_from_uniform
from bbopt.errors import NotHandled, SpaceError, TaskError, UsageError

SPACE = Space(
    x=Float(0, 1),
    wind=Float(0, 10, role="environment", normal=(4, 2)),
    crew=Categorical(["one", "two", "none"], role="environment", weights=[3, 1, 0]),
    bolts=Int(1, 4, log=True, role="environment"),
    heat=Float(1, 100, log=True, role="environment"),
)


def test_tasks_survive_storing() -> None:
    task = Task(SPACE, [Objective("cost", over="cvar", level=0.8)])
    again = Task.from_json(json.loads(json.dumps(task.to_json())))
    assert again == task and hash(again.space) == hash(task.space)
    assert again.space.parameters["wind"].normal == (4.0, 2.0)  # type: ignore[union-attr]
    assert task.environment == ("wind", "crew", "bolts", "heat") and "environment" in task.needs()
    assert not Task(SPACE, [Objective("cost", over="worst")]).difference(Task(SPACE, [Objective("cost", over="worst")]))
    assert Task(SPACE).objectives[0].over == "mean"
    assert "over" not in Task(Space(x=Float(0, 1))).to_json()["objectives"][0]
    facts = task_facts(task)
    assert "mean of the worst 20 % over wind, crew, bolts, heat" in facts["objective"]
    assert "environment, normal with mean 4 and standard deviation 2" in facts["parameters"]
    assert "weights 3, 1, 0" in facts["parameters"]


def test_rows_are_drawn_as_nature_draws() -> None:
    """Every column's frequencies and moments on an even grid of uniform numbers are those of its distribution."""
    stats = pytest.importorskip("scipy.stats")
    n = 4000
    rows = SPACE.from_uniform(np.tile(((np.arange(n) + 0.5) / n)[:, None], (1, SPACE.dimension)))
    assert np.array_equal(SPACE.canonical(rows), rows)
    normal = stats.truncnorm(-2.0, 3.0, 4.0, 2.0)
    assert (10 * rows[:, 1]).mean() == pytest.approx(normal.mean(), rel=1e-4)
    assert (10 * rows[:, 1]).std() == pytest.approx(normal.std(), rel=1e-3)
    assert np.bincount(rows[:, 2].astype(int), minlength=3).tolist() == [3000, 1000, 0]
    draws = {draw.column: draw for draw in draws_of(SPACE)}
    levels = draws[3]
    assert levels.values is not None and levels.weights is not None
    shares = [(rows[:, 3] == value).mean() for value in levels.values]
    assert shares == pytest.approx(levels.weights.tolist(), abs=1e-3)
    assert draws[4].values is None and draws[4].normal is None
    assert np.allclose(rows[:, 4].mean(), 0.5, atol=1e-3)  # even in the logarithm
    assert normal_from_uniform(np.array([0.0, 1.0]), 0.4, 0.2).tolist() == [0.0, 1.0]


def test_a_grid_of_levels_leaves_out_what_cannot_happen() -> None:
    space = Space(x=Float(0, 1), a=Int(0, 1, role="environment"), b=SPACE.parameters["crew"])
    found = grid(draws_of(space), 10)
    assert found is not None
    assert found[0].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert found[1].tolist() == pytest.approx([0.375, 0.125, 0.375, 0.125])
    assert grid(draws_of(space), 3) is None and grid(draws_of(SPACE), 10**6) is None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Float(0, 1, normal=(0.5, 0.1)), "role='environment'"),
        (lambda: Float(1, 2, log=True, role="environment", normal=(1.5, 0.1)), "give the logarithm"),
        (lambda: Float(0, 1, role="environment", normal=(2, 0.1)), "mean within"),
        (lambda: Float(0, 1, role="environment", normal=(0.5, 0)), "standard deviation"),
        (lambda: Float(0, 1, role="environment", normal=(0.5,)), "mean, standard deviation"),  # type: ignore[arg-type]
        (lambda: Float(scale=1.0, role="environment"), "needs bounds"),
        (lambda: Float(0, 1, role="environment", when="x > 0"), "always drawn"),
        (lambda: Categorical(["ab"], weights=[1]), "role='environment'"),
        (lambda: Categorical(["a", "b"], role="environment", weights=[1]), "each of the 2 choices"),
        (lambda: Categorical(["a", "b"], role="environment", weights=[0, 0]), "not all 0"),
        (lambda: Categorical(["a", "b"], role="environment", weights=[-1, 2]), "at least 0"),
        (lambda: Space(w=Float(0, 1, role="environment"), x=Float(0, 1, when="w > 0.5")), "nature draws after"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(make: object, says: str) -> None:
    with pytest.raises(SpaceError, match=says):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Task(Space(x=Float(0, 1)), [Objective("f", over="mean")]), "give a parameter role='environment'"),
        (lambda: Task(Space(w=Float(0, 1, role="environment"))), "a parameter to design"),
        (lambda: Task(SPACE, feedback="ranking"), "measured values"),
        (lambda: Task(SPACE, [Objective("a"), Objective("b")]), "one objective"),
        (lambda: Task(SPACE, constraints=[Constraint("g", upper=0)]), "add a penalty"),
        (lambda: Task(SPACE, where=["x <= wind"]), "wind is drawn by nature"),
        (lambda: Objective("f", over="median"), "mean, worst, var, cvar"),
        (lambda: Objective("f", over="mean", level=0.5), "belongs to over='var'"),
        (lambda: Objective("f", level=0.5), "belongs to over='var'"),
        (lambda: Objective("f", over="cvar", level=1.0), "0 <= level < 1"),
        (lambda: Objective("f", over="var", level=0), "0 < level < 1"),
    ],
)
def test_tasks_that_make_no_sense_are_refused(make: object, says: str) -> None:
    with pytest.raises(TaskError, match=says):
        make()  # type: ignore[operator]


def test_strategies_without_the_ability_refuse_by_name() -> None:
    with pytest.raises(NotHandled, match=r"environment.*environment-gp"):
        Optimizer(Task(SPACE), "gp")
    with pytest.raises(UsageError, match="single environments"):
        bbopt.minimize(lambda p: 0.0, Task(SPACE), 5, "random", target=1.0)
    opt = Optimizer(Task(SPACE), "auto", budget=40)
    assert opt.reason.startswith("environment-gp") and "mean over wind" in opt.reason
    unbounded = Task(Space(x=Float(scale=1.0), w=Float(0, 1, role="environment")))
    assert Optimizer(unbounded, "auto").reason.startswith("random: no method here that learns handles")


def test_without_a_belief_the_design_of_the_best_value_is_named() -> None:
    opt = Optimizer(Task(SPACE), "random", seed=1)
    assert opt.best() is None and opt.recommend() is None
    for _ in range(5):
        trial = opt.ask()
        opt.tell(trial, trial.params["x"])
    best, rows = opt.best(), opt.trials()
    assert best is not None and set(best.params) == {"x"}
    assert best.params["x"] == min(row.params["x"] for row in rows) and "told in one environment" in best.note
