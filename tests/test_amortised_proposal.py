"""Draws and their weights: densities, quadrature, proposals that are off, the climb; fewer draws that stand for all."""

from __future__ import annotations

import doctest
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from amortised_waves import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logsumexp

from bbopt.errors import UsageError
from surrogates.amortised import fit, proposal, thinning
from surrogates.amortised.density import Density
from surrogates.amortised.evidence import Evidence, SquaredDifferences
from surrogates.amortised.hyperprior import Hyperprior
from surrogates.amortised.proposal import Parts, Top, weigh
from surrogates.amortised.thinning import thinned
from surrogates.columns import Inputs

Array = NDArray[np.float64]
ONE = Hyperprior((0.0, 1.0, 0.0), (0.3, 0.8), 0.0, (0.1, 0.1))


def prior_parts(size: int, shift: float = 0.0, log_sd: float = 0.0) -> Parts:
    """The prior itself as a proposal, or one that is off."""
    kernel = np.full((1, 3), 1.0 / 3.0)
    mean, spread = np.full((1, size), shift), np.full((1, size), log_sd)
    return Parts(np.zeros(1), np.log(kernel), mean, spread, np.zeros((1, size, 1)))


def some_parts(seed: int = 0) -> Parts:
    rng = np.random.default_rng(seed)
    log_part, log_kernel = rng.standard_normal(3), rng.standard_normal((3, 3))
    return Parts(
        log_part - logsumexp(log_part), log_kernel - logsumexp(log_kernel, axis=1, keepdims=True),
        2.0 * rng.standard_normal((3, 2)), 0.5 * rng.standard_normal((3, 2)), 0.7 * rng.standard_normal((3, 2, 2)),
    )  # fmt: skip


def evidence_of(believed: Hyperprior, n: int, d: int) -> Evidence:
    X, y = wave(n, d, noise=0.1)
    if n == 1:
        return Evidence(SquaredDifferences(Inputs.continuous(d), X), np.zeros(1), believed)
    return Evidence(SquaredDifferences(Inputs.continuous(d), X), (y - y.mean()) / y.std(), believed)


