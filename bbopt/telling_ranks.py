"""What people tell a study: orders of the rows of a query, by one or several raters, and what is taken back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np

from bbopt import table
from bbopt.agreement import Agreement, agreement
from bbopt.errors import AlreadyTold, BboptError, NotHandled, UsageError
from bbopt.query import Ranking
from bbopt.record import AGAIN, CANCELLED, IMPOSSIBLE, LOST, OK, OPEN, QUEUED, STATUS, Record
from bbopt.slates import Ranked, RankRequest, Slate, Verdict, read_details
from bbopt.store import Event, Writer
from bbopt.telling_rows import TellingRows
from bbopt.trial import Trial


@dataclass(frozen=True)
class _Read:
    """A request whose arguments are in order, in trial numbers."""

    groups: tuple[tuple[int, ...], ...]
    unseen: tuple[int, ...]
    rater: str
    verdict: Verdict | None
    details: dict[str, Any]
    replace: bool

    @property
    def listed(self) -> list[int]:
        return [number for group in self.groups for number in group] + list(self.unseen)


class TellingRanks(TellingRows):
    """The part of `Optimizer` that records rankings, and takes answers back."""

    def rank(
        self,
        order: Sequence[Any],
        *,
        unseen: Sequence[Trial | int] = (),
        rater: str = "",
        verdict: Verdict | None = None,
        details: Mapping[str, Any] | None = None,
        replace: bool = False,
    ) -> None:
        """Record a person's order of the rows of one query, durably: best first, ties as nested lists.

        Rows of the query that are neither in `order` nor `unseen` are worse than those listed (or not looked at either, if
        they were never handed out while others were). All rows `unseen` and no order: skipped, an answer without information. `verdict` ("all bad" or "cannot tell") speaks of the whole slate
        instead; `order` then names any of its trials. rater: who ranks; "NAME/repeat" is a second look of NAME, which is
        kept and never pooled. details: JSON values kept with the answer. The same ranking of the same rater again is a
        no-op; `replace` puts another one in its place.

        Raises UsageError for rows of different queries or of a cancelled one, AlreadyTold for another answer of the same
        rater, NotHandled if the strategy takes no rankings.

        >>> from bbopt.optimizer import Optimizer
        >>> from bbopt.space import Float, Space
        >>> from bbopt.task import Task
        >>> opt = Optimizer(Task(Space(x=Float(0, 1)), feedback="ranking"), "random")
        >>> a, b, c, d = opt.ask_query(4).numbers
        >>> opt.rank([c, [a, b]], rater="ann")
        >>> opt.rankings()[0].ranking.groups
        ((2,), (0, 1), (3,))
        """
        (refused,) = self.rank_many([RankRequest(order, unseen, rater, verdict, details, replace)])
        if refused is not None:
            raise refused

    def rank_many(self, items: Iterable[RankRequest | Mapping[str, Any]]) -> list[BboptError | None]:
        """Several answers in one transaction, durable together: for each the error that refused it, or None.

        items: `RankRequest`s, or mappings with the arguments of `rank`. One that is refused does not stop the others.
        Raises NotHandled if the strategy takes no rankings, StoreError if nothing could be written.
        """
        if "rankings" not in self.strategy.handles:
            raise NotHandled(f"rank: {type(self.strategy).__name__} does not learn from rankings; strategies that do: "
                             f"{', '.join(table.having('rankings'))}")  # fmt: skip
        requests = list(items)
        refused: list[BboptError | None] = []
        with self._lock, self._writing() as (writer, events):
            for request in requests:
                try:
                    self._rank_one(writer, events, self._read_request(request))
                except BboptError as error:
                    refused.append(error)
                else:
                    refused.append(None)
                    self._apply(events)
        return refused

    def _read_request(self, request: RankRequest | Mapping[str, Any]) -> _Read:
        if isinstance(request, Mapping):
            known = [item.name for item in fields(RankRequest)]
            unknown = [str(name) for name in request if name not in known]
            if unknown or "order" not in request:
                raise UsageError(f"rank: expected order and some of {', '.join(known[1:])}, got {', '.join(map(str, request)) or 'nothing'}")  # fmt: skip
            request = RankRequest(**request)
        if not isinstance(request, RankRequest):
            raise UsageError(f"rank: expected a RankRequest, or a mapping with its fields; got {request!r}")
        if not isinstance(request.rater, str):
            raise UsageError(f"rank: rater: expected a name as text, got {request.rater!r}")
        if request.verdict is not None and request.verdict not in get_args(Verdict):
            raise UsageError(f"rank: verdict: expected {' or '.join(map(repr, get_args(Verdict)))}, or None; got {request.verdict!r}")  # fmt: skip
        for name, given in (("order", request.order), ("unseen", request.unseen)):
            if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray):
                what = "trials, best first, ties as nested lists" if name == "order" else "a list of trials"
                raise UsageError(f"rank: {name}: expected {what}; got {given!r}")
        groups = tuple(
            tuple(self._number(t) for t in (item if isinstance(item, list | tuple | np.ndarray) else [item]))
            for item in request.order
        )
        unseen = tuple(self._number(t) for t in request.unseen)
        read = _Read(
            groups, unseen, request.rater, request.verdict, read_details(request.details), bool(request.replace)
        )
        if not read.listed or len(set(read.listed)) < len(read.listed):
            raise UsageError(f"rank: expected each trial once, best first, ties as nested lists; got {read.listed}")
        return read

    def _rank_one(self, writer: Writer, events: list[Event], request: _Read) -> None:
        listed = request.listed
        record, _ = self._find(listed[0])
        first, size = record.query.first, record.query.size
        if any(not first <= number < first + size for number in listed):
            raise UsageError(
                f"rank: expected trials of one query ({first} to {first + size - 1}), got {sorted(listed)}"
            )
        if len(record.rows(OK, IMPOSSIBLE)):
            raise AlreadyTold(
                f"the query of trials {first} to {first + size - 1} was told values; it cannot be ranked too"
            )
        ranking = _ranking(request, record)
        before = record.raters.get(request.rater)
        if (
            before is not None
            and before.ranking == ranking
            and not (request.replace and before.details != request.details)
        ):
            return
        if (record.status == CANCELLED).all():
            raise UsageError(f"rank: trials {first} to {first + size - 1} were cancelled, nobody needs to rank them; ask for others")  # fmt: skip
        if before is not None and not request.replace:
            who = request.rater or "this rater"
            raise AlreadyTold(f"{who} ranked this query already; retract({first}, rater={request.rater!r}) takes that back, "
                              "replace=True puts another answer in its place")  # fmt: skip
        if before is not None and before.ranking != ranking:
            self._check_path(record, first, [request.rater])
        body = {"query": record.query.id, "rater": request.rater, "ranking": ranking.to_plain()}
        if request.details:
            body["details"] = request.details
        events.append(writer.append("rank", body))

    def settle(self, trial: Trial | int) -> None:
        """Close the query of a trial that fewer people have ranked than it needs: their answers are pooled now, others that
        come later are kept and not applied. A query that has its answer stays as it is. Raises UsageError where nobody
        has ranked."""
        number = self._number(trial)
        with self._lock, self._writing() as (writer, events):
            record, _ = self._find(number)
            if record.applied:
                return
            numbers = f"trials {record.query.first} to {record.query.first + record.query.size - 1}"
            if (record.status == CANCELLED).all():
                raise UsageError(f"settle: {numbers} were cancelled, they need no answer")
            if not record.standing():
                raise UsageError(f"settle: expected a query that somebody has ranked, nobody has ranked {numbers}; "
                                 "cancel takes them out")  # fmt: skip
            events.append(writer.append("settle", {"query": record.query.id}))

    def retract(self, trial: Trial | int, *, rater: str | None = None) -> None:
        """Take an answer back: the trial is open again. For a ranked query, one rater's answer or all of them.

        Where a strategy goes on from its answers step by step (a Script, say), an answer can be taken back as long as no
        query that was asked because of it has an answer; open ones are cancelled. An answer that was not applied can
        always be taken back.
        """
        number = self._number(trial)
        with self._lock, self._writing() as (writer, events):
            record, row = self._find(number)
            if rater is not None and rater not in record.raters:
                raise UsageError(
                    f"retract: {rater!r} has not ranked this query; it has {', '.join(record.raters) or 'no'} raters"
                )
            if not record.raters:
                self._check_answer(record, row)
            self._check_path(record, number, None if rater is None else [rater])
            events.append(writer.append("retract", {"number": number, "rater": rater}))

    def _check_answer(self, record: Record, row: int) -> None:
        """Raises UsageError if a row has no value to take back."""
        number, code = record.query.first + row, int(record.status[row])
        if code in (OPEN, QUEUED):
            raise UsageError(f"retract: trial {number} is {STATUS[code]}, there is no answer to take back")
        if code in (LOST, AGAIN, CANCELLED):
            raise UsageError(f"retract: trial {number} is {STATUS[code]}; tell it a result if one came late")

    def _check_path(self, record: Record, number: int, raters: list[str] | None) -> None:
        """Raises UsageError if a strategy of steps has gone on from an answer (of these raters, None: of all)."""
        counts = raters is None or not set(raters).isdisjoint(record.applied)
        if counts and self._book.scripted and self._book.gone_on(record):
            hint = (
                "take the later answers back first"
                if record.raters
                else "amend corrects the record without changing its path"
            )
            raise UsageError(f"retract: the strategy has gone on from the answer of trial {number}; {hint}")

    # -- looking -------------------------------------------------------------------------------------------------------

    def rankings(self, *, withdrawn: bool = False) -> list[Ranked]:
        """What people answered, in the order of the log; with `withdrawn`, also what was retracted or replaced."""
        with self._lock:
            self._sync()
            return [answer for answer in self._book.ranked.values() if withdrawn or not answer.withdrawn]

    def slates(self) -> list[Slate]:
        """All queries, open and closed, with who ranked them; nothing is decoded, so it may be called often."""
        with self._lock:
            self._sync()
            return self._book.slates()

    def agreement(self) -> Agreement:
        """How far the people who rank agree, with each other and with themselves: see `bbopt.agreement`."""
        with self._lock:
            self._sync()
            book = self._book
            standing = [answer for answer in book.ranked.values() if not answer.withdrawn]
            points = {answer.query: _points(book.records[answer.query]) for answer in standing}
        return agreement((answer, points[answer.query]) for answer in standing)


def _points(record: Record) -> list[Any]:
    """What tells the points of a query's rows apart; rows of lazy queries are all different."""
    if record.query.lazy:
        return list(record.query.numbers)
    return [row.tobytes() for row in np.asarray(record.query.X)]


def _ranking(request: _Read, record: Record) -> Ranking:
    """By rows of the query. Those that are not named come last, or were not looked at where only others were handed out."""
    if request.verdict is not None:
        return Ranking(verdict=request.verdict)
    first = record.query.first
    groups = [tuple(sorted(number - first for number in group)) for group in request.groups if group]
    unseen = [number - first for number in request.unseen]
    named = {row for group in groups for row in group} | set(unseen)
    rest = [row for row in range(record.query.size) if row not in named]
    if record.attempts.any():
        unseen += [row for row in rest if not record.attempts[row]]
        rest = [row for row in rest if record.attempts[row]]
    if rest and not groups:
        raise UsageError(f"rank: expected an order of the trials that were looked at, got none and {len(rest)} not unseen; "
                         "name equally good ones as one nested list, or all as unseen for no answer")  # fmt: skip
    return Ranking((*groups, tuple(rest)) if rest else tuple(groups), tuple(sorted(unseen)))
