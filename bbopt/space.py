"""The search space: named parameters, and their encoding as rows of float64 columns.

A point is a dict of Python values (`params`) or one row of columns (`x`, shape (D,)); `encode` and `decode` go between
them, `canonical` is decode followed by encode. A parameter whose condition `when` fails is inactive: absent from
`params`, its columns at a neutral value, so that equal points are equal rows.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bbopt.axis import LinearBlock
from bbopt.errors import SpaceError
from bbopt.expression import Expression
from bbopt.parameters import Categorical, Fixed, Float, Int, Parameter

Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["Categorical", "Columns", "Fixed", "Float", "Int", "Parameter", "Space"]


@dataclass(frozen=True)
class Columns:
    """What a model needs to know of the encoded columns; one entry per column.

    kind: "float", "int", "ordered" or "category"; levels: number of different values, 0 where continuous;
    group: index of the parameter it belongs to; bounded: encoded in [0, 1] (or an index); role: see `parameters.ROLES`.
    """

    kind: tuple[str, ...]
    levels: tuple[int, ...]
    group: tuple[int, ...]
    bounded: tuple[bool, ...]
    role: tuple[str, ...]


class Space:
    """Named parameters, as keywords or as one mapping (for names that are no keywords).

    Attributes: `parameters` (name to definition, in order), `dimension` (number of columns D), `columns`, `size`.

    >>> space = Space(width=Float(0, 2), bolts=Int(2, 12), steel=Categorical(["S235", "S355"]))
    >>> x = space.encode({"width": 0.5, "bolts": 7, "steel": "S355"})
    >>> x.tolist()
    [0.25, 0.5, 1.0]
    >>> space.decode(x)
    {'width': 0.5, 'bolts': 7, 'steel': 'S355'}
    """

    def __init__(self, parameters: Mapping[str, Parameter] | None = None, /, **named: Parameter) -> None:
        if parameters is not None and named:
            raise SpaceError("Space: expected keywords or one mapping, got both")
        given = dict(parameters) if parameters is not None else named
        if not given:
            raise SpaceError("Space: expected at least one parameter, got none")
        for name, parameter in given.items():
            if not isinstance(name, str) or not name:
                raise SpaceError(f"Space: expected names as text, got {name!r}")
            if not isinstance(parameter, Parameter):
                raise SpaceError(f"{name}: expected a Float, Int, Categorical or Fixed, got {parameter!r}")
        self.parameters: dict[str, Parameter] = given
        self._slices: dict[str, slice] = {}
        start = 0
        for name, parameter in given.items():
            self._slices[name] = slice(start, start + parameter.size)
            start += parameter.size
        self.dimension: int = start
        self._linear = {name for name, p in given.items() if isinstance(p, Float) and p.linear}
        parts = [(self._slices[name], p.axis) for name, p in given.items() if isinstance(p, Float) and p.linear]
        self._block = LinearBlock([part for part, _ in parts], [axis for _, axis in parts]) if parts else None
        self._others = [
            (self._slices[name], p)
            for name, p in given.items()
            if name not in self._linear and not isinstance(p, Fixed)
        ]
        self._conditions = self._read_conditions()
        for rule in self._conditions.values():
            rule.check(self.values(self.neutral[None]))

    # -- what is in it -------------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.parameters)

    def slice(self, name: str) -> slice:
        """The columns of a parameter."""
        return self._slices[name]

    @cached_property
    def columns(self) -> Columns:
        kind: list[str] = []
        levels: list[int] = []
        group: list[int] = []
        bounded: list[bool] = []
        role: list[str] = []
        for i, parameter in enumerate(self.parameters.values()):
            if not isinstance(parameter, Fixed):
                kind += [parameter.kind] * parameter.size
                levels += [parameter.levels] * parameter.size
                bounded += [parameter.bounded] * parameter.size
                group += [i] * parameter.size
                role += [parameter.role] * parameter.size
        return Columns(tuple(kind), tuple(levels), tuple(group), tuple(bounded), tuple(role))

    @cached_property
    def size(self) -> int | None:
        """Number of different rows where every column has levels, else None. Conditions may leave fewer points."""
        if not all(self.columns.levels):
            return None
        return math.prod(self.columns.levels)

    @property
    def conditional(self) -> bool:
        return bool(self._conditions)

    def roles(self, role: str) -> tuple[str, ...]:
        """Names of the parameters that have this role."""
        return tuple(name for name, parameter in self.parameters.items() if parameter.role == role)

    @property
    def neutral(self) -> Array:
        """(D,) the value that each column has while its parameter is inactive."""
        row = np.zeros(self.dimension)
        for name, parameter in self.parameters.items():
            if not isinstance(parameter, Fixed):
                row[self._slices[name]] = parameter.neutral
        return row

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={parameter!r}" for name, parameter in self.parameters.items())
        return f"Space({inner})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_json(), sort_keys=True))

    # -- rows ----------------------------------------------------------------------------------------------------------

    def encode(self, params: Mapping[str, Any]) -> Array:
        """(D,) canonical row of a point. Active parameters must all be given, inactive ones left out.

        Raises SpaceError for an unknown, missing or inactive name and for a value outside its definition.
        """
        x = self.neutral
        unknown = [name for name in params if name not in self.parameters]
        if unknown:
            raise SpaceError(f"{unknown[0]}: no such parameter; the space has {', '.join(self.parameters)}")
        for name, value in params.items():
            x[self._slices[name]] = self._encode_one(name, value)
        active = self._active_names(x[None])
        for name, is_active in active.items():
            if not is_active[0] and name in params:
                raise SpaceError(f"{name}: inactive here ({self.parameters[name].when!r} does not hold); leave it out")
            if is_active[0] and name not in params and not isinstance(self.parameters[name], Fixed):
                raise SpaceError(f"{name}: missing; expected a value for each of {', '.join(self.parameters)}")
        return x

    def encode_some(self, params: Mapping[str, Any]) -> dict[int, float]:
        """Columns and encoded values of a part of a point (for `ask(fixed=...)`, `ask(context=...)`)."""
        some: dict[int, float] = {}
        for name, value in params.items():
            if name not in self.parameters:
                raise SpaceError(f"{name}: no such parameter; the space has {', '.join(self.parameters)}")
            columns = range(self._slices[name].start, self._slices[name].stop)
            some.update(zip(columns, self._encode_one(name, value).tolist(), strict=True))
        return some

    def _encode_one(self, name: str, value: Any) -> Array:
        parameter = self.parameters[name]
        if isinstance(parameter, Fixed):
            if value != parameter.value:
                raise SpaceError(f"{name}: fixed at {parameter.value!r}, got {value!r}")
            return np.zeros(0)
        return parameter.encode(value, name)

    def decode(self, x: Array) -> dict[str, Any]:
        """The point of a row, as Python values; vector parameters as float64 (or int64) arrays."""
        row = np.asarray(x, float)
        active = self._active_names(row[None]) if self._conditions else None
        linear = np.array(row)
        if self._block is not None:
            linear[self._block.columns] = self._block.decode(row[self._block.columns])
        point: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            if active is not None and not active[name][0]:
                continue
            part = self._slices[name]
            if isinstance(parameter, Fixed):
                point[name] = parameter.value
            elif name not in self._linear:
                point[name] = parameter.decode(row[part])
            elif isinstance(parameter, Float) and parameter.shape:
                point[name] = linear[part].reshape(parameter.shape)
            else:
                point[name] = float(linear[part.start])
        return point

    def canonical(self, X: Array) -> Array:
        """(n, D) the rows that decode to the same points and encode to themselves; inactive columns neutral."""
        rows = np.array(X, dtype=float, ndmin=2)
        if self._block is not None:
            rows[:, self._block.columns] = self._block.canonical(rows[:, self._block.columns])
        for part, parameter in self._others:
            rows[:, part] = parameter.canonical(rows[:, part])
        return self._neutralise(rows)

    def from_uniform(self, U: Array) -> Array:
        """(n, D) canonical rows from uniform numbers in [0, 1]: every level of a column is equally likely, and environment
        parameters follow their distribution."""
        uniform = np.asarray(U, float)
        rows = np.empty_like(uniform)
        if self._block is not None:
            rows[:, self._block.columns] = self._block.canonical(uniform[:, self._block.columns])
        for part, parameter in self._others:
            rows[:, part] = parameter.from_uniform(uniform[:, part])
        return self._neutralise(rows)

    def values(self, X: Array) -> dict[str, Array]:
        """Decoded columns by name, for expressions: (n,) numbers or objects, (n, size) for vectors."""
        rows = np.asarray(X, float)
        named: dict[str, Array] = {}
        for name, parameter in self.parameters.items():
            if isinstance(parameter, Fixed):
                column = np.empty(len(rows), object)
                column[:] = [parameter.value] * len(rows)
                named[name] = column if not isinstance(parameter.value, int | float) else column.astype(
                    bool if isinstance(parameter.value, bool) else float
                )  # fmt: skip
                continue
            part = rows[:, self._slices[name]]
            if isinstance(parameter, Categorical):
                named[name] = _plain(parameter.values(part[:, 0]))
            else:
                decoded = parameter.values(part)
                named[name] = decoded if parameter.shape else decoded[:, 0]
        return named

    def active(self, X: Array) -> Array:
        """(n, D) bool: which columns belong to active parameters."""
        rows = np.asarray(X, float)
        mask = np.ones(rows.shape, bool)
        if self._conditions:
            for name, is_active in self._active_names(rows).items():
                mask[:, self._slices[name]] = is_active[:, None]
        return mask

    def inactive_names(self, X: Array) -> dict[str, Array]:
        """For each conditional parameter: (n,) bool, where it is inactive."""
        active = self._active_names(np.asarray(X, float))
        return {name: ~active[name] for name in self._conditions}

    # -- conditions ----------------------------------------------------------------------------------------------------

    def _read_conditions(self) -> dict[str, Expression]:
        """Conditions in an order in which parents come before children."""
        conditions: dict[str, Expression] = {}
        for name, parameter in self.parameters.items():
            if parameter.when is not None:
                conditions[name] = Expression.parse(parameter.when, set(self.parameters) - {name})
                if drawn := sorted(conditions[name].names & set(self.roles("environment"))):
                    raise SpaceError(
                        f"{name}: its condition names {drawn[0]}, which nature draws after the design is chosen"
                    )
        ordered: dict[str, Expression] = {}
        waiting = dict(conditions)
        while waiting:
            ready = [name for name, rule in waiting.items() if not rule.names & set(waiting)]
            if not ready:
                raise SpaceError(
                    f"when: the conditions of {', '.join(sorted(waiting))} depend on each other in a circle"
                )
            for name in ready:
                ordered[name] = waiting.pop(name)
        return ordered

    def _active_names(self, rows: Array) -> dict[str, Array]:
        everywhere = np.ones(len(rows), bool)
        active = dict.fromkeys(self.parameters, everywhere)
        if self._conditions:
            values = self.values(rows)
            for name, rule in self._conditions.items():
                parents = np.logical_and.reduce([active[parent] for parent in rule.names])
                active[name] = rule.holds(values, len(rows)) & parents
        return active

    def _neutralise(self, rows: Array) -> Array:
        if self._conditions:
            mask = self.active(rows)
            rows = np.where(mask, rows, self.neutral)
        return rows

    # -- JSON ----------------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """A mapping from names to definitions, of JSON values."""
        document: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            entry: dict[str, Any] = {"type": type(parameter).__name__}
            for item in dataclasses.fields(parameter):
                value = getattr(parameter, item.name)
                if item.init and value != item.default:
                    entry[item.name] = list(value) if isinstance(value, tuple) else value
            document[name] = entry
        return document

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Space:
        """The space that `to_json` described. Raises SpaceError for a kind this version does not know."""
        kinds: dict[str, Any] = {"Float": Float, "Int": Int, "Categorical": Categorical, "Fixed": Fixed}
        parameters: dict[str, Parameter] = {}
        for name, entry in document.items():
            options = {key: value for key, value in entry.items() if key != "type"}
            if entry.get("type") not in kinds:
                raise SpaceError(f"{name}: expected a type of {', '.join(kinds)}; got {entry.get('type')!r}")
            for listed in ("shape", "normal", "weights"):
                if isinstance(options.get(listed), list):
                    options[listed] = tuple(options[listed])
            try:
                parameters[name] = kinds[entry["type"]](**options)
            except TypeError as error:
                raise SpaceError(f"{name}: {error}") from None
        return Space(parameters)


def _plain(column: Array) -> Array:
    """Choices that are all numbers become a float column, so that conditions can compare them."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in column.tolist()):
        return column.astype(float)
    return column
