"""pymoo's genetic algorithm for mixed variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.compare.peer import Toolkit, quiet
from bbopt.compare.view import Result, View

__all__ = ["Pymoo"]

POPULATION = 10


class _Search:
    def __init__(self, view: View, seed: int, budget: int) -> None:
        with quiet():
            from pymoo.core.mixed import MixedVariableGA
            from pymoo.core.problem import Problem
            from pymoo.core.variable import Choice, Integer, Real

            self._view = view
            variables: dict[str, Any] = {}
            for i, column in enumerate(view.columns):
                if column.kind == "category":
                    variables[f"p{i}"] = Choice(options=list(range(column.levels)))
                elif column.levels:
                    variables[f"p{i}"] = Integer(bounds=(0, column.levels - 1))
                else:
                    variables[f"p{i}"] = Real(bounds=(0.0, 1.0))
            self._problem = Problem(vars=variables, n_obj=1, n_ieq_constr=view.constraints)
            self._algorithm = MixedVariableGA(pop_size=POPULATION)
            self._algorithm.setup(self._problem, termination=("n_eval", budget), seed=seed, verbose=False)
        self._asked: Any = []
        self._told: list[Result | None] = []

    def ask(self) -> dict[str, Any]:
        if len(self._told) == len(self._asked):
            with quiet():
                self._asked, self._told = self._algorithm.ask(), []
        point = self._asked[len(self._told)].X
        x = []
        for i, column in enumerate(self._view.columns):
            value = point[f"p{i}"]
            x.append(float(column.grid[int(value)]) if column.levels else float(value))
        return self._view.of_encoded(x)

    def tell(self, params: dict[str, Any], result: Result | None) -> None:
        """Handed on when the generation is complete. Without numbers: as bad as can be."""
        self._told.append(result)
        if len(self._told) < len(self._asked):
            return
        from pymoo.core.evaluator import Evaluator
        from pymoo.problems.static import StaticProblem

        F = np.array([[1e300 if each is None else each.y] for each in self._told])
        rows = [np.full(self._view.constraints, 1e300) if each is None else each.G for each in self._told]
        values: dict[str, Any] = {"F": F}
        if self._view.constraints:
            values["G"] = np.array(rows)
        with quiet():
            Evaluator().eval(StaticProblem(self._problem, **values), self._asked)
            self._algorithm.tell(infills=self._asked)


@dataclass(frozen=True)
class Pymoo(Toolkit):
    """An evolutionary algorithm, which needs more evaluations than model-based searches do."""

    package = module = "pymoo"
    name: str = "pymoo"
    settings: str = (
        "MixedVariableGA(pop_size=10), as the documentation of mixed variables has it, by ask and tell; constraints by its "
        "own handling (feasible first); logarithmic axes as their logarithms, ordered choices as whole numbers"
    )

    def start(self, view: View, seed: int, budget: int) -> _Search:
        return _Search(view, seed, budget)
