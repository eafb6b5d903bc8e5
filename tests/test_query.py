"""Queries, their lazy rows, and the two kinds of answer."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt.errors import UsageError, ValueRefused
from bbopt.parameters import Float, Int
from bbopt.query import CoordinateRows, Key, Query, Ranking, Request, Values, pool, rows_from_plain, rows_to_plain
from bbopt.space import Space


@given(
    base=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    changes=st.lists(st.tuples(st.integers(-1, 5), st.floats(0, 1)), max_size=8),
)
def test_lazy_rows_are_their_dense_rows(base: list[float], changes: list[tuple[int, float]]) -> None:
    changes = [(column, value) for column, value in changes if column < len(base)]
    rows = CoordinateRows(np.array(base), np.array([c for c, _ in changes], int), np.array([v for _, v in changes]))
    dense = np.tile(np.array(base), (len(changes), 1))
    for i, (column, value) in enumerate(changes):
        if column >= 0:
            dense[i, column] = value
    assert rows.shape == dense.shape and len(rows) == len(dense)
    assert np.array_equal(rows[:], dense)
    for i in range(len(rows)):
        assert np.array_equal(rows[i], dense[i])
    assert np.array_equal(rows[np.arange(len(rows))[::-1]], dense[::-1])
    again: Any = rows_from_plain(rows_to_plain(rows))
    assert np.array_equal(again[:], dense)


def test_lazy_rows_made_canonical_are_canonical_rows() -> None:
    space = Space(n=Int(0, 4), x=Float(0, 1, shape=(2,)))
    rows = CoordinateRows(np.array([0.4, 0.1, 2.0]), np.array([-1, 0, 1, 2]), np.array([9.0, 0.9, 1 / 3, -1.0]))
    assert np.array_equal(rows.canonical(space)[:], space.canonical(rows[:]))


def test_a_coordinate_wise_query_over_270000_columns_takes_megabytes() -> None:
    width = 270_000
    tracemalloc.start()
    query = Query(CoordinateRows(np.zeros(width), np.arange(width), np.ones(width)))
    assert query.size == width and query.lazy and query.X[width - 1][-1] == 1.0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize(
    "make",
    [
        lambda: CoordinateRows(np.zeros((2, 2)), np.array([0]), np.array([0.0])),
        lambda: CoordinateRows(np.zeros(2), np.array([0, 1]), np.array([0.0])),
        lambda: CoordinateRows(np.zeros(2), np.array([2]), np.array([0.0])),
        lambda: CoordinateRows(np.zeros(2), np.array([-2]), np.array([0.0])),
        lambda: Query(np.zeros(3)),
        lambda: Query(np.zeros((0, 3))),
    ],
)
def test_rows_of_a_wrong_shape_are_refused(make: Any) -> None:
    with pytest.raises(UsageError, match="expected"):
        make()


def test_a_query_keeps_its_own_rows() -> None:
    X = np.zeros((2, 3))
    query = Query(X, id=4, first=10)
    X[0, 0] = 1.0
    assert query.X[0][0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        query.X[0, 0] = 2.0  # type: ignore[index]
    assert list(query.numbers) == [10, 11] and not query.lazy


def test_fingerprint_tells_rows_apart() -> None:
    base = Query(np.zeros((2, 2)))
    assert base.fingerprint() == Query(np.zeros((2, 2)), memo={"a": 1}).fingerprint()
    others = [
        Query(np.zeros((1, 4))),
        Query(np.array([[0.0, 0.0], [0.0, 1e-300]])),
        Query(CoordinateRows(np.zeros(2), np.array([-1, -1]), np.zeros(2))),
    ]
    for other in others:
        assert base.fingerprint() != other.fingerprint()


def test_values_fill_in_what_is_unknown() -> None:
    values = Values.of([1.0, 2.0], [[0.5], [-0.5]], status=("ok", "lost"), rows=[3, 1])
    assert values.Y.tolist() == [[1.0], [2.0]] and values.G.shape == (2, 1)
    assert values.std.shape == (2, 2) and np.isnan(values.std).all() and np.isnan(values.cost).all()
    assert values.ok.tolist() == [True, False] and values.rows.tolist() == [3, 1]
    assert Values.of(np.zeros((4, 2))).G.shape == (4, 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Values.of([1.0, 2.0], status=("ok",)),
        lambda: Values.of([1.0], status=("fine",)),
        lambda: Values(np.zeros((2, 1)), np.zeros((1, 0)), np.zeros((2, 1)), np.zeros(2), ("ok", "ok"), np.arange(2)),
        lambda: Values(np.zeros((2, 1)), np.zeros((2, 0)), np.zeros((2, 1)), np.zeros(2), ("ok", "ok"), np.arange(3)),
    ],
)
def test_values_that_do_not_fit_together_are_refused(make: Any) -> None:
    with pytest.raises(ValueRefused, match="expected"):
        make()


@st.composite
def rankings(draw: st.DrawFn, rows: int = 5) -> Ranking:
    if draw(st.integers(0, 5)) == 0:
        return Ranking(verdict=draw(st.sampled_from(["all bad", "cannot tell"])))
    order = draw(st.permutations(range(rows)))
    seen = draw(st.integers(1, rows))
    groups: list[tuple[int, ...]] = []
    for row in order[:seen]:
        if groups and draw(st.booleans()):
            groups[-1] = (*groups[-1], row)
        else:
            groups.append((row,))
    return Ranking(tuple(groups), tuple(sorted(order[seen:])))


@given(ranking=rankings())
def test_scores_count_who_is_better_and_worse(ranking: Ranking) -> None:
    place = {row: i for i, group in enumerate(ranking.groups) for row in group}
    expected = [
        sum(place[other] > place[row] for other in place) - sum(place[other] < place[row] for other in place)
        if row in place
        else 0
        for row in range(5)
    ]
    assert ranking.scores(5).tolist() == expected
    assert Ranking.from_plain(ranking.to_plain()) == ranking


@given(answers=st.lists(rankings(), min_size=1, max_size=5))
def test_pooling_does_not_depend_on_who_came_first_and_loses_nobody(answers: list[Ranking]) -> None:
    pooled = pool(tuple(answers), 5)
    for other in itertools.islice(itertools.permutations(answers), 6):
        again = pool(tuple(other), 5)
        assert [set(group) for group in again.groups] == [set(group) for group in pooled.groups]
        assert again.unseen == pooled.unseen or len(answers) == 1
    seen = [{row for group in ranking.groups for row in group} for ranking in answers]
    compared = np.array([sum(len(rows) - 1 for rows in seen if row in rows) for row in range(5)])
    listed = sorted(row for group in pooled.groups for row in group)
    assert listed == (sorted(seen[0]) if len(answers) == 1 else np.flatnonzero(compared).tolist())
    if len(answers) > 1 and listed:
        share = np.sum([ranking.scores(5) for ranking in answers], axis=0) / np.maximum(compared, 1)
        by_group = [share[list(group)] for group in pooled.groups]
        assert all(np.ptp(group) == 0 for group in by_group)
        assert all(first[0] > second[0] for first, second in itertools.pairwise(by_group))


def test_verdicts_pool_to_the_most_frequent() -> None:
    bad, unsure = Ranking(verdict="all bad"), Ranking(verdict="cannot tell")
    assert pool((bad, unsure, bad), 3).verdict == "all bad"
    mixed = pool((bad, Ranking(((1,), (0,)), unseen=(2,))), 3)
    assert mixed == Ranking(((1,), (0,)), unseen=(2,))


def test_keys_are_functions_of_seed_query_and_purpose() -> None:
    numbers = {
        Key(seed, query).rng(purpose).random()
        for seed in (0, 1, 2**40)
        for query in (-1, 0, 1)
        for purpose in ("a", "b")
    }
    assert len(numbers) == 18
    assert Key(5, 3).rng("a").random(4).tolist() == Key(5, 3).rng("a").random(4).tolist()
    # the same in every process and version: stored studies depend on it
    assert Key(0, 0).rng("rows").integers(10**9) == np.random.Generator(np.random.PCG64([0, 1, 176944289])).integers(
        10**9
    )


def test_held_columns_are_the_fixed_and_the_context_ones() -> None:
    request = Request(1, 0, np.zeros((0, 3)), fixed={0: 0.5, 1: 0.25}, context={2: 1.0, 1: 0.75})
    assert request.held == {0: 0.5, 1: 0.25, 2: 1.0}
