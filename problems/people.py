"""Simulated people: they look at a slate of points, and rank what they see as people do.

A `Person` has a utility (what it likes, larger is better) and habits. From the utilities u_1 ... u_m of a slate with the
standard deviation s (population, over the slate) it perceives

    v_i = u_i + s bias (1/2 - i / (m - 1)) + s level e_i,

e_i standard Gumbel ("plackett-luce": Luce (1959), Plackett (1975); the order of v then has the probabilities
prod_r exp(u_r / (s level)) / sum_{j not better than r} exp(u_j / (s level)), by Yellott (1977)) or standard normal
("thurstone": Thurstone (1927), case V; P(i before j) = Phi((u_i - u_j) / (sqrt 2 s level))). So `level` is
noise in standard deviations of the slate at hand, however alike its items are.

Items whose v differ by at most `jnd` (a just noticeable difference, in units of utility) from the best of their group are
tied. How the order is told is the `form`:

    full              every item in its place
    top 3             the best three in order, the rest in one group
    best and worst    three groups: the best one, the rest, the worst one
    worst             two groups: all others, the worst one
    bins 2-4-2        groups of these sizes, best first; for another number of items, in proportion

Tied items are not separated: a boundary that falls between them moves to the nearest one between ties, of two the upper; who is
asked for the best and sees two that are equally good names both.

A lazy person looks at `attention` items, a random choice, and says of the others that it has not seen them, which is no
opinion. One that sees a difference nowhere says "cannot tell", one to whom the best it sees is worth less than
`all_bad_below` says "all bad".

Intransitive people (`twist` > 0) weigh differences rather than points, as in the additive difference model of Tversky (1969),
Intransitivity of preferences, Psychological Review 76: with parts a of the utility, u_i = sum_a u_ia, an item is worth

    w_i = mean_j u_j + mean_j sum_a phi(u_ia - u_ja),    phi(z) = sign(z) t |z / t|^(1 + twist),

where t is the root mean square of the differences in the slate. In a slate of two, i wins if sum_a phi(u_ia - u_ja) > 0,
and such a rule has cycles for three or more parts unless phi is linear; it is for twist = 0, where w = u.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from bbopt.errors import UsageError
from bbopt.query import Query, Ranking
from bbopt.space import Space

from .problem import Array, Columns, Problem

__all__ = ["Parts", "Person"]

Noise = Literal["plackett-luce", "thurstone", "none"]
NOISES = ("plackett-luce", "thurstone", "none")
FORMS = re.compile(r"full|best and worst|worst|top (?P<top>[1-9]\d*)|bins (?P<bins>\d+(?:-\d+)+)")


@runtime_checkable
class Parts(Protocol):
    """A formula of a problem whose objective is a sum, and that can tell its terms."""

    def parts(self, columns: Columns) -> Array:
        """(k, a) terms of the objective, in the user's sign; their sum over a is the objective."""
        ...


class _Study(Protocol):
    """What `Person.answer` needs of a `bbopt.Optimizer`."""

    @property
    def task(self) -> Any: ...

    def rank(self, order: Any, *, unseen: Any = (), rater: str = "", verdict: Any = None) -> Any: ...


