"""Means and variances of several Gaussian process outputs at once, and the way back for gradients.

Every output has its own correlation matrix over the same N base points, and its own kernel where they differ. To the
correlation an `offset` may be added: the variance, in units of the scale, of a constant mean that is integrated out.
An output may hold S vectors of base values instead of one (draws of noisy or pending values): its variance does not
depend on them, so S means cost little more than one. `forward` gives means and variances of q points; `backward` turns derivatives of any function of those into a
gradient in x, without a derivative array of shape (q, N, d) ever being made. Computation is in blocks of BLAS calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from surrogates.columns import Inputs
from surrogates.kernels import Kernel, correlation_and_slope

Array = NDArray[np.float64]
LARGE = 4096  # numbers per output from which on outputs are taken one by one, so that they stay in the cache
FLOOR = 1e-14  # smallest share of the prior variance that a posterior variance may have


@dataclass(frozen=True)
class Moments:
    """mean (m, q, S) and variance (m, q) of m outputs at q points, with what `backward` needs."""

    mean: Array
    variance: Array
    points: Array  # (q, p) features
    slope: Array  # (m, q, N) the g of surrogates.kernels
    half: Array  # (m, N, q) inverse factor times correlation
    rates: Array | None = field(default=None, kw_only=True)  # (q, d) derivatives of warped numbers in the numbers


class Beliefs(Protocol):
    """Means and variances of m outputs with gradients by formula: Gaussian processes, or what stands in for them."""

    def forward(self, X: Array, /) -> Moments:
        """Moments at (q, d) points."""
        ...

    def backward(self, moments: Moments, by_mean: Array, by_variance: Array, /) -> Array:
        """(q, d) gradient of a function whose derivatives in means (m, q, S) and variances (m, q) are given."""
        ...

    def slopes(self, moments: Moments, /) -> tuple[Array, Array]:
        """(m, q, d) gradients of every output's mean and variance."""
        ...


@dataclass(frozen=True)
class Predictor:
    """m outputs over N base points.

    kernel: of all outputs, or one for each; lengthscales: (m, d); scale: (m,) prior variances; mean: (m,) prior means;
    inverse: (m, N, N) inverses of the lower Cholesky factors of the correlation matrices (offset and noise included);
    weights: (m, N, S) = K^-1 (values - mean); offset: (m,), or one number, that is added to every correlation.
    """

    inputs: Inputs
    kernel: Kernel | tuple[Kernel, ...]
    X: Array
    lengthscales: Array
    scale: Array
    mean: Array
    inverse: Array
    weights: Array
    offset: Array | float = 0.0

    def take(self, chosen: NDArray[np.intp]) -> Predictor:
        """The outputs at the given places, in that order."""
        kernel = self.kernel if isinstance(self.kernel, str) else tuple(self.kernel[j] for j in chosen)
        return replace(
            self, kernel=kernel, lengthscales=self.lengthscales[chosen], scale=self.scale[chosen],
            mean=self.mean[chosen], inverse=self.inverse[chosen], weights=self.weights[chosen],
            offset=self.offset[chosen] if isinstance(self.offset, np.ndarray) else self.offset,
        )  # fmt: skip

    @cached_property
    def _owner(self) -> NDArray[np.intp]:
        return self.inputs.owner

    @cached_property
    def _features(self) -> Array:
        return self.inputs.features(self.X)

    @cached_property
    def _rates(self) -> Array:
        return np.asarray(1.0 / self.lengthscales[:, self._owner])

    @cached_property
    def _scaled(self) -> Array:
        return np.asarray(self._features[None] * self._rates[:, None, :])

    @cached_property
    def _norms(self) -> Array:
        return np.asarray((self._scaled**2).sum(axis=-1))

    def correlations(self, features: Array) -> tuple[Array, Array]:
        """k (offset included) and g, each (m, q, N), between q feature rows and the base points."""
        return correlations_and_slopes(self.kernel, self.distances(features), self.offset)

    def distances(self, features: Array) -> Array:
        """(m, q, N) scaled squared distances of q feature rows from the base points."""
        scaled = features[None] * self._rates[:, None, :]
        r2 = np.matmul(scaled, self._scaled.transpose(0, 2, 1))
        r2 *= -2.0
        r2 += (scaled**2).sum(axis=-1)[:, :, None]
        r2 += self._norms[:, None, :]
        np.maximum(r2, 0.0, out=r2)
        return np.asarray(r2)

    def forward(self, X: Array) -> Moments:
        """Moments at (q, d) points. Variances are those of the noise-free function."""
        points = self.inputs.features(X)
        k, g = self.correlations(points)
        mean = np.matmul(k, self.weights) + self.mean[:, None, None]
        half = np.matmul(self.inverse, k.transpose(0, 2, 1))
        share = 1.0 + np.reshape(self.offset, (-1, 1)) - np.einsum("mnq,mnq->mq", half, half)
        return Moments(
            mean, self.scale[:, None] * np.maximum(share, FLOOR), points, g, half, rates=self.inputs.rates(X)
        )

    def backward(self, moments: Moments, by_mean: Array, by_variance: Array) -> Array:
        """(q, d) gradient in x of a function whose derivatives in the means (m, q, S) and variances (m, q) are given.

        Category columns get a zero.
        """
        solved = np.matmul(self.inverse.transpose(0, 2, 1), moments.half)  # (m, N, q)
        weight = np.matmul(by_mean, self.weights.transpose(0, 2, 1))
        weight -= 2.0 * (self.scale[:, None] * by_variance)[:, :, None] * solved.transpose(0, 2, 1)
        return self._in_columns(moments, self._along(moments, weight).sum(axis=0))

    def _in_columns(self, moments: Moments, by_feature: Array) -> Array:
        """Derivatives in the features (..., q, p) as derivatives in the columns (..., q, d)."""
        by_column = self.inputs.in_columns(by_feature)
        return by_column if moments.rates is None else by_column * moments.rates

    def _along(self, moments: Moments, weight: Array) -> Array:
        """(..., m, q, p) derivatives in the features of sum_b weight_b k_b, for weights (..., m, q, N), which are used up."""
        weight *= moments.slope
        pulled = np.matmul(weight, self._features)
        pulled -= moments.points * weight.sum(axis=-1)[..., None]
        return np.asarray((self._rates**2)[:, None, :] * pulled)

    def slopes(self, moments: Moments) -> tuple[Array, Array]:
        """(m, q, d) gradients in x of every output's mean (averaged over the S vectors) and of its variance."""
        solved = np.matmul(self.inverse.transpose(0, 2, 1), moments.half).transpose(0, 2, 1)  # (m, q, N)
        weight = np.stack(
            [
                np.broadcast_to(self.weights.mean(axis=2)[:, None, :], solved.shape),
                -2.0 * self.scale[:, None, None] * solved,
            ]
        )
        both = self._in_columns(moments, self._along(moments, weight))
        return both[0], both[1]

    def pull_covariance(self, moments: Moments, B: Array, by_covariance: Array, output: int = 0) -> Array:
        """(q, d) gradient in x of sum_k w_k cov(x, B_k) of one output, for weights by_covariance (q, k) and rows B (k, d)."""
        features = self.inputs.features(B)
        rate, kernel = self._rates[output], self.kernel if isinstance(self.kernel, str) else self.kernel[output]
        scaled, points = features * rate, moments.points * rate
        r2 = (points**2).sum(axis=1)[:, None] + (scaled**2).sum(axis=1)[None, :] - 2.0 * points @ scaled.T
        direct = by_covariance * correlation_and_slope(kernel, np.maximum(r2, 0.0))[1]
        direct *= self.share(moments.points, features)[output]
        gradient = direct @ features - moments.points * direct.sum(axis=1)[:, None]
        one = self.take(np.array([output]))
        half = one.inverse[0] @ one.correlations(features)[0][0].T  # (N, k)
        through = np.zeros(moments.slope.shape)
        through[output] = (by_covariance @ half.T) @ one.inverse[0]
        along = self._along(moments, through)[output]
        return self._in_columns(moments, self.scale[output] * (gradient * rate**2 - along))

    def share(self, left: Array, right: Array) -> Array:
        """(m, a, b) factor of the correlations between feature rows that does not depend on numbers, or (m, 1, 1)."""
        return np.ones((len(self.scale), 1, 1))

    def prior(self, left: Array, right: Array) -> Array:
        """(m, a, b) correlations between feature rows (a, p) and (b, p) before any data."""
        return prior_correlation(self.kernel, left, right, self._rates, self.offset)

    def covariance(self, A: Array, B: Array | None = None) -> Array:
        """(m, a, b) posterior covariances of the noise-free functions between the rows of A and B (default A)."""
        left = self.inputs.features(A)
        right = left if B is None else self.inputs.features(B)
        half_left = np.matmul(self.inverse, self.correlations(left)[0].transpose(0, 2, 1))
        half_right = half_left if B is None else np.matmul(self.inverse, self.correlations(right)[0].transpose(0, 2, 1))
        prior = self.prior(left, right)
        return np.asarray(self.scale[:, None, None] * (prior - np.matmul(half_left.transpose(0, 2, 1), half_right)))


