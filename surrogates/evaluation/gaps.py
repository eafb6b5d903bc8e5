"""How far a prediction is from the exact answer, in nats per point.

A gap is the expected log density that the oracle (the Gaussian process with the true hyperparameters) gives to a value
minus the one that a prediction gives: 0 is perfect, and `surrogates.bayes_floor` says what can be reached from the rows
alone. Both are asked to know a value up to a blur of `BLUR` standard deviations of the told values and not more exactly,
since a noise-free function can be known to any number of digits. Gaps have heavy tails over tasks: `Gaps` keeps one
number per task, from which come mean, median and standard error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from surrogates.evaluation.tasks import POINTS
from surrogates.pfn.lessons import BLUR
from surrogates.pfn.mixture import Mixture
from surrogates.pfn.normalise import Normal
from surrogates.prior import Tasks

__all__ = ["Belief", "Gaps", "Summary", "gaps"]

LOG_2PI_E = math.log(2.0 * math.pi * math.e)


@dataclass(frozen=True)
class Belief:
    """Predictions at q points of B tasks, as mixtures (B, q, K): of the noise-free value and of the one that is told.

    normal: the standardisation in whose values the mixtures are; None where they are in the values themselves.
    """

    latent: Mixture
    told: Mixture
    normal: Normal | None = None

    @classmethod
    def gaussian(cls, mean: Tensor, sd: Tensor, noise: Tensor) -> Belief:
        """From means, standard deviations of the noise-free values and of the noise, (B, q) each or (B, q, K)."""
        if mean.dim() == 2:
            mean, sd, noise = mean[..., None], sd[..., None], noise.expand(mean.shape)[..., None]
        even = torch.full_like(mean, -math.log(mean.shape[-1]))
        return cls(Mixture(even, mean, sd), Mixture(even, mean, (sd.square() + noise.square()).sqrt()))

    def log_density(self, latent: bool, y: Tensor, blur: Tensor) -> Tensor:
        """(B, q, J) log densities at values y, blurred by standard deviations (B, 1) in units of the values."""
        mixture = self.latent if latent else self.told
        if self.normal is not None:
            flat, width = y.flatten(1), blur / self.normal.width
            slope = self.normal.log_slope(flat).reshape(y.shape)
            y = self.normal.forward(flat).reshape(y.shape)
        else:
            slope, width = torch.zeros_like(y), blur
        sd = (mixture.sd.square() + width[..., None].square()).sqrt()
        return Mixture(mixture.log_weight, mixture.mean, sd).log_density(y) + slope

    def below(self, latent: bool, y: Tensor) -> Tensor:
        """(B, q, J) probabilities of values of at most y."""
        mixture = self.latent if latent else self.told
        if self.normal is not None:
            y = self.normal.forward(y.flatten(1)).reshape(y.shape)
        u = (y[..., None] - mixture.mean[:, :, None]) / mixture.sd[:, :, None]
        mass: Tensor = (mixture.log_weight.exp()[:, :, None] * torch.special.ndtr(u)).sum(-1)
        return mass

    def quantiles(self, levels: Tensor) -> Tensor:
        """(B, q, k) quantiles of the noise-free values at levels (k,)."""
        return self._values(self.latent.quantiles(levels))

    def middle(self) -> Tensor:
        """(B, q) means of the noise-free values, as far as a compression of far values allows."""
        return self._values(self.latent.moments()[0])

    def doubt(self) -> Tensor:
        """(B, q) standard deviations of the noise-free values, where values are not compressed."""
        sd = self.latent.moments()[1].sqrt()
        return sd if self.normal is None else sd * self.normal.width

    def _values(self, z: Tensor) -> Tensor:
        return z if self.normal is None else self.normal.backward(z.flatten(1)).reshape(z.shape)


@dataclass(frozen=True)
class Gaps:
    """Mean gaps per task, in nats per point: of told values, of noise-free ones, of told ones at points anywhere."""

    told: tuple[float, ...]
    latent: tuple[float, ...]
    anywhere: tuple[float, ...] = ()


@dataclass(frozen=True)
class Summary:
    """Of gaps over tasks: mean, its standard error, median, and the number of tasks."""

    mean: float
    error: float
    median: float
    tasks: int

    @classmethod
    def of(cls, gaps: tuple[float, ...]) -> Summary:
        """Of one number per task; NaN where there is none.

        >>> Summary.of((0.0, 0.1, 0.5)).median
        0.1
        """
        values = torch.tensor(gaps, dtype=torch.float64)
        if not len(values):
            return cls(math.nan, math.nan, math.nan, 0)
        error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan
        return cls(float(values.mean()), error, float(values.quantile(0.5)), len(values))


def gaps(tasks: Tasks, belief: Belief, seed: int = 0) -> Gaps:
    """How far a belief is above the oracle on each task. seed: of the numbers by which values are blurred.

    >>> from surrogates.evaluation.tasks import Cell
    >>> tasks = Cell("plain", 1, 8).tasks(4)
    >>> nothing = Belief.gaussian(torch.zeros(tasks.Q.shape[:2]), torch.ones(tasks.Q.shape[:2]), torch.zeros(()))
    >>> min(gaps(tasks, nothing).told) > 0
    True
    """
    generator = torch.Generator().manual_seed(seed)
    blur = BLUR * Normal.of(tasks.y).width
    pairs = ((False, tasks.told, tasks.told_density), (True, tasks.latent, tasks.latent_density))
    told, latent = (_gap(belief, is_latent, values, density, blur, generator) for is_latent, values, density in pairs)
    near, anywhere = told[:, :POINTS].mean(-1), told[:, POINTS:].mean(-1)
    return Gaps(
        _floats(near), _floats(latent[:, :POINTS].mean(-1)), _floats(anywhere) if told.shape[1] > POINTS else ()
    )


def _gap(
    belief: Belief, latent: bool, values: Tensor, density: Tensor, blur: Tensor, generator: torch.Generator
) -> Tensor:
    """(B, q) gaps of values, or of noise-free ones."""
    jitter = torch.randn(values.shape, generator=generator, dtype=values.dtype)
    given = belief.log_density(latent, values + blur[..., None] * jitter, blur).mean(-1)
    oracle = density.mean(-1)
    variance = torch.exp(-2.0 * oracle - LOG_2PI_E)  # of a Gaussian with the oracle's entropy
    return oracle - 0.5 * torch.log1p(blur.square() / variance) - given


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
