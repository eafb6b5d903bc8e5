"""Unit-wise differences: one query per unit of a layer in place of one per weight.

A weight W_oi acts on sample b through z_bo alone, with dz_bo / dW_oi = a_bi. One query moves the pre-activation of unit o by h
for all samples at once and reads the loss of each, l_b; for a loss that is a mean over B samples

    dl/dW_oi = 1/B sum_b (l_b(z_bo + h) - l_b) / h  a_bi,    dl/db_o = 1/B sum_b (l_b(z_bo + h) - l_b) / h,

so that sum n_out + 1 queries give what coordinate-wise differences take sum n_in n_out + 1 for, up to the order of h (not the
same number: there the step in z is h a_bi). A convolution has a unit per output channel and position. It is an extension
beyond DeepZero and is no CGE. It needs losses per sample and samples that do not meet: with batch norm in training mode
behind a unit, the loss of a sample depends on the other samples, and the layer is served by weights.
Per layer the smaller of the number of units and the number of coordinates decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bbopt.errors import ValueRefused
from bbopt.zeroth_order.network.base import opened
from bbopt.zeroth_order.network.choice import Engines
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.delta import Delta
from bbopt.zeroth_order.network.delta_conv import Conv
from bbopt.zeroth_order.network.delta_linear import Linear
from bbopt.zeroth_order.network.delta_norm import BatchNorm
from bbopt.zeroth_order.network.delta_state import NotPropagated
from bbopt.zeroth_order.network.engine import NotApplicable
from bbopt.zeroth_order.network.estimate import NetworkGradient, scattered
from bbopt.zeroth_order.network.objective import NetworkLoss
from bbopt.zeroth_order.network.steps import (
    Scheme,
    check_radius,
    check_scheme,
    default_radius,
    representable_steps,
)


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer whose gradient is wanted at some coordinates of its weight, its bias, or both.

    parameters: name by "weight" and "bias". outputs: channels that have a coordinate, ascending.
    """

    place: int
    operation: Linear | Conv
    parameters: dict[str, str]
    outputs: Tensor

    @property
    def units(self) -> int:
        """Units of those channels."""
        return len(self.outputs) * self.operation.positions


def unit_gradient(
    problem: NetworkLoss,
    *,
    coordinates: Coordinates | None = None,
    scheme: Scheme = "forward",
    radius: float | None = None,
    relative: bool = False,
    bytes: int | None = None,
) -> NetworkGradient:
    """The gradient of a module's loss by differences of units where they are fewer than the weights.

    coordinates, scheme, bytes: as in `network_gradient`. radius: of a step of a unit, or of a weight in layers that are
    served by weights; None: by precision and scheme. relative: for the latter alone.
    `engines` of the result says per parameter how it was served ("units" or a coordinate-wise engine).

    Raises NotApplicable where no layer can be served by units, with the reason; ValueRefused for a loss that is not finite.

    >>> from torch import nn
    >>> from bbopt.zeroth_order.network.objective import CrossEntropy
    >>> net = nn.Sequential(nn.Linear(20, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    >>> problem = NetworkLoss(net, torch.eye(20).double(), CrossEntropy(torch.arange(20) % 3))
    >>> unit_gradient(problem).queries  # 5 + 3 units and the base, for 123 parameters
    9
    """
    check_scheme(scheme)
    check_radius(radius)
    with opened(problem, coordinates) as (base, chosen):
        delta = Delta(base, bytes)
        layers, reasons = _layers(delta, chosen)
        if not layers:
            raise NotApplicable(f"level 'units' does not apply: {next(iter(reasons.values()))}")
        parameters = dict(problem.module.named_parameters())
        step = default_radius(base.outputs.dtype, scheme, base.near.stable) if radius is None else radius
        gradient: dict[str, Tensor] = {}
        asked = 0
        for layer in layers:
            slopes = _finite(_slopes(delta, layer, scheme, step))
            asked += layer.units
            for local, name in layer.parameters.items():
                index, tensor = chosen.indices[name], parameters[name]
                gradient[name] = scattered(
                    tensor, index, _of_parameter(layer, local, slopes, index.to(slopes.device), tensor)
                )
        served = {name for layer in layers for name in layer.parameters.values()}
        rest = tuple(name for name in chosen.indices if name not in served)
        engines = Engines(base, "auto", delta.bytes, rest)
        for name in rest:
            index, tensor, engine = chosen.indices[name], parameters[name], engines.serving(name)
            run = representable_steps(tensor, index, step, relative)
            rise = engine.changes(name, index, run)
            if scheme == "central":
                down = representable_steps(tensor, index, -step, relative)
                rise, run = rise - engine.changes(name, index, down), run - down
            asked += len(index)
            gradient[name] = scattered(tensor, index, _finite(rise.cpu() / run.cpu()))
        return NetworkGradient(
            {name: gradient[name] for name in chosen.indices},
            base.near.loss,
            asked + 1 if scheme == "forward" else 2 * asked,
            {name: "units" if name in served else engines.serving(name).name for name in chosen.indices},
            {**engines.fallbacks(), **{name: f"units: {why}" for name, why in reasons.items()}},
            int(scheme == "central"),
            radius=step,
        )


