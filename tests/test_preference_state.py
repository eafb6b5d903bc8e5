"""How answers become comparisons in `preference-gp`: groups, ties, rows not looked at, verdicts, numbers, weights."""

from __future__ import annotations

import numpy as np
import pytest

from bbopt import Float, Space, Task
from bbopt.query import Query, Ranking
from bbopt.strategies.preference_gp_state import PreferenceState, normal_scores, pair_weight, value_pairs

TASK = Task(Space(x0=Float(0.0, 1.0), x1=Float(0.0, 1.0)), feedback="ranking")


def told(ranking: Ranking, rows: int = 4) -> PreferenceState:
    X = np.arange(2.0 * rows).reshape(rows, 2) / (2 * rows)
    return PreferenceState.empty(TASK).after(Query(X), ranking)


@pytest.mark.parametrize(
    ("ranking", "pairs"),
    [
        (Ranking(((2,), (0,), (1,))), {(2, 0), (2, 1), (0, 1)}),
        (Ranking(((0,), (1, 2), (3,))), {(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)}),
        (Ranking(((1,), (0,)), unseen=(2, 3)), {(1, 0)}),
        (Ranking(((3,), (0, 1, 2))), {(3, 0), (3, 1), (3, 2)}),
        (Ranking(((0, 1, 2, 3),)), set()),
        (Ranking((), unseen=(0, 1, 2, 3)), set()),
        (Ranking(verdict="cannot tell"), set()),
        (Ranking(verdict="all bad"), set()),
    ],
)
def test_pairs_of_a_ranking(ranking: Ranking, pairs: set[tuple[int, int]]) -> None:
    """All pairs across groups, none within ties, none with rows not looked at; verdicts say nothing of the order."""
    state = told(ranking)
    rows = [int(np.flatnonzero((np.arange(8.0).reshape(4, 2) / 8 == row).all(axis=1))[0]) for row in state.X]
    assert {(rows[a], rows[b]) for a, b in state.pairs.tolist()} == pairs
    assert state.fruitless == (0 if pairs else 1)
    assert len(state.passed) == (0 if pairs else 4), "rows of a slate that taught nothing are not shown again"


def test_expected_normal_scores_are_those_of_the_tables() -> None:
    """Harter 1961, "Expected values of normal order statistics", Biometrika 48: n = 6 and n = 10."""
    np.testing.assert_allclose(normal_scores(6)[3:], [0.20155, 0.64176, 1.26721], atol=1e-5)
    np.testing.assert_allclose(normal_scores(10)[5:], [0.12267, 0.37576, 0.65606, 1.00136, 1.53875], atol=1e-5)
    np.testing.assert_allclose(normal_scores(150)[-1], normal_scores(149)[-1], atol=0.01)


def test_weights_give_pairs_the_information_of_the_ranking() -> None:
    """The information at equal utilities by simulation: the variance of the ranking's best linear score against the pairs'.

    For Thurstone's model with unit noise a small shift of the utilities moves the mean of the scores s_i as it moves the
    noise itself, so that the information of the ranking per row is sum s_i^2 / (m - 1); a pair's is 1/pi in its difference.
    """
    rng = np.random.default_rng(0)
    for sizes in ((1, 1), (1,) * 6, (2, 4, 2), (1, 5), (3, 3)):
        m = sum(sizes)
        noise = rng.standard_normal((200_000, m))
        scores = np.sort(noise, axis=1).mean(axis=0)[::-1]  # best first
        starts = np.cumsum((0, *sizes))
        tied = np.concatenate([np.full(n, scores[a : a + n].mean()) for a, n in zip(starts, sizes, strict=False)])
        pairs = (m * m - sum(n * n for n in sizes)) / 2
        information, of_pairs = (tied**2).sum() / (m - 1), 2.0 * pairs / (m - 1) / np.pi
        assert pair_weight(sizes) == pytest.approx(information / of_pairs, rel=0.02)


def test_caution_is_a_power_of_the_weights() -> None:
    state = told(Ranking(((2,), (0,), (1,))))
    full, half, none = (state.comparisons(True, caution).weight for caution in (1.0, 0.5, 0.0))
    assert full[0] == pair_weight((1, 1, 1)) < 1.0
    np.testing.assert_allclose(half**2, full)
    assert none.tolist() == [1.0] * 3


def test_numbers_are_compared_by_order_and_equal_ones_not_at_all() -> None:
    places, values = np.array([0, 1, 2, 3]), np.array([4.0, 1.0, 1.0, 9.0])
    pairs, weight = value_pairs(places, values, exact=True)
    assert {tuple(pair) for pair in pairs.tolist()} == {(1, 0), (2, 0), (0, 3), (2, 3), (1, 3)}
    assert weight.tolist() == [1.0] * len(pairs)
    noisy, weight = value_pairs(places, values, exact=False)
    assert all(values[a] < values[b] for a, b in noisy.tolist()) and (weight < 1.0).all()


def test_which_noisy_rows_are_compared_does_not_depend_on_the_numbers() -> None:
    """Else pairs that are near each other in the order are always told apart, and noise is taken for signal."""
    rng = np.random.default_rng(0)
    places = np.arange(20)
    one, _ = value_pairs(places, rng.random(20), exact=False)
    other, _ = value_pairs(places, rng.random(20), exact=False)
    assert {frozenset(pair) for pair in one.tolist()} == {frozenset(pair) for pair in other.tolist()}


def test_all_bad_says_that_the_last_winner_is_better_unless_it_was_shown() -> None:
    X = np.arange(8.0).reshape(4, 2) / 8
    state = PreferenceState.empty(TASK).after(Query(X[:2]), Ranking(((1,), (0,))))
    after = state.after(Query(X[2:]), Ranking(verdict="all bad"))
    assert after.pairs[1:].tolist() == [[0, 2], [0, 3]] and (after.X[0] == X[1]).all()
    assert after.leader == state.leader and after.fruitless == 0
    shown = state.after(Query(X[1:]), Ranking(verdict="all bad"))
    assert len(shown.pairs) == 1 and shown.fruitless == 1


def test_contradictions_are_more_comparisons_and_rows_are_known_by_what_they_are() -> None:
    X = np.arange(4.0).reshape(2, 2) / 4
    state = PreferenceState.empty(TASK).after(Query(X), Ranking(((0,), (1,))))
    state = state.after(Query(X), Ranking(((1,), (0,))))
    assert len(state.X) == 2 and sorted(map(tuple, state.pairs.tolist())) == [(0, 1), (1, 0)]
