"""What the command line reads: `name=value` words, results from files or standard input, tasks, strategies with options."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bbopt.space import Space
    from bbopt.strategy import Strategy
    from bbopt.task import Task

__all__ = [
    "deviations_of",
    "gradient_of",
    "pairs",
    "params_of",
    "read_document",
    "read_params",
    "read_results",
    "read_strategy",
    "read_task",
    "read_text",
    "seeds_of",
    "values_of",
]

RESULT_KEYS = ("values", "std", "cost")


def pairs(words: Iterable[str], what: str, example: str) -> dict[str, str]:
    """Words `name=value` as a mapping of texts. Raises click.UsageError for another form, or a name given twice.

    >>> pairs(["a=1", "b=x=y"], "values", "a=1")
    {'a': '1', 'b': 'x=y'}
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{what}: expected name=value, such as {example}; got {word!r}")
        if name in found:
            raise click.UsageError(f"{what}: expected every name once, got {name!r} twice")
        found[name] = text
    return found


def _no_options(words: Iterable[str]) -> None:
    """Negative numbers are let through where values stand; a misspelled option must not be."""
    for word in words:
        if word.startswith("-") and word != "-" and not _is_number(word):
            raise click.NoSuchOption(word.partition("=")[0])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _number(text: str) -> Any:
    """The number in a text; other text as it is, which the study refuses with a message of its own."""
    return float(text) if _is_number(text) else text


def values_of(words: Sequence[str]) -> Any:
    """A result from `metric=value` words, or from bare numbers in the order of the task's metrics.

    >>> values_of(["cost=1", "stress=-2e3"]), values_of(["-0.5"]), values_of(["1", "2"])
    ({'cost': 1.0, 'stress': -2000.0}, -0.5, [1.0, 2.0])
    """
    _no_options(words)
    if words and not any("=" in word for word in words):
        numbers = [_number(word) for word in words]
        return numbers[0] if len(numbers) == 1 else numbers
    return {name: _number(text) for name, text in pairs(words, "values", "cost=3.1").items()}


def deviations_of(words: Sequence[str]) -> Any:
    """Standard errors from `--std metric=value`, or a bare number for a single metric; None without any."""
    if not words:
        return None
    if len(words) == 1 and "=" not in words[0]:
        return _number(words[0])
    return {name: _number(text) for name, text in pairs(words, "--std", "cost=0.1").items()}


def gradient_of(text: str | None) -> Any:
    """Derivatives from JSON text, None for nothing; other text as it is, which the study refuses with a message of its own.

    >>> gradient_of('{"x": 0.5}'), gradient_of("")
    ({'x': 0.5}, None)
    """
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def params_of(words: Iterable[str], space: Space, what: str) -> dict[str, Any]:
    """Parameter values from `name=value` words: JSON values, or text where the parameter's choices are text."""
    found = pairs(words, what, f"{space.names[0]}=1")
    return {name: _param(text, space.parameters.get(name)) for name, text in found.items()}


def _param(text: str, parameter: Any) -> Any:
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        return text
    choices = getattr(parameter, "choices", (getattr(parameter, "value", value),))
    return text if value not in choices and text in choices else value


def read_params(words: Sequence[str], space: Space) -> dict[str, Any]:
    """A point from `name=value` words, or from JSON on standard input where the only word is `-`: the values, a trial, or a document
    with one."""
    if tuple(words) != ("-",):
        _no_options(words)
        return params_of(words, space, "point")
    from bbopt.errors import UsageError

    document: dict[str, Any] = read_document("-")
    if not isinstance(document, dict):
        raise UsageError(f"point: expected a JSON object from parameters to values, got {_short(document)}")
    for key in ("trial", "params"):
        document = document[key] if isinstance(document.get(key), dict) else document
    return document


def read_text(path: str) -> str:
    """The text of a file, or of standard input for `-`."""
    if path == "-":
        return sys.stdin.buffer.read().decode("utf-8-sig")
    with open(path, encoding="utf-8-sig") as file:
        return file.read()


def read_document(path: str) -> Any:
    """The JSON value in a file (`-`: standard input). Raises UsageError for other text, NaN and Infinity included."""
    return _json(read_text(path), path)


