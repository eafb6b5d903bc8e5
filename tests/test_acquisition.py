"""Scores of candidates against closed forms, Monte Carlo and finite differences; the search against known maxima."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import norm

from bbopt import Categorical, Float, Int, Space, Task
from bbopt.acquisition.ascent import climb
from bbopt.acquisition.constrained import ConstrainedLogEI, Evaluable
from bbopt.acquisition.domain import Domain
from bbopt.acquisition.draws import draw_values, given_draws
from bbopt.acquisition.finish import belief_of, corner_candidates
from bbopt.acquisition.gains import Confident
from bbopt.acquisition.noisy_ei import NoisyEI, expected_maximum
from bbopt.acquisition.search import enumerate_best, maximise
from bbopt.strategies.gp_domain import domain_of
from surrogates.columns import Inputs
from surrogates.gp import GaussianProcess, condition, fit_gp
from surrogates.improvement import log_expected_improvement, log_h, log_probability_below
from surrogates.map_fit import Fitted, Prior

Array = NDArray[np.float64]
NOTHING = np.zeros((0, 2))


def data(n: int, seed: int = 0) -> tuple[Array, Array]:
    """(n, 2) rows and (n, 3) values: a wavy objective and two constraints that hold on about half of the square."""
    X = np.random.default_rng(seed).random((n, 2))
    Z = np.column_stack([np.sin(5 * X[:, 0]) * np.cos(3 * X[:, 1]), X[:, 0] - X[:, 1] - 0.1, 0.3 - X[:, 1]])
    return X, Z


def exact(n: int = 15, outputs: int = 3, nugget: float = 0.0) -> GaussianProcess:
    """A model without noise: Matern 5/2, so that not even a nugget is needed."""
    X, Z = data(n)
    one = Fitted(np.array([0.4, 0.5]), 1.0, 0.0, 0.1, nugget, 0.0, 0)
    return condition(Inputs.continuous(2), X, Z[:, :outputs], [one] * outputs, "matern52")


def noisy(n: int = 20, outputs: int = 3) -> GaussianProcess:
    """A model with noise variance 0.04 in every output."""
    X, Z = data(n)
    Z = Z + 0.2 * np.random.default_rng(1).standard_normal(Z.shape)
    one = Fitted(np.array([0.4, 0.5]), 1.0, 0.04, 0.1, 0.0, 0.0, 0)
    return condition(Inputs.continuous(2), X, Z[:, :outputs], [one] * outputs, "rbf")


def logei(gp: GaussianProcess, evaluable: Evaluable | None = None) -> ConstrainedLogEI:
    """The score without noise and pending points."""
    feasible = (gp.Z[:, 1:] <= 0.0).all(axis=1)
    return ConstrainedLogEI(gp.predictor, np.array([gp.Z[feasible, 0].min()]), np.zeros(gp.outputs - 1), evaluable)


def integrated(gp: GaussianProcess, noise: bool, pending: Array, count: int, seed: int = 0) -> ConstrainedLogEI:
    """The score integrated over noise and pending points."""
    which = np.full(gp.outputs, noise)
    drawn = draw_values(gp, which, pending, count, np.random.default_rng(seed))
    feasible = (drawn[1:] <= 0.0).all(axis=0)
    best = np.where(feasible, drawn[0], np.inf).min(axis=0)
    best = np.where(np.isfinite(best), best, drawn[0].max())
    return ConstrainedLogEI(given_draws(gp, which, pending, drawn), best, np.zeros(gp.outputs - 1))


def slopes(value: Callable[[Array], Array], X: Array, step: float = 1e-6) -> Array:
    """(q, d) central differences."""
    moves = step * np.eye(X.shape[1])
    return np.stack([(value(X + move) - value(X - move)) / (2.0 * step) for move in moves], axis=1)


# -- logarithms in the tails -------------------------------------------------------------------------------------------------


def test_log_h_is_exact_far_into_the_tail() -> None:
    """log(phi(z) + z Phi(z)) by mpmath 1.3 with 60 digits; the branches meet at -1 and at -300."""
    reference = {
        8.0: 2.0794415416798359,
        0.0: -0.91893853320467274,
        -0.999999: -2.48511912144176894,
        -1.000001: -2.4851229299842355,
        -30.0: -457.724653760598004,
        -299.9: -44982.3308700589765,
        -300.1: -45042.3322033479319,
    }
    z = np.array(list(reference))
    assert log_h(z) == pytest.approx(np.array(list(reference.values())), rel=1e-13)
    assert np.isfinite(log_h(np.array([-1e40, -1e10, 1e10, 1e40]))).all()


@given(st.floats(-50.0, 50.0), st.floats(1e-4, 1e3), st.floats(-5.0, 5.0))
def test_derivatives_of_both_logarithms_are_those_of_finite_differences(z: float, sd: float, limit: float) -> None:
    for function in (log_expected_improvement, log_probability_below, Confident(log_expected_improvement, 0.5)):
        mean, step = limit - z * sd, 1e-5 * sd
        one = np.array([mean])
        _, by_mean, by_sd = function(one, np.array([sd]), limit)
        ends = [function(one + s, np.array([sd]), limit)[0][0] for s in (step, -step)]
        assert by_mean[0] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-6 / sd)
        ends = [function(one, np.array([sd + s]), limit)[0][0] for s in (step, -step)]
        assert by_sd[0] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-6 / sd)


# -- constrained log expected improvement ------------------------------------------------------------------------------------


def test_score_is_expected_improvement_times_the_probability_of_feasibility() -> None:
    """The product of Gardner et al. 2014, written out with the normal distribution."""
    gp, X = exact(), np.random.default_rng(2).random((200, 2))
    score = logei(gp)
    mean, variance = gp.mean_variance(X)
    sd = np.sqrt(variance)
    z = (score.best[0] - mean[:, 0]) / sd[:, 0]
    product = sd[:, 0] * (norm.pdf(z) + z * norm.cdf(z)) * norm.cdf(-mean[:, 1:] / sd[:, 1:]).prod(axis=1)
    visible = product > 1e-12
    assert visible.sum() > 50
    assert np.exp(score.value(X))[visible] == pytest.approx(product[visible], rel=1e-8)


REGION = exact(outputs=1)


@pytest.mark.parametrize(
    "score",
    [
        logei(exact(nugget=1e-9)),
        logei(exact(nugget=1e-9), Evaluable(REGION.predictor, 1.0)),
        integrated(exact(nugget=1e-9), False, np.array([[0.2, 0.9], [0.7, 0.1]]), 16),
        integrated(noisy(), True, np.array([[0.2, 0.9]]), 16),
        NoisyEI.of(noisy(), np.vstack([noisy().X, [[0.3, 0.6]]]), np.zeros(2)),
        NoisyEI.of(noisy(), noisy().X, np.zeros(2), Evaluable(REGION.predictor, 0.5)),
    ],
    ids=["plain", "with failures", "pending", "noise", "frazier", "frazier with failures"],
)
def test_gradients_of_scores_are_those_of_finite_differences(score: ConstrainedLogEI | NoisyEI) -> None:
    """1e-5 relative to the longest gradient component of the point."""
    X = np.random.default_rng(3).uniform(0.05, 0.95, (40, 2))
    value, gradient = score.value_and_gradient(X)
    assert value == pytest.approx(score.value(X), rel=1e-12)
    expected = slopes(score.value, X)
    size = 1.0 + np.abs(expected).max(axis=1, keepdims=True)
    assert np.abs(gradient - expected).max() / size.max() < 1e-5
    assert np.median(np.abs(gradient - expected) / size) < 1e-6


def test_without_noise_and_pending_points_the_score_is_the_plain_one_to_the_last_bit() -> None:
    """The mean over one draw adds no rounding: log EI plus the log probabilities, and nothing else."""
    gp, X = exact(nugget=1e-9), np.random.default_rng(4).random((100, 2))
    score, moments = logei(gp), gp.predictor.forward(X)
    mean, sd = moments.mean[:, :, 0], np.sqrt(moments.variance)
    plain = log_expected_improvement(mean[0], sd[0], score.best[0])[0]
    assert np.array_equal(score.value(X), plain + log_probability_below(mean[1:], sd[1:], 0.0)[0].sum(axis=0))


@pytest.mark.parametrize("count", [1, 16])
def test_draws_of_what_is_known_exactly_change_nothing(count: int) -> None:
    gp, X = exact(nugget=1e-9), np.random.default_rng(4).random((100, 2))
    drawn = draw_values(gp, np.zeros(3, bool), NOTHING, count, np.random.default_rng(0))
    assert all(np.array_equal(drawn[:, :, s], gp.Z.T) for s in range(count))
    assert integrated(gp, False, NOTHING, count).value(X) == pytest.approx(logei(gp).value(X), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("outputs", [1, 3])
def test_integrated_score_is_the_mean_improvement_of_plain_monte_carlo(outputs: int) -> None:
    """100,000 joint draws of the true values at the told points and the candidate, against 12 scores of 4096 draws.

    A gain counts where the candidate is feasible, against the best told point that is feasible in the same draw. The
    candidates are the best three of 256, where simulation sees something. Within 3 standard errors of the difference.
    """
    gp = noisy(outputs=outputs)
    pool = Domain.box(2).sample(256, np.random.default_rng(5))
    X = pool[np.argsort(-integrated(gp, True, NOTHING, 512).value(pool))[:3]]
    ours = np.exp([integrated(gp, True, NOTHING, 4096, seed).value(X) for seed in range(12)])
    for x, got in zip(X, ours.T, strict=True):
        draws = gp.sample(np.vstack([gp.X, x]), 100_000, np.random.default_rng(7))
        feasible = np.asarray((draws[:, :, 1:] <= 0.0).all(axis=2))
        assert feasible[:, :-1].any(axis=1).all(), "the reference is simple where something is always feasible"
        best = np.where(feasible[:, :-1], draws[:, :-1, 0], np.inf).min(axis=1)
        gain = np.where(feasible[:, -1], np.maximum(best - draws[:, -1, 0], 0.0), 0.0)
        error = np.hypot(gain.std() / np.sqrt(len(gain)), got.std(ddof=1) / np.sqrt(len(got)))
        assert abs(got.mean() - gain.mean()) < 3.0 * error


def test_a_pending_point_is_worth_less_than_its_surroundings_were() -> None:
    gp = exact(nugget=1e-9)
    X = Domain.box(2).sample(512, np.random.default_rng(0))
    before = logei(gp).value(X)
    at = X[before.argmax()][None]
    after = integrated(gp, False, at, 32)
    assert after.value(at)[0] < before.max() - 3.0
    far = np.abs(X - at).max(axis=1) > 0.5
    assert np.abs(after.value(X) - before)[far].min() < 0.1


def test_while_nothing_is_feasible_only_feasibility_counts() -> None:
    gp, X = exact(), np.random.default_rng(8).random((50, 2))
    score = ConstrainedLogEI(gp.predictor, np.array([np.nan]), np.zeros(2))
    mean, variance = gp.mean_variance(X)
    chance = norm.logcdf(-mean[:, 1:] / np.sqrt(variance[:, 1:])).sum(axis=1)
    assert score.value(X) == pytest.approx(chance, rel=1e-7, abs=1e-9)


# -- Frazier's expected improvement under noise ------------------------------------------------------------------------------


def test_without_noise_frazier_is_expected_improvement() -> None:
    """To 1e-10, at 200 points."""
    gp, X = exact(outputs=1), np.random.default_rng(9).random((200, 2))
    got = np.exp(NoisyEI.of(gp, gp.X, np.zeros(0)).value(X))
    assert got == pytest.approx(np.exp(logei(gp).value(X)), abs=1e-10)


def test_frazier_is_the_gain_in_the_best_posterior_mean() -> None:
    """Its definition, simulated: draw the next value, condition the model on it, take the best mean of all points."""
    gp, X = noisy(outputs=1), np.random.default_rng(10).random((5, 2))
    ours = np.exp(NoisyEI.of(gp, gp.X, np.zeros(0)).value(X))
    rng = np.random.default_rng(11)
    for x, got in zip(X, ours, strict=True):
        points = np.vstack([gp.X, x])
        mean = gp.mean_variance(points)[0][:, 0]
        mu, variance = gp.mean_variance(x[None])
        sd = np.sqrt(variance[0, 0] + gp.fitted[0].noise)
        ends = [gp.given(x[None], mu + z * sd).mean_variance(points)[0][:, 0] for z in (0.0, 1.0)]
        assert ends[0] == pytest.approx(mean, abs=1e-9)
        after = mean + np.outer(rng.standard_normal(100_000), ends[1] - mean)  # means are linear in the new value
        gain = mean[:-1].min() - after.min(axis=1)
        assert abs(got - gain.mean()) < 3.0 * gain.std() / np.sqrt(len(gain))


def test_frazier_is_never_negative_and_a_point_without_doubt_brings_nothing() -> None:
    gp = exact(outputs=1)
    value = np.exp(
        NoisyEI.of(gp, gp.X, np.zeros(0)).value(np.vstack([gp.X, np.random.default_rng(12).random((500, 2))]))
    )
    assert np.all(value >= 0.0) and np.all(value[: len(gp.X)] < 1e-6)


LINES = arrays(float, st.integers(2, 12), elements=st.floats(-5.0, 5.0, width=32))


@given(LINES, st.integers(0, 10**6))
def test_expected_maximum_of_lines_is_the_integral(a: Array, seed: int) -> None:
    """Against the trapezoidal rule on 40,001 nodes; never negative."""
    b = np.random.default_rng(seed).uniform(-3.0, 3.0, len(a)).round(1)
    z = np.linspace(-9.0, 9.0, 40_001)
    top = (a[:, None] + b[:, None] * z).max(axis=0)
    integral = np.trapezoid(top * norm.pdf(z), z) - a.max()
    got = expected_maximum(a, b)
    assert got >= 0.0 and got == pytest.approx(integral, abs=1e-6)


# -- the search --------------------------------------------------------------------------------------------------------------


class Bowl:
    """Minus the squared distance from a target, per column."""

    def __init__(self, target: Array) -> None:
        self.target = target

    def value(self, X: Array) -> Array:
        return np.asarray(-((X - self.target) ** 2).sum(axis=1))

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        return self.value(X), -2.0 * (X - self.target)


def free(X: Array) -> NDArray[np.bool_]:
    return np.zeros(len(X), bool)


def test_climb_finds_the_constrained_maximum_of_a_badly_scaled_function() -> None:
    """Rosenbrock's function, whose maximum (with a minus sign) is 0 at (1, 1), in the box [-2, 2]^2."""

    def function(X: Array) -> tuple[Array, Array]:
        a, b = X.T
        value = -(100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2)
        return value, np.column_stack([400.0 * a * (b - a * a) + 2.0 * (1.0 - a), -200.0 * (b - a * a)])

    starts = np.random.default_rng(0).uniform(-2.0, 2.0, (8, 2))
    low, high = np.full(2, -2.0), np.full(2, 2.0)
    x, value = climb(function, starts, low, high, np.ones((8, 2), bool), iterations=200, tolerance=1e-12)
    assert np.all(value > -1e-6) and x == pytest.approx(np.ones((8, 2)), abs=1e-2)


