"""Random functions that are not Gaussian processes: small tanh networks, and formulas of the kind engineers write.

Both are standardised on random points of the unit cube, so that their told values look like those of a process.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from surrogates.prior_draws import DTYPE, Draw

__all__ = ["Function", "formula", "random_network"]

Function = Callable[[Tensor], Tensor]
"""(B, k, d) points to (B, k) values, one function per data set."""
REFERENCE = 256  # points by which a function is standardised
UNITS = 32
TERMS = 4
POWERS = (-3.0, -2.0, -1.0, -0.5, 0.5, 1.0, 1.0, 2.0, 3.0, 4.0)


def random_network(B: int, d: int, generator: torch.Generator) -> Function:
    """B networks with two hidden layers; (B, k, d) points to (B, k) values with mean near 0 and variance near 1.

    >>> function = random_network(2, 3, torch.Generator().manual_seed(0))
    >>> function(torch.zeros(2, 5, 3, dtype=torch.float64)).shape
    torch.Size([2, 5])
    """
    draw = Draw(generator)
    gain = torch.exp(math.log(0.8) + math.log(8.0) * draw.uniform(B, 1, 1))
    first = gain * draw.normal(B, d, UNITS) * 2.0 / math.sqrt(d) * (draw.uniform(B, d, 1) > 0.2)
    bias = gain * draw.normal(B, 1, UNITS)
    second = draw.normal(B, UNITS, UNITS) * 1.5 / math.sqrt(UNITS)
    bias_2 = 0.5 * draw.normal(B, 1, UNITS)
    last = draw.normal(B, UNITS, 1)

    def function(X: Tensor) -> Tensor:
        hidden = torch.tanh((X - 0.5) @ first + bias)
        return (torch.tanh(hidden @ second + bias_2) @ last).squeeze(-1)

    return _standardised(function, draw.uniform(B, REFERENCE, d))


def formula(B: int, d: int, generator: torch.Generator) -> Function:
    """B formulas: sums of products of powers, some over another such sum, some with a wave, a root or a fold on top.

    Inputs run from 1 to a ratio of at most 12, so that negative powers are finite.

    >>> function = formula(2, 3, torch.Generator().manual_seed(0))
    >>> function(torch.zeros(2, 5, 3, dtype=torch.float64)).isfinite().all()
    tensor(True)
    """
    draw = Draw(generator)
    ratio = torch.exp(math.log(1.2) + math.log(10.0) * draw.uniform(B, 1, d))  # upper end over lower end of an input
    choices = torch.tensor(POWERS, dtype=DTYPE, device=draw.device)

    def exponents() -> Tensor:
        power = choices[(draw.uniform(B, d, TERMS) * len(choices)).long()]
        return power * (draw.uniform(B, d, TERMS) < (0.15 + 1.8 / d))

    top, bottom = exponents(), exponents()
    weight = draw.normal(B, 1, TERMS) * (draw.uniform(B, 1, TERMS) < 0.7)
    weight[:, :, 0] = torch.where(weight.abs().sum((1, 2)) > 0, weight[:, 0, 0], 1.0)[:, None]
    weight = torch.where((draw.uniform(B) < 0.4)[:, None, None], weight.abs(), weight)
    under = draw.uniform(B, 1, TERMS) * (draw.uniform(B, 1, TERMS) < 0.5)
    divided = (draw.uniform(B) < 0.35)[:, None]
    waves, phase = 1.0 + 8.0 * draw.uniform(B, 1, 1) * draw.uniform(B, 1, d), 6.3 * draw.uniform(B, 1, d)
    height = torch.where(draw.uniform(B) < 0.2, draw.uniform(B), draw.zeros(B))[:, None]
    outer = draw.uniform(B)[:, None]
    points = draw.uniform(B, REFERENCE, d)
    # so that every term has its weight whatever its powers
    scale_top, scale_bottom = (_powers(points, ratio, part).mean(1, keepdim=True) for part in (top, bottom))

    def inner(X: Tensor) -> Tensor:
        value = (_powers(X, ratio, top) / scale_top * weight).sum(-1)
        below = 0.3 + (_powers(X, ratio, bottom) / scale_bottom * under).sum(-1)
        value = torch.where(divided, value / below, value)
        return value + height * torch.sin(waves * X * 3.0 + phase).mean(-1) * math.sqrt(X.shape[-1])

    plain = _standardised(inner, points)

    def function(X: Tensor) -> Tensor:
        value = plain(X)
        root = (value.abs() + 0.05).sqrt() * value.sign()
        bent = torch.where(outer < 0.08, value.abs(), torch.where(outer < 0.16, root, value))
        return torch.where((outer > 0.16) & (outer < 0.22), value.clamp_min(0.0), bent)

    return _standardised(function, points)


def _powers(X: Tensor, ratio: Tensor, power: Tensor) -> Tensor:
    """(B, k, TERMS) products of powers of inputs that run from 1 to `ratio`."""
    return torch.exp((torch.log1p((ratio - 1.0) * X) @ power).clamp(-40.0, 40.0))


def _standardised(function: Function, points: Tensor) -> Function:
    """The function, shifted and scaled to mean 0 and variance 1 at points (B, k, d)."""
    values = function(points)
    centre, width = values.mean(-1, keepdim=True), values.std(-1, keepdim=True).clamp_min(1e-9)
    return lambda X: (function(X) - centre) / width
