"""CMA-ES: a Gaussian whose mean, step size and covariance follow the better rows of each population.

N. Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772; the update is in `evolution.py` beside its equations,
the treatment of levels and choices in `latent.py`. It learns from the order of the rows alone, so that values and
rankings are the same to it:

* feasible rows come before infeasible ones and are ordered by their value, infeasible ones by the sum of their violations,
  each in units of its median in the query; impossible points come last; lost ones and those not looked at do not count;
* rows with equal rank share their weights; an answer without any order changes nothing.

Rows out of bounds or against `where` are drawn again, and in the end repaired. Steps to rows that were not sampled there
are shortened to a plausible length (N. Hansen, Injecting external solutions into CMA-ES, arXiv:1110.4181, eq. 4 to 6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from bbopt.errors import NotHandled, UsageError, Waiting
from bbopt.query import Answer, Key, Query, Ranking, Request, Values
from bbopt.strategies.evolution import Gaussian, default_population, rates, update
from bbopt.strategies.latent import Latent
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]
Groups = list[list[int]]

LARGEST_SIZE = 3000  # coordinates: the covariance has their square
DRAWS = 20  # of a row, until it is within the bounds
SMALLEST, LARGEST = 1e-12, 1e12  # standard deviations; rows are stored with 12 digits


@dataclass(frozen=True, eq=False)
class CMAState:
    """The distribution, and the merit of the best point of the user's own that it was centred on."""

    gaussian: Gaussian
    centred: tuple[float, float] = (math.inf, math.inf)


@dataclass(frozen=True)
class CMAES:
    """Covariance matrix adaptation, for values or rankings.

    population: rows per generation, None for 4 + 3 ln(columns); step_size: first standard deviation, as a share of the
    range of bounded columns (unbounded ones start with one scale); active: learn also from the worse half of the rows.
    Each set of values that asks hold fixed gets populations of its own. A user's own points, told before the first
    population is, move the start to the best of them.

    >>> CMAES(population=12)
    CMAES(population=12, step_size=0.3, active=True)
    """

    population: int | None = None
    step_size: float = 0.3
    active: bool = True

    handles: ClassVar[frozenset[str]] = frozenset(
        {"constraints", "noise", "rankings", "fixed", "categorical", "conditional", "unbounded"}
    )
    learns: ClassVar[Literal["rows", "queries"]] = "queries"
    instant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.population is not None and (type(self.population) is not int or self.population < 2):
            raise UsageError(
                f"CMAES: expected population as a whole number of at least 2, or None; got {self.population!r}"
            )
        if (
            isinstance(self.step_size, bool)
            or not isinstance(self.step_size, int | float)
            or not 0 < self.step_size < 10
        ):
            raise UsageError(
                f"CMAES: expected step_size as a number above 0 (0.3 of the range, say), got {self.step_size!r}"
            )

    def init(self, task: Task, key: Key) -> CMAState:
        latent = Latent(task.space)
        if latent.size > LARGEST_SIZE:
            raise NotHandled(
                f"CMAES: expected at most {LARGEST_SIZE} coordinates, the task has {latent.size}; use 'random'"
            )
        deviations = np.ones(latent.size)
        deviations[: len(latent.numeric)] = np.where(latent.bounded, 1.0, 1.0 / self.step_size)
        return CMAState(Gaussian.start(latent.centre(), float(self.step_size), deviations))

    def ask(self, task: Task, state: CMAState, request: Request, key: Key) -> Query:
        given = [[column, value] for column, value in sorted(request.held.items())]
        if any(query.origin == "strategy" and query.memo.get("held", []) == given for query in request.open):
            raise Waiting("CMA-ES waits for the rest of its population to be answered")
        latent, gaussian = Latent(task.space), state.gaussian
        if not latent.size:
            return Query(task.feasible.sample(1, key.rng("population"), request.held), memo={"held": given})
        rng, held = key.rng("population"), request.held
        count = self._population(latent)
        spread = gaussian.step_size * self._scaling(latent, gaussian)

        def sample(k: int) -> Array:
            z = rng.standard_normal((k, latent.size))  # N(0, I)
            y: Array = (z * gaussian.lengths) @ gaussian.axes.T  # N(0, C)
            return gaussian.mean + spread * y

        def place(T: Array) -> Array:
            X = latent.rows(T)
            if held:
                X[:, list(held)] = list(held.values())
                X = task.space.canonical(X)
            return X

        T = sample(count)
        bad = np.arange(count)
        for _ in range(DRAWS):
            wrong = latent.outside(T[bad])
            if task.where:
                wrong |= ~task.feasible.contains(place(latent.clip(T[bad])))
            hopeless = task.where and len(bad) == count and wrong.all()  # an equality, say: repair has to do it
            bad = bad[wrong]
            if not len(bad) or hopeless:
                break
            T[bad] = sample(len(bad))
        T = latent.clip(T)
        X = task.feasible.repair(place(T), key.rng("repair"), held)
        return Query(X, memo={"sampled": T, "mean": gaussian.mean, "held": given})

    def tell(self, task: Task, state: CMAState, query: Query, answer: Answer) -> CMAState:
        latent, gaussian = Latent(task.space), state.gaussian
        if not latent.size:
            return state
        if query.origin == "user":
            return self._centre(task, latent, state, query, answer)
        groups = order(answer)
        ranked = [row for group in groups for row in group]
        if len(groups) < 2:
            return replace(state, gaussian=replace(gaussian, generation=gaussian.generation + 1))
        scaling = self._scaling(latent, gaussian)
        Y = self._steps(latent, gaussian, query, scaling)[ranked]
        after = update(gaussian, Y, groups, rates(latent.size, len(ranked), self.active), scaling)
        return replace(state, gaussian=self._limited(latent, after))

    def _population(self, latent: Latent) -> int:
        return self.population or default_population(latent.size)

    def _scaling(self, latent: Latent, gaussian: Gaussian) -> Array:
        """(size,) factors that keep the standard deviations above the floors of levels and choices."""
        floors = latent.floors(gaussian.mean, 1.0 / (latent.size * self._population(latent)))
        return np.maximum(1.0, floors / gaussian.deviations)

    def _steps(self, latent: Latent, gaussian: Gaussian, query: Query, scaling: Array) -> Array:
        """(k, size) steps from the mean to the rows as evaluated, in units of the step size and the scaling."""
        X, memo = np.asarray(query.X), query.memo
        sampled = np.asarray(memo.get("sampled", ()), float)
        known = sampled.shape == (len(X), latent.size)
        if not known:  # rows were left out, or are not of our making
            sampled = np.array([latent.at(x, gaussian.step_size) for x in X])
        T = latent.learnt(
            X, sampled, gaussian.mean, gaussian.deviations, [int(column) for column, _ in memo.get("held", ())]
        )
        Y: Array = (T - gaussian.mean) / (gaussian.step_size * scaling)
        foreign = np.ones(len(X), bool)
        if known and np.array_equal(np.asarray(memo.get("mean", ())), gaussian.mean):
            smooth = np.setdiff1d(np.arange(len(latent.numeric)), latent.stepped)
            foreign = (np.abs(T - sampled)[:, smooth] > 1e-9 * (1.0 + np.abs(T[:, smooth]))).any(axis=1)
        n = latent.size
        length = np.sqrt((gaussian.whiten(Y) ** 2).sum(axis=1))
        longest = math.sqrt(n) + 2 * n / (n + 2)
        return np.where(foreign, np.minimum(1.0, longest / np.maximum(length, 1e-300)), 1.0)[:, None] * Y

    def _limited(self, latent: Latent, gaussian: Gaussian) -> Gaussian:
        """With a step size at which rows still differ, and no wider than the range of the bounded columns."""
        deviations = gaussian.deviations
        low, high = SMALLEST / deviations.max(), LARGEST / deviations.max()
        numeric = deviations[: len(latent.numeric)]
        if latent.bounded.any():
            high = min(high, 1.0 / numeric[latent.bounded].max())
        return replace(gaussian, step_size=gaussian.step_size * min(max(1.0, low), high))

    def _centre(self, task: Task, latent: Latent, state: CMAState, query: Query, answer: Answer) -> CMAState:
        """Around the best of the user's own points, while no population was answered."""
        if state.gaussian.generation or not isinstance(answer, Values):
            return state
        for i in np.flatnonzero(answer.ok):
            violation = float(np.minimum(np.maximum(answer.G[i], 0.0), 1e300 / max(task.c, 1)).sum())
            merit = (violation, float(answer.Y[i, 0]))
            if merit < state.centred:
                x = np.asarray(query.X)[int(answer.rows[i])]
                mean = latent.at(x, state.gaussian.step_size)
                state = CMAState(replace(state.gaussian, mean=mean), merit)
        return state


