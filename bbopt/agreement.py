"""How far people agree: with each other, with themselves on a second look, and whether their judgements fit an order at all.

* Two people: Kendall's tau-b, from the pairs of rows that both looked at in the slates that both ranked. Pairs of all
  these slates are counted together, so that for one slate it is the usual coefficient (M. G. Kendall, Rank Correlation
  Methods, 4th ed. 1970, ch. 3).
* All of them: Kendall's coefficient of concordance W with the correction for ties (ibid., ch. 6), from the slates that two
  or more people ranked in full; sums of squares and their largest possible values are added over slates.
* One person: a triad is three points a > b > c > a when it is circular. Rows of one slate cannot contradict each other,
  so only triads count whose three judgements come from several slates. Kendall's zeta (ibid., ch. 11) is 1 without
  circular triads and 0 where there are as many as there can be. That maximum is known where every pair of points was
  compared; elsewhere a quarter of the triads stands in its place, which is what random answers give and what the maximum
  comes to for many points (zeta may then be below 0).
* One person twice: tau-b between "NAME" and "NAME/repeat".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from bbopt.query import Ranking
from bbopt.slates import SECOND_LOOK, Ranked, is_second_look

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class PairAgreement:
    """Two people: how many slates both ranked, and tau-b over the pairs of rows that both looked at, in [-1, 1] (None
    where one of them tied everything)."""

    raters: tuple[str, str]
    slates: int
    tau: float | None


@dataclass(frozen=True)
class RaterAgreement:
    """One person. answers: standing ones, skips and verdicts included; tie_rate: share of the pairs that were looked at;
    triads: closed by judgements from several slates, circular_triads of these; zeta: None without triads; repeats: slates
    with a second look, consistency: tau-b between the two."""

    rater: str
    answers: int
    tie_rate: float | None
    triads: int
    circular_triads: int
    zeta: float | None
    repeats: int
    consistency: float | None

    def to_json(self) -> dict[str, Any]:
        document = {name: getattr(self, name) for name in self.__dataclass_fields__}
        del document["consistency"]
        document["repeats"] = {"slates": self.repeats, "tau": self.consistency} if self.repeats else None
        return document


@dataclass(frozen=True)
class Agreement:
    """pairs: of people who share a slate; w: Kendall's W in [0, 1] over `w_slates` slates, None without any (two people
    who answer at random get 0.5 on average, n people 1/n); raters: in the order of their first answers."""

    pairs: tuple[PairAgreement, ...]
    w: float | None
    w_slates: int
    raters: tuple[RaterAgreement, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values: pairs of raters, slates, tau; w, w_slates; raters with what is said of each."""
        pairs = [{"raters": list(pair.raters), "slates": pair.slates, "tau": pair.tau} for pair in self.pairs]
        return {
            "pairs": pairs,
            "w": self.w,
            "w_slates": self.w_slates,
            "raters": [rater.to_json() for rater in self.raters],
        }


Answer = tuple[Ranked, Sequence[Hashable]]
"""What somebody said of a slate, and the points of its rows: equal ones are the same point, in whichever slate."""


def agreement(answers: Iterable[Answer]) -> Agreement:
    """From standing answers, in the order of the log.

    >>> one = Ranked(0, 0, 3, "ann", Ranking(((0,), (1,), (2,))))
    >>> two = Ranked(0, 0, 3, "bob", Ranking(((0,), (2,), (1,))))
    >>> found = agreement([(one, "abc"), (two, "abc")])
    >>> found.pairs[0].tau, found.w
    (0.333..., 0.75)
    """
    answers = list(answers)
    names = list(dict.fromkeys(answer.rater for answer, _ in answers))
    index = {name: i for i, name in enumerate(names)}
    products, own, shared = (np.zeros((len(names), len(names))) for _ in range(3))
    ties, compared = np.zeros(len(names)), np.zeros(len(names))
    squares = largest = 0.0
    w_slates = 0
    by_slate: dict[int, list[Ranked]] = {}
    for answer, _ in answers:
        by_slate.setdefault(answer.query, []).append(answer)
    for answer, _ in answers:
        seen, tied = _counts(answer.ranking)
        compared[index[answer.rater]] += seen
        ties[index[answer.rater]] += tied
    for ranked in by_slate.values():
        if len(ranked) < 2:
            continue
        places = np.array([_places(answer.ranking, answer.size) for answer in ranked])
        who = np.array([index[answer.rater] for answer in ranked])
        signs, both = _signs(places)
        at = np.ix_(who, who)
        products[at] += signs @ signs.T
        own[at] += (signs**2) @ both.T
        shared[at] += both @ both.T > 0
        first = [
            i for i, answer in enumerate(ranked) if not is_second_look(answer.rater) and np.isfinite(places[i]).all()
        ]
        if len(first) > 1:
            s, most = _concordance(places[first])
            squares, largest, w_slates = squares + s, largest + most, w_slates + 1
    with np.errstate(invalid="ignore"):
        tau = products / np.sqrt(own * own.T)
    people = [name for name in names if not is_second_look(name)]
    pairs = [
        PairAgreement((a, b), int(shared[index[a], index[b]]), _known(tau[index[a], index[b]]))
        for a, b in combinations(people, 2)
        if shared[index[a], index[b]]
    ]
    raters = []
    for name in people:
        mine = [answer for answer in answers if answer[0].rater == name]
        triads, circular, zeta = circular_triads([(answer.ranking, points) for answer, points in mine])
        i, again = index[name], index.get(name + SECOND_LOOK, -1)
        repeats = int(shared[i, again]) if again >= 0 else 0
        rate, again_tau = ties[i] / compared[i] if compared[i] else np.nan, tau[i, again] if repeats else np.nan
        raters.append(RaterAgreement(name, len(mine), _known(rate), triads, circular, zeta, repeats, _known(again_tau)))
    return Agreement(tuple(pairs), squares / largest if largest else None, w_slates, tuple(raters))


