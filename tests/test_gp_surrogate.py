"""The Gaussian process and what surrounds it: against brute force, against itself, and on data that are hard on numerics."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.optimize import approx_fprime

from surrogates.columns import Inputs
from surrogates.gp import GaussianProcess, condition, fit_gp, root_of
from surrogates.kernels import Kernel, correlation, correlation_and_slope
from surrogates.map_fit import Fitted, Objective, Prior, fit_map
from surrogates.predictor import prior_correlation
from surrogates.protocol import Posterior, Surrogate
from surrogates.region import fit_region
from surrogates.warped_fit import fit_warped
from surrogates.warps import LARGEST, Warp, constraint_warps, objective_warps

Array = NDArray[np.float64]
MIXED = Inputs(("float", "category", "int"), (0, 4, 7), (0, 1, 2))
KERNELS: tuple[Kernel, ...] = ("rbf", "matern52")


def rows(n: int, rng: np.random.Generator) -> Array:
    """Rows of MIXED."""
    return np.column_stack([rng.random(n), rng.integers(4, size=n), rng.integers(7, size=n) / 6.0])


def model(kernel: Kernel = "rbf", known: bool = False, n: int = 25, seed: int = 0) -> GaussianProcess:
    """Two outputs over MIXED with learnt noise, or with known variances on top."""
    rng = np.random.default_rng(seed)
    X = rows(n, rng)
    Z = np.column_stack([np.sin(5 * X[:, 0]) + 0.3 * X[:, 1] - 0.5, X[:, 2] ** 2 - X[:, 0]])
    Z += 0.05 * rng.standard_normal(Z.shape)
    variances = rng.uniform(0.0, 0.01, Z.shape) if known else None
    return fit_gp(MIXED, X, Z, [Prior.botorch(3)] * 2, kernel, variances)


def dense(gp: GaussianProcess, j: int) -> tuple[Callable[[Array, Array], Array], Array]:
    """The covariance function of output j by loops over pairs, and the covariance matrix of its targets."""
    fitted = gp.fitted[j]

    def k(A: Array, B: Array) -> Array:
        out = np.empty((len(A), len(B)))
        for (a, x), (b, y) in product(enumerate(A), enumerate(B)):
            apart = [
                2.0 * (x[c] != y[c]) if kind == "category" else (x[c] - y[c]) ** 2
                for c, kind in enumerate(gp.inputs.kind)
            ]
            out[a, b] = fitted.scale * correlation(gp.kernel, np.array((apart / fitted.lengthscales**2).sum()))
        return out

    noise = np.full(len(gp.X), fitted.noise + fitted.nugget * fitted.scale)
    if gp.variances is not None:
        noise += gp.variances[:, j]
    return k, k(gp.X, gp.X) + np.diag(noise)


# -- kernels -------------------------------------------------------------------------------------------------------------


def test_matern_correlation_has_the_known_value() -> None:
    """(1 + sqrt 5 + 5/3) exp(-sqrt 5) at distance 1: equation 4.17 of Rasmussen and Williams, by mpmath."""
    assert correlation("matern52", np.array(1.0)) == pytest.approx(0.52399410883182, abs=1e-13)
    assert correlation("rbf", np.array(1.0)) == pytest.approx(0.606530659712633, abs=1e-13)


@pytest.mark.parametrize("kernel", KERNELS)
def test_slope_is_minus_twice_the_derivative(kernel: Kernel) -> None:
    r2, step = np.array([1e-3, 0.1, 1.0, 9.0]), 1e-6
    by_differences = -(correlation(kernel, r2 + step) - correlation(kernel, r2 - step)) / step
    assert correlation_and_slope(kernel, r2)[1] == pytest.approx(by_differences, rel=1e-4)


@given(st.integers(2, 6), st.integers(0, 10**6), st.sampled_from(KERNELS), st.floats(0.05, 50.0))
def test_kernel_with_categories_is_positive_definite(levels: int, seed: int, kernel: Kernel, length: float) -> None:
    """Every matrix over distinct rows, a category among the columns, has no negative eigenvalue."""
    rng = np.random.default_rng(seed)
    inputs = Inputs(("category", "float", "category"), (levels, 0, 2), (0, 1, 2))
    X = np.column_stack([rng.integers(levels, size=30), rng.random(30), rng.integers(2, size=30)])
    features = inputs.features(X)
    rates = np.full((1, features.shape[1]), 1.0 / length)
    C = prior_correlation(kernel, features, features, rates)[0]
    assert np.linalg.eigvalsh(C).min() > -1e-12 * len(C)
    assert np.all((C >= 0.0) & (C <= 1.0)) and np.allclose(np.diagonal(C), 1.0)


def test_two_different_categories_are_equally_far_apart_whichever_they_are() -> None:
    X = np.column_stack([np.full(4, 0.5), np.arange(4.0), np.full(4, 0.5)])
    features = MIXED.features(X)
    C = prior_correlation("rbf", features, features, np.full((1, features.shape[1]), 1.0 / 0.7))[0]
    assert C == pytest.approx(np.where(np.eye(4) > 0, 1.0, np.exp(-1.0 / 0.7**2)))


# -- the posterior against brute force -------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_posterior_is_that_of_the_textbook(kernel: Kernel, known: bool) -> None:
    """Means, variances and covariances by equations 2.25 and 2.26 of Rasmussen and Williams, with explicit inverses."""
    gp, X = model(kernel, known), rows(12, np.random.default_rng(1))
    mean, variance = gp.mean_variance(X)
    covariance = gp.covariance(X)
    for j in range(2):
        k, K = dense(gp, j)
        solved = np.linalg.solve(K, k(gp.X, X))
        expected = k(X, X) - k(X, gp.X) @ solved
        centre = gp.fitted[j].mean
        assert mean[:, j] == pytest.approx(centre + solved.T @ (gp.Z[:, j] - centre), abs=1e-9)
        assert variance[:, j] == pytest.approx(np.diagonal(expected), abs=1e-9)
        assert covariance[j] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_leave_one_out_is_that_of_n_models_with_one_row_less(kernel: Kernel, known: bool) -> None:
    gp = model(kernel, known)
    means, variances = gp.leave_one_out()
    for i in range(len(gp.X)):
        others = np.arange(len(gp.X)) != i
        for j in range(2):
            _, K = dense(gp, j)
            weights = np.linalg.solve(K[np.ix_(others, others)], K[others, i])
            centre = gp.fitted[j].mean
            assert means[i, j] == pytest.approx(centre + weights @ (gp.Z[others, j] - centre), abs=1e-8)
            assert variances[i, j] == pytest.approx(K[i, i] - weights @ K[others, i], abs=1e-8)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_given_is_the_model_made_from_scratch_with_the_same_hyperparameters(kernel: Kernel, known: bool) -> None:
    gp, rng = model(kernel, known), np.random.default_rng(2)
    more, values = rows(5, rng), rng.standard_normal((5, 2))
    variances = rng.uniform(0.0, 0.01, (5, 2)) if known else None
    grown = gp.given(more, values, variances)
    together = None if gp.variances is None or variances is None else np.vstack([gp.variances, variances])
    scratch = condition(MIXED, np.vstack([gp.X, more]), np.vstack([gp.Z, values]), gp.fitted, kernel, together)
    X = rows(40, rng)
    for a, b in zip(grown.mean_variance(X), scratch.mean_variance(X), strict=True):
        assert a == pytest.approx(b, abs=1e-8)
    for a, b in zip(grown.leave_one_out(), scratch.leave_one_out(), strict=True):
        assert a == pytest.approx(b, abs=1e-8)
    assert len(gp.X) == 25, "the old posterior is as it was"


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_are_those_of_finite_differences(kernel: Kernel) -> None:
    gp, X = model(kernel), rows(6, np.random.default_rng(3))
    means, variances = gp.gradients(X)
    for q, j in product(range(len(X)), range(2)):
        for part, got in ((0, means), (1, variances)):
            expected = approx_fprime(X[q], lambda x, j=j, part=part: gp.mean_variance(x[None])[part][0, j], 1e-7)
            expected[1] = 0.0  # a category has no slope
            assert got[q, j] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_samples_have_the_moments_of_the_posterior() -> None:
    """4000 draws: means within 5 standard errors, covariances within 0.1 of the prior variance."""
    gp, X = model(), rows(5, np.random.default_rng(4))
    draws = gp.sample(X, 4000, np.random.default_rng(0))
    mean, variance = gp.mean_variance(X)
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 5.0 * np.sqrt(variance / 4000))
    for j in range(2):
        assert np.cov(draws[:, :, j].T) == pytest.approx(gp.covariance(X)[j], abs=0.1 * variance[:, j].max())


def test_each_output_alone_is_the_output_among_others() -> None:
    gp, X = model(known=True), rows(7, np.random.default_rng(5))
    for j in range(2):
        alone = gp.output(j)
        assert alone.outputs == 1
        for a, b in zip(alone.mean_variance(X), gp.mean_variance(X), strict=True):
            assert a[:, 0] == pytest.approx(b[:, j], abs=1e-12)


def test_hyperparameters_are_what_condition_needs() -> None:
    gp = model()
    saved = gp.hyperparameters()
    fitted = [
        Fitted(
            saved["lengthscales"][j],
            float(saved["scale"][j]),
            float(saved["noise"][j]),
            float(saved["mean"][j]),
            float(saved["nugget"][j]),
            0.0,
            0,
        )
        for j in range(2)
    ]
    again = condition(MIXED, gp.X, gp.Z, fitted, saved["kernel"])
    assert np.array_equal(again.factors, gp.factors)


def test_process_satisfies_the_protocols() -> None:
    gp = model()
    surrogate: Surrogate = fit_gp
    posterior: Posterior = gp
    assert isinstance(surrogate, Surrogate) and isinstance(posterior, Posterior)
    assert not isinstance(np.zeros(3), Posterior) and not isinstance(3, Surrogate)


# -- the fit ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("prior", [Prior.botorch(3), Prior.noiseless(3, 1e-6)])
@pytest.mark.parametrize("n", [20, 401])
def test_gradient_of_the_fit_is_that_of_finite_differences(kernel: Kernel, prior: Prior, n: int) -> None:
    """With the squared differences kept (up to 400 rows) and without."""
    rng = np.random.default_rng(6)
    X = rows(n, rng)
    z, variances = rng.standard_normal(n), rng.uniform(0.01, 0.1, n)
    objective = Objective(MIXED, X, kernel, prior)
    theta = objective.start() + 0.3
    _, got = objective(theta, z, variances)
    expected = [
        (objective(theta + step, z, variances)[0] - objective(theta - step, z, variances)[0]) / 2e-5
        for step in 1e-5 * np.eye(objective.size)
    ]
    assert got == pytest.approx(np.array(expected), rel=1e-5, abs=1e-8)


def test_fit_finds_the_noise_and_the_columns_that_matter() -> None:
    rng = np.random.default_rng(7)
    X = rng.random((120, 3))
    y = np.sin(6 * X[:, 0]) + 0.1 * rng.standard_normal(120)
    fitted = fit_map(Inputs.continuous(3), X, (y - y.mean()) / y.std(), Prior.botorch(3))
    assert np.sqrt(fitted.noise) * y.std() == pytest.approx(0.1, rel=0.25)
    assert fitted.lengthscales[0] < 0.5 < 3.0 < fitted.lengthscales[1:].min()


def test_fit_does_not_depend_on_the_order_of_rows_or_columns() -> None:
    rng = np.random.default_rng(8)
    X, inputs = rng.random((30, 3)), Inputs.continuous(3)
    z = np.cos(4 * X[:, 0]) + X[:, 1] ** 2
    prior, order, swap = Prior.botorch(3), rng.permutation(30), np.array([2, 0, 1])
    plain, mixed = fit_map(inputs, X, z, prior), fit_map(inputs, X[order][:, swap], z[order], prior)
    assert mixed.lengthscales == pytest.approx(plain.lengthscales[swap], rel=0.02)
    assert mixed.value == pytest.approx(plain.value, abs=1e-5)


def test_region_model_finds_the_edge_between_the_rows_that_mark_it() -> None:
    rng = np.random.default_rng(9)
    X = rng.random((60, 2))
    fails = X @ [1.0, 0.7] > 1.0
    gp = fit_region(Inputs.continuous(2), X[~fails], X[fails])
    T = rng.random((2000, 2))
    excess = T @ [1.0, 0.7] - 1.0
    clear = np.abs(excess) > 0.1
    assert ((gp.mean_variance(T)[0][:, 0] > 0) == (excess > 0))[clear].mean() > 0.99


# -- trouble ---------------------------------------------------------------------------------------------------------------

CLOSE = np.full((500, 2), 0.5) + 1e-9 * np.random.default_rng(0).standard_normal((500, 2))
HARD = {
    "one row": (np.array([[0.3, 0.4]]), np.array([1.0])),
    "constant": (np.random.default_rng(1).random((20, 2)), np.zeros(20)),
    "same row": (np.full((20, 2), 0.5), np.arange(20.0)),
    "500 nearly equal rows": (CLOSE, np.random.default_rng(2).standard_normal(500)),
    "a jump": (np.random.default_rng(3).random((40, 2)), np.repeat([-1.0, 1.0], 20)),
    "far-out values": (np.random.default_rng(4).random((20, 2)), np.append(np.zeros(19), 1e8)),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("prior", [Prior.botorch(2), Prior.noiseless(2)], ids=["learnt noise", "no noise"])
def test_fit_survives(name: str, prior: Prior) -> None:
    X, z = HARD[name]
    with np.errstate(all="ignore"):
        gp = fit_gp(Inputs.continuous(2), X, z[:, None], [prior])
        mean, variance = gp.mean_variance(np.random.default_rng(5).random((50, 2)))
    assert np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0.0).all()


def test_values_that_cannot_be_factored_are_an_arithmetic_error() -> None:
    fitted = Fitted(np.array([np.nan]), 1.0, 0.0, 0.0, 0.0, 0.0, 0)
    with pytest.raises(FloatingPointError, match="not finite"):
        condition(Inputs.continuous(1), np.array([[0.1], [0.2]]), np.zeros((2, 1)), [fitted])


def test_root_of_a_singular_covariance_is_a_root() -> None:
    root = root_of(np.ones((4, 4)), 1.0)
    assert root @ root.T == pytest.approx(np.ones((4, 4)), abs=1e-6)


# -- warps -----------------------------------------------------------------------------------------------------------------

VALUES = arrays(float, st.integers(2, 30), elements=st.floats(-1e12, 1e12, allow_subnormal=False))


@given(VALUES)
def test_constraint_warps_keep_the_threshold_exactly_and_every_sign(values: Array) -> None:
    for warp in constraint_warps(values).values():
        assert warp.forward(np.zeros(1))[0] == 0.0
        z = warp.forward(values)
        visible = np.abs(values) > 1e-6 * np.abs(values).max()
        assert np.all(np.sign(z)[visible] == np.sign(values)[visible])


@given(VALUES, st.sampled_from([objective_warps, constraint_warps]))
def test_warps_never_decrease_and_their_slope_is_positive(
    values: Array, candidates: Callable[[Array], dict[str, Warp]]
) -> None:
    for warp in candidates(values).values():
        z = warp.forward(np.sort(values))
        assert np.isfinite(z).all()
        assert all(b >= a for a, b in pairwise(z.tolist()))
        assert np.all(warp.slope(values) > 0.0)


@given(VALUES, st.sampled_from([objective_warps, constraint_warps]))
def test_warps_invert_between_their_fences(values: Array, candidates: Callable[[Array], dict[str, Warp]]) -> None:
    for warp in candidates(values).values():
        z = warp.forward(values)
        inside = (z > warp.low) & (z < warp.high)
        away = np.abs(values - warp.anchor)
        reach = np.abs(values).max() if np.isinf(warp.width) else np.hypot(warp.width, away) + abs(warp.anchor)
        assert np.all(np.abs(warp.inverse(z) - values)[inside] <= 1e-9 * np.broadcast_to(reach, z.shape)[inside])


@given(st.floats(-5.0, 5.0), st.floats(0.01, 100.0), st.floats(-1.0, 1.0), st.floats(0.1, 10.0), st.floats(-50.0, 50.0))
def test_slope_of_a_warp_is_its_derivative(
    anchor: float, width: float, centre: float, factor: float, at: float
) -> None:
    warp = Warp(anchor, width, centre, factor)
    h = 1e-6 * max(width, abs(at - anchor))
    ends = warp.forward(np.array([at - h, at + h]))
    assert warp.slope(np.array([at]))[0] == pytest.approx((ends[1] - ends[0]) / (2 * h), rel=1e-4)


def test_values_of_any_size_become_tame() -> None:
    y = np.array([1e300, -1e300, 0.0, 1.0, np.finfo(float).max])
    for candidates in (objective_warps, constraint_warps):
        for warp in candidates(y).values():
            assert np.isfinite(warp.forward(y)).all() and np.isfinite(warp.slope(y)).all()
    assert LARGEST**2 < np.inf


def test_the_warp_of_data_over_decades_is_logarithmic_and_of_plain_data_linear() -> None:
    """Values that are the exponential of a smooth function are explained best after a logarithm, and only those."""
    X = np.random.default_rng(10).random((40, 2))
    smooth = np.sin(3 * X[:, 0]) + X[:, 1]
    objective = Objective(Inputs.continuous(2), X, "rbf", Prior.noiseless(2))
    names = {}
    for kind, y in (("plain", smooth), ("decades", np.exp(8.0 * smooth))):
        names[kind] = fit_warped(objective, y, objective_warps(y))[0]
    assert names["plain"] == "linear" and names["decades"].startswith("low")
