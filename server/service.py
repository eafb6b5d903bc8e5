"""What raters do: get a slate, answer it, correct the answer, take it back. Functions of a room; no HTTP in here.

Answers are idempotent. Each carries a revision; the log keeps it with the answer (`details`), so that a repeated, a late
and a replayed request are told apart by what is stored, also after a restart.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from typing import Any, Literal

import bbopt
from server.errors import ApiError
from server.ids import Place
from server.ledger import NOTHING, REPEAT, Ledger, person, place_of, rater_at, revision_of
from server.models import Answer
from server.rooms import Room
from server.slates import OWNER, choose, last_of, names_at

FREE = 6  # rows of a slate where the strategy has no opinion of its own
SINGLES = 100  # single points that somebody enqueued, and nobody can rank, that one ask passes over
RETRY_SECONDS = 2
SKIPS = ("skip", "broken")
Why = Literal["waiting", "paused", "finished"]


@dataclass(frozen=True)
class Shown:
    """A slate for a rater: where it is, when the lease ends, and what of an earlier answer there is to start from."""

    place: Place
    expires: float
    revision: int
    draft: list[list[int]] | None  # rows


def iso(seconds: float) -> str:
    """Seconds since 1970 as the times of the log are written."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")


def slate_id(room: Room, viewer: str, place: Place) -> str:
    return room.ids.seal("slate", room.name, viewer, place)


# -- the next slate ----------------------------------------------------------------------------------------------------


def next_known(room: Room, rater: str) -> Shown | Why | None:
    """The slate that this rater should answer now, why there is none, or None where the strategy must be asked for one."""
    if not room.ranks:
        raise ApiError(
            409, "NotHandled", f"the study {room.name!r} takes values, nobody ranks it; programs ask and tell it"
        )
    if room.paused:
        return "paused"
    goal, ledger = room.config.goal, room.ledger()
    if goal is not None and len(ledger.mine(rater)) >= goal:
        return "finished"
    with room.choosing:
        place = choose(ledger, rater, room.leases, room.ids, room.name, room.config.repeats, time.time())
        return None if place is None else _lease(room, ledger, rater, place)


def next_asked(room: Room, rater: str) -> Shown | Why:
    """A new slate of the strategy, which may take seconds; an old one, if one came free meanwhile."""
    with room.turn(rater) as mine:
        if not mine:
            return "waiting"
        known = next_known(room, rater)
        if known is not None:
            return known
        rows = getattr(room.opt.strategy, "slate", FREE)
        try:
            for _ in range(SINGLES):
                query = room.opt.ask_query(rows, owner=OWNER + rater)
                if query.size > 1:
                    with room.choosing:
                        return _lease(room, room.ledger(), rater, Place(query.id))
        except bbopt.Waiting:
            return "waiting"
        except bbopt.Exhausted:
            return "finished"
        return "waiting"


def _lease(room: Room, ledger: Ledger, rater: str, place: Place) -> Shown:
    name = rater_at(rater, place.look)
    last = ledger.last.get((place.query, name))
    ends = room.leases.take(place.query, name, time.time())
    draft = None if last is None or not last.ranking.groups else [list(group) for group in last.ranking.groups]
    return Shown(place, ends, revision_of(last), draft)


def heartbeat(room: Room, rater: str, place: Place) -> float:
    """The rater is still at it. Returns when the lease ends now."""
    room.slate(place.query)
    with room.choosing:
        return room.leases.take(place.query, rater_at(rater, place.look), time.time())


# -- answers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Content:
    """What an answer says, in a form in which equal answers are equal."""

    groups: tuple[tuple[int, ...], ...]
    unseen: tuple[int, ...]
    verdict: str | None

    @staticmethod
    def of(answer: bbopt.Ranked) -> Content:
        ranking, kind = answer.ranking, answer.details.get("kind")
        groups = tuple(tuple(sorted(group)) for group in ranking.groups if group)
        if kind in SKIPS:
            return Content((), (), str(kind))
        return Content(groups, tuple(sorted(ranking.unseen)), ranking.verdict)

    def plain(self) -> list[Any]:
        return [[list(group) for group in self.groups], list(self.unseen), self.verdict]


