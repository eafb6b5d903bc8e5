"""What a set of Gaussian processes believes of the gradient of each function: its mean, and the covariance of its entries.

The gradient of a Gaussian process is one too (Rasmussen and Williams 2006, section 9.4): with J = dk(x, X)/dx,

    E[grad f(x)] = J (C + D)^-1 z,   Cov[grad f(x)] = scale (g(0) diag(1 / l^2) - J (C + D)^-1 J^T)

because d^2 k(x, x') / dx_i dx'_j = g(0) / l_i^2 where x = x' and i = j, and 0 otherwise (g as in `surrogates.kernels`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from surrogates.kernels import correlation_and_slope
from surrogates.predictor import Predictor

Array = NDArray[np.float64]


def gradient_moments(predictor: Predictor, X: Array, log_weight: Array, parts: list[slice]) -> tuple[Array, Array]:
    """(q, m, d) means and (q, m, d, d) covariances of the gradients at (q, d) points; zero for category columns.

    parts: the outputs of `predictor` that are the components of each of the m outputs, with the weights exp(log_weight).
    The covariance of a mixture is the mean of its components' covariances plus the covariance of their means.

    >>> from surrogates.columns import Inputs
    >>> one, row = np.ones((1, 1)), np.zeros((1, 1))
    >>> told = Predictor(Inputs.continuous(1), "rbf", row, 0.5 * one, np.ones(1), np.zeros(1), one[None], one[None])
    >>> gradient_moments(told, row, np.zeros(1), [slice(0, 1)])  # at the row: 0 on average, 1 / 0.5^2
    (array([[[0.]]]), array([[[[4.]]]]))
    """
    q, d = X.shape
    means, covariances = np.zeros((q, len(parts), d)), np.zeros((q, len(parts), d, d))
    weights = np.exp(log_weight)
    slopes = predictor.slopes(predictor.forward(X))[0]  # (C, q, d)
    for j, part in enumerate(parts):
        means[:, j] = np.einsum("k,kqd->qd", weights[part], slopes[part])
        for c in range(part.start, part.stop):
            apart = slopes[c] - means[:, j]
            covariances[:, j] += weights[c] * (_covariance(predictor, c, X) + apart[:, :, None] * apart[:, None, :])
    return means, covariances


def _covariance(predictor: Predictor, index: int, X: Array) -> Array:
    """(q, d, d) covariances of the gradient of one component."""
    inputs, one = predictor.inputs, predictor.take(np.array([index]))
    points, base = inputs.features(X), inputs.features(predictor.X)
    rate = 1.0 / one.lengthscales[0, inputs.owner]
    kernel = one.kernel if isinstance(one.kernel, str) else one.kernel[0]
    g = one.correlations(points)[1][0]  # (q, n)
    J = -g[:, :, None] * (points[:, None, :] - base[None]) * rate**2
    half = np.matmul(one.inverse[0], inputs.in_columns(J))  # (q, n, d)
    prior = np.diag(inputs.in_columns(correlation_and_slope(kernel, np.zeros(1))[1] * rate**2))
    return np.asarray(one.scale[0] * (prior - np.matmul(half.transpose(0, 2, 1), half)))
