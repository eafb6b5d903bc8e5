"""Expected improvement under constraints on mixtures: the formulas, their gradients, and what they reduce to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from bbopt.acquisition.class_chance import ClassChance, NetworkChance
from bbopt.acquisition.constrained import PENALTY, ConstrainedLogEI, Rule
from bbopt.acquisition.mixture_ei import MixtureEI
from surrogates.columns import Inputs
from surrogates.pfn.classify import fit_classes
from surrogates.pfn.kernel_belief import KernelBelief
from surrogates.pfn.network import FREE, Network, Shape
from surrogates.pfn.posterior import PFNPosterior, fit_pfn

Array = np.ndarray
MIXED = Inputs(("float", "category", "float", "int"), (0, 3, 0, 5), (0, 1, 2, 3))
PLAIN = Inputs.continuous(3)
LOG_2 = np.log(2.0)


def network(spread: float = 0.1, **sizes: int) -> Network:
    """A small network; with a spread, one with random weights in every layer."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = Network(Shape(**{"width": 32, "layers": 2, "heads": 4, "inner": 48, "columns": 8, "anchors": 6} | sizes))
    with torch.no_grad():
        for part in made.parameters():
            part += spread * torch.randn(part.shape, generator=generator)
    return made.requires_grad_(False)


def rows(inputs: Inputs, n: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    X = rng.random((n, inputs.dimension))
    for j, levels in enumerate(inputs.levels):
        if levels:
            drawn = rng.integers(levels, size=n)
            X[:, j] = drawn if inputs.kind[j] == "category" else drawn / (levels - 1)
    return X


def posterior(inputs: Inputs = MIXED, net: Network | None = None, n: int = 15, constraints: int = 2) -> PFNPosterior:
    X = rows(inputs, n, 0)
    Y = [10.0 + 3.0 * np.sin(4.0 * X[:, 0]) + X[:, 1] - X[:, -1]]
    Y += [100.0 * (X[:, j % inputs.dimension] - 0.5 + 0.3 * X[:, -1] * X[:, 0]) for j in range(constraints)]
    told = np.column_stack(Y)
    told = told + 0.1 * told.std(axis=0) * np.random.default_rng(2).standard_normal(
        told.shape
    )  # so that beliefs are wide
    return fit_pfn(inputs, X, told, net or network())


def score(model: PFNPosterior, rule: Rule = "cei", best: float | None = 9.0) -> MixtureEI:
    """best in units of the targets; constraints hold at or below 0."""
    zero = torch.from_numpy(model.standardised(np.zeros((1, model.outputs)))[0])
    level = np.full((1, model.outputs), 0.0 if best is None else best)
    return MixtureEI(model, None if best is None else float(model.standardised(level)[0, 0]), zero[1:], rule)


def differences(function: Callable[[Array], Array], X: Array, column: int, step: float) -> Array:
    move = np.eye(X.shape[1])[column] * step
    return (function(X + move) - function(X - move)) / (2.0 * step)


# -- formulas --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("best", [9.0, None])
@pytest.mark.parametrize("constraints", [0, 1, 4])
def test_the_score_is_log_ei_and_log_probabilities(constraints: int, best: float | None) -> None:
    """Put together from the posterior's own closed forms, in the units of the targets."""
    model, Q = posterior(constraints=constraints), rows(MIXED, 40, 1)
    limits = np.zeros(1 + constraints)
    below = model.log_probability_below(Q, limits)[:, 1:]
    gain = np.zeros(len(Q))
    if best is not None:
        gain = model.log_expected_improvement(Q, np.full(1 + constraints, best))[:, 0] - float(
            model.normal.width[0].log()
        )
    np.testing.assert_allclose(score(model, "cei", best).value(Q), gain + below.sum(axis=1), rtol=1e-9)
    doubled = np.minimum(below + LOG_2, 0.0).sum(axis=1)
    np.testing.assert_allclose(score(model, "cei+", best).value(Q), gain + doubled, rtol=1e-9, atol=1e-9)


def test_cei_plus_is_above_cei_by_at_most_log_2_per_constraint() -> None:
    model, Q = posterior(constraints=3), rows(MIXED, 200, 2)
    more = score(model, "cei+").value(Q) - score(model, "cei").value(Q)
    assert more.min() >= -1e-9 and more.max() <= 3 * LOG_2 + 1e-9
    assert more.max() - more.min() > 0.1


def test_without_constraints_the_rules_are_one() -> None:
    model, Q = posterior(constraints=0), rows(MIXED, 30, 3)
    assert (score(model, "cei").value(Q) == score(model, "cei+").value(Q)).all()


def test_pieces_are_the_whole() -> None:
    """More points than go through the network at once."""
    model, Q = posterior(PLAIN, constraints=15), rows(PLAIN, 1200, 4)
    whole = score(model).value(Q)
    np.testing.assert_allclose(whole[700:710], score(model).value(Q[700:710]), rtol=1e-4, atol=1e-5)


# -- gradients -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["cei", "cei+"])
@pytest.mark.parametrize("best", [9.0, None])
def test_gradients_are_differences(rule: Rule, best: float | None) -> None:
    """The network is in single precision: a hundredth of the largest slope."""
    made, Q = score(posterior(), rule, best), rows(MIXED, 20, 5)
    value, gradient = made.value_and_gradient(Q)
    np.testing.assert_allclose(value, made.value(Q), rtol=1e-6, atol=1e-6)
    assert (gradient[:, 1] == 0.0).all()  # categories have no direction
    for column in (0, 2, 3):
        expected = differences(made.value, Q, column, 1e-3)
        close = np.abs(gradient[:, column] - expected) <= 1e-2 * np.maximum(np.abs(gradient).max(axis=1), 1.0)
        assert close.mean() >= (1.0 if rule == "cei" else 0.9), (
            column,
            gradient[:, column],
            expected,
        )  # cei+ has a kink


def test_gradients_of_an_untrained_network_are_exact() -> None:
    """Kernel regressions are in double precision, and an untrained network adds nothing to them."""
    made, Q = score(posterior(PLAIN, network(0.0))), rows(PLAIN, 20, 6)
    _, gradient = made.value_and_gradient(Q)
    for column in range(3):
        np.testing.assert_allclose(gradient[:, column], differences(made.value, Q, column, 1e-6), rtol=1e-4, atol=1e-4)


def test_gradients_are_finite_where_nothing_can_improve() -> None:
    made = score(posterior(), best=-1e6)
    value, gradient = made.value_and_gradient(rows(MIXED, 50, 7))
    assert np.isfinite(value).all() and np.isfinite(gradient).all() and value.max() < -100.0


# -- what it reduces to ----------------------------------------------------------------------------------------------------


def single() -> Network:
    """Untrained, with one kernel regression and next to no weight on what no regression holds."""
    net = network(0.0, anchors=1)
    last = net.head[-1]
    assert isinstance(last, torch.nn.Linear)
    last.bias[1 : 1 + FREE] = -1e30
    return net


@pytest.mark.parametrize("rule", ["cei", "cei+"])
@pytest.mark.parametrize("best", [9.0, None])
def test_one_gaussian_per_output_is_the_score_of_gp(rule: Rule, best: float | None) -> None:
    """Value and gradient of `ConstrainedLogEI` on the same kernel regressions."""
    model, Q = posterior(net=single()), rows(MIXED, 30, 8)
    made = score(model, rule, best)
    incumbent = np.nan if made.best is None else made.best
    belief = KernelBelief.of(model.inputs, model.anchors)
    gp = ConstrainedLogEI(belief, np.array([incumbent]), made.limits.numpy(), rule=rule)
    value, gradient = made.value_and_gradient(Q)
    expected, slope = gp.value_and_gradient(Q)
    np.testing.assert_allclose(value, expected, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("inputs", [PLAIN, MIXED])
def test_kernel_belief_is_the_best_kernel_regression(inputs: Inputs) -> None:
    model, Q = posterior(inputs), rows(inputs, 25, 9)
    features = torch.from_numpy(inputs.features(Q)).expand(model.outputs, -1, -1)
    mean, sd = (part[:, 0].numpy() for part in model.anchors.predict(features))
    belief = KernelBelief.of(inputs, model.anchors)
    moments = belief.forward(Q)
    np.testing.assert_allclose(moments.mean[:, :, 0], mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(moments.variance, sd**2, rtol=1e-6, atol=1e-9)
    means, variances = belief.slopes(moments)
    for j, kind in enumerate(inputs.kind):
        if kind == "category":
            assert (means[..., j] == 0.0).all() and (variances[..., j] == 0.0).all()
            continue
        by_mean = differences(lambda X: belief.forward(X).mean[:, :, 0].T, Q, j, 1e-6).T
        by_variance = differences(lambda X: belief.forward(X).variance.T, Q, j, 1e-6).T
        np.testing.assert_allclose(means[..., j], by_mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variances[..., j], by_variance, rtol=1e-3, atol=1e-5)


def test_cei_plus_of_gp_has_gradients() -> None:
    model, Q = posterior(PLAIN), rows(PLAIN, 30, 10)
    belief = KernelBelief.of(PLAIN, model.anchors)
    made = ConstrainedLogEI(belief, np.array([0.0]), np.zeros(2), rule="cei+")
    plain = ConstrainedLogEI(belief, np.array([0.0]), np.zeros(2))
    value, gradient = made.value_and_gradient(Q)
    assert (value >= plain.value(Q) - 1e-9).all() and (value <= plain.value(Q) + 2 * LOG_2 + 1e-9).all()
    for column in range(3):
        expected = differences(made.value, Q, column, 1e-6)
        assert np.isclose(gradient[:, column], expected, rtol=1e-3, atol=1e-3).mean() >= 0.9  # kinks


# -- the chance to work ----------------------------------------------------------------------------------------------------


def half_space(inputs: Inputs = MIXED, n: int = 24) -> tuple[Array, Array]:
    X = rows(inputs, n, 11)
    return X, (X[:, 0] < 0.6).astype(int)


def test_chances_of_the_network_and_of_any_classifier_are_the_same_number() -> None:
    X, works = half_space()
    classes, Q = fit_classes(MIXED, X, works, network()), rows(MIXED, 30, 12)
    for floor in (0.0, 1.0):
        ours, _ = NetworkChance(classes, floor).log_chance(Q, False)
        anyone, slope = ClassChance(classes, floor).log_chance(Q, True)
        np.testing.assert_allclose(ours, anyone, rtol=1e-3, atol=1e-3)
        assert (slope == 0.0).all()


def test_caution_is_a_steep_penalty_below_the_floor() -> None:
    from scipy.special import ndtri

    X, works = half_space()
    classes, Q = fit_classes(MIXED, X, works, network(0.0)), rows(MIXED, 60, 13)
    p = classes.probabilities(Q)[:, 1]
    value, _ = NetworkChance(classes, 0.7).log_chance(Q, False)
    np.testing.assert_allclose(value, np.log(p) - PENALTY * np.maximum(0.7 - ndtri(p), 0.0) ** 2, rtol=1e-5, atol=1e-6)
    sure = ndtri(p) >= 0.7
    assert sure.any() and (~sure).any()
    assert value[sure].min() > value[~sure].max()


@pytest.mark.parametrize("floor", [0.0, 0.7])
def test_gradients_of_the_chance_are_differences(floor: float) -> None:
    X, works = half_space()
    chance, Q = NetworkChance(fit_classes(MIXED, X, works, network(0.0)), floor), rows(MIXED, 20, 14)
    _, gradient = chance.log_chance(Q, True)
    assert (gradient[:, 1] == 0.0).all()
    for column in (0, 2, 3):
        expected = differences(lambda X: chance.log_chance(X, False)[0], Q, column, 1e-6)
        np.testing.assert_allclose(gradient[:, column], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n", [24, 300])
def test_the_rough_chance_is_that_of_one_kernel_regression(n: int) -> None:
    """Value and gradient of an untrained network that knows one regression; with several contexts too."""
    X, works = half_space(n=n)
    chance, Q = NetworkChance(fit_classes(MIXED, X, works, single()), 0.7), rows(MIXED, 20, 19)
    rough = chance.rough()
    assert len(rough.beliefs) == (1 if n == 24 else 2)
    value, gradient = rough.log_chance(Q, True)
    expected, slope = chance.log_chance(Q, True)
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-4)


def test_gradients_of_the_chance_with_random_weights() -> None:
    X, works = half_space()
    chance, Q = NetworkChance(fit_classes(MIXED, X, works, network())), rows(MIXED, 20, 15)
    _, gradient = chance.log_chance(Q, True)
    largest = np.maximum(np.abs(gradient).max(axis=1), 1.0)
    for column in (0, 2, 3):
        expected = differences(lambda X: chance.log_chance(X, False)[0], Q, column, 1e-3)
        assert (np.abs(gradient[:, column] - expected) <= 2e-2 * largest).all()


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_gives_a_number_everywhere(label: int) -> None:
    """All rows worked, or none did."""
    classes, Q = fit_classes(MIXED, rows(MIXED, 9, 16), np.full(9, label)), rows(MIXED, 5, 17)
    network_chance = NetworkChance(classes, 1.0)
    for chance in (network_chance, network_chance.rough(), ClassChance(classes, 1.0)):
        value, gradient = chance.log_chance(Q, True)
        assert np.isfinite(value).all() and (gradient == 0.0).all()
        assert (value > -1e-6).all() if label else (value < -10.0).all()


def test_the_chance_is_added_to_the_score() -> None:
    model, Q = posterior(), rows(MIXED, 20, 18)
    X, works = half_space()
    chance = NetworkChance(fit_classes(MIXED, X, works, network()))
    plain = score(model)
    both = MixtureEI(model, plain.best, plain.limits, "cei", chance)
    (a, slope_a), (b, slope_b) = plain.value_and_gradient(Q), chance.log_chance(Q, True)
    value, gradient = both.value_and_gradient(Q)
    np.testing.assert_allclose(value, a + b)
    np.testing.assert_allclose(gradient, slope_a + slope_b)
