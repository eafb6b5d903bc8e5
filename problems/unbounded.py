"""The two functions on which ranking oracles were tried first: no bounds, and a start by seed.

Tang, Rybin, Chang, Zeroth-Order Optimization Meets Human Feedback: Provable Learning via Ranking Oracles (ICLR 2024,
arXiv 2303.03751) minimise ||x||^2 and Rosenbrock's function in 100 dimensions from a start drawn from N(0, I).
Here the dimension and the seed of the start are in the name, `quadratic_100@start0`, and `problem.start` is that point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bbopt.errors import UsageError
from bbopt.space import Float, Space
from bbopt.task import Objective, Task

from .problem import Array, Columns, Optimum, Problem
from .synthetic import FAMILIES, Family

UNBOUNDED: Mapping[str, Family] = {"quadratic": FAMILIES["sphere"], "rosenbrock": FAMILIES["rosenbrock"]}


@dataclass(frozen=True)
class _Formula:
    family: str

    def __call__(self, columns: Columns) -> dict[str, Array]:
        return {"f": UNBOUNDED[self.family].function(columns["x"])}


def unbounded(family: str, dimension: int, start: int) -> Problem:
    """The quadratic or Rosenbrock's function on all of R^d, and a start drawn from N(0, I) by seed.

    Raises `UsageError` where the dimension is too small.

    >>> problem = unbounded("quadratic", 100, 0)
    >>> round(problem(problem.start)["f"], 1), problem(problem.optimum.params)["f"]
    (72.7, 0.0)
    """
    known = UNBOUNDED[family]
    if dimension < known.smallest:
        raise UsageError(f"{family} needs a dimension of at least {known.smallest}, got {dimension}")
    x = np.random.default_rng([start, dimension]).standard_normal(dimension)
    return Problem(
        f"{family}_{dimension}@start{start}",
        Task(Space(x=Float(scale=1.0, shape=(dimension,))), (Objective("f"),)),
        _Formula(family),
        Optimum(0.0, {"x": [known.coordinate] * dimension}, "closed form"),
        f"{known.source}, in the setting of Tang, Rybin, Chang (ICLR 2024), arXiv 2303.03751",
        f"The {family} function of {dimension} numbers without bounds, from a random start.",
        start={"x": x.tolist()},
    )
