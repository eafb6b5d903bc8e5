"""Random-direction estimates of a gradient (RGE), and the two-point and evolution-strategy forms of them.

With q directions u_j for which E[u u^T] = I / c (`bbopt.directions`: Gaussian, sphere, orthonormal, Rademacher):

    forward   g = (c / q) sum_j (f(x + m u_j) - f(x)) / m u_j                  q + 1 values
    central   g = (c / q) sum_j (f(x + m u_j) - f(x - m u_j)) / (2 m) u_j      2 q values (two-point, antithetic)

As m goes to 0, E[g] is the gradient for every kind: without the c of the sphere (c = d) the estimate would be too small by
a factor of d. Central with one Rademacher direction is SPSA (J. Spall, IEEE Transactions on Automatic Control 37, 1992):
there 1 / u_i is u_i. Central with Gaussian directions is the antithetic evolution-strategy gradient (T. Salimans et al.,
arXiv:1703.03864); `centred_ranks` is the fitness shaping that goes with it.

The relative variance E|g - G|^2 / |G|^2 for small m, G the gradient: (d + 1) / q Gaussian, (d - 1) / q Rademacher and
sphere, d / q - 1 orthonormal (q up to d): at q = d nothing is left of the latter, it is a rotated coordinate-wise gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bbopt.directions import Kind, check_kind, direction, factor
from bbopt.zeroth_order.coordinates import Scheme, check_scheme

Array = np.ndarray[Any, np.dtype[Any]]


def from_slopes(kind: Kind, size: int, seed: int, indices: Array, slopes: Array) -> Array:
    """(size,) c / q sum_j slopes[j] u_j over the directions of these numbers, built one at a time; 0 for none.

    >>> from_slopes("orthonormal", 2, 0, np.arange(2), np.zeros(2)).tolist()
    [0.0, 0.0]
    """
    total = np.zeros(size)
    for j, slope in zip(indices.tolist(), slopes.tolist(), strict=True):
        if slope:
            total += slope * direction(kind, size, seed, j)
    return total * (factor(kind, size) / max(len(slopes), 1))


def relative_variance(kind: Kind, size: int, count: int) -> float:
    """E|g - G|^2 / |G|^2 of the estimate with `count` directions, as the radius goes to 0.

    >>> relative_variance("gaussian", 9, 10), relative_variance("orthonormal", 10, 10)
    (1.0, 0.0)
    """
    if kind == "orthonormal":  # whole bases are exact, the rest of one is a part of a rotated gradient
        rest = count % size
        return rest * (size - rest) / count**2
    return (size + 1 if kind == "gaussian" else size - 1) / count


def direction_gradient(
    function: Callable[[Array], Array],
    x: Array,
    radius: float,
    *,
    kind: Kind = "orthonormal",
    count: int = 1,
    seed: int = 0,
    scheme: Scheme = "forward",
) -> Array:
    """(d,) an estimate of the gradient of a function at x (d,), from `count` directions.

    The function takes rows (k, d), gives values (k,), and is called once.

    >>> g = direction_gradient(lambda X: (X**2).sum(axis=1), np.array([1.0, 2.0]), 0.25, count=2, scheme="central")
    >>> g.round(12).tolist()
    [2.0, 4.0]
    """
    check_kind(kind, "direction_gradient")
    check_scheme(scheme, "direction_gradient")
    steps = radius * np.array([direction(kind, len(x), seed, j) for j in range(count)])
    if scheme == "forward":
        values = np.asarray(function(np.vstack([x, x + steps])), float)
        slopes = (values[1:] - values[0]) / radius
    else:
        values = np.asarray(function(np.vstack([x + steps, x - steps])), float)
        slopes = (values[:count] - values[count:]) / (2.0 * radius)
    return from_slopes(kind, len(x), seed, np.arange(count), slopes)


def centred_ranks(groups: list[list[int]], rows: int) -> Array:
    """(rows,) weights from -1/2 (best) to 1/2 (worst) that sum to 0, by rank; groups of equals share theirs.

    `groups` are row numbers from best to worst; rows in none of them get 0. T. Salimans et al., section 2.1.

    >>> centred_ranks([[2], [0, 1]], 4).tolist()
    [0.25, 0.25, -0.5, 0.0]
    """
    weights = np.zeros(rows)
    ranked = sum(len(group) for group in groups)
    if ranked > 1:
        before = 0
        for group in groups:
            weights[group] = (before + (len(group) - 1) / 2.0) / (ranked - 1) - 0.5
            before += len(group)
    return weights
