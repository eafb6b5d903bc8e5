"""Functions of single numbers: activations, sums, products, dropout. A changed channel stays a changed channel.

f(a + D) - f(a);   for ReLU  max(D, -a) + min(a, 0),   which is D itself where a and a + D are positive;
for sums and differences the changes themselves;   for dropout the mask of the base pass times D.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bbopt.zeroth_order.network.delta_operation import Operation, counted, owned
from bbopt.zeroth_order.network.delta_state import Channel, Dense, NotPropagated, State
from bbopt.zeroth_order.network.graph import Graph


class Pointwise(Operation):
    """A function of tensors of one shape, or of shapes that spread to it, number by number."""

    def __init__(self, graph: Graph, place: int, inputs: tuple[int, ...], function: Callable[..., Tensor]) -> None:
        super().__init__(graph, place, inputs)
        self.function = function
        self.shape = tuple(graph.nodes[place].value.shape)

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        lead = self._in_one_channel(given)
        if lead is not None:
            before = [lead.of(self._whole(j)) for j in range(len(given))]
            return lead.moved(self._change(before, given))
        return Dense(self.function(*(self._values(given, j) for j in range(len(given)))))

    def _change(self, before: list[Tensor], given: tuple[State | None, ...]) -> Tensor:
        """(P, *S, B): the change of a channel of which all that changed inputs changed."""
        after = [b + s.delta if isinstance(s, Channel) else b for b, s in zip(before, given, strict=True)]
        return self.function(*after) - self.function(*before)

    def _in_one_channel(self, given: tuple[State | None, ...]) -> Channel | None:
        """A changed input, where all that did change did so in the same channels and have the output's shape."""
        lead: Channel | None = None
        for j, state in enumerate(given):
            if state is None:
                continue
            whole = tuple(self.graph.nodes[self.inputs[j]].value.shape) == self.shape
            if not isinstance(state, Channel) or not whole:
                return None
            if lead is not None and (lead.runs != state.runs or lead.delta.shape != state.delta.shape):
                return None
            lead = state
        return lead

    def _whole(self, which: int) -> Tensor:
        """(C, *S, B): an input's base value, spread to the shape of the output."""
        value = self.graph.nodes[self.inputs[which]].value
        if tuple(value.shape) == self.shape:
            return self.rows(which)
        return torch.broadcast_to(value, self.shape).movedim(0, -1)

    def _values(self, given: tuple[State | None, ...], which: int) -> Tensor:
        if given[which] is None:
            return self._whole(which)[None]
        if self.graph.nodes[self.inputs[which]].value.ndim != len(self.shape):
            raise NotPropagated(f"{self.name} spreads a changed tensor over further dimensions")
        return self.dense(given, which)


class ReLU(Pointwise):
    """max(a, 0)."""

    def _change(self, before: list[Tensor], given: tuple[State | None, ...]) -> Tensor:
        state = given[0]
        assert isinstance(state, Channel)
        under = before[0].neg()
        return torch.maximum(state.delta, under).sub_(under.clamp_(min=0.0))

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        state = given[0]
        if isinstance(state, Channel):
            return super().spread(given)
        values = self.dense(given)
        return Dense(values.relu_() if owned(given, spare) else values.relu())


class Sum(Pointwise):
    """left + factor * right; one of them may be a channel's change while the other is dense."""

    def __init__(self, graph: Graph, place: int, inputs: tuple[int, ...], factor: float) -> None:
        super().__init__(graph, place, inputs, lambda left, right: torch.add(left, right, alpha=factor))
        self.factor = factor

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        lead = self._in_one_channel(given)
        if lead is not None:
            parts = [
                state.delta if scale == 1.0 else state.delta * scale
                for state, scale in zip(given, (1.0, self.factor), strict=True)
                if isinstance(state, Channel)
            ]
            return lead.moved(parts[0] + parts[1] if len(parts) == 2 else parts[0])
        left, right = given
        plain = (
            self.factor == 1.0
            and self._whole(0).shape == self.rows(0).shape
            and self._whole(1).shape == self.rows(1).shape
        )
        for channel, dense, which in ((left, right, 0), (right, left, 1)):
            if plain and isinstance(channel, Channel) and isinstance(dense, Dense):
                values = dense.values.add_(self.rows(which)) if spare else dense.values + self.rows(which)
                channel.add_to(values)
                return Dense(values)
            if plain and channel is None and isinstance(dense, Dense) and spare:
                return Dense(dense.values.add_(self.rows(which)))
        return super().spread(given)


class Scaled(Operation):
    """Dropout in training mode: times the mask that the base pass drew."""

    def __init__(self, graph: Graph, place: int, inputs: tuple[int, ...], mask: Tensor) -> None:
        super().__init__(graph, place, inputs)
        self.mask = mask.movedim(0, -1).contiguous()

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        state = given[0]
        if isinstance(state, Channel):
            return state.moved(state.delta * state.of(self.mask))
        values = self.dense(given)
        return Dense(values.mul_(self.mask) if owned(given, spare) else values * self.mask)


class Same(Operation):
    """The same numbers in the same order, per sample: identity, dropout that is off, flattening, other changes of shape."""

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        state, base, out = given[0], self.rows(), self.output()
        if isinstance(state, Channel):
            if out.shape == base.shape or (out.ndim == 2 and state.delta.ndim == base.ndim):
                return state  # flattened channels are blocks of columns
            if state.delta.ndim == base.ndim and len(out) == len(base):
                return state.moved(state.delta.reshape(state.count, *out.shape[1:]))
        values = self.dense(given)
        values = values if owned(given, spare) else values.clone()
        return Dense(values.reshape(counted(given), *out.shape))
