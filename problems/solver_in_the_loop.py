"""A small network that corrects a coarse solver after every step, learnt through the solver ("solver in the loop").

    u_{t+1} = C(P(u_t)),    C(v) = v + 0.1 conv(tanh(conv(v)))                                              (1)

P is the coarse solver of `burgers`, C a corrector with 115 weights (3 x 3 kernels, 1 -> 6 -> 1 channels, periodic). The weights
minimise the mean squared distance of a rollout of (1) to the fine solution averaged over the coarse cells: the gradient
passes through P again and again, or P is only asked for values.

Um, Brand, Fei, Holl, Thuerey (2020), Solver-in-the-Loop: Learning from Differentiable Physics to Interact with Iterative
PDE-Solvers, NeurIPS, arXiv 2007.00016; trained by queries alone in Chen et al. (2024), DeepZero, ICLR, arXiv 2310.02025. Theirs is
the wake behind a cylinder; this is Burgers' equation, small enough for seconds on a laptop. What they compare:

- SRC: the coarse solver alone. - NON: the corrector learns from pairs of one step, and never sees what its own output leads to.
- FO-SOL: rollouts, the gradient by backpropagation through the solver. - ZO-SOL: the same by finite differences.

Weights are rows: (P, 115) are P correctors, and all of them run in one call of the solver, each in its own slice of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bbopt.errors import UsageError

from .burgers import COARSE, FINE, coarsen, random_starts

__all__ = ["WEIGHTS", "Gradient", "Losses", "LoopData", "correct", "errors", "first_order", "initial_weights", "loop_data",
           "rollout", "rollout_losses", "train_corrector"]  # fmt: skip

CHANNELS, KERNEL, SCALE = 6, 9, 0.1
_SIZES = [CHANNELS * KERNEL, CHANNELS, CHANNELS * KERNEL, 1]  # weights and biases of the two convolutions
WEIGHTS = sum(_SIZES)
"""Number of weights of the corrector: 115."""

Losses = Callable[[Tensor], Tensor]
"""Losses (P,) of P correctors (P, 115) on the same rollouts: one call of the solver."""
Gradient = Callable[[Losses, Tensor], Tensor]
"""The gradient (115,) of such losses at weights (115,), exact or estimated."""


@dataclass(frozen=True, eq=False)
class LoopData:
    """What the fine solver found, averaged over the coarse cells: (steps + 1, solutions, 16, 16) each, the start first."""

    train: Tensor
    test: Tensor


def loop_data(seed: int = 0, train: int = 24, train_steps: int = 24, test: int = 16, test_steps: int = 40) -> LoopData:
    """Fine solutions from random starts; those of the test begin elsewhere and last longer than those of the training."""
    rng = np.random.default_rng(seed)

    def solved(count: int, steps: int) -> Tensor:
        starts = random_starts(count, FINE.cells, rng)
        return coarsen(FINE.run(starts, steps), COARSE.cells)

    return LoopData(solved(train, train_steps), solved(test, test_steps))


def initial_weights(seed: int = 0) -> Tensor:
    """(115,) float32, uniform within 1 / sqrt(inputs of the unit), torch's own rule for convolutions."""
    rng = np.random.default_rng(seed)
    inputs = np.repeat([KERNEL, KERNEL, CHANNELS * KERNEL, CHANNELS * KERNEL], _SIZES)
    return torch.from_numpy((rng.uniform(-1, 1, WEIGHTS) / np.sqrt(inputs)).astype(np.float32))


