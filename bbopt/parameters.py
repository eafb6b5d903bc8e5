"""The kinds of parameter, and how each becomes numbers.

Every scalar of a parameter is one float64 column of the encoded vector: bounded numbers in [0, 1] (on a log axis where
`log`), categories by their index, unbounded reals divided by their scale. Decoding lands on a fixed grid, so that a
decoded point encodes to itself exactly and people see 0.1 and not 0.10000000000000002:

* continuous numbers carry 12 decimal digits of their range (12 significant digits on a log axis),
* stepped numbers and integers their levels,
* unbounded reals every bit: their scale is rounded to a power of two, so dividing and multiplying lose nothing.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from bbopt.axis import NumericAxis, make_axis, read_bound
from bbopt.environment import check_normal, check_weights, normal_from_uniform
from bbopt.errors import SpaceError

Array = np.ndarray[Any, np.dtype[Any]]

ROLES = ("design", "fidelity", "source", "context", "environment")


def _check_common(role: str, when: str | None, shape: tuple[int, ...] | None) -> None:
    if role not in ROLES:
        raise SpaceError(f"role: expected one of {', '.join(ROLES)}; got {role!r}")
    if when is not None and not isinstance(when, str):
        raise SpaceError(f"when: expected a condition as text, such as \"steel == 'S355'\"; got {when!r}")
    if shape is not None and (
        not isinstance(shape, tuple) or not all(type(n) is int and n > 0 for n in shape) or not shape
    ):
        raise SpaceError(f"shape: expected a tuple of positive integers, such as (3,); got {shape!r}")
    if role == "environment" and when is not None:
        raise SpaceError("when: an environment parameter is always drawn; leave its condition out")


class _Number:
    """Behaviour of Float and Int on columns; the numbers are in `axis`."""

    kind: ClassVar[str]
    axis: NumericAxis
    shape: tuple[int, ...] | None

    @property
    def size(self) -> int:
        return math.prod(self.shape) if self.shape else 1

    @property
    def levels(self) -> int:
        """Number of values a column can take; 0 for a continuous one."""
        return self.axis.levels

    @property
    def bounded(self) -> bool:
        return self.axis.low is not None

    @property
    def neutral(self) -> float:
        """The encoded value that stands in an inactive column."""
        middle = np.asarray(0.5 if self.bounded else 0.0)
        return float(self.axis.encode(self.axis.decode(middle)))

    def canonical(self, x: Array) -> Array:
        return self.axis.encode(self.axis.decode(x))

    def from_uniform(self, u: Array) -> Array:
        return self.axis.from_uniform(u)

    def values(self, x: Array) -> Array:
        """Numbers (float64) for expressions."""
        return self.axis.decode(x)

    def encode(self, value: Any, name: str) -> Array:
        """(size,) encoded column values of one value as the user gives it."""
        array = np.asarray(value)
        wanted = self.shape or ()
        if array.shape != wanted or array.dtype.kind not in "iuf":
            what = f"an array of numbers of shape {wanted}" if wanted else "a number"
            raise SpaceError(f"{name}: expected {what}, got {value!r}")
        flat = array.astype(float).ravel()
        low, high = self.axis.low, self.axis.high
        if not np.isfinite(flat).all():
            raise SpaceError(f"{name}: expected finite numbers, got {value!r}")
        if low is not None and high is not None:
            slack = 1e-12 * max(abs(low), abs(high), high - low)
            if (flat < low - slack).any() or (flat > high + slack).any():
                raise SpaceError(f"{name}: expected a value within [{low:g}, {high:g}], got {value!r}")
            if self.levels > 1:
                near = self.axis.level(flat)
                step = self.axis.step or 1.0
                if (np.abs(near - flat) > 1e-9 * step + slack).any():
                    raise SpaceError(f"{name}: expected {low:g} plus a multiple of {step:g}, got {value!r}")
                flat = near
        return self.canonical(self.axis.encode(np.clip(flat, low, high) if low is not None else flat))


@dataclass(frozen=True)
class Float(_Number):
    """A real number: `Float(low, high)`, with `log=True` on a log axis, with `step=` on a grid that starts at `low`;
    or without bounds, `Float(scale=s)`, where `s` is the size of a typical change (rounded to a power of two).

    `shape=(n, ...)` makes a vector parameter, one column per entry. `role` is design, fidelity, source, context or
    environment; `when` is a condition on other parameters outside which this one does not exist. `normal=(mean, sd)`, for the
    role environment: nature draws it so, cut off at the bounds, and not evenly over them (see `bbopt.environment`).

    >>> Float(0.0625, 6.1875, step=0.0625).levels
    99
    """

    kind: ClassVar[str] = "float"

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    shape: tuple[int, ...] | None = None
    scale: float | None = None
    role: str = "design"
    when: str | None = None
    normal: tuple[float, float] | None = None
    axis: NumericAxis = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_common(self.role, self.when, self.shape)
        if self.scale is None:
            if self.low is None or self.high is None:
                raise SpaceError(
                    "Float: expected both bounds, Float(low, high), or a scale for an unbounded one, Float(scale=1.0)"
                )
            axis = make_axis(self.low, self.high, self.log, self.step, whole=False)
        else:
            if self.low is not None or self.high is not None or self.log or self.step is not None:
                raise SpaceError("Float: scale= is for parameters without bounds; give bounds or a scale, not both")
            scale = read_bound(self.scale, "Float scale")
            if not 1e-100 < scale < 1e100:
                raise SpaceError(f"Float: expected a positive scale (1e-100 to 1e100), got {self.scale!r}")
            axis = NumericAxis(None, None, False, None, 0, 0, 2.0 ** round(math.log2(scale)))
            if self.role == "environment":
                raise SpaceError("Float: an environment parameter needs bounds: give those that nature hardly exceeds")
        object.__setattr__(self, "axis", axis)
        object.__setattr__(self, "normal", check_normal(self.normal, self.role, axis))

    @property
    def linear(self) -> bool:
        """Whether it can be drawn and rounded together with others of its kind."""
        return self.axis.linear and self.normal is None

    def from_uniform(self, u: Array) -> Array:
        if self.normal is None or self.axis.low is None or self.axis.high is None:
            return self.axis.from_uniform(u)
        width = self.axis.high - self.axis.low
        drawn = normal_from_uniform(u, (self.normal[0] - self.axis.low) / width, self.normal[1] / width)
        return self.canonical(drawn)

    def decode(self, x: Array) -> Any:
        value = self.axis.decode(x)
        return value.reshape(self.shape) if self.shape else float(value[0])


@dataclass(frozen=True)
class Int(_Number):
    """A whole number from `low` to `high`, both included; `log=True` on a log axis, `step=` for every step-th.

    >>> Int(2, 12, step=2).levels
    6
    """

    kind: ClassVar[str] = "int"

    low: int
    high: int
    log: bool = False
    step: int | None = None
    shape: tuple[int, ...] | None = None
    role: str = "design"
    when: str | None = None
    axis: NumericAxis = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_common(self.role, self.when, self.shape)
        object.__setattr__(self, "axis", make_axis(self.low, self.high, self.log, self.step, whole=True))

    def decode(self, x: Array) -> Any:
        value = np.rint(self.axis.decode(x)).astype(np.int64)
        return value.reshape(self.shape) if self.shape else int(value[0])


def json_key(value: Any) -> str:
    """One text per JSON value, so that True, 1 and "1" stay apart."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        raise SpaceError(
            f"expected a JSON value (text, number, true/false, null, list, mapping), got {value!r}"
        ) from None


