"""The mask of a training, round by round: which coordinates take part, and which weights are pruned.

Chen et al. (2024), DeepZero, section 4. In the variant "deepzero" the share of each layer comes from scores made once, at
the first weights; the mask is drawn anew every few epochs at these shares, and weights outside it keep their values: only
the gradient is sparse. "m1" and "m2" prune weights by their scores instead, in turns or once: see `bbopt.zeroth_order.masks`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbopt.zeroth_order.masks import alternating_keep, pruned_further, random_mask
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network_scores import prunable
from bbopt.zeroth_order.sparsity import Rule, layer_ratios, uniform_ratios
from bbopt.zeroth_order.training.examples import Examples, samples
from bbopt.zeroth_order.training.scores import scores

if TYPE_CHECKING:
    from bbopt.zeroth_order.training.recipe import Recipe

__all__ = ["Mask", "prune", "renewed"]

Indices = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Mask:
    """round: how many masks came before it, -1 for none drawn yet. ratios: share of each layer that takes part.

    kept: sorted flat indices of the coordinates that take part, by parameter; None for all of them. names: of the
    parameters whose other weights are pruned.
    """

    round: int = -1
    ratios: Mapping[str, float] = field(default_factory=dict)
    kept: Mapping[str, Tensor] | None = None
    names: tuple[str, ...] = ()

    def coordinates(self, module: nn.Module) -> Coordinates:
        """Those that take part."""
        return Coordinates.all(module) if self.kept is None else Coordinates.of(module, self.kept)


def renewed(recipe: Recipe, mask: Mask, module: nn.Module, examples: Examples, epoch: int) -> tuple[Mask, int]:
    """The mask of an epoch, the given one where it is still that, and the queries spent on scores.

    Where the variant prunes, weights that fall away are set to 0.
    """
    sparsity = recipe.sparsity
    dense = sparsity.keep == 1.0
    round = 0 if dense or sparsity.frozen or sparsity.variant == "m2" else epoch // sparsity.interval
    if round == mask.round:
        return mask, 0
    if dense:
        return Mask(round), 0
    parameters = {name: part for name, part in module.named_parameters() if part.requires_grad}
    sizes = {name: part.numel() for name, part in parameters.items()}
    names = [name for name in prunable(module) if name in parameters]
    if sparsity.variant != "deepzero":
        return _pruned(recipe, mask, module, examples, round, {name: sizes[name] for name in names}, sizes)
    ratios, queries = mask.ratios, 0
    if not ratios and sparsity.ratios == "uniform":
        ratios = uniform_ratios({name: sizes[name] for name in names}, sparsity.keep)
    elif not ratios:
        found, queries = scores(recipe, module, samples(recipe, examples, round), names, round)
        ratios = layer_ratios(found, sparsity.keep, _rule(recipe))
    always = [name for name in parameters if name not in names]
    kept = random_mask(sizes, ratios, always, seed=recipe.seed, epoch=round)
    return Mask(round, ratios, _tensors(kept)), queries


def _pruned(
    recipe: Recipe, mask: Mask, module: nn.Module, examples: Examples, round: int,
    layers: Mapping[str, int], sizes: Mapping[str, int],
) -> tuple[Mask, int]:  # fmt: skip
    """The mask that leaves the best weights of those that are left, after the others were set to 0."""
    sparsity = recipe.sparsity
    rounds = math.ceil(recipe.epochs / sparsity.interval) if sparsity.variant == "m1" else 1
    found, queries = scores(recipe, module, samples(recipe, examples, round), list(layers), round)
    left: Indices = {
        name: np.arange(size) if mask.kept is None else mask.kept[name].numpy() for name, size in layers.items()
    }
    best = pruned_further(found, left, alternating_keep(sparsity.keep, round, rounds), _rule(recipe))
    new = Mask(
        round,
        {name: len(best[name]) / size for name, size in layers.items()},
        _tensors({name: best.get(name, np.arange(size)) for name, size in sizes.items()}),
        tuple(layers),
    )
    prune(new, module)
    return new, queries


def prune(mask: Mask, module: nn.Module) -> None:
    """Set to 0 what the mask has pruned, which momentum may have moved."""
    if mask.kept is None or not mask.names:
        return
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name in mask.names:
            gone = torch.ones(parameters[name].numel(), dtype=torch.bool)
            gone[mask.kept[name]] = False
            parameters[name].masked_fill_(gone.reshape(parameters[name].shape).to(parameters[name].device), 0.0)


def _rule(recipe: Recipe) -> Rule:
    """Which scores are worth keeping: only those of GraSP have a sign that means something."""
    return cast(Rule, recipe.sparsity.rule) if recipe.sparsity.ratios.startswith("grasp") else "absolute"


def _tensors(kept: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.asarray(index, np.int64)) for name, index in kept.items()}
