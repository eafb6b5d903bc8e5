"""`deepzero`: descent on coordinate-wise finite differences along a part of the coordinates, drawn anew every few steps.

A. Chen et al., DeepZero: Scaling up Zeroth-Order Optimization for Deep Model Training, ICLR 2024, arXiv:2310.02025. Every
parameter with more than `small` columns is a layer (the weights of a network, say); smaller ones are always active (its
biases). Two queries along all coordinates come first and give ZO-GraSP scores (`sparsity.py`): how much of each layer to
keep. Then every step is a query along a random mask with that share of each layer, a function of the study's seed and of
steps // interval (`masks.py`). The gradient is zero elsewhere, and the update rule acts on all coordinates.

Everything else is `cge` (`cge.py`, `descent.py`), which this is, step by step, where nothing is left out: with keep=1, and on
tasks without a layer. What it buys: steps that cost the share `keep` of the evaluations. What it does not: a step along a
tenth of the coordinates makes about a tenth of the progress, unless the rate is raised for it (up to the point where a step
along those coordinates alone is too long).

Differences from the paper. Scores come from coordinate-wise estimates, not from 192 random directions, and keep their sign
unless rule="absolute". Bounds shorten the step between the two estimates. Columns without a known slope count as zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from bbopt.errors import UsageError
from bbopt.query import Answer, Key, Query, Request, Values
from bbopt.space import Space
from bbopt.task import Task
from bbopt.zeroth_order.cge import CGE
from bbopt.zeroth_order.columns import continuous_columns, limits
from bbopt.zeroth_order.coordinates import Scheme
from bbopt.zeroth_order.descent import DescentState, wait_for_answers
from bbopt.zeroth_order.masks import random_mask
from bbopt.zeroth_order.options import positive
from bbopt.zeroth_order.plans import plan_of
from bbopt.zeroth_order.smoothing import Precision
from bbopt.zeroth_order.sparsity import (
    RULES,
    Rule,
    grasp_scores,
    hessian_gradient,
    hessian_step,
    layer_ratios,
    magnitude_scores,
    uniform_ratios,
)

Array = np.ndarray[Any, np.dtype[Any]]
Scores = Literal["grasp", "magnitude", "uniform"]
SCORES: tuple[Scores, ...] = ("grasp", "magnitude", "uniform")
EPSILON = {"float64": 1e-3, "float32": 0.1, "float16": 0.5}  # length of the step between the two estimates
LAYERS = "layers"  # the key of both in a memo
GRADIENT, HESSIAN = "gradient", "hessian"


@dataclass(frozen=True, eq=False)
class DeepZeroState:
    """The descent; the first estimate of the gradient (n,) over the continuous columns and where it was taken (D,), both
    empty before it is; the share of each layer (L,) that is active, in the order of the parameters, empty before it is known."""

    descent: DescentState
    gradient: Array
    at: Array
    ratios: Array


@dataclass(frozen=True)
class DeepZero:
    """Sparse coordinate-wise gradient descent.

    keep: share of the coordinates of all layers that a step differentiates along; interval: steps between new masks;
    small: parameters of up to so many columns are always active; scores: what the shares of the layers come from: "grasp"
    (two queries along all coordinates), "magnitude" (of the start) or "uniform" (the same everywhere), which are free;
    rule: for grasp, "signed" or "absolute"; epsilon: length of the step between its two estimates in encoded units, None
    for 1e-3 at the precision float64, 0.1 at float32, 0.5 at float16. The other options are those of `CGE`.

    >>> DeepZero(keep=0.05, interval=20, update="sgd(momentum=0.9)").keep
    0.05
    """

    keep: float = 0.1
    interval: int = 10
    small: int = 64
    scores: Scores = "grasp"
    rule: Rule = "signed"
    epsilon: float | None = None
    scheme: Scheme = "forward"
    radius: float | None = None
    precision: Precision = "float64"
    relative: bool = False
    update: str = "rprop"
    rate: float = 0.1
    decay: float = 0.0
    delay: float = 0.0

    handles: ClassVar[frozenset[str]] = CGE.handles
    learns: ClassVar[Literal["rows", "queries"]] = "queries"
    instant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.keep, bool) or not isinstance(self.keep, int | float) or not 0 < self.keep <= 1:
            raise UsageError(f"DeepZero: expected keep as a share above 0 and at most 1, got {self.keep!r}")
        for name, least in (("interval", 1), ("small", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise UsageError(f"DeepZero: expected {name} as a whole number of at least {least}, got {value!r}")
        for name, choices in (("scores", SCORES), ("rule", RULES)):
            if getattr(self, name) not in choices:
                raise UsageError(f"DeepZero: expected {name} of {', '.join(choices)}; got {getattr(self, name)!r}")
        if self.epsilon is not None:
            positive("DeepZero", "epsilon", self.epsilon)
        self._cge  # noqa: B018 checks the options that are its own

    @property
    def _cge(self) -> CGE:
        return CGE(
            self.scheme, self.radius, self.precision, self.relative, self.update, self.rate, self.decay, self.delay
        )

    def init(self, task: Task, key: Key) -> DeepZeroState:
        none = np.zeros(0)
        return DeepZeroState(self._cge.init(task, key), none, none, none)

    def ask(self, task: Task, state: DeepZeroState, request: Request, key: Key) -> Query:
        wait_for_answers(request, "deepzero")
        columns = continuous_columns(task.space, request.held)
        layers = self._layers(task.space)
        if self.keep == 1 or not layers:
            return self._cge.around(task, state.descent, request, key, columns)
        if self.scores == "grasp" and not len(state.ratios):
            phase = HESSIAN if len(state.gradient) else GRADIENT
            at = self._moved(task, state) if phase == HESSIAN else None
            query = self._cge.around(task, state.descent, request, key, columns, at)
            return replace(query, memo={**query.memo, LAYERS: phase})
        ratios = state.ratios if len(state.ratios) else self._free_ratios(state.descent.x, layers)
        active = self._active(task.space, layers, ratios, key.seed, state.descent.steps)
        if request.held:
            active = np.setdiff1d(active, list(request.held))
        query = self._cge.around(task, state.descent, request, key, active)
        return replace(query, memo={**query.memo, LAYERS: ratios})

    def tell(self, task: Task, state: DeepZeroState, query: Query, answer: Answer) -> DeepZeroState:
        phase = query.memo.get(LAYERS)
        if phase is None or query.origin == "user" or not isinstance(answer, Values):
            return replace(state, descent=self._cge.tell(task, state.descent, query, answer))
        if not isinstance(phase, str):
            descent = self._cge.tell(task, state.descent, query, answer)
            return replace(state, descent=descent, ratios=np.asarray(phase, float))
        if len(state.ratios) or (phase == HESSIAN) != bool(len(state.gradient)):
            return state  # of a phase that is over: its query had other columns held
        return self._scored(task, state, query, answer)

    def _scored(self, task: Task, state: DeepZeroState, query: Query, answer: Values) -> DeepZeroState:
        """The state after one of the two queries that the scores are made of.

        A first query without any slope is one step of the descent, and the next one is tried. Where the gradient is zero,
        or the second query has no slope, there are no scores: the share is the same everywhere.
        """
        descent, plan = self._cge._descent, plan_of(query, task.space)
        uniform = self._uniform(self._layers(task.space))

        def stepped() -> DeepZeroState:
            return replace(state, descent=descent.learn(task, state.descent, query, answer))

        if plan is None:
            return stepped()
        growing = not len(state.gradient)  # both estimates are of the same function
        weights, at, slopes = descent.measured(task, state.descent, plan, query, answer, growing)
        if not np.isfinite(slopes).any():
            return replace(stepped(), ratios=uniform) if len(state.gradient) else stepped()
        smooth = continuous_columns(task.space)
        columns, entries = plan.gradient(slopes)
        gradient = np.zeros(len(smooth))
        gradient[np.searchsorted(smooth, columns)] = entries
        if len(state.gradient):
            return replace(state, ratios=self._grasp_ratios(task.space, state, gradient))
        if not gradient.any():
            return replace(stepped(), ratios=uniform)
        still = replace(state.descent, weights=weights)
        if np.array_equal(plan.rows.base, still.x) and np.isfinite(at).all() and not task.noisy:
            still = replace(still, known=at)
        return replace(state, descent=still, gradient=gradient, at=np.array(plan.rows.base))

    def _moved(self, task: Task, state: DeepZeroState) -> Array:
        """(D,) a short way up the gradient from where it was taken, within the bounds."""
        smooth = continuous_columns(task.space)
        low, high = limits(task.space, smooth)
        x = np.array(state.at)
        x[smooth] = np.clip(x[smooth] + hessian_step({"": state.gradient}, self._epsilon)[""], low, high)
        moved: Array = task.space.canonical(x)[0]
        return moved

    @property
    def _epsilon(self) -> float:
        return self.epsilon or EPSILON[self.precision]

    def _grasp_ratios(self, space: Space, state: DeepZeroState, moved: Array) -> Array:
        """(L,) share of each layer, from the estimates at both points; the same everywhere where scores are no numbers."""
        layers = self._layers(space)
        smooth = continuous_columns(space)
        with np.errstate(over="ignore", invalid="ignore"):
            product = hessian_gradient({"": state.gradient}, {"": moved}, self._epsilon)[""]
            parts = {name: np.searchsorted(smooth, columns) for name, columns in layers.items()}
            weights = {name: state.at[columns] for name, columns in layers.items()}
            scores = grasp_scores(weights, {name: product[part] for name, part in parts.items()})
        if not all(np.isfinite(score).all() for score in scores.values()):
            return self._uniform(layers)
        return np.array(list(layer_ratios(scores, self.keep, self.rule).values()))

    def _free_ratios(self, x: Array, layers: dict[str, Array]) -> Array:
        if self.scores == "uniform":
            return self._uniform(layers)
        scores = magnitude_scores({name: x[columns] for name, columns in layers.items()})
        return np.array(list(layer_ratios(scores, self.keep, "absolute").values()))

    def _uniform(self, layers: dict[str, Array]) -> Array:
        sizes = {name: len(columns) for name, columns in layers.items()}
        return np.array(list(uniform_ratios(sizes, self.keep).values()))

    def _layers(self, space: Space) -> dict[str, Array]:
        """Name to columns, of the parameters that masks are drawn for."""
        return {name: columns for name, columns in _continuous_parameters(space).items() if len(columns) > self.small}

    def _active(self, space: Space, layers: dict[str, Array], ratios: Array, seed: int, steps: int) -> Array:
        """The active columns, ascending, after so many steps."""
        everything = _continuous_parameters(space)
        mask = random_mask(
            {name: len(columns) for name, columns in everything.items()},
            dict(zip(layers, ratios.tolist(), strict=True)),
            everything.keys() - layers.keys(),
            seed=seed,
            epoch=steps,
            interval=self.interval,
        )
        return np.concatenate([columns[mask[name]] for name, columns in everything.items()])


def _continuous_parameters(space: Space) -> dict[str, Array]:
    """Name to columns of the parameters that have continuous columns."""
    smooth = continuous_columns(space)
    found = {}
    for name in space.names:
        first, last = np.searchsorted(smooth, (space.slice(name).start, space.slice(name).stop))
        if last > first:
            found[name] = smooth[first:last]
    return found