def _json(text: str, path: str) -> Any:
    from bbopt.errors import UsageError

    def refuse(token: str) -> Any:
        raise ValueError(f"{token} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except ValueError as error:
        raise UsageError(f"expected JSON in {_called(path)}, got something else: {error}") from None


def _called(path: str) -> str:
    return "standard input" if path == "-" else path


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


# -- results -----------------------------------------------------------------------------------------------------------


def read_results(path: str, number: int | None, task: Task) -> list[tuple[int, Any, Any, Any, Any]]:
    """(number, values, std, cost, gradient) of every result in a file or standard input; those without values are left out.

    JSON: a result, a list of results, or {"trials": [...]} as `ask --json` prints it. A result is
    {"number": ..., "values": ..., "std": ..., "cost": ..., "gradient": ...}, or only its values. CSV: columns number, one
    per metric, std:METRIC, cost, gradient (JSON); others are not read. `number` is that of a single result which does not say its own.
    """
    from bbopt.errors import UsageError

    text = read_text(path)
    if not text.strip():
        raise UsageError(f"expected results in {_called(path)}, got nothing")
    entries = _from_json(_json(text, path), task.metrics) if _is_json(text) else _from_csv(text, task)
    found = []
    for place, entry in entries:
        where = f"{_called(path)}: {place}"
        said = entry.get("number")
        if said is None and number is not None and len(entries) == 1:
            said = number
        if isinstance(said, bool) or not isinstance(said, int):
            raise UsageError(f'{where}: expected the number of a trial as "number", got {_short(said)}')
        if number is not None and said != number:
            raise UsageError(f"{where}: expected the result of trial {number}, got that of trial {said}")
        if entry["values"] is not None:
            found.append(
                (said, entry["values"], entry.get("std") or None, entry.get("cost"), entry.get("gradient") or None)
            )
    if not found:
        raise UsageError(f"expected values in {_called(path)}, got none: no trial in it has a result")
    return found


def _is_json(text: str) -> bool:
    """Whether a text is meant as JSON: it begins like an object or a list, or is a number."""
    start = text.lstrip()[0]
    return start in "{[" or _is_number(text.strip())


def _from_json(document: Any, metrics: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(document, Mapping):
        for key in ("trials", "trial"):
            if isinstance(document.get(key), list | Mapping):
                document = document[key]
                break
    several = isinstance(document, list) and any(isinstance(item, Mapping) for item in document)
    items = document if several else [document]
    return [(f"result {i}", _entry(item, metrics)) for i, item in enumerate(items)]


def _entry(item: Any, metrics: Sequence[str]) -> dict[str, Any]:
    """One result: an object that has "values", an object of metrics (and perhaps "number"), or bare values."""
    if not isinstance(item, Mapping):
        return {"values": item}
    if "values" in item and not ("values" in metrics and isinstance(item["values"], int | float)):
        return dict(item)
    return {"number": item.get("number"), "values": {name: value for name, value in item.items() if name != "number"}}


def _from_csv(text: str, task: Task) -> list[tuple[str, dict[str, Any]]]:
    from bbopt.errors import UsageError
    from bbopt.tables import metric_column, own_column

    reader = csv.DictReader(io.StringIO(text))
    columns = {name: metric_column(task, name) for name in task.metrics}
    number, cost, gradient = (own_column(task, name) for name in ("number", "cost", "gradient"))
    have = reader.fieldnames or ()
    missing = [column for column in columns.values() if column not in have]
    if missing:
        expected = ", ".join([number, *columns.values()])
        raise UsageError(f"expected columns {expected}; {missing[0]!r} is not among {', '.join(have)}")
    entries = []
    for line, row in enumerate(reader, start=2):
        cells = {name: (row[column] or "").strip() for name, column in columns.items()}
        told = any(cells.values())
        entry = {
            "number": _whole(row.get(number)),
            "values": {name: _number(cell) for name, cell in cells.items()} if told else None,
            "std": {name: _number(row[f"std:{name}"]) for name in columns if row.get(f"std:{name}")},
            "cost": _number(row[cost]) if row.get(cost) else None,
            "gradient": gradient_of(row.get(gradient)),
        }
        entries.append((f"line {line}", entry))
    return entries


def _whole(text: str | None) -> Any:
    """The whole number in a cell, None in an empty one, other text as it is."""
    return int(text) if text and text.strip().isdecimal() else text or None


# -- tasks, strategies, seeds ------------------------------------------------------------------------------------------


def read_task(path: str) -> Task:
    """The task in a JSON file: what `Task.to_json` gives, or any document with a "task". Objectives, constraints and
    `where` may be left out. Raises TaskError or SpaceError that say what does not fit."""
    from bbopt.errors import BboptError, TaskError
    from bbopt.task import Task

    document = read_document(path)
    if isinstance(document, dict) and "space" not in document:
        document = document.get("task")
    shape = '{"space": {"x": {"type": "Float", "low": 0, "high": 1}}, "objectives": [{"name": "cost"}]}'
    if not isinstance(document, dict) or not isinstance(document.get("space"), dict):
        raise TaskError(f"{_called(path)}: expected a task, such as {shape}; got {_short(document)}")
    try:
        return Task.from_json(document)
    except BboptError as error:
        raise type(error)(f"{_called(path)}: {error}") from None


def split_strategy(text: str) -> tuple[str, dict[str, Any]]:
    """Name and options of `name` or `name:option=value,option=value`; values are JSON, or else text.

    >>> split_strategy("gp:initial=8,acquisition=nei,bounds=[0, 1]")
    ('gp', {'initial': 8, 'acquisition': 'nei', 'bounds': [0, 1]})
    """
    name, colon, rest = text.partition(":")
    words, depth = [""], 0
    for letter in rest:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and not depth:
            words.append("")
        else:
            words[-1] += letter
    given = pairs(words, f"--strategy {name}", f"{name}:option=value") if colon else {}
    return name, {option: _param(value, None) for option, value in given.items()}


def read_strategy(text: str) -> Strategy | str:
    """A strategy from the command line: its name, or an instance where options are given. Raises UsageError."""
    from bbopt.errors import UsageError
    from bbopt.table import configured

    name, options = split_strategy(text)
    if name == "auto" and options:
        raise UsageError("strategy auto: it has no options; name the strategy that should have them")
    return configured(name, options) if options else name


def seeds_of(text: str) -> int | list[int]:
    """Seeds: how many (`10`), a list (`3,7,`) or a range (`10-19`).

    >>> seeds_of("10"), seeds_of("3,7"), seeds_of("5,"), seeds_of("10-12")
    (10, [3, 7], [5], [10, 11, 12])
    """
    words = [word.strip() for word in text.split(",")]
    if len(words) == 1 and words[0].isdigit():
        return int(words[0])
    seeds: list[int] = []
    for word in filter(None, words):
        first, dash, last = word.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise click.BadParameter(f"expected a number of seeds (10), a list (3,7) or a range (10-19), got {text!r}")
        seeds += range(int(first), int(last if dash else first) + 1)
    return seeds
