"""Pooling: windows of the same place as differences and values, tap by tap over whole runs of samples.

max_t(a_t + D_t) - max_t(a_t) = max_t(D_t - (max a - a_t)),   and   mean_t(a_t + D_t) - mean_t(a_t) = mean_t(D_t).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from bbopt.zeroth_order.network.delta_conv import Geometry
from bbopt.zeroth_order.network.delta_operation import Operation
from bbopt.zeroth_order.network.delta_state import Channel, Dense, State
from bbopt.zeroth_order.network.graph import Graph

Slices = tuple[slice, ...]


def taps(geometry: Geometry, size: tuple[int, ...], out: tuple[int, ...]) -> Iterator[tuple[Slices, Slices]]:
    """Per tap of a window: which positions of the input it meets, and at which of the output; padding meets nothing."""
    ranges = []
    for j, kernel in enumerate(geometry.kernel):
        step, left = geometry.stride[j], geometry.padding[j][0]
        each = []
        for u in range(kernel):
            start = u * geometry.dilation[j] - left
            low = max(0, -(start // step))  # the first output whose input position start + low * step is not negative
            high = min(out[j], (size[j] - 1 - start) // step + 1)
            if high > low:
                first = start + low * step
                each.append((slice(first, first + (high - low - 1) * step + 1, step), slice(low, high)))
        ranges.append(each)
    for combination in itertools.product(*ranges):
        yield tuple(source for source, _ in combination), tuple(target for _, target in combination)


class _Pool(Operation):
    def __init__(self, graph: Graph, place: int, inputs: tuple[int, ...], geometry: Geometry) -> None:
        super().__init__(graph, place, inputs)
        self.geometry = geometry
        self.out = tuple(self.output().shape[1:-1])
        self.taps = list(taps(geometry, tuple(self.rows().shape[1:-1]), self.out))

    def _all(self, target: Slices) -> bool:
        return all(each.start == 0 and each.stop == size for each, size in zip(target, self.out, strict=True))


class MaxPool(_Pool):
    """The largest number of each window."""

    @cached_property
    def _gaps(self) -> list[Tensor]:
        """Per tap, what its base value lacks to the largest of its window: (C, *part of S', B)."""
        base, top = self.rows(), self.output()
        return [top[(slice(None), *target)] - base[(slice(None), *source)] for source, target in self.taps]

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        state = given[0]
        if isinstance(state, Channel) and state.delta.ndim == self.rows().ndim:
            lone = state.runs[0][2] if len(state.runs) == 1 else None
            pick = slice(lone, lone + 1) if lone is not None else state.index
            parts = [
                state.delta[(slice(None), *source)] - gap[pick]
                for (source, _), gap in zip(self.taps, self._gaps, strict=True)
            ]
            return state.moved(self._largest(parts, (state.count,)))
        values = self.dense(given)
        parts = [values[(slice(None), slice(None), *source)] for source, _ in self.taps]
        return Dense(self._largest(parts, tuple(values.shape[:2])))

    def _largest(self, parts: list[Tensor], lead: tuple[int, ...]) -> Tensor:
        every = (slice(None),) * len(lead)
        whole = [part for part, (_, target) in zip(parts, self.taps, strict=True) if self._all(target)]
        rest = [(part, target) for part, (_, target) in zip(parts, self.taps, strict=True) if not self._all(target)]
        if len(whole) > 1:
            found = torch.maximum(whole[0], whole[1])
        elif whole:
            found = whole[0].clone(memory_format=torch.contiguous_format)
        else:
            found = parts[0].new_full((*lead, *self.out, parts[0].shape[-1]), -torch.inf)
        for part in whole[2:]:
            torch.maximum(found, part, out=found)
        for part, target in rest:
            held = found[(*every, *target)]
            held.copy_(torch.maximum(held, part))
        return found


class AvgPool(_Pool):
    """The mean of each window; scale: (*S') what a sum over the taps that meet the input is multiplied by."""

    def __init__(self, graph: Graph, place: int, inputs: tuple[int, ...], geometry: Geometry, scale: Tensor) -> None:
        super().__init__(graph, place, inputs, geometry)
        self.scale = scale[..., None]

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        state = given[0]
        if isinstance(state, Channel) and state.delta.ndim == self.rows().ndim:
            return state.moved(self._mean(state.delta, 1))
        return Dense(self._mean(self.dense(given), 2))

    def _mean(self, values: Tensor, lead: int) -> Tensor:
        every = (slice(None),) * lead
        if math.prod(self.out) == 1 and len(self.taps) == math.prod(values.shape[lead:-1]):
            dims = tuple(range(lead, values.ndim - 1))  # one window that holds everything
            return values.sum(dims, keepdim=True).mul_(self.scale)
        found = values.new_zeros((*values.shape[:lead], *self.out, values.shape[-1]))
        for source, target in self.taps:
            found[(*every, *target)] += values[(*every, *source)]
        return found.mul_(self.scale)
