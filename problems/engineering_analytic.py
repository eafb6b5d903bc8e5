"""Engineering suite, first part: the six analytic test problems of the PFN-CEI benchmark.

Yu, Picard, Ahmed (2024), "Fast and Accurate Bayesian Optimization with Pre-trained Transformers for Constrained
Engineering Problems", arXiv 2404.04495, took them from the papers named beside each. All are minimised.
"""

from __future__ import annotations

from math import asin, cos, sin, sqrt

import numpy as np

from bbopt.space import Float, Space
from bbopt.task import Constraint, Objective, Task

from .engineering_optima import OPTIMA
from .problem import Array, Columns, Optimum, Problem
from .synthetic import ackley

_JETTON = "Jetton, Li, Hoyle (2023), IDETC"
_GARDNER = "Gardner, Kusner, Xu, Weinberger, Cunningham (2014), Bayesian Optimization with Inequality Constraints, ICML"
_ERIKSSON = "Eriksson, Poloczek (2021), Scalable Constrained Bayesian Optimization, AISTATS"
_KEANE = "Keane (1994), Experiences with optimizers in structural design"


def _jlh1(p: Columns) -> dict[str, Array]:
    x1, x2 = p["x1"], p["x2"]
    return {"f": (x1 - 0.5) ** 2 + (x2 - 0.5) ** 2, "g1": x1 + x2 - 0.75}


def jlh1() -> Problem:
    """A quadratic bowl whose centre is cut off by a line: f = (x1-1/2)^2 + (x2-1/2)^2, g = x1 + x2 - 3/4 <= 0."""
    return Problem(
        "jlh1",
        Task(Space(x1=Float(0, 1), x2=Float(0, 1)), (Objective("f"),), (Constraint("g1", upper=0.0),)),
        _jlh1,
        Optimum(1 / 32, {"x1": 0.375, "x2": 0.375}, "closed form: the projection of the centre onto the line"),
        _JETTON,
        "Two-variable quadratic with one linear constraint, active at the optimum.",
    )


def _waves(x1: Array, x2: Array) -> Array:
    """Objective of JLH2 and GKXWC1: Gardner et al. (2014), first simulation."""
    return np.cos(2 * x1) * np.cos(x2) + np.sin(x1)


def _jlh2(p: Columns) -> dict[str, Array]:
    x1, x2 = p["x1"], p["x2"]
    return {"f": _waves(x1, x2), "g1": (x1 + 5) ** 2 / 4 + x2**2 / 100 - 2.5}


def jlh2() -> Problem:
    """Waves inside an ellipse: f = cos(2 x1) cos(x2) + sin(x1), g = (x1+5)^2/4 + x2^2/100 - 5/2 <= 0.

    The optimum lies on the ellipse at x2 = 0, where (x1 + 5)^2 = 10.
    """
    return Problem(
        "jlh2",
        Task(Space(x1=Float(-5, 0), x2=Float(-5, 5)), (Objective("f"),), (Constraint("g1", upper=0.0),)),
        _jlh2,
        Optimum(
            cos(2 * (sqrt(10) - 5)) + sin(sqrt(10) - 5),
            {"x1": -1.837722339832, "x2": 0.0},
            "closed form: the end of the ellipse, x1 = sqrt(10) - 5",
            1e-12,
        ),
        _JETTON,
        "Two-variable waves with an elliptic constraint, active at the optimum.",
    )


def _gkxwc1(p: Columns) -> dict[str, Array]:
    x1, x2 = p["x1"], p["x2"]
    return {"f": _waves(x1, x2), "g1": np.cos(x1) * np.cos(x2) - np.sin(x1) * np.sin(x2) - 0.5}