def prior_correlation(
    kernel: Kernel | tuple[Kernel, ...], A: Array, B: Array, rates: Array, offset: Array | float = 0.0
) -> Array:
    """(m, a, b) correlations between feature rows A (a, p) and B (b, p) for inverse lengthscales (m, p).

    kernel and offset: of all m, or one for each.

    >>> point = np.zeros((1, 2))
    >>> prior_correlation(("rbf", "matern32"), point, point, np.ones((2, 2)), np.array([0.0, 10.0])).ravel()
    array([ 1., 11.])
    """
    left = A[None] * rates[:, None, :]
    right = B[None] * rates[:, None, :]
    r2 = (left**2).sum(axis=-1)[:, :, None] + (right**2).sum(axis=-1)[:, None, :]
    r2 -= 2.0 * np.matmul(left, right.transpose(0, 2, 1))
    return correlations_and_slopes(kernel, np.maximum(r2, 0.0), offset)[0]


def correlations_and_slopes(
    kernel: Kernel | tuple[Kernel, ...], r2: Array, offset: Array | float = 0.0
) -> tuple[Array, Array]:
    """k + offset and g (see `surrogates.kernels`) at scaled squared distances (m, ...), by the kernel of each of the m.

    >>> k, g = correlations_and_slopes(("rbf", "matern32"), np.zeros((2, 1)), 1.0)
    >>> k.ravel(), g.ravel()
    (array([2., 2.]), array([1., 3.]))
    """
    names = (kernel,) * len(r2) if isinstance(kernel, str) else kernel
    if len(set(names)) == 1 and (len(r2) == 1 or r2[0].size < LARGE):
        k, g = correlation_and_slope(names[0], r2)
    elif r2[0].size < LARGE:
        k, g = np.empty_like(r2), np.empty_like(r2)
        for name in sorted(set(names)):
            own = np.flatnonzero([other == name for other in names])
            k[own], g[own] = correlation_and_slope(name, r2[own])
    else:
        k, g = np.empty_like(r2), np.empty_like(r2)
        for j, name in enumerate(names):
            k[j], g[j] = correlation_and_slope(name, r2[j])
    if np.any(offset):
        k = k + np.reshape(offset, (-1, *[1] * (r2.ndim - 1)))  # for the RBF kernel, k and g may be one array
    return k, g
