"""How another toolkit sees a task: scalar parameters in the user's units, or encoded columns; one value to minimise and
constraints that are feasible at or below zero.

The encoded columns are those of `Task.space`: numbers in [0, 1] (the logarithm already taken where the axis is
logarithmic), the index of a choice otherwise. An entry of a vector parameter is a parameter of its own to the peers.
Conditions that bbopt knows before it evaluates (`where`) are a constraint more to those who have no such notion.
Conditional parameters are always there for the peers; what is inactive does not reach the problem.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bbopt.errors import UsageError
from bbopt.space import Categorical, Fixed
from bbopt.task import Task

__all__ = ["Column", "Result", "View"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Column:
    """One scalar parameter. kind: "float", "int", "ordered" or "category"; low, high, step: in the user's units, for a
    choice its first and last index; levels: number of different values, 0 where continuous; choices: of a Categorical."""

    key: str
    kind: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    levels: int = 0
    choices: tuple[Any, ...] = ()

    @property
    def chosen(self) -> bool:
        """Whether it is one of `choices`."""
        return self.kind in ("ordered", "category")

    @property
    def top(self) -> float:
        """The encoded value of `high`: encoded values are in [0, top]."""
        return self.levels - 1.0 if self.chosen else 1.0

    @property
    def grid(self) -> Array:
        """(levels,) encoded values of a column that has levels."""
        return np.linspace(0.0, self.top, self.levels)


@dataclass(frozen=True, eq=False)
class Result:
    """What an evaluation gave: y to be minimised, G (c,) feasible at or below zero, and the metrics as the user has them."""

    y: float
    G: Array
    metrics: Mapping[str, float]

    @property
    def feasible(self) -> bool:
        """Whether every constraint holds."""
        return bool((self.G <= 0).all())


@dataclass(frozen=True)
class View:
    """A task as peers see it. Raises `UsageError` for a task that a comparison cannot have.

    >>> import bbopt
    >>> view = View(bbopt.problems.get("pressure_vessel_mixed").task)
    >>> [column.levels for column in view.columns], view.constraints
    ([99, 99, 0, 0], 4)
    """

    task: Task

    def __post_init__(self) -> None:
        task = self.task
        if task.m != 1 or task.feedback != "values":
            raise UsageError("compare: expected a task with one objective and values as answers")
        missing = sorted(task.needs() & {"context", "fidelity", "source", "environment", "unbounded"})
        if missing:
            raise UsageError(f"compare: peers have no notion of what the task needs: {', '.join(missing)}")

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """All scalar parameters, in the order of the encoded columns."""
        found = []
        for name, parameter in self.task.space.parameters.items():
            if isinstance(parameter, Fixed):
                continue
            if isinstance(parameter, Categorical):
                last = parameter.levels - 1.0
                choices = tuple(parameter.choices)
                found.append(Column(name, parameter.kind, 0.0, last, False, 1.0, parameter.levels, choices))
                continue
            axis = parameter.axis
            assert axis.low is not None and axis.high is not None
            for i in range(parameter.size):
                key = f"{name}[{i}]" if parameter.shape else name
                found.append(Column(key, parameter.kind, axis.low, axis.high, axis.log, axis.step, parameter.levels))
        return tuple(found)

    @property
    def constraints(self) -> int:
        """Number of constraints c: columns of the task, and one for conditions that are known in advance."""
        return self.task.c + bool(self.task.where)

    @property
    def bounds(self) -> Array:
        """(2, D) of encoded columns."""
        return np.array([[0.0] * len(self.columns), [column.top for column in self.columns]])

    @property
    def continuous(self) -> bool:
        """Whether no column has levels."""
        return not any(column.levels for column in self.columns)

    def of_encoded(self, x: Any) -> dict[str, Any]:
        """The point of an encoded row, the nearest one of the space."""
        row = np.clip(np.asarray(x, float), *self.bounds)
        return self.task.space.decode(self.task.space.canonical(row[None])[0])

    def to_encoded(self, params: Mapping[str, Any]) -> Array:
        """(D,) the encoded row of a point."""
        return self.task.space.encode(params)

    def of_user(self, values: Sequence[Any]) -> dict[str, Any]:
        """The point of one value per column: a number in the user's units, or a choice."""
        row = np.zeros(len(self.columns))
        for name, parameter in self.task.space.parameters.items():
            part = self.task.space.slice(name)
            if isinstance(parameter, Categorical):
                row[part] = parameter.encode(values[part.start], name)
            elif not isinstance(parameter, Fixed):
                axis = parameter.axis
                row[part] = axis.encode(np.clip(np.asarray(values[part], float), axis.low, axis.high))
        return self.task.space.decode(self.task.space.canonical(row[None])[0])

    def to_user(self, params: Mapping[str, Any]) -> list[Any]:
        """One value per column of a point: a number in the user's units, of a choice its place in the list."""
        row = self.to_encoded(params)
        values: list[Any] = []
        for name, parameter in self.task.space.parameters.items():
            part = row[self.task.space.slice(name)]
            if isinstance(parameter, Categorical):
                values.append(int(part[0]))
            elif not isinstance(parameter, Fixed):
                whole = parameter.kind == "int"
                values += [round(v) if whole else v for v in parameter.axis.decode(part).tolist()]
        return values

    def result(self, params: Mapping[str, Any], metrics: Mapping[str, float]) -> Result:
        """What peers are told of an evaluation."""
        y, g = self.task.to_inside(metrics)
        if self.task.where:
            g = np.append(g, self.task.violation(self.to_encoded(params)[None]))
        return Result(float(y[0]), g, dict(metrics))
