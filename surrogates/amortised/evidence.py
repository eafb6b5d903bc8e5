"""How probable told values are under hyperparameters, exactly, with gradients and the information that they carry.

z ~ N(0, s^2 A), A = k(r) + offset + noise^2 on the diagonal. Unless it is known, the variance s^2 is integrated out under
an inverse gamma prior of shape a0 and scale b0, which together weigh half a row:

    log p(z) = log Gamma(a) - log Gamma(a0) + a0 log b0 - a log b - log|A| / 2 - n log(2 pi) / 2,
    a = a0 + n / 2,   b = b0 + z^T A^-1 z / 2,   s^2 | z ~ inverse gamma(a, b)

(the multivariate t density; Rasmussen and Williams 2006, equation 9.9 for a = b). Derivatives are those of their equation
5.9, with z z^T weighted by a / b; Fisher's information is that of the Gaussian, less what is lost to the unknown variance.
Noise variances D that are known in the units of z do not go along with s^2. Then t = log s^2 is integrated by Laplace's
method instead: t* at the top of log N(z; 0, s^2 A + D) + log p(t), found by Newton's method, and H, minus the second
derivative there, stand for a and b by way of a = H, b = H s*^2, which have the same top and curvature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.special import gammaln

from surrogates.amortised.components import KERNELS
from surrogates.amortised.hyperprior import Hyperprior
from surrogates.columns import Inputs
from surrogates.kernels import Kernel, correlation, correlation_and_slope
from surrogates.map_fit import factor

__all__ = ["Evidence", "Likelihood", "SquaredDifferences", "slope_and_bend"]

Array = NDArray[np.float64]
SHAPE, SCALE = 0.5, 0.01  # of the variance's prior, in units of the standardised values
ROUNDS, NEAR, LONGEST = 12, 0.02, 2.0  # of Newton's method for log s^2; step with which it ends; longest step
PROBES_FROM, PROBES = 160, 32  # rows from which the information is estimated (Hutchinson 1990), and vectors for that
LEAST_CURVATURE = 0.25  # of the log posterior in any direction, in units of the prior's
LOG_2PI = math.log(2.0 * math.pi)
STEP = 1e-4  # of coordinates, for the second derivatives of log lengthscales in them


class SquaredDifferences:
    """Squared differences of the rows X (n, d), column by column: `pairs` (d, n n), and `packed` (d, n (n + 1) / 2) of them.

    >>> SquaredDifferences(Inputs.continuous(1), np.array([[0.0], [3.0]])).packed
    array([[0., 9., 0.]])
    """

    def __init__(self, inputs: Inputs, X: Array) -> None:
        features = inputs.features(X)
        self.n, self.d = X.shape
        pairs = np.zeros((self.d, self.n, self.n))
        for feature, column in zip(features.T, inputs.owner, strict=True):
            pairs[column] += (feature[:, None] - feature[None, :]) ** 2
        self.pairs: Array = pairs.reshape(self.d, -1)
        self.first, self.second = np.triu_indices(self.n)
        self.packed: Array = self.pairs[:, self.first * self.n + self.second]

    @cached_property
    def probes(self) -> Array:
        """(n, PROBES) random signs, the same every time."""
        return np.where(np.random.default_rng(0).random((self.n, PROBES)) < 0.5, -1.0, 1.0)


@dataclass(frozen=True)
class Likelihood:
    """At one vector of hyperparameters: log density of the values, shape and scale of what is believed of the variance.

    factor: (n, n) lower Cholesky factor of A, and the jitter in it; None where A cannot be factored: then the density is
    minus infinity. variance: what known noise variances were divided by, None where there are none.
    """

    value: float
    shape: float
    scale: float
    factor: Array | None
    jitter: float = 0.0
    variance: float | None = None


NONE = Likelihood(-math.inf, SHAPE, SCALE, None)


@dataclass(frozen=True)
class Evidence:
    """Of one output: pairs of its rows, (n,) values, what is believed, (n,) known noise variances or None."""

    rows: SquaredDifferences
    z: Array
    believed: Hyperprior
    variances: Array | None = None

    def at(self, kernel: NDArray[np.intp], v: Array) -> list[Likelihood]:
        """The likelihoods at kernels (S,) with coordinates v (S, size)."""
        r2 = self.believed.lengthscales(v) ** -2.0 @ self.rows.packed  # (S, n (n + 1) / 2)
        noise = self.believed.noises(v) ** 2
        return [
            self._one(correlation(KERNELS[kernel[s]], r2[s]) + self.believed.offset, float(noise[s]))
            for s in range(len(v))
        ]

    def height(self, found: list[Likelihood], kernel: NDArray[np.intp], v: Array) -> Array:
        """(S,) log posterior densities, up to the evidence, where the likelihoods were found."""
        return np.array([each.value for each in found]) + self.believed.log_density(kernel, v)

    def slope(self, kernel: int, v: Array, found: Likelihood) -> Array:
        """(size,) derivatives of the log posterior in the coordinates v, where `found` was found, at a third of the price."""
        assert found.factor is not None, "a point that can be factored"
        first, second = self.rows.first, self.rows.second
        inverse = _inverted(found.factor)
        alpha = inverse @ self.z
        weight = 1.0 if self.believed.standard else found.shape / found.scale
        rates = self.believed.lengthscales(v) ** -2.0
        slope = correlation_and_slope(KERNELS[kernel], rates @ self.rows.packed)[1]
        left = weight * alpha[first] * alpha[second] - inverse[first, second]
        gradient = rates * (self.rows.packed @ (slope * left))
        if self.believed.learns_noise:
            last = float(self.believed.noises(v)) ** 2 * (weight * alpha @ alpha - inverse.trace())
            gradient = np.append(gradient, last)
        return np.asarray(gradient * self.believed.rates(v) - v)

    def slope_and_curvature(self, kernel: int, v: Array, found: Likelihood) -> tuple[Array, Array, Array]:
        """(size,) derivatives of the log posterior in the coordinates v, and two (size, size) curvatures.

        The first is what is expected of it, Fisher's information plus the prior's, no direction flatter than the prior
        (estimates can err there); the second is what it is, its negative second derivatives, none flatter than
        LEAST_CURVATURE.
        """
        assert found.factor is not None, "a point that can be factored"
        n, d = self.rows.n, self.rows.d
        first, second = self.rows.first, self.rows.second
        inverse = _inverted(found.factor)
        alpha = inverse @ self.z
        weight = 1.0 if self.believed.standard else found.shape / found.scale
        rates = self.believed.lengthscales(v) ** -2.0
        slope, bend = slope_and_bend(KERNELS[kernel], rates @ self.rows.packed)
        outer, within = alpha[first] * alpha[second], inverse[first, second]
        # sums over all pairs are twice those over the packed ones: a row has no distance from itself
        known, through, pairs = np.zeros(n), np.zeros((n, n)), [outer, within]
        if found.variance is not None and self.variances is not None:
            known = self.variances / found.variance
            through = (inverse * known) @ inverse  # A^-1 (D / s^2) A^-1
            pairs.append(through[first, second])
        sums = rates[:, None] * (self.rows.packed @ (2.0 * slope[:, None] * np.column_stack(pairs)))
        quadratic, trace = sums[:, 0], sums[:, 1]
        aside = sums[:, 2] if len(pairs) > 2 else np.zeros(d)
        left = weight * outer - within
        bent = (self.rows.packed * (-2.0 * left * bend)) @ self.rows.packed.T * np.outer(rates, rates)
        curved = bent - np.diag(weight * quadratic - trace)
        whole = _unpacked(slope, n)
        moved = self.rows.pairs.reshape(d, n, n) * whole * rates[:, None, None]  # dA / dlog l_j
        pulled = moved @ alpha  # (d, n)
        crossed = self._crossed(moved, inverse, found.factor)
        if self.believed.learns_noise:
            twice = 2.0 * float(self.believed.noises(v)) ** 2
            squared = inverse @ inverse
            side = twice * rates * (self.rows.packed @ (2.0 * slope * squared[first, second]))
            crossed = np.block([[crossed, side[:, None]], [side[None], np.array([[twice**2 * squared.trace()]])]])
            quadratic, trace = np.append(quadratic, twice * alpha @ alpha), np.append(trace, twice * inverse.trace())
            aside = np.append(aside, twice * through.trace())
            pulled = np.vstack([pulled, twice * alpha])
            last = twice * (weight * alpha @ alpha - inverse.trace())
            curved = np.block([[curved, np.zeros((d, 1))], [np.zeros((1, d)), np.array([[last]])]])
        expected = 0.5 * crossed
        actual = weight * pulled @ inverse @ pulled.T - expected - curved
        if not self.believed.standard:  # less what log s^2 has in common with the others
            common = 0.5 * (trace - aside)
            expected = expected - np.outer(common, common) / found.shape
            common = 0.5 * weight * (quadratic - 2.0 * pulled @ (inverse @ (known * alpha))) + 0.5 * aside
            actual -= np.outer(common, common) / found.shape
        rate = self.believed.rates(v)
        gradient = 0.5 * (weight * quadratic - trace)
        turn = (self.believed.rates(v + STEP) - self.believed.rates(v - STEP)) / (2.0 * STEP)
        actual = actual * np.outer(rate, rate) - np.diag(gradient * turn)
        eye = np.eye(len(v))
        expected = expected * np.outer(rate, rate) + eye
        return gradient * rate - v, _bounded(expected, 1.0), _bounded(actual + eye, LEAST_CURVATURE)

    def _crossed(self, moved: Array, inverse: Array, factor: Array) -> Array:
        """(d, d) traces tr(A^-1 A_i A^-1 A_j); estimated from random signs where there are many rows."""
        n, d = self.rows.n, self.rows.d
        if n < PROBES_FROM:
            carried = np.matmul(inverse, moved)  # (d, n, n) A^-1 A_j
            return np.asarray(carried.reshape(d, -1) @ carried.transpose(0, 2, 1).reshape(d, -1).T)
        back = lapack.dtrtrs(factor, self.rows.probes, lower=1, trans=1)[0]
        there = np.matmul(moved, back).transpose(1, 0, 2).reshape(n, -1)
        there = lapack.dtrtrs(factor, there, lower=1)[0].reshape(n, d, -1).transpose(1, 0, 2).reshape(d, -1)
        return np.asarray(there @ there.T / PROBES)

    def _one(self, packed: Array, noise: float) -> Likelihood:
        """The likelihood for a packed A without noise."""
        if self.variances is None:
            return self._likelihood(packed, noise)
        if self.believed.standard:
            return self._likelihood(packed, noise + self.variances)
        return self._with_known_noise(packed, noise, self.variances)

    def _with_known_noise(self, packed: Array, noise: float, variances: Array) -> Likelihood:
        """The likelihood where the variance s^2 has to be searched for, from 1 on; M = A + D / s^2."""
        n, t = self.rows.n, 0.0
        for turn in range(ROUNDS):
            variance = math.exp(t)
            known = variances / variance
            found = self._factored(packed, noise + known)
            if found is None:
                return NONE
            L, jitter = found
            inverse = _inverted(L)
            alpha = inverse @ self.z
            rest = self.z - known * alpha  # A alpha
            fit, own = float(alpha @ self.z) / variance, float(alpha @ rest) / variance
            twice = float(rest @ inverse @ rest) / variance
            whole = float(np.diagonal(inverse) @ known)  # tr M^-1 D / s^2
            both = n - 2.0 * whole + float(known @ inverse**2 @ known)  # tr (M^-1 A)^2
            height = -0.5 * (fit + n * (t + LOG_2PI)) - float(np.log(np.diagonal(L)).sum())
            height += SHAPE * math.log(SCALE) - gammaln(SHAPE) - SHAPE * t - SCALE / variance
            slope = 0.5 * (own - n + whole) - SHAPE + SCALE / variance
            expected = 0.5 * both + SCALE / variance
            curved = max(SCALE / variance - 0.5 * (own - 2.0 * twice - n + whole + both), 0.25 * expected)
            step = slope / curved
            if abs(step) < NEAR or turn == ROUNDS - 1:
                break
            t += min(max(step, -LONGEST), LONGEST)
        value = height + 0.5 * min(slope * step, 1.0) + 0.5 * (LOG_2PI - math.log(curved))
        return Likelihood(float(value), curved, curved * variance, L, jitter, variance)

    def _factored(self, packed: Array, extra: Array | float) -> tuple[Array, float] | None:
        """Lower Cholesky factor of a packed A with more on its diagonal, and the jitter that it took; or None."""
        n = self.rows.n
        A, _ = lapack.dtpttr(n, packed, uplo="L")
        np.einsum("ii->i", A)[:] += extra
        L, failed = lapack.dpotrf(A, lower=1, clean=1)
        if not failed and np.isfinite(L[n - 1, n - 1]):
            return L, 0.0
        A, _ = lapack.dtpttr(n, packed, uplo="L")
        return factor(A, extra, 1.0)

    def _likelihood(self, packed: Array, extra: Array | float) -> Likelihood:
        """The likelihood where all of the diagonal goes along with s^2, or s^2 is known."""
        n, found = self.rows.n, self._factored(packed, extra)
        if found is None:
            return NONE
        L, jitter = found
        half = lapack.dtrtrs(L, self.z, lower=1)[0]
        fit, log_det = float(half @ half), float(np.log(np.diagonal(L)).sum())
        rest = -log_det - 0.5 * n * LOG_2PI
        if self.believed.standard:
            return Likelihood(rest - 0.5 * fit, math.inf, math.inf, L, jitter)
        shape, scale = SHAPE + 0.5 * n, SCALE + 0.5 * fit
        value = gammaln(shape) - gammaln(SHAPE) + SHAPE * math.log(SCALE) - shape * math.log(scale) + rest
        return Likelihood(float(value), shape, scale, L, jitter)


def slope_and_bend(kernel: Kernel, r2: Array) -> tuple[Array, Array]:
    """g = -2 dk/dr2 and dg/dr2 at squared scaled distances; the second of a Matern-3/2 kernel is infinite at 0: cut there.

    >>> slope, bend = slope_and_bend("rbf", np.array([0.0]))
    >>> float(slope[0]), float(bend[0])
    (1.0, -0.5)
    """
    g = correlation_and_slope(kernel, r2)[1]
    if kernel == "rbf":
        return g, -0.5 * g
    if kernel == "matern52":
        return g, -(25.0 / 6.0) * np.exp(-np.sqrt(5.0 * r2))
    return g, -0.5 * np.sqrt(3.0) * g / np.sqrt(np.maximum(r2, 1e-12))


def _inverted(L: Array) -> Array:
    """The (n, n) inverse of the matrix of which L is the lower Cholesky factor."""
    lower = lapack.dpotri(L, lower=1)[0]
    return np.asarray(np.tril(lower) + np.tril(lower, -1).T)


def _unpacked(packed: Array, n: int) -> Array:
    """The (n, n) symmetric matrix behind a packed one."""
    lower, _ = lapack.dtpttr(n, packed, uplo="L")
    lower = np.tril(lower)
    return np.asarray(lower + lower.T - np.diag(np.diagonal(lower)))


def _bounded(curvature: Array, least: float) -> Array:
    """A symmetric matrix with its eigenvalues raised to `least`."""
    if not np.isfinite(curvature).all():
        return np.full_like(curvature, np.nan)
    value, vector = np.linalg.eigh(0.5 * (curvature + curvature.T))
    return np.asarray((vector * np.maximum(value, least)) @ vector.T)
