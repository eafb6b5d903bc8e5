"""What every problem promises: names, shape of the answer, batch equals rows, finite values, an honest optimum."""

from __future__ import annotations

import itertools
import json
import pickle
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import problems
from bbopt.errors import BboptError, SpaceError, UsageError
from bbopt.query import CoordinateRows, DirectionRows
from bbopt.space import Categorical, Float, Space
from bbopt.task import Constraint, Objective, Task
from problems import Optimum, Problem

MOVED = ("branin@shift3+rotate2", "hartmann6@rotate1", "levy_1", "rosenbrock_2@rotate5", "ackley_60@shift1+rotate1")
RANKED = ("landscape@taste7", "sunset@values", "branin@ranked", "quadratic_3@start1@ranked", "rosenbrock_2@start5")
NETWORKS = ("network_mlp_64_10", "network_mlp_tanh_64_3_10@seed2", "network_cnn_2")
NAMES = (*problems.names(), *MOVED, *RANKED, *NETWORKS)


def rows_of(problem: Problem, n: int, seed: int = 0) -> np.ndarray:
    space = problem.task.space
    return space.from_uniform(np.random.default_rng(seed).random((n, space.dimension)))


# --- names -----------------------------------------------------------------------------------------------------------


def test_the_suites_and_the_engineering_order():
    assert problems.suites() == (
        "engineering",
        "engineering-mixed",
        "engineering-boeb-2024-04",
        "engineering-boeb-head",
        "synthetic",
        "people",
        "environments",
        "rank-oracles",
    )
    reference = json.loads((Path(__file__).parent / "reference" / "engineering.json").read_text())
    assert list(problems.names("engineering")) == list(reference["shape"])
    assert len(set(problems.names())) == len(problems.names())


@pytest.mark.parametrize("name", NAMES)
def test_a_problem_is_called_what_it_is_found_by(name):
    problem = problems.get(name)
    assert problem.name == name
    assert problem.suites == tuple(suite for suite in problems.suites() if name in problems.names(suite))
    assert all(problem.suite(suite) for suite in problem.suites)
    assert not problem.suite("nowhere")
    assert problem.source
    assert problem.docs.endswith(".")
    assert problem.optimum.how


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("presure_vessel", "pressure_vessel,"),
        ("pressure_vessel@boeb", "pressure_vessel@boeb_head"),
        ("ackley", "ackley_10"),
        ("ackley_010", "ackley_10"),
        ("branin_2", "branin"),
        ("ackley_3@", "ackley_10"),
        ("rosenbrock_1", "at least 2"),
        ("rosenbrock_1@start0", "at least 2"),
        ("landscape@taste0", "landscape"),
        ("landscape@ranked", "landscape"),
        ("branin@values", "branin"),
        ("", "engineering"),
        ("../x", "engineering"),
    ],
)
def test_an_unknown_name_is_an_error_that_helps(name, near):
    with pytest.raises(UsageError, match=near):
        problems.get(name)


def test_an_unknown_suite_is_an_error_that_lists_them():
    with pytest.raises(UsageError, match="engineering-mixed"):
        problems.names("engineering_mixed")


def test_names_load_no_problem_and_nothing_heavy():
    code = (
        "import sys, problems; problems.names(); problems.suites(); "
        "print([m for m in sys.modules if m.startswith('problems.')]); problems.get('spring'); "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'scipy', 'ray', 'botorch')]); "
        "print('problems.synthetic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == ["[]", "[]", "False"]


# --- every problem ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_optimum_is_reached_feasible_and_askable(name):
    problem = problems.get(name)
    optimum, space = problem.optimum, problem.task.space
    if optimum.value is None:
        assert optimum.params is None
        assert "feasible" in optimum.how
        return
    if problem.task.environment:  # judged by a functional of many values
        assert set(optimum.params) == set(space.names) - set(problem.task.environment)
        assert problem.risk(optimum.params) == pytest.approx(
            optimum.value, rel=1e-3, abs=2e-3
        )  # the default quadrature
        return
    metrics = problem(optimum.params)
    assert tuple(metrics) == problem.task.metrics
    assert problem.task.read_metrics(metrics) == metrics
    y, g = problem.task.to_inside(metrics)
    allowed = optimum.tolerance * max(1.0, abs(optimum.value))
    assert abs(metrics[problem.task.objectives[0].name] - optimum.value) <= allowed
    assert np.all(g <= 0)
    row = space.encode(optimum.params)
    again = problem(space.decode(row))
    assert np.allclose(problem.task.to_inside(again)[0], y, rtol=0, atol=2 * allowed + 1e-12)
    assert np.all(problem.task.to_inside(again)[1] <= 0)


@pytest.mark.parametrize("name", NAMES)
def test_corners_and_random_points_are_finite(name):
    problem = problems.get(name)
    dimension = problem.task.space.dimension
    corners = (
        np.array(list(itertools.product([0.0, 1.0], repeat=dimension)))
        if dimension <= 11
        else np.vstack([np.zeros(dimension), np.ones(dimension), np.eye(dimension), 1 - np.eye(dimension)])
    )
    levels = np.array(problem.task.space.columns.levels)
    kinds = np.array(problem.task.space.columns.kind)
    last = np.where(np.isin(kinds, ["ordered", "category"]), levels - 1, 1)
    for X in (corners * last, rows_of(problem, 2000)):
        for values in problem.evaluate(X).values():
            assert values.shape == (len(X),)
            assert values.dtype == np.float64
            assert np.isfinite(values).all()


