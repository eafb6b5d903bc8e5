"""The `gp` strategy where derivatives are told: what they save, and that they never break an ask."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bbopt
from bbopt.strategies.gp import GP
from bbopt.strategies.gp_model import build
from bbopt.strategies.gp_slopes import chosen_rows, usable_slopes
from bbopt.strategies.gp_state import GPState
from surrogates.warps import Warp

Function = Any


def derivatives(problem: Function, metric: str, params: Mapping[str, Any], step: float = 1e-6) -> dict[str, Any]:
    """Central differences (one-sided at a bound) of a built-in problem in its scalar parameters."""
    found = {}
    for name, parameter in problem.task.space.parameters.items():
        h = step * (parameter.high - parameter.low)
        up, down = min(params[name] + h, parameter.high), max(params[name] - h, parameter.low)
        change = problem({**params, name: up})[metric] - problem({**params, name: down})[metric]
        found[name] = change / (up - down)
    return found


def evaluations_to(name: str, regret: float, most: int, seed: int, with_slopes: bool) -> int:
    """How many evaluations until the best value is within `regret` of the optimum; `most` if it never is."""
    problem = bbopt.problems.get(name)
    (metric,) = problem.task.metrics
    opt = bbopt.Optimizer(problem.task, GP(initial=4), seed=seed)
    for i in range(most):
        trial = opt.ask()
        value = problem(trial.params)[metric]
        opt.tell(trial, value, gradient=derivatives(problem, metric, trial.params) if with_slopes else None)
        if value - problem.optimum.value <= regret:
            return i + 1
    return most


@pytest.mark.parametrize(
    ("name", "most", "share"), [("branin", 25, 0.8), pytest.param("hartmann6", 40, 0.75, marks=pytest.mark.slow)]
)
def test_derivatives_save_evaluations(name: str, most: int, share: float) -> None:
    """To a regret of 0.15, three seeds together."""
    with_slopes = sum(evaluations_to(name, 0.15, most, seed, True) for seed in range(3))
    without = sum(evaluations_to(name, 0.15, most, seed, False) for seed in range(3))
    assert with_slopes < share * without


SPACE = bbopt.Space(
    x=bbopt.Float(0, 1),
    y=bbopt.Float(0.1, 10, log=True),
    n=bbopt.Int(1, 4),
    kind=bbopt.Categorical(["a", "b"]),
    extra=bbopt.Float(0, 1, when="kind == 'b'"),
)


def result(params: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    x, y, extra = params["x"], params["y"], params.get("extra", 0.3)
    values = {"cost": (x - 0.4) ** 2 + np.log(y) ** 2 + 0.1 * params["n"] + extra, "load": x * y}
    part = {"x": 2 * (x - 0.4), "y": 2 * np.log(y) / y} | ({"extra": 1.0} if "extra" in params else {})
    return values, {"cost": part, "load": {"y": x}}


def task_of(noise: Any = None) -> bbopt.Task:
    objectives = [bbopt.Objective("cost", noise=noise)]
    return bbopt.Task(SPACE, objectives, constraints=[bbopt.Constraint("load", lower=0.05, upper=3.0, noise=noise)])


@pytest.mark.parametrize(
    ("options", "noise"),
    [({}, None), pytest.param({"kernel": "matern52"}, None, marks=pytest.mark.slow), ({"acquisition": "penalty"}, None), pytest.param({"acquisition": "cei+"}, "unknown", marks=pytest.mark.slow),
     pytest.param({"acquisition": "frazier"}, "unknown", marks=pytest.mark.slow), pytest.param({"batch": "believer"}, 0.01, marks=pytest.mark.slow)],
)  # fmt: skip
def test_every_option_takes_partial_derivatives_in_mixed_spaces(options: dict[str, Any], noise: Any) -> None:
    opt = bbopt.Optimizer(task_of(noise), GP(initial=3, **options), seed=1)
    for i in range(3):
        pair = opt.ask(2)  # the second of each pair stays out for a while
        for trial in pair[: 1 + i % 2]:
            values, slopes = result(trial.params)
            opt.tell(trial, values, gradient=slopes if i != 1 else {"cost": slopes["cost"]})
    opt.fail(opt.ask(), "broke", impossible=True)
    notes = [trial.note for trial in [*opt.ask(2), *opt.trials()]]
    assert not any("failed" in note for note in notes)
    assert opt.recommend() is not None


@pytest.mark.parametrize("scale", [0.0, 1e300, -1e300, 1e-300])
def test_derivatives_of_any_size_never_break_an_ask(scale: float) -> None:
    opt = bbopt.Optimizer(bbopt.Task(bbopt.Space(x=bbopt.Float(-3, 9), y=bbopt.Float(-1, 1))), GP(initial=2), seed=0)
    rng = np.random.default_rng(0)
    for i in range(7):
        trial = opt.ask()
        opt.tell(trial, 1.0 if i % 2 else float(rng.standard_normal()), gradient={"x": scale, "y": 1.0})
    for params in ({"x": 0.0, "y": 0.0},) * 2:  # the same point with other slopes
        opt.add(params, 2.0, gradient={"x": float(rng.standard_normal()), "y": -scale})
    assert opt.ask(2)[0].note == ""


def test_asks_after_reopening_are_the_same_to_the_bit(tmp_path: Path) -> None:
    whole = bbopt.Optimizer(task_of(), GP(initial=3), seed=3, store=tmp_path / "a.db")
    parts = bbopt.Optimizer(task_of(), GP(initial=3), seed=3, store=tmp_path / "b.db")
    for i in range(7):
        if i in (4, 6):
            parts.close()
            parts = bbopt.Optimizer.open(tmp_path / "b.db")
        trials = whole.ask(), parts.ask()
        assert trials[0].params == trials[1].params
        for opt, trial in zip((whole, parts), trials, strict=True):
            values, slopes = result(trial.params)
            opt.tell(trial, values, gradient=slopes)


def test_a_corrected_derivative_changes_the_next_ask() -> None:
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)))

    def study(slope: float) -> bbopt.Optimizer:
        opt = bbopt.Optimizer(task, GP(initial=1), seed=0)
        opt.add({"x": 0.2}, 1.0, gradient={"x": 1.0})
        opt.add({"x": 0.7}, 1.1, gradient={"x": slope})
        return opt

    amended, right, wrong = study(-3.0), study(3.0), study(-3.0)
    amended.ask(), right.ask()  # what was fitted to the wrong ones must not be taken up again
    amended.amend(1, 1.1, gradient={"x": 3.0})
    assert amended.strategy.recommend(task, amended._state()) is not None
    points = [opt.ask().params["x"] for opt in (amended, right, wrong)]
    assert points[0] != points[2]
    assert amended._state().slopes.tolist() == right._state().slopes.tolist()


def test_what_says_nothing_of_the_warped_output_is_left_out() -> None:
    X, values = np.array([[0.1], [0.5], [0.9]]), np.array([[0.0], [5.0], [50.0]])
    slopes = np.array([[0, 0, 0, 2.0], [1, 0, 0, 1e9], [2, 0, 0, 3.0]])
    state = GPState(X, values, np.full((3, 1), np.nan), X[:0], np.zeros(3, bool), slopes=slopes)
    rows, columns, warped = usable_slopes(state, [Warp(0.0, np.inf, 0.0, 4.0, high=6.0)])
    assert (rows.tolist(), columns.tolist(), warped.tolist()) == ([0], [0], [[0.5]])
    bent = Warp(0.0, 1.0, 0.0, 2.0)  # asinh(y) / 2
    state = GPState(X, values, np.full((3, 1), np.nan), X[:0], np.zeros(3, bool), slopes=slopes[[0, 2]])
    assert usable_slopes(state, [bent])[2][0] == pytest.approx([1.0, 3.0 / (2 * np.hypot(1, 50))])


def test_many_derivatives_are_cut_to_the_best_and_the_newest() -> None:
    z = np.array([5.0, 1.0, 4.0, 3.0, 2.0])
    assert np.flatnonzero(chosen_rows(z, np.full(5, 3), 9)).tolist() == [1, 3, 4]
    assert chosen_rows(z, np.full(5, 3), 15).all() and not chosen_rows(z, np.full(5, 3), 2).any()


@pytest.mark.parametrize("steep", [False, True])
def test_the_warp_is_chosen_by_values_and_derivatives_together(steep: bool) -> None:
    """A bowl is a bowl, although its values alone look like more under a logarithm; decades of values are warped still."""
    opt = bbopt.Optimizer(bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1), y=bbopt.Float(0, 1))), GP(initial=1), seed=0)
    for x, y in np.random.default_rng(4).random((12, 2)).tolist():
        g, slope = (x - 0.3) ** 2 + 2 * (y - 0.6) ** 2, np.array([2 * (x - 0.3), 4 * (y - 0.6)])
        wave = 6 * np.sin(4 * x + 3 * y)
        value = float(np.exp(wave)) if steep else g
        by_x, by_y = np.exp(wave) * 6 * np.cos(4 * x + 3 * y) * np.array([4.0, 3.0]) if steep else slope
        opt.add({"x": x, "y": y}, value, gradient={"x": float(by_x), "y": float(by_y)})
    model = build(opt.task, opt._state(), {}, "rbf")
    assert (model.memo["names"] != ["linear"]) == steep
    if not steep:
        assert (model.gp.fitted[0].lengthscales > 0.5).all()
