"""bbopt itself, and any of its strategies by name, as they come."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import bbopt
import surrogates
from bbopt.compare.view import Result, View
from bbopt.errors import NotHandled
from bbopt.optimizer import Optimizer
from bbopt.strategy import Strategy
from bbopt.table import check, make

__all__ = ["Bbopt"]


@cache
def source_digest() -> str:
    """A short hash of the sources of bbopt and its surrogates: another one says that results may be others."""
    digest = hashlib.sha256()
    for package in (bbopt, surrogates):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{path.relative_to(folder)}".encode() + path.read_bytes())
    return digest.hexdigest()[:8]


class _Search:
    def __init__(self, view: View, strategy: Strategy | str, seed: int, budget: int) -> None:
        self._opt = Optimizer(view.task, strategy, seed=seed, budget=budget)

    def ask(self) -> dict[str, Any]:
        self._trial = self._opt.ask()
        return self._trial.params

    def tell(self, params: dict[str, Any], result: Result | None) -> None:
        if result is None:
            self._opt.fail(self._trial, "no finite numbers", impossible=True)
        else:
            self._opt.tell(self._trial, result.metrics)

    def add(self, params: dict[str, Any], result: Result) -> None:
        """A point that was never asked."""
        self._opt.add(params, result.metrics)


@dataclass(frozen=True)
class Bbopt:
    """`strategy`: "auto", which is the peer "bbopt", or another one."""

    name: str = "bbopt"
    strategy: Strategy | str = "auto"

    @property
    def settings(self) -> str:
        if self.strategy == "auto":
            return "Optimizer(task, seed=, budget=): the strategy auto, which chooses by the task and the budget"
        return f"Optimizer(task, {self.strategy!r}, seed=, budget=)"

    def version(self) -> str:
        return f"bbopt {bbopt.__version__}, source {source_digest()}"

    def refuses(self, view: View) -> str | None:
        try:
            check(make(self.strategy, view.task, None)[0], view.task)
        except NotHandled as error:
            return str(error)
        return None

    def slow(self, view: View) -> bool:
        return False

    def start(self, view: View, seed: int, budget: int) -> _Search:
        return _Search(view, self.strategy, seed, budget)
