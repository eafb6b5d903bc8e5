"""A trust region around the best told row, as a function of the told rows alone.

With few evaluations in many columns, and for the last digits in few, what pays is the neighbourhood of the best row. Its
half width follows from how the rows that fell into the region went, whoever asked for them: it doubles after a new best
row at its edge, halves after several rows inside that were not better, and stays otherwise (the classic rule, Conn, Gould,
Toint 2000, Trust-Region Methods, section 6.1, with counters as in Eriksson et al. 2019, arXiv 1910.01739). Under
constraints a step that is tiny beside the region, to the corner that the model sees, makes the region smaller at once: the
digits of the corner are those of a model of that size. As in TREGO
(Diouane, Picheny, Le Riche, Scotto Di Perrotolo 2021, arXiv 2101.06808) the search beyond the region goes on, here once
the region has become small: then every other row is sought outside it, so that one valley is not polished for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bbopt.acquisition.domain import Domain
from bbopt.strategies.gp_state import GPState
from bbopt.strategies.merit import by_merit

Array = np.ndarray[Any, np.dtype[Any]]
FIRST, LARGEST, LEAST = 0.2, 0.5, 1e-6  # half widths, in widths of the box
SMALL = 1.0 / 128.0  # TuRBO's last side: from here on half of the rows are sought elsewhere
EDGE = 0.9  # of the half width, from which a step counts as one to the edge
TINY = 0.01  # of the half width
APART = 0.02  # half widths within which rows are a cluster
REACH = 2.0  # half widths around the best row from which the local model has its rows
MOST = 150  # rows of a local model


@dataclass(frozen=True)
class Nearby:
    """centre: number of the best told row; half: half width of the region around it, in widths of the box."""

    centre: int
    half: float

    @property
    def small(self) -> bool:
        """Whether the neighbourhood is known well enough to look elsewhere as well."""
        return self.half < SMALL


def nearby(X: Array, values: Array, design: int, known: Array | None = None) -> Nearby | None:
    """The region after (n, d) rows with (n, 1 + c) values, all at once or one after the other; None while none is feasible.

    design: how many of the first rows say nothing of the region's size. known: (n,) how many rows had been told when each
    was asked for; None: all before it. A row that was asked for before the region last changed may move its centre, but if
    it is not better that is no failure: it was not sought in the region as it is.

    >>> X, values = np.array([[0.5], [0.5], [0.51], [0.49], [0.52]]), np.array([[0.0], [1.0], [1.0], [1.0], [1.0]])
    >>> nearby(X, values, design=1)
    Nearby(centre=0, half=0.1)
    """
    failures_allowed, constrained = max(3, (X.shape[1] + 1) // 2), values.shape[1] > 1
    holds = np.asarray((values[:, 1:] <= 0.0).all(axis=1))
    if not holds.any():
        return None
    best, half, failures, changed = -1, FIRST, 0, 0
    known = np.arange(len(X)) if known is None else known
    for i in range(len(X)):
        if best < 0:
            best = i if holds[i] else best
            continue
        step = float(np.abs(X[i] - X[best]).max())
        tiny = constrained and step < TINY * half
        if holds[i] and values[i, 0] < values[best, 0]:
            best, changed = i, i + 1
            if i >= design:
                failures = 0
                if tiny:
                    half = max(half / 8.0, 10.0 * step, LEAST)
                elif step >= EDGE * half:
                    half = min(max(2.0 * half, step), LARGEST)
        elif i < design or known[i] < changed:
            continue
        elif tiny:
            half, failures, changed = max(half / 8.0, 10.0 * step, LEAST), 0, i + 1
        elif step <= half * (1.0 + 1e-9):
            failures += 1
            if failures == failures_allowed:
                half, failures, changed = max(half / 2.0, LEAST), 0, i + 1
    return Nearby(best, half)


def rows_around(state: GPState, region: Nearby) -> tuple[Array, Array]:
    """Which of the n told rows a model of a region has, (n,) bool, and which of these lie apart from better ones.

    The rows in and near the region that lie apart, at least twice (d + 1) and at most `MOST` of them, and what lies as near
    as these. Hyperparameters and warps are chosen by the rows apart alone: by the evidence of a tight cluster, in which
    constraints are all but zero, the logarithm of a linear function is more probable than the function.
    """
    distance = np.abs(state.X - state.X[region.centre]).max(axis=1)
    spread = np.zeros(len(distance), bool)
    for i in by_merit(state.values, np.asarray((state.values[:, 1:] <= 0.0).all(axis=1))):
        others = np.abs(state.X[spread] - state.X[i]).max(axis=1)
        spread[i] = not (others <= APART * region.half).any()
    wanted = max(2 * (state.X.shape[1] + 1), int((distance[spread] <= REACH * region.half).sum()))
    nearest = np.argsort(np.where(spread, distance, np.inf), kind="stable")[: min(wanted, MOST, int(spread.sum()))]
    apart = np.zeros(len(distance), bool)
    apart[nearest] = True
    clustered = np.flatnonzero(~spread & (distance <= distance[apart].max()))
    kept = apart.copy()
    kept[clustered[np.argsort(distance[clustered], kind="stable")][:MOST]] = True
    return kept, apart


def box_around(domain: Domain, centre: Array, half: float) -> Domain:
    """The part of a continuous domain within `half` of a row; half of its samples move only some of the columns.

    >>> part = box_around(Domain.box(2), np.array([0.5, 0.95]), 0.1)
    >>> part.low.round(2).tolist(), part.high.round(2).tolist()
    ([0.4, 0.85], [0.6, 1.0])
    """
    low, high = np.maximum(domain.low, centre - half), np.minimum(domain.high, centre + half)

    def sample(n: int, rng: np.random.Generator) -> Array:
        rows = low + rng.random((n, len(centre))) * (high - low)
        stays = rng.random((n // 2, len(centre))) > max(0.3, min(1.0, 5.0 / len(centre)))
        rows[: n // 2] = np.where(stays, centre, rows[: n // 2])
        return replace(domain, low=low, high=high).settle(rows, rng)

    def contains(X: Array) -> Array:
        return np.asarray(domain.contains(X) & ((X >= low - 1e-12) & (X <= high + 1e-12)).all(axis=1))

    return replace(domain, low=low, high=high, sample=sample, contains=contains)