def gkxwc1() -> Problem:
    """Waves with feasible bands: f = cos(2 x1) cos(x2) + sin(x1), g = cos(x1 + x2) - 1/2 <= 0.

    The optimum (3 pi/2, 0) has an inactive constraint, with x2 on its lower bound.
    """
    return Problem(
        "gkxwc1",
        Task(Space(x1=Float(0, 6), x2=Float(0, 6)), (Objective("f"),), (Constraint("g1", upper=0.0),)),
        _gkxwc1,
        Optimum(-2.0, {"x1": 4.712388980385, "x2": 0.0}, "closed form: both terms of f at their minimum"),
        _GARDNER + ", first simulation",
        "Two-variable waves with wide feasible bands; the optimum is inside, at a bound.",
    )


def _gkxwc2(p: Columns) -> dict[str, Array]:
    x1, x2 = p["x1"], p["x2"]
    return {"f": np.sin(x1) + x2, "g1": np.sin(x1) * np.sin(x2) + 0.95}


def gkxwc2() -> Problem:
    """Two small feasible islands: f = sin(x1) + x2, g = sin(x1) sin(x2) + 0.95 <= 0.

    At x1 = 3 pi/2 the constraint reads sin(x2) >= 0.95, so x2 = arcsin(0.95). The other island, near
    (pi/2, 3 pi/2), is a trap with f about 5.3.
    """
    return Problem(
        "gkxwc2",
        Task(Space(x1=Float(0, 6), x2=Float(0, 6)), (Objective("f"),), (Constraint("g1", upper=0.0),)),
        _gkxwc2,
        Optimum(
            asin(0.95) - 1,
            {"x1": 4.712388980385, "x2": 1.253235897504},
            "closed form: arcsin(0.95) - 1 at x1 = 3 pi/2",
            1e-12,
        ),
        _GARDNER + ", second simulation",
        "Two variables, two small feasible islands, one of them a trap.",
    )


def _ackley_constrained(p: Columns) -> dict[str, Array]:
    x = p["x"]
    return {"f": ackley(x), "sum": np.sum(x, axis=1), "radius": np.sqrt(np.sum(x**2, axis=1))}


def ackley_constrained(dimension: int) -> Problem:
    """Ackley's function in [-5, 10]^d in a half-space and a ball: sum x_i <= 0 and ||x|| <= 5.

    The optimum is 0 at the origin, where the first constraint is active. The comment of the benchmark's code
    says radius 3; its code and the source use 5.
    """
    return Problem(
        f"ackley_constrained_{dimension}",
        Task(
            Space(x=Float(-5, 10, shape=(dimension,))),
            (Objective("f"),),
            (Constraint("sum", upper=0.0), Constraint("radius", upper=5.0)),
        ),
        _ackley_constrained,
        Optimum(0.0, {"x": [0.0] * dimension}, "closed form: the origin"),
        _ERIKSSON,
        f"Ackley's function in {dimension} dimensions, in a half-space and a ball.",
    )


def _keane(p: Columns) -> dict[str, Array]:
    x = p["x"]
    c2 = np.cos(x) ** 2
    top = np.sum(c2**2, axis=1) - 2 * np.prod(c2, axis=1)
    bottom = np.sqrt(np.sum(np.arange(1, x.shape[1] + 1) * x**2, axis=1))
    f = -np.abs(top / np.maximum(bottom, 1e-3))  # the floor keeps the origin finite; feasible points are far away
    return {"f": f, "product": np.prod(x, axis=1), "sum": np.sum(x, axis=1)}


def keane_bump() -> Problem:
    """Keane's bump in 18 dimensions: f = -|(sum cos^4 x_i - 2 prod cos^2 x_i) / sqrt(sum i x_i^2)|.

    Constraints prod x_i >= 0.75 (active at the optimum) and sum x_i <= 7.5 d. Almost all of the box is feasible.
    """
    return Problem(
        "keane_bump_18",
        Task(
            Space(x=Float(0, 10, shape=(18,))),
            (Objective("f"),),
            (Constraint("product", lower=0.75), Constraint("sum", upper=7.5 * 18)),
        ),
        _keane,
        OPTIMA["keane_bump_18"],
        _KEANE,
        "Keane's bump in 18 dimensions: many local optima, the best on the curved constraint.",
    )
