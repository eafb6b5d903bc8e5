"""`openes`: an evolution strategy with a Gaussian of fixed shape, whose mean follows a gradient estimate.

T. Salimans, J. Ho, X. Chen, S. Sidor, I. Sutskever, Evolution strategies as a scalable alternative to reinforcement learning,
arXiv:1703.03864: antithetic pairs x +- s u, u ~ N(0, I), and g = 1 / (2 q s) sum_i F_i e_i over all 2 q rows, with e_i = +-u.

With fitness="ranks" F_i are centred ranks: only the order of the rows counts, so rankings will do, outliers do no harm, and
infeasible rows simply come after all feasible ones. With fitness="values" F_i are the values themselves, constraints enter
as a penalty, and the estimate is that of `rge` with central differences along Gaussian directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from bbopt.errors import UsageError
from bbopt.query import Answer, Key, Query, Ranking, Request
from bbopt.strategies.cmaes import order
from bbopt.task import Task
from bbopt.zeroth_order.columns import continuous_columns
from bbopt.zeroth_order.descent import (
    Descent,
    DescentState,
    exploring,
    fall,
    held_columns,
    recommended,
    remember,
    wait_for_answers,
)
from bbopt.zeroth_order.options import count, not_negative, positive
from bbopt.zeroth_order.plans import DirectionPlan, as_query, plan_directions, plan_of, where_evaluated
from bbopt.zeroth_order.random_directions import centred_ranks, from_slopes
from bbopt.zeroth_order.rge import default_directions

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class OpenES:
    """An evolution strategy by antithetic Gaussian perturbations, for values (noisy ones too) or rankings.

    pairs: of rows per query, None for half of 4 + 3 ln d; radius: s, in encoded units; shrink: the radius after t queries is
    radius / (1 + t)^shrink; fitness: "ranks" or "values"; update, rate, decay, delay: as in `RGE`.

    >>> OpenES(pairs=20, fitness="values").pairs
    20
    """

    pairs: int | None = None
    radius: float = 0.1
    shrink: float = 0.25
    fitness: Literal["ranks", "values"] = "ranks"
    update: str = "adam(beta1=0.5, beta2=0.9)"
    rate: float = 0.2
    decay: float = 0.5
    delay: float = 0.0

    handles: ClassVar[frozenset[str]] = frozenset({"constraints", "noise", "rankings", "unbounded"})
    learns: ClassVar[Literal["rows", "queries"]] = "queries"
    instant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        count("OpenES", "pairs", self.pairs)
        positive("OpenES", "radius", self.radius)
        not_negative("OpenES", "shrink", self.shrink)
        if self.fitness not in ("ranks", "values"):
            raise UsageError(f"OpenES: expected fitness 'ranks' or 'values', got {self.fitness!r}")
        self._descent.check("OpenES")

    @property
    def _descent(self) -> Descent:
        return Descent(self.update, self.rate, self.decay, self.delay)

    def init(self, task: Task, key: Key) -> DescentState:
        return self._descent.init(task, key)

    def ask(self, task: Task, state: DescentState, request: Request, key: Key) -> Query:
        wait_for_answers(request, "openes")
        columns = continuous_columns(task.space, request.held)
        size = len(columns)
        if not size:
            return exploring(task, request, key)
        radius = self.radius * fall(state.steps, self.shrink)
        rows, memo = self._descent.directions(task, state, request, key, "gaussian", columns, radius)
        pairs = self.pairs or (default_directions(size) + 1) // 2
        plan = plan_directions(task, rows, "central", pairs, "known" in memo, paired=self.fitness == "values")
        return as_query(plan, memo) if len(plan.rows) else exploring(task, request, key)

    def tell(self, task: Task, state: DescentState, query: Query, answer: Answer) -> DescentState:
        plan = plan_of(query, task.space)
        if query.origin == "user" or plan is None or (self.fitness == "values" and not isinstance(answer, Ranking)):
            return self._descent.learn(task, state, query, answer)
        assert isinstance(plan, DirectionPlan)
        at = where_evaluated(plan, query)
        place = {int(row): i for i, row in enumerate(at) if row >= 0}
        groups = [[place[row] for row in group if row in place] for group in order(answer)]
        fitness = centred_ranks([group for group in groups if group], len(at))
        state = remember(task, state, query, answer)
        if not fitness.any():
            if isinstance(answer, Ranking) or (at >= 0).any():
                return replace(state, steps=state.steps + 1)
            return self._descent.jump(task, state, query, answer)
        rows = plan.rows
        told = np.flatnonzero(fitness)
        slopes = fitness[told] * rows.signs[told] / rows.radius
        gradient = from_slopes("gaussian", len(rows.columns), rows.seed, rows.indices[told], slopes)
        return self._descent.move(task, state, plan, rows.columns, gradient, held_columns(query))

    def recommend(self, task: Task, state: DescentState) -> Array | None:
        """Under noise and for rankings: of the rows told last, the one nearest to the average of the iterates."""
        return recommended(task, state)
