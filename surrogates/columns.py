"""What a model must know about the columns of its inputs: which are numbers and which are categories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Inputs:
    """A plain description of the d input columns of a surrogate.

    kind: per column "float", "int", "ordered" (all three are numbers) or "category" (an index without order).
    levels: number of distinct values of the column, 0 for a continuous one.
    group: index of the parameter that the column belongs to.
    places: per column None, or where in [0, 1] the listed values of an "ordered" column lie for the model; such a column holds
    the index of its value, and without places the values are taken to be evenly spaced.

    >>> inputs = Inputs(kind=("float", "category"), levels=(0, 3), group=(0, 1))
    >>> inputs.features(np.array([[0.5, 2.0]]))
    array([[0.5, 0. , 0. , 1. ]])
    >>> inputs.owner
    array([0, 1, 1, 1])
    """

    kind: tuple[str, ...]
    levels: tuple[int, ...]
    group: tuple[int, ...]
    places: tuple[tuple[float, ...] | None, ...] = ()

    @classmethod
    def continuous(cls, dimension: int) -> Inputs:
        """Describe `dimension` continuous columns, each a parameter of its own."""
        return cls(("float",) * dimension, (0,) * dimension, tuple(range(dimension)))

    @property
    def dimension(self) -> int:
        """Number of columns d."""
        return len(self.kind)

    @property
    def owner(self) -> NDArray[np.intp]:
        """(p,) the column that each feature of `features` comes from."""
        widths = [n if kind == "category" else 1 for kind, n in zip(self.kind, self.levels, strict=True)]
        return np.repeat(np.arange(len(widths)), widths)

    def features(self, X: Array) -> Array:
        """Map (n, d) encoded rows to (n, p) features whose squared distances are those of the kernel.

        A number is its own feature; an ordered value is its place; a category becomes one indicator per level, so that two
        different categories are 2 apart, whichever they are: exp(-2 / (2 l^2)) = exp(-1 / l^2), a Hamming-type kernel.
        """
        if "category" not in self.kind and "ordered" not in self.kind:
            return np.asarray(X, dtype=float)
        return np.concatenate([self._part(j, X[:, j, None]) for j in range(self.dimension)], axis=1)

    def _part(self, j: int, x: Array) -> Array:
        """The features (n, p_j) of one column (n, 1)."""
        if self.kind[j] == "category":
            return np.asarray((x == np.arange(self.levels[j])).astype(float))
        if self.kind[j] != "ordered":
            return np.asarray(x, dtype=float)
        places = self.places[j] if self.places else None
        if places is None:
            return np.asarray(x / max(self.levels[j] - 1, 1), dtype=float)
        return np.asarray(np.interp(x, np.arange(len(places)), places))

    def rates(self, X: Array) -> Array | None:
        """(n, d) derivatives of the numbers that the kernel sees in those of the rows; None where they are the same."""
        return None

    def in_columns(self, by_feature: Array) -> Array:
        """Derivatives in the features (..., p) as derivatives in the columns (..., d); zero for listed values.

        >>> Inputs(("category", "float"), (2, 0), (0, 1)).in_columns(np.array([[1.0, 2.0, 3.0]]))
        array([[0., 3.]])
        """
        if "category" not in self.kind and "ordered" not in self.kind:
            return by_feature
        numbers = [j for j, kind in enumerate(self.kind) if kind not in ("category", "ordered")]
        by_column = np.zeros((*by_feature.shape[:-1], self.dimension))
        by_column[..., numbers] = by_feature[..., np.flatnonzero(np.isin(self.owner, numbers))]
        return by_column
