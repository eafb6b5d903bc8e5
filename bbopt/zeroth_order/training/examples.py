"""Training examples by number: which make the batch of a step, and how they are varied, is a function of (seed, step)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from bbopt.zeroth_order.training.recipe import Recipe

__all__ = [
    "CHECKS",
    "DIRECTIONS",
    "NOISE",
    "ORDER",
    "SAMPLES",
    "VARIATION",
    "Examples",
    "Vary",
    "batch",
    "samples",
    "seed_of",
]

ORDER, VARIATION, SAMPLES, DIRECTIONS, NOISE, CHECKS = range(6)
"""What a random number is for: the last part of its seed."""

Vary = Callable[[Tensor, torch.Generator], Tensor]
"""A batch of inputs, varied at random, as a function of the generator's state."""


class Examples(Protocol):
    """Inputs (n, ...) with classes (n,), int64, for training and for testing, all on one device."""

    @property
    def train_inputs(self) -> Tensor: ...
    @property
    def train_targets(self) -> Tensor: ...
    @property
    def test_inputs(self) -> Tensor: ...
    @property
    def test_targets(self) -> Tensor: ...


def seed_of(seed: int, step: int, purpose: int) -> int:
    """One number below 2**63 for a generator of torch, of (seed, step, purpose).

    >>> seed_of(0, 1, ORDER) == seed_of(0, 1, ORDER), seed_of(0, 1, ORDER) == seed_of(0, 1, NOISE)
    (True, False)
    """
    return int(np.random.SeedSequence([seed, step, purpose]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def batch(recipe: Recipe, examples: Examples, vary: Vary | None, step: int) -> tuple[Tensor, Tensor]:
    """Inputs and classes of a step: the order of an epoch is random, its last batch may be small."""
    count = len(examples.train_targets)
    epoch, place = divmod(step, math.ceil(count / recipe.batch))
    order = np.random.default_rng([recipe.seed, epoch, ORDER]).permutation(count)
    chosen = torch.from_numpy(order[place * recipe.batch : (place + 1) * recipe.batch])
    chosen = chosen.to(examples.train_inputs.device)
    inputs, targets = examples.train_inputs[chosen], examples.train_targets[chosen]
    if vary is not None:
        inputs = vary(inputs, torch.Generator().manual_seed(seed_of(recipe.seed, step, VARIATION)))
    return inputs, targets


def samples(recipe: Recipe, examples: Examples, round: int) -> tuple[Tensor, Tensor]:
    """So many random training examples of each class, those that the scores of a round of pruning are made on."""
    targets = examples.train_targets.cpu().numpy()
    order = np.random.default_rng([recipe.seed, round, SAMPLES]).permutation(len(targets))
    places: list[NDArray[np.int64]] = [
        order[targets[order] == each][: recipe.sparsity.samples] for each in np.unique(targets)
    ]
    chosen = torch.from_numpy(np.sort(np.concatenate(places))).to(examples.train_inputs.device)
    return examples.train_inputs[chosen], examples.train_targets[chosen]
