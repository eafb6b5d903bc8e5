"""`cge`: descent on coordinate-wise finite differences, d + 1 (forward) or 2 d (central) evaluations per step.

The gradient is exact but for rounding and curvature (`coordinates.py`), so steps go as far as those of gradient descent:
the method to take where values have no noise, the objective is smooth, and many rows can be evaluated side by side.
A step over 270,000 coordinates is one query that is never written out as rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from bbopt.query import Answer, Key, Query, Request
from bbopt.task import Task
from bbopt.zeroth_order.columns import continuous_columns, groups
from bbopt.zeroth_order.coordinates import Scheme, check_scheme
from bbopt.zeroth_order.descent import Descent, DescentState, base_memo, exploring, wait_for_answers
from bbopt.zeroth_order.plans import as_query, plan_coordinates
from bbopt.zeroth_order.smoothing import Precision, check_radius, precision_radius, relative_radius

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class CGE:
    """Coordinate-wise gradient descent.

    scheme: "forward" (d + 1 evaluations per step) or "central" (2 d, more exact); radius: of the differences in encoded units,
    None for the best one at the precision of the values (`smoothing.py`); precision: number format that the values come
    from; relative: radii relative to max(|x|, root mean square of the parameter), for parameters without a known scale;
    update: "rprop", "adam", "sgd(momentum=0.9)" or "torch.optim.NAME(...)"; rate: first step in encoded units (for sgd, the
    factor of the gradient); decay, delay: the rate after t steps is rate ((1 + delay) / (1 + delay + t))^decay (not for rprop).

    >>> CGE(update="sgd", rate=0.01, scheme="central").update
    'sgd'
    """

    scheme: Scheme = "forward"
    radius: float | None = None
    precision: Precision = "float64"
    relative: bool = False
    update: str = "rprop"
    rate: float = 0.1
    decay: float = 0.0
    delay: float = 0.0

    handles: ClassVar[frozenset[str]] = frozenset({"constraints", "unbounded"})
    learns: ClassVar[Literal["rows", "queries"]] = "queries"
    instant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_scheme(self.scheme, "CGE")
        check_radius("CGE", self.radius, self.precision)
        self._descent.check("CGE")

    @property
    def _descent(self) -> Descent:
        return Descent(self.update, self.rate, self.decay, self.delay)

    def init(self, task: Task, key: Key) -> DescentState:
        return self._descent.init(task, key)

    def ask(self, task: Task, state: DescentState, request: Request, key: Key) -> Query:
        wait_for_answers(request, "cge")
        return self.around(task, state, request, key, continuous_columns(task.space, request.held))

    def around(
        self, task: Task, state: DescentState, request: Request, key: Key, columns: Array, at: Array | None = None
    ) -> Query:
        """The query of differences along some columns, ascending, around the iterate or another canonical base `at` (D,)."""
        if not len(columns):
            return exploring(task, request, key)
        base = self._descent.base(task, state if at is None else replace(state, x=at), request, key)
        memo = base_memo(task, state, request, base)
        radius = self.radius or precision_radius(self.precision, self.scheme)
        radii: float | Array = self._descent.radius(state, radius)
        if self.relative:
            radii = relative_radius(base[columns], float(radii), groups(task.space, columns))
        plan = plan_coordinates(task, base, columns, radii, self.scheme, "known" in memo)
        return as_query(plan, memo) if len(plan.rows) else exploring(task, request, key)

    def tell(self, task: Task, state: DescentState, query: Query, answer: Answer) -> DescentState:
        return self._descent.learn(task, state, query, answer)
