"""pycma: CMA-ES with its own handling of bounds, whole numbers and constraints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.compare.peer import Toolkit, quiet
from bbopt.compare.view import Result, View

__all__ = ["Cma"]

Array = np.ndarray[Any, np.dtype[Any]]


class _Search:
    """Columns with levels are whole numbers, 0 to levels - 1; the others are in [0, 1].

    What stops by its own criteria starts again with twice the population, from a uniform point, as `fmin(restarts=)`.
    """

    def __init__(self, view: View, seed: int) -> None:
        self._view, self._seed, self._rng = view, seed, np.random.default_rng(seed)
        self._levels = np.array([column.levels for column in view.columns])
        self._span = np.where(self._levels > 0, self._levels - 1.0, 1.0)
        self._starts = 0
        self._es: Any = None
        self._start(0.5 * self._span)

    def _start(self, x0: Array) -> None:
        import cma

        whole = np.flatnonzero(self._levels).tolist()
        slack = np.where(self._levels > 0, 0.499, 0.0)
        options = {
            "bounds": [(-slack).tolist(), (self._span + slack).tolist()],
            "CMA_stds": np.maximum(self._span, 1e-3).tolist(),
            "integer_variables": whole,
            "seed": 1 + self._seed + 1000 * self._starts,
            "verbose": -10,
            "verb_log": 0,  # it would make a folder otherwise
        }
        with quiet():
            if self._starts:
                options["popsize"] = 2 * self._es.popsize
            self._es = cma.CMAEvolutionStrategy(x0, 0.25, options)
            self._told: tuple[float, list[float]] = (0.0, [])
            self._function = None
            if self._view.constraints:
                self._function = cma.ConstrainedFitnessAL(
                    lambda x: self._told[0], lambda x: self._told[1], find_feasible_first=True, logging=0
                )
        self._starts += 1
        self._asked: list[Array] = []
        self._values: list[float] = []

    def ask(self) -> dict[str, Any]:
        if len(self._values) == len(self._asked):
            if self._es.stop():
                self._start(self._span * self._rng.random(len(self._span)))
            with quiet():
                self._asked, self._values = self._es.ask(), []
        x = np.asarray(self._asked[len(self._values)])
        unit = np.where(self._levels > 0, np.rint(x) / np.maximum(self._span, 1.0), x)
        return self._view.of_encoded(unit * self._view.bounds[1])

    def tell(self, params: dict[str, Any], result: Result | None) -> None:
        x = self._asked[len(self._values)]
        with quiet():
            if result is None:
                self._values.append(float("nan"))
            elif self._function is not None:
                self._told = (result.y, result.G.tolist())
                self._values.append(float(self._function(x)))
            else:
                self._values.append(result.y)
            if len(self._values) == len(self._asked):
                worst = max((v for v in self._values if v == v), default=0.0)
                self._es.tell(self._asked, [worst if v != v else v for v in self._values])
                if self._function is not None and any(v == v for v in self._values):
                    self._function.update(self._es)


@dataclass(frozen=True)
class Cma(Toolkit):
    """The reference implementation of CMA-ES."""

    package = module = "cma"
    name: str = "cma"
    settings: str = (
        "CMAEvolutionStrategy from the centre of the box, sigma0 a quarter of it (as the documentation of sigma0 advises), "
        "default population; constraints by ConstrainedFitnessAL(find_feasible_first=True), as its example has it; discrete "
        "columns by integer_variables, categories as whole numbers; restarts with twice the population"
    )

    def refuses(self, view: View) -> str | None:
        return "pycma does not search in one dimension" if len(view.columns) < 2 else None

    def start(self, view: View, seed: int, budget: int) -> _Search:
        return _Search(view, seed)
