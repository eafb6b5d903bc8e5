"""Whether a network's probabilities mean what they say, and whether it behaves as a regression should.

Calibration: a central interval of probability p should hold the value in a share p of the cases, over many tasks. On
tasks of the prior the values are the oracle's stratified draws of what would be told; on given functions they are the
noise-free values. Points of one task go wrong together, so the error is that over tasks; the binomial one, as if points
were independent, is smaller. Behaviour: told rows are met, more rows mean less doubt, and order and units mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogates.pfn.evaluation import Belief, Reader
from surrogates.pfn.network import Network
from surrogates.prior import Prior, Tasks, sample_tasks

Array = NDArray[np.float64]
Function = Callable[[Array], Array]
"""From points of the unit cube (k, d) to values (k,)."""

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
DESIGN_POINTS = 256
DOUBLINGS = (5, 10, 20, 40, 80, 160)


@dataclass(frozen=True)
class Coverage:
    """Shares of values inside central intervals: shares[l][task] for the l-th of `LEVELS`; points: of each task."""

    shares: tuple[tuple[float, ...], ...]
    points: int

    def at(self, level: float) -> tuple[float, float, float]:
        """Mean share at a level, its standard error over tasks, and the binomial error of that many points."""
        shares = np.asarray(self.shares[LEVELS.index(level)])
        error = float(shares.std(ddof=1) / math.sqrt(len(shares))) if len(shares) > 1 else math.nan
        return float(shares.mean()), error, math.sqrt(level * (1.0 - level) / (len(shares) * self.points))


def coverage(below: Tensor) -> Coverage:
    """From probabilities (B, q, J) that the prediction gives to values of at most the true one.

    >>> even = (torch.arange(100.0) + 0.5).reshape(1, 100, 1) / 100
    >>> round(coverage(even).at(0.9)[0], 2)
    0.9
    """
    shares = []
    for level in LEVELS:
        inside = (below - 0.5).abs() <= 0.5 * level
        shares.append(tuple(float(share) for share in inside.double().mean((-1, -2))))
    return Coverage(tuple(shares), below.shape[1])


def told_coverage(tasks: Tasks, belief: Belief) -> Coverage:
    """Of told values on tasks of the prior.

    >>> from surrogates.pfn.evaluation import Cell
    >>> from surrogates.pfn.evaluation_rivals import nothing
    >>> cell = Cell("plain", 1, 8)
    >>> tasks = cell.tasks(20)
    >>> told_coverage(tasks, nothing(cell, tasks)).at(0.9)[0] > 0.5
    True
    """
    return coverage(belief.below(False, tasks.told))


def function_coverage(
    network: Network, function: Function, dimension: int, rows: int, designs: int, seed: int
) -> tuple[Coverage, float]:
    """Of noise-free values of a function after uniform random designs, and the rms error of the mean in sds of the values.

    function: takes points of the unit cube. Every design is a task of `DESIGN_POINTS` uniform points.
    """
    rng = np.random.default_rng([seed, dimension, rows])
    X, Q = rng.random((designs, rows, dimension)), rng.random((designs, DESIGN_POINTS, dimension))
    y = torch.from_numpy(np.stack([function(part) for part in X]))
    truth = torch.from_numpy(np.stack([function(part) for part in Q]))
    reader = Reader(torch.from_numpy(X), y, network.shape.anchors)
    belief = reader.believe(network, torch.from_numpy(Q))
    middle = reader.normal.backward(belief.latent.moments()[0])
    error = float(((middle - truth).square().mean() / truth.var()).sqrt())
    return coverage(belief.below(True, truth[..., None])), error


def sanity(network: Network, seed: int = 0) -> dict[str, float]:
    """Behaviour on fixed tasks, name to number.

    told_row_error, told_row_width: largest distance of the mean to a told noise-free value, and largest half width of the
    central 90 % interval there, in standard deviations of the told values (median over tasks). shrinking: share of tasks and doublings of n in
    which the mean log standard deviation falls; sd_5 ... sd_160: its geometric mean, relative to the function's own.
    order, columns, affine: largest changes of a mean when rows are permuted, when columns are, and when y becomes
    1000 y - 5, in standard deviations of the told values.
    """
    return {**_told_rows(network, seed), **_shrinking(network, seed), **_invariance(network, seed)}


def _at_rows(network: Network, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) largest errors of the mean and largest half widths of the 90 % interval at the told rows, in their sds."""
    reader = Reader(X, y, network.shape.anchors)
    latent = reader.believe(network, X).latent
    low, high = latent.quantiles(torch.tensor([0.05, 0.95], dtype=X.dtype)).unbind(-1)
    return (latent.moments()[0] - reader.z).abs().amax(-1), 0.5 * (high - low).amax(-1)


def _told_rows(network: Network, seed: int) -> dict[str, float]:
    smooth = Prior(
        kernels=(1.0, 0.0, 0.0, 0.0), irrelevant=0.0, warped_inputs=0.0, trend=0.0, steps=0.0, warped_outputs=0.0,
        plateau=0.0, labels=0.0, network=0.0, formula=0.0, quiet=1.0, quiet_noise=(1e-7, 1e-6), discrete=0.0,
        blobs=0.0, boxes=0.0,
    )  # fmt: skip
    errors, widths = [], []
    for d, n in ((1, 8), (2, 20), (4, 40)):
        tasks = sample_tasks(smooth, 8, n, 1, d, torch.Generator().manual_seed(seed))
        error, width = _at_rows(network, tasks.X, tasks.y)
        errors.append(error)
        widths.append(width)
    return {"told_row_error": float(torch.cat(errors).median()), "told_row_width": float(torch.cat(widths).median())}


def _shrinking(network: Network, seed: int) -> dict[str, float]:
    doubts = []
    for d in (2, 4):
        tasks = sample_tasks(Prior.plain(), 16, DOUBLINGS[-1], 1, d, torch.Generator().manual_seed(seed))
        Q = torch.rand(16, 128, d, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
        for n in DOUBLINGS:
            reader = Reader(tasks.X[:, :n], tasks.y[:, :n], network.shape.anchors)
            variance = reader.believe(network, Q).latent.moments()[1]
            doubts.append((0.5 * variance.log() + reader.normal.width.log()).mean(-1))
    doubt = torch.stack(doubts).reshape(2, len(DOUBLINGS), 16)
    falls = float((doubt.diff(dim=1) < 0).double().mean())
    sizes = {f"sd_{n}": float(doubt[:, i].mean().exp()) for i, n in enumerate(DOUBLINGS)}
    return {"shrinking": falls, **sizes}


def _invariance(network: Network, seed: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    tasks = sample_tasks(Prior.plain(), 16, 30, 32, 5, generator)
    rows, columns = torch.randperm(30, generator=generator), torch.randperm(5, generator=generator)

    def mean(X: Tensor, y: Tensor, Q: Tensor) -> Tensor:
        return Reader(X, y, network.shape.anchors).believe(network, Q).latent.moments()[0]

    first = mean(tasks.X, tasks.y, tasks.Q)
    changed = {
        "order": mean(tasks.X[:, rows], tasks.y[:, rows], tasks.Q),
        "columns": mean(tasks.X[..., columns], tasks.y, tasks.Q[..., columns]),
        "affine": mean(tasks.X, 1000.0 * tasks.y - 5.0, tasks.Q),
    }
    return {name: float((other - first).abs().max()) for name, other in changed.items()}
