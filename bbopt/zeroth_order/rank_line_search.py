"""Line search by ranking: of x and some points down a direction, the oracle says which is best, and the search moves there.

Z. Tang, D. Rybin, T.-H. Chang, arXiv:2303.03751, section 3: candidates x - eta gamma^l g, l = 0 ... L - 1, and x itself, so
that without noise the value never rises. Differences from the paper: eta follows the step that won (`next_step`); a tie with
x does not move; x has no mark and no fixed place in the slate, and under noise may have to be beaten more than once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def step_sizes(step: float, factor: float, count: int) -> Array:
    """(count,) step factor^(l - 1), l = 0 ... count - 1: one longer than the step that is expected to win, then it, then
    shorter ones.

    >>> step_sizes(1.0, 0.5, 4).tolist()
    [2.0, 1.0, 0.5, 0.25]
    """
    sizes: Array = step * factor ** (np.arange(count) - 1.0)
    return sizes


def along(x: Array, columns: Array, direction: Array, sizes: Array, low: Array | float, high: Array | float) -> Array:
    """(n, D) the points x - size * direction on some columns (direction has their entries), moved to their bounds.

    >>> along(np.array([0.5, 0.5]), np.array([1]), np.array([1.0]), np.array([0.25, 1.0]), 0.0, 1.0).tolist()
    [[0.5, 0.25], [0.5, 0.0]]
    """
    rows = np.tile(x, (len(sizes), 1))
    rows[:, columns] = np.clip(x[columns] - sizes[:, None] * direction, low, high)
    return rows


@dataclass(frozen=True)
class Decision:
    """What an order of a slate says of its incumbent. compared: it was looked at, beside others; above: rows strictly better
    than it, best first; equals: others that are tied with it; tied: these are all that were looked at."""

    compared: bool
    above: tuple[int, ...]
    equals: tuple[int, ...]
    tied: bool


def decide(groups: Sequence[Sequence[int]], incumbent: int) -> Decision:
    """The decision of ordered groups of tied rows, best first. Tied rows come in the order of the slate, whose places are
    random: in which order they were named says nothing.

    >>> decide([[4, 3], [1, 2], [0]], 2).above
    (3, 4)
    """
    place = next((i for i, group in enumerate(groups) if incumbent in group), None)
    compared = place is not None and sum(len(group) for group in groups) > 1
    above = tuple(row for group in groups[:place] for row in sorted(group)) if compared else ()
    equals = tuple(row for row in sorted(groups[place]) if row != incumbent) if compared and place is not None else ()
    return Decision(compared, above, equals, compared and len(groups) == 1)


def next_step(step: float, factor: float, won: float | None) -> float:
    """The step of the next search: the size of the step that won; one factor shorter if x stayed the best.

    won: size of the winner, 0 for one that was not found along the direction (that says nothing of steps), None for x.

    >>> next_step(1.0, 0.5, 0.25), next_step(1.0, 0.5, None), next_step(1.0, 0.5, 0.0)
    (0.25, 0.5, 1.0)
    """
    if won is None:
        return step * factor
    return won if won > 0.0 else step
