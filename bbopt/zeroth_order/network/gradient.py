"""The gradient of a module's loss by coordinate-wise finite differences.

Forward: g_j = [l(theta + h_j e_j) - l(theta)] / h_j, d + 1 queries. Central: [l(theta + h_j e_j) - l(theta - h_j e_j)] / 2 h_j,
2 d queries. The divisor is the step that the parameter's precision can represent, (theta + h) - theta.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bbopt.zeroth_order.network.base import BasePass, base_pass
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.engine import Engine
from bbopt.zeroth_order.network.naive import Naive
from bbopt.zeroth_order.network.objective import NetworkLoss
from bbopt.zeroth_order.network.precision import full_precision
from bbopt.zeroth_order.network.untouched import untouched

Scheme = Literal["forward", "central"]
Level = Literal["auto", "oracle", "staged", "delta", "units", "hybrid", "vmap"]


@dataclass(frozen=True, eq=False)
class NetworkGradient:
    """An estimate of a gradient, and what it cost.

    gradient: per parameter a tensor like it, zero outside the coordinates. loss: at the parameters.
    queries: evaluations of the loss. engines: which engine served each parameter.
    """

    gradient: dict[str, Tensor]
    loss: float
    queries: int
    engines: dict[str, str]
    error: float | None = None


def network_gradient(
    problem: NetworkLoss,
    *,
    coordinates: Coordinates | None = None,
    scheme: Scheme = "forward",
    radius: float | None = None,
    level: Level = "auto",
    bytes: int = 2**21,
    check: int = 0,
) -> NetworkGradient:
    """The gradient of the loss by finite differences."""
    chosen = Coordinates.all(problem.module) if coordinates is None else coordinates
    with opened(problem) as (base, engine):
        parameters = dict(problem.module.named_parameters())
        gradient = {name: torch.zeros_like(parameters[name]) for name in chosen.indices}
        for name, index in chosen.indices.items():
            h = radius or 5e-3
            theta = torch.cat([c.reshape(1) for c in _values(parameters[name], index)])
            up = (theta + h).double() - theta.double()
            values = engine.changes(name, index, up)
            if scheme == "central":
                down = (theta - h).double() - theta.double()
                values, up = values - engine.changes(name, index, down), up - down
            gradient[name].view(-1)[index] = (values / up).to(gradient[name].dtype)
        queries = chosen.count + 1 if scheme == "forward" else 2 * chosen.count
        return NetworkGradient(gradient, base.near.loss, queries, dict.fromkeys(chosen.indices, engine.name))


def _values(parameter: Tensor, index: Tensor) -> Tensor:
    return parameter.detach().reshape(-1)[index.to(parameter.device)].reshape(-1, 1)


@contextmanager
def opened(problem: NetworkLoss) -> Iterator[tuple[BasePass, Engine]]:
    """Base pass and engine."""
    with full_precision(problem.inputs.device), untouched(problem.module, problem.inputs) as snapshot:
        base = base_pass(problem, snapshot)
        yield base, Naive(base)


def assign(gradient: dict[str, Tensor], module: nn.Module) -> None:
    """Sets `.grad` of a module's parameters, so that any `torch.optim` optimizer can step on an estimate."""
    for name, parameter in module.named_parameters():
        if name in gradient:
            parameter.grad = gradient[name].detach().clone()
