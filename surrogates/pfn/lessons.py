"""What the network is trained on: batches of tasks as it sees them, and the score of its predictions.

The score is the expected logarithm of the predicted density under the oracle's distribution (stratified draws from it; a
sampled value where there is no oracle): the same minimiser as with one sampled value per point, with less noise in the
gradient. Tasks of labels are scored by the probability of the right side. Everything is in standardised values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogates.pfn.anchors import Anchors, fit_anchors
from surrogates.pfn.mixture import Mixture
from surrogates.pfn.network import Network, predict
from surrogates.pfn.normalise import Normal
from surrogates.prior import Prior, Tasks, sample_tasks

BLUR = 5e-4  # standardised units: how exactly a value is asked to be known, unless said otherwise


@dataclass(frozen=True)
class Sizes:
    """Ranges of columns and rows, points per task, told rows plus points per batch (about), and range of tasks per batch.

    >>> Sizes().rows
    (2, 160)
    """

    columns: tuple[int, int] = (1, 20)
    rows: tuple[int, int] = (2, 160)
    points: int = 24
    tokens: int = 2560
    tasks: tuple[int, int] = (4, 64)


@dataclass(frozen=True)
class Batch:
    """B tasks ready for the network: anchors of their rows, standardised values z (B, n), points Q (B, q, d).

    latent, told: (B, q, J) standardised target nodes; oracle: (B, q, 2) the oracle's own expected log density of both,
    in standardised values, NaN where there is none; labels: (B,); middle: (B, 1) the standardised value between labels.
    """

    anchors: Anchors
    z: Tensor
    Q: Tensor
    latent: Tensor
    told: Tensor
    oracle: Tensor
    labels: Tensor
    middle: Tensor

    @classmethod
    def of(cls, tasks: Tasks, kernels: int) -> Batch:
        """The tasks as a network with so many anchors sees them."""
        normal = Normal.of(tasks.y)
        z = normal.forward(tasks.y)
        B, q, J = tasks.told.shape
        nodes, oracle = [], []
        for values, density in ((tasks.latent, tasks.latent_density), (tasks.told, tasks.told_density)):
            flat = values.reshape(B, q * J)
            nodes.append(normal.forward(flat).reshape(B, q, J))
            oracle.append((density - normal.log_slope(flat).reshape(B, q, J)).mean(-1))
        middle = normal.forward(torch.zeros_like(z[:, :1]))
        return cls(fit_anchors(tasks.X, z, kernels), z, tasks.Q, nodes[0], nodes[1], torch.stack(oracle, -1), tasks.labels, middle)  # fmt: skip


def draw_batch(prior: Prior, sizes: Sizes, kernels: int, seed: Sequence[int], device: str = "cpu") -> Batch:
    """The batch that a seed (whole numbers, none negative) stands for, on one kind of device.

    P(d columns) is proportional to d^(-1/2); a quarter of the row counts are uniform, the others log-uniform.

    >>> draw_batch(Prior(), Sizes((1, 3), (2, 8), 4, 60), 6, (0, 1)).z.shape[0] >= 4
    True
    """
    rng = np.random.default_rng(list(seed))
    dimensions = np.arange(sizes.columns[0], sizes.columns[1] + 1)
    share = dimensions**-0.5
    d = int(rng.choice(dimensions, p=share / share.sum()))
    low, high = sizes.rows
    if rng.random() < 0.25:
        n = int(rng.integers(low, high + 1))
    else:
        n = int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))
    fewest, most = sizes.tasks
    batch = min(max(round(sizes.tokens / (n + sizes.points)), fewest), most)
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    return Batch.of(sample_tasks(prior, batch, n, sizes.points, d, generator), kernels)


def score(network: Network, batch: Batch, jitter: Tensor, blur: float = BLUR) -> tuple[Tensor, Tensor]:
    """Loss per task (B,), and per point (B, q, 2) how far latent and told predictions are above the oracle, or NaN.

    jitter: (B, q, 2) standard normal numbers, by which targets are blurred, times `blur` (standardised units).

    >>> batch = draw_batch(Prior.plain(), Sizes((1, 3), (2, 8), 4, 60), 6, (0, 1))
    >>> losses, gaps = score(Network(), batch, torch.zeros_like(batch.oracle))
    >>> losses.shape[0] == batch.z.shape[0], gaps.isnan().any()
    (True, tensor(False))
    """
    mixture, noise = predict(network, batch.anchors, batch.z, batch.Q)
    blurred = (mixture.sd.square() + blur**2).sqrt()
    told_sd = (mixture.sd.square() + noise.square() + blur**2).sqrt()
    losses = []
    for i, (nodes, sd) in enumerate(((batch.latent, blurred), (batch.told, told_sd))):
        density = Mixture(mixture.log_weight, mixture.mean, sd).log_density(nodes + blur * jitter[..., i, None])
        losses.append(-density.mean(-1))
    loss = torch.stack(losses, -1)
    label = batch.latent[..., 0]
    above = label > batch.middle
    limit = batch.middle.expand_as(label)
    right = torch.where(above, mixture.log_above(limit), mixture.log_below(limit))
    per_task = torch.where(batch.labels, -right.mean(-1), 0.5 * loss.mean((-1, -2)))
    return per_task, (batch.oracle + loss).detach()