class _Row(Protocol):
    """What it needs of a `bbopt.Trial`."""

    @property
    def number(self) -> int: ...

    @property
    def params(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Person:
    """Someone who ranks; see the module for what the options mean.

    utility: from the params of a point to a number, larger is better, or to several whose sum it is (which `twist` needs);
    noise: "plackett-luce", "thurstone" or "none"; level: its size in standard deviations of the slate; form: how an order is
    told; jnd: a difference in utility that goes unnoticed; attention: how many items it looks at, None for all;
    all_bad_below: the utility below which nothing will do; twist: 0, or how much larger differences outweigh smaller ones;
    bias: what the first place on the page has over the last, in standard deviations of the slate.
    Raises `UsageError` for options out of range.

    >>> careful = Person(lambda params: -abs(params["x"] - 2), noise="none")
    >>> careful.rank([{"x": 0}, {"x": 3}, {"x": 1}], np.random.default_rng(0)).groups
    ((1, 2), (0,))
    """

    utility: Callable[[Mapping[str, Any]], float | Sequence[float] | Array]
    noise: Noise = "plackett-luce"
    level: float = 0.5
    form: str = "full"
    jnd: float = 0.0
    attention: int | None = None
    all_bad_below: float | None = None
    twist: float = 0.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        if self.noise not in NOISES:
            raise UsageError(f"Person: expected noise to be one of {', '.join(NOISES)}; got {self.noise!r}")
        for name in ("level", "jnd", "twist"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise UsageError(f"Person: expected a finite {name} >= 0, got {value!r}")
        if not np.isfinite(self.bias):
            raise UsageError(f"Person: expected a finite bias, got {self.bias!r}")
        if self.attention is not None and self.attention < 1:
            raise UsageError(f"Person: expected attention of at least 1 item, or None for all; got {self.attention}")
        match = FORMS.fullmatch(self.form)
        if match is None or (match["bins"] and not any(int(size) for size in match["bins"].split("-"))):
            raise UsageError(
                f"Person: expected a form like 'full', 'top 3', 'best and worst', 'worst' or 'bins 2-4-2'; got {self.form!r}"
            )

    @staticmethod
    def of(problem: Problem, **options: Any) -> Person:
        """A person who likes what the problem's objective asks for: the first one, turned round where it is minimised.

        >>> import bbopt
        >>> person = Person.of(bbopt.problems.get("sphere_2"), noise="none", form="worst")
        >>> person.rank([{"x": [3.0, 0.0]}, {"x": [1.0, 1.0]}, {"x": [0.0, 0.0]}], np.random.default_rng(0)).groups
        ((1, 2), (0,))
        """
        return Person(_Liking(problem), **options)

    def rank(self, slate: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Ranking:
        """The answer to a slate, given as the params of its points in the order of the page; groups hold positions in it.

        Every position is in a group or unseen, or there is a verdict and both are empty.
        """
        return self.order(np.array([self.utility(params) for params in slate], dtype=float), rng)

    def order(self, utilities: Any, rng: np.random.Generator) -> Ranking:
        """The answer to a slate whose utilities are known: (m,), or (m, a) by parts.

        >>> lazy = Person(float, noise="none", form="bins 1-1", attention=3)
        >>> lazy.order([5.0, 1.0, 3.0, 4.0], np.random.default_rng(1))
        Ranking(groups=((0, 3), (1,)), unseen=(2,), verdict=None)
        """
        given = np.asarray(utilities, dtype=float)
        if given.ndim not in (1, 2) or not len(given) or not np.isfinite(given).all():
            raise UsageError(f"Person: expected finite utilities of shape (m,) or (m, parts), got {utilities!r}")
        if self.twist and given.ndim == 1:
            raise UsageError(
                "Person: twist weighs the parts of a utility against each other; give a utility with parts"
            )
        m = len(given)
        seen = np.arange(m)
        if self.attention is not None and self.attention < m:
            seen = np.sort(rng.choice(m, self.attention, replace=False))
        values = self._perceived(given, rng)
        ranked = seen[np.argsort(-values[seen], kind="stable")]
        if self.all_bad_below is not None and values[ranked[0]] < self.all_bad_below:
            return Ranking(verdict="all bad")
        ties = _tie_ends(values[ranked], self.jnd)
        if len(ranked) > 1 and len(ties) == 1:
            return Ranking(verdict="cannot tell")
        inner = np.cumsum(self._sizes(len(ranked)))[:-1].tolist()
        edges = sorted({0, len(ranked), *(_nearest(cut, ties) for cut in inner)})
        groups = tuple(tuple(sorted(ranked[start:stop].tolist())) for start, stop in itertools.pairwise(edges))
        return Ranking(groups, tuple(np.setdiff1d(np.arange(m), seen).tolist()))

    def answer(
        self,
        opt: _Study,
        slate: Query | Sequence[_Row],
        rng: np.random.Generator,
        rater: str = "",
        utilities: Any = None,
    ) -> Ranking:
        """Rank a slate of a study and tell the study: the trials that one `opt.ask(m)` gave, or `opt.ask_query(m)`.

        utilities: as for `order`, where they are known already.

        >>> import bbopt
        >>> problem = bbopt.problems.get("sunset")
        >>> opt = bbopt.Optimizer(problem.task, "cmaes")
        >>> answer = Person.of(problem).answer(opt, opt.ask_query(), np.random.default_rng(0))
        >>> len(answer.groups), opt.trials()[0].status
        (9, 'ranked')
        """
        if isinstance(slate, Query):
            space: Space = opt.task.space
            rows = [slate.X[i : i + 1][0] for i in range(slate.size)]
            numbers, params = list(slate.numbers), [space.decode(row) for row in rows]
        else:
            numbers, params = [row.number for row in slate], [row.params for row in slate]
        ranking = self.rank(params, rng) if utilities is None else self.order(utilities, rng)
        order = [[numbers[i] for i in group] for group in ranking.groups] if ranking.verdict is None else numbers
        unseen = [numbers[i] for i in ranking.unseen]
        opt.rank(order, unseen=unseen, rater=rater, verdict=ranking.verdict)
        return ranking

    def _perceived(self, given: Array, rng: np.random.Generator) -> Array:
        """v of the module's text, (m,)."""
        values: Array = given if given.ndim == 1 else given.sum(axis=1)
        if self.twist:
            values = values.mean() + _weighed(given, self.twist)
        m, deviation = len(values), float(values.std())
        if self.bias and m > 1:
            values = values + deviation * self.bias * (0.5 - np.arange(m) / (m - 1))
        if self.noise == "plackett-luce":
            values = values + deviation * self.level * rng.gumbel(size=m)
        elif self.noise == "thurstone":
            values = values + deviation * self.level * rng.standard_normal(m)
        return values

    def _sizes(self, n: int) -> list[int]:
        """Sizes of the groups that the form makes of n items, best first."""
        match = FORMS.fullmatch(self.form)
        assert match is not None
        if match["top"]:
            top = min(int(match["top"]), n)
            return [1] * top + [n - top]
        if match["bins"]:
            return _shares([int(size) for size in match["bins"].split("-")], n)
        if self.form == "full":
            return [1] * n
        worst = min(1, n - 1)
        best = min(1, n - worst) if self.form == "best and worst" else 0
        return [best, n - best - worst, worst]


@dataclass(frozen=True)
class _Liking:
    """The utility of a problem, by parts where its formula has them."""

    problem: Problem

    def __call__(self, params: Mapping[str, Any]) -> float | Array:
        problem = self.problem
        objective = problem.task.objectives[0]
        sign = 1.0 if objective.maximize else -1.0
        if isinstance(problem.formula, Parts):
            return sign * problem.formula.parts(problem.columns(params))[0]
        return sign * problem(params)[objective.name]


def _weighed(parts: Array, twist: float) -> Array:
    """mean_j sum_a phi(u_ia - u_ja) for each item: (m, a) to (m,)."""
    differences = parts[:, None, :] - parts[None, :, :]
    size = float(np.sqrt(np.mean(differences**2)))
    if size == 0:
        return np.zeros(len(parts))
    weighed: Array = np.sign(differences) * size * np.abs(differences / size) ** (1 + twist)
    result: Array = weighed.sum(axis=2).mean(axis=1)
    return result


def _tie_ends(ordered: Array, jnd: float) -> list[int]:
    """Where the groups of tied values end, for values in falling order.

    >>> _tie_ends(np.array([5.0, 4.5, 4.1, 1.0]), 0.5)
    [2, 3, 4]
    """
    ends = []
    leader = ordered[0]
    for i, value in enumerate(ordered):
        if leader - value > jnd:
            ends.append(i)
            leader = value
    return [*ends, len(ordered)]


def _nearest(cut: int, ends: list[int]) -> int:
    """Where a boundary after `cut` items goes, for ties that end at `ends`: there are at least two.

    >>> [_nearest(cut, [3, 4, 6]) for cut in range(7)]
    [0, 3, 3, 3, 4, 4, 6]
    """
    if cut in (0, ends[-1]):
        return cut
    return min(ends[:-1], key=lambda end: (abs(end - cut), end))


def _shares(weights: list[int], n: int) -> list[int]:
    """n items in proportion to weights, by largest remainders; the weights themselves where they sum to n.

    >>> _shares([2, 4, 2], 8), _shares([2, 4, 2], 6)
    ([2, 4, 2], [2, 3, 1])
    """
    exact = np.array(weights) * n / sum(weights)
    sizes = np.floor(exact).astype(int)
    for i in np.argsort(sizes - exact, kind="stable")[: n - int(sizes.sum())]:
        sizes[i] += 1
    return [int(size) for size in sizes]
