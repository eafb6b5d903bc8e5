"""Kernel regressions in closed form against a dense implementation in NumPy and SciPy, written from the formulas alone."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, optimize
from scipy.spatial.distance import cdist

import surrogates.pfn.anchors as anchors_module
import surrogates.pfn.normalise as normalise_module
from bbopt.errors import ValueRefused
from surrogates.pfn.anchors import MOST_ANCHORS, Anchors, fit_anchors, shared_evidence
from surrogates.pfn.normalise import Normal, compress, expand

COUNT = 6


def data(seed: int = 0, n: int = 12, p: int = 3, batch: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the unit cube, and standardised values of a smooth function that ignores the last of several columns."""
    rng = np.random.default_rng(seed)
    X = rng.random((batch, n, p))
    y = np.sin(4.0 * X[..., 0]) + (X[..., 1] ** 2 if p > 2 else 0.0) + 0.05 * rng.normal(size=(batch, n))
    return X, (y - y.mean(-1, keepdims=True)) / y.std(-1, keepdims=True)


def fitted(X: np.ndarray, z: np.ndarray, count: int = COUNT) -> Anchors:
    return fit_anchors(torch.tensor(X), torch.tensor(z), count)


def kernel(A: np.ndarray, B: np.ndarray, rate: np.ndarray, smooth: float) -> np.ndarray:
    """Correlations plus the variance of the mean, 1."""
    r = cdist(A * np.sqrt(rate), B * np.sqrt(rate))
    matern = (1.0 + np.sqrt(5.0) * r + 5.0 / 3.0 * r**2) * np.exp(-np.sqrt(5.0) * r)
    return (np.exp(-0.5 * r**2) if smooth else matern) + 1.0


