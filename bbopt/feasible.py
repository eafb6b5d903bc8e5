"""Points that satisfy the known conditions of a task: membership, random points, repair, enumeration.

Without `where` all of it is trivial and fast. With it, `bbopt.region` does the work.
What is remembered between calls (first points, shares) is a function of the task and of the held columns alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from bbopt.region import MODERATE, Region, write_out
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]
Held = Mapping[int, float]

REMEMBERED = 16  # different sets of held columns


class FeasibleSet:
    """The points of a task that satisfy its `where`; `task.feasible` is the one to use.

    >>> from bbopt.space import Float, Space
    >>> task = Task(Space(a=Float(0, 1), b=Float(0, 1)), where=["a + b <= 1"])
    >>> rows = task.feasible.sample(100, np.random.default_rng(0))
    >>> rows.shape, bool(task.feasible.contains(rows).all())
    ((100, 2), True)
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.space = task.space
        self._regions: dict[tuple[tuple[int, float], ...], Region] = {}

    def contains(self, X: Array) -> Array:
        """(n,) bool: which canonical rows (n, D) satisfy every condition."""
        return self.task.known(X) if self.task.where else np.ones(len(X), bool)

    def sample(self, n: int, rng: np.random.Generator, held: Held | None = None) -> Array:
        """(n, D) random canonical rows of the set, close to uniform over it (every level of a column equally likely).

        held: column to encoded value, for columns that are given. Raises TaskError where no point was found.
        """
        held = held or {}
        if self.task.where:
            return self._region(held).sample(n, rng)
        return self._place(self.space.from_uniform(rng.random((n, self.space.dimension))), held)

    def repair(self, X: Array, rng: np.random.Generator, held: Held | None = None) -> Array:
        """(n, D) canonical rows of the set near the rows of X; a row that is in the set already stays as it is.

        held: as in `sample`; these columns get their values first. Raises TaskError where no point was found.
        """
        held = held or {}
        rows = self._place(self.space.canonical(X), held)
        if self.task.where:
            bad = np.flatnonzero(~self.task.known(rows))
            if len(bad):
                rows[bad] = self._region(held).repair(rows[bad], rng)
        return rows

    def enumerate(self, limit: int) -> Array | None:
        """(N, D) all different points, or None where the space (without `where`) has infinitely many or over `limit`."""
        return write_out(self.task, limit, {})

    @cached_property
    def count(self) -> int | None:
        """Number of different points where it is known: spaces with levels only, and of moderate size where `where` or
        conditional parameters make counting a matter of writing out."""
        if self.space.size is None or not (self.task.where or self.space.conditional):
            return self.space.size
        points = self.enumerate(10 * MODERATE)
        return None if points is None else len(points)

    def _place(self, rows: Array, held: Held) -> Array:
        if held:
            rows[:, list(held)] = list(held.values())
            if self.space.conditional:
                rows = self.space.canonical(rows)
        return rows

    def _region(self, held: Held) -> Region:
        key = tuple(sorted(held.items()))
        if key not in self._regions:
            while len(self._regions) >= REMEMBERED:
                self._regions.pop(next(iter(self._regions)))
            self._regions[key] = Region(self.task, dict(key))
        return self._regions[key]
