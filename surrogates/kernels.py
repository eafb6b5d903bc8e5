"""Stationary correlation functions of a scaled squared distance r2, with the slope that every gradient needs.

All are written as k(r2) and g(r2) = -2 dk/dr2. Then, with r2 = sum_j (x_j - x'_j)^2 / l_j^2,
    dk/dx_j     = -g (x_j - x'_j) / l_j^2
    dk/dlog l_j =  g (x_j - x'_j)^2 / l_j^2
Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, equations 4.9 (RBF) and 4.17 (Matern 3/2 and 5/2).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kernel = Literal["rbf", "matern52", "matern32"]
ROOT3 = float(np.sqrt(3.0))
ROOT5 = float(np.sqrt(5.0))


def squared_distances(A: Array, B: Array) -> Array:
    """Squared Euclidean distances of the rows of A (a, p) and B (b, p), shape (a, b), never negative.

    >>> squared_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]))
    array([[25.]])
    """
    r2 = (A * A).sum(axis=1)[:, None] + (B * B).sum(axis=1)[None, :] - 2.0 * (A @ B.T)
    np.maximum(r2, 0.0, out=r2)
    return np.asarray(r2)


def curvatures(kernel: Kernel, r2: Array) -> tuple[Array, Array]:
    """h(r2) = -2 dg/dr2 and -2 dh/dr2, any shape, of the kernels that have second derivatives at 0: RBF and Matern 5/2.

    The last one of Matern 5/2 has a pole at 0, where it always meets distances of third order: it is 0 there.

    >>> curvatures("matern52", np.array([0.0]))[0].round(3)
    array([8.333])
    """
    if kernel == "rbf":
        k = np.exp(-0.5 * r2)
        return k, k
    if kernel != "matern52":
        raise ValueError(f"expected 'rbf' or 'matern52', whose second derivatives exist, got {kernel!r}")
    scaled = ROOT5 * np.sqrt(r2)
    h = (25.0 / 3.0) * np.exp(-scaled)
    return h, np.divide(5.0 * h, scaled, out=np.zeros_like(h), where=scaled > 1e-12)


def correlation(kernel: Kernel, r2: Array) -> Array:
    """k(r2) alone, any shape, at half the price: few arrays are made.

    >>> correlation("rbf", np.array([0.0, 2.0])).round(4)
    array([1.    , 0.3679])
    """
    if kernel == "rbf":
        return np.exp(-0.5 * r2)
    scaled = np.sqrt((3.0 if kernel == "matern32" else 5.0) * r2)
    k = 1.0 + scaled
    if kernel == "matern52":
        k += (5.0 / 3.0) * r2
    scaled = np.negative(scaled)
    return np.asarray(k * np.exp(scaled))


def correlation_and_slope(kernel: Kernel, r2: Array) -> tuple[Array, Array]:
    """k(r2) and g(r2) = -2 dk/dr2, any shape; for the RBF kernel they are the same array.

    >>> k, g = correlation_and_slope("matern52", np.array([0.0]))
    >>> float(k[0]), round(float(g[0]), 4)
    (1.0, 1.6667)
    """
    if kernel == "rbf":
        k = np.exp(-0.5 * r2)
        return k, k
    if kernel == "matern32":
        scaled = ROOT3 * np.sqrt(r2)
        decay = np.exp(-scaled)
        return (1.0 + scaled) * decay, 3.0 * decay
    scaled = ROOT5 * np.sqrt(r2)
    decay = np.exp(-scaled)
    g = (5.0 / 3.0) * (1.0 + scaled) * decay
    return (1.0 + scaled) * decay + (5.0 / 3.0) * r2 * decay, g
