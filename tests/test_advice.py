"""Advice against closed forms and brute force: leave-one-out, Sobol's indices, expected gain, regret bound, slices, contours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import bbopt
from bbopt import advice
from bbopt.advice.model_quality import calibration
from bbopt.advice.remaining import _Now, _words
from bbopt.advice.sensitivity import sobol_indices
from surrogates.gp import condition

BOX = bbopt.Space(x=bbopt.Float(-1, 1), y=bbopt.Float(0, 2))


def bowl(p: dict[str, Any]) -> float:
    return float((p["x"] - 0.2) ** 2 + 0.3 * (p["y"] - 1.1) ** 2 + 0.2 * np.sin(3 * p["x"] * p["y"]))


def study(
    task: bbopt.Task, n: int, answer: Callable[[dict[str, Any]], Any], strategy: Any = "sobol", seed: int = 0
) -> bbopt.Optimizer:
    opt = bbopt.Optimizer(task, strategy, seed=seed)
    for _ in range(n):
        trial = opt.ask()
        opt.tell(trial, answer({**trial.params, **trial.context}))
    return opt


# -- importance ---------------------------------------------------------------------------------------------------------


def ishigami(U: np.ndarray) -> np.ndarray:
    X = np.pi * (2 * U - 1)
    return np.asarray(np.sin(X[:, 0]) + 7 * np.sin(X[:, 1]) ** 2 + 0.1 * X[:, 2] ** 4 * np.sin(X[:, 0]))[:, None]


ISHIGAMI = {"first": [0.3139, 0.4424, 0.0], "total": [0.5576, 0.4424, 0.2437]}
"""Ishigami and Homma 1990 with a = 7, b = 0.1: Saltelli et al. 2008, Global Sensitivity Analysis: The Primer, section 4.6."""


def test_indices_of_ishigami() -> None:
    first, total, first_error, total_error = sobol_indices(
        ishigami, [[0], [1], [2]], 3, 4096, 4, np.random.default_rng(0)
    )
    np.testing.assert_allclose(first[0], ISHIGAMI["first"], atol=0.02)
    np.testing.assert_allclose(total[0], ISHIGAMI["total"], atol=0.01)
    assert (np.abs(total[0] - ISHIGAMI["total"]) < 6 * total_error[0] + 2e-3).all()
    assert (np.abs(first[0] - ISHIGAMI["first"]) < 6 * first_error[0] + 2e-3).all()


def test_indices_of_the_g_function() -> None:
    """Saltelli and Sobol 1995: V_i = 1 / (3 (1 + a_i)^2), V = prod (1 + V_i) - 1, V_Ti = V_i prod_{j != i} (1 + V_j)."""
    a = np.array([0.0, 1.0, 4.5, 9.0, 99.0])

    def g(U: np.ndarray) -> np.ndarray:
        return np.prod((np.abs(4 * U - 2) + a) / (1 + a), axis=1)[:, None]

    parts = 1 / (3 * (1 + a) ** 2)
    whole = np.prod(1 + parts) - 1
    first, total, *_ = sobol_indices(g, [[j] for j in range(5)], 5, 4096, 4, np.random.default_rng(1))
    np.testing.assert_allclose(first[0], parts / whole, atol=0.015)
    np.testing.assert_allclose(total[0], parts * (whole + 1) / (1 + parts) / whole, atol=0.015)


def test_indices_of_groups_add_up_for_sums() -> None:
    def line(U: np.ndarray) -> np.ndarray:
        return np.column_stack([U @ [1.0, 2.0, 3.0], np.ones(len(U))])

    first, total, *_ = sobol_indices(line, [[0, 1], [2]], 3, 1024, 4, np.random.default_rng(2))
    np.testing.assert_allclose(first[0], [5 / 14, 9 / 14], atol=0.01)
    np.testing.assert_allclose(total[0], first[0], atol=0.01)
    assert np.isnan(first[1]).all() and np.isnan(total[1]).all()


def test_importance_of_a_study() -> None:
    """The model of 120 rows of Ishigami's function has nearly its indices."""
    space = bbopt.Space({f"x{i}": bbopt.Float(-np.pi, np.pi) for i in range(3)})

    def answer(p: dict[str, Any]) -> float:
        return float(ishigami((np.array(list(p.values()))[None] / np.pi + 1) / 2)[0, 0])

    found = advice.importance(study(bbopt.Task(space), 120, answer))
    assert found.parameters == ("x0", "x1", "x2") and found.known[0] > 0.95
    np.testing.assert_allclose(found.total[0], ISHIGAMI["total"], atol=0.08)
    np.testing.assert_allclose(found.first[0], ISHIGAMI["first"], atol=0.08)
    np.testing.assert_allclose(found.relevance.sum(axis=1), 1.0)
    assert "x0 5" in found.summary()


