"""Which scalars of a module take part in a finite-difference gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bbopt.errors import UsageError


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Sorted flat indices (int64, row-major) per parameter, in the order of `module.named_parameters()`.

    Tied weights appear once, under their first name. Make one by `all`, `of` or `select`, which check.

    >>> layer = nn.Linear(2, 3)
    >>> Coordinates.all(layer).count
    9
    >>> Coordinates.of(layer, {"weight": [5, 0]}).indices
    {'weight': tensor([0, 5])}
    """

    indices: Mapping[str, Tensor]

    @classmethod
    def all(cls, module: nn.Module) -> Coordinates:
        """Every scalar of every parameter that requires a gradient; frozen ones can be named through `of`."""
        return cls({name: torch.arange(p.numel()) for name, p in module.named_parameters() if p.requires_grad})

    @classmethod
    def of(cls, module: nn.Module, indices: Mapping[str, object]) -> Coordinates:
        """Those given, checked: integers (list, array or tensor) per parameter name, in any order, none twice.

        Raises UsageError for an unknown name, an index out of range, an index given twice, or no index at all.
        """
        parameters = dict(module.named_parameters())
        unknown = sorted(set(indices) - set(parameters))
        if unknown:
            raise UsageError(f"the module has no parameter {unknown[0]!r}; it has {', '.join(parameters) or 'none'}")
        checked = {}
        for name in parameters:
            if name in indices:
                found = np.asarray(indices[name])
                if found.size == 0:
                    continue
                checked[name] = _sorted(name, found, parameters[name].numel())
        if not checked:
            raise UsageError("expected at least one coordinate, got none: name parameters and flat indices")
        return cls(checked)

    @property
    def count(self) -> int:
        """How many scalars take part."""
        return sum(len(index) for index in self.indices.values())

    def select(self, positions: Tensor) -> Coordinates:
        """Those at some positions, 0 to count - 1, of the list that all parameters together make."""
        chosen, start = {}, 0
        positions = torch.sort(positions.to(torch.int64).cpu()).values
        for name, index in self.indices.items():
            here = positions[(positions >= start) & (positions < start + len(index))] - start
            if len(here):
                chosen[name] = index[here]
            start += len(index)
        return Coordinates(chosen)


def _sorted(name: str, found: np.ndarray[tuple[int, ...], np.dtype[np.generic]], size: int) -> Tensor:
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise UsageError(
            f"expected flat integer indices of {name!r} in one dimension, got {found.dtype} {found.shape}; "
            "a mask becomes indices by numpy.flatnonzero"
        )
    index = np.sort(found.astype(np.int64))
    if index[0] < 0 or index[-1] >= size:
        raise UsageError(f"indices of {name!r} go from 0 to {size - 1}, got {index[0]} to {index[-1]}")
    if (index[1:] == index[:-1]).any():
        twice = index[1:][index[1:] == index[:-1]][0]
        raise UsageError(f"index {twice} of {name!r} was given twice")
    return torch.from_numpy(index)
