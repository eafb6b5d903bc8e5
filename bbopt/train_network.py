"""Networks and data by name: what a recipe of a zeroth-order training stands for, and how its weights are read again."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from bbopt.errors import UsageError, ValueRefused
from bbopt.zeroth_order.training.recipe import Recipe
from problems.networks import crop_and_flip, digits, mlp, resnet20, small_cnn
from surrogates.training.weights import load_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from bbopt.zeroth_order.training.examples import Vary
    from bbopt.zeroth_order.training.loop import Trained
    from bbopt.zeroth_order.training.record import Record
    from bbopt.zeroth_order.training.replica import TrainingReplica
    from problems.networks import ImageSet

__all__ = ["data_of", "load_network", "network_of", "replica_of", "train_network"]

DATA = ("digits", "cifar10")


def network_of(recipe: Recipe, channels: int = 1) -> torch.nn.Sequential:
    """The network of a recipe with its first weights, of the recipe's seed; channels: of images.

    "mlp-64-32-10": widths, inputs first. "cnn-8-16": channels of each level. "resnet20". Raises UsageError for another name.

    >>> network_of(Recipe(network="cnn-8-16"))[0].weight.shape
    torch.Size([8, 1, 3, 3])
    """
    name, *numbers = recipe.network.split("-")
    sizes = tuple(int(each) for each in numbers if re.fullmatch(r"[1-9]\d*", each))
    if len(sizes) == len(numbers):
        if name == "mlp" and len(sizes) >= 2:
            return mlp(sizes, cast(Literal["tanh", "relu"], recipe.activation), seed=recipe.seed)
        if name == "cnn" and sizes:
            return small_cnn(sizes, inputs=channels, seed=recipe.seed)
        if name == "resnet20" and not sizes:
            return resnet20(inputs=channels, seed=recipe.seed)
    raise UsageError(
        "network: expected mlp-INPUTS-...-OUTPUTS (mlp-64-32-10), cnn-CHANNELS-... (cnn-8-16) or resnet20, got"
        f" {recipe.network!r}"
    )


def data_of(recipe: Recipe, path: Path | None = None) -> ImageSet:
    """The examples of a recipe on its device, flat for a perceptron. path: of CIFAR-10.

    Raises UsageError for an unknown name, and where the path of CIFAR-10 is not given or does not hold it.

    >>> data_of(Recipe()).train_inputs.shape
    torch.Size([1437, 64])
    """
    if recipe.data not in DATA:
        raise UsageError(f"data: expected one of {', '.join(DATA)}, got {recipe.data!r}")
    if recipe.data == "digits":
        images = digits()
    else:
        from problems.networks import cifar10

        if path is None:
            raise UsageError(
                "data cifar10: expected the folder that holds it; give it with --data (nothing is downloaded)"
            )
        images = cifar10(path)
    flat = recipe.network.startswith("mlp")
    return (images.flat() if flat else images).to(recipe.machine.device)


def train_network(
    recipe: Recipe, folder: Path | None = None, data: Path | None = None,
    report: Callable[[Record], None] = lambda record: None,
) -> Trained:  # fmt: skip
    """Train the network of a recipe on its data, or go on with the training in `folder`: see `training.loop.train`.

    data: the folder of CIFAR-10.

    >>> recipe = Recipe.from_json({"epochs": 1, "batch": 1437, "update": {"rate": 1.0}})
    >>> train_network(recipe).queries
    2411
    """
    from bbopt.zeroth_order.training.loop import train

    module, images, vary = _parts(recipe, data)
    return train(recipe, module, images, folder, vary=vary, factory=functools.partial(replica_of, recipe, data), report=report)  # fmt: skip


def replica_of(recipe: Recipe, data: Path | None = None) -> TrainingReplica:
    """A replica of the training of a recipe, for a process that helps with it."""
    from bbopt.zeroth_order.training.replica import TrainingReplica

    return TrainingReplica(recipe, *_parts(recipe, data))


def _parts(recipe: Recipe, data: Path | None) -> tuple[torch.nn.Module, ImageSet, Vary | None]:
    """Network, data, and how batches are varied. Raises UsageError where they do not fit each other."""
    from bbopt.zeroth_order.training.replica import check_device

    if recipe.augment and recipe.network.startswith("mlp"):
        raise UsageError("augment: expected a network that takes images, got a perceptron; leave it out")
    check_device(recipe)
    images = data_of(recipe, data)
    wanted = images.train_inputs.shape[1]
    module = network_of(recipe, wanted)
    if next(module.parameters()).shape[1] != wanted:
        raise UsageError(f"network: expected {wanted} inputs for {recipe.data}, got {recipe.network!r}")
    vary = (lambda inputs, generator: crop_and_flip(inputs, generator, fill=images.black)) if recipe.augment else None
    return module, images, vary


def load_network(path: Path) -> tuple[torch.nn.Sequential, dict[str, Any]]:
    """The network in a file of weights, in evaluation mode, and the file's header: recipe, steps, queries, accuracy.

    Raises ValueRefused where the file is missing, damaged, or of something else.
    """
    tensors, header = load_tensors(path)
    try:
        recipe = Recipe.from_json(header["recipe"])
        module = network_of(recipe, 3 if recipe.data == "cifar10" else 1)
        module.load_state_dict(tensors)
    except (KeyError, UsageError, RuntimeError) as trouble:
        raise ValueRefused(f"expected weights of `bbopt train network` at {path}, got something else ({trouble})") from trouble  # fmt: skip
    return module.requires_grad_(False).eval(), header