def test_importance_of_conditional_categorical_and_vector_parameters() -> None:
    """y counts where kind is b, so half as often: kind: 1/4, y: 2^2/12/2, and the ignored vector nothing."""
    space = bbopt.Space(
        kind=bbopt.Categorical(["a", "b"]), y=bbopt.Float(0, 1, when="kind == 'b'"), w=bbopt.Float(0, 1, shape=(2,)),
        still=bbopt.Fixed(3),
    )  # fmt: skip

    def answer(p: dict[str, Any]) -> float:
        return (p["kind"] == "b") * (2.0 * p["y"] if "y" in p else 0.0)

    found = advice.importance(study(bbopt.Task(space), 60, answer))
    assert found.parameters == ("kind", "y", "w")
    # f = k 2 y with k fair and y uniform: V = 1/2 4/3 - 1/4 = 5/12; V_k = 1/4; E V(f | k) = 1/2 1/3
    np.testing.assert_allclose(found.total[0], [1 - (1 / 12) / (5 / 12), (1 / 6) / (5 / 12), 0.0], atol=0.05)
    np.testing.assert_allclose(found.first[0], [(1 / 4) / (5 / 12), (1 / 12) / (5 / 12), 0.0], atol=0.05)
    assert found.relevance[0, 2] == found.relevance[0].min()


# -- quality ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [None, "unknown"])
def test_leave_one_out_is_leaving_one_out(noise: str | None) -> None:
    task = bbopt.Task(BOX, bbopt.Objective("f", maximize=True, noise=noise))
    rng = np.random.default_rng(3)
    opt = study(task, 14, lambda p: bowl(p) + (0.1 * rng.normal() if noise else 0.0))
    known = advice.studied(opt)
    (found,) = advice.quality(known).metrics
    assert found.told.tolist() == [trial.values["f"] for trial in opt.trials() if trial.values]
    gp = known.outputs[0].gp
    z, score, constants = gp.Z[:, 0], [], []
    for i in range(14):
        others = np.delete(np.arange(14), i)
        less = condition(gp.inputs, gp.X[others], gp.Z[others], gp.fitted, gp.kernel)
        mean, variance = less.mean_variance(gp.X[i : i + 1])
        fit = gp.fitted[0]
        sd = np.sqrt(variance[0, 0] + fit.noise + fit.nugget * fit.scale)
        np.testing.assert_allclose(found.median[i], known.outputs[0].to_user(mean[0, 0]), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found.residuals[i], -(z[i] - mean[0, 0]) / sd, rtol=1e-2, atol=1e-2)
        constants.append(z[others].mean())
        plain = norm(z[others].mean(), z[others].std(ddof=1) * np.sqrt(14 / 13))
        score.append(norm(mean[0, 0], sd).logpdf(z[i]) - plain.logpdf(z[i]))
    assert found.log_score == pytest.approx(float(np.mean(score)), abs=0.05)
    loo = gp.leave_one_out()[0][:, 0]
    assert found.q2 == pytest.approx(1 - ((z - loo) ** 2).sum() / ((z - np.array(constants)) ** 2).sum())
    assert (found.low <= found.median).all() and (found.median <= found.high).all()
    assert found.worst[0] == known.numbers[np.argmax(np.abs(found.residuals))]


