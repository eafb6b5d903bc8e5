"""The candidate with the best score: many raw points, then climbs on numbers and steps on levels.

Raw points are spread over the whole set and around the best known points at several scales (facts: with points around
the incumbent the right basin was found in 4 of 4 hard cases, without in 2 of 4); climbs start from the best of each
kind. Continuous columns move by `ascent.climb`; discrete ones by exhaustive single-column moves. The score is only
ever compared at canonical points. Small finite sets are enumerated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bbopt.acquisition.ascent import climb
from bbopt.acquisition.domain import Domain

Array = NDArray[np.float64]
Taken = Callable[[Array], NDArray[np.bool_]]  # (k, d) points: which of them may not be given back
SCALES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
ALTERNATIONS = 4


class Score(Protocol):
    """A function of points, higher is better."""

    def value(self, X: Array) -> Array:
        """(q,) values of (q, d) points."""
        ...

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        """(q,) values and (q, d) gradients."""
        ...


@dataclass(frozen=True)
class Effort:
    """How hard to search: raw points over the set, points per centre and scale, climbs, iterations per climb.

    judged: rows of each kind that pass a screen, where there is one.
    """

    raw: int = 512
    around: int = 20
    starts: int = 8
    iterations: int = 60
    judged: int = 24


def around(centres: Array, domain: Domain, count: int, rng: np.random.Generator) -> Array:
    """Canonical points near each of the (k, d) centres: `count` per scale, a random part of the columns moved.

    Numbers move by a normal step of the scale (in box widths), discrete columns jump to a random level.
    """
    k, d = centres.shape
    scale = np.tile(np.repeat(np.array(SCALES), count), k)
    rows = np.repeat(centres, len(SCALES) * count, axis=0)
    share = rng.random((len(rows), 1)) ** 2 if d > 1 else np.ones((len(rows), 1))
    moved = rng.random(rows.shape) < np.maximum(share, 1.0 / d)
    moved[np.arange(len(rows)), rng.integers(d, size=len(rows))] = True
    step = rng.standard_normal(rows.shape) * (scale[:, None] * (domain.high - domain.low))
    for j in domain.discrete:
        values = domain.levels[j]
        assert values is not None
        jump = rng.random(len(rows)) < 0.5 / np.sqrt(max(len(domain.discrete), 1))
        if domain.unordered[j] or len(values) <= 3:
            drawn = values[rng.integers(len(values), size=len(rows))]
        else:
            at = np.abs(values[None, :] - rows[:, j, None]).argmin(axis=1)
            reach = np.maximum(1.0, scale * len(values))
            drawn = values[
                np.clip(np.rint(at + reach * rng.standard_normal(len(rows))), 0, len(values) - 1).astype(int)
            ]
        rows[:, j] = np.where(jump, drawn, rows[:, j])
    continuous = domain.continuous
    rows = np.where(moved & continuous, rows + step, rows)
    return domain.settle(rows, rng)


def maximise(
    score: Score,
    domain: Domain,
    rng: np.random.Generator,
    centres: Array,
    extra: Array,
    taken: Taken,
    effort: Effort = Effort(),
    screen: Score | None = None,
) -> tuple[Array, Array]:
    """Candidates (k, d) with distinct basins, best first, and their scores (k,), none of them `taken`.

    centres: (a, d) good points to look around; extra: (b, d) points to try as they are. screen: a cheaper score, by which
    only the best raw points of each kind are judged by `score` at all. Empty arrays where there is nothing that is not
    taken.
    """
    raw = domain.sample(effort.raw, rng)
    near = around(centres, domain, effort.around, rng) if len(centres) else raw[:0]
    extra = domain.settle(extra, rng) if len(extra) else raw[:0]
    pools = [raw, near, extra]
    if screen is not None:
        pools = [
            pool[np.argsort(-screen.value(pool), kind="stable")[: effort.judged]] if len(pool) else pool
            for pool in pools
        ]
    values = [score.value(pool) if len(pool) else np.zeros(0) for pool in pools]
    counts = (effort.starts // 2, effort.starts - effort.starts // 2, 4)
    starts = np.concatenate([_best_apart(p, v, c) for p, v, c in zip(pools, values, counts, strict=True)])
    rows, found = _improve(score, domain, starts, effort.iterations)
    everything = np.concatenate([rows, *pools])
    scores = np.concatenate([found, *values])
    order = np.argsort(-scores, kind="stable")
    order = order[np.isfinite(scores[order])]
    allowed = everything[order]
    keep = ~taken(allowed) & domain.contains(allowed) if len(allowed) else np.zeros(0, bool)
    return allowed[keep], scores[order][keep]


def refine(
    score: Score,
    domain: Domain,
    rows: Array,
    taken: Taken,
    judged: int = 64,
    starts: int = 4,
    iterations: int = 6,
) -> tuple[Array, Array]:
    """Candidates (k, d), best first, and their scores (k,), from rows (n, d) that a cheaper score put in order.

    The first `judged` rows get this score; the best of them climb on it.
    """
    rows = rows[:judged]
    if not len(rows):
        return rows, np.zeros(0)
    values = score.value(rows)
    climbed, found = _improve(score, domain, _best_apart(rows, values, starts), iterations)
    everything, scores = np.concatenate([climbed, rows]), np.concatenate([found, values])
    order = np.argsort(-scores, kind="stable")
    order = order[np.isfinite(scores[order])]
    keep = ~taken(everything[order]) & domain.contains(everything[order])
    return everything[order][keep], scores[order][keep]


def enumerate_best(score: Score, points: Array, taken: Taken, block: int = 2048) -> tuple[Array, Array]:
    """The points of a finite set that are not taken, best first, and their scores."""
    rest = points[~taken(points)]
    if not len(rest):
        return rest, np.zeros(0)
    scores = np.concatenate([score.value(rest[i : i + block]) for i in range(0, len(rest), block)])
    order = np.argsort(-scores, kind="stable")
    return rest[order], scores[order]


def _best_apart(rows: Array, values: Array, count: int) -> Array:
    """Up to `count` rows of high value that are not close to a better one."""
    order = np.argsort(-np.where(np.isfinite(values), values, -np.inf), kind="stable")[: 50 * count]
    chosen: list[int] = []
    for distance in (0.1, 0.01, 0.0):
        for i in order:
            if len(chosen) == count:
                break
            if i not in chosen and all(np.abs(rows[i] - rows[j]).max() >= distance for j in chosen):
                chosen.append(int(i))
    return rows[chosen]


def _improve(score: Score, domain: Domain, starts: Array, iterations: int) -> tuple[Array, Array]:
    """Climb on continuous columns and step on discrete ones in turns until neither helps."""
    rows = np.array(starts)
    continuous = domain.continuous

    def allowed(X: Array) -> tuple[Array, Array]:
        value, gradient = score.value_and_gradient(X)
        return np.where(domain.contains(X), value, -np.inf), gradient

    if not len(domain.discrete):
        if not continuous.any():
            return rows, score.value(rows)
        free = np.broadcast_to(continuous, rows.shape) & domain.active(rows)
        rows, _ = climb(allowed, rows, domain.low, domain.high, free, iterations)
        rows = domain.canonical(rows)
        return rows, score.value(rows)
    values = score.value(rows)
    for _ in range(ALTERNATIONS):
        before = values.copy()
        if continuous.any():
            free = continuous & domain.active(rows)
            moved, _ = climb(allowed, rows, domain.low, domain.high, free, iterations // 2)
            moved = domain.canonical(moved)
            got = score.value(moved)
            better = (got > values) & domain.contains(moved)
            rows[better], values[better] = moved[better], got[better]
        rows, values = _step(score, domain, rows, values)
        if not (values > before + 1e-6).any():
            break
    return rows, values


def _step(score: Score, domain: Domain, rows: Array, values: Array) -> tuple[Array, Array]:
    """The best single-column move of each row over its discrete columns, or the row where none is better."""
    moves, owners = [], []
    for i, row in enumerate(rows):
        for j in domain.discrete:
            levels = domain.levels[j]
            assert levels is not None
            at = int(np.abs(levels - row[j]).argmin())
            if domain.unordered[j] or len(levels) <= 8:
                targets = [t for t in range(len(levels)) if t != at][:64]
            else:
                steps = (-32, -16, -8, -4, -2, -1, 1, 2, 4, 8, 16, 32)
                targets = [at + s for s in steps if 0 <= at + s < len(levels)]
            for t in targets:
                other = row.copy()
                other[j] = levels[t]
                moves.append(other)
                owners.append(i)
    if not moves:
        return rows, values
    candidates = domain.canonical(np.array(moves))
    scores = score.value(candidates)
    scores[~domain.contains(candidates)] = -np.inf
    rows, values = rows.copy(), values.copy()
    owner = np.array(owners)
    for i in range(len(rows)):
        mine = np.flatnonzero(owner == i)
        if len(mine) and scores[best := mine[scores[mine].argmax()]] > values[i]:
            rows[i], values[i] = candidates[best], scores[best]
    return rows, values
