"""What an earlier study knows, as plain data that a new one can start from.

`earlier` takes the told trials of a study (or a list of trials); the result is JSON, goes into a strategy's option (`GP(earlier=(...,))`)
and is kept with the new study. The new study's space may be another one: where it has a parameter that the earlier one
had not, `fixed` says which value that had; what the earlier one varied besides is dropped only if `drop` names it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bbopt.errors import SpaceError, UsageError
from bbopt.task import Task
from bbopt.trial import Trial, jsonable

if TYPE_CHECKING:
    from bbopt.study import Study

Array = np.ndarray[Any, np.dtype[Any]]


def earlier(
    source: Study | Iterable[Trial], *, fixed: Mapping[str, Any] | None = None, drop: Sequence[str] = ()
) -> dict[str, Any]:
    """The told points of an earlier study as plain data: {"points": [...], "values": [...]}, one mapping each per trial.

    fixed: values of parameters that the earlier study did not have; drop: parameters of the earlier study to leave out.
    Raises UsageError where nothing was told.

    >>> earlier([Trial(0, {"x": 0.5}, status="ok", values={"cost": 2.0})], fixed={"y": 1})
    {'points': [{'x': 0.5, 'y': 1}], 'values': [{'cost': 2.0}]}
    """
    trials = source.trials() if hasattr(source, "trials") else list(source)
    told = [trial for trial in trials if trial.status == "ok" and trial.values]
    if not told:
        raise UsageError("earlier: expected a study, or trials, with told values; none was told")
    points = [
        {
            name: jsonable(value)
            for name, value in {**trial.params, **trial.context, **(fixed or {})}.items()
            if name not in drop
        }
        for trial in told
    ]
    return {"points": points, "values": [dict(trial.values or {}) for trial in told]}


def check_earlier(data: Any) -> None:
    """Raise UsageError unless this has the form that `earlier` gives."""
    rows = [data.get(key) for key in ("points", "values")] if isinstance(data, Mapping) else [None, None]
    alike = isinstance(rows[0], list) and isinstance(rows[1], list) and len(rows[0]) == len(rows[1]) > 0
    if not alike or not all(isinstance(row, Mapping) for part in rows for row in part or ()):
        raise UsageError(f"expected earlier data as bbopt.earlier(study) gives it, got {str(data)[:80]}")


def encode_earlier(task: Task, data: Mapping[str, Any]) -> tuple[Array, Array]:
    """(e, D) rows and (e, m + c) inside values of earlier data in a task's terms; NaN for constraints that it did not have.

    Points outside the bounds are left out. Raises UsageError where parameters or an objective do not fit.
    """
    space = task.space
    have = {name for point in data["points"] for name in point}
    needed = [name for name, parameter in space.parameters.items() if parameter.when is None and parameter.size]
    if missing := [name for name in needed if name not in have]:
        raise UsageError(
            f"the earlier study has no parameter {', '.join(missing)}; say which value it had: earlier(study, fixed={{{missing[0]!r}: ...}})"
        )
    if more := sorted(have - set(space.names)):
        raise UsageError(
            f"this study has no parameter {', '.join(more)}, which the earlier one varied; leave it out by earlier(study, drop={more!r})"
        )
    if lacking := [item.name for item in task.objectives if item.name not in data["values"][0]]:
        raise UsageError(f"the earlier study has no values of {', '.join(lacking)}, the objective of this one")
    rows, values = [], []
    for point, told in zip(data["points"], data["values"], strict=True):
        try:
            rows.append(space.encode(point))
        except SpaceError:
            continue
        y, g = task.to_inside({name: told.get(name, np.nan) for name in task.metrics})
        values.append(np.concatenate([y, g]))
    if not rows:
        raise UsageError("no point of the earlier study lies in this study's space")
    return np.array(rows), np.array(values)


def with_earlier(task: Task, strategy: Any, sources: Sequence[Any]) -> Any:
    """A strategy with these earlier studies besides what it has. Raises UsageError where it cannot learn from any, or where
    the data do not fit the task."""
    if isinstance(sources, Mapping) or not isinstance(sources, Sequence):
        raise UsageError(f"earlier: expected a list of studies, got {type(sources).__name__}")
    for data in getattr(strategy, "earlier", ()):
        encode_earlier(task, data)
    if not sources:
        return strategy
    if not hasattr(strategy, "earlier"):
        raise UsageError(f"{type(strategy).__name__} does not learn from earlier studies; gp does")
    made = tuple(source if isinstance(source, Mapping) else earlier(source) for source in sources)
    for data in made:
        check_earlier(data)
        encode_earlier(task, data)
    return dataclasses.replace(strategy, earlier=(*strategy.earlier, *made))
