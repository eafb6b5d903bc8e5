"""What the amortised process would gain if it knew a feature of functions that it does not model: an upper bound per feature.

Tasks are processes that HAVE the feature, all else as in the training mixture's plainest part. "without" is the gap of the
amortised process as it is. "with" is its gap on the same rows when the true feature is handed to it: inputs through the true
Kumaraswamy warps, or values without the true trend. For the sum of two scales, which it has no kernel for, "with" is
the Bayes floor of that kernel with the true share and ratio of its scales. A feature whose parameters had to be found from
the rows would gain less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from surrogates.amortised.hyperprior import Hyperprior
from surrogates.amortised.network import HyperNetwork
from surrogates.bayes_floor import Hyperprior as FloorPrior
from surrogates.bayes_floor import Rows, sample_posterior
from surrogates.evaluation.amortised import read_amortised
from surrogates.evaluation.gaps import Belief, gaps
from surrogates.evaluation.tasks import POINTS
from surrogates.pfn.mixture import Mixture
from surrogates.prior import NODES, Prior, Tasks
from surrogates.prior_draws import DTYPE, Draw
from surrogates.prior_process import Process, lower_factors

__all__ = ["FEATURES", "Gain", "gain"]

NOISE = (1e-4, 0.3)
BASE = Prior(
    kernels=(0.3, 0.4, 0.3, 0.0), irrelevant=0.0, warped_inputs=0.0, trend=0.0, steps=0.0, warped_outputs=0.0, plateau=0.0,
    labels=0.0, network=0.0, formula=0.0, quiet=0.0, noisy=NOISE, varying_noise=0.0, discrete=0.0, blobs=0.0, boxes=0.0,
)  # fmt: skip
FEATURES = {
    "none": BASE,
    "warps": replace(BASE, warped_inputs=1.0),
    "trend": replace(BASE, trend=1.0),
    "two scales": replace(BASE, kernels=(0.0, 0.0, 0.0, 1.0)),
}
BELIEVED = Hyperprior((0.3, 0.4, 0.3), BASE.lengthscale, 0.0, NOISE)
PARTICLES = 64


@dataclass(frozen=True)
class Gain:
    """Gaps per task, in nats per point at points anywhere, without the feature and with it; "with" is empty for "none"."""

    without: tuple[float, ...]
    given: tuple[float, ...]


class TwoScales(Rows):
    """Rows whose kernel is the sum of a smooth scale and a fine one, each task with its own share and ratio (B, 2)."""

    def __init__(self, X: Tensor, y: Tensor, fine: Tensor) -> None:
        super().__init__(X, y)
        self.fine = fine

    def correlation(self, r2: Tensor, task: int) -> Tensor:
        """As in `surrogates.prior_process.Process.covariance`."""
        share, ratio = self.fine[task].tolist()
        s5 = (5.0 * r2).sqrt() / ratio
        rough = (1.0 + s5 + s5.square() / 3.0) * torch.exp(-s5)
        both: Tensor = (1.0 - share) * torch.exp(-0.5 * r2) + share * rough
        return both


def gain(feature: str, d: int, n: int, count: int, network: HyperNetwork | None = None, seed: int = 0) -> Gain:
    """Of `count` tasks of n uniform rows in d columns that have a feature (a key of `FEATURES`).

    >>> found = gain("trend", 1, 8, 2)
    >>> len(found.without), len(found.given)
    (2, 2)
    """
    generator = torch.Generator().manual_seed(
        8_800_000_000 + 10_000 * list(FEATURES).index(feature) + 100 * d + n + seed
    )
    draw = Draw(generator)
    process = Process.draw(FEATURES[feature], count, d, draw)
    if feature == "trend":
        process = replace(process, trend=_always(process.trend, draw))
    tasks = _tasks(process, count, n, d, draw)
    believed = replace(BELIEVED, standard=feature == "two scales")
    belief = read_amortised(network, believed, tasks.X, tasks.y, tasks.Q).belief
    without = gaps(tasks, belief).told
    if feature == "none":
        return Gain(without, ())
    if feature == "warps":
        given = read_amortised(
            network, believed, _through(process, tasks.X), tasks.y, _through(process, tasks.Q)
        ).belief
    elif feature == "trend":
        rest = read_amortised(network, believed, tasks.X, tasks.y - process.shift(tasks.X), tasks.Q).belief
        shift = process.shift(tasks.Q)[..., None]
        moved = [Mixture(part.log_weight, part.mean + shift, part.sd) for part in (rest.latent, rest.told)]
        given = Belief(moved[0], moved[1])
    else:
        given = _two_scales(process, tasks)
    return Gain(without, gaps(tasks, given).told)


def _through(process: Process, X: Tensor) -> Tensor:
    """Points (B, k, d) through the true Kumaraswamy warps."""
    a, b = process.warp[:, 0, None, :], process.warp[:, 1, None, :]
    warped: Tensor = 1.0 - (1.0 - X.clamp(1e-9, 1.0 - 1e-9) ** a) ** b
    return warped


def _always(trend: Tensor, draw: Draw) -> Tensor:
    """Trends of which none is nothing: where all slopes and curvatures are 0, the first slope is 1."""
    none = (trend[:, :-1] == 0.0).all(-1)
    trend[none, 0] = 1.0
    return trend


def _tasks(process: Process, count: int, n: int, d: int, draw: Draw) -> Tasks:
    """Uniform rows and points, with the exact distribution of values there."""
    X, Q = draw.uniform(count, n, d), draw.uniform(count, POINTS, d)
    noise, normal = process.noise(X), draw.normal(count, n)
    L = lower_factors(process.covariance(X, X), noise)
    half = torch.linalg.solve_triangular(L, process.covariance(X, Q), upper=False)
    mean = (half.transpose(-1, -2) @ normal[..., None]).squeeze(-1) + process.shift(Q)
    variance = (1.0 - half.square().sum(-2)).clamp_min(1e-12)
    y = (L @ normal[..., None]).squeeze(-1) + process.shift(X)
    at = torch.special.ndtri((torch.arange(NODES) + draw.uniform(count, POINTS, NODES)) / NODES)
    nodes, densities = [], []
    for sd in (variance.sqrt(), (variance + process.noise(Q)).sqrt()):
        nodes.append(mean[..., None] + sd[..., None] * at)
        densities.append(-0.5 * at.square() - sd[..., None].log() - 0.5 * math.log(2.0 * math.pi))
    labels = torch.zeros(count, dtype=torch.bool)
    return Tasks(X, y, Q, nodes[0], nodes[1], densities[0], densities[1], labels, process.facts())


def _two_scales(process: Process, tasks: Tasks) -> Belief:
    """The mixture over the posterior of lengthscales and noise."""
    rows = TwoScales(tasks.X, tasks.y, process.fine)
    location, spread = BASE.lengthscale
    d = tasks.X.shape[-1]
    prior = FloorPrior(math.log(location) + 0.5 * math.log(d), spread, NOISE)
    theta = sample_posterior(rows, prior, PARTICLES, seed=1)
    mean, sd = rows.predict(theta, tasks.Q.to(DTYPE))
    return Belief.gaussian(mean, sd, theta[:, None, :, -1].exp().expand(mean.shape))
