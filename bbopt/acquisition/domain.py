"""Where candidate points may lie, as plain arrays and functions: what the search needs to know of a space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Domain:
    """A set of encoded rows.

    low, high: (d,) bounds. levels: per column None (continuous) or the sorted encoded values it can take.
    unordered: (d,) True for columns whose values have no order. canonical: nearest valid rows, known constraints
    aside. active: (n, d) which columns matter in each row. contains: (n,) known constraints hold. repair: moves rows
    into them. sample: (n, d) fresh canonical rows inside, spread over the set. fixed: column to value.
    """

    low: Array
    high: Array
    levels: tuple[Array | None, ...]
    unordered: Mask
    canonical: Callable[[Array], Array]
    active: Callable[[Array], Mask]
    contains: Callable[[Array], Mask]
    repair: Callable[[Array, np.random.Generator], Array]
    sample: Callable[[int, np.random.Generator], Array]
    fixed: dict[int, float] = field(default_factory=dict)

    @classmethod
    def box(cls, dimension: int) -> Domain:
        """The continuous unit cube without constraints.

        >>> Domain.box(2).sample(3, np.random.default_rng(0)).shape
        (3, 2)
        """
        return cls(
            np.zeros(dimension),
            np.ones(dimension),
            (None,) * dimension,
            np.zeros(dimension, bool),
            lambda X: np.clip(X, 0.0, 1.0),
            lambda X: np.ones(X.shape, bool),
            lambda X: np.ones(len(X), bool),
            lambda X, rng: X,
            lambda n, rng: sobol(n, dimension, rng),
        )

    @property
    def dimension(self) -> int:
        """Number of columns d."""
        return len(self.low)

    @property
    def continuous(self) -> Mask:
        """(d,) columns that a gradient may move."""
        free = np.array([values is None for values in self.levels])
        free[list(self.fixed)] = False
        return free

    @property
    def discrete(self) -> tuple[int, ...]:
        """Columns that move by steps."""
        return tuple(j for j, values in enumerate(self.levels) if values is not None and j not in self.fixed)

    def settle(self, X: Array, rng: np.random.Generator) -> Array:
        """Canonical rows with the fixed columns set, repaired where known constraints fail."""
        rows = np.clip(X, self.low, self.high)
        for column, value in self.fixed.items():
            rows[:, column] = value
        rows = self.canonical(rows)
        outside = ~self.contains(rows)
        if outside.any():
            rows[outside] = self.repair(rows[outside], rng)
        return rows


def sobol(n: int, dimension: int, rng: np.random.Generator) -> Array:
    """(n, dimension) scrambled Sobol points in the unit cube; uniform ones beyond the widest Sobol sequence."""
    from scipy.stats import qmc

    if dimension > qmc.Sobol.MAXDIM:
        return rng.random((n, dimension))
    engine = qmc.Sobol(dimension, rng=rng)
    power = int(np.ceil(np.log2(max(n, 1))))
    return np.asarray(engine.random_base2(power)[:n], dtype=float)