def order(answer: Answer) -> Groups:
    """Rows of a query from best to worst, tied rows together; rows of which nothing is known are left out.

    >>> order(Ranking(((2,), (0, 1)), unseen=(3,)))
    [[2], [0, 1]]
    >>> order(Values.of([[3.0], [1.0], [np.nan]], status=("ok", "ok", "impossible")))
    [[1], [0], [2]]
    """
    if isinstance(answer, Ranking):
        return [list(group) for group in answer.groups if group] if answer.verdict is None else []
    ok = np.flatnonzero(answer.ok)
    excess = np.maximum(answer.G[ok], 0.0)
    positive = np.where(excess > 0, excess, np.nan)
    some = np.isfinite(positive).any(axis=0)
    unit = np.ones(excess.shape[1])
    unit[some] = np.nanmedian(positive[:, some], axis=0)
    with np.errstate(over="ignore"):
        violation = np.minimum(excess / unit, 1e300).sum(axis=1)
    merit = [(v, 0.0 if v > 0 else float(y)) for v, y in zip(violation.tolist(), answer.Y[ok, 0], strict=True)]
    groups: Groups = []
    before: tuple[float, float] | None = None
    for i in sorted(range(len(ok)), key=lambda i: (merit[i], i)):
        if merit[i] != before:
            groups.append([])
        groups[-1].append(int(answer.rows[ok[i]]))
        before = merit[i]
    impossible = [int(row) for row, status in zip(answer.rows, answer.status, strict=True) if status == "impossible"]
    return [*groups, impossible] if impossible else groups
