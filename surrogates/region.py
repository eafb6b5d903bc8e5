"""Where a black box cannot be evaluated at all: a model of the failing region, kept apart from the model of the values.

The signed distance to the edge of the region, negative where points work, is continuous and close to linear near the edge.
Of a row it is known to lie between 0 and the distance d to the nearest row of the other kind, for the edge lies between
the two. A Gaussian process of the middles of these intervals, with the standard deviation of a uniform distribution over
them as noise (d / 2 and d / sqrt(12)), locates the edge as sharply as the rows allow and continues it where there are
none; labels of -1 and +1 would be a jump that no smooth model continues.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from surrogates.columns import Inputs
from surrogates.gp import GaussianProcess, condition
from surrogates.kernels import squared_distances
from surrogates.map_fit import Fitted, Prior, fit_map

Array = NDArray[np.float64]
DOUBT = 3.0**-0.5  # standard error of a row's value, relative to the value: that of a uniform distribution from 0


def fit_region(
    inputs: Inputs, worked: Array, failed: Array, starts: Sequence[Fitted | None] = (None,)
) -> GaussianProcess:
    """A model whose only output is below 0 where rows are likely to work; (a, d) and (b, d) rows, b > 0.

    >>> X = np.linspace(0.0, 1.0, 9)[:, None]
    >>> model = fit_region(Inputs.continuous(1), X[:6], X[6:])
    >>> mean, _ = model.mean_variance(np.array([[0.1], [0.95]]))
    >>> bool(mean[0, 0] < 0 < mean[1, 0])
    True
    """
    X = np.concatenate([worked, failed])
    if len(worked):
        apart = np.sqrt(squared_distances(inputs.features(worked), inputs.features(failed)))
        values = np.concatenate([-apart.min(axis=1), apart.min(axis=0)])  # twice the middles: the scale drops out
    else:
        values = np.ones(len(failed))
    values = values / max(float(np.sqrt(np.mean(values**2))), 1e-300)
    doubt = (DOUBT * values) ** 2
    fitted = fit_map(
        inputs, X, values, Prior.noiseless(inputs.dimension, 1e-8, (0.0, 1.0)), "matern52", doubt, tuple(starts)
    )
    return condition(inputs, X, values[:, None], [fitted], "matern52", doubt[:, None])
