"""The evaluation that all differences are taken against, and repeats of it under the same conditions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bbopt.errors import UsageError, ValueRefused
from bbopt.zeroth_order.network.admission import admitted
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.draws import Generators, State, seed_all
from bbopt.zeroth_order.network.objective import Around, NetworkLoss
from bbopt.zeroth_order.network.precision import full_precision
from bbopt.zeroth_order.network.untouched import Place, Snapshot, untouched


@dataclass(frozen=True, eq=False)
class BasePass:
    """One forward at the parameters as they are, with what is needed to repeat it after a parameter moved.

    outputs: (B, ...). near: the loss near them.
    draws, start, middle: the generators that forward and loss draw from, their states before the forward and before the loss.
    moving: tensors of the module that a forward changes (spectral norm's vectors), put back before every repeat.
    spoils: whether the forward writes into its inputs. judged: whether the loss draws random numbers as well.
    """

    problem: NetworkLoss
    outputs: Tensor
    near: Around
    draws: Generators
    start: State
    middle: State
    moving: tuple[Place, ...]
    spoils: bool
    judged: bool

    def rewind(self) -> None:
        """Generators and moving tensors as they were before the base pass."""
        for place in self.moving:
            place.put_back()
        self.draws.set(self.start)

    def forward(self) -> Tensor:
        """(B, ...) outputs of the module at its present parameters, with the draws and buffers of the base pass."""
        self.rewind()
        inputs = self.problem.inputs
        outputs: Tensor = self.problem.module(inputs.clone() if self.spoils else inputs)
        return outputs

    def changes(self, moved: Tensor) -> Tensor:
        """(P, B) float64 changes of the loss per sample, or (P,), for (P, B, ...) float64 changes of the outputs."""
        if not self.judged:
            return self.near.changes(moved)
        parts = []
        for j in range(len(moved)):
            self.draws.set(self.middle)
            parts.append(self.near.changes(moved[j : j + 1]))
        return torch.cat(parts)

    def change(self, moved: Tensor) -> Tensor:
        """(P,) float64 changes of the mean loss for (P, B, ...) float64 changes of the outputs."""
        return self.changes(moved).reshape(len(moved), -1).mean(1)


def base_pass(problem: NetworkLoss, snapshot: Snapshot) -> BasePass:
    """One forward of the module and one look at the loss, inside `untouched`, which gave the snapshot.

    Raises UsageError where the outputs do not fit the loss, ValueRefused where the loss is not finite.
    """
    module, generators, start = problem.module, snapshot.generators, snapshot.state
    if problem.seed is not None:
        seed_all(module, problem.inputs, problem.seed)
        start = generators.state()
    fed = problem.inputs.clone()
    version = fed._version
    outputs: Any = module(fed)
    if not isinstance(outputs, Tensor):
        raise UsageError(f"expected the module to return one tensor, got {type(outputs).__name__}; wrap it to pick one")
    if outputs.dtype not in (torch.float32, torch.float64):
        raise UsageError(f"the module computes in {outputs.dtype}, too coarse for differences; module.float() helps")
    outputs = outputs.detach().clone()
    middle = generators.state()
    near = problem.loss.around(outputs)
    if not math.isfinite(near.loss):
        raise ValueRefused(f"the loss at the parameters themselves is {near.loss}; differences need a finite one")
    end = generators.state() if not near.stable else middle
    drawn = generators.moved(start, end)
    return BasePass(
        problem,
        outputs,
        near,
        generators.part(drawn),
        tuple(start[j] for j in drawn),
        tuple(middle[j] for j in drawn),
        snapshot.changed(),
        fed._version != version,
        bool(generators.moved(middle, end)),
    )


@contextmanager
def opened(problem: NetworkLoss, coordinates: Coordinates | None) -> Iterator[tuple[BasePass, Coordinates]]:
    """A context with the base pass of a problem and its checked coordinates; module and generators come back as they were."""
    chosen = admitted(problem, coordinates)
    with full_precision(problem.inputs.device), untouched(problem.module, problem.inputs) as snapshot:
        yield base_pass(problem, snapshot), chosen
