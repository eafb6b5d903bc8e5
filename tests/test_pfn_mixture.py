"""Mixtures of Gaussians: closed forms against Monte Carlo, quadrature, mpmath and differences, far into the tails."""

from __future__ import annotations

import doctest

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate
from scipy.stats import norm
from torch import Tensor

import surrogates.pfn.mixture as mixture_module
from surrogates.pfn.mixture import Mixture, log_h

SAMPLES = 1_000_000
WEIGHTS = ((0.5, 0.3, 0.2), (0.98, 0.015, 0.005))
MEANS = ((-1.0, 0.0, 2.5), (0.3, -6.0, 9.0))
SDS = ((0.5, 0.1, 1.0), (0.02, 2.0, 3.0))
LIMITS = (-8.0, -3.5, -1.5, -0.2, 0.05, 0.32, 1.0, 4.0, 9.0)


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def two() -> Mixture:
    return Mixture(double(WEIGHTS).log(), double(MEANS), double(SDS))


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """(SAMPLES, 2) values, drawn by NumPy; some 80 comparisons within 3 errors share them, so one seed in ten fails."""
    rng = np.random.default_rng(1)
    columns = []
    for weight, mean, sd in zip(WEIGHTS, MEANS, SDS, strict=True):
        which = rng.choice(3, SAMPLES, p=weight)
        columns.append(rng.normal(np.array(mean)[which], np.array(sd)[which]))
    return np.stack(columns, 1)


def within(sample: np.ndarray, expected: Tensor, errors: float = 3.0) -> None:
    """The mean of (SAMPLES, 2) numbers is the expected one, within so many standard errors (and a sample's worth)."""
    error = sample.std(0) / np.sqrt(SAMPLES) + 1.0 / SAMPLES
    assert (np.abs(sample.mean(0) - expected.numpy()) <= errors * error).all()


def test_moments_match_samples(drawn: np.ndarray) -> None:
    mean, variance = two().moments()
    within(drawn, mean)
    within((drawn - mean.numpy()) ** 2, variance)


@pytest.mark.parametrize("limit", LIMITS)
def test_probabilities_and_improvements_match_samples(drawn: np.ndarray, limit: float) -> None:
    at = double([limit, limit])
    below = (drawn <= limit).astype(float)
    within(below, two().log_below(at).exp())
    within(1.0 - below, two().log_above(at).exp())
    within(np.maximum(limit - drawn, 0.0), two().log_improvement(at).exp())


def test_draws_match_closed_forms() -> None:
    sample = two().draw(SAMPLES, torch.Generator().manual_seed(1)).numpy()
    assert sample.shape == (SAMPLES, 2)
    mean, variance = two().moments()
    within(sample, mean)
    within((sample - mean.numpy()) ** 2, variance)
    within((sample <= 0.31).astype(float), two().log_below(double([0.31, 0.31])).exp())
    assert two().draw(3, torch.Generator().manual_seed(2)).equal(two().draw(3, torch.Generator().manual_seed(2)))


def test_mass_is_one_and_the_density_is_the_slope_of_the_mass() -> None:
    mixture = two()
    y = torch.linspace(-40.0, 40.0, 400_001, dtype=torch.float64)
    density = mixture.log_density(y.expand(2, -1)).exp()
    torch.testing.assert_close(torch.trapezoid(density, y), torch.ones(2, dtype=torch.float64), atol=1e-9, rtol=0.0)
    for limit in LIMITS:
        at = double([limit, limit])
        torch.testing.assert_close(
            mixture.log_below(at).exp() + mixture.log_above(at).exp(), torch.ones(2, dtype=torch.float64)
        )
        h = 1e-5
        slope = (mixture.log_below(at + h).exp() - mixture.log_below(at - h).exp()) / (2.0 * h)
        torch.testing.assert_close(slope, mixture.log_density(at).exp(), rtol=1e-5, atol=1e-9)


def test_densities_of_several_values_per_mixture() -> None:
    y = double([[0.1, 0.2, 5.0], [0.3, -6.0, 100.0]])
    found = two().log_density(y)
    for b in range(2):
        expected = np.log(sum(w * norm.pdf(y[b].numpy(), m, s) for w, m, s in zip(WEIGHTS[b], MEANS[b], SDS[b], strict=True)) + 1e-320)  # fmt: skip
        np.testing.assert_allclose(found[b][:2], expected[:2], atol=1e-12)
        assert torch.isfinite(found[b]).all()


@pytest.mark.parametrize("limit", [-60.0, -1e3, -1e6])
def test_far_tails_match_the_component_that_rules_there(limit: float) -> None:
    """Where probabilities underflow, logarithms do not: against mpmath with 60 digits."""
    mixture, at = two(), double([limit, limit])
    with mpmath.workdps(60):
        for b in range(2):
            parts = [tuple(map(mpmath.mpf, part)) for part in zip(WEIGHTS[b], MEANS[b], SDS[b], strict=True)]
            exact = {
                mixture.log_below(at): sum(w * normal_cdf((limit - m) / s) for w, m, s in parts),
                mixture.log_above(-at): sum(w * normal_cdf((limit + m) / s) for w, m, s in parts),
                mixture.log_improvement(at): sum(w * s * h((limit - m) / s) for w, m, s in parts),
            }
            for found, expected in exact.items():
                assert float(found[b]) == pytest.approx(float(mpmath.log(expected)), rel=1e-9)


