"""The conditions of `where` as numbers: how far rows are from each of them, and what solves an equality.

A condition is cut at its `and`s and chained comparisons into parts, so that a search sees each of them. A part that is an
equality between numbers has a signed residual, by which one column per equality can be completed from the others:
columns with levels by trying them, continuous ones by Newton's method with differences (a linear equality takes one
step), or by bisection where that fails.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.expression import Expression
from bbopt.parameters import Categorical, Fixed
from bbopt.space import Space
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]

SPECK = 1e-12  # what `Expression.violation` adds to a distance, so that a failed comparison never counts 0
FAR = 1e200  # stands for infinite and undefined residuals
STEP = 1e-4  # of differences, in encoded units
TRIED_LEVELS = 64
CANDIDATES = 64  # columns of one equality that are looked at as the one to complete


@dataclass(frozen=True)
class Part:
    """One comparison (or `or`, or `not`) of a condition; names: of the whole condition; equal: it is an equality;
    below, above: left <= right and left >= right of an equality between numbers."""

    rule: Expression
    names: frozenset[str]
    text: str
    equal: bool = False
    below: Expression | None = None
    above: Expression | None = None


def level_values(space: Space, column: int, index: Array) -> Array:
    """Encoded values of the levels with these numbers (0 to levels - 1) of a column that has levels."""
    parameter = list(space.parameters.values())[space.columns.group[column]]
    if isinstance(parameter, Categorical):
        return np.asarray(index, float)
    assert not isinstance(parameter, Fixed)
    axis, low = parameter.axis, parameter.axis.low
    assert low is not None
    return axis.encode(axis.level(low + np.asarray(index, float) * (axis.step or 1.0)))


def _split(tree: ast.expr) -> list[ast.expr]:
    match tree:
        case ast.BoolOp(op=ast.And(), values=values):
            return [part for value in values for part in _split(value)]
        case ast.Compare(left=left, ops=ops, comparators=comparators) if len(ops) > 1:
            sides = [left, *comparators]
            return [ast.Compare(sides[i], [op], [comparators[i]]) for i, op in enumerate(ops)]
        case _:
            return [tree]


def _numeric(tree: ast.expr, space: Space) -> bool:
    """Whether only numbers meet in this expression."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and (isinstance(node.value, bool) or not isinstance(node.value, int | float)):
            return False
        if isinstance(node, ast.Name) and node.id in space.parameters:
            parameter = space.parameters[node.id]
            found = parameter.choices if isinstance(parameter, Categorical) else ()
            found = (parameter.value,) if isinstance(parameter, Fixed) else found
            if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in found):
                return False
    return True


class Conditions:
    """The parts of a task's `where`, evaluated on rows of columns."""

    def __init__(self, task: Task) -> None:
        self.space = task.space
        self.parts: list[Part] = []
        for text in task.where:
            whole = Expression.parse(text, self.space.parameters)
            for tree in _split(whole.tree):
                rule = Expression(ast.unparse(tree), tree, whole.names)
                match tree:
                    case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]) if _numeric(tree, self.space):
                        below, above = ast.Compare(left, [ast.LtE()], [right]), ast.Compare(left, [ast.GtE()], [right])
                        sides = [Expression(ast.unparse(side), side, whole.names) for side in (below, above)]
                        self.parts.append(Part(rule, whole.names, text, True, *sides))
                    case _:
                        equal = isinstance(tree, ast.Compare) and isinstance(tree.ops[0], ast.Eq)
                        self.parts.append(Part(rule, whole.names, text, equal))
        self.equalities = [part for part in self.parts if part.equal]

    def violations(self, X: Array) -> Array:
        """(n, parts) distance of each row from each part: 0 where it holds, infinite where it cannot be evaluated."""
        return self._measure(X, self.parts, lambda part, values, n: part.rule.violation(values, n))

    def residuals(self, X: Array, parts: Sequence[Part]) -> Array:
        """(n, len(parts)) left minus right of equalities (1 for different things that are no numbers); 0 where they do
        not apply."""

        def residual(part: Part, values: Mapping[str, Array], n: int) -> Array:
            if part.below is None or part.above is None:
                return part.rule.violation(values, n)
            with np.errstate(invalid="ignore"):
                amount = part.below.violation(values, n) - part.above.violation(values, n)
            signed = np.nan_to_num(np.sign(amount) * np.maximum(np.abs(amount) - SPECK, 0.0), nan=FAR)
            return np.asarray(np.clip(signed, -FAR, FAR))

        return self._measure(X, parts, residual)

    def _measure(self, X: Array, parts: Sequence[Part], measure: Any) -> Array:
        values, inactive = self.space.values(X), self.space.inactive_names(X)
        result = np.empty((len(X), len(parts)))
        for i, part in enumerate(parts):
            result[:, i] = measure(part, values, len(X))
            for name in part.names & inactive.keys():
                result[inactive[name], i] = 0.0
        return result


