"""Tensors joined, cut, padded and averaged over positions; and every other operation that treats samples one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812

from bbopt.zeroth_order.network.delta_operation import Operation, counted, owned
from bbopt.zeroth_order.network.delta_state import Channel, Dense, NotPropagated, State
from bbopt.zeroth_order.network.graph import Graph


class Joined(Operation):
    """Concatenation along a dimension after the batch; dimension d of (B, C, ...) is dimension d of (P, C, ..., B)."""

    def __init__(self, graph: Graph, place: int, inputs: tuple[int, ...], dim: int) -> None:
        super().__init__(graph, place, inputs)
        self.dim = dim

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        changed = [j for j, state in enumerate(given) if state is not None]
        lone = given[changed[0]]
        if self.dim == 1 and len(changed) == 1 and isinstance(lone, Channel) and lone.delta.ndim == self.output().ndim:
            return lone.shifted(sum(len(self.rows(j)) for j in range(changed[0])))
        count = counted(given)
        return Dense(torch.cat([_each(self.dense(given, j), count) for j in range(len(given))], self.dim))


class Cut(Operation):
    """Indexing by slices and integers after a batch that stays whole."""

    def __init__(self, graph: Graph, place: int, inputs: tuple[int, ...], items: tuple[slice | int, ...]) -> None:
        super().__init__(graph, place, inputs)
        self.items = items

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        state = given[0]
        if isinstance(state, Channel) and self.items[1:2] in ((), (slice(None),)):
            positions = self.items[2:]
            if state.delta.ndim == self.rows().ndim and all(isinstance(each, slice) for each in positions):
                return state.moved(state.delta[(slice(None), *positions)])
        part = self.dense(given)[(slice(None), *self.items[1:])]
        return Dense(
            part.clone(memory_format=torch.contiguous_format)
        )  # no other name for memory that may be overwritten


class Divided(Operation):
    """A tensor that is cut into a tuple of pieces: it goes on whole, and each `Piece` takes its own."""

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        values = self.dense(given)
        return Dense(values if owned(given, spare) else values.clone())


class Piece(Operation):
    """One of the pieces along a dimension after the batch."""

    def __init__(self, graph: Graph, place: int, inputs: tuple[int, ...], dim: int, start: int, length: int) -> None:
        super().__init__(graph, place, inputs)
        self.dim, self.start, self.length = dim, start, length

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        state = given[0]
        assert isinstance(state, Dense)
        part = state.values.narrow(self.dim, self.start, self.length)
        return Dense(part.clone(memory_format=torch.contiguous_format))


class Padded(Operation):
    """Padding with a constant; pad: (left, right) from the last dimension on, none for the batch."""

    def __init__(self, graph: Graph, place: int, inputs: tuple[int, ...], pad: tuple[int, ...], value: float) -> None:
        super().__init__(graph, place, inputs)
        self.pad, self.value = pad, value

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        state, spatial = given[0], self.rows().ndim - 2
        inner, outer = self.pad[: 2 * spatial], self.pad[2 * spatial :]
        if isinstance(state, Channel) and state.delta.ndim == self.rows().ndim and min(outer, default=0) >= 0:
            return state.moved(F.pad(state.delta, [0, 0, *inner])).shifted(outer[0] if outer else 0)
        return Dense(F.pad(self.dense(given), [0, 0, *self.pad], value=self.value))


class Positions(Operation):
    """The mean over dimensions after the channels."""

    def __init__(self, graph: Graph, place: int, inputs: tuple[int, ...], dims: tuple[int, ...], keep: bool) -> None:
        super().__init__(graph, place, inputs)
        self.dims, self.keep = dims, keep

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        state = given[0]
        if isinstance(state, Channel) and state.delta.ndim == self.rows().ndim:
            return state.moved(state.delta.mean(tuple(d - 1 for d in self.dims), keepdim=self.keep))
        return Dense(self.dense(given).mean(self.dims, keepdim=self.keep))


class Folded(Operation):
    """Whatever treats samples one by one: perturbations and samples together are its batch.

    A layer of this kind that has parameters (layer norm, a transposed convolution) is itself run once per perturbation.
    function: of the tensors that depend on the inputs of the network, batch first.
    """

    def __init__(self, graph: Graph, place: int, inputs: tuple[int, ...], function: Callable[..., Any]) -> None:
        super().__init__(graph, place, inputs)
        self.function = function

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        count, batch = counted(given), self.graph.batch
        parts = [_each(self.dense(given, j), count).movedim(-1, 1).flatten(0, 1) for j in range(len(given))]
        try:
            found = self.function(*parts)
        except RuntimeError as error:  # shapes that do not fit a larger batch
            raise NotPropagated(f"{self.name} does not treat samples one by one: {error}") from error
        wanted = tuple(self.graph.nodes[self.place].value.shape)
        if not isinstance(found, Tensor) or tuple(found.shape) != (count * batch, *wanted[1:]):
            raise NotPropagated(f"{self.name} does not treat samples one by one")
        return Dense(
            found.reshape(count, batch, *wanted[1:]).movedim(1, -1).clone(memory_format=torch.contiguous_format)
        )

    def perturbed(self, local: str, index: Tensor, steps: Tensor) -> State:
        layer, inputs = self.graph.nodes[self.place].target, self.graph.nodes[self.inputs[0]].value
        tensor = self.graph.tensor(self.place, local) if isinstance(layer, nn.Module) else None
        if tensor is None or not isinstance(layer, nn.Module):
            return super().perturbed(local, index, steps)
        values = []
        for place, step in zip(index.tolist(), steps, strict=True):
            moved = tensor.contiguous().clone()
            moved.view(-1)[place] += step
            values.append(functional_call(layer, {local: moved}, (inputs,)).movedim(0, -1))
        return Dense(torch.stack(values))


def _each(values: Tensor, count: int) -> Tensor:
    """(P, ...): what did not change is the same for each perturbation."""
    return values if len(values) == count else values.expand(count, *values.shape[1:])
