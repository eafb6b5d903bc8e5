"""Noise that depends on the point, and values that are wrong altogether: the models, and searches with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bbopt
from bbopt.strategies.gp import GP
from surrogates.columns import Inputs
from surrogates.gp import condition
from surrogates.heteroscedastic import fit_heteroscedastic
from surrogates.map_fit import Objective, Prior, fit_map
from surrogates.relevance_pursuit import pursue_relevance

Array = np.ndarray[Any, np.dtype[Any]]


def objective(X: Array) -> Objective:
    return Objective(Inputs.continuous(X.shape[1]), X, "rbf", Prior.botorch(X.shape[1]))


def test_a_known_noise_profile_is_recovered() -> None:
    """sd(x) grows by e^2.5: the root mean square error of its logarithm at 100 rows was 0.06 to 0.25 over six seeds."""
    errors = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X = rng.random((100, 1))
        z = np.sin(6 * X[:, 0]) + 0.05 * np.exp(2.5 * X[:, 0]) * rng.standard_normal(100)
        model = fit_heteroscedastic(objective(X), z)
        assert model.noise is not None
        at = rng.random((200, 1))
        errors.append(np.sqrt(np.mean(np.log(np.sqrt(model.variances_at(at)) / (0.05 * np.exp(2.5 * at[:, 0]))) ** 2)))
    assert max(errors) < 0.3


def test_constant_noise_gives_the_plain_fit_to_the_bit() -> None:
    """Over 24 seeds of this kind (40 rows in one dimension, 100 in three) none was taken for a changing noise."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X = rng.random((40, 1))
        z = np.sin(6 * X[:, 0]) + 0.2 * rng.standard_normal(40)
        model, plain = fit_heteroscedastic(objective(X), z), fit_map(Inputs.continuous(1), X, z, Prior.botorch(1))
        assert model.noise is None and not model.variances.any()
        assert model.fitted.noise == plain.noise and (model.fitted.lengthscales == plain.lengthscales).all()
        assert (model.variances_at(X) == plain.noise).all()


def spoilt(seed: int, outliers: int = 4) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    X = rng.random((40, 2))
    z = np.sin(5 * X[:, 0]) + X[:, 1] ** 2 + 0.05 * rng.standard_normal(40)
    bad = rng.choice(40, outliers, replace=False)
    z[bad] += rng.choice([-1, 1], outliers) * rng.uniform(2, 8, outliers)
    return X, z, np.sort(bad)


@pytest.mark.parametrize("seed", range(4))
def test_the_outliers_are_found_and_the_function_behind_them(seed: int) -> None:
    X, z, bad = spoilt(seed)
    robust = pursue_relevance(objective(X), z)
    assert robust.outliers.tolist() == bad.tolist()
    gp = condition(Inputs.continuous(2), X, z[:, None], [robust.fitted], "rbf", robust.rho[:, None])
    clean = np.delete(np.arange(40), bad)
    fitted = fit_map(Inputs.continuous(2), X[clean], z[clean], Prior.botorch(2))
    without = condition(Inputs.continuous(2), X[clean], z[clean, None], [fitted])
    at = np.random.default_rng(9).random((50, 2))
    np.testing.assert_allclose(gp.mean_variance(at)[0], without.mean_variance(at)[0], atol=0.05)


def test_without_outliers_relevance_pursuit_is_the_plain_fit() -> None:
    X, z, _ = spoilt(0, 0)
    robust, plain = pursue_relevance(objective(X), z), fit_map(Inputs.continuous(2), X, z, Prior.botorch(2))
    assert not len(robust.outliers)
    np.testing.assert_allclose(robust.fitted.lengthscales, plain.lengthscales, rtol=1e-3)
    assert robust.fitted.noise == pytest.approx(plain.noise, rel=1e-2)


