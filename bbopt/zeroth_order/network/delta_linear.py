"""Linear layers: a scalar of the weight changes one output column, and a changed input column enters by a rank-1 update.

z_o = sum_i W_oi a_i + b_o:   W_oi + h  changes  z_o by h a_i,   b_o + h  changes  z_o by h,
a_c + D                       changes  z_o by W_oc D for all o.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bbopt.zeroth_order.network.delta_operation import Operation
from bbopt.zeroth_order.network.delta_state import Channel, Dense, Difference, State, channels
from bbopt.zeroth_order.network.graph import Graph


class Linear(Operation):
    """x W^T + b over the last dimension of x, (B, K) or (B, ..., K)."""

    def __init__(self, graph: Graph, place: int, inputs: tuple[int, ...], weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(graph, place, inputs)
        self.weight = weight.contiguous()
        self.column = None if bias is None else bias[:, None]

    @property
    def _flat(self) -> bool:
        return self.rows().ndim == 2

    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        state = given[0]
        if isinstance(state, Channel) and self._flat:
            weight, delta = self._columns(state)
            if delta.shape[1] == 1:
                return Dense(torch.addcmul(self.output(), delta, weight))
            return Dense(torch.baddbmm(self.output().expand(len(delta), -1, -1), weight, delta))
        values = torch.matmul(self.weight, self.dense(given))
        return Dense(values if self.column is None else values.add_(self.column))

    def difference(self, given: tuple[State | None, ...]) -> Difference | None:
        if not (isinstance(given[0], Channel) and self._flat):
            return None
        weight, delta = self._columns(given[0])
        return Difference(weight * delta if delta.shape[1] == 1 else torch.bmm(weight, delta))

    def _columns(self, state: Channel) -> tuple[Tensor, Tensor]:
        """(P, O, s) weights of the touched columns, and their changes (P, s, B)."""
        delta = state.delta.flatten(1, -2) if state.delta.ndim > 2 else state.delta[:, None]
        weight = self.weight.view(len(self.weight), -1, delta.shape[1])
        return weight.transpose(0, 1)[state.index], delta

    def flops(self, given: tuple[State | None, ...]) -> float:
        base, outputs = self.rows(), len(self.weight)
        if isinstance(given[0], Channel) and self._flat:
            return 2.0 * outputs * given[0].delta[0].numel()
        return 2.0 * outputs * base.numel()

    def perturbed(self, local: str, index: Tensor, steps: Tensor) -> State:
        width = self.weight.shape[1]
        output, given = (index // width, index % width) if local == "weight" else (index, None)
        if self._flat:
            batch = self.graph.batch
            delta = steps[:, None].expand(-1, batch) if given is None else self.rows()[given].mul_(steps[:, None])
            return Channel(delta, *channels(output))
        base = self.output()  # (..., O, B): the columns are not the dimension after the batch
        values = base.expand(len(steps), *base.shape).clone()
        steps = steps.view(-1, *[1] * (base.ndim - 1))
        change = steps if given is None else self.rows().movedim(-2, 0)[given] * steps
        values.movedim(-2, 1)[torch.arange(len(index), device=index.device), output] += change
        return Dense(values)

    @property
    def positions(self) -> int:
        """Units per output: one per sample, or none where columns are not the dimension after the batch."""
        return 1 if self._flat else 0

    def unit(self, number: Tensor, steps: Tensor) -> Channel:
        """Steps of single units z_o, the same for all samples: what steps of b_o do."""
        return Channel(steps[:, None].expand(-1, self.graph.batch), *channels(number))

    def weight_slopes(self, outputs: Tensor, slopes: Tensor) -> Tensor:
        """(n, K): sum over samples of the slopes (n, 1, B) by units times what the weights were multiplied by."""
        return slopes[:, 0] @ self.rows().to(slopes.dtype).t()
