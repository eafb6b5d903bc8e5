"""The estimate of a gradient from comparisons: against the paper's formulas, simulated slates, and what it reduces to."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt.errors import UsageError
from bbopt.query import Ranking
from bbopt.zeroth_order.random_directions import centred_ranks
from bbopt.zeroth_order.rank_gradient import (
    Comparisons,
    best_of,
    edges_of,
    expected_cosine,
    from_edges,
    from_groups,
    from_ranking,
    order_statistics,
    sharing_of,
    together,
)

Array = np.ndarray[Any, np.dtype[Any]]


def bins(*sizes: int) -> Comparisons:
    """Groups of these sizes, best first."""
    ends = np.cumsum(sizes)
    return from_groups([range(end - size, end) for size, end in zip(sizes, ends, strict=True)], int(ends[-1]))


def oracle(m: int, k: int) -> Comparisons:
    return from_ranking(best_of(np.arange(float(m)), k), m)


def as_edges(groups: list[list[int]]) -> list[tuple[int, int]]:
    """Every (better, worse) that ordered groups of ties say."""
    return [(i, j) for a, b in itertools.combinations(groups, 2) for i in a for j in b]


# -- the paper's formulas --------------------------------------------------------------------------------------------------


def test_weights_of_the_example() -> None:
    """m = 5, k = 2: (4, 2, -2, -2, -2) / 7; ties {1}, {2, 3}, {4}: (3, 0, 0, -3) / 5."""
    two_of_five = oracle(5, 2)
    np.testing.assert_allclose(two_of_five.weights / two_of_five.edges, np.array([4, 2, -2, -2, -2]) / 7)
    ties = bins(1, 2, 1)
    np.testing.assert_allclose(ties.weights / ties.edges, np.array([3, 0, 0, -3]) / 5)


@pytest.mark.parametrize("m", range(2, 21))
def test_edges_and_shared_ones_of_every_oracle(m: int) -> None:
    """|E| = k m - k (k + 1) / 2, N(E) = m^2 k + m k^2 - k^3 + k^2 - 4 m k + 2 k, and weights that sum to 0, 1 <= k <= m."""
    for k in range(1, m + 1):
        graph = oracle(m, k)
        assert graph.edges == edges_of(m, k)
        assert graph.sharing == sharing_of(m, k)
        assert graph.weights.sum() == 0.0
        ranked = np.arange(m)[: min(k, m - 1)]
        np.testing.assert_array_equal(graph.weights[ranked], m - 1 - 2 * ranked)
        if k < m - 1:
            np.testing.assert_array_equal(graph.weights[k:], -k)


def test_all_but_one_is_all() -> None:
    np.testing.assert_array_equal(oracle(9, 8).weights, oracle(9, 9).weights)


def test_order_statistics_of_normal_numbers() -> None:
    """Closed forms (H. A. David, H. N. Nagaraja, Order Statistics, 3rd edition, example 3.2.1), the identity sum z^2 + variances
    = n for n = 2, and for n = 100 the largest as tabulated there (2.5076)."""
    pi = np.pi
    np.testing.assert_allclose(order_statistics(2), [1 / np.sqrt(pi), -1 / np.sqrt(pi)], rtol=1e-12)
    np.testing.assert_allclose(order_statistics(3)[0], 1.5 / np.sqrt(pi), rtol=1e-12)
    four = 6 / np.sqrt(pi) * np.arctan(np.sqrt(2)) / pi
    np.testing.assert_allclose(order_statistics(4)[0], four, rtol=1e-12)
    assert order_statistics(1).tolist() == [0.0]
    assert order_statistics(100)[0] == pytest.approx(2.50759, abs=2e-5)
    for n in (5, 50, 500):
        z = order_statistics(n)
        assert (np.diff(z) < 0).all() and abs(z.sum()) < 1e-9


# m, k: c and efficiency, as calculated by another implementation
TABLE = [(15, 1, 1.860, 3.23), (15, 3, 1.552, 6.69), (15, 5, 1.389, 8.79), (15, 7, 1.284, 10.26), (15, 15, 1.128, 12.5),
         (5, 5, 1.128, 3.18), (6, 1, 1.520, 1.92), (6, 6, 1.128, 4.09), (8, 1, 1.626, 2.31), (8, 3, 1.327, 4.45),
         (8, 8, 1.128, 5.93), (10, 10, 1.128, 7.81), (20, 20, 1.128, 17.3)]  # fmt: skip


@pytest.mark.parametrize(("m", "k", "c", "efficiency"), TABLE)
def test_signal_and_efficiency_of_the_table(m: int, k: int, c: float, efficiency: float) -> None:
    assert oracle(m, k).signal == pytest.approx(c, abs=0.0015)
    assert oracle(m, k).efficiency == pytest.approx(efficiency, rel=0.005)


def test_full_rankings_have_one_signal() -> None:
    """2 / sqrt(pi): the mean of |z_i - z_j| over all pairs."""
    for m in (2, 7, 40):
        assert oracle(m, m).signal == pytest.approx(2 / np.sqrt(np.pi), rel=1e-9)


def simulated(graph: Comparisons, draws: int, seed: int) -> tuple[float, float]:
    """c^2 / s^2 of a noise-free ranker, from draws of the perturbations along and across the gradient; and mean of g / c."""
    m, rng = len(graph.weights), np.random.default_rng(seed)
    along = np.sort(rng.standard_normal((draws, m)), axis=1)  # best (least) first, as the graph has it
    across = rng.standard_normal((draws, m))
    g = -along @ graph.weights / graph.edges
    noise = -across @ graph.weights / graph.edges
    return float(g.mean() ** 2 / noise.var()), float(g.mean() / graph.signal)


@pytest.mark.parametrize(
    ("graph", "efficiency"),
    [(oracle(15, 1), 3.23), (oracle(15, 5), 8.79), (oracle(15, 15), 12.5), (oracle(8, 8), 5.93), (bins(5, 5, 5), 10.6),
     (bins(3, 9, 3), 10.3), (bins(2, 4, 2), 5.2), (bins(1, 6, 1), 4.05)],
    ids=["15,1", "15,5", "15,15", "8,8", "bins 5-5-5", "bins 3-9-3", "bins 2-4-2", "best and worst of 8"],
)  # fmt: skip
def test_efficiency_in_simulated_slates(graph: Comparisons, efficiency: float) -> None:
    """Within 3 % of the table (its bar), over 100,000 draws (standard error below 0.5 %), seed 1."""
    found, length = simulated(graph, 100_000, 1)
    assert found == pytest.approx(efficiency, rel=0.03)
    assert found == pytest.approx(graph.efficiency, rel=0.015)
    assert length == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("m", "k"), [(15, 15), (15, 3), (6, 6)])
def test_cosine_to_the_gradient(m: int, k: int) -> None:
    """Mean squared cosine in 100 dimensions over 1,000 slates (standard error 2 %) against efficiency / (efficiency + 99), which
    is a ratio of means instead of a mean of ratios: 3, 5 and 10 % less over 8,000 slates."""
    rng, cosines = np.random.default_rng(2), []
    for _ in range(1000):
        steps = rng.standard_normal((m, 100))
        g = from_ranking(best_of(steps[:, 0], k), m).estimate(steps)
        cosines.append(g[0] ** 2 / (g @ g))
    ratio = np.mean(cosines) / expected_cosine(oracle(m, k).efficiency, 100) ** 2
    assert 0.95 < ratio < 1.17


# -- reductions ------------------------------------------------------------------------------------------------------------


def test_two_points_and_one_best_are_the_comparison_oracle() -> None:
    """(m, k) = (2, 1): g = sign(f(x + mu xi_1) - f(x + mu xi_2)) (xi_1 - xi_2)."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        steps, values = rng.standard_normal((2, 7)), rng.standard_normal(2)
        graph = from_ranking(best_of(values, 1), 2)
        np.testing.assert_allclose(
            graph.estimate(steps) * graph.signal, np.sign(values[0] - values[1]) * (steps[0] - steps[1]), rtol=1e-12
        )


