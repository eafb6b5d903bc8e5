"""`rge`: descent on differences along q random directions, q + 1 (forward) or 2 q (central) evaluations per step.

Cheap steps in many dimensions, paid for by variance (`random_directions.py`): with q well below the number of coordinates d
the estimate points roughly downhill only, and steps have to be shorter. Directions at right angles (the default) waste
least, and at q = d are as good as coordinates. Take `cge` where d + 1 evaluations can be had, `spsa` under noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from bbopt.directions import Kind, check_kind
from bbopt.query import Answer, Key, Query, Request
from bbopt.task import Task
from bbopt.zeroth_order.columns import continuous_columns
from bbopt.zeroth_order.coordinates import Scheme, check_scheme
from bbopt.zeroth_order.descent import Descent, DescentState, exploring, fall, recommended, wait_for_answers
from bbopt.zeroth_order.options import count, not_negative
from bbopt.zeroth_order.plans import as_query, plan_directions
from bbopt.zeroth_order.smoothing import Precision, check_radius, noise_radius, precision_radius

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class RGE:
    """Random-direction gradient descent.

    directions: q, None for min(d, 4 + 3 ln d); kind: "orthonormal", "sphere" (unit length), "gaussian" or "rademacher" (entries of
    size 1); scheme: "forward" (q + 1 evaluations per step) or "central" (2 q); radius: length of a step per unit of a direction,
    in encoded units, None for the best one at the precision of the values or the declared noise; shrink: the radius after
    t steps is radius / (1 + t)^shrink; precision, update, rate, decay, delay: as in `CGE`, except that a rate that is a length
    (of adam and rprop) is for q >= d, and is multiplied by sqrt(q / d) below: the rest of such an estimate is chance.

    >>> RGE(directions=8, kind="sphere", scheme="central").directions
    8
    """

    directions: int | None = None
    kind: Kind = "orthonormal"
    scheme: Scheme = "forward"
    radius: float | None = None
    shrink: float = 0.0
    precision: Precision = "float64"
    update: str = "adam(beta1=0.5, beta2=0.9)"
    rate: float = 0.3
    decay: float = 0.5
    delay: float = 0.0

    handles: ClassVar[frozenset[str]] = frozenset({"constraints", "unbounded"})
    learns: ClassVar[Literal["rows", "queries"]] = "queries"
    instant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        count("RGE", "directions", self.directions)
        check_kind(self.kind, "RGE")
        check_scheme(self.scheme, "RGE")
        check_radius("RGE", self.radius, self.precision)
        not_negative("RGE", "shrink", self.shrink)
        self._descent.check("RGE")

    @property
    def _descent(self) -> Descent:
        return Descent(self.update, self.rate, self.decay, self.delay)

    def init(self, task: Task, key: Key) -> DescentState:
        return self._descent.init(task, key)

    def ask(self, task: Task, state: DescentState, request: Request, key: Key) -> Query:
        wait_for_answers(request, "rge")
        columns = continuous_columns(task.space, request.held)
        size = len(columns)
        if not size:
            return exploring(task, request, key)
        radius = self.radius or _radius(task, self.precision, self.scheme)
        radius *= fall(state.steps, self.shrink)
        rows, memo = self._descent.directions(task, state, request, key, self.kind, columns, radius)
        directions = self.directions or min(size, default_directions(size))
        plan = plan_directions(task, rows, self.scheme, directions, "known" in memo)
        return as_query(plan, memo) if len(plan.rows) else exploring(task, request, key)

    def tell(self, task: Task, state: DescentState, query: Query, answer: Answer) -> DescentState:
        return self._descent.learn(task, state, query, answer)

    def recommend(self, task: Task, state: DescentState) -> Array | None:
        """Under noise: of the rows told last, the one nearest to the average of the iterates."""
        return recommended(task, state)


def default_directions(size: int) -> int:
    """4 + 3 ln d, rounded down: the usual size of a population.

    >>> default_directions(10)
    10
    """
    return 4 + math.floor(3.0 * math.log(size))


def _radius(task: Task, precision: Precision, scheme: Scheme) -> float:
    noise = task.objectives[0].noise
    return precision_radius(precision, scheme) if noise is None else noise_radius(noise, scheme)
