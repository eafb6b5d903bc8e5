"""The gradient of a module's loss from differences along random directions.

    g = (c / q) sum_i [l(theta + r u_i) - l(theta)] / r u_i,    E[u u^T] = I / c,

unbiased for linear losses: c = 1 for Gaussian and sign vectors, c = d for unit vectors. Relative variance of q directions
for a linear loss: (d + 1) / q Gaussian, (d - 1) / q signs and sphere, d / q - 1 orthonormal. With `per_tensor` a unit vector
is drawn for each tensor and c is the size of that tensor; the code published with DeepZero normalises so but leaves c
out, and its gradient is too small by another factor in every layer. A direction is rebuilt from (seed, number), so
memory is one direction, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from bbopt.directions import Kind, check_kind, direction, factor
from bbopt.errors import UsageError, ValueRefused
from bbopt.zeroth_order.network.base import BasePass, opened
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.estimate import NetworkGradient, scattered
from bbopt.zeroth_order.network.gather import Gathered
from bbopt.zeroth_order.network.objective import NetworkLoss
from bbopt.zeroth_order.network.steps import Scheme, check_radius, check_scheme, default_radius

Array = np.ndarray[Any, np.dtype[np.float64]]


def random_gradient(
    problem: NetworkLoss,
    count: int,
    *,
    kind: Kind = "gaussian",
    per_tensor: bool = False,
    coordinates: Coordinates | None = None,
    scheme: Scheme = "forward",
    radius: float | None = None,
    bytes: int | None = None,
    seed: int = 0,
) -> NetworkGradient:
    """The gradient along `count` random directions: count + 1 queries forward, 2 count central.

    kind: of `bbopt.directions`. per_tensor: a direction for each tensor, on the same query, instead of one for all.
    radius: length of the step per unit of u; None: by precision, times sqrt(d) for unit vectors, so that one scalar
    moves about as far as in a coordinate-wise difference. bytes: of the outputs that the loss looks at together. seed: of the directions; the same seed, the same directions.
    error: the standard deviation, relative to the gradient, that the kind has for a linear loss.

    >>> from torch import nn
    >>> from bbopt.zeroth_order.network.objective import SquaredError
    >>> net = nn.Linear(3, 1).double()
    >>> problem = NetworkLoss(net, torch.eye(3).double(), SquaredError(torch.zeros(3, 1)))
    >>> estimate = random_gradient(problem, 4, kind="orthonormal", scheme="central")  # as many as there are scalars
    >>> loss = nn.functional.mse_loss(net(problem.inputs), torch.zeros(3, 1).double())
    >>> true = torch.autograd.grad(loss, net.weight)[0]
    >>> bool(torch.allclose(estimate.gradient["weight"], true)), estimate.queries
    (True, 8)
    """
    check_kind(kind, "random_gradient")
    check_radius(radius)
    if count < 1:
        raise UsageError(f"expected a number of directions, 1 or more; got {count}")
    check_scheme(scheme)
    with opened(problem, coordinates) as (base, chosen):
        walk = _Walk(base, chosen, kind, per_tensor, bytes, seed)
        unit = 1.0 if kind in ("gaussian", "rademacher") else float(np.sqrt(walk.typical))
        length = unit * default_radius(base.outputs.dtype, scheme, base.near.stable) if radius is None else radius
        quotients = walk.changes(count, length) / length
        if scheme == "central":
            quotients = (quotients - walk.changes(count, -length) / length) / 2.0
        total = np.zeros(chosen.count)
        for number, quotient in enumerate(quotients):
            total += walk.scale * quotient * walk.direction(number)
        parameters = dict(problem.module.named_parameters())
        gradient = {
            name: scattered(parameters[name], chosen.indices[name], torch.from_numpy(total[where] / count))
            for name, where in walk.parts
        }
        return NetworkGradient(
            gradient,
            base.near.loss,
            count + 1 if scheme == "forward" else 2 * count,
            dict.fromkeys(gradient, f"{kind} directions"),
            extra=int(scheme == "central"),
            error=None if per_tensor else relative_deviation(kind, chosen.count, count),
            radius=length,
        )


def relative_deviation(kind: Kind, size: int, count: int) -> float:
    """Root of E|g - true|^2 / |true|^2 for a linear loss in `size` dimensions and `count` directions.

    >>> round(relative_deviation("gaussian", 99, 100), 3), relative_deviation("orthonormal", 8, 8)
    (1.0, 0.0)
    """
    if kind == "orthonormal":
        rest = count % size  # complete bases leave nothing to chance
        return float(np.sqrt(rest * (size - rest))) / count
    return float(np.sqrt((size + 1 if kind == "gaussian" else size - 1) / count))


class _Walk:
    """Moves all chosen scalars of a module along a direction and back.

    parts: where each parameter lies in a direction. scale: (d,) the c of each scalar. typical: size of a unit vector.
    """

    def __init__(
        self, base: BasePass, chosen: Coordinates, kind: Kind, per_tensor: bool, bytes: int | None, seed: int
    ) -> None:
        self.base, self.kind, self.bytes = base, kind, bytes
        self.parameters = dict(base.problem.module.named_parameters())
        self.chosen = chosen
        self.parts = tuple(_parts(chosen))
        self.blocks = [where for _, where in self.parts] if per_tensor else [slice(0, chosen.count)]
        mixed = [np.random.SeedSequence([seed, j]).generate_state(1, np.uint64) for j in range(len(self.blocks))]
        self.seeds = [int(each[0]) for each in mixed] if per_tensor else [seed]
        self.scale = np.empty(chosen.count)
        for block in self.blocks:
            self.scale[block] = factor(kind, block.stop - block.start)
        self.typical = chosen.count / len(self.blocks)
        self.saved = {name: self.parameters[name].detach().clone() for name in chosen.indices}

    def direction(self, number: int) -> Array:
        """(d,) the direction of this number."""
        u = np.empty(self.chosen.count)
        for own, block in zip(self.seeds, self.blocks, strict=True):
            u[block] = direction(self.kind, block.stop - block.start, own, number)
        return u

    def changes(self, count: int, length: float) -> Array:
        """(count,) l(theta + length u) - l(theta) along the first directions."""
        found = Gathered(self.base, self.bytes)
        try:
            for number in range(count):
                self._move(length * self.direction(number))
                found.add(self.base.forward())
        finally:
            for name, saved in self.saved.items():
                self.parameters[name].data.copy_(saved)
        changes: Array = found.changes().cpu().numpy()
        if not np.isfinite(changes).all():
            raise ValueRefused(f"the loss is not finite at a step of length {abs(length):.1e}; use a smaller radius")
        return changes

    def _move(self, step: Array) -> None:
        for name, where in self.parts:
            flat = self.saved[name].reshape(-1).to(torch.float64, copy=True)
            flat[self.chosen.indices[name].to(flat.device)] += torch.from_numpy(step[where]).to(flat.device)
            self.parameters[name].data.copy_(flat.reshape(self.parameters[name].shape))


def _parts(chosen: Coordinates) -> Iterator[tuple[str, slice]]:
    start = 0
    for name, index in chosen.indices.items():
        yield name, slice(start, start + len(index))
        start += len(index)
