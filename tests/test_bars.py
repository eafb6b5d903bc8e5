"""Bars with half-normal tails: closed forms against quadrature, Monte Carlo, differences and the normal distribution."""

from __future__ import annotations

import doctest
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate
from scipy.special import log_ndtr, softmax
from scipy.stats import norm

import surrogates.bars as bars_module
from surrogates.bars import MEDIAN, Bars

RNG = np.random.default_rng(0)
BORDERS = np.sort(RNG.normal(size=9))
LOGITS = RNG.normal(size=(3, 8))
LIMITS = (-2.5, -1.2, BORDERS[1], BORDERS[1] + 1e-3, -0.3, 0.1, BORDERS[-2] + 0.02, BORDERS[-2] + 0.2, 1.6, 4.0)


def density(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The density, from its definition."""
    width = np.diff(BORDERS)
    inside = np.searchsorted(BORDERS, y) - 1
    out = np.where((inside > 0) & (inside < 7), (p / width)[np.clip(inside, 0, 7)], 0.0)
    low, high = width[0] / MEDIAN, width[-1] / MEDIAN
    out = out + (y < BORDERS[1]) * p[0] * 2.0 * norm.pdf((BORDERS[1] - y) / low) / low
    return out + (y > BORDERS[-2]) * p[-1] * 2.0 * norm.pdf((y - BORDERS[-2]) / high) / high


def integral(f, p: np.ndarray, upper: float) -> float:
    """The integral of f times the density up to `upper`."""
    inner = BORDERS[1:-1]
    ends = np.concatenate([[min(BORDERS[1], upper) - 8.0], inner[inner < upper], [upper]])
    pieces = pairwise(ends)
    return sum(
        integrate.quad(lambda y: f(y) * density(np.array(y), p), a, b, epsabs=0.0, epsrel=1e-11, limit=200)[0]
        for a, b in pieces
    )


def test_moments_and_mass_match_quadrature() -> None:
    bars = Bars.of(BORDERS, LOGITS)
    for i, p in enumerate(softmax(LOGITS, axis=1)):
        assert integral(lambda y: 1.0, p, 9.0) == pytest.approx(1.0, abs=1e-9)
        mean = integral(lambda y: y, p, 9.0)
        assert bars.mean()[i] == pytest.approx(mean, abs=1e-9)
        assert bars.variance()[i] == pytest.approx(integral(lambda y: (y - mean) ** 2, p, 9.0), abs=1e-9)  # noqa: B023


@pytest.mark.parametrize("limit", LIMITS)
def test_probability_and_improvement_match_quadrature(limit: float) -> None:
    bars = Bars.of(BORDERS, LOGITS)
    for i, p in enumerate(softmax(LOGITS, axis=1)):
        assert bars.log_below(limit)[i] == pytest.approx(np.log(integral(lambda y: 1.0, p, limit)), abs=1e-8)
        gain = integral(lambda y: limit - y, p, limit)
        assert bars.log_improvement(limit)[i] == pytest.approx(np.log(gain), abs=1e-8)


def test_a_million_draws_agree_within_three_standard_errors() -> None:
    """facts/pfn.md, section F, check 6."""
    bars = Bars.of(BORDERS, LOGITS[:1])
    draws = bars.quantiles(np.random.default_rng(1).random((1, 1_000_000)))[0]
    for value, sample in (
        (bars.mean()[0], draws),
        (bars.variance()[0], (draws - bars.mean()[0]) ** 2),
        *((np.exp(bars.log_below(t)[0]), draws <= t) for t in LIMITS),
        *((np.exp(bars.log_improvement(t)[0]), np.maximum(t - draws, 0.0)) for t in LIMITS),
    ):
        assert abs(value - sample.mean()) <= 3.0 * sample.std() / 1000.0 + 1e-6  # and events too rare to be drawn


def test_quantiles_are_the_inverse_of_the_probability() -> None:
    bars = Bars.of(BORDERS, LOGITS)
    u = np.array([1e-12, 1e-4, 0.03, 0.2, 0.5, 0.8, 0.97, 1.0 - 1e-4, 1.0 - 1e-12])
    values = bars.quantiles(np.tile(u, (3, 1)))
    assert (np.diff(values, axis=1) > 0.0).all()
    for i in range(3):
        back = [np.exp(bars.log_below(value)[i]) for value in values[i]]
        np.testing.assert_allclose(back, u, rtol=1e-9, atol=1e-15)


def test_two_equal_bars_are_a_normal_far_into_its_tail() -> None:
    bars = Bars.normal(3.0, 0.5, 2)
    for z in (-1e8, -2000.0, -50.1, -49.9, -8.0, -1e-9, 0.0, 1e-9, 0.05, 0.0999, 0.1001, 2.0, 30.0):
        limit = 3.0 + 0.5 * z
        assert bars.log_below(limit) == pytest.approx(np.full(2, log_ndtr(z)), rel=1e-9, abs=1e-12)
        assert np.isfinite(bars.log_improvement(limit)).all()
        if z > -8.1:
            h = norm.pdf(z) + z * norm.cdf(z)
            assert bars.log_improvement(limit)[0] == pytest.approx(np.log(0.5 * h), abs=1e-9 if z > -5 else 1e-5)
    steps = [bars.log_improvement(3.0 + 0.5 * z)[0] for z in (-50.0 - 1e-9, -50.0 + 1e-9)]
    assert steps[0] == pytest.approx(steps[1], abs=1e-6)  # two formulas meet here


@pytest.mark.parametrize("limit", [-6.0, -0.3, 0.4, 5.0])
def test_derivatives_in_the_logits_match_differences(limit: float) -> None:
    bars, h = Bars.of(BORDERS, LOGITS), 1e-5
    for of in (
        lambda b: b.mean_slope(),
        lambda b: b.log_below_slope(limit),
        lambda b: b.log_improvement_slope(limit),
    ):
        slope = of(bars)[1]
        for k in range(8):
            step = h * np.eye(8)[k]
            change = of(Bars.of(BORDERS, LOGITS + step))[0] - of(Bars.of(BORDERS, LOGITS - step))[0]
            np.testing.assert_allclose(slope[:, k], change / (2 * h), atol=1e-7)


def test_bars_without_width_and_masses_that_underflowed_stay_finite() -> None:
    borders = np.array([-1.0, -0.5, 0.0, 0.0, 0.5, 1.0])
    logits = np.array([[-np.inf, 0.0, 1.0, 0.0, -np.inf], [0.0, -np.inf, -np.inf, -np.inf, -np.inf]])
    bars = Bars.of(borders, logits)
    for limit in (-30.0, -0.7, 0.0, 0.2, 30.0):
        assert np.isfinite(bars.log_below(limit)).all() and np.isfinite(bars.log_improvement(limit)).all()
    quantiles = bars.quantiles(np.tile([1e-6, 0.4, 0.9999], (2, 1)))
    assert np.isfinite(quantiles).all() and (np.diff(quantiles, axis=1) >= 0.0).all()
    assert (bars.variance() > 0.0).all()


def test_examples_in_the_docstrings_run() -> None:
    assert doctest.testmod(bars_module).failed == 0
