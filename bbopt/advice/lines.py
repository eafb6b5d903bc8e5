"""Slices: what the model believes along each parameter, all others kept at the best point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bbopt.advice.study_model import Output, StudyModel, number_text, studied
from bbopt.conditions import level_values
from bbopt.errors import SpaceError, UsageError
from bbopt.parameters import Categorical, Fixed
from bbopt.space import Space
from bbopt.strategies.blas_thread import one_blas_thread

if TYPE_CHECKING:
    from bbopt.optimizer import Optimizer

__all__ = ["Column", "Slice", "centre_of", "column_of", "grid_of", "slices"]

Array = np.ndarray[Any, np.dtype[Any]]
POINTS = 81
MOST = 40  # slices that are made where none are named
NEAR = 1.0  # lengthscales from the line within which told points are shown


@dataclass(frozen=True)
class Column:
    """One column of a space as people read it. choices: of a category, else None."""

    index: int
    label: str
    log: bool
    choices: tuple[Any, ...] | None


@dataclass(frozen=True, eq=False)
class Slice:
    """Along one column through `centre`, in the user's units and sign.

    column: which; values: (q,) of the parameter (places in `column.choices` for a category); here: its value at the centre;
    median, low, high: (q,) belief of the noise-free metric, with its central 90 %; chance: (q,) of every constraint holding
    and the point working; allowed: (q,) whether the known conditions hold; told_at, told, distance: (t,) values of told rows
    within one lengthscale of the line, what was told, and that distance.
    """

    column: Column
    metric: str
    centre: Mapping[str, Any]
    values: Array
    here: float
    median: Array
    low: Array
    high: Array
    chance: Array
    allowed: Array
    told_at: Array
    told: Array
    distance: Array

    def summary(self) -> str:
        """In words."""
        label, choices = self.column.label, self.column.choices
        if not self.allowed.any():
            return f"{self.metric} along {label}: no point satisfies the known conditions"
        median = self.median[self.allowed]
        at = self.values[self.allowed]
        name = [str(choices[int(v)]) for v in at] if choices is not None else [number_text(float(v)) for v in at]
        low, high = int(np.argmin(median)), int(np.argmax(median))
        return (f"{self.metric} along {label}: from {number_text(float(median[low]))} at {name[low]} "
                f"to {number_text(float(median[high]))} at {name[high]}")  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "column": self.column.label, "choices": self.column.choices, "centre": dict(self.centre)}


def slices(
    study: Optimizer | StudyModel, parameters: Sequence[str] | None = None, *, metric: str | None = None,
    at: Mapping[str, Any] | None = None, points: int = POINTS,
) -> list[Slice]:  # fmt: skip
    """The model of a metric along each of some columns, through one point.

    parameters: names, of a vector's entry as "w[0]"; None for all (of more than 40 columns, those with the shortest
    lengthscales). metric: None for the first objective. at: the point, as params; None for the recommended told one. points: of a
    continuous or long column; shorter ones have all their values. Columns that do not exist at that point are left out.
    Raises UsageError, and SpaceError for a point outside the space.

    >>> import bbopt
    >>> opt = bbopt.Optimizer(bbopt.Task(bbopt.Space(x=bbopt.Float(0, 2), kind=bbopt.Categorical(["a", "b"]))), "random")
    >>> for i in range(8):
    ...     trial = opt.add({"x": i / 4, "kind": "ab"[i % 2]}, (i / 4 - 1) ** 2 + i % 2)
    >>> along_x, along_kind = slices(opt)
    >>> along_x.median.shape, along_kind.median.round(1).tolist()
    ((81,), [0.0, 1.0])
    """
    if isinstance(points, bool) or not isinstance(points, int) or points < 2:
        raise UsageError(f"slices: expected points as a whole number of at least 2, got {points!r}")
    known = studied(study, 1, "slices")
    output = known.metric(metric, "slices")
    chosen = _chosen(known, parameters, output)
    centre = centre_of(known, at, "slices")
    active = known.task.space.active(centre[None])[0]
    with np.errstate(all="ignore"), one_blas_thread():
        return [_slice(known, output, column, centre, points) for column in chosen if active[column.index]]


def centre_of(known: StudyModel, at: Mapping[str, Any] | None, what: str) -> Array:
    """(D,) the row of a point, by default that of the recommended told one."""
    if at is None:
        return np.array(known.state.X[known.best_row()])
    try:
        return known.task.space.encode(at)
    except SpaceError as error:
        raise SpaceError(f"{what}: at: {error}") from None


def column_of(known: StudyModel, label: str, what: str) -> Column:
    """The column of this name. Raises UsageError."""
    if label not in known.labels:
        among = ", ".join(known.labels[:20]) + (", ..." if len(known.labels) > 20 else "")
        raise UsageError(f"{what}: there is no column {label!r}; expected one of {among}")
    index = known.labels.index(label)
    space = known.task.space
    parameter: Any = list(space.parameters.values())[space.columns.group[index]]
    choices = tuple(parameter.choices) if isinstance(parameter, Categorical) else None
    return Column(index, label, bool(getattr(parameter, "log", False)), choices)


def grid_of(known: StudyModel, column: Column, points: int) -> Array:
    """(q,) encoded values along a column: all of them where it has few, else evenly spread ones; unbounded: where rows were told."""
    space, j = known.task.space, column.index
    levels = space.columns.levels[j]
    if levels and (levels <= points or column.choices is not None):
        return level_values(space, j, np.arange(levels))
    if levels:
        return level_values(space, j, np.unique(np.linspace(0, levels - 1, points).round()))
    if not space.columns.bounded[j]:
        low, high = known.state.X[:, j].min(), known.state.X[:, j].max()
        margin = 0.1 * (high - low) or 1.0
        return np.linspace(low - margin, high + margin, points)
    return np.linspace(0.0, 1.0, points)


def user_values(space: Space, column: Column, x: Array) -> Array:
    """(q,) the user's values of encoded ones of a column; places of choices stay as they are."""
    if column.choices is not None:
        return np.asarray(x, float)
    parameter = list(space.parameters.values())[space.columns.group[column.index]]
    assert not isinstance(parameter, Categorical | Fixed)
    return np.asarray(parameter.axis.decode(np.asarray(x, float)), float)