@given(st.lists(st.integers(0, 5), min_size=2, max_size=12))
def test_a_full_ranking_of_values_is_their_rank_statistic(values: list[int]) -> None:
    """w_i = sum_j sign(f_j - f_i), ties included; without ties -2 (m - 1) times the centred ranks of `openes`."""
    f, m = np.array(values, float), len(values)
    ranking = best_of(f)
    np.testing.assert_array_equal(from_ranking(ranking, m).weights, np.sign(f[None] - f[:, None]).sum(axis=1))
    groups = [list(group) for group in ranking.groups]
    np.testing.assert_allclose(from_ranking(ranking, m).weights, -2 * (m - 1) * centred_ranks(groups, m), atol=1e-12)


@given(st.permutations(range(9)), st.lists(st.integers(1, 8), max_size=4), st.integers(0, 3))
def test_groups_are_the_edges_that_they_say(rows: list[int], cuts: list[int], unseen: int) -> None:
    groups = [
        part.tolist() for part in np.split(np.array(rows[unseen:]), sorted(set(cuts) & set(range(1, 9 - unseen))))
    ]
    one, two = from_groups(groups, 9), from_edges(as_edges(groups), 9)
    np.testing.assert_array_equal(one.weights, two.weights)
    np.testing.assert_array_equal(one.degrees, two.degrees)
    assert one.edges == two.edges and one.weights.sum() == 0.0
    assert not one.weights[rows[:unseen]].any(), "rows that nobody looked at carry no weight"


