"""One base pass, and finite differences of any coordinates against it: what a gradient is made of, in parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from bbopt.errors import ValueRefused
from bbopt.zeroth_order.network.base import BasePass, opened
from bbopt.zeroth_order.network.choice import Engines, Level
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.gather import budget
from bbopt.zeroth_order.network.objective import NetworkLoss
from bbopt.zeroth_order.network.steps import Scheme, check_radius, check_scheme, default_radius, representable_steps


class Sweep:
    """Open differences: ask for any coordinates, in any order and split; the answers do not depend on earlier ones.

    coordinates: those that may be asked for. loss: at the parameters.
    """

    def __init__(
        self,
        base: BasePass,
        engines: Engines,
        coordinates: Coordinates,
        scheme: Scheme,
        radius: float | None,
        relative: bool,
    ) -> None:
        self.coordinates = coordinates
        self.loss = base.near.loss
        self._base, self._engines = base, engines
        self._scheme, self._radius, self._relative = scheme, radius, relative
        self._asked = 0

    @property
    def radius(self) -> float:
        """Of the steps, given or chosen by the precision of the network."""
        near = self._base.near
        return (
            default_radius(self._base.outputs.dtype, self._scheme, near.stable)
            if self._radius is None
            else self._radius
        )

    @property
    def engines(self) -> dict[str, str]:
        """The name of the engine that serves each parameter."""
        return {name: self._engines.serving(name).name for name in self.coordinates.indices}

    @property
    def fallbacks(self) -> dict[str, str]:
        """Per parameter that a better engine could not serve: which, and why."""
        return self._engines.fallbacks()

    @property
    def queries(self) -> int:
        """Evaluations of the loss that the answers so far are made of: n + 1 forward, 2 n central."""
        return self._asked + 1 if self._scheme == "forward" else 2 * self._asked

    def derivatives(self, parameter: str, index: Tensor, shrink: float = 1.0) -> Tensor:
        """(n,) float64 difference quotients of a parameter at flat indices, on the CPU.

        shrink: a factor on the radius. Raises ValueRefused where the loss is not finite at a perturbed point.
        """
        tensor, engine = self._engines.parameters[parameter], self._engines.serving(parameter)
        radius = shrink * self.radius
        up = representable_steps(tensor, index, radius, self._relative)
        values, steps = engine.changes(parameter, index, up), up
        if self._scheme == "central":
            down = representable_steps(tensor, index, -radius, self._relative)
            values, steps = values - engine.changes(parameter, index, down), up - down
        self._asked += len(index)
        found = values.cpu() / steps.cpu()
        bad = torch.nonzero(~torch.isfinite(found)).flatten()
        if len(bad):
            raise ValueRefused(
                f"the loss is not finite when scalar {int(index[bad[0]])} of {parameter!r} moves by "
                f"{float(steps[bad[0]]):.1e} ({len(bad)} of {len(index)} scalars); use a smaller radius"
            )
        return found


@contextmanager
def sweep(
    problem: NetworkLoss,
    *,
    coordinates: Coordinates | None = None,
    scheme: Scheme = "forward",
    radius: float | None = None,
    relative: bool = False,
    level: Level = "auto",
    bytes: int | None = None,
) -> Iterator[Sweep]:
    """A context with differences against one base pass; options as in `network_gradient`.

    The levels "units" and "hybrid" give whole gradients only and are refused here.

    >>> from torch import nn
    >>> from bbopt.zeroth_order.network.objective import SquaredError
    >>> net = nn.Linear(1, 1, bias=False).double()
    >>> _ = net.weight.data.fill_(3.0)
    >>> problem = NetworkLoss(net, torch.ones(4, 1).double(), SquaredError(torch.zeros(4, 1)))
    >>> with sweep(problem, scheme="central") as differences:
    ...     found = differences.derivatives("weight", torch.tensor([0])).item()
    >>> round(found, 6), differences.queries
    (6.0, 2)
    """
    check_scheme(scheme)
    check_radius(radius)
    with opened(problem, coordinates) as (base, chosen):
        engines = Engines(base, level, budget(base, bytes), tuple(chosen.indices))
        yield Sweep(base, engines, chosen, scheme, radius, relative)
