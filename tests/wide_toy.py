"""A toy of a strategy whose queries are as wide as a network, and its objective at array level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import bbopt
from bbopt.query import Answer, CoordinateRows, Key, Query, Request, Values

WIDTH = 270_000


@dataclass(frozen=True)
class State:
    x: Any


@dataclass(frozen=True)
class ForwardDifferences:
    """Gradient descent on coordinate-wise forward differences, as a toy."""

    step: float = 2.0**-10
    rate: float = 0.25
    handles: ClassVar[frozenset[str]] = frozenset({"unbounded"})
    learns: ClassVar[str] = "queries"
    instant: ClassVar[bool] = False

    def init(self, task: bbopt.Task, key: Key) -> State:
        return State(np.zeros(task.space.dimension))

    def ask(self, task: bbopt.Task, state: State, request: Request, key: Key) -> Query:
        if request.open:
            raise bbopt.Waiting
        columns = np.arange(-1, task.space.dimension)
        return Query(CoordinateRows(state.x, columns, np.append(0.0, state.x + self.step)))

    def tell(self, task: bbopt.Task, state: State, query: Query, answer: Answer) -> State:
        assert isinstance(answer, Values)
        y = answer.Y[:, 0]
        return State(state.x - self.rate * (y[1:] - y[0]) / self.step)


def quadratic(rows: CoordinateRows, centre: Any) -> Any:
    """|x - c|^2 of every row, by its one changed coordinate."""
    base = float(np.sum((rows.base - centre) ** 2))
    columns = np.maximum(rows.columns, 0)
    change = (rows.values - centre[columns]) ** 2 - (rows.base[columns] - centre[columns]) ** 2
    return base + np.where(rows.columns < 0, 0.0, change)
