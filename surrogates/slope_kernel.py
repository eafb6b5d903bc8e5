"""Correlations of function values with partial derivatives, and of partial derivatives with each other.

With u_j = (x_j - x'_j) / l_j and the radial functions k, g = -2 k', h = -2 g' of `surrogates.kernels`, and derivatives taken
in units of the lengthscale, l_j df/dx_j, so that every observation has the same prior variance up to a constant:
    cov(f(x), l_j df(x')/dx'_j)                   = g u_j
    cov(l_i df(x)/dx_i, l_j df(x')/dx'_j)         = g [i = j] - h u_i u_j
Rasmussen and Williams 2006, section 9.4; Solak et al. 2002, "Derivative observations in Gaussian process models of
dynamic systems" (NeurIPS 15), equations 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surrogates.columns import Inputs
from surrogates.kernels import Kernel, correlation_and_slope, curvatures, squared_distances

Array = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class Sites:
    """What was observed where: s partial derivatives, then n values.

    rows: (s,) rows of X (n, d); columns: (s,) the columns along which the derivative is; n: number of values.
    """

    rows: Index
    columns: Index
    n: int

    @property
    def count(self) -> int:
        """Number of derivatives s."""
        return len(self.rows)

    @property
    def all(self) -> Index:
        """(s + n,) the row of X of every observation."""
        return np.concatenate([self.rows, np.arange(self.n)])

    def features(self, inputs: Inputs, X: Array) -> Array:
        """(s + n, p) features of all observations."""
        return inputs.features(X)[self.all]

    def places(self, inputs: Inputs) -> Index:
        """(s,) the feature that belongs to each derivative's column."""
        first = np.searchsorted(inputs.owner, np.arange(inputs.dimension))
        return np.asarray(first[self.columns])


def radial(kernel: Kernel, r2: Array) -> tuple[Array, Array, Array]:
    """k, g and h."""
    k, g = correlation_and_slope(kernel, r2)
    return k, g, curvatures(kernel, r2)[0]


def own_variances(kernel: Kernel, sites: Sites) -> Array:
    """(s + n,) prior variances of all observations of a function of variance 1: g(0) of derivatives, 1 of values.

    >>> own_variances("rbf", Sites(np.array([0]), np.array([0]), 2))
    array([1., 1., 1.])
    """
    return np.concatenate([np.full(sites.count, 1.0 if kernel == "rbf" else 5.0 / 3.0), np.ones(sites.n)])


def joint_correlations(kernel: Kernel, features: Array, places: Index, rates: Array) -> Array:
    """(N, N) correlations of s derivatives, along the features `places` (s,), followed by N - s values.

    features: (N, p) of all observations; rates: (p,) inverse lengthscales.
    """
    scaled = features * rates
    k, g, h = radial(kernel, squared_distances(scaled, scaled))
    s = len(places)
    across = apart(scaled, places)  # (N, s): x - x' of each observation x and derivative's point x'
    C = k
    C[s:, :s] = g[s:, :s] * across[s:]
    C[:s, s:] = C[s:, :s].T
    C[:s, :s] = g[:s, :s] * (places[:, None] == places[None, :]) + h[:s, :s] * across[:s] * across[:s].T
    return C


def apart(scaled: Array, places: Index) -> Array:
    """(N, s) scaled differences of every row and each of the first s rows, along the latter's feature."""
    return np.asarray(scaled[:, places] - scaled[np.arange(len(places)), places])
