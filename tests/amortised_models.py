"""A small amortised posterior of two outputs, one of them with three kernels, for several test files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from surrogates.amortised.components import Components
from surrogates.amortised.posterior import AmortisedGP, condition_components
from surrogates.columns import Inputs

Array = NDArray[np.float64]
MIXED = Inputs(("float", "category", "int"), (0, 4, 7), (0, 1, 2))
FIRST = Components(
    np.array([0, 1, 2]), np.array([[0.3, 1.0, 0.8], [0.5, 0.7, 1.5], [0.9, 2.0, 0.6]]), np.array([0.1, 0.03, 0.2]),
    np.array([1.0, 2.0, 0.5]), np.log([0.2, 0.5, 0.3]), 10.0, -0.4,
)  # fmt: skip
SECOND = Components(
    np.array([2, 2]), np.array([[0.4, 1.0, 1.0], [2.0, 0.5, 0.3]]), np.array([0.05, 0.1]), np.array([1.0, 0.7]),
    np.log([0.6, 0.4]), 0.0,
)  # fmt: skip


def rows(n: int, rng: np.random.Generator) -> Array:
    """Rows of MIXED."""
    return np.column_stack([rng.random(n), rng.integers(4, size=n), rng.integers(7, size=n) / 6.0])


def data(n: int = 15, seed: int = 0, known: bool = False) -> tuple[Array, Array, Array | None]:
    """Rows of MIXED, two targets, and known variances or None."""
    rng = np.random.default_rng(seed)
    X = rows(n, rng)
    Z = np.column_stack([np.sin(5 * X[:, 0]) + 0.3 * X[:, 1] - 0.5, X[:, 2] ** 2 - X[:, 0]])
    return X, Z + 0.05 * rng.standard_normal(Z.shape), rng.uniform(0.0, 0.02, Z.shape) if known else None


def model(known: bool = False, n: int = 15, seed: int = 0) -> AmortisedGP:
    """FIRST and SECOND conditioned on the data."""
    X, Z, variances = data(n, seed, known)
    return condition_components(MIXED, X, Z, [FIRST, SECOND], variances)
