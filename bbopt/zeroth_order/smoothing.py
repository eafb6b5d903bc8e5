"""How far to step for a difference: the radius at which its two errors, of the formula and of the values, are equal.

With values that are wrong by up to e (rounding or noise), in the notation of `coordinates.py`:

    forward   h |f''| / 2 + 2 e / h       is least at  h = 2 sqrt(e / |f''|)
    central   h^2 |f'''| / 6 + e / h      is least at  h = (3 e / |f'''|)^(1/3)

(P. Gill, W. Murray, M. Wright, Practical Optimization, 1981, section 8.6). What is not known is guessed on the scale of the
problem: derivatives as large as the values are, in units in which a typical change is 1, and e the precision of the number
format relative to the value. Networks in single precision are the example: forward 7e-4, central 7e-3 times the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from bbopt.errors import UsageError
from bbopt.zeroth_order.coordinates import Scheme
from bbopt.zeroth_order.options import positive

Array = np.ndarray[Any, np.dtype[Any]]
Precision = Literal["float64", "float32", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
LARGEST = 0.25  # of the range of a bounded column
NOISY = 0.1  # where noise is declared: if its size is unknown, or asks for more


def check_radius(who: str, radius: float | None, precision: str) -> None:
    """Raise UsageError, in the name of `who`, for a radius that is no length, or a precision that there is not."""
    if radius is not None:
        positive(who, "radius", radius)
    if precision not in PRECISIONS:
        raise UsageError(f"{who}: expected precision of {', '.join(PRECISIONS)}; got {precision!r}")


def forward_radius(error: float, second: float = 1.0) -> float:
    """2 sqrt(e / |f''|).

    >>> forward_radius(1e-4, second=4.0)
    0.01
    """
    return float(2.0 * np.sqrt(error / abs(second)))


def central_radius(error: float, third: float = 1.0) -> float:
    """(3 e / |f'''|)^(1/3).

    >>> round(central_radius(1e-6, third=3.0), 12)
    0.01
    """
    return float(np.cbrt(3.0 * error / abs(third)))


def precision_radius(precision: Precision, scheme: Scheme) -> float:
    """The radius, relative to a typical change, for values that carry the rounding of a number format.

    >>> f"{precision_radius('float32', 'forward'):.1e} {precision_radius('float64', 'central'):.1e}"
    '6.9e-04 8.7e-06'
    """
    if precision not in PRECISIONS:
        raise UsageError(f"expected a precision of {', '.join(PRECISIONS)}; got {precision!r}")
    error = float(np.finfo(precision).eps)
    return forward_radius(error) if scheme == "forward" else central_radius(error)


def noise_radius(noise: str | float, scheme: Scheme) -> float:
    """The radius, in encoded units, for values with a standard deviation of `noise`, or of an "unknown" one.

    The derivatives are taken for 1: noise is given in the unit of the objective, and nothing else is known of that.

    >>> noise_radius("unknown", "central"), noise_radius(1e-4, "forward")
    (0.1, 0.02)
    """
    if isinstance(noise, str):
        return NOISY
    return min(NOISY, forward_radius(noise) if scheme == "forward" else central_radius(noise))


def relative_radius(x: Array, radius: float, groups: Sequence[slice]) -> Array:
    """(d,) radius times max(|x_i|, root mean square of its group), for coordinates whose scale their values show.

    A group of zeros shows none, and has the scale 1.

    >>> relative_radius(np.array([3.0, -4.0, 0.0]), 0.1, [slice(0, 2), slice(2, 3)]).round(3).tolist()
    [0.354, 0.4, 0.1]
    """
    scale = np.ones(len(x))
    for part in groups:
        size = float(np.sqrt(np.mean(x[part] ** 2))) if len(x[part]) else 0.0
        if size > 0.0:
            scale[part] = np.maximum(np.abs(x[part]), size)
    return radius * scale
