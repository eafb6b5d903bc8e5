"""Descent on estimates of the gradient, as a state machine: what `cge`, `rge`, `spsa`, `openes` and `deepzero` share.

A strategy plans rows around the iterate (`plans.py`), waits until the query is answered, makes a gradient of the slopes
and moves on by an update rule (`update_rule.py`). All of it is in encoded units, over the continuous columns:

* it starts at the best of the user's own points that were told before the first query, else at random in the middle half of
  the continuous columns and at the centre of the others (whole numbers, steps, ordered choices), which then stay where
  they are; a task without a continuous column is searched at random,
* the iterate is projected: onto the bounds after each update, onto `where` before the next query,
* outcome constraints enter by the penalty of `penalty.py`; a column or direction whose rows were lost, are impossible or
  were not evaluated where they were planned contributes nothing; if none is left, the iterate goes to the best row told,
* an iterate that did not move is asked again in a radius twice as large (a plateau looks flat from nearby), and its own
  value is not asked twice unless there is noise,
* with rules whose rate is a length it counts in shares of the range (unbounded columns: of 10/3 scales), and by the part of
  the estimate that is no chance; the rate falls as rate ((1 + delay) / (1 + delay + t))^decay after t queries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bbopt.directions import Kind, reach
from bbopt.errors import UsageError, Waiting
from bbopt.query import Answer, DirectionRows, Key, Query, Request, Values
from bbopt.task import Task
from bbopt.zeroth_order.columns import centre, continuous_columns, limits
from bbopt.zeroth_order.options import not_negative, positive
from bbopt.zeroth_order.penalty import bounded, grown, penalised
from bbopt.zeroth_order.plans import Plan, plan_of, told_values
from bbopt.zeroth_order.smoothing import LARGEST
from bbopt.zeroth_order.update_rule import update_rule
from bbopt.zeroth_order.updates import Rprop

Array = np.ndarray[Any, np.dtype[Any]]

START = 0.25  # around the centre, in encoded units: symmetric points may be saddles
UNBOUNDED = 10.0 / 3.0  # scales of an unbounded column that count as its range, where the rate is a length
FARTHEST = 1e12  # scales that an unbounded column may go from 0
KEPT_ROWS, KEPT_ENTRIES = 128, 2**16  # told rows that are kept under noise, to recommend one of them
RECENT = 3.0  # the average of the iterates gives the t-th of t a weight of (1 + RECENT) / (t + RECENT)


@dataclass(frozen=True, eq=False)
class DescentState:
    """Where a descent is: the iterate x (D,), canonical; the state of the update rule; queries learnt, and how many of the
    last did not move it; weights (c,) of the penalty; values (1 + c,) told at x, empty where there are none; the merit of
    the user's point that x started from. Without noise the best told row (D,) and its values (1 + c,), empty at first; under
    noise the average of the iterates (D,) and the last told rows (a, D)."""

    x: Array
    update: Any
    steps: int
    stalls: int
    weights: Array
    known: Array
    started: tuple[float, float]
    best: Array
    best_values: Array
    average: Array
    rows: Array


@dataclass(frozen=True)
class Descent:
    """The part of a strategy that moves the iterate. update: see `update_rule.py`; rate, decay, delay: of the step.

    >>> Descent("adam", rate=0.1, decay=0.5).rate_after(3)
    0.05
    """

    update: str = "adam"
    rate: float = 0.1
    decay: float = 0.0
    delay: float = 0.0

    def check(self, who: str) -> None:
        """Raise UsageError, in the name of `who`, for options out of range."""
        positive(who, "rate", self.rate)
        for name, value in (("decay", self.decay), ("delay", self.delay)):
            not_negative(who, name, value)
        rule = update_rule(self.update)
        if self.decay and isinstance(rule, Rprop):
            raise UsageError(f"{who}: expected decay 0 with rprop, which has step sizes of its own; got {self.decay!r}")
        if self.delay and not self.decay:
            raise UsageError(f"{who}: expected a decay with delay={self.delay!r}, got none; delay says when it begins")

    def rate_after(self, steps: int) -> float:
        """The rate of the next step, after so many."""
        return self.rate * fall(steps, self.decay, self.delay)

    def init(self, task: Task, key: Key) -> DescentState:
        x, smooth, rng = centre(task.space), continuous_columns(task.space), key.rng("start")
        x[smooth] += START * (2.0 * rng.random(len(smooth)) - 1.0)
        x, size = task.feasible.repair(x[None], rng)[0], len(smooth)
        none = np.zeros(0)
        return DescentState(x, update_rule(self.update).start(size), 0, 0, np.zeros(task.c), none, (math.inf, math.inf),
                            none, none, none, np.zeros((0, len(x))))  # fmt: skip

    def base(self, task: Task, state: DescentState, request: Request, key: Key, reach: float = 0.0) -> Array:
        """(D,) where to look around: the iterate with the held columns in place, satisfying `where`, and so far from the
        bounds (at most half way) that steps of `reach` stay within them."""
        x = np.array(state.x)
        if reach > 0.0:
            columns = continuous_columns(task.space)
            low, high = limits(task.space, columns)
            margin = min(reach, 0.5)
            x[columns] = np.clip(x[columns], low + margin, high - margin)
        if not request.held and reach == 0.0 and not task.where:
            return x
        if request.held:
            x[list(request.held)] = list(request.held.values())
        there: Array = task.feasible.repair(x[None], key.rng("base"), request.held)[0]
        return there

    def directions(
        self, task: Task, state: DescentState, request: Request, key: Key, kind: Kind, columns: Array, radius: float
    ) -> tuple[DirectionRows, dict[str, Any]]:
        """New directions of a kind on some columns around the base, without rows yet, and the memo of their query."""
        radius = self.radius(state, radius)
        base = self.base(task, state, request, key, radius * reach(kind, len(columns)))
        seed, none = int(key.rng("directions").integers(2**63)), np.zeros(0, int)
        return DirectionRows(base, columns, radius, kind, seed, none, none), base_memo(task, state, request, base)

    def learn(self, task: Task, state: DescentState, query: Query, answer: Answer) -> DescentState:
        """The state after an answer in values."""
        if not isinstance(answer, Values):
            return state
        if query.origin == "user":
            return self._start(task, state, query, answer)
        state = remember(task, state, query, answer)
        plan = plan_of(query, task.space)
        if plan is None:
            return self.jump(task, state, query, answer)
        weights, at, slopes = self.measured(task, state, plan, query, answer)
        if not np.isfinite(slopes).any():
            return self.jump(task, replace(state, weights=weights), query, answer)
        moved = self.move(task, replace(state, weights=weights), plan, *plan.gradient(slopes), held_columns(query))
        if moved.stalls and not task.noisy and np.isfinite(at).all() and np.array_equal(plan.rows.base, state.x):
            return replace(moved, known=at)
        return moved

    def measured(
        self, task: Task, state: DescentState, plan: Plan, query: Query, answer: Values, growing: bool = True
    ) -> tuple[Array, Array, Array]:
        """What an answer says around the base of its plan: the weights (c,) of the penalty from now on, the values (1 + c,)
        at the base (NaN where unknown), and the slopes of the objective with that penalty (NaN where unknown). Without
        `growing`, the weights stay those of the state."""
        values = told_values(plan, query, answer)
        at = np.full(values.shape[1], np.nan)
        at[:] = values[plan.is_base][0] if plan.is_base.any() else query.memo.get("known", at)
        weights = state.weights
        if task.c and growing:
            slopes = np.stack(
                [plan.slopes(v, float(a)) for v, a in zip(bounded(values.T), bounded(at), strict=True)], 1
            )
            level = np.where(np.isfinite(at[1:]), at[1:], _mean_level(values[:, 1:]))
            weights = grown(weights, slopes[np.isfinite(slopes).all(axis=1)], level)
        return weights, at, plan.slopes(penalised(values, weights), float(penalised(at[None], weights)[0]))

    def move(
        self, task: Task, state: DescentState, plan: Plan, columns: Array, gradient: Array, held: list[int]
    ) -> DescentState:
        """One step of the update rule along a gradient whose entries belong to `columns`; it is 0 on all others."""
        smooth = continuous_columns(task.space)
        x = np.array(plan.rows.base if task.where else state.x)
        x[held] = state.x[held]
        full = bounded(gradient)
        if len(columns) < len(smooth):
            full = np.zeros(len(smooth))
            full[np.searchsorted(smooth, columns)] = bounded(gradient)
        low, high = limits(task.space, smooth)
        rule = update_rule(self.update)
        rate, width = self.rate_after(state.steps), np.ones(1)
        if rule.lengths:
            rate, width = rate * plan.share, np.where(np.isinf(low), UNBOUNDED, 1.0)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            z, update = rule.step(x[smooth] / width, full * width, state.update, rate)
            z = z * width
        z = np.clip(np.where(np.isfinite(z), z, x[smooth]), np.maximum(low, -FARTHEST), np.minimum(high, FARTHEST))
        x[smooth] = z
        x[held] = state.x[held]
        x = task.space.canonical(x)[0]
        still = np.array_equal(x, state.x)
        state = replace(state, update=update, steps=state.steps + 1, stalls=state.stalls + 1 if still else 0,
                        known=state.known if still else np.zeros(0))  # fmt: skip
        return self._at(task, state, x)

    def jump(self, task: Task, state: DescentState, query: Query, answer: Values) -> DescentState:
        """No slope could be had: on to the best row that was told, under noise to the best one of this query; unless the
        value at the iterate is known to be as good."""
        x, known, held = state.best, state.best_values, held_columns(query)
        if task.noisy:
            found = best_row(query, answer)
            x, known = np.zeros(0) if found is None else found[0], np.zeros(0)
        elif not len(x) or (len(state.known) and merit(state.known) <= merit(known)):
            x, known = state.x, state.known
        x = np.array(x if len(x) else state.x)
        x[held] = state.x[held]
        known = np.zeros(0) if held else known
        if np.array_equal(x, state.x):
            state = replace(state, steps=state.steps + 1, stalls=state.stalls + 1, known=known)
        else:
            fresh = update_rule(self.update).start(len(continuous_columns(task.space)))
            state = replace(state, update=fresh, steps=state.steps + 1, stalls=0, known=known)
        return self._at(task, state, x)

    def radius(self, state: DescentState, radius: float) -> float:
        """A radius, doubled for every query that did not move the iterate, up to a quarter of the range."""
        return max(radius, min(radius * 2.0 ** min(state.stalls, 60), LARGEST))

    def _start(self, task: Task, state: DescentState, query: Query, answer: Values) -> DescentState:
        """From the best of the user's own points, while no query was answered."""
        state, found = remember(task, state, query, answer), best_row(query, answer)
        if state.steps or found is None or merit(found[1]) >= state.started:
            return state
        known = np.zeros(0) if task.noisy else found[1]
        return replace(state, x=found[0], known=known, started=merit(found[1]))

    def _at(self, task: Task, state: DescentState, x: Array) -> DescentState:
        if not task.noisy:
            return replace(state, x=x)
        share = (1.0 + RECENT) / (state.steps + RECENT)
        average = state.average + share * (x - state.average) if len(state.average) else x
        return replace(state, x=x, average=average)


