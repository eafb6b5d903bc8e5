"""Agreement between raters, against SciPy and against numbers from the books."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import friedmanchisquare, kendalltau

from bbopt.agreement import agreement, circular_triads
from bbopt.optimizer import Optimizer
from bbopt.parameters import Float, Int
from bbopt.query import Ranking
from bbopt.slates import Ranked
from bbopt.space import Space
from bbopt.task import Task

Judged = tuple[Ranking, tuple[Any, ...]]


def ranking_of(places: list[float]) -> Ranking:
    """Rows by place, best (smallest) first; NaN is unseen."""
    seen = sorted({place for place in places if place == place})
    groups = tuple(tuple(i for i, place in enumerate(places) if place == level) for level in seen)
    return Ranking(groups, tuple(i for i, place in enumerate(places) if place != place))


def answers_of(*raters: list[list[float]], names: str = "abcdefgh") -> list[tuple[Ranked, list[tuple[int, int]]]]:
    """Each rater's places in slates 0, 1, ...; every row is a point of its own."""
    found = []
    for name, slates in zip(names, raters, strict=False):
        for query, places in enumerate(slates):
            ranked = Ranked(query, 10 * query, len(places), name, ranking_of(places))
            found.append((ranked, [(query, row) for row in range(len(places))]))
    return found


PLACES = st.lists(st.integers(0, 4).map(float), min_size=5, max_size=5)


@settings(max_examples=60)
@given(PLACES, PLACES, st.sets(st.integers(0, 4), max_size=3))
def test_tau_is_scipys_on_the_rows_that_both_saw(a: list[float], b: list[float], hidden: set[int]) -> None:
    shown = [math.nan if i in hidden else place for i, place in enumerate(b)]
    seen = [i for i in range(5) if i not in hidden]
    found = agreement(answers_of([a], [shown]))
    expected = kendalltau([a[i] for i in seen], [b[i] for i in seen]).statistic if len(seen) > 1 else math.nan
    (pair,) = found.pairs or (None,)
    if pair is None:
        assert len(seen) < 2
    elif math.isnan(expected):
        assert pair.tau is None
    else:
        assert pair.tau == pytest.approx(expected, abs=1e-12)


def test_tau_counts_the_pairs_of_all_slates_together() -> None:
    """Slate 0: 3 pairs, all alike; slate 1: 1 pair, turned: (3 - 1) / 4. Third parties do not matter."""
    found = agreement(answers_of([[1, 2, 3], [1, 2]], [[1, 2, 3], [2, 1]], [[3, 1, 2]]))
    assert [(pair.raters, pair.slates) for pair in found.pairs] == [(("a", "b"), 2), (("a", "c"), 1), (("b", "c"), 1)]
    assert found.pairs[0].tau == 0.5


def test_w_of_the_textbook() -> None:
    """S. Siegel, Nonparametric Statistics (1956), ch. 9: three executives rank six applicants, s = 25.5, W = 0.16."""
    found = agreement(answers_of([[1, 6, 3, 2, 5, 4]], [[1, 5, 6, 4, 2, 3]], [[6, 3, 2, 5, 4, 1]]))
    assert found.w == pytest.approx(25.5 / (9 * (6**3 - 6) / 12)) and round(found.w or 0, 2) == 0.16
    assert found.w_slates == 1


@settings(max_examples=40)
@given(st.lists(PLACES, min_size=3, max_size=5))
def test_w_with_ties_is_friedmans(raters: list[list[float]]) -> None:
    """Friedman's chi squared is m (n - 1) W, with the same correction for ties."""
    found = agreement(answers_of(*[[places] for places in raters]))
    with np.errstate(all="ignore"):
        chi = (
            float(friedmanchisquare(*np.array(raters).T).statistic)
            if any(len(set(p)) > 1 for p in raters)
            else math.nan
        )
    if math.isnan(chi):
        assert found.w is None
    else:
        assert found.w == pytest.approx(chi / (len(raters) * 4), abs=1e-9)


def test_w_needs_two_full_rankings_of_a_slate() -> None:
    found = agreement(answers_of([[1, 2, 3], [1, 2]], [[1, 2, math.nan]]))
    assert found.w is None and found.w_slates == 0
    assert agreement([]).to_json() == {"pairs": [], "w": None, "w_slates": 0, "raters": []}


def tournament(wins: np.ndarray[Any, Any]) -> list[Judged]:
    """Every pair as a slate of its own."""
    n = len(wins)
    return [(Ranking(((0,), (1,)) if wins[i, j] else ((1,), (0,))), (i, j)) for i, j in combinations(range(n), 2)]


