"""What a Gaussian process says of the gradient of a function: jointly normal, with a covariance by formula.

Differentiation is linear, so the gradient of a Gaussian process is one (Rasmussen and Williams 2006, section 9.4):
    cov(df/dx_i, df/dx_j | data) = s (d2 k(x, x') / dx_i dx'_j - (L^-1 dk_i)^T (L^-1 dk_j))  at x' = x,
s the output scale, dk_i the derivatives of the correlations between x and the base points. The means are the gradients of the
mean (`Predictor.slopes`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from surrogates.kernels import correlation_and_slope
from surrogates.predictor import Predictor

Array = NDArray[np.float64]


def slope_covariance(predictor: Predictor, x: Array) -> Array:
    """(m, d, d) posterior covariances of the gradients of m outputs at a point (d,); zero for category columns.

    predictor: of values alone, with kernels that have second derivatives at 0 (RBF, Matern 5/2).

    >>> from surrogates.columns import Inputs
    >>> from surrogates.gp import fit_gp
    >>> from surrogates.map_fit import Prior
    >>> X = np.linspace(0.0, 1.0, 5)[:, None]
    >>> predictor = fit_gp(Inputs.continuous(1), X, np.sin(5.0 * X), [Prior.noiseless(1)]).predictor
    >>> at, off = (float(slope_covariance(predictor, np.array([x]))[0, 0, 0]) for x in (0.5, 1.5))
    >>> at < off
    True
    """
    moments = predictor.forward(x[None])
    weight = np.array(predictor.inverse.transpose(1, 0, 2)[:, :, None, :])  # a copy: it is used up
    through = _in_columns(predictor, moments.rates, predictor._along(moments, weight)[:, :, 0])  # (N, m, d)
    kernels = (predictor.kernel,) * len(predictor.scale) if isinstance(predictor.kernel, str) else predictor.kernel
    at_zero = np.array([float(correlation_and_slope(kernel, np.zeros(1))[1][0]) for kernel in kernels])
    rates = 1.0 / predictor.lengthscales[:, predictor.inputs.owner]
    prior = (at_zero[:, None] * rates**2)[:, :, None] * np.eye(rates.shape[1])
    for _ in range(2):
        prior = _in_columns(predictor, moments.rates, prior).transpose(0, 2, 1)
    return np.asarray(predictor.scale[:, None, None] * (prior - np.einsum("nmi,nmj->mij", through, through)))


def _in_columns(predictor: Predictor, rates: Array | None, by_feature: Array) -> Array:
    by_column = predictor.inputs.in_columns(by_feature)
    return by_column if rates is None else by_column * rates[0]
