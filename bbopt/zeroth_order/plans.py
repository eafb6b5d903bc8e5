"""What a query was meant to measure, and what the answer says of it: slopes along coordinates or along directions.

Rows may come back other than they were planned: repaired, replaced where they would have been repeats, lost, impossible.
So an answer is first brought into the order of the planned rows, with NaN where a row was not evaluated where it was
planned, and every slope is made of what is left: a pair, one point and the base, or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bbopt.query import CoordinateRows, DirectionRows, Query, Values, rows_from_plain, rows_to_plain
from bbopt.space import Space
from bbopt.task import Task
from bbopt.zeroth_order.columns import limits
from bbopt.zeroth_order.coordinates import Scheme, coordinate_steps, difference_quotients
from bbopt.zeroth_order.random_directions import from_slopes

Array = np.ndarray[Any, np.dtype[Any]]

DENSE = 2**18  # entries up to which rows are asked as an array; beyond, lazy rows cost less


@dataclass(frozen=True, eq=False)
class CoordinatePlan:
    """Steps along single columns."""

    rows: CoordinateRows

    @property
    def is_base(self) -> Array:
        """(k,) bool: rows that are the base itself."""
        is_base: Array = self.rows.columns < 0
        return is_base

    def slopes(self, values: Array, at: float) -> Array:
        """(n,) slopes along the columns of `gradient`, from values (k,) and the value at the base; NaN where unknown."""
        rows, columns = self.rows, self._columns
        moved = slice(1, None) if len(rows) and rows.columns[0] < 0 else slice(None)  # a base is the first row
        where, points, told = rows.columns[moved], rows.values[moved], values[moved]
        if len(where) == len(columns):  # one step along each: a third of the time
            steps = points - rows.base[where]
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                forward: Array = (told - at) / steps
            forward[~np.isfinite(told) | (steps == 0.0)] = np.nan
            one_sided = np.empty(len(rows.base))
            one_sided[where] = forward
            return one_sided[columns]
        x = rows.base[columns]
        number = np.zeros(len(rows.base), np.int64)
        number[columns] = np.arange(len(columns))
        place = number[where]
        sides = []
        for mine in (points > x[place], points < x[place]):
            point, value = np.array(x), np.full(len(x), np.nan)
            point[place[mine]], value[place[mine]] = points[mine], told[mine]
            sides.append((point, value))
        return difference_quotients(x, at, sides[0], sides[1])

    def gradient(self, slopes: Array) -> tuple[Array, Array]:
        """Columns and entries of the gradient; columns of unknown slope are left out."""
        known = np.isfinite(slopes)
        return self._columns[known], slopes[known]

    @property
    def share(self) -> float:
        """The part of the estimate, by length, that is gradient and not chance."""
        return 1.0

    @cached_property
    def _columns(self) -> Array:
        """(n,) the columns of the rows, each once, ascending."""
        there = np.zeros(len(self.rows.base), bool)
        there[self.rows.columns[self.rows.columns >= 0]] = True
        return np.flatnonzero(there)


@dataclass(frozen=True, eq=False)
class DirectionPlan:
    """Steps along random directions."""

    rows: DirectionRows

    @property
    def is_base(self) -> Array:
        """(k,) bool: rows that are the base itself."""
        is_base: Array = self.rows.signs == 0
        return is_base

    def slopes(self, values: Array, at: float) -> Array:
        """(q,) slopes along the directions, from values (k,) and the value at the base; NaN where unknown."""
        signs, radius, numbers = self.rows.signs, self.rows.radius, self._numbers
        above, below = np.full(len(numbers), np.nan), np.full(len(numbers), np.nan)
        for side, sign in ((above, 1), (below, -1)):
            mine = np.flatnonzero(signs == sign)
            side[np.searchsorted(numbers, self.rows.indices[mine])] = values[mine]
        zero = np.zeros(len(numbers))
        return difference_quotients(zero, at, (zero + radius, above), (zero - radius, below))

    def gradient(self, slopes: Array) -> tuple[Array, Array]:
        """Columns and entries of the gradient, from the directions of known slope."""
        known = np.isfinite(slopes)
        size = len(self.rows.columns)
        return self.rows.columns, from_slopes(self.rows.kind, size, self.rows.seed, self._numbers[known], slopes[known])

    @property
    def share(self) -> float:
        """The part of the estimate, by length, that is gradient and not chance: sqrt(q / d) of q directions, at most 1."""
        return float(min(1.0, np.sqrt(len(self._numbers) / max(len(self.rows.columns), 1))))

    @cached_property
    def _numbers(self) -> Array:
        return np.unique(self.rows.indices[self.rows.signs != 0])


Plan = CoordinatePlan | DirectionPlan


def plan_coordinates(
    task: Task, base: Array, columns: Array, radius: float | Array, scheme: Scheme, base_known: bool
) -> CoordinatePlan:
    """Steps from a canonical base along ascending columns, within bounds and `where`; the base too where its value is needed.

    Where `where` forbids one side the other one is taken, where it forbids both the column is left out.
    """
    x = base[columns]
    low, high = limits(task.space, columns)
    dense = fits(len(columns) + 1, base)
    sides: Scheme = "central" if task.where and dense else scheme
    up, down = coordinate_steps(x, radius, sides, low, high)
    rise, fall = up != 0.0, down != 0.0
    at = np.concatenate([[-1], columns[rise], columns[fall]])
    to = np.concatenate([[0.0], up[rise], down[fall]])
    rows = CoordinateRows.stepped(base, at, to, task.space)
    keep = rows.values != base[at]  # a step below the grid of the column is none
    if task.where and dense:
        keep &= task.known(rows[:])
        if scheme == "forward":
            upward = to > 0.0
            keep &= upward | ~np.isin(at, at[keep & upward])
    found = int(np.count_nonzero(keep[1:]))
    keep[0] = found and not base_known and (scheme == "forward" or found < 2 * len(columns))
    return CoordinatePlan(rows if keep.all() else CoordinateRows.stepped(base, at[keep], to[keep], task.space))


def plan_directions(
    task: Task, rows: DirectionRows, scheme: Scheme, count: int, base_known: bool, paired: bool = True
) -> DirectionPlan:
    """Steps along the directions 0 to count - 1 of empty rows; the base too where its value is needed.

    Where `where` forbids one side the other one is taken, where it forbids both the direction is left out. Without
    `paired` single sides need no base.
    """
    signs = np.repeat([1, -1], count)
    indices = np.concatenate([np.arange(count), np.arange(count)])
    keep = np.ones(2 * count, bool)
    if task.where:
        both = DirectionRows(rows.base, rows.columns, rows.radius, rows.kind, rows.seed, signs, indices, task.space)
        keep = task.known(both[:])
    if scheme == "forward":
        keep[count:] &= ~keep[:count]
    signs, indices = signs[keep], indices[keep]
    single = scheme == "forward" or len(signs) < 2 * count
    if paired and single and not base_known and len(signs):
        signs, indices = np.append(0, signs), np.append(0, indices)
    return DirectionPlan(
        DirectionRows(rows.base, rows.columns, rows.radius, rows.kind, rows.seed, signs, indices, task.space)
    )


def as_query(plan: Plan, memo: Mapping[str, Any]) -> Query:
    """The query of a plan: dense rows, with the plan in the memo, or lazy rows, which are the plan."""
    if fits(len(plan.rows), plan.rows.base):
        return Query(plan.rows[:], memo={**memo, "plan": rows_to_plain(plan.rows)})
    return Query(plan.rows, memo=memo)


def plan_of(query: Query, space: Space) -> Plan | None:
    """The plan behind a query; None where there is none."""
    rows = query.X
    if isinstance(rows, np.ndarray):
        if "plan" not in query.memo:
            return None
        rows = rows_from_plain(query.memo["plan"], space)
    return CoordinatePlan(rows) if isinstance(rows, CoordinateRows) else DirectionPlan(rows)  # type: ignore[arg-type]


def fits(rows: int, base: Array) -> bool:
    """Whether so many rows are asked as an array."""
    return rows * len(base) <= DENSE


def where_evaluated(plan: Plan, query: Query) -> Array:
    """(k,) for each planned row the row of the query in which it was asked, -1 where it was not."""
    if query.lazy:
        return np.arange(len(plan.rows))
    asked = {row.tobytes(): i for i, row in enumerate(np.asarray(query.X))}
    return np.array([asked.get(row.tobytes(), -1) for row in plan.rows[:]], int)


def told_values(plan: Plan, query: Query, answer: Values) -> Array:
    """(k, 1 + c) the first objective and the constraints of the planned rows; NaN where a row has none."""
    told = np.full((query.size, 1 + answer.G.shape[1]), np.nan)
    ok = answer.ok
    told[answer.rows[ok], 0] = answer.Y[ok, 0]
    told[answer.rows[ok], 1:] = answer.G[ok]
    if query.lazy:
        return told
    at = where_evaluated(plan, query)
    return np.where((at >= 0)[:, None], told[at], np.nan)
