"""`spsa`: simultaneous perturbation, two evaluations per step however many coordinates there are.

J. Spall, Multivariate stochastic approximation using a simultaneous perturbation gradient approximation, IEEE Transactions
on Automatic Control 37 (1992), with the gains of J. Spall, IEEE Transactions on Aerospace and Electronic Systems 34 (1998):

    g_k = (f(x + c_k u) - f(x - c_k u)) / (2 c_k) u,   u_i = +-1;     a_k = a / (A + k)^0.602,   c_k = c / k^0.101

It is `rge` with central differences along Rademacher directions. Differences from the paper: steps are Adam's by default,
so that the rate is a length and not tied to the unit of the objective (update="sgd" is the paper's, with
rate = a / (A + 1)^0.602 and delay = A); several directions per step may be averaged (section III of the first paper).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from bbopt.query import Answer, Key, Query, Request
from bbopt.task import Task
from bbopt.zeroth_order.descent import DescentState, recommended
from bbopt.zeroth_order.options import count
from bbopt.zeroth_order.rge import RGE

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class SPSA:
    """Simultaneous perturbation stochastic approximation: for noisy values, and for many coordinates with few evaluations.

    directions: averaged per step (two evaluations each); radius: c, None for the best one at the declared noise or the
    precision of the values; shrink: exponent of c_k; rate, decay, delay: first step, exponent and A of a_k; update: as in
    `CGE`, with rates of `RGE`.

    >>> SPSA(update="sgd", rate=0.05, radius=0.1).decay
    0.602
    """

    directions: int = 1
    radius: float | None = None
    shrink: float = 0.101
    update: str = "adam(beta1=0.5, beta2=0.9)"
    rate: float = 0.4
    decay: float = 0.602
    delay: float = 0.0

    handles: ClassVar[frozenset[str]] = frozenset({"constraints", "noise", "unbounded", "fixed"})
    learns: ClassVar[Literal["rows", "queries"]] = "queries"
    instant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        count("SPSA", "directions", self.directions, optional=False)
        _ = self._rge

    @cached_property
    def _rge(self) -> RGE:
        return RGE(directions=self.directions, kind="rademacher", scheme="central", radius=self.radius, shrink=self.shrink,
                   update=self.update, rate=self.rate, decay=self.decay, delay=self.delay)  # fmt: skip

    def init(self, task: Task, key: Key) -> DescentState:
        return self._rge.init(task, key)

    def ask(self, task: Task, state: DescentState, request: Request, key: Key) -> Query:
        return self._rge.ask(task, state, request, key)

    def tell(self, task: Task, state: DescentState, query: Query, answer: Answer) -> DescentState:
        return self._rge.tell(task, state, query, answer)

    def recommend(self, task: Task, state: DescentState) -> Array | None:
        """Under noise: of the rows told last, the one nearest to the average of the iterates."""
        return recommended(task, state)
