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

    def moved(self, since: State) -> tuple[int, ...]:
        """Positions of the generators that were drawn from since a state was taken."""
        return tuple(j for j, (old, new) in enumerate(zip(since, self.state(), strict=True)) if not _same(old, new))

    def part(self, positions: Iterable[int]) -> Generators:
        """Some of the generators."""
        chosen = list(positions)
        return Generators(tuple(self.read[j] for j in chosen), tuple(self.write[j] for j in chosen))


def generators_of(module: nn.Module, inputs: Tensor) -> Generators:
    """Those a module can draw from: torch's on its devices, Python's, NumPy's, and `torch.Generator`s it holds."""
    tensors = [inputs, *module.parameters(), *module.buffers()]
    devices = sorted({each.device.index for each in tensors if each.device.type == "cuda"})
    own = [g for part in module.modules() for g in vars(part).values() if isinstance(g, torch.Generator)]
    sources: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
        (torch.get_rng_state, torch.set_rng_state),
        (random.getstate, random.setstate),
        (np.random.get_state, np.random.set_state),
    ]
    for generator in [*(torch.cuda.default_generators[index] for index in devices), *own]:
        sources.append((generator.get_state, generator.set_state))
    return Generators(tuple(read for read, _ in sources), tuple(write for _, write in sources))


def seed_all(module: nn.Module, inputs: Tensor, seed: int) -> None:
    """Sets every generator that `generators_of` finds by a seed."""
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    tensors = [inputs, *module.parameters(), *module.buffers()]
    for index in sorted({each.device.index for each in tensors if each.device.type == "cuda"}):
        torch.cuda.default_generators[index].manual_seed(seed)
    for part in module.modules():
        for generator in vars(part).values():
            if isinstance(generator, torch.Generator):
                generator.manual_seed(seed)


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, Tensor):
        return torch.equal(old, new)
    if isinstance(old, tuple):
        return len(old) == len(new) and all(_same(a, b) for a, b in zip(old, new, strict=True))
    if isinstance(old, np.ndarray):
        return bool(np.array_equal(old, new))
    return bool(old == new)
