"""The random numbers that a module may draw in its forward: looked at, replayed, and put back.

Base and perturbed evaluations must see the same draws (dropout masks, stochastic depth), or the noise between two masks,
divided by a small radius, drowns the derivative.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

State = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Generators:
    """Sources of random numbers, each as a pair of functions that read and set its state."""

    read: tuple[Callable[[], Any], ...]
    write: tuple[Callable[[Any], Any], ...]

    def state(self) -> State:
        """All states, as they are now."""
        return tuple(read() for read in self.read)

    def set(self, state: State) -> None:
        """Puts states back."""
        for write, each in zip(self.write, state, strict=True):
            write(each)

    def moved(self, since: State, until: State) -> tuple[int, ...]:
        """Positions of the generators that were drawn from between two states."""
        return tuple(j for j, (old, new) in enumerate(zip(since, until, strict=True)) if not _same(old, new))

    def part(self, positions: Iterable[int]) -> Generators:
        """Some of the generators."""
        chosen = list(positions)
        return Generators(tuple(self.read[j] for j in chosen), tuple(self.write[j] for j in chosen))


def generators_of(module: nn.Module, inputs: Tensor | None) -> Generators:
    """Those a module can draw from: torch's on its devices, Python's, NumPy's, and `torch.Generator`s it holds."""
    sources: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
        (torch.get_rng_state, torch.set_rng_state),
        (random.getstate, random.setstate),
        (_numpy_state, np.random.set_state),
    ]
    for generator in _torch_generators(module, inputs):
        sources.append((generator.get_state, generator.set_state))
    return Generators(tuple(read for read, _ in sources), tuple(write for _, write in sources))


def seed_all(module: nn.Module, inputs: Tensor, seed: int) -> None:
    """Sets every generator that `generators_of` finds by a seed."""
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    for generator in _torch_generators(module, inputs):
        generator.manual_seed(seed)


def _torch_generators(module: nn.Module, inputs: Tensor | None) -> list[torch.Generator]:
    """Of the CUDA devices where tensors lie, and those that parts of the module keep as attributes."""
    devices, own = set() if inputs is None else {inputs.device}, []
    for part in module.modules():
        devices.update(
            each.device for each in (*part._parameters.values(), *part._buffers.values()) if each is not None
        )
        own += [g for g in vars(part).values() if type(g) is torch.Generator]
    indices = sorted(device.index for device in devices if device.type == "cuda")
    return [*(torch.cuda.default_generators[index] for index in indices), *own]


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, Tensor):
        return torch.equal(old, new)
    if isinstance(old, dict):  # NumPy's
        return (
            _same_numpy(old["state"], new["state"])
            and old["has_gauss"] == new["has_gauss"]
            and old["gauss"] == new["gauss"]
        )
    return bool(old == new)  # Python's


def _same_numpy(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return bool(old["pos"] == new["pos"]) and bool((old["key"] == new["key"]).all())


def _numpy_state() -> Any:
    return np.random.get_state(legacy=False)  # noqa: NPY002
