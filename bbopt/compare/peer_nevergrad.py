"""Nevergrad's wizard, which chooses a method by the parametrization and the budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.compare.peer import Toolkit, quiet
from bbopt.compare.view import Result, View

__all__ = ["Nevergrad"]


class _Search:
    def __init__(self, view: View, seed: int, budget: int) -> None:
        with quiet():
            import nevergrad as ng

            self._view, self._worst = view, 0.0
            parts: dict[str, Any] = {}
            for i, column in enumerate(view.columns):
                if column.kind == "category":
                    parts[f"p{i}"] = ng.p.Choice(list(range(column.levels)))
                elif column.levels:
                    parts[f"p{i}"] = ng.p.Scalar(lower=0, upper=column.levels - 1).set_integer_casting()
                else:
                    parts[f"p{i}"] = ng.p.Scalar(lower=0.0, upper=1.0)
            space = ng.p.Dict(**parts)
            space.random_state = np.random.RandomState(seed)
            self._optimizer = ng.optimizers.NgIohTuned(parametrization=space, budget=budget, num_workers=1)

    def ask(self) -> dict[str, Any]:
        with quiet():
            self._candidate = self._optimizer.ask()
        x = []
        for i, column in enumerate(self._view.columns):
            value = self._candidate.value[f"p{i}"]
            x.append(float(column.grid[int(value)]) if column.levels else float(value))
        return self._view.of_encoded(x)

    def tell(self, params: dict[str, Any], result: Result | None) -> None:
        """An evaluation without numbers counts as the worst so far, since the methods behind the wizard take no others."""
        with quiet():
            if result is None:
                broken = np.ones(self._view.constraints) if self._view.constraints else None
                self._optimizer.tell(self._candidate, self._worst, broken)
                return
            self._worst = max(self._worst, result.y)
            amounts = np.maximum(result.G, 0.0) if self._view.constraints else None
            self._optimizer.tell(self._candidate, result.y, amounts)


@dataclass(frozen=True)
class Nevergrad(Toolkit):
    """The wizard is, without discrete parameters and with few evaluations, COBYLA from the centre."""

    package = module = "nevergrad"
    name: str = "nevergrad"
    settings: str = (
        "optimizers.NgIohTuned(parametrization, budget), the method that its documentation begins with; logarithmic axes as "
        "their logarithms, ordered choices as whole numbers; constraints by tell(constraint_violation=)"
    )

    def start(self, view: View, seed: int, budget: int) -> _Search:
        return _Search(view, seed, budget)
