"""Which engine serves which parameter: the fastest that can, and a word where it is not the one asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from bbopt.errors import UsageError
from bbopt.zeroth_order.network.base import BasePass
from bbopt.zeroth_order.network.delta import Delta
from bbopt.zeroth_order.network.engine import Engine, NotApplicable
from bbopt.zeroth_order.network.naive import Naive
from bbopt.zeroth_order.network.prefix import Staged
from bbopt.zeroth_order.network.vmapped import Vmapped

Level = Literal["auto", "oracle", "staged", "delta", "units", "hybrid", "vmap"]
LEVELS: tuple[Level, ...] = get_args(Level)

AUTOMATIC: dict[str, tuple[Level, ...]] = {
    "cpu": ("delta", "staged", "oracle"),
    "cuda": ("delta", "vmap", "staged", "oracle"),
}
"""Fastest first. In products delta never takes more than staged, nor staged more than oracle (`cost`); vmap takes as many as
staged, in fewer launches, which a GPU waits for and a CPU hardly notices."""
FALLBACK: tuple[Level, ...] = ("staged", "oracle")
"""What serves a parameter that the engine of a named level cannot."""


class Engines:
    """Engines of one base pass, made when first needed, and their assignment to parameters.

    Raises NotApplicable where a level was named that can serve none of the parameters.
    """

    def __init__(self, base: BasePass, level: Level, bytes: int, names: tuple[str, ...]) -> None:
        if level not in LEVELS:
            raise UsageError(f"expected a level of {', '.join(LEVELS)}; got {level!r}")
        self.parameters = dict(base.problem.module.named_parameters())
        self._makers: dict[Level, Callable[[], Engine]] = {
            "oracle": lambda: Naive(base, bytes),
            "staged": lambda: Staged(base, bytes),
            "vmap": lambda: Vmapped(base, bytes),
            "delta": lambda: Delta(base, bytes),
        }
        if level != "auto" and level not in self._makers:
            raise UsageError(
                f"level {level!r} gives whole gradients only; in parts there are {', '.join(self._makers)}"
            )
        self._made: dict[Level, Engine | str] = {}
        self._serving: dict[str, Engine] = {}
        self._reasons: dict[str, str] = {}
        order = AUTOMATIC[base.outputs.device.type] if level == "auto" else (level, *FALLBACK)
        for name in names:
            self._assign(name, order)
        if level != "auto" and all(engine.name != self._name(level) for engine in self._serving.values()):
            raise NotApplicable(
                f"level {level!r} does not apply: {next(iter(self._reasons.values()))}; "
                f"levels that do: {', '.join(self._applicable(names))}"
            )

    def serving(self, parameter: str) -> Engine:
        """The engine of a parameter."""
        return self._serving[parameter]

    def fallbacks(self) -> dict[str, str]:
        """Per parameter that an earlier engine refused: its name and its reason."""
        return dict(self._reasons)

    def _assign(self, name: str, order: tuple[Level, ...]) -> None:
        for level in order:
            engine = self._engine(level)
            reason = engine if isinstance(engine, str) else engine.refusal(name)
            if not isinstance(engine, str) and reason is None:
                self._serving[name] = engine
                return
            self._reasons.setdefault(name, f"{level}: {reason}")

    def _engine(self, level: Level) -> Engine | str:
        if level not in self._made:
            try:
                self._made[level] = self._makers[level]()
            except NotApplicable as reason:
                self._made[level] = str(reason)
        return self._made[level]

    def _name(self, level: Level) -> str:
        engine = self._engine(level)
        return "" if isinstance(engine, str) else engine.name

    def _applicable(self, names: tuple[str, ...]) -> list[Level]:
        found: list[Level] = []
        for level in self._makers:
            engine = self._engine(level)
            if not isinstance(engine, str) and any(engine.refusal(name) is None for name in names):
                found.append(level)
        return found
