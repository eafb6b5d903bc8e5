"""Functionals of random losses: beside BoTorch's risk measures, in the cases where one is another, and their weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bbopt.risk import OVER, risk, risk_text, risk_weights

losses = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12)
levels = st.floats(0.01, 0.99)


@pytest.mark.parametrize("n", [1, 7, 10])
def test_risks_are_those_of_botorch_on_the_same_samples(n: int) -> None:
    """BoTorch maximises rewards, and its CVaR is the mean of the samples from the VaR on, which makes it ours at the level
    below which these samples lie."""
    torch = pytest.importorskip("torch")
    measures = pytest.importorskip("botorch.acquisition.risk_measures")
    rewards = np.random.default_rng(n).standard_normal((5, n))
    samples, even = torch.as_tensor(rewards).reshape(5, n, 1), np.full(n, 1.0 / n)

    def theirs(measure: object) -> np.ndarray:
        return -np.asarray(measure(samples)).reshape(5)  # type: ignore[operator]

    assert np.allclose(theirs(measures.Expectation(n_w=n)), risk(-rewards, even, "mean"))
    assert np.allclose(theirs(measures.WorstCase(n_w=n)), risk(-rewards, even, "worst"))
    for level in (0.3, 0.5, 0.85):
        assert np.allclose(theirs(measures.VaR(alpha=level, n_w=n)), risk(-rewards, even, "var", level))
        below = (np.ceil(n * level) - 1) / n
        assert np.allclose(theirs(measures.CVaR(alpha=level, n_w=n)), risk(-rewards, even, "cvar", below))


@settings(max_examples=60)
@given(values=losses, seed=st.integers(0, 99), level=levels)
def test_functionals_are_in_order_and_shift_with_the_losses(values: list[float], seed: int, level: float) -> None:
    v, p = np.array(values), np.random.default_rng(seed).dirichlet(np.ones(len(values)))
    found = {over: float(risk(v, p, over, level)) for over in OVER}
    slack = 1e-9 * (1.0 + np.abs(v).max())
    assert v.min() - slack <= found["mean"] <= found["cvar"] + slack
    assert found["var"] <= found["cvar"] + slack and found["cvar"] <= found["worst"] + slack
    for over in OVER:
        weights = risk_weights(v, p, over, level)
        assert weights.min() >= 0.0 and weights.sum() == pytest.approx(1.0)
        assert float(risk(3.0 * v + 2.0, p, over, level)) == pytest.approx(3.0 * found[over] + 2.0, abs=1e-5)
    assert float(risk(v, p, "cvar", 0.0)) == pytest.approx(found["mean"], abs=slack)
    assert float(risk(v, p, "cvar", 1.0 - 1e-12)) == pytest.approx(found["worst"], abs=slack)
    one = np.eye(len(v))[seed % len(v)]
    assert [float(risk(v, one, over, level)) for over in OVER] == [v[seed % len(v)]] * 4


def test_cvar_is_the_tail_mean_of_a_normal_distribution() -> None:
    """For a standard normal loss, phi(z) / (1 - a) with z its quantile."""
    stats = pytest.importorskip("scipy.stats")
    v = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    even = np.full(len(v), 1.0 / len(v))
    for level in (0.5, 0.9, 0.99):
        z = stats.norm.ppf(level)
        assert float(risk(v, even, "var", level)) == pytest.approx(z, abs=1e-3)
        assert float(risk(v, even, "cvar", level)) == pytest.approx(stats.norm.pdf(z) / (1 - level), rel=1e-4)


def test_weights_are_the_derivatives() -> None:
    rng = np.random.default_rng(3)
    v, p = rng.standard_normal((4, 9)), rng.dirichlet(np.ones(9))
    for over in OVER:
        weights = risk_weights(v, p, over, 0.7)
        for k in range(9):
            step = np.zeros(9)
            step[k] = 1e-6
            slope = (risk(v + step, p, over, 0.7) - risk(v - step, p, over, 0.7)) / 2e-6
            assert np.allclose(slope, weights[:, k], atol=1e-7)


def test_worst_case_knows_what_cannot_happen() -> None:
    assert float(risk(np.array([5.0, 1.0, 2.0]), np.array([0.0, 0.5, 0.5]), "worst")) == 2.0
    assert float(risk(np.array([5.0, 1.0, 2.0]), np.array([0.0, 0.5, 0.5]), "var", 0.99)) == 2.0
    assert risk_text("var", 0.95) == "value that is worse in 5 %"
