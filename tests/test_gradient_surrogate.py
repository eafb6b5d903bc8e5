"""The posterior given derivatives: against GPyTorch's kernels, differences, and the posterior without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bbopt.acquisition.draws import draw_values, given_draws
from bbopt.errors import UsageError
from surrogates.columns import Inputs
from surrogates.gp import condition, fit_gp
from surrogates.gp_gradients import SlopeProcess, condition_with_slopes
from surrogates.kernels import Kernel
from surrogates.map_fit import Fitted, Objective, Prior
from surrogates.slope_fit import SlopeObjective, fit_with_slopes
from surrogates.slope_kernel import Sites, joint_correlations

MIXED = Inputs(("float", "category", "float"), (0, 3, 0), (0, 1, 2))
KERNELS: tuple[Kernel, ...] = ("rbf", "matern52")


def rows_of(inputs: Inputs, n: int, rng: np.random.Generator) -> np.ndarray:
    X = rng.random((n, inputs.dimension))
    for j, levels in enumerate(inputs.levels):
        if levels:
            X[:, j] = rng.integers(levels, size=n)
    return X


def hyperparameters(inputs: Inputs, rng: np.random.Generator, noise: float = 0.0) -> Fitted:
    lengthscales = np.exp(rng.normal(-0.5, 0.5, inputs.dimension))
    return Fitted(lengthscales, float(np.exp(rng.normal())), noise, float(rng.normal()), 1e-8, 0.0, 0)


def some_model(kernel: Kernel, seed: int = 0, noisy: bool = False, outputs: int = 2) -> SlopeProcess:
    rng = np.random.default_rng(seed)
    X = rows_of(MIXED, 9, rng)
    sites = Sites(np.array([0, 0, 3, 5, 8]), np.array([0, 2, 2, 0, 2]), 9)
    slopes = rng.standard_normal((outputs, 5))
    slopes[-1, [1, 3]] = np.nan
    fitted = [hyperparameters(MIXED, rng, 0.05 * noisy) for _ in range(outputs)]
    variances = rng.uniform(0.01, 0.1, (9, outputs)) if noisy else None
    return condition_with_slopes(MIXED, X, rng.standard_normal((9, outputs)), sites, slopes, fitted, kernel, variances)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_joint_covariance_is_gpytorchs(kernel: Kernel) -> None:
    pytest.importorskip("surrogates.gp_botorch", reason="needs the extra bbopt[botorch]", exc_type=ImportError)
    import torch
    from gpytorch.kernels import Matern52KernelGrad, RBFKernelGrad

    rng = np.random.default_rng(1)
    n, d = 6, 3
    X, lengthscales = rng.random((n, d)), np.array([0.3, 0.8, 1.7])
    theirs = (RBFKernelGrad if kernel == "rbf" else Matern52KernelGrad)(ard_num_dims=d).double()
    theirs.lengthscale = torch.tensor(lengthscales)
    with torch.no_grad():
        K = theirs(torch.tensor(X)).to_dense().numpy()  # point by point: the value, then its derivatives
    order = [i * (d + 1) + 1 + j for i in range(n) for j in range(d)] + [i * (d + 1) for i in range(n)]
    sites = Sites(np.repeat(np.arange(n), d), np.tile(np.arange(d), n), n)
    features = sites.features(Inputs.continuous(d), X)
    ours = joint_correlations(kernel, features, sites.columns, 1.0 / lengthscales)
    units = np.concatenate([lengthscales[sites.columns], np.ones(n)])
    np.testing.assert_allclose(ours, K[np.ix_(order, order)] * units[:, None] * units, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("noisy", [False, True])
def test_the_posterior_is_the_one_of_a_plain_linear_solve(kernel: Kernel, noisy: bool) -> None:
    """The formulas of the book with a covariance made from differences of the kernel itself, in raw units."""
    model, rng = some_model(kernel, noisy=noisy), np.random.default_rng(5)
    Q, step = rows_of(MIXED, 4, rng), 1e-4
    mean, variance = model.mean_variance(Q)

    def k(A: np.ndarray, B: np.ndarray, f: Fitted) -> np.ndarray:
        from surrogates.predictor import prior_correlation

        a, b = MIXED.features(A), MIXED.features(B)
        return f.scale * prior_correlation(kernel, a, b, 1.0 / f.lengthscales[MIXED.owner][None])[0]

    for j, f in enumerate(model.fitted):
        has = ~np.isnan(model.slopes[j])
        points, columns = model.X[model.sites.rows[has]], model.sites.columns[has]
        e = step * np.eye(3)[columns]
        up, down = points + e, points - e
        value_slope = (k(model.X, up, f) - k(model.X, down, f)) / (2 * step)
        slope_slope = (k(up, up, f) - k(up, down, f) - k(down, up, f) + k(down, down, f)) / (4 * step**2)
        K = np.block([[slope_slope, value_slope.T], [value_slope, k(model.X, model.X, f)]])
        own = np.concatenate([np.full(has.sum(), 1.0 if kernel == "rbf" else 5 / 3), np.ones(9)])
        own[: has.sum()] /= f.lengthscales[columns] ** 2
        row = np.concatenate([model.sites.rows[has], np.arange(9)])
        known = 0.0 if model.variances is None else model.variances[row, j]
        K += np.diag(own * (f.noise + f.nugget * f.scale + known))
        cross = np.hstack([(k(Q, up, f) - k(Q, down, f)) / (2 * step), k(Q, model.X, f)])
        observed = np.concatenate([model.slopes[j][has], model.Z[:, j] - f.mean])
        np.testing.assert_allclose(mean[:, j], f.mean + cross @ np.linalg.solve(K, observed), rtol=2e-4, atol=2e-4)
        expected = f.scale - (cross * np.linalg.solve(K, cross.T).T).sum(axis=1)
        np.testing.assert_allclose(variance[:, j], expected, rtol=2e-3, atol=2e-4 * f.scale)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_posterior_has_the_told_slopes(kernel: Kernel) -> None:
    model = some_model(kernel)
    means, _ = model.gradients(model.X)
    told = means[model.sites.rows, :, model.sites.columns].T
    np.testing.assert_allclose(told[~np.isnan(model.slopes)], model.slopes[~np.isnan(model.slopes)], atol=1e-3)
    np.testing.assert_allclose(model.mean_variance(model.X)[0], model.Z, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(KERNELS))
def test_gradients_are_those_of_differences(seed: int, kernel: Kernel) -> None:
    model, rng = some_model(kernel, seed), np.random.default_rng(seed)
    Q = rows_of(MIXED, 3, rng)
    predictor = model.predictor
    moments = predictor.forward(Q)
    by_mean, by_variance = rng.standard_normal((2, 3, 1)), rng.standard_normal((2, 3))

    def value(at: np.ndarray) -> np.ndarray:
        found = predictor.forward(at)
        return np.asarray((by_mean[:, :, 0] * found.mean[:, :, 0] + by_variance * found.variance).sum(axis=0))

    gradient = predictor.backward(moments, by_mean, by_variance)
    B = rows_of(MIXED, 2, rng)
    weights = rng.standard_normal((3, 2))
    pulled = predictor.pull_covariance(moments, B, weights, output=1)
    for column in (0, 2):
        e = 1e-5 * np.eye(3)[column]
        np.testing.assert_allclose(gradient[:, column], (value(Q + e) - value(Q - e)) / 2e-5, rtol=1e-4, atol=1e-4)
        moved = [(predictor.covariance(Q + side * e, B)[1] * weights).sum(axis=1) for side in (1, -1)]
        np.testing.assert_allclose(pulled[:, column], (moved[0] - moved[1]) / 2e-5, rtol=1e-4, atol=1e-4)
    assert not gradient[:, 1].any()


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_derivatives_it_is_the_plain_posterior_to_the_bit(kernel: Kernel) -> None:
    rng = np.random.default_rng(3)
    X, Z, Q = rows_of(MIXED, 12, rng), rng.standard_normal((12, 2)), rows_of(MIXED, 7, rng)
    fitted = [hyperparameters(MIXED, rng, 0.01) for _ in range(2)]
    plain = condition(MIXED, X, Z, fitted, kernel)
    none = Sites(np.zeros(0, np.intp), np.zeros(0, np.intp), 12)
    model = condition_with_slopes(MIXED, X, Z, none, np.zeros((2, 0)), fitted, kernel)
    for a, b in zip(
        model.mean_variance(Q) + model.gradients(Q), plain.mean_variance(Q) + plain.gradients(Q), strict=True
    ):
        assert np.array_equal(a, b)
    prior = Prior.noiseless(3)
    theta = Objective(MIXED, X, kernel, prior).start()
    with_none, without = SlopeObjective(MIXED, X, none, kernel, prior), Objective(MIXED, X, kernel, prior)
    values = [with_none(theta, Z[:, 0], None), without(theta, Z[:, 0], None)]
    assert values[0][0] == pytest.approx(values[1][0], rel=1e-12)
    np.testing.assert_allclose(values[0][1], values[1][1], rtol=1e-9, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(KERNELS), st.booleans())
def test_the_density_has_the_gradient_of_its_differences(seed: int, kernel: Kernel, noisy: bool) -> None:
    rng = np.random.default_rng(seed)
    X = rows_of(MIXED, 7, rng)
    sites = Sites(np.array([0, 0, 2, 6]), np.array([0, 2, 0, 2]), 7)
    prior = Prior.botorch(3) if noisy else Prior.noiseless(3, 1e-6)
    objective = SlopeObjective(MIXED, X, sites, kernel, prior)
    z = rng.standard_normal(11)
    variances = rng.uniform(0.0, 0.1, 7) if noisy else None
    theta = objective.start() + 0.3 * rng.standard_normal(objective.size)
    value, gradient = objective(theta, z, variances)
    assert np.isfinite(value)
    for j in range(objective.size):
        e = 1e-5 * np.eye(objective.size)[j]
        difference = (objective(theta + e, z, variances)[0] - objective(theta - e, z, variances)[0]) / 2e-5
        assert gradient[j] == pytest.approx(difference, rel=2e-4, abs=2e-4 * (1 + abs(value)))


def test_the_density_is_that_of_all_observations() -> None:
    """Against the logarithm of a multivariate normal density, in raw units, at the mean that it finds itself."""
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(2)
    X, z = rng.random((5, 2)), rng.standard_normal(8)
    sites = Sites(np.array([0, 1, 4]), np.array([1, 0, 1]), 5)
    objective = SlopeObjective(Inputs.continuous(2), X, sites, "matern52", Prior.botorch(2))
    theta = np.array([-0.5, 0.2, -2.0])
    lengthscales, _, noise = objective.split(theta)
    C = joint_correlations("matern52", sites.features(Inputs.continuous(2), X), sites.columns, 1 / lengthscales)
    C += np.diag(noise * np.array([5 / 3] * 3 + [1.0] * 5))
    units = np.concatenate([lengthscales[sites.columns], np.ones(5)])
    mean = objective.mean(theta, z, None) * np.array([0.0] * 3 + [1.0] * 5)
    density = multivariate_normal(mean, C / units[:, None] / units).logpdf(z) + objective._log_prior(theta)[0]
    assert objective(theta, z, None)[0] == pytest.approx(-density / 8, rel=1e-9)


@pytest.mark.parametrize("noisy", [False, True])
def test_more_values_one_by_one_or_at_once(noisy: bool) -> None:
    model, rng = some_model("rbf", 4, noisy), np.random.default_rng(9)
    X, Z, Q = rows_of(MIXED, 3, rng), rng.standard_normal((3, 2)), rows_of(MIXED, 5, rng)
    variances = np.full((3, 2), 0.02) if noisy else None
    more = model.given(X, Z, variances)
    known = None if model.variances is None or variances is None else np.vstack([model.variances, variances])
    sites = replace(model.sites, n=12)
    whole = condition_with_slopes(
        MIXED, np.vstack([model.X, X]), np.vstack([model.Z, Z]), sites, model.slopes, model.fitted, "rbf", known
    )
    for a, b in zip(more.mean_variance(Q), whole.mean_variance(Q), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
    for a, b in zip(more.leave_one_out(), whole.leave_one_out(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)


def test_left_out_values_are_predicted_as_from_the_others() -> None:
    model = some_model("rbf", 6, noisy=True)
    means, _ = model.leave_one_out()
    keep = np.arange(9) != 4  # a row without derivatives
    sites = Sites(np.array([0, 0, 3, 4, 7]), model.sites.columns, 8)
    assert model.variances is not None
    rest = condition_with_slopes(
        MIXED, model.X[keep], model.Z[keep], sites, model.slopes, model.fitted, "rbf", model.variances[keep]
    )
    np.testing.assert_allclose(means[4], rest.mean_variance(model.X[4:5])[0][0], rtol=1e-8)


def test_draws_of_what_is_not_known_average_to_the_posterior() -> None:
    """Given many joint draws at a pending point, the mean of the conditioned means is the mean without them."""
    model, rng = some_model("rbf", 7), np.random.default_rng(0)
    pending, Q = rows_of(MIXED, 2, rng), rows_of(MIXED, 6, rng)
    exact = np.zeros(2, bool)
    values = draw_values(model, exact, pending, 512, rng)
    given_them = given_draws(model, exact, pending, values)
    mean, variance = model.mean_variance(Q)
    found = given_them.forward(Q)
    np.testing.assert_allclose(found.mean.mean(axis=2).T, mean, atol=0.05)
    total = found.variance.T + found.mean.var(axis=2).T
    np.testing.assert_allclose(total, variance, rtol=0.1, atol=0.02)


def test_one_output_alone_is_the_same() -> None:
    model, Q = some_model("matern52", 8), rows_of(MIXED, 5, np.random.default_rng(1))
    for j in range(2):
        assert np.allclose(model.output(j).mean_variance(Q)[0][:, 0], model.mean_variance(Q)[0][:, j])
        assert np.allclose(model.predictor.take(np.array([j])).forward(Q).mean[0], model.predictor.forward(Q).mean[j])
    with pytest.raises(UsageError, match="BoTorch"):
        model.botorch_model()


def test_fits_with_derivatives_predict_better() -> None:
    rng = np.random.default_rng(0)
    inputs = Inputs.continuous(3)

    def value(X: np.ndarray) -> np.ndarray:
        return np.asarray(np.sin(3 * X).sum(axis=1))

    X, Q = rng.random((6, 3)), rng.random((200, 3))
    sites = Sites(np.repeat(np.arange(6), 3), np.tile(np.arange(3), 6), 6)
    slopes = (3 * np.cos(3 * X)).ravel()
    objective = SlopeObjective(inputs, X, sites, "rbf", Prior.noiseless(3))
    found = fit_with_slopes(objective, value(X), slopes)
    model = condition_with_slopes(inputs, X, value(X)[:, None], sites, slopes[None], [found])
    plain = fit_gp(inputs, X, value(X)[:, None], [Prior.noiseless(3)])
    errors = [np.abs(m.mean_variance(Q)[0][:, 0] - value(Q)).mean() for m in (model, plain)]
    assert errors[0] < 0.2 * errors[1]
    again = fit_with_slopes(objective, value(X), slopes, starts=(found,))
    assert again.evaluations < 0.5 * found.evaluations and again.value >= found.value - 1e-6
