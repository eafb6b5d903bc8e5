"""Three toy strategies on which the contract was first run: free batch size, lockstep population, and (below) scripts.

They are as small as a strategy can be, and honest: each claims only what `test_contract.py` finds it able to do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from bbopt.errors import Waiting
from bbopt.query import Answer, Array, Key, Query, Ranking, Request, Values
from bbopt.script import Reply, Script, Slates, Steps
from bbopt.task import Task


@dataclass(frozen=True, eq=False)
class ClimberState:
    """Rows with numbers as they came: X (n, D), Y (n,), violation (n,) of the constraints; told: answers of any kind."""

    X: Array
    Y: Array
    violation: Array
    told: int = 0


@dataclass(frozen=True)
class Climber:
    """Free batch: three rows of four are the best row so far with a column or two redrawn nearby, the rest are uniform.

    Constraints come before the objective (infeasible rows are worse than all feasible ones), so any metric will do.
    """

    handles: ClassVar[frozenset[str]] = frozenset({"constraints", "categorical", "conditional", "fixed"})
    learns: ClassVar[Literal["rows", "queries"]] = "rows"
    instant: ClassVar[bool] = True

    width: float = 0.1

    def init(self, task: Task, key: Key) -> ClimberState:
        return ClimberState(np.zeros((0, task.space.dimension)), np.zeros(0), np.zeros(0))

    def ask(self, task: Task, state: ClimberState, request: Request, key: Key) -> Query:
        rng = key.rng("climb")
        space, columns = task.space, task.space.columns
        U = rng.random((request.n, space.dimension))
        X = space.from_uniform(U)
        if len(state.Y):
            off = np.abs(state.X[:, list(request.held)] - list(request.held.values())).sum(axis=1)
            best = state.X[np.lexsort((state.Y, state.violation, off > 0))[0]]
            picked = np.asarray(rng.random(X.shape) < 0.2)
            picked[np.arange(len(X)), rng.integers(space.dimension, size=len(X))] = True
            levels = np.array(columns.levels)
            category = np.array([kind == "category" for kind in columns.kind], bool)
            shift = rng.normal(0.0, self.width, X.shape) * rng.choice([1.0, 0.1], (request.n, 1))
            step = np.where(levels > 1, 1.0 / np.maximum(levels - 1, 1), 0.0)
            shift = np.sign(shift) * np.maximum(np.abs(shift), step)
            near = np.where(category, X, np.clip(best + shift, 0.0, 1.0))
            climbing = rng.random(request.n) < 0.75
            X = np.where(climbing[:, None], np.where(picked, near, best), X)
        return Query(space.canonical(X), memo={"told": state.told, "U": U})

    def tell(self, task: Task, state: ClimberState, query: Query, answer: Answer) -> ClimberState:
        assert isinstance(answer, Values)
        ok = answer.ok
        return ClimberState(
            np.concatenate([state.X, np.asarray(query.X[answer.rows[ok]], float)]),
            np.concatenate([state.Y, answer.Y[ok, 0]]),
            np.concatenate([state.violation, violation(answer)[ok]]),
            state.told + len(answer.rows),
        )


@dataclass(frozen=True, eq=False)
class PopulationState:
    mean: Array
    width: Array
    generation: int = 0


@dataclass(frozen=True)
class Population:
    """Lockstep: `size` rows around a mean, which moves to the average of the better half once all are answered."""

    handles: ClassVar[frozenset[str]] = frozenset({"rankings", "unbounded", "constraints"})
    learns: ClassVar[Literal["rows", "queries"]] = "queries"
    instant: ClassVar[bool] = True

    size: int = 5

    def init(self, task: Task, key: Key) -> PopulationState:
        bounded = np.array(task.space.columns.bounded, bool)
        return PopulationState(np.where(bounded, 0.5, 0.0), np.where(bounded, 0.3, 3.0))

    def ask(self, task: Task, state: PopulationState, request: Request, key: Key) -> Query:
        if request.open:
            raise Waiting("one population at a time")
        noise = key.rng("population").normal(size=(self.size, task.space.dimension))
        bounded = np.array(task.space.columns.bounded, bool)
        X = state.mean + state.width * noise
        X = np.where(bounded, np.clip(X, 0.0, 1.0), X)
        return Query(task.space.canonical(X), memo={"generation": state.generation})

    def tell(self, task: Task, state: PopulationState, query: Query, answer: Answer) -> PopulationState:
        order = order_of(answer)
        if not order:
            return replace(state, generation=state.generation + 1)
        better = np.asarray(query.X)[order[: max(1, len(order) // 2)]]
        return PopulationState(better.mean(axis=0), np.maximum(0.9 * state.width, 1e-6), state.generation + 1)


def order_of(answer: Answer) -> list[int]:
    """Rows of a query from best to worst; rows without an answer are left out."""
    if isinstance(answer, Ranking):
        return [row for group in answer.groups for row in group]
    best_first = np.lexsort((answer.Y[:, 0], violation(answer)))
    return [int(answer.rows[i]) for i in best_first if answer.ok[i]]


def violation(answer: Values) -> Array:
    """(k,) how far rows are outside the constraints."""
    with np.errstate(over="ignore"):
        total: Array = np.maximum(answer.G, 0.0).sum(axis=1)
    return total


@dataclass(frozen=True)
class Walk(Script):
    """A script of three phases: a design, two slates of which one answer is enough, and then steps until it ends."""

    handles: ClassVar[frozenset[str]] = frozenset({"rankings"})

    steps: int = 40

    def run(self, task: Task, rng: np.random.Generator) -> Steps:
        D = task.space.dimension
        reply: Reply = yield Query(task.feasible.sample(4, rng))
        best = best_of(reply, reply.X[0])
        for step in range(self.steps):
            width = 0.25 * 0.9**step
            queries = tuple(Query(near(task, best, width, 3, rng)) for _ in range(2 if step % 8 == 0 else 1))
            if len(queries) == 2:
                replies: list[Reply | None] = yield Slates(queries, quorum=1)
                for one in replies:
                    best = best if one is None else best_of(one, best)
            else:
                reply = yield replace(queries[0], memo={"width": width, "D": D})
                best = best_of(reply, best)


def near(task: Task, x: Array, width: float, n: int, rng: np.random.Generator) -> Array:
    """n rows around x."""
    bounded = np.array(task.space.columns.bounded, bool)
    rows = x + width * rng.normal(size=(n, len(x)))
    return task.space.canonical(np.where(bounded, np.clip(rows, 0.0, 1.0), rows))


def best_of(reply: Reply, otherwise: Array) -> Array:
    order = order_of(reply.answer)
    return np.asarray(reply.X)[order[0]] if order else otherwise


@dataclass(frozen=True, eq=False)
class LadderState:
    """The point, the step, whether a decision is due (else a look around), and what came too late to count."""

    x: Array
    step: int = 0
    deciding: bool = False
    late: int = 0


@dataclass(frozen=True)
class Ladder:
    """A machine of steps: looks around x (one person's answer is enough, any number may be out), then everybody decides
    between x and the winner. While a decision is out, further looks belong to the step before it."""

    handles: ClassVar[frozenset[str]] = frozenset({"rankings", "noise"})
    learns: ClassVar[Literal["rows", "queries"]] = "queries"
    instant: ClassVar[bool] = True
    scripted: ClassVar[bool] = True

    def init(self, task: Task, key: Key) -> LadderState:
        return LadderState(np.full(task.space.dimension, 0.5))

    def ask(self, task: Task, state: LadderState, request: Request, key: Key) -> Query:
        rows = near(task, state.x, 0.2, 3, key.rng("rows"))
        out = any(query.memo.get("step") == state.step and "look" not in query.memo for query in request.open)
        if state.deciding and not out:
            return Query(rows, memo={"step": state.step})
        return Query(rows, memo={"step": state.step - state.deciding, "look": True, "quorum": 1})

    def tell(self, task: Task, state: LadderState, query: Query, answer: Answer) -> LadderState:
        if query.memo["step"] != state.step:
            return replace(state, late=state.late + 1)
        order = order_of(answer)
        x = np.asarray(query.X)[order[0]] if order else state.x
        return LadderState(x, state.step + 1, not state.deciding, state.late)