@settings(max_examples=8)
@given(data=st.data())
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_its_rows(name, data):
    problem = problems.get(name)
    seed, n = data.draw(st.integers(0, 2**32)), data.draw(st.integers(1, 6))
    X = rows_of(problem, n, seed)
    if n > 1 and data.draw(st.booleans()):  # some columns on their bounds
        X[0] = problem.task.space.canonical((X[0] > 0.5).astype(float)[None])[0]
    before = X.copy()
    batch = problem.evaluate(X)
    assert np.array_equal(X, before)
    for i, row in enumerate(X):
        single = problem.evaluate(row[None])
        called = problem(problem.task.space.decode(row))
        for metric, values in batch.items():
            assert single[metric][0] == pytest.approx(values[i], rel=1e-12, abs=1e-300)
            assert called[metric] == pytest.approx(values[i], rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("name", NAMES)
def test_a_problem_travels_to_other_processes(name):
    problem = problems.get(name)
    X = rows_of(problem, 3)
    for metric, values in pickle.loads(pickle.dumps(problem)).evaluate(X).items():
        assert np.array_equal(values, problem.evaluate(X)[metric])


# --- the class -------------------------------------------------------------------------------------------------------


def test_wrong_points_are_refused_by_name():
    problem = problems.get("spring")
    good = {"wire_diameter": 0.06, "coil_diameter": 0.5, "coils": 9}
    with pytest.raises(SpaceError, match="'wire_diametre'; it has wire_diameter"):
        problem({**good, "wire_diametre": 1.0})
    with pytest.raises(SpaceError, match="needs a value for 'coils'"):
        problem({"wire_diameter": 0.06, "coil_diameter": 0.5})
    for bad in ("nine", None, [1.0, 2.0]):
        with pytest.raises(SpaceError, match="spring: coils: expected"):
            problem({**good, "coils": bad})
    with pytest.raises(UsageError, match=r"shape \(k, 3\), got \(3,\)"):
        problem.evaluate(np.zeros(3))
    with pytest.raises(SpaceError, match="expected 2 numbers"):
        problems.get("sphere_2")({"x": 1.0})
    assert issubclass(SpaceError, BboptError)


@pytest.mark.parametrize("name", ["welded_beam", "hartmann6", "rastrigin_40@rotate1", "network_cnn_2"])
def test_lazy_rows_are_answered_as_the_dense_ones(name, monkeypatch):
    """Those of a wide query, also where they are built a few at a time."""
    problem = problems.get(name)
    space = problem.task.space
    base = rows_of(problem, 1, 3)[0]
    columns = np.append(-1, np.arange(len(base)))
    lazy = CoordinateRows(base, columns, np.append(0.0, rows_of(problem, 1, 4)[0])).canonical(space)
    along = DirectionRows(base, np.arange(len(base)), 0.1, "sphere", 0, np.ones(7), np.arange(7), space)
    for built in (2**22, 3 * len(base)):
        monkeypatch.setattr("problems.problem.BUILT", built)
        for rows in (lazy, along):
            for metric, values in problem.evaluate(rows).items():
                np.testing.assert_allclose(values, problem.evaluate(rows[:])[metric], rtol=1e-12)
    with pytest.raises(UsageError, match="expects encoded rows of shape"):
        problem.evaluate(CoordinateRows(np.zeros(3), np.zeros(2, int), np.zeros(2)))


def test_an_empty_batch_has_empty_metrics():
    for name in ("spring", "concrete_beam_mixed", "branin", "rastrigin_4@rotate1"):
        problem = problems.get(name)
        values = problem.evaluate(np.zeros((0, problem.task.space.dimension)))
        assert all(column.shape == (0,) for column in values.values())


def test_a_problem_with_words_conditions_and_a_maximum():
    """The protocol carries more than the shipped problems use: text choices, inactive parameters, maximisation."""
    space = Space(steel=Categorical(["S235", "S355"]), size=Float(0, 1), welded=Float(0, 1, when="steel == 'S355'"))
    problem = Problem(
        "strong",
        Task(space, (Objective("strength", maximize=True),), (Constraint("price", upper=2.0),)),
        lambda p: {
            "price": np.where(p["steel"] == "S355", 2.0, 1.0) * p["size"],
            "strength": np.where(p["steel"] == "S355", 1 + p["welded"], 1.0) * p["size"],
        },
        Optimum(2.0, {"steel": "S355", "size": 1.0, "welded": 1.0}, "closed form"),
        "made up",
        "A test.",
    )
    assert problem(problem.optimum.params) == {"strength": 2.0, "price": 2.0}
    assert list(problem({"steel": "S235", "size": 0.5})) == ["strength", "price"]
    X = rows_of(problem, 40)
    values = problem.evaluate(X)
    for i, row in enumerate(X):
        assert problem(space.decode(row)) == {name: column[i] for name, column in values.items()}