class Completion:
    """One column per equality, filled in so that the equality holds; the other columns stay free.

    `columns` are the completed ones. Which they are is a function of the task and of the held columns alone.
    """

    def __init__(self, conditions: Conditions, held: Mapping[int, float]) -> None:
        self.conditions = conditions
        self.space = conditions.space
        self.levelled: list[tuple[Part, int]] = []
        self.smooth: list[tuple[Part, int]] = []
        if conditions.equalities:
            self._plan(held)
        self.linear = len(self.smooth) == 1 and self._is_linear(*self.smooth[0])
        self.columns = [column for _, column in (*self.levelled, *self.smooth)]

    def __bool__(self) -> bool:
        return bool(self.columns)

    def __call__(self, X: Array) -> Array:
        """(n, D) canonical rows in which the equalities hold, where a solution was found from the row's own values."""
        rows = np.array(X)
        for _ in self.levelled[:3]:  # an equality may come before the one that it builds on
            for part, column in self.levelled:
                self._complete_level(rows, part, column)
            if (
                len(self.levelled) == 1
                or not self.conditions.residuals(rows, [part for part, _ in self.levelled]).any()
            ):
                break
        if self.smooth:
            self._newton(rows)
            if len(self.smooth) == 1 and not self.linear:
                self._bisect(rows)
        return self.space.canonical(rows)

    def _plan(self, held: Mapping[int, float]) -> None:
        rng = np.random.default_rng(20160404)  # the choice belongs to the task, not to a study
        equalities, levels = self.conditions.equalities, self.space.columns.levels
        candidates: set[int] = set()
        for part in equalities:
            mine = [
                c for name in sorted(part.names) for c in range(*self.space.slice(name).indices(self.space.dimension))
            ]
            mine = [c for c in mine if c not in held and levels[c] != 1]
            chosen = rng.permutation(len(mine))[:CANDIDATES]
            candidates.update(mine[i] for i in chosen)
        columns = sorted(candidates)
        rows = self.space.from_uniform(rng.random((8, self.space.dimension)))
        rows[:, list(held)] = list(held.values())
        base = self.conditions.residuals(rows, equalities)
        slopes = np.zeros((len(equalities), len(columns)))
        for j, column in enumerate(columns):
            moved = rows.copy()
            if levels[column]:
                moved[:, column] = level_values(self.space, column, rng.integers(levels[column], size=len(rows)))
                step = 1.0
            else:
                moved[:, column] += STEP * np.where(rows[:, column] > 0.5, -1.0, 1.0)
                step = STEP
            change = (self.conditions.residuals(moved, equalities) - base) / step
            change = np.where(np.abs(change) < FAR / 10, change, 0.0)
            slopes[:, j] = np.where(np.abs(change[0]) > 0, change[0], np.abs(change).max(axis=0))
        continuous = np.array([not levels[column] for column in columns], bool)
        matrix = np.where(continuous[None, :], slopes, 0.0)
        for i, part in enumerate(equalities):  # Gaussian elimination: the largest pivot of each equality
            if not columns:
                break
            j = int(np.argmax(np.abs(matrix[i])))
            pivot = matrix[i, j]
            if abs(pivot) > 1e-7 * max(np.abs(slopes[i]).max(), 1e-300):
                matrix -= np.outer(np.where(np.arange(len(matrix)) == i, 0.0, matrix[:, j] / pivot), matrix[i])
                matrix[:, j] = np.where(np.arange(len(matrix)) == i, matrix[:, j], 0.0)
                self.smooth.append((part, columns[j]))
                continue
            taken = {column for _, column in self.levelled}
            free = [
                (levels[column], column)
                for k, column in enumerate(columns)
                if levels[column] and slopes[i, k] != 0 and column not in taken
            ]
            if free and not continuous[slopes[i] != 0].any():
                self.levelled.append((part, max(free)[1]))

    def _is_linear(self, part: Part, column: int) -> bool:
        """Whether the residual is a straight line in this column, where one step of Newton's method is enough."""
        rows = self.space.from_uniform(np.random.default_rng(1).random((8, self.space.dimension)))
        at = []
        for value in (0.125, 0.5, 0.875):
            rows[:, column] = value
            at.append(self.conditions.residuals(rows, [part])[:, 0])
        return bool((np.abs(at[0] - 2 * at[1] + at[2]) <= 1e-9 * np.abs(at).max(axis=0)).all())

    def _complete_level(self, rows: Array, part: Part, column: int) -> None:
        """The level nearest to the row's own among those that solve the equality, or by bisection where there are many."""
        count = self.space.columns.levels[column]
        if count <= TRIED_LEVELS:
            values = level_values(self.space, column, np.arange(count))
            tried = np.repeat(rows, count, axis=0)
            tried[:, column] = np.tile(values, len(rows))
            held = self.conditions.residuals(self.space.canonical(tried), [part])[:, 0]
            size = np.abs(held).reshape(len(rows), count)
            near = np.abs(values[None, :] - rows[:, column][:, None])
            best = np.lexsort((near, np.round(size / 1e-9)), axis=1)[:, 0]
            rows[:, column] = values[best]
            return
        low, high = np.zeros(len(rows)), np.full(len(rows), count - 1.0)

        def at(index: Array) -> Array:
            tried = rows.copy()
            tried[:, column] = level_values(self.space, column, index)
            return self.conditions.residuals(tried, [part])[:, 0]

        sign = np.sign(at(low))
        for _ in range(int(np.ceil(np.log2(count))) + 1):
            middle = np.floor((low + high) / 2)
            value = at(middle)
            left = np.sign(value) == sign
            low, high = np.where(left & (value != 0), middle, low), np.where(left & (value != 0), high, middle)
        nearer = np.abs(at(low)) < np.abs(at(high))
        rows[:, column] = level_values(self.space, column, np.where(nearer, low, high))

    def _clip(self, values: Array, columns: list[int]) -> Array:
        bounded = [self.space.columns.bounded[column] for column in columns]
        return np.where(bounded, np.clip(values, 0.0, 1.0), values)

    def _newton(self, rows: Array) -> None:
        """Newton's method on the smooth equalities together, in place; rows where it fails keep their last iterate."""
        parts, columns = [part for part, _ in self.smooth], [column for _, column in self.smooth]
        work = np.arange(len(rows))
        value = self.conditions.residuals(rows, parts)
        for _ in range(15):
            X = rows[work]
            jacobian = np.empty((len(work), len(parts), len(columns)))
            for j, column in enumerate(columns):
                moved = X.copy()
                step = STEP * np.where(X[:, column] > 0.5, -1.0, 1.0)
                moved[:, column] += step
                jacobian[:, :, j] = (self.conditions.residuals(moved, parts) - value) / step[:, None]
            good = (np.abs(jacobian) < FAR).all(axis=(1, 2)) & (np.abs(value) < FAR).all(axis=1)
            jacobian[~good] = 0.0
            value[~good] = 0.0
            before = X[:, columns]
            inverse = _invert(jacobian)
            X[:, columns] = self._clip(before - (inverse @ value[:, :, None])[:, :, 0], columns)
            rows[work] = X
            small = 2e-13 * np.maximum(1.0, np.abs(before).max(axis=1))
            left = good & (np.abs(X[:, columns] - before).max(axis=1) > small)
            if not left.any():
                return
            value = self.conditions.residuals(X[left], parts)
            now = X[left][:, columns]
            ahead = self._clip(now - (inverse[left] @ value[:, :, None])[:, :, 0], columns)  # the next step, about
            moving = np.abs(ahead - now).max(axis=1) > small[left]
            work, value = work[left][moving], value[moving]
            if not len(work):
                return

    def _bisect(self, rows: Array) -> None:
        """A change of sign, and bisection, where Newton's method did not solve the one equality; in place."""
        part, column = self.smooth[0]
        if not self.space.columns.bounded[column]:
            return
        failed = np.flatnonzero(self._measure_one(self.space.canonical(rows), part) > 0)
        if not len(failed):
            return
        grid = np.linspace(0.0, 1.0, 33)
        tried = np.repeat(rows[failed], len(grid), axis=0)
        tried[:, column] = np.tile(grid, len(failed))
        sign = np.sign(self.conditions.residuals(tried, [part])[:, 0]).reshape(len(failed), len(grid))
        change = sign[:, :-1] * sign[:, 1:] <= 0
        distance = np.abs(grid[None, :-1] - rows[failed, column][:, None])
        cell = np.argmin(np.where(change, distance, np.inf), axis=1)
        has = change.any(axis=1)
        failed, cell, sign = failed[has], cell[has], sign[has]
        if not len(failed):
            return
        low, high, first = grid[cell], grid[cell + 1], sign[np.arange(len(failed)), cell]
        work = rows[failed]
        for _ in range(50):
            middle = (low + high) / 2
            work[:, column] = middle
            value = np.sign(self.conditions.residuals(work, [part])[:, 0])
            left = (value == first) & (value != 0)
            low, high = np.where(left, middle, low), np.where(left, high, middle)
        rows[failed, column] = np.where(first == 0, low, high)

    def _measure_one(self, rows: Array, part: Part) -> Array:
        """(n,) violation of one part."""
        measure = self.conditions._measure(rows, [part], lambda one, values, n: one.rule.violation(values, n))
        result: Array = measure[:, 0]
        return result


def _invert(matrices: Array) -> Array:
    """(n, k, k) pseudo-inverses of matrices whose rows may differ much in size."""
    size = np.maximum(np.abs(matrices).max(axis=2, keepdims=True), 1e-300)
    if matrices.shape[1:] == (1, 1):
        return np.where(matrices == 0, 0.0, 1.0 / np.where(matrices == 0, 1.0, matrices))
    inverse: Array = np.linalg.pinv(matrices / size, rcond=1e-10) / np.swapaxes(size, 1, 2)
    return inverse
