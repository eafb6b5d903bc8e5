"""Noise and pending points in the acquisition: Frazier's expected improvement, joint draws, and their reductions."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from bbopt.acquisition.ascent import climb
from bbopt.acquisition.constrained import ConstrainedLogEI
from bbopt.acquisition.draws import draw_values, given_draws
from bbopt.acquisition.noisy_ei import NoisyEI, expected_maximum
from surrogates.columns import Inputs
from surrogates.gp import GaussianProcess, condition
from surrogates.improvement import log_expected_improvement
from surrogates.map_fit import Fitted


def model(kind: Literal["exact", "noisy"], n: int = 18) -> GaussianProcess:
    """A well-conditioned process of one output, fitted by hand; "exact" has neither noise nor a nugget."""
    rng = np.random.default_rng(n)
    X = rng.random((n, 2))
    y = np.sin(5 * X[:, :1]) + X[:, 1:] ** 2
    noise = 0.0 if kind == "exact" else 0.04
    y = y + np.sqrt(noise) * rng.standard_normal((n, 1))
    fitted = Fitted(np.array([0.25, 0.35]), 1.0, noise, 0.0, 0.0, value=0.0, evaluations=0)
    return condition(Inputs.continuous(2), X, y - y.mean(), [fitted], "matern52")


@pytest.mark.parametrize("seed", range(5))
def test_expected_maximum_of_lines_is_that_of_simulation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal(12), rng.standard_normal(12)
    z = rng.standard_normal(100_000)
    best = (a[:, None] + b[:, None] * z).max(axis=0) - a.max()
    exact = expected_maximum(a, b)
    assert exact >= 0.0
    assert abs(exact - best.mean()) < 3.5 * best.std() / np.sqrt(len(z))


def test_expected_maximum_of_equal_slopes_is_nothing() -> None:
    assert expected_maximum(np.array([0.0, 1.0, -2.0]), np.array([0.3, 0.3, 0.3])) == 0.0


def test_frazier_without_noise_is_expected_improvement() -> None:
    gp = model("exact")
    X = np.random.default_rng(1).random((64, 2))
    mean, variance = gp.mean_variance(X)
    expected, _, _ = log_expected_improvement(mean[:, 0], np.sqrt(variance[:, 0]), float(gp.Z.min()))
    got = NoisyEI.of(gp, gp.X, np.zeros(0)).value(X)
    np.testing.assert_allclose(np.exp(got), np.exp(expected), rtol=0.0, atol=1e-10)


def test_frazier_gradient_is_that_of_finite_differences() -> None:
    gp = model("noisy")
    score = NoisyEI.of(gp, gp.X, np.zeros(0))
    X = np.random.default_rng(2).random((8, 2))
    _, gradient = score.value_and_gradient(X)
    step = 1e-6
    for j in range(2):
        shift = step * np.eye(2)[j]
        numeric = (score.value(X + shift) - score.value(X - shift)) / (2 * step)
        np.testing.assert_allclose(gradient[:, j], numeric, rtol=2e-4, atol=1e-5)


def test_one_draw_of_exact_values_is_the_model_itself() -> None:
    gp = model("exact")
    noisy, none = np.array([False]), np.zeros((0, 2))
    values = draw_values(gp, noisy, none, 1, np.random.default_rng(0))
    given = ConstrainedLogEI(given_draws(gp, noisy, none, values), np.array([gp.Z.min()]), np.zeros(0))
    plain = ConstrainedLogEI(gp.predictor, np.array([gp.Z.min()]), np.zeros(0))
    X = np.random.default_rng(3).random((50, 2))
    np.testing.assert_allclose(given.value(X), plain.value(X), rtol=1e-9, atol=1e-9)


def test_pending_points_hold_no_improvement_any_more() -> None:
    gp = model("exact")
    X = np.random.default_rng(4).random((200, 2))
    plain = ConstrainedLogEI(gp.predictor, np.array([gp.Z.min()]), np.zeros(0))
    pending = X[plain.value(X).argmax()][None]
    noisy = np.array([False])
    values = draw_values(gp, noisy, pending, 32, np.random.default_rng(0))
    given = ConstrainedLogEI(given_draws(gp, noisy, pending, values), values[0].min(axis=0), np.zeros(0))
    assert given.value(pending)[0] < plain.value(pending)[0] - 8.0


def test_gradient_over_draws_and_constraints_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(5)
    X = rng.random((20, 3))
    Z = np.column_stack([np.sin(4 * X[:, 0]) + X[:, 1], X.sum(axis=1) - 1.5, X[:, 2] - 0.5])
    fits = [Fitted(np.full(3, 0.4), 1.0, noise, 0.0, 1e-6, value=0.0, evaluations=0) for noise in (0.01, 0.0, 0.0)]
    gp = condition(Inputs.continuous(3), X, Z, fits, "matern52")
    noisy, pending = np.array([True, False, False]), rng.random((2, 3))
    values = draw_values(gp, noisy, pending, 8, rng)
    best = np.where((values[1:] <= 0).all(axis=0), values[0], np.inf).min(axis=0)
    score = ConstrainedLogEI(given_draws(gp, noisy, pending, values), best, np.zeros(2))
    points = rng.random((5, 3))
    _, gradient = score.value_and_gradient(points)
    step = 1e-5
    for j in range(3):
        shift = step * np.eye(3)[j]
        numeric = (score.value(points + shift) - score.value(points - shift)) / (2 * step)
        np.testing.assert_allclose(gradient[:, j], numeric, rtol=1e-4, atol=1e-4)


def test_climbs_do_not_leave_what_is_allowed() -> None:
    def half(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value = X.sum(axis=1)
        return np.where(X[:, 0] <= 0.5, value, -np.inf), np.ones_like(X)

    start = np.array([[0.1, 0.1], [0.4, 0.9]])
    rows, values = climb(half, start, np.zeros(2), np.ones(2), np.ones((2, 2), bool))
    assert (rows[:, 0] <= 0.5).all()
    assert (values > half(start)[0]).all()
