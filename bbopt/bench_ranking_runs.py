"""Runs of search methods on functions of which they see orders only: the loops behind `bbopt.bench_ranking` and its tests.

A run drives a strategy's three functions itself, without an optimizer: nothing is stored, and a step costs what the strategy
costs. What answers is a function of (values of the slate, smaller is better; the query; a generator) to an answer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import problems
from bbopt.parameters import Float
from bbopt.query import Answer, Key, Query, Ranking, Request, Values
from bbopt.space import Space
from bbopt.strategy import Recommends, Strategy
from bbopt.task import Task
from bbopt.zeroth_order.rank_gradient import best_of
from bbopt.zeroth_order.rank_line_search import along, decide, next_step, step_sizes
from bbopt.zeroth_order.rank_slates import normal
from bbopt.zeroth_order.rank_state import RankState

Array = np.ndarray[Any, np.dtype[Any]]
Function = Callable[[Array], Array]
Answerer = Callable[[Array, Query, np.random.Generator], Answer]


def sphere(X: Array) -> Array:
    """(k,) |x|^2."""
    return np.asarray((X**2).sum(axis=1))


def rosenbrock(X: Array) -> Array:
    """(k,) sum 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2."""
    return np.asarray((100.0 * (X[:, 1:] - X[:, :-1] ** 2) ** 2 + (1.0 - X[:, :-1]) ** 2).sum(axis=1))


def free(d: int, feedback: str = "ranking") -> Task:
    """d numbers without bounds, in units of 1."""
    return Task(Space(x=Float(scale=1.0, shape=(d,))), feedback=feedback)


def box(d: int, feedback: str = "ranking") -> Task:
    """d numbers in [0, 1]."""
    return Task(Space(x=Float(0.0, 1.0, shape=(d,))), feedback=feedback)


def oracle(k: int | None = None) -> Answerer:
    """The (m, k)-ranking oracle without noise, None for a full ranking."""
    return lambda values, query, rng: best_of(values, k)


def told(values: Array, query: Query, rng: np.random.Generator) -> Answer:
    """The values themselves."""
    return Values.of(values)


def person(form: str, noise: Any = "none", level: float = 0.0) -> Answerer:
    """A simulated person (`problems.people`) who likes small values; noise and level as there."""
    someone = problems.Person(_no_params, noise=noise, level=level, form=form)
    return lambda values, query, rng: someone.order(-values, rng)


def _no_params(params: object) -> float:
    raise AssertionError("the values of the slate are given instead")


def noisy_gradient(level: float) -> Answerer:
    """Full rankings, with normal noise of this many standard deviations of the slate in gradient slates only."""
    noisy, exact = person("full", "thurstone", level), oracle()

    def answer(values: Array, query: Query, rng: np.random.Generator) -> Answer:
        return (exact if query.memo.get("phase") == "line search" else noisy)(values, query, rng)

    return answer


@dataclass(frozen=True, eq=False)
class Run:
    """After each slate: the value of the point that the strategy would recommend, the rows asked so far, and whether the
    slate ended a round (a line search of rank-sgd; any slate of other strategies). seconds: CPU time of the longest ask."""

    values: Array
    rows: Array
    rounds: Array
    seconds: float

    def slates_to(self, level: float) -> float:
        """Slates until a recommended point has at most this value; infinite if none has."""
        hit = np.flatnonzero(self.values <= level)
        return float(hit[0] + 1) if len(hit) else math.inf

    def rounds_to(self, level: float) -> float:
        hit = np.flatnonzero((self.values <= level) & self.rounds)
        return float(self.rounds[: hit[0] + 1].sum()) if len(hit) else math.inf

    def rows_to(self, level: float) -> float:
        hit = np.flatnonzero(self.values <= level)
        return float(self.rows[hit[0]]) if len(hit) else math.inf

    def after(self, rows: int) -> float:
        """The value when so many rows had been asked, the last one where there were fewer."""
        return float(self.values[min(int(np.searchsorted(self.rows, rows)), len(self.values) - 1)])


def run(
    strategy: Strategy,
    task: Task,
    function: Function,
    answer: Answerer,
    slates: int,
    *,
    seed: int = 0,
    start: Array | None = None,
    until: float = -math.inf,
    rows: float = math.inf,
) -> Run:
    """Ask and answer until so many slates or rows, or a recommended value at or below `until`. start: encoded, for rank-sgd."""
    rng, state = np.random.default_rng([seed, 77]), strategy.init(task, Key(seed, -1))
    if start is not None and isinstance(state, RankState):
        state = replace(state, x=task.space.canonical(start[None])[0])
    none = np.zeros((0, task.space.dimension))
    values: list[float] = []
    asked: list[int] = []
    ends: list[bool] = []
    count, longest, best = 0, 0.0, math.inf
    for number in range(slates):
        begun = time.thread_time()
        query = strategy.ask(task, state, Request(1, count, none), Key(seed, number))
        longest = max(longest, time.thread_time() - begun)
        query = replace(query, id=number, first=count)
        count += query.size
        X = query.X[np.arange(query.size)]
        f = function(X)
        said = answer(f, query, rng)
        state = strategy.tell(task, state, query, said)
        row = strategy.recommend(task, state) if isinstance(strategy, Recommends) else None
        if row is not None:
            value = float(function(row[None])[0])
        elif isinstance(said, Ranking):
            value = float(f[said.groups[0][0]]) if said.groups else math.inf
        else:
            value = best = min(best, float(f.min()))
        values.append(value)
        asked.append(count)
        ends.append(query.memo.get("phase", "line search") == "line search")
        if (value <= until and ends[-1]) or count >= rows:
            break
    return Run(np.array(values), np.array(asked), np.array(ends), longest)


def differences(
    function: Function,
    start: Array,
    m: int,
    candidates: int,
    *,
    seed: int = 0,
    until: float = -math.inf,
    rows: float,
    factor: float = 0.5,
    orthogonal: bool = False,
) -> Run:
    """The rival that sees values: forward differences along m normal directions, and the line search of rank-sgd by order.

    g = 1 / m sum_i (f(x + mu xi_i) - f(x)) / mu xi_i with mu = 1e-6, whose expected squared cosine to the gradient is
    m / (m + d + 1); candidates x - sqrt(d) size q gamma^(l - 1) g', with g' of the length of g / |gradient|.
    """
    rng, x, d, radius = np.random.default_rng([seed, 78]), np.array(start), len(start), 1e-6
    value, count, size = float(function(x[None])[0]), 1, 1.0
    share = m / (m + d + 1.0)
    values, asked = [value], [count]
    while value > until and count < rows:
        steps = normal(rng, m, d, orthogonal)
        g = (function(x + radius * steps) - value) / radius @ steps / m
        g /= np.sqrt((g**2).sum() * share)
        sizes = step_sizes(size, factor, candidates)
        X = along(x, np.arange(d), g, sizes * math.sqrt(d) * share, -np.inf, np.inf)
        f = np.append(function(X), value)
        decision = decide(best_of(f).groups, candidates)
        won = decision.above[0] if decision.above else None
        size = next_step(size, factor, None if won is None else float(sizes[won]))
        if won is not None:
            x, value = X[won], float(f[won])
        count += m + candidates
        values.append(value)
        asked.append(count)
    return Run(np.array(values), np.array(asked), np.ones(len(values), bool), 0.0)