def test_noise_alone_cannot_be_predicted_and_is_called_so() -> None:
    rng = np.random.default_rng(5)
    task = bbopt.Task(BOX, bbopt.Objective("f", noise="unknown"))
    (found,) = advice.quality(study(task, 40, lambda p: rng.normal())).metrics
    assert found.q2 < 0.2 and abs(found.log_score) < 0.2
    assert found.calibration == "calibrated" and ("poor" in found.verdict or "no better" in found.verdict)


def test_jumps_make_it_overconfident_or_poor() -> None:
    """A checkerboard has no smooth model; leave-one-out says so."""
    rng = np.random.default_rng(1)
    task = bbopt.Task(BOX)
    found = advice.quality(study(task, 50, lambda p: float(rng.random() < 0.5))).metrics[0]
    assert found.q2 < 0.2


def test_a_model_without_any_skill_gives_no_advice_on_stopping() -> None:
    """Values that alternate from row to row: every neighbour predicts the opposite."""
    opt = bbopt.Optimizer(bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1))), "random")
    for i in range(20):
        opt.add({"x": i / 19}, float(i % 2))
    known = advice.studied(opt)
    assert advice.quality(known).metrics[0].q2 <= 0.0
    found = advice.stopping(known)
    assert found.verdict == "unclear" and "no better than a constant" in found.recommendation


@given(n=st.integers(3, 400), share=st.floats(0, 1))
def test_calibration_is_one_of_three_and_never_blames_what_is_expected(n: int, share: float) -> None:
    assert calibration(n, round(0.5 * n) / n, round(0.9 * n) / n) == "calibrated"
    assert calibration(n, share, max(share, share**0.15)) in ("calibrated", "overconfident", "cautious")


def test_two_sided_constraints_are_judged_on_both_sides() -> None:
    task = bbopt.Task(BOX, bbopt.Objective("f"), [bbopt.Constraint("g", 0.1, 0.9), bbopt.Constraint("h", lower=0.0)])
    found = advice.quality(study(task, 12, lambda p: {"f": bowl(p), "g": p["x"], "h": p["y"]}))
    assert [one.label for one in found.metrics] == ["f", "g (upper limit)", "g (lower limit)", "h"]
    np.testing.assert_allclose(found.metrics[1].told, found.metrics[2].told)
    np.testing.assert_allclose(found.metrics[2].median, found.metrics[2].told, atol=0.1)


# -- stopping -----------------------------------------------------------------------------------------------------------


def line(n: int, maximize: bool = False, factor: float = 1.0, limit: float | None = None) -> bbopt.Optimizer:
    sign = -1.0 if maximize else 1.0
    constraints = [] if limit is None else [bbopt.Constraint("g", upper=limit)]
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)), bbopt.Objective("f", maximize=maximize), constraints)
    opt = bbopt.Optimizer(task, "random")
    for x in np.linspace(0, 1, n):
        value = sign * factor * float(np.sin(9 * x) + x)
        opt.add({"x": float(x)}, {"f": value} if limit is None else {"f": value, "g": float(x)})
    return opt


def test_gain_and_bound_are_those_of_a_fine_grid() -> None:
    known = advice.studied(line(7))
    found = advice.stopping(known, history=0)
    output = known.outputs[0]
    grid = np.linspace(0, 1, 20001)[:, None]
    mean, sd = output.beliefs(grid)
    top = output.gp.Z.min()
    u = (top - mean) / sd
    improvement = (sd * (u * norm.cdf(u) + norm.pdf(u))).max()
    assert found.gain == pytest.approx(float(output.to_user(top) - output.to_user(top - improvement)), rel=1e-3)
    width = np.sqrt(2 * np.log(1 * 7**2 * np.pi**2 / (6 * 0.1)) / 5)  # Makarova et al. 2022, section 4
    assert found.bound == pytest.approx(
        float(output.to_user(top) - output.to_user((mean - width * sd).min())), rel=1e-3
    )
    assert found.best == pytest.approx(min(output.told))


