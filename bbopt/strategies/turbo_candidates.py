"""Candidates of a trust region: the best row with some columns redrawn inside the region.

As in the code of Eriksson et al. 2019 (arXiv 1910.01739): the sides of the region are its length times the lengthscales of
the objective's model, normalised to a product of 1; min(100 d, 5000) Sobol points in it, of which every column is taken
with probability min(1, 20 / d) and left as in the centre otherwise; at least one column is taken, drawn from all of them (the
published code never draws the last one). Columns with steps reach their next level however small the region is; unordered
choices are taken half the length as often, as a choice has no nearer and farther.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bbopt.acquisition.domain import Domain, sobol

Array = np.ndarray[Any, np.dtype[Any]]
PER_COLUMN, MOST = 100, 5000
PERTURBED = 20.0  # columns that move in a candidate, on average
REPAIRED = 256  # candidates that are repaired where few satisfy known constraints


def sides(lengthscales: Array, free: Array) -> Array:
    """(d,) sides of a region of length 1: lengthscales with a geometric mean of 1 over the free columns, 1 elsewhere.

    >>> sides(np.array([1.0, 4.0, 9.0]), np.array([True, True, False])).tolist()
    [0.5, 2.0, 1.0]
    """
    weights = np.ones(len(lengthscales))
    if free.any():
        logs = np.log(lengthscales[free])
        weights[free] = np.exp(logs - logs.mean())
    return weights


def moving(domain: Domain) -> Array:
    """(d,) columns that can take more than one value."""
    able = np.array([levels is None or len(levels) > 1 for levels in domain.levels], bool) & (domain.high > domain.low)
    able[list(domain.fixed)] = False
    return np.asarray(able)


def box(centre: Array, length: float, weights: Array, domain: Domain) -> tuple[Array, Array]:
    """(d,) lower and upper ends of the region of that length around a row, at least to the next level of each column."""
    half = 0.5 * length * weights * np.where(domain.unordered, 1.0, domain.high - domain.low)
    for j in domain.discrete:
        levels = domain.levels[j]
        if levels is not None and len(levels) > 1 and not domain.unordered[j]:
            at = int(np.abs(levels - centre[j]).argmin())
            half[j] = max(half[j], float(np.diff(levels[max(at - 1, 0) : at + 2]).max()))
    return np.maximum(centre - half, domain.low), np.minimum(centre + half, domain.high)


def candidates(
    centre: Array, length: float, weights: Array, domain: Domain, rng: np.random.Generator, count: int | None = None
) -> Array:
    """(k, d) canonical rows of the region that satisfy known constraints; k is at most `count`, by default as published."""
    able = np.flatnonzero(moving(domain))
    d = len(able)
    if not d:
        return domain.settle(centre[None], rng)
    wanted = min(PER_COLUMN * d, MOST) if count is None else count
    low, high = box(centre, length, weights, domain)
    drawn = sobol(wanted, d, rng)
    unordered = domain.unordered[able]
    taken = rng.random((wanted, d)) < min(1.0, PERTURBED / d) * np.where(unordered, min(0.5 * length, 1.0), 1.0)
    taken[np.arange(wanted), rng.integers(d, size=wanted)] |= ~taken.any(axis=1)
    rows = np.repeat(centre[None], wanted, axis=0)
    moved = low[able] + drawn * (high - low)[able]
    for place in np.flatnonzero(unordered):
        levels = domain.levels[able[place]]
        assert levels is not None
        moved[:, place] = levels[np.minimum((drawn[:, place] * len(levels)).astype(int), len(levels) - 1)]
    rows[:, able] = np.where(taken, moved, rows[:, able])
    rows = domain.canonical(np.clip(rows, domain.low, domain.high))
    inside = domain.contains(rows)
    if inside.sum() >= min(REPAIRED, wanted):
        return np.asarray(rows[inside])
    outside = np.flatnonzero(~inside)[:REPAIRED]
    return np.concatenate([rows[inside], domain.settle(rows[outside], rng)])
