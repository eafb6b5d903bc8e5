"""Feature reuse: a perturbation in stage s leaves the inputs of stage s as they were, so evaluation restarts there.

The base pass keeps the input of every stage (Chen et al. 2024, DeepZero, arXiv:2310.02025, feature reuse). With n_s
coordinates in stage s, a gradient costs sum_s n_s F_{>=s} instead of d F, at most half for equal stages. A stage is a
black box; the result is that of the plain loop bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from bbopt.zeroth_order.network.base import BasePass
from bbopt.zeroth_order.network.draws import State
from bbopt.zeroth_order.network.engine import NotApplicable
from bbopt.zeroth_order.network.gather import Gathered
from bbopt.zeroth_order.network.naive import cells, moved
from bbopt.zeroth_order.network.objective import NetworkLoss

Stage = Callable[[Tensor], Tensor]


class Staged:
    """Restarts at the first stage that uses the perturbed parameter.

    stages: the forward in pieces. first: per parameter the number of the first stage that holds it.
    """

    name: ClassVar[str] = "staged"

    def __init__(self, base: BasePass, bytes: int | None = None) -> None:
        self.base, self.bytes = base, bytes
        self.stages = stages_of(base.problem)
        self.parameters = dict(base.problem.module.named_parameters())
        self.first = _first_stages(self.stages, self.parameters)
        _check_moving(base, self.stages)
        self._inputs, self._spoilt, self._states = self._record()

    def refusal(self, parameter: str) -> str | None:
        return None if parameter in self.first else "it belongs to no stage"

    def changes(self, parameter: str, index: Tensor, steps: Tensor) -> Tensor:
        found, stage = Gathered(self.base, self.bytes), self.first[parameter]
        for cell, step in zip(cells(self.parameters[parameter], index), steps.tolist(), strict=True):
            with moved(cell, step):
                flow = self.start(stage)
                for each in self.stages[stage:]:
                    flow = each(flow)
                found.add(flow)
        return found.changes()

    def start(self, stage: int) -> Tensor:
        """The input of a stage, to be used once; generators and buffers are as they were when the base pass came there."""
        self.base.rewind()
        self.base.draws.set(self._states[stage])
        kept = self._inputs[stage]
        return kept.clone() if self._spoilt[stage] else kept

    def _record(self) -> tuple[list[Tensor], list[bool], list[State]]:
        """Inputs of all stages, whether a later one writes into them (in-place activations), and generator states."""
        self.base.rewind()
        flow = self.base.problem.inputs.clone() if self.base.spoils else self.base.problem.inputs
        fed, kept, versions, states = [], [], [], []
        for number, stage in enumerate(self.stages):
            fed.append(flow)
            kept.append(flow.clone())
            versions.append(flow._version)
            states.append(self.base.draws.state())
            flow = stage(flow)
            if not isinstance(flow, Tensor):
                raise NotApplicable(f"stage {number} returns {type(flow).__name__}, not one tensor")
        if not torch.equal(flow, self.base.outputs):
            raise NotApplicable("the stages, one after another, give other outputs than the module")
        spoilt = [each._version != version for each, version in zip(fed, versions, strict=True)]
        inputs = [copy if bad else each for each, copy, bad in zip(fed, kept, spoilt, strict=True)]
        return inputs, spoilt, states


def stages_of(problem: NetworkLoss) -> tuple[Stage, ...]:
    """The stages that the problem names, or the parts of its nn.Sequential, nested ones taken apart.

    Raises NotApplicable where there are fewer than two.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Tanh(), nn.Linear(2, 1)))
    >>> from bbopt.zeroth_order.network.objective import SquaredError
    >>> stages_of(NetworkLoss(net, torch.zeros(1, 2), SquaredError(torch.zeros(1, 1))))
    (Linear(in_features=2, out_features=2, bias=True), Tanh(), Linear(in_features=2, out_features=1, bias=True))
    """
    stages = tuple(_flat(problem.module)) if problem.stages is None else tuple(problem.stages)
    if len(stages) < 2:
        raise NotApplicable("the module is one piece; make it an nn.Sequential, or name the stages of its forward")
    return stages


def _flat(module: nn.Module) -> Iterator[nn.Module]:
    plain = type(module).forward is nn.Sequential.forward and not (
        module._forward_hooks or module._forward_pre_hooks  # a hook belongs to the container, so it stays one piece
    )
    if isinstance(module, nn.Sequential) and plain:
        for part in module:
            yield from _flat(part)
    else:
        yield module


def _first_stages(stages: tuple[Stage, ...], parameters: dict[str, nn.Parameter]) -> dict[str, int]:
    first: dict[int, int] = {}
    for number, stage in enumerate(stages):
        if isinstance(stage, nn.Module):
            for parameter in stage.parameters():
                first.setdefault(id(parameter), number)
    return {name: first[id(parameter)] for name, parameter in parameters.items() if id(parameter) in first}


def _check_moving(base: BasePass, stages: tuple[Stage, ...]) -> None:
    """A tensor that the forward changes must live in one stage: it is put back to its state before the whole forward."""
    homes: dict[int, int] = {}
    for stage in stages:
        parts = list(stage.modules()) if isinstance(stage, nn.Module) else []
        for holder in {id(h) for part in parts for h in (part._parameters, part._buffers, vars(part))}:
            homes[holder] = homes.get(holder, 0) + 1
    if any(homes.get(id(place.holder), 0) != 1 for place in base.moving):
        raise NotApplicable("a buffer that the forward changes is used by several stages")
