"""Whom a surrogate is compared with: fitted processes, the floor, no model.

`fitted`: hyperparameters by `surrogates.map_fit`. On plain tasks it is given all that is known of them ("right"): the
Matern-5/2 kernel, mean 0, variance 1, the normal density of log lengthscales and the uniform one of the log noise (the most
probable LOGARITHMS are found: the maximum depends on the parameters). On other tasks there is no right prior to give:
values are standardised, and the processes are "wide" (Matern-5/2, free scale, the mixture's own prior of lengthscales,
noise from 1e-4 up) or "botorch" (that library's default priors and kernel), both with values beyond four standard deviations
compressed as the network's are, and searched for from several starts. "gp" is what the strategy `gp` fits where noise is
unknown: the same priors and kernel, one start, values that are standardised only. It is for tasks of any kind.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import lapack

from surrogates.bayes_floor import Hyperprior, Rows, sample_posterior
from surrogates.columns import Inputs
from surrogates.evaluation.gaps import Belief
from surrogates.evaluation.tasks import KINDS, PLAIN_KINDS, Cell
from surrogates.gp import condition
from surrogates.kernels import Kernel
from surrogates.map_fit import LOG_2PI, Fitted, Objective, Prior, factor, fit_map
from surrogates.pfn.mixture import Mixture
from surrogates.pfn.normalise import Normal
from surrogates.prior import Tasks

__all__ = ["Priors", "ZeroMean", "fitted", "floor", "joined", "nothing"]

Array = NDArray[np.float64]
Priors = Literal["right", "wide", "botorch", "gp"]
FLAT = 10.0  # spread of a log-normal prior that is as good as uniform within the noise's range
OTHER_STARTS = ((0.4, 0.1), (3.0, 0.02))  # factors of the prior's lengthscale, and standard deviation of the noise


def nothing(cell: Cell, tasks: Tasks) -> Belief:
    """No model: the standard normal, on plain tasks of the values, which their functions come from, else of standardised ones.

    >>> cell = Cell("plain", 1, 8)
    >>> nothing(cell, cell.tasks(2)).told.sd.unique().tolist()
    [1.0]
    """
    mean = tasks.y.new_zeros(tasks.Q.shape[:2])
    belief = Belief.gaussian(mean, mean + 1.0, mean[:, :1])
    return belief if cell.kind in PLAIN_KINDS else replace(belief, normal=Normal.of(tasks.y))


def floor(tasks: Tasks, particles: int) -> tuple[Belief, Belief]:
    """Mixtures over the posterior of the hyperparameters of plain tasks, from two independent populations of particles.

    >>> one, other = floor(Cell("plain", 1, 8).tasks(1), 16)
    >>> joined(one, other).told.mean.shape[-1]
    32
    """
    rows = Rows(tasks.X, tasks.y)
    beliefs = []
    for seed in (1, 2):
        theta = sample_posterior(rows, Hyperprior.plain(tasks.X.shape[-1]), particles, seed)
        mean, sd = rows.predict(theta, tasks.Q)
        beliefs.append(Belief.gaussian(mean, sd, theta[:, None, :, -1].exp().expand(mean.shape)))
    return beliefs[0], beliefs[1]


def joined(one: Belief, other: Belief) -> Belief:
    """The even mixture of two beliefs in values themselves."""
    return Belief(_joined(one.latent, other.latent), _joined(one.told, other.told))


def _joined(one: Mixture, other: Mixture) -> Mixture:
    weight = torch.cat([one.log_weight, other.log_weight], -1) - math.log(2.0)
    return Mixture(weight, torch.cat([one.mean, other.mean], -1), torch.cat([one.sd, other.sd], -1))


def fitted(cell: Cell, tasks: Tasks, priors: Priors = "right") -> Belief:
    """A process with the most probable hyperparameters for each task. "right" is for plain tasks alone.

    >>> cell = Cell("plain", 1, 24)
    >>> fitted(cell, cell.tasks(2)).told.mean.shape
    torch.Size([2, 128, 1])
    """
    prior, kernel = _prior(cell, priors)
    lengthscale = math.exp(prior.lengthscale[0] - prior.lengthscale[1] ** 2)
    others = tuple(Fitted(np.full(cell.d, lengthscale * by), 1.0, sd**2, 0.0, 0.0, 0.0, 0) for by, sd in OTHER_STARTS)
    starts = (None,) if priors == "gp" else (None, *others)
    normal = Normal.of(tasks.y)
    values = tasks.y if priors == "right" else normal.forward(tasks.y)
    if priors == "gp":
        values = (tasks.y - normal.centre) / normal.width
    inputs, means, sds, noises = Inputs.continuous(cell.d), [], [], []
    for X, z, Q in zip(tasks.X.numpy(), values.numpy(), tasks.Q.numpy(), strict=True):
        objective = (ZeroMean if priors == "right" else Objective)(inputs, X, kernel, prior)
        found = fit_map(inputs, X, z, prior, kernel, None, starts, objective)
        mean, variance = condition(inputs, X, z[:, None], [found], kernel).mean_variance(Q)
        means.append(mean[:, 0])
        sds.append(np.sqrt(np.maximum(variance[:, 0], 1e-12)))
        noises.append(math.sqrt(found.noise))
    middle, sd, noise = (torch.from_numpy(np.stack(part)) for part in (means, sds, noises))
    noise = noise[:, None]
    if priors == "gp":
        return Belief.gaussian(normal.centre + normal.width * middle, normal.width * sd, normal.width * noise)
    belief = Belief.gaussian(middle, sd, noise)
    return belief if priors == "right" else replace(belief, normal=normal)


def _prior(cell: Cell, priors: Priors) -> tuple[Prior, Kernel]:
    """Of the hyperparameters. A spread squared is added to locations whose most probable LOGARITHM is wanted."""
    if priors in ("botorch", "gp"):
        return Prior.botorch(cell.d), "rbf"
    kind = KINDS[cell.kind]
    location, spread = kind.lengthscale
    lengthscale = (math.log(location) + 0.5 * math.log(cell.d) + spread**2, spread)
    if priors == "wide":
        noise = (math.log(1e-4) + 16.0, 4.0)
        return Prior(lengthscale, noise=noise, noise_bounds=(1e-8, 10.0), scale=(0.0, 2.0)), "matern52"
    low, high = (2.0 * math.log(sd) for sd in kind.noisy)
    noise = (0.5 * (low + high) + FLAT**2, FLAT)
    return Prior(lengthscale, noise=noise, noise_bounds=(math.exp(low), math.exp(high))), "matern52"


class ZeroMean(Objective):
    """The negative log posterior per point of a process whose mean is known to be 0."""

    def mean(self, theta: Array, z: Array, variances: Array | None) -> float:
        """0, at any theta."""
        return 0.0

    def __call__(self, theta: Array, z: Array, variances: Array | None) -> tuple[float, Array]:
        """(value, gradient) per point at theta; (1e10, zeros) where no jitter helps."""
        lengthscales, _, noise = self.split(theta)
        k, slope = self._kernel(lengthscales)
        found = factor(np.array(k), noise if variances is None else noise + variances, 1.0)
        if found is None:
            return 1e10, np.zeros_like(theta)
        alpha, _ = lapack.dpotrs(found[0], z, lower=1)
        value = 0.5 * float(z @ alpha) + np.log(np.diagonal(found[0])).sum() + 0.5 * self.n * LOG_2PI
        inverse, _ = lapack.dpotri(found[0], lower=1)
        W = np.tril(inverse) + np.tril(inverse, -1).T - alpha[:, None] * alpha[None, :]
        gradient = np.append(0.5 * self._length_gradient(W * slope, lengthscales), 0.5 * noise * np.trace(W))
        log_prior, prior_gradient = self._log_prior(theta)
        return float(value - log_prior) / self.n, (gradient - prior_gradient) / self.n
