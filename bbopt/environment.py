"""Environment parameters: those whose values nature draws when a design is used, and the experimenter only in an evaluation.

Every column of such a parameter is drawn independently: uniformly over its box in encoded units (evenly in the logarithm
on a log axis, every level of a stepped one), by `normal=(mean, sd)`, a normal distribution cut off at the bounds, or by the
`weights=` of a Categorical. What is sought is the design whose objective is best in a functional of that distribution
(`bbopt.risk`), which `Objective(over=...)` names.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from bbopt.axis import NumericAxis
from bbopt.errors import SpaceError, TaskError
from bbopt.risk import OVER

if TYPE_CHECKING:
    from bbopt.space import Space
    from bbopt.task import Objective

Array = np.ndarray[Any, np.dtype[Any]]
LISTED = 4096  # columns with more levels are taken as continuous
LEVEL = 0.9  # of "var" and "cvar" where none is given


@dataclass(frozen=True, eq=False)
class Draw:
    """How nature draws one encoded column: levels `values` (L,) with probabilities `weights` (L,), else a number in [0, 1],
    uniform, or with `normal` as mean and standard deviation of a normal distribution cut off at 0 and 1."""

    column: int
    values: Array | None = None
    weights: Array | None = None
    normal: tuple[float, float] | None = None


def draws_of(space: Space) -> tuple[Draw, ...]:
    """The environment columns of a space, in order.

    >>> from bbopt.space import Float, Int, Space
    >>> space = Space(x=Float(0, 1), load=Float(0, 10, role="environment", normal=(5, 1)), bolts=Int(1, 2, role="environment"))
    >>> [(draw.column, draw.normal, draw.weights) for draw in draws_of(space)]
    [(1, (0.5, 0.1), None), (2, None, array([0.5, 0.5]))]
    """
    found: list[Draw] = []
    for name in space.roles("environment"):
        parameter: Any = space.parameters[name]
        part = space.slice(name)
        for column in range(part.start, part.stop):
            if parameter.levels == 0:
                found.append(Draw(column, normal=_encoded_normal(parameter)))
            elif parameter.levels <= LISTED:
                weights = _level_weights(parameter)
                values = (
                    np.arange(parameter.levels, dtype=float)
                    if not hasattr(parameter, "axis")
                    else parameter.axis.encode(parameter.axis.level(_levels(parameter.axis)))
                )
                found.append(Draw(column, values, weights))
            else:
                found.append(Draw(column))
    return tuple(found)


def grid(draws: Sequence[Draw], limit: int) -> tuple[Array, Array] | None:
    """All (k, e) combinations of levels with positive probability, and their probabilities (k,); None where a column is
    continuous or there are more than `limit` of them."""
    if any(draw.values is None for draw in draws):
        return None
    kept = [np.flatnonzero(np.asarray(draw.weights) > 0.0) for draw in draws]
    if math.prod(len(part) for part in kept) > limit:
        return None
    rows = list(itertools.product(*(np.asarray(d.values)[k].tolist() for d, k in zip(draws, kept, strict=True))))
    chances = itertools.product(*(np.asarray(d.weights)[k].tolist() for d, k in zip(draws, kept, strict=True)))
    return np.array(rows).reshape(len(rows), len(draws)), np.array([math.prod(chance) for chance in chances])


def normal_from_uniform(u: Array, mean: float, sd: float) -> Array:
    """Numbers of the normal distribution cut off at 0 and 1, from uniform ones.

    >>> normal_from_uniform(np.array([0.0, 0.5, 1.0]), 0.5, 0.1)
    array([0. , 0.5, 1. ])
    """
    bell = NormalDist(mean, sd)
    low, high = bell.cdf(0.0), bell.cdf(1.0)
    shares = np.clip(low + np.asarray(u, float) * (high - low), 1e-300, 1.0 - 2.0**-53)
    flat = np.array([bell.inv_cdf(share) for share in shares.ravel().tolist()]).reshape(shares.shape)
    return np.where(np.asarray(u) <= 0.0, 0.0, np.where(np.asarray(u) >= 1.0, 1.0, np.clip(flat, 0.0, 1.0)))


def check_normal(normal: Any, role: str, axis: NumericAxis) -> tuple[float, float] | None:
    """`normal=` of a Float as a pair of floats. Raises SpaceError where it cannot apply."""
    if normal is None:
        return None
    if role != "environment":
        raise SpaceError(
            f"normal: says how nature draws a parameter, which has role='environment'; this one has role={role!r}"
        )
    if not axis.linear:
        raise SpaceError("normal: expected a Float with different bounds, without step= and log=; weigh levels by "
                         "Categorical(ordered=True, weights=...), and give the logarithm as the parameter")  # fmt: skip
    pair: Sequence[Any] = normal if isinstance(normal, list | tuple) and len(normal) == 2 else (None, None)
    if not all(isinstance(n, int | float | np.number) and not isinstance(n, bool) and math.isfinite(n) for n in pair):
        raise SpaceError(f"normal: expected (mean, standard deviation) in the parameter's unit, got {normal!r}")
    mean, sd = float(pair[0]), float(pair[1])
    assert axis.low is not None and axis.high is not None
    if not axis.low <= mean <= axis.high or not 1e-6 * (axis.high - axis.low) <= sd < math.inf:
        raise SpaceError(f"normal: expected a mean within [{axis.low:g}, {axis.high:g}] and a standard deviation of at least "
                         f"a millionth of that range, got {normal!r}")  # fmt: skip
    return mean, sd


def check_weights(weights: Any, role: str, choices: int) -> tuple[float, ...] | None:
    """`weights=` of a Categorical as a tuple of floats. Raises SpaceError where they cannot apply."""
    if weights is None:
        return None
    if role != "environment":
        raise SpaceError(
            f"weights: say how nature draws a parameter, which has role='environment'; this one has role={role!r}"
        )
    numbers = weights if isinstance(weights, list | tuple | np.ndarray) else ()
    fine = all(
        isinstance(w, int | float | np.number) and not isinstance(w, bool) and 0 <= w < math.inf for w in numbers
    )
    if len(numbers) != choices or not fine or not math.fsum(numbers) > 0:
        raise SpaceError(
            f"weights: expected a number of at least 0 for each of the {choices} choices, not all 0; got {weights!r}"
        )
    return tuple(float(w) for w in numbers)


def checked_objectives(
    space: Space, objectives: Sequence[Objective], constraints: Sequence[Any], rules: Sequence[Any], feedback: str
) -> tuple[Objective, ...]:
    """The objectives with their functional filled in. Raises TaskError where a task with, or without, environment parameters
    makes no sense."""
    names = space.roles("environment")
    if not names:
        for item in objectives:
            if item.over is not None:
                raise TaskError(f"{item.name}: over={item.over!r} is taken over environment parameters, and the space has none: "
                                "give a parameter role='environment', or leave over= out")  # fmt: skip
        return tuple(objectives)
    which = ", ".join(names)
    if len(names) == len([p for p in space.parameters.values() if p.size]):
        raise TaskError(f"Task: expected a parameter to design beside the environment parameters ({which})")
    if feedback == "ranking":
        raise TaskError(f"Task: environment parameters ({which}) need measured values; feedback is 'ranking'")
    if len(objectives) > 1:
        raise TaskError(f"Task: environment parameters ({which}) go with one objective, got {len(objectives)}: make one of them, "
                        "such as a weighted sum")  # fmt: skip
    if constraints:
        raise TaskError(f"Task: constraints are not supported beside environment parameters ({which}): in how many environments "
                        f"{constraints[0].name!r} must hold is not defined; add a penalty to the objective")  # fmt: skip
    for rule in rules:
        if named := sorted(rule.names & set(names)):
            raise TaskError(f"where: {named[0]} is drawn by nature; conditions may only name parameters of the design")
    return tuple(dataclasses.replace(item, over=item.over or "mean") for item in objectives)


def checked_level(name: str, over: Any, level: Any) -> float | None:
    """`level=` of an objective, filled in where it belongs to its `over=`. Raises TaskError for either."""
    if over is not None and over not in OVER:
        raise TaskError(f"{name}: over is one of {', '.join(OVER)} (see bbopt.risk), got {over!r}")
    if over not in ("var", "cvar"):
        if level is not None:
            raise TaskError(f"{name}: level= belongs to over='var' or over='cvar', got over={over!r}")
        return None
    given = LEVEL if level is None else level
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not number or not 0 <= given < 1 or (given == 0 and over == "var"):
        least = "0 <=" if over == "cvar" else "0 <"
        raise TaskError(f"{name}: level: expected {least} level < 1 for over={over!r}, got {level!r}")
    return float(given)


def _encoded_normal(parameter: Any) -> tuple[float, float] | None:
    if parameter.normal is None:
        return None
    low, high = parameter.axis.low, parameter.axis.high
    return (parameter.normal[0] - low) / (high - low), parameter.normal[1] / (high - low)


def _levels(axis: NumericAxis) -> Array:
    assert axis.low is not None
    return np.asarray(axis.low + np.arange(axis.levels) * (axis.step or 1.0))


def _level_weights(parameter: Any) -> Array:
    """Probabilities of the levels, as `from_uniform` draws them."""
    count = parameter.levels
    axis = getattr(parameter, "axis", None)
    if axis is None:
        weights = np.ones(count) if parameter.weights is None else np.array(parameter.weights)
    elif not axis.log or count == 1:
        weights = np.ones(count)
    else:  # cells of the log axis
        step = axis.step or 1.0
        edges = axis.low + (np.arange(count + 1) - 0.5) * step
        edges[0] = max(edges[0], axis.low / 2)
        weights = np.diff(np.log(edges))
    return np.asarray(weights / weights.sum())
