"""Gaussian processes with known hyperparameters, as the prior draws them: kernels, input warps, trends, steps, noise.

A batch of B processes of unit variance, each with a kernel of its own (squared exponential, Matern-5/2, Matern-3/2, or a
sum of two scales), inverse lengthscales per column (0 for a column that does not matter), Kumaraswamy warps of the inputs
(Kumaraswamy 1980; Snoek et al. 2014), and a known part that is added: slopes, curvatures, steps along half-spaces or
slabs. Because the hyperparameters are known, the posterior given rows is exact (Rasmussen and Williams 2006, section 2.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from surrogates.prior_draws import DTYPE, Draw

if TYPE_CHECKING:
    from surrogates.prior import Prior

__all__ = ["Process", "lower_factors"]

STEPS = 4  # steps that a function may have
SLAB = 0.15  # half the width of a step that ends


@dataclass(frozen=True)
class Process:
    """B Gaussian processes of unit variance in d columns, with trends and steps.

    kernel: (B,) 0 squared exponential, 1 Matern-5/2, 2 Matern-3/2, 3 two scales. rate: (B, d) inverse lengthscales, 0 for
    irrelevant columns. fine: (B, 2) share, and lengthscale ratio, of the second scale. warp: (B, 2, d) exponents of the
    Kumaraswamy warp. trend: (B, 2 d + 1) slopes, curvatures, and the centre of the curvatures along all columns. step:
    (B, 4, d + 3) directions, level, height, 1 for a slab. noise_log: (B, 1 + d) log variance at the centre of the cube and
    its slopes.

    >>> from surrogates.prior import Prior
    >>> process = Process.draw(Prior.plain(), 2, 3, Draw(torch.Generator().manual_seed(0)))
    >>> points = torch.zeros(2, 1, 3, dtype=torch.float64)
    >>> process.covariance(points, points).flatten()
    tensor([1., 1.], dtype=torch.float64)
    """

    kernel: Tensor
    rate: Tensor
    fine: Tensor
    warp: Tensor
    trend: Tensor
    step: Tensor
    noise_log: Tensor

    @classmethod
    def draw(cls, prior: Prior, B: int, d: int, draw: Draw) -> Process:
        """Hyperparameters from the prior."""
        edges = torch.tensor(prior.kernels, dtype=DTYPE, device=draw.device).cumsum(0)
        kernel = torch.searchsorted(edges, draw.uniform(B).clamp_max(float(edges[-1]) - 1e-9), right=True)
        location, spread = prior.lengthscale
        log_ell = math.log(location) + 0.5 * math.log(d) + spread * draw.normal(B, d)
        irrelevant = draw.chance(prior.irrelevant, B, d)
        irrelevant[torch.arange(B, device=draw.device), draw.whole(0, d, B).long()] = False
        rate = torch.where(irrelevant, 0.0, torch.exp(-log_ell))
        fine = torch.stack([0.05 + 0.45 * draw.uniform(B), draw.log_uniform(0.1, 0.5, B)], -1)
        warped = draw.chance(prior.warped_inputs, B)[:, None, None]
        strength = 0.25 + 0.5 * draw.uniform(B)[:, None, None]
        warp = torch.exp(torch.where(warped, strength * draw.normal(B, 2, d), draw.zeros(B, 2, d)))
        return cls(kernel, rate, fine, warp, _trend(prior, B, d, draw), _steps(prior, B, d, draw), _noise(prior, B, d, draw))  # fmt: skip

    def covariance(self, A: Tensor, B: Tensor) -> Tensor:
        """(B, a, b) prior covariances between points (B, a, d) and (B, b, d)."""
        left, right = (self._warped(part) * self.rate[:, None, :] for part in (A, B))
        r = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
        kind, share, ratio = self.kernel[:, None, None], self.fine[:, :1, None], self.fine[:, 1:, None]
        s5, s3 = math.sqrt(5.0) * r, math.sqrt(3.0) * r
        smooth = torch.exp(-0.5 * r.square())
        five = (1.0 + s5 + s5.square() / 3.0) * torch.exp(-s5)
        three = (1.0 + s3) * torch.exp(-s3)
        two = (1.0 - share) * smooth + share * (1.0 + s5 / ratio + (s5 / ratio).square() / 3.0) * torch.exp(-s5 / ratio)
        return torch.where(kind == 0, smooth, torch.where(kind == 1, five, torch.where(kind == 2, three, two)))

    def shift(self, X: Tensor) -> Tensor:
        """(B, k) trend and steps at points (B, k, d)."""
        d = X.shape[-1]
        linear = (X @ self.trend[:, :d, None]).squeeze(-1)
        curved = ((X - self.trend[:, -1:, None]).square() @ self.trend[:, d : 2 * d, None]).squeeze(-1)
        along = X @ self.step[..., :d].transpose(1, 2)  # (B, k, steps)
        level, height, slab = self.step[..., d], self.step[..., d + 1], self.step[..., d + 2]
        inside = torch.where(slab[:, None] > 0, (along - level[:, None]).abs() < SLAB, along > level[:, None])
        return linear + curved + (inside * height[:, None]).sum(-1)

    def noise(self, X: Tensor) -> Tensor:
        """(B, k) noise variances at points (B, k, d)."""
        slope = ((X - 0.5) @ self.noise_log[:, 1:, None]).squeeze(-1)
        return torch.exp((self.noise_log[:, :1] + slope).clamp(-20.0, 1.0))

    def facts(self) -> dict[str, Tensor]:
        """The hyperparameters, for those who learn them."""
        return {"kernel": self.kernel, "inverse_lengthscales": self.rate, "warp": self.warp, "log_noise": self.noise_log}  # fmt: skip

    def _warped(self, X: Tensor) -> Tensor:
        a, b = self.warp[:, 0, None, :], self.warp[:, 1, None, :]
        plain = (self.warp == 1.0).all(-1).all(-1)[:, None, None]
        inside = X.clamp(1e-9, 1.0 - 1e-9)
        return torch.where(plain, X, 1.0 - (1.0 - inside**a) ** b)


def lower_factors(K: Tensor, noise: Tensor) -> Tensor:
    """Lower Cholesky factors of K (B, n, n) plus noise (B, n) on the diagonal, with as much jitter as it takes.

    >>> lower_factors(torch.ones(1, 1, 1), 3.0 * torch.ones(1, 1))
    tensor([[[2.]]])
    """
    K = K + torch.diag_embed(noise)
    eye = torch.eye(K.shape[-1], dtype=K.dtype, device=K.device)
    L: Tensor
    L, wrong = torch.linalg.cholesky_ex(K)
    jitter = 1e-8
    while bool((wrong > 0).any()):
        assert jitter < 1.0, "a covariance of the prior is not finite"
        bad = wrong > 0
        L[bad], still = torch.linalg.cholesky_ex(K[bad] + jitter * eye)
        wrong = torch.zeros_like(wrong).masked_scatter_(bad, still)
        jitter *= 10.0
    return L


def _trend(prior: Prior, B: int, d: int, draw: Draw) -> Tensor:
    """(B, 2 d + 1): slopes and curvatures in half of the tasks each, of one sign in a half of those."""
    has = draw.chance(prior.trend, B)[:, None]
    size = draw.log_uniform(0.1, 10.0, B)[:, None] / math.sqrt(d)
    sides = torch.where(draw.chance(0.5, B)[:, None], draw.normal(B, d).abs(), draw.normal(B, d))
    sides = torch.where(draw.chance(0.5, B)[:, None], sides, torch.zeros_like(sides))
    both = torch.cat([3.0 * draw.normal(B, d), 6.0 * sides], -1)
    trend = both * size * torch.where(draw.chance(0.3, B, 2 * d), 0.0, 1.0)
    return torch.cat([torch.where(has, trend, torch.zeros_like(trend)), draw.uniform(B, 1)], -1)


def _steps(prior: Prior, B: int, d: int, draw: Draw) -> Tensor:
    """(B, 4, d + 3): some along a column, some across all; heights of 0 where there is none."""
    has = draw.chance(prior.steps, B)[:, None]
    heights = torch.where(has & draw.chance(0.6, B, STEPS), 2.0 * draw.normal(B, STEPS), draw.zeros(B, STEPS))
    axis = torch.nn.functional.one_hot(draw.whole(0, d, B, STEPS).long(), d).to(DTYPE)
    across = draw.chance(0.6, B, STEPS)[..., None]
    direction = torch.where(across, axis, draw.normal(B, STEPS, d) / math.sqrt(d))
    level = (direction * draw.uniform(B, STEPS, d)).sum(-1, keepdim=True)
    return torch.cat([direction, level, heights[..., None], draw.chance(0.4, B, STEPS)[..., None].to(DTYPE)], -1)


def _noise(prior: Prior, B: int, d: int, draw: Draw) -> Tensor:
    """(B, 1 + d) log variance and its slopes."""
    quiet = draw.chance(prior.quiet, B)
    sd = torch.where(quiet, draw.log_uniform(*prior.quiet_noise, B), draw.log_uniform(*prior.noisy, B))
    varying = (draw.chance(prior.varying_noise, B) & ~quiet)[:, None]
    slopes = torch.where(varying, 2.0 * draw.normal(B, d), draw.zeros(B, d))
    return torch.cat([2.0 * torch.log(sd)[:, None], slopes], -1)
