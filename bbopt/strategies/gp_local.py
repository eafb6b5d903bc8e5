"""Two ways to look for the next row beside the whole box: near the best told row with a model of its own, or far from it.

`Near` has a Gaussian process of the rows around the best one, in a frame in which this neighbourhood is the unit cube: its
lengthscales, its output scale, its warp and its nugget are those of the neighbourhood, which a model of the whole box
cannot have where the function is steep elsewhere. Its expected improvement is searched inside the trust region
(`bbopt.strategies.nearby`). `Far` searches with the model of the whole box what lies outside the region. `Turns` has both,
row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from bbopt.acquisition.constrained import ConstrainedLogEI
from bbopt.acquisition.domain import Domain
from bbopt.acquisition.finish import belief_of, corner_candidates
from bbopt.acquisition.framed import Frame, Framed
from bbopt.acquisition.gains import Confident
from bbopt.acquisition.minimiser import minimiser
from bbopt.acquisition.search import Taken, maximise
from bbopt.strategies.gp_model import Model, build
from bbopt.strategies.gp_state import GPState
from bbopt.strategies.model_based import Outlook
from bbopt.strategies.nearby import SMALL, Nearby, box_around, rows_around
from bbopt.task import Task
from surrogates.kernels import Kernel
from surrogates.predictor import Predictor

Array = np.ndarray[Any, np.dtype[Any]]
LARGEST_SIMPLEX = 49  # columns up to which a simplex is not longer than the longest spread design
SHARE = 0.5  # of the local model's standard deviation that an improvement may rest on; see `Near`
ASIDE = 1.5  # standard deviations of the minimum by which a row that tells of it lies beside it
CLOSEST = 5e-3  # widths of the box from the minimum: nearer, the nugget drowns what such a row tells
FARTHEST = 0.25  # half widths of the region from the minimum
LOCATED = 0.1  # half widths: a minimum that is known up to this is worth more such rows
WIDER = 2.0  # half width of the frame in half widths of the region


def smooth(task: Task) -> bool:
    """Whether a task is one for these: exact values over a box of numbers that all matter everywhere."""
    columns = task.space.columns
    numbers = all(kind == "float" for kind in columns.kind) and not any(columns.levels)
    return numbers and not (task.where or task.noisy or task.space.conditional)


def start_of(task: Task, budget: int | None) -> Literal["simplex", "centre", "spread"]:
    """How a search is to begin: around the centre where it is to be local and can be, else spread over the box.

    With constraints the rows are spread, after one in the centre: which part of the box is feasible comes first.

    >>> from bbopt.space import Float, Space
    >>> start_of(Task(Space(x=Float(0, 1), y=Float(0, 1))), budget=20)
    'simplex'
    """
    if not smooth(task):
        return "spread"
    if task.c:
        return "centre"
    few = budget is not None and budget < 2 * (task.space.dimension + 1)
    return "spread" if few or task.space.dimension > LARGEST_SIMPLEX else "simplex"


def frame_of(centre: Array, region: Nearby) -> Frame:
    """The frame of the local model."""
    return Frame.around(centre, WIDER * region.half)


def local_model(task: Task, state: GPState, region: Nearby, kernel: Kernel) -> tuple[GPState, Model]:
    """The told rows around the best one, in their frame, and their model."""
    frame, (kept, apart) = frame_of(state.X[region.centre], region), rows_around(state, region)
    rows = state.pick(kept)
    rows = replace(rows, X=frame.inside(rows.X), memo={})
    model = build(task, rows.pick(apart[kept]), {}, kernel, with_region=False)
    if apart[kept].all():
        return rows, model
    fitted = {**model.memo, "fitted": len(rows.X)}  # what the rows apart say holds for all of them
    return rows, build(task, rows, fitted, kernel, with_region=False, hurried=True)


@dataclass(frozen=True)
class LocalScore(Framed):
    """The score of a local model. half: half width of the box in which it is to be searched. turn: 0 to 3, the row's among rows
    that are out together; 0 where it is alone."""

    half: float
    turn: int


@dataclass(frozen=True, eq=False)
class Near:
    """whole: how the whole box is seen; local: the rows around, in their frame; centre: (d,) the best told row; told: rows.

    Without constraints an improvement may rest on half of the standard deviation only: expected improvement as it is goes
    to corners of the region, of which there are many. Of 0.3, 0.5 and 1 the middle one was best by the mean of nine
    functions of 6 to 20 columns; under constraints it ended two searches of forty-two in a wrong corner, and is left out.
    While others are out, a row that is best by itself says little that they do not say. Then, without constraints, every
    other row goes where it tells most of where the model's minimum is (`bbopt.acquisition.minimiser`), and three of four once
    that is known well, so that the next batch meets a better model; the rest are sought for improvement, in the region and in
    one of half its width in turns.
    """

    whole: Outlook
    local: Outlook
    centre: Array
    region: Nearby
    told: int

    @property
    def tried(self) -> Array:
        return self.whole.tried

    def memo(self, tried: Array) -> dict[str, Any]:
        return self.whole.memo(tried)

    def score(self, domain: Domain, pending: Array, rng: np.random.Generator) -> tuple[LocalScore, Array]:
        frame = frame_of(self.centre, self.region)
        within = replace(
            domain, low=frame.inside(domain.low), high=frame.inside(domain.high), canonical=np.array,
            contains=lambda X: np.ones(len(X), bool),
        )  # fmt: skip
        inner, _ = self.local.score(within, frame.inside(pending), rng)
        if isinstance(inner, ConstrainedLogEI) and not len(inner.limits):
            inner = replace(inner, gain=Confident(inner.gain, SHARE))
        turn = (self.told + len(pending)) % 4 if len(pending) else 0
        return LocalScore(inner, frame, self.region.half * (1.0 if turn < 2 else 0.5), turn), self.centre[None]

    def candidates(
        self, score: LocalScore, domain: Domain, centres: Array, tried: Array, away: Taken, rng: np.random.Generator
    ) -> Array:
        box, frame, extra = box_around(domain, self.centre, score.half), score.frame, tried[:0]
        if len(beside := self._beside_the_minimum(score, domain, rng)) and not away(beside).all():
            return beside[~away(beside)]
        if isinstance(score.score, ConstrainedLogEI):
            within = replace(box, low=frame.inside(box.low), high=frame.inside(box.high))
            start = frame.inside(centres[:1])
            extra = frame.outside(
                corner_candidates(belief_of(score.score.predictor), score.score.limits, start, within)
            )
        found, _ = maximise(score, box, rng, centres, extra, away)
        if len(found):
            return found
        elsewhere, centres = self.whole.score(domain, box.low[None][:0], rng)  # all that can be told apart here is told
        return self.whole.candidates(elsewhere, domain, centres, tried, away, rng)

    def _beside_the_minimum(self, score: LocalScore, domain: Domain, rng: np.random.Generator) -> Array:
        """(2, d) rows on either side of the local model's minimum, across which it is least certain; or (0, d), where it is
        not the turn of such a row."""
        inner, frame, half = score.score, score.frame, self.region.half
        if not (isinstance(inner, ConstrainedLogEI) and isinstance(inner.predictor, Predictor)):
            return self.centre[None][:0]
        if not score.turn or len(inner.limits):
            return self.centre[None][:0]
        box = box_around(domain, self.centre, half)
        low, high = frame.inside(box.low), frame.inside(box.high)
        minimum = minimiser(inner.predictor, frame.inside(self.centre), low, high)
        aside = ASIDE * float(minimum.sd[0] / frame.rate[0])
        if score.turn == 2 and aside > LOCATED * half:
            return self.centre[None][:0]
        step = min(max(aside, CLOSEST), FARTHEST * half) * frame.rate[0]
        sides = minimum.x + rng.permutation([-step, step])[:, None] * minimum.axes[0]
        return domain.settle(frame.outside(np.clip(sides, low, high)), rng)


@dataclass(frozen=True, eq=False)
class Far:
    """whole: how the whole box is seen; centre: (d,) the best told row, whose region is left out."""

    whole: Outlook
    centre: Array
    region: Nearby

    @property
    def tried(self) -> Array:
        return self.whole.tried

    def memo(self, tried: Array) -> dict[str, Any]:
        return self.whole.memo(tried)

    def score(self, domain: Domain, pending: Array, rng: np.random.Generator) -> tuple[Any, Array]:
        return self.whole.score(domain, pending, rng)

    def candidates(
        self, score: Any, domain: Domain, centres: Array, tried: Array, away: Taken, rng: np.random.Generator
    ) -> Array:
        near = 2.0 * max(self.region.half, SMALL)

        def not_here(X: Array) -> Array:
            return np.asarray(away(X) | (np.abs(X - self.centre).max(axis=1) <= near))

        return self.whole.candidates(score, domain, centres, tried, not_here, rng)


@dataclass(frozen=True, eq=False)
class Turns:
    """Rows near the best one and rows elsewhere in turns, by how many there are, told or out."""

    make_near: Callable[[], Near]
    far: Far
    told: int

    @cached_property
    def near(self) -> Near:
        """Made where it is needed: one ask for one row has no use for both."""
        return self.make_near()

    @property
    def tried(self) -> Array:
        return self.far.tried

    def memo(self, tried: Array) -> dict[str, Any]:
        return self.far.memo(tried)

    def score(self, domain: Domain, pending: Array, rng: np.random.Generator) -> tuple[Any, Array]:
        part = self.far if (self.told + len(pending)) % 2 else self.near
        return part.score(domain, pending, rng)

    def candidates(
        self, score: Any, domain: Domain, centres: Array, tried: Array, away: Taken, rng: np.random.Generator
    ) -> Array:
        part = self.near if isinstance(score, LocalScore) else self.far
        return part.candidates(score, domain, centres, tried, away, rng)
