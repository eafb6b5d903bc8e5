"""The gradient of a step by the recipe's estimate: differences along coordinates or random directions, or backpropagation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.gradient import Level, Scheme, network_gradient
from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss
from bbopt.zeroth_order.training.draws import drawn
from bbopt.zeroth_order.training.examples import CHECKS, DIRECTIONS, number

if TYPE_CHECKING:
    from bbopt.zeroth_order.training.recipe import Recipe

__all__ = ["Agreement", "Found", "agreement", "differences", "gradient_of"]


@dataclass(frozen=True, eq=False)
class Found:
    """A gradient of the mean cross-entropy of a batch, by parameter, 0 where a coordinate does not take part.

    loss: at the weights themselves. queries: forward passes of the batch that it took (1 for backpropagation).
    """

    gradient: dict[str, Tensor]
    loss: float
    queries: int


@dataclass(frozen=True)
class Agreement:
    """Differences of one radius beside those of half of it, on some coordinates: cosine, and distance over length.

    Both estimate the same derivatives; the bias of the larger radius is about twice the distance, rounding comes on top.
    """

    cosine: float = math.nan
    error: float = math.nan


def gradient_of(recipe: Recipe, problem: NetworkLoss, coordinates: Coordinates, step: int, radius: float) -> Found:
    """The gradient of a step at these coordinates; buffers move in backpropagation alone."""
    if recipe.estimate.kind == "first-order":
        return _backpropagated(problem, coordinates)
    along = recipe.estimate.directions if recipe.estimate.kind == "rge" else None
    return differences(recipe, problem, coordinates, radius, along, number(recipe.seed, step, DIRECTIONS))


def differences(
    recipe: Recipe, problem: NetworkLoss, coordinates: Coordinates, radius: float, along: int | None, seed: int
) -> Found:
    """A gradient by finite differences, along coordinates or along so many random directions, which the seed draws."""
    estimate = recipe.estimate
    if along is None:
        by = network_gradient(problem, coordinates=coordinates, scheme=cast(Scheme, estimate.scheme), radius=radius,
                              level=cast(Level, estimate.level))  # fmt: skip
        return Found(dict(by.gradient), by.loss, by.queries)
    from bbopt.zeroth_order.network.random_directions import random_gradient

    random = random_gradient(problem, along, kind=estimate.distribution, radius=radius, seed=seed)
    return Found(dict(random.gradient), random.loss, random.queries)


def agreement(
    recipe: Recipe, problem: NetworkLoss, coordinates: Coordinates, step: int, radius: float, found: Found
) -> Agreement:
    """How much of the gradient of a step half the radius confirms, on `recipe.check` random coordinates of those given.

    Costs so many queries and one more, which no count of the training includes.
    """
    rng = np.random.default_rng([recipe.seed, step, CHECKS])
    count = min(recipe.check, coordinates.count)
    chosen = coordinates.select(torch.from_numpy(rng.choice(coordinates.count, count, replace=False)))
    finer = differences(recipe, problem, chosen, 0.5 * radius, None, 0)
    ours, theirs = (
        torch.cat([part[name].detach().reshape(-1).cpu().double()[index] for name, index in chosen.indices.items()])
        for part in (found.gradient, finer.gradient)
    )
    lengths = float(ours.norm()), float(theirs.norm())
    if min(lengths) == 0.0:
        return Agreement()
    return Agreement(float(ours @ theirs) / (lengths[0] * lengths[1]), float((ours - theirs).norm()) / lengths[1])


def _backpropagated(problem: NetworkLoss, coordinates: Coordinates) -> Found:
    """The gradient by torch, with 0 outside the coordinates."""
    parameters = {name: part for name, part in problem.module.named_parameters() if part.requires_grad}
    targets = cast(CrossEntropy, problem.loss).targets
    with drawn(problem):
        loss = nn.functional.cross_entropy(problem.module(problem.inputs), targets)
    found = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
    for name, whole in found.items():
        index = coordinates.indices.get(name, torch.empty(0, dtype=torch.int64))
        if len(index) < whole.numel():
            masked = torch.zeros(whole.numel(), dtype=torch.bool)
            masked[index] = True
            found[name] = torch.where(masked.reshape(whole.shape).to(whole.device), whole, 0.0)
    return Found(found, float(loss.detach()), 1)
