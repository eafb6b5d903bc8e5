"""What the network learns from: data sets of Gaussian processes with the hyperparameters that they were drawn with.

Each batch has one number of rows and columns and one `Hyperprior`, which the network is told: processes of which mean,
variance and kernel are known, deterministic ones, noisy ones. The loss is the negative log density that the network
gives to the true hyperparameters (Papamakarios and Murray 2016, arXiv 1605.06376; its minimum is the posterior): of the
losses at hand it is the one that leaves no likely hyperparameters out, as importance weights need, and its gradient
goes through no factorisation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogates.amortised.hyperprior import Hyperprior
from surrogates.amortised.network import HyperNetwork, Reading
from surrogates.amortised.statistics import column_statistics
from surrogates.prior import sample_tasks

__all__ = ["Sizes", "draw_lesson", "drawn_hyperprior", "read", "score"]

USUAL = 0.6  # share of the batches in which what is believed is as by default


@dataclass(frozen=True)
class Sizes:
    """Ranges of columns and rows, tokens per batch (rows times columns, about), and range of tasks per batch.

    >>> Sizes().rows
    (2, 128)
    """

    columns: tuple[int, int] = (1, 20)
    rows: tuple[int, int] = (2, 128)
    tokens: int = 9000
    tasks: tuple[int, int] = (4, 160)


def drawn_hyperprior(rng: np.random.Generator) -> Hyperprior:
    """One of those that the network is trained for: standard, deterministic, or noisy, at its usual values or others.

    >>> 0.0 < drawn_hyperprior(np.random.default_rng(0)).noise[0] < 1.0
    True
    """
    kind, usual = rng.random(), rng.random() < USUAL
    if usual:
        kernels, lengthscale, irrelevant = Hyperprior().kernels, Hyperprior().lengthscale, Hyperprior().irrelevant
    else:
        odds = np.eye(3)[rng.integers(3)] if rng.random() < 0.5 else rng.dirichlet(np.ones(3))
        first, second = float(odds[0]), float(odds[1])
        kernels = (first, second, 1.0 - first - second)
        lengthscale = (float(np.exp(rng.uniform(math.log(0.15), 0.0))), float(rng.uniform(0.4, 1.3)))
        irrelevant = float(rng.choice([0.0, 0.25, 0.5]))
    if kind < 0.3:
        if usual:
            return Hyperprior.plain()
        low = float(np.exp(rng.uniform(math.log(1e-3), math.log(0.03))))
        return Hyperprior(kernels, lengthscale, irrelevant, (low, float(rng.uniform(0.2, 0.6))), True)
    if kind < 0.7:
        return Hyperprior(kernels, lengthscale, irrelevant)
    low = float(np.exp(rng.uniform(math.log(1e-6), math.log(1e-2))))
    return Hyperprior(kernels, lengthscale, irrelevant, (low, float(np.exp(rng.uniform(math.log(0.1), 0.0)))))


def draw_lesson(sizes: Sizes, seed: Sequence[int], device: str = "cpu") -> dict[str, Tensor]:
    """The batch that a seed (whole numbers, none negative) stands for: what `read` makes, and the truth.

    P(d columns) is proportional to d^(-1/2); a quarter of the row counts are uniform, the others log-uniform. kernel: (B,),
    v: (B, size) true coordinates, prior: (B,) log prior densities of both, learns_noise: (1,).

    >>> sorted(draw_lesson(Sizes((1, 2), (3, 4), 40), (0, 1)))
    ['X', 'belief', 'columns', 'kernel', 'learns_noise', 'prior', 'v', 'whole', 'z']
    """
    rng = np.random.default_rng(list(seed))
    dimensions = np.arange(sizes.columns[0], sizes.columns[1] + 1)
    share = dimensions**-0.5
    d = int(rng.choice(dimensions, p=share / share.sum()))
    low, high = sizes.rows
    n = (
        int(rng.integers(low, high + 1))
        if rng.random() < 0.25
        else int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))
    )
    believed = drawn_hyperprior(rng)
    batch = min(max(round(sizes.tokens / (n * d)), sizes.tasks[0]), sizes.tasks[1])
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    tasks = sample_tasks(believed.tasks_prior(bool(rng.random() < 0.3)), batch, n, 1, d, generator)
    v = believed.drawn_coordinates(tasks.hyperparameters, generator)
    kernel = tasks.hyperparameters["kernel"]
    log_prior = torch.from_numpy(believed.log_density(kernel.cpu().numpy(), v.cpu().numpy())).to(v.device)
    differences = (tasks.X[:, :, None] - tasks.X[:, None]).square().permute(0, 3, 1, 2)
    reading = read(tasks.X, differences, tasks.y[:, None], believed)
    return {
        **vars(reading), "kernel": kernel, "v": v.float(), "prior": log_prior.float(),
        "learns_noise": torch.tensor([believed.learns_noise], device=device),
    }  # fmt: skip


def read(X: Tensor, differences: Tensor, y: Tensor, believed: Hyperprior) -> Reading:
    """What the network sees of B sets of rows X (B, n, d) with m outputs y (B, m, n): B m readings in float32.

    differences: (B, d, n, n) squared differences of the rows. Values are centred and divided by their standard deviation,
    unless the process's mean and variance are known.

    >>> X = torch.rand(2, 5, 1, dtype=torch.float64)
    >>> read(X, (X - X.transpose(1, 2))[:, None].square(), X.sum(-1)[:, None], Hyperprior()).columns.shape
    torch.Size([2, 1, 24])
    """
    B, m, n = y.shape
    d = X.shape[-1]
    z = y if believed.standard else standardised(y)
    columns, whole = column_statistics(differences, z, believed.offset)
    described = torch.tensor(believed.describe(d, n), device=X.device).expand(B * m, -1)
    rows = X[:, None].expand(B, m, n, d).reshape(B * m, n, d).float()
    return Reading(
        rows, z.reshape(B * m, n).float(), columns.reshape(B * m, d, -1), whole.reshape(B * m, -1), described
    )


def standardised(y: Tensor) -> Tensor:
    """Values (..., n) with mean 0 and standard deviation 1, or 0 where they are all equal.

    >>> standardised(torch.tensor([1.0, 3.0]))
    tensor([-1.,  1.])
    """
    centred = y - y.mean(-1, keepdim=True)
    spread = centred.square().mean(-1, keepdim=True).sqrt()
    return torch.where(spread > 0.0, centred / spread.clamp_min(1e-300), torch.zeros_like(centred))


def score(network: HyperNetwork, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Losses per task (B,), per coordinate, and by how many nats the true hyperparameters are more likely than before (B,).

    >>> losses, gains = score(HyperNetwork(), draw_lesson(Sizes((1, 2), (3, 4), 40), (0, 1)))
    >>> losses.shape == gains.shape
    True
    """
    reading = Reading(batch["X"], batch["z"], batch["columns"], batch["whole"], batch["belief"])
    density = network(reading, bool(batch["learns_noise"].any()))
    found = density.log_density(batch["kernel"][:, None], batch["v"][:, None])[:, 0]
    return -found / (batch["v"].shape[1] + 1), (found - batch["prior"]).detach()
