"""Where ZO-RankSGD is, as plain data, and what the answer to a gradient slate changes in it: pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bbopt.query import Answer, Query, Ranking, Values
from bbopt.space import Space
from bbopt.strategies.cmaes import order
from bbopt.task import Task
from bbopt.zeroth_order.columns import bounded_columns
from bbopt.zeroth_order.descent import best_row, merit
from bbopt.zeroth_order.rank_gradient import from_groups

Array = np.ndarray[Any, np.dtype[Any]]

GROWTH, PATIENCE = 1.5, 2  # of the radius after so many slates in a row without a difference
LARGEST = 0.25  # radius within bounds: a quarter of the range
JITTER = 1e-6  # of a column's range or scale: from so far away x is shown where a repeat would be refused
UNUSUAL = 3.0  # a perturbation longer than sqrt(d) + 3 was not drawn: it is shortened to that


@dataclass(frozen=True, eq=False)
class RankState:
    """Where a search by ranking is; every array is empty where there is nothing to say.

    x (D,): the incumbent, canonical; known (1 + c,): its values where there is no noise. phase: "gradient" or "line
    search"; step: of the queries of this phase; gradient_step: of gradient slates around x; since: the first step around x,
    what belongs to an earlier one is late; moves: of the incumbent so far.
    total (d,): sum of efficiency times estimate over the slates around x; weight: sum of efficiencies; fresh: such slates
    since the last line search. size: the distance to the optimum that is expected, per coordinate; floor: the least radius
    at which differences are seen; ties: slates in a row without any. favourite (D,): the best row of the last gradient slate,
    own (n, D): points of the user's own, both to be compared with x in the next line search; their values (1 + c,) and
    (n, 1 + c), favourite's where there is no noise. rivals (r, D): rows that beat x and have to do so again; rival_sizes
    (r,): of their steps; wins: how often they have beaten it. start (1 + c,): values of the user's point that it began at.
    """

    x: Array
    known: Array
    phase: str
    step: int
    gradient_step: int
    since: int
    moves: int
    total: Array
    weight: float
    fresh: int
    size: float
    floor: float
    ties: int
    favourite: Array
    favourite_values: Array
    own: Array
    own_values: Array
    rivals: Array
    rival_sizes: Array
    wins: int
    start: Array

    @property
    def direction(self) -> Array:
        """(d,) the average of the estimates around x: uphill, of length about 1 along the gradient."""
        return self.total / self.weight if self.weight else self.total

    @property
    def share(self) -> float:
        """The expected squared cosine between direction and gradient: efficiency / (efficiency + d - 1)."""
        return self.weight / (self.weight + len(self.total) - 1.0) if self.weight else 0.0

    @property
    def started(self) -> bool:
        """Whether any slate taught something."""
        return self.moves > 0 or self.weight > 0.0


def restarted(state: RankState, x: Array, known: Array, phase: str) -> RankState:
    """Around another incumbent: nothing is known of the gradient there, and answers to earlier queries are late."""
    step, none = state.step + 1, np.zeros(0)
    return replace(state, x=x, known=known, phase=phase, step=step, gradient_step=step, since=step,
                   total=np.zeros(len(state.total)), weight=0.0, fresh=0, ties=0, favourite=none, favourite_values=none,
                   rivals=np.zeros((0, len(x))), rival_sizes=none, wins=0)  # fmt: skip


def radius_of(task: Task, columns: Array, state: RankState, share: float, least: float) -> float:
    """mu of the next gradient slate: a share of the expected distance, not below what can be seen."""
    radius = max(least, state.floor, share * state.size)
    return min(radius, LARGEST) if bounded_columns(task.space)[columns].any() else radius


def base_of(space: Space, columns: Array, x: Array, radius: float) -> Array:
    """(D,) the centre of a gradient slate: x, moved so far inside its bounds that one radius fits."""
    base = np.array(x)
    inside = columns[bounded_columns(space)[columns]]
    margin = min(radius, 0.5)
    base[inside] = np.clip(base[inside], margin, 1.0 - margin)
    return base


def perturbations(space: Space, columns: Array, x: Array, query: Query) -> tuple[Array, Array]:
    """(m, d) the perturbations of a gradient slate's rows as they were asked, in units of mu, and (m,) which count.

    Rows may have come back other than drawn: moved to bounds, repaired, replaced. One that differs from x in another column
    does not tell of the gradient; one that is too far away to have been drawn is taken for one in its direction.
    """
    X = np.asarray(query.X[np.arange(query.size)])
    radius = float(query.memo["radius"])
    steps = (X[:, columns] - base_of(space, columns, x, radius)[columns]) / radius
    longest = np.sqrt(len(columns)) + UNUSUAL
    length = np.sqrt((steps**2).sum(axis=1))
    steps *= np.minimum(1.0, longest / np.maximum(length, 1e-300))[:, None]
    others = np.setdiff1d(np.arange(X.shape[1]), columns)
    return steps, (X[:, others] == x[others]).all(axis=1)


def learnt(task: Task, columns: Array, state: RankState, query: Query, answer: Answer) -> RankState:
    """The state after a gradient slate around its incumbent; what to do next is not decided here."""
    radius = float(query.memo["radius"])
    if isinstance(answer, Ranking) and answer.verdict == "all bad":
        if state.started:  # x was better than some rows before: it is better than all of these
            return replace(state, size=state.size / GROWTH, floor=state.floor / GROWTH, ties=0)
        return replace(state, floor=max(state.floor, GROWTH * radius), ties=0)  # nor is x any good: look farther
    cannot_tell = isinstance(answer, Ranking) and answer.verdict == "cannot tell"
    steps, counts = perturbations(task.space, columns, state.x, query)
    groups = [[row for row in group if counts[row]] for group in order(answer)]
    graph = from_groups([group for group in groups if group], query.size)
    if graph.edges:
        best = min(next(group for group in groups if group))
        values = np.zeros(0)
        if isinstance(answer, Values) and not task.noisy:
            values = values_of(answer, best)
        efficiency = graph.efficiency
        return replace(state, total=state.total + efficiency * graph.estimate(steps), weight=state.weight + efficiency,
                       fresh=state.fresh + 1, ties=0, favourite=np.array(query.X[best]), favourite_values=values)  # fmt: skip
    if not cannot_tell and sum(map(len, groups)) < 2:
        return state  # nobody looked, or at one row only
    if state.ties + 1 < PATIENCE:
        return replace(state, ties=state.ties + 1)
    return replace(state, ties=0, floor=max(state.floor, GROWTH * radius))


def with_own(task: Task, state: RankState, query: Query, answer: Answer) -> RankState:
    """The state after a point of the user's own: the start, if it is the best of those that came before anything was learnt
    (of rankings, which do not compare them, the first), else to be compared with x in the next line search."""
    if isinstance(answer, Ranking):
        if answer.verdict is not None or not answer.groups:
            return state
        row, values = np.array(query.X[answer.groups[0][0]]), np.full(1 + task.c, np.nan)
    else:
        found = best_row(query, answer)
        if found is None:
            return state
        row, values = found
    ranked = np.isnan(values[0])
    if state.started or (ranked and len(state.start)):
        own, own_values = np.concatenate([state.own, row[None]]), np.concatenate([state.own_values, values[None]])
        return replace(state, own=own, own_values=own_values)
    if len(state.start) and merit(values) >= merit(state.start):
        return state
    known = np.zeros(0) if ranked or task.noisy else values
    return restarted(replace(state, start=values), row, known, state.phase)


def compared(task: Task, state: RankState, query: Query) -> RankState:
    """Without the challengers that took part in this line search: all of them where values are remembered. A favourite that
    came while the slate was out is left for the next one."""
    asked = {row.tobytes() for row in np.asarray(query.X)} if task.noisy else set()
    left = np.array([task.noisy and row.tobytes() not in asked for row in state.own], bool)
    state = replace(state, own=state.own[left], own_values=state.own_values[left])
    if task.noisy and state.favourite.tobytes() not in asked:
        return state
    return replace(state, favourite=np.zeros(0), favourite_values=np.zeros(0))


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a line search compares: rows X (n, D), sizes (n,) of their steps (0 for those off the direction), the answer, and
    which row is the incumbent (-1: none, it was replaced)."""

    X: Array
    sizes: Array
    answer: Answer
    x: int


