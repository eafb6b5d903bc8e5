"""A study in a few lines of Python, for comparison: what `test_machine.py` says the optimizer must do."""

from __future__ import annotations

from dataclasses import dataclass, field

from bbopt.errors import AlreadyTold, UsageError, Waiting

Values = dict[str, float]


@dataclass
class Row:
    group: int
    user: bool
    status: str = "queued"
    issues: int = 0  # how often it was given out
    again: bool = False  # lost, and waits to go out again
    expires: float | None = None
    values: Values | None = None

    @property
    def settled(self) -> bool:
        return self.status in ("ok", "impossible", "cancelled") or (self.status == "lost" and not self.again)


@dataclass
class Model:
    """`population`: rows of each query of the strategy, which waits for all of them; None for a free batch size."""

    population: int | None
    retries: int
    rows: list[Row] = field(default_factory=list)
    groups: int = 0

    def ask(self, n: int, fewer: bool, now: float, lease: float | None) -> list[int]:
        """Numbers handed out, in order."""
        lost = [i for i, row in enumerate(self.rows) if row.again]
        late = [
            i
            for i, row in enumerate(self.rows)
            if row.status == "open" and row.expires is not None and row.expires <= now
        ]
        queued = [i for i, row in enumerate(self.rows) if row.status == "queued"]
        queued.sort(key=lambda i: not self.rows[i].user)
        plan = (lost + late + queued)[:n]
        missing = n - len(plan)
        if missing and self.population is None:
            plan += self._query(missing)
        elif missing and self.population is not None:
            free = all(row.settled or row.user for row in self.rows)
            available = len(plan) + (min(missing, self.population) if free else 0)
            if available < n and not (fewer and available):
                raise Waiting(available=available)
            if free:
                plan += self._query(self.population)[:missing]
        for i in plan:
            row = self.rows[i]
            row.status, row.again, row.issues = "open", False, row.issues + 1
            row.expires = None if lease is None else now + lease
        return plan

    def _query(self, size: int) -> list[int]:
        first = len(self.rows)
        self.groups += 1
        self.rows += [Row(self.groups, user=False) for _ in range(size)]
        return list(range(first, first + size))

    def user_point(self, values: Values | None) -> int:
        """Enqueued (without values), or added with its result."""
        self.groups += 1
        self.rows.append(Row(self.groups, True, "queued" if values is None else "ok", values=values))
        return len(self.rows) - 1

    def tell(self, number: int, values: Values) -> None:
        row = self.rows[number]
        if row.status in ("ok", "impossible"):
            if row.issues > 1 or (row.status == "ok" and row.values == values):
                return  # superseded, or the same again
            raise AlreadyTold
        row.status, row.again, row.values = "ok", False, values

    def fail(self, number: int, impossible: bool, attempt: int | None) -> None:
        """`attempt`: of the trial object that fails, None if it is told by number."""
        row = self.rows[number]
        if row.status == "ok" or (row.status == "impossible" and not impossible):
            if row.issues > 1 and attempt is not None:
                return
            raise AlreadyTold
        if impossible:
            row.status, row.again = "impossible", False
        elif row.status in ("open", "queued") and (attempt is None or attempt >= row.issues):
            row.status, row.again = "lost", max(row.issues, 1) <= self.retries

    def cancel(self, number: int) -> None:
        row = self.rows[number]
        if row.status in ("ok", "impossible"):
            raise AlreadyTold
        if row.status != "lost" or row.again:
            row.status, row.again = "cancelled", False

    def amend(self, number: int, values: Values) -> None:
        row = self.rows[number]
        if row.status in ("open", "queued"):
            raise UsageError
        row.status, row.again, row.values = "ok", False, values

    def retract(self, number: int) -> None:
        row = self.rows[number]
        if row.status not in ("ok", "impossible"):
            raise UsageError
        row.status, row.values = "open", None
