"""Rows of a query that are built when they are read, for queries whose dense rows would not fit.

`CoordinateRows` differ from one base point in at most one column each, `DirectionRows` along a random direction each. Both
cost a few numbers per row or per column, are saved as a recipe, and behave like a read-only array (k, D) under indexing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bbopt.directions import Kind, check_kind, direction
from bbopt.errors import UsageError
from bbopt.parameters import Fixed
from bbopt.space import Space

Array = np.ndarray[Any, np.dtype[Any]]

RUNS = 16  # up to so many runs are saved as runs


def freeze(array: Array) -> Array:
    """The array, or a copy of it if it can be written to elsewhere, made read-only."""
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class CoordinateRows:
    """Rows that differ from one base point in at most one column, built when they are read.

    Row j is `base` with column `columns[j]` replaced by `values[j]`, or `base` itself where `columns[j]` is -1. A
    coordinate-wise gradient over D columns costs some 3 D numbers instead of D squared. Rows made by `stepped` remember
    their steps, and where those are few different numbers, they are saved as little more than the base.

    >>> rows = CoordinateRows(np.zeros(3), np.array([-1, 0, 2]), np.array([0.0, 0.5, 0.5]))
    >>> rows[1:3].tolist()
    [[0.5, 0.0, 0.0], [0.0, 0.0, 0.5]]
    """

    base: Array
    columns: Array
    values: Array
    steps: Array | None = None

    def __post_init__(self) -> None:
        base, columns = np.asarray(self.base, float), np.asarray(self.columns, np.int64)
        values = np.asarray(self.values, float)
        if base.ndim != 1 or columns.ndim != 1 or values.shape != columns.shape:
            raise UsageError(f"CoordinateRows: expected base (D,), columns (k,), values (k,); got {base.shape}, {columns.shape}, {values.shape}")  # fmt: skip
        if len(columns) and (columns.min() < -1 or columns.max() >= len(base)):
            raise UsageError(f"CoordinateRows: expected columns from -1 to {len(base) - 1}, got {columns.min()} to {columns.max()}")  # fmt: skip
        for name, array in (("base", base), ("columns", columns), ("values", values)):
            object.__setattr__(self, name, freeze(array))
        if self.steps is not None:
            object.__setattr__(self, "steps", freeze(np.asarray(self.steps, float)))

    @staticmethod
    def stepped(base: Array, columns: Array, steps: Array, space: Space | None = None) -> CoordinateRows:
        """Rows base + steps[j] e_columns[j]; with a space, whose canonical base this must be, their canonical form.

        >>> CoordinateRows.stepped(np.ones(2), np.array([-1, 1]), np.array([0.0, 0.5]))[:].tolist()
        [[1.0, 1.0], [1.0, 1.5]]
        """
        values = base[columns] + steps  # of column -1 too, where nobody looks
        if space is not None:
            values = canonical_entries(space, columns, values)
        return CoordinateRows(base, columns, values, steps)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.columns), len(self.base)

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, index: Any) -> Array:
        """One row (D,), or several (n, D), by a number, a slice or an array of numbers."""
        column, value = self.columns[index], self.values[index]
        if np.ndim(column) == 0:
            row = np.array(self.base)
            if column >= 0:
                row[column] = value
            return row
        rows = np.tile(self.base, (len(column), 1))
        changed = np.flatnonzero(column >= 0)
        rows[changed, column[changed]] = value[changed]
        return rows

    def canonical(self, space: Space) -> CoordinateRows:
        """The same rows with every entry canonical. Only for spaces without conditional parameters."""
        base = space.canonical(self.base)[0]
        if self.steps is not None:
            return CoordinateRows.stepped(base, self.columns, self.steps, space)
        return replace(self, base=base, values=canonical_entries(space, self.columns, self.values))

    def to_plain(self) -> dict[str, Any]:
        plain = {"rows": "coordinate", "base": self.base, "columns": _whole_to_plain(self.columns)}
        if self.steps is None:
            return {**plain, "values": self.values}
        return {**plain, "steps": _steps_to_plain(self.steps)}

    @staticmethod
    def from_plain(plain: Mapping[str, Any], space: Space | None) -> CoordinateRows:
        columns = _whole_from_plain(plain["columns"])
        if "values" in plain:
            return CoordinateRows(plain["base"], columns, plain["values"])
        return CoordinateRows.stepped(plain["base"], columns, _steps_from_plain(plain["steps"]), space)


@dataclass(frozen=True, eq=False)
class DirectionRows:
    """Rows along random directions from one base point, built when they are read.

    Row j is `base` plus `radius * signs[j] * u` on `columns`, where u is the direction number `indices[j]` of this kind and
    seed (see `bbopt.directions`); a sign of 0 gives `base` itself. Within a space, which `canonical` binds the rows to, what
    would leave the bounds is moved to them, and rows are canonical. A query over D columns costs D numbers.

    >>> rows = DirectionRows(np.zeros(4), np.arange(2), 0.5, "rademacher", 0, np.array([0, 1, -1]), np.array([0, 0, 0]))
    >>> rows.shape, rows[0].tolist(), np.abs(rows[1]).tolist(), (rows[1] + rows[2]).tolist()
    ((3, 4), [0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0])
    """

    base: Array
    columns: Array
    radius: float
    kind: Kind
    seed: int
    signs: Array
    indices: Array
    space: Space | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_kind(self.kind, "DirectionRows")
        base, columns = np.asarray(self.base, float), np.asarray(self.columns, np.int64)
        signs, indices = np.asarray(self.signs, np.int64), np.asarray(self.indices, np.int64)
        if base.ndim != 1 or columns.ndim != 1 or signs.ndim != 1 or signs.shape != indices.shape:
            raise UsageError(f"DirectionRows: expected base (D,), columns (n,), signs (k,), indices (k,); got {base.shape}, {columns.shape}, {signs.shape}, {indices.shape}")  # fmt: skip
        if len(columns) and (columns.min() < 0 or columns.max() >= len(base)):
            raise UsageError(f"DirectionRows: expected columns from 0 to {len(base) - 1}, got {columns.min()} to {columns.max()}")  # fmt: skip
        if len(signs) and (np.abs(signs).max() > 1 or indices.min() < 0):
            raise UsageError("DirectionRows: expected signs of -1, 0 or 1 and indices of at least 0")
        for name, array in (("base", base), ("columns", columns), ("signs", signs), ("indices", indices)):
            object.__setattr__(self, name, freeze(array))

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.signs), len(self.base)

    def __len__(self) -> int:
        return len(self.signs)

    def direction(self, index: int) -> Array:
        """(n,) the direction of this number, on `columns`."""
        return direction(self.kind, len(self.columns), self.seed, index)

    def __getitem__(self, index: Any) -> Array:
        """One row (D,), or several (n, D), by a number, a slice or an array of numbers."""
        sign, number = self.signs[index], self.indices[index]
        rows = np.tile(self.base, (np.size(sign), 1))
        whole = len(self.columns) == len(self.base)
        for row, s, j in zip(rows, np.ravel(sign), np.ravel(number), strict=True):
            if s:
                row[slice(None) if whole else self.columns] += (self.radius * s) * self.direction(int(j))
        if self.space is not None:
            rows = self.space.canonical(rows)
        return rows[0] if np.ndim(sign) == 0 else rows

    def canonical(self, space: Space) -> DirectionRows:
        """The same rows with every entry canonical. Only for spaces without conditional parameters."""
        return replace(self, base=space.canonical(self.base)[0], space=space)

    def to_plain(self) -> dict[str, Any]:
        return {"rows": "direction", "base": self.base, "columns": _whole_to_plain(self.columns),
                "radius": self.radius, "kind": self.kind, "seed": self.seed,
                "signs": self.signs, "indices": self.indices}  # fmt: skip

    @staticmethod
    def from_plain(plain: Mapping[str, Any], space: Space | None) -> DirectionRows:
        return DirectionRows(plain["base"], _whole_from_plain(plain["columns"]), plain["radius"], plain["kind"],
                             plain["seed"], plain["signs"], plain["indices"], space)  # fmt: skip


Rows = Array | CoordinateRows | DirectionRows


def rows_to_plain(rows: Rows) -> dict[str, Any]:
    """Plain data (arrays and text) from which `rows_from_plain` builds the same rows."""
    return {"rows": "dense", "X": rows} if isinstance(rows, np.ndarray) else rows.to_plain()


def rows_from_plain(plain: Mapping[str, Any], space: Space | None = None) -> Rows:
    """The rows that `rows_to_plain` described; lazy ones that were canonical need their space to be so again."""
    match plain["rows"]:
        case "dense":
            return freeze(np.asarray(plain["X"], float))
        case "direction":
            return DirectionRows.from_plain(plain, space)
        case _:
            return CoordinateRows.from_plain(plain, space)


def canonical_entries(space: Space, columns: Array, values: Array) -> Array:
    """(k,) canonical values of single columns, for a space without conditional parameters; column -1 stays as it is."""
    result = np.array(values)
    order = np.argsort(columns, kind="stable")
    ordered = columns[order]
    for name, parameter in space.parameters.items():
        part = space.slice(name)
        first, last = np.searchsorted(ordered, (part.start, part.stop))
        if last > first and not isinstance(parameter, Fixed):
            mine = order[first:last]
            result[mine] = parameter.canonical(result[mine])
    return result


def _whole_to_plain(numbers: Array) -> Any:
    """Whole numbers as runs [first, count] where they are few of those, else as they are."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    if len(breaks) >= RUNS or not len(numbers):
        return numbers.astype(np.int32) if len(numbers) and numbers.max() < 2**31 else numbers
    starts = np.append(0, breaks)
    counts = np.diff(np.append(starts, len(numbers)))
    return {"runs": [[int(numbers[start]), int(count)] for start, count in zip(starts, counts, strict=True)]}


def _whole_from_plain(plain: Any) -> Array:
    if isinstance(plain, Mapping):
        return np.concatenate([np.arange(first, first + count) for first, count in plain["runs"]])
    return np.asarray(plain, np.int64)


def _steps_to_plain(steps: Array) -> Any:
    """Numbers as runs (value, count) where they are few of those, else as they are."""
    breaks = np.flatnonzero(steps[1:] != steps[:-1]) + 1
    if len(breaks) >= RUNS or not len(steps):
        return steps
    starts = np.append(0, breaks)
    return {"values": steps[starts], "counts": np.diff(np.append(starts, len(steps)))}


def _steps_from_plain(plain: Any) -> Array:
    return np.repeat(plain["values"], plain["counts"]) if isinstance(plain, Mapping) else np.asarray(plain, float)
