"""What is solved in tests, benchmarks and examples: a task with a callable, its known optimum and its source.

A problem is written once, as a formula over *columns*: a mapping from each parameter's name to the array of its
values over the rows, shape (k,) for a scalar parameter and (k, n) for a vector one. The formula returns the metrics
in the same form. One row and a batch therefore run the same code, and a batch equals its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bbopt.environment import Draw, draws_of
from bbopt.errors import SpaceError, UsageError
from bbopt.query import CoordinateRows, DirectionRows, Rows
from bbopt.risk import risk
from bbopt.space import Categorical, Fixed, Float, Int, Parameter, Space
from bbopt.task import Task

Array = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]
Formula = Callable[[Columns], Mapping[str, Array]]

BLOCK = 2**16  # rows of a quadrature that are evaluated at a time
BUILT = 2**22  # numbers of lazy rows that are built at a time


@runtime_checkable
class CoordinateFormula(Protocol):
    """A formula with a way of its own for rows that differ from one point in one column each."""

    def __call__(self, columns: Columns) -> Mapping[str, Array]: ...

    def coordinate_rows(self, rows: CoordinateRows, space: Space) -> Mapping[str, Array]:
        """The metrics of the rows (k,), as the formula gives them for the dense ones."""
        ...


@dataclass(frozen=True)
class Optimum:
    """The best feasible value of a problem, where it is reached, and how far both can be trusted.

    `value` is in the user's sign; None means that no point of the box is feasible, and `how` says why.
    `params` is one point that reaches it (there may be others), feasible with a tolerance of 0.
    `how` says in words how the value was obtained. `tolerance` is the distance between `value` and the true
    optimum that remains possible, relative to max(1, abs(value)).

    >>> Optimum(0.0, {"x": 0.0}, "closed form").tolerance
    0.0
    """

    value: float | None
    params: Mapping[str, Any] | None
    how: str
    tolerance: float = 0.0


@dataclass(frozen=True)
class Problem:
    """A task with a callable that answers it, its optimum and its source.

    `name` is what `bbopt.problems.get` finds it by, `docs` says in plain words what is designed (with the symbols
    of the paper), `source` names the papers, and `suites` the lists that the problem belongs to. The callable is
    the problem itself: it takes a trial's `params` and gives the metrics in the user's sign and names.
    `start`, where there is one, is the point that a search is meant to begin from.

    >>> import bbopt
    >>> problem = bbopt.problems.get("jlh1")
    >>> problem({"x1": 0.375, "x2": 0.375})
    {'f': 0.03125, 'g1': 0.0}
    """

    name: str
    task: Task
    formula: Formula
    optimum: Optimum
    source: str
    docs: str
    suites: tuple[str, ...] = ()
    start: Mapping[str, Any] | None = None

    def __call__(self, params: Mapping[str, Any]) -> dict[str, float]:
        """The metrics at one point, as plain numbers.

        `params` holds a value for every parameter that is active, as a trial has them; values outside the
        bounds are not refused. Raises `SpaceError` where a name is missing or unknown, or a value is no number.
        """
        return {name: float(values[0]) for name, values in self._metrics(self.columns(params)).items()}

    def risk(self, params: Mapping[str, Any], nodes: int = 256) -> float:
        """What a design is judged by where nature draws some parameters: the functional of the objective over them.

        params: of the design (environment parameters, if there, do not matter), nodes: quadrature points per continuous
        column; levels are summed exactly. In the user's sign. Raises `UsageError` where there is no environment.

        >>> import bbopt
        >>> problem = bbopt.problems.get("tail_mean")
        >>> round(problem.risk(problem.optimum.params) - problem.optimum.value, 4)
        -0.0
        """
        task = self.task
        if not task.environment:
            raise UsageError(f"{self.name} has no environment parameters: call the problem for its value")
        goal = task.objectives[0]
        draws = draws_of(task.space)
        worst = goal.over == "worst"
        axes, weights = zip(*(_rule(draw, nodes, worst) for draw in draws), strict=True)
        meshes = np.stack([mesh.ravel() for mesh in np.meshgrid(*axes, indexing="ij")], axis=1)
        chances = np.prod([mesh.ravel() for mesh in np.meshgrid(*weights, indexing="ij")], axis=0)
        design = {name: value for name, value in params.items() if name not in task.environment}
        neutral = task.space.decode(task.space.neutral)
        row = task.space.encode({**{name: neutral[name] for name in task.environment}, **design})
        rows = np.tile(row, (len(meshes), 1))
        rows[:, [draw.column for draw in draws]] = meshes
        values = np.concatenate([self.evaluate(rows[i : i + BLOCK])[goal.name] for i in range(0, len(rows), BLOCK)])
        sign = -1.0 if goal.maximize else 1.0
        over: Any = goal.over
        return float(sign * risk(sign * values, chances / chances.sum(), over, goal.level))

    def columns(self, params: Mapping[str, Any]) -> Columns:
        """One point as columns of one row, what the formula takes. Raises `SpaceError` as calling the problem does."""
        parameters = self.task.space.parameters
        names = ", ".join(parameters)
        for name in params:
            if name not in parameters:
                raise SpaceError(f"{self.name} has no parameter {name!r}; it has {names}")
        columns: dict[str, NDArray[Any]] = {}
        for name, parameter in parameters.items():
            if name in params:
                columns[name] = _column(params[name], parameter, f"{self.name}: {name}")
            elif parameter.when is not None or isinstance(parameter, Fixed):
                columns[name] = self.task.space.values(self.task.space.neutral[None])[name]
            else:
                raise SpaceError(f"{self.name} needs a value for {name!r}; give all of {names}")
        return columns

    def evaluate(self, X: Rows) -> dict[str, Array]:
        """The metrics of encoded rows: X of shape (k, D) gives one array of shape (k,) per metric.

        X is an array, or the lazy rows of a wide query. Those are built some at a time; or not at all, where they differ
        in one column each and the formula has a method for such rows, `coordinate_rows`. Row i equals
        `problem(problem.task.space.decode(X[i]))`. Raises `UsageError` for another shape.
        """
        rows = X if isinstance(X, CoordinateRows | DirectionRows) else np.asarray(X, dtype=float)
        dimension = self.task.space.dimension
        if len(rows.shape) != 2 or rows.shape[1] != dimension:
            raise UsageError(
                f"{self.name}: evaluate expects encoded rows of shape (k, {dimension}), got {rows.shape}; "
                f"call the problem itself for one point given as params"
            )
        if isinstance(rows, np.ndarray):
            return self._metrics(self.task.space.values(rows))
        if isinstance(rows, CoordinateRows) and isinstance(self.formula, CoordinateFormula):
            return self._in_order(self.formula.coordinate_rows(rows, self.task.space))
        size = max(1, BUILT // dimension)
        parts = [
            self._metrics(self.task.space.values(rows[start : start + size])) for start in range(0, len(rows), size)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.task.metrics}

    def suite(self, name: str) -> bool:
        """Whether the problem belongs to the suite of this name."""
        return name in self.suites

    def ranked(self) -> Problem:
        """The same problem for those who rank: the task asks for rankings. It is found by NAME@ranked.

        >>> import bbopt
        >>> bbopt.problems.get("branin").ranked().task.feedback
        'ranking'
        """
        return self._answered_by("ranking", "ranked")

    def valued(self) -> Problem:
        """The same problem for those who measure: the task asks for values. It is found by NAME@values."""
        return self._answered_by("values", "values")

    def _answered_by(self, feedback: str, form: str) -> Problem:
        if self.task.feedback == feedback:
            return self
        return replace(self, name=form_name(self.name, form), task=replace(self.task, feedback=feedback), suites=())

    def _metrics(self, columns: Columns) -> dict[str, Array]:
        """The formula's metrics, in the order of the task and as float64."""
        return self._in_order(self.formula(columns))

    def _in_order(self, metrics: Mapping[str, Array]) -> dict[str, Array]:
        return {name: np.asarray(metrics[name], dtype=float) for name in self.task.metrics}


