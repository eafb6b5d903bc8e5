"""From changes of the outputs to changes of the loss, in the precision of the network where a formula allows it.

Cross-entropy with probabilities p at the base and target y, per sample: outputs that change by D change it by

    log1p(sum_c p_c expm1(D_c - D_y)),   and one output o that changes by D alone, by   log1p(w expm1(s D)),

with w = p_o, s = 1 where y is not o, and w = 1 - p_o, s = -1 where it is. No term is the difference of two nearly equal
numbers, so float32 gives what its relative precision promises; sums over samples are taken in float64.
Other losses give their changes themselves (`Loss.around`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bbopt.zeroth_order.network.base import BasePass
from bbopt.zeroth_order.network.delta_state import Channel
from bbopt.zeroth_order.network.objective import CrossEntropy


class LossChanges:
    """Changes of the loss of one base pass."""

    def __init__(self, base: BasePass) -> None:
        self.base = base
        self.shape = base.outputs.shape[1:]
        loss = base.problem.loss
        self.targets = (
            loss.targets.to(base.outputs.device) if type(loss) is CrossEntropy and base.outputs.ndim == 2 else None
        )
        if self.targets is not None:
            p = base.outputs.double().softmax(1).t().contiguous()  # (C, B)
            classes = torch.arange(len(p), device=p.device)
            hit = classes[:, None] == self.targets
            others = p.masked_fill(hit, 0.0).sum(0)
            self.p = p.to(base.outputs.dtype)
            self.w = torch.where(hit, others, p).to(base.outputs.dtype)
            self.s = torch.where(hit, -1.0, 1.0).to(base.outputs.dtype)

    def means(self, moved: Tensor) -> Tensor:
        """(P,) float64 changes of the loss. moved: (P, *K, B) changes of the outputs."""
        if self.targets is not None:
            found = self._each(moved).mean(1, dtype=torch.float64)
            if bool(torch.isfinite(found).all()):  # else steps so long that exp overflows
                return found
        return self.base.change(moved.movedim(-1, 1).double())

    def samples(self, moved: Tensor) -> Tensor:
        """(P, B) float64 changes of the loss of each sample, for losses that are a mean over samples."""
        if self.targets is not None:
            each = self._each(moved)
            if bool(torch.isfinite(each).all()):
                return each.double()
        return self.base.changes(moved.movedim(-1, 1).double())

    def channel_means(self, state: Channel) -> Tensor:
        """(P,) float64, where each perturbation changes one output, or one block of them."""
        if self.targets is not None and state.delta.ndim == 2:
            found = self._each_of_channel(state).mean(1, dtype=torch.float64)
            if bool(torch.isfinite(found).all()):
                return found
        return self.means(self.whole(state))

    def channel_samples(self, state: Channel) -> Tensor:
        """(P, B) float64, as `channel_means` before the mean."""
        if self.targets is not None and state.delta.ndim == 2:
            each = self._each_of_channel(state)
            if bool(torch.isfinite(each).all()):
                return each.double()
        return self.samples(self.whole(state))

    def whole(self, state: Channel) -> Tensor:
        """(P, *K, B): the changes of all outputs."""
        moved = state.delta.new_zeros((state.count, *self.shape, state.delta.shape[-1]))
        state.add_to(moved)
        return moved

    def _each(self, moved: Tensor) -> Tensor:
        assert self.targets is not None
        at_target = moved.gather(1, self.targets.expand(len(moved), 1, -1))
        return expm1(moved - at_target).mul_(self.p).sum(1).log1p_()

    def _each_of_channel(self, state: Channel) -> Tensor:
        return expm1(state.delta * state.of(self.s)).mul_(state.of(self.w)).log1p_()


def expm1(x: Tensor) -> Tensor:
    """exp(x) - 1 with full relative precision; x is overwritten.

    Small float32 numbers on a CPU take x + x^2/2 + x^3/6 + x^4/24, a third of the time of torch's function, which has no
    short way for them: below 2^-5 the rest of the series is less than x^4/120 < 2^-26 of it, under half a unit in the
    last place; below 2^-9 the fourth power is so too.

    >>> expm1(torch.tensor([1e-6, 1e-3])).tolist()
    [1.0000004...e-06, 0.00100050...]
    """
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return x.expm1_()
    low, high = torch.aminmax(x)
    largest = max(-float(low), float(high))
    if largest < 2.0**-9:
        return x.mul(1.0 / 6.0).add_(0.5).mul_(x).add_(1.0).mul_(x)
    if largest < 2.0**-5:
        return x.mul(1.0 / 24.0).add_(1.0 / 6.0).mul_(x).add_(0.5).mul_(x).add_(1.0).mul_(x)
    return x.expm1_()
