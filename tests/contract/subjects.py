"""Everything the contract is run over: the toys, every entry of the table of strategies, and the example of a user's own.

A new strategy is one line in `bbopt.table.STRATEGIES`; nothing here needs to change for it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbopt import table
from bbopt.strategy import Strategy
from contract.toys import Climber, Population, Walk

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "examples" / "own_strategy.py"


@dataclass(frozen=True)
class Subject:
    """A strategy under test; `make` may import heavy packages, so it is called inside the tests only."""

    name: str
    make: Callable[[], Strategy]

    def __str__(self) -> str:
        return self.name

    def rows(self, quick: int, heavy: int) -> int:
        """How many rows to ask for: fewer where asking fits models."""
        return quick if self.make().instant or getattr(self.make(), "scripted", False) else heavy


def _own() -> Strategy:
    """The strategy class of the example, found by its traits."""
    spec = importlib.util.spec_from_file_location("own_strategy", OWN)
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault("own_strategy", importlib.util.module_from_spec(spec))
    if not hasattr(module, "__file__") or not [name for name in vars(module) if not name.startswith("__")]:
        spec.loader.exec_module(module)
    kinds = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == "own_strategy" and hasattr(kind, "handles")
    ]
    assert len(kinds) == 1, f"{OWN} defines {len(kinds)} strategies, expected one"
    made: Any = kinds[0]()
    return made  # type: ignore[no-any-return]


def _subjects() -> list[Subject]:
    found = [Subject("toy-free", Climber), Subject("toy-lockstep", Population), Subject("toy-script", Walk)]
    found += [Subject(name, lambda name=name: table.load(name)()) for name in table.STRATEGIES]  # type: ignore[misc]
    if OWN.exists():
        found.append(Subject("example", _own))
    return found


SUBJECTS = _subjects()
CHEAP = [subject for subject in SUBJECTS if subject.name.startswith("toy")]
