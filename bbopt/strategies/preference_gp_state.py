"""What `preference-gp` remembers: rows, and which of them beat which; and how an answer becomes comparisons.

The rules:

* of a ranking, every row beats every row of each later group: all pairs, none within a tie, none with rows not looked at;
* these pairs are not independent. The weight w = pi sum_i s_i^2 / (2 pairs), s_i the expected normal scores of the rows,
  averaged over ties, makes their information together, at equal utilities, that of the ranking: 1 for a pair, 0.43 for six
  rows in order, 0.61 for "the best of six". Where differences are seen, that is too careful; 1 is too bold where people are
  not sure. The strategy raises w to the power of its option `caution`, 0.5 by default (`python -m bbopt.bench_preference
  --caution` has 0, 0.5 and 1 beside each other);
* "all bad": the winner of the last informative slate beats every row, if it was not among them; "cannot tell", a slate of
  which nothing was looked at, and one of ties alone: nothing;
* contradictions, of one person or of several, are simply more comparisons;
* numbers are told by their order: each beats those 1, 2, 4, 8, ... places below it in the order of all of them, with the
  weight 1 where they are exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np

from bbopt.query import Answer, Query, Ranking, Values
from bbopt.task import Task
from surrogates.preference_fit import Comparisons

Array = np.ndarray[Any, np.dtype[Any]]
MOST_PASSED = 48  # rows of slates that taught nothing, which are not shown again


@dataclass(frozen=True, eq=False)
class PreferenceState:
    """Answers in the order in which they came.

    X: (n, D) different rows, as they first appeared; pairs: (c, 2) numbers of a better and a worse row; weight: (c,);
    leader: number of the row that won the last informative ranking, -1 before; places, values: (v,) rows that were told
    numbers, and those; failed: (b, D) rows that cannot work; outcomes: (n + b,) True where an answer was a failure;
    passed: (p, D) rows of the last rankings that taught nothing; fruitless: how many of those there were in a row;
    memo: of the query with the most behind it.
    """

    X: Array
    pairs: Array
    weight: Array
    leader: int
    places: Array
    values: Array
    failed: Array
    outcomes: Array
    passed: Array
    fruitless: int = 0
    memo: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def empty(cls, task: Task) -> PreferenceState:
        """The state before any answer."""
        rows = np.zeros((0, task.space.dimension))
        none, numbers = np.zeros((0, 2), np.int64), np.zeros(0)
        return cls(rows, none, numbers, -1, np.zeros(0, np.int64), numbers, rows, np.zeros(0, bool), rows)

    def after(self, query: Query, answer: Answer) -> PreferenceState:
        """The state after an answer."""
        told = self._ranked(query, answer) if isinstance(answer, Ranking) else self._valued(query, answer)
        return replace(told, memo=newer(self.memo, query.memo))

    def _ranked(self, query: Query, ranking: Ranking) -> PreferenceState:
        rows = np.asarray(query.X, float)
        if ranking.verdict == "all bad" and self.leader >= 0:
            best = self.X[self.leader]
            if not (rows == best).all(axis=1).any():
                state, numbers = self._with(rows)
                pairs = np.array([(self.leader, loser) for loser in numbers], np.int64)
                one = np.full(len(pairs), pair_weight((1, len(pairs))))
                return state._more(pairs, one, self.leader)
        groups = [group for group in ranking.groups if group] if ranking.verdict is None else []
        if len(groups) < 2:
            passed = np.concatenate([self.passed, rows])[-MOST_PASSED:]
            return replace(self, passed=passed, fruitless=self.fruitless + 1)
        seen = [row for group in groups for row in group]
        state, numbers = self._with(rows[seen])
        number = dict(zip(seen, numbers.tolist(), strict=True))
        pairs = np.array(
            [(number[a], number[b]) for upper, lower in combinations(groups, 2) for a in upper for b in lower],
            np.int64,
        )
        weight = pair_weight(tuple(len(group) for group in groups))
        different = pairs[:, 0] != pairs[:, 1]
        return state._more(pairs[different], np.full(int(different.sum()), weight), number[groups[0][0]])

    def _more(self, pairs: Array, weight: Array, leader: int) -> PreferenceState:
        return replace(
            self, pairs=np.concatenate([self.pairs, pairs]), weight=np.concatenate([self.weight, weight]),
            leader=leader, fruitless=0,
        )  # fmt: skip

    def _valued(self, query: Query, answer: Values) -> PreferenceState:
        rows = np.asarray(query.X[answer.rows], float).reshape(len(answer.rows), -1)
        ok = answer.ok
        impossible = np.array([status == "impossible" for status in answer.status], bool)
        state, numbers = self._with(rows[ok])
        return replace(
            state,
            places=np.concatenate([self.places, numbers]),
            values=np.concatenate([self.values, answer.Y[ok, 0]]),
            failed=np.concatenate([self.failed, rows[impossible]]),
            outcomes=np.concatenate([self.outcomes, impossible[ok | impossible]]),
        )

    def _with(self, rows: Array) -> tuple[PreferenceState, Array]:
        """The state that knows these rows, and their numbers in it."""
        X, numbers = self.X, np.zeros(len(rows), np.int64)
        for i, row in enumerate(rows):
            same = np.flatnonzero((X == row).all(axis=1))
            numbers[i] = same[0] if len(same) else len(X)
            if not len(same):
                X = np.concatenate([X, row[None]])
        return replace(self, X=X), numbers

    def comparisons(self, exact: bool, caution: float = 0.5) -> Comparisons:
        """All of them: those of rankings, their weights raised to a power, and those of the order of the numbers told;
        exact: the numbers have no noise."""
        pairs, weight = value_pairs(self.places, self.values, exact)
        both = np.concatenate([self.pairs, pairs])
        return Comparisons.of(both, np.concatenate([self.weight**caution, weight]))

    def fingerprint(self, rows: int, pairs: int, values: int) -> str:
        """A hash of what the first answers taught, by which hyperparameters fitted to other data are recognised."""
        digest = hashlib.sha256(f"{rows} {pairs} {values}".encode())
        for part in (
            self.X[:rows],
            self.pairs[:pairs],
            self.weight[:pairs],
            self.places[:values],
            self.values[:values],
        ):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:16]

    def warm(self, open_queries: tuple[Query, ...]) -> Mapping[str, Any]:
        """The newest memo, among those told and those still out, whose fit was to the first of these answers."""
        memo = self.memo
        for query in open_queries:
            memo = newer(memo, query.memo)
        if "fitted" not in memo:
            return {}
        rows, pairs, values = (int(n) for n in memo["fitted"])
        if rows > len(self.X) or pairs > len(self.pairs) or values > len(self.values):
            return {}
        return memo if memo["hash"] == self.fingerprint(rows, pairs, values) else {}


def newer(old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
    """The memo with more behind it; the new one where both have the same."""
    if "fitted" not in new:
        return old
    return new if "fitted" not in old or sum(new["fitted"]) >= sum(old["fitted"]) else old


def value_pairs(places: Array, values: Array, exact: bool) -> tuple[Array, Array]:
    """(c, 2) comparisons of rows by the order of their numbers (lower is better), and their (c,) weights: 1 where the order
    is exact, else as in one ranking of all of them.

    >>> value_pairs(np.array([0, 1, 2]), np.array([3.0, 1.0, 2.0]), True)[0].tolist()
    [[1, 2], [2, 0], [1, 0]]
    """
    order = np.argsort(values, kind="stable") if exact else np.arange(len(values))
    sorted_values, rows, n = values[order], places[order], len(order)
    found = [np.zeros((0, 2), np.int64)]
    step = 1
    while step < n:
        upper, lower = (rows[:-step], rows[step:]), (sorted_values[:-step], sorted_values[step:])
        pairs = np.where((lower[0] < lower[1])[:, None], np.column_stack(upper), np.column_stack(upper[::-1]))
        found.append(pairs[(lower[0] != lower[1]) & (pairs[:, 0] != pairs[:, 1])])
        step = max(step + 1, int(1.5 * step))
    pairs = np.concatenate(found)
    if exact or not len(pairs):
        return pairs, np.ones(len(pairs))
    return pairs, np.full(len(pairs), np.pi * (normal_scores(n) ** 2).sum() / (2.0 * len(pairs)))


@cache
def pair_weight(sizes: tuple[int, ...]) -> float:
    """The weight of each pair of a ranking with groups of these sizes (see the top of this file).

    >>> pair_weight((1, 1)), round(pair_weight((1,) * 6), 3), round(pair_weight((1, 5)), 3)
    (1.0, 0.431, 0.605)
    """
    m = sum(sizes)
    scores, square, start = normal_scores(m), 0.0, 0
    for size in sizes:
        square += float(scores[start : start + size].sum()) ** 2 / size
        start += size
    pairs = (m * m - sum(size * size for size in sizes)) // 2
    return round(float(np.pi * square / (2.0 * pairs)), 12)


@cache
def normal_scores(m: int) -> Array:
    """(m,) expected values of m sorted standard normal numbers, lowest first: quadrature over their quantiles.

    >>> normal_scores(2).round(6).tolist()
    [-0.56419, 0.56419]
    """
    if m > 100:  # Blom 1958, good to 0.001 here
        blom = NormalDist()
        return np.array([blom.inv_cdf((i + 0.625) / (m + 0.25)) for i in range(m)])
    from scipy.special import gammaln, log_ndtr

    x = np.linspace(-12.0, 12.0, 4801)
    i = np.arange(m)[:, None]
    log_density = (
        gammaln(m + 1.0) - gammaln(i + 1.0) - gammaln(m - i)
        + i * log_ndtr(x) + (m - 1 - i) * log_ndtr(-x) - 0.5 * x * x - 0.5 * np.log(2.0 * np.pi)
    )  # fmt: skip
    return np.asarray((np.exp(log_density) @ x) * (x[1] - x[0]))
