"""Strictly increasing maps of told values, as the prior draws them: constraints and costs are skewed.

With each map comes the logarithm of its slope, by which densities change: log p(y) = log p(v) - log dy/dv.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from surrogates.prior_draws import Draw

__all__ = ["OutputWarp"]

FAR = 30.0  # standard deviations beyond which values and exponents are cut


@dataclass(frozen=True)
class OutputWarp:
    """One map per task, of values v standardised to u = (v - centre) / width.

    kind (B,): 0 none, y = v; 1 sinh-arcsinh, y = sinh(amount asinh(u) + skew) (Jones and Pewsey 2009); 2 exponential,
    y = exp(amount u); 3 signed power, y = sign(u) ((0.05 + |u|)^amount - 0.05^amount). amount, skew, centre, width: (B,).

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> warp = OutputWarp(0.0 * one, one, 2.0 * one, one, one)
    >>> warp(one[:, None]), warp.log_slope(one[:, None])
    (tensor([[2.7183]], dtype=torch.float64), tensor([[1.]], dtype=torch.float64))
    """

    centre: Tensor
    width: Tensor
    kind: Tensor
    amount: Tensor
    skew: Tensor

    @classmethod
    def draw(cls, share: float, v: Tensor, draw: Draw) -> OutputWarp:
        """Maps for values like v (B, n), none for a part of 1 - share of the tasks."""
        B, n = v.shape
        kind = torch.where(draw.chance(share, B), draw.whole(1, 4, B), draw.zeros(B))
        width = v.std(-1, correction=0).clamp_min(1e-3) if n > 1 else draw.ones(B)
        return cls(v.mean(-1), width, kind, draw.log_uniform(0.4, 2.5, B), draw.normal(B) * 0.6)

    def __call__(self, v: Tensor) -> Tensor:
        """The mapped values of v (B, ...)."""
        return self._map(v)[0]

    def log_slope(self, v: Tensor) -> Tensor:
        """log dy/dv at v (B, ...)."""
        return self._map(v)[1]

    def _map(self, v: Tensor) -> tuple[Tensor, Tensor]:
        parts = (self.centre, self.width, self.kind, self.amount, self.skew)
        centre, width, kind, amount, skew = (part.reshape(-1, *[1] * (v.dim() - 1)) for part in parts)
        u = ((v - centre) / width).clamp(-FAR, FAR)
        bent = amount * torch.asinh(u) + skew
        grown = (amount * u).clamp_max(FAR)
        root = 0.05 + u.abs()
        pairs = [
            (torch.sinh(bent), torch.log(amount * torch.cosh(bent)) - 0.5 * torch.log1p(u.square())),
            (torch.exp(grown), torch.log(amount) + grown),
            (u.sign() * (root**amount - 0.05**amount), torch.log(amount) + (amount - 1.0) * torch.log(root)),
        ]
        value, slope = v, torch.zeros_like(v)
        for index, (warped, log_slope) in enumerate(pairs, 1):
            value = torch.where(kind == index, warped, value)
            slope = torch.where(kind == index, log_slope - torch.log(width), slope)
        return value, slope
