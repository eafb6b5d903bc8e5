"""What a training needs to know of the thing that it trains, in three methods; the loop knows nothing else of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

__all__ = ["Check", "Subject"]

Check = tuple[str, object, bool]
"""What was expected, what came, and whether it is right."""


class Subject(Protocol):
    """A frozen dataclass whose fields say what is drawn and how large the network is.

    Each field has a default and is a whole number, a number, text, true or false, a tuple of these, or a frozen dataclass
    of such fields: a configuration in JSON has them beside the fields of `surrogates.training.recipe.Training`, whose
    names they do not take. Worker processes get a copy, so the class stands at the top of a module. Configurations that
    come with it stand in a folder `configs` beside that module.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def network(self) -> torch.nn.Module:
        """A network with fresh weights from torch's global generator, which the loop seeds and puts back.

        Its attribute `shape`, a dataclass of JSON values, is what its class is built from: it goes into the header of the
        weights. Its state holds floating-point tensors alone, which are averaged and saved in half precision.
        """
        ...

    def draw(self, seed: Sequence[int], device: str) -> Mapping[str, Tensor]:
        """The batch that a seed (whole numbers, none negative) stands for, on "cpu" or "cuda:K".

        From worker processes it travels as NumPy arrays, so there is no bfloat16 in it, and nothing that asks for
        gradients. Nothing outside changes, torch's global generator included.
        """
        ...

    def learn(
        self, network: torch.nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Losses (B,) to follow the gradient of, and numbers (or tensors of one number) for the log, NaN where there is none.

        generator: on the CPU, another one at every step, the same one for the same step. progress: share of the run that
        is done, 0 to 1. Names of numbers are other than step, seconds, share, loss, gradient and rate.
        """
        ...

    def checks(self) -> Iterable[Check]:
        """What the fields must fulfil beyond their types; none may raise, whatever the values are."""
        ...
