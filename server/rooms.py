"""A room per study: the study itself, its renderings, who works on what, and the thread that writes.

Everything in a room is derived from the log or is about people who have a page open now; a room that is thrown away and
made anew, in another process too, goes on where it was.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio

import bbopt
from server.access import Access
from server.best import Favourites
from server.config import Config, servable
from server.errors import ApiError
from server.ids import Ids, Place
from server.ledger import FIRST, Ledger, person
from server.media import Media
from server.render import load_renderer
from server.slates import Leases, missing, seconds_of
from server.writer import Writer

log = logging.getLogger("bbopt.server")

ASKERS = 4  # threads of one study that may wait for its strategy
PATIENCE = 0.5  # seconds that a rater's second request waits for its first
KEPT = 1024  # points whose parameters are kept decoded

Point = tuple[int, dict[str, Any]]
"""A trial's number and parameters."""


class Room:
    """One study as the server holds it. Thread-safe."""

    def __init__(self, opt: bbopt.Optimizer, media: Media, ids: Ids, config: Config, access: Access) -> None:
        self.opt, self.name, self.media, self.ids, self.config = opt, opt.name, media, ids, config
        self.writer = Writer(opt.name, opt.rank_many)
        self.leases = Leases(config.lease_seconds, time.time())
        self.choosing = threading.Lock()  # of the leases and of what is kept
        self.askers = anyio.CapacityLimiter(ASKERS)  # threads of their own: asks never keep answers waiting
        self.favourites = Favourites(opt, self.ledger)
        self._points: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._access = access
        self._reading = threading.Lock()
        self._ledger: Ledger | None = None
        self._turns: dict[str, threading.Lock] = {}

    @property
    def ranks(self) -> bool:
        """Whether people rank here; a study that takes values has no slates."""
        return self.opt.task.feedback == "ranking"

    @property
    def paused(self) -> bool:
        """Whether the owner wants no more asks for now."""
        return self._access.paused(self.name)

    def ledger(self) -> Ledger:
        """What the log says now."""
        with self._reading:
            if self._ledger is None or self._ledger.position != self.opt.position:
                self._ledger = Ledger.of(self.opt, self._ledger)
            return self._ledger

    def place(self, number: int, look: int) -> Place:
        """Where a trial is. Raises UnknownTrial."""
        query = self.opt.trial(number).query
        return Place(query, number - self.slate(query).numbers[0], look)

    def slate(self, query: int) -> bbopt.Slate:
        """A slate as it was when the log was last read: who has answered may have changed, its trials never do. Raises
        ApiError where there is none (a store that was put back to an older copy)."""
        slate = self._slate_known(query) or self.ledger().slate(query)
        if slate is None:
            raise ApiError(404, "UnknownSlate", "the study has no such slate; get the next one")
        return slate

    def _slate_known(self, query: int) -> bbopt.Slate | None:
        ledger = self._ledger
        return None if ledger is None else ledger.slate(query)

    def point_known(self, place: Place) -> Point | None:
        """The trial at a place, if it was looked at lately; never waits."""
        slate = self._slate_known(place.query)
        if slate is None or place.row >= len(slate.numbers):
            return None
        params = self._points.get(slate.numbers[place.row])
        return None if params is None else (slate.numbers[place.row], params)

    def point(self, place: Place) -> Point:
        """The number of the trial at a place, and its parameters and context, which never change. Raises ApiError."""
        numbers = self.slate(place.query).numbers
        if place.row >= len(numbers):
            raise ApiError(404, "UnknownItem", "the study has no such item; get the next slate")
        number = numbers[place.row]
        params = self._points.get(number)
        if params is None:
            trial = self.opt.trial(number)
            params = {**trial.params, **trial.context}
            with self.choosing:
                self._points[number] = params
                while len(self._points) > KEPT:
                    self._points.popitem(last=False)
        return number, params

    @contextmanager
    def turn(self, rater: str) -> Iterator[bool]:
        """One ask at a time for each rater, or a page that is reloaded would have two slates; False for one too many."""
        with self.choosing:
            lock = self._turns.setdefault(rater, threading.Lock())
        mine = lock.acquire(timeout=PATIENCE)
        try:
            yield mine
        finally:
            if mine:
                lock.release()

    def settle_due(self, seconds: float, now: float) -> int:
        """Settle the slates whose first answer is older than `seconds`, with the answers that there are. Returns how many."""
        ledger = self.ledger()
        waiting = {slate.query: slate for slate in ledger.open.values() if 0 < missing(slate) < slate.quorum}
        due = []
        for answer in ledger.answers if waiting else ():
            if answer.query in waiting and not answer.withdrawn and person(answer.rater)[1] == FIRST:
                slate = waiting.pop(answer.query)
                if seconds_of(answer.time) + seconds <= now:
                    due.append(slate)
        for slate in due:
            self.writer.wait(lambda slate=slate: self._settle(slate))  # type: ignore[misc]
        return len(due)

    def _settle(self, slate: bbopt.Slate) -> None:
        try:
            self.opt.settle(slate.numbers[0])
        except bbopt.BboptError as error:  # answered or taken back meanwhile
            log.info("slate of trial %d was not settled: %s", slate.numbers[0], error)

    def close(self) -> None:
        """Write what is waiting, end the renderer, close the study."""
        self.writer.close()
        self.media.close()
        self.opt.close()


