"""Peers for the tests of comparisons: worker processes import them from here, by "compare_peers:Class"."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from bbopt.compare.view import Result, View


class Walk:
    """Points from the seed; what a subclass does at ask number `n` is its own affair."""

    settings = "points from the seed"

    @property
    def name(self) -> str:
        return f"compare_peers:{type(self).__name__}"

    def version(self) -> str:
        return "walk 1"

    def refuses(self, view: View) -> str | None:
        return None

    def slow(self, view: View) -> bool:
        return False

    def start(self, view: View, seed: int, budget: int) -> Walk:
        made = type(self)()
        made.view, made.rng, made.asked = view, np.random.default_rng(seed), 0
        return made

    view: View
    rng: np.random.Generator
    asked: int

    def at(self, n: int) -> None:
        """Before the answer to ask n."""

    def ask(self) -> dict[str, Any]:
        self.at(self.asked)
        self.asked += 1
        return self.view.of_encoded(self.rng.random(len(self.view.columns)) * self.view.bounds[1])

    def tell(self, params: dict[str, Any], result: Result | None) -> None:
        assert result is None or np.isfinite(result.y)


class Raises(Walk):
    def at(self, n: int) -> None:
        if n == 3 and not Path("..", "mended").exists():
            raise RuntimeError("the model did not fit")


class Dies(Walk):
    def at(self, n: int) -> None:
        if n == 3:
            os.kill(os.getpid(), signal.SIGKILL)


class Sleeps(Walk):
    """Slow on problems with constraints."""

    def at(self, n: int) -> None:
        time.sleep(0.02)

    def slow(self, view: View) -> bool:
        return view.constraints > 0


class Absent(Walk):
    def version(self) -> str:
        raise ModuleNotFoundError("No module named 'absent'")


class Free(Walk):
    def refuses(self, view: View) -> str | None:
        return "no constraints here" if view.constraints else None
