"""Joint draws of values that are not known exactly, and the model given each of them.

Told values with noise and pending points are integrated over by S quasi-Monte Carlo draws from the joint posterior.
Given a draw there is no noise left, so all draws share one covariance and differ only in S weight vectors: the S
conditioned models cost one Cholesky factor (Letham et al. 2019, arXiv 1706.07094, section 4).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bbopt.acquisition.domain import sobol
from surrogates.gp import GaussianProcess, root_of
from surrogates.predictor import Predictor

Array = NDArray[np.float64]
WIDEST_SOBOL = 256  # scrambling costs more than it brings beyond this many dimensions
NOISY_NUGGET = 1e-6  # on the diagonal where noise has been integrated out, in units of the output scale


def draw_values(
    model: GaussianProcess, noisy: NDArray[np.bool_], pending: Array, count: int, rng: np.random.Generator
) -> Array:
    """(m, n + p, S) values at the n told and the p pending points: told ones as they are where an output is exact."""
    n, p = len(model.X), len(pending)
    values = np.empty((model.outputs, n + p, count))
    everything = np.concatenate([model.X, pending])
    for j in range(model.outputs):
        wanted = everything if noisy[j] else pending
        normal = normal_numbers(len(wanted), count, rng)
        if not noisy[j]:
            values[j, :n] = model.Z[:, j, None]
        if len(wanted):
            one = model.output(j).predictor
            moments = one.forward(wanted)
            root = root_of(one.covariance(wanted)[0], float(one.scale[0]))
            values[j, n + p - len(wanted) :] = moments.mean[0] + root @ normal
    return values


def given_draws(model: GaussianProcess, noisy: NDArray[np.bool_], pending: Array, values: Array) -> Predictor:
    """The model given each of S vectors of exact values at the told and pending points."""
    nuggets = np.array([f.nugget for f in model.fitted])
    return model.given_exactly(pending, values, np.where(noisy, np.maximum(nuggets, NOISY_NUGGET), nuggets))


def normal_numbers(dimension: int, count: int, rng: np.random.Generator) -> Array:
    """(dimension, count) standard normal numbers, quasi-random where that is affordable."""
    if 0 < dimension <= WIDEST_SOBOL:
        return np.asarray(ndtri(np.clip(sobol(count, dimension, rng), 1e-9, 1.0 - 1e-9)).T)
    return rng.standard_normal((dimension, count))
