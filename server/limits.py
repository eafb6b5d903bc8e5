"""How many requests in a minute: token buckets, one for each key, in bounded memory."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

__all__ = ["Buckets"]


class Buckets:
    """Each key has a bucket of `per_minute` that fills up at that rate; what is taken beyond it is refused.

    At most `keys` buckets are kept: the one that was not used for longest makes room, and begins full when it comes back.

    >>> buckets = Buckets(per_minute=2, clock=lambda: 0.0)
    >>> [buckets.take("ann") for _ in range(3)]
    [0.0, 0.0, 30.0]
    """

    def __init__(self, per_minute: float, keys: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = float(per_minute)
        self._rate = per_minute / 60.0
        self._keys = keys
        self._clock = clock
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, key: Hashable, cost: float = 1.0) -> float:
        """Take `cost` out: 0, or, where there is less, nothing is taken and the seconds are given after which there is enough."""
        level = self._level(key)
        if level < cost:
            self._put(key, level)
            return (cost - level) / self._rate
        self._put(key, level - cost)
        return 0.0

    def charge(self, key: Hashable, cost: float) -> None:
        """Take `cost` out for what has happened already, down to an empty bucket."""
        self._put(key, max(0.0, self._level(key) - cost))

    def _level(self, key: Hashable) -> float:
        level, then = self._levels.get(key, (self._size, -math.inf))
        return min(self._size, level + (self._clock() - then) * self._rate)

    def _put(self, key: Hashable, level: float) -> None:
        self._levels[key] = (level, self._clock())
        self._levels.move_to_end(key)
        if len(self._levels) > self._keys:
            self._levels.popitem(last=False)
