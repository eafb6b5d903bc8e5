"""What is trained here: which tasks are drawn, the network, and what one step asks of it; `surrogates.training` does the rest.

Named configurations stand in `configs/` beside this file. `cpu`: the shipped weights, on two cores. `gpu`: 20 minutes of
one GPU, for the same network as `cpu`, because an ask on a CPU costs in proportion to the weights, and the solves that a
larger network would have to learn are made for it (`surrogates.pfn.anchors`); what a GPU buys is 25 times as many tasks
per step. `smoke`: 200 steps of a small network, to see that all parts work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from surrogates.pfn.anchors import MOST_ANCHORS, Anchors
from surrogates.pfn.lessons import Batch, Sizes, draw_batch, score
from surrogates.pfn.network import Network, Shape
from surrogates.prior import Prior
from surrogates.training.subject import Check

__all__ = ["PFNSubject", "blur"]

BLURS = (5e-4, 2e-6)  # standardised units, first and last
QUIET = 1e-5  # noise of the best anchor below which a task counts as noise-free
ANCHORS = "anchors."


@dataclass(frozen=True)
class PFNSubject:
    """The tasks that are drawn, how many, and the sizes of the network.

    The log gets gaps: how far predictions are above the oracle, in nats per point. gap is that of told values, gap_latent
    of noise-free ones, gap_quiet of told ones where data sets look noise-free.

    >>> sorted(PFNSubject(sizes=Sizes((1, 3), (2, 8), 4, 60)).draw((0, 1), "cpu"))[-3:]
    ['oracle', 'told', 'z']
    """

    prior: Prior = field(default_factory=Prior)
    sizes: Sizes = field(default_factory=Sizes)
    shape: Shape = field(default_factory=Shape)

    def network(self) -> Network:
        """A network with fresh weights."""
        return Network(self.shape)

    def draw(self, seed: Sequence[int], device: str) -> dict[str, Tensor]:
        """The batch of a seed, the anchors' tensors among the others under `anchors.` and their names."""
        batch = draw_batch(self.prior, self.sizes, self.shape.anchors, seed, device)
        parts = {**vars(batch), **{ANCHORS + name: part for name, part in vars(batch.anchors).items()}}
        return {name: part for name, part in parts.items() if isinstance(part, Tensor)}

    def learn(
        self, network: torch.nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses (B,) and gaps, with targets blurred as much as this far into the run."""
        assert isinstance(network, Network)
        tasks = _batch_of(batch)
        shape, dtype, device = tasks.oracle.shape, tasks.z.dtype, tasks.z.device
        jitter = torch.randn(*shape, generator=generator, dtype=dtype).to(device)
        with torch.autocast("cuda", torch.bfloat16, enabled=tasks.z.is_cuda):
            losses, gaps = score(network, tasks, jitter, blur(progress))
        quiet = (tasks.anchors.noise[:, 0] < QUIET)[:, None].expand(gaps.shape[:2])
        told, latent = gaps[..., 1], gaps[..., 0]
        numbers = {"gap": told.nanmean(), "gap_latent": latent.nanmean(), "gap_quiet": told[quiet].nanmean()}
        return losses, numbers

    def checks(self) -> Iterator[Check]:
        """Ranges of sizes, of the network's shape and of the prior."""
        sizes, shape, prior = self.sizes, self.shape, self.prior
        for name in ("columns", "rows", "tasks"):
            low, high = getattr(sizes, name)
            yield f"sizes.{name} as a range from at least 1", (low, high), 1 <= low <= high
        for name in ("points", "tokens"):
            yield f"sizes.{name} of at least 1", getattr(sizes, name), getattr(sizes, name) >= 1
        for name, value in vars(shape).items():
            yield f"shape.{name} of at least 1", value, value >= 1
        yield f"shape.anchors of at most {MOST_ANCHORS}", shape.anchors, shape.anchors <= MOST_ANCHORS
        fits = shape.heads < 1 or shape.width % shape.heads == 0
        yield "shape.width as a multiple of shape.heads", (shape.width, shape.heads), fits
        yield from _prior_checks(prior)


def _prior_checks(prior: Prior) -> Iterator[Check]:
    for name, value in vars(prior).items():
        if isinstance(value, int | float):
            yield f"prior.{name} between 0 and 1", value, 0.0 <= value <= 1.0
    whole = min(prior.kernels) >= 0.0 and abs(sum(prior.kernels) - 1.0) < 1e-6
    yield "prior.kernels as shares that add up to 1", prior.kernels, whole
    for one, other in (("network", "formula"), ("plateau", "labels")):
        pair = getattr(prior, one), getattr(prior, other)
        yield f"prior.{one} and prior.{other} that add up to at most 1", pair, sum(pair) <= 1.0
    location, spread = prior.lengthscale
    yield "prior.lengthscale as a location above 0 and a spread", prior.lengthscale, location > 0.0 <= spread
    for name in ("quiet_noise", "noisy"):
        low, high = getattr(prior, name)
        yield f"prior.{name} as a range above 0", (low, high), 0.0 < low <= high


def blur(progress: float) -> float:
    """How exactly values are asked to be known: 5e-4 for a fifth of the run, then geometrically to 2e-6 at three fifths.

    A noise-free function is soon known to a millionth of its spread, and what training does not ask for, a search
    does not get; asked from the start, gradients would come from few points alone. progress: 0 to 1. Standardised units.

    >>> blur(0.0), round(blur(1.0), 9)
    (0.0005, 2e-06)
    """
    share = min(max((progress - 0.2) / 0.4, 0.0), 1.0)
    return float(BLURS[0] * (BLURS[1] / BLURS[0]) ** share)


def _batch_of(parts: Mapping[str, Tensor]) -> Batch:
    """The batch behind what `draw` gives."""
    anchors = {name.removeprefix(ANCHORS): part for name, part in parts.items() if name.startswith(ANCHORS)}
    return Batch(Anchors(**anchors), **{name: part for name, part in parts.items() if not name.startswith(ANCHORS)})
