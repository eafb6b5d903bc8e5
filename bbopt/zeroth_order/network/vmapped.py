"""Many perturbed copies of one parameter through `torch.func.vmap`: general wherever vmap knows the operations.

It makes a copy of the parameter per perturbation and turns products into batched ones: hardly faster than a loop on a
CPU, but one launch instead of many on a GPU. Where the module can be cut in stages, it starts at the perturbed one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bbopt.zeroth_order.network.base import BasePass
from bbopt.zeroth_order.network.engine import NotApplicable
from bbopt.zeroth_order.network.gather import budget
from bbopt.zeroth_order.network.naive import cells, moved
from bbopt.zeroth_order.network.prefix import Stage, Staged

LIVE = 3
"""Tensors of the size of the largest activation that live at the same time."""
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-11}
"""Of the outputs, in units of their root mean square: what another order of summation may change."""
PROBE = 1e-2
"""How far a scalar is moved, beside the size of its tensor, to see whether the perturbation arrives."""


class Vmapped:
    """Serves a parameter after a probe: its outputs must agree with those of the module, at the base and moved."""

    name: ClassVar[str] = "vmap"

    def __init__(self, base: BasePass, bytes: int | None = None) -> None:
        self.base, self.bytes = base, budget(base, bytes)
        self.parameters = dict(base.problem.module.named_parameters())
        self._staged = _staged(base)
        self._largest = _largest_activation(base)
        self._refusals: dict[str, str | None] = {}

    def refusal(self, parameter: str) -> str | None:
        if parameter not in self._refusals:
            self._refusals[parameter] = self._probe(parameter)
        return self._refusals[parameter]

    def changes(self, parameter: str, index: Tensor, steps: Tensor) -> Tensor:
        theta = self.parameters[parameter]
        each = theta.numel() * theta.element_size() + LIVE * self._largest
        chunk = max(1, self.bytes // each)
        found = []
        for j in range(0, len(index), chunk):
            outputs = self._outputs(parameter, index[j : j + chunk], steps[j : j + chunk]).double()
            found.append(self.base.change(outputs[1:] - outputs[:1]))
        return torch.cat(found) if found else torch.empty(0, dtype=torch.float64)

    def _outputs(self, parameter: str, index: Tensor, steps: Tensor) -> Tensor:
        """(n + 1, B, ...): at the base, then at each of the perturbations."""
        theta = self.parameters[parameter].detach()
        copies = theta.reshape(1, -1).repeat(len(index) + 1, 1)
        rows = torch.arange(len(index), device=theta.device)
        at = index.to(theta.device)
        copies[rows + 1, at] = (copies[0, at].double() + steps.to(theta.device)).to(theta.dtype)
        pieces, inputs = self._start(parameter)
        homes = self._homes(parameter)

        def evaluate(copy: Tensor) -> Tensor:
            flow = inputs
            with _swapped(homes, copy):
                for piece in pieces:
                    flow = piece(flow)
            return flow

        outputs: Tensor = torch.func.vmap(evaluate, randomness="same")(copies.reshape(-1, *theta.shape))
        return outputs

    def _start(self, parameter: str) -> tuple[tuple[Stage, ...], Tensor]:
        """What is to be run for a perturbation, and on what."""
        if self._staged is not None:
            stage = self._staged.first[parameter]
            return self._staged.stages[stage:], self._staged.start(stage)
        self.base.rewind()
        inputs = self.base.problem.inputs
        return (self.base.problem.module,), inputs.clone() if self.base.spoils else inputs

    def _homes(self, parameter: str) -> list[tuple[dict[str, Any], str]]:
        """Where modules look the parameter up: several places for a tied one."""
        wanted = self.parameters[parameter]
        parts = self.base.problem.module.modules()
        return [(part._parameters, key) for part in parts for key, p in part._parameters.items() if p is wanted]

    def _probe(self, parameter: str) -> str | None:
        """Why vmap does not serve a parameter: it raises, or gives other outputs than the module itself."""
        theta = self.parameters[parameter].detach()
        if self._staged is not None and self._staged.refusal(parameter):
            return self._staged.refusal(parameter)
        if theta.numel() == 0:
            return None
        index = torch.tensor([theta.numel() // 2])
        step = torch.tensor([PROBE * max(1.0, float(theta.double().square().mean().sqrt()))], dtype=torch.float64)
        try:
            base, there = self._outputs(parameter, index, step)
        except Exception as error:  # whatever an operation without a batching rule raises
            return (
                f"vmap cannot evaluate the module: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            )
        finally:
            self.base.rewind()
        with moved(next(cells(self.parameters[parameter], index)), float(step)):
            wanted = self.base.forward()
        scale = TOLERANCE[base.dtype] * float(wanted.double().square().mean().sqrt())
        for found, true in ((base, self.base.outputs), (there, wanted)):
            if found.shape != true.shape or not float((found - true).abs().max()) <= scale:
                return "under vmap the module gives other outputs than alone"
        return None


@contextmanager
def _swapped(homes: list[tuple[dict[str, Any], str]], tensor: Tensor) -> Iterator[None]:
    """A context in which modules find another tensor in a parameter's places."""
    before = [holder[key] for holder, key in homes]
    try:
        for holder, key in homes:
            holder[key] = tensor
        yield
    finally:
        for (holder, key), parameter in zip(homes, before, strict=True):
            holder[key] = parameter


def _staged(base: BasePass) -> Staged | None:
    try:
        return Staged(base)
    except NotApplicable:
        return None


def _largest_activation(base: BasePass) -> int:
    """Bytes of the largest tensor that a part of the module returns for the whole batch."""
    largest = base.outputs.numel() * base.outputs.element_size()

    def note(part: nn.Module, inputs: Any, outputs: Any) -> None:
        nonlocal largest
        if isinstance(outputs, Tensor):
            largest = max(largest, outputs.numel() * outputs.element_size())

    handles = [part.register_forward_hook(note) for part in base.problem.module.modules()]
    try:
        base.forward()
    finally:
        for handle in handles:
            handle.remove()
    return largest
