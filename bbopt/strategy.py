"""The contract of a search method: three pure functions over a state that is plain data.

    state = strategy.init(task, key)
    query = strategy.ask(task, state, request, key)
    state = strategy.tell(task, state, query, answer)

* Arguments are not modified, nothing global is changed, and all randomness comes from `key`: the same arguments give the
  same result in any process.
* The state is a frozen dataclass of arrays, numbers, text and tuples. It is never stored: it is rebuilt by folding `tell`
  over the log, so `tell` only appends and does not fit anything. What `ask` learns on the way (fitted hyperparameters,
  directions) travels in the query's `memo` and comes back with the answer, or with the pending queries.
* A strategy of free batch size returns a Query of `request.n` rows; a population returns its own size, and the optimizer
  hands its rows out over several asks. A strategy that can do nothing before an answer comes raises `bbopt.Waiting`.
* Some of a memo the optimizer reads, too: "quorum", how many people must rank this query, in place of the study's; "step",
  a whole number: queries of one step do not depend on each other's answers; "note", text for people.
* A strategy that goes on from its answers step by step, so that older ones cannot be changed any more, says
  `scripted = True` in its class (a Script does). Its answers can be taken back as long as nothing of a later step that was
  asked because of them is answered; open queries of later steps that were asked because of them are cancelled then.
* A strategy that learns from derivatives says `gradients = True` in its class; they come as `Values.slopes`. For others
  they are kept, and the trials that have them say so in their note.
* The optimizer cares for `where`, canonical rows, repeats, and columns held by the request; a strategy does better when
  it knows of them (`task.feasible`, `request.held`), and need not.

A strategy is a frozen dataclass whose fields are JSON values: those are its options, and what the store keeps of it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from bbopt.query import Answer, Key, Query, Request
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]

ABILITIES = {
    "constraints": "outcome constraints",
    "objectives": "several objectives",
    "noise": "noisy values",
    "rankings": "answers that are rankings",
    "fidelity": "fidelity parameters",
    "source": "source parameters",
    "context": "context parameters",
    "environment": "environment parameters, which nature draws",
    "fixed": "parameters fixed for one ask",
    "categorical": "unordered categories",
    "conditional": "conditional parameters",
    "unbounded": "parameters without bounds",
}
"""What a strategy may claim in `handles`. Integers, steps, `where`, failures and repeats are everybody's duty."""


@runtime_checkable
class Strategy(Protocol):
    """See the module's docstring. `handles`: abilities claimed; `learns`: "rows" (told each row as it is answered, with
    `Values.rows`) or "queries" (told once, when every row of the query is); `instant`: asking takes microseconds, so it
    may run inside the store's write transaction."""

    handles: ClassVar[frozenset[str]]
    learns: ClassVar[Literal["rows", "queries"]]
    instant: ClassVar[bool]

    def init(self, task: Task, key: Key) -> Any:
        """The state before any answer."""
        ...

    def ask(self, task: Task, state: Any, request: Request, key: Key) -> Query:
        """The next query; raises Waiting when answers must come first."""
        ...

    def tell(self, task: Task, state: Any, query: Query, answer: Answer) -> Any:
        """The state after an answer; cheap, and never in place."""
        ...


@runtime_checkable
class Recommends(Protocol):
    """A strategy with an opinion on which told point is best (under noise, not the luckiest value)."""

    def recommend(self, task: Task, state: Any) -> Array | None:
        """(D,) a told row, or None while there is none to recommend."""
        ...


@runtime_checkable
class Predicts(Protocol):
    """A strategy whose model can be asked what it believes of any point."""

    def predict(self, task: Task, state: Any, X: Array) -> tuple[Array, Array] | None:
        """(q, m + c) means and standard deviations of the outputs, noise taken away, inside units and sign, at (q, D) rows;
        None while nothing is known. Where a warp makes beliefs skewed: medians, and half of the 16 % to 84 % range."""
        ...


@runtime_checkable
class Judges(Protocol):
    """A strategy with a belief of the risk of designs, where nature draws some parameters (`bbopt.environment`)."""

    def judge(self, task: Task, state: Any) -> tuple[Array, float, float] | None:
        """The design of best believed risk, as a row (D,) whose environment columns mean nothing, with the posterior mean and
        standard deviation of that risk, inside sign; None while nothing is known."""
        ...
