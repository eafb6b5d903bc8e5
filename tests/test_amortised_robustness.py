"""The amortised process on data that are hard on any process: it never raises (warnings are errors), and says so when it doubts.

Its log predictive density at held-out points is at most 0.1 nats below the fitted process's, unless the guard has spoken
(`diagnosis.how` is not "network"). Both are of noise-free values, blurred by a thousandth of the spread of the told ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp

from surrogates.amortised.components import Components
from surrogates.amortised.fit import fit_amortised
from surrogates.amortised.hyperprior import Hyperprior
from surrogates.amortised.posterior import AmortisedGP, condition_components
from surrogates.columns import Inputs
from surrogates.evaluation.tasks import Cell
from surrogates.gp import condition, fit_gp
from surrogates.map_fit import Fitted, Prior

Array = NDArray[np.float64]
BLUR = 1e-3
ALLOWED = 0.1
HELD_OUT = 128
SEEDS = range(3)


def smooth(X: Array, rng: np.random.Generator) -> Array:
    """A sum of waves along a few directions, of the first columns alone where there are many."""
    few = X[:, :4]
    along = few @ rng.standard_normal((few.shape[1], 3)) * 2.0
    return np.asarray(np.sin(along + rng.uniform(0, 6, 3)).sum(axis=1))


def decades(X: Array, rng: np.random.Generator) -> Array:
    """Values over ten decades."""
    return np.asarray(10.0 ** (5.0 * np.sin(3.0 * X[:, 0] + rng.uniform(0, 6)) * np.cos(2.0 * X[:, -1])))


def pole(X: Array, rng: np.random.Generator) -> Array:
    """A pole on a line through the cube."""
    distance = X[:, 0] + 0.3 * X[:, -1] - rng.uniform(0.5, 0.8)
    return np.asarray(1.0 / np.where(np.abs(distance) < 1e-6, 1e-6, distance))


def two_matter(X: Array, rng: np.random.Generator) -> Array:
    """Of two columns, wherever they stand."""
    i, j = rng.choice(X.shape[1], 2, replace=False)
    return np.asarray(np.sin(5.0 * X[:, i]) + (X[:, j] - rng.uniform(0.2, 0.8)) ** 2 * 3.0)


@dataclass(frozen=True)
class Case:
    """n rows in d columns of a function; outliers: told values that are a thousand times too large; repeats: rows told twice."""

    name: str
    n: int
    d: int
    function: Callable[[Array, np.random.Generator], Array]
    outliers: int = 0
    repeats: int = 0
    seeds: int = 8

    def data(self, seed: int) -> tuple[Array, Array, Array, Array]:
        """Rows, told values, held-out points and their values."""
        rng = np.random.default_rng([seed, self.n, self.d])
        X = rng.random((self.n + HELD_OUT, self.d))
        y = self.function(X, rng)
        X, Q, y, truth = X[: self.n], X[self.n :], y[: self.n], y[self.n :]
        X[self.n - self.repeats :], y[self.n - self.repeats :] = X[: self.repeats].copy(), y[: self.repeats].copy()
        y[: self.outliers] *= 1e3
        return X, y, Q, truth


CASES = (
    *(Case(f"{n} rows, {d} columns", n, d, smooth) for n in (1, 2, 3) for d in (1, 3)),
    Case("constant", 12, 2, lambda X, rng: np.full(len(X), 3.0)),
    Case("constant and large", 12, 2, lambda X, rng: np.full(len(X), 1e12)),
    Case("nearly constant", 12, 2, lambda X, rng: 1e6 + 1e-8 * smooth(X, rng)),
    Case("duplicates", 20, 2, smooth, repeats=8),
    Case("ten decades", 30, 2, decades),
    Case("outliers", 30, 2, smooth, outliers=2),
    Case("poles", 30, 2, pole),
    Case("2 of 20 columns", 60, 20, two_matter),
    Case("40 columns", 60, 40, smooth, seeds=3),
    Case("100 columns", 60, 100, smooth, seeds=3),
    Case("300 rows", 300, 4, smooth, seeds=3),
)


def amortised_score(posterior: AmortisedGP, Q: Array, truth: Array, blur: float) -> float:
    """Mean log density of the truth under the mixture."""
    moments = posterior.predictor.forward(Q)
    variance = moments.variance + blur**2
    each = -0.5 * (moments.mean[:, :, 0] - truth) ** 2 / variance - 0.5 * np.log(2.0 * np.pi * variance)
    return float(logsumexp(posterior.log_weight[:, None] + each, axis=0).mean())


def fitted_score(inputs: Inputs, X: Array, y: Array, Q: Array, truth: Array, blur: float) -> float:
    """That of the project's own fit of a deterministic function, to standardised values."""
    width = float(y.std()) if y.std() > 0.0 else 1.0
    model = fit_gp(inputs, X, ((y - y.mean()) / width)[:, None], [Prior.noiseless(X.shape[1])])
    mean, variance = (part[:, 0] for part in model.mean_variance(Q))
    total = width**2 * variance + blur**2
    apart = y.mean() + width * mean - truth
    return float((-0.5 * apart**2 / total - 0.5 * np.log(2.0 * np.pi * total)).mean())


NARROW = "one row says nothing of the variance, and both processes are far too sure of theirs: who is ahead is luck"
MISSED = {
    "1 rows, 1 columns": NARROW,
    "1 rows, 3 columns": NARROW,
    "2 of 20 columns": "0.1 nats more or less, with the weights: relevant columns are not told apart as sharply",
}
"""Cases at the edge of what is allowed, on either side of it by what is drawn, with why as far as is known."""


