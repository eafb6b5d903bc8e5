"""Where a black box cannot be evaluated at all: a model of the failing region, kept apart from the model of the values.

Labels -1 (worked) and +1 (cannot work) are regressed by a Gaussian process with a Matern 5/2 kernel; the probability of
working is that of a value below 0 (least-squares classification, Rasmussen and Williams 2006, section 6.5). The kernel
is rough on purpose: the edge of such a region is a jump.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from surrogates.columns import Inputs
from surrogates.gp import GaussianProcess, condition
from surrogates.map_fit import Fitted, Prior, fit_map

Array = NDArray[np.float64]


def fit_region(inputs: Inputs, worked: Array, failed: Array, starts: Sequence[Fitted | None] = (None,)) -> GaussianProcess:
    """A model whose only output is below 0 where rows are likely to work; (a, d) and (b, d) rows, b > 0.

    >>> X = np.linspace(0.0, 1.0, 9)[:, None]
    >>> model = fit_region(Inputs.continuous(1), X[:6], X[6:])
    >>> mean, _ = model.mean_variance(np.array([[0.1], [0.95]]))
    >>> bool(mean[0, 0] < 0 < mean[1, 0])
    True
    """
    X = np.concatenate([worked, failed])
    labels = np.concatenate([-np.ones(len(worked)), np.ones(len(failed))])
    location, spread = Prior.botorch(inputs.dimension).lengthscale
    prior = Prior((location, spread), noise=(-6.0, 1.0), noise_bounds=(1e-4, 0.1), scale=(0.0, 0.5))
    fitted = fit_map(inputs, X, labels, prior, "matern52", starts=tuple(starts))
    return condition(inputs, X, labels[:, None], [fitted], "matern52")
