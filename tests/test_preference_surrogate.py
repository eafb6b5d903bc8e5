"""The process of utility: against BoTorch's PairwiseGP, its evidence's gradient, symmetries, and projection on pivots."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from bbopt.errors import UsageError
from surrogates.columns import Inputs
from surrogates.kernels import Kernel
from surrogates.preference import condition_preferences, fit_preferences
from surrogates.preference_fit import Comparisons, Evidence, Method, choose_pivots, hazard

Array = np.ndarray[Any, np.dtype[Any]]
LENGTHSCALES, SCALE = np.array([0.5, 0.7, 0.9]), 3.0


def judged(n: int, d: int, count: int, seed: int = 0, noise: float = 0.0) -> tuple[Array, Array]:
    """Rows (n, d), and pairs (c, 2) of a better and a worse one by a smooth utility."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, d))
    utility = -8.0 * ((X - 0.4) ** 2).sum(axis=1) + noise * rng.standard_normal(n)
    pairs = rng.integers(0, n, (count, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    first = utility[pairs[:, 0]] > utility[pairs[:, 1]]
    return X, np.where(first[:, None], pairs, pairs[:, ::-1])


@pytest.fixture
def quiet() -> Iterator[None]:
    """BoTorch and what it stands on warn of things that are theirs to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.usefixtures("quiet")
def test_mode_posterior_and_evidence_are_those_of_botorchs_pairwise_gp() -> None:
    import torch
    from botorch.models.pairwise_gp import PairwiseGP, PairwiseLaplaceMarginalLogLikelihood

    X, pairs = judged(14, 3, 30)
    ours = condition_preferences(Inputs.continuous(3), X, Comparisons.of(pairs), LENGTHSCALES, SCALE, method="laplace")
    theirs: Any = PairwiseGP(torch.from_numpy(X), torch.from_numpy(pairs.copy()), jitter=1e-9)
    theirs.covar_module.base_kernel.lengthscale = torch.from_numpy(LENGTHSCALES)
    theirs.covar_module.outputscale = torch.tensor(SCALE, dtype=torch.float64)
    theirs._update(theirs.datapoints)
    theirs.eval()
    z = (ours.mode[pairs[:, 0]] - ours.mode[pairs[:, 1]]) / np.sqrt(2.0)
    assert np.abs(z).max() < 3.0, "theirs is clamped at 3"
    np.testing.assert_allclose(ours.mode, theirs.utility.detach().numpy(), atol=1e-5)
    points = np.random.default_rng(1).random((6, 3))
    belief = theirs.posterior(torch.from_numpy(points))
    np.testing.assert_allclose(ours.mean_variance(points)[0][:, 0], belief.mean.detach().numpy()[:, 0], atol=1e-5)
    np.testing.assert_allclose(ours.covariance(points)[0], belief.covariance_matrix.detach().numpy(), atol=1e-5)
    theirs.train()
    target = PairwiseLaplaceMarginalLogLikelihood(theirs.likelihood, theirs)
    value = target(theirs(*theirs.train_inputs), theirs.train_targets).item()
    value -= sum(prior.log_prob(of(module)).sum().item() for _, module, prior, of, _ in target.named_priors())
    assert ours.evidence == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("scale", [0.5, 50.0])
def test_one_comparison_is_exact(scale: float) -> None:
    """Of one judgement the posterior's moments have closed forms (Rasmussen and Williams 2006, section 3.9)."""
    X = np.array([[0.2], [0.9]])
    model = condition_preferences(Inputs.continuous(1), X, Comparisons.of([[0, 1]]), np.array([0.5]), scale)
    prior = 2.0 * scale * (1.0 - np.exp(-0.5 * (0.7 / 0.5) ** 2))  # of the difference
    r, spread = 2.0 / np.sqrt(2.0 * np.pi), np.sqrt(2.0 + prior)
    difference = np.array([1.0, -1.0])
    assert difference @ model.mean_variance(X)[0][:, 0] == pytest.approx(prior * r / spread, rel=1e-3)
    variance = prior - (prior * r / spread) ** 2
    assert difference @ model.covariance(X)[0] @ difference == pytest.approx(variance, rel=1e-3)
    assert model.evidence == pytest.approx(np.log(0.5), abs=1e-6)


def test_moments_of_a_ranking_by_sampling() -> None:
    """Four rows in order, all pairs, judgements that are clear: importance sampling from the prior, 400,000 draws.

    Matched moments are right to a few per cent of a standard deviation; Laplace's approximation is off by half of one.
    """
    X = np.array([[0.1, 0.2], [0.5, 0.9], [0.8, 0.4], [0.3, 0.6]])
    pairs = [[i, j] for i in range(4) for j in range(i + 1, 4)]
    inputs, lengthscales, scale = Inputs.continuous(2), np.array([0.5, 0.5]), 200.0
    none = condition_preferences(inputs, X, Comparisons.of([]), lengthscales, scale)
    drawn = none.sample(X, 400_000, np.random.default_rng(0))[:, :, 0]
    likelihood = np.ones(len(drawn))
    for i, j in pairs:
        likelihood *= ndtr((drawn[:, i] - drawn[:, j]) / np.sqrt(2.0))
    mean = likelihood @ drawn / likelihood.sum()
    sd = np.sqrt(likelihood @ (drawn - mean) ** 2 / likelihood.sum())
    errors = {}
    methods: tuple[Method, ...] = ("ep", "laplace")
    for method in methods:
        model = condition_preferences(inputs, X, Comparisons.of(pairs), lengthscales, scale, method=method)
        errors[method] = float(np.abs((model.mean_variance(X)[0][:, 0] - mean) / sd).max())
        if method == "ep":
            assert model.evidence == pytest.approx(np.log(likelihood.mean()), abs=0.1)
            np.testing.assert_allclose(np.sqrt(model.mean_variance(X)[1][:, 0]), sd, rtol=0.05)
    assert errors["ep"] < 0.05 < 0.3 < errors["laplace"], errors


@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
@pytest.mark.parametrize("pivots", [14, 8])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("method", ["ep", "laplace"])
def test_gradient_of_the_evidence_is_that_of_differences(
    kernel: Kernel, pivots: int, weighted: bool, method: Method
) -> None:
    """In function space and where the process is projected, with sparse and with dense products."""
    X, pairs = judged(14, 3, 30)
    weight = np.random.default_rng(2).random(len(pairs)) + 0.2 if weighted else None
    inputs = Inputs(("float", "float", "category"), (0, 0, 3), (0, 1, 2))
    X[:, 2] = np.floor(3.0 * X[:, 2])
    theta = np.log(np.append(LENGTHSCALES, SCALE))
    for sparse in (False, True):
        evidence = Evidence(inputs, X, Comparisons.of(pairs, weight), np.arange(pivots), kernel, method=method)
        evidence._sparse = sparse
        _, gradient = evidence(theta)
        found = []
        for step in 1e-5 * np.eye(4):
            found.append((evidence(theta + step)[0] - evidence(theta - step)[0]) / 2e-5)
        np.testing.assert_allclose(gradient, found, atol=2e-6 if method == "laplace" else 2e-4)


def test_fit_finds_more_evidence_than_where_it_starts_and_the_prior_counts() -> None:
    X, pairs = judged(30, 2, 120)
    told, inputs = Comparisons.of(pairs), Inputs.continuous(2)
    cold = fit_preferences(inputs, X, told)
    start = condition_preferences(inputs, X, told, np.array([0.1, 0.1]), 1.0)
    warm = fit_preferences(inputs, X, told, start=(cold.lengthscales, cold.scale))
    assert cold.evidence > start.evidence + 1.0
    assert warm.evaluations < cold.evaluations
    assert warm.evidence == pytest.approx(cold.evidence, abs=0.05)


def test_the_order_of_utilities_is_learnt() -> None:
    X, pairs = judged(40, 3, 400)
    model = fit_preferences(Inputs.continuous(3), X, Comparisons.of(pairs))
    fresh, truth = judged(200, 3, 600, seed=9)
    chance = model.probability(fresh[truth[:, 0]], fresh[truth[:, 1]])
    assert (chance > 0.5).mean() > 0.9
    assert np.log(chance).mean() > np.log(0.7)


def test_a_comparison_told_twice_has_twice_the_weight() -> None:
    X, pairs = judged(10, 2, 20)
    inputs, lengthscales = Inputs.continuous(2), np.array([0.5, 0.5])
    twice = condition_preferences(inputs, X, Comparisons.of(np.concatenate([pairs, pairs])), lengthscales, SCALE)
    heavy = condition_preferences(inputs, X, Comparisons.of(pairs, np.full(len(pairs), 2.0)), lengthscales, SCALE)
    np.testing.assert_allclose(twice.mode, heavy.mode, atol=1e-8)
    np.testing.assert_allclose(twice.inverse.T @ twice.inverse, heavy.inverse.T @ heavy.inverse, atol=1e-7)


def test_a_cycle_and_a_contradiction_leave_utilities_equal_but_better_known() -> None:
    X = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
    none = condition_preferences(Inputs.continuous(2), X, Comparisons.of([]), np.ones(2), SCALE)
    for pairs in ([[0, 1], [1, 2], [2, 0]], [[0, 1], [1, 0]]):
        model = condition_preferences(Inputs.continuous(2), X, Comparisons.of(pairs), np.ones(2), SCALE)
        np.testing.assert_allclose(model.mode, 0.0, atol=1e-9)
        known, prior = model.covariance(X)[0], none.covariance(X)[0]
        difference, level = np.array([1.0, -1.0, 0.0]), np.ones(3)
        assert difference @ known @ difference < 0.9 * (difference @ prior @ difference)
        assert level @ known @ level == pytest.approx(level @ prior @ level), "of the level nothing is known"


def test_without_comparisons_the_posterior_is_the_prior() -> None:
    model = condition_preferences(Inputs.continuous(2), np.eye(2), Comparisons.of([]), np.ones(2), SCALE)
    mean, variance = model.mean_variance(np.random.default_rng(0).random((4, 2)))
    assert not mean.any()
    np.testing.assert_allclose(variance, SCALE)


def test_projection_on_pivots_is_close_to_the_exact_process() -> None:
    """300 rows around an optimum: with a third of them as pivots the best rows' utilities are off by less than their errors."""
    rng = np.random.default_rng(3)
    X = np.clip(0.4 + rng.standard_normal((300, 4)) * rng.choice([0.05, 0.1, 0.3], (300, 1)), 0.0, 1.0)
    utility = -20.0 * ((X - 0.4) ** 2).sum(axis=1)
    pairs = rng.integers(0, 300, (900, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    first = utility[pairs[:, 0]] > utility[pairs[:, 1]]
    told = Comparisons.of(np.where(first[:, None], pairs, pairs[:, ::-1]))
    inputs, lengthscales = Inputs.continuous(4), np.full(4, 0.8)
    exact = condition_preferences(inputs, X, told, lengthscales, 100.0, most=300)
    projected = condition_preferences(inputs, X, told, lengthscales, 100.0, most=100)
    best = X[np.argsort(-utility)[:30]]
    mean, variance = exact.mean_variance(best)
    difference = projected.mean_variance(best)[0] - mean
    assert np.abs(difference - difference.mean()).max() < 0.5 * np.sqrt(variance).mean()
    assert np.abs(projected.evidence - exact.evidence) < 0.01 * abs(exact.evidence)


def test_pivots_are_different_rows_and_leave_little_variance() -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.random((20, 2)), np.full((20, 2), 0.5) + 1e-9 * rng.random((20, 2))])
    chosen = choose_pivots(Inputs.continuous(2), X, np.full(2, 0.3), "matern52", 21, np.ones(40))
    assert len(np.unique(chosen)) == 21 and (chosen < 20).sum() == 20
    heavy = choose_pivots(
        Inputs.continuous(2), X[:20], np.full(2, 0.3), "matern52", 5, np.where(np.arange(20) < 5, 1e6, 1.0)
    )
    assert heavy.tolist() == [0, 1, 2, 3, 4]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 12), count=st.integers(1, 60), scale=st.floats(1e-2, 1e4))
