"""Designs whose surroundings are random: the optimum is that of a functional over what nature draws (`bbopt.risk`).

A call evaluates one design in one environment, as every problem does; `problem.risk(design)` is what the design is judged by,
by quadrature over the environment, and `problem.optimum` is the least of that, with the params of the design alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bbopt.space import Categorical, Float, Space
from bbopt.task import Objective, Task

from .problem import Columns, Optimum, Problem

Array = NDArray[np.float64]
ROUNDS = "the risk, by quadrature, minimised by a grid of designs and Nelder-Mead steps from its best points"
_WILLIAMS = (
    "B. J. Williams, T. J. Santner, W. I. Notz, Sequential design of computer experiments to minimize integrated response "
    "functions, Statistica Sinica 10 (2000), section 5"
)
_WILLIAMS_OPTIMA = {  # value, x1, x4
    "mean": (323.0117385006162, 0.2026338938745452, 0.2544527389587422),
    "cvar": (637.9877779230145, 0.22728850608961354, 0.29375893118410057),
}
_CANTILEVER_OPTIMA = {  # value, breadth, height
    "mean": (8.405490865465957, 2.1696186671679367, 3.743369845905945),
    "cvar": (8.919806438923402, 2.3336876839745537, 3.744044331974458),
}


def _branin(u: Array, v: Array) -> Array:
    return np.asarray(
        (v - 5.1 / (4.0 * np.pi**2) * u**2 + 5.0 / np.pi * u - 6.0) ** 2
        + 10.0 * (1.0 - 1.0 / (8.0 * np.pi)) * np.cos(u)
        + 10.0
    )


def _williams(columns: Columns) -> Mapping[str, Array]:
    x1, x2, x3, x4 = (np.asarray(columns[f"x{i}"], float) for i in (1, 2, 3, 4))
    return {"f": _branin(15.0 * x1 - 5.0, 15.0 * x2) * _branin(15.0 * x3 - 5.0, 15.0 * x4)}


def branin_williams(over: str, level: float | None) -> Problem:
    """The product of two Branin functions with two design and two environment variables on a grid of twelve points."""
    space = Space(
        x1=Float(0.0, 1.0),
        x4=Float(0.0, 1.0),
        x2=Categorical([0.25, 0.5, 0.75], ordered=True, role="environment", weights=(0.25, 0.5, 0.25)),
        x3=Categorical([0.2, 0.4, 0.6, 0.8], ordered=True, role="environment", weights=(0.15, 0.35, 0.35, 0.15)),
    )
    value, x1, x4 = _WILLIAMS_OPTIMA[over]
    return Problem(
        f"branin_williams_{over}",
        Task(space, (Objective("f", over=over, level=level),)),
        _williams,
        Optimum(value, {"x1": x1, "x4": x4}, f"exact sum over the twelve environments; {ROUNDS}", 1e-6),
        _WILLIAMS + "; its conditional value at risk in S. Cakmak et al. 2020, arXiv 2007.05554, section 5",
        "A product of two Branin functions of which x1 and x4 are chosen, while x2 and x3 are drawn from twelve pairs.",
    )


def _tail(columns: Columns) -> Mapping[str, Array]:
    x, y, w = (np.asarray(columns[name], float) for name in ("boldness", "trim", "surge"))
    return {"loss": (1.0 - x) ** 2 + 1.6 * x * w**8 + (y - 0.4) ** 2}


def tail(over: str) -> Problem:
    """A bold design is best on average and worst in a surge: each functional has an optimum of its own, in closed form.

    With c the functional of w^8 for w uniform on (0, 1), the risk is (1 - x)^2 + 1.6 c x + (y - 0.4)^2, least at x = 1 - 0.8 c.
    """
    q = 0.9
    c = {"mean": 1 / 9, "worst": 1.0, "var": q**8, "cvar": (1.0 - q**9) / 9.0 / (1.0 - q)}[over]
    best = 1.0 - 0.8 * c
    space = Space(boldness=Float(0.0, 1.0), trim=Float(0.0, 1.0), surge=Float(0.0, 1.0, role="environment"))
    return Problem(
        f"tail_{over}",
        Task(space, (Objective("loss", over=over, level=q if over in ("var", "cvar") else None),)),
        _tail,
        Optimum((1.0 - best) ** 2 + 1.6 * c * best, {"boldness": best, "trim": 0.4}, "closed form", 1e-12),
        "made for bbopt",
        "How boldly to build where a rare surge makes boldness dear; mean, value at risk, its tail and the worst case differ.",
    )


def _saddle(columns: Columns) -> Mapping[str, Array]:
    x1, x2, w1, w2 = (np.asarray(columns[name], float) for name in ("x1", "x2", "w1", "w2"))
    return {"f": 5.0 * (x1**2 + x2**2) - (w1**2 + w2**2) + x1 * (-w1 + w2 + 5.0) + x2 * (w1 - w2 + 3.0)}


def rustem_howe() -> Problem:
    """A minimax problem: the best design against the worst environment."""
    space = Space(
        **{name: Float(-5.0, 5.0) for name in ("x1", "x2")},
        **{name: Float(-5.0, 5.0, role="environment") for name in ("w1", "w2")},
    )
    best = {"x1": -29.0 / 60.0, "x2": -19.0 / 60.0}
    return Problem(
        "rustem_howe",
        Task(space, (Objective("f", over="worst"),)),
        _saddle,
        Optimum(-101.0 / 60.0, best, "closed form: the worst environment is w = (x2 - x1) / 2 (1, -1)", 1e-12),
        "B. Rustem, M. Howe, Algorithms for worst-case design and applications to risk management, Princeton 2002; "
        "function f1 of J. Marzat, E. Walter, H. Piet-Lahanier, J. Global Optimization 55 (2013)",
        "A quadratic saddle in two design and two environment variables, to be minimised in the worst environment.",
    )


def _cantilever(columns: Columns) -> Mapping[str, Array]:
    b, h, down, across = (np.asarray(columns[name], float) for name in ("breadth", "height", "down", "across"))
    stress = 600.0 * down / (b * h**2) + 600.0 * across / (b**2 * h)
    over = np.maximum(stress / 40_000.0 - 1.0, 0.0)
    return {"cost": b * h + 25.0 * over}


def cantilever_load(over: str, level: float | None) -> Problem:
    """A cantilever with random loads at its tip: section area, and what overstress costs."""
    space = Space(
        breadth=Float(1.0, 4.0),
        height=Float(1.0, 4.0),
        down=Float(500.0, 1500.0, role="environment", normal=(1000.0, 100.0)),
        across=Float(0.0, 1000.0, role="environment", normal=(500.0, 100.0)),
    )
    value, breadth, height = _CANTILEVER_OPTIMA[over]
    return Problem(
        f"cantilever_load_{over}",
        Task(space, (Objective("cost", over=over, level=level),)),
        _cantilever,
        Optimum(value, {"breadth": breadth, "height": height}, ROUNDS, 1e-4),
        "stress and loads of Y.-T. Wu, Y. Shin, R. Sues, M. Cesare, Safety-factor based approach for probability-based design "
        "optimization, AIAA 2001-1522; the price of overstress is bbopt's",
        "Breadth and height (in inches) of a cantilever of 100 inches whose two loads (in pounds) are normal: its area and a "
        "price for stress beyond 40,000 psi.",
    )
