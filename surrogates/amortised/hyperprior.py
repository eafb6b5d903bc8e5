"""What is believed of a process's hyperparameters before any data, and the coordinates in which a proposal moves.

One output in d columns. The kernel is one of three. Log lengthscales are independent: most columns matter,
log l_j ~ N(log location + log(d) / 2, spread^2), and a share of them hardly does, log l_j ~ N(the same + FAR, 1): long enough
that a column is nearly linear or constant, so that the density has one hump and a long shoulder rather than two humps.
The noise's standard deviation, in units of the process's, is log-uniform between two ends, or known.
The process's variance is free (density 1/s^2, nearly: an inverse gamma with a shape of half a row) and its mean too,
unless `standard` says that they are 1 and 0: both are integrated in closed form (`surrogates.amortised.evidence`).

Coordinates v are those in which all this is standard normal: per column Phi^-1 of the distribution function of log l_j,
then, where the noise is not known, Phi^-1 of the place of its logarithm between the ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri, ndtri_exp
from torch import Tensor

from bbopt.errors import UsageError
from surrogates.amortised.components import OFFSET
from surrogates.prior import Prior

__all__ = ["FAR", "Hyperprior"]

Array = NDArray[np.float64]
FAR = 2.5  # how much longer the logarithm of the lengthscale of a column is that hardly matters
EXACT = 10.0**-4.5  # noise of a deterministic function, for the sake of linear algebra
FARTHEST = 7.0  # from 0, of any coordinate
TABLE = 2001  # places, of each of the two normal distributions
LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Hyperprior:
    """Shares and ranges of hyperparameters. Raises UsageError where they are none.

    kernels: probabilities of squared exponential, Matern-5/2, Matern-3/2. lengthscale: location, relative to sqrt(d), and
    spread of log lengthscales. irrelevant: share of columns that hardly matter. noise: ends of its standard deviation, in
    units of the process's; equal: it is known. standard: mean 0 and variance 1 are known.

    >>> Hyperprior().learns_noise, Hyperprior.noisy().learns_noise
    (False, True)
    """

    kernels: tuple[float, float, float] = (0.4, 0.4, 0.2)
    lengthscale: tuple[float, float] = (0.6, 1.0)
    irrelevant: float = 0.25
    noise: tuple[float, float] = (EXACT, EXACT)
    standard: bool = False

    def __post_init__(self) -> None:
        good = (
            len(self.kernels) == 3 and min(self.kernels) >= 0.0 and abs(sum(self.kernels) - 1.0) < 1e-6
            and all(0.0 < part < math.inf for part in self.lengthscale) and 0.0 <= self.irrelevant < 1.0
            and 0.0 < self.noise[0] <= self.noise[1] < math.inf
        )  # fmt: skip
        if not good:
            raise UsageError(
                "Hyperprior: expected three kernel probabilities that add up to 1, a lengthscale location and spread above"
                f" 0, a share of irrelevant columns below 1, and finite noise with 0 < low <= high; got {self!r}"
            )

    @classmethod
    def plain(cls) -> Hyperprior:
        """That of `surrogates.prior.Prior.plain`: Matern-5/2, mean 0, variance 1, noise from 0.01 to 0.3."""
        return cls((0.0, 1.0, 0.0), (0.25, 0.75), 0.0, (0.01, 0.3), True)

    @classmethod
    def noisy(cls, low: float = 1e-3, high: float = 1.0) -> Hyperprior:
        """For outputs with noise of unknown size."""
        return cls(noise=(low, high))

    @property
    def learns_noise(self) -> bool:
        """Whether the noise is one of the coordinates."""
        return self.noise[1] > self.noise[0]

    @property
    def offset(self) -> float:
        """Prior variance of the constant mean, in units of the process's."""
        return 0.0 if self.standard else OFFSET

    def size(self, d: int) -> int:
        """Number of coordinates for d columns."""
        return d + int(self.learns_noise)

    def centre(self, d: int) -> float:
        """Location of the log lengthscales."""
        return math.log(self.lengthscale[0]) + 0.5 * math.log(max(d, 1))

    def describe(self, d: int, n: int) -> tuple[float, ...]:
        """What a network is told of it, and of the size of the data: numbers of the order of 1."""
        low, high = (math.log(end) / 4.0 for end in self.noise)
        return (
            *self.kernels, math.log(self.lengthscale[0]), self.lengthscale[1], 2.0 * self.irrelevant, low, high,
            float(self.learns_noise), float(self.standard), 0.5 * math.log(d), 0.25 * math.log(n),
        )  # fmt: skip

    def lengthscales(self, v: Array) -> Array:
        """(..., d) lengthscales of coordinates (..., size)."""
        d = v.shape[-1] - int(self.learns_noise)
        return np.asarray(np.exp(self.centre(d) + self._map.forward(v[..., :d])))

    def noises(self, v: Array) -> Array:
        """(...) noise standard deviations, in units of the process's, of coordinates (..., size)."""
        low, high = np.log(self.noise)
        place = ndtr(v[..., -1]) if self.learns_noise else np.zeros(v.shape[:-1])
        return np.asarray(np.exp(low + (high - low) * place))

    def rates(self, v: Array) -> Array:
        """(..., size) derivatives of log lengthscales and of the log noise in their coordinates."""
        d = v.shape[-1] - int(self.learns_noise)
        found = np.empty_like(v)
        found[..., :d] = self._map.rate(v[..., :d])
        if self.learns_noise:
            found[..., -1] = np.log(self.noise[1] / self.noise[0]) * np.exp(-0.5 * v[..., -1] ** 2 - 0.5 * LOG_2PI)
        return found

    def log_density(self, kernel: NDArray[np.intp], v: Array) -> Array:
        """(...) log prior densities of kernels (...) with coordinates (..., size)."""
        with np.errstate(divide="ignore"):
            odds = np.log(np.asarray(self.kernels))
        return np.asarray(odds[kernel] - 0.5 * (v**2 + LOG_2PI).sum(-1))

    def coordinates(self, lengthscales: Array, noise: Array) -> Array:
        """(..., size) coordinates of lengthscales (..., d) and noise (...), at most FARTHEST from 0."""
        d = lengthscales.shape[-1]
        columns = self._map.backward(np.log(lengthscales) - self.centre(d))
        if not self.learns_noise:
            return np.asarray(columns)
        low, high = np.log(self.noise)
        place = ndtri(np.clip((np.log(noise) - low) / (high - low), 0.0, 1.0))
        return np.concatenate([columns, np.clip(place, -FARTHEST, FARTHEST)[..., None]], -1)

    def tasks_prior(self, plain_rows: bool = False) -> Prior:
        """The prior of functions, for `surrogates.prior.sample_tasks`, whose hyperparameters these are.

        plain_rows: uniform rows only; else also rows in blobs, boxes and on levels, as searches leave them.
        """
        rows = {"discrete": 0.0, "blobs": 0.0, "boxes": 0.0} if plain_rows else {}
        fields: dict[str, Any] = {
            "kernels": (*self.kernels, 0.0), "lengthscale": self.lengthscale, "irrelevant": self.irrelevant,
            "warped_inputs": 0.0, "trend": 0.0, "steps": 0.0, "warped_outputs": 0.0, "plateau": 0.0, "labels": 0.0,
            "network": 0.0, "formula": 0.0, "quiet": 0.0, "noisy": self.noise, "varying_noise": 0.0, **rows,
        }  # fmt: skip
        return Prior(**fields)

    def drawn_coordinates(self, hyperparameters: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """(B, size) coordinates of what `sample_tasks` drew; columns that do not matter get lengthscales from far off."""
        rate = hyperparameters["inverse_lengthscales"]
        B, d = rate.shape
        far = self.centre(d) + FAR + torch.randn(B, d, generator=generator, dtype=rate.dtype, device=rate.device)
        log_ell = torch.where(rate > 0.0, -torch.log(rate.clamp_min(1e-300)), far)
        noise = torch.exp(0.5 * hyperparameters["log_noise"][:, 0])
        return torch.from_numpy(self.coordinates(np.exp(log_ell.cpu().numpy()), noise.cpu().numpy())).to(rate.device)

    @property
    def _map(self) -> _Map:
        return _map(self.lengthscale[1], self.irrelevant)


@dataclass(frozen=True)
class _Map:
    """From standard normal coordinates v to log lengthscales x, less their location: x with P(X <= x) = Phi(v), from a table."""

    x: Array
    v: Array
    slope: Array

    def forward(self, v: Array) -> Array:
        """x at v."""
        return np.asarray(np.interp(v, self.v, self.x))

    def backward(self, x: Array) -> Array:
        """v at x."""
        return np.asarray(np.interp(x, self.x, self.v))

    def rate(self, v: Array) -> Array:
        """dx/dv at v."""
        return np.asarray(np.interp(v, self.v, self.slope))


@lru_cache(maxsize=64)
def _map(spread: float, irrelevant: float) -> _Map:
    """The table for a spread and a share of columns that hardly matter."""
    grid = np.linspace(-FARTHEST, FARTHEST, TABLE)
    x = spread * grid if irrelevant == 0.0 else np.unique(np.concatenate([spread * grid, FAR + grid]).round(9))
    below, above, density = (np.full((2, len(x)), -np.inf) for _ in range(3))
    for row, (share, centre, sd) in enumerate(((1.0 - irrelevant, 0.0, spread), (irrelevant, FAR, 1.0))):
        if share > 0.0:
            u = (x - centre) / sd
            below[row], above[row] = math.log(share) + log_ndtr(u), math.log(share) + log_ndtr(-u)
            density[row] = math.log(share / sd) - 0.5 * u**2 - 0.5 * LOG_2PI
    low, high = np.logaddexp(*below), np.logaddexp(*above)
    v = np.where(low < high, ndtri_exp(np.minimum(low, 0.0)), -ndtri_exp(np.minimum(high, 0.0)))
    within = np.abs(v) <= FARTHEST + 1e-9
    x, v = x[within], v[within]
    slope = np.exp(-0.5 * v**2 - 0.5 * LOG_2PI - np.logaddexp(*density)[within])
    return _Map(x, v, slope)
