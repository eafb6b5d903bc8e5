"""Expected improvement under constraints on weighted sets of processes: formulas, gradients, tails, draws, and reductions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import logsumexp

from bbopt.acquisition.constrained import PENALTY, ConstrainedLogEI, Evaluable, Rule
from bbopt.acquisition.ensemble import Ensemble, EnsembleLogEI
from bbopt.acquisition.ensemble_draws import drawn_ensemble
from surrogates.amortised.components import KERNELS, Components
from surrogates.amortised.posterior import AmortisedGP, condition_components
from surrogates.columns import Inputs
from surrogates.gp import GaussianProcess, condition
from surrogates.kernels import Kernel
from surrogates.map_fit import Fitted
from surrogates.region import fit_region

Array = np.ndarray
MIXED = Inputs(("float", "category", "float", "int"), (0, 3, 0, 5), (0, 1, 2, 3))
PLAIN = Inputs.continuous(3)
NONE = np.zeros((0, 3))


def rows(inputs: Inputs, n: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    X = rng.random((n, inputs.dimension))
    for j, levels in enumerate(inputs.levels):
        if levels:
            drawn = rng.integers(levels, size=n)
            X[:, j] = drawn if inputs.kind[j] == "category" else drawn / (levels - 1)
    return X


def targets(X: Array, outputs: int) -> Array:
    parts = [np.sin(4.0 * X[:, 0]) + X[:, 1] - X[:, -1]]
    parts += [np.cos(3.0 * X[:, j % X.shape[1]]) + 0.5 * X[:, -1] * X[:, 0] - 0.3 for j in range(outputs - 1)]
    return np.column_stack(parts)


def components(d: int, count: int, seed: int, noise: float = 1e-3, offset: float = 10.0) -> Components:
    rng = np.random.default_rng(seed)
    weight = rng.dirichlet(np.ones(count))
    return Components(
        rng.integers(3, size=count), np.exp(rng.normal(0.0, 0.5, (count, d))), noise * np.exp(rng.normal(0, 0.3, count)),
        np.exp(rng.normal(0.0, 0.3, count)), np.log(weight), offset,
    )  # fmt: skip


def model(inputs: Inputs = PLAIN, counts: tuple[int, ...] = (4, 1, 3), noise: float = 1e-3, n: int = 14) -> AmortisedGP:
    X = rows(inputs, n, 0)
    Z = targets(X, len(counts))
    if noise > 1e-2:
        Z = Z + noise * np.random.default_rng(1).standard_normal(Z.shape)
    made = [components(inputs.dimension, count, j, noise) for j, count in enumerate(counts)]
    return condition_components(inputs, X, Z, made)


def single(outputs: int, noise: float) -> tuple[AmortisedGP, GaussianProcess]:
    """One component per output, and the same process with the mean 0 as `gp` has it."""
    X = rows(MIXED, 15, 2)
    Z = targets(X, outputs)
    kernel: Kernel = "matern52"
    made = [components(4, 1, 10 + j, noise, 0.0) for j in range(outputs)]
    made = [
        Components(np.array([KERNELS.index(kernel)]), c.lengthscales, c.noise, c.scale, np.zeros(1), 0.0) for c in made
    ]
    fitted = [
        Fitted(c.lengthscales[0], float(c.scale[0]), float(c.scale[0] * c.noise[0] ** 2), 0.0, 0.0, 0.0, 0)
        for c in made
    ]
    return condition_components(MIXED, X, Z, made), condition(MIXED, X, Z, fitted, kernel)


def differences(function: Callable[[Array], Array], X: Array, column: int, step: float) -> Array:
    move = np.eye(X.shape[1])[column] * step
    return np.asarray((function(X + move) - function(X - move)) / (2.0 * step))


# -- formulas --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["cei", "cei+"])
@pytest.mark.parametrize("best", [-0.5, np.nan])
@pytest.mark.parametrize("counts", [(4,), (1,), (4, 1, 3), (3, 2)])
def test_the_score_is_the_mixture_s_own_log_ei_and_log_probabilities(
    counts: tuple[int, ...], best: float, rule: Rule
) -> None:
    made, Q = model(counts=counts), rows(PLAIN, 40, 1)
    c = len(counts) - 1
    limits = np.linspace(-0.2, 0.3, c)
    below = made.log_probability_below(Q, np.concatenate([[0.0], limits]))[:, 1:]
    if rule == "cei+":
        below = np.minimum(below + np.log(2.0), 0.0)
    gain = 0.0 if np.isnan(best) else made.log_expected_improvement(Q, np.full(1 + c, best))[:, 0]
    score = EnsembleLogEI(Ensemble.of(made), np.array([best]), limits, rule=rule)
    np.testing.assert_allclose(score.value(Q), gain + below.sum(axis=1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rule", ["cei", "cei+"])
@pytest.mark.parametrize("best", [0.2, np.nan])
@pytest.mark.parametrize("outputs", [1, 4])
def test_one_component_is_the_score_of_gp(outputs: int, best: float, rule: Rule) -> None:
    made, gp = single(outputs, 0.05)
    limits, Q = np.full(outputs - 1, 0.1), rows(MIXED, 60, 3)
    Q[0] = gp.X[0]
    ours = EnsembleLogEI(Ensemble.of(made), np.array([best]), limits, rule=rule)
    theirs = ConstrainedLogEI(gp.predictor, np.array([best]), limits, rule=rule)
    for mine, other in zip(ours.value_and_gradient(Q), theirs.value_and_gradient(Q), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rule", ["cei", "cei+"])
@pytest.mark.parametrize("best", [-0.5, np.nan])
@pytest.mark.parametrize("inputs", [PLAIN, MIXED])
def test_gradients_are_those_of_finite_differences(inputs: Inputs, best: float, rule: Rule) -> None:
    made, Q = model(inputs), rows(inputs, 12, 4)
    score = EnsembleLogEI(Ensemble.of(made), np.array([best]), np.array([0.1, -0.1]), rule=rule)
    value, gradient = score.value_and_gradient(Q)
    np.testing.assert_array_equal(value, score.value(Q))
    for j in range(inputs.dimension):
        if inputs.kind[j] == "category":
            assert (gradient[:, j] == 0.0).all()
            continue
        numeric = differences(score.value, Q, j, 1e-6)
        np.testing.assert_allclose(gradient[:, j], numeric, rtol=1e-5, atol=1e-5)


def test_far_tails_keep_their_digits_and_gradients() -> None:
    """Improvement of the order exp(-1e6) and more is still ordered, by the component that finds it least unlikely."""
    made, Q = model(counts=(4, 3)), rows(PLAIN, 20, 5)
    for best in (-30.0, -3e3):
        score = EnsembleLogEI(Ensemble.of(made), np.array([best]), np.array([best]))
        value, gradient = score.value_and_gradient(Q)
        assert np.isfinite(value).all() and np.isfinite(gradient).all() and (value < -100.0).all()
        for j in range(3):
            numeric = differences(score.value, Q, j, 1e-7)
            np.testing.assert_allclose(gradient[:, j], numeric, rtol=1e-3)


def test_weights_decide_where_components_disagree() -> None:
    """The score of the mixture lies between those of its parts, and tends to one of them with its weight."""
    made, Q = model(counts=(2,)), rows(PLAIN, 10, 6)

    def value(log_weight: Array) -> Array:
        other = condition_components(PLAIN, made.X, made.Z, [made.components[0].weighted(log_weight)])
        return EnsembleLogEI(Ensemble.of(other), np.array([-0.5]), np.zeros(0)).value(Q)

    ends = value(np.array([0.0, -700.0])), value(np.array([-700.0, 0.0]))
    both = value(np.log([0.5, 0.5]))
    np.testing.assert_allclose(both, logsumexp(np.stack(ends) + np.log(0.5), axis=0), rtol=1e-9)


def test_the_chance_to_work_is_added() -> None:
    made, Q = model(counts=(3,)), rows(PLAIN, 8, 7)
    region = Evaluable(fit_region(PLAIN, made.X[:10], made.X[10:]).predictor, 1.0)
    plain = EnsembleLogEI(Ensemble.of(made), np.array([-0.5]), np.zeros(0))
    both = EnsembleLogEI(Ensemble.of(made), np.array([-0.5]), np.zeros(0), region)
    chance, slope = region.log_chance(Q, True)
    assert PENALTY > 0.0 and (chance < 0.0).any()
    for found, term, extra in zip(
        both.value_and_gradient(Q), plain.value_and_gradient(Q), (chance, slope), strict=True
    ):
        np.testing.assert_allclose(found, term + extra)


# -- draws -----------------------------------------------------------------------------------------------------------------


def test_nothing_open_is_one_draw_the_told_values() -> None:
    made = model()
    ensemble, values = drawn_ensemble(made, np.zeros(3, bool), NONE, 32, np.random.default_rng(0))
    np.testing.assert_array_equal(values[:, :, 0], made.Z.T)
    Q = rows(PLAIN, 9, 8)
    np.testing.assert_allclose(ensemble.means(Q)[:, :, 0].T, made.mean_variance(Q)[0], rtol=1e-12)


@pytest.mark.parametrize(
    "noisy", [(True, True, True), (False, False, False), (True, False, False), (False, True, False)]
)
@pytest.mark.parametrize("pending", [0, 3])
def test_every_draw_is_read_once_and_passes_through_its_values(noisy: tuple[bool, ...], pending: int) -> None:
    made, out = model(noise=0.1 if any(noisy) else 1e-3), rows(PLAIN, pending, 9)
    if not any(noisy) and not pending:
        return
    ensemble, values = drawn_ensemble(made, np.array(noisy), out, 16, np.random.default_rng(0))
    assert values.shape == (3, 14 + pending, 16) and (ensemble.component.shape[1], len(ensemble.first)) == (16, 3)
    pairs = ensemble.component * 1000 + ensemble.vector
    assert len(np.unique(pairs)) == pairs.size
    everything = np.concatenate([made.X, out])
    means = ensemble.means(everything)
    for j, known in enumerate(noisy):
        if known:
            np.testing.assert_allclose(means[j], values[j], atol=2e-3)
        else:
            np.testing.assert_array_equal(values[j, :14], np.repeat(made.Z[:, j, None], 16, axis=1))
    variance = ensemble.predictor.forward(everything).variance
    drawn = [ensemble.component[ensemble.first[j]] for j in range(3) if noisy[j]]
    assert all((variance[places] < 1e-3).all() for places in drawn)


def test_gradients_of_draws_are_those_of_finite_differences() -> None:
    made, out = model(noise=0.1), rows(PLAIN, 2, 10)
    for noisy in ((True, False, True), (False, False, False)):
        ensemble, values = drawn_ensemble(made, np.array(noisy), out, 12, np.random.default_rng(0))
        best = values[0].min(axis=0)
        best[3] = np.nan
        score, Q = EnsembleLogEI(ensemble, best, np.array([0.1, 0.2])), rows(PLAIN, 6, 11)
        _, gradient = score.value_and_gradient(Q)
        for j in range(3):
            np.testing.assert_allclose(gradient[:, j], differences(score.value, Q, j, 1e-6), rtol=1e-4, atol=1e-4)


def test_many_draws_come_to_the_same_as_the_told_values_where_noise_is_next_to_nothing() -> None:
    made, Q = model(noise=1e-3), rows(PLAIN, 30, 12)
    best, limits = np.array([-0.5]), np.array([0.1, -0.1])
    ensemble, _ = drawn_ensemble(made, np.ones(3, bool), NONE, 256, np.random.default_rng(0))
    drawn = EnsembleLogEI(ensemble, np.repeat(best, 256), limits).value(Q)
    exact = EnsembleLogEI(Ensemble.of(made), best, limits).value(Q)
    likely = exact > exact.max() - 3.0
    np.testing.assert_allclose(drawn[likely], exact[likely], atol=0.1)


def test_components_are_drawn_as_often_as_they_weigh() -> None:
    made = model(counts=(4,), noise=0.1)
    ensemble, _ = drawn_ensemble(made, np.ones(1, bool), NONE, 64, np.random.default_rng(3))
    found = np.zeros(4)
    kept = np.unique(ensemble.component)
    counts = np.bincount(ensemble.component.ravel(), minlength=len(kept))
    weight = np.exp(made.log_weight)
    found[weight >= np.sort(weight)[::-1][len(kept) - 1]] = counts
    assert np.abs(found / 64 - weight).max() <= 1.0 / 64 + 1e-12


def test_a_pending_point_holds_no_improvement_any_more() -> None:
    made = model(counts=(4,))
    Q = rows(PLAIN, 300, 13)
    plain = EnsembleLogEI(Ensemble.of(made), np.array([made.Z.min()]), np.zeros(0))
    out = Q[[int(plain.value(Q).argmax())]]
    ensemble, values = drawn_ensemble(made, np.zeros(1, bool), out, 32, np.random.default_rng(0))
    given = EnsembleLogEI(ensemble, values[0].min(axis=0), np.zeros(0))
    assert plain.value(out)[0] - given.value(out)[0] > 3.0
    far = Q[(np.abs(Q - out).max(axis=1) > 0.7) & (plain.value(Q) > -20.0)]
    assert np.median(np.abs(plain.value(far) - given.value(far))) < 1.0
