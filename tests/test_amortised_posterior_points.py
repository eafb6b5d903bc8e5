"""What the amortised posterior says at a point: slopes by finite differences, tails and quantiles by SciPy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from amortised_models import model, rows
from numpy.typing import NDArray
from scipy.optimize import approx_fprime
from scipy.stats import norm

from surrogates.amortised.posterior import AmortisedGP

Array = NDArray[np.float64]
# -- gradients ---------------------------------------------------------------------------------------------------------


def test_gradients_are_those_of_finite_differences() -> None:
    gp, T = model(), rows(6, np.random.default_rng(8))
    found = gp.gradients(T)
    for q, j, part in product(range(len(T)), range(2), range(2)):
        expected = approx_fprime(T[q], lambda x, j=j, part=part: gp.mean_variance(x[None])[part][0, j], 1e-7)
        expected[1] = 0.0  # a category has no slope
        assert found[part][q, j] == pytest.approx(expected, rel=1e-4, abs=2e-5)


def test_backward_through_the_flattened_components_is_a_finite_difference() -> None:
    """What an acquisition does: a function of all means and variances at once."""
    gp, T = model(), rows(4, np.random.default_rng(9))
    rng = np.random.default_rng(10)
    by_mean, by_variance = rng.standard_normal((5, 4, 1)), rng.standard_normal((5, 4))

    def total(X: Array) -> Array:
        moments = gp.predictor.forward(X)
        return np.asarray(
            (moments.mean * by_mean[:, :1]).sum(axis=(0, 2)) + (moments.variance * by_variance[:, :1]).sum(0)
        )

    same = np.broadcast_to(by_mean[:, :1], by_mean.shape), np.broadcast_to(by_variance[:, :1], by_variance.shape)
    found = gp.predictor.backward(gp.predictor.forward(T), *same)
    for q, k in product(range(4), (0, 2)):
        step = 1e-6 * np.eye(3)[k]
        expected = (total(T[q : q + 1] + step) - total(T[q : q + 1] - step)) / 2e-6
        assert found[q, k] == pytest.approx(expected[0], rel=1e-5, abs=1e-6)
    assert np.all(found[:, 1] == 0.0)


@pytest.mark.parametrize("output", [0, 2, 4])
def test_gradient_of_weighted_covariances_is_a_finite_difference(output: int) -> None:
    gp, T = model(), rows(3, np.random.default_rng(11))
    B, weights = rows(4, np.random.default_rng(12)), np.random.default_rng(13).standard_normal((3, 4))
    found = gp.predictor.pull_covariance(gp.predictor.forward(T), B, weights, output)
    for q, k in product(range(3), (0, 2)):
        step = 1e-6 * np.eye(3)[k]
        ends = [gp.predictor.covariance(T[q : q + 1] + s * step, B)[output][0] @ weights[q] for s in (1, -1)]
        assert found[q, k] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-6)


def test_derivative_is_the_limit_of_differences_of_function_values() -> None:
    """(f(x + h) - f(x)) / h has a mean and a covariance that `mean_variance` and `covariance` know. Also on a told row."""
    gp = model()
    T = np.vstack([rows(3, np.random.default_rng(14)), gp.X[:1]])
    means, covariances = gp.derivative(T)
    assert means == pytest.approx(gp.gradients(T)[0], abs=1e-10)
    assert (
        np.all(means[:, :, 1] == 0.0) and np.all(covariances[:, :, 1] == 0.0) and np.all(covariances[:, :, :, 1] == 0.0)
    )
    # central differences; Matern 3/2 is differentiable only once, so its error is of first order in the step
    h = 1e-4
    for q in range(len(T)):
        stencil = np.vstack([T[q] + s * h * np.eye(3)[k] for k in (0, 2) for s in (1.0, -1.0)])
        D = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]) / (2.0 * h)
        values = gp.covariance(stencil)
        for j in range(2):
            expected = D @ values[j] @ D.T
            got = covariances[q, j][np.ix_([0, 2], [0, 2])]
            assert got == pytest.approx(expected, rel=5e-3, abs=5e-3 * np.abs(expected).max())


# -- tails and quantiles -----------------------------------------------------------------------------------------------


def cdf(gp: AmortisedGP, X: Array, j: int, y: Array) -> Array:
    """(q, k) of P(f <= y) at (q, k) values, by SciPy's normal distribution."""
    moments, mine = gp.predictor.forward(X), gp.owner == j
    mean, sd = moments.mean[mine, :, 0, None], np.sqrt(moments.variance[mine])[:, :, None]
    return np.asarray((np.exp(gp.log_weight[mine])[:, None, None] * norm.cdf((y - mean) / sd)).sum(axis=0))


def test_quantiles_and_probabilities_are_those_of_the_mixture() -> None:
    gp, T = model(), rows(8, np.random.default_rng(15))
    p = np.array([1e-12, 0.001, 0.1, 0.5, 0.9, 0.999, 1.0 - 1e-12])
    found = gp.quantiles(T, p)
    assert found.shape == (8, 2, 7) and np.all(np.diff(found, axis=2) > 0.0)
    for j in range(2):
        assert cdf(gp, T, j, found[:, j]) == pytest.approx(np.tile(p, (8, 1)), rel=1e-9)
        upper = 1.0 - cdf(gp, T, j, found[:, j, 5:6])
        assert upper == pytest.approx(np.full((8, 1), 0.001), rel=1e-9)
    limits = np.array([0.1, -0.2])
    below = np.exp(gp.log_probability_below(T, limits))
    for j in range(2):
        assert below[:, j] == pytest.approx(cdf(gp, T, j, np.full((8, 1), limits[j]))[:, 0], rel=1e-10)


def test_expected_improvement_is_the_integral_of_the_cdf() -> None:
    """E max(b - f, 0) is the integral of P(f <= y) up to b."""
    gp, T = model(), rows(4, np.random.default_rng(16))
    best = np.array([0.0, 0.3])
    found = np.exp(gp.log_expected_improvement(T, best))
    for j in range(2):
        y = np.linspace(best[j] - 20.0, best[j], 200_001)
        expected = np.trapezoid(cdf(gp, T, j, np.broadcast_to(y, (4, len(y)))), y, axis=1)
        assert found[:, j] == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_logarithms_far_into_the_tail_are_finite() -> None:
    gp, T = model(), rows(4, np.random.default_rng(17))
    for found in (gp.log_probability_below(T, np.full(2, -1e4)), gp.log_expected_improvement(T, np.full(2, -1e4))):
        assert np.isfinite(found).all() and np.all(found < -1e5)
