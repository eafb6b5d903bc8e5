"""Telling a study many rows at once: values of a query or of a batch of its rows, in one event and without decoding any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bbopt.book import rows_to_log
from bbopt.errors import AlreadyTold, UsageError, ValueRefused
from bbopt.outcome import Batch
from bbopt.query import STATUSES, Query, Values
from bbopt.record import IMPOSSIBLE, LOST, OK, OPEN, QUEUED, RANKED, Record
from bbopt.store import Event, Writer
from bbopt.telling import Telling

Array = np.ndarray[Any, np.dtype[Any]]


class TellingRows(Telling):
    """The part of `Optimizer` that records what came back at array level."""

    def tell_query(self, asked: Query | Batch | int, values: Values | Any) -> None:
        """Record the answer to a whole query, or to a batch of its rows, at array level: `Values` in inside units (minimised;
        G <= 0 is feasible), or an array of objective values (k,) or (k, m) for a task without constraints, in inside units
        too. Values of a batch go in the order of its rows. The same answer twice is a no-op."""
        given = values if isinstance(values, Values) else Values.of(values)
        with self._lock, self._writing() as (writer, events):
            if isinstance(asked, Batch):
                record, rows = self._record_of("tell_query", asked), asked.rows
            else:
                index = asked.id if isinstance(asked, Query) else asked
                if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self._book.records):
                    raise UsageError(f"tell_query: expected a query of this study, got {asked!r}")
                record = self._book.records[index]
                rows = np.arange(record.query.size)
            shape = (len(rows), self.task.m), (len(rows), self.task.c)
            if given.slopes is not None:
                raise ValueRefused(
                    "tell_query: expected Values without slopes; tell derivatives row by row: tell(gradient=)"
                )
            if (given.Y.shape, given.G.shape) != shape or not np.array_equal(given.rows, np.arange(len(rows))):
                raise ValueRefused(f"tell_query: expected Y {shape[0]} and G {shape[1]} for every row in order, got Y {given.Y.shape} and G {given.G.shape}")  # fmt: skip
            ok = given.ok
            if not (np.isfinite(given.Y[ok]).all() and np.isfinite(given.G[ok]).all()):
                row = int(np.flatnonzero(ok)[~np.isfinite(np.hstack([given.Y, given.G])[ok]).all(axis=1)][0])
                raise ValueRefused(
                    f"tell_query: row {row}: expected finite numbers, got {given.Y[row]}, {given.G[row]}"
                )
            codes = np.array([STATUSES.index(status) for status in given.status], np.int8)
            metrics = self._book.metrics_from(given.Y, given.G)
            std = None if np.isnan(given.std).all() else self._book.std_from(given.std)
            cost = None if np.isnan(given.cost).all() else given.cost
            new = ~self._told_before(record, rows, codes, metrics, std, cost)
            if not new.any():
                return
            body = {
                "query": record.query.id,
                "rows": None if np.array_equal(rows[new], np.arange(record.query.size)) else rows_to_log(rows[new]),
                "metrics": metrics[new],
                "std": None if std is None else std[new],
                "cost": None if cost is None else cost[new],
                "status": None if ok[new].all() else codes[new],
            }
            events.append(writer.append("tell_query", body))

    def _told_before(
        self, record: Record, rows: Array, codes: Array, metrics: Array, std: Array | None, cost: Array | None
    ) -> Array:
        """(n,) which rows have this very answer. Raises AlreadyTold if one has another."""
        if record.raters:
            raise AlreadyTold(f"query {record.query.id} was ranked by {', '.join(map(repr, record.raters))} already; "
                              f"retract({record.query.first}) takes the rankings back")  # fmt: skip
        now, wanted = record.status[rows], np.array([OK, LOST, IMPOSSIBLE])[codes]
        told = np.asarray(np.isin(now, (OK, IMPOSSIBLE, RANKED)) | ((now == LOST) & (wanted == LOST)))
        if told.any():
            old = rows[told]
            same = (record.metrics[old] == metrics[told]).all(axis=1)
            if record.std is not None or std is not None:
                same &= _same(record.std, old, std, told, record.metrics.shape[1]).all(axis=1)
            if record.cost is not None or cost is not None:
                same &= _same(record.cost, old, cost, told)
            same = (now[told] == wanted[told]) & (same | (wanted[told] != OK))
            if not same.all():
                raise AlreadyTold(
                    f"query {record.query.id} has other answers already (to trial {record.query.first + int(old[~same][0])}); "
                    f"amend or retract its trials {record.query.numbers}"
                )
        return told

    def tell_rows(self, batch: Batch, metrics: Array, failures: Mapping[int, tuple[str, bool]] | None = None) -> None:
        """Record what became of the rows of a batch, in one transaction.

        metrics: (n, metrics) in the user's sign, in the order of `task.metrics`; failures: by position in the batch, for rows
        without a result, the reason and whether the point is impossible (otherwise it is lost, and goes out again up to
        `retries` times). As for `tell` and `fail`: the same again is a no-op, and what comes late is superseded. Raises
        ValueRefused, AlreadyTold; nothing is recorded then.
        """
        failed = failures or {}
        numbers = np.asarray(metrics, float)
        with self._lock, self._writing() as (writer, events):
            record = self._record_of("tell_rows", batch)
            has_result = np.ones(len(batch), bool)
            if failed:
                has_result[list(failed)] = False
            if numbers.shape != (len(batch), len(self.task.metrics)) or not np.isfinite(numbers[has_result]).all():
                wanted = f"finite numbers ({len(batch)}, {len(self.task.metrics)})"
                raise ValueRefused(f"tell_rows: expected {wanted}, got {numbers!r}")
            if len(batch) == 1:  # the log reads better so
                self._tell_alone(writer, events, record, batch, 0, numbers, failed)
                return
            rows = batch.rows
            plain = np.isin(record.status[rows], (OPEN, QUEUED)) & (record.attempts[rows] == batch.attempt)
            for position in np.flatnonzero(~plain).tolist():
                self._tell_alone(writer, events, record, batch, position, numbers, failed)
                self._apply(events)
            good = plain & has_result
            if good.any():
                events.append(writer.append("tell_query", {"query": record.query.id, "rows": rows_to_log(rows[good]),
                                            "metrics": numbers[good], "std": None, "cost": None, "status": None}))  # fmt: skip
            alike: dict[tuple[str, bool], list[int]] = {}
            for position, failure in failed.items():
                if plain[position]:
                    alike.setdefault(failure, []).append(int(rows[position]))
            for (reason, impossible), these in alike.items():
                events.append(writer.append("fail_rows", {"query": record.query.id, "rows": rows_to_log(np.array(these)),
                                            "reason": reason, "impossible": impossible}))  # fmt: skip

    def _tell_alone(
        self,
        writer: Writer,
        events: list[Event],
        record: Record,
        batch: Batch,
        position: int,
        numbers: Array,
        failed: Mapping[int, tuple[str, bool]],
    ) -> None:
        """One row, with all that has to be looked at where it was answered, lost or given out again meanwhile."""
        row = int(batch.rows[position])
        if position in failed:
            self._fail_one(writer, events, record, row, batch.attempt, *failed[position])
        else:
            named = dict(zip(self.task.metrics, numbers[position].tolist(), strict=True))
            self._tell_one(writer, events, record, row, batch.attempt, {"values": named, "std": {}, "cost": None})

    def _record_of(self, call: str, batch: Batch) -> Record:
        """The record of a batch's query. Raises UsageError if this study has not got these rows."""
        if not isinstance(batch, Batch):
            raise UsageError(f"{call}: expected a batch of rows as ask_rows gives them, got {batch!r}")
        index, rows = batch.query.id, batch.rows
        record = self._book.records[index] if 0 <= index < len(self._book.records) else None
        if record is None or record.query.first != batch.query.first:
            raise UsageError(f"{call}: expected a batch of this study, got rows of query {index}")
        different = set(rows.tolist())
        if not different or len(different) < len(rows) or min(different) < 0 or max(different) >= record.query.size:
            raise UsageError(f"{call}: expected different rows of 0 to {record.query.size - 1}, got {rows}")
        return record


def _same(before: Array | None, old: Array, now: Array | None, told: Array, *columns: int) -> Array:
    """Whether what was told with the old rows is what is told now; NaN and nothing at all are the same."""
    left = np.full((len(old), *columns), np.nan) if before is None else before[old]
    right = np.full((len(old), *columns), np.nan) if now is None else now[told]
    return np.asarray((left == right) | (np.isnan(left) & np.isnan(right)))
