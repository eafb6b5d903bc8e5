"""Contours: what the model believes over two parameters, all others kept at the best point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bbopt.advice.lines import Column, centre_of, column_of, grid_of, told_near, user_values
from bbopt.advice.study_model import StudyModel, number_text, studied
from bbopt.errors import UsageError
from bbopt.strategies.blas_thread import one_blas_thread

if TYPE_CHECKING:
    from bbopt.optimizer import Optimizer

__all__ = ["Contour", "contour"]

Array = np.ndarray[Any, np.dtype[Any]]
POINTS = 41


@dataclass(frozen=True, eq=False)
class Contour:
    """Over two columns through `centre`, in the user's units and sign; arrays (a, b), b for the first column (horizontal).

    across, up: the columns; x: (b,), y: (a,) their values (places of choices for a category); here: (2,) those of the centre;
    median, sd: belief of the noise-free metric, sd half the width between the 16 % and 84 % quantiles; chance: of every constraint
    holding and the point working; allowed: whether the known conditions hold; told_x, told_y, told: (t,) told rows within one
    lengthscale of the plane.
    """

    across: Column
    up: Column
    metric: str
    centre: Mapping[str, Any]
    x: Array
    y: Array
    here: Array
    median: Array
    sd: Array
    chance: Array
    allowed: Array
    told_x: Array
    told_y: Array
    told: Array

    def summary(self) -> str:
        """In words."""
        shown = self.median[self.allowed]
        if not len(shown):
            return (
                f"{self.metric} over {self.across.label} and {self.up.label}: no point satisfies the known conditions"
            )
        return (f"{self.metric} over {self.across.label} and {self.up.label}: from {number_text(float(shown.min()))} to "
                f"{number_text(float(shown.max()))}")  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "across": self.across.label, "up": self.up.label, "centre": dict(self.centre)}


def contour(
    study: Optimizer | StudyModel, across: str, up: str, *, metric: str | None = None,
    at: Mapping[str, Any] | None = None, points: int = POINTS,
) -> Contour:  # fmt: skip
    """The model of a metric over two columns, through one point; arguments as those of `bbopt.advice.slices`.

    Raises UsageError, also where a column does not exist at that point.

    >>> import bbopt
    >>> opt = bbopt.Optimizer(bbopt.Task(bbopt.Space(a=bbopt.Float(0, 1), b=bbopt.Int(0, 4))), "sobol")
    >>> for trial in opt.ask(9):
    ...     opt.tell(trial, trial.params["a"] + trial.params["b"])
    >>> contour(opt, "a", "b").median.shape
    (5, 41)
    """
    if isinstance(points, bool) or not isinstance(points, int) or points < 2:
        raise UsageError(f"contour: expected points as a whole number of at least 2, got {points!r}")
    known = studied(study, 1, "contour")
    output = known.metric(metric, "contour")
    first, second = (column_of(known, label, "contour") for label in (across, up))
    if first.index == second.index:
        raise UsageError(f"contour: expected two different columns, got {across!r} twice")
    centre = centre_of(known, at, "contour")
    space = known.task.space
    active = space.active(centre[None])[0]
    for column in (first, second):
        if not active[column.index]:
            raise UsageError(
                f"contour: {column.label} does not exist at {space.decode(centre)}; give another point by at="
            )
    x, y = grid_of(known, first, points), grid_of(known, second, points)
    rows = np.repeat(centre[None], len(x) * len(y), axis=0)
    rows[:, first.index], rows[:, second.index] = np.tile(x, len(y)), np.repeat(y, len(x))
    rows = space.canonical(rows)
    shape = (len(y), len(x))
    with np.errstate(all="ignore"), one_blas_thread():
        mean, sd = output.beliefs(rows)
        low, high = (output.quantile(mean, sd, level) for level in (0.15865525393145707, 0.8413447460685429))
        near, _ = told_near(known, output, centre, [first.index, second.index])
        return Contour(
            first, second, output.metric, space.decode(centre), user_values(space, first, x), user_values(space, second, y),
            np.array([user_values(space, c, centre[[c.index]])[0] for c in (first, second)]),
            output.to_user(mean).reshape(shape), (0.5 * high - 0.5 * low).reshape(shape),
            known.chance(rows).reshape(shape), known.task.feasible.contains(rows).reshape(shape),
            user_values(space, first, known.state.X[near, first.index]),
            user_values(space, second, known.state.X[near, second.index]), output.told[near],
        )  # fmt: skip