@given(st.permutations(range(8)), st.integers(1, 8), st.integers(0, 2**31))
def test_neither_the_order_of_rows_nor_of_naming_them_counts(rows: list[int], k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps, values = rng.standard_normal((8, 3)), rng.integers(0, 6, 8).astype(float)
    plain = from_ranking(best_of(values, k), 8)
    moved = from_ranking(best_of(values[rows], k), 8)
    np.testing.assert_array_equal(moved.weights, plain.weights[rows])
    np.testing.assert_allclose(moved.estimate(steps[rows]), plain.estimate(steps), atol=1e-12)
    named = Ranking(tuple(tuple(rng.permutation(group).tolist()) for group in best_of(values, k).groups))
    np.testing.assert_array_equal(from_ranking(named, 8).weights, plain.weights)


# -- graphs of any kind ----------------------------------------------------------------------------------------------------


def test_contradictions_cancel_and_repeats_count() -> None:
    cycle = from_edges([(0, 1), (1, 2), (2, 0)], 3)
    assert not cycle.weights.any() and cycle.edges == 3.0 and cycle.efficiency == 0.0
    assert not cycle.estimate(np.eye(3)).any()
    assert not from_edges([(0, 1), (1, 0)], 2).weights.any()
    twice = from_edges([(0, 1), (0, 1), (1, 0)], 2)
    assert twice.weights.tolist() == [1.0, -1.0] and twice.edges == 3.0
    np.testing.assert_array_equal(from_edges([(0, 1), (1, 0)], 2, counts=[2.0, 1.0]).weights, twice.weights)


def test_several_raters_sum_their_edges() -> None:
    one, two = [[0], [1], [2, 3]], [[3], [0, 1]]
    both = together([from_groups(one, 4), from_groups(two, 4)])
    edges = from_edges(as_edges(one) + as_edges(two), 4)
    np.testing.assert_array_equal(both.weights, edges.weights)
    np.testing.assert_array_equal(both.degrees, edges.degrees)
    assert both.edges == edges.edges


@pytest.mark.parametrize(
    "ranking",
    [Ranking(), Ranking(((0, 1, 2, 3),)), Ranking(((2,),), unseen=(0, 1, 3)), Ranking(verdict="all bad"),
     Ranking(((0,), (1,)), verdict="cannot tell")],
    ids=["nothing", "all tied", "one looked at", "all bad", "cannot tell"],
)  # fmt: skip
def test_no_comparison_is_no_estimate(ranking: Ranking) -> None:
    graph = from_ranking(ranking, 4)
    assert graph.edges == graph.signal == graph.efficiency == 0.0
    assert expected_cosine(graph.efficiency, 4) == 0.0
    assert not graph.estimate(np.ones((4, 2))).any()


def test_not_looked_at_is_not_worst() -> None:
    seen = from_ranking(Ranking(((0,), (1,)), unseen=(2, 3)), 4)
    worst = from_ranking(Ranking(((0,), (1,), (2, 3))), 4)
    assert seen.weights.tolist() == [1.0, -1.0, 0.0, 0.0] and worst.weights.tolist() == [3.0, 1.0, -2.0, -2.0]
    np.testing.assert_allclose(seen.signal, oracle(2, 2).signal)


def test_ties_of_values_are_not_broken() -> None:
    assert best_of(np.array([2.0, 1.0, 1.0, 3.0]), 1).groups == ((1, 2), (0, 3))
    assert best_of(np.zeros(3)).groups == ((0, 1, 2),)


@pytest.mark.parametrize(("edges", "counts"), [([(0, 0)], None), ([(0, 1)], [1.0, 2.0]), ([(0, 1)], [-1.0])])
def test_edges_that_make_no_sense_are_refused(edges: list[tuple[int, int]], counts: list[float] | None) -> None:
    with pytest.raises(UsageError, match="different rows"):
        from_edges(edges, 2, counts)
