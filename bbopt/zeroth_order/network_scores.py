"""ZO-GraSP scores of a module's weights, from evaluations of its loss alone.

Two estimates of the gradient, at the weights and a short way up the gradient from there, give H g and so the scores
(`sparsity.py`, with the sources). Along coordinates they cost 2 (d + 1) evaluations, along q random directions 2 (q + 1),
where d counts all parameters: the Hessian couples those that are scored with those that are not. Both estimates see the
same random draws of the forward and the same directions, so that noise of the first kind cancels and noise of the second
partly; with q well below d the scores still rank weights worse than their magnitude does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bbopt.directions import Kind
from bbopt.errors import UsageError
from bbopt.zeroth_order.network.estimate import NetworkGradient
from bbopt.zeroth_order.network.gradient import Level, Scheme, network_gradient
from bbopt.zeroth_order.network.objective import NetworkLoss
from bbopt.zeroth_order.network.random_directions import random_gradient
from bbopt.zeroth_order.network.untouched import untouched
from bbopt.zeroth_order.sparsity import grasp_scores, hessian_gradient, hessian_step

__all__ = ["NetworkScores", "network_scores", "prunable"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class NetworkScores:
    """Scores of the prunable weights, float64, in the shapes of their tensors, and the evaluations that they took.

    loss: at the weights. gradient_length: |g|, the Euclidean length of the first estimate.
    """

    scores: dict[str, Array]
    queries: int
    loss: float
    gradient_length: float


def prunable(module: nn.Module) -> tuple[str, ...]:
    """Names of the parameters that masks are drawn for: those of two or more dimensions.

    Those are the weights of linear, convolutional and embedding layers; biases and norms are always active.

    >>> prunable(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    ('0.weight',)
    """
    return tuple(name for name, parameter in module.named_parameters() if parameter.ndim >= 2)


def network_scores(
    problem: NetworkLoss,
    *,
    directions: int | None = None,
    kind: Kind = "gaussian",
    epsilon: float | None = None,
    scheme: Scheme = "forward",
    radius: float | None = None,
    level: Level = "auto",
    seed: int = 0,
) -> NetworkScores:
    """S = -theta * (H g) of every prunable weight of a module; it comes back bit by bit as it was.

    directions: number of random directions, of this kind, drawn by `seed`; None: along coordinates. epsilon: length of the
    step between the two estimates; None: 1e-3 for weights in double precision, else 0.1. scheme, radius, level: of the
    estimates, as for `network_gradient` (level for coordinates only). Raises UsageError for an epsilon that is not
    positive and a module without prunable weights, and what the estimates raise.

    >>> from bbopt.zeroth_order.network.objective import CrossEntropy
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    >>> found = network_scores(NetworkLoss(net, torch.eye(2).double(), CrossEntropy(torch.tensor([0, 1]))))
    >>> found.queries, found.scores["0.weight"].shape
    (36, (3, 2))
    """
    if epsilon is not None and not 0.0 < epsilon < float("inf"):
        raise UsageError(f"network_scores: expected epsilon as a positive number, or None; got {epsilon!r}")
    parameters = dict(problem.module.named_parameters())
    names = prunable(problem.module)
    if not names:
        raise UsageError(
            "network_scores: expected a module with weights of two or more dimensions, it has "
            f"{', '.join(parameters) or 'no parameters'}"
        )

    def estimate() -> NetworkGradient:
        if directions is None:
            return network_gradient(problem, scheme=scheme, radius=radius, level=level)
        return random_gradient(problem, directions, kind=kind, scheme=scheme, radius=radius, seed=seed)

    double = all(parameter.dtype == torch.float64 for parameter in parameters.values())
    length = epsilon or (1e-3 if double else 0.1)
    weights = {name: _array(parameters[name]) for name in names}
    with untouched(problem.module, problem.inputs):
        first = estimate()
        gradient = _arrays(first.gradient)
        for name, step in hessian_step(gradient, length).items():
            parameters[name].add_(torch.from_numpy(step).to(parameters[name]))
        second = estimate()
    product = hessian_gradient(gradient, _arrays(second.gradient), length)
    total = float(np.sqrt(sum(float((array**2).sum()) for array in gradient.values())))
    queries = first.queries + first.extra + second.queries + second.extra
    return NetworkScores(grasp_scores(weights, product), queries, first.loss, total)


def _arrays(gradient: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: _array(tensor) for name, tensor in gradient.items()}


def _array(tensor: Tensor) -> Array:
    """A copy in float64."""
    return np.array(tensor.detach().cpu().double().numpy())
