"""A search method of your own, complete: the (1+1) evolution strategy with the one-fifth success rule.

It changes the best point so far by a random step, and takes longer steps after successes, shorter ones after failures
(I. Rechenberg, Evolutionsstrategie, 1973; S. Kern et al., Natural Computing 3, 2004, figure 5, for the rule used here).
A strategy is three functions over a state that is never changed in place; bbopt does the rest: `where`, integers, repeats,
failed trials, storing, resuming, parallel workers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

import bbopt
from bbopt.query import Answer, Array, Values

Merit = tuple[float, float]  # violation of the constraints, then the objective: smaller is better


@dataclass(frozen=True, eq=False)
class State:
    """The best point so far, how good it is, and the standard deviation of the next step."""

    best: Array
    merit: Merit
    width: float


@dataclass(frozen=True)
class OnePlusOne:
    """Random steps from the best point. width: the first standard deviation, as a share of each parameter's range."""

    width: float = 0.25

    handles: ClassVar[frozenset[str]] = frozenset({"constraints", "fixed"})  # what it can do beyond the duties of all
    learns: ClassVar[Literal["rows", "queries"]] = "rows"  # told of each answer as it comes
    instant: ClassVar[bool] = True  # asking costs next to nothing

    def init(self, task: bbopt.Task, key: bbopt.Key) -> State:
        return State(np.full(task.space.dimension, 0.5), (math.inf, math.inf), self.width)

    def ask(self, task: bbopt.Task, state: State, request: bbopt.Request, key: bbopt.Key) -> bbopt.Query:
        rng = key.rng("step")  # the only source of randomness: so a resumed study continues as if never interrupted
        steps = state.width * rng.standard_normal((request.n, task.space.dimension))
        rows = state.best + steps * _span(task)
        return bbopt.Query(task.space.canonical(np.abs(rows)))  # rows out of the range are moved into it

    def tell(self, task: bbopt.Task, state: State, query: bbopt.Query, answer: Answer) -> State:
        assert isinstance(answer, Values)  # rankings are not among what it handles
        for i in np.flatnonzero(answer.ok):  # rows that failed teach nothing
            with np.errstate(over="ignore"):
                merit = (float(np.maximum(answer.G[i], 0.0).sum()), float(answer.Y[i, 0]))
            if merit < state.merit:
                state = State(np.array(query.X[int(answer.rows[i])]), merit, min(1.5 * state.width, 1.0))
            else:
                state = replace(state, width=max(state.width * 1.5**-0.25, 1e-9))
        return state


def _span(task: bbopt.Task) -> Array:
    """Width of each encoded column: numbers lie in [0, 1], ordered choices are counted from 0."""
    kinds, levels = task.space.columns.kind, task.space.columns.levels
    return np.array([float(n - 1) if kind == "ordered" else 1.0 for kind, n in zip(kinds, levels, strict=True)])


if __name__ == "__main__":
    problem = bbopt.problems.get("branin")
    result = bbopt.minimize(problem, problem.task, budget=200, strategy=OnePlusOne(), seed=1)
    assert result.best is not None
    print(f"best {result.best.values} of {result.best.params}; the optimum is {problem.optimum.value}")
