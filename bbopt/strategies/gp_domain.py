"""A task's space, with some columns held, as the domain in which an acquisition is searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bbopt.acquisition.domain import Domain, sobol
from bbopt.conditions import level_values
from bbopt.parameters import Categorical
from bbopt.query import Key, Request
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]
LARGEST_FINITE = 4096  # spaces up to this many points are enumerated
LISTED_LEVELS = 4096  # columns with more levels are searched as continuous and rounded before they are judged


def domain_of(task: Task, held: Mapping[int, float]) -> Domain:
    """The rows that an ask may return."""
    space, columns = task.space, task.space.columns
    levels = tuple(
        level_values(space, j, np.arange(count)) if 0 < count <= LISTED_LEVELS else None
        for j, count in enumerate(columns.levels)
    )
    unordered = np.array([kind == "category" for kind in columns.kind])
    listed = [kind in ("category", "ordered") for kind in columns.kind]
    high = np.array([float(max(n - 1, 0)) if of else 1.0 for of, n in zip(listed, columns.levels, strict=True)])
    fixed = dict(held)

    def sample(n: int, rng: np.random.Generator) -> Array:
        if task.where:
            return task.feasible.sample(n, rng, fixed)
        rows = space.from_uniform(sobol(n, space.dimension, rng))
        rows[:, list(fixed)] = list(fixed.values())
        return space.canonical(rows)

    return Domain(
        np.zeros(space.dimension), high, levels, unordered, space.canonical, space.active, task.feasible.contains,
        lambda X, rng: task.feasible.repair(X, rng, fixed), sample, fixed,
    )  # fmt: skip


def places_of(task: Task) -> tuple[tuple[float, ...] | None, ...]:
    """Where the values of ordered choices lie for a model, per column: by size where they are numbers that rise or fall, by
    the logarithm where they span three decades.

    >>> from bbopt.space import Categorical, Float, Space
    >>> places_of(Task(Space(x=Float(0, 1), bar=Categorical([0.2, 0.4, 1.0], ordered=True))))
    (None, (0.0, 0.25, 1.0))
    """
    places: list[tuple[float, ...] | None] = [None] * task.space.dimension
    for name, parameter in task.space.parameters.items():
        if isinstance(parameter, Categorical) and parameter.ordered and len(parameter.choices) > 2:
            places[task.space.slice(name).start] = _places(parameter.choices)
    return tuple(places)


def _places(choices: Sequence[Any]) -> tuple[float, ...] | None:
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in choices):
        return None
    size = np.array(choices, float)
    steps = np.diff(size)
    if not np.isfinite(size).all() or not ((steps > 0.0).all() or (steps < 0.0).all()):
        return None
    if size.min() > 0.0 and size.max() >= 1e3 * size.min():
        size = np.log(size)
    return tuple(np.round((size - size[0]) / (size[-1] - size[0]), 12).tolist())


def finite_points(task: Task, held: Mapping[int, float]) -> Array | None:
    """All (N, D) points with the held columns at their values, where the whole space is small; else None."""
    size = task.space.size
    if size is None or size > LARGEST_FINITE:
        return None
    points = task.feasible.enumerate(LARGEST_FINITE)
    if points is None:
        return None
    for column, value in held.items():
        points = points[points[:, column] == value]
    return points


def design_size(task: Task, initial: int | None, budget: int | None) -> int:
    """Rows of the first design of a strategy with a model: `initial`, or by the columns and the evaluations planned.

    >>> from bbopt.space import Float, Space
    >>> design_size(Task(Space(x=Float(0, 1), y=Float(0, 1))), None, 20)
    5
    """
    if initial is not None:
        return initial
    size = min(max(2 * (task.space.dimension + 1), 5), 50)
    return size if budget is None else max(1, min(size, budget // 4))


def spread_rows(task: Task, request: Request, key: Key, n: int, offset: int = 0) -> Array:
    """The next n rows of the study's design, the first `offset` of this request left out."""
    if not n:
        return np.zeros((0, task.space.dimension))
    design = Key(key.seed, -1).rng("design")
    return design_rows(task, design, request.number + offset, n, request.held, key.rng("spread"))


def design_rows(task: Task, seed: np.random.Generator, number: int, n: int, held: Mapping[int, float], rng: np.random.Generator) -> Array:  # fmt: skip
    """Rows `number` to `number + n - 1` of the study's scrambled Sobol sequence; other draws where conditions fail.

    seed: the study's generator, the same in every ask; rng: this ask's.
    """
    from scipy.stats import qmc

    d = task.space.dimension
    if d <= qmc.Sobol.MAXDIM:
        engine = qmc.Sobol(d, rng=seed)
        if number:
            engine.fast_forward(number)
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # SciPy warns of lengths that are not powers of 2
            U = engine.random(n)
    else:
        U = rng.random((n, d))
    rows = task.space.from_uniform(U)
    rows[:, list(held)] = list(held.values())
    rows = task.space.canonical(rows)
    wrong = ~task.feasible.contains(rows)
    if wrong.any():
        rows[wrong] = task.feasible.sample(int(wrong.sum()), rng, held)
    return rows
