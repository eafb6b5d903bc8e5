"""What the `gp` strategy promises on small tasks, with numbers: failing regions, few data, finite sets, known functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import problems
from bbopt import Categorical, Constraint, Exhausted, Float, Int, Objective, Optimizer, Space, Task
from bbopt.strategies.gp import GP

SQUARE = Space(a=Float(0, 1), b=Float(0, 1))
Function = Callable[[Mapping[str, Any]], float | None]


def study(task: Task, function: Function, asks: int, seed: int, strategy: GP | None = None) -> Optimizer:
    """After `asks` answers; None stands for a point that cannot work."""
    opt = Optimizer(task, strategy=strategy or GP(), seed=seed)
    for _ in range(asks):
        trial = opt.ask()
        value = function(trial.params)
        if value is None:
            opt.fail(trial, "cannot work", impossible=True)
        else:
            opt.tell(trial, value)
    return opt


def lowest(opt: Optimizer) -> float:
    """The best feasible value of the first metric."""
    best = opt.best()
    assert best is not None and best.values is not None
    return float(best.values[opt.task.metrics[0]])


# -- a failing half-space: with many tools all of the asks 50 to 100 went there (facts/ask_tell_conventions.md, section 4) -----


def beside(p: Mapping[str, Any]) -> float | None:
    """The optimum 0 lies 0.05 from the edge."""
    return None if p["a"] > 0.5 else float((p["a"] - 0.45) ** 2 + (p["b"] - 0.5) ** 2)


def beyond(p: Mapping[str, Any]) -> float | None:
    """The function goes down across the edge: the best that works is 0.01, on the edge."""
    return None if p["a"] > 0.5 else float((p["a"] - 0.6) ** 2 + (p["b"] - 0.5) ** 2)


def oblique(p: Mapping[str, Any]) -> float | None:
    """-a - b under a + 0.7 b <= 1: the best that works is -1.3, at (0.3, 1), where the edge meets the box."""
    return None if p["a"] + 0.7 * p["b"] > 1.0 else float(-p["a"] - p["b"])


CASES: dict[str, tuple[Function, float]] = {
    "beside": (beside, 0.0),
    "beyond": (beyond, 0.01),
    "oblique": (oblique, -1.3),
}


def failures_and_gap(name: str, seed: int) -> tuple[int, float]:
    """How many of the asks 50 to 100 failed, and what the best of all misses."""
    function, optimum = CASES[name]
    opt = study(Task(SQUARE), function, 100, seed)
    return sum(trial.status == "impossible" for trial in opt.trials()[50:]), lowest(opt) - optimum


@pytest.mark.parametrize("seed", [0])
def test_asks_keep_out_of_a_failing_half_space(seed: int) -> None:
    """At most 20 % of the asks 50 to 100, and a gap of at most 0.01."""
    failed, gap = failures_and_gap("beside", seed)
    assert failed <= 10 and gap <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_asks_keep_out_of_a_failing_half_space_on_nearly_every_seed(name: str) -> None:
    """20 seeds. Measured: too many failures on none (the most were 3, 6, 5); too large a gap on 0, 0, 1 of them (0.050)."""
    failures, gaps = np.array([failures_and_gap(name, seed) for seed in range(20)]).T
    assert np.sum(failures > 10) <= 1 and np.median(failures) <= 5, failures
    assert np.sum(gaps > 0.01) <= 2 and np.median(gaps) <= 1e-3, gaps


# -- little to go on -------------------------------------------------------------------------------------------------------


def test_one_observation_is_enough_to_ask() -> None:
    opt = study(Task(SQUARE), lambda p: float(p["a"]), 1, 0, GP(initial=1))
    rows = [opt.ask().params for _ in range(5)]
    assert len({tuple(row.values()) for row in rows}) == 5


def test_the_same_point_told_many_times_with_noise() -> None:
    opt = Optimizer(Task(SQUARE, objectives=[Objective("f", noise="unknown")]), strategy=GP(initial=2), seed=0)
    for value in np.random.default_rng(0).standard_normal(20):
        opt.add({"a": 0.5, "b": 0.5}, float(value))
    assert set(opt.ask().params) == {"a", "b"}


def test_a_single_point_is_asked_once() -> None:
    opt = study(Task(Space(k=Int(3, 3))), lambda p: 1.0, 1, 0)
    with pytest.raises(Exhausted):
        opt.ask()


def test_a_finite_space_is_searched_as_a_whole() -> None:
    """11 * 11 * 3 points and 30 asks: the best of them is found."""
    space = Space(i=Int(0, 10), j=Int(0, 10), c=Categorical(["x", "y", "z"]))
    shift = {"x": 0.3, "y": 0.0, "z": 0.6}
    opt = study(Task(space), lambda p: (p["i"] - 3) ** 2 / 20 + (p["j"] - 8) ** 2 / 30 + shift[p["c"]], 30, 0)
    assert lowest(opt) == 0.0


def test_conditions_hold_and_their_edge_is_reached() -> None:
    task = Task(SQUARE, where=["a + b <= 1"])
    opt = study(task, lambda p: -(2.0 * p["a"] + p["b"]), 25, 0)
    assert all(trial.params["a"] + trial.params["b"] <= 1.0 + 1e-9 for trial in opt.trials())
    assert lowest(opt) <= -1.99


# -- known functions -------------------------------------------------------------------------------------------------------


def regrets(name: str, budget: int, seeds: int, strategy: GP) -> list[float]:
    problem = problems.get(name)
    metric = problem.task.metrics[0]
    values = [lowest(study(problem.task, lambda p: problem(p)[metric], budget, s, strategy)) for s in range(seeds)]
    optimum = problem.optimum.value
    assert optimum is not None
    return [value - optimum for value in values]


@pytest.mark.slow
def test_hartmann_6_to_a_tenth_in_60_evaluations() -> None:
    found = regrets("hartmann6", 60, 20, GP())
    assert np.median(found) <= 0.1, found


@pytest.mark.slow
def test_branin_to_a_hundredth_in_25_evaluations() -> None:
    """Ten seeds, six rows in the first design."""
    found = regrets("branin", 25, 10, GP(initial=6))
    assert np.median(found) <= 1e-2, found


@pytest.mark.slow
def test_a_feasible_point_is_found_soon() -> None:
    """A disc of 10 % of the square, none of the first six rows in it: how many more evaluations until one is. At most
    3 (d + 1) = 9 at the median of ten seeds."""
    task = Task(SQUARE, constraints=[Constraint("g", upper=0.0)])
    radius = float(np.sqrt(0.1 / np.pi))
    needed = []
    for seed in range(40):
        centre = 0.2 + 0.6 * np.random.default_rng(seed).random(2)
        opt = Optimizer(task, strategy=GP(initial=6), seed=seed)
        inside = []
        for _ in range(6 + 20):
            trial = opt.ask()
            g = float(np.hypot(trial.params["a"] - centre[0], trial.params["b"] - centre[1])) - radius
            opt.tell(trial, {"objective": trial.params["a"], "g": g})
            inside.append(g <= 0.0)
        if not any(inside[:6]):
            needed.append(inside.index(True) - 5 if any(inside) else 21)
        if len(needed) == 10:
            break
    assert len(needed) == 10 and np.median(needed) <= 9, needed
