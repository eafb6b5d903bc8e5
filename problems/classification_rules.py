"""Which points work: the rules of the classification data sets, as functions of columns of values.

Rules of problems that bbopt optimises are made from these problems (`feasible`), so that each formula is written once.
The solar heat exchanger and the four islands are those of Sharpe, Wiest, Wang, Seepersad (2019), A comparative evaluation
of supervised machine learning classification techniques for engineering design applications, J. Mech. Design 141(12).
"""

from __future__ import annotations

from math import pi

import numpy as np
from numpy.typing import NDArray

from bbopt.task import Task

from .problem import Array, Columns
from .synthetic import ackley

__all__ = ["concrete_beam_class", "exchanger_works", "feasible", "heat_exchanger", "on_an_island"]

Labels = NDArray[np.int64]


def feasible(task: Task, metrics: Columns) -> Labels:
    """(n,) 1 where every outcome constraint of the task holds, else 0, from (n,) metrics by name.

    >>> import bbopt
    >>> feasible(bbopt.problems.get("jlh1").task, {"g1": np.array([-1.0, 0.0, 0.5])}).tolist()
    [1, 1, 0]
    """
    inside = [
        sign * (np.asarray(metrics[item.name]) - limit) <= item.tolerance
        for item in task.constraints
        for sign, limit in item.limits
    ]
    together: Labels = np.all(inside, axis=0).astype(np.int64)
    return together


def concrete_beam_class(task: Task, metrics: Columns) -> Labels:
    """(n,) 0 for a concrete beam that fails, 1 for one that holds, 2 for one that holds and costs at most 470."""
    return feasible(task, metrics) * (1 + (metrics["cost"] <= 470.0).astype(np.int64))


# --- solar heat exchanger --------------------------------------------------------------------------------------------

_FLOW, _INSOLATION, _FRICTION = 0.2, 1000.0, 0.4  # kg/s, W/m^2; the public code of 2024 has 0.4 where it had 0.04
_DENSITY, _HEAT_CAPACITY, _CLEARANCE, _GRAVITY = 997.1, 4200.0, 0.02, 9.81  # kg/m^3, J/(kg K), m, m/s^2


def heat_exchanger(p: Columns) -> dict[str, Array]:
    """Head loss (m), volume (m^3) and length (m) of a solar water heater: one pipe that runs to and fro in a flat box.

    `diameter` of the pipe (m) and number of `passes`. The straight part of the pipe is as long as heating the flow needs;
    a bend counts as 50 diameters of pipe in the loss of head.
    """
    d, n = p["diameter"], p["passes"]
    slope = 8 * _FRICTION / (pi**2 * _GRAVITY) * (_FLOW / _DENSITY) ** 2 / d**5  # head per length, Darcy and Weisbach
    ends = pi * d * (1.5 * d + _CLEARANCE / 2) + (n - 1) * pi**2 / 4 * ((1.5 * d) ** 2 - (0.5 * d) ** 2)
    straight = (3 * _FLOW * _HEAT_CAPACITY / _INSOLATION - ends) / (n * pi * d / 2)
    length = straight + 3 * d + _CLEARANCE
    width, height = n * d + (n - 1) * d + _CLEARANCE, d + _CLEARANCE
    return {
        "head_loss": slope * (straight * n + 3 * d + _CLEARANCE + 50 * d * (n - 1)),
        "volume": length * width * height,
        "length": length,
    }


def exchanger_works(p: Columns) -> Labels:
    """(n,) 1 where the head loss is at most 20 m, the volume at most 0.2 m^3 and the length at most 3 m.

    The thresholds of the source are not public; these are ours.
    """
    out = heat_exchanger(p)
    return ((out["head_loss"] <= 20.0) & (out["volume"] <= 0.2) & (out["length"] <= 3.0)).astype(np.int64)


# --- four islands ----------------------------------------------------------------------------------------------------


def on_an_island(p: Columns) -> Labels:
    """(n,) 1 on one of four separate regions of the plane: seven conditions, the last two cut a cross into the land."""
    x, y = p["x"], p["y"]
    inside = [
        50 * (-0.3 * x + 0.7 * y) <= 25,
        (x - 0.2) ** 2 + (y - 0.7) ** 2 <= 0.25,
        np.exp((0.6 * x + 0.4 * y) ** 2 + 0.3) <= 1.6,
        0.5 * x**2 + y**2 <= 0.21,
        ackley(np.stack([x, y - 0.3], axis=1)) <= 2,
        70 * (x - 0.12) ** 2 >= 0.22,
        70 * (y - 0.33) ** 2 >= 0.3,
    ]
    together: Labels = np.all(inside, axis=0).astype(np.int64)
    return together
