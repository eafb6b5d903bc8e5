"""The exact likelihood: against SciPy's densities and quadrature, and its derivatives against finite differences."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp
from scipy.stats import multivariate_normal, multivariate_t

from surrogates.amortised import evidence
from surrogates.amortised.components import KERNELS
from surrogates.amortised.evidence import SCALE, SHAPE, Evidence, Likelihood, SquaredDifferences, slope_and_bend
from surrogates.amortised.hyperprior import Hyperprior
from surrogates.columns import Inputs
from surrogates.kernels import Kernel, correlation, correlation_and_slope

Array = NDArray[np.float64]
LINEAR = Hyperprior((0.3, 0.3, 0.4), (0.4, 0.6), 0.0, (1e-2, 0.5))
BELIEVED = {
    "unknown variance": LINEAR,
    "standard": replace(LINEAR, standard=True),
    "noise known": replace(LINEAR, noise=(0.1, 0.1)),
}
each_kernel = pytest.mark.parametrize("kernel", range(3), ids=KERNELS)
each_belief = pytest.mark.parametrize("believed", BELIEVED.values(), ids=BELIEVED.keys())


def rows_of(n: int, d: int, seed: int = 0) -> tuple[Array, Array]:
    """Rows, and values of mean 0 and standard deviation 1."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, d))
    z = np.sin(4.0 * X).sum(axis=1) + 0.2 * rng.standard_normal(n)
    return X, (z - z.mean()) / z.std()


def made(believed: Hyperprior, n: int, d: int, variances: Array | None = None) -> Evidence:
    X, z = rows_of(n, d)
    return Evidence(SquaredDifferences(Inputs.continuous(d), X), z, believed, variances)


def matrix(believed: Hyperprior, X: Array, kernel: Kernel, v: Array) -> Array:
    """k + offset + noise^2, the plain way."""
    scaled = X / believed.lengthscales(v)
    r2 = ((scaled[:, None] - scaled[None]) ** 2).sum(-1)
    return correlation(kernel, r2) + believed.offset + float(believed.noises(v)) ** 2 * np.eye(len(X))


def test_the_examples_run() -> None:
    assert doctest.testmod(evidence).failed == 0


@each_kernel
@each_belief
def test_the_density_is_scipys(believed: Hyperprior, kernel: int) -> None:
    """A t distribution with 2 SHAPE degrees of freedom and the shape matrix A SCALE / SHAPE; a normal one if standard."""
    X, z = rows_of(9, 2)
    found = made(believed, 9, 2)
    v = np.random.default_rng(1).standard_normal((3, believed.size(2)))
    for one, likelihood in zip(v, found.at(np.full(3, kernel), v), strict=True):
        A = matrix(believed, X, KERNELS[kernel], one)
        if believed.standard:
            wanted = multivariate_normal(np.zeros(9), A).logpdf(z)
        else:
            wanted = multivariate_t(np.zeros(9), A * SCALE / SHAPE, df=2.0 * SHAPE).logpdf(z)
            assert likelihood.shape == SHAPE + 4.5
            assert likelihood.scale == pytest.approx(SCALE + 0.5 * z @ np.linalg.solve(A, z))
        assert likelihood.value == pytest.approx(wanted, abs=1e-8) and likelihood.jitter == 0.0
        assert likelihood.factor is not None
        np.testing.assert_allclose(likelihood.factor @ likelihood.factor.T, A, atol=1e-12)


def test_the_height_is_that_of_the_posterior() -> None:
    found = made(LINEAR, 6, 1)
    v = np.array([[0.3, -0.2]])
    (likelihood,) = found.at(np.array([2]), v)
    wanted = likelihood.value + math.log(0.4) - 0.5 * 0.13 - math.log(2.0 * math.pi)
    assert found.height([likelihood], np.array([2]), v)[0] == pytest.approx(wanted)


def test_known_noise_of_a_standard_process() -> None:
    X, z = rows_of(8, 1)
    believed, D = BELIEVED["standard"], np.linspace(0.0, 0.5, 8)
    v = np.array([[0.5, -0.5]])
    (likelihood,) = made(believed, 8, 1, D).at(np.array([0]), v)
    A = matrix(believed, X, "rbf", v[0]) + np.diag(D)
    assert likelihood.value == pytest.approx(multivariate_normal(np.zeros(8), A).logpdf(z), abs=1e-8)


