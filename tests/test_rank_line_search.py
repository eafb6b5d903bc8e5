"""The rules of a line search by ranking, and of the slates that it is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt.zeroth_order.rank_line_search import along, decide, next_step, step_sizes
from bbopt.zeroth_order.rank_slates import different, normal

Array = np.ndarray[Any, np.dtype[Any]]


def test_steps_are_those_of_the_paper() -> None:
    """x - eta gamma^l g, l = 0 ... L - 1, with eta one factor longer than the step that is expected."""
    sizes = step_sizes(0.25, 0.5, 5)
    np.testing.assert_array_equal(sizes, 0.5 * 0.5 ** np.arange(5))
    x, g = np.array([0.5, 9.0, 0.5]), np.array([1.0, -2.0])
    rows = along(x, np.array([0, 2]), g, sizes, -np.inf, np.inf)
    np.testing.assert_allclose(rows[:, [0, 2]], x[[0, 2]] - sizes[:, None] * g)
    assert (rows[:, 1] == 9.0).all()
    np.testing.assert_array_equal(along(x, np.array([0, 2]), 10.0 * g, sizes[:1], 0.0, 1.0), [[0.0, 9.0, 1.0]])


GROUPS = st.permutations(range(6)).flatmap(
    lambda rows: st.lists(st.integers(1, 5), max_size=3).map(
        lambda cuts: [part.tolist() for part in np.split(np.array(rows), sorted(set(cuts)))]
    )
)


@given(GROUPS, st.integers(0, 5), st.randoms())
def test_a_decision_is_of_groups_and_not_of_how_they_were_named(groups: list[list[int]], x: int, random: Any) -> None:
    decision = decide(groups, x)
    shuffled = [random.sample(group, len(group)) for group in groups]
    assert decide(shuffled, x) == decision
    place = {row: i for i, group in enumerate(groups) for row in group}
    assert decision.compared and set(decision.above) == {row for row in range(6) if place[row] < place[x]}
    assert [place[row] for row in decision.above] == sorted(place[row] for row in decision.above)
    assert set(decision.equals) == {row for row in range(6) if row != x and place[row] == place[x]}
    assert decision.tied == (len(groups) == 1)


@pytest.mark.parametrize("groups", [[], [[2]], [[0, 1], [3]]])
def test_without_x_or_anything_beside_it_nothing_is_decided(groups: list[list[int]]) -> None:
    decision = decide(groups, 2)
    assert not decision.compared and decision.above == () and not decision.tied


def test_the_step_that_won_is_expected_next() -> None:
    assert next_step(1.0, 0.6, 0.36) == 0.36
    assert next_step(1.0, 0.6, None) == 0.6
    assert next_step(1.0, 0.6, 0.0) == 1.0, "a row off the direction says nothing of steps"


@given(st.integers(1, 20), st.integers(1, 12), st.integers(0, 2**31))
def test_orthogonal_perturbations(n: int, d: int, seed: int) -> None:
    """At right angles within each d of them, with the lengths of independent ones."""
    plain = normal(np.random.default_rng(seed), n, d, orthogonal=False)
    rows = normal(np.random.default_rng(seed), n, d, orthogonal=True)
    np.testing.assert_allclose((rows**2).sum(axis=1), (plain**2).sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(rows[0], plain[0], rtol=1e-9, atol=1e-12)
    for first in range(0, n, d):
        products = rows[first : first + d] @ rows[first : first + d].T
        np.testing.assert_allclose(products - np.diag(np.diag(products)), 0.0, atol=1e-9)


def test_each_orthogonal_perturbation_is_normal() -> None:
    """Mean 0, variance 1 and fourth moment 3 of every entry, 20,000 slates of 3 in 4 dimensions (5 standard errors)."""
    rng = np.random.default_rng(0)
    rows = np.array([normal(rng, 3, 4, orthogonal=True) for _ in range(20_000)])
    error = 5.0 / np.sqrt(len(rows))
    assert np.abs(rows.mean(axis=0)).max() < error
    assert np.abs((rows**2).mean(axis=0) - 1.0).max() < error * np.sqrt(2.0)
    assert np.abs((rows**4).mean(axis=0) - 3.0).max() < error * np.sqrt(96.0)


def test_rows_that_are_x_or_repeats_are_found() -> None:
    x = np.zeros(2)
    X = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    assert different(X, x).tolist() == [True, False, False, True]
