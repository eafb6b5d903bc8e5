"""How far a coordinate is moved: by a step that its precision can represent, so that the divisor is the true one.

The best radius balances curvature against rounding, about 2 sqrt(eps_f / |f''|) for forward and (3 eps_f / |f'''|)^(1/3)
for central differences, with eps_f the rounding of the loss. `default_radius` has it for losses and weights of order one.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from bbopt.errors import UsageError

Scheme = Literal["forward", "central"]

ORDER = {"forward": 1, "central": 2}
"""Of the error in the radius."""
RADIUS: dict[tuple[Scheme, torch.dtype, bool], float] = {
    ("forward", torch.float64, False): 1e-7,
    ("forward", torch.float64, True): 1e-8,
    ("central", torch.float64, False): 1e-5,
    ("central", torch.float64, True): 5e-6,
    ("forward", torch.float32, False): 5e-3,
    ("forward", torch.float32, True): 3e-4,
    ("central", torch.float32, False): 1e-2,
    ("central", torch.float32, True): 2e-3,
}
"""By scheme, precision, and whether changes of the loss are computed without cancellation."""


def default_radius(dtype: torch.dtype, scheme: Scheme, stable: bool) -> float:
    """The radius where none is given; stable: of the loss, see `Around`.

    >>> default_radius(torch.float32, "forward", stable=True), default_radius(torch.float32, "forward", stable=False)
    (0.0003, 0.005)
    """
    return RADIUS[scheme, dtype, stable]


def representable_steps(parameter: Tensor, index: Tensor, radius: float, relative: bool = False) -> Tensor:
    """(n,) float64: (theta_j + radius) - theta_j in the parameter's precision, never zero. A negative radius goes down.

    relative: the radius is in units of max(|theta_j|, root mean square of the tensor), or of 1 where both are zero.

    >>> weight = torch.tensor([1.0, 4e6])
    >>> representable_steps(weight, torch.tensor([0, 1]), 1e-3)
    tensor([0.0010, 0.2500], dtype=torch.float64)
    >>> representable_steps(weight, torch.tensor([1]), -1e-3, relative=True)
    tensor([-4000.], dtype=torch.float64)
    """
    theta = parameter.detach().reshape(-1)[index.to(parameter.device)]
    length = torch.full_like(theta, radius, dtype=torch.float64)
    if relative:
        scale = theta.abs().double().clamp(min=float(parameter.detach().double().square().mean().sqrt()))
        length *= torch.where(scale > 0.0, scale, 1.0)
    moved = (theta.double() + length).to(theta.dtype)
    next_one = torch.nextafter(theta, torch.full_like(theta, float("inf") if radius > 0.0 else -float("inf")))
    return torch.where(moved == theta, next_one, moved).double() - theta.double()


def check_radius(radius: float | None) -> None:
    """Raise UsageError for a radius that is no positive number."""
    if radius is not None and not 0.0 < radius < float("inf"):
        raise UsageError(f"expected a positive radius, or None for the default of the precision; got {radius}")


def check_scheme(scheme: str) -> None:
    """Raise UsageError for a scheme that there is not."""
    if scheme not in get_args(Scheme):
        raise UsageError(f"expected the scheme 'forward' or 'central', got {scheme!r}")
