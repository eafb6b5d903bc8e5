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
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from bbopt.errors import SpaceError

Array = np.ndarray[Any, np.dtype[Any]]

ROLES = ("design", "fidelity", "source", "context")
LARGEST_INT = 2**50
LARGEST_LOG_INT = 10**12


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise SpaceError(f"{what}: expected a number, got {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise SpaceError(f"{what}: expected a finite number, got {value!r}")
    return number


def _check_common(role: str, when: str | None, shape: tuple[int, ...] | None) -> None:
    if role not in ROLES:
        raise SpaceError(f"role: expected one of {', '.join(ROLES)}; got {role!r}")
    if when is not None and not isinstance(when, str):
        raise SpaceError(f"when: expected a condition as text, such as \"steel == 'S355'\"; got {when!r}")
    if shape is not None and (
        not isinstance(shape, tuple) or not all(type(n) is int and n > 0 for n in shape) or not shape
    ):
        raise SpaceError(f"shape: expected a tuple of positive integers, such as (3,); got {shape!r}")


def _round_linear(value: Array, exponent: int) -> Array:
    """To the nearest multiple of 10**exponent, as the closest float to that decimal."""
    if exponent <= 0:
        return np.rint(value * 10.0**-exponent) / 10.0**-exponent
    return np.rint(value / 10.0**exponent) * 10.0**exponent


def _round_significant(value: Array, digits: int) -> Array:
    """To `digits` significant decimal digits (positive values)."""
    power = np.floor(np.log10(value)).astype(int) - (digits - 1)
    down = 10.0 ** np.maximum(power, 0)
    up = 10.0 ** np.maximum(-power, 0)
    return np.rint(value * up / down) * down / up


@dataclass(frozen=True)
class _Numeric:
    """What Float and Int share: bounds, an axis that may be logarithmic, and levels where there is a step."""

    low: float | None
    high: float | None
    log: bool
    step: float | None
    levels: int  # 0: continuous
    exponent: int  # the decimal grid of a continuous linear axis
    scale: float  # of an unbounded axis, a power of two

    def decode(self, x: Array) -> Array:
        """Values of encoded numbers, on the grid and inside the bounds."""
        if self.low is None or self.high is None:
            return x * self.scale
        if self.log:
            bottom, top = math.log(self.low), math.log(self.high)
            value = np.exp(bottom + np.clip(x, 0.0, 1.0) * (top - bottom))
            if not self.levels:
                value = _round_significant(value, 12)
        elif self.levels:
            value = self.low + np.rint(np.clip(x, 0.0, 1.0) * (self.levels - 1)) * (self.step or 1.0)
        else:
            value = _round_linear(self.low + x * (self.high - self.low), self.exponent)
        if self.levels:
            value = self.level(value)
        value = np.where(x <= 0.0, self.low, np.where(x >= 1.0, self.high, value))
        return np.clip(value, self.low, self.high)

    def level(self, value: Array) -> Array:
        """The nearest of the stepped values."""
        assert self.low is not None and self.high is not None
        step = self.step or 1.0
        index = np.clip(np.rint((value - self.low) / step), 0, self.levels - 1)
        return _round_linear(self.low + index * step, self.exponent)

    def encode(self, value: Array) -> Array:
        """Encoded numbers of values that lie within the bounds."""
        if self.low is None or self.high is None:
            return value / self.scale
        if self.low == self.high:
            return np.zeros_like(value)
        if self.log:
            bottom, top = math.log(self.low), math.log(self.high)
            x = (np.log(value) - bottom) / (top - bottom)
        elif self.levels:
            x = np.rint((value - self.low) / (self.step or 1.0)) / (self.levels - 1)
        else:
            x = (value - self.low) / (self.high - self.low)
        # the ends are exact, and nothing else may claim to be an end: decoding maps 0 and 1 to the bounds
        inside = np.clip(x, 5e-324, np.nextafter(1.0, 0.0))
        return np.where(value <= self.low, 0.0, np.where(value >= self.high, 1.0, inside))

    def from_uniform(self, u: Array) -> Array:
        """Encoded numbers from uniform ones: the levels equally likely (cells of the log axis where `log`)."""
        if self.low is None or self.high is None:
            inner = np.clip(u, 1e-15, 1.0 - 1e-15)  # logistic, standard deviation of one scale
            return np.log(inner / (1.0 - inner)) * (math.sqrt(3.0) / math.pi)
        if not self.levels:
            return self.encode(self.decode(u))
        step = self.step or 1.0
        if not self.log:
            value = self.low + np.minimum(np.floor(u * self.levels), self.levels - 1) * step
        else:
            bottom = math.log(max(self.low - step / 2, self.low / 2))
            value = np.exp(bottom + u * (math.log(self.high + step / 2) - bottom))
        return self.encode(self.level(value))


def _make_numeric(low: Any, high: Any, log: bool, step: Any, whole: bool) -> _Numeric:
    kind = "Int" if whole else "Float"
    a, b = _number(low, f"{kind} low"), _number(high, f"{kind} high")
    if whole and (a != int(a) or b != int(b)):
        raise SpaceError(f"Int: expected whole bounds, got {low!r} and {high!r}; use Float(..., step=) for other grids")
    if a > b:
        raise SpaceError(f"{kind}: expected low <= high, got low={low!r} and high={high!r}")
    if not math.isfinite(b - a):
        raise SpaceError(f"{kind}: the range from {low!r} to {high!r} is too wide for floating point; use log=True or scale=")
    if log and a <= 0:
        raise SpaceError(f"{kind}: a log axis needs low > 0, got low={low!r}; shift the parameter, or leave log out")
    if whole and max(abs(a), abs(b)) > LARGEST_INT:
        raise SpaceError(f"Int: bounds go up to 2**50 = {LARGEST_INT}, got {low!r} and {high!r}; use Float(step=)")
    if whole and log and b > LARGEST_LOG_INT:
        raise SpaceError(f"Int: with log=True bounds go up to {LARGEST_LOG_INT}, got {high!r}; use Float(log=True)")
    size = max(abs(a), abs(b))
    exponent = math.floor(math.log10(size)) - 13 if size > 0 else 0
    if step is None and not whole:
        if b > a:
            exponent = max(exponent, math.floor(math.log10(b - a)) - 12)
        return _Numeric(a, b, log, None, 1 if a == b else 0, exponent, 1.0)
    width = 1.0 if step is None else _number(step, f"{kind} step")
    if width <= 0 or whole and width != int(width):
        raise SpaceError(f"{kind}: expected a positive {'whole ' if whole else ''}step, got {step!r}")
    levels = math.floor((b - a) / width + 1e-9) + 1
    if levels > LARGEST_INT:
        raise SpaceError(f"{kind}: step {step!r} cuts the range into {levels} levels, more than can be told apart")
    exponent = max(exponent, min(-18, math.floor(math.log10(width)) - 9)) if not whole else 0
    top = float(_round_linear(np.asarray(a + (levels - 1) * width), exponent))
    return _Numeric(a, min(top, b) if abs(top - b) > 1e-9 * width else b, log, width, levels, exponent, 1.0)


class _Number:
    """Behaviour of Float and Int on columns; the numbers are in `axis`."""

    kind: ClassVar[str]
    axis: _Numeric
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

    `shape=(n, ...)` makes a vector parameter, one column per entry. `role` is design, fidelity, source or context;
    `when` is a condition on other parameters outside which this one does not exist.

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
    axis: _Numeric = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_common(self.role, self.when, self.shape)
        if self.scale is None:
            if self.low is None or self.high is None:
                raise SpaceError("Float: expected both bounds, Float(low, high), or a scale for an unbounded one, Float(scale=1.0)")
            axis = _make_numeric(self.low, self.high, self.log, self.step, whole=False)
        else:
            if self.low is not None or self.high is not None or self.log or self.step is not None:
                raise SpaceError("Float: scale= is for parameters without bounds; give bounds or a scale, not both")
            scale = _number(self.scale, "Float scale")
            if not 1e-100 < scale < 1e100:
                raise SpaceError(f"Float: expected a positive scale (1e-100 to 1e100), got {self.scale!r}")
            axis = _Numeric(None, None, False, None, 0, 0, 2.0 ** round(math.log2(scale)))
        object.__setattr__(self, "axis", axis)

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
    axis: _Numeric = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_common(self.role, self.when, self.shape)
        object.__setattr__(self, "axis", _make_numeric(self.low, self.high, self.log, self.step, whole=True))

    def decode(self, x: Array) -> Any:
        value = np.rint(self.axis.decode(x)).astype(np.int64)
        return value.reshape(self.shape) if self.shape else int(value[0])


class LinearBlock:
    """All continuous columns with a linear axis at once: the same arithmetic as one by one, in fewer calls."""

    def __init__(self, members: list[tuple[slice, Float]]) -> None:
        self.columns = np.concatenate([np.arange(part.start, part.stop) for part, _ in members])
        sizes = [parameter.size for _, parameter in members]
        axes = [parameter.axis for _, parameter in members]
        self._low = np.repeat([axis.low for axis in axes], sizes).astype(float)
        self._high = np.repeat([axis.high for axis in axes], sizes).astype(float)
        self._span = self._high - self._low
        exponents = np.repeat([axis.exponent for axis in axes], sizes)
        self._up = 10.0 ** np.maximum(-exponents, 0)
        self._down = 10.0 ** np.maximum(exponents, 0)

    @staticmethod
    def takes(parameter: Any) -> bool:
        return isinstance(parameter, Float) and parameter.bounded and not parameter.log and not parameter.levels

    def decode(self, x: Array) -> Array:
        """(n, p) values of (n, p) encoded columns."""
        value = np.rint((self._low + x * self._span) * self._up / self._down) * self._down / self._up
        value = np.where(x <= 0.0, self._low, np.where(x >= 1.0, self._high, value))
        return np.minimum(np.maximum(value, self._low), self._high)

    def canonical(self, x: Array) -> Array:
        value = self.decode(x)
        inside = np.minimum(np.maximum((value - self._low) / self._span, 5e-324), np.nextafter(1.0, 0.0))
        return np.where(value <= self._low, 0.0, np.where(value >= self._high, 1.0, inside))


def json_key(value: Any) -> str:
    """One text per JSON value, so that True, 1 and "1" stay apart."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        raise SpaceError(f"expected a JSON value (text, number, true/false, null, list, mapping), got {value!r}") from None


@dataclass(frozen=True)
class Categorical:
    """One of `choices` (any JSON values); `ordered=True` says that neighbours in the list are alike.

    >>> Categorical(["S235", "S355"]).levels
    2
    """

    choices: tuple[Any, ...]
    ordered: bool = False
    role: str = "design"
    when: str | None = None
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
        object.__setattr__(self, "_index", index)

    def __hash__(self) -> int:
        return hash((tuple(self._index), self.ordered, self.role, self.when))

    @property
    def kind(self) -> str:
        return "ordered" if self.ordered else "category"

    @property
    def levels(self) -> int:
        return len(self.choices)

    def canonical(self, x: Array) -> Array:
        return np.clip(np.rint(x), 0, self.levels - 1)

    def from_uniform(self, u: Array) -> Array:
        return np.clip(np.floor(u * self.levels), 0, self.levels - 1)

    def values(self, x: Array) -> Array:
        """The choices themselves, as an array of objects."""
        table = np.empty(self.levels, object)
        for i, choice in enumerate(self.choices):
            table[i] = choice
        return table[self.canonical(x).astype(int)]

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
