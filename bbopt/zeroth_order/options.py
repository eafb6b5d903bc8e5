"""Checks of the options that the strategies of this package share."""

from __future__ import annotations

import math
from typing import Any

from bbopt.errors import UsageError


def positive(who: str, name: str, value: Any) -> None:
    """Raise UsageError unless the value is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < math.inf:
        raise UsageError(f"{who}: expected {name} as a finite number above 0, got {value!r}")


def not_negative(who: str, name: str, value: Any) -> None:
    """Raise UsageError unless the value is a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < math.inf:
        raise UsageError(f"{who}: expected {name} as a finite number of at least 0, got {value!r}")


def count(who: str, name: str, value: Any) -> None:
    """Raise UsageError unless the value is None or a whole number of at least 1."""
    if value is not None and (type(value) is not int or value < 1):
        raise UsageError(f"{who}: expected {name} as a whole number of at least 1, or None; got {value!r}")
