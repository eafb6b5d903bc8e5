"""Trials as a table: CSV out, CSV or a data frame in.

Columns are `number`, `status`, `attempt`, one per parameter (values that are no plain numbers or text as JSON), one per
metric, `std:METRIC` and `cost`, and `gradient` (JSON) where derivatives were told. Reading needs the parameters and the metrics; other columns are optional. Where a
parameter or metric has one of these names, ours is `trial:cost` and so on; a metric called like a parameter is
`value:NAME`.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbopt.derivatives import read_gradient
from bbopt.errors import BboptError, SpaceError, UsageError, ValueRefused
from bbopt.parameters import Categorical, Fixed, Float, Int, Parameter
from bbopt.trial import Trial, jsonable

if TYPE_CHECKING:
    from bbopt.study import Study
    from bbopt.task import Task
    from bbopt.telling import Telling


def own_column(task: Task, name: str) -> str:
    """Heading of one of our own columns (number, status, attempt, cost), apart from the task's names.

    >>> from bbopt.space import Float, Space
    >>> from bbopt.task import Objective, Task
    >>> task = Task(Space(number=Float(0, 1)), [Objective("cost")])
    >>> own_column(task, "number"), own_column(task, "cost"), own_column(task, "status")
    ('trial:number', 'trial:cost', 'status')
    """
    return f"trial:{name}" if name in task.space.names or name in task.metrics else name


def metric_column(task: Task, name: str) -> str:
    """Heading of a metric's column, apart from those of parameters."""
    return f"value:{name}" if name in task.space.names else name


def write_csv(opt: Study, path: Path) -> None:
    """All trials, one line each; the file is replaced as a whole."""
    task = opt.task
    text = io.StringIO()
    deviations = [f"std:{name}" for name in task.metrics]
    writer = csv.writer(text, lineterminator="\n")
    number, status, attempt, cost = (own_column(task, name) for name in ("number", "status", "attempt", "cost"))
    trials = opt.trials()
    slopes = [own_column(task, "gradient")] if any(trial.gradient for trial in trials) else []
    metrics = [metric_column(task, name) for name in task.metrics]
    writer.writerow([number, status, attempt, *task.space.names, *metrics, *deviations, cost, *slopes])
    for trial in trials:
        point = {**trial.params, **trial.context}
        values, std = trial.values or {}, trial.std
        writer.writerow(
            [trial.number, trial.status, trial.attempt]
            + [_cell(point[name], task.space.parameters[name]) if name in point else "" for name in task.space.names]
            + [repr(values[name]) if name in values else "" for name in task.metrics]
            + [repr(std[name]) if name in std else "" for name in task.metrics]
            + ["" if trial.cost is None else repr(trial.cost)]
            + [json.dumps(trial.gradient) if trial.gradient else "" for _ in slopes]
        )
    aside = path.with_name(path.name + ".part")
    aside.write_text(text.getvalue(), encoding="utf-8")
    os.replace(aside, path)


def _cell(value: Any, parameter: Parameter) -> str:
    if isinstance(parameter, Categorical | Fixed) and isinstance(value, str) and not _looks_like_json(value):
        return value
    return json.dumps(jsonable(value))


def _looks_like_json(text: str) -> bool:
    """Whether a text would be read as another value, so that it needs its quotes."""
    try:
        json.loads(text)
    except ValueError:
        return text == ""
    return True


def read_rows(opt: Telling, source: Any) -> list[Trial]:
    """Tell or add every row of a CSV file's path or of a data frame (anything with `to_dict("records")`)."""
    if isinstance(source, str | os.PathLike):
        with open(source, encoding="utf-8-sig", newline="") as file:
            rows: list[Mapping[str, Any]] = list(csv.DictReader(file))
        first = 2
    elif hasattr(source, "to_dict"):
        rows, first = source.to_dict("records"), 0
    else:
        raise UsageError(f"from_csv: expected a path or a data frame, got {type(source).__name__}")
    known = opt.trials()
    status, number_column = own_column(opt.task, "status"), own_column(opt.task, "number")
    metrics = [metric_column(opt.task, name) for name in opt.task.metrics]
    tell: list[tuple[Any, ...]] = []
    add: list[tuple[Any, ...]] = []
    for line, row in enumerate(rows, start=first):
        try:
            if row.get(status, "ok") not in ("ok", "") and all(_absent(row.get(name)) for name in metrics):
                continue  # without a result; an open trial whose values were filled in has one
            result = _result(opt, row)
            number = _number(row.get(number_column))
            point = _point(opt, row)
            opt.task.space.encode(point)  # every line is checked before any is written
            opt.task.read_metrics(result[0])
            read_gradient(opt.task, result[3])
            if number is not None and number < len(known) and _same_point(known[number], point):
                tell.append((number, *result))
            else:
                add.append((point, *result))
        except BboptError as error:
            raise type(error)(f"line {line}: {error}") from None
    if tell:
        opt.tell_many(tell)
    return [opt.trial(entry[0]) for entry in tell] + opt.add_many(add)


def _same_point(trial: Trial, point: Mapping[str, Any]) -> bool:
    mine = {name: jsonable(value) for name, value in {**trial.params, **trial.context}.items()}
    return mine == {name: jsonable(value) for name, value in point.items()}


def _absent(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> int | None:
    if _absent(value):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueRefused(f"number: expected a trial's number, got {value!r}") from None


def _result(opt: Study, row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], Any, Any]:
    def read(name: str, value: Any) -> Any:
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ValueRefused(f"{name}: expected a number, got {value!r}") from None

    metrics = {name: metric_column(opt.task, name) for name in opt.task.metrics}
    for column in metrics.values():
        if column not in row:
            raise ValueRefused(f"no column {column!r}; expected columns for {', '.join(metrics.values())}")
    values = {name: read(name, row[column]) for name, column in metrics.items()}
    std = {name: read(name, row[f"std:{name}"]) for name in metrics if not _absent(row.get(f"std:{name}"))}
    cost = row.get(own_column(opt.task, "cost"))
    slopes = row.get(own_column(opt.task, "gradient"))
    if isinstance(slopes, str) and slopes:
        try:
            slopes = json.loads(slopes)
        except ValueError:
            raise ValueRefused(f"gradient: expected derivatives as JSON, got {slopes!r}") from None
    return values, std, None if _absent(cost) else read("cost", cost), None if _absent(slopes) else slopes


def _point(opt: Study, row: Mapping[str, Any]) -> dict[str, Any]:
    point = {}
    for name, parameter in opt.task.space.parameters.items():
        if name not in row:
            if isinstance(parameter, Fixed) or parameter.when is not None:
                continue
            raise SpaceError(f"no column {name!r}; expected columns for {', '.join(opt.task.space.names)}")
        value = row[name]
        if _absent(value) and not (isinstance(parameter, Categorical) and value in parameter.choices):
            continue
        if isinstance(value, str):
            value = _read_cell(name, value, parameter)
        elif isinstance(value, float) and isinstance(parameter, Int) and value.is_integer():
            value = int(value)  # data frames turn whole columns into floats
        point[name] = value
    return point


def _read_cell(name: str, text: str, parameter: Parameter) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(parameter, Float | Int) and isinstance(value, str):
        raise SpaceError(f"{name}: expected a number, got {text!r}")
    if isinstance(parameter, Int) and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(parameter, Categorical) and value not in parameter.choices and text in parameter.choices:
        return text
    return value
