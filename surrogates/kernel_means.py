"""The mean of a squared-exponential correlation when one of its two points is random, column by column.

With k(w, v) = exp(-(w - v)^2 / (2 l^2)) and v drawn by a density p, in closed form:

    m(w) = int k(w, v) p(v) dv,          M = int int k(w, v) p(w) p(v) dw dv

They make the integral of a Gaussian process over random inputs a Gaussian process (O'Hagan 1991, Bayes-Hermite quadrature;
the formulas by kernel and density are collected in Briol et al. 2019, arXiv 1512.00933, table 1). Columns are drawn
independently, and the squared-exponential kernel is a product over columns, so means of several columns are products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]
ROOT_2PI = float(np.sqrt(2.0 * np.pi))
NODES = 96  # of the Gauss-Legendre rule for the one integral without a closed form
REACH = 8.0  # standard deviations beyond which a normal density counts as zero


@dataclass(frozen=True, eq=False)
class Spread:
    """How one input column is drawn: levels `values` (L,) with probabilities `weights` (L,); else a number in [0, 1], uniform
    or by `normal` = (mean, standard deviation), cut off at 0 and 1. category: the levels are indices without order."""

    values: Array | None = None
    weights: Array | None = None
    normal: tuple[float, float] | None = None
    category: bool = False


def embedding(spread: Spread, length: float, w: Array) -> tuple[Array, Array]:
    """m(w) and dm/dw (zero for categories), each of the shape of w.

    >>> m, slope = embedding(Spread(), 0.5, np.array([0.5]))
    >>> m.round(6), slope.round(6)
    (array([0.855624]), array([0.]))
    """
    if spread.values is not None:
        weights = np.asarray(spread.weights)
        if spread.category:
            own = (w[..., None] == spread.values) @ weights
            return own + (1.0 - own) * np.exp(-1.0 / length**2), np.zeros_like(w)
        gap = w[..., None] - spread.values
        k = np.exp(-0.5 * (gap / length) ** 2)
        return k @ weights, -(k * gap) @ weights / length**2
    if spread.normal is None:
        high, low = (1.0 - w) / length, -w / length
        return length * ROOT_2PI * (ndtr(high) - ndtr(low)), np.exp(-0.5 * low**2) - np.exp(-0.5 * high**2)
    mean, sd = spread.normal
    total = length**2 + sd**2
    mass = ndtr((1.0 - mean) / sd) - ndtr(-mean / sd)
    centre = (w * sd**2 + mean * length**2) / total  # of the product of the two bells
    width = length * sd / np.sqrt(total)
    high, low = (1.0 - centre) / width, -centre / width
    bell = length / np.sqrt(total) * np.exp(-0.5 * (w - mean) ** 2 / total) / mass
    share = ndtr(high) - ndtr(low)
    cut = (np.exp(-0.5 * low**2) - np.exp(-0.5 * high**2)) / ROOT_2PI * sd**2 / total / width
    return bell * share, bell * (cut - share * (w - mean) / total)


def double(spread: Spread, length: float) -> float:
    """M. In closed form, but for a normal density that is cut off, where m is integrated by a Gauss-Legendre rule.

    >>> round(double(Spread(), 0.5), 6), double(Spread(np.array([0.3]), np.array([1.0])), 0.5)
    (0.763956, 1.0)
    """
    if spread.values is not None:
        return float(np.asarray(spread.weights) @ embedding(spread, length, np.asarray(spread.values))[0])
    if spread.normal is None:
        edge = 1.0 / length
        inner = ROOT_2PI * length * (2.0 * ndtr(edge) - 1.0)
        return float(inner + 2.0 * length**2 * np.expm1(-0.5 * edge**2))
    mean, sd = spread.normal
    low, high = max(0.0, mean - REACH * sd), min(1.0, mean + REACH * sd)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    w = low + 0.5 * (nodes + 1.0) * (high - low)
    density = weights * np.exp(-0.5 * ((w - mean) / sd) ** 2)
    return float(density @ embedding(spread, length, w)[0] / density.sum())
