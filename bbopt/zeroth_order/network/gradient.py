"""The gradient of a module's loss by coordinate-wise finite differences.

Forward: g_j = [l(theta + h_j e_j) - l(theta)] / h_j, d + 1 queries. Central: [l(theta + h_j e_j) - l(theta - h_j e_j)] / 2 h_j,
2 d queries. The divisor is the step that the parameter's precision can represent, (theta + h) - theta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bbopt.errors import UsageError
from bbopt.zeroth_order.network.choice import Level
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.objective import NetworkLoss
from bbopt.zeroth_order.network.steps import Scheme
from bbopt.zeroth_order.network.sweep import BYTES, Sweep, sweep

__all__ = ["Level", "NetworkGradient", "Scheme", "assign", "network_gradient"]


@dataclass(frozen=True, eq=False)
class NetworkGradient:
    """An estimate of a gradient, how good it is, and what it cost.

    gradient: per parameter with a coordinate, a tensor like it, zero outside the coordinates. loss: at the parameters.
    queries: evaluations of the loss that the estimate is made of. extra: those beside it (the check; with central
    differences the one that gives `loss`). engines: which engine served each parameter. fallbacks: where an engine
    refused a parameter, its reason. error: estimated norm-wise relative error. cosine: between the estimates that the
    error comes from.
    """

    gradient: Mapping[str, Tensor]
    loss: float
    queries: int
    engines: Mapping[str, str]
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    extra: int = 0
    error: float | None = None
    cosine: float | None = None


def network_gradient(
    problem: NetworkLoss,
    *,
    coordinates: Coordinates | None = None,
    scheme: Scheme = "forward",
    radius: float | None = None,
    relative: bool = False,
    level: Level = "auto",
    bytes: int = BYTES,
    check: int = 0,
    seed: int = 0,
) -> NetworkGradient:
    """The gradient of a module's loss from evaluations alone; module and random generators come back bit by bit.

    coordinates: those to differentiate along; None: all parameters that require a gradient.
    scheme: "forward" (n + 1 queries, error of order radius) or "central" (2 n queries, error of order radius^2).
    radius: of the step; None: by precision and scheme. relative: in units of max(|theta_j|, rms of its tensor).
    level: what may be known of the module. "oracle": its loss alone; "staged": its stages, whose inputs are kept;
    "vmap": the module, evaluated on stacked perturbations; "auto": the fastest engine that is valid for each parameter.
    bytes: of the activations of perturbations that are evaluated together.
    check: coordinates, drawn by `seed`, at which half the radius is tried as well, for `error` and `cosine`.

    Raises UsageError for arguments that do not fit the module, NotApplicable for a level that does not apply,
    ValueRefused for a loss that is not finite.

    >>> from bbopt.zeroth_order.network.objective import CrossEntropy
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    >>> problem = NetworkLoss(net, torch.eye(4).double(), CrossEntropy(torch.tensor([0, 1, 1, 0])))
    >>> estimate = network_gradient(problem, check=4)
    >>> estimate.queries, estimate.extra, estimate.error < 1e-5
    (24, 4, True)
    """
    if check < 0:
        raise UsageError(f"expected a number of coordinates to check, 0 or more; got {check}")
    with sweep(
        problem, coordinates=coordinates, scheme=scheme, radius=radius, relative=relative, level=level, bytes=bytes
    ) as differences:
        chosen = differences.coordinates
        found = {name: differences.derivatives(name, index) for name, index in chosen.indices.items()}
        queries = differences.queries
        error, cosine = _checked(differences, found, check, seed, 2.0 if scheme == "forward" else 4.0 / 3.0)
        made = differences.queries - queries + (scheme == "central")
        parameters = dict(problem.module.named_parameters())
        gradient = {name: scattered(parameters[name], index, found[name]) for name, index in chosen.indices.items()}
        return NetworkGradient(
            gradient,
            differences.loss,
            queries,
            differences.engines,
            differences.fallbacks,
            made,
            error,
            cosine,
        )


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


def _checked(
    differences: Sweep, found: Mapping[str, Tensor], check: int, seed: int, factor: float
) -> tuple[float | None, float | None]:
    """Relative error and cosine from a second estimate at half the radius, at some coordinates.

    The error of an estimate of order k in the radius is 1 / (1 - 2^-k) times its distance from that at half the radius;
    where rounding prevails instead, this is too high by a factor of up to 2 sqrt(5).
    """
    chosen = differences.coordinates
    if check == 0:
        return None, None
    generator = torch.Generator().manual_seed(seed)
    some = chosen.select(torch.randperm(chosen.count, generator=generator)[:check])
    first, second = [], []
    for name, index in some.indices.items():
        first.append(found[name][torch.searchsorted(chosen.indices[name], index)])
        second.append(differences.derivatives(name, index, shrink=0.5))
    a, b = torch.cat(first), torch.cat(second)
    length = float(a.norm())
    if length == 0.0 or float(b.norm()) == 0.0:
        same = length == float(b.norm())
        return (0.0, 1.0) if same else (float("inf"), 0.0)
    return factor * float((a - b).norm()) / length, float(a @ b) / (length * float(b.norm()))
