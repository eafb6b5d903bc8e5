"""Fixed data sets to score predictions on: cells of d columns and n rows, of several kinds of functions.

"plain": Matern-5/2 processes with noise, where every hyperparameter's prior is known and rivals can be given it. "known":
the same with lengthscales that are nearly known. "mixture": everything that networks here are trained on and that has an
oracle. "held-out": all of it but labels, for calibration alone.
Half of the points of a task lie near told rows of low value, where a search asks (`surrogates.prior.sample_tasks`), half
anywhere. Plain tasks get as many more points anywhere, because published comparisons have only those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from surrogates.bayes_floor import Rows
from surrogates.prior import NODES, Prior, Tasks, sample_tasks

__all__ = [
    "HELD_OUT",
    "KINDS",
    "KNOWN",
    "MIXTURE",
    "PLAIN",
    "PLAIN_KINDS",
    "POINTS",
    "QUIET",
    "Cell",
    "first",
    "noise_of",
]

POINTS = 64
AT_ONCE = 64  # tasks drawn together: fewer are the first of them, more come from generators of their own
PLAIN_KINDS = ("plain", "known")  # Matern-5/2 processes of mean 0 and variance 1
QUIET = 0.055  # noise standard deviation below which a plain task counts as quiet
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
        """The first tasks of the cell, the same for everyone: `tasks(10)` are the first ten of `tasks(64)`."""
        blocks = [self._block(block) for block in range(math.ceil(count / AT_ONCE))]
        return first(blocks[0] if len(blocks) == 1 else _joined(blocks), count)

    def _block(self, block: int) -> Tasks:
        seed = list(KINDS).index(self.kind) * 1_000_000 + self.d * 1000 + self.n + 100_000_000 * block
        generator = torch.Generator().manual_seed(7_700_000_000 + seed)
        tasks = sample_tasks(KINDS[self.kind], AT_ONCE, self.n, POINTS, self.d, generator)
        return _with_points_anywhere(tasks, generator) if self.kind in PLAIN_KINDS else tasks


PLAIN = tuple(Cell("plain", d, n) for d in (1, 2, 4, 6) for n in (8, 24, 64))
MIXTURE = tuple(Cell("mixture", d, n) for d in (2, 6, 12) for n in (10, 40, 120))
KNOWN = tuple(Cell("known", d, n) for d in (1, 2, 4, 6) for n in (16, 64, 128))
HELD_OUT = tuple(Cell("held-out", d, n) for d in (2, 6, 12) for n in (10, 40, 120))


def first(tasks: Tasks, count: int) -> Tasks:
    """The first so many tasks.

    >>> first(Cell("plain", 1, 8).tasks(5), 2).y.shape
    torch.Size([2, 8])
    """
    parts = {name: part[:count] for name, part in vars(tasks).items() if name != "hyperparameters"}
    return replace(tasks, **parts, hyperparameters={name: part[:count] for name, part in tasks.hyperparameters.items()})


def _joined(blocks: list[Tasks]) -> Tasks:
    names = [name for name in vars(blocks[0]) if name != "hyperparameters"]
    parts = {name: torch.cat([getattr(block, name) for block in blocks]) for name in names}
    facts = {name: torch.cat([block.hyperparameters[name] for block in blocks]) for name in blocks[0].hyperparameters}
    return replace(blocks[0], **parts, hyperparameters=facts)


def noise_of(tasks: Tasks) -> tuple[float, ...]:
    """The noise's standard deviation of each task (in the middle of the cube, before output warps).

    >>> all(0.01 <= sd <= 0.3 for sd in noise_of(Cell("plain", 1, 8).tasks(3)))
    True
    """
    return tuple(float(sd) for sd in torch.exp(0.5 * tasks.hyperparameters["log_noise"][:, 0]))


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