def test_constraints_bound_the_gain_and_the_regret() -> None:
    """With g = x <= 0.45, of which the model is nearly certain, only the left part counts."""
    known = advice.studied(line(9, limit=0.45))
    found = advice.stopping(known, history=0)
    output = known.outputs[0]
    mean, sd = output.beliefs(np.linspace(0, 0.45, 8001)[:, None])
    width = np.sqrt(2 * np.log(1 * 9**2 * np.pi**2 / (6 * 0.1)) / 5)
    top = output.gp.Z[known.holds(), 0].min()
    lower = min(top, float((mean - width * sd).min()))
    assert found.bound == pytest.approx(float(output.to_user(top) - output.to_user(lower)), rel=0.03, abs=2e-3)
    assert found.best == pytest.approx(min(v for v, ok in zip(output.told, known.holds(), strict=True) if ok))
    assert found.next["x"] <= 0.46


def test_advice_does_not_depend_on_sign_and_scales_with_the_unit() -> None:
    plain, turned, large = (advice.stopping(line(8, *kind), history=2) for kind in ((), (True,), (False, 1000.0)))
    for name in ("gain", "bound", "found"):
        assert getattr(turned, name) == pytest.approx(getattr(plain, name), rel=1e-6)
        assert getattr(large, name) == pytest.approx(1000 * getattr(plain, name), rel=1e-3)
    assert turned.best == pytest.approx(-plain.best)
    assert plain.verdict == turned.verdict == large.verdict
    np.testing.assert_allclose(turned.gains, plain.gains, rtol=1e-5)


def test_it_stops_when_the_function_is_known_and_not_before() -> None:
    early, late = (advice.stopping(line(n)) for n in (5, 25))
    assert late.verdict == "stop" and "less than what is worth" in late.recommendation
    assert early.verdict != "stop" and early.gain > 10 * late.gain
    true = min(np.sin(9 * x) + x for x in np.linspace(0, 1, 10001))
    for found in (early, late):
        assert found.best - true <= found.bound + 1e-9  # the bound holds here
    assert late.at[-1] == 25 and (np.diff(late.at) > 0).all() and late.bests[-1] == late.best
    assert advice.stopping(line(25), tolerance=0.0).verdict != "stop"


def test_under_noise_the_noise_is_named_and_best_is_what_is_believed() -> None:
    rng = np.random.default_rng(0)
    task = bbopt.Task(BOX, bbopt.Objective("f", noise="unknown"))
    opt = study(task, 60, lambda p: bowl(p) + 0.2 * rng.normal())
    found = advice.stopping(opt)
    told = min(trial.values["f"] for trial in opt.trials() if trial.values)
    assert found.noise == pytest.approx(0.2, rel=0.4) and "noise" in found.recommendation
    assert found.best > told
    known = advice.stopping(study(bbopt.Task(BOX, bbopt.Objective("f", noise=0.2)), 20, bowl))
    assert known.noise == pytest.approx(0.2, rel=1e-6)


def test_a_finite_space_that_is_told_has_nothing_left() -> None:
    task = bbopt.Task(bbopt.Space(n=bbopt.Int(0, 5)))
    opt = study(task, 6, lambda p: (p["n"] - 2.0) ** 2)
    found = advice.stopping(opt)
    assert (found.verdict, found.gain, found.next) == ("stop", 0.0, {}) and "every point" in found.recommendation


@pytest.mark.parametrize(("gain", "verdict"), [(1e160, "unclear"), (0.1, "go on")])
def test_a_gain_without_limit_is_called_so(gain: float, verdict: str) -> None:
    """As where the best value is exactly the anchor of a logarithmic scale: the bound is infinite, the gain absurd."""
    now = _Now(best=0.0, gain=gain, bound=np.inf, chance=np.nan, where=np.array([0.5]))
    found, words = _words(advice.studied(line(9)), now, found=1.0, worth=0.01, noise=0.0)
    assert found == verdict and ("logarithmic" in words) == (verdict == "unclear")


def test_nothing_feasible_yet() -> None:
    found = advice.stopping(line(8, limit=-0.5))
    assert np.isnan(found.best) and np.isnan(found.gain) and 0.0 <= found.chance < 0.05
    assert "nothing feasible" in found.recommendation and found.verdict == "unclear"


# -- slices and contours ------------------------------------------------------------------------------------------------


