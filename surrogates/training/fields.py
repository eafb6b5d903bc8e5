"""Frozen dataclasses from JSON, name by name: a default instance says which names there are and of what types."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from bbopt.errors import UsageError

__all__ = ["built", "check_names", "typed"]

T = TypeVar("T")

KINDS: dict[type, tuple[type | tuple[type, ...], str]] = {
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    str: (str, "text"),
}


def built(default: T, where: str, data: Any) -> T:
    """An object like the default, a dataclass, with the values of a mapping of its fields.

    where: what errors call it. Raises UsageError for something else than a mapping, unknown names, values of another type.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Box:
    ...     size: tuple[float, float] = (1.0, 2.0)
    ...     lid: bool = True
    >>> built(Box(), "box", {"size": [3, 0.5]})
    Box(size=(3, 0.5), lid=True)
    """
    if not isinstance(data, Mapping):
        raise UsageError(f"{where}: expected an object of names and values, got {data!r}")
    anything: Any = default
    check_names(where, data, [each.name for each in dataclasses.fields(anything)])
    values = {name: typed(f"{where}.{name}", value, getattr(default, name)) for name, value in data.items()}
    made: T = dataclasses.replace(anything, **values)
    return made


def check_names(where: str, data: Iterable[str], known: Iterable[str]) -> None:
    """Raises UsageError where the data have names that are not known.

    >>> check_names("box", {"size": 1}, ["lid", "size"])
    """
    names = sorted(known)
    if wrong := sorted(set(data) - set(names)):
        raise UsageError(f"{where}: expected names of {', '.join(names)}; got {', '.join(wrong)}")


def typed(name: str, value: Any, default: Any) -> Any:
    """The value, if it is of the type of the default; lists become tuples of the same length, objects dataclasses.

    Raises UsageError otherwise, and for numbers that are not finite.

    >>> typed("rows", [1, 2], (2, 160))
    (1, 2)
    """
    if dataclasses.is_dataclass(default):
        return built(default, name, value)
    if isinstance(default, tuple):
        if isinstance(value, list | tuple) and len(value) == len(default):
            return tuple(typed(name, *pair) for pair in zip(value, default, strict=True))
        raise UsageError(f"{name}: expected a list of {len(default)} values, got {value!r}")
    kind, words = KINDS[type(default)]
    if (
        not isinstance(value, kind)
        or isinstance(value, bool) is not isinstance(default, bool)
        or (isinstance(value, float) and not math.isfinite(value))
    ):
        raise UsageError(f"{name}: expected {words}, got {value!r}")
    return value