def read(room: Room, rater: str, place: Place, size: int, answer: Answer) -> Content:
    """What an answer says of the rows. Raises ApiError unless every item is named exactly once, or none with a verdict."""

    def row(item: str) -> int:
        at = room.ids.open("item", room.name, rater, item)
        if at is None or (at.query, at.look) != (place.query, place.look):
            raise ApiError(422, "UnknownItem", f"expected items of this slate, got {item!r}")
        return at.row

    groups = [[row(item) for item in group] for group in answer.groups if group]
    unseen = [row(item) for item in answer.unseen]
    named = [row for group in groups for row in group] + unseen
    if len(set(named)) < len(named):
        raise ApiError(422, "Twice", "expected every item once in groups and unseen, got one of them twice")
    if answer.verdict is not None and named:
        raise ApiError(422, "Contradiction", f"expected no items with the verdict {answer.verdict!r}, got {len(named)}")
    if answer.verdict is None and len(named) < size:
        raise ApiError(422, "Incomplete", f"expected all {size} items in groups and unseen, got {len(named)}; "
                                          "items that were not looked at belong in unseen")  # fmt: skip
    return Content(tuple(tuple(sorted(group)) for group in groups), tuple(sorted(unseen)), answer.verdict)


class Submission:
    """An answer of a rater to a slate, on its way to the writer. See `server.writer.Answering`."""

    def __init__(self, room: Room, rater: str, place: Place, answer: Answer) -> None:
        self._room, self._rater, self._place, self._revision = room, rater, place, answer.revision
        self._elapsed = answer.elapsed_ms
        self.key = (place.query, rater_at(rater, place.look))
        self._answer = answer

    def decide(self) -> bbopt.RankRequest | None:
        ledger = self._room.ledger()
        slate = ledger.slate(self._place.query)
        if slate is None:
            raise ApiError(404, "UnknownSlate", "the study has no such slate; get the next one")
        self._content = read(self._room, self._rater, self._place, len(slate.numbers), self._answer)
        last = ledger.last.get(self.key)
        standing = last is not None and not last.withdrawn
        if last is not None and standing and Content.of(last) == self._content:
            return None
        if last is not None and self._revision <= revision_of(last):
            raise self._conflict(
                "Conflict",
                f"expected a revision above {revision_of(last)}, got another answer as revision {self._revision}; "
                + (
                    "it was taken back: get the slate again"
                    if last.withdrawn
                    else "send a correction with the next one"
                ),
            )
        if slate.cancelled or (self._place.look == REPEAT and ledger.standing(slate.query, self._rater) is None):
            raise self._conflict(
                "SlateGone", "an earlier answer was taken back, and this slate with it; get the next one"
            )
        return self._request(slate, replace=standing)

    def _request(self, slate: bbopt.Slate, replace: bool) -> bbopt.RankRequest:
        first, content = slate.numbers[0], self._content
        details: dict[str, Any] = {"revision": self._revision, "elapsed_ms": self._elapsed}
        rater = self.key[1]
        if content.verdict in SKIPS:
            details["kind"] = content.verdict
            return bbopt.RankRequest([], unseen=list(slate.numbers), rater=rater, details=details, replace=replace)
        if content.verdict is not None:
            return bbopt.RankRequest([first], rater=rater, verdict=content.verdict, details=details, replace=replace)  # type: ignore[arg-type]
        order = [[first + row for row in group] for group in content.groups]
        unseen = [first + row for row in content.unseen]
        return bbopt.RankRequest(order, unseen=unseen, rater=rater, details=details, replace=replace)

    def reply(self, error: bbopt.BboptError | None) -> dict[str, Any]:
        if isinstance(error, bbopt.AlreadyTold | bbopt.UsageError):
            stale = isinstance(error, bbopt.AlreadyTold)
            kind, why = ("Conflict", "another answer is stored") if stale else ("Depends", "the search has gone on")
            raise self._conflict(kind, f"{why}: {error}")
        if error is not None:
            raise ApiError.of(error)
        room, ledger = self._room, self._room.ledger()
        stored = ledger.standing(*self.key)
        if stored is None:
            raise self._conflict("Conflict", "the answer was recorded, and taken back since")
        with room.choosing:
            room.leases.drop(*self.key)
        revision = revision_of(stored)
        content = Content.of(stored)
        return {
            "receipt": room.ids.receipt(room.name, *self.key, revision, content.plain()),
            "slate": slate_id(room, self._rater, self._place),
            "revision": revision,
            "recorded": stored.time,
            "applied": stored.applied,
            "progress": progress(room, self._rater),
        }

    def _conflict(self, kind: str, message: str) -> ApiError:
        last = self._room.ledger().last.get(self.key)
        stored = None if last is None else stored_answer(self._room, self._rater, last)
        return ApiError(409, kind, message, extra={"stored": stored})


