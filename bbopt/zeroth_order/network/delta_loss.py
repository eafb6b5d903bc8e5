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
            each = self._each(moved)
            if bool(torch.isfinite(each).all()):
                return each.mean(1, dtype=torch.float64)
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
            each = self._each_of_channel(state)
            if bool(torch.isfinite(each).all()):
                return each.mean(1, dtype=torch.float64)
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
        return (moved - at_target).expm1_().mul_(self.p).sum(1).log1p_()

    def _each_of_channel(self, state: Channel) -> Tensor:
        return (state.delta * state.of(self.s)).expm1_().mul_(state.of(self.w)).log1p_()
