"""Methods with several phases, written as the paper writes them: as a generator of queries.

    @dataclass(frozen=True)
    class Search(Script):
        def run(self, task, rng):
            X, answer = yield Query(...)          # one query: its rows as they were asked, and the answer
            replies = yield Slates((q1, q2), 1)   # several at once: go on when one of them is answered

Under the contract a script is a strategy like any other: its state is the list of answers so far, and `ask` replays the
generator on them. Each replayed query is checked by a hash, so a script that is not a function of its answers and of
`rng` is caught. The live generator is kept between calls; that saves time and changes nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from bbopt.errors import BboptError, Exhausted, Waiting
from bbopt.query import Answer, Key, Query, Request
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]


class Reply(NamedTuple):
    """What a script gets for a query: the rows as they were asked (canonical, within `where`, no repeats), and the answer."""

    X: Any
    answer: Answer


@dataclass(frozen=True, eq=False)
class Slates:
    """Several queries that are out at once. The script goes on when `quorum` of them are answered (all, by default) and
    gets a list with a Reply per query, None for those not answered by then."""

    queries: tuple[Query, ...]
    quorum: int | None = None


Steps = Generator[Query | Slates, Any, None]


@dataclass(frozen=True, eq=False)
class History:
    """The state of a script: (step, place in the step, fingerprint of the proposed query, reply), as answers came."""

    seed: int
    replies: tuple[tuple[int, int, str, Reply], ...] = ()


class _Live:
    """A generator of one script on one task that has been driven through some replies."""

    def __init__(self, script: Script, task: Task, seed: int) -> None:
        self.origin = (script, task, seed)
        self.replies: list[tuple[int, int, str, Reply]] = []
        self.steps = script.run(task, Key(seed, -1).rng("script"))
        self.step = -1
        self.current: Slates | None = None
        self.single = True
        self.answers: dict[int, Reply] = {}
        self.advance(None)

    def advance(self, send: Any) -> None:
        try:
            yielded = next(self.steps) if self.step < 0 else self.steps.send(send)
        except StopIteration:
            self.current = None
        else:
            self.single = isinstance(yielded, Query)
            self.current = Slates((yielded,)) if isinstance(yielded, Query) else yielded
        self.step += 1
        self.answers = {}

    def continues(self, script: Script, task: Task, state: History) -> bool:
        """Whether it stands at a beginning of this history: the very same reply objects."""
        same = self.origin[0] == script and self.origin[1] is task and self.origin[2] == state.seed
        mine = len(self.replies)
        return (
            same
            and mine <= len(state.replies)
            and all(a is b for a, b in zip(self.replies, state.replies, strict=False))
        )

    def feed(self, entry: tuple[int, int, str, Reply]) -> None:
        self.replies.append(entry)
        step, place, fingerprint, reply = entry
        if step < self.step or self.current is None:
            return  # a late answer of a step that has its quorum: recorded, not applied
        expected = self.current.queries[place].fingerprint()
        if expected != fingerprint:
            raise BboptError(
                f"replaying step {step} of the script gave a different query than the one on record; "
                "a script must depend only on its answers and on rng (was its code changed since?)"
            )
        self.answers[place] = reply
        needed = len(self.current.queries) if self.current.quorum is None else self.current.quorum
        if len(self.answers) >= needed:
            replies = [self.answers.get(i) for i in range(len(self.current.queries))]
            self.advance(replies[0] if self.single else replies)


_LIVE: list[_Live] = []
_KEEP = 16


@dataclass(frozen=True)
class Script:
    """Base of strategies written as generators: subclass as a frozen dataclass, say what it `handles`, write `run`."""

    handles: ClassVar[frozenset[str]] = frozenset()
    learns: ClassVar[Literal["rows", "queries"]] = "queries"
    instant: ClassVar[bool] = False
    scripted: ClassVar[bool] = True

    def run(self, task: Task, rng: np.random.Generator) -> Steps:
        """Yield queries, receive replies; return to end the search. All randomness comes from `rng`."""
        raise TypeError(f"{type(self).__name__}: a Script needs a method run(self, task, rng) that yields queries")

    def init(self, task: Task, key: Key) -> History:
        return History(key.seed)

    def ask(self, task: Task, state: History, request: Request, key: Key) -> Query:
        live = self._at(task, state)
        if live.current is None:
            raise Exhausted("the script has ended: it asks for nothing more")
        out = {query.memo.get("place") for query in request.open if query.memo.get("step") == live.step}
        for place, query in enumerate(live.current.queries):
            if place not in out and place not in live.answers:
                memo = {**query.memo, "step": live.step, "place": place, "fingerprint": query.fingerprint()}
                return replace(query, memo=memo)
        raise Waiting()

    def tell(self, task: Task, state: History, query: Query, answer: Answer) -> History:
        if "step" not in query.memo:
            return state  # a point of the user's own
        step, place, mark = int(query.memo["step"]), int(query.memo["place"]), str(query.memo["fingerprint"])
        return History(state.seed, (*state.replies, (step, place, mark, Reply(query.X, answer))))

    def _at(self, task: Task, state: History) -> _Live:
        """The generator driven through this history: the one that has come furthest on it goes on."""
        alive = [live for live in _LIVE if live.continues(self, task, state)]
        live = max(alive, key=lambda live: len(live.replies), default=None)
        if live is None:
            live = _Live(self, task, state.seed)
        else:
            _LIVE.remove(live)
        for entry in state.replies[len(live.replies) :]:
            live.feed(entry)
        _LIVE.append(live)
        del _LIVE[:-_KEEP]
        return live
