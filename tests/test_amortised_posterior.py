"""The exact algebra of weighted Gaussian processes: against dense formulas, against `surrogates.gp`, against itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from amortised_models import FIRST, MIXED, SECOND, data, model, rows
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal

from surrogates.amortised.components import KERNELS, Components
from surrogates.amortised.posterior import AmortisedGP, condition_components
from surrogates.columns import Inputs
from surrogates.gp import condition
from surrogates.kernels import correlation
from surrogates.map_fit import Fitted

Array = NDArray[np.float64]


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
    return part.centre + solved.T @ (gp.Z[:, j] - part.centre), prior(part, c, T, T) - cross.T @ solved


def log_evidence(part: Components, X: Array, z: Array, variances: Array | None) -> Array:
    """(K,) log marginal likelihoods."""
    return np.array(
        [
            multivariate_normal.logpdf(
                z - part.centre, cov=prior(part, c, X, X) + np.diag(noise(part, c, variances, len(X)))
            )
            for c in range(len(part))
        ]
    )


# -- against dense formulas --------------------------------------------------------------------------------------------


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


def test_many_rows_and_points_go_in_blocks_with_the_same_result() -> None:
    """230 rows are more than a block and than a leaf of the inversion; 700 points more than are treated at once."""
    rng = np.random.default_rng(21)
    X, T = rows(230, rng), rows(700, rng)
    z = np.sin(5 * X[:, 0]) + X[:, 2] + 0.1 * rng.standard_normal(230)
    gp = condition_components(MIXED, X, z[:, None], [FIRST])
    moments = gp.predictor.forward(T)
    features, points = MIXED.features(X), MIXED.features(T)
    for c in range(3):
        rate = 1.0 / FIRST.lengthscales[c][MIXED.owner]
        k, cross = (
            correlation(KERNELS[FIRST.kernel[c]], cdist(features * rate, B * rate, "sqeuclidean")) + 10.0
            for B in (features, points)
        )
        K = FIRST.scale[c] * (k + FIRST.noise[c] ** 2 * np.eye(230))
        solved = np.linalg.solve(K, FIRST.scale[c] * cross)
        assert gp.inverse[c] @ K @ gp.inverse[c].T == pytest.approx(FIRST.scale[c] * np.eye(230), abs=1e-9)
        assert moments.mean[c, :, 0] == pytest.approx(FIRST.centre + solved.T @ (z - FIRST.centre), abs=1e-8)
        spread = FIRST.scale[c] * (11.0 - (cross * solved).sum(axis=0))
        assert moments.variance[c] == pytest.approx(spread, abs=1e-8)
    one = condition_components(MIXED, X, z[:, None], [FIRST.take(np.array([1, 1]))])
    assert one.mean_variance(T)[0][:, 0] == pytest.approx(moments.mean[1, :, 0], abs=1e-10)
    for few, many in zip(gp.mean_variance(T[:3]), gp.mean_variance(T), strict=True):
        assert few == pytest.approx(many[:3], abs=1e-11)


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


# -- one component is a Gaussian process -------------------------------------------------------------------------------


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


# -- new rows ----------------------------------------------------------------------------------------------------------


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


def test_jitter_that_the_old_rows_needed_is_given_to_the_new_ones_too() -> None:
    """A jitter is noise like any other: noise sd 0.1 is the jitter 0.01 without noise, for new rows and for paths."""
    X, Z, _ = data()
    noisy = Components.single("rbf", np.full(3, 0.6), 0.1, 2.0)
    plain = condition_components(MIXED, X, Z[:, :1], [noisy])
    disguised = replace(plain, components=(replace(noisy, noise=np.zeros(1)),), jitter=np.array([0.01]))
    T = rows(3, np.random.default_rng(22))
    assert disguised.given(T, np.ones((3, 1))).inverse == pytest.approx(plain.given(T, np.ones((3, 1))).inverse)
    first, second = (gp.paths(1, np.random.default_rng(23))[0](T) for gp in (plain, disguised))
    assert first == pytest.approx(second)


def test_a_new_row_favours_the_component_that_expected_it() -> None:
    lengths = np.array([[0.1], [10.0]])
    two = Components(np.zeros(2, int), lengths, np.full(2, 0.05), np.ones(2), np.log([0.5, 0.5]))
    gp = condition_components(Inputs.continuous(1), np.array([[0.0], [1.0]]), np.zeros((2, 1)), [two])
    flat, wild = (np.exp(gp.given(np.array([[0.5]]), np.array([[z]])).log_weight[0]) for z in (0.0, 1.5))
    assert flat < 0.5 < 0.99 < wild


def test_new_rows_that_no_component_believes_leave_the_weights() -> None:
    gp = model()
    assert gp.given(gp.X[:1], np.full((1, 2), 1e200)).log_weight == pytest.approx(gp.log_weight)
