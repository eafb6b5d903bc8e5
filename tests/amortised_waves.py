"""Rows and values of a smooth function in any number of columns, for several test files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def wave(n: int, d: int, seed: int = 0, noise: float = 0.0) -> tuple[Array, Array]:
    """Rows, and values that depend on all columns in different ways."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, d))
    y = np.sin(X @ np.linspace(2.0, 6.0, d)) + X @ np.linspace(-1.0, 1.0, d)
    return X, np.asarray(y + noise * rng.standard_normal(n))
