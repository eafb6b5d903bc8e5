"""How long an ask may take: a promise to return something valid in time, with less thought where time is short."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bbopt.errors import UsageError


@dataclass(frozen=True)
class Deadline:
    """The moment by which an ask should be back, in wall-clock seconds from `started`.

    A strategy that has a cheaper way looks at `left()` before each expensive step and says in the query's memo under
    "note" what it left out. It is the one thing besides state, request and key that an ask may depend on: with a deadline the
    same ask may give another point on a busier machine. What was asked is stored, so that a study still replays exactly.

    >>> clock = iter([10.0, 10.5, 13.0]).__next__
    >>> deadline = Deadline.after(2.0, clock)
    >>> deadline.left(), deadline.left()
    (1.5, -1.0)
    """

    seconds: float
    started: float
    clock: Callable[[], float] = field(default=time.perf_counter, repr=False, compare=False)

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.perf_counter) -> Deadline:
        """That many seconds from now. Raises UsageError unless they are a finite number above 0."""
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0.0 < seconds < float("inf"):
            raise UsageError(
                f"ask: deadline: expected seconds above 0, or None for as long as it takes; got {seconds!r}"
            )
        return cls(float(seconds), clock(), clock)

    def left(self) -> float:
        """Seconds left; negative once it has passed."""
        return self.started + self.seconds - self.clock()

    def missed(self) -> str:
        """What to tell people if the deadline has passed, else an empty text."""
        over = -self.left()
        return "" if over <= 0.0 else f"took {self.seconds + over:.2g} s, deadline {self.seconds:.2g} s"
