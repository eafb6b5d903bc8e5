"""One coordinate after another, one forward each: works for every module, and is what other engines are tested against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from torch import Tensor

from bbopt.zeroth_order.network.base import BasePass
from bbopt.zeroth_order.network.gather import Gathered


class Naive:
    """Writes a perturbed scalar into the parameter's own memory, runs the module, writes the saved value back."""

    name: ClassVar[str] = "naive"

    def __init__(self, base: BasePass, bytes: int | None = None) -> None:
        self.base, self.bytes = base, bytes
        self.parameters = dict(base.problem.module.named_parameters())

    def refusal(self, parameter: str) -> str | None:
        return None

    def changes(self, parameter: str, index: Tensor, steps: Tensor) -> Tensor:
        found = Gathered(self.base, self.bytes)
        for cell, step in zip(cells(self.parameters[parameter], index), steps.tolist(), strict=True):
            with moved(cell, step):
                found.add(self.base.forward())
        return found.changes()


class moved:  # noqa: N801 used as a context, in the innermost loop
    """A context in which one scalar is changed by a step; the saved bits are written back."""

    def __init__(self, cell: Tensor, step: float) -> None:
        self.cell, self.step, self.saved = cell, step, cell.clone()

    def __enter__(self) -> None:
        self.cell.copy_(self.saved.double() + self.step)

    def __exit__(self, *error: object) -> None:
        self.cell.copy_(self.saved)


def cells(parameter: Tensor, index: Tensor) -> Iterator[Tensor]:
    """0-dimensional views of a parameter's own memory at row-major flat indices, whatever its strides.

    >>> import torch
    >>> weight = torch.zeros(2, 3).t()  # flatten() would be a copy
    >>> next(cells(weight, torch.tensor([1]))).fill_(5.0)
    tensor(5.)
    >>> weight
    tensor([[0., 5.],
            [0., 0.],
            [0., 0.]])
    """
    data = parameter.data
    where = np.unravel_index(index.cpu().numpy(), tuple(data.shape)) if data.ndim else ()
    offsets = np.full(len(index), data.storage_offset(), dtype=np.int64)
    for at, stride in zip(where, data.stride(), strict=True):
        offsets += at * stride
    for offset in offsets.tolist():
        yield data.as_strided((), (), offset)