def _rule(draw: Draw, nodes: int, with_ends: bool) -> tuple[Array, Array]:
    """Points of one environment column and their probabilities: its levels, or evenly spaced numbers weighted by the density
    (up to 8 standard deviations of a normal one), with the ends of the box where it is the worst case that counts."""
    if draw.values is not None and draw.weights is not None:
        return np.asarray(draw.values), np.asarray(draw.weights)
    mean, sd = draw.normal or (0.5, np.inf)
    low, high = (0.0, 1.0) if draw.normal is None or with_ends else (max(0.0, mean - 8 * sd), min(1.0, mean + 8 * sd))
    points = np.linspace(low, high, nodes) if with_ends else low + (np.arange(nodes) + 0.5) * (high - low) / nodes
    density = np.ones(nodes) if with_ends else np.exp(-0.5 * ((points - mean) / sd) ** 2)
    return points, density / density.sum()


def _column(value: Any, parameter: Parameter, where: str) -> NDArray[Any]:
    """One value as a column of one row, in the form that `Space.values` gives."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if isinstance(parameter, Categorical | Fixed) and not is_number:
        column = np.empty(1, dtype=object)
        column[0] = value
        return column
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf":
        raise SpaceError(f"{where}: expected a number, got {value!r}")
    size = parameter.size or 1
    if numbers.size != size:
        raise SpaceError(f"{where}: expected {size} number{'s' * (size > 1)}, got {value!r}")
    vector = isinstance(parameter, Float | Int) and parameter.shape is not None
    return numbers.astype(float).reshape((1, size) if vector else 1)


def form_name(name: str, form: str) -> str:
    """The name of one form of a problem: "" is the problem itself, "mixed" its twin, anything else a variant.

    >>> form_name("spring", ""), form_name("spring", "mixed"), form_name("spring", "boeb_head")
    ('spring', 'spring_mixed', 'spring@boeb_head')
    """
    return name + (f"_{form}" if form == "mixed" else f"@{form}" if form else "")
