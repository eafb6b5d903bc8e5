"""Known and unknown noise in `gp`: what is believed of points, replicates, and what is recommended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bbopt
from bbopt.strategies.gp import GP
from surrogates.columns import Inputs
from surrogates.gp import condition
from surrogates.map_fit import Objective, Prior

Array = np.ndarray[Any, np.dtype[Any]]


def study(
    strategy: Any = "gp", noise: Any = "unknown", maximize: bool = False, constraint: bool = True
) -> bbopt.Optimizer:
    """Twelve values of (x - 0.3)^2 and of x in a box from -1 to 2, the latter limited on both sides."""
    space = bbopt.Space(x=bbopt.Float(-1, 2))
    limits = [bbopt.Constraint("g", lower=-0.5, upper=1.5, noise=noise)] if constraint else []
    opt = bbopt.Optimizer(
        bbopt.Task(space, [bbopt.Objective("f", maximize=maximize, noise=noise)], limits), strategy, seed=1
    )
    for x in np.linspace(-1, 2, 12):
        f = (x - 0.3) ** 2 * (-1 if maximize else 1)
        opt.add({"x": float(x)}, {"f": f, "g": float(x)} if constraint else {"f": f})
    return opt


@pytest.mark.parametrize("maximize", [False, True])
def test_predictions_are_in_the_users_units_and_sign(maximize: bool) -> None:
    opt = study(GP(), None, maximize)
    found = opt.predict([{"x": 0.8}, {"x": -0.4}])
    assert found is not None
    one, two = found
    sign = -1 if maximize else 1
    for prediction, x in ((one, 0.8), (two, -0.4)):
        assert prediction.mean["f"] == pytest.approx(sign * (x - 0.3) ** 2, abs=0.02)
        assert prediction.mean["g"] == pytest.approx(x, abs=0.02)
        assert 0.0 < prediction.sd["f"] < 0.1 and 0.0 < prediction.sd["g"] < 0.1
    alone = opt.predict({"x": 0.8})
    assert alone is not None and alone.mean == pytest.approx(one.mean, abs=1e-9)


def test_nothing_is_believed_before_the_first_value_and_strategies_without_a_model_say_so() -> None:
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)), [bbopt.Objective("f")])
    assert bbopt.Optimizer(task, "gp", seed=0).predict({"x": 0.5}) is None
    with pytest.raises(bbopt.UsageError, match="no model"):
        bbopt.Optimizer(task, "random", seed=0).predict({"x": 0.5})


def test_replicates_with_known_errors_teach_what_their_mean_does() -> None:
    """n values of standard error s at one point are one value of s / sqrt(n): the same posterior, and the same evidence up to a
    constant that no hyperparameter changes."""
    rng = np.random.default_rng(0)
    points, counts = rng.random((6, 2)), np.array([1, 4, 2, 3, 1, 5])
    sd = rng.uniform(0.05, 0.3, 6)
    rows = np.repeat(points, counts, axis=0)
    z = np.sin(5 * rows.sum(axis=1)) + np.repeat(sd, counts) * rng.standard_normal(len(rows))
    means = np.array([part.mean() for part in np.split(z, np.cumsum(counts)[:-1])])
    inputs, prior = Inputs.continuous(2), Prior.noiseless(2, 1e-12)
    every, pooled = Objective(inputs, rows, "rbf", prior), Objective(inputs, points, "rbf", prior)
    differences = []
    for _ in range(3):
        theta = np.log(rng.uniform(0.3, 2.0, 3))
        a, slope_a = every(theta, z, np.repeat(sd**2, counts))
        b, slope_b = pooled(theta, means, sd**2 / counts)
        differences.append(a * len(rows) - b * len(points))
        np.testing.assert_allclose(slope_a * len(rows), slope_b * len(points), atol=1e-6)
    np.testing.assert_allclose(differences, differences[0], atol=1e-6)
    fit = Objective(inputs, points, "rbf", prior).split(np.log(np.array([0.6, 0.8, 1.5])))
    from surrogates.map_fit import Fitted

    fitted = Fitted(fit[0], fit[1], 0.0, 0.2, 0.0, 0.0, 0)
    one = condition(inputs, rows, z[:, None], [fitted], "rbf", np.repeat(sd**2, counts)[:, None])
    other = condition(inputs, points, means[:, None], [fitted], "rbf", (sd**2 / counts)[:, None])
    X = rng.random((20, 2))
    for a_part, b_part in zip(one.mean_variance(X), other.mean_variance(X), strict=True):
        np.testing.assert_allclose(a_part, b_part, atol=1e-8)
