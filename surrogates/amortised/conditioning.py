"""Inverse Cholesky factors of every component's covariance: from scratch, and grown by blocks when rows are added.

With C the correlation of the rows (offset included) and D the noise, both in units of the scale, L L^T = C + D. Kept is
L^-1: all predictions are then matrix products, and new rows append to it in O(n^2 q):

    [ L   0 ]^-1   [   L^-1          0   ]
    [ B   M ]    = [ -M^-1 B L^-1   M^-1 ],   B = k(new, old) L^-T,   M M^T = k(new, new) + D' - B B^T

(Golub and Van Loan 2013, Matrix Computations, section 4.2.) The density of the new rows under each component,
N(z'; k(new, old) (C + D)^-1 z, scale M M^T), falls out of the same block: it is what reweights a mixture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from surrogates.amortised.components import KERNELS, Components
from surrogates.kernels import Kernel, correlation, squared_distances
from surrogates.map_fit import LOG_2PI, factor
from surrogates.predictor import Predictor, prior_correlation

Array = NDArray[np.float64]
Chosen = NDArray[np.bool_]
BLOCK = 100  # rows of a correlation matrix that are made at once: small enough for the cache
LEAF = 100  # triangles up to this size are inverted by LAPACK


def kernels_of(components: Sequence[Components]) -> tuple[Kernel, ...]:
    """(C,) the kernel of every component of all outputs, one output after the other.

    >>> kernels_of([Components.single("rbf", np.ones(1), 0.1), Components.single("matern32", np.ones(1), 0.1)])
    ('rbf', 'matern32')
    """
    return tuple(KERNELS[int(k)] for part in components for k in part.kernel)


def inverse_factors(
    features: Array, owner: NDArray[np.intp], components: Components, variances: Array | None, inverse: Array
) -> tuple[Array, Chosen]:
    """Fills inverse (K, n, n), all zeros, with L^-1 of the components of one output; gives (K,) jitters and what worked.

    features: (n, p) of the rows; owner: (p,) their columns; variances: (n,) known noise variances, absolute, or None.
    The jitter is in units of the scale. A component without a factor keeps its zeros.

    >>> inverse = np.zeros((1, 1, 1))
    >>> one = Components.single("rbf", np.ones(1), 0.0, offset=3.0)
    >>> inverse_factors(np.zeros((1, 1)), np.array([0]), one, None, inverse), inverse.ravel()
    ((array([0.]), array([ True])), array([0.5]))
    """
    n = len(features)
    jitter, worked, k = np.zeros(len(components)), np.zeros(len(components), dtype=bool), np.zeros((n, n))
    centred = features - features.mean(axis=0)
    with np.errstate(all="ignore"):
        rates = 1.0 / components.lengthscales[:, owner]
        extra = components.noise[:, None] ** 2 + (0.0 if variances is None else variances / components.scale[:, None])
    extra = np.broadcast_to(extra, (len(components), n))
    usable = np.isfinite(rates).all(axis=1) & np.isfinite(extra).all(axis=1) & (components.scale > 0.0)
    for c in np.flatnonzero(usable & np.isfinite(components.scale) & np.isfinite(components.log_weight)):
        scaled = centred * rates[c]
        for start in range(0, n, BLOCK):
            r2 = squared_distances(scaled[start : start + BLOCK], scaled[start:])
            np.einsum("ii->i", r2[:, : len(r2)])[:] = 0.0
            k[start : start + BLOCK, start:] = correlation(components.kernel_name(int(c)), r2)
        k += components.offset
        found = factor(k.T, extra[c], 1.0)  # its lower triangle, in the order that LAPACK reads
        if found is not None:
            invert_triangle(found[0], inverse[c])
            jitter[c], worked[c] = found[1], True
    return jitter, worked


def invert_triangle(L: Array, out: Array) -> None:
    """Writes the inverse of a lower triangular L into the lower triangle of out, both (n, n), by halves.

    Most of the work is then in matrix products, which are several times as fast as LAPACK's inversion.

    >>> out = np.zeros((2, 2))
    >>> invert_triangle(np.array([[2.0, 0.0], [1.0, 4.0]]), out)
    >>> out
    array([[ 0.5  ,  0.   ],
           [-0.125,  0.25 ]])
    """
    if len(L) <= LEAF:
        out[:] = lapack.dtrtri(L, lower=1)[0]
        return
    half = len(L) // 2
    first, second = slice(0, half), slice(half, len(L))
    invert_triangle(L[first, first], out[first, first])
    invert_triangle(L[second, second], out[second, second])
    out[second, first] = -(out[second, second] @ (L[second, first] @ out[first, first]))


def grown(predictor: Predictor, jitter: Array, X: Array, Z: Array, extra: Array) -> tuple[Array, Array, Array, Chosen]:
    """Inverse factors (C, n + q, n + q), jitters (C,) and log densities (C,) of q new rows, and which components worked.

    X: (q, d); Z: (q, C) targets as each component sees them; extra: (C, q) noise variances in units of the scale. A
    component that did not work has the density minus infinity.

    >>> from surrogates.columns import Inputs
    >>> one, row = np.ones((1, 1)), np.zeros((1, 1))
    >>> told = Predictor(Inputs.continuous(1), "rbf", row, one, np.ones(1), np.zeros(1), one[None], one[None])
    >>> inverse, _, density, _ = grown(told, np.zeros(1), row, one, 4.0 * one)  # the same value again, noise variance 4
    >>> inverse.tolist(), density.round(4)
    ([[[1.0, 0.0], [-0.5, 0.5]]], array([-1.6121]))
    """
    features = predictor.inputs.features(X)
    kernels = predictor.kernel
    rates = 1.0 / predictor.lengthscales[:, predictor.inputs.owner]
    k = predictor.correlations(features)[0]  # (C, q, n)
    low = np.matmul(predictor.inverse, k.transpose(0, 2, 1)).transpose(0, 2, 1)  # (C, q, n) the block B
    corner = prior_correlation(kernels, features, features, rates, predictor.offset)
    corner -= np.matmul(low, low.transpose(0, 2, 1))
    missing = (Z - predictor.mean).T - np.matmul(k, predictor.weights)[:, :, 0]
    across = -np.matmul(low, predictor.inverse)
    count, q, n = k.shape
    inverse = np.zeros((count, n + q, n + q))
    inverse[:, :n, :n] = predictor.inverse
    jitter, density = jitter.copy(), np.full(count, -np.inf)
    for c in range(count):
        found = factor(corner[c], extra[c] + jitter[c], 1.0)
        if found is None:
            continue
        own = lapack.dtrtri(found[0], lower=1)[0]
        inverse[c, n:, :n], inverse[c, n:, n:] = own @ across[c], own
        jitter[c] = max(jitter[c], found[1])
        with np.errstate(over="ignore"):
            squares = ((own @ missing[c]) ** 2).sum() / predictor.scale[c]
        density[c] = -0.5 * (squares + q * (LOG_2PI + np.log(predictor.scale[c]))) + np.log(np.diagonal(own)).sum()
    return inverse, jitter, density, np.asarray(inverse[:, -1, -1] > 0.0)
