"""What a study can be told: results, failures, points of people's own, and corrections of results.

Everything is checked here, once, before it is written; a refused call leaves no trace, and the trial stays open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bbopt.derivatives import check_active, read_gradient
from bbopt.errors import AlreadyTold, UsageError
from bbopt.query import rows_to_plain
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
        gradient: Mapping[str, Any] | None = None,
    ) -> None:
        """Record the result of a trial, durably. The same result twice is a no-op.

        values: a dict from metric to number (a bare number for a single metric); std: standard errors; cost: what the
        evaluation cost; gradient: derivatives d(metric)/d(parameter) in `Float` parameters, in your units and sign, as a
        dict from parameter to number (an array for a vector parameter), for several metrics a dict from metric to such
        dicts; what is not known is left out. Strategies that learn from derivatives (`gp`) use them. Raises ValueRefused, UnknownTrial, or AlreadyTold for another result than before.
        """
        self.tell_many([(trial, values, std, cost, gradient)])

    def tell_many(self, results: Iterable[Sequence[Any]]) -> None:
        """Several results in one transaction: (trial, values), or with std, cost and gradient as further entries each.

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
        if record.raters and code != RANKED:
            raise AlreadyTold(f"trial {number} was ranked by {', '.join(map(repr, record.raters))} already, it cannot be told values too; "
                              f"retract({number}) takes the rankings back")  # fmt: skip
        check_active(self.task, record.query.X[row], body.get("gradient", {}), f"trial {number}: gradient")
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

    def _read_result(
        self, what: str, values: Any, std: Any = None, cost: Any = None, gradient: Any = None
    ) -> dict[str, Any]:
        metrics = self.task.read_metrics(values, what)
        deviations = self.task.read_deviations(std, f"{what}: std")
        price = None if cost is None else read_number(cost, f"{what}: cost")
        slopes = read_gradient(self.task, gradient, f"{what}: gradient")
        return {"values": metrics, "std": deviations, "cost": price} | ({"gradient": slopes} if slopes else {})

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
        gradient: Mapping[str, Any] | None = None,
    ) -> Trial:
        """Record a point that was never asked, with its result."""
        return self.add_many([(params, values, std, cost, gradient)])[0]

    def add_many(self, points: Iterable[Sequence[Any]]) -> list[Trial]:
        """Several points with results, as for `add`, in one transaction."""
        queries: list[dict[str, Any]] = []
        told: list[dict[str, Any]] = []
        for params, values, *rest in points:
            x = self.task.space.encode(params)
            queries.append({"X": rows_to_plain(x[None]), "memo": {}, "origin": "user"})
            result = self._read_result(f"point {len(told)}", values, *rest)
            check_active(self.task, x, result.get("gradient", {}), f"point {len(told)}: gradient")
            told.append(result)
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

    # -- corrections ---------------------------------------------------------------------------------------------------

    def amend(
        self,
        trial: Trial | int,
        values: Any,
        *,
        std: Mapping[str, float] | float | None = None,
        cost: float | None = None,
        gradient: Mapping[str, Any] | None = None,
    ) -> None:
        """Correct the result of an answered trial. The log keeps what was there; strategies learn the new value."""
        number = self._number(trial)
        body = self._read_result(f"trial {number}", values, std, cost, gradient)
        with self._lock, self._writing() as (writer, events):
            record, row = self._find(number)
            if record.status[row] in (OPEN, QUEUED, RANKED):
                raise UsageError(
                    f"amend: trial {number} is {STATUS[record.status[row]]}, there is no value to correct; use tell"
                )
            check_active(self.task, record.query.X[row], body.get("gradient", {}), f"trial {number}: gradient")
            if record.status[row] == OK and _same_result(self._body_of(record, row), body):
                return
            events.append(writer.append("amend", {"number": number, **body}))


def _same_result(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    told = ("values", "std", "cost")
    return all(a[key] == b[key] for key in told) and a.get("gradient", {}) == b.get("gradient", {})


def _short(trial: Trial) -> str:
    return (
        ", ".join(f"{name} = {value:g}" for name, value in (trial.values or {}).items()) or trial.reason or "no values"
    )


def _short_body(body: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in body["values"].items())
