"""Outputs of one evaluation after another, judged together: one call of the loss for many of them.

A loss that is asked for one evaluation at a time costs more than a small network; a judge with a fixed price per call
(`BlackBox(stacked=True)`) far more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bbopt.errors import UsageError
from bbopt.zeroth_order.network.base import BasePass

BYTES = {"cpu": 2**21, "cuda": 2**26}
"""Of a chunk of evaluations: about a level-two cache, or enough to fill a GPU."""
LIVE = 4
"""Float64 tensors of the size of all changes that live at the same time."""


class Gathered:
    """Takes outputs (B, ...) as they come; gives the changes of the loss against a base pass."""

    def __init__(self, base: BasePass, bytes: int | None = None) -> None:
        self.base = base
        self._before = base.outputs.double()
        room = rows_within(base, bytes)
        self._moved = torch.empty(room, *base.outputs.shape, dtype=torch.float64, device=base.outputs.device)
        self._held = 0
        self._changes: list[Tensor] = []

    def add(self, outputs: Tensor) -> None:
        """One more evaluation."""
        torch.sub(outputs, self._before, out=self._moved[self._held])
        self._held += 1
        if self._held == len(self._moved):
            self._judge()

    def changes(self) -> Tensor:
        """(n,) float64, in the order of the evaluations."""
        if self._held:
            self._judge()
        return torch.cat([self._before.new_empty(0), *self._changes])

    def _judge(self) -> None:
        self._changes.append(self.base.change(self._moved[: self._held]))
        self._held = 0


def rows_within(base: BasePass, bytes: int | None) -> int:
    """How many evaluations a loss may look at together, at least one. bytes: None for the device's own budget."""
    return max(1, budget(base, bytes) // max(1, 8 * LIVE * base.outputs.numel()))


def budget(base: BasePass, bytes: int | None) -> int:
    """The bytes given, or those that suit the device."""
    if bytes is not None and bytes < 1:
        raise UsageError(f"expected a positive number of bytes for a chunk, or None; got {bytes}")
    return BYTES[base.outputs.device.type] if bytes is None else bytes
