"""Viscous Burgers' equation in two dimensions, solved cheaply on a coarse grid and well on a fine one.

    u_t + (u^2/2)_x + (u^2/2)_y = nu (u_xx + u_yy)      on the unit square, periodic in both directions      (1)

for one scalar u (Burgers, 1948, A mathematical model illustrating the theory of turbulence, Advances in Applied Mechanics 1).
Finite volumes: what is kept are the averages of u over n x n cells; the flux between two cells with the averages a and b is
Rusanov's (1961, J. Comput. Math. Phys. USSR 1),

    F(a, b) = (a^2 + b^2) / 4 - max(|a|, |b|) (b - a) / 2                                                    (2)

with second-order differences for the viscosity and Euler's explicit step in time. The scheme is conservative to rounding and
of first order: on a coarse grid the second term of (2) smears what moves, which is the error that `solver_in_the_loop` learns
to undo. Smooth fields are stable while dt (2 max|u| / h + 4 nu / h^2) <= 1, h = 1/n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbopt.errors import UsageError

__all__ = ["COARSE", "FINE", "Burgers", "coarsen", "random_starts"]


@dataclass(frozen=True)
class Burgers:
    """One solver: cells per side, time step, steps that one call of `step` makes, viscosity.

    >>> Burgers(4, 0.01).step(torch.ones(2, 4, 4)).shape
    torch.Size([2, 4, 4])
    """

    cells: int
    dt: float
    substeps: int = 1
    viscosity: float = 0.005

    def step(self, u: Tensor) -> Tensor:
        """u of shape (..., cells, cells) after `substeps` time steps; leading axes are independent solutions.

        Differentiable, and of the dtype of u. Raises `UsageError` for another grid.
        """
        if u.shape[-2:] != (self.cells, self.cells):
            raise UsageError(f"expected fields of shape (..., {self.cells}, {self.cells}), got {tuple(u.shape)}")
        for _ in range(self.substeps):
            u = self._euler(u)
        return u

    def run(self, u: Tensor, steps: int) -> Tensor:
        """(steps + 1, ..., cells, cells): u and what it is after each of so many calls of `step`."""
        found = [u]
        for _ in range(steps):
            found.append(self.step(found[-1]))
        return torch.stack(found)

    def _euler(self, u: Tensor) -> Tensor:
        h = 1.0 / self.cells
        square, speed = u * u / 4, u.abs()
        outflow = torch.zeros_like(u)
        for axis in (-2, -1):
            rise = torch.roll(u, -1, axis) - u
            fastest = torch.maximum(speed, torch.roll(speed, -1, axis))
            flux = square + torch.roll(square, -1, axis) - fastest * rise / 2  # (2)
            flux = flux - self.viscosity / h * rise
            outflow = outflow + flux - torch.roll(flux, 1, axis)
        return u - self.dt / h * outflow


COARSE = Burgers(16, 0.01)
"""The cheap solver: 256 cells."""
FINE = Burgers(64, 0.0025, substeps=4)
"""The good one: 4096 cells, and four steps in the time in which `COARSE` makes one: 64 times the work."""


def coarsen(u: Tensor, cells: int) -> Tensor:
    """Averages over cells x cells of fields (..., n, n): exact for cell averages. n must be a multiple of cells.

    >>> coarsen(torch.arange(4.0).repeat(4, 1), 2).tolist()
    [[0.5, 2.5], [0.5, 2.5]]
    """
    n = u.shape[-1]
    if u.ndim < 2 or u.shape[-2] != n or n % cells:
        raise UsageError(
            f"expected square fields with a multiple of {cells} cells per side, got shape {tuple(u.shape)}"
        )
    return u.reshape(*u.shape[:-2], cells, n // cells, cells, n // cells).mean((-3, -1))


def random_starts(count: int, cells: int, rng: np.random.Generator, waves: int = 3, peak: float = 1.5) -> Tensor:
    """count smooth fields, (count, cells, cells) float32: a random mean and random waves of at most `waves` periods per side.

    Amplitudes fall as 1 / (1 + |k|^2); every field is scaled to a largest size of `peak`, for which both solvers are stable.
    The same state of `rng` gives the same waves on every grid.
    """
    k: NDArray[np.int64] = np.arange(-waves, waves + 1)
    kx, ky = (axis.ravel() for axis in np.meshgrid(k, k, indexing="ij"))
    size = rng.standard_normal((count, len(kx))) / (1 + kx**2 + ky**2)
    phase = rng.uniform(0, 2 * np.pi, (count, len(kx)))
    at = (np.arange(cells) + 0.5) / cells
    x, y = np.meshgrid(at, at, indexing="ij")
    angle = 2 * np.pi * (kx[:, None, None] * x + ky[:, None, None] * y)
    fields = np.stack(
        [np.sum(a[:, None, None] * np.cos(angle + p[:, None, None]), axis=0) for a, p in zip(size, phase, strict=True)]
    )
    largest = np.abs(fields).max(axis=(1, 2), keepdims=True)
    return torch.from_numpy((peak * fields / largest).astype(np.float32))
