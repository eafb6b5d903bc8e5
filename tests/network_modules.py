"""Small modules that finite differences easily get wrong, all from 6 inputs to 4 classes: norms, dropout, shared, recomputed
and oddly stored weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss

Make = Callable[[], nn.Module]


class Tied(nn.Module):
    """One weight at two places, transposed at the second, and a bias that is a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight
        self.shift = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)) + self.shift)[:, :4]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.reshape(len(x), 2, 3))[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(2, 1, 4, dropout=0.0, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.reshape(len(x), 3, 2)).flatten(1))


class LegacyWeightNorm(nn.Sequential):
    """The old hook, which keeps the computed weight as a plain attribute."""


def convolutional(*norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (2, 1, 3)),
        nn.Conv2d(2, 4, 2, padding=1),
        *norm,
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(32, 4),
    )


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))


def weight_normed_before_2() -> nn.Module:
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.Linear(6, 5))
    return LegacyWeightNorm(layer, nn.Tanh(), nn.Linear(5, 4))


MODULES: dict[str, Make] = {
    "batch norm in training": lambda: convolutional(nn.BatchNorm2d(4)).train(),
    "batch norm with cumulative statistics": lambda: convolutional(nn.BatchNorm2d(4, momentum=None)).train(),
    "batch norm in evaluation": lambda: convolutional(nn.BatchNorm2d(4)).eval(),
    "group and instance norm": lambda: convolutional(
        nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, track_running_stats=True)
    ),
    "channels last": lambda: convolutional().to(memory_format=torch.channels_last),
    "transposed weight": perceptron,
    "sliced weight": perceptron,
    "dropout": lambda: nn.Sequential(nn.Linear(6, 20), nn.Dropout(0.5), nn.Tanh(), nn.Linear(20, 4)).train(),
    "tied weights": Tied,
    "activation in place first": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 4)),
    "weight norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 4)),
    "weight norm of old": weight_normed_before_2,
    "spectral norm in evaluation": lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 4))).eval(),
    "orthogonal": lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(6, 4), orthogonal_map="cayley")),
    "recurrent": Recurrent,
    "attention": lambda: Attention().eval(),
    "one stage": lambda: nn.Linear(6, 4),
}


def problem_of(name: str, dtype: torch.dtype = torch.float64) -> NetworkLoss:
    torch.manual_seed(7)
    net = MODULES[name]().to(dtype)
    if name == "transposed weight":
        net[0].weight = nn.Parameter((torch.randn(6, 5, dtype=dtype) / 3).t())  # type: ignore[index, union-attr]
    if name == "sliced weight":  # every other column of a larger tensor
        net[0].weight = nn.Parameter(torch.randn(5, 12, dtype=dtype)[:, ::2])  # type: ignore[index, union-attr]
    if name == "weight norm of old":
        with torch.no_grad():
            net(torch.zeros(1, 6, dtype=dtype))  # a computed weight with a graph cannot be copied by deepcopy
    return NetworkLoss(net, torch.randn(12, 6).to(dtype), CrossEntropy(torch.randint(0, 4, (12,))), seed=5)
