"""The gradient of a step by the recipe's estimate: differences along coordinates or random directions, or backpropagation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from bbopt.directions import Kind
from bbopt.errors import UsageError
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.gradient import Level, network_gradient
from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss
from bbopt.zeroth_order.network.parallel import GradientPool, InProcessPool, Replica, Step
from bbopt.zeroth_order.network.random_directions import random_gradient
from bbopt.zeroth_order.training.draws import drawn
from bbopt.zeroth_order.training.examples import CHECKS, DIRECTIONS, seed_of

if TYPE_CHECKING:
    from bbopt.zeroth_order.training.recipe import Recipe
    from bbopt.zeroth_order.training.replica import TrainingReplica

__all__ = ["Found", "confirmed", "gradients"]


@dataclass(frozen=True, eq=False)
class Found:
    """A gradient of the mean cross-entropy of a batch, by parameter, 0 where a coordinate does not take part.

    loss: at the weights themselves. queries: forward passes of the batch that it took (1 for backpropagation).
    """

    gradient: dict[str, Tensor]
    loss: float
    queries: int


@contextmanager
def gradients(
    recipe: Recipe, replica: TrainingReplica, factory: Callable[[], Replica] | None
) -> Iterator[Callable[[int], Found]]:
    """What gives the gradient of a step of this number, at the replica's weights; what it needs ends with the context.

    factory: makes a replica in a worker. Differences of single coordinates are cut into the same parts here and on workers.
    Raises UsageError where there are to be workers and no factory, MissingPackage where Ray is not installed.
    """
    machine = recipe.machine
    if recipe.estimate.kind != "cge" or recipe.estimate.level == "units":
        yield lambda number: _gradient_of(recipe, replica.step(number), number)
        return
    if machine.workers == 0:
        pool: GradientPool = InProcessPool(replica)
    elif factory is None:
        raise UsageError(
            "machine.workers: expected a factory of replicas beside workers, got none; train with workers=0"
        )
    else:
        from bbopt.zeroth_order.network.parallel_ray import RayPool

        gpus = machine.gpus if machine.device == "cuda" else 0.0
        pool = RayPool(factory, replica, workers=machine.workers, address=machine.address or None, gpus=gpus,
                       threads=machine.threads)  # fmt: skip
    with pool:

        def from_pool(number: int) -> Found:
            found = pool.gradient(number)
            return Found(dict(found.gradient), found.loss, found.queries)

        yield from_pool


def _gradient_of(recipe: Recipe, step: Step, number: int) -> Found:
    """The gradient of a step as one; buffers move in backpropagation alone."""
    estimate = recipe.estimate
    if estimate.kind == "first-order":
        return _backpropagated(step.problem, step.coordinates)
    if estimate.kind == "cge":
        found = network_gradient(step.problem, coordinates=step.coordinates, scheme=step.scheme, radius=step.radius,
                                 level=step.level)  # fmt: skip
    else:
        found = random_gradient(step.problem, estimate.directions, kind=cast(Kind, estimate.distribution),
                                coordinates=step.coordinates, scheme=step.scheme, radius=step.radius,
                                seed=seed_of(recipe.seed, number, DIRECTIONS))  # fmt: skip
    return Found(dict(found.gradient), found.loss, found.queries)


def confirmed(recipe: Recipe, step: Step, number: int) -> tuple[float, float]:
    """Cosine and estimated relative error of the differences of a step, on `recipe.check` random ones of its coordinates.

    From the same differences at half the radius; NaN where there is no such number. Costs twice so many queries, which no
    count of the training includes.
    """
    rng = np.random.default_rng([recipe.seed, number, CHECKS])
    count = min(recipe.check, step.coordinates.count)
    chosen = step.coordinates.select(torch.from_numpy(rng.choice(step.coordinates.count, count, replace=False)))
    level: Level = "auto" if step.level == "units" else step.level
    found = network_gradient(step.problem, coordinates=chosen, scheme=step.scheme, radius=step.radius, level=level,
                             check=count)  # fmt: skip
    cosine, error = (math.nan if each is None else each for each in (found.cosine, found.error))
    return cosine, error


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