def test_any_comparisons_give_a_finite_posterior(seed: int, n: int, count: int, scale: float) -> None:
    """Contradictions, repeats, rows that are nearly the same, hardly any noise: finite, and never surer than certain."""
    rng = np.random.default_rng(seed)
    X = np.round(rng.random((n, 2)), int(rng.integers(1, 9)))
    X = np.unique(X, axis=0)
    pairs = rng.integers(0, len(X), (count, 2))
    told = Comparisons.of(pairs[pairs[:, 0] != pairs[:, 1]])
    model = condition_preferences(Inputs.continuous(2), X, told, rng.random(2) + 0.05, scale)
    mean, variance = model.mean_variance(rng.random((5, 2)))
    assert np.isfinite(mean).all() and (variance >= 0.0).all() and (variance <= scale * (1.0 + 1e-9)).all()
    chance = model.probability(X[:1], X[-1:])
    assert 0.0 <= chance[0] <= 1.0
    assert chance[0] + model.probability(X[-1:], X[:1])[0] == pytest.approx(1.0)


def test_draws_have_the_posteriors_mean_and_covariance() -> None:
    X, pairs = judged(12, 2, 30)
    model = condition_preferences(Inputs.continuous(2), X, Comparisons.of(pairs), np.full(2, 0.5), SCALE)
    drawn = model.sample(X[:3], 20_000, np.random.default_rng(0))[:, :, 0]
    np.testing.assert_allclose(drawn.mean(axis=0), model.mean_variance(X[:3])[0][:, 0], atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), model.covariance(X[:3])[0], atol=0.08)