def normal_cdf(u: mpmath.mpf) -> mpmath.mpf:
    return mpmath.erfc(-u / mpmath.sqrt(2)) / 2


def h(u: mpmath.mpf) -> mpmath.mpf:
    """pdf(u) + u cdf(u)."""
    return mpmath.npdf(u) + u * normal_cdf(u)


POINTS = (-1e5, -3e4, -10001.0, -9999.0, -3e3, -1e3, -300.0, -100.0, -37.0, -10.0, -3.0, -1.001, -0.999, -0.1, 0.0, 0.5, 1.0, 3.0, 10.0)  # fmt: skip


@pytest.mark.parametrize("u", POINTS)
def test_log_h_and_its_slope_match_mpmath(u: float) -> None:
    """The slope of log h is cdf / h."""
    with mpmath.workdps(60 + int(abs(u) ** 0.5)):
        exact = mpmath.log(h(mpmath.mpf(u)))
        slope = normal_cdf(mpmath.mpf(u)) / h(mpmath.mpf(u))
    at = double(u).requires_grad_()
    value = log_h(at)
    value.backward()
    assert float(value.detach()) == pytest.approx(float(exact), rel=1e-9, abs=1e-12)
    assert at.grad is not None and float(at.grad) == pytest.approx(float(slope), rel=1e-6)


def test_log_h_rises_and_is_finite_with_finite_slopes_over_its_whole_range() -> None:
    """Across the places where two formulas meet, too."""
    grid = torch.cat(
        [-torch.logspace(8, -3, 2001, dtype=torch.float64), torch.logspace(-3, 3, 200, dtype=torch.float64)]
    )
    grid.requires_grad_()
    value = log_h(grid)
    slope = torch.autograd.grad(value.sum(), grid)[0]
    assert torch.isfinite(value).all() and torch.isfinite(slope).all()
    assert (value.diff() > 0.0).all() and (slope > 0.0).all()
    for edge in (-1e4, -1.0):
        near = log_h(double([edge * (1.0 + 1e-12), edge * (1.0 - 1e-12)]))
        assert float(near.diff()) == pytest.approx(0.0, abs=1e-9 * abs(float(near[0])))


@pytest.mark.parametrize("limit", [-2.0, 0.31, 3.0])
def test_improvement_matches_quadrature(limit: float) -> None:
    found = two().log_improvement(double([limit, limit])).exp()
    for b in range(2):
        expected = 0.0
        for w, m, s in zip(WEIGHTS[b], MEANS[b], SDS[b], strict=True):
            pdf = norm(m, s).pdf
            expected += w * integrate.quad(lambda y, pdf=pdf: (limit - y) * pdf(y), min(m, limit) - 15.0 * s, limit)[0]
        assert float(found[b]) == pytest.approx(expected, rel=1e-6)


def test_quantiles_invert_the_mass() -> None:
    probabilities = double([1e-9, 1e-4, 0.05, 0.25, 0.5, 0.75, 0.95, 0.9999, 1.0 - 1e-9])
    quantiles = two().quantiles(probabilities)
    assert quantiles.shape == (2, 9) and (quantiles.diff(dim=-1) > 0.0).all()
    for k, probability in enumerate(probabilities.tolist()):
        mass = two().log_below(quantiles[:, k]).exp()
        torch.testing.assert_close(mass, torch.full_like(mass, probability), rtol=1e-6, atol=1e-13)


def test_one_component_is_the_normal_distribution() -> None:
    zero = torch.zeros(4, 1, dtype=torch.float64)
    mixture = Mixture(zero, zero + 1.5, zero + 0.3)
    at = double([0.0, 1.0, 1.5, 2.2])
    np.testing.assert_allclose(mixture.log_below(at), norm.logcdf(at, 1.5, 0.3), rtol=1e-10)
    np.testing.assert_allclose(mixture.log_above(at), norm.logsf(at, 1.5, 0.3), rtol=1e-10)
    np.testing.assert_allclose(mixture.log_density(at), norm.logpdf(at, 1.5, 0.3), rtol=1e-10)
    np.testing.assert_allclose(mixture.quantiles(double([0.1, 0.9]))[0], norm.ppf([0.1, 0.9], 1.5, 0.3), rtol=1e-10)


@pytest.mark.parametrize("limit", [-30.0, -0.4, 0.3, 5.0])
def test_gradients_match_differences(limit: float) -> None:
    at = double([limit, limit])

    def forms(log_weight: Tensor, mean: Tensor, sd: Tensor) -> tuple[Tensor, ...]:
        mixture = Mixture(log_weight, mean, sd)
        return (*mixture.moments(), mixture.log_below(at), mixture.log_above(at), mixture.log_improvement(at), mixture.log_density(at))  # fmt: skip

    inputs = tuple(part.clone().requires_grad_() for part in (double(WEIGHTS).log(), double(MEANS), double(SDS)))
    assert torch.autograd.gradcheck(forms, inputs, eps=1e-7, atol=1e-4, rtol=1e-4)


def test_examples_in_the_docstrings_run() -> None:
    assert doctest.testmod(mixture_module).failed == 0