class Rooms:
    """The studies of a server, opened when they are first asked for.

    Raises UsageError at once for a renderer that cannot be had, StoreError for a store that cannot be opened.
    """

    def __init__(self, config: Config, access: Access) -> None:
        self.config = config
        self._access = access
        self.ids = Ids(access.secret("slates and items"))
        self._store = bbopt.SQLiteStore(config.store)
        self._lock = threading.Lock()
        self._rooms: dict[str, Room] = {}
        self._opening: dict[str, threading.Lock] = {}
        self._feedback: dict[str, str] = {}
        self._ended = threading.Event()
        self._clerk: threading.Thread | None = None
        try:
            for name in self._named():
                self.get(name)
        except BaseException:
            self.close()
            raise

    def names(self) -> list[str]:
        """The studies that are served, in the order of their creation."""
        wanted = self.config.studies
        return [name for name in self._store.studies() if servable(name) and (not wanted or name in wanted)]

    def _named(self) -> list[str]:
        """The studies that somebody spoke of at the start, by name or by a renderer for all that people rank: what is wrong
        with them is to be known before anybody comes."""
        named = {*self.config.studies, *self.config.renderers} - {"*"}
        if "*" in self.config.renderers:
            named |= {name for name in self.names() if self._ranks(name)}
        return sorted(named)

    def _known(self, name: str) -> None:
        if name not in self.names():  # without a list of the others: a rater would learn their names
            raise bbopt.StudyMissing(f"expected a study of this server, got {name!r}; GET /v1/studies lists yours")

    def _ranks(self, name: str) -> bool:
        """Whether people rank in a study, which need not be open."""
        if name not in self._feedback:
            self._feedback[name] = self.definition(name)["task"].get("feedback", "values")
        return self._feedback[name] == "ranking"

    def opened(self, name: str) -> Room | None:
        """The room of a study if it is open; never waits."""
        return self._rooms.get(name)

    def get(self, name: str) -> Room:
        """The room of a study. Raises StudyMissing, or ApiError where its strategy's code is not here."""
        room = self._rooms.get(name)
        if room is not None:
            return room
        self._known(name)
        with self._lock:
            opening = self._opening.setdefault(name, threading.Lock())
        with opening:
            if name not in self._rooms:
                self._rooms[name] = self._open(name)
            return self._rooms[name]

    def _open(self, name: str) -> Room:
        try:
            opt = bbopt.Optimizer.open(self.config.store, name)
        except bbopt.UsageError as error:
            raise ApiError(409, "NotServed", f"this server cannot open the study: {error}") from None
        try:
            spec = self.config.renderers.get(name) or self.config.renderers.get("*") or "auto"
            return Room(opt, Media(load_renderer(spec, opt.task)), self.ids, self.config, self._access)
        except BaseException:
            opt.close()
            raise

    def create(self, name: str, task: bbopt.Task, **options: Any) -> Room:
        """A new study in the store. Raises StudyExists, ApiError for a name that cannot be served."""
        if not servable(name):
            raise ApiError(
                422, "BadName", f"name: expected text without /, \\ and control characters, got {name[:100]!r}"
            )
        if self.config.studies and name not in self.config.studies:
            served = ", ".join(self.config.studies)
            raise ApiError(403, "NotServed", f"this server was started for {served} alone; start it without --study")
        bbopt.Optimizer(task, store=self.config.store, name=name, **options).close()
        return self.get(name)

    def definition(self, name: str) -> dict[str, Any]:
        """What the store keeps of a study beside its log: task, strategy, seed, budget, quorum."""
        self._known(name)
        return self._store.definition(name)

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to settle slates whose deadline has passed, where the server has one."""
        seconds = self.config.deadline_seconds
        if seconds is not None and self._clerk is None:
            self._clerk = threading.Thread(target=self._watch, args=(seconds,), name="deadlines", daemon=True)
            self._clerk.start()

    def _watch(self, seconds: float) -> None:
        while not self._ended.wait(min(1.0, seconds / 4)):
            try:
                for name in filter(self._ranks, self.names()):
                    self.get(name).settle_due(seconds, time.time())
            except Exception:
                log.exception("deadlines")

    def close(self) -> None:
        """End everything; what was answered is on the disk before."""
        self._ended.set()
        if self._clerk is not None:
            self._clerk.join()
        for room in self._rooms.values():
            room.close()
        self._rooms.clear()
        self._store.close()
