"""What a study can be told: results, failures, rankings, points of people's own, and corrections of all these.

Everything is checked here, once, before it is written; a refused call leaves no trace, and the trial stays open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from bbopt import table
from bbopt.errors import AlreadyTold, NotHandled, UsageError
from bbopt.query import Ranking, rows_to_plain
from bbopt.record import AGAIN, CANCELLED, IMPOSSIBLE, LOST, OK, OPEN, QUEUED, RANKED, STATUS, Record
from bbopt.store import Event, Writer
from bbopt.study import Study
from bbopt.task import read_number
from bbopt.trial import Trial


class Telling(Study):
    """The part of `Optimizer` that records what came back."""

    # -- telling -------------------------------------------------------------------------------------------------------

    def tell(
        self,
        trial: Trial | int,
        values: Any,
        *,
        std: Mapping[str, float] | float | None = None,
        cost: float | None = None,
    ) -> None:
        """Record the result of a trial, durably. The same result twice is a no-op.

        values: a dict from metric to number (a bare number for a single metric); std: standard errors; cost: what the
        evaluation cost. Raises ValueRefused, UnknownTrial, or AlreadyTold for another result than before.
        """
        self.tell_many([(trial, values, std, cost)])

    def tell_many(self, results: Iterable[Sequence[Any]]) -> None:
        """Several results in one transaction: (trial, values), (trial, values, std) or (trial, values, std, cost) each.

        All are recorded, or none if one is refused.
        """
        told = []
        for trial, values, *rest in results:
            number = self._number(trial)
            told.append((trial, number, self._read_result(f"trial {number}", values, *rest)))
        with self._lock, self._writing() as (writer, events):
            for trial, number, body in told:
                attempt = trial.attempt if isinstance(trial, Trial) else None
                self._tell_one(writer, events, *self._find(number), attempt, body)
                self._apply(events)

    def _tell_one(
        self, writer: Writer, events: list[Event], record: Record, row: int, attempt: int | None, body: dict[str, Any]
    ) -> None:
        """A result of a row; attempt: which one it belongs to, None if nobody knows. The same result twice is a no-op; of
        different ones, a late one of an earlier attempt is logged, anything else is an error."""
        number, last = record.query.first + row, record.attempt(row)
        code = int(record.status[row])
        if code not in (OK, IMPOSSIBLE, RANKED):
            events.append(writer.append("tell", {"number": number, "attempt": last, **body}))
        elif code == OK and _same_result(self._body_of(record, row), body):
            return
        elif last > 1 and (attempt is None or attempt <= last):
            events.append(writer.append("superseded", {"number": number, **body}))
        else:
            before = self._trial(number)
            raise AlreadyTold(f"trial {number} is {before.status} already ({_short(before)}), got {_short_body(body)}; "
                              f"amend({number}, ...) corrects it, retract({number}) takes it back")  # fmt: skip

    def _read_result(self, what: str, values: Any, std: Any = None, cost: Any = None) -> dict[str, Any]:
        metrics = self.task.read_metrics(values, what)
        deviations = self.task.read_deviations(std, f"{what}: std")
        price = None if cost is None else read_number(cost, f"{what}: cost")
        return {"values": metrics, "std": deviations, "cost": price}

    def fail(self, trial: Trial | int, reason: str = "", *, impossible: bool = False) -> None:
        """Record that a trial has no result: lost (it goes out again, up to `retries` times), or impossible (the point
        cannot work: it is never asked again, and strategies learn to keep away from its like)."""
        number = self._number(trial)
        with self._lock, self._writing() as (writer, events):
            attempt = trial.attempt if isinstance(trial, Trial) else None
            self._fail_one(writer, events, *self._find(number), attempt, str(reason), bool(impossible))

    def _fail_one(
        self,
        writer: Writer,
        events: list[Event],
        record: Record,
        row: int,
        attempt: int | None,
        reason: str,
        impossible: bool,
    ) -> None:
        """A failure of a row; attempt as in `_tell_one`."""
        number, last = record.query.first + row, record.attempt(row)
        code = int(record.status[row])
        if code in (OK, RANKED) or (code == IMPOSSIBLE and not impossible):
            if last > 1 and attempt is not None:  # whichever attempt was late
                events.append(writer.append("superseded", {"number": number, "reason": reason}))
                return
            raise AlreadyTold(f"trial {number} is {STATUS[code]} already ({_short(self._trial(number))}); "
                              f"retract({number}) takes that back")  # fmt: skip
        late = attempt is not None and attempt < last and not impossible
        if code == IMPOSSIBLE or (code in (LOST, AGAIN, CANCELLED) and not impossible) or late:
            return
        body = {"number": number, "attempt": last, "reason": reason, "impossible": impossible}
        events.append(writer.append("fail", body))

    def cancel(self, trial: Trial | int) -> None:
        """Take an open or queued trial out: nobody will answer it. Its point may be asked again one day."""
        number = self._number(trial)
        with self._lock, self._writing() as (writer, events):
            record, row = self._find(number)
            code = int(record.status[row])
            if code in (OK, IMPOSSIBLE, RANKED):
                raise AlreadyTold(f"trial {number} is {STATUS[code]} already; retract({number}) takes its answer back")
            if code in (CANCELLED, LOST):
                return
            events.append(writer.append("cancel", {"numbers": [number]}))

    def add(
        self,
        params: Mapping[str, Any],
        values: Any,
        *,
        std: Mapping[str, float] | float | None = None,
        cost: float | None = None,
    ) -> Trial:
        """Record a point that was never asked, with its result."""
        return self.add_many([(params, values, std, cost)])[0]

    def add_many(self, points: Iterable[Sequence[Any]]) -> list[Trial]:
        """Several points with results, as for `add`, in one transaction."""
        queries: list[dict[str, Any]] = []
        told: list[dict[str, Any]] = []
        for params, values, *rest in points:
            x = self.task.space.encode(params)
            queries.append({"X": rows_to_plain(x[None]), "memo": {}, "origin": "user"})
            told.append(self._read_result(f"point {len(told)}", values, *rest))
        if not queries:
            return []
        with self._lock, self._writing() as (writer, events):
            first = self._book.count
            events.append(writer.append("add", {"queries": queries, "told": told}))
        return [self._trial(first + i) for i in range(len(queries))]

    def from_csv(self, source: Any) -> list[Trial]:
        """Read results from a CSV file, or a data frame: rows with the `number` of an open trial are
        told, others are added as new points. Raises ValueRefused or SpaceError naming the line; then nothing is recorded."""
        from bbopt.tables import read_rows

        return read_rows(self, source)

    def rank(
        self,
        order: Sequence[Any],
        *,
        unseen: Sequence[Trial | int] = (),
        rater: str = "",
        verdict: Literal["all bad", "cannot tell"] | None = None,
    ) -> None:
        """Record a person's order of the rows of one query: best first, ties as nested lists.

        Rows of the query that are neither in `order` nor `unseen` are worse than those listed. `verdict` speaks of the
        whole slate instead (`order` then names any of its trials). Raises UsageError for rows of different queries,
        AlreadyTold for another answer of the same rater, NotHandled if the strategy takes no rankings.
        """
        if "rankings" not in self.strategy.handles:
            raise NotHandled(f"rank: {type(self.strategy).__name__} does not learn from rankings; strategies that do: "
                             f"{', '.join(table.having('rankings'))}")  # fmt: skip
        groups = [[self._number(t) for t in (item if isinstance(item, list | tuple) else [item])] for item in order]
        hidden = [self._number(t) for t in unseen]
        listed = [number for group in groups for number in group] + hidden
        if not listed or len(set(listed)) < len(listed):
            raise UsageError(f"rank: expected each trial once, best first, ties as nested lists; got {listed}")
        with self._lock, self._writing() as (writer, events):
            record, _ = self._find(listed[0])
            first, size = record.query.first, record.query.size
            if any(not first <= number < first + size for number in listed):
                raise UsageError(
                    f"rank: expected trials of one query ({first} to {first + size - 1}), got {sorted(listed)}"
                )
            if (np.isin(record.status, (OK, IMPOSSIBLE))).any():
                raise AlreadyTold(
                    f"the query of trials {first} to {first + size - 1} was told values; it cannot be ranked too"
                )
            rest = [row for row in range(size) if first + row not in listed]
            ordered = [tuple(number - first for number in group) for group in groups if group]
            ranking = Ranking(verdict=verdict) if verdict else Ranking(
                tuple(ordered) + ((tuple(rest),) if rest else ()), tuple(number - first for number in hidden)
            )  # fmt: skip
            before = record.raters.get(rater)
            if before == ranking:
                return
            if before is not None:
                raise AlreadyTold(f"{rater or 'this rater'} ranked this query already; retract({first}, rater={rater!r}) takes that back")  # fmt: skip
            events.append(
                writer.append("rank", {"query": record.query.id, "rater": rater, "ranking": ranking.to_plain()})
            )

    # -- corrections ---------------------------------------------------------------------------------------------------

    def amend(
        self,
        trial: Trial | int,
        values: Any,
        *,
        std: Mapping[str, float] | float | None = None,
        cost: float | None = None,
    ) -> None:
        """Correct the result of an answered trial. The log keeps what was there; strategies learn the new value."""
        number = self._number(trial)
        body = self._read_result(f"trial {number}", values, std, cost)
        with self._lock, self._writing() as (writer, events):
            record, row = self._find(number)
            if record.status[row] in (OPEN, QUEUED, RANKED):
                raise UsageError(
                    f"amend: trial {number} is {STATUS[record.status[row]]}, there is no value to correct; use tell"
                )
            if record.status[row] == OK and _same_result(self._body_of(record, row), body):
                return
            events.append(writer.append("amend", {"number": number, **body}))

    def retract(self, trial: Trial | int, *, rater: str | None = None) -> None:
        """Take an answer back: the trial is open again. For a ranked query, one rater's answer or all of them.

        The answers of a Script can be taken back while no later query was answered.
        """
        number = self._number(trial)
        with self._lock, self._writing() as (writer, events):
            record, row = self._find(number)
            if rater is not None and rater not in record.raters:
                raise UsageError(
                    f"retract: {rater!r} has not ranked this query; it has {', '.join(record.raters) or 'no'} raters"
                )
            if record.status[row] in (OPEN, QUEUED) and not record.raters:
                raise UsageError(
                    f"retract: trial {number} is {STATUS[record.status[row]]}, there is no answer to take back"
                )
            if record.status[row] in (LOST, AGAIN, CANCELLED):
                raise UsageError(
                    f"retract: trial {number} is {STATUS[record.status[row]]}; tell it a result if one came late"
                )
            if self._book.scripted and self._book.later_answer(record.query.id):
                raise UsageError(f"retract: trial {number} belongs to a script that has gone on from this answer; amend corrects the record without changing its path")  # fmt: skip
            events.append(writer.append("retract", {"number": number, "rater": rater}))


def _same_result(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return bool(a["values"] == b["values"] and a["std"] == b["std"] and a["cost"] == b["cost"])


def _short(trial: Trial) -> str:
    return (
        ", ".join(f"{name} = {value:g}" for name, value in (trial.values or {}).items()) or trial.reason or "no values"
    )


def _short_body(body: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in body["values"].items())