def recommended(task: Task, state: DescentState) -> Array | None:
    """(D,) under noise: of the rows told last, the one nearest to the average of the iterates."""
    if not len(state.rows) or not len(state.average):
        return None
    return np.array(state.rows[np.argmin(((state.rows - state.average) ** 2).sum(axis=1))])


def remember(task: Task, state: DescentState, query: Query, answer: Answer) -> DescentState:
    """Keep the best told row, or under noise some of the last ones."""
    if not task.noisy:
        found = best_row(query, answer) if isinstance(answer, Values) else None
        if found is None or (len(state.best) and merit(found[1]) >= merit(state.best_values)):
            return state
        return replace(state, best=found[0], best_values=found[1])
    ok = answer.rows[answer.ok] if isinstance(answer, Values) else np.array([i for g in answer.groups for i in g], int)
    most = max(1, min(KEPT_ROWS, KEPT_ENTRIES // max(len(state.x), 1)))
    if not len(ok):
        return state
    rows = np.concatenate([state.rows, np.atleast_2d(query.X[ok[:most]])])[-most:]
    return replace(state, rows=rows)


def wait_for_answers(request: Request, who: str) -> None:
    """Raise Waiting while a query of the same held columns is open."""
    held = held_memo(request)
    if any(query.origin == "strategy" and query.memo.get("held", []) == held for query in request.open):
        raise Waiting(f"{who} waits until its query is answered")


def held_memo(request: Request) -> list[list[float]]:
    """Held columns and their values as they are kept in a memo."""
    return [[column, value] for column, value in sorted(request.held.items())]


def held_columns(query: Query) -> list[int]:
    return [int(column) for column, _ in query.memo.get("held", ())]


def exploring(task: Task, request: Request, key: Key) -> Query:
    """One random feasible row: where there is nothing to step along."""
    return Query(task.feasible.sample(1, key.rng("explore"), request.held), memo={"held": held_memo(request)})


def base_memo(task: Task, state: DescentState, request: Request, base: Array) -> dict[str, Any]:
    """What a query brings back: the held columns, and the value at its base where that is known already."""
    memo: dict[str, Any] = {"held": held_memo(request)}
    if len(state.known) and np.array_equal(base, state.x):
        memo["known"] = state.known
    return memo


def best_row(query: Query, answer: Values) -> tuple[Array, Array] | None:
    """(D,) the row of least merit and its values (1 + c,); None where no row has values."""
    ok = np.flatnonzero(answer.ok)
    if not len(ok):
        return None
    Y, violation = answer.Y[ok, 0], _violation(answer.G[ok])
    i = int(ok[np.argmin(np.where(violation == violation.min(), Y, np.inf))])
    return np.array(query.X[int(answer.rows[i])]), np.append(answer.Y[i, 0], answer.G[i])


def merit(values: Array) -> tuple[float, float]:
    """Total violation and objective of values (1 + c,): lower is better, in this order."""
    return float(_violation(values[None, 1:])[0]), float(values[0])


def _violation(G: Array) -> Array:
    total: Array = np.minimum(np.maximum(G, 0.0), 1e300 / max(G.shape[1], 1)).sum(axis=1)
    return total


def _mean_level(G: Array) -> Array:
    """(c,) mean of the constraints over the rows that have values; -1 without such rows."""
    known = np.isfinite(G).all(axis=1)
    return bounded(G[known]).mean(axis=0) if known.any() else np.full(G.shape[1], -1.0)


def fall(steps: int, exponent: float, delay: float = 0.0) -> float:
    """((1 + delay) / (1 + delay + steps))^exponent.

    >>> fall(3, 0.5), fall(0, 0.7, 5.0)
    (0.5, 1.0)
    """
    share: float = ((1.0 + delay) / (1.0 + delay + steps)) ** exponent
    return share
