"""The region that the conditions of `where` leave of a space, with some columns held at given values.

Points are sought in the unit cube that `Space.from_uniform` maps onto the space (each level of a column is a cell of
equal width), in this order:

* finite sets of moderate size are written out;
* one column per equality is completed from the others (`bbopt.conditions`), the rest is drawn until it fits;
* where hardly any draw fits, chains walk inside the set: slice sampling along coordinates, random directions and
  differences of known points, with shrinkage (R. M. Neal, Slice sampling, Annals of Statistics 31, 2003, sections 4 and
  5), which needs nothing but membership and leaves the uniform distribution alone. Their first points come from a search
  that minimises the violations.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from bbopt.conditions import Completion, Conditions, level_values
from bbopt.errors import TaskError
from bbopt.parameters import Categorical, Fixed
from bbopt.space import Space
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]
Held = Mapping[int, float]

SEED = 20030605  # of what belongs to the task
MODERATE = 20_000  # finite sets up to this size are written out
LISTED_AT_LAST = 2_000_000  # and up to this size where nothing else finds a point
TRIAL_DRAWS = 8192  # draws that estimate the share of fitting points
POOL = 128  # first points of chains
CELLS = 4_000_000  # numbers in one batch of rows


def write_out(task: Task, limit: int, held: Held) -> Array | None:
    """All canonical rows that satisfy `where` with the held columns at their values, in a fixed order."""
    columns = task.space.columns
    free = [j for j in range(task.space.dimension) if j not in held]
    size = 1
    for j in free:
        size *= columns.levels[j]
        if not 0 < size <= limit:
            return None
    rows = np.zeros((size, task.space.dimension))
    rows[:, list(held)] = list(held.values())
    repeat = size
    for j in free:
        repeat //= columns.levels[j]
        values = level_values(task.space, j, np.arange(columns.levels[j]))
        rows[:, j] = np.tile(np.repeat(values, repeat), size // (repeat * columns.levels[j]))
    rows = task.space.canonical(rows)
    if task.space.conditional:
        rows = np.unique(rows, axis=0)
    return rows[task.known(rows)] if task.where else rows


class Region:
    """The feasible points with some columns held: what `FeasibleSet` knows of them."""

    def __init__(self, task: Task, held: Held) -> None:
        self.task, self.space, self.held = task, task.space, held
        self.conditions = Conditions(task)
        self.completion = Completion(self.conditions, held)
        columns = self.space.columns
        self.smooth = [j for j in range(self.space.dimension) if not columns.levels[j] and j not in held]
        given = {*held, *self.completion.columns}
        self.free = np.array([j for j in range(self.space.dimension) if j not in given and columns.levels[j] != 1], int)
        self.batch = max(1, CELLS // max(self.space.dimension, 1))
        self.chains = min(POOL, max(8, 12_800 // max(self.space.dimension, 1)))
        self.shift = np.zeros(self.space.dimension)  # where the unbounded columns are centred

    # -- rows from the unit cube ---------------------------------------------------------------------------------------

    def complete(self, X: Array) -> Array:
        """Canonical rows with the held values in place and the equalities solved where that was possible."""
        rows = np.array(X)
        rows[:, list(self.held)] = list(self.held.values())
        return self.completion(rows) if self.completion else self.space.canonical(rows)

    def rows(self, U: Array) -> Array:
        """The rows (n, D) of points of the unit cube."""
        X = self.space.from_uniform(U)
        if self.shift.any():
            X = self.space.canonical(X + self.shift)
        return self.complete(X) if self.held or self.completion else X

    def fits(self, U: Array) -> Array:
        return self.task.known(self.rows(U))

    @cached_property
    def listed(self) -> Array | None:
        """All points, where they are few."""
        return write_out(self.task, MODERATE, self.held)

    @cached_property
    def share(self) -> float:
        """Estimated share of the unit cube that fits."""
        rng = np.random.default_rng(SEED)
        return float(self.fits(rng.random((min(TRIAL_DRAWS, self.batch), self.space.dimension))).mean())

    # -- sampling ------------------------------------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        if self.listed is not None:
            if not len(self.listed):
                raise self._nothing(proven=True)
            return self.listed[rng.integers(len(self.listed), size=n)]
        found = np.empty((0, self.space.dimension))
        size = 4 * n + 12
        drawn, allowed = 0, 20 * (n + 4) / self.share if drawn_pays(self.share) else 0
        while len(found) < n and drawn < allowed:
            X = self.rows(rng.random((min(size, self.batch), self.space.dimension)))
            found = np.concatenate([found, X[self.task.known(X)]])
            drawn += len(X)
            size = int(min(size * 4, 2 + 1.5 * n / self.share))
        if len(found) < n:
            more = self.pool[rng.integers(len(self.pool), size=n - len(found))]
            walked = self.walk(more, 4 + min(len(self.free), 8), rng)
            found = np.concatenate([found, self.rows(walked)])
        return found[:n]

    @cached_property
    def pool(self) -> Array:
        """(chains, D) points of the unit cube that fit, spread over the set."""
        rng = np.random.default_rng(SEED + 1)
        U = rng.random((min(4 * TRIAL_DRAWS, self.batch), self.space.dimension))
        first = U[self.fits(U)]
        if len(first) < self.chains:
            first = np.concatenate([first, self.search(U, rng, not len(first) and not drawn_pays(self.share))])
        if not len(first):  # the last resort: look at every point
            points = write_out(self.task, LISTED_AT_LAST, self.held)
            if points is None or not len(points):
                raise self._nothing(proven=points is not None)
            first = to_uniform(self.space, points[rng.permutation(len(points))[: self.chains]])
        chains = first[rng.permutation(self.chains) % len(first)] if len(first) < self.chains else first[: self.chains]
        for _ in range(3):  # the differences of the last round's points are directions in the next
            chains = self.walk(chains, 10 + min(2 * len(self.free), 40), rng, chains)
        return chains

    def walk(self, U: Array, steps: int, rng: np.random.Generator, pool: Array | None = None) -> Array:
        """(n, D) where chains that start at U are after some steps of slice sampling inside the set."""
        pool = self.pool if pool is None else pool
        U, n = np.array(U), len(U)
        if not len(self.free):
            return U
        for _ in range(steps):
            direction = np.zeros_like(U)
            kind = rng.integers(3, size=n)
            single = self.free[rng.integers(len(self.free), size=n)]
            direction[np.arange(n), single] = 1.0
            gauss = rng.standard_normal((n, len(self.free)))
            difference = pool[rng.integers(len(pool), size=n)] - pool[rng.integers(len(pool), size=n)]
            difference = difference[:, self.free]
            moves = np.abs(difference).max(axis=1) > 1e-12
            other = np.where(((kind == 1) & moves)[:, None], difference, gauss)
            direction[np.ix_(np.flatnonzero(kind > 0), self.free)] = other[kind > 0]
            U = self._slice(U, direction, rng)
        return U

    def _slice(self, U: Array, direction: Array, rng: np.random.Generator) -> Array:
        """One step per chain along its direction: draw on the line within the cube, shrink towards the chain until it fits."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.stack([-U / direction, (1.0 - U) / direction])
        still = direction == 0
        low = np.where(still, -np.inf, ends.min(axis=0)).max(axis=1)
        high = np.where(still, np.inf, ends.max(axis=0)).min(axis=1)
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
        result = U.copy()
        open_chains = np.arange(len(U))
        for _ in range(40):
            t = low + rng.random(len(U)) * (high - low)
            trial = np.clip(U[open_chains] + t[open_chains, None] * direction[open_chains], 0.0, 1.0)
            good = self.fits(trial)
            result[open_chains[good]] = trial[good]
            open_chains = open_chains[~good]
            if not len(open_chains):
                break
            low = np.where(t < 0, t, low)
            high = np.where(t >= 0, t, high)
        return result

    # -- the first points ----------------------------------------------------------------------------------------------

    def search(self, U: Array, rng: np.random.Generator, far: bool) -> Array:
        """(k, D) points of the unit cube that fit, k = 0 where none was found: projection, then differential evolution
        (R. Storn and K. Price, Journal of Global Optimization 11, 1997) with local mutations, on the scaled violations.
        With `far`, they may lie far out in the unbounded columns."""
        scale = np.ones(len(self.conditions.parts))
        found: list[Array] = []
        for attempt in range(4 if self.space.dimension <= 100 else 1):
            if attempt:
                U = rng.random((min(2048, self.batch), self.space.dimension))
            U[0] = 0.5
            edge = rng.random(U.shape) < np.where(np.arange(len(U)) % 2, 0.0, rng.random(len(U)))[:, None]
            U = np.where(edge, np.rint(U), U)  # conditions often leave something at the bounds
            amounts = self.conditions.violations(self.rows(U))
            if not attempt:
                positive = np.where((amounts > 0) & (amounts < 1e200), amounts, np.nan)
                known = np.isfinite(positive).any(axis=0)
                scale[known] = np.nanmedian(positive[:, known], axis=0)
            total = self._total(amounts, scale)
            best = np.argsort(total, kind="stable")[: max(POOL // 2, 48)]
            few = np.append(best, 0)[-self.projected :]
            far = far and sum(map(len, found)) == 0
            found.append(self._inside(self.project(self.rows(U[few])), far))
            if not len(found[-1]):
                found.append(self._evolve(U[best], total[best], scale, rng))
            if sum(map(len, found)) and (attempt == 2 or self.space.dimension > 50):
                break  # several attempts, for a set of several pieces
        return np.concatenate(found)

    def _inside(self, X: Array, far: bool) -> Array:
        """(k, D) points of the unit cube for those of the rows that fit; with `far`, `shift` moves to where they are."""
        good = X[self.task.known(X)]
        U = to_uniform(self.space, good - self.shift)
        U = U[self.fits(U)]
        if far and len(good) and not len(U):
            self.shift = np.where(self.space.columns.bounded, 0.0, good[0])
            U = to_uniform(self.space, good - self.shift)
            U = U[self.fits(U)]
        return U

    def _total(self, amounts: Array, scale: Array) -> Array:
        total: Array = np.minimum(amounts / scale, 1e6).sum(axis=1)
        return total

    def _evolve(self, P: Array, total: Array, scale: Array, rng: np.random.Generator) -> Array:
        n, free = len(P), self.free
        P, stale = P.copy(), 0
        for _ in range(0 if not len(free) else 300 if len(free) <= 100 else 100):
            a, b, best = rng.integers(n, size=n), rng.integers(n, size=n), rng.integers(max(1, n // 8), size=n)
            order = np.argsort(total, kind="stable")
            step = rng.choice([0.4, 0.9], size=(n, 1)) * (P[a] - P[b]) + 0.5 * (P[order[best]] - P)
            few = rng.random((n, P.shape[1])) < np.maximum(rng.random((n, 1)) ** 2, 1.5 / len(free))
            local = rng.standard_normal(P.shape) * 10.0 ** -rng.uniform(0.3, 5.0, (n, 1))
            moved = P + np.where(few, np.where(rng.random((n, 1)) < 0.5, step, local), 0.0)
            anew = few & (rng.random((n, 1)) < 0.2)
            moved = np.where(anew, rng.random(P.shape), moved)
            trial = P.copy()
            trial[:, free] = np.abs((moved[:, free] + 1.0) % 2.0 - 1.0)  # reflected at 0 and 1
            amount = self._total(self.conditions.violations(self.rows(trial)), scale)
            better = amount <= total
            stale = 0 if np.where(better, amount, total).min() < (1.0 - 1e-6) * total.min() else stale + 1
            P[better], total = trial[better], np.where(better, amount, total)
            good = self.task.known(self.rows(P)) if (total <= 0).any() else np.zeros(n, bool)
            if good.any():
                return P[good]
            if stale > 60:
                break
        return np.empty((0, P.shape[1]))

    @property
    def projected(self) -> int:
        """How many rows may be projected at once: that takes as many evaluations as there are columns."""
        return 40_000 // max(len(self.smooth), 10) if len(self.smooth) <= 4000 else 0

    # -- repair --------------------------------------------------------------------------------------------------------

    def project(self, X: Array) -> Array:
        """(n, D) rows moved by least-norm Newton steps on the violations of the continuous columns, then completed."""
        rows = self.complete(X)
        if not self.smooth or len(rows) > self.projected:
            return rows
        work = np.flatnonzero(~self.task.known(rows))
        bounded = np.array(self.space.columns.bounded)[self.smooth]
        for attempt in range(10):
            if not len(work):
                break
            now = rows[work]
            amounts = np.minimum(self.conditions.violations(now), 1e100)
            slopes = np.empty((len(work), amounts.shape[1], len(self.smooth)))
            h = 1e-6
            for j, column in enumerate(self.smooth):
                moved = now.copy()
                step = np.where(now[:, column] > 0.5, -h, h)
                moved[:, column] += step
                change = np.minimum(self.conditions.violations(moved), 1e100) - amounts
                slopes[:, :, j] = np.where(np.abs(change) < 1e50, change, 0.0) / step[:, None]
            size = np.maximum(np.abs(slopes).max(axis=2, keepdims=True), 1e-100)
            inverse = np.linalg.pinv(slopes / size, rcond=1e-8)
            wanted = np.minimum(amounts / size[:, :, 0], 10.0 * len(self.smooth)) * (
                1.0 + 1e-9 * 10.0**attempt
            ) + 1e-11 * (amounts > 0)
            values = now[:, self.smooth] - (inverse @ wanted[:, :, None])[:, :, 0]
            now[:, self.smooth] = np.where(bounded, np.clip(values, 0.0, 1.0), values)
            rows[work] = self.complete(now)
            work = work[~self.task.known(rows[work])]
        return rows

    def repair(self, X: Array, rng: np.random.Generator) -> Array:
        """(n, D) rows of the set near rows that are not in it."""
        if self.listed is not None:
            self.sample(1, rng)  # raises where there is no point
            return self._nearest_listed(X, self.listed)
        target = self.project(X)
        bad = np.flatnonzero(~self.task.known(target))
        if len(bad):
            target[bad] = self._towards_the_set(X[bad], rng)
        return self._reset(X, target, rng)

    def _nearest_listed(self, X: Array, points: Array) -> Array:
        category = np.array([kind == "category" for kind in self.space.columns.kind])
        span = np.array([1.0 if kind != "ordered" else n - 1 or 1 for kind, n in zip(self.space.columns.kind, self.space.columns.levels, strict=True)])  # fmt: skip
        result = np.empty_like(X)
        for i, x in enumerate(X):
            gap = np.where(category, points != x, np.abs(points - x) / span)
            result[i] = points[np.argmin(gap.sum(axis=1))]
        return result

    def _towards_the_set(self, X: Array, rng: np.random.Generator) -> Array:
        """The first fitting point found on the way from each row to the nearest of some random points of the set."""
        points = self.sample(min(32 + len(X), 256), rng)
        nearest = np.array([int(np.argmin(np.abs(points - x).sum(axis=1))) for x in X])
        end = points[nearest]
        category = np.array([kind == "category" for kind in self.space.columns.kind])
        low, high = np.zeros(len(X)), np.ones(len(X))
        result: Array = end.copy()
        for _ in range(25):
            t = ((low + high) / 2)[:, None]
            rows = self.complete(np.where(category, np.where(t < 0.5, X, end), X + t * (end - X)))
            good = self.task.known(rows)
            result[good] = rows[good]
            low, high = np.where(good, low, t[:, 0]), np.where(good, t[:, 0], high)
        return result

    def _reset(self, X: Array, target: Array, rng: np.random.Generator) -> Array:
        """Columns put back to what they were, one after the other, where the row still fits."""
        for column in rng.permutation(self.space.dimension)[:32]:
            changed = np.flatnonzero(target[:, column] != X[:, column])
            if len(changed) and column not in self.held:
                rows = target[changed].copy()
                rows[:, column] = X[changed, column]
                rows = self.space.canonical(rows)
                good = self.task.known(rows)
                target[changed[good]] = rows[good]
        return target

    # -- nothing found -------------------------------------------------------------------------------------------------

    def _nothing(self, proven: bool) -> TaskError:
        rng = np.random.default_rng(SEED + 2)
        rows = self.project(
            self.rows(rng.random((min(2048, self.batch, max(self.projected, 64)), self.space.dimension)))
        )
        amounts = self.conditions.violations(rows)
        i = int(np.argmin(np.minimum(amounts, 1e100).sum(axis=1)))
        failed = {
            part.text: amount for part, amount in zip(self.conditions.parts, amounts[i], strict=True) if amount > 0
        }
        reasons = "; ".join(f"{text!r} (by {amount:.3g})" for text, amount in failed.items())
        known = self.space.decode(self.complete(rows[:1])[0]) if self.held else {}
        held = {
            name: known[name] for name in known if {*range(self.space.dimension)[self.space.slice(name)]} & {*self.held}
        }
        return TaskError(
            f"where: {'no point satisfies' if proven else 'no point was found that satisfies'} "
            f"{' and '.join(repr(text) for text in self.task.where)}{f' with {held} held' if held else ''}; "
            f"the closest one seen, {textwrap.shorten(str(self.space.decode(rows[i])), 400)}, fails {reasons}; loosen a condition or a bound"
        )


def drawn_pays(share: float) -> bool:
    """Whether drawing until a point fits is cheaper than walking."""
    return share > 4 / TRIAL_DRAWS


def to_uniform(space: Space, X: Array) -> Array:
    """(n, D) points of the unit cube that `from_uniform` maps to these canonical rows (the middle of a level's cell)."""
    U = np.array(X)
    columns = space.columns
    parameters = list(space.parameters.values())
    for j in range(space.dimension):
        parameter = parameters[columns.group[j]]
        assert not isinstance(parameter, Fixed)
        if isinstance(parameter, Categorical):
            U[:, j] = (X[:, j] + 0.5) / parameter.levels
        elif not parameter.bounded:
            U[:, j] = 1.0 / (1.0 + np.exp(-np.clip(X[:, j] * np.pi / np.sqrt(3.0), -34.0, 34.0)))
        elif parameter.levels:
            U[:, j] = _invert(parameter.from_uniform, X[:, j])
    return U


def _invert(function: Callable[[Array], Array], x: Array) -> Array:
    """(n,) the middle of the interval in [0, 1] on which a rising step function has the values x, by bisection."""

    def first(reached: Callable[[Array], Array]) -> Array:
        low, high = np.zeros(len(x)), np.ones(len(x))
        for _ in range(60):
            middle = (low + high) / 2
            low, high = np.where(reached(middle), low, middle), np.where(reached(middle), middle, high)
        return high

    result: Array = (first(lambda u: function(u) >= x) + first(lambda u: function(u) > x)) / 2
    return result