def correct(weights: Tensor, v: Tensor) -> Tensor:
    """(P, B, n, n) corrected fields: row p of the weights (P, 115) applied to v[p]. Differentiable.

    A convolution in P groups, written as products of P small matrices, which take half the time of torch's own.

    >>> v = torch.ones(3, 2, 4, 4)
    >>> bool((correct(torch.zeros(3, WEIGHTS), v) == v).all())  # no weights, no correction
    True
    """
    P, B, n, _ = v.shape
    if weights.shape != (P, WEIGHTS):
        raise UsageError(f"expected weights of shape ({P}, {WEIGHTS}) for {P} correctors, got {tuple(weights.shape)}")
    first, bias, second, last = torch.split(weights, _SIZES, dim=1)
    wide = functional.pad(v, (1, 1, 1, 1), mode="circular")
    shifted = [wide[..., i : i + n, j : j + n] for i in range(3) for j in range(3)]
    patches = torch.stack(shifted, dim=1).reshape(P, KERNEL, B * n * n)
    hidden = torch.tanh(torch.baddbmm(bias[:, :, None], first.reshape(P, CHANNELS, KERNEL), patches))
    # the second convolution sums over channels first and over its nine places afterwards: nine fields to shift, not 54
    parts = torch.bmm(second.reshape(P, CHANNELS, KERNEL).transpose(1, 2), hidden).reshape(P, KERNEL, B, n, n)
    change = last[:, :, None, None]
    for place in range(KERNEL):
        change = change + torch.roll(parts[:, place], (1 - place // 3, 1 - place % 3), (-2, -1))
    corrected: Tensor = v + SCALE * change
    return corrected


def rollout(weights: Tensor | None, starts: Tensor, steps: int) -> Tensor:
    """(steps, P, B, n, n): what follows from the starts (B, n, n) under P correctors, or (P = 1) without any for None."""
    u = starts.expand(1 if weights is None else len(weights), *starts.shape)
    found = []
    for _ in range(steps):
        u = COARSE.step(u)
        u = u if weights is None else correct(weights, u)
        found.append(u)
    return torch.stack(found)


def rollout_losses(weights: Tensor, truth: Tensor) -> Tensor:
    """(P,) mean squared distances of rollouts from truth[0] to the rest of truth (steps + 1, B, n, n)."""
    found = rollout(weights, truth[0], len(truth) - 1)
    # float64 sums: differences of these losses are what a finite difference is made of
    return ((found - truth[1:, None]) ** 2).double().mean((0, 2, 3, 4))


def errors(weights: Tensor | None, truth: Tensor) -> Tensor:
    """(steps,) mean absolute distance to truth (steps + 1, B, n, n) after each step; weights (115,), or None for SRC."""
    with torch.no_grad():
        found = rollout(None if weights is None else weights[None], truth[0], len(truth) - 1)
    return (found[:, 0] - truth[1:]).abs().mean((1, 2, 3))


def first_order(losses: Losses, weights: Tensor) -> Tensor:
    """The gradient by backpropagation, solver included: the reference."""
    leaf = weights.detach().clone().requires_grad_()
    return torch.autograd.grad(losses(leaf[None])[0], leaf)[0]


def train_corrector(
    gradient: Gradient,
    data: LoopData,
    steps: int = 120,
    unroll: int = 6,
    batch: int = 4,
    learning_rate: float = 1e-2,
    seed: int = 0,
) -> Tensor:
    """(115,) weights after so many steps of Adam, the rate falling to 0 as a cosine.

    Every step draws `batch` windows of `unroll` solver steps from the training solutions; all queries of one gradient see the
    same. Initial weights and windows depend on the seed alone, so two gradients with one seed can be compared. `unroll=1`
    learns from pairs (NON).
    """
    longest = len(data.train) - 1
    if not 1 <= unroll <= longest:
        raise UsageError(
            f"expected to unroll between 1 and {longest} steps, as long as the training data, got {unroll}"
        )
    rng = np.random.default_rng((seed, 1))
    weights = initial_weights(seed)
    adam = torch.optim.Adam([weights], lr=learning_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        solution = rng.integers(data.train.shape[1], size=batch)
        start = rng.integers(longest - unroll + 1, size=batch)
        truth = torch.stack([data.train[t : t + unroll + 1, i] for t, i in zip(start, solution, strict=True)], dim=1)
        weights.grad = gradient(partial(rollout_losses, truth=truth), weights)
        adam.step()
        cosine.step()
    return weights.detach()
