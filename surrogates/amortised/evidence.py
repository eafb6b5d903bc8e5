"""How probable told values are under hyperparameters, exactly, with gradients and the information that they carry.

z ~ N(0, s^2 A), A = k(r) + offset + noise^2 on the diagonal. Unless it is known, the variance s^2 is integrated out under
an inverse gamma prior of shape a0 and scale b0, which together weigh half a row:

    log p(z) = log Gamma(a) - log Gamma(a0) + a0 log b0 - a log b - log|A| / 2 - n log(2 pi) / 2,
    a = a0 + n / 2,   b = b0 + z^T A^-1 z / 2,   s^2 | z ~ inverse gamma(a, b)

(the multivariate t density; Rasmussen and Williams 2006, equation 9.9 for a = b). Derivatives are those of their equation
5.9, with z z^T weighted by a / b; Fisher's information is that of the Gaussian, less what is lost to the unknown variance.
Where noise variances are known in the units of z, they are divided by the most probable s^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.special import gammaln

from surrogates.amortised.components import KERNELS
from surrogates.amortised.hyperprior import Hyperprior
from surrogates.columns import Inputs
from surrogates.kernels import correlation_and_slope
from surrogates.map_fit import factor

__all__ = ["Evidence", "Likelihood", "SquaredDifferences"]

Array = NDArray[np.float64]
SHAPE, SCALE = 0.5, 0.01  # of the variance's prior, in units of the standardised values
ROUNDS = 4  # of the search for the most probable variance where noise variances are known
SINGLE_FROM = 160  # rows from which the information is computed in single precision


class SquaredDifferences:
    """(d, n n) squared differences of the rows X (n, d), column by column.

    >>> SquaredDifferences(Inputs.continuous(1), np.array([[0.0], [3.0]])).pairs
    array([[0., 9., 9., 0.]])
    """

    def __init__(self, inputs: Inputs, X: Array) -> None:
        features = inputs.features(X)
        self.n, self.d = X.shape
        pairs = np.zeros((self.d, self.n, self.n))
        for feature, column in zip(features.T, inputs.owner, strict=True):
            pairs[column] += (feature[:, None] - feature[None, :]) ** 2
        self.pairs: Array = pairs.reshape(self.d, -1)


@dataclass(frozen=True)
class Likelihood:
    """At one vector of hyperparameters: log density of the values, shape and scale of what is believed of the variance.

    factor: (n, n) lower Cholesky factor of A; None where A cannot be factored: then the density is minus infinity.
    """

    value: float
    shape: float
    scale: float
    factor: Array | None


@dataclass(frozen=True)
class Evidence:
    """Of one output: pairs of its rows, (n,) values, what is believed, (n,) known noise variances or None."""

    rows: SquaredDifferences
    z: Array
    believed: Hyperprior
    variances: Array | None = None

    def at(self, kernel: int, v: Array) -> Likelihood:
        """The likelihood at a kernel and coordinates v (size,)."""
        A, _ = self._correlations(kernel, v)
        noise = float(self.believed.noises(v)) ** 2
        if self.variances is None or self.believed.standard:
            return self._likelihood(A, noise + (0.0 if self.variances is None else self.variances))
        variance, found = 1.0, Likelihood(-np.inf, 1.0, 1.0, None)
        for _ in range(ROUNDS):
            found = self._likelihood(A.copy(), noise + self.variances / variance)
            variance = max(found.scale / (found.shape + 1.0), 1e-12)
        return found

    def slope_and_information(self, kernel: int, v: Array, found: Likelihood) -> tuple[Array, Array]:
        """(size,) derivatives in the coordinates and (size, size) Fisher information, at v, where `found` was found."""
        assert found.factor is not None, "a point that can be factored"
        n, d = self.rows.n, self.rows.d
        inverse = lapack.dpotri(found.factor, lower=1)[0]
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        alpha = inverse @ self.z
        _, slope = self._correlations(kernel, v, with_slope=True)
        moved = self.rows.pairs / self.believed.lengthscales(v)[:, None] ** 2 * slope.reshape(-1)  # (d, n n)
        quadratic = moved @ np.outer(alpha, alpha).reshape(-1)
        trace = moved @ inverse.reshape(-1)
        kind = np.float32 if n >= SINGLE_FROM else np.float64
        carried = np.matmul(inverse.astype(kind), moved.astype(kind).reshape(d, n, n))  # (d, n, n) A^-1 A_j
        information = 0.5 * (carried.reshape(d, -1) @ carried.transpose(0, 2, 1).reshape(d, -1).T).astype(float)
        if self.believed.learns_noise:
            twice = 2.0 * float(self.believed.noises(v)) ** 2
            squared = inverse @ inverse
            cross = 0.5 * twice * (moved @ squared.reshape(-1))
            information = np.block(
                [[information, cross[:, None]], [cross[None], np.array([[0.5 * twice**2 * (squared.trace())]])]]
            )
            quadratic, trace = np.append(quadratic, twice * alpha @ alpha), np.append(trace, twice * inverse.trace())
        weight = 1.0
        if not self.believed.standard:
            weight = found.shape / found.scale
            information = information - 0.25 * np.outer(trace, trace) / found.shape
        rate = self.believed.rates(v)
        return 0.5 * (weight * quadratic - trace) * rate, information * np.outer(rate, rate)

    def _correlations(self, kernel: int, v: Array, with_slope: bool = False) -> tuple[Array, Array]:
        n = self.rows.n
        r2 = (self.believed.lengthscales(v) ** -2.0 @ self.rows.pairs).reshape(n, n)
        k, slope = correlation_and_slope(KERNELS[kernel], r2)
        return (k, slope) if with_slope else (k + self.believed.offset, slope)

    def _likelihood(self, A: Array, extra: Array | float) -> Likelihood:
        n = self.rows.n
        found = factor(A, extra, 1.0)
        if found is None:
            return Likelihood(-np.inf, SHAPE, SCALE, None)
        L = found[0]
        half = lapack.dtrtrs(L, self.z, lower=1)[0]
        fit, log_det = float(half @ half), float(np.log(np.diagonal(L)).sum())
        rest = -log_det - 0.5 * n * math.log(2.0 * math.pi)
        if self.believed.standard:
            return Likelihood(rest - 0.5 * fit, math.inf, math.inf, L)
        shape, scale = SHAPE + 0.5 * n, SCALE + 0.5 * fit
        value = gammaln(shape) - gammaln(SHAPE) + SHAPE * math.log(SCALE) - shape * math.log(scale) + rest
        return Likelihood(float(value), shape, scale, L)
