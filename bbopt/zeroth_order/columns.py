"""The encoded columns along which a gradient makes sense, their bounds, and where a search begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bbopt.parameters import Categorical, Fixed, Float
from bbopt.space import Space

Array = np.ndarray[Any, np.dtype[Any]]


def continuous_columns(space: Space, held: Mapping[int, float] | None = None) -> Array:
    """(n,) ascending: columns of design parameters without levels, those that are held left out.

    >>> from bbopt.parameters import Int
    >>> continuous_columns(Space(a=Float(0, 1, shape=(2,)), n=Int(1, 3), b=Float(scale=1.0)), {0: 0.5}).tolist()
    [1, 3]
    """
    parts = [
        np.arange(space.slice(name).start, space.slice(name).stop)
        for name, parameter in space.parameters.items()
        if isinstance(parameter, Float) and not parameter.levels and parameter.role == "design"
    ]
    columns = np.concatenate(parts) if parts else np.zeros(0, int)
    return np.setdiff1d(columns, list(held)) if held else columns


def groups(space: Space, columns: Array) -> list[slice]:
    """The parts of ascending columns that belong to one parameter each."""
    parts = []
    for name, parameter in space.parameters.items():
        part = space.slice(name)
        first, last = np.searchsorted(columns, (part.start, part.stop)).tolist()
        if last > first and not isinstance(parameter, Fixed):
            parts.append(slice(first, last))
    return parts


def centre(space: Space) -> Array:
    """(D,) the middle of every column, 0 where there are no bounds."""
    x = space.neutral
    for name, parameter in space.parameters.items():
        if isinstance(parameter, Categorical) and parameter.ordered:
            x[space.slice(name)] = (parameter.levels - 1) // 2
    return x


def limits(space: Space, columns: Array) -> tuple[Array | float, Array | float]:
    """Lower and upper bounds of encoded columns: 0 and 1, or none."""
    inside = bounded_columns(space)[columns]
    if inside.all():
        return 0.0, 1.0
    if not inside.any():
        return -np.inf, np.inf
    return np.where(inside, 0.0, -np.inf), np.where(inside, 1.0, np.inf)


def bounded_columns(space: Space) -> Array:
    """(D,) bool: columns with bounds."""
    inside = np.ones(space.dimension, bool)
    for name, parameter in space.parameters.items():
        part = space.slice(name)
        if part.stop > part.start:
            inside[part] = parameter.bounded  # type: ignore[union-attr]  # a Fixed has no columns
    return inside
