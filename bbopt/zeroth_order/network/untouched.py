"""A module lent out and returned bit by bit as it was, whatever happens in between.

Values are written back from copies: adding a step and subtracting it again leaves a fifth of float32 weights changed,
and a `state_dict()` is no copy, as it shares memory with the live weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from bbopt.zeroth_order.network.draws import Generators, State, generators_of

ABSENT = object()
INTERNAL = frozenset(vars(nn.Module()))
"""Attributes of every module: none is a tensor."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a module holds a tensor (parameter, buffer or plain attribute), and what was there."""

    holder: dict[str, Any]
    name: str
    tensor: Any  # the object itself; ABSENT or None where a tensor appeared later
    content: Tensor | None

    def changed(self) -> bool:
        """Whether another object, or another content, is there now."""
        if self.holder.get(self.name, ABSENT) is not self.tensor:
            return True
        return self.content is not None and not _identical(self.tensor, self.content)

    def put_back(self) -> None:
        """The same object with the same bits."""
        if self.tensor is ABSENT:
            self.holder.pop(self.name, None)
            return
        if self.holder.get(self.name, ABSENT) is not self.tensor:
            self.holder[self.name] = self.tensor
        if self.content is not None:
            self.tensor.data.copy_(self.content)  # through .data: graphs that the caller recorded before stay valid


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All tensors of a module with copies of their contents, and the states of the generators that it can draw from."""

    generators: Generators
    state: State
    places: tuple[Place, ...]
    names: tuple[tuple[dict[str, Any], dict[str, Any]], ...]  # each holder and what it held

    @classmethod
    def of(cls, module: nn.Module, inputs: Tensor | None) -> Snapshot:
        """Copies now. inputs: their device's generator is one that the module can draw from."""
        generators = generators_of(module, inputs)
        holders = list(_holders(module))
        places = tuple(
            Place(holder, name, value, value.detach().clone())
            for holder in holders
            for name, value in holder.items()
            if name not in INTERNAL and isinstance(value, Tensor)
        )
        return cls(generators, generators.state(), places, tuple((holder, dict(holder)) for holder in holders))

    def changed(self) -> tuple[Place, ...]:
        """Places whose tensor is not what it was, or that hold one now and did not."""
        return tuple(place for place in self.places if place.changed()) + self._new()

    def put_back(self) -> None:
        """Everything as it was."""
        for place in (*self.places, *self._new()):
            place.put_back()
        self.generators.set(self.state)

    def _new(self) -> tuple[Place, ...]:
        return tuple(
            Place(holder, name, before.get(name, ABSENT), None)
            for holder, before in self.names
            for name, value in holder.items()
            if name not in INTERNAL and isinstance(value, Tensor) and not isinstance(before.get(name), Tensor)
        )


@contextmanager
def untouched(module: nn.Module, inputs: Tensor | None = None) -> Iterator[Snapshot]:
    """A context after which parameters, buffers, gradients, flags and random generators are as before, also on errors.

    Inside, nothing records gradients, and batch norm in training mode computes with the statistics of the batch but
    leaves its running ones alone. Tensors that a module keeps as plain attributes count as buffers.
    inputs: where they lie decides, with the module, whose generators are saved.

    >>> layer = nn.Linear(1, 1)
    >>> before = layer.weight.item()
    >>> with untouched(layer):
    ...     layer.weight.fill_(7.0).item()
    7.0
    >>> layer.weight.item() == before
    True
    """
    snapshot = Snapshot.of(module, inputs)
    flags = [(t, t.requires_grad, t.grad, _copy(t.grad)) for t in module.parameters()]
    modes = [(part, part.training) for part in module.modules()]
    tracking = [m for m in module.modules() if isinstance(m, _NormBase) and m.training and m.track_running_stats]
    try:
        for norm in tracking:
            norm.track_running_stats = False
        with torch.no_grad():
            yield snapshot
    finally:
        for norm in tracking:
            norm.track_running_stats = True
        for part, mode in modes:
            part.training = mode
        snapshot.put_back()
        for parameter, wanted, gradient, content in flags:
            parameter.requires_grad_(wanted)
            parameter.grad = gradient
            if gradient is not None and content is not None:
                gradient.data.copy_(content)


def _holders(module: nn.Module) -> Iterator[dict[str, Any]]:
    for part in module.modules():
        yield from (part._parameters, part._buffers, vars(part))


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()


def _identical(tensor: Tensor, content: Tensor) -> bool:
    """Equal bit by bit in shape and values; not-a-number equals itself."""
    if tensor.shape != content.shape:
        return False
    if torch.equal(tensor, content):
        return True
    same = tensor.detach() == content
    return bool((same | (content.isnan() & tensor.detach().isnan())).all())
