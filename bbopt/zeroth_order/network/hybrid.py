"""A black box behind a differentiable network: differences at the interface, the chain rule before it.

With outputs o = D_theta(x) of a network that is ours and a loss l(o) that can only be queried,

    dl/dtheta = (do/dtheta)^T dl/do,

where dl/do comes from differences along the entries of o and the product from backpropagation through D alone. Where the
loss is a mean over samples, one query moves the same entry of every sample: entries of one sample + 1 queries, whatever
the size of the batch and of the network. Otherwise every entry of the batch needs its own. Random directions u at the
interface, each sample with its own, estimate dl/do by c u (l(o + r u) - l(o)) / r with E[u u^T] = I / c.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bbopt.directions import Kind, check_kind, direction, factor
from bbopt.errors import UsageError, ValueRefused
from bbopt.zeroth_order.network.base import BasePass, opened
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.engine import NotApplicable
from bbopt.zeroth_order.network.estimate import NetworkGradient, distance, scattered
from bbopt.zeroth_order.network.gather import rows_within
from bbopt.zeroth_order.network.objective import NetworkLoss
from bbopt.zeroth_order.network.steps import ORDER, Scheme, check_radius, check_scheme, default_radius


def hybrid_gradient(
    problem: NetworkLoss,
    *,
    coordinates: Coordinates | None = None,
    scheme: Scheme = "forward",
    radius: float | None = None,
    directions: int | None = None,
    kind: Kind = "gaussian",
    bytes: int | None = None,
    check: int = 0,
    seed: int = 0,
) -> NetworkGradient:
    """The gradient by differences of the loss at the module's outputs, and backpropagation through the module.

    coordinates, scheme, bytes: as in `network_gradient`. radius: of a step of the outputs; None: by precision and scheme.
    directions: random ones at the interface, of this kind and seed, instead of all entries.
    check: entries of the interface, drawn by `seed`, at which half the radius is tried as well; not with directions.

    Raises NotApplicable where the module cannot be differentiated.

    >>> from torch import nn
    >>> from bbopt.zeroth_order.network.objective import BlackBox
    >>> net = nn.Linear(100, 2)
    >>> judge = BlackBox(lambda outputs: outputs.square().sum(1))
    >>> estimate = hybrid_gradient(NetworkLoss(net, torch.ones(8, 100), judge), scheme="central")
    >>> estimate.queries, tuple(estimate.gradient["weight"].shape)  # the two outputs, not the 202 scalars of the network
    (4, (2, 100))
    """
    check_scheme(scheme)
    check_radius(radius)
    if directions is not None and directions < 1:
        raise UsageError(f"expected a number of directions, 1 or more, or None for all entries; got {directions}")
    if directions is not None and check:
        raise UsageError("check= compares entries of the interface, which random directions do not give; leave it out")
    with opened(problem, coordinates) as (base, chosen):
        side = _Interface(base, scheme, radius, bytes)
        error = cosine = None
        if directions is None:
            slope, queries = side.slope(side.all), side.price(side.size)
        else:
            slope, queries = side.slope_along(directions, kind, seed), side.price(directions)
        checked = min(check, side.size)
        if checked:
            some = torch.randperm(side.size, generator=torch.Generator().manual_seed(seed))[:checked].to(slope.device)
            error, cosine = distance(slope[:, some].flatten(), side.slope(some, 0.5).flatten(), ORDER[scheme])
        gradient = _pulled_back(base, slope, chosen)
        extra = checked if scheme == "forward" else 2 * checked + 1
        engines = dict.fromkeys(gradient, "hybrid")
        return NetworkGradient(gradient, base.near.loss, queries, engines, {}, extra, error, cosine, side.radius)


class _Interface:
    """Differences of the loss at the outputs of a module.

    samples: 1 where the loss is no mean over samples, so that nothing can be moved together. size: entries of a sample.
    """

    def __init__(self, base: BasePass, scheme: Scheme, radius: float | None, bytes: int | None) -> None:
        outputs = base.outputs
        self.base, self.scheme = base, scheme
        self.samples = len(outputs) if base.near.values.ndim else 1
        self.size = outputs.numel() // self.samples
        self.start = outputs.reshape(self.samples, self.size).double()
        self.all = torch.arange(self.size, device=outputs.device)
        self.radius = default_radius(outputs.dtype, scheme, base.near.stable) if radius is None else radius
        self.chunk = rows_within(base, bytes)

    def price(self, moves: int) -> int:
        """Evaluations of the loss for so many moves."""
        return moves + 1 if self.scheme == "forward" else 2 * moves

    def slope(self, entries: Tensor, shrink: float = 1.0) -> Tensor:
        """(samples, n) float64: the derivative of the mean loss by some entries of each sample."""
        parts = []
        for j in range(0, len(entries), self.chunk):
            some = entries[j : j + self.chunk]
            rows = torch.arange(len(some), device=some.device)
            rise, run = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
            for sign in self._signs():
                before = self.start[:, some]
                after = (before + sign * shrink * self.radius).to(self.base.outputs.dtype).double()
                moved = self.start.new_zeros(len(some), self.samples, self.size)
                moved[rows, :, some] = (after - before).T
                rise, run = rise + sign * self._changes(moved).T, run + sign * (after - before)
            parts.append(rise / run / self.samples)
        return _finite(torch.cat(parts, 1))

    def slope_along(self, count: int, kind: Kind, seed: int) -> Tensor:
        """(samples, size) float64: an estimate along random directions, one of its own for every sample."""
        check_kind(kind, "hybrid_gradient")
        slope = torch.zeros_like(self.start)
        for j in range(0, count, self.chunk):
            many = range(j, min(count, j + self.chunk))
            u = torch.stack([self._direction(kind, seed, number) for number in many])
            rise = sum(sign * self._changes(sign * self.radius * u) for sign in self._signs()) + u.new_zeros(())
            slope += ((rise / (len(self._signs()) * self.radius))[:, :, None] * u).sum(0)
        return _finite(slope * (factor(kind, self.size) / (count * self.samples)))

    def _signs(self) -> tuple[float, ...]:
        return (1.0,) if self.scheme == "forward" else (1.0, -1.0)

    def _changes(self, moved: Tensor) -> Tensor:
        """(P, samples) changes of the values for (P, samples, size) changes of the outputs."""
        changes = self.base.changes(moved.reshape(len(moved), *self.base.outputs.shape))
        return changes.reshape(len(moved), self.samples)

    def _direction(self, kind: Kind, seed: int, number: int) -> Tensor:
        """(samples, size): direction `number` of each sample's own sequence."""
        rows = [direction(kind, self.size, _mixed(seed, sample), number) for sample in range(self.samples)]
        return torch.from_numpy(np.stack(rows)).to(self.start.device)


