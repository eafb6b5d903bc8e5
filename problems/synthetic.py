"""The standard test functions without constraints, in any dimension, moved and turned by seed.

All are minimised, over their usual boxes. `shift` moves the optimum to a random place well inside the box, `rotate`
turns the function about its optimum; the value of the optimum stays, because each function has its minimum over
the whole of R^d inside its box. z = z* + R (x - x*), where z* is the function's own optimum, R a random rotation and
x* where the optimum is now.

Sources: Surjanovic, Bingham, Virtual Library of Simulation Experiments (sfu.ca/~ssurjano) for forms and boxes, and
the papers named beside the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from math import pi

import numpy as np

from bbopt.errors import UsageError
from bbopt.space import Float, Parameter, Space
from bbopt.task import Objective, Task

from .problem import Array, Columns, Optimum, Problem

Function = Callable[[Array], Array]
"""From points, shape (k, d), to values, shape (k,)."""


def _sum(terms: Array) -> Array:
    """Sum over the coordinates, shape (k, d) to (k,)."""
    total: Array = np.sum(terms, axis=1)
    return total


# --- functions of fixed dimension ------------------------------------------------------------------------------------


def _branin(x: Array) -> Array:
    """Dixon, Szego (1978). Minimum 10 / (8 pi) at (-pi, 12.275), (pi, 2.275), (3 pi, 2.475)."""
    x1: Array = x[:, 0]
    x2: Array = x[:, 1]
    return (x2 - 5.1 / (4 * pi**2) * x1**2 + 5 / pi * x1 - 6) ** 2 + 10 * (1 - 1 / (8 * pi)) * np.cos(x1) + 10


_HARTMANN_WEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
_HARTMANN3_A = np.array([[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]])
_HARTMANN3_P = np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]]) / 1e4
_HARTMANN6_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_HARTMANN6_P = (
    np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    )
    / 1e4
)


def _hartmann(x: Array, a: Array, p: Array) -> Array:
    """Hartman (1972), in Dixon, Szego (1978): minus a sum of four bumps with centres in the unit cube."""
    inner = np.sum(a * (x[:, None, :] - p) ** 2, axis=2)
    return -_sum(_HARTMANN_WEIGHTS * np.exp(-inner))


# --- families, in any dimension --------------------------------------------------------------------------------------


def ackley(x: Array) -> Array:
    """Ackley (1987): 20 + e - 20 exp(-0.2 sqrt(mean x_i^2)) - exp(mean cos(2 pi x_i)), exactly 0 at the origin."""
    d = x.shape[1]
    bowl: Array = -20 * np.expm1(-0.2 * np.sqrt(_sum(x**2) / d))
    waves: Array = -np.e * np.expm1(_sum(np.cos(2 * pi * x)) / d - 1)
    return bowl + waves


def _levy(x: Array) -> Array:
    """Levy, Montalvo (1985), in the form of Laguna, Marti (2005)."""
    w = 1 + (x - 1) / 4
    first: Array = np.sin(pi * (w[:, 0] - 1)) ** 2  # sin(pi w)^2, exactly 0 at w = 1
    body = _sum((w[:, :-1] - 1) ** 2 * (1 + 10 * np.sin(pi * w[:, :-1] + 1) ** 2))
    last: Array = (w[:, -1] - 1) ** 2 * (1 + np.sin(2 * pi * w[:, -1]) ** 2)
    return first + body + last


def _rosenbrock(x: Array) -> Array:
    """Rosenbrock (1960): a curved valley."""
    return _sum(100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2)


def _rastrigin(x: Array) -> Array:
    """Rastrigin (1974): 10 d + sum x_i^2 - 10 cos(2 pi x_i)."""
    return _sum(x**2 + 10 * (1 - np.cos(2 * pi * x)))


def _griewank(x: Array) -> Array:
    """Griewank (1981): 1 + sum x_i^2 / 4000 - prod cos(x_i / sqrt i)."""
    waves: Array = np.prod(np.cos(x / np.sqrt(np.arange(1, x.shape[1] + 1))), axis=1)
    return _sum(x**2) / 4000 + (1 - waves)


def _styblinski_tang(x: Array) -> Array:
    """Styblinski, Tang (1990): half the sum of x_i^4 - 16 x_i^2 + 5 x_i."""
    return _sum(x**4 - 16 * x**2 + 5 * x) / 2


def _sphere(x: Array) -> Array:
    return _sum(x**2)


def _ellipsoid(x: Array) -> Array:
    """Hansen, Ostermeier (2001): sum 10^(6 (i-1)/(d-1)) x_i^2, condition number 10^6. `rotate` turns its axes."""
    return _sum(np.logspace(0, 6, x.shape[1]) * x**2)


@dataclass(frozen=True)
class Family:
    """A function in any dimension of at least `smallest`: its box, and its optimum per coordinate and per dimension."""

    function: Function
    low: float
    high: float
    coordinate: float
    value: float
    smallest: int
    source: str


# Styblinski-Tang: the leftmost root of 4 x^3 - 32 x + 5, and half of x^4 - 16 x^2 + 5 x there.
FAMILIES: Mapping[str, Family] = {
    "ackley": Family(ackley, -32.768, 32.768, 0.0, 0.0, 1, "Ackley (1987)"),
    "levy": Family(_levy, -10.0, 10.0, 1.0, 0.0, 1, "Laguna, Marti (2005)"),
    "rosenbrock": Family(_rosenbrock, -5.0, 10.0, 1.0, 0.0, 2, "Rosenbrock (1960)"),
    "rastrigin": Family(_rastrigin, -5.12, 5.12, 0.0, 0.0, 1, "Rastrigin (1974)"),
    "griewank": Family(_griewank, -600.0, 600.0, 0.0, 0.0, 1, "Griewank (1981)"),
    "styblinski_tang": Family(
        _styblinski_tang, -5.0, 5.0, -2.9035340277711770, -39.166165703771419, 1, "Styblinski, Tang (1990)"
    ),
    "sphere": Family(_sphere, -5.12, 5.12, 0.0, 0.0, 1, "the sum of squares"),
    "ellipsoid": Family(_ellipsoid, -5.0, 5.0, 0.0, 0.0, 2, "Hansen, Ostermeier (2001)"),
}

_FIXED: Mapping[str, tuple[Function, tuple[tuple[float, float], ...], tuple[float, ...], float, str]] = {
    "branin": (
        _branin,
        ((-5.0, 10.0), (0.0, 15.0)),
        (pi, 2.275),
        10 / (8 * pi),
        "Dixon, Szego (1978)",
    ),
    "hartmann3": (
        partial(_hartmann, a=_HARTMANN3_A, p=_HARTMANN3_P),
        ((0.0, 1.0),) * 3,
        (0.114588876655, 0.555648894617, 0.852546984687),
        -3.8627797873326624,
        "Hartman (1972), in Dixon, Szego (1978)",
    ),
    "hartmann6": (
        partial(_hartmann, a=_HARTMANN6_A, p=_HARTMANN6_P),
        ((0.0, 1.0),) * 6,
        (0.201689511007, 0.150010691823, 0.476873974222, 0.275332430494, 0.3116516166, 0.657300534066),
        -3.322368011415515,
        "Hartman (1972), in Dixon, Szego (1978)",
    ),
}

# --- moving and turning ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def rotation(dimension: int, seed: int) -> Array:
    """A random rotation, shape (d, d), read-only, determinant 1, uniform; a function of the seed alone.

    >>> bool(np.allclose(rotation(3, 1) @ rotation(3, 1).T, np.eye(3)))
    True
    """
    matrix, triangle = np.linalg.qr(np.random.default_rng([seed, dimension, 1]).standard_normal((dimension, dimension)))
    matrix = matrix * np.sign(np.diag(triangle))
    if np.linalg.det(matrix) < 0:
        matrix[:, 0] = -matrix[:, 0]
    matrix.flags.writeable = False
    return matrix


@dataclass(frozen=True)
class _Moved:
    """The formula of a synthetic problem: the function at z* + R (x - x*)."""

    function: Function
    names: tuple[str, ...]
    old: tuple[float, ...]
    new: tuple[float, ...]
    seed: int | None

    def __call__(self, p: Columns) -> dict[str, Array]:
        x = p["x"] if self.names == ("x",) else np.stack([p[name] for name in self.names], axis=1)
        if self.seed is not None:
            turned = rotation(len(self.old), self.seed)
            x = np.asarray(self.old) + np.einsum("ij,kj->ki", turned, x - np.asarray(self.new))
        elif self.old != self.new:
            x = np.asarray(self.old) + (x - np.asarray(self.new))
        return {"f": self.function(x)}


def synthetic(name: str, dimension: int | None = None, shift: int | None = None, rotate: int | None = None) -> Problem:
    """One of the functions: `name` is branin, hartmann3, hartmann6 or one of `FAMILIES`, which need a `dimension`.

    `shift` and `rotate` are seeds; None leaves the function where it is. The new optimum is uniform in the middle
    three fifths of the box, on the grid of the space, so that it can be asked for exactly.
    Raises `UsageError` for an unknown name or a dimension that does not fit.

    >>> problem = synthetic("sphere", 2, shift=7)
    >>> problem.name, problem(problem.optimum.params)
    ('sphere_2@shift7', {'f': 0.0})
    """
    for key, seed in (("shift", shift), ("rotate", rotate)):
        if seed is not None and seed < 0:
            raise UsageError(f"{name}: {key} is a seed, 0 or larger; got {seed}")
    if name in _FIXED:
        function, bounds, old, value, source = _FIXED[name]
        if dimension not in (None, len(bounds)):
            raise UsageError(f"{name} has {len(bounds)} dimensions, got {dimension}; leave the dimension out")
        parameters: dict[str, Parameter] = {f"x{i + 1}": Float(*bound) for i, bound in enumerate(bounds)}
        title = name
    elif name in FAMILIES:
        family = FAMILIES[name]
        if dimension is None or dimension < family.smallest:
            raise UsageError(
                f"{name} needs a dimension of at least {family.smallest}, got {dimension}; its name is like {name}_10"
            )
        function, bounds, source = family.function, ((family.low, family.high),) * dimension, family.source
        old, value = (family.coordinate,) * dimension, family.value * dimension
        parameters = {"x": Float(family.low, family.high, shape=(dimension,))}
        title = f"{name}_{dimension}"
    else:
        raise UsageError(f"no synthetic function {name!r}; there are {', '.join([*_FIXED, *FAMILIES])}")
    space = Space(parameters)
    new = old
    if shift is not None:
        places = 0.2 + 0.6 * np.random.default_rng([shift, len(old), 0]).random((1, len(old)))
        decoded = space.values(places)
        new = tuple(np.stack([decoded[key] for key in parameters], axis=1).ravel().tolist())
    moves = [f"{key}{seed}" for key, seed in (("shift", shift), ("rotate", rotate)) if seed is not None]
    params = {"x": list(new)} if name in FAMILIES else dict(zip(parameters, new, strict=True))
    return Problem(
        title + ("@" + "+".join(moves) if moves else ""),
        Task(space, (Objective("f"),)),
        _Moved(function, space.names, old, new, rotate),
        Optimum(value, params, "closed form" if name not in ("hartmann3", "hartmann6") else "Newton's method", 1e-12),
        source,
        f"The {title} test function, minimised" + (f" ({' and '.join(moves)})." if moves else "."),
    )
