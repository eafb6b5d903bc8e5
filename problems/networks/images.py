"""Images with their classes, for training and for testing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["ImageSet"]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in two parts, with the class of each.

    Inputs are float32, (n, channels, height, width) or, flat, (n, pixels); targets are int64, (n,), from 0 to
    classes - 1. `mean` and `deviation`, one number per channel, are what the inputs were centred and divided by.

    >>> few = ImageSet(torch.zeros(3, 1, 2, 2), torch.zeros(3).long(), torch.zeros(1, 1, 2, 2), torch.zeros(1).long(), 10)
    >>> few.flat().train_inputs.shape
    torch.Size([3, 4])
    """

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    classes: int
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)

    @property
    def black(self) -> tuple[float, ...]:
        """What a black pixel is in these inputs, one number per channel."""
        return tuple(-m / d for m, d in zip(self.mean, self.deviation, strict=True))

    def flat(self) -> ImageSet:
        """The same with every image as one row of numbers."""
        return replace(self, train_inputs=self.train_inputs.flatten(1), test_inputs=self.test_inputs.flatten(1))

    def to(self, device: torch.device | str) -> ImageSet:
        """The same on another device."""
        return replace(
            self,
            train_inputs=self.train_inputs.to(device),
            train_targets=self.train_targets.to(device),
            test_inputs=self.test_inputs.to(device),
            test_targets=self.test_targets.to(device),
        )