def _layers(delta: Delta, chosen: Coordinates) -> tuple[list[Layer], dict[str, str]]:
    """The layers that units serve, in the order of the forward, and per other parameter why they do not."""
    if not delta.base.near.values.ndim:
        return [], dict.fromkeys(chosen.indices, "the loss is no mean over samples")
    found: dict[int, dict[str, str]] = {}
    reasons: dict[str, str] = {}
    for name in chosen.indices:
        try:
            use, local = delta.entry(name)
            operation = delta.operation(use.place)
            path = delta.path(use.place)
        except NotPropagated as why:
            reasons[name] = str(why)
            continue
        meeting = [step for step, _ in path.steps if isinstance(step, BatchNorm) and step.running is None]
        if not isinstance(operation, Linear | Conv) or not operation.positions:
            reasons[name] = f"{operation.name} has no units, or none that stand in a channel"
        elif meeting:
            reasons[name] = f"{meeting[0].name} in training mode mixes the samples"
        else:
            found.setdefault(use.place, {})[local] = name
    layers = []
    for place in sorted(found):
        layer = _layer(delta, place, found[place], chosen)
        wanted = sum(len(chosen.indices[name]) for name in layer.parameters.values())
        if layer.units < wanted:
            layers.append(layer)
        else:
            more = f"{layer.units} units are not fewer than {wanted} coordinates"
            reasons.update(dict.fromkeys(layer.parameters.values(), more))
    return layers, reasons


def _layer(delta: Delta, place: int, parameters: dict[str, str], chosen: Coordinates) -> Layer:
    operation = delta.operation(place)
    assert isinstance(operation, Linear | Conv)
    width = operation.weight[0].numel()
    touched = [chosen.indices[name] // (width if local == "weight" else 1) for local, name in parameters.items()]
    outputs = torch.zeros(len(operation.weight), dtype=torch.bool)
    for each in touched:
        outputs[each] = True
    return Layer(place, operation, parameters, torch.nonzero(outputs).flatten().to(operation.weight.device))


def _slopes(delta: Delta, layer: Layer, scheme: Scheme, step: float) -> Tensor:
    """(outputs, positions, B) float64: difference quotients of the loss of each sample by each unit."""
    positions, device = layer.operation.positions, layer.outputs.device
    number = (layer.outputs[:, None] * positions + torch.arange(positions, device=device)).flatten()
    steps = torch.full((len(number),), step, dtype=delta.base.outputs.dtype, device=device)
    run = float(torch.tensor(step, dtype=steps.dtype))
    rise = delta.swept(layer.place, layer.operation.unit, number, steps, samples=True)
    if scheme == "central":
        rise, run = rise - delta.swept(layer.place, layer.operation.unit, number, -steps, samples=True), 2.0 * run
    return (rise / run).view(len(layer.outputs), positions, -1)


def _of_parameter(layer: Layer, local: str, slopes: Tensor, index: Tensor, parameter: Tensor) -> Tensor:
    """The gradient at flat indices of the layer's weight or bias."""
    batch = slopes.shape[-1]
    if local == "bias":
        return slopes.sum((1, 2))[torch.searchsorted(layer.outputs, index)] / batch
    whole = layer.operation.weight_slopes(layer.outputs, slopes) / batch
    if len(index) == parameter.numel():
        return whole.flatten()
    width = parameter[0].numel()
    return whole[torch.searchsorted(layer.outputs, index // width), index % width]


def _finite(values: Tensor) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise ValueRefused("the loss is not finite at a moved unit or weight; use a smaller radius")
    return values
