"""Told values as the network sees them: centred, in units of their spread, with far values pulled in.

z = compress((y - mean) / sd), where compress is the identity up to 4 and grows like asinh beyond. The map is strictly
increasing, so thresholds and quantiles go through it exactly, in both directions; y -> a y + b with a > 0 changes
nothing. Training and inference share this code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LINEAR = 4.0
SMALLEST = 1e-300
ROUNDING = 1e-13  # of a value: differences below it are no differences


@dataclass(frozen=True)
class Normal:
    """centre and width, (B, 1): of the told values of B data sets."""

    centre: Tensor
    width: Tensor

    @classmethod
    def of(cls, y: Tensor) -> Normal:
        """From told values (B, n); one row or equal values get a width of 1, or what rounding is to them.

        >>> normal = Normal.of(torch.tensor([[2.0, 4.0]]))
        >>> normal.forward(torch.tensor([[2.0, 4.0, 3.0]]))
        tensor([[-1.,  1.,  0.]])
        """
        largest = y.abs().amax(-1, keepdim=True).clamp_min(SMALLEST)
        scaled = y / largest  # so that squares of 1e300 stay finite
        centre = scaled.mean(-1, keepdim=True)
        width = (scaled - centre).square().mean(-1, keepdim=True).sqrt()
        least = ROUNDING * centre.abs()
        equal = width <= least
        return cls(centre * largest, torch.where(equal, (least * largest).clamp_min(1.0), width * largest))

    def forward(self, y: Tensor) -> Tensor:
        """Standardised values of y (B, k)."""
        return compress((y - self.centre) / self.width)

    def backward(self, z: Tensor) -> Tensor:
        """The values y (B, k) behind standardised ones."""
        return self.centre + self.width * expand(z)

    def log_slope(self, y: Tensor) -> Tensor:
        """log dz/dy at y (B, k)."""
        beyond = ((y - self.centre) / self.width).abs() - LINEAR
        return -self.width.log() - 0.5 * torch.log1p(beyond.clamp_min(0.0).square())


def compress(u: Tensor) -> Tensor:
    """Identity for |u| <= 4, 4 + asinh(|u| - 4) with the sign of u beyond.

    >>> compress(torch.tensor([-3.0, 5.0]))
    tensor([-3.0000,  4.8814])
    """
    return torch.where(u.abs() <= LINEAR, u, u.sign() * (LINEAR + torch.asinh((u.abs() - LINEAR).clamp_min(0.0))))


def expand(z: Tensor) -> Tensor:
    """The inverse of `compress`; |z| beyond 704 as 704, where values end.

    >>> expand(compress(torch.tensor([-3.0, 5.0])))
    tensor([-3.,  5.])
    """
    beyond = torch.sinh((z.abs() - LINEAR).clamp(0.0, 700.0))
    return torch.where(z.abs() <= LINEAR, z, z.sign() * (LINEAR + beyond))
