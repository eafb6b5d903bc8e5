"""What a study's log says about slates and who ranked them: read once per log position, looked up many times.

Nothing here is stored: the core's `slates()` and `rankings()` are the log, this is an index of them. Repeats are answers
of the rater "NAME/repeat": a second look of NAME at a slate that NAME has answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

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
class Tally:
    """What one rater has said, repeats included. answers: standing ones in log order; pairs: judged ones; ties: of these."""

    answers: list[bbopt.Ranked]
    pairs: int = 0
    ties: int = 0

    def plus(self, answer: bbopt.Ranked) -> Tally:
        """With one more answer."""
        groups = answer.ranking.groups
        seen = answer.size - len(answer.ranking.unseen) if groups else 0
        tied = sum(len(group) * (len(group) - 1) // 2 for group in groups) if len(groups) < seen else 0
        return Tally([*self.answers, answer], self.pairs + seen * (seen - 1) // 2, self.ties + tied)

    def swapped(self, old: bbopt.Ranked, new: bbopt.Ranked) -> Tally:
        """With an answer that says the same and is applied now, or not any more."""
        return replace(self, answers=[new if answer is old else answer for answer in self.answers])

    @property
    def tie_rate(self) -> float | None:
        """Share of judged pairs that were tied; None before any pair was judged."""
        return self.ties / self.pairs if self.pairs else None


NOTHING = Tally([])


@dataclass(frozen=True, eq=False)
class Ledger:
    """A study at one log position.

    slates: all of them, in order; open: by query id those that still need answers, in order; ended: by phase how many
    have their answer; answers: every answer in log order, those taken back included; last: by (query, name) the last
    answer, which may have been taken back; tallies: by rater (not by name).
    """

    position: int = 0
    slates: list[bbopt.Slate] = field(default_factory=list)
    open: Mapping[int, bbopt.Slate] = field(default_factory=dict)
    ended: Mapping[str | None, int] = field(default_factory=dict)
    answers: list[bbopt.Ranked] = field(default_factory=list)
    last: Mapping[tuple[int, str], bbopt.Ranked] = field(default_factory=dict)
    tallies: Mapping[str, Tally] = field(default_factory=dict)

    @staticmethod
    def of(opt: bbopt.Optimizer, before: Ledger | None = None) -> Ledger:
        """The study as it stands. What others append while this is read is in it, or in the next one.

        before: an older one of the same study; what has not changed since, which are the same objects then, is not read
        again, so that this costs the same after thousands of answers.
        """
        before = before or Ledger()
        position, slates, answers = opt.position, opt.slates(), opt.rankings(withdrawn=True)
        opened, ended = _slates_since(before, slates)
        last, tallies = _answers_since(before, answers)
        return Ledger(position, slates, opened, ended, answers, last, tallies)

    @property
    def total(self) -> int:
        """How many answers stand."""
        return sum(len(tally.answers) for tally in self.tallies.values())

    @property
    def round(self) -> int:
        """Which round of the search is on, from 1: rounds end with a line search, where there are such, else with a slate."""
        lines, gradients = self.ended.get("line search", 0), self.ended.get("gradient", 0)
        return 1 + (lines or (0 if gradients else sum(self.ended.values())))

    def slate(self, query: int) -> bbopt.Slate | None:
        """A slate by its query id, None where there is none."""
        return self.slates[query] if query < len(self.slates) else None

    def mine(self, rater: str) -> list[bbopt.Ranked]:
        """A rater's standing answers in log order, repeats among them."""
        return self.tallies.get(rater, NOTHING).answers

    def standing(self, query: int, name: str) -> bbopt.Ranked | None:
        """The answer of this name to this query that counts or is recorded, None if there is none or it was taken back."""
        answer = self.last.get((query, name))
        return None if answer is None or answer.withdrawn else answer


def _slates_since(before: Ledger, slates: list[bbopt.Slate]) -> tuple[dict[int, bbopt.Slate], Counter[str | None]]:
    """Open slates, and ended ones by phase."""
    opened, ended = dict(before.open), Counter(before.ended)
    known = len(before.slates)
    for old, new in zip(before.slates, slates, strict=False):
        if old is not new:
            opened.pop(old.query, None)
            ended[phase_of(old)] -= old.answered
    changed = [new for old, new in zip(before.slates, slates, strict=False) if old is not new]
    reordered = False
    for slate in (*changed, *slates[known:]):
        ended[phase_of(slate)] += slate.answered
        if not slate.answered and not slate.cancelled and len(slate.numbers) > 1:
            opened[slate.query] = slate
            reordered = reordered or slate.query < known
    return dict(sorted(opened.items())) if reordered else opened, ended


def _answers_since(
    before: Ledger, answers: list[bbopt.Ranked]
) -> tuple[dict[tuple[int, str], bbopt.Ranked], dict[str, Tally]]:
    """Last answers, and tallies. Where one was taken back since, everything is counted anew."""
    changed = [(old, new) for old, new in zip(before.answers, answers, strict=False) if old is not new]
    known = len(before.answers)
    if any(old.withdrawn != new.withdrawn or old.position != new.position for old, new in changed):
        before, changed, known = Ledger(), [], 0
    last, tallies = dict(before.last), dict(before.tallies)
    for old, new in changed:
        rater = person(new.rater)[0]
        tallies[rater] = tallies.get(rater, NOTHING).swapped(old, new)
        if last.get((new.query, new.rater)) is old:
            last[new.query, new.rater] = new
    for answer in answers[known:]:
        last[answer.query, answer.rater] = answer
        if not answer.withdrawn:
            rater = person(answer.rater)[0]
            tallies[rater] = tallies.get(rater, NOTHING).plus(answer)
    return last, tallies


def phase_of(slate: bbopt.Slate) -> str | None:
    """The strategy's word for what a slate is for: "gradient", "line search"; None where it has none."""
    phase = slate.memo.get("phase")
    return phase if isinstance(phase, str) else None


def place_of(answer: bbopt.Ranked) -> Place:
    """The slate that an answer is about, as its rater saw it."""
    return Place(answer.query, 0, person(answer.rater)[1])
