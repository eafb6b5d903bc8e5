"""Independent uniform points: what every search must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.compare.peer import Toolkit
from bbopt.compare.view import Result, View

__all__ = ["Random"]


class _Search:
    def __init__(self, view: View, seed: int) -> None:
        self._view, self._rng = view, np.random.default_rng(seed)

    def ask(self) -> dict[str, Any]:
        space = self._view.task.space
        return space.decode(space.from_uniform(self._rng.random((1, space.dimension)))[0])

    def tell(self, params: dict[str, Any], result: Result | None) -> None:
        """It learns nothing."""


@dataclass(frozen=True)
class Random(Toolkit):
    """Every level of a discrete parameter is equally likely; known conditions are not used."""

    package = module = "numpy"
    name: str = "random"
    settings: str = "uniform on the axes of the task (logarithmic where these are)"

    def start(self, view: View, seed: int, budget: int) -> _Search:
        return _Search(view, seed)