@pytest.mark.parametrize("size", [0.0, 0.1, 0.7, 2.0])
def test_known_noise_of_a_process_of_unknown_variance(size: float) -> None:
    """Against quadrature over log s^2; a shortcut that took the noise along with s^2 erred by several nats here."""
    n = 15
    rng = np.random.default_rng(int(10 * size))
    X = rng.random((n, 1))
    z = np.sin(7.0 * X[:, 0]) + size * rng.standard_normal(n)
    D = np.full(n, (size / z.std()) ** 2) * np.linspace(0.5, 1.5, n)
    z = (z - z.mean()) / z.std()
    believed = replace(LINEAR, lengthscale=(0.3, 1.0), noise=(0.05, 0.05))
    v = np.linspace(-2.0, 2.0, 5)[:, None]
    likelihoods = Evidence(SquaredDifferences(Inputs.continuous(1), X), z, believed, D).at(np.ones(5, int), v)
    t = np.linspace(-12.0, 14.0, 521)
    before = SHAPE * math.log(SCALE) - gammaln(SHAPE) - SHAPE * t - SCALE * np.exp(-t)
    for one, found in zip(v, likelihoods, strict=True):
        A = matrix(believed, X, "matern52", one)
        normal = [multivariate_normal(np.zeros(n), math.exp(s) * A + np.diag(D)).logpdf(z) for s in t]
        height = np.array(normal) + before
        assert found.value == pytest.approx(logsumexp(height) + math.log(t[1] - t[0]), abs=0.25)
        assert found.variance is not None and found.factor is not None
        np.testing.assert_allclose(found.factor @ found.factor.T, A + np.diag(D / found.variance), atol=1e-10)
        assert math.log(found.variance) == pytest.approx(t[height.argmax()], abs=0.1)


def heights(found: Evidence, kernel: int, v: Array) -> float:
    (likelihood,) = found.at(np.array([kernel]), v[None])
    return float(found.height([likelihood], np.array([kernel]), v[None])[0])


def slopes(found: Evidence, kernel: int, v: Array) -> tuple[Array, Array, Array]:
    return found.slope_and_curvature(kernel, v, found.at(np.array([kernel]), v[None])[0])


def numerical(found: Evidence, kernel: int, v: Array) -> tuple[Array, Array]:
    """Gradient of the height, and minus the differences of gradients, both central."""
    h, eye = 1e-5, np.eye(len(v))
    gradient = [(heights(found, kernel, v + h * e) - heights(found, kernel, v - h * e)) / (2 * h) for e in eye]
    bend = [(slopes(found, kernel, v - h * e)[0] - slopes(found, kernel, v + h * e)[0]) / (2 * h) for e in eye]
    return np.array(gradient), np.array(bend)


@each_kernel
@each_belief
@pytest.mark.parametrize("known", [False, True])
def test_the_slope_alone_is_that_which_comes_with_curvatures(believed: Hyperprior, kernel: int, known: bool) -> None:
    found = made(believed, 12, 3, np.linspace(0.01, 0.2, 12) if known else None)
    v = np.random.default_rng(4).standard_normal(believed.size(3))
    (likelihood,) = found.at(np.array([kernel]), v[None])
    wanted = found.slope_and_curvature(kernel, v, likelihood)[0]
    np.testing.assert_allclose(found.slope(kernel, v, likelihood), wanted, rtol=1e-9, atol=1e-9)


@each_kernel
@each_belief
def test_derivatives_where_coordinates_are_linear(believed: Hyperprior, kernel: int) -> None:
    found = made(believed, 25, 3)
    v = np.array([-0.3, 0.4, -0.1, 0.2])[: believed.size(3)]
    gradient, _, actual = slopes(found, kernel, v)
    wanted, bend = numerical(found, kernel, v)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-6, atol=1e-6)
    value, vector = np.linalg.eigh(0.5 * (bend + bend.T))
    raised = (vector * np.maximum(value, evidence.LEAST_CURVATURE)) @ vector.T
    np.testing.assert_allclose(actual, raised, rtol=1e-4, atol=1e-4 * abs(raised).max())


@each_kernel
def test_derivatives_through_the_table(kernel: int) -> None:
    """The table is linear between its places, its slopes are not constant there: they agree to its fineness."""
    believed = replace(LINEAR, irrelevant=0.25)
    found = made(believed, 25, 2)
    v = np.array([-0.3, 0.8, 0.2])
    gradient, _, actual = slopes(found, kernel, v)
    wanted, bend = numerical(found, kernel, v)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-2, atol=1e-2)
    value, vector = np.linalg.eigh(0.5 * (bend + bend.T))
    raised = (vector * np.maximum(value, evidence.LEAST_CURVATURE)) @ vector.T
    np.testing.assert_allclose(actual, raised, atol=0.03 * abs(raised).max())


