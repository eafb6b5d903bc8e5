"""Beliefs on gradients and on the place of the minimum: beside finite differences, sampled functions and a known quadratic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from bbopt import Float, Optimizer, Space, Task
from bbopt.acquisition.minimiser import minimiser
from bbopt.strategies.gp import GP
from surrogates.columns import Inputs
from surrogates.gp import GaussianProcess, condition
from surrogates.kernels import Kernel
from surrogates.map_fit import Fitted
from surrogates.paths import draw_paths
from surrogates.slope_belief import slope_covariance

Array = NDArray[np.float64]


def fitted(lengthscales: list[float], scale: float = 1.0) -> Fitted:
    return Fitted(np.array(lengthscales), scale, 0.0, 0.0, 1e-8, value=0.0, evaluations=0)


def bowl(n: int = 9, kernel: Kernel = "rbf", seed: int = 0) -> GaussianProcess:
    """A model of a quadratic with its minimum at (0.4, 0.55), from few rows."""
    X = np.random.default_rng(seed).random((n, 2))
    z = 4.0 * (X[:, 0] - 0.4) ** 2 + 2.0 * (X[:, 1] - 0.55) ** 2 + (X[:, 0] - 0.4) * (X[:, 1] - 0.55)
    return condition(Inputs.continuous(2), X, z[:, None], [fitted([0.8, 0.9])], kernel)


@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
def test_the_covariance_of_slopes_is_that_of_small_differences(kernel: Kernel) -> None:
    """Two outputs, one column of three a category; Matern 5/2 differs from its derivative by first order in the step."""
    rng, h = np.random.default_rng(1), 1e-3
    inputs = Inputs(("float", "category", "float"), (0, 3, 0), (0, 1, 2))
    X = np.column_stack([rng.random(6), rng.integers(3, size=6), rng.random(6)]).astype(float)
    Z = rng.standard_normal((6, 2))
    predictor = condition(inputs, X, Z, [fitted([0.7, 1.0, 0.9]), fitted([1.5, 2.0, 0.4], 3.0)], kernel).predictor
    x = np.array([0.3, 1.0, 0.6])
    ends = np.array([x + [h, 0, 0], x - [h, 0, 0], x + [0, 0, h], x - [0, 0, h]])
    differences = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]) / (2.0 * h)
    expected = differences @ predictor.covariance(ends) @ differences.T
    found = slope_covariance(predictor, x)
    assert found.shape == (2, 3, 3) and not found[:, 1].any() and not found[:, :, 1].any()
    np.testing.assert_allclose(found[:, ::2, ::2], expected, rtol=1e-2 if kernel == "matern52" else 1e-4, atol=1e-3)


def test_the_minimum_of_the_mean_is_found_and_its_doubt_falls_with_rows() -> None:
    few, many = (minimiser(bowl(n).predictor, np.array([0.5, 0.5]), np.zeros(2), np.ones(2)) for n in (7, 20))
    for found in (few, many):
        assert np.abs(found.x - [0.4, 0.55]).max() < 3.0 * found.sd[0]
    assert many.sd[0] < 0.2 * few.sd[0]
    assert few.sd[0] >= few.sd[1] >= 0.0
    np.testing.assert_allclose(few.axes @ few.axes.T, np.eye(2), atol=1e-12)


def test_minima_of_sampled_functions_scatter_as_said() -> None:
    """200 posterior functions of a model whose doubt is small beside its lengthscales, with so many features that these are
    exact enough. Measured: 1.10 and 0.95 of what is said."""
    gp = bowl(10, seed=3)
    found = minimiser(gp.predictor, np.array([0.5, 0.5]), np.zeros(2), np.ones(2))
    paths = draw_paths(gp, 200, np.random.default_rng(0), features=16384)

    def along(x: Array, which: int) -> tuple[float, Array]:
        value, slope = paths.along(x[None], np.array([which]))
        return float(value[0, 0]), slope[0, 0]

    options: dict[str, Any] = {
        "jac": True,
        "bounds": [(0.0, 1.0)] * 2,
        "method": "L-BFGS-B",
        "options": {"ftol": 1e-15},
    }
    minima = np.array([minimize(along, found.x, args=(s,), **options).x for s in range(200)])
    scatter = np.sqrt((((minima - found.x) @ found.axes.T) ** 2).mean(axis=0))
    assert ((scatter / found.sd > 0.75) & (scatter / found.sd < 1.25)).all(), scatter / found.sd


def test_a_row_across_the_widest_axis_tells_most_of_the_minimum() -> None:
    """Of rows at one distance from it, beside a row along the other axis."""
    gp = bowl(7)
    before = minimiser(gp.predictor, np.array([0.5, 0.5]), np.zeros(2), np.ones(2))
    after = []
    for axis in before.axes:
        row = (before.x + 0.05 * axis)[None]
        after.append(slope_covariance(gp.given(row, np.zeros((1, 1))).predictor, before.x)[0])
    wide, other = (float(np.einsum("i,ij,j", before.axes[0], S, before.axes[0])) for S in after)
    assert wide < other


def test_a_model_that_is_flat_says_so_without_a_warning() -> None:
    gp = condition(Inputs.continuous(2), np.array([[0.5, 0.5]]), np.zeros((1, 1)), [fitted([1.0, 1.0])])
    found = minimiser(gp.predictor, np.array([0.5, 0.5]), np.zeros(2), np.ones(2))
    assert np.isfinite(found.x).all() and np.isfinite(found.sd).all() and found.sd[0] > 1.0


def test_a_batch_surrounds_the_minimum_that_the_model_sees() -> None:
    """After 16 rows of a quadratic in three columns at least half of a batch of eight lie within 0.02 of its minimum, all apart."""
    opt = Optimizer(Task(Space(a=Float(0, 1), b=Float(0, 1), c=Float(0, 1))), GP(), seed=0)
    best = np.array([0.45, 0.6, 0.35])
    for _ in range(2):
        for trial in opt.ask(8):
            opt.tell(trial, float((((np.array(list(trial.params.values())) - best) * [1.0, 2.0, 3.0]) ** 2).sum()))
    rows = np.array([list(trial.params.values()) for trial in opt.ask(8)])
    distance = np.abs(rows - best).max(axis=1)
    apart = np.abs(rows[:, None] - rows[None]).max(axis=2)[np.triu_indices(8, 1)]
    assert (distance < 0.02).sum() >= 4 and apart.min() >= 1e-3, (distance, apart.min())