def test_slices_and_contours_agree_with_what_the_strategy_predicts() -> None:
    task = bbopt.Task(BOX, bbopt.Objective("f", maximize=True), [bbopt.Constraint("g", lower=-0.2)])
    opt = study(task, 15, lambda p: {"f": -bowl(p), "g": p["x"]}, "gp")
    for metric in ("f", "g"):
        along_x, along_y = advice.slices(opt, metric=metric, points=5)
        assert along_x.centre == opt.recommend().params
        points = [{**along_x.centre, "x": float(v)} for v in along_x.values]
        believed = opt.predict(points)
        np.testing.assert_allclose(along_x.median, [b.mean[metric] for b in believed], rtol=1e-6, atol=1e-8)
        plane = advice.contour(opt, "x", "y", metric=metric, points=5, at=along_x.centre)
        points = [{"x": float(a), "y": float(b)} for b in plane.y for a in plane.x]
        believed = opt.predict(points)
        np.testing.assert_allclose(plane.median.ravel(), [b.mean[metric] for b in believed], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(plane.sd.ravel(), [b.sd[metric] for b in believed], rtol=1e-4, atol=1e-7)
        assert (along_y.low <= along_y.median).all() and (along_y.median <= along_y.high).all()
    assert along_x.chance[along_x.values >= 0.0].min() > 0.9 and along_x.chance[along_x.values <= -0.5].max() < 0.1
    told = np.array([trial.values["g"] for trial in opt.trials() if trial.values])
    assert along_x.told.size and np.abs(along_x.told[:, None] - told).min(axis=1).max() < 1e-12


def test_slices_of_mixed_and_conditional_spaces_and_known_conditions() -> None:
    space = bbopt.Space(
        kind=bbopt.Categorical(["a", "b", "c"]), depth=bbopt.Float(1, 100, log=True, when="kind == 'b'"),
        n=bbopt.Int(1, 5), w=bbopt.Float(0, 1, shape=(2,)),
    )  # fmt: skip
    task = bbopt.Task(space, where=["n <= 4"])
    opt = study(task, 25, lambda p: p["n"] + {"a": 0, "b": 1, "c": 2}[p["kind"]] + np.log10(p.get("depth", 1.0)))
    assert [one.column.label for one in advice.slices(opt)] == ["kind", "n", "w[0]", "w[1]"]  # the best has kind a
    assert advice.slices(opt, ["depth"]) == []
    at = {"kind": "b", "depth": 10.0, "n": 2, "w": np.zeros(2)}
    (depth,) = advice.slices(opt, ["depth"], at=at)
    assert depth.column.log and depth.values[[0, -1]].tolist() == [1.0, 100.0] and depth.here == 10.0
    kind, n = advice.slices(opt, ["kind", "n"])
    assert kind.column.choices == ("a", "b", "c") and np.argmin(kind.median) == 0 and "at a" in kind.summary()
    assert n.values.tolist() == [1, 2, 3, 4, 5] and n.allowed.tolist() == [True] * 4 + [False]
    plane = advice.contour(opt, "kind", "depth", at=at)
    assert plane.median.shape == (41, 3)
    with pytest.raises(bbopt.UsageError, match="depth does not exist at"):
        advice.contour(opt, "kind", "depth")


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(3, 12))
def test_invariants(seed: int, n: int) -> None:
    """Bounds are not negative, bands contain their median, totals are not below 0, whatever was told."""
    rng = np.random.default_rng(seed)
    task = bbopt.Task(BOX, bbopt.Objective("f", maximize=bool(seed % 2)))
    known = advice.studied(
        study(task, n, lambda p: float(rng.standard_cauchy() * 10 ** rng.uniform(-3, 8)), "random", seed)
    )
    found = advice.stopping(known, history=0)
    assert found.gain >= 0 and found.bound >= 0 and found.verdict in ("stop", "little left", "go on", "unclear")
    for one in advice.slices(known, points=7):
        assert (one.low <= one.median).all() and (one.median <= one.high).all()
        assert ((one.chance >= 0) & (one.chance <= 1)).all()
    total = advice.importance(known).total
    assert np.isnan(total).all() or (total >= 0).all()
    (judged,) = advice.quality(known).metrics
    assert judged.inside_50 <= judged.inside_90 and judged.verdict
