"""What a strategy's model believes of a point, in the user's units and sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Prediction:
    """Belief of the metrics of one point, noise taken away: `mean` and `sd` (standard deviation) by the metric's name.

    Where the model sees a metric through a warp (a logarithm, say), `mean` is the median and `sd` half the distance between the
    16 % and the 84 % quantile, which for a normal distribution are the same.
    """

    mean: Mapping[str, float]
    sd: Mapping[str, float]


def predictions(task: Task, mean: Array, sd: Array) -> list[Prediction]:
    """The beliefs of q points from (q, m + c) means and standard deviations inside (minimised, constraints at or below 0).

    >>> import bbopt
    >>> task = Task(bbopt.Space(x=bbopt.Float(0, 1)), [bbopt.Objective("f", maximize=True)], [bbopt.Constraint("g", lower=2.0)])
    >>> predictions(task, np.array([[-1.0, -0.5]]), np.array([[0.1, 0.2]]))
    [Prediction(mean={'f': 1.0, 'g': 2.5}, sd={'f': 0.1, 'g': 0.2})]
    """
    found = []
    for means, deviations in zip(mean, sd, strict=True):
        values = task.metrics_of(means[: task.m], means[task.m :])
        found.append(Prediction(values, dict(zip(task.metrics, _by_metric(task, deviations), strict=True))))
    return found


def _by_metric(task: Task, deviations: Array) -> Sequence[float]:
    """Standard deviations of the metrics: a constraint with two limits has two columns, the first one speaks for both."""
    widths = np.array([len(constraint.limits) for constraint in task.constraints], int)
    firsts = task.m + np.cumsum(widths) - widths
    return [float(value) for value in (*deviations[: task.m], *deviations[firsts])]