def comparison(task: Task, state: RankState, query: Query, answer: Answer) -> tuple[RankState, Comparison]:
    """The slate of a line search as it was answered. Where values are remembered it goes on with what is known without
    asking (x, the best of the last gradient slate and the user's own points), and x has its value from now on."""
    X, sizes = np.asarray(query.X), np.asarray(query.memo["sizes"], float)
    if len(sizes) != len(X):  # rows of a finite space were left out
        sizes = np.zeros(len(X))
    x = int(query.memo["incumbent"])
    if x >= len(X) or np.abs(X[x] - state.x).max() > 2.0 * JITTER:
        x = -1  # it cannot work, or there is no point next to it
    if task.noisy or isinstance(answer, Ranking):
        return state, Comparison(X, sizes, answer, x)
    if x >= 0 and len(values := values_of(answer, x)):
        state = replace(state, x=np.array(X[x]), known=values)
    if not len(state.known):
        return state, Comparison(X, sizes, answer, x)
    known = [(state.x, state.known), (state.favourite, state.favourite_values)]
    known += zip(state.own, state.own_values, strict=True)
    known = [(row, values) for row, values in known if len(values) and np.isfinite(values).all()]
    Z, n = np.array([values for _, values in known]), len(known)
    Y, G = np.append(answer.Y[:, 0], Z[:, 0]), np.concatenate([answer.G, Z[:, 1:]])
    rows, status = np.append(answer.rows, len(X) + np.arange(n)), (*answer.status, *("ok",) * n)
    rest = Comparison(np.concatenate([X, np.array([row for row, _ in known])]), np.append(sizes, np.zeros(n)),
                      Values.of(Y, G, status=status, rows=rows), len(X))  # fmt: skip
    return state, rest


def values_of(answer: Values, row: int) -> Array:
    """(1 + c,) objective and constraints of a row of the query; empty if it has none."""
    where = np.flatnonzero((answer.rows == row) & answer.ok)
    return np.append(answer.Y[where[0], 0], answer.G[where[0]]) if len(where) else np.zeros(0)