def told_near(known: StudyModel, output: Output, centre: Array, columns: Sequence[int]) -> tuple[Array, Array]:
    """Told rows within one lengthscale of the set in which only some columns vary, and their distances."""
    inputs, lengthscales = output.gp.inputs, output.gp.fitted[0].lengthscales
    rates = np.where(np.isin(inputs.owner, columns), 0.0, 1.0 / lengthscales[inputs.owner])
    apart = (inputs.features(known.state.X) - inputs.features(centre[None])) * rates
    distance = np.sqrt((apart**2).sum(axis=1))
    near = np.flatnonzero(distance <= NEAR)
    return near, distance[near]


def _chosen(known: StudyModel, parameters: Sequence[str] | None, output: Output) -> list[Column]:
    if parameters is None:
        order = np.argsort(output.gp.fitted[0].lengthscales, kind="stable")[:MOST]
        return [column_of(known, known.labels[j], "slices") for j in sorted(order.tolist())]
    if isinstance(parameters, str):
        parameters = [parameters]
    return [column_of(known, label, "slices") for label in parameters]


def _slice(known: StudyModel, output: Output, column: Column, centre: Array, points: int) -> Slice:
    space = known.task.space
    x = grid_of(known, column, points)
    rows = np.repeat(centre[None], len(x), axis=0)
    rows[:, column.index] = x
    rows = space.canonical(rows)
    mean, sd = output.beliefs(rows)
    near, distance = told_near(known, output, centre, [column.index])
    low, high = (output.quantile(mean, sd, level) for level in (0.05, 0.95))
    return Slice(
        column, output.metric, space.decode(centre), user_values(space, column, rows[:, column.index]),
        float(user_values(space, column, centre[[column.index]])[0]), output.to_user(mean), low, high,
        known.chance(rows), known.task.feasible.contains(rows),
        user_values(space, column, known.state.X[near, column.index]), output.told[near], distance,
    )  # fmt: skip