def test_a_variance_of_a_row_is_where_the_evidence_is_greatest() -> None:
    X, z, bad = spoilt(1)
    robust = pursue_relevance(objective(X), z)
    target = objective(X)
    theta = target.join(robust.fitted.lengthscales, 1.0, robust.fitted.noise)
    for row in bad:
        values = []
        for factor in (0.9, 1.0, 1.1):
            rho = robust.rho.copy()
            rho[row] *= factor
            values.append(target(theta, z, rho)[0])
        assert values[1] <= min(values) + 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # BoTorch's own
def test_botorch_finds_the_same_outliers() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("surrogates.gp_botorch", reason="needs the extra bbopt[botorch]", exc_type=ImportError)
    from botorch.fit import fit_gpytorch_mll
    from botorch.models.robust_relevance_pursuit_model import RobustRelevancePursuitSingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    X, z, bad = spoilt(0)
    z = (z - z.mean()) / z.std(ddof=1)
    robust = pursue_relevance(objective(X), z)
    ours = condition(Inputs.continuous(2), X, z[:, None], [robust.fitted], "rbf", robust.rho[:, None])
    model = RobustRelevancePursuitSingleTaskGP(torch.tensor(X), torch.tensor(z[:, None]), outcome_transform=None)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    theirs = model.likelihood.noise_covar.rho.detach().numpy()
    assert np.flatnonzero(theirs > 1e-9).tolist() == robust.outliers.tolist() == bad.tolist()
    model.eval()
    at = np.random.default_rng(9).random((50, 2))
    mean = model.posterior(torch.tensor(at)).mean.detach().numpy()
    np.testing.assert_allclose(ours.mean_variance(at)[0], mean, atol=0.1)


def search(strategy: GP, budget: int, spoil: float, seed: int = 0) -> float:
    """True regret of what is recommended on a parabola with a limit, both noisy, some values 20 too low or too high."""
    rng = np.random.default_rng(seed)
    task = bbopt.Task(
        bbopt.Space(x=bbopt.Float(-1, 2), y=bbopt.Float(-1, 2)),
        [bbopt.Objective("f", noise="unknown")],
        [bbopt.Constraint("g", upper=0.0, noise="unknown")],
    )
    opt = bbopt.Optimizer(task, strategy, seed=seed)
    for _ in range(budget):
        trial = opt.ask()
        x, y = trial.params["x"], trial.params["y"]
        off = 20.0 * rng.choice([-1, 1]) if rng.random() < spoil else 0.0
        noise = 0.05 * rng.standard_normal(2)
        opt.tell(trial, {"f": (x - 0.5) ** 2 + y**2 + noise[0] + off, "g": 0.2 - x + noise[1] + off})
    best = opt.recommend()
    assert best is not None
    return float((best.params["x"] - 0.5) ** 2 + best.params["y"] ** 2)


@pytest.mark.parametrize("noise", ["heteroscedastic", "outliers"])
def test_searches_work_under_constraints(noise: Any) -> None:
    assert search(GP(noise=noise, initial=8), 14, 0.1 if noise == "outliers" else 0.0) < 0.3


def test_what_cannot_apply_is_refused() -> None:
    with pytest.raises(bbopt.UsageError, match="expected noise"):
        GP(noise="loud")  # type: ignore[arg-type]
    with pytest.raises(bbopt.UsageError, match="penalty"):
        GP(noise="outliers", acquisition="penalty")
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)), [bbopt.Objective("f")])
    with pytest.raises(bbopt.UsageError, match="needs an objective"):
        bbopt.Optimizer(task, GP(noise="outliers"), seed=0).ask()


@pytest.mark.parametrize("noise", ["heteroscedastic", "outliers"])
@pytest.mark.parametrize("values", [[1.0] * 14, [1e300, -1e300] * 7, [0.0] * 13 + [1e300]])
def test_hard_values_are_survived(noise: Any, values: list[float]) -> None:
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)), [bbopt.Objective("f", noise="unknown")])
    opt = bbopt.Optimizer(task, GP(noise=noise, initial=1), seed=0)
    for i, value in enumerate(values):
        opt.add({"x": (i % 7) / 7}, value)
    assert 0.0 <= opt.ask().params["x"] <= 1.0
