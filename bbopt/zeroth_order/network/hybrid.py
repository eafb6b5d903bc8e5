"""A black box behind a differentiable network: differences at the interface, the chain rule before it.

With outputs o = D_theta(x) of a network that is ours and a loss l(o) that can only be queried,

    dl/dtheta = (do/dtheta)^T dl/do,

where dl/do comes from differences along the entries of o and the product from backpropagation through D alone. Where the
loss is a mean over samples, one query moves the same entry of every sample: entries of one sample + 1 queries, whatever
the size of the batch and of the network. Otherwise every entry of the batch needs its own. Random directions u at the
interface, each sample with its own, estimate dl/do by c u (l(o + r u) - l(o)) / r with E[u u^T] = I / c.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bbopt.directions import Kind, check_kind, factor
from bbopt.errors import UsageError, ValueRefused
from bbopt.zeroth_order.network.base import BasePass
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.engine import NotApplicable
from bbopt.zeroth_order.network.steps import Scheme, default_radius

ROW_COPIES = 4
"""Tensors of the size of all moved outputs of a chunk that live at the same time."""


@dataclass(frozen=True, eq=False)
class Interface:
    """Differences of a loss at the outputs of a network.

    slope: (B, ...) float64, dl/do. queries: evaluations of the loss, the one at the base among them where it was used.
    """

    slope: Tensor
    queries: int


def interface_slope(base: BasePass, scheme: Scheme, radius: float | None, bytes: int) -> Interface:
    """dl/do by differences along the entries of the outputs."""
    outputs = base.outputs
    samples = len(outputs) if base.near.values.ndim else 1
    size = outputs.numel() // samples
    flat = outputs.reshape(samples, size)
    h = default_radius(outputs.dtype, scheme) if radius is None else radius
    signs = (1.0,) if scheme == "forward" else (1.0, -1.0)
    slope = torch.empty(samples, size, dtype=torch.float64, device=outputs.device)
    chunk = max(1, bytes // (8 * ROW_COPIES * outputs.numel()))
    for entries in torch.arange(size, device=outputs.device).split(chunk):
        rows = torch.arange(len(entries), device=outputs.device)
        rise, run = 0.0, 0.0
        for sign in signs:
            start = flat[:, entries].double()
            step = (start + sign * h).to(outputs.dtype).double() - start  # (samples, entries), as the precision has it
            moved = torch.zeros(len(entries), samples, size, dtype=torch.float64, device=outputs.device)
            moved[rows, :, entries] = step.T
            changes = base.changes(moved.reshape(len(entries), *outputs.shape)).reshape(len(entries), samples)
            rise, run = rise + sign * changes.T, run + sign * step
        slope[:, entries] = rise / run / samples
    _check(slope)
    queries = size + 1 if scheme == "forward" else 2 * size
    return Interface(slope.reshape(outputs.shape), queries)


def interface_slope_along(
    base: BasePass, count: int, kind: Kind, scheme: Scheme, radius: float | None, seed: int, bytes: int
) -> Interface:
    """dl/do estimated along `count` random directions; samples have directions of their own where the loss is their mean."""
    check_kind(kind, "hybrid")
    if kind == "orthonormal":
        raise UsageError(
            "orthonormal directions at the interface, up to all of them, are level='hybrid' without directions"
        )
    outputs = base.outputs
    samples = len(outputs) if base.near.values.ndim else 1
    size = outputs.numel() // samples
    h = default_radius(outputs.dtype, scheme) if radius is None else radius
    c = factor(kind, size)
    signs = (1.0,) if scheme == "forward" else (1.0, -1.0)
    slope = torch.zeros(samples, size, dtype=torch.float64, device=outputs.device)
    chunk = max(1, bytes // (8 * ROW_COPIES * outputs.numel()))
    for start in range(0, count, chunk):
        many = range(start, min(count, start + chunk))
        u = torch.stack([torch.from_numpy(_directions(kind, samples, size, seed, j)) for j in many]).to(outputs.device)
        rise = 0.0
        for sign in signs:
            changes = base.changes((sign * h * u).reshape(len(many), *outputs.shape)).reshape(len(many), samples)
            rise = rise + sign * changes
        slope += c / count / (len(signs) * h) / samples * (rise[:, :, None] * u).sum(0)
    _check(slope)
    return Interface(slope.reshape(outputs.shape), count + 1 if scheme == "forward" else 2 * count)


def pulled_back(base: BasePass, slope: Tensor, chosen: Coordinates) -> dict[str, Tensor]:
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
            raise NotApplicable("level 'hybrid' does not apply: the outputs cannot be differentiated by the parameters")
        found = torch.autograd.grad(
            outputs, list(parameters.values()), slope.to(outputs.dtype).reshape(outputs.shape), allow_unused=True
        )
    gradient = {}
    for (name, parameter), whole in zip(parameters.items(), found, strict=True):
        index = chosen.indices[name].to(parameter.device)
        values = torch.zeros(len(index), dtype=parameter.dtype) if whole is None else whole.reshape(-1)[index]
        gradient[name] = values.double().cpu()
    return gradient


def _directions(
    kind: Kind, samples: int, size: int, seed: int, index: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(samples, size) independent directions, the rows of one query."""
    rng = np.random.default_rng([seed, index])
    if kind == "rademacher":
        return 2.0 * rng.integers(0, 2, (samples, size)) - 1.0
    u = rng.standard_normal((samples, size))
    return u / np.linalg.norm(u, axis=1, keepdims=True) if kind == "sphere" else u


def _check(slope: Tensor) -> None:
    if not bool(torch.isfinite(slope).all()):
        raise ValueRefused("the loss is not finite at moved outputs of the module; use a smaller radius")