@dataclass(frozen=True)
class Categorical:
    """One of `choices` (any JSON values); `ordered=True` says that neighbours in the list are alike. `weights`, one for each
    choice, for the role environment: how likely nature draws it (see `bbopt.environment`).

    >>> Categorical(["S235", "S355"]).levels
    2
    """

    choices: Sequence[Any]
    ordered: bool = False
    role: str = "design"
    when: str | None = None
    weights: Sequence[float] | None = None
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    size: ClassVar[int] = 1
    bounded: ClassVar[bool] = True
    neutral: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        _check_common(self.role, self.when, None)
        if isinstance(self.choices, str) or not isinstance(self.choices, list | tuple):
            raise SpaceError(f"Categorical: expected a list of choices, got {self.choices!r}")
        if not self.choices:
            raise SpaceError("Categorical: expected at least one choice, got none")
        plain = [value.item() if isinstance(value, np.generic) else value for value in self.choices]
        index = {json_key(value): i for i, value in enumerate(plain)}
        if len(index) < len(plain):
            raise SpaceError(f"Categorical: expected different choices, got {list(self.choices)!r}")
        object.__setattr__(self, "choices", tuple(plain))
        object.__setattr__(self, "weights", check_weights(self.weights, self.role, len(plain)))
        object.__setattr__(self, "_index", index)

    def __hash__(self) -> int:
        return hash((tuple(self._index), self.ordered, self.role, self.when, self.weights))

    @property
    def kind(self) -> str:
        return "ordered" if self.ordered else "category"

    @property
    def levels(self) -> int:
        return len(self.choices)

    def canonical(self, x: Array) -> Array:
        index: Array = np.clip(np.rint(x), 0, self.levels - 1)
        return index

    def from_uniform(self, u: Array) -> Array:
        if self.weights is not None:
            edges = np.cumsum(self.weights)
            likely = np.flatnonzero(self.weights)
            drawn = np.searchsorted(edges, np.asarray(u) * edges[-1], side="right")
            return np.asarray(np.clip(drawn, likely[0], likely[-1]), float)
        index: Array = np.clip(np.floor(u * self.levels), 0, self.levels - 1)
        return index

    def values(self, x: Array) -> Array:
        """The choices themselves, as an array of objects."""
        table = np.empty(self.levels, object)
        for i, choice in enumerate(self.choices):
            table[i] = choice
        picked: Array = table[self.canonical(x).astype(int)]
        return picked

    def decode(self, x: Array) -> Any:
        return copy.deepcopy(self.choices[int(self.canonical(x)[0])])

    def encode(self, value: Any, name: str) -> Array:
        plain = value.item() if isinstance(value, np.generic) else value
        position = self._index.get(json_key(plain))
        if position is None:
            raise SpaceError(f"{name}: expected one of {list(self.choices)!r}, got {value!r}")
        return np.array([float(position)])


@dataclass(frozen=True)
class Fixed:
    """A value that is part of every point and takes no column.

    >>> Fixed("steel").size
    0
    """

    value: Any
    role: ClassVar[str] = "design"
    when: str | None = None
    size: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _check_common("design", self.when, None)
        json_key(self.value)

    def __hash__(self) -> int:
        return hash((json_key(self.value), self.when))


Parameter = Float | Int | Categorical | Fixed
