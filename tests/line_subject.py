"""A subject of a training that is learnt in milliseconds: a linear function whose coefficients shall be 1."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class LineShape:
    """Inputs of the line."""

    inputs: int = 2


@dataclass(frozen=True)
class Span:
    """Rows per batch, where they lie, and whether they are mirrored."""

    rows: tuple[int, int] = (4, 9)
    scale: float = 1.0
    mirrored: bool = False


class Line(torch.nn.Linear):
    """A linear function without a constant."""

    def __init__(self, shape: LineShape) -> None:
        super().__init__(shape.inputs, 1, bias=False)
        self.shape = shape


@dataclass(frozen=True)
class LineSubject:
    """Learns the sum of its inputs, and logs how exactly it is asked."""

    span: Span = field(default_factory=Span)
    shape: LineShape = field(default_factory=LineShape)
    bend: float = 0.0

    def network(self) -> Line:
        return Line(self.shape)

    def draw(self, seed: Sequence[int], device: str) -> dict[str, Tensor]:
        rng = np.random.default_rng(list(seed))
        X = self.span.scale * rng.standard_normal((int(rng.integers(*self.span.rows)), self.shape.inputs))
        X = torch.from_numpy(-X if self.span.mirrored else X).float().to(device)
        return {"X": X, "y": X.sum(-1), "odd": torch.tensor(seed[-1] % 2)}

    def learn(
        self, network: torch.nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        off = network(batch["X"])[:, 0] - batch["y"]
        numbers = {"progress": progress, "dice": torch.rand((), generator=generator), "never": math.nan,
                   "odd": 1.0 if batch["odd"] else math.nan, "off": off.abs().mean()}  # fmt: skip
        return off.square(), numbers

    def checks(self) -> Iterator[tuple[str, object, bool]]:
        yield "shape.inputs of at least 1", self.shape.inputs, self.shape.inputs >= 1
        yield "bend below 1", self.bend, self.bend < 1.0
