"""The gradient of a module's loss by coordinate-wise finite differences.

Forward: g_j = [l(theta + h_j e_j) - l(theta)] / h_j, d + 1 queries. Central: [l(theta + h_j e_j) - l(theta - h_j e_j)] / 2 h_j,
2 d queries. The divisor is the step that the parameter's precision can represent, (theta + h) - theta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from bbopt.errors import UsageError
from bbopt.zeroth_order.network.choice import Level
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.engine import NotApplicable
from bbopt.zeroth_order.network.estimate import NetworkGradient, assign, distance, scattered
from bbopt.zeroth_order.network.hybrid import hybrid_gradient
from bbopt.zeroth_order.network.objective import NetworkLoss
from bbopt.zeroth_order.network.steps import ORDER, Scheme
from bbopt.zeroth_order.network.sweep import Sweep, sweep
from bbopt.zeroth_order.network.units import unit_gradient

__all__ = ["Level", "NetworkGradient", "Scheme", "assign", "network_gradient"]

Checked = tuple[float | None, float | None]


def network_gradient(
    problem: NetworkLoss,
    *,
    coordinates: Coordinates | None = None,
    scheme: Scheme = "forward",
    radius: float | None = None,
    relative: bool = False,
    level: Level = "auto",
    bytes: int | None = None,
    check: int = 0,
    seed: int = 0,
) -> NetworkGradient:
    """The gradient of a module's loss from evaluations alone; module and random generators come back bit by bit.

    coordinates: those to differentiate along; None: all parameters that require a gradient.
    scheme: "forward" (n + 1 queries, error of order radius) or "central" (2 n queries, error of order radius^2).
    radius: of the step; None: by precision and scheme. relative: in units of max(|theta_j|, rms of its tensor).
    level: what may be known of the module. "oracle": its loss alone; "staged": its stages, whose inputs are kept;
    "delta": its layers, through which changes are propagated; "vmap": the module, evaluated on stacked perturbations;
    "auto": the fastest of these that is valid for each parameter. Two levels estimate the same gradient by other queries:
    "units", by differences of pre-activations (`unit_gradient`), and "hybrid", where the module may be backpropagated
    through and only its loss is a black box (`hybrid_gradient`).
    bytes: of the activations of perturbations that are evaluated together; None: what suits the device.
    check: coordinates, drawn by `seed`, at which half the radius is tried as well, for `error` and `cosine`.

    Raises UsageError for arguments that do not fit the module, NotApplicable for a level that does not apply,
    ValueRefused for a loss that is not finite.

    >>> from torch import nn
    >>> from bbopt.zeroth_order.network.objective import CrossEntropy
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    >>> problem = NetworkLoss(net, torch.eye(4).double(), CrossEntropy(torch.tensor([0, 1, 1, 0])))
    >>> estimate = network_gradient(problem, check=4)
    >>> estimate.queries, estimate.extra, estimate.error < 1e-5
    (24, 4, True)
    """
    if check < 0:
        raise UsageError(f"expected a number of coordinates to check, 0 or more; got {check}")
    if level == "hybrid":
        if relative:
            raise UsageError(
                "level 'hybrid' moves outputs, which have no radius relative to a weight; leave relative= out"
            )
        return hybrid_gradient(
            problem, coordinates=coordinates, scheme=scheme, radius=radius, bytes=bytes, check=check, seed=seed
        )
    if level == "units":
        return _by_units(problem, coordinates, scheme, radius, relative, bytes, check, seed)
    with sweep(
        problem, coordinates=coordinates, scheme=scheme, radius=radius, relative=relative, level=level, bytes=bytes
    ) as differences:
        chosen = differences.coordinates
        found = {name: differences.derivatives(name, index) for name, index in chosen.indices.items()}
        queries = differences.queries
        error, cosine = _checked(differences, found, check, seed, scheme)
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
            differences.radius,
        )


def _checked(differences: Sweep, found: Mapping[str, Tensor], check: int, seed: int, scheme: Scheme) -> Checked:
    """Relative error and cosine from a second estimate at half the radius, at some coordinates."""
    if check == 0:
        return None, None
    chosen = differences.coordinates
    some = chosen.select(torch.randperm(chosen.count, generator=torch.Generator().manual_seed(seed))[:check])
    first, second = [], []
    for name, index in some.indices.items():
        first.append(found[name][torch.searchsorted(chosen.indices[name], index)])
        second.append(differences.derivatives(name, index, shrink=0.5))
    return distance(torch.cat(first), torch.cat(second), ORDER[scheme])


def _by_units(
    problem: NetworkLoss,
    coordinates: Coordinates | None,
    scheme: Scheme,
    radius: float | None,
    relative: bool,
    bytes: int | None,
    check: int,
    seed: int,
) -> NetworkGradient:
    """`unit_gradient`, and the units of some coordinates once more at half the radius."""

    def estimate(chosen: Coordinates | None, length: float | None) -> NetworkGradient:
        return unit_gradient(problem, coordinates=chosen, scheme=scheme, radius=length, relative=relative, bytes=bytes)

    try:
        first = estimate(coordinates, radius)
    except NotApplicable as reason:
        why = str(reason).removeprefix("level 'units' does not apply: ")
        raise NotApplicable(f"level 'units' does not apply: {why}; levels that always do: auto, oracle") from None
    if check == 0:
        return first
    chosen = Coordinates.all(problem.module) if coordinates is None else coordinates
    some = chosen.select(torch.randperm(chosen.count, generator=torch.Generator().manual_seed(seed))[:check])
    second = estimate(some, 0.5 * (first.radius or 0.0))
    old, new = (
        torch.cat([each.gradient[name].reshape(-1)[index].double().cpu() for name, index in some.indices.items()])
        for each in (first, second)
    )
    error, cosine = distance(old, new, ORDER[scheme])
    return replace(first, extra=first.extra + second.queries + second.extra, error=error, cosine=cosine)
