"""The worker's side of an evaluation: a held function and the rows that it is given, in any process.

A plain function takes one point as a dict of parameter values; one marked by `bbopt.batched` takes many rows as a tensor.
Which of the two it is stays in here: rows go in, parts come out, each with what became of some consecutive rows.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bbopt.device_batch import Batching, DeviceFunction
from bbopt.interrupt import let_through
from bbopt.outcome import Failure, portable
from bbopt.query import Rows
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Part:
    """What became of some consecutive rows: results as in `Outcome`, failures by position in this part."""

    results: list[Any] | Array
    failures: dict[int, Failure] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.results)


class Work:
    """A function, held by a worker for as long as it lives. Made with `batching_of(function)`, read where the study is.

    Raises what `DeviceFunction` raises where a marked function cannot run here.

    >>> from bbopt.space import Float, Space
    >>> work = Work(lambda params: 1 / params["x"], None, Task(Space(x=Float(0, 8))))
    >>> first, second = work.parts(np.array([[0.25], [0.0], [0.5]]), np.array([0, 1]))
    >>> first.results, type(second.failures[0].error)
    ([0.5], <class 'ZeroDivisionError'>)
    """

    def __init__(self, function: Callable[..., Any], batching: Batching | None, task: Task) -> None:
        self._function, self._space = function, task.space
        self._device = None if batching is None else DeviceFunction(function, batching, task)

    def parts(self, X: Rows, rows: Array) -> Iterator[Part]:
        """What becomes of these rows, as it comes: one part per row, or per call of a function that takes many."""
        if self._device is None:
            for row in rows.tolist():
                yield self._one(np.asarray(X[row]))
            return
        start = 0
        while start < len(rows):  # a device that runs out of memory takes fewer rows from then on
            stop = start + self._device.rows
            with let_through():
                numbers, errors = self._device.answer(np.asarray(X[rows[start:stop]]))
            yield Part(numbers, _failures(errors))
            start = stop

    def _one(self, x: Array) -> Part:
        params = self._space.decode(x)
        try:
            with let_through():
                result = self._function(params)
        except Exception as error:  # the caller decides what it means
            return Part([None], {0: failure(error)})
        return Part([result])


def _failures(errors: list[BaseException | None]) -> dict[int, Failure]:
    different = {id(error): error for error in errors if error is not None}  # a failed call has one for all its rows
    each = {key: failure(error) for key, error in different.items()}
    return {i: each[id(error)] for i, error in enumerate(errors) if error is not None}


def failure(error: BaseException) -> Failure:
    """A failure with the traceback of its exception as the reason."""
    return Failure(error, "".join(traceback.format_exception(error)))


def sendable(part: Part, dumps: Callable[[Any], Any], loads: Callable[[Any], Any]) -> Part:
    """The same part; results and exceptions that do not survive the way to another process as text.

    >>> import pickle
    >>> sendable(Part([1.0, {"cost": 2}, iter]), pickle.dumps, pickle.loads).results
    [1.0, {'cost': 2}, <built-in function iter>]
    >>> sendable(Part([lambda: 1.0]), pickle.dumps, pickle.loads).results[0][:9]
    '<function'
    """
    results = part.results
    if not isinstance(results, np.ndarray):
        results = [_plain(value, dumps, loads) for value in results]
    return Part(results, {i: portable(failure, dumps, loads) for i, failure in part.failures.items()})


def _plain(value: Any, dumps: Callable[[Any], Any], loads: Callable[[Any], Any]) -> Any:
    if (
        value is None
        or isinstance(value, float | int | str)
        or (type(value) is dict and all(isinstance(item, float | int | str) for item in value.values()))
    ):
        return value
    try:
        loads(dumps(value))
    except Exception:  # it is no number: let the one who reads it say so
        return repr(value)
    return value