def _known(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _counts(ranking: Ranking) -> tuple[int, int]:
    """How many pairs of rows were looked at, and how many of these were tied."""
    sizes = [len(group) for group in ranking.groups]
    return math.comb(sum(sizes), 2), sum(math.comb(size, 2) for size in sizes)


def _places(ranking: Ranking, size: int) -> Array:
    """(size,) the group of each row, 0 for the best, NaN for rows of which nothing was said."""
    places = np.full(size, np.nan)
    for place, group in enumerate(ranking.groups):
        places[list(group)] = place
    return places


def _signs(places: Array) -> tuple[Array, Array]:
    """(r, pairs) 1, -1 or 0 (tied, or not looked at) for each pair of rows, and 1 where both were looked at."""
    i, j = np.triu_indices(places.shape[1], 1)
    difference = np.sign(places[:, j] - places[:, i])
    both = np.isfinite(difference)
    return np.where(both, difference, 0.0), both.astype(float)


def _concordance(places: Array) -> tuple[float, float]:
    """S, the squared deviations of the rows' rank sums from their mean, and the largest S there can be with these ties."""
    m, n = places.shape
    ranks = np.array(
        [[(p < q).sum() + ((p == q).sum() + 1) / 2 for q in p] for p in places]
    )  # tied ones share the mean
    sums = ranks.sum(axis=0)
    tied = sum(count**3 - count for p in places for count in Counter(p.tolist()).values())
    return float(((sums - sums.mean()) ** 2).sum()), (m**2 * (n**3 - n) - m * tied) / 12


def circular_triads(judged: Iterable[tuple[Ranking, Sequence[Hashable]]]) -> tuple[int, int, float | None]:
    """Of one person's rankings, each with the points of its rows: triads closed by several slates, circular ones, and zeta.

    A pair that was judged more than once counts as it was most often; one that comes out even is not decided.

    >>> def beats(a, b):
    ...     return Ranking(((0,), (1,))), (a, b)
    >>> circular_triads([beats("a", "b"), beats("b", "c"), beats("c", "a")])
    (1, 1, 0.0)
    """
    slates = [(ranking, points) for ranking, points in judged if len(ranking.groups) > 1]
    seen = [{points[row] for group in ranking.groups for row in group} for ranking, points in slates]
    often = Counter(point for points in seen for point in points)
    index = {point: i for i, point in enumerate(point for point, count in often.items() if count > 1)}
    n = len(index)
    if n < 3:
        return 0, 0, None
    net, times = np.zeros((n, n)), np.zeros((n, n))
    members = []
    for ranking, points in slates:
        rows = [row for group in ranking.groups for row in group if points[row] in index]
        if len(rows) < 2:
            continue
        places = _places(ranking, len(points))
        these = np.array([index[points[row]] for row in rows], int)
        sign = np.sign(places[rows][None, :] - places[rows][:, None])  # 1 where the first is better
        np.add.at(net, np.ix_(these, these), sign)
        np.add.at(times, np.ix_(these, these), 1.0)
        members.append(np.unique(these))
    beats = (net > 0).astype(float)
    decided = beats + beats.T
    alone = sum(_triangles((decided * (times == 1))[np.ix_(these, these)]) for these in members if len(these) > 2)
    triads = _triangles(decided) - alone
    circular = round(float(((beats @ beats) * beats.T).sum() / 3))
    if not triads:
        return 0, 0, None
    complete = triads == math.comb(n, 3)
    most = (n**3 - (n if n % 2 else 4 * n)) / 24 if complete else triads / 4
    return triads, circular, 1 - circular / most


def _triangles(edges: Array) -> int:
    """How many triples of a symmetric 0-1 matrix are all joined."""
    return round(float(((edges @ edges) * edges).sum() / 6))
