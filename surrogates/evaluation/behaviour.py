"""Whether a surrogate behaves as a regression should, on fixed tasks.

Told rows are met, more rows mean less doubt, and the order of rows, the order of columns and the units of the values mean
nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from surrogates.evaluation.calibration import Believer
from surrogates.prior import Prior, sample_tasks

__all__ = ["behaviour"]

DOUBLINGS = (5, 10, 20, 40, 80, 160)


def behaviour(believe: Believer, seed: int = 0) -> dict[str, float]:
    """Behaviour on fixed tasks, name to number.

    told_row_error, told_row_width: largest distance of the mean to a told noise-free value, and largest half width of the
    central 90 % interval there, in standard deviations of the told values (median over tasks). shrinking: share of tasks
    and doublings of n in which the mean log standard deviation falls; sd_5 ... sd_160: its geometric mean, relative to the
    function's own. order, columns, affine: largest changes of a mean when rows are permuted, when columns are, and when y
    becomes 1000 y - 5, in standard deviations of the told values.
    """
    return {**_told_rows(believe, seed), **_shrinking(believe, seed), **_invariance(believe, seed)}


def _at_rows(believe: Believer, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) largest errors of the mean and largest half widths of the 90 % interval at the told rows, in their sds."""
    belief = believe(X, y, X)
    low, high = belief.quantiles(torch.tensor([0.05, 0.95], dtype=X.dtype)).unbind(-1)
    width = y.std(-1, correction=0)
    return (belief.middle() - y).abs().amax(-1) / width, 0.5 * (high - low).amax(-1) / width


def _told_rows(believe: Believer, seed: int) -> dict[str, float]:
    smooth = Prior(
        kernels=(1.0, 0.0, 0.0, 0.0), irrelevant=0.0, warped_inputs=0.0, trend=0.0, steps=0.0, warped_outputs=0.0,
        plateau=0.0, labels=0.0, network=0.0, formula=0.0, quiet=1.0, quiet_noise=(1e-7, 1e-6), discrete=0.0,
        blobs=0.0, boxes=0.0,
    )  # fmt: skip
    errors, widths = [], []
    for d, n in ((1, 8), (2, 20), (4, 40)):
        tasks = sample_tasks(smooth, 8, n, 1, d, torch.Generator().manual_seed(seed))
        error, width = _at_rows(believe, tasks.X, tasks.y)
        errors.append(error)
        widths.append(width)
    return {"told_row_error": float(torch.cat(errors).median()), "told_row_width": float(torch.cat(widths).median())}


def _shrinking(believe: Believer, seed: int) -> dict[str, float]:
    doubts = []
    for d in (2, 4):
        tasks = sample_tasks(Prior.plain(), 16, DOUBLINGS[-1], 1, d, torch.Generator().manual_seed(seed))
        Q = torch.rand(16, 128, d, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
        for n in DOUBLINGS:
            doubts.append(believe(tasks.X[:, :n], tasks.y[:, :n], Q).doubt().log().mean(-1))
    doubt = torch.stack(doubts).reshape(2, len(DOUBLINGS), 16)
    falls = float((doubt.diff(dim=1) < 0).double().mean())
    sizes = {f"sd_{n}": float(doubt[:, i].mean().exp()) for i, n in enumerate(DOUBLINGS)}
    return {"shrinking": falls, **sizes}


def _invariance(believe: Believer, seed: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    tasks = sample_tasks(Prior.plain(), 16, 30, 32, 5, generator)
    rows, columns = torch.randperm(30, generator=generator), torch.randperm(5, generator=generator)
    X, y, Q = tasks.X, tasks.y, tasks.Q
    first, width = believe(X, y, Q).middle(), y.std(-1, correction=0, keepdim=True)
    changed = {
        "order": believe(X[:, rows], y[:, rows], Q).middle(),
        "columns": believe(X[..., columns], y, Q[..., columns]).middle(),
        "affine": (believe(X, 1000.0 * y - 5.0, Q).middle() + 5.0) / 1000.0,
    }
    return {name: float(((other - first) / width).abs().max()) for name, other in changed.items()}
