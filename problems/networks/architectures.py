"""The networks that DeepZero was shown on: perceptrons, small convolutional networks and ResNet-20.

Zhang et al. (2024), DeepZero: Scaling up Zeroth-Order Optimization for Deep Model Training, ICLR, arXiv:2310.02025;
ResNet-20 for 32 x 32 images is that of He, Zhang, Ren, Sun (2016), Deep Residual Learning for Image Recognition, CVPR,
section 4.2, with their parameter-free shortcuts (option A), as in the public implementation that DeepZero uses.

Every network is an `nn.Sequential`, so that a perturbed pass can start again at the stage where it differs. Nothing
works in place: what a stage was given stays as it was. Initial values come from a seed of their own; the global
generator is neither read nor moved.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from bbopt.errors import UsageError

__all__ = ["mlp", "parameter_count", "resnet20", "small_cnn"]

Initial = Literal["uniform", "normal"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


def mlp(
    widths: tuple[int, ...] = (64, 32, 10), activation: Literal["tanh", "relu"] = "relu", seed: int = 0
) -> nn.Sequential:
    """A perceptron: linear layers of these widths (inputs first, outputs last) with an activation between them.

    Takes inputs (n, widths[0]). Weights and biases start uniform in +- 1 / sqrt(inputs of the layer), as torch has it.
    Raises `UsageError` for fewer than two widths, a width below 1, or an activation other than "tanh" and "relu".

    >>> parameter_count(mlp((64, 32, 10)))
    2410
    """
    if len(widths) < 2:
        raise UsageError(f"mlp: expected at least the numbers of inputs and outputs, such as (64, 10); got {widths!r}")
    _check_whole("mlp", widths=widths, seed=seed)
    if activation not in _ACTIVATIONS:
        raise UsageError(f"mlp: expected the activation tanh or relu, got {activation!r}")
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.device("meta"):
        for i, (inputs, outputs) in enumerate(itertools.pairwise(widths), start=1):
            stages[f"linear{i}"] = nn.Linear(inputs, outputs)
            if i < len(widths) - 1:
                stages[f"{activation}{i}"] = _ACTIVATIONS[activation]()
        network = nn.Sequential(stages)
    return _initialised(network, seed, "uniform")


def small_cnn(
    channels: tuple[int, ...] = (8, 16), inputs: int = 1, classes: int = 10, bias: bool = False, seed: int = 0
) -> nn.Sequential:
    """DeepZero's small network: per level a 3 x 3 convolution, batch norm, ReLU and 2 x 2 pooling; then mean and linear.

    channels: output channels of each level; inputs: channels of the images (n, inputs, height, width).
    bias: whether convolutions have one; batch norm takes it out again, but the counts of the paper include it:
    730, 3,700, 6,670, 9,640 and 12,610 are one to five levels of 18 channels on images of 3.
    A level that is given an image of one pixel leaves its size. Raises `UsageError` for no level or a number below 1.

    >>> [parameter_count(small_cnn((18,) * depth, inputs=3, bias=True)) for depth in (1, 2, 3)]
    [730, 3700, 6670]
    """
    if not channels:
        raise UsageError("small_cnn: expected the channels of at least one level, such as (8, 16); got ()")
    _check_whole("small_cnn", channels=channels, inputs=inputs, classes=classes, seed=seed)
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.device("meta"):
        for i, (before, after) in enumerate(zip((inputs, *channels[:-1]), channels, strict=True), start=1):
            stages[f"conv{i}"] = nn.Conv2d(before, after, 3, padding=1, bias=bias)
            stages[f"norm{i}"] = nn.BatchNorm2d(after)
            stages[f"relu{i}"] = nn.ReLU()
            stages[f"pool{i}"] = nn.MaxPool2d(2, ceil_mode=True)
        stages["mean"] = nn.AdaptiveAvgPool2d(1)
        stages["flat"] = nn.Flatten()
        stages["linear"] = nn.Linear(channels[-1], classes)
        network = nn.Sequential(stages)
    return _initialised(network, seed, "uniform")


def resnet20(inputs: int = 3, classes: int = 10, seed: int = 0) -> nn.Sequential:
    """ResNet-20 in 12 stages: convolution, norm, nine blocks of 16, 32 and 64 channels (three each), mean and linear.

    Takes images (n, inputs, height, width), of 32 x 32 as in the paper or smaller. 269,722 parameters for 3 input
    channels and 10 classes: 268,336 weights of convolutions and of the linear layer, 1,386 of norms and a bias.
    Weights start normal with variance 2 / inputs of the layer (He et al., 2015), the bias uniform.
    Raises `UsageError` for a number below 1.

    >>> network = resnet20()
    >>> parameter_count(network), len(network)
    (269722, 12)
    """
    _check_whole("resnet20", inputs=inputs, classes=classes, seed=seed)
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.device("meta"):
        stages["conv"] = nn.Conv2d(inputs, 16, 3, padding=1, bias=False)
        stages["norm"] = nn.Sequential(OrderedDict(batch=nn.BatchNorm2d(16), relu=nn.ReLU()))
        before = 16
        for i in range(9):
            after = 16 * 2 ** (i // 3)
            stages[f"block{i + 1}"] = ResidualBlock(before, after)
            before = after
        stages["head"] = nn.Sequential(
            OrderedDict(mean=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), linear=nn.Linear(64, classes))
        )
        network = nn.Sequential(stages)
    return _initialised(network, seed, "normal")


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with norms beside a shortcut; the first has stride 2 where the channels double.

    >>> ResidualBlock(16, 32)(torch.zeros(1, 16, 8, 8)).shape
    torch.Size([1, 32, 4, 4])
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        self.branch = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
                norm1=nn.BatchNorm2d(after),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(after, after, 3, padding=1, bias=False),
                norm2=nn.BatchNorm2d(after),
            )
        )
        self.shortcut: nn.Module = nn.Identity() if before == after else PaddedShortcut(after - before)
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.relu(self.branch(images) + self.shortcut(images))
        return out


class PaddedShortcut(nn.Module):
    """Option A of He et al.: every second pixel, with `extra` channels of zeros shared out before and after.

    >>> PaddedShortcut(16)(torch.zeros(1, 16, 8, 8)).shape
    torch.Size([1, 32, 4, 4])
    """

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.extra = extra

    def forward(self, images: Tensor) -> Tensor:
        first = self.extra // 2
        return nn.functional.pad(images[:, :, ::2, ::2], (0, 0, 0, 0, first, self.extra - first))


def parameter_count(network: nn.Module) -> int:
    """How many numbers are trained; tied weights count once.

    >>> parameter_count(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in network.parameters())


def _initialised(network: nn.Sequential, seed: int, weights: Initial) -> nn.Sequential:
    """The network, made without memory, on the CPU with values drawn in the order of its modules."""
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            bound = 1.0 / math.sqrt(module.weight[0].numel())
            if weights == "normal":
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0) * bound, generator=generator)
            else:
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()  # ones and zeros: draws nothing
    return network


def _check_whole(function: str, seed: int, **numbers: int | tuple[int, ...]) -> None:
    """Raise `UsageError` where a size is no whole number of at least 1, or the seed is none of at least 0."""
    for name, given in numbers.items():
        for number in given if isinstance(given, tuple) else (given,):
            if type(number) is not int or number < 1:
                raise UsageError(f"{function}: expected {name} as whole numbers of at least 1, got {given!r}")
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise UsageError(f"{function}: expected the seed as a whole number from 0 to 2**63 - 1, got {seed!r}")
