"""From what a user's function returned to the metrics that a study is told."""

from __future__ import annotations

from typing import Any

import numpy as np

from bbopt.errors import ValueRefused
from bbopt.outcome import Outcome
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]

SHOWN = 200  # characters of a point in a message


def read_results(task: Task, outcome: Outcome) -> tuple[Array, Array, ValueRefused | None]:
    """Metrics (n, metrics) of an outcome's rows, NaN for those without; (n,) which rows were refused, and why the first was.

    >>> from bbopt.outcome import Batch
    >>> from bbopt.query import Query
    >>> from bbopt.space import Float, Space
    >>> batch = Batch(Query(np.array([[0.5], [1.0]]), first=7), np.arange(2))
    >>> metrics, refused, error = read_results(Task(Space(x=Float(0, 1))), Outcome(batch, [3.0, None]))
    >>> metrics.tolist(), refused.tolist(), str(error)
    ([[3.0], [nan]], [False, True], 'trial 8 at x = 1.0: expected a number or a mapping with objective; got None')
    """
    n, numbers = len(outcome.batch), outcome.batch.numbers
    if len(outcome.results) != n:
        got = f"trials {numbers[0]} to {numbers[-1]}: expected {n} results, got {len(outcome.results)}"
        return np.full((n, len(task.metrics)), np.nan), np.ones(n, bool), ValueRefused(got)
    metrics, refused = np.full((n, len(task.metrics)), np.nan), np.zeros(n, bool)
    if isinstance(outcome.results, np.ndarray) and outcome.results.shape == metrics.shape:
        metrics[:] = outcome.results
        metrics[list(outcome.failures)] = np.nan
        suspects = np.flatnonzero(~np.isfinite(metrics).all(axis=1)).tolist()
    else:
        suspects = list(range(n))
    first: ValueRefused | None = None
    for position in suspects:
        if position in outcome.failures:
            continue
        try:
            metrics[position] = list(task.read_metrics(outcome.results[position], "").values())
        except ValueRefused as error:
            metrics[position], refused[position] = np.nan, True
            first = first or ValueRefused(f"{_where(task, outcome, position)}{error}")
    return metrics, refused, first


def _where(task: Task, outcome: Outcome, position: int) -> str:
    params = task.space.decode(np.asarray(outcome.batch.query.X[int(outcome.batch.rows[position])]))
    text = ", ".join(f"{name} = {value!r}" for name, value in params.items())
    point = text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
    return f"trial {int(outcome.batch.numbers[position])} at {point}"
