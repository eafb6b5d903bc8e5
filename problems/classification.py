"""Data sets for classification, made by formula: will this design work? Found by name, with as many rows as wanted.

>>> data_sets()[:3]
('three_bar_truss', 'solar_heat_exchanger', 'four_islands')
>>> islands = data_set("four_islands")
>>> X, labels = islands.sample(1000, np.random.default_rng(0))
>>> X.shape, islands.classes, np.bincount(labels).tolist()
((1000, 2), ('sea', 'land'), [945, 55])

Picard, Ahmed (2024), Fast and Accurate Zero-Training Classification for Tabular Engineering Data, arXiv 2401.06948,
compare classifiers on eight engineering data sets. Most of these cannot be made by formula, so the eight here are a choice of
the same kind: three of theirs after the published rules (solar heat exchanger, welded beam, and its balanced form), and
five more. Thresholds and boxes that are not public are ours; scores are comparable within this suite only.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from bbopt.errors import UsageError
from bbopt.space import Float, Int, Space

from . import get
from .classification_rules import Labels, concrete_beam_class, exchanger_works, feasible, on_an_island
from .problem import Array, Columns

__all__ = ["DataSet", "data_set", "data_sets"]

BLOCK = 100  # rows that a balanced sample draws at a time, the same number of every class
TRIES = 1000  # batches of candidates for such a block
_SHARPE = "Sharpe, Wiest, Wang, Seepersad (2019), J. Mech. Design 141(12)"
_YES_NO = ("infeasible", "feasible")


@dataclass(frozen=True)
class DataSet:
    """Points of a space, uniform in its unit cube, each with the label that a rule gives it.

    name, docs, source: what it is called, what is classified, and where it comes from.
    space: the features, bounded numbers. classes: names of the labels 0, 1, ...
    rule: labels (n,) from encoded rows (n, d) in the unit cube.
    positive: the label that counts as positive in precision, recall and F1, the rarer one; None for more than two classes.
    shares: share of each class among the rows of `sample`, measured with 4 million rows (error at most 0.0003).
    balanced: whether rows are drawn so that all classes are equally frequent.
    """

    name: str
    docs: str
    source: str
    space: Space
    classes: tuple[str, ...]
    rule: Callable[[Array], Labels]
    positive: int | None
    shares: tuple[float, ...]
    balanced: bool = False

    @property
    def dimension(self) -> int:
        """Number of features d."""
        return self.space.dimension

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, one per column."""
        return self.space.names

    @property
    def bounds(self) -> Array:
        """(d, 2) lowest and highest value of each feature, in its own unit."""
        ends = self.space.values(np.array([[0.0], [1.0]]) * np.ones(self.dimension))
        return np.stack([ends[name] for name in self.features])

    @property
    def integer(self) -> tuple[bool, ...]:
        """Which features are whole numbers."""
        return tuple(isinstance(parameter, Int) for parameter in self.space.parameters.values())

    def label(self, X: Array) -> Labels:
        """(n,) labels of encoded rows (n, d). Raises `UsageError` for another shape.

        >>> data_set("four_islands").label(np.array([[0.56, 0.59], [0.9, 0.9]])).tolist()
        [1, 0]
        """
        rows = np.asarray(X, dtype=float)
        if rows.ndim != 2 or rows.shape[1] != self.dimension:
            raise UsageError(f"{self.name}: expected encoded rows of shape (n, {self.dimension}), got {rows.shape}")
        return self.rule(rows)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Labels]:
        """n rows and their labels: X (n, d) float64 in the unit cube, labels (n,) int64.

        Uniform: every level of a whole number is equally likely. From the same state of `rng`, a smaller sample is the
        beginning of a larger one, so that training sets of several sizes are nested.
        """
        if n < 0:
            raise UsageError(f"{self.name}: expected n >= 0 rows, got {n}")
        if not self.balanced:
            X = self.space.from_uniform(rng.random((n, self.dimension)))
            return X, self.rule(X)
        blocks = [self._balanced_block(rng) for _ in range(-(-n // BLOCK))]
        X = np.concatenate([np.empty((0, self.dimension)), *(rows for rows, _ in blocks)])[:n]
        return X, np.concatenate([np.empty(0, np.int64), *(labels for _, labels in blocks)])[:n]

    def _balanced_block(self, rng: np.random.Generator) -> tuple[Array, Labels]:
        """BLOCK rows in random order with the same number of each class, uniform within the class."""
        each = BLOCK // len(self.classes)
        found: list[list[Array]] = [[] for _ in self.classes]
        for _ in range(TRIES):
            X = self.space.from_uniform(rng.random((4096, self.dimension)))
            labels = self.rule(X)
            for place, rows in enumerate(found):
                rows.append(X[labels == place])
            if min(sum(map(len, rows)) for rows in found) >= each:
                break
        else:
            raise UsageError(f"{self.name}: some class is too rare to be balanced by drawing uniform points")
        X = np.concatenate([np.concatenate(rows)[:each] for rows in found])
        order = rng.permutation(len(X))
        return X[order], np.repeat(np.arange(len(self.classes)), each)[order]


@dataclass(frozen=True)
class _OfProblem:
    """A rule about the metrics of a problem that bbopt also optimises."""

    problem: str
    judge: Callable[..., Labels] = feasible

    def __call__(self, X: Array) -> Labels:
        solved = get(self.problem)
        return self.judge(solved.task, solved.evaluate(X))


def _of_columns(X: Array, space: Space, judge: Callable[[Columns], Labels]) -> Labels:
    return judge(space.values(X))


def _feasibility(
    problem: str, shares: tuple[float, ...], name: str = "", docs: str = "", balanced: bool = False
) -> DataSet:
    """Feasible or not, of a problem in which feasible points are the rarer ones."""
    solved = get(problem)
    docs = docs or f"Does the design meet all {solved.task.c} limits? {solved.docs}"
    rule = _OfProblem(problem)
    return DataSet(name or problem, docs, solved.source, solved.task.space, _YES_NO, rule, 1, shares, balanced=balanced)


def _exchanger() -> DataSet:
    space = Space(diameter=Float(0.01, 0.05), passes=Int(2, 40))
    return DataSet(
        "solar_heat_exchanger",
        "Does a solar water heater keep to its limits of head loss, volume and length? Pipe diameter (m) and passes.",
        f"{_SHARPE}; the thresholds are ours",
        space,
        _YES_NO,
        partial(_of_columns, space=space, judge=exchanger_works),
        1,
        (0.7091, 0.2909),
    )


def _islands() -> DataSet:
    space = Space(x=Float(-0.2, 0.5), y=Float(-0.2, 0.5))
    return DataSet(
        "four_islands",
        "Is a point of the plane on one of four small islands?",
        f"{_SHARPE}; the box is ours",
        space,
        ("sea", "land"),
        partial(_of_columns, space=space, judge=on_an_island),
        1,
        (0.9461, 0.0539),
    )


def _welded_beam(balanced: bool) -> DataSet:
    name = "welded_beam_balanced" if balanced else "welded_beam"
    docs = "Does a welded beam meet all 7 limits? Weld thickness and length, bar height and thickness (in)."
    docs += " As many rows that do as rows that do not." if balanced else ""
    return _feasibility("welded_beam_coello", (0.5, 0.5) if balanced else (0.9734, 0.0266), name, docs, balanced)


def _concrete_beam() -> DataSet:
    solved = get("concrete_beam")
    return DataSet(
        "concrete_beam_cost",
        "Does a reinforced concrete beam fail, hold, or hold at a cost of at most 470? Steel area, depth and width (in).",
        f"{solved.source}; the classes are ours",
        solved.task.space,
        ("fails", "holds", "holds and is cheap"),
        _OfProblem("concrete_beam", concrete_beam_class),
        None,
        (0.8384, 0.0999, 0.0617),
    )


_MAKERS: dict[str, Callable[[], DataSet]] = {
    "three_bar_truss": partial(_feasibility, "three_bar_truss", (0.7822, 0.2178)),
    "solar_heat_exchanger": _exchanger,
    "four_islands": _islands,
    "pressure_vessel": partial(_feasibility, "pressure_vessel", (0.5965, 0.4035)),
    "welded_beam": partial(_welded_beam, False),
    "welded_beam_balanced": partial(_welded_beam, True),
    "car_side_impact": partial(_feasibility, "car_side_impact", (0.9252, 0.0748)),
    "concrete_beam_cost": _concrete_beam,
}


def data_sets() -> tuple[str, ...]:
    """Names of the data sets, in the order of the suite.

    >>> len(data_sets())
    8
    """
    return tuple(_MAKERS)


@cache
def data_set(name: str) -> DataSet:
    """The data set of this name. Raises `UsageError` with the nearest names where there is none.

    >>> beam = data_set("concrete_beam_cost")
    >>> beam.classes, beam.bounds.tolist()
    (('fails', 'holds', 'holds and is cheap'), [[0.2, 15.0], [28.0, 40.0], [5.0, 10.0]])
    """
    if name not in _MAKERS:
        near = difflib.get_close_matches(name, _MAKERS, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(_MAKERS)}"
        raise UsageError(f"no data set {name!r}; {hint}")
    return _MAKERS[name]()
