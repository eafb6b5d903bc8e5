"""`rank-sgd`: descent for which the order of a few points is enough, by people or by programs.

Z. Tang, D. Rybin, T.-H. Chang, Zeroth-Order Optimization Meets Human Feedback: Provable Learning via Ranking Oracles, ICLR
2024, arXiv:2303.03751 (ZO-RankSGD). Gradient slates, points around the incumbent x, give a direction (`rank_gradient.py`); a
line-search slate, points along it and x itself at a random place, gives the next x (`rank_line_search.py`). Rules beyond the
paper:

* x moves only to a row that is strictly above it in the slate's answer, pooled where several people answer; with `confirm`
  in so many slates, one after the other, each of the rows that were above it in the one before;
* while x stays, directions are averaged by their efficiency; each new line search is a factor shorter;
* lengths are relative: with a direction whose expected squared cosine to the gradient is q, the best step on |x|^2 is q times
  the distance r to the optimum, so candidates are x - sqrt(d) size q gamma^(l - 1) g with `size` an estimate of
  r / sqrt(d), which the size of the step that won corrects; the radius is a share of it;
* slates of perturbations may be orthogonal to each other, each still N(0, I): fewer perturbations say the same thing twice;
* the best row of the last gradient slate, and a point of the user's own, take part in the next line search.

Queries of one iterate: any number of gradient slates, which do not depend on each other's answers (each of one person), and
then a line-search slate. While that is out, whoever asks gets a further gradient slate around the same x: it improves the
direction if x stays, and is late otherwise, which changes nothing. Where values are told instead of rankings there is
nothing to do meanwhile, and asking raises Waiting; without noise no point is asked twice, and the value of x is remembered.

An answer without information (nobody looked, everything was lost) changes nothing: another slate of the same phase comes. Two
gradient slates in a row without any difference: the radius grows. "All bad" on a gradient slate: x is better than all of it,
so radius and steps shrink; before anything was learnt x is no better, and the radius grows. A line search without any difference: steps grow; one in which x is tied with the best, and others
are worse: those tied are asked once more without them, so that even "this one is worst" decides in the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from bbopt.errors import UsageError, Waiting
from bbopt.query import Answer, Key, Query, Ranking, Request
from bbopt.strategies.cmaes import order
from bbopt.task import Task
from bbopt.zeroth_order.columns import bounded_columns, centre, continuous_columns
from bbopt.zeroth_order.descent import FARTHEST, START
from bbopt.zeroth_order.options import count, positive
from bbopt.zeroth_order.rank_line_search import decide, next_step, step_sizes
from bbopt.zeroth_order.rank_slates import different, gradient_rows, perturbed, shown, steps_along
from bbopt.zeroth_order.rank_state import (
    GROWTH,
    Comparison,
    RankState,
    base_of,
    compared,
    comparison,
    learnt,
    radius_of,
    restarted,
    values_of,
    with_own,
)
from bbopt.zeroth_order.smoothing import noise_radius

Array = np.ndarray[Any, np.dtype[Any]]

LARGEST_SIZE = 1.0  # within bounds
CANDIDATES = 4
VISIBLE, EXACT = 0.01, 1e-6  # least radius where people look, and where exact values are told


@dataclass(frozen=True)
class RankSGD:
    """Descent by rankings, or by the order of values, for a handful to thousands of continuous parameters.

    slate: rows per query; slates: gradient slates before a line search; size: the distance from the start to the optimum that
    is expected, per coordinate (root mean square), None for 0.35 within bounds and 1 without; radius: of perturbations, as a
    share of the distance that is expected by then; least: the radius never goes below, in encoded units, None for 0.01 where
    answers are rankings, up to 0.1 where values are noisy, and 1e-6 else; factor: between the candidates of a line search; candidates: how
    many of these, None for 4, or slate - 2 in small slates; confirm: line searches that a row must win against the incumbent before that moves;
    line_search: False moves by 1 / sqrt(t) of the first step after the t-th gradient slates instead; orthogonal: of the
    perturbations in one slate.

    >>> RankSGD(slate=8, confirm=2).slate
    8
    """

    slate: int = 6
    slates: int = 1
    size: float | None = None
    radius: float = 0.2
    least: float | None = None
    factor: float = 0.6
    candidates: int | None = None
    confirm: int = 1
    line_search: bool = True
    orthogonal: bool = True

    handles: ClassVar[frozenset[str]] = frozenset({"constraints", "noise", "rankings", "unbounded"})
    learns: ClassVar[Literal["rows", "queries"]] = "queries"
    instant: ClassVar[bool] = True
    scripted: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if type(self.slate) is not int or self.slate < 2:
            raise UsageError(f"RankSGD: expected slate as a whole number of at least 2, got {self.slate!r}")
        for name, optional in (("slates", False), ("confirm", False), ("candidates", True)):
            count("RankSGD", name, getattr(self, name), optional)
        for name in ("size", "radius", "least", "factor"):
            if getattr(self, name) is not None:
                positive("RankSGD", name, getattr(self, name))
        if not self.factor < 1.0:
            raise UsageError(f"RankSGD: expected factor below 1 (0.5, say), got {self.factor!r}")
        for name in ("line_search", "orthogonal"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"RankSGD: expected {name} as True or False, got {getattr(self, name)!r}")

    # -- the contract --------------------------------------------------------------------------------------------------

    def init(self, task: Task, key: Key) -> RankState:
        x, columns, rng = centre(task.space), continuous_columns(task.space), key.rng("start")
        x[columns] += START * (2.0 * rng.random(len(columns)) - 1.0)
        x, none, rows = task.feasible.repair(x[None], rng)[0], np.zeros(0), np.zeros((0, len(x)))
        size = self.size or (0.35 if bounded_columns(task.space)[columns].all() else 1.0)
        return RankState(x, none, "gradient" if len(columns) else "line search", 0, 0, 0, 0, np.zeros(len(columns)), 0.0, 0,
                         size, 0.0, 0, none, none, rows, np.zeros((0, 1 + task.c)), rows, none, 0, none)  # fmt: skip

    def ask(self, task: Task, state: RankState, request: Request, key: Key) -> Query:
        mine = [query.memo for query in request.open if query.origin == "strategy"]
        if mine and task.feedback != "ranking":
            raise Waiting("rank-sgd waits until its query is answered")
        columns = continuous_columns(task.space)
        out = any(memo.get("phase") == "line search" and memo.get("step") == state.step for memo in mine)
        if state.phase == "line search" and not out:
            return self._line_slate(task, columns, state, key)
        if not len(columns):
            raise Waiting("rank-sgd waits until its slate is answered")
        radius = self._radius(task, columns, state)
        base, rng = base_of(task.space, columns, state.x, radius), key.rng("directions")
        rows = gradient_rows(task, columns, base, radius, self.slate, self.orthogonal, rng)
        return Query(rows, {"phase": "gradient", "step": state.gradient_step, "quorum": 1, "radius": radius})

    def tell(self, task: Task, state: RankState, query: Query, answer: Answer) -> RankState:
        if query.origin == "user":
            return with_own(task, state, query, answer)
        columns, step = continuous_columns(task.space), int(query.memo["step"])
        if query.memo["phase"] == "line search":
            if state.phase != "line search" or step != state.step:
                return state
            return self._decided(task, columns, state, query, answer)
        if step < state.since:
            return state
        state = learnt(task, columns, state, query, answer)
        return self._next(task, columns, replace(state, size=self._limited(task, columns, state.size)))

    def recommend(self, task: Task, state: RankState) -> Array | None:
        """The incumbent, where values are noisy or answers are rankings."""
        return np.array(state.x) if task.noisy and self.line_search else None

    # -- what is asked -------------------------------------------------------------------------------------------------

    def _line_slate(self, task: Task, columns: Array, state: RankState, key: Key) -> Query:
        """Steps along the direction and challengers, or rivals that have to win again; and x where its value is unknown."""
        rng, X, sizes = key.rng("line search"), state.rivals, state.rival_sizes
        if not len(X):
            challengers = self._challengers(task, state)
            if state.weight:
                steps = self.candidates or min(CANDIDATES, max(1, self.slate - 2))
                sizes = step_sizes(state.size, self.factor, max(1, steps - max(0, len(challengers) - 1)))
                X = steps_along(task, columns, state, sizes)
            X = task.feasible.repair(np.concatenate([X, challengers]), rng)
            sizes = np.append(sizes, np.zeros(len(challengers)))
            if len(columns):
                again = np.flatnonzero(~different(X, state.x))  # steps against a bound come to that
                radius = self._radius(task, columns, state)
                X[again] = perturbed(task, columns, state.x, radius, len(again), self.orthogonal, rng)
                sizes[again] = 0.0
            else:
                more = max(0, self.slate - 1 - len(X))
                X, sizes = np.concatenate([X, task.feasible.sample(more, rng)]), np.append(sizes, np.zeros(more))
        if not len(state.known):
            x = shown(task, columns, state.x, rng) if state.step > 1 else state.x
            X, sizes = np.concatenate([X, x[None]]), np.append(sizes, 0.0)
        place = rng.permutation(len(X))
        incumbent = -1 if len(state.known) else int(np.argmax(place))
        memo = {"phase": "line search", "step": state.step, "incumbent": incumbent, "sizes": sizes[place]}
        return Query(X[place], memo)

    def _challengers(self, task: Task, state: RankState) -> Array:
        """(n, D) rows that x has to be compared with besides the steps, where that needs asking for them again."""
        if not task.noisy:
            return state.own[:0]
        own = state.own[-max(1, self.slate - 2) :]
        return np.concatenate([own, state.favourite.reshape(-1, len(state.x))]) if len(own) < 2 else own

    def _radius(self, task: Task, columns: Array, state: RankState) -> float:
        return radius_of(task, columns, state, self.radius, self._least(task))

    def _least(self, task: Task) -> float:
        if self.least is not None:
            return self.least
        noise = task.objectives[0].noise
        if noise is not None:
            return noise_radius(noise, "forward")
        return VISIBLE if task.feedback == "ranking" else EXACT

    # -- what follows from answers -------------------------------------------------------------------------------------

    def _next(self, task: Task, columns: Array, state: RankState) -> RankState:
        """Where there are enough gradient slates: on to the line search, or a step without one."""
        if state.phase != "gradient" or state.fresh < self.slates:
            return state
        if self.line_search:
            return replace(state, phase="line search", step=state.step + 1, fresh=0)
        size = np.array([state.size / math.sqrt(state.moves + 1.0)])
        x = task.feasible.repair(steps_along(task, columns, state, size), Key(0, state.step).rng("step"))[0]
        return restarted(replace(state, moves=state.moves + 1), x, np.zeros(0), "gradient")

    def _decided(self, task: Task, columns: Array, state: RankState, query: Query, answer: Answer) -> RankState:
        """After a line search: x moves to a row that is strictly above it (often enough), or stays."""
        longer = 1.0 if len(state.rivals) else GROWTH  # without a difference; of rivals, other rows were worse
        if isinstance(answer, Ranking) and answer.verdict is not None:
            return self._stay(task, columns, state, query, longer if answer.verdict == "cannot tell" else 1.0)
        state, slate = comparison(task, state, query, answer)
        groups = order(slate.answer)
        decision = decide(groups, slate.x)
        above, first = decision.above, min(groups[0]) if groups else -1
        if not decision.compared:
            if isinstance(slate.answer, Ranking):
                return state  # nobody looked at x, or at anything else: the same again
            if task.noisy or len(state.known) or not len(values_of(slate.answer, first)):
                return self._stay(task, columns, state, query, 1.0)
            above = (first,)  # x has no value: any that there is will do
        if not above:
            if decision.tied:
                return self._stay(task, columns, state, query, longer)
            if task.noisy and decision.equals:
                return self._again(task, state, query, slate, decision.equals, state.wins)
            return self._stay(task, columns, state, query, 1.0 if decision.equals else self.factor)
        if task.noisy and state.wins + 1 < self.confirm:
            return self._again(task, state, query, slate, above, state.wins + 1)
        won = above[0]
        known = np.zeros(0) if task.noisy or isinstance(slate.answer, Ranking) else values_of(slate.answer, won)
        size = self._limited(task, columns, next_step(state.size, self.factor, float(slate.sizes[won])))
        state = replace(compared(task, state, query), size=size, floor=state.floor / GROWTH, moves=state.moves + 1)
        return restarted(state, np.array(slate.X[won]), known, "gradient" if len(columns) else "line search")

    def _again(
        self, task: Task, state: RankState, query: Query, slate: Comparison, rows: tuple[int, ...], wins: int
    ) -> RankState:
        """These rows of a line search against x once more, in a slate of their own."""
        rivals, state = list(rows[: self.slate - 1]), compared(task, state, query)
        return replace(state, step=state.step + 1, rivals=slate.X[rivals], rival_sizes=slate.sizes[rivals], wins=wins)

    def _stay(self, task: Task, columns: Array, state: RankState, query: Query, times: float) -> RankState:
        """x stays, and what was learnt of the gradient there; steps become longer or shorter if any were tried."""
        size = self._limited(task, columns, state.size * times) if np.any(query.memo["sizes"]) else state.size
        phase, step = "gradient" if len(columns) else "line search", state.step + 1
        state = replace(compared(task, state, query), phase=phase, step=step, gradient_step=step, size=size,
                        rivals=np.zeros((0, len(state.x))), rival_sizes=np.zeros(0), wins=0)  # fmt: skip
        return self._next(task, columns, state)

    def _limited(self, task: Task, columns: Array, size: float) -> float:
        most = LARGEST_SIZE if bounded_columns(task.space)[columns].all() else FARTHEST
        return min(max(size, self._least(task)), most)
