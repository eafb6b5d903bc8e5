"""Random tensors in float64 from one generator, on its device: what the prior is drawn with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["DTYPE", "Draw"]

DTYPE = torch.float64


class Draw:
    """Draws from one generator; the order of calls is the order of its random numbers.

    >>> draw = Draw(torch.Generator().manual_seed(0))
    >>> draw.uniform(2, 3).shape, draw.normal(4).dtype
    (torch.Size([2, 3]), torch.float64)
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.generator.device

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1)."""
        return torch.rand(*shape, generator=self.generator, dtype=DTYPE, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, generator=self.generator, dtype=DTYPE, device=self.device)

    def chance(self, share: float, *shape: int) -> Tensor:
        """Booleans, true with probability `share`."""
        return self.uniform(*shape) < share

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from low to high - 1, as float64."""
        return torch.floor(low + (high - low) * self.uniform(*shape))

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Numbers between low and high whose logarithms are uniform."""
        return torch.exp(math.log(low) + math.log(high / low) * self.uniform(*shape))

    def zeros(self, *shape: int) -> Tensor:
        """Zeros where the random tensors are; uses no random number."""
        return torch.zeros(*shape, dtype=DTYPE, device=self.device)

    def ones(self, *shape: int) -> Tensor:
        """Ones where the random tensors are; uses no random number."""
        return torch.ones(*shape, dtype=DTYPE, device=self.device)
