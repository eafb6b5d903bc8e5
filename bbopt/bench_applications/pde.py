"""A corrector in the loop of Burgers' solver: trained by backpropagation, by values alone, from pairs, or not at all.

The problem and its words are those of `problems.solver_in_the_loop`. CPU seconds of one thread; the first training
pays for what torch prepares at first use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bbopt.bench_applications.outcome import Check, Comparison
from bbopt.zeroth_order.coordinates import Array, coordinate_gradient
from problems.solver_in_the_loop import (
    WEIGHTS,
    Gradient,
    LoopData,
    Losses,
    errors,
    first_order,
    loop_data,
    train_corrector,
)

__all__ = ["by_values", "pde"]

RADIUS = 1e-3


def by_values(rng: np.random.Generator | None = None, share: float = 1.0) -> Gradient:
    """Forward differences along all weights, or along a share of them that `rng` draws anew at every step (0 elsewhere)."""
    count = int(share * WEIGHTS)

    def gradient(losses: Losses, weights: Tensor) -> Tensor:
        at = weights.detach().numpy().astype(np.float64)
        active = np.arange(WEIGHTS) if rng is None else rng.choice(WEIGHTS, count, replace=False)

        def values(part: Array) -> Array:
            rows = np.tile(at, (len(part), 1))
            rows[:, active] = part
            with torch.no_grad():
                found: Array = losses(torch.from_numpy(rows).float()).numpy()
            return found

        slopes = np.zeros(WEIGHTS)
        slopes[active] = coordinate_gradient(values, at[active], RADIUS)
        return torch.from_numpy(slopes).float()

    return gradient


@dataclass(frozen=True)
class _Way:
    name: str
    queries: str
    gradient: Callable[[int], Gradient]  # of a seed
    unroll: int
    batch: int
    learning_rate: float = 1e-2


def _ways(unroll: int, batch: int) -> Iterator[_Way]:
    def part(seed: int) -> Gradient:
        return by_values(np.random.default_rng((seed, 2)), 0.1)

    yield _Way("NON", "-", lambda _: first_order, 1, unroll * batch)
    yield _Way("FO-SOL", "-", lambda _: first_order, unroll, batch)
    yield _Way("ZO-SOL", str(WEIGHTS + 1), lambda _: by_values(), unroll, batch)
    few = str(int(0.1 * WEIGHTS) + 1)
    yield _Way("ZO-SOL, 10 % of the weights", few, part, unroll, batch)
    yield _Way("the same, rate 3e-3", few, part, unroll, batch, 3e-3)


def pde(steps: int = 120, unroll: int = 6, batch: int = 4, seed: int = 0, data: LoopData | None = None) -> Comparison:
    """Mean absolute errors on solutions that no training saw, for one budget of training."""
    data = loop_data() if data is None else data
    src = float(errors(None, data.test).mean())
    errs, seconds = {"SRC": src}, {"SRC": 0.0}
    rows = [["SRC", "-", f"{src:.4f}", "1.000", f"{float(errors(None, data.test)[-1]):.4f}", "-"]]
    for way in _ways(unroll, batch):
        start = time.thread_time()
        weights = train_corrector(way.gradient(seed), data, steps, way.unroll, way.batch, way.learning_rate, seed)
        seconds[way.name] = time.thread_time() - start
        along = errors(weights, data.test)
        errs[way.name] = float(along.mean())
        rows.append(
            [way.name, way.queries, f"{errs[way.name]:.4f}", f"{errs[way.name] / src:.3f}", f"{float(along[-1]):.4f}",
             f"{seconds[way.name]:.1f}"]
        )  # fmt: skip
    checks = [
        Check("ZO-SOL's error / SRC's", errs["ZO-SOL"] / src, 0.93),
        Check("ZO-SOL's error / FO-SOL's, away from 1", abs(errs["ZO-SOL"] / errs["FO-SOL"] - 1.0), 0.03),
        Check("ZO-SOL's error / NON's", errs["ZO-SOL"] / errs["NON"], 1.0),
        Check("CPU seconds of ZO-SOL's training", seconds["ZO-SOL"], 20.0),
    ]
    title = (
        f"Burgers' equation, {len(data.test) - 1} steps of {data.test.shape[1]} unseen solutions: mean absolute error after "
        f"{steps} training steps of {batch} rollouts over {unroll} steps"
    )
    return Comparison(title, ["", "queries/step", "MAE", "/ SRC", "MAE at the end", "train s"], rows, checks)
