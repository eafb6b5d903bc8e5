"""HEBO, the winner of the black-box optimization challenge of 2020."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.compare.peer import Toolkit, quiet
from bbopt.compare.view import Result, View

__all__ = ["Hebo"]


class _Search:
    """HEBO draws from the generators of NumPy and torch that all share; these are its own while it is called."""

    def __init__(self, view: View, seed: int) -> None:
        self._view = view
        self._state = np.random.RandomState(seed).get_state()
        self._torch: Any = None
        self._seed = seed
        definitions: list[dict[str, Any]] = []
        for i, column in enumerate(view.columns):
            if column.kind == "category":
                definitions.append({"name": f"p{i}", "type": "cat", "categories": list(range(column.levels))})
            elif column.levels:
                definitions.append({"name": f"p{i}", "type": "int", "lb": 0, "ub": column.levels - 1})
            else:
                definitions.append({"name": f"p{i}", "type": "num", "lb": 0.0, "ub": 1.0})
        with self._own():
            from hebo.design_space.design_space import DesignSpace
            from hebo.optimizers.hebo import HEBO

            self._hebo = HEBO(DesignSpace().parse(definitions))

    @contextmanager
    def _own(self) -> Iterator[None]:
        import torch

        theirs = np.random.get_state()  # noqa: NPY002  # HEBO knows no other
        with quiet(), torch.random.fork_rng():
            if self._torch is None:
                torch.manual_seed(self._seed)
            else:
                torch.set_rng_state(self._torch)
            np.random.set_state(self._state)  # noqa: NPY002
            try:
                yield
            finally:
                self._state, self._torch = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
                np.random.set_state(theirs)  # noqa: NPY002

    def ask(self) -> dict[str, Any]:
        with self._own():
            self._row = self._hebo.suggest(n_suggestions=1)
        x = []
        for i, column in enumerate(self._view.columns):
            value = self._row[f"p{i}"].iloc[0]
            x.append(float(column.grid[int(value)]) if column.levels else float(value))
        return self._view.of_encoded(x)

    def tell(self, params: dict[str, Any], result: Result | None) -> None:
        """What has no numbers is left out: HEBO leaves out what is not finite."""
        with self._own():
            self._hebo.observe(self._row, np.array([[np.inf if result is None else result.y]]))


@dataclass(frozen=True)
class Hebo(Toolkit):
    """Release 0.3.6 works beside pymoo 0.6; earlier ones need a pymoo before that and are left out, with the note, beside it."""

    package, module = "HEBO", "hebo.optimizers.hebo"
    name: str = "hebo"
    settings: str = (
        "HEBO(space) with its defaults, suggest and observe, as its README begins; logarithmic axes as their logarithms, "
        "ordered choices as whole numbers"
    )

    def refuses(self, view: View) -> str | None:
        return "HEBO has no constraints on results" if view.constraints else None

    def slow(self, view: View) -> bool:
        return True

    def start(self, view: View, seed: int, budget: int) -> _Search:
        return _Search(view, seed)
