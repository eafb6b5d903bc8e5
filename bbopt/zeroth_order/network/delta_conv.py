"""Convolutions: a scalar of the kernel adds a shifted copy of one input channel to one output channel.

    z_o = sum_cu K_ocu x_c[. + u] + b_o:   K_ocu + h  changes  z_o by h x_c[. + u],   b_o + h  changes  z_o by h,
    x_c + D                                changes  z_o by sum_u K_ocu D[. + u] for all o.

The last line is a product of matrices, (O, taps) by (taps, positions times samples): a convolution of one input channel
has too little to do per number for the kernels of a general one, which take five to ten times as long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bbopt.zeroth_order.network.delta_operation import Operation
from bbopt.zeroth_order.network.delta_state import Channel, Dense, State, channels
from bbopt.zeroth_order.network.graph import Graph


@dataclass(frozen=True)
class Geometry:
    """How a kernel moves: per spatial dimension its size, stride, dilation, and (left, right) padding; mode of the padding."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    mode: str = "zeros"

    @property
    def taps(self) -> int:
        """Scalars of a kernel per pair of channels."""
        return math.prod(self.kernel)

    @property
    def even(self) -> tuple[int, ...] | None:
        """The padding as a convolution takes it: zeros, as many on the left as on the right; None where it is otherwise."""
        if self.mode == "zeros" and all(left == right for left, right in self.padding):
            return tuple(left for left, _ in self.padding)
        return None

    def padded(self, tensor: Tensor) -> Tensor:
        """(N..., *S, B) with its spatial dimensions padded."""
        if not any(left or right for left, right in self.padding):
            return tensor
        first = tensor.ndim - 1 - len(self.kernel)
        if self.mode == "zeros":
            return F.pad(tensor, [0, 0, *(side for pair in reversed(self.padding) for side in pair)])
        for j, (left, right) in enumerate(self.padding):
            line = torch.arange(tensor.shape[first + j], dtype=torch.float64)
            place = F.pad(line[None, None], (left, right), self.mode)[0, 0].to(tensor.device, torch.int64)
            tensor = tensor.index_select(first + j, place)
        return tensor

    def windows(self, padded: Tensor, out: Sequence[int]) -> Tensor:
        """(N, *kernel, *out, B): a view of (N, *S, B), what each tap of the kernel meets at each position."""
        n, *inner, sample = padded.stride()
        taps = [stride * step for stride, step in zip(inner, self.dilation, strict=True)]
        moves = [stride * step for stride, step in zip(inner, self.stride, strict=True)]
        shape = (len(padded), *self.kernel, *out, padded.shape[-1])
        return padded.as_strided(shape, (n, *taps, *moves, sample), padded.storage_offset())


