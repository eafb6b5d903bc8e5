"""A small training, and some that go wrong, for tests of forward parallelism. Workers find this file by PYTHONPATH."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss
from bbopt.zeroth_order.network.parallel import Step


class Training:
    """SGD with momentum on a perceptron that learns classes of random points; a function of its seed alone."""

    def __init__(self, seed: int = 0, widths: tuple[int, int, int] = (64, 16, 10), keep: float = 0.5) -> None:
        generator = torch.Generator().manual_seed(seed)
        inputs, hidden, outputs = widths
        self.module = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))
        for parameter in self.module.parameters():
            nn.init.normal_(parameter, std=0.2, generator=generator)
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=0.5, momentum=0.9)
        self.keep, self.seed = keep, seed
        self.inputs = torch.randn(256, inputs, generator=generator)
        self.targets = self.inputs[:, :outputs].argmax(1)

    def step(self, number: int) -> Step:
        generator = torch.Generator().manual_seed(1000 * self.seed + number)
        rows = torch.randperm(len(self.inputs), generator=generator)[:64]
        everything = Coordinates.all(self.module)
        mask = torch.Generator().manual_seed(number // 2)  # a new one every second step
        some = torch.randperm(everything.count, generator=mask)[: int(self.keep * everything.count)]
        problem = NetworkLoss(self.module, self.inputs[rows], CrossEntropy(self.targets[rows]))
        return Step(problem, everything.select(some), radius=1e-3, level="staged")

    def apply(self, number: int, gradient: Mapping[str, torch.Tensor]) -> None:
        for name, parameter in self.module.named_parameters():
            parameter.grad = gradient.get(name)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def save(self) -> dict[str, Any]:
        moments = {str(i): state["momentum_buffer"] for i, state in self.optimizer.state_dict()["state"].items()}
        return {"module": dict(self.module.state_dict()), "moments": moments}

    def load(self, state: Mapping[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        entries = {int(i): {"momentum_buffer": moment} for i, moment in state["moments"].items()}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": entries, "param_groups": groups})


class Mortal(Training):
    """Its process is killed by -9 in the middle of a step, once."""

    def __init__(self, trace: Path, number: int) -> None:
        super().__init__()
        self.trace, self.number = trace, number

    def step(self, number: int) -> Step:
        found = super().step(number)
        if number == self.number and not self.trace.exists():
            self.module[2].register_forward_hook(self._die)
            self.calls = 0
        return found

    def _die(self, *_: object) -> None:
        self.calls += 1
        if self.calls > 20 and not self.trace.exists():
            self.trace.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)


class Drifting(Training):
    """Its parameters go their own way at one update, once."""

    def __init__(self, trace: Path) -> None:
        super().__init__()
        self.trace = trace

    def apply(self, number: int, gradient: Mapping[str, torch.Tensor]) -> None:
        super().apply(number, gradient)
        if number == 1 and not self.trace.exists():
            self.trace.touch()
            with torch.no_grad():
                next(self.module.parameters())[0, 0] += 1e-7


class Failing(Training):
    """The loss of a step is not finite, unless the state says otherwise."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def step(self, number: int) -> Step:
        found = super().step(number)
        if number == self.at:
            inputs = torch.full_like(found.problem.inputs, float("nan"))
            return Step(NetworkLoss(self.module, inputs, found.problem.loss), found.coordinates, found.radius)
        return found

    def save(self) -> dict[str, Any]:
        return {**super().save(), "at": self.at}

    def load(self, state: Mapping[str, Any]) -> None:
        super().load(state)
        self.at = state["at"]