def test_hazard_is_accurate_in_both_tails() -> None:
    """phi(z) / Phi(z) tends to -z from above, and to phi(z); the value at 1 from tables of the normal distribution."""
    np.testing.assert_allclose(hazard(np.array([1.0])), 0.24197072 / 0.84134475, rtol=1e-7)
    np.testing.assert_allclose(hazard(np.array([-1e4])), 1e4, rtol=1e-7)
    assert 0.0 <= hazard(np.array([40.0]))[0] < 1e-300


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
def test_the_botorch_model_has_the_same_posterior_and_slopes(kernel: Kernel) -> None:
    import torch

    X, pairs = judged(14, 3, 30)
    X[:, 2] = np.floor(3.0 * X[:, 2])
    inputs = Inputs(("float", "float", "category"), (0, 0, 3), (0, 1, 2))
    ours = condition_preferences(inputs, X, Comparisons.of(pairs), LENGTHSCALES, SCALE, kernel, most=9)
    model: Any = ours.botorch_model()
    points = torch.tensor(X[:5], dtype=torch.float64, requires_grad=True)
    belief = model.posterior(points)
    np.testing.assert_allclose(belief.mean.detach().numpy()[:, 0], ours.mean_variance(X[:5])[0][:, 0], atol=1e-9)
    np.testing.assert_allclose(belief.covariance_matrix.detach().numpy(), ours.covariance(X[:5])[0], atol=1e-7)
    belief.mean.sum().backward()
    assert points.grad is not None
    slopes = ours.predictor.slopes(ours.predictor.forward(X[:5]))[0][0]
    np.testing.assert_allclose(points.grad.numpy(), slopes, atol=1e-9)
    with pytest.raises(UsageError, match="no noise of their own"):
        model.posterior(points, observation_noise=True)
    with pytest.raises(UsageError, match="output 0"):
        model.posterior(points, output_indices=[1])