def marked(case: Case) -> Any:
    """The case, allowed to fail if it is known to."""
    if case.name not in MISSED:
        return pytest.param(case, id=case.name)
    return pytest.param(case, marks=pytest.mark.xfail(strict=False, reason=MISSED[case.name]), id=case.name)


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_hard_data(case: Case) -> None:
    """Scores on one data set are luck, so they are compared on average over seeds; those where the guard spoke do not count."""
    inputs, differences, words = Inputs.continuous(case.d), [], []
    for seed in range(case.seeds):
        X, y, Q, truth = case.data(seed)
        posterior = fit_amortised(inputs, X, y[:, None])
        mean, variance = posterior.mean_variance(Q)
        assert np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0.0).all()
        (found,) = posterior.diagnosis
        assert np.isfinite(posterior.log_weight).all() and found.ess >= 1.0 - 1e-9
        blur = BLUR * (float(y.std()) if y.std() > 0.0 else 1.0)
        ours, theirs = amortised_score(posterior, Q, truth, blur), fitted_score(inputs, X, y, Q, truth, blur)
        words.append(f"seed {seed}: amortised {ours:.3f}, fitted {theirs:.3f}, {found.how}, {found.ess:.1f} draws")
        if found.how == "network":
            differences.append(ours - theirs)
    assert not differences or np.mean(differences) >= -ALLOWED, "; ".join(words)


@pytest.mark.parametrize("believed", [Hyperprior(), Hyperprior.noisy()], ids=["exact", "noisy"])
@pytest.mark.parametrize("seed", SEEDS)
def test_rows_that_contradict_each_other(believed: Hyperprior, seed: int) -> None:
    """The same point with different values: noise, or what is left of a deterministic function."""
    rng = np.random.default_rng(seed)
    X = np.repeat(rng.random((6, 2)), 3, axis=0)
    y = smooth(X, rng) + 0.3 * rng.standard_normal(len(X))
    posterior = fit_amortised(Inputs.continuous(2), X, y[:, None], [believed])
    mean, variance = posterior.mean_variance(np.concatenate([X, rng.random((20, 2))]))
    assert np.isfinite(mean).all() and np.isfinite(variance).all()
    if believed.learns_noise:
        assert abs(mean[: len(X), 0] - y.reshape(6, 3).mean(axis=1).repeat(3)).max() < 0.5


@pytest.mark.parametrize("value", [1e150, 1e-150, 3e12])
def test_values_of_any_size(value: float) -> None:
    rng = np.random.default_rng(0)
    X = rng.random((10, 2))
    y = value * smooth(X, rng)
    posterior = fit_amortised(Inputs.continuous(2), X, y[:, None])
    plain = fit_amortised(Inputs.continuous(2), X, y[:, None] / value)
    Q = rng.random((5, 2))
    np.testing.assert_allclose(posterior.mean_variance(Q)[0] / value, plain.mean_variance(Q)[0], atol=1e-5)


@pytest.mark.parametrize("believed", [Hyperprior(), Hyperprior.noisy()], ids=["exact", "noisy"])
@pytest.mark.parametrize("seed", SEEDS)
def test_order_and_units_mean_nothing(believed: Hyperprior, seed: int) -> None:
    """Rows and columns permuted, values mapped affinely: means and standard deviations agree to 1e-5 of the spread."""
    rng = np.random.default_rng(seed)
    X, Q = rng.random((25, 4)), rng.random((40, 4))
    y = smooth(X, rng)
    inputs, width = Inputs.continuous(4), float(y.std())
    rows, columns = rng.permutation(25), rng.permutation(4)

    def predict(A: Array, z: Array, at: Array) -> tuple[Array, Array]:
        mean, variance = fit_amortised(inputs, A, z[:, None], [believed]).mean_variance(at)
        return mean[:, 0], np.sqrt(variance[:, 0])

    mean, sd = predict(X, y, Q)
    moved = predict(X, 1000.0 * y - 5.0, Q)
    others = {
        "rows": predict(X[rows], y[rows], Q),
        "columns": predict(X[:, columns], y, Q[:, columns]),
        "affine": ((moved[0] + 5.0) / 1000.0, moved[1] / 1000.0),
    }
    for name, (other_mean, other_sd) in others.items():
        np.testing.assert_allclose(other_mean, mean, atol=1e-5 * width, rtol=0, err_msg=name)
        np.testing.assert_allclose(other_sd, sd, atol=1e-5 * width, rtol=0, err_msg=name)


@pytest.mark.parametrize("cell", [Cell("plain", 1, 8), Cell("plain", 4, 24), Cell("plain", 6, 64)], ids=str)
def test_with_the_true_hyperparameters_alone_it_is_the_exact_process(cell: Cell) -> None:
    tasks = cell.tasks(4)
    inputs = Inputs.continuous(cell.d)
    for b in range(4):
        lengthscales = 1.0 / tasks.hyperparameters["inverse_lengthscales"][b].numpy()
        noise = math.exp(0.5 * float(tasks.hyperparameters["log_noise"][b, 0]))
        X, y, Q = tasks.X[b].numpy(), tasks.y[b].numpy()[:, None], tasks.Q[b].numpy()
        alone = condition_components(inputs, X, y, [Components.single("matern52", lengthscales, noise, offset=0.0)])
        exact = condition(inputs, X, y, [Fitted(lengthscales, 1.0, noise**2, 0.0, 0.0, 0.0, 0)], "matern52")
        for found, wanted in zip(alone.mean_variance(Q), exact.mean_variance(Q), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-8, rtol=0)
