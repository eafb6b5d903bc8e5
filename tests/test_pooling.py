"""One ranking from several people's."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bbopt.query import Ranking, pool


def test_a_row_that_few_looked_at_is_not_worse_for_it() -> None:
    """Row 2 won both of its comparisons, row 0 five of its six: summed scores (2 against 4) would put row 0 first."""
    twice = Ranking(((0,), (1,), (3,)), unseen=(2,))
    once = Ranking(((2,), (0,), (3,)), unseen=(1,))
    total = 2 * twice.scores(4) + once.scores(4)
    assert total.tolist() == [4.0, 0.0, 2.0, -6.0]
    assert pool((twice, twice, once), 4) == Ranking(((2,), (0,), (1,), (3,)))


def test_verdicts_and_skips_are_pooled() -> None:
    order, bad, lost = Ranking(((1,), (0,))), Ranking(verdict="all bad"), Ranking(verdict="cannot tell")
    skip = Ranking(unseen=(0, 1))
    assert pool((bad, order), 2) == pool((order, skip), 2) == pool((skip, lost, order), 2) == order
    assert pool((bad, bad, lost), 2) == pool((bad, skip), 2) == bad
    assert pool((bad, lost), 2) == pool((lost, lost, bad), 2) == lost
    assert pool((skip, skip), 2) == skip
    assert pool((Ranking(((0,),), unseen=(1,)), skip), 2) == skip, "one row alone is compared with nothing"


RANKINGS = st.lists(st.integers(0, 5), min_size=5, max_size=5).map(
    lambda places: Ranking(
        tuple(tuple(i for i in range(5) if places[i] == p) for p in range(5) if p in places),
        tuple(i for i in range(5) if places[i] == 5),
    )
)
FULL = RANKINGS.filter(lambda ranking: not ranking.unseen)


@settings(max_examples=80)
@given(st.lists(RANKINGS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_pooling_knows_no_order_of_people_nor_of_rows(rankings: list[Ranking], random: Any) -> None:
    pooled = pool(tuple(rankings), 5)
    named = sorted([row for group in pooled.groups for row in group] + list(pooled.unseen))
    assert named == list(range(5))
    shuffled = random.sample(rankings, len(rankings))
    same = pool(tuple(shuffled), 5)
    assert [set(group) for group in same.groups] == [set(group) for group in pooled.groups]
    new = random.sample(range(5), 5)

    def renamed(ranking: Ranking) -> Ranking:
        return Ranking(
            tuple(tuple(new[row] for row in group) for group in ranking.groups), tuple(new[r] for r in ranking.unseen)
        )

    turned = pool(tuple(renamed(ranking) for ranking in rankings), 5)
    assert [set(group) for group in turned.groups] == [set(group) for group in renamed(pooled).groups]


@settings(max_examples=80)
@given(st.lists(FULL, min_size=2, max_size=4))
def test_pooling_of_full_rankings_is_bordas_count(rankings: list[Ranking]) -> None:
    total = np.sum([ranking.scores(5) for ranking in rankings], axis=0)
    wanted = [tuple(np.flatnonzero(total == score).tolist()) for score in sorted(set(total.tolist()), reverse=True)]
    assert list(pool(tuple(rankings), 5).groups) == wanted


@settings(max_examples=60)
@given(RANKINGS, st.integers(2, 4))
def test_pooling_the_same_answer_is_that_answer(ranking: Ranking, times: int) -> None:
    pooled = pool((ranking,) * times, 5)
    if sum(len(group) for group in ranking.groups) > 1:
        assert pooled == ranking
