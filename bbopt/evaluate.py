"""Evaluators turn the rows of a study into outcomes.

An evaluator pulls: it asks for rows when it has room for them, and yields outcomes as they come, in any order. It sees
batches of encoded rows and the user's function; what is asked, told and stored is none of its business. `InProcess` calls
the function here and now, `Processes` and `RayEvaluator` have workers that do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from bbopt.device_batch import Batching, batching_of
from bbopt.errors import UsageError
from bbopt.evaluate_work import Work
from bbopt.outcome import Batch, Impossible, Outcome
from bbopt.task import Task

__all__ = [
    "Evaluator",
    "Function",
    "Impossible",
    "InProcess",
    "Stopped",
    "Supply",
    "check_count",
    "check_seconds",
    "task_rows",
]

Function = Callable[..., Any]
"""The user's function: takes a dict of parameter values, or many rows as a tensor if it is marked by `bbopt.batched`."""


class Supply(Protocol):
    """Where an evaluator gets its rows: at most `rows` that are there to be handed out; where there are fewer than `fresh`,
    the strategy is asked for the rest of these. Nothing means that there is nothing now: perhaps after the next outcome."""

    def __call__(self, rows: int, fresh: int, /) -> list[Batch]: ...


class Stopped(BaseException):
    """Thrown into an evaluator that is to end at once: it yields what has arrived, ends its workers, and raises it again."""


@runtime_checkable
class Evaluator(Protocol):
    """`run` yields an outcome for every row that it is supplied with, exactly one, until `supply` gives nothing and nothing
    is at work. A generator: closing it ends its workers, throwing KeyboardInterrupt or Stopped into it gets what has
    arrived first."""

    def run(self, function: Function, task: Task, supply: Supply) -> Iterator[Outcome]: ...


@dataclass(frozen=True)
class InProcess:
    """One call after the other, in this process.

    batch: most rows of a call of a function marked by `bbopt.batched`, and how many new points a strategy is asked for at
    once; by default as many rows as fit into the bytes of the mark, and one new point.

    >>> import numpy as np
    >>> from bbopt.query import Query
    >>> from bbopt.space import Float, Space
    >>> batches = [Batch(Query(np.array([[0.25], [0.5]])), np.arange(2))]
    >>> supply = lambda rows, fresh: [batches.pop()] if batches else []
    >>> task = Task(Space(x=Float(0, 2)))
    >>> [outcome.results for outcome in InProcess().run(lambda params: params["x"] ** 2, task, supply)]
    [[0.25], [1.0]]
    """

    batch: int | None = None

    def __post_init__(self) -> None:
        check_count("InProcess", "batch", self.batch)

    def run(self, function: Function, task: Task, supply: Supply) -> Iterator[Outcome]:
        batching = batching_of(function)
        work = Work(function, batching, task)
        rows, fresh = task_rows(self.batch, batching, task)
        while batches := supply(rows, fresh):
            for batch in batches:
                start = 0
                for part in work.parts(batch.query.X, batch.rows):
                    yield Outcome(batch.take(slice(start, start + len(part))), part.results, part.failures)
                    start += len(part)


def task_rows(batch: int | None, batching: Batching | None, task: Task) -> tuple[int, int]:
    """Rows of a task at most, and how many new ones a strategy of free batch size is asked for: a wide query travels in large
    pieces, but nobody should have to propose so many points before an answer comes.

    >>> from bbopt.space import Float, Space
    >>> task = Task(Space(w=Float(scale=1.0, shape=(1000,))))
    >>> task_rows(None, None, task), task_rows(None, Batching(bytes=2**20), task), task_rows(8, Batching(), task)
    ((1, 1), (131, 1), (8, 8))
    """
    if batching is None:
        return batch or 1, batch or 1
    most = batching.rows(task.space.dimension)
    return (most, 1) if batch is None else (min(batch, most), min(batch, most))


def check_count(who: str, what: str, value: int | None) -> None:
    """Raises UsageError unless it is None or a whole number of at least 1."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise UsageError(f"{who}: {what}: expected a whole number of at least 1, or None; got {value!r}")


def check_seconds(who: str, seconds: float | None) -> None:
    """Raises UsageError unless it is None or a number above 0."""
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise UsageError(f"{who}: seconds: expected a time limit above 0, or None for none; got {seconds!r}")
