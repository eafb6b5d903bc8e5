"""A density over hyperparameters: a mixture of Gaussians over coordinates, each part with its own odds of the kernels.

    q(k, v) = sum_c pi_c P_c(k) N(v; mu_c, diag(s_c^2) + U_c U_c^T),   U_c of few columns

Densities by the matrix determinant and inversion lemmas, in O(D r^2) for D coordinates and r loadings each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Density"]


@dataclass(frozen=True)
class Density:
    """B densities of K parts over D coordinates and three kernels.

    log_part: (B, K) and log_kernel: (B, K, 3), normalised; mean, log_sd: (B, K, D); loading: (B, K, D, r).

    >>> one = torch.zeros(1, 1, 2)
    >>> q = Density(one[..., 0], torch.full((1, 1, 3), 1 / 3).log(), one, one, torch.zeros(1, 1, 2, 1))
    >>> round(float(q.log_density(torch.zeros(1, 1, dtype=torch.int64), one)), 4)
    -2.9365
    """

    log_part: Tensor
    log_kernel: Tensor
    mean: Tensor
    log_sd: Tensor
    loading: Tensor

    def log_density(self, kernel: Tensor, v: Tensor) -> Tensor:
        """(B, S) log densities of kernels (B, S), whole numbers, with coordinates v (B, S, D)."""
        scaled = (v[:, :, None] - self.mean[:, None]) * torch.exp(-self.log_sd)[:, None]  # (B, S, K, D)
        W = self.loading * torch.exp(-self.log_sd)[..., None]  # (B, K, D, r)
        r = W.shape[-1]
        inner = torch.linalg.cholesky(W.transpose(-1, -2) @ W + torch.eye(r, dtype=W.dtype, device=W.device))
        through = torch.einsum("bskd,bkdr->bskr", scaled, W)
        half = torch.linalg.solve_triangular(
            inner[:, None].expand(-1, v.shape[1], -1, -1, -1), through[..., None], upper=False
        )
        fit = scaled.square().sum(-1) - half.squeeze(-1).square().sum(-1)
        log_det = self.log_sd.sum(-1) + inner.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        normal = -0.5 * fit - log_det[:, None] - 0.5 * v.shape[-1] * math.log(2.0 * math.pi)
        odds = self.log_kernel.transpose(1, 2).gather(1, kernel[..., None].expand(-1, -1, self.log_part.shape[-1]))
        return torch.logsumexp(self.log_part[:, None] + odds + normal, -1)
