"""Batch norm of perturbed channels, by exact differences where one channel changed.

    y = g (x - m) / s + b,  s^2 = v + eps, with m, v the mean and the variance of the channel over samples and positions.
    With x + D in place of x:  m' = m + mean(D),  v' = v + 2 mean((x - m) D) + mean(D^2) - mean(D)^2,
    y' - y = g/s' (D - mean(D)) + g (1/s' - 1/s) (x - m),  and  s/s' - 1 = expm1(-log1p((v' - v) / s^2) / 2),

in which nothing is the difference of two nearly equal numbers. In evaluation mode m and s stay: y' - y = g D / s.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from bbopt.zeroth_order.network.delta_operation import Operation, owned
from bbopt.zeroth_order.network.delta_state import Channel, Dense, NotPropagated, State, channels
from bbopt.zeroth_order.network.graph import Graph


class BatchNorm(Operation):
    """Batch norm with weight g and bias b (None: 1 and 0); running: mean and variance where those of the batch are not used."""

    def __init__(
        self, graph: Graph, place: int, inputs: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float,
        running: tuple[Tensor, Tensor] | None,
    ) -> None:  # fmt: skip
        super().__init__(graph, place, inputs)
        base = self.rows()
        ones = torch.ones(len(base), dtype=base.dtype, device=base.device)
        self.weight = ones if weight is None else weight
        self.bias = torch.zeros_like(ones) if bias is None else bias
        self.eps, self.running = eps, running

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """(C,) mean and s of the base."""
        if self.running is not None:
            return self.running[0], (self.running[1].double() + self.eps).sqrt().to(self.weight.dtype)
        variance, mean = torch.var_mean(self.rows().flatten(1).double(), dim=1, unbiased=False)
        return mean.to(self.weight.dtype), (variance + self.eps).sqrt().to(self.weight.dtype)

    @cached_property
    def _factors(self) -> Tensor:
        """(2, C): g / s and 1 / s^2."""
        s = self._moments[1]
        return torch.stack([self.weight / s, s.square().reciprocal()])

    @cached_property
    def _centred(self) -> Tensor:
        """(C, *S, B): x - m."""
        base = self.rows()
        return base - self._moments[0].view(-1, *[1] * (base.ndim - 1))

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        state = given[0]
        if isinstance(state, Channel) and state.delta.ndim == self.rows().ndim:
            return state.moved(self._moved(state))
        values = self.dense(given)
        flat = values.flatten(2) if values.ndim > 2 else values[:, :, None]  # (P, C, N)
        scale = self.weight / self._moments[1]
        if self.running is not None:
            shift = self.bias - self._moments[0] * scale
            return Dense(torch.addcmul(shift[:, None], flat, scale[:, None]).view(values.shape))
        mean = flat.mean(2, keepdim=True)
        centred = flat.sub_(mean) if owned(given, spare) else flat - mean
        spread = torch.linalg.vector_norm(centred, dim=2, keepdim=True).square_().div_(flat.shape[2])
        scale = spread.add_(self.eps).rsqrt_().mul_(self.weight[:, None])
        torch.addcmul(self.bias[:, None], centred, scale, out=centred)
        return Dense(centred.view(values.shape))

    def _moved(self, state: Channel) -> Tensor:
        delta = state.delta
        shape = (-1, *[1] * (delta.ndim - 1))
        factors = self._factors[:, state.index]
        gain, inverse = factors[0], factors[1]
        if self.running is not None:
            return delta * gain.view(shape)
        flat, centred = delta.reshape(len(delta), -1), state.of(self._centred)
        n = flat.shape[1]
        mean = flat.mean(1)
        square = torch.linalg.vector_norm(flat, dim=1).square_()
        product = _dots(flat, centred.reshape(len(centred), -1))
        growth = square.add_(product, alpha=2.0).div_(n).addcmul_(mean, mean, value=-1.0)  # v' - v
        far = growth.mul_(inverse).log1p_().mul_(-0.5).expm1_().mul_(gain)  # g (1/s' - 1/s)
        near = far + gain  # g / s'
        moved: Tensor = torch.addcmul((near * mean).neg_().view(shape), delta, near.view(shape))
        return moved.addcmul_(centred, far.view(shape))

    def perturbed(self, local: str, index: Tensor, steps: Tensor) -> State:
        base = self.output()
        scale = steps.view(-1, *[1] * (base.ndim - 1))
        if local == "bias":
            return Channel(scale.expand(-1, *base.shape[1:]), *channels(index))
        if local != "weight":
            raise NotPropagated(f"{local} is no parameter of batch norm")
        scale = scale / self._moments[1][index].view(scale.shape)
        return Channel(self._centred[index].mul_(scale), *channels(index))


def _dots(left: Tensor, right: Tensor) -> Tensor:
    """(P,): the product of each row of (P, N) with its row of (P or 1, N)."""
    if len(right) == 1:
        return left @ right[0]
    return torch.bmm(left[:, None], right[:, :, None]).view(-1)
