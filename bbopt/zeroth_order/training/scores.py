"""Scores of a network's weights at the start of a round, by the recipe: GraSP of two kinds, or such as need no query.

Formulas and sources are in `bbopt.zeroth_order.sparsity` and `bbopt.zeroth_order.network_scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from bbopt.directions import Kind
from bbopt.zeroth_order.network.choice import Level
from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss
from bbopt.zeroth_order.network.steps import Scheme
from bbopt.zeroth_order.network_scores import network_scores
from bbopt.zeroth_order.sparsity import magnitude_scores, released_scores
from bbopt.zeroth_order.training.examples import NOISE, SAMPLES, seed_of

if TYPE_CHECKING:
    from bbopt.zeroth_order.training.recipe import Recipe

__all__ = ["scores"]


def scores(
    recipe: Recipe, module: nn.Module, batch: tuple[Tensor, Tensor], names: Sequence[str], round: int
) -> tuple[dict[str, NDArray[Any]], int]:
    """Flat scores of the named weights, and the queries that they took.

    batch: inputs and classes for the gradients. round: other random numbers for every round of pruning.
    """
    parameters = dict(module.named_parameters())
    weights = {name: np.array(parameters[name].detach().cpu().double().reshape(-1).numpy()) for name in names}
    kind, estimate = recipe.sparsity.ratios, recipe.estimate
    if kind == "magnitude":
        return magnitude_scores(weights), 0
    if kind == "released":
        return released_scores(weights, np.random.default_rng([recipe.seed, round, SAMPLES])), 0
    found = network_scores(
        NetworkLoss(module, batch[0], CrossEntropy(batch[1]), seed_of(recipe.seed, round, NOISE)),
        directions=recipe.sparsity.directions if kind == "grasp-rge" else None,
        kind=cast(Kind, estimate.distribution),
        scheme=cast(Scheme, estimate.scheme),
        radius=estimate.radius,
        level=cast(Level, estimate.level),
        seed=seed_of(recipe.seed, round, SAMPLES),
    )
    return {name: found.scores[name].ravel() for name in names}, found.queries