class Dense:
    """One kernel regression, with matrices inverted outright."""

    def __init__(self, X: np.ndarray, z: np.ndarray, rate: np.ndarray, smooth: float, noise: float) -> None:
        self.X, self.z, self.rate, self.smooth, self.noise = X, z, rate, smooth, noise
        self.C = kernel(X, X, rate, smooth) + noise * np.eye(len(X))
        self.quadratic = float(z @ np.linalg.solve(self.C, z))
        self.scale = (1.0 + self.quadratic) / (len(z) + 1)

    def evidence(self) -> float:
        n, p = self.X.shape
        marginal = -0.5 * np.linalg.slogdet(self.C)[1] - 0.5 * (n + 1) * np.log1p(self.quadratic)
        lengths = np.log(1.0 / np.sqrt(self.rate)) - np.log(0.4 * np.sqrt(p))
        return float(marginal - 0.5 * (lengths**2).sum() - 0.5 * (np.log(self.noise / 1e-4) / 4.0) ** 2)

    def predict(self, Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cross = kernel(Q, self.X, self.rate, self.smooth)
        solved = np.linalg.solve(self.C, cross.T)
        return solved.T @ self.z, self.scale * (2.0 - (cross * solved.T).sum(1))

    def without(self, i: int) -> tuple[float, float]:
        """Mean and standard deviation of value i told the others, with the scale of all."""
        others = np.arange(len(self.z)) != i
        solved = np.linalg.solve(self.C[np.ix_(others, others)], self.C[others, i])
        return solved @ self.z[others], np.sqrt(self.scale * (self.C[i, i] - self.C[i, others] @ solved))


@pytest.mark.parametrize(("seed", "n", "p"), [(0, 12, 3), (1, 5, 1), (2, 30, 2), (3, 8, 7)])
def test_evidence_predictions_and_left_out_rows_match_dense_algebra(seed: int, n: int, p: int) -> None:
    X, z = data(seed, n, p)
    anchors = fitted(X, z)
    Q = np.random.default_rng(seed + 9).random((4, p))
    mean, sd = anchors.predict(torch.tensor(Q)[None])
    for k in range(COUNT):
        dense = Dense(X[0], z[0], anchors.rate[0, k].numpy(), float(anchors.smooth[0, k]), float(anchors.noise[0, k]))
        assert float(anchors.evidence[0, k]) == pytest.approx(dense.evidence(), abs=1e-6)
        assert float(anchors.scale[0, k]) == pytest.approx(dense.scale, rel=1e-6)
        expected, variance = dense.predict(Q)
        np.testing.assert_allclose(mean[0, k], expected, atol=1e-6)
        np.testing.assert_allclose(sd[0, k] ** 2, variance, atol=1e-8 * dense.scale + 1e-9)
        for i in range(n):
            expected_mean, expected_sd = dense.without(i)
            assert float(anchors.left_out_mean[0, k, i]) == pytest.approx(expected_mean, abs=1e-5)
            assert float(anchors.left_out_sd[0, k, i]) == pytest.approx(expected_sd, rel=1e-5)


def test_evidence_is_the_integral_over_the_scale() -> None:
    """N(z; 0, s C) with s from an inverse gamma of shape and rate 1/2, against the closed form, up to one constant."""
    X, z = data(4, 4, 2)
    constants = []
    for rate, noise, values in ((3.0, 1e-2, z[0]), (20.0, 0.3, z[0]), (1.0, 1e-1, 2.0 * z[0])):
        dense = Dense(X[0], values, np.full(2, rate), 0.0, noise)

        def density(log_s: float, dense: Dense = dense) -> float:
            s = np.exp(log_s)
            gaussian = -0.5 * dense.quadratic / s - 0.5 * 4 * log_s - 0.5 * np.linalg.slogdet(dense.C)[1]
            return float(np.exp(gaussian - 0.5 / s - 0.5 * log_s))  # s^(-3/2) exp(-1/(2 s)), and ds = s dlog s

        integral = integrate.quad(density, -15.0, 25.0, limit=400)[0]
        closed = -0.5 * np.linalg.slogdet(dense.C)[1] - 2.5 * np.log1p(dense.quadratic)
        constants.append(np.log(integral) - closed)
    np.testing.assert_allclose(constants, constants[0], atol=1e-6)


def test_they_come_best_first_and_are_as_many_as_asked_for() -> None:
    X, z = data(5, 15, 2, batch=3)
    for count in (1, COUNT, MOST_ANCHORS):
        anchors = fitted(X, z, count)
        assert anchors.evidence.shape == (3, count)
        assert (anchors.evidence.diff(dim=1) <= 0.0).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_best_one_is_near_an_optimum_of_the_evidence(seed: int) -> None:
    """Of what L-BFGS, started there, finds above the best isotropic kernel, a few sign steps reach more than 70 %."""
    X, z = data(seed, 40, 3)
    anchors = fitted(X, z)
    smooth = float(anchors.smooth[0, 0])

    def loss(theta: np.ndarray) -> float:
        return -Dense(X[0], z[0], np.exp(theta[:-1]), smooth, float(np.exp(theta[-1]))).evidence()

    start = np.log([*anchors.rate[0, 0].tolist(), float(anchors.noise[0, 0])])
    found = optimize.minimize(loss, start, method="L-BFGS-B", bounds=[(-10.0, 9.0)] * 3 + [(np.log(1e-8), 2.0)])
    grid = [(length, noise) for length in (0.15, 0.4, 1.0, 2.5) for noise in (1e-6, 1e-3, 5e-2)]
    isotropic = max(
        Dense(X[0], z[0], np.full(3, 1.0 / (3.0 * length**2)), 0.0, noise).evidence() for length, noise in grid
    )
    reached = (float(anchors.evidence[0, 0]) - isotropic) / (-found.fun - isotropic)
    assert 0.7 < reached <= 1.0 + 1e-6


def test_relevance_finds_the_columns_that_matter() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((8, 30, 5))
    y = np.sin(5.0 * X[..., 3])
    relevance = fitted(X, (y - y.mean(-1, keepdims=True)) / y.std(-1, keepdims=True)).relevance
    torch.testing.assert_close(relevance.sum(-1), torch.ones(8, dtype=torch.float64))
    assert (relevance.argmax(-1) == 3).all() and float(relevance[:, 3].mean()) > 0.9


def test_the_order_of_columns_and_rows_changes_nothing() -> None:
    X, z = data(6, 14, 4, batch=2)
    rng = np.random.default_rng(1)
    Q = rng.random((2, 5, 4))
    columns, rows = rng.permutation(4), rng.permutation(14)
    mean, sd = fitted(X, z).predict(torch.tensor(Q))
    for other, at in ((fitted(X[..., columns], z), Q[..., columns]), (fitted(X[:, rows], z[:, rows]), Q)):
        again, spread = other.predict(torch.tensor(at))
        torch.testing.assert_close(again, mean, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(spread, sd, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(fitted(X[..., columns], z).relevance, fitted(X, z).relevance[:, columns], atol=1e-8, rtol=1e-6)  # fmt: skip


def test_data_sets_do_not_hear_of_each_other() -> None:
    """A batch that is cut in pieces for the cache gives what each data set gives alone."""
    X, z = data(7, 40, 2, batch=20)
    assert len(X) > anchors_module.CACHED // 40**2
    together = fitted(X, z)
    for b in (0, 11, 19):
        alone = fitted(X[b : b + 1], z[b : b + 1])
        torch.testing.assert_close(together.evidence[b], alone.evidence[0], atol=1e-8, rtol=1e-9)
        torch.testing.assert_close(together.weights[b], alone.weights[0], atol=1e-6, rtol=1e-6)


def finite(anchors: Anchors, Q: torch.Tensor) -> None:
    for part in (*vars(anchors).values(), *anchors.predict(Q)):
        assert torch.isfinite(part).all()


@pytest.mark.parametrize(
    "case", ["one row", "constant", "duplicates", "all the same row", "conflict", "a far value", "many columns"]
)
def test_odd_data_stay_finite(case: str) -> None:
    X, z = (torch.tensor(part) for part in data(8, 10, 2))
    if case == "one row":
        X, z = X[:, :1], torch.zeros(1, 1, dtype=torch.float64)
    elif case == "constant":
        z = torch.zeros_like(z)
    elif case == "duplicates":
        X, z = X.repeat(1, 3, 1), z.repeat(1, 3)
    elif case == "all the same row":
        X = X[:, :1].expand(-1, 10, -1)
    elif case == "conflict":
        X, z = torch.cat([X, X], 1), torch.cat([z, z + 1.0], 1)
    elif case == "a far value":
        z = z.clone()
        z[0, 0] = float(compress(torch.tensor(1e300, dtype=torch.float64)))
    else:
        X = torch.rand(1, 10, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    anchors = fit_anchors(X, z, COUNT)
    finite(anchors, torch.cat([X[:, :3], X[:, :3] + 0.01], 1))
    if case == "constant":
        assert float(anchors.predict(X)[0].abs().max()) < 1e-9
    if case == "conflict":
        assert float(anchors.noise[0, 0]) > 0.01


def test_rows_that_are_not_finite_give_an_error_and_not_an_endless_loop() -> None:
    X, z = (torch.tensor(part) for part in data(9))
    X[0, 0, 0] = torch.nan
    with pytest.raises(ValueRefused, match="finite rows"):
        fit_anchors(X, z, COUNT)


def test_gradients_of_predictions_match_differences() -> None:
    X, z = data(10, 12, 2)
    anchors = fitted(X, z)
    away = torch.rand(1, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = away.requires_grad_()
    assert torch.autograd.gradcheck(anchors.predict, (inputs,), eps=1e-6, atol=1e-5, rtol=1e-3)
    at_rows = anchors.X[:, :2].clone().requires_grad_()
    for part in anchors.predict(at_rows):
        slope = torch.autograd.grad(part.sum(), at_rows, retain_graph=True)[0]
        assert torch.isfinite(slope).all()


def test_going_on_from_an_earlier_fit_finds_no_less_evidence() -> None:
    X, z = data(12, 30, 3, batch=4)
    cold = fitted(X, z)
    warm = fit_anchors(torch.tensor(X), torch.tensor(z), COUNT, (cold.found_rate, cold.found_noise))
    assert (warm.evidence[:, 0] >= cold.evidence[:, 0] - 1e-6).all()
    assert (warm.evidence[:, 0] > cold.evidence[:, 0] + 1e-3).any()


def test_evidence_of_several_outputs_at_shared_rows() -> None:
    X, z = data(11, 10, 2)
    Z = np.stack([z[0], -(z[0] ** 2) + 1.0])
    found = shared_evidence(torch.tensor(X[0]), torch.tensor(Z))
    for m in range(2):
        best = -np.inf
        for length in (0.15, 0.4, 1.0, 2.5):
            for noise in (1e-6, 1e-3, 5e-2):
                dense = Dense(X[0], Z[m], np.full(2, 0.5 / length**2), 0.0, noise)
                log_det = np.linalg.slogdet(dense.C)[1]
                best = max(best, -0.5 * log_det - 5.5 * np.log1p(dense.quadratic))
        assert float(found[m]) == pytest.approx(best, abs=1e-6)


def test_normalising_is_affine_invariant_and_has_an_inverse() -> None:
    y = torch.tensor(np.random.default_rng(0).normal(size=(2, 9)) ** 3)
    y[0, 0] = 1e4
    normal, z = Normal.of(y), Normal.of(y).forward(y)
    torch.testing.assert_close(normal.backward(z), y, rtol=1e-12, atol=1e-12)
    for scale, shift in ((1e-3, 0.0), (7.0, -40.0), (1e250, 1e200)):
        other = Normal.of(scale * y + shift)
        torch.testing.assert_close(other.forward(scale * y + shift), z, rtol=1e-9, atol=1e-9)
    at = torch.linspace(-30.0, 30.0, 41, dtype=torch.float64).expand(2, -1)
    h = 1e-5
    slope = (normal.forward(at + h) - normal.forward(at - h)) / (2.0 * h)
    torch.testing.assert_close(normal.log_slope(at).exp(), slope, rtol=1e-5, atol=1e-9)
    assert (normal.forward(at).diff(dim=-1) > 0.0).all()


@pytest.mark.parametrize(
    "y", [[3.0], [5.0, 5.0, 5.0], [0.0, 0.0], [1e300, -1e300, 2.0], [1e-300, 2e-300], [-1e300, -1e300]]
)
def test_extreme_and_constant_values_normalise_to_finite_numbers(y: list[float]) -> None:
    told = torch.tensor([y], dtype=torch.float64)
    normal = Normal.of(told)
    z = normal.forward(told)
    assert torch.isfinite(z).all() and torch.isfinite(normal.width).all() and (normal.width > 0.0).all()
    if len(set(y)) == 1:
        assert (z == 0.0).all() and float(normal.width) == max(1.0, 1e-13 * abs(y[0]))
    torch.testing.assert_close(normal.backward(z), told, rtol=1e-12, atol=1e-300)


def test_rounding_of_huge_values_is_no_difference() -> None:
    """With a width of 1 one bit of 1e300 would be 1e284 standard deviations."""
    told = torch.tensor([[1e300, 1e300 * (1.0 + 3e-16), 1e300]], dtype=torch.float64)
    assert float(Normal.of(told).forward(told).abs().max()) < 0.01


def test_far_values_are_pulled_in_and_pushed_out() -> None:
    u = torch.tensor([0.0, 3.9, 4.0, 4.1, -50.0, 1e300], dtype=torch.float64)
    torch.testing.assert_close(expand(compress(u)), u, rtol=1e-10, atol=0.0)
    assert float(compress(u)[-1]) < 700.0


@pytest.mark.parametrize("module", [anchors_module, normalise_module])
def test_examples_in_the_docstrings_run(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.failed == 0 and result.attempted > 0
