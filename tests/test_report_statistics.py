"""The statistics of the report against SciPy, NumPy, published tables and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bbopt.report.statistics import (
    FLOOR,
    average_ranks,
    best_so_far,
    cliques,
    compare,
    critical_difference,
    evaluations_to_feasible,
    friedman,
    holm,
    pairwise_wilcoxon,
    quartiles,
    relative_gap,
    share_feasible,
)

INF = float("inf")


def test_best_so_far_ignores_infeasible_and_missing_values_in_both_directions() -> None:
    objective = np.array([1.0, 5.0, np.nan, 4.0, 6.0])
    feasible = np.array([False, True, True, True, True])
    np.testing.assert_array_equal(best_so_far(objective, feasible), [np.nan, 5, 5, 4, 4])
    np.testing.assert_array_equal(best_so_far(objective, feasible, maximize=True), [np.nan, 5, 5, 5, 6])
    assert best_so_far(np.array([]), np.array([], dtype=bool)).shape == (0,)


def test_gaps_by_hand() -> None:
    best = np.array([np.nan, 110.0, 100.0, 99.0])
    np.testing.assert_allclose(relative_gap(best, 100.0), [INF, 0.1, 0.0, -0.01])
    np.testing.assert_allclose(relative_gap(-best, -100.0, maximize=True), [INF, 0.1, 0.0, -0.01])
    np.testing.assert_allclose(relative_gap(np.array([-1.5]), -2.0), [0.25])  # |optimum|, not optimum
    np.testing.assert_allclose(relative_gap(np.array([0.3]), 0.0), [0.3])  # absolute where the optimum is 0


def test_quartiles_equal_numpy_on_finite_values() -> None:
    values = np.random.default_rng(0).normal(size=(11, 4))
    for n in (1, 2, 5, 10, 11):
        np.testing.assert_allclose(quartiles(values[:n]), np.quantile(values[:n], [0.25, 0.5, 0.75], axis=0))


def test_quartiles_with_infinite_gaps_are_infinite_and_never_nan() -> None:
    np.testing.assert_array_equal(quartiles(np.array([1.0, INF, 2.0, INF])), [1.75, INF, INF])
    np.testing.assert_array_equal(quartiles(np.array([INF, INF])), [INF, INF, INF])
    np.testing.assert_array_equal(quartiles(np.array([1.0, 2.0, INF])), [1.5, 2.0, INF])


def test_share_and_first_feasible() -> None:
    flags = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]], dtype=bool)
    first = np.array([evaluations_to_feasible(row) for row in flags])
    np.testing.assert_array_equal(first, [3, 1, INF, 2])
    seen = np.logical_or.accumulate(flags, axis=1).mean(axis=0)
    np.testing.assert_array_equal(share_feasible(first, 4), seen)


def test_ranks_equal_scipy_with_ties_and_infinities() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 4, size=(50, 6)).astype(float)
    scores[rng.random(scores.shape) < 0.2] = INF
    np.testing.assert_array_equal(average_ranks(scores), stats.rankdata(scores, axis=1))


@pytest.mark.parametrize(("blocks", "treatments", "tied"), [(10, 3, False), (17, 4, True), (6, 5, True)])
def test_friedman_equals_scipy(blocks: int, treatments: int, tied: bool) -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(blocks, treatments)) + 0.4 * np.arange(treatments)
    if tied:
        scores = np.round(scores)
    ours = friedman(average_ranks(scores))
    theirs = stats.friedmanchisquare(*scores.T)
    assert ours is not None
    np.testing.assert_allclose([ours.statistic, ours.p], [theirs.statistic, theirs.pvalue])


def test_friedman_at_its_ends() -> None:
    assert friedman(np.array([[1.0, 2.0]])) is None  # one block
    assert friedman(np.array([[1.0], [1.0]])) is None  # one treatment
    ties = friedman(np.full((5, 3), 2.0))
    assert ties is not None
    assert (ties.statistic, ties.p) == (0.0, 1.0)
    sign = friedman(
        np.array([[1.0, 2.0]] * 9 + [[2.0, 1.0]])
    )  # two treatments: chi-squared of the sign test, (9 - 1)^2 / 10
    assert sign is not None
    assert sign.statistic == pytest.approx(6.4)


def test_critical_values_of_the_nemenyi_test() -> None:
    # Demsar (2006), table 5(a): q at 0.05 for 2 to 10 classifiers
    table = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    for k, q in enumerate(table, start=2):
        # CD = q sqrt(k (k + 1) / (6 N)); with N = k (k + 1) / 6 it is q itself
        assert critical_difference(k, k * (k + 1)) * np.sqrt(6) == pytest.approx(q, abs=1.1e-3)
    assert critical_difference(4, 14, 0.10) == pytest.approx(
        1.12, abs=0.005
    )  # his example, section 3.2.4: 1.25 at 0.05
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_cliques_are_maximal() -> None:
    assert cliques([1.0, 2.0, 3.0], 0.5) == []
    assert cliques([3.0, 1.0, 2.0], 5.0) == [(1, 2, 0)]
    assert cliques([1.0, 1.4, 1.8, 4.0], 0.5) == [(0, 1), (1, 2)]
    assert cliques([1.0, 2.0], 1.0) == []  # exactly the difference counts as different


def test_holm_by_hand() -> None:
    # Holm (1979): sorted p times 4, 3, 2, 1, made monotone
    np.testing.assert_allclose(holm([0.005, 0.03, 0.011, 0.5]), [0.02, 0.06, 0.033, 0.5])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_wilcoxon_equals_scipy_for_a_pair_and_survives_equal_columns() -> None:
    scores = np.random.default_rng(3).normal(size=(12, 2))
    assert pairwise_wilcoxon(scores)[0, 1] == pytest.approx(stats.wilcoxon(scores[:, 0], scores[:, 1]).pvalue)
    assert pairwise_wilcoxon(np.ones((5, 2))) == {(0, 1): 1.0}


def test_comparison_ranks_seeds_first_then_problems() -> None:
    first = np.array([[0.1, 0.2, INF], [0.3, 0.2, INF], [0.1, 0.5, INF]])  # seed ranks 1 2 3, 2 1 3, 1 2 3
    second = np.array([[INF, INF, INF], [INF, 0.1, INF]])  # 2 2 2, 2.5 1 2.5
    found = compare([first, second])
    np.testing.assert_allclose(found.seed_ranks, [[4 / 3, 5 / 3, 3], [2.25, 1.5, 2.25]])
    np.testing.assert_allclose(found.ranks, [[1, 2, 3], [2.5, 1, 2.5]])
    np.testing.assert_allclose(found.mean_ranks, [1.75, 1.5, 2.75])


def test_gaps_below_the_floor_are_ties() -> None:
    found = compare([np.array([[FLOOR / 10, 0.0, -1e-9, 1.0]])])
    np.testing.assert_allclose(found.ranks, [[2, 2, 2, 4]])
    assert found.friedman is None  # one problem
    assert found.difference is None


def test_an_uneven_number_of_seeds_per_problem_weighs_every_problem_the_same() -> None:
    many, few = np.tile([[1.0, 2.0]], (30, 1)), np.array([[2.0, 1.0]])
    np.testing.assert_allclose(compare([many, few]).mean_ranks, [1.5, 1.5])
