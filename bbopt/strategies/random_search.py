"""Random search: every row is drawn anew, whatever was answered. The yardstick of all other strategies.

J. Bergstra, Y. Bengio, Random search for hyper-parameter optimization, Journal of Machine Learning Research 13 (2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from bbopt.query import Answer, Key, Query, Request
from bbopt.strategy import ABILITIES
from bbopt.task import Task


@dataclass(frozen=True)
class RandomState:
    """Nothing is learnt."""


@dataclass(frozen=True)
class RandomSearch:
    """Rows drawn uniformly from the points that satisfy `where`: every level of a column is equally likely, unbounded
    columns follow a logistic distribution of one scale. It asks whatever a task may contain, and learns from none of it.

    >>> from bbopt import Float, Optimizer, Space, Task
    >>> opt = Optimizer(Task(Space(x=Float(0, 1))), strategy=RandomSearch(), seed=1)
    >>> 0 <= opt.ask().params["x"] <= 1
    True
    """

    handles: ClassVar[frozenset[str]] = frozenset(ABILITIES)
    learns: ClassVar[Literal["rows", "queries"]] = "rows"
    instant: ClassVar[bool] = True

    def init(self, task: Task, key: Key) -> RandomState:
        return RandomState()

    def ask(self, task: Task, state: RandomState, request: Request, key: Key) -> Query:
        return Query(task.feasible.sample(request.n, key.rng("rows"), request.held))

    def tell(self, task: Task, state: RandomState, query: Query, answer: Answer) -> RandomState:
        return state
