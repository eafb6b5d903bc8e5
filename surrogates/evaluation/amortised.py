"""The amortised process as a contestant: what it is told of the hyperparameters, its beliefs, and how far its draws counted."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogates.amortised.fit import DRAWS, fit_amortised
from surrogates.amortised.hyperprior import Hyperprior
from surrogates.amortised.network import HyperNetwork
from surrogates.amortised.posterior import AmortisedGP
from surrogates.columns import Inputs
from surrogates.evaluation.gaps import Belief
from surrogates.evaluation.tasks import KINDS, PLAIN_KINDS, Cell
from surrogates.pfn.mixture import Mixture
from surrogates.pfn.normalise import Normal
from surrogates.prior import Tasks

__all__ = ["MIXED", "Reading", "hyperprior_of", "read_amortised", "read_cell"]

Array = NDArray[np.float64]
MIXED = Hyperprior((0.3, 0.4, 0.3), (0.35, 0.75), 0.25, (1e-6, 0.4))  # the nearest that it knows to the whole mixture
LEAST_VARIANCE = 1e-14
NEVER = -1e3  # log weight of a component that fills a row up


@dataclass(frozen=True)
class Reading:
    """Of B tasks: the belief; per task the effective number of draws, how the components were found, CPU seconds."""

    belief: Belief
    ess: tuple[float, ...]
    how: tuple[str, ...]
    seconds: tuple[float, ...]


def hyperprior_of(cell: Cell) -> Hyperprior:
    """What may be told of a cell's tasks: all of it where it is a prior of this form, else `MIXED`.

    >>> hyperprior_of(Cell("plain", 2, 8)).standard, hyperprior_of(Cell("mixture", 2, 10)).standard
    (True, False)
    """
    if cell.kind == "plain":
        return Hyperprior.plain()
    if cell.kind == "known":
        return replace(Hyperprior.plain(), lengthscale=KINDS["known"].lengthscale)
    return MIXED


def read_amortised(
    network: HyperNetwork | None, prior: Hyperprior, X: Tensor, y: Tensor, Q: Tensor, draws: int = DRAWS
) -> Reading:
    """Beliefs at Q (B, q, d) after rows X (B, n, d) with values y (B, n); network: None for the package's own.

    >>> tasks = Cell("plain", 1, 8).tasks(2)
    >>> reading = read_amortised(None, Hyperprior.plain(), tasks.X, tasks.y, tasks.Q)
    >>> reading.belief.told.mean.shape[:2], len(reading.ess)
    (torch.Size([2, 128]), 2)
    """
    inputs = Inputs.continuous(X.shape[-1])
    found: list[AmortisedGP] = []
    seconds = []
    for rows, values in zip(X.numpy(), y.numpy(), strict=True):
        start = time.process_time()
        found.append(fit_amortised(inputs, rows, values[:, None], [prior], draws=draws, network=network))
        seconds.append(time.process_time() - start)
    most = max(len(posterior.components[0]) for posterior in found)
    parts = [_row(posterior, points, most) for posterior, points in zip(found, Q.numpy(), strict=True)]
    log_weight, mean, sd, noise = (torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True))
    weights = log_weight[:, None].expand(mean.shape)
    told = (sd.square() + noise[:, None].square()).sqrt()
    belief = Belief(Mixture(weights, mean, sd), Mixture(weights, mean, told))
    diagnoses = [posterior.diagnosis[0] for posterior in found]
    return Reading(belief, tuple(each.ess for each in diagnoses), tuple(each.how for each in diagnoses), tuple(seconds))


def read_cell(network: HyperNetwork | None, cell: Cell, tasks: Tasks) -> Reading:
    """Of a cell's tasks, told what `hyperprior_of` says; of other than plain ones as the PFN and the fitted processes see
    them, values beyond four standard deviations compressed (some functions reach a million of them).

    >>> cell = Cell("mixture", 2, 10)
    >>> read_cell(None, cell, cell.tasks(1)).belief.normal is None
    False
    """
    prior = hyperprior_of(cell)
    if cell.kind in PLAIN_KINDS:
        return read_amortised(network, prior, tasks.X, tasks.y, tasks.Q)
    normal = Normal.of(tasks.y)
    reading = read_amortised(network, prior, tasks.X, normal.forward(tasks.y), tasks.Q)
    return replace(reading, belief=replace(reading.belief, normal=normal))


def _row(posterior: AmortisedGP, Q: Array, most: int) -> tuple[Array, ...]:
    """Log weights (most,), means and standard deviations (q, most), noise (most,) of one task."""
    moments, components = posterior.predictor.forward(Q), posterior.components[0]
    spare = most - len(components)
    sd = np.sqrt(np.maximum(moments.variance, LEAST_VARIANCE * components.scale[:, None]))
    return (
        np.pad(components.log_weight, (0, spare), constant_values=NEVER),
        np.pad(moments.mean[:, :, 0].T, ((0, 0), (0, spare))),
        np.pad(sd.T, ((0, 0), (0, spare)), constant_values=1.0),
        np.pad(components.noise * np.sqrt(components.scale), (0, spare), constant_values=1.0),
    )