@pytest.mark.parametrize(("n", "most"), [(3, 1), (4, 2), (5, 5), (6, 8), (7, 14)])
def test_most_circular_triads(n: int, most: int) -> None:
    """The largest numbers there are (M. G. Kendall and B. Babington Smith, Biometrika 31, 1940): everyone beats the next half."""
    ahead = (np.arange(n)[None, :] - np.arange(n)[:, None]) % n
    wins = (ahead > 0) & ((2 * ahead < n) | ((2 * ahead == n) & (np.arange(n)[:, None] < n // 2)))
    assert circular_triads(tournament(wins)) == (math.comb(n, 3), most, 0.0)
    order = np.arange(n)[:, None] < np.arange(n)[None, :]
    assert circular_triads(tournament(order)) == (math.comb(n, 3), 0, 1.0)


@settings(max_examples=40)
@given(st.integers(3, 9), st.integers(0, 10**6))
def test_circular_triads_from_the_scores(n: int, seed: int) -> None:
    """In a complete tournament d = n (n - 1) (2 n - 1) / 12 - (1/2) sum of squared scores (ibid.)."""
    upper = np.triu(np.random.default_rng(seed).random((n, n)) < 0.5, 1)
    wins = upper | (~upper.T & np.tri(n, k=-1, dtype=bool))
    d = n * (n - 1) * (2 * n - 1) / 12 - (wins.sum(axis=1) ** 2).sum() / 2
    triads, circular, zeta = circular_triads(tournament(wins))
    assert (triads, circular) == (math.comb(n, 3), d)
    assert zeta == pytest.approx(1 - 24 * d / (n**3 - (n if n % 2 else 4 * n)))


def test_a_slate_cannot_contradict_itself() -> None:
    """Its own triads count for nothing; across slates the majority of a pair's judgements speaks, and an even one is silent."""
    one = (Ranking(((0,), (1,), (2,), (3,))), tuple("abcd"))
    assert circular_triads([one]) == (0, 0, None)
    assert circular_triads([one, (Ranking(((0,), (1,))), tuple("ad"))]) == (0, 0, None)
    back = (Ranking(((0,), (1,))), tuple("ca"))
    again = (Ranking(((0,), (1,))), tuple("bd"))
    assert circular_triads([one, back, again]) == (2, 0, 1.0), "a and c are even, so abc and acd are not closed"
    assert circular_triads([one, back, back, again]) == (4, 1, 0.5), "a > b > c > a; of four points at most 2"


def test_repeats_ties_and_answers_of_one_person() -> None:
    """A second look is compared with the first, and counts neither among the pairs nor in W."""
    task = Task(Space(x=Float(0.0, 1.0), k=Int(1, 9)), feedback="ranking")
    opt = Optimizer(task, "random", quorum=2)
    for _ in range(3):
        opt.ask_query(4)
    opt.rank([0, [1, 2], 3], rater="ann")
    opt.rank([0, 2, 1, 3], rater="ann/repeat")
    assert opt.trial(0).status == "open", "a second look fills no quorum"
    opt.rank([4], rater="ann", verdict="all bad")
    opt.rank([], unseen=[8, 9, 10, 11], rater="ann")
    opt.rank([3, 2, 1, 0], rater="bob")
    assert opt.trial(0).status == "ranked"
    found = opt.agreement()
    assert [(pair.raters, pair.slates) for pair in found.pairs] == [(("ann", "bob"), 1)]
    assert found.pairs[0].tau == pytest.approx(kendalltau([0, 1, 1, 3], [3, 2, 1, 0]).statistic)
    assert found.w_slates == 1
    ann, bob = found.raters
    assert (ann.rater, ann.answers, ann.repeats) == ("ann", 3, 1)
    assert ann.tie_rate == pytest.approx(1 / 6)
    assert ann.consistency == pytest.approx(kendalltau([0, 1, 1, 3], [0, 2, 1, 3]).statistic)
    assert (bob.repeats, bob.consistency, bob.tie_rate, bob.zeta) == (0, None, 0.0, None)
    assert ann.to_json()["repeats"] == {"slates": 1, "tau": ann.consistency} and bob.to_json()["repeats"] is None
    opt.retract(0, rater="ann")
    assert opt.agreement().pairs == (), "what was taken back is not counted"


def test_the_same_point_in_several_slates_is_one() -> None:
    """Circular triads are found across slates by the points themselves, whatever their trial numbers."""
    task = Task(Space(k=Int(1, 3)), feedback="ranking")
    opt = Optimizer(task, "random")
    for better, worse in ((1, 2), (2, 3), (3, 1)):
        while True:  # until these two come together
            query = opt.ask_query(2)
            places = {opt.trial(number).params["k"]: number for number in query.numbers}
            if set(places) == {better, worse}:
                break
        opt.rank([places[better], places[worse]], rater="ann")
    (ann,) = opt.agreement().raters
    assert (ann.triads, ann.circular_triads, ann.zeta) == (1, 1, 0.0)
