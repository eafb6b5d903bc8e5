"""Scores of a network's weights, from which layers get their shares: ZO-GraSP by coordinates or by random directions, others.

The formulas, and what the code published with DeepZero does instead ("released"), are in `bbopt.zeroth_order.sparsity`. In
"grasp-rge" both gradients are along the same directions, so that their noise is a part of the difference's signal no more
than it must be; at as few directions as the paper's 192 it ranks weights worse than their magnitude does all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss
from bbopt.zeroth_order.network.untouched import untouched
from bbopt.zeroth_order.sparsity import grasp_scores, hessian_gradient, hessian_step, magnitude_scores, released_scores
from bbopt.zeroth_order.training.estimate import differences
from bbopt.zeroth_order.training.examples import NOISE, SAMPLES, number

if TYPE_CHECKING:
    from bbopt.zeroth_order.training.recipe import Recipe

__all__ = ["scores"]

LENGTH = {torch.float64: 1e-3}
"""Length of the step along the gradient, in the weights' precision; other precisions round steps this short away."""
LENGTH_ELSE = 0.05

Layers = dict[str, NDArray[Any]]


def scores(
    recipe: Recipe, module: nn.Module, batch: tuple[Tensor, Tensor], names: Sequence[str], round: int
) -> tuple[Layers, int]:
    """Flat scores of the named weights, and the queries that they took.

    batch: inputs and classes for the gradients. round: other random numbers for every round of pruning.
    """
    parameters = dict(module.named_parameters())
    weights = {name: _flat(parameters[name]) for name in names}
    kind = recipe.sparsity.ratios
    if kind == "magnitude":
        return magnitude_scores(weights), 0
    if kind == "released":
        return released_scores(weights, np.random.default_rng([recipe.seed, round, SAMPLES])), 0
    problem = NetworkLoss(module, batch[0], CrossEntropy(batch[1]), number(recipe.seed, round, NOISE))
    along = recipe.sparsity.directions if kind == "grasp-rge" else None
    seed = number(recipe.seed, round, SAMPLES)
    with untouched(module, batch[0]):
        first, queries = _gradient(recipe, problem, along, seed)
        length = max(LENGTH.get(parameter.dtype, LENGTH_ELSE) for parameter in parameters.values())
        for name, step in hessian_step(first, length).items():
            moved = torch.from_numpy(step).to(parameters[name].device, parameters[name].dtype)
            parameters[name].add_(moved.reshape(parameters[name].shape))
        second, more = _gradient(recipe, problem, along, seed)
    return grasp_scores(weights, hessian_gradient(first, second, length)), queries + more


def _gradient(recipe: Recipe, problem: NetworkLoss, along: int | None, seed: int) -> tuple[Layers, int]:
    """Flat estimates of the gradient of every parameter, and their queries. along: random directions; None: coordinates."""
    found = differences(recipe, problem, Coordinates.all(problem.module), recipe.estimate.radius, along, seed)
    return {name: _flat(part) for name, part in found.gradient.items()}, found.queries


def _flat(tensor: Tensor) -> NDArray[Any]:
    """As one float64 row, a copy."""
    return np.array(tensor.detach().reshape(-1).cpu().double().numpy())
