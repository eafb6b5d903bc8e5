"""The axes of numbers: values to encoded columns and back, on a fixed grid.

Decoding lands on the grid and encoding a grid value gives back the same column, so a decoded point encodes to itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.errors import SpaceError

Array = np.ndarray[Any, np.dtype[Any]]

LARGEST_INT = 2**50
LARGEST_LOG_INT = 10**12
SMALLEST, BELOW_ONE = 5e-324, float(np.nextafter(1.0, 0.0))  # the ends of a column belong to the bounds alone


def read_bound(value: Any, what: str) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise SpaceError(f"{what}: expected a number, got {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise SpaceError(f"{what}: expected a finite number, got {value!r}")
    return number


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
    rounded: Array = np.rint(value * up / down) * down / up
    return rounded


@dataclass(frozen=True)
class NumericAxis:
    """What Float and Int share: bounds, an axis that may be logarithmic, and levels where there is a step."""

    low: float | None
    high: float | None
    log: bool
    step: float | None
    levels: int  # 0: continuous
    exponent: int  # the decimal grid of a continuous linear axis
    scale: float  # of an unbounded axis, a power of two

    @property
    def linear(self) -> bool:
        """Continuous, bounded, not logarithmic: what a LinearBlock takes."""
        return self.low is not None and not self.log and not self.levels

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
        clipped: Array = np.clip(value, self.low, self.high)
        return clipped

    def level(self, value: Array) -> Array:
        """The nearest of the stepped values."""
        assert self.low is not None and self.high is not None
        step = self.step or 1.0
        index = np.clip(np.rint((value - self.low) / step), 0, self.levels - 1)
        value = _round_linear(self.low + index * step, self.exponent)
        # the ends are the bounds as they were given: a bound such as 0.1 + 0.2 is not on the decimal grid
        return np.where(index <= 0, self.low, np.where(index >= self.levels - 1, self.high, value))

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
        inside = np.clip(x, SMALLEST, BELOW_ONE)
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


def make_axis(low: Any, high: Any, log: bool, step: Any, whole: bool) -> NumericAxis:
    kind = "Int" if whole else "Float"
    a, b = read_bound(low, f"{kind} low"), read_bound(high, f"{kind} high")
    if whole and (a != int(a) or b != int(b)):
        raise SpaceError(f"Int: expected whole bounds, got {low!r} and {high!r}; use Float(..., step=) for other grids")
    if a > b:
        raise SpaceError(f"{kind}: expected low <= high, got low={low!r} and high={high!r}")
    if not math.isfinite(b - a):
        raise SpaceError(
            f"{kind}: the range from {low!r} to {high!r} is too wide for floating point; use log=True or scale="
        )
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
        return NumericAxis(a, b, log, None, 1 if a == b else 0, exponent, 1.0)
    width = 1.0 if step is None else read_bound(step, f"{kind} step")
    if width <= 0 or (whole and width != int(width)):
        raise SpaceError(f"{kind}: expected a positive {'whole ' if whole else ''}step, got {step!r}")
    levels = math.floor((b - a) / width + 1e-9) + 1
    if levels > LARGEST_INT:
        raise SpaceError(f"{kind}: step {step!r} cuts the range into {levels} levels, more than can be told apart")
    exponent = max(exponent, min(-18, math.floor(math.log10(width)) - 9)) if not whole else 0
    top = float(_round_linear(np.asarray(a + (levels - 1) * width), exponent))
    return NumericAxis(a, min(top, b) if abs(top - b) > 1e-9 * width else b, log, width, levels, exponent, 1.0)


class LinearBlock:
    """All continuous columns with a linear axis at once: the same arithmetic as one by one, in fewer calls."""

    def __init__(self, parts: list[slice], axes: list[NumericAxis]) -> None:
        self.columns = np.concatenate([np.arange(part.start, part.stop) for part in parts])
        sizes = [part.stop - part.start for part in parts]
        self._low = np.repeat([axis.low for axis in axes], sizes).astype(float)
        self._high = np.repeat([axis.high for axis in axes], sizes).astype(float)
        self._span = self._high - self._low
        exponents = np.repeat([axis.exponent for axis in axes], sizes)
        self._up = 10.0 ** np.maximum(-exponents, 0)
        self._down = 10.0 ** np.maximum(exponents, 0)
        self._fine = bool((exponents <= 0).all())  # nothing to divide by: two operations less

    def decode(self, x: Array) -> Array:
        """(n, p) values of (n, p) encoded columns."""
        value: Array = self._low + x * self._span
        if self._fine:
            value = np.rint(value * self._up) / self._up
        else:
            value = np.rint(value * self._up / self._down) * self._down / self._up
        np.maximum(value, self._low, out=value)
        np.minimum(value, self._high, out=value)
        np.copyto(value, self._low, where=x <= 0.0)
        np.copyto(value, self._high, where=x >= 1.0)
        return value

    def canonical(self, x: Array) -> Array:
        value = self.decode(x)
        column: Array = (value - self._low) / self._span
        np.maximum(column, SMALLEST, out=column)
        np.minimum(column, BELOW_ONE, out=column)
        np.copyto(column, 0.0, where=value <= self._low)
        np.copyto(column, 1.0, where=value >= self._high)
        return column