def _mixed(seed: int, sample: int) -> int:
    return int(np.random.SeedSequence([seed, sample]).generate_state(1, np.uint64)[0])


def _pulled_back(base: BasePass, slope: Tensor, chosen: Coordinates) -> dict[str, Tensor]:
    """(do/dtheta)^T slope by backpropagation through the module, at the base draws; 0 outside the coordinates.

    Raises NotApplicable where the outputs do not come from the parameters by operations that torch can differentiate.
    """
    module = base.problem.module
    parameters = {name: p for name, p in module.named_parameters() if name in chosen.indices}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    with torch.enable_grad():
        outputs = base.forward()
        if not outputs.requires_grad:
            raise NotApplicable(
                "level 'hybrid' does not apply: the outputs cannot be differentiated by the parameters; levels that always "
                "do: auto, oracle"
            )
        found = torch.autograd.grad(
            outputs, list(parameters.values()), slope.to(outputs.dtype).reshape(outputs.shape), allow_unused=True
        )
    gradient = {}
    for (name, parameter), whole in zip(parameters.items(), found, strict=True):
        index = chosen.indices[name]
        flat = parameter.new_zeros(parameter.numel()) if whole is None else whole.reshape(-1)
        gradient[name] = scattered(parameter, index, flat[index.to(flat.device)])
    return gradient


def _finite(slope: Tensor) -> Tensor:
    if not bool(torch.isfinite(slope).all()):
        raise ValueRefused("the loss is not finite at moved outputs of the module; use a smaller radius")
    return slope
