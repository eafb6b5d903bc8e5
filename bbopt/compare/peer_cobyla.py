"""SciPy's COBYLA from the centre of the box: a local search with linear models, cheap and strong with few evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.compare.called import Called
from bbopt.compare.peer import Toolkit
from bbopt.compare.view import Result, View

__all__ = ["Cobyla"]

Array = np.ndarray[Any, np.dtype[Any]]
RADIUS, LAST_RADIUS = 1.0 / 6.0, 1e-8


class _Search:
    def __init__(self, view: View, seed: int) -> None:
        self._view, self._rng = view, np.random.default_rng(seed)
        self._worst = 0.0
        self._top = view.bounds[1]
        self._start(np.full(len(view.columns), 0.5))

    def _start(self, x0: Array) -> None:
        from scipy.optimize import NonlinearConstraint, minimize

        c = self._view.constraints

        def run(evaluate: Any) -> None:
            memory: dict[bytes, tuple[float, Array]] = {}

            def both(x: Array) -> tuple[float, Array]:
                key = np.asarray(x).tobytes()
                if key not in memory:
                    memory.clear()  # the two functions are called one after the other, at the same point
                    memory[key] = evaluate(np.array(x))
                return memory[key]

            limits = NonlinearConstraint(lambda x: both(x)[1], -np.inf, 0.0) if c else ()
            minimize(
                lambda x: both(x)[0], x0, method="COBYLA", bounds=[(0.0, 1.0)] * len(x0), constraints=limits,
                options={"rhobeg": RADIUS, "tol": LAST_RADIUS, "maxiter": 10**6},
            )  # fmt: skip

        self._called = Called(run)

    def ask(self) -> dict[str, Any]:
        while True:
            try:
                unit = self._called.ask()
            except StopIteration:  # it has converged
                self._start(self._rng.random(len(self._top)))
                continue
            return self._view.of_encoded(unit * self._top)

    def tell(self, params: dict[str, Any], result: Result | None) -> None:
        if result is None:
            self._called.tell((self._worst, np.ones(self._view.constraints)))
            return
        self._worst = max(self._worst, result.y)
        self._called.tell((result.y, result.G))


@dataclass(frozen=True)
class Cobyla(Toolkit):
    """The seed matters only once the first search has converged: the first starts from the centre."""

    package = module = "scipy"
    name: str = "cobyla"
    settings: str = (
        "scipy.optimize.minimize(method='COBYLA') on the box scaled to [0, 1], from its centre, first radius a sixth of the box "
        "as in Nevergrad, last radius 1e-8; constraints as NonlinearConstraint; discrete columns rounded; then from random points"
    )

    def refuses(self, view: View) -> str | None:
        kinds = [column.key for column in view.columns if column.kind == "category"]
        return f"COBYLA has no categories ({', '.join(kinds)})" if kinds else None

    def start(self, view: View, seed: int, budget: int) -> _Search:
        return _Search(view, seed)
