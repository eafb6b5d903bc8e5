"""An estimate of a module's gradient: what it is, how good it is, what it cost, and how an optimizer gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bbopt.errors import UsageError


@dataclass(frozen=True, eq=False)
class NetworkGradient:
    """An estimate of a gradient, how good it is, and what it cost.

    gradient: per parameter with a coordinate, a tensor like it, zero outside the coordinates. loss: at the parameters.
    queries: evaluations of the loss that the estimate is made of. extra: those beside it (the check; with central
    differences the one that gives `loss`). engines: which engine served each parameter. fallbacks: where an engine
    refused a parameter, its reason. error: estimated norm-wise relative error. cosine: between the estimates that the
    error comes from. radius: that the steps had, given or chosen.
    """

    gradient: Mapping[str, Tensor]
    loss: float
    queries: int
    engines: Mapping[str, str]
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    extra: int = 0
    error: float | None = None
    cosine: float | None = None
    radius: float | None = None


def assign(gradient: Mapping[str, Tensor] | NetworkGradient, module: nn.Module) -> None:
    """Sets `.grad` of a module's parameters to an estimate, so that any torch.optim optimizer can step on it.

    Parameters without an entry get no gradient, and optimizers leave them alone.

    >>> layer = nn.Linear(1, 1)
    >>> assign({"bias": torch.ones(1)}, layer)
    >>> layer.bias.grad, layer.weight.grad
    (tensor([1.]), None)
    """
    given = gradient.gradient if isinstance(gradient, NetworkGradient) else gradient
    parameters = dict(module.named_parameters())
    unknown = sorted(set(given) - set(parameters))
    if unknown:
        raise UsageError(f"the module has no parameter {unknown[0]!r}; it has {', '.join(parameters)}")
    for name, parameter in parameters.items():
        parameter.grad = None
        if name in given:
            parameter.grad = torch.empty_like(parameter).copy_(given[name])


def scattered(parameter: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """A tensor like the parameter with values at flat indices and zeros elsewhere."""
    flat = torch.zeros(parameter.numel(), dtype=parameter.dtype, device=parameter.device)
    flat[index.to(parameter.device)] = values.to(parameter.device, parameter.dtype)
    return torch.empty_like(parameter, requires_grad=False).copy_(flat.reshape(parameter.shape))


def distance(first: Tensor, second: Tensor, order: int) -> tuple[float, float]:
    """Relative error and cosine of an estimate, from a second one at half the radius.

    An estimate whose error is of this order in the radius lies 1 / (1 - 2^-order) times as far from the truth as from
    that at half the radius; where rounding prevails instead, this is too high by a factor of up to 2 sqrt(5).

    >>> distance(torch.tensor([3.0, 0.0]), torch.tensor([3.0, 0.3]), 1)[0]
    0.2...
    """
    length, other = float(first.norm()), float(second.norm())
    if length == 0.0 or other == 0.0:
        return (0.0, 1.0) if length == other else (float("inf"), 0.0)
    return float((first - second).norm()) / length / (1.0 - 0.5**order), float(first @ second) / (length * other)