def test_climb_leaves_held_coordinates_and_forbidden_points_alone() -> None:
    bowl = Bowl(np.array([0.9, 0.9]))
    starts = np.array([[0.1, 0.2]])
    x, _ = climb(bowl.value_and_gradient, starts, np.zeros(2), np.ones(2), np.array([[True, False]]))
    assert x[0] == pytest.approx([0.9, 0.2], abs=1e-4) and x[0, 1] == 0.2

    def walled(X: Array) -> tuple[Array, Array]:
        value, gradient = bowl.value_and_gradient(X)
        return np.where(X[:, 0] > 0.5, -np.inf, value), gradient

    x, value = climb(walled, starts, np.zeros(2), np.ones(2), np.ones((1, 2), bool))
    assert x[0, 0] <= 0.5 and np.isfinite(value[0])


def test_search_finds_the_best_level_of_every_kind_of_column() -> None:
    space = Space(x=Float(0, 1), n=Int(0, 50), c=Categorical(["a", "b", "c"]), s=Float(0, 1, step=0.125))
    task, rng = Task(space), np.random.default_rng(0)
    target = space.encode({"x": 0.37, "n": 31, "c": "c", "s": 0.625})
    found, value = maximise(Bowl(target), domain_of(task, {}), rng, np.zeros((0, 4)), np.zeros((0, 4)), free)
    assert space.decode(found[0]) == {"x": pytest.approx(0.37, abs=1e-4), "n": 31, "c": "c", "s": 0.625}
    assert np.array_equal(space.canonical(found), found) and np.all(np.diff(value) <= 0.0)


