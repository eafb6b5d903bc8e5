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


def count(who: str, name: str, value: Any, optional: bool = True) -> None:
    """Raise UsageError unless the value is a whole number of at least 1, or None where it is `optional`."""
    if (value is None and optional) or (type(value) is int and value >= 1):
        return
    raise UsageError(f"{who}: expected {name} as a whole number of at least 1{', or None' * optional}; got {value!r}")
