"""The exact algebra of weighted Gaussian processes: against dense formulas, against `surrogates.gp`, against itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import approx_fprime
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from bbopt.errors import UsageError
from surrogates.amortised.components import KERNELS, Components, Diagnosis, components_of
from surrogates.amortised.posterior import AmortisedGP, condition_components
from surrogates.columns import Inputs
from surrogates.gp import condition
from surrogates.kernels import correlation
from surrogates.map_fit import Fitted
from surrogates.protocol import Posterior, Predictive

Array = NDArray[np.float64]
MIXED = Inputs(("float", "category", "int"), (0, 4, 7), (0, 1, 2))
FIRST = Components(
    np.array([0, 1, 2]), np.array([[0.3, 1.0, 0.8], [0.5, 0.7, 1.5], [0.9, 2.0, 0.6]]), np.array([0.1, 0.03, 0.2]),
    np.array([1.0, 2.0, 0.5]), np.log([0.2, 0.5, 0.3]), 10.0,
)  # fmt: skip
SECOND = Components(
    np.array([2, 2]), np.array([[0.4, 1.0, 1.0], [2.0, 0.5, 0.3]]), np.array([0.05, 0.1]), np.array([1.0, 0.7]),
    np.log([0.6, 0.4]), 0.0,
)  # fmt: skip


def rows(n: int, rng: np.random.Generator) -> Array:
    """Rows of MIXED."""
    return np.column_stack([rng.random(n), rng.integers(4, size=n), rng.integers(7, size=n) / 6.0])


def data(n: int = 15, seed: int = 0, known: bool = False) -> tuple[Array, Array, Array | None]:
    """Rows of MIXED, two targets, and known variances or None."""
    rng = np.random.default_rng(seed)
    X = rows(n, rng)
    Z = np.column_stack([np.sin(5 * X[:, 0]) + 0.3 * X[:, 1] - 0.5, X[:, 2] ** 2 - X[:, 0]])
    return X, Z + 0.05 * rng.standard_normal(Z.shape), rng.uniform(0.0, 0.02, Z.shape) if known else None


def model(known: bool = False, n: int = 15, seed: int = 0) -> AmortisedGP:
    """FIRST and SECOND conditioned on the data."""
    X, Z, variances = data(n, seed, known)
    return condition_components(MIXED, X, Z, [FIRST, SECOND], variances)


def prior(part: Components, c: int, A: Array, B: Array) -> Array:
    """Prior covariances of component c, by a loop over pairs of rows."""
    out = np.empty((len(A), len(B)))
    for (a, x), (b, y) in product(enumerate(A), enumerate(B)):
        apart = [
            2.0 * (x[k] != y[k]) if kind == "category" else (x[k] - y[k]) ** 2 for k, kind in enumerate(MIXED.kind)
        ]
        r2 = np.array((apart / part.lengthscales[c] ** 2).sum())
        out[a, b] = part.scale[c] * (correlation(KERNELS[part.kernel[c]], r2) + part.offset)
    return out


def noise(part: Components, c: int, variances: Array | None, n: int) -> Array:
    """(n,) noise variances of component c."""
    return np.asarray(part.scale[c] * part.noise[c] ** 2 + (np.zeros(n) if variances is None else variances))


def dense(gp: AmortisedGP, j: int, c: int, T: Array) -> tuple[Array, Array]:
    """(q,) means and (q, q) covariances of one component, by equations 2.25 and 2.26 of Rasmussen and Williams."""
    part = gp.components[j]
    K = prior(part, c, gp.X, gp.X)
    K += np.diag(noise(part, c, None if gp.variances is None else gp.variances[:, j], len(gp.X)))
    cross = prior(part, c, gp.X, T)
    solved = np.linalg.solve(K, cross)
    return solved.T @ gp.Z[:, j], prior(part, c, T, T) - cross.T @ solved


def log_evidence(part: Components, X: Array, z: Array, variances: Array | None) -> Array:
    """(K,) log marginal likelihoods."""
    return np.array(
        [
            multivariate_normal.logpdf(z, cov=prior(part, c, X, X) + np.diag(noise(part, c, variances, len(X))))
            for c in range(len(part))
        ]
    )


# -- against dense formulas ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
def test_every_component_is_that_of_the_textbook(known: bool) -> None:
    gp, T = model(known), rows(9, np.random.default_rng(1))
    moments, covariance = gp.predictor.forward(T), gp.predictor.covariance(T)
    at = [(j, c) for j in range(2) for c in range(len(gp.components[j]))]
    assert gp.owner.tolist() == [j for j, _ in at]
    for flat, (j, c) in enumerate(at):
        mean, expected = dense(gp, j, c, T)
        assert moments.mean[flat, :, 0] == pytest.approx(mean, abs=1e-9)
        assert moments.variance[flat] == pytest.approx(np.diagonal(expected), abs=1e-9)
        assert covariance[flat] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("known", [False, True])
def test_mixture_obeys_the_law_of_total_variance(known: bool) -> None:
    gp, T = model(known), rows(9, np.random.default_rng(1))
    mean, variance = gp.mean_variance(T)
    covariance = gp.covariance(T)
    for j, part in enumerate(gp.components):
        each = [dense(gp, j, c, T) for c in range(len(part))]
        weights = np.exp(part.log_weight)
        centre = sum(w * m for w, (m, _) in zip(weights, each, strict=True))
        square = sum(w * (C + np.outer(m, m)) for w, (m, C) in zip(weights, each, strict=True))
        expected = square - np.outer(centre, centre)
        assert mean[:, j] == pytest.approx(centre, abs=1e-9)
        assert covariance[j] == pytest.approx(expected, abs=1e-8)
        assert variance[:, j] == pytest.approx(np.diagonal(expected), abs=1e-8)


def test_an_infinite_offset_is_the_generalised_least_squares_mean() -> None:
    """Section 2.7 of Rasmussen and Williams: a constant mean with a flat prior. 1e7 is near enough to infinite."""
    X, Z, _ = data()
    one = replace(SECOND.take(np.array([0])), offset=1e7)
    gp, T = condition_components(MIXED, X, Z[:, :1], [one]), rows(7, np.random.default_rng(2))
    bare = replace(one, offset=0.0)
    K = prior(bare, 0, X, X) + np.diag(noise(bare, 0, None, len(X)))
    ones, cross = np.ones(len(X)), prior(bare, 0, X, T)
    beta = ones @ np.linalg.solve(K, Z[:, 0]) / (ones @ np.linalg.solve(K, ones))
    missed = 1.0 - ones @ np.linalg.solve(K, cross)
    mean = beta + cross.T @ np.linalg.solve(K, Z[:, 0] - beta)
    variance = np.diagonal(prior(bare, 0, T, T) - cross.T @ np.linalg.solve(K, cross))
    variance = variance + missed**2 / (ones @ np.linalg.solve(K, ones))
    assert gp.mean_variance(T)[0][:, 0] == pytest.approx(mean, abs=1e-5)
    assert gp.mean_variance(T)[1][:, 0] == pytest.approx(variance, abs=1e-5)


@pytest.mark.parametrize("known", [False, True])
def test_leave_one_out_is_that_of_n_mixtures_with_one_row_less(known: bool) -> None:
    """Weights that are posterior probabilities without the row give, after that row, the weights of the full model."""
    X, Z, variances = data(9, 3, known)
    before = [np.log([0.3, 0.3, 0.4]), np.log([0.9, 0.1])]
    parts = [
        part.weighted(w + log_evidence(part, X, Z[:, j], None if variances is None else variances[:, j]))
        for j, (part, w) in enumerate(zip((FIRST, SECOND), before, strict=True))
    ]
    gp = condition_components(MIXED, X, Z, parts, variances)
    means, spreads = gp.leave_one_out()
    for i, j in product(range(len(X)), range(2)):
        others = np.arange(len(X)) != i
        column = None if variances is None else variances[others, j]
        part = (FIRST, SECOND)[j].weighted(
            before[j] + log_evidence((FIRST, SECOND)[j], X[others], Z[others, j], column)
        )
        less = condition_components(
            MIXED, X[others], Z[others, j, None], [part], None if column is None else column[:, None]
        )
        moments = less.predictor.forward(X[i : i + 1])
        own = None if variances is None else variances[i : i + 1, j]
        total = moments.variance[:, 0] + np.array([noise(part, c, own, 1)[0] for c in range(len(part))])
        weights, mean = np.exp(part.log_weight), moments.mean[:, 0, 0]
        assert means[i, j] == pytest.approx(weights @ mean, abs=1e-8)
        assert spreads[i, j] == pytest.approx(weights @ (total + (mean - weights @ mean) ** 2), abs=1e-8)


# -- one component is a Gaussian process ---------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_one_component_is_the_gaussian_process_of_the_neighbour(kernel: str, known: bool) -> None:
    """Mean 0 known, so offset 0. Everything that both offer, to 1e-8."""
    X, Z, variances = data(20, 4, known)
    lengths, scales, sds = [np.array([0.4, 1.0, 0.9]), np.array([0.7, 0.6, 2.0])], [1.3, 0.6], [0.05, 0.2]
    index = KERNELS.index(kernel)
    parts = [
        Components.single(KERNELS[index], lengths[j], sds[j], scales[j], offset=0.0) for j in range(2)
    ]  # fmt: skip
    fitted = [Fitted(lengths[j], scales[j], scales[j] * sds[j] ** 2, 0.0, 0.0, 0.0, 0) for j in range(2)]
    one = condition_components(MIXED, X, Z, parts, variances)
    other = condition(MIXED, X, Z, fitted, KERNELS[index], variances)
    rng = np.random.default_rng(5)
    T, more, values = rows(30, rng), rows(4, rng), rng.standard_normal((4, 2))
    spread = None if variances is None else rng.uniform(0.0, 0.02, (4, 2))
    for a, b in ((one, other), (one.given(more, values, spread), other.given(more, values, spread))):
        pairs = [*zip(a.mean_variance(T), b.mean_variance(T), strict=True)]
        pairs += zip(a.gradients(T), b.gradients(T), strict=True)
        pairs += [(a.covariance(T), b.covariance(T)), *zip(a.leave_one_out(), b.leave_one_out(), strict=True)]
        pairs += [(a.output(1).mean_variance(T)[0], b.output(1).mean_variance(T)[0])]
        for mine, theirs in pairs:
            assert mine == pytest.approx(theirs, abs=1e-8)


# -- new rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("count", [1, 5])
def test_given_is_the_posterior_from_scratch_with_the_right_weights(known: bool, count: int) -> None:
    """Weights: those before times the evidence of all rows over the evidence of the first ones."""
    gp, rng = model(known), np.random.default_rng(6)
    more, values = rows(count, rng), 0.3 * rng.standard_normal((count, 2))
    spread = rng.uniform(0.0, 0.02, (count, 2)) if known else None
    X, Z = np.vstack([gp.X, more]), np.vstack([gp.Z, values])
    both = None if gp.variances is None or spread is None else np.vstack([gp.variances, spread])
    parts = []
    for j, part in enumerate(gp.components):
        old = log_evidence(part, gp.X, gp.Z[:, j], None if gp.variances is None else gp.variances[:, j])
        new = log_evidence(part, X, Z[:, j], None if both is None else both[:, j])
        parts.append(part.weighted(part.log_weight + new - old))
    grown, fantasies = gp.given(more, values, spread), gp.given(more, values, spread, reweight=False)
    T = rows(40, rng)
    for got, components in ((grown, parts), (fantasies, gp.components)):
        scratch = condition_components(MIXED, X, Z, components, both)
        assert got.log_weight == pytest.approx(scratch.log_weight, abs=1e-8)
        for a, b in zip(got.mean_variance(T), scratch.mean_variance(T), strict=True):
            assert a == pytest.approx(b, abs=1e-8)
        for a, b in zip(got.leave_one_out(), scratch.leave_one_out(), strict=True):
            assert a == pytest.approx(b, abs=1e-8)
        assert got.inverse == pytest.approx(scratch.inverse, rel=1e-8, abs=1e-8)
    assert len(gp.X) == 15, "the old posterior is as it was"


def test_rows_one_by_one_are_all_rows_at_once() -> None:
    gp, rng = model(), np.random.default_rng(7)
    more, values = rows(6, rng), 0.3 * rng.standard_normal((6, 2))
    slowly = gp
    for i in range(6):
        slowly = slowly.given(more[i : i + 1], values[i : i + 1])
    at_once = gp.given(more, values)
    assert slowly.log_weight == pytest.approx(at_once.log_weight, abs=1e-9)
    assert slowly.inverse == pytest.approx(at_once.inverse, abs=1e-9)
    assert gp.given(more[:0], values[:0]).log_weight == pytest.approx(gp.log_weight)


def test_a_new_row_favours_the_component_that_expected_it() -> None:
    lengths = np.array([[0.1], [10.0]])
    two = Components(np.zeros(2, int), lengths, np.full(2, 0.05), np.ones(2), np.log([0.5, 0.5]))
    gp = condition_components(Inputs.continuous(1), np.array([[0.0], [1.0]]), np.zeros((2, 1)), [two])
    flat, wild = (np.exp(gp.given(np.array([[0.5]]), np.array([[z]])).log_weight[0]) for z in (0.0, 1.5))
    assert flat < 0.5 < 0.99 < wild


def test_new_rows_that_no_component_believes_leave_the_weights() -> None:
    gp = model()
    assert gp.given(gp.X[:1], np.full((1, 2), 1e200)).log_weight == pytest.approx(gp.log_weight)


# -- gradients -----------------------------------------------------------------------------------------------------------


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


# -- tails and quantiles -------------------------------------------------------------------------------------------------


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


# -- components that do not work -------------------------------------------------------------------------------------------


def test_a_component_that_cannot_be_factored_weighs_nothing() -> None:
    X, Z, _ = data()
    for name, value in (
        ("lengthscales", np.nan),
        ("noise", np.nan),
        ("scale", np.inf),
        ("scale", 0.0),
        ("log_weight", -np.inf),
    ):
        array = getattr(FIRST, name).copy()
        array[1] = value
        gp = condition_components(MIXED, X, Z[:, :1], [replace(FIRST, **{name: array})])
        without = condition_components(MIXED, X, Z[:, :1], [FIRST.take(np.array([0, 2]))])
        assert len(gp.components[0]) == 2
        assert np.exp(gp.log_weight) == pytest.approx([0.4, 0.6])
        assert gp.mean_variance(X)[0] == pytest.approx(without.mean_variance(X)[0])


def test_none_left_is_an_arithmetic_error() -> None:
    X, Z, _ = data()
    bad = replace(SECOND, lengthscales=np.full((2, 3), np.nan))
    with pytest.raises(FloatingPointError, match="not finite under any of the 2 components of output 1"):
        condition_components(MIXED, X, Z, [FIRST, bad])


@pytest.mark.parametrize("kernel", range(3))
def test_rows_that_are_the_same_or_nearly_so_are_survived(kernel: int) -> None:
    """Without noise, 40 equal rows with different values, and 200 rows within 1e-9."""
    one = Components.single(KERNELS[kernel], np.full(2, 0.5), 0.0)
    rng = np.random.default_rng(18)
    near = 0.5 + 1e-9 * rng.standard_normal((200, 2))
    for X in (np.full((40, 2), 0.5), near, near[:1]):
        gp = condition_components(Inputs.continuous(2), X, rng.standard_normal((len(X), 1)), [one])
        gp = gp.given(np.vstack([X[:1]] * 2), np.zeros((2, 1)))
        T = np.vstack([rng.random((20, 2)), X[:3]])
        for part in (
            *gp.mean_variance(T),
            *gp.gradients(T),
            *gp.leave_one_out(),
            gp.quantiles(T, np.array([0.1, 0.9])),
        ):
            assert np.isfinite(part).all()
        assert np.all(gp.mean_variance(T)[1] > 0.0)


def test_wrong_shapes_are_named() -> None:
    X, Z, _ = data()
    with pytest.raises(UsageError, match="one set of components"):
        condition_components(MIXED, X, Z, [FIRST])
    with pytest.raises(UsageError, match="n > 0"):
        condition_components(MIXED, X[:0], Z[:0], [FIRST, SECOND])
    with pytest.raises(UsageError, match="expected K > 0 components"):
        replace(FIRST, noise=np.ones(2))
    with pytest.raises(UsageError, match="offset"):
        replace(FIRST, offset=-1.0)
    with pytest.raises(UsageError, match="pass all rows or none"):
        model().given(X[:1], Z[:1], np.ones((1, 2)))
    with pytest.raises(UsageError, match="pass all rows or none"):
        model(known=True).given(X[:1], Z[:1])
    with pytest.raises(UsageError, match="ends excluded"):
        model().quantiles(X, np.array([0.5, 1.0]))
    with pytest.raises(UsageError, match="at least 1"):
        FIRST.at_most(0)


# -- the set of components -------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 12), st.integers(0, 10**6))
def test_at_most_merges_equals_and_keeps_the_heaviest(kinds: list[int], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kind = np.array(kinds)
    weight = rng.dirichlet(np.ones(len(kind)))
    many = Components(kind % 3, 1.0 + kind[:, None], 0.1 * (1.0 + kind), np.ones(len(kind)), np.log(weight))
    few = many.at_most(count)
    sums = {k: weight[kind == k].sum() for k in set(kinds)}
    heaviest = sorted(sums.values(), reverse=True)[:count]
    assert np.exp(few.log_weight) == pytest.approx(np.array(heaviest) / sum(heaviest))
    assert len({*few.lengthscales[:, 0]}) == len(few) == min(count, len(sums))
    assert logsumexp(few.log_weight) == pytest.approx(0.0, abs=1e-12)
    assert 1.0 - 1e-12 <= few.effective() <= len(few) + 1e-9


def test_posterior_with_fewer_components_is_that_of_the_heaviest() -> None:
    X, Z, _ = data()
    twice = FIRST.take(np.array([0, 1, 2, 0, 1]))
    gp, T = condition_components(MIXED, X, Z, [twice, SECOND]), rows(5, np.random.default_rng(19))
    for count in (1, 2, 3, 10):
        few = gp.at_most(count)
        again = condition_components(MIXED, X, Z, [part.at_most(count) for part in gp.components])
        assert few.log_weight == pytest.approx(again.log_weight)
        for a, b in zip(few.mean_variance(T), again.mean_variance(T), strict=True):
            assert a == pytest.approx(b, abs=1e-12)
    for a, b in zip(gp.at_most(10).mean_variance(T), gp.mean_variance(T), strict=True):
        assert a == pytest.approx(b, abs=1e-10)


@given(st.integers(0, 10**6))
def test_order_of_rows_components_and_a_sign_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, Z, _ = data(10, seed % 100)
    T = rows(4, rng)
    turn, shuffle = rng.permutation(10), rng.permutation(3)
    plain = condition_components(MIXED, X, Z[:, :1], [FIRST])
    mixed = condition_components(MIXED, X[turn], -Z[turn, :1], [FIRST.take(shuffle)])
    assert mixed.mean_variance(T)[0] == pytest.approx(-plain.mean_variance(T)[0], abs=1e-9)
    assert mixed.mean_variance(T)[1] == pytest.approx(plain.mean_variance(T)[1], abs=1e-9)


def test_each_output_alone_is_the_output_among_others() -> None:
    gp, T = replace(model(known=True), diagnosis=(Diagnosis(2.0, "network"), Diagnosis(1.5, "given"))), data(5, 20)[0]
    for j in range(2):
        alone = gp.output(j)
        assert alone.outputs == 1 and alone.diagnosis == gp.diagnosis[j : j + 1]
        for a, b in zip(alone.mean_variance(T), gp.mean_variance(T), strict=True):
            assert a[:, 0] == pytest.approx(b[:, j], abs=1e-12)


def test_hyperparameters_are_what_conditioning_needs() -> None:
    gp = model(known=True)
    again = condition_components(MIXED, gp.X, gp.Z, components_of(gp.hyperparameters()), gp.variances)
    assert np.array_equal(again.inverse, gp.inverse) and np.array_equal(again.log_weight, gp.log_weight)


def test_posterior_satisfies_both_protocols() -> None:
    gp = model()
    posterior: Posterior = gp
    predictive: Predictive = gp
    assert isinstance(posterior, Posterior) and isinstance(predictive, Predictive)
