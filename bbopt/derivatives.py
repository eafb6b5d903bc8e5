"""Derivatives that come with a result: checked as the user gives them, and turned into the units that models work in.

The user's form is d(metric)/d(parameter) in the units and the sign of the task, by metric and parameter:
{"cost": {"x": 0.2, "y": [1.0, -3.0]}}. Inside it is the derivative of every column that is minimised or limited, in the encoded columns:
    d(column)/du = sign * d(metric)/d(value) * d(value)/du,
where d(value)/du is the width of the range, value * log(high / low) on a log axis, and the scale of an unbounded one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bbopt.errors import ValueRefused
from bbopt.parameters import Float
from bbopt.task import Task, read_number

Array = np.ndarray[Any, np.dtype[Any]]
Gradient = dict[str, dict[str, Any]]


def read_gradient(task: Task, told: Any, what: str = "the result") -> Gradient:
    """The user's derivatives as metric to parameter to number (a list for a vector parameter); {} for None.

    For a single metric the mapping from parameters alone will do. Parameters may be left out. Raises ValueRefused for
    anything else than finite derivatives of known metrics in `Float` parameters.

    >>> from bbopt.space import Float, Space
    >>> task = Task(Space(x=Float(0, 1), y=Float(0, 1, shape=(2,))))
    >>> read_gradient(task, {"y": np.array([1, 2])})
    {'objective': {'y': [1.0, 2.0]}}
    """
    if told is None:
        return {}
    names = ", ".join(task.metrics)
    if not isinstance(told, Mapping):
        raise ValueRefused(f"{what}: expected a mapping from parameters to derivatives, got {told!r}")
    nested = all(isinstance(part, Mapping) for part in told.values())
    if len(task.metrics) == 1 and not (told and nested):
        told = {task.metrics[0]: told}
    elif not nested:
        raise ValueRefused(
            f"{what}: expected a mapping from metrics ({names}) to mappings from parameters to derivatives, got {dict(told)!r}"
        )
    found: Gradient = {}
    for metric, part in told.items():
        if metric not in task.metrics:
            raise ValueRefused(f"{what}: unknown metric {metric!r}; the task has {names}")
        read = {name: _read_one(task, name, value, f"{what}: d({metric})/d({name})") for name, value in part.items()}
        if read:
            found[metric] = read
    return found


def _read_one(task: Task, name: str, value: Any, what: str) -> Any:
    parameter = task.space.parameters.get(name)
    if parameter is None:
        raise ValueRefused(f"{what}: unknown parameter {name!r}; the space has {', '.join(task.space.names)}")
    if not isinstance(parameter, Float):
        raise ValueRefused(f"{what}: derivatives are of Float parameters, {name!r} is {type(parameter).__name__}")
    if not parameter.shape:
        return read_number(value, what)
    array = np.asarray(value)
    if array.shape != parameter.shape or array.dtype.kind not in "iuf":
        raise ValueRefused(f"{what}: expected numbers of shape {parameter.shape}, got {value!r}")
    if not np.isfinite(array).all():
        raise ValueRefused(f"{what}: expected finite numbers, got {value!r}; leave out what is not known")
    return array.astype(float).tolist()


def check_active(task: Task, row: Array, gradient: Gradient, what: str) -> None:
    """Raise ValueRefused for a derivative in a parameter that does not exist at this encoded row (D,)."""
    if not gradient or not task.space.conditional:
        return
    absent = task.space.inactive_names(row[None])
    for metric, part in gradient.items():
        for name in part:
            if name in absent and bool(absent[name][0]):
                raise ValueRefused(
                    f"{what}: d({metric})/d({name}): {name!r} does not exist at this point; leave it out"
                )


def encoded_slopes(task: Task, row: Array, gradient: Gradient) -> Array:
    """(m + c, D) derivatives of the inside columns in the encoded ones at a row (D,), NaN where none was told.

    >>> from bbopt.space import Float, Space
    >>> from bbopt.task import Objective
    >>> task = Task(Space(x=Float(0, 4)), [Objective("gain", maximize=True)])
    >>> encoded_slopes(task, np.array([0.5]), {"gain": {"x": 3.0}})
    array([[-12.]])
    """
    slopes = np.full((task.m + task.c, task.space.dimension), np.nan)
    for i, item in enumerate(task.objectives):
        if item.name in gradient:
            slopes[i] = (-1.0 if item.maximize else 1.0) * _in_columns(task, row, gradient[item.name])
    at = task.m
    for constraint in task.constraints:
        for side, _ in constraint.limits:
            if constraint.name in gradient:
                slopes[at] = side * _in_columns(task, row, gradient[constraint.name])
            at += 1
    return slopes


def _in_columns(task: Task, row: Array, part: Mapping[str, Any]) -> Array:
    """(D,) derivatives of a metric in the encoded columns, NaN where none was told."""
    found = np.full(task.space.dimension, np.nan)
    for name, value in part.items():
        parameter, columns = task.space.parameters[name], task.space.slice(name)
        assert isinstance(parameter, Float)
        axis = parameter.axis
        if axis.low is None or axis.high is None:
            width: Any = axis.scale
        elif axis.log:
            width = axis.decode(row[columns]) * math.log(axis.high / axis.low)
        else:
            width = axis.high - axis.low
        if axis.low is None or axis.high is None or axis.high > axis.low:  # one value leaves nothing to move along
            with np.errstate(over="ignore"):
                found[columns] = np.clip(np.ravel(value) * width, -1e300, 1e300)
    return found
