"""How good a network is: fixed tasks per cell (d columns, n rows), and the gap of a prediction to the exact answer.

A gap is the expected log density that the oracle (the Gaussian process with the true hyperparameters) gives to a value
minus the one that a prediction gives, in nats per point: 0 is perfect, and `surrogates.bayes_floor` says what can be
reached from the rows alone. Both are asked to know a value up to a blur of `BLUR` standard deviations of the told values
and not more exactly, since a noise-free function can be known to any number of digits.

Two kinds of cells. "plain": Matern-5/2 processes with noise, where every hyperparameter's prior is known and rivals can
be given it. "mixture": everything that the shipped weights were trained on and that has an oracle.
Gaps have heavy tails over tasks: `Gaps` keeps one number per task, from which come mean, median and standard error.
Half of the points of a task lie near told rows of low value, where a search asks (`surrogates.prior.sample_tasks`), half
anywhere. Plain tasks get as many more points anywhere, because published comparisons have only those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from surrogates.bayes_floor import Rows
from surrogates.pfn.anchors import Anchors, fit_anchors
from surrogates.pfn.lessons import BLUR
from surrogates.pfn.mixture import Mixture
from surrogates.pfn.network import Network, predict
from surrogates.pfn.normalise import Normal
from surrogates.prior import NODES, Prior, Tasks, sample_tasks

POINTS = 64
PLAIN_KINDS = ("plain", "known")  # Matern-5/2 processes of mean 0 and variance 1
QUIET = 0.055  # noise standard deviation below which a plain task counts as quiet
LOG_2PI_E = math.log(2.0 * math.pi * math.e)
KINDS = {
    "plain": Prior.plain(),
    "mixture": Prior(labels=0.0, plateau=0.0, network=0.0, formula=0.0),
    "known": replace(Prior.plain(), lengthscale=(0.25, 0.05)),
    "held-out": Prior(labels=0.0),
}


@dataclass(frozen=True)
class Cell:
    """Tasks of one size: kind (a key of `KINDS`), d columns, n told rows.

    >>> str(Cell("plain", 2, 24))
    'plain-d2-n24'
    """

    kind: str
    d: int
    n: int

    def __str__(self) -> str:
        return f"{self.kind}-d{self.d}-n{self.n}"

    def tasks(self, count: int) -> Tasks:
        """The tasks of the cell: the same for everyone who asks for as many."""
        seed = list(KINDS).index(self.kind) * 1_000_000 + self.d * 1000 + self.n
        generator = torch.Generator().manual_seed(7_700_000_000 + seed)
        tasks = sample_tasks(KINDS[self.kind], count, self.n, POINTS, self.d, generator)
        return _with_points_anywhere(tasks, generator) if self.kind in PLAIN_KINDS else tasks


PLAIN = tuple(Cell("plain", d, n) for d in (1, 2, 4, 6) for n in (8, 24, 64))
MIXTURE = tuple(Cell("mixture", d, n) for d in (2, 6, 12) for n in (10, 40, 120))
KNOWN = tuple(Cell("known", d, n) for d in (1, 2, 4, 6) for n in (16, 64, 128))
HELD_OUT = tuple(Cell("held-out", d, n) for d in (2, 6, 12) for n in (10, 40, 120))


def _with_points_anywhere(tasks: Tasks, generator: torch.Generator) -> Tasks:
    """Plain tasks with `POINTS` more points each, uniform in the cube, and the oracle's distribution there."""
    hyper = tasks.hyperparameters
    theta = torch.cat([-hyper["inverse_lengthscales"].log(), 0.5 * hyper["log_noise"][:, :1]], -1)[:, None]
    B, _, d = tasks.Q.shape
    Q = torch.rand(B, POINTS, d, generator=generator, dtype=tasks.Q.dtype)
    mean, sd = Rows(tasks.X, tasks.y).predict(theta, Q)
    strata = torch.arange(NODES) + torch.rand(B, POINTS, NODES, generator=generator, dtype=Q.dtype)
    at = torch.special.ndtri(strata / NODES)
    told_sd = (sd.square() + torch.exp(2.0 * theta[..., -1:])).sqrt()
    nodes, densities = [], []
    for width in (sd, told_sd):
        nodes.append(mean + width * at)
        densities.append(-0.5 * at.square() - width.log() - 0.5 * math.log(2.0 * math.pi))
    return replace(
        tasks, Q=torch.cat([tasks.Q, Q], 1), latent=torch.cat([tasks.latent, nodes[0]], 1),
        told=torch.cat([tasks.told, nodes[1]], 1), latent_density=torch.cat([tasks.latent_density, densities[0]], 1),
        told_density=torch.cat([tasks.told_density, densities[1]], 1),
    )  # fmt: skip


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


class Reader:
    """Networks read tasks here; the kernel regressions of a batch are made once for all networks of one shape.

    X: (B, n, d), y: (B, n); kernels: how many regressions the networks have (`Shape.anchors`).
    """

    def __init__(self, X: Tensor, y: Tensor, kernels: int) -> None:
        self.normal = Normal.of(y)
        self.z = self.normal.forward(y)
        self.anchors: Anchors = fit_anchors(X, self.z, kernels)

    def believe(self, network: Network, Q: Tensor) -> Belief:
        """What a network predicts at Q (B, q, d)."""
        with torch.no_grad():
            mixture, noise = predict(network, self.anchors, self.z, Q)
        told = Mixture(mixture.log_weight, mixture.mean, (mixture.sd.square() + noise.square()).sqrt())
        return Belief(mixture, told, self.normal)


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


def noise_of(tasks: Tasks) -> tuple[float, ...]:
    """The noise's standard deviation of each task (in the middle of the cube, before output warps).

    >>> all(0.01 <= sd <= 0.3 for sd in noise_of(Cell("plain", 1, 8).tasks(3)))
    True
    """
    return _floats(torch.exp(0.5 * tasks.hyperparameters["log_noise"][:, 0]))
