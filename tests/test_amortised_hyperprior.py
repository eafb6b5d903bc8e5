"""What is believed before data: coordinates in which it is standard normal, their derivatives, and what is refused."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import kstest, norm

from bbopt.errors import UsageError
from surrogates.amortised import hyperprior
from surrogates.amortised.hyperprior import FAR, FARTHEST, Hyperprior
from surrogates.prior import Prior, sample_tasks

PRIORS = {
    "default": Hyperprior(),
    "plain": Hyperprior.plain(),
    "noisy": Hyperprior.noisy(),
    "narrow": Hyperprior(lengthscale=(0.3, 0.05), irrelevant=0.5),
    "wide": Hyperprior((0.0, 0.0, 1.0), (1.0, 1.3), 0.5, (1e-6, 1.0)),
}
each_prior = pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS.keys())


def test_the_examples_run() -> None:
    assert doctest.testmod(hyperprior).failed == 0


@given(
    st.floats(0.05, 1.0), st.floats(0.05, 1.5), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]),
    st.lists(st.floats(-6.5, 6.5), min_size=1, max_size=6), st.floats(-5.0, 5.0),
)  # fmt: skip
@settings(max_examples=60)
def test_coordinates_go_there_and_back(
    location: float, spread: float, irrelevant: float, columns: list[float], noise: float
) -> None:
    prior = Hyperprior(lengthscale=(location, spread), irrelevant=irrelevant, noise=(1e-5, 0.5))
    v = np.array([*columns, noise])
    back = prior.coordinates(prior.lengthscales(v), prior.noises(v))
    np.testing.assert_allclose(back[:-1], v[:-1], atol=2e-4)
    np.testing.assert_allclose(back[-1], v[-1], atol=1e-5)


@each_prior
def test_lengthscales_and_noise_rise_with_their_coordinates(prior: Hyperprior) -> None:
    line = np.linspace(-FARTHEST, FARTHEST, 999)
    v = np.repeat(line[:, None], prior.size(1), axis=1)
    assert (np.diff(prior.lengthscales(v)[:, 0]) > 0.0).all()
    if prior.learns_noise:
        assert (np.diff(prior.noises(v[::20])) >= 0.0).all()
        np.testing.assert_allclose(prior.noises(np.array([[0.0, -9.0], [0.0, 9.0]])), prior.noise, rtol=1e-9)


@each_prior
def test_places_beyond_the_table_stay_at_its_ends(prior: Hyperprior) -> None:
    rest = [0.0] if prior.learns_noise else []
    ends = prior.lengthscales(np.array([[-99.0, *rest], [-FARTHEST, *rest], [FARTHEST, *rest], [99.0, *rest]]))[:, 0]
    assert ends[0] == pytest.approx(ends[1], rel=1e-6) and ends[2] == pytest.approx(ends[3], rel=1e-6)
    far = prior.coordinates(np.array([1e-200, 1e200]), np.array(1e-99))
    assert np.abs(far).max() <= FARTHEST + 1e-9


@each_prior
def test_the_distribution_function_is_that_of_the_mixture(prior: Hyperprior) -> None:
    """Phi(v) = (1 - share) Phi(x / spread) + share Phi(x - FAR) at x = log l - its centre, in three columns."""
    v = np.linspace(-3.7, 3.7, 41)
    rows = np.column_stack([v, v, v, *([v] if prior.learns_noise else [])])
    x = np.log(prior.lengthscales(rows)[:, 1]) - prior.centre(3)
    below = (1.0 - prior.irrelevant) * norm.cdf(x / prior.lengthscale[1]) + prior.irrelevant * norm.cdf(x - FAR)
    np.testing.assert_allclose(norm.ppf(below), v, atol=1e-3)


@pytest.mark.parametrize("name", ["default", "plain", "noisy", "wide"])
def test_rates_are_derivatives(name: str) -> None:
    """Central differences wide enough to cross several places of the table."""
    prior = PRIORS[name]
    size, h = prior.size(2), 0.02
    for middle in np.linspace(-3.0, 3.0, 13):
        v = np.full(size, middle)
        high, low = (np.log(prior.lengthscales(v + side * h)) for side in (1, -1))
        wanted = list((high - low) / (2 * h))
        if prior.learns_noise:
            high, low = (np.log(prior.noises(v + side * h)) for side in (1, -1))
            wanted.append(float((high - low) / (2 * h)))
        np.testing.assert_allclose(prior.rates(v), wanted, rtol=3e-3)


def test_the_log_density_is_normalised() -> None:
    prior = Hyperprior((0.2, 0.5, 0.3), noise=(1e-3, 1.0))

    def density(v: float) -> float:
        return float(np.exp([prior.log_density(np.array(k), np.array([v, 0.0])) for k in range(3)]).sum())

    assert quad(density, -10, 10)[0] == pytest.approx(norm.pdf(0.0))


def test_a_kernel_of_probability_0_is_impossible() -> None:
    assert Hyperprior.plain().log_density(np.array([0, 1]), np.zeros((2, 2)))[0] == -np.inf


@pytest.mark.parametrize(
    "prior",
    [
        Hyperprior.plain(), Hyperprior(irrelevant=0.0), Hyperprior.noisy(),
        Hyperprior((0.0, 0.5, 0.5), (0.3, 0.5), 0.5, (1e-4, 0.3)),
    ],
    ids=["plain", "all matter", "noisy", "half matter"],
)  # fmt: skip
def test_drawn_tasks_have_standard_normal_coordinates(prior: Hyperprior) -> None:
    """Kolmogorov and Smirnov, of 40 columns: `sample_tasks` lets at least one matter, which shifts shares by 1/40."""
    generator = torch.Generator().manual_seed(5)
    tasks = sample_tasks(prior.tasks_prior(), 400, 2, 1, 40, generator)
    v = prior.drawn_coordinates(tasks.hyperparameters, generator).numpy()
    assert v.shape == (400, prior.size(40))
    assert kstest(v[:, 3:7].ravel(), "norm").pvalue > 0.01
    if prior.learns_noise:
        assert kstest(v[:, -1], "norm").pvalue > 0.01
    drawn = np.bincount(tasks.hyperparameters["kernel"].numpy(), minlength=3) / 400
    np.testing.assert_allclose(drawn, prior.kernels, atol=0.09)


def test_a_known_noise_is_drawn_as_it_is() -> None:
    prior = Hyperprior(noise=(0.03, 0.03))
    tasks = sample_tasks(prior.tasks_prior(), 3, 2, 1, 2, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(np.exp(0.5 * tasks.hyperparameters["log_noise"][:, 0].numpy()), 0.03)
    np.testing.assert_allclose(prior.noises(np.zeros((4, 2))), 0.03)
    assert prior.size(2) == 2 and prior.coordinates(np.ones((5, 2)), np.ones(5)).shape == (5, 2)


def test_plain_is_the_plain_prior_of_functions() -> None:
    """Their likelihoods must agree, or the tempered sampler and the network would answer different questions."""
    ours, theirs = Hyperprior.plain().tasks_prior(plain_rows=True), Prior.plain()
    for name in ("lengthscale", "kernels", "irrelevant", "noisy", "quiet", "blobs", "boxes", "discrete", "formula"):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_what_a_network_is_told_is_of_the_order_of_1() -> None:
    for prior in PRIORS.values():
        told = prior.describe(20, 128)
        assert len(told) == 12 and np.abs(told).max() < 4.0
    assert Hyperprior().describe(3, 9) != Hyperprior.noisy().describe(3, 9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kernels": (0.5, 0.5, 0.5)}, {"kernels": (1.5, -0.5, 0.0)}, {"kernels": (1.0,)}, {"lengthscale": (0.0, 1.0)},
        {"lengthscale": (0.5, 0.0)}, {"irrelevant": 1.0}, {"irrelevant": -0.1}, {"noise": (0.0, 1.0)},
        {"noise": (0.2, 0.1)}, {"noise": (float("nan"), 0.1)}, {"lengthscale": (float("nan"), 1.0)},
        {"lengthscale": (1.0, float("nan"))},
        {"noise": (0.1, float("inf"))}, {"lengthscale": (float("inf"), 1.0)}, {"irrelevant": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_prior_is_refused(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(UsageError, match="expected three kernel probabilities"):
        Hyperprior(**wrong)  # type: ignore[arg-type]
