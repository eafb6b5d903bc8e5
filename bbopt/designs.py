"""Points that fill the unit cube evenly: scrambled Sobol' sequences by index, and Latin hypercubes.

Sources: I. M. Sobol', USSR Computational Mathematics and Mathematical Physics 7 (1967); scrambling of J. Matoušek, Journal
of Complexity 14 (1998), as in SciPy; M. D. McKay, R. J. Beckman, W. J. Conover, Technometrics 21 (1979).
This module imports SciPy: import it where it is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import qmc

from bbopt.errors import UsageError

Array = np.ndarray[Any, np.dtype[Any]]

LARGEST_DIMENSION = 21_201  # of the direction numbers of S. Joe and F. Y. Kuo that SciPy has
LARGEST_NUMBER = 2**30


def sobol(start: int, n: int, dimension: int, seed: int) -> Array:
    """(n, dimension) points `start` to `start + n - 1` of the scrambled Sobol' sequence of this seed, in [0, 1).

    Point number i is the same however many are asked for at once. Raises UsageError beyond 2**30 points or 21201 columns.

    >>> bool((sobol(0, 4, 3, seed=1)[2:] == sobol(2, 2, 3, seed=1)).all())
    True
    """
    if not 0 < dimension <= LARGEST_DIMENSION:
        raise UsageError(
            f"sobol: expected 1 to {LARGEST_DIMENSION} columns, got {dimension}; use random points instead"
        )
    if start < 0 or n < 0 or start + n > LARGEST_NUMBER:
        raise UsageError(
            f"sobol: expected points between 0 and 2**30, got {start} to {start + n}; use random points instead"
        )
    engine = qmc.Sobol(dimension, scramble=True, rng=np.random.default_rng(seed))
    if start:
        engine.fast_forward(start)
        return np.asarray(engine.random(n))
    # in two parts: SciPy warns of a first batch whose size is no power of 2
    return np.concatenate([engine.random(1), engine.random(n - 1)])[:n] if n > 1 else np.asarray(engine.random(n))


def latin_hypercube(n: int, dimension: int, rng: np.random.Generator) -> Array:
    """(n, dimension) points in [0, 1): in each column, one in each of n cells of equal width.

    >>> cells = np.floor(latin_hypercube(5, 2, np.random.default_rng(0)) * 5)
    >>> np.sort(cells, axis=0)[:, 0].tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    cells = rng.permuted(np.tile(np.arange(n)[:, None], (1, dimension)), axis=0)
    return np.minimum((cells + rng.random((n, dimension))) / max(n, 1), np.nextafter(1.0, 0.0))
