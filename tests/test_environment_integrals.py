"""Integrals of a Gaussian process over what nature draws: against quadrature, differences and joint draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from bbopt.errors import UsageError
from surrogates.columns import Inputs
from surrogates.gp import GaussianProcess, fit_gp
from surrogates.integrated import Distribution, Functionals, Weights, at_environments, node_values
from surrogates.kernel_means import Spread, double, embedding
from surrogates.map_fit import Prior

COLUMNS = np.array([2, 3])
TRUNCATED = stats.truncnorm(-0.3 / 0.2, 0.7 / 0.2, loc=0.3, scale=0.2)


def model(noise: bool = False) -> GaussianProcess:
    rng = np.random.default_rng(1)
    Z = rng.random((15, 4))
    Z[:, 3] = rng.integers(3, size=15)
    inputs = Inputs(("float", "float", "float", "category"), (0, 0, 0, 3), (0, 1, 2, 3))
    y = np.sin(5 * Z[:, :1]) + Z[:, 1:2] * Z[:, 2:3] + 0.3 * (Z[:, 3:] == 1)
    return fit_gp(inputs, Z, y, [Prior.botorch(4) if noise else Prior.noiseless(4)])


@pytest.mark.parametrize("length", [0.1, 0.5, 3.0])
@pytest.mark.parametrize(
    ("spread", "density"),
    [(Spread(), lambda v: 1.0), (Spread(normal=(0.3, 0.2)), TRUNCATED.pdf), (Spread(normal=(0.0, 0.05)), None)],
    ids=["uniform", "normal", "cut"],
)
def test_kernel_means_are_those_of_quadrature(spread: Spread, density: Any, length: float) -> None:
    pdf = density or stats.truncnorm(0.0, 20.0, loc=0.0, scale=0.05).pdf
    for w in (0.0, 0.4, 1.0):
        m, slope = embedding(spread, length, np.array([w]))
        near = [embedding(spread, length, np.array([w + step]))[0][0] for step in (-1e-5, 1e-5)]
        points = (0.0, 0.05, 0.2)
        exact = quad(lambda v, w=w: np.exp(-0.5 * ((w - v) / length) ** 2) * pdf(v), 0, 1, epsabs=1e-12, points=points)[
            0
        ]
        assert m[0] == pytest.approx(exact, abs=1e-9)
        assert slope[0] == pytest.approx((near[1] - near[0]) / 2e-5, abs=1e-6)
    twice = quad(
        lambda w: embedding(spread, length, np.array([w]))[0][0] * pdf(w), 0, 1, epsabs=1e-12, points=(0.05, 0.2)
    )[0]
    assert double(spread, length) == pytest.approx(twice, abs=1e-9)


def test_levels_and_categories_are_sums() -> None:
    p = np.array([0.2, 0.3, 0.5])
    ordered, plain = Spread(np.arange(3.0), p), Spread(np.arange(3.0), p, category=True)
    k = np.exp(-0.5 * (np.arange(3.0)[:, None] - np.arange(3.0)) ** 2 / 0.7**2)
    hamming = np.where(np.eye(3), 1.0, np.exp(-1.0 / 0.7**2))
    for spread, matrix in ((ordered, k), (plain, hamming)):
        assert np.allclose(embedding(spread, 0.7, np.arange(3.0))[0], matrix @ p)
        assert double(spread, 0.7) == pytest.approx(p @ matrix @ p)


def test_weighted_means_are_sums_over_the_joint_posterior() -> None:
    gp, rng = model(), np.random.default_rng(2)
    designs, k = rng.random((5, 4)), 7
    nodes = np.column_stack([rng.random(k), rng.integers(3, size=k)]).astype(float)
    weights = rng.dirichlet(np.ones(k), 5)
    found = Functionals(gp, COLUMNS, designs, Weights(nodes, weights))
    rows = at_environments(designs, COLUMNS, nodes)
    joint = gp.covariance(rows)[0].reshape(5, k, 5, k)
    assert np.allclose(found.mean, (gp.mean_variance(rows)[0].reshape(5, k) * weights).sum(axis=1), atol=1e-10)
    assert np.allclose(found.covariance, np.einsum("ik,ikjl,jl->ij", weights, joint, weights), atol=1e-10)
    points = rng.random((3, 4))
    points[:, 3] = [0, 1, 2]
    cross = gp.predictor.covariance(points, rows)[0].reshape(3, 5, k)
    assert np.allclose(found.with_values(points), (cross * weights).sum(axis=2), atol=1e-10)


def test_the_closed_form_is_the_limit_of_many_environments() -> None:
    gp, rng = model(), np.random.default_rng(3)
    designs, n = rng.random((4, 4)), 400
    closed = Functionals(
        gp,
        COLUMNS,
        designs,
        Distribution([Spread(normal=(0.3, 0.2)), Spread(np.arange(3.0), np.array([0.2, 0.3, 0.5]), category=True)]),
    )
    v = TRUNCATED.ppf((np.arange(n) + 0.5) / n)
    nodes = np.array([[a, c] for c in range(3) for a in v])
    brute = Functionals(gp, COLUMNS, designs, Weights(nodes, np.repeat([0.2, 0.3, 0.5], n)[None] / n))
    points = rng.random((3, 4))
    points[:, 3] = [0, 1, 2]
    assert np.allclose(closed.mean, brute.mean, atol=1e-4)
    assert np.allclose(closed.covariance, brute.covariance, atol=1e-5)
    assert np.allclose(closed.with_values(points), brute.with_values(points), atol=1e-5)
    for found in (closed, brute):
        by = rng.standard_normal((3, 4))
        gradient = found.pull(points, by)
        for j in range(3):
            step = np.eye(4)[j] * 1e-6
            slope = ((found.with_values(points + step) - found.with_values(points - step)) * by).sum(axis=1) / 2e-6
            assert np.allclose(gradient[:, j], slope, atol=1e-6)
        assert np.array_equal(gradient[:, 3], np.zeros(3))


def test_one_environment_is_the_process_itself() -> None:
    gp, rng = model(noise=True), np.random.default_rng(4)
    designs = rng.random((4, 4))
    designs[:, 2:] = [0.4, 1.0]
    for measure in (
        Weights(np.array([[0.4, 1.0]]), np.ones((1, 1))),
        Distribution(
            [Spread(np.array([0.4]), np.ones(1)), Spread(np.arange(3.0), np.array([0.0, 1.0, 0.0]), category=True)]
        ),
    ):
        found = Functionals(gp, COLUMNS, designs, measure)
        assert np.allclose(found.mean, gp.mean_variance(designs)[0][:, 0], atol=1e-10)
        assert np.allclose(found.covariance, gp.covariance(designs)[0], atol=1e-9)


def test_draws_of_a_design_have_its_joint_distribution() -> None:
    """20,000 draws; the bound is some 5 standard errors of what is largest."""
    gp, rng = model(noise=True), np.random.default_rng(5)
    designs, nodes = rng.random((3, 4)), np.array([[0.1, 0.0], [0.6, 1.0], [0.9, 1.0]])
    drawn = node_values(gp, designs, COLUMNS, nodes, rng.standard_normal((20_000, 3)))
    for i, design in enumerate(designs):
        rows = at_environments(design[None], COLUMNS, nodes)
        covariance = gp.covariance(rows)[0]
        assert np.allclose(
            drawn[i].mean(axis=0), gp.mean_variance(rows)[0][:, 0], atol=0.05 * np.sqrt(covariance.max())
        )
        assert np.allclose(np.cov(drawn[i].T), covariance, atol=0.05 * covariance.max())


def test_only_a_product_kernel_will_do() -> None:
    gp = fit_gp(
        Inputs.continuous(2),
        np.random.default_rng(0).random((6, 2)),
        np.zeros((6, 1)),
        [Prior.noiseless(2)],
        "matern52",
    )
    with pytest.raises(UsageError, match="'rbf'"):
        Functionals(gp, np.array([1]), np.zeros((1, 2)), Distribution([Spread()]))