class Conv(Operation):
    """A convolution over one to three spatial dimensions."""

    def __init__(
        self, graph: Graph, place: int, inputs: tuple[int, ...], weight: Tensor, bias: Tensor | None, geometry: Geometry,
        groups: int,
    ) -> None:  # fmt: skip
        super().__init__(graph, place, inputs)
        self.weight, self.bias, self.geometry, self.groups = weight.contiguous(), bias, geometry, groups

    @cached_property
    def _kernel(self) -> Tensor:
        """The kernel with a further dimension of 1, which the samples take."""
        return self.weight.unsqueeze(-1)

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        state = given[0]
        if isinstance(state, Channel) and self._narrow:
            return self._enter(state)
        values = self.dense(given)
        padding = self.geometry.even
        if padding is None:
            values, padding = self.geometry.padded(values), (0,) * len(self.geometry.kernel)
        spatial = len(self.geometry.kernel)
        if spatial == 3:  # there is no convolution over four dimensions
            return Dense(self._folded(values, padding))
        convolve = (F.conv2d, F.conv3d)[spatial - 1]
        stride, dilation = (*self.geometry.stride, 1), (*self.geometry.dilation, 1)
        return Dense(convolve(values, self._kernel, self.bias, stride, (*padding, 0), dilation, self.groups))

    @property
    def _narrow(self) -> bool:
        """Whether a change of one input channel is cheaper to follow than that of all: not so where groups split them."""
        return self.groups == 1

    def _enter(self, state: Channel) -> Dense:
        base = self.output()
        windows = self.geometry.windows(self.geometry.padded(state.delta), base.shape[1:-1])
        windows = windows.reshape(state.count, self.geometry.taps, -1)
        weight = self.weight.transpose(0, 1)[state.index].flatten(2)
        values = torch.baddbmm(base.flatten(1).expand(state.count, -1, -1), weight, windows)
        return Dense(values.view(state.count, *base.shape))

    def _folded(self, values: Tensor, padding: tuple[int, ...]) -> Tensor:
        """With perturbations and samples together as the batch."""
        count, batch = len(values), values.shape[-1]
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(self.geometry.kernel) - 1]
        images = values.movedim(-1, 1).flatten(0, 1)
        found: Tensor = convolve(
            images, self.weight, self.bias, self.geometry.stride, padding, self.geometry.dilation, self.groups
        )
        return found.reshape(count, batch, *found.shape[1:]).movedim(1, -1).contiguous()

    def flops(self, given: tuple[State | None, ...]) -> float:
        each = 2.0 * self.output().numel() * self.geometry.taps
        return each if isinstance(given[0], Channel) and self._narrow else each * self.weight.shape[1]

    def perturbed(self, local: str, index: Tensor, steps: Tensor) -> State:
        base = self.output()
        scale = steps.view(-1, *[1] * (base.ndim - 1))
        if local == "bias":
            return Channel(scale.expand(-1, *base.shape[1:]), *channels(index))
        output, inner = index // self._places.shape[1], index % self._places.shape[1]
        source, *taps = self._places[:, inner]
        if self.groups > 1:
            source = source + output // (len(self.weight) // self.groups) * self.weight.shape[1]
        windows = self.geometry.windows(self._padded, base.shape[1:-1])
        return Channel(windows[(source, *taps)].mul_(scale), *channels(output))

    @cached_property
    def _places(self) -> Tensor:
        """(1 + spatial, scalars per output): input channel and tap of each scalar of a kernel."""
        shape = self.weight.shape[1:]
        inner = torch.arange(math.prod(shape), device=self.weight.device)
        return torch.stack(torch.unravel_index(inner, shape))

    @cached_property
    def _padded(self) -> Tensor:
        return self.geometry.padded(self.rows())

    @property
    def positions(self) -> int:
        """Units per output channel."""
        return math.prod(self.output().shape[1:-1])

    def unit(self, number: Tensor, steps: Tensor) -> Channel:
        """Steps of single units z_o[position], the same for all samples; number: o times positions plus position."""
        base, rows = self.output(), torch.arange(len(number), device=number.device)
        delta = base.new_zeros((len(number), *base.shape[1:]))
        delta.view(len(number), self.positions, -1)[rows, number % self.positions] = steps[:, None]
        return Channel(delta, *channels(number // self.positions))

    def weight_slopes(self, outputs: Tensor, slopes: Tensor) -> Tensor:
        """(n, inputs * taps): sum over positions and samples of the slopes (n, positions, B) times what met the kernel."""
        windows = self.geometry.windows(self._padded, self.output().shape[1:-1])
        windows = windows.flatten(1, len(self.geometry.kernel))  # (C, taps, *out, B)
        width, group = self.weight.shape[1], outputs // (len(self.weight) // self.groups)
        found = slopes.new_zeros((len(outputs), width, self.geometry.taps))
        for part in sorted(set(group.tolist())):
            own = group == part
            for tap in range(self.geometry.taps):
                met = windows[part * width : (part + 1) * width, tap].reshape(width, -1)
                found[own, :, tap] = slopes[own].flatten(1) @ met.to(slopes.dtype).t()
        return found.flatten(1)
