"""Sets of components, and posteriors of which some components fail, are equal or are left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from amortised_models import FIRST, MIXED, SECOND, data, model, rows
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logsumexp

from bbopt.errors import UsageError
from surrogates.amortised.components import KERNELS, Components, Diagnosis, components_of
from surrogates.amortised.posterior import condition_components
from surrogates.columns import Inputs
from surrogates.protocol import Posterior, Predictive

Array = NDArray[np.float64]
# -- components that do not work ---------------------------------------------------------------------------------------


def test_a_component_that_cannot_be_factored_weighs_nothing() -> None:
    X, Z, _ = data()
    for name, value in (
        ("lengthscales", np.nan),
        ("noise", np.nan),
        ("scale", np.inf),
        ("scale", 0.0),
        ("log_weight", -np.inf),
    ):
        array = getattr(FIRST, name).copy()
        array[1] = value
        gp = condition_components(MIXED, X, Z[:, :1], [replace(FIRST, **{name: array})])
        without = condition_components(MIXED, X, Z[:, :1], [FIRST.take(np.array([0, 2]))])
        assert len(gp.components[0]) == 2
        assert np.exp(gp.log_weight) == pytest.approx([0.4, 0.6])
        assert gp.mean_variance(X)[0] == pytest.approx(without.mean_variance(X)[0])


def test_none_left_is_an_arithmetic_error() -> None:
    X, Z, _ = data()
    bad = replace(SECOND, lengthscales=np.full((2, 3), np.nan))
    with pytest.raises(FloatingPointError, match="not finite under any of the 2 components of output 1"):
        condition_components(MIXED, X, Z, [FIRST, bad])


@pytest.mark.parametrize("kernel", range(3))
def test_rows_that_are_the_same_or_nearly_so_are_survived(kernel: int) -> None:
    """Without noise, 40 equal rows with different values, and 200 rows within 1e-9."""
    one = Components.single(KERNELS[kernel], np.full(2, 0.5), 0.0)
    rng = np.random.default_rng(18)
    near = 0.5 + 1e-9 * rng.standard_normal((200, 2))
    for X in (np.full((40, 2), 0.5), near, near[:1]):
        gp = condition_components(Inputs.continuous(2), X, rng.standard_normal((len(X), 1)), [one])
        gp = gp.given(np.vstack([X[:1]] * 2), np.zeros((2, 1)))
        T = np.vstack([rng.random((20, 2)), X[:3]])
        for part in (
            *gp.mean_variance(T),
            *gp.gradients(T),
            *gp.leave_one_out(),
            gp.quantiles(T, np.array([0.1, 0.9])),
        ):
            assert np.isfinite(part).all()
        assert np.all(gp.mean_variance(T)[1] > 0.0)


def test_wrong_shapes_are_named() -> None:
    X, Z, _ = data()
    with pytest.raises(UsageError, match="one set of components"):
        condition_components(MIXED, X, Z, [FIRST])
    with pytest.raises(UsageError, match="n > 0"):
        condition_components(MIXED, X[:0], Z[:0], [FIRST, SECOND])
    with pytest.raises(UsageError, match="expected K > 0 components"):
        replace(FIRST, noise=np.ones(2))
    with pytest.raises(UsageError, match="offset"):
        replace(FIRST, offset=-1.0)
    with pytest.raises(UsageError, match="pass all rows or none"):
        model().given(X[:1], Z[:1], np.ones((1, 2)))
    with pytest.raises(UsageError, match="pass all rows or none"):
        model(known=True).given(X[:1], Z[:1])
    with pytest.raises(UsageError, match="ends excluded"):
        model().quantiles(X, np.array([0.5, 1.0]))
    with pytest.raises(UsageError, match="at least 1"):
        FIRST.at_most(0)


# -- the set of components ---------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 12), st.integers(0, 10**6))
def test_at_most_merges_equals_and_keeps_the_heaviest(kinds: list[int], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kind = np.array(kinds)
    weight = rng.dirichlet(np.ones(len(kind)))
    many = Components(kind % 3, 1.0 + kind[:, None], 0.1 * (1.0 + kind), np.ones(len(kind)), np.log(weight))
    few = many.at_most(count)
    sums = {k: weight[kind == k].sum() for k in set(kinds)}
    heaviest = sorted(sums.values(), reverse=True)[:count]
    assert np.exp(few.log_weight) == pytest.approx(np.array(heaviest) / sum(heaviest))
    assert len({*few.lengthscales[:, 0]}) == len(few) == min(count, len(sums))
    assert logsumexp(few.log_weight) == pytest.approx(0.0, abs=1e-12)
    assert 1.0 - 1e-12 <= few.effective() <= len(few) + 1e-9


def test_posterior_with_fewer_components_is_that_of_the_heaviest() -> None:
    X, Z, _ = data()
    twice = FIRST.take(np.array([0, 1, 2, 0, 1]))
    gp, T = condition_components(MIXED, X, Z, [twice, SECOND]), rows(5, np.random.default_rng(19))
    for count in (1, 2, 3, 10):
        few = gp.at_most(count)
        again = condition_components(MIXED, X, Z, [part.at_most(count) for part in gp.components])
        assert few.log_weight == pytest.approx(again.log_weight)
        for a, b in zip(few.mean_variance(T), again.mean_variance(T), strict=True):
            assert a == pytest.approx(b, abs=1e-12)
    for a, b in zip(gp.at_most(10).mean_variance(T), gp.mean_variance(T), strict=True):
        assert a == pytest.approx(b, abs=1e-10)


@given(st.integers(0, 10**6))
def test_order_of_rows_components_and_a_sign_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, Z, _ = data(10, seed % 100)
    T = rows(4, rng)
    turn, shuffle = rng.permutation(10), rng.permutation(3)
    plain = condition_components(MIXED, X, Z[:, :1], [FIRST])
    mixed = condition_components(MIXED, X[turn], -Z[turn, :1], [replace(FIRST.take(shuffle), centre=-FIRST.centre)])
    assert mixed.mean_variance(T)[0] == pytest.approx(-plain.mean_variance(T)[0], abs=1e-9)
    assert mixed.mean_variance(T)[1] == pytest.approx(plain.mean_variance(T)[1], abs=1e-9)


def test_each_output_alone_is_the_output_among_others() -> None:
    gp, T = replace(model(known=True), diagnosis=(Diagnosis(2.0, "network"), Diagnosis(1.5, "given"))), data(5, 20)[0]
    for j in range(2):
        alone = gp.output(j)
        assert alone.outputs == 1 and alone.diagnosis == gp.diagnosis[j : j + 1]
        for a, b in zip(alone.mean_variance(T), gp.mean_variance(T), strict=True):
            assert a[:, 0] == pytest.approx(b[:, j], abs=1e-12)


def test_hyperparameters_are_what_conditioning_needs() -> None:
    gp = model(known=True)
    again = condition_components(MIXED, gp.X, gp.Z, components_of(gp.hyperparameters()), gp.variances)
    assert np.array_equal(again.inverse, gp.inverse) and np.array_equal(again.log_weight, gp.log_weight)


def test_posterior_satisfies_both_protocols() -> None:
    gp = model()
    posterior: Posterior = gp
    predictive: Predictive = gp
    assert isinstance(posterior, Posterior) and isinstance(predictive, Predictive)
