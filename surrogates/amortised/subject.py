"""The amortised Gaussian process as something to train: sizes of the data sets, shape of the network, loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from surrogates.amortised.lessons import Sizes, draw_lesson, score
from surrogates.amortised.network import HyperNetwork, Shape
from surrogates.training.subject import Check

__all__ = ["AmortisedSubject"]

FEW = 24  # rows below which gains are averaged apart


@dataclass(frozen=True)
class AmortisedSubject:
    """What is drawn, and the network that learns from it.

    >>> AmortisedSubject().network().shape.parts
    5
    """

    sizes: Sizes = field(default_factory=Sizes)
    shape: Shape = field(default_factory=Shape)

    def network(self) -> torch.nn.Module:
        """A network with fresh weights from torch's global generator."""
        return HyperNetwork(self.shape)

    def draw(self, seed: Sequence[int], device: str) -> Mapping[str, Tensor]:
        """The batch that a seed stands for."""
        return draw_lesson(self.sizes, seed, device)

    def learn(
        self, network: torch.nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Losses, and gains: nats by which the true hyperparameters are more likely than before the data."""
        assert isinstance(network, HyperNetwork), "a network of this subject"
        losses, gains = score(network, batch)
        few = batch["X"].shape[1] < FEW
        nothing = torch.tensor(torch.nan)
        return losses, {"gain_few": gains.mean() if few else nothing, "gain_many": nothing if few else gains.mean()}

    def checks(self) -> Iterable[Check]:
        """Ranges of the sizes and of the shape."""
        sizes, shape = self.sizes, self.shape
        for name in ("columns", "rows", "tasks"):
            low, high = getattr(sizes, name)
            yield f"sizes.{name} as a range from at least 1", (low, high), 1 <= low <= high
        yield "sizes.tokens of at least 1", sizes.tokens, sizes.tokens >= 1
        for name, value in vars(shape).items():
            yield f"shape.{name} of at least 1", value, value >= 1
        both = (shape.width, shape.heads)
        yield "shape.width as a multiple of shape.heads", both, shape.heads < 1 or shape.width % shape.heads == 0