@pytest.mark.parametrize("module", [proposal, thinning], ids=lambda m: m.__name__)
def test_the_examples_run(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


def test_parts_have_the_density_of_the_network() -> None:
    parts, rng = some_parts(), np.random.default_rng(1)
    kernel, v = rng.integers(0, 3, 20), rng.standard_normal((20, 2))
    theirs = Density(*(torch.from_numpy(part)[None] for part in vars(parts).values()))
    wanted = theirs.log_density(torch.from_numpy(kernel)[None], torch.from_numpy(v)[None])[0]
    np.testing.assert_allclose(parts.log_density(kernel, v), wanted.numpy(), rtol=1e-10)


def test_draws_of_parts_have_its_moments() -> None:
    parts = some_parts()
    kernel, v = parts.draw(proposal._base(8192, 2 + 2 + 2))
    weight = np.exp(parts.log_part)
    mean = weight @ parts.mean
    inner = np.einsum("kdr,ker->kde", parts.loading, parts.loading) + np.eye(2) * np.exp(2.0 * parts.log_sd)[:, None]
    apart = parts.mean - mean
    covariance = np.einsum("k,kde->de", weight, inner + apart[:, :, None] * apart[:, None])
    np.testing.assert_allclose(v.mean(axis=0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(v.T), covariance, atol=0.05 * abs(covariance).max())
    np.testing.assert_allclose(np.bincount(kernel, minlength=3) / 8192, weight @ np.exp(parts.log_kernel), atol=0.01)
    other = prior_parts(2, 0.3, 0.6)  # the mean of a ratio of densities, which have to be those of the draws, is 1
    ratio = np.exp(
        parts.log_density(*other.draw(proposal._base(8192, 5)))
        - other.log_density(*other.draw(proposal._base(8192, 5)))
    )
    assert ratio.mean() == pytest.approx(1.0, abs=0.2)


def test_a_top_is_a_gaussian() -> None:
    covariance = np.array([[1.0, 0.4, 0.1], [0.4, 0.5, 0.0], [0.1, 0.0, 2.0]])
    order = np.array([2, 0, 1])
    top = Top(1, np.array([1.0, -1.0, 0.5]), np.linalg.cholesky(covariance[np.ix_(order, order)]), order)
    rng = np.random.default_rng(0)
    v = top.draw(rng.standard_normal((40000, 3)))
    np.testing.assert_allclose(v.mean(axis=0), top.mean, atol=0.03)
    np.testing.assert_allclose(np.cov(v.T), covariance, atol=0.05)
    at = v[:5] - top.mean
    wanted = -0.5 * np.einsum("sd,de,se->s", at, np.linalg.inv(covariance), at)
    wanted -= 0.5 * np.linalg.slogdet(2.0 * np.pi * covariance)[1]
    np.testing.assert_allclose(top.log_density(np.ones(5, int), v[:5]), wanted)
    assert (top.log_density(np.zeros(5, int), v[:5]) == -np.inf).all()


def quadrature(evidence: Evidence) -> tuple[float, float, float]:
    """Log evidence, mean and variance of the coordinate of one column, kernel Matern-5/2, by Simpson-like sums."""
    grid = np.linspace(-6.5, 6.5, 1301)[:, None]
    kernel = np.ones(len(grid), dtype=int)
    height = evidence.height(evidence.at(kernel, grid), kernel, grid)
    total = float(logsumexp(height))
    weight = np.exp(height - total)
    mean = float(weight @ grid[:, 0])
    return total + float(np.log(grid[1, 0] - grid[0, 0])), mean, float(weight @ (grid[:, 0] - mean) ** 2)


@pytest.mark.parametrize("n", [1, 3, 8, 25])
@pytest.mark.parametrize(
    ("shift", "log_sd"), [(0.0, 0.0), (3.0, 0.0), (0.0, 1.0), (0.5, -1.0)], ids=["prior", "off", "wide", "narrow"]
)
def test_weighed_draws_against_quadrature(n: int, shift: float, log_sd: float) -> None:
    """Whatever made the proposal: a wrong one costs draws, it does not change the answer."""
    evidence = evidence_of(ONE, n, 1)
    wanted = quadrature(evidence)
    found = weigh(evidence, prior_parts(1, shift, log_sd), 256)
    weight = np.exp(found.log_weight)
    assert weight.sum() == pytest.approx(1.0) and 1.0 <= found.ess <= 256.0
    if found.ess < fit.LEAST:  # a second top, in the proposal's own neighbourhood: the guard speaks
        assert (shift, n) == (3.0, 8)
        return
    assert found.log_evidence == pytest.approx(wanted[0], abs=0.15)
    mean = weight @ found.v[:, 0]
    assert mean == pytest.approx(wanted[1], abs=0.2 * wanted[2] ** 0.5)
    assert weight @ (found.v[:, 0] - mean) ** 2 == pytest.approx(wanted[2], rel=0.35)
    assert found.best == np.argmax(evidence.height(list(found.likelihoods), found.kernel, found.v))


@pytest.mark.parametrize("draws", [64, 256])
def test_a_proposal_that_is_far_off_is_right_or_says_so(draws: int) -> None:
    """Far away and narrow: its own draws count for nothing, the climb from them finds the posterior."""
    evidence = evidence_of(ONE, 25, 1)
    wanted = quadrature(evidence)
    found, diagnosis = fit._weighed(evidence, prior_parts(1, 5.0, -3.0), draws)
    weight = np.exp(found.log_weight)
    right = abs(weight @ found.v[:, 0] - wanted[1]) < 0.3 * wanted[2] ** 0.5
    assert right or diagnosis.how != "network"
    assert found.ess > 0.3 * draws, "the Gaussian around the top is nearly the posterior here"


def test_a_kernel_that_the_first_draws_miss_is_found() -> None:
    """The draws say little where few of them count: in 20 columns they once left out a kernel 52 nats more probable."""
    rng = np.random.default_rng([1, 60, 20])
    X = rng.random((60, 20))
    y = np.sin(5.0 * X[:, 3]) + 3.0 * (X[:, 7] - 0.4) ** 2
    evidence = Evidence(SquaredDifferences(Inputs.continuous(20), X), (y - y.mean()) / y.std(), Hyperprior())
    parts = prior_parts(20, 0.5, -0.5)
    found = weigh(evidence, replace(parts, log_kernel=np.log([[0.02, 0.02, 0.96]])), 64)
    assert np.exp(found.log_weight)[found.kernel == 0].sum() > 0.9


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("kernel", range(3))
def test_the_climb_ends_at_the_top(kernel: int, learns: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposal, "STEPS", 60)
    monkeypatch.setattr(proposal, "ENOUGH", 1e-8)
    believed = Hyperprior(irrelevant=0.0, noise=(1e-3, 0.5) if learns else (0.05, 0.05))
    evidence = evidence_of(believed, 20, 2)
    v, which = np.full(believed.size(2), 1.5), np.array([kernel])
    (start,) = evidence.at(which, v[None])
    height = float(evidence.height([start], which, v[None])[0])
    made = proposal._climb(evidence, kernel, v, start, height, np.arange(len(v)))
    assert made is not None
    top = made[0]
    (there,) = evidence.at(which, top.mean[None])
    gradient, _, actual = evidence.slope_and_curvature(kernel, top.mean, there)
    assert abs(gradient).max() < 1e-2 and float(evidence.height([there], which, top.mean[None])[0]) > height
    np.testing.assert_allclose(top.root @ top.root.T, proposal.WIDER * np.linalg.inv(actual), rtol=0.02, atol=1e-3)


def test_where_nothing_is_possible_it_says_so() -> None:
    rows = SquaredDifferences(Inputs.continuous(1), np.array([[0.0], [np.nan]]))
    with pytest.raises(FloatingPointError, match="no hyperparameters were found"):
        weigh(Evidence(rows, np.array([1.0, -1.0]), ONE), prior_parts(1), 16)


# thinning


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40).filter(lambda w: sum(w) > 1e-3), st.integers(1, 45))
@settings(max_examples=100)
def test_thinned_weights_stand_for_all(raw: list[float], count: int) -> None:
    weight = np.array(raw) / sum(raw)
    places, found = thinned(weight, count, weight**0.5)
    assert len(places) == len(set(places.tolist())) == min(count, np.count_nonzero(weight))
    assert found.sum() == pytest.approx(1.0) and (found >= weight[places] * (1.0 - 1e-9)).all()
    assert (found[found > found.min() * (1.0 + 1e-9)] == weight[places][found > found.min() * (1.0 + 1e-9)]).all()


def test_thinning_leaves_expectations_as_they_are() -> None:
    """Of equal weights in order, every other one; of unequal ones in random orders, on average each keeps its weight."""
    places, _ = thinned(np.full(8, 0.125), 4, np.arange(8.0))
    assert (np.diff(np.sort(places)) == 2).all()
    rng = np.random.default_rng(0)
    weight, total = rng.dirichlet(np.full(12, 0.7)), np.zeros(12)
    for _ in range(4000):
        order = rng.permutation(12)
        places, found = thinned(weight[order], 5, np.arange(12.0))
        total[order[places]] += found / 4000.0
    np.testing.assert_allclose(total, weight, atol=0.02)


def test_nothing_is_not_kept() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        thinned(np.ones(3), 0, np.ones(3))
