"""The book: what a study's log adds up to, with what people rank, and corrections of every kind of answer.

Rules that the log alone decides, so that they come out the same for whoever reads it:

* A query has its answer when as many people have ranked it as it needs (its memo's "quorum", or the study's), or when
  those who have are declared enough. What comes later is kept and not applied. If an answer that counted is taken back,
  later ones move up in their order; if these are too few, the query is open again.
* A strategy with `scripted` goes on from its answers step by step (a query's memo says its "step"; without one, every
  query is a step of its own). A query depends on an answer of an earlier step that was known when it was asked. While
  such a query is answered, that answer cannot be taken back; while it is open, taking it back cancels it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bbopt.ledger import Ledger, rows_of, rows_to_log
from bbopt.query import Ranking
from bbopt.record import AGAIN, CANCELLED, IMPOSSIBLE, OK, OPEN, QUEUED, Record
from bbopt.slates import Ranked, Slate
from bbopt.task import Task

__all__ = ["Book", "rows_of", "rows_to_log"]


class Book(Ledger):
    """The whole derived state of one study."""

    def __init__(self, task: Task, retries: int, quorum: int, scripted: bool) -> None:
        super().__init__(task, retries, quorum, scripted)
        self.ranked: dict[int, Ranked] = {}  # people's answers, by their position in the log, withdrawn ones too

    # -- rankings ------------------------------------------------------------------------------------------------------

    def slates(self) -> list[Slate]:
        """Every query as people see it."""
        return [record.slate or self._show(record) for record in self.records]

    def _show(self, record: Record) -> Slate:
        record.slate = record.as_slate(record.query.id in self.open)
        return record.slate

    def _on_rank(self, body: dict[str, Any]) -> None:
        record, rater, position = self.records[body["query"]], body["rater"], self._event.position
        ranking = Ranking.from_plain(body["ranking"])
        before = record.raters.get(rater)
        changed = before is not None and rater in record.applied and before.ranking != ranking
        if before is not None:
            self.ranked[before.position] = replace(before, applied=False, withdrawn=True)
        if changed and self.scripted:
            self._cancel_dependents(record)
        answer = Ranked(record.query.id, record.query.first, record.query.size, rater, ranking,
                        time=self._event.time, details=body.get("details") or {}, position=position)  # fmt: skip
        record.raters[rater] = self.ranked[position] = answer
        self._pool(record, changed)

    def _on_settle(self, body: dict[str, Any]) -> None:
        record = self.records[body["query"]]
        record.settled = record.standing()
        self._pool(record)

    def _pool(self, record: Record, changed: bool = False) -> None:
        """The answers that count are other ones, perhaps; `changed`: they are other ones by the same people."""
        before = record.pool()
        for rater, answer in record.raters.items():
            if answer.applied != (rater in record.applied):
                record.raters[rater] = self.ranked[answer.position] = replace(answer, applied=not answer.applied)
        if not before and record.applied:
            told = not record.remaining and record.query.id in self.completed  # as lost, every row of it
            record.close()
            self._teach(record, -1)
            if told:
                self._revise(record)
            else:
                self._complete(record)
        elif before and not record.applied:
            record.reopen()
            self._reopen(record, -1)
            self._revise(record)
        elif changed or before != record.applied:
            self._revise(record)

    # -- corrections ---------------------------------------------------------------------------------------------------

    def _on_amend(self, body: dict[str, Any]) -> None:
        record, row = self.find(body["number"])
        if self.scripted and self.gone_on(record):
            if record.original is None:
                record.original = record.metrics.copy()
        elif self.scripted:
            self._cancel_dependents(record)
        if record.status[row] != OK:
            if self._lesson(record, row) is None:
                self._teach(record, row)
            waited = record.status[row] == AGAIN  # every other state that can be amended was settled before
            record.status[row] = OK
            if waited:
                self._settled(record, 1, late=0)
            if not record.query.lazy:
                key = record.query.X[row].tobytes()
                self.forbidden.discard(key)
                self.seen.setdefault(key, body["number"])
        self._write(record, row, body)
        self._revise(record)

    def _on_retract(self, body: dict[str, Any]) -> None:
        record, row = self.find(body["number"])
        if record.raters:
            gone = list(record.raters) if body["rater"] is None else [body["rater"]]
            if self.scripted and not set(gone).isdisjoint(record.applied):
                self._cancel_dependents(record)
            for rater in gone:
                answer = record.raters.pop(rater)
                self.ranked[answer.position] = replace(answer, applied=False, withdrawn=True)
            self._pool(record)
            return
        if self.scripted:
            self._cancel_dependents(record)
        record.metrics[row] = np.nan
        for array in (record.std, record.cost):
            if array is not None:
                array[row] = np.nan
        record.status[row] = OPEN
        record.reasons.pop(row, None)
        record.gradients.pop(row, None)
        record.remaining += 1
        if not record.query.lazy:
            key = record.query.X[row].tobytes()
            self.forbidden.discard(key)
            self.seen.setdefault(key, body["number"])
        self._reopen(record, row)
        self._revise(record)

    def _reopen(self, record: Record, row: int) -> None:
        """An answer was taken back, that of a row or (-1) a ranking: its lesson goes, what else it taught stays."""
        query = record.query.id
        lesson = self._lesson(record, row)
        if lesson is not None:
            others = self.learnt(*self.lessons[lesson])
            others = others[np.isin(record.status[others], (OK, IMPOSSIBLE)) & (others != row)]
            if row >= 0 and len(others):
                record.chunks.append(others)
                self.lessons[lesson] = (query, -1 - len(record.chunks))
            else:
                del self.lessons[lesson]
        record.slate = None
        if not len(record.rows(OK, IMPOSSIBLE)):
            record.since = 0
        if not record.remaining:  # every row had been given up before it was ranked: it stays so
            return
        if query in self.completed:
            self.completed.remove(query)
        self.open[query] = record
        self.open = dict(sorted(self.open.items()))

    def _lesson(self, record: Record, row: int) -> int | None:
        """Where the lesson that has this row (-1: the whole query) stands."""
        for i, (query, taught) in enumerate(self.lessons):
            if query == record.query.id and (
                taught in (row, -1) or (taught < -1 and row in self.learnt(query, taught))
            ):
                return i
        return None

    def _dependents(self, record: Record) -> list[Record]:
        """Queries of later steps of the strategy that were asked when the answer to this one was known."""
        if not record.since:
            return []
        return [other for other in self.records
                if other.query.origin == "strategy" and other.seen >= record.since and _later(other, record)]  # fmt: skip

    def gone_on(self, record: Record) -> bool:
        """Whether a query that depends on the answer to this one has an answer itself."""
        return any(other.answered for other in self._dependents(record))

    def _cancel_dependents(self, record: Record) -> None:
        for other in self._dependents(record):
            if other.query.id in self.open:
                for row in other.rows(QUEUED, OPEN, AGAIN).tolist():
                    self._settle(other, row, CANCELLED)
                self.completed.remove(other.query.id)  # the strategy never hears of it


def _later(other: Record, record: Record) -> bool:
    """Whether a query belongs to a later step than another."""
    if other.step is None or record.step is None:
        return other.query.id > record.query.id
    return other.step > record.step
