"""An ask never raises for numerical reasons, whatever was told: told values and points from which models break."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bbopt import Constraint, Float, Objective, Optimizer, Space, Task
from bbopt.strategies.gp import GP

Array = NDArray[np.float64]
SPACE = Space(x=Float(0, 1, shape=(3,)))
EXTREME = st.sampled_from([0.0, 1.0, -1.0, 1e300, -1e300, 1e-300, 1.0 + 1e-15, 5.0])


def cluster(rows: int, width: float) -> Array:
    return np.asarray(0.4 + width * np.random.default_rng(0).standard_normal((rows, 3)))


CASES: dict[str, tuple[Array, Callable[[Array], Array]]] = {
    "one observation": (cluster(1, 0.1), lambda X: X[:, 0]),
    "constant": (np.random.default_rng(1).random((30, 3)), lambda X: np.full(len(X), 3.0)),
    "1e300": (np.random.default_rng(1).random((30, 3)), lambda X: 1e300 * (X[:, 0] - 0.5)),
    "one of 1e300": (
        np.random.default_rng(1).random((30, 3)),
        lambda X: np.where(X[:, 0] == X[:, 0].max(), 1e300, X[:, 1]),
    ),
    "a pole": (np.random.default_rng(1).random((40, 3)), lambda X: 1.0 / (X[:, 0] - 0.5)),
    "duplicates": (np.repeat(np.random.default_rng(2).random((4, 3)), 10, axis=0), lambda X: X.sum(axis=1)),
    "duplicates that disagree": (np.repeat(cluster(2, 0.1), 20, axis=0), lambda X: np.arange(len(X)) % 3.0),
    "500 nearly equal points": (cluster(500, 1e-9), lambda X: X.sum(axis=1)),
    "500 nearly equal points, jumps": (cluster(500, 1e-9), lambda X: np.arange(len(X)) % 2.0),
}


@pytest.mark.parametrize("noise", [None, "unknown"])
@pytest.mark.parametrize("name", CASES)
def test_an_ask_gives_valid_points(name: str, noise: Any) -> None:
    X, function = CASES[name]
    opt = Optimizer(Task(SPACE, [Objective("f", noise=noise)]), GP(initial=1), seed=0)
    for x, value in zip(X, function(X), strict=True):
        opt.add({"x": x}, float(value))
    for _ in range(3):
        trial = opt.ask()
        x = np.asarray(trial.params["x"])
        assert x.shape == (3,) and (x >= 0.0).all() and (x <= 1.0).all() and "failed" not in trial.note
        opt.tell(trial, float(function(x[None])[0]))
    assert len({tuple(trial.params["x"]) for trial in opt.ask(3)}) == 3


def test_an_ask_gives_valid_points_when_everything_failed() -> None:
    opt = Optimizer(Task(SPACE), GP(initial=1), seed=0)
    for _ in range(40):
        opt.fail(opt.ask(), "broke", impossible=True)
    assert len({tuple(trial.params["x"]) for trial in opt.ask(4)}) == 4


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.tuples(EXTREME, EXTREME), min_size=1, max_size=8), twice=st.booleans())
def test_any_values_under_a_limit(values: list[tuple[float, float]], twice: bool) -> None:
    task = Task(Space(x=Float(0, 1)), constraints=[Constraint("g", upper=0.0)])
    opt = Optimizer(task, GP(initial=1), seed=0)
    for i, (f, g) in enumerate(values):
        for _ in range(1 + twice):
            opt.add({"x": i / 8}, {"objective": f, "g": g})
    for trial in opt.ask(2):
        assert 0.0 <= trial.params["x"] <= 1.0 and "failed" not in trial.note
