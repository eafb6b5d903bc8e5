"""What the gradient tests share: gradients by backpropagation in float64, comparisons, and the bits of a module."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bbopt.zeroth_order.network.objective import CrossEntropy, Loss, NetworkLoss, SquaredError


def torch_loss(loss: Loss, outputs: Tensor) -> Tensor:
    """The same loss by torch's own functions."""
    if isinstance(loss, CrossEntropy):
        return nn.functional.cross_entropy(outputs, loss.targets)
    assert isinstance(loss, SquaredError)
    return nn.functional.mse_loss(outputs, loss.targets.to(outputs))


def true_gradient(problem: NetworkLoss) -> dict[str, Tensor]:
    """By autograd, on a float64 copy, with the draws that a seed or the present generators give."""
    module = copy.deepcopy(problem.module).double()
    with torch.random.fork_rng():
        if problem.seed is not None:
            torch.manual_seed(problem.seed)
        inputs = problem.inputs.double() if problem.inputs.is_floating_point() else problem.inputs
        loss = torch_loss(problem.loss, module(inputs.clone()))
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), found, strict=True)}


def flat(gradient: Mapping[str, Tensor]) -> Tensor:
    """One float64 vector, by sorted name."""
    return torch.cat([gradient[name].detach().double().reshape(-1) for name in sorted(gradient)])


def relative_error(found: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> float:
    """|found - true| / |true|."""
    assert set(found) == set(true)
    return float((flat(found) - flat(true)).norm() / flat(true).norm())


def cosine(found: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> float:
    """Of the angle between two gradients."""
    a, b = flat(found), flat(true)
    return float(a @ b / (a.norm() * b.norm()))


def bits(module: nn.Module) -> dict[str, Any]:
    """Everything that a call must leave alone, in a form that compares with ==."""
    state: dict[str, Any] = {"grad mode": torch.is_grad_enabled()}
    for name, p in module.named_parameters(remove_duplicate=False):
        grad = None if p.grad is None else (id(p.grad), p.grad.numpy().tobytes())
        state[f"parameter {name}"] = (id(p), p.data_ptr(), p.stride(), p.requires_grad, _bytes(p), grad)
    for name, b in module.named_buffers(remove_duplicate=False):
        state[f"buffer {name}"] = (id(b), b.data_ptr(), b.stride(), _bytes(b))
    for name, part in module.named_modules():
        state[f"mode {name}"] = part.training
        state[f"flag {name}"] = getattr(part, "track_running_stats", None)
        for key, value in vars(part).items():
            if isinstance(value, Tensor):
                state[f"attribute {name}.{key}"] = (id(value), _bytes(value))
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    state["generators"] = (
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
        numpy_state[1].tobytes(),
        numpy_state[2:],
    )
    return state


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()