def stored_answer(room: Room, viewer: str, answer: bbopt.Ranked, look: int | None = None) -> dict[str, Any]:
    """An answer with the items as this viewer knows them, in the look at which it was given unless another is named."""
    content = Content.of(answer)
    look = place_of(answer).look if look is None else look

    def item(row: int) -> str:
        return room.ids.seal("item", room.name, viewer, Place(answer.query, row, look))

    return {
        "groups": [[item(row) for row in group] for group in content.groups],
        "unseen": [item(row) for row in content.unseen],
        "verdict": content.verdict,
        "revision": revision_of(answer),
        "withdrawn": answer.withdrawn,
        "recorded": answer.time,
    }


# -- taking back -------------------------------------------------------------------------------------------------------


def undo(room: Room, rater: str, place: Place | None) -> tuple[Shown, int]:
    """Take back the rater's answer to a slate, by default the last one. The slate comes again, with the answer as a draft;
    how many answers went: with a first look goes its repeat."""
    done, count = room.writer.wait(lambda: _take_back(room, rater, place))
    with room.choosing:
        return _lease(room, room.ledger(), rater, done), count


def _take_back(room: Room, rater: str, place: Place | None) -> tuple[Place, int]:
    ledger = room.ledger()
    place = place or last_of(ledger, rater)
    names = [] if place is None else names_at(ledger, rater, place)
    if place is None or not names:
        raise ApiError(409, "NothingToUndo", "expected an answer of yours that stands, there is none")
    _retract(room, ledger.slates[place.query], names)
    return Place(place.query, 0, place.look), len(names)


def _retract(room: Room, slate: bbopt.Slate, names: list[str]) -> None:
    try:
        for name in names:
            room.opt.retract(slate.numbers[0], rater=name)
    except bbopt.UsageError as error:
        raise ApiError(409, "Depends", f"later answers build on this one: {error}") from None


def undo_for_owner(room: Room, place: Place | None, rater: str | None, cascade: bool) -> int:
    """Take back everybody's answers to a slate, or one rater's; by default the last answer of the study. With `cascade`,
    answers that build on it are taken back first, newest first. Returns how many answers were taken back."""
    taken: int = room.writer.wait(lambda: _take_back_all(room, place, rater, cascade))
    return taken


def _take_back_all(room: Room, place: Place | None, rater: str | None, cascade: bool) -> int:
    standing = [answer for answer in room.ledger().answers if not answer.withdrawn]
    wanted = [answer for answer in standing if rater is None or person(answer.rater)[0] == rater]
    wanted = [answer for answer in wanted if place is None or answer.query == place.query]
    wanted = wanted[-1:] if place is None else wanted
    if not wanted:
        raise ApiError(409, "NothingToUndo", "expected an answer that stands, there is none")
    taken = 0
    for target in sorted(wanted, key=lambda answer: answer.position, reverse=True):
        while True:
            ledger = room.ledger()
            if ledger.standing(target.query, target.rater) is None:
                break
            try:
                _retract(room, ledger.slates[target.query], [target.rater])
                taken += 1
            except ApiError:
                later = [a for a in ledger.answers if not a.withdrawn and a.applied and a.position > target.position]
                if not cascade or not later:
                    raise
                newest = max(later, key=lambda answer: answer.position)
                _retract(room, ledger.slates[newest.query], [newest.rater])
                taken += 1
    return taken


# -- progress ----------------------------------------------------------------------------------------------------------


def progress(room: Room, rater: str | None) -> dict[str, Any]:
    """How far the study is; with a rater, what of it is theirs."""
    ledger = room.ledger()
    if rater is None:
        pairs = sum(tally.pairs for tally in ledger.tallies.values())
        tie_rate = sum(tally.ties for tally in ledger.tallies.values()) / pairs if pairs else None
    else:
        tie_rate = ledger.tallies.get(rater, NOTHING).tie_rate
    return {
        "answers": ledger.total if rater is None else len(ledger.mine(rater)),
        "answers_all": ledger.total,
        "round": ledger.round,
        "tie_rate": tie_rate,
        "raters": len(ledger.tallies),
        "open_slates": len(ledger.open),
        "goal": room.config.goal,
    }
