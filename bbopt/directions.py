"""Random directions as functions of (kind, size, seed, index), so that a row of a query can be rebuilt instead of kept.

For each kind `factor` is the c for which E[u u^T] = I / c, so that E[c (g . u) u] = g for every vector g:

* gaussian     u ~ N(0, I)                              c = 1
* rademacher   u_i = +1 or -1, equally likely (SPSA)    c = 1
* sphere       u uniform on the unit sphere             c = d
* orthonormal  u_0, u_1, ... of unit length, d of them at right angles to each other       c = d

The orthonormal kind takes rows of the cosine basis (the DCT-II, orthonormal for every d) with random signs of the
coordinates: u_j[i] = s_i c_k cos(pi (2 i + 1) k / (2 d)), c_0 = 1 / sqrt(d), c_k = sqrt(2 / d), with the frequency
k = (a j + b) mod d for random b and a random a that has no common divisor with d. The signs make different coordinates
uncorrelated, and as k is uniform, E[u_i^2] = (1 / d) sum_k c_k^2 cos^2(...) = 1 / d. Every d directions a new basis is drawn.
One direction costs O(d), whatever the number of directions.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np

from bbopt.errors import UsageError

Array = np.ndarray[Any, np.dtype[Any]]
Kind = Literal["gaussian", "rademacher", "sphere", "orthonormal"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def check_kind(kind: str, who: str) -> None:
    """Raise UsageError, in the name of `who`, for a kind that there is not."""
    if kind not in KINDS:
        raise UsageError(f"{who}: expected a kind of directions of {', '.join(KINDS)}; got {kind!r}")


def factor(kind: Kind, size: int) -> float:
    """The c of E[u u^T] = I / c.

    >>> factor("gaussian", 5), factor("sphere", 5)
    (1.0, 5.0)
    """
    return 1.0 if kind in ("gaussian", "rademacher") else float(size)


def direction(kind: Kind, size: int, seed: int, index: int) -> Array:
    """(size,) the direction of this number: the same in every process.

    >>> u, v = direction("orthonormal", 3, 0, 0), direction("orthonormal", 3, 0, 2)
    >>> bool(abs(u @ v) < 1e-15 and abs(u @ u - 1.0) < 1e-15)
    True
    """
    if kind == "orthonormal":
        return _cosine(size, seed, index)
    rng = _rng(seed, index)
    if kind == "rademacher":
        return _signs(size, rng)
    u: Array = rng.standard_normal(size)
    if kind == "sphere":
        u /= np.linalg.norm(u)
    return u


def reach(kind: Kind, size: int) -> float:
    """How far one coordinate of a direction goes: at most (rademacher, orthonormal), or its standard deviation.

    >>> reach("rademacher", 4), reach("gaussian", 4), reach("sphere", 4)
    (1.0, 1.0, 0.5)
    """
    if kind in ("rademacher", "gaussian"):
        return 1.0
    return min(1.0, math.sqrt((2.0 if kind == "orthonormal" else 1.0) / size))


def _rng(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, index]))


def _signs(size: int, rng: np.random.Generator) -> Array:
    bits = np.unpackbits(np.frombuffer(rng.bytes((size + 7) // 8), np.uint8), count=size)
    signs: Array = 2.0 * bits - 1.0
    return signs


def _cosine(size: int, seed: int, index: int) -> Array:
    block, row = divmod(index, size)
    rng = _rng(seed, block)
    shift, stride = int(rng.integers(size)), int(rng.integers(1, size + 1))
    while math.gcd(stride, size) > 1:
        stride = stride % size + 1
    k = (stride * row + shift) % size
    length = math.sqrt((1.0 if k == 0 else 2.0) / size)
    angle = ((2 * np.arange(size, dtype=np.int64) + 1) * k) % (4 * size)  # exact: cos has this period
    row_of_basis: Array = _signs(size, rng) * (length * np.cos(math.pi / (2 * size) * angle))
    return row_of_basis
