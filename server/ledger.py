"""What a study's log says about slates and who ranked them: read once per log position, looked up many times.

Nothing here is stored: the core's `slates()` and `rankings()` are the log, this is an index of them. Repeats are answers
of the rater "NAME/repeat": a second look of NAME at a slate that NAME has answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import bbopt
from server.ids import Place

AGAIN = "/repeat"
FIRST, REPEAT, BEST = 0, 1, 2
"""Looks at a slate's rows, see `Place`."""


def rater_at(rater: str, look: int) -> str:
    """The name under which the log keeps this rater's answer.

    >>> rater_at("ann", REPEAT)
    'ann/repeat'
    """
    return rater + AGAIN if look == REPEAT else rater


def person(name: str) -> tuple[str, int]:
    """The rater and the look behind a name in the log: the inverse of `rater_at`."""
    return (name.removesuffix(AGAIN), REPEAT) if name.endswith(AGAIN) else (name, FIRST)


def revision_of(answer: bbopt.Ranked | None) -> int:
    """The revision of an answer as its sender counted it; 1 for one that came another way, 0 for none."""
    if answer is None:
        return 0
    revision = answer.details.get("revision", 1)
    return revision if isinstance(revision, int) else 1


def skipped(answer: bbopt.Ranked) -> bool:
    """Whether an answer says nothing about the rows: all of them unseen."""
    return answer.ranking.verdict is None and not answer.ranking.groups


@dataclass(frozen=True, eq=False)
class Ledger:
    """A study at one log position. slates: by query id, in order; answers: every answer in log order, those taken back
    included; last: by (query, name) the last answer, which may have been taken back; mine: by rater (not by name) the
    standing answers in log order, repeats among them."""

    position: int
    slates: Mapping[int, bbopt.Slate]
    answers: list[bbopt.Ranked]
    last: Mapping[tuple[int, str], bbopt.Ranked]
    mine: Mapping[str, list[bbopt.Ranked]]

    @staticmethod
    def of(opt: bbopt.Optimizer, before: Ledger | None = None) -> Ledger:
        """The study as it stands. What others append while this is read is in it, or in the next one. `before` is an older
        one of the same study: where the log only grew, no more than its end is read."""
        position = opt.position
        slates = {slate.query: slate for slate in opt.slates()}
        answers = opt.rankings(withdrawn=True)
        known = len(before.answers) if before is not None else 0
        if before is None or answers[:known] != before.answers:  # quick: they are the same objects
            known, last, mine = 0, {}, {}
        else:
            last, mine = dict(before.last), dict(before.mine)
        for answer in answers[known:]:
            last[answer.query, answer.rater] = answer
            if not answer.withdrawn:
                rater = person(answer.rater)[0]
                mine[rater] = [*mine.get(rater, ()), answer]
        return Ledger(position, slates, answers, last, mine)

    @cached_property
    def total(self) -> int:
        """How many answers stand."""
        return sum(map(len, self.mine.values()))

    @cached_property
    def open(self) -> Sequence[bbopt.Slate]:
        """Slates that still need answers, in order."""
        return [
            slate
            for slate in self.slates.values()
            if not slate.answered and not slate.cancelled and len(slate.numbers) > 1
        ]

    @cached_property
    def round(self) -> int:
        """Which round of the search is on, from 1: rounds end with a line search, where there are such, else with a slate."""
        phases = Counter([phase_of(slate) for slate in self.slates.values() if slate.answered])
        return 1 + (phases["line search"] or (0 if phases["gradient"] else phases.total()))

    def standing(self, query: int, name: str) -> bbopt.Ranked | None:
        """The answer of this name to this query that counts or is recorded, None if there is none or it was taken back."""
        answer = self.last.get((query, name))
        return None if answer is None or answer.withdrawn else answer


def phase_of(slate: bbopt.Slate) -> str | None:
    """The strategy's word for what a slate is for: "gradient", "line search"; None where it has none."""
    phase = slate.memo.get("phase")
    return phase if isinstance(phase, str) else None


def tie_rate(answers: Sequence[bbopt.Ranked]) -> float | None:
    """Share of judged pairs that were tied; None before any pair was judged."""
    pairs = ties = 0
    for answer in answers:
        groups = answer.ranking.groups
        seen = answer.size - len(answer.ranking.unseen) if groups else 0
        pairs += seen * (seen - 1) // 2
        if len(groups) < seen:
            ties += sum(len(group) * (len(group) - 1) // 2 for group in groups)
    return ties / pairs if pairs else None


def place_of(answer: bbopt.Ranked) -> Place:
    """The slate that an answer is about, as its rater saw it."""
    return Place(answer.query, 0, person(answer.rater)[1])
