"""Which slate a rater gets next: a pure choice from the log, the leases, and keyed chances.

In this order: the rater's own unanswered slate (the log knows for whom it was asked, so a restart changes nothing); at the
share of `repeats`, one that the rater has answered, shown again; an open slate that needs more answers than were given or
are being worked on, line searches first, because the search goes on when these are answered. Where there is none, the
caller asks the strategy for a new one.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

import bbopt
from server.ids import Ids, Place
from server.ledger import FIRST, REPEAT, Ledger, person, phase_of, place_of, rater_at, skipped

OWNER = "rater:"
"""What the log's owner of a slate begins with that was asked for a rater."""
MANY = 500
"""Slates with leases, from which on those that have ended are thrown away."""
APART = 2
"""A slate is shown again after at least so many others."""


def seconds_of(time: str) -> float:
    """A time of the log as seconds since 1970; a study in memory has none, which is long ago."""
    return datetime.datetime.fromisoformat(time).timestamp() if time else 0.0


def holder(owner: str) -> str:
    """The name under which the log's owner of a slate holds it: a rater's own, or one that no rater can have.

    >>> holder("rater:ann"), holder("program:ann")
    ('ann', '/program:ann')
    """
    return owner.removeprefix(OWNER) if owner.startswith(OWNER) else f"/{owner}"


@dataclass
class Leases:
    """Who is working on what, until when: in memory, because it is about people who have a page open now.

    `seconds` is how long a lease lasts. After a restart, and for slates that programs asked, whoever the log names as owner
    is taken to hold a slate for `seconds` from then (`since`) or from the ask. One that has ended is the same as none.
    """

    seconds: float
    since: float
    _held: dict[int, dict[str, float]] = field(default_factory=dict)

    def take(self, query: int, name: str, now: float) -> float:
        """A new lease, or a longer one. Returns when it ends."""
        if len(self._held) >= MANY:
            self._forget(now)
        self._held.setdefault(query, {})[name] = now + self.seconds
        return now + self.seconds

    def drop(self, query: int, name: str) -> None:
        """The slate was answered."""
        names = self._held.get(query, {})
        names.pop(name, None)
        if not names:
            self._held.pop(query, None)

    def end(self, slate: bbopt.Slate, name: str) -> float:
        """When this name's hold on a slate ends; 0 if it has none."""
        known = self._held.get(slate.query, {}).get(name)
        if known is None and slate.owner and holder(slate.owner) == name:
            return max(seconds_of(slate.asked), self.since) + self.seconds
        return known or 0.0

    def holders(self, slate: bbopt.Slate, now: float) -> set[str]:
        """Names that are working on a slate, and have not answered it."""
        names = {*self._held.get(slate.query, ()), *([holder(slate.owner)] if slate.owner else [])}
        return {name for name in names if self.end(slate, name) > now} - set(slate.raters)

    def _forget(self, now: float) -> None:
        for query, names in list(self._held.items()):
            standing = {name: end for name, end in names.items() if end > now}
            if standing:
                self._held[query] = standing
            else:
                del self._held[query]


def missing(slate: bbopt.Slate) -> int:
    """How many raters a slate still needs; repeats are second looks and count for nobody."""
    return slate.quorum - sum(person(name)[1] == FIRST for name in slate.raters)


def choose(
    ledger: Ledger, rater: str, leases: Leases, ids: Ids, study: str, repeats: float, now: float
) -> Place | None:
    """The slate for this rater, None where a new one must be asked for."""
    free = []
    for slate in ledger.open.values():
        if rater in slate.raters or missing(slate) <= len(leases.holders(slate, now) - {rater}):
            continue
        mine = slate.owner == OWNER + rater or leases.end(slate, rater) > now
        free.append((not mine, phase_of(slate) != "line search", slate.query))
    first = min(free, default=None)
    if first is not None and not first[0]:
        return Place(first[2])
    again = repeat_for(ledger, rater, ids, study, repeats)
    if again is not None:
        return again
    return None if first is None else Place(first[2])


def repeat_for(ledger: Ledger, rater: str, ids: Ids, study: str, share: float) -> Place | None:
    """The slate that this rater sees again now, None at most times: a function of how many answers there are."""
    answers = ledger.mine(rater)
    if not share or ids.chance("repeat", study, rater, len(answers)) >= share:
        return None
    seen = {answer.query for answer in answers if person(answer.rater)[1] == REPEAT}
    for answer in sorted(
        answers[: max(len(answers) - APART, 0)],
        key=lambda answer: ids.chance("which", study, rater, len(answers), answer.query),
    ):
        slate = ledger.slates[answer.query]
        if answer.query not in seen and slate.answered and not skipped(answer) and answer.ranking.verdict is None:
            return Place(answer.query, 0, REPEAT)
    return None


def last_of(ledger: Ledger, rater: str) -> Place | None:
    """The slate of the rater's last standing answer."""
    answers = ledger.mine(rater)
    return place_of(answers[-1]) if answers else None


def names_at(ledger: Ledger, rater: str, place: Place) -> list[str]:
    """Names whose answers to a slate are taken back together: with a first look goes its repeat, which it was compared to."""
    names = [rater_at(rater, look) for look in ((REPEAT,) if place.look == REPEAT else (REPEAT, FIRST))]
    return [name for name in names if ledger.standing(place.query, name) is not None]
