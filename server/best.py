"""The best point so far, and those of earlier rounds, as the page shows them beside the slate.

The best is what the study itself says (`Optimizer.best`, the strategy's recommendation where people rank). Earlier ones are
the winners of the rounds before: read from the log, newest first, no point twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

import bbopt
from server.ledger import Ledger, phase_of

EARLIER = 8  # shown
ROUNDS = 64  # looked back at for them
SPARE = 10.0  # a model's recommendation is computed in a tenth of the time at most


@dataclass(frozen=True)
class Favourite:
    """Trial numbers: the best, None before any answer, and winners of earlier rounds, newest first."""

    best: int | None
    earlier: tuple[int, ...]


class Favourites:
    """What is best, computed when somebody asks and the log has changed; one thread computes, others get what was."""

    def __init__(self, opt: bbopt.Optimizer, ledger: Callable[[], Ledger]) -> None:
        self._opt, self._ledger = opt, ledger
        self._computing = threading.Lock()
        self._known: tuple[int, Favourite] | None = None  # with the log position
        self._again = 0.0  # when it may be computed again
        self._point = lru_cache(maxsize=4096)(self._point_of)

    def now(self) -> Favourite:
        """What is best. Where finding that takes a model's time, the last answer for a little longer. Raises UsageError for
        several objectives."""
        known = self._known
        if known is not None and (known[0] == self._opt.position or time.monotonic() < self._again):
            return known[1]
        if not self._computing.acquire(blocking=known is None):
            return known[1]  # type: ignore[index]
        try:
            started = time.monotonic()
            ledger = self._ledger()
            trial = self._opt.best()
            best = None if trial is None or trial.number < 0 else trial.number  # below 0: a design, no row of the study
            found = Favourite(best, () if best is None else self._earlier(ledger, best))
            self._known = (ledger.position, found)
            self._again = time.monotonic() + SPARE * (time.monotonic() - started)
            return found
        finally:
            self._computing.release()

    def _earlier(self, ledger: Ledger, best: int) -> tuple[int, ...]:
        found: dict[str, int] = {self._point(best): best}
        for number in reversed(winners(ledger)[-ROUNDS:]):
            found.setdefault(self._point(number), number)
            if len(found) > EARLIER:
                break
        return tuple(found.values())[1:]

    def _point_of(self, number: int) -> str:
        """Equal for trials at one point."""
        trial = self._opt.trial(number)
        return repr({name: np.asarray(value).tolist() for name, value in trial.params.items()})


def winners(ledger: Ledger) -> list[int]:
    """The winners of decided slates, in the order in which these were decided: of line searches where there are such."""
    decided: dict[int, list[bbopt.Ranked]] = {}
    for answer in ledger.answers:
        if answer.applied and answer.ranking.groups:
            decided[answer.query] = [*decided.pop(answer.query, []), answer]
    lines = {query for query in decided if phase_of(ledger.slates[query]) == "line search"}
    chosen = {query: answers for query, answers in decided.items() if query in lines or not lines}
    best = [
        (answers[0].first, bbopt.pool(tuple(answer.ranking for answer in answers), answers[0].size).groups)
        for answers in chosen.values()
    ]
    return [first + groups[0][0] for first, groups in best if groups]  # none where each saw a single row
