"""Whom the network is compared with on the tasks of `surrogates.pfn.evaluation`: fitted processes, the floor, no model.

`fitted`: hyperparameters by `surrogates.map_fit`. On plain tasks it is given all that is known of them: the Matern-5/2
kernel, mean 0, variance 1, the normal density of log lengthscales and the uniform one of the log noise (the most probable
LOGARITHMS are found: the maximum depends on the parameters). On other tasks: standardised values, a free scale, a wide
prior of the noise, the mixture's own prior of lengthscales.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import lapack

from surrogates.bayes_floor import Hyperprior, Rows, sample_posterior
from surrogates.columns import Inputs
from surrogates.gp import condition
from surrogates.map_fit import LOG_2PI, Fitted, Objective, Prior, factor, fit_map
from surrogates.pfn.evaluation import KINDS, Belief, Cell
from surrogates.prior import Tasks

Array = NDArray[np.float64]
FLAT = 10.0  # spread of a log-normal prior that is as good as uniform within the noise's range
OTHER_STARTS = ((0.4, 0.1), (3.0, 0.02))  # factors of the prior's lengthscale, and standard deviation of the noise


def nothing(cell: Cell, tasks: Tasks) -> Belief:
    """No model: on plain tasks the standard normal that their functions come from, else mean and spread of what was told."""
    B, q = tasks.Q.shape[:2]
    mean, sd = tasks.y.new_zeros(B, 1), tasks.y.new_ones(B, 1)
    if cell.kind not in ("plain", "known"):
        mean, sd = tasks.y.mean(-1, keepdim=True), tasks.y.std(-1, keepdim=True)
    return Belief.gaussian(mean.expand(B, q), sd.expand(B, q), torch.zeros((), dtype=sd.dtype))


def floor(tasks: Tasks, particles: int, seed: int) -> Belief:
    """The mixture over the posterior of the hyperparameters of plain tasks, from one population of particles."""
    rows = Rows(tasks.X, tasks.y)
    theta = sample_posterior(rows, Hyperprior.plain(tasks.X.shape[-1]), particles, seed)
    mean, sd = rows.predict(theta, tasks.Q)
    return Belief.gaussian(mean, sd, theta[:, None, :, -1].exp().expand(mean.shape))


def fitted(cell: Cell, tasks: Tasks) -> Belief:
    """A process with the most probable hyperparameters, for each task."""
    plain = cell.kind in ("plain", "known")
    inputs, means, sds, noises = Inputs.continuous(cell.d), [], [], []
    prior = _plain_prior(cell) if plain else _wide_prior(cell)
    for X, y, Q in zip(tasks.X.numpy(), tasks.y.numpy(), tasks.Q.numpy(), strict=True):
        centre, width = (0.0, 1.0) if plain else (float(y.mean()), max(float(y.std()), 1e-300))
        z = (y - centre) / width
        objective = (ZeroMean if plain else Objective)(inputs, X, "matern52", prior)
        lengthscale = math.exp(prior.lengthscale[0])
        other = tuple(
            Fitted(np.full(cell.d, lengthscale * by), 1.0, sd**2, 0.0, 0.0, 0.0, 0) for by, sd in OTHER_STARTS
        )
        found = fit_map(inputs, X, z, prior, "matern52", None, (None, *other), objective)
        mean, variance = condition(inputs, X, z[:, None], [found], "matern52").mean_variance(Q)
        means.append(centre + width * mean[:, 0])
        sds.append(width * np.sqrt(np.maximum(variance[:, 0], 1e-12)))
        noises.append(width * math.sqrt(found.noise))
    told = torch.tensor(noises, dtype=torch.float64)[:, None]
    return Belief.gaussian(torch.from_numpy(np.stack(means)), torch.from_numpy(np.stack(sds)), told)


def _plain_prior(cell: Cell) -> Prior:
    kind = KINDS[cell.kind]
    location, spread = kind.lengthscale
    low, high = (2.0 * math.log(sd) for sd in kind.noisy)
    return Prior(
        (math.log(location) + 0.5 * math.log(cell.d) + spread**2, spread),  # + spread^2: of logarithms, see above
        noise=(0.5 * (low + high) + FLAT**2, FLAT),
        noise_bounds=(math.exp(low), math.exp(high)),
    )


def _wide_prior(cell: Cell) -> Prior:
    location, spread = KINDS[cell.kind].lengthscale
    location = math.log(location) + 0.5 * math.log(cell.d) + spread**2
    return Prior((location, spread), noise=(math.log(1e-4), 4.0), noise_bounds=(1e-8, 10.0), scale=(0.0, 2.0))


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
