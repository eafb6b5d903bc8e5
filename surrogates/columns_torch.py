"""Points of torch models: what may come in, and the features of `surrogates.columns` with slopes in x."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bbopt.errors import UsageError, ValueRefused
from surrogates.columns import Inputs


def checked_points(inputs: Inputs, X: Tensor) -> Tensor:
    """Points (*b, q, d) as float64. Raises UsageError for another shape, ValueRefused for numbers that no column has.

    >>> checked_points(Inputs.continuous(2), torch.tensor([[0.5, 1.0]])).dtype
    torch.float64
    """
    if X.dim() < 2 or X.shape[-1] != inputs.dimension:
        raise UsageError(f"expected points of shape (*b, q, {inputs.dimension}); got {tuple(X.shape)}: pass one row per point")  # fmt: skip
    if not bool(X.isfinite().all()):
        raise ValueRefused("expected finite points; got NaN or infinite numbers among them: leave those points out")
    for j, (kind, levels) in enumerate(zip(inputs.kind, inputs.levels, strict=True)):
        if kind == "category" and not bool(((X[..., j] >= 0) & (X[..., j] < levels) & (X[..., j] % 1 == 0)).all()):
            raise ValueRefused(f"expected an index from 0 to {levels - 1} in column {j}, a category; got a number between or beyond: fix the column (optimize_acqf_mixed)")  # fmt: skip
    return X.double()


def features(inputs: Inputs, X: Tensor) -> Tensor:
    """(*b, q, p) features of points (*b, q, d): those of numbers have slopes, listed values have none.

    >>> features(Inputs(("float", "category"), (0, 2), (0, 1)), torch.tensor([[0.5, 1.0]], dtype=torch.float64))
    tensor([[0.5000, 0.0000, 1.0000]], dtype=torch.float64)
    """
    if "category" not in inputs.kind and "ordered" not in inputs.kind:
        return X
    fixed = torch.from_numpy(np.array(inputs.features(X.detach().reshape(-1, X.shape[-1]).numpy())))
    number = torch.tensor([inputs.kind[j] not in ("category", "ordered") for j in inputs.owner])
    return torch.where(number, X[..., torch.from_numpy(inputs.owner)], fixed.reshape(*X.shape[:-1], -1))