def test_search_respects_held_columns_conditions_and_what_is_taken() -> None:
    space = Space(x=Float(0, 1), y=Float(0, 1))
    task, rng = Task(space, where=["x + y <= 1"]), np.random.default_rng(0)
    bowl = Bowl(np.ones(2))
    found, value = maximise(bowl, domain_of(task, {}), rng, NOTHING, NOTHING, free)
    assert found.sum(axis=1).max() <= 1.0 + 1e-9
    assert value[0] == pytest.approx(-0.5, abs=0.01)
    held, _ = maximise(bowl, domain_of(task, {0: 0.25}), rng, NOTHING, NOTHING, free)
    assert np.all(held[:, 0] == 0.25) and held[0, 1] == pytest.approx(0.75, abs=0.01)
    best = found[0]
    others, _ = maximise(
        bowl, domain_of(task, {}), rng, best[None], best[None], lambda X: np.abs(X - best).max(axis=1) < 0.05
    )
    assert np.abs(others - best).max(axis=1).min() >= 0.05


def test_a_finite_set_is_ranked_as_a_whole() -> None:
    points = np.random.default_rng(0).random((100, 2))
    bowl = Bowl(np.array([0.5, 0.5]))
    found, value = enumerate_best(bowl, points, lambda X: bowl.value(X) > -0.01, block=7)
    rest = points[bowl.value(points) <= -0.01]
    assert len(found) == len(rest) < 100 and np.array_equal(value, np.sort(bowl.value(rest))[::-1])
    assert len(enumerate_best(bowl, points, lambda X: np.ones(len(X), bool))[0]) == 0


def test_corner_candidates_solve_the_constrained_problem_of_the_model() -> None:
    """max x + y with x <= 0.6 and y <= 0.3, models of linear functions: the corner to 1e-3 without a margin."""
    X = Domain.box(2).sample(32, np.random.default_rng(0))
    Z = np.column_stack([-X.sum(axis=1), X[:, 0] - 0.6, X[:, 1] - 0.3])
    gp = fit_gp(Inputs.continuous(2), X, Z, [Prior.noiseless(2)] * 3)
    found = corner_candidates(belief_of(gp.predictor), np.zeros(2), np.array([[0.1, 0.1]]), Domain.box(2))
    assert len(found) == 3 and found[0] == pytest.approx([0.6, 0.3], abs=1e-3)
