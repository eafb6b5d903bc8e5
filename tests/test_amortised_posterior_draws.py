"""Draws of the amortised Gaussian process, at points and as functions: their moments, laws and gradients."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest, norm

from surrogates.amortised.components import KERNELS, Components
from surrogates.amortised.posterior import AmortisedGP, condition_components
from surrogates.columns import Inputs
from surrogates.kernels import correlation

Array = NDArray[np.float64]
INPUTS = Inputs(("float", "category", "float"), (0, 3, 0), (0, 1, 2))
TWO = Components(
    np.array([0, 2]), np.array([[0.3, 1.5, 0.6], [0.8, 1.0, 1.2]]), np.array([0.1, 0.05]), np.array([1.0, 0.6]),
    np.log([0.7, 0.3]),
)  # fmt: skip
ONE = Components.single("matern52", np.array([0.5, 2.0, 0.5]), 0.2, 0.8, 2.0)


def points(n: int, rng: np.random.Generator) -> Array:
    """Rows of INPUTS."""
    return np.column_stack([rng.random(n), rng.integers(3, size=n), rng.random(n)])


def model(known: bool = True) -> AmortisedGP:
    """Two outputs over 8 rows."""
    rng = np.random.default_rng(0)
    X = points(8, rng)
    Z = np.column_stack([np.sin(4 * X[:, 0]) + X[:, 1] - 1.0, X[:, 2] - 0.5])
    return condition_components(INPUTS, X, Z, [TWO, ONE], rng.uniform(0.0, 0.05, Z.shape) if known else None)


def check_moments(gp: AmortisedGP, T: Array, draws: Array) -> None:
    """Means within 4.5 standard errors; covariances too, with the standard error that the draws themselves show."""
    count = len(draws)
    mean, variance = gp.mean_variance(T)
    covariance = gp.covariance(T)
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 4.5 * np.sqrt(variance / count))
    for j in range(gp.outputs):
        apart = draws[:, :, j] - mean[:, j]
        products = apart[:, :, None] * apart[:, None, :]
        error = products.std(axis=0) / np.sqrt(count)
        assert np.all(np.abs(products.mean(axis=0) - covariance[j]) < 4.5 * error)


def test_samples_have_the_moments_of_the_mixture() -> None:
    gp, T = model(), points(6, np.random.default_rng(1))
    check_moments(gp, T, gp.sample(T, 20_000, np.random.default_rng(2)))


def test_paths_have_the_moments_of_the_mixture() -> None:
    """Frequencies of its own for every path: the covariance is right without an error of the random features."""
    gp, T = model(), points(6, np.random.default_rng(3))
    draws = np.stack([path(T) for path in gp.paths(2500, np.random.default_rng(4), 32)])
    check_moments(gp, T, draws)


@pytest.mark.parametrize("kernel", range(3))
def test_paths_far_from_data_have_the_covariance_of_the_kernel(kernel: int) -> None:
    """The spectral density of each kernel: without data the paths are draws of the prior."""
    one = Components.single(KERNELS[kernel], np.array([0.4]), 0.1, 1.0, 0.5)
    gp = condition_components(Inputs.continuous(1), np.array([[50.0]]), np.zeros((1, 1)), [one])
    T = np.array([[0.0], [0.05], [0.2], [0.5], [1.5]])
    check_moments(gp, T, np.stack([path(T) for path in gp.paths(3000, np.random.default_rng(5), 32)]))


@pytest.mark.parametrize("kernel", range(3))
def test_frequencies_of_paths_follow_the_spectral_density_of_the_kernel(kernel: int) -> None:
    """The mean of cos(w . h) over frequencies w is the correlation at h (Bochner), here over 100 000 of them in 2-D."""
    one = Components.single(KERNELS[kernel], np.array([0.4, 1.5]), 0.1)
    gp = condition_components(Inputs.continuous(2), np.zeros((1, 2)), np.zeros((1, 1)), [one])
    w = gp.paths(1, np.random.default_rng(17), 100_000)[0].frequencies[0]
    for h in (np.array([0.1, 0.0]), np.array([0.3, 0.7]), np.array([0.0, 2.0])):
        waves = np.cos(w @ h)
        expected = correlation(KERNELS[kernel], np.array(((h / one.lengthscales[0]) ** 2).sum()))
        assert waves.mean() == pytest.approx(float(expected), abs=4.5 * waves.std() / np.sqrt(len(w)))


def test_values_of_draws_follow_the_law_of_the_mixture() -> None:
    """Kolmogorov and Smirnov at one point of each output; the seed is fixed, so this cannot fail by chance."""
    gp, T = model(), points(1, np.random.default_rng(6))
    moments = gp.predictor.forward(T)
    sampled = gp.sample(T, 4000, np.random.default_rng(7))[:, 0]
    drawn = np.stack([path(T)[0] for path in gp.paths(1000, np.random.default_rng(8))])
    for j in range(2):
        mine = gp.owner == j
        mean, sd, weight = moments.mean[mine, 0, 0], np.sqrt(moments.variance[mine, 0]), np.exp(gp.log_weight[mine])

        def law(y: Array, mean: Array = mean, sd: Array = sd, weight: Array = weight) -> Array:
            return np.asarray(norm.cdf((np.asarray(y)[:, None] - mean) / sd) @ weight)

        assert kstest(sampled[:, j], law).pvalue > 0.01
        assert kstest(drawn[:, j], law).pvalue > 0.01


def test_paths_without_noise_go_through_the_data() -> None:
    rng = np.random.default_rng(9)
    X = points(10, rng)
    exact = Components(TWO.kernel, TWO.lengthscales, np.full(2, 1e-6), TWO.scale, TWO.log_weight)
    gp = condition_components(INPUTS, X, X[:, :1] - X[:, 2:], [exact])
    for path in gp.paths(5, rng):
        assert path(X) == pytest.approx(gp.Z, abs=1e-4)


def test_gradients_of_paths_are_those_of_finite_differences() -> None:
    gp, T = model(), points(5, np.random.default_rng(10))
    for path in gp.paths(6, np.random.default_rng(11)):
        values, slopes = path.value_and_gradient(T)
        assert np.array_equal(values, path(T)) and slopes.shape == (5, 2, 3)
        for k in (0, 2):
            step = 1e-6 * np.eye(3)[k]
            expected = (path(T + step) - path(T - step)) / 2e-6
            assert slopes[:, :, k] == pytest.approx(expected, rel=1e-5, abs=1e-5)
        assert np.all(slopes[:, :, 1] == 0.0)


def test_draws_are_functions_of_the_generator_alone() -> None:
    gp, T = model(), points(4, np.random.default_rng(12))
    once, again = (gp.sample(T, 3, np.random.default_rng(13)) for _ in range(2))
    assert np.array_equal(once, again)
    first, second = (gp.paths(2, np.random.default_rng(14))[1](T) for _ in range(2))
    assert np.array_equal(first, second)


def test_draws_at_repeated_points_agree() -> None:
    """A draw is one function: the same point twice has the same value twice."""
    gp, T = model(), points(2, np.random.default_rng(15))
    draws = gp.sample(np.vstack([T, T]), 20, np.random.default_rng(16))
    assert draws[:, :2] == pytest.approx(draws[:, 2:], abs=1e-4)
