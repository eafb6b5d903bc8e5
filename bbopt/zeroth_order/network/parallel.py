"""Forward parallelism: the differences of one step shared out over processes that train the same network.

Chen et al. (2024), DeepZero, ICLR, arXiv:2310.02025, section 4: coordinates are independent, so that forward passes are
the only thing to share out. Here every process holds a replica of the whole training (network, data, optimizer) and takes
every step itself; what travels is the number of the step, which coordinates to differentiate, and the gradient of the step
before. The published code sends all weights instead, and has them evaluated by list entries of single coordinates.

A step is cut into units, runs of coordinates of one parameter, by a rule that knows the coordinates alone. A unit gives
the same bits wherever it is computed, so a gradient is the same for one process and for many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from bbopt.zeroth_order.network.choice import Level
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.estimate import NetworkGradient, scattered
from bbopt.zeroth_order.network.objective import NetworkLoss
from bbopt.zeroth_order.network.steps import Scheme
from bbopt.zeroth_order.network.sweep import Sweep, sweep

__all__ = [
    "Cut",
    "GradientPool",
    "InProcessPool",
    "Replica",
    "Step",
    "Unit",
    "digest",
    "gathered",
    "opened_step",
    "units",
]

SMALLEST_UNIT = 256
"""Coordinates: smaller ones cost a small network a third of its time in calls."""
UNITS = 128
"""Per step, parameters with a few coordinates not counted: enough to share out over tens of workers."""


@dataclass(frozen=True, eq=False)
class Step:
    """What is differentiated in a step, and how; see `network_gradient`, whose defaults hold where there is None."""

    problem: NetworkLoss
    coordinates: Coordinates
    radius: float | None = None
    scheme: Scheme = "forward"
    level: Level = "auto"
    relative: bool = False
    bytes: int | None = None


class Replica(Protocol):
    """A training, the same in every process: from equal states the same calls lead to equal states, to the bit."""

    @property
    def module(self) -> nn.Module: ...

    def step(self, number: int, /) -> Step:
        """What the step of this number differentiates, at the parameters that it meets. Asked again, it is the same."""
        ...

    def apply(self, number: int, gradient: Mapping[str, Tensor], /) -> None:
        """Update parameters, buffers and optimizer along the gradient of this step."""
        ...

    def save(self) -> Mapping[str, Any]:
        """All that `apply` changes, as tensors, JSON and mappings of these."""
        ...

    def load(self, state: Mapping[str, Any], /) -> None:
        """Put it where `save` found it. The tensors given are not to be kept: they may be read-only."""
        ...


class GradientPool(Protocol):
    """Gradients of the steps of a replica, which its owner applies in their order: `replica.apply(n, pool.gradient(n).gradient)`."""

    def gradient(self, number: int, /) -> NetworkGradient:
        """Of this step, at the replica's parameters; the replica is left as it is."""
        ...

    def close(self) -> None:
        """End what computes them. The replica stays usable."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True)
class Unit:
    """Coordinates of one parameter, by their places in its sorted list."""

    parameter: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


Cut = tuple[Unit, ...]


def units(coordinates: Coordinates) -> Cut:
    """The units of a step, whoever computes them.

    >>> units(Coordinates({"weight": torch.arange(600), "bias": torch.arange(3)}))[:2]
    (Unit(parameter='weight', start=0, stop=256), Unit(parameter='weight', start=256, stop=512))
    """
    size = max(SMALLEST_UNIT, -(-coordinates.count // UNITS))
    return tuple(
        Unit(name, start, min(start + size, len(index)))
        for name, index in coordinates.indices.items()
        for start in range(0, len(index), size)
    )


def opened_step(step: Step) -> AbstractContextManager[Sweep]:
    """The context in which derivatives of a step can be asked for: see `sweep`."""
    budget = {} if step.bytes is None else {"bytes": step.bytes}
    return sweep(
        step.problem,
        coordinates=step.coordinates,
        scheme=step.scheme,
        radius=step.radius,
        relative=step.relative,
        level=step.level,
        **budget,
    )


def derivatives(differences: Sweep, coordinates: Coordinates, some: Iterable[Unit]) -> list[Tensor]:
    """(n,) float64 for each unit, on the CPU."""
    return [
        differences.derivatives(unit.parameter, coordinates.indices[unit.parameter][unit.start : unit.stop])
        for unit in some
    ]


@dataclass(frozen=True)
class About:
    """What open differences know beside derivatives: the same in every process. As in `NetworkGradient`."""

    loss: float
    radius: float
    engines: dict[str, str]
    fallbacks: dict[str, str]

    @staticmethod
    def of(differences: Sweep) -> About:
        return About(differences.loss, differences.radius, dict(differences.engines), dict(differences.fallbacks))


def gathered(step: Step, found: Mapping[Unit, Tensor], about: About) -> NetworkGradient:
    """The gradient that the derivatives of all units make."""
    parameters = dict(step.problem.module.named_parameters())
    parts: dict[str, list[Tensor]] = {name: [] for name in step.coordinates.indices}
    for unit in units(step.coordinates):
        parts[unit.parameter].append(found[unit])
    gradient = {
        name: scattered(parameters[name], index, torch.cat(parts[name]))
        for name, index in step.coordinates.indices.items()
    }
    count, central = step.coordinates.count, step.scheme == "central"
    return NetworkGradient(
        gradient,
        about.loss,
        2 * count if central else count + 1,
        about.engines,
        about.fallbacks,
        extra=int(central),
        radius=about.radius,
    )


def digest(module: nn.Module) -> str:
    """A hash of all parameters and buffers, bit by bit.

    >>> layer = nn.Linear(1, 1)
    >>> before = digest(layer)
    >>> with torch.no_grad():
    ...     _ = layer.bias.add_(1.0)
    >>> digest(layer) == before
    False
    """
    found = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


class InProcessPool:
    """Gradients in this process, cut into the same units as on many workers, and the same to the bit."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def gradient(self, number: int, /) -> NetworkGradient:
        step = self._replica.step(number)
        cut = units(step.coordinates)
        with opened_step(step) as differences:
            found = derivatives(differences, step.coordinates, cut)
            return gathered(step, dict(zip(cut, found, strict=True)), About.of(differences))

    def close(self) -> None:
        """There is nothing to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