@each_kernel
def test_derivatives_with_known_noise(kernel: int) -> None:
    """Of the height at the most probable variance: what Laplace's method adds, -log(H) / 2, has no part in them."""
    believed = replace(LINEAR, noise=(1e-3, 1e-3))
    found = made(believed, 20, 2, np.linspace(0.02, 0.2, 20))
    v, h = np.array([0.3, -0.4]), 1e-4

    def top(at: Array) -> float:
        (likelihood,) = found.at(np.array([kernel]), at[None])
        return heights(found, kernel, at) + 0.5 * math.log(likelihood.shape)

    gradient, expected, actual = slopes(found, kernel, v)
    wanted = [(top(v + h * e) - top(v - h * e)) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(gradient, wanted, rtol=0.05, atol=0.05)
    bend = numerical(found, kernel, v)[1]
    np.testing.assert_allclose(actual, bend, rtol=0.1, atol=0.1 * abs(bend).max())
    assert np.linalg.eigvalsh(expected).min() >= 1.0 - 1e-9


@each_belief
def test_the_expected_curvature_is_the_mean_of_the_actual_one(believed: Hyperprior) -> None:
    """Over values drawn from the process itself, of unit variance; the unknown variance makes it exact only for many rows."""
    v = np.array([-0.2, 0.3, 0.1])[: believed.size(2)]
    X, _ = rows_of(30, 2)
    rows = SquaredDifferences(Inputs.continuous(2), X)
    root = np.linalg.cholesky(matrix(believed, X, "matern52", v))
    rng = np.random.default_rng(0)
    total = []
    for _ in range(300):
        found = Evidence(rows, root @ rng.standard_normal(30), believed)
        (likelihood,) = found.at(np.array([1]), v[None])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evidence, "LEAST_CURVATURE", -1e9)
            _, expected, actual = found.slope_and_curvature(1, v, likelihood)
        total.append(actual)
    error = np.std(total, axis=0) / math.sqrt(300.0)
    assert (abs(np.mean(total, axis=0) - expected) < 4.0 * error + 0.1 * abs(expected).max()).all()


def test_estimated_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 160 rows on random signs stand for the identity: 32 of them err by a few per cent, the same way every time."""
    v = np.array([-0.3, 0.4, -0.1, 0.2])
    estimated = slopes(made(LINEAR, 170, 3), 1, v)
    again = slopes(made(LINEAR, 170, 3), 1, v)
    monkeypatch.setattr(evidence, "PROBES_FROM", 1000)
    exact = slopes(made(LINEAR, 170, 3), 1, v)
    np.testing.assert_array_equal(estimated[0], exact[0])
    for place in (1, 2):
        np.testing.assert_array_equal(estimated[place], again[place])
        assert abs(estimated[place] - exact[place]).max() < 0.25 * abs(exact[place]).max()


def test_category_columns() -> None:
    inputs = Inputs(("float", "category"), (0, 3), (0, 1))
    X = np.array([[0.1, 0.0], [0.4, 2.0], [0.4, 1.0], [0.9, 2.0]])
    rows = SquaredDifferences(inputs, X)
    np.testing.assert_array_equal(rows.pairs[1].reshape(4, 4), 2.0 * (X[:, 1][:, None] != X[:, 1][None]).astype(float))
    np.testing.assert_allclose(rows.pairs[0].reshape(4, 4), (X[:, 0][:, None] - X[:, 0][None]) ** 2)
    z, v = np.array([1.0, -1.0, 0.5, 0.0]), np.array([0.2, -0.4, 0.0])
    features = np.column_stack([X[:, 0], *(X[:, 1] == level for level in range(3))])
    lengths = LINEAR.lengthscales(v)
    (found,) = Evidence(rows, z, replace(LINEAR, standard=True)).at(np.array([1]), v[None])
    scaled = features / lengths[[0, 1, 1, 1]]
    A = correlation("matern52", ((scaled[:, None] - scaled[None]) ** 2).sum(-1))
    A += float(LINEAR.noises(v)) ** 2 * np.eye(4)
    assert found.value == pytest.approx(multivariate_normal(np.zeros(4), A).logpdf(z))


@each_kernel
def test_slope_and_bend_are_derivatives(kernel: int) -> None:
    name, r2, h = KERNELS[kernel], np.linspace(0.05, 9.0, 40), 1e-5
    slope, bend = slope_and_bend(name, r2)
    k = correlation(name, r2 + h) - correlation(name, r2 - h)
    np.testing.assert_allclose(slope, -k / h, rtol=1e-5, atol=1e-9)
    g = correlation_and_slope(name, r2 + h)[1] - correlation_and_slope(name, r2 - h)[1]
    np.testing.assert_allclose(bend, g / (2 * h), rtol=1e-5, atol=1e-9)
    assert all(np.isfinite(part).all() for part in slope_and_bend(name, np.zeros(1)))


@each_kernel
def test_a_matrix_that_needs_jitter(kernel: int) -> None:
    """Repeated rows without noise: singular but for rounding; derivatives stay numbers."""
    X = np.repeat(np.random.default_rng(0).random((12, 1)), 2, axis=0)
    z = np.sin(3.0 * X[:, 0])
    believed = Hyperprior(noise=(1e-10, 1e-10), irrelevant=0.0)
    found = Evidence(SquaredDifferences(Inputs.continuous(1), X), z, believed)
    v = np.array([1.5])
    (likelihood,) = found.at(np.array([kernel]), v[None])
    assert likelihood.jitter > 0.0 and np.isfinite(likelihood.value)
    assert all(np.isfinite(part).all() for part in found.slope_and_curvature(kernel, v, likelihood))


def test_a_matrix_that_cannot_be_factored_has_no_density() -> None:
    rows = SquaredDifferences(Inputs.continuous(1), np.array([[0.0], [np.nan]]))
    for variances in (None, np.ones(2)):
        (found,) = Evidence(rows, np.array([1.0, -1.0]), LINEAR, variances).at(np.array([0]), np.zeros((1, 2)))
        assert isinstance(found, Likelihood) and found.value == -np.inf and found.factor is None
