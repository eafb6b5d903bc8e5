"""Expected utility of the best option: closed form, draws, conditioning, and the same numbers from BoTorch."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from bbopt.acquisition.constrained import ConstrainedLogEI
from bbopt.acquisition.draws import normal_numbers
from bbopt.acquisition.eubo import best_of_pair, best_of_slate, given_rows
from surrogates.columns import Inputs
from surrogates.preference import PreferenceProcess, condition_preferences
from surrogates.preference_fit import Comparisons

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(scope="module")
def process() -> PreferenceProcess:
    rng = np.random.default_rng(0)
    X = rng.random((16, 2))
    order = np.argsort(((X - 0.4) ** 2).sum(axis=1))
    pairs = [(order[i], order[j]) for i, j in ((0, 3), (0, 8), (3, 9), (5, 12), (8, 15), (1, 5), (2, 7))]
    return condition_preferences(Inputs.continuous(2), X, Comparisons.of(pairs), np.full(2, 0.6), 4.0, "matern52")


def test_a_pair_by_draws() -> None:
    mean, root = np.array([0.3, -0.2]), np.array([[1.0, 0.0], [0.4, 0.7]])
    drawn = mean[:, None] + root @ np.random.default_rng(0).standard_normal((2, 400_000))
    assert best_of_pair(mean, root @ root.T) == pytest.approx(drawn.max(axis=0).mean(), abs=0.005)
    assert best_of_pair(mean, np.ones((2, 2))) == 0.3  # the difference is known


def test_a_slate_of_two_by_draws_is_the_pairs_closed_form(process: PreferenceProcess) -> None:
    rows = np.array([[0.1, 0.9], [0.8, 0.3]])
    normal = normal_numbers(2, 1 << 14, np.random.default_rng(0))
    mean = process.mean_variance(rows)[0][:, 0]
    assert best_of_slate(process.predictor, rows, normal) == pytest.approx(
        best_of_pair(mean, process.covariance(rows)[0]), abs=2e-3
    )


def test_given_draws_the_process_is_the_conditioned_gaussian(process: PreferenceProcess) -> None:
    """Mean and covariance by the textbook's formula for a Gaussian of which some entries are known."""
    rng = np.random.default_rng(1)
    rows, points = rng.random((3, 2)), rng.random((4, 2))
    normal = rng.standard_normal((3, 5))
    conditioned, values = given_rows(process.predictor, rows, normal)
    everything = np.concatenate([rows, points])
    mean, C = process.mean_variance(everything)[0][:, 0], process.covariance(everything)[0]
    root = np.linalg.cholesky(C[:3, :3])
    np.testing.assert_allclose(values, mean[:3, None] + root @ normal, atol=1e-6)
    gain = np.linalg.solve(C[:3, :3], C[:3, 3:]).T
    moments = conditioned.forward(points)
    np.testing.assert_allclose(moments.mean[0], mean[3:, None] + gain @ (values - mean[:3, None]), atol=1e-6)
    np.testing.assert_allclose(moments.variance[0], np.diag(C[3:, 3:] - gain @ C[:3, 3:]), atol=1e-6)
    at_rows = conditioned.forward(rows)
    np.testing.assert_allclose(at_rows.mean[0], values, atol=1e-5)
    assert at_rows.variance.max() < 1e-6


def test_the_last_row_in_closed_form_is_the_slate_by_draws(process: PreferenceProcess) -> None:
    """mean_s b_s + mean_s EI_s(x) of three drawn rows and a fourth is E[max] of the four."""
    rows = np.array([[0.1, 0.9], [0.8, 0.3], [0.4, 0.4], [0.0, 0.0]])
    normal = normal_numbers(4, 1 << 13, np.random.default_rng(0))
    conditioned, regrets = given_rows(process.regret, rows[:3], normal)
    score = ConstrainedLogEI(conditioned, regrets.min(axis=0), np.zeros(0))
    value = -regrets.min(axis=0).mean() + np.exp(score.value(rows[3:])[0])
    assert value == pytest.approx(best_of_slate(process.predictor, rows, normal), abs=5e-3)


def test_gradient_of_the_score_is_that_of_differences(process: PreferenceProcess) -> None:
    rows, x = np.array([[0.1, 0.9], [0.8, 0.3]]), np.array([[0.35, 0.6]])
    conditioned, regrets = given_rows(process.regret, rows, normal_numbers(2, 32, np.random.default_rng(0)))
    score = ConstrainedLogEI(conditioned, regrets.min(axis=0), np.zeros(0))
    slope = score.value_and_gradient(x)[1][0]
    steps = 1e-6 * np.eye(2)
    found = [(score.value(x + step) - score.value(x - step))[0] / 2e-6 for step in steps]
    np.testing.assert_allclose(slope, found, rtol=1e-4, atol=1e-6)


def test_botorchs_eubo_on_our_model_agrees(process: PreferenceProcess) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from botorch.acquisition.preference import AnalyticExpectedUtilityOfBestOption, qExpectedUtilityOfBestOption
        from botorch.sampling.normal import SobolQMCNormalSampler

        model = process.botorch_model()
        rng = np.random.default_rng(4)
        slates = rng.random((5, 4, 2))
        pair = AnalyticExpectedUtilityOfBestOption(model)(torch.from_numpy(slates[:, :2])).numpy()
        sampler = SobolQMCNormalSampler(torch.Size([4096]), seed=0)
        many = qExpectedUtilityOfBestOption(model, sampler=sampler)(torch.from_numpy(slates)).numpy()
    for slate, two, four in zip(slates, pair, many, strict=True):
        mean = process.mean_variance(slate[:2])[0][:, 0]
        assert best_of_pair(mean, process.covariance(slate[:2])[0]) == pytest.approx(two, abs=1e-6)
        normal = normal_numbers(4, 4096, np.random.default_rng(0))
        assert best_of_slate(process.predictor, slate, normal) == pytest.approx(four, abs=0.01)


def test_nothing_given_is_the_process_itself(process: PreferenceProcess) -> None:
    same, values = given_rows(process.predictor, np.zeros((0, 2)), np.zeros((0, 7)))
    assert same is process.predictor and values.shape == (0, 7)
