"""The loop that drives workers, on workers of a simulation: whose time is exact, who die and hang when the test wants it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from bbopt import evaluate_pool
from bbopt.errors import EvaluatorError
from bbopt.evaluate import Stopped
from bbopt.evaluate_pool import Gone, Pool, Ready, Refused, Report, Said, Worker
from bbopt.evaluate_work import Part
from bbopt.outcome import Batch, Outcome
from bbopt.query import Query

SLACK = evaluate_pool.SLACK_SECONDS


@dataclass(eq=False)
class Simulated:
    """A worker. `busy`: when it was at work, (start, end) each."""

    crew: Crew
    name: int
    ended: bool = False
    dismissed: bool = False
    busy: list[tuple[float, float]] = field(default_factory=list)

    def give(self, batch: Batch) -> None:
        assert not self.ended and not self.dismissed
        assert not self.busy or self.busy[-1][1] <= self.crew.now, "a second task while the first is at work"
        self.crew.work(self, batch)

    def dismiss(self) -> None:
        self.dismissed = True

    def end(self) -> None:
        self.ended = True


class Crew:
    """Workers in simulated time. seconds: of a row, by its number; dies, hangs: what such a row does to its worker."""

    def __init__(
        self,
        seconds: Callable[[int], float] = lambda number: 1.0,
        dies: Callable[[int], bool] = lambda number: False,
        hangs: Callable[[int], bool] = lambda number: False,
        reports_rows: bool = True,
        start: Callable[[Simulated], Report] = Ready,
    ) -> None:
        self.seconds, self.dies, self.hangs, self._start = seconds, dies, hangs, start
        self.reports_rows = reports_rows
        self.now = 0.0
        self.members: list[Simulated] = []
        self.events: list[tuple[float, int, Report]] = []
        self._count = itertools.count()  # what is said at one moment is heard in order
        self.tasks: list[list[int]] = []

    def start(self) -> Simulated:
        member = Simulated(self, len(self.members))
        self.members.append(member)
        self._say(self.now, self._start(member))
        return member

    def work(self, member: Simulated, batch: Batch) -> None:
        self.tasks.append(batch.numbers.tolist())
        moment, parts = self.now, []
        for number in batch.numbers.tolist():
            if self.hangs(number):
                member.busy.append((self.now, np.inf))
                return
            moment += self.seconds(number)
            if self.dies(number):
                self._say(moment, Gone(member, "ended by signal 9 (SIGKILL)"))
                break
            parts.append(Part([10 * number]))
            if self.reports_rows:
                self._say(moment, Said(member, [parts[-1]]))
        else:
            if not self.reports_rows:
                self._say(moment, Said(member, parts))
        member.busy.append((self.now, moment))

    def _say(self, moment: float, report: Report) -> None:
        heapq.heappush(self.events, (moment, next(self._count), report))

    def wait(self, workers: Collection[Worker], timeout: float | None) -> None:
        heard = [moment for moment, _, report in self.events if report.worker in workers]
        next_event = min(heard, default=np.inf)
        until = np.inf if timeout is None else self.now + timeout
        assert min(next_event, until) < np.inf, "waiting for ever"
        self.now = max(self.now, min(next_event, until))

    def hear(self, workers: Collection[Worker]) -> list[Report]:
        said = sorted(event for event in self.events if event[0] <= self.now and event[2].worker in workers)
        self.events = [event for event in self.events if event not in said]
        reports = [report for _, _, report in said if not report.worker.ended]  # type: ignore[attr-defined]
        for report in reports:
            if isinstance(report, Gone):
                report.worker.end()
        return reports


class Source:
    """Rows 0 to n - 1, of a strategy of free batch size or of one query that waits; lost ones come again, up to 2 times."""

    def __init__(self, n: int, free: bool = True) -> None:
        self.query = Query(np.zeros((max(n, 1), 1)), first=0)
        self.waiting = [(row, 1) for row in range(n)]
        self.free = free
        self.asked: list[tuple[int, int]] = []
        self.out: dict[int, int] = {}
        self.told: dict[int, Any] = {}
        self.attempts: dict[int, int] = {}

    def supply(self, rows: int, fresh: int) -> list[Batch]:
        self.asked.append((rows, fresh))
        n = min(rows, fresh) if self.free else rows
        given, self.waiting = self.waiting[:n], self.waiting[n:]
        self.out.update(given)
        return [Batch(self.query, np.array([row for row, a in given if a == attempt]), attempt)
                for attempt in sorted({attempt for _, attempt in given})]  # fmt: skip

    def tell(self, outcome: Outcome) -> None:
        for position, number in enumerate(outcome.batch.numbers.tolist()):
            attempt = self.out.pop(number)
            assert attempt == outcome.batch.attempt
            self.attempts[number] = attempt
            failure = outcome.failures.get(position)
            if failure is None:
                assert number not in self.told
                self.told[number] = outcome.results[position]
                continue
            assert failure.lost and failure.error is None
            if attempt <= 2:
                self.waiting.insert(0, (number, attempt + 1))
            else:
                self.told[number] = failure.reason


def drive(
    crew: Crew, source: Source, size: int, batch: int = 1, fresh: int | None = None, seconds: float | None = None
) -> None:
    for outcome in Pool(crew, size, batch, batch if fresh is None else fresh, seconds).run(source.supply):
        source.tell(outcome)
    assert not source.out and not source.waiting
    assert all(member.ended for member in crew.members), "workers were left"


def tell_all(source: Source, outcomes: Iterator[Outcome]) -> None:
    for outcome in outcomes:
        source.tell(outcome)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Crew], Crew]:
    def use(crew: Crew) -> Crew:
        monkeypatch.setattr(evaluate_pool.time, "monotonic", lambda: crew.now)
        return crew

    return use


# -- who works on what ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("seed", range(5))
def test_no_worker_is_idle_while_there_are_rows(size: int, seed: int, clock: Any) -> None:
    """The schedule is the greedy one: whoever is free first takes the next row, at that very moment."""
    seconds = np.random.default_rng(seed).exponential(size=40)
    crew, source = clock(Crew(lambda number: float(seconds[number]))), Source(40)
    drive(crew, source, size)
    assert source.told == {number: 10 * number for number in range(40)}
    free = [0.0] * size
    for length in seconds:
        first = int(np.argmin(free))
        free[first] += length
    assert crew.now == pytest.approx(max(free))
    assert len(crew.members) == size
    for member in crew.members:
        ends = [0.0] + [end for _, end in member.busy]
        assert [start for start, _ in member.busy] == pytest.approx(ends[:-1]), "a worker waited between two tasks"


def test_rows_are_asked_for_only_where_there_is_room(clock: Any) -> None:
    crew, source = clock(Crew(lambda number: 1.0 + number % 3)), Source(20)
    largest = 0

    def supply(rows: int, fresh: int) -> list[Batch]:
        nonlocal largest
        assert rows <= 3 - len(source.out), "more rows wanted than workers are free"
        given = source.supply(rows, fresh)
        largest = max(largest, len(source.out))
        return given

    for outcome in Pool(crew, 3, 1, 1, None).run(supply):
        source.tell(outcome)
    assert len(source.told) == 20 and largest == 3


def test_workers_start_when_there_is_something_to_do(clock: Any) -> None:
    crew = clock(Crew())
    drive(crew, Source(0), 4)
    assert crew.members == []
    drive(crew, Source(2), 4)
    assert len(crew.members) == 2


def test_waiting_rows_travel_together_and_are_shared_out_evenly(clock: Any) -> None:
    crew, source = clock(Crew()), Source(12, free=False)
    drive(crew, source, 4, batch=8, fresh=1)
    assert source.asked[0] == (32, 4)
    assert sorted(crew.tasks) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    crew, source = clock(Crew()), Source(100, free=False)
    drive(crew, source, 4, batch=8, fresh=1)
    assert {len(task) for task in crew.tasks[:12]} == {8} and len(source.told) == 100
    crew, source = clock(Crew()), Source(12)
    drive(crew, source, 4, batch=8, fresh=1)
    assert {len(task) for task in crew.tasks} == {1}, "a strategy of free batch size is asked for one row per worker"


# -- workers that die or hang --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reports_rows", [True, False])
@pytest.mark.parametrize("batch", [1, 4, 16])
@pytest.mark.parametrize("seed", range(4))
def test_only_the_row_that_ends_its_worker_is_lost(reports_rows: bool, batch: int, seed: int, clock: Any) -> None:
    rng = np.random.default_rng(seed)
    deadly, hanging = set(rng.choice(60, 3, replace=False).tolist()), set(rng.choice(60, 2, replace=False).tolist())
    seconds = rng.exponential(0.2, 60)
    crew = clock(Crew(lambda n: min(0.9, float(seconds[n])), deadly.__contains__, hanging.__contains__, reports_rows))
    source = Source(60, free=False)
    drive(crew, source, 3, batch=batch, seconds=1.0)
    bad = deadly | hanging
    assert {number for number, result in source.told.items() if isinstance(result, str)} == bad
    assert {number: source.told[number] for number in range(60) if number not in bad} == {
        number: 10 * number for number in range(60) if number not in bad
    }
    assert {source.attempts[number] for number in bad} == {3}
    assert {source.attempts[number] for number in set(range(60)) - bad} == {1}, "a neighbour was lost, too"
    for number in bad:
        wanted = "gave no answer within 1 s" if number in hanging else "ended by signal 9 (SIGKILL)"
        assert wanted in source.told[number]


@pytest.mark.parametrize(("reports_rows", "patience"), [(True, 1.0), (False, 4.0)])
def test_the_time_limit_is_per_row(reports_rows: bool, patience: float, clock: Any) -> None:
    """Where rows are reported one by one the limit starts anew with each; else a task has that of all its rows."""
    crew, source = clock(Crew(lambda number: 0.9, reports_rows=reports_rows)), Source(4, free=False)
    drive(crew, source, 1, batch=4, seconds=1.0)
    assert set(source.attempts.values()) == {1} and crew.now == pytest.approx(3.6)
    crew, source = clock(Crew(hangs=lambda number: True, reports_rows=reports_rows)), Source(4, free=False)
    pool = Pool(crew, 1, 4, 1, 1.0).run(source.supply)
    next(pool)
    assert crew.members[0].busy[0] == (0.0, np.inf) and crew.members[0].ended
    assert crew.now >= patience + SLACK and len(crew.tasks) >= 2
    first_restart = patience + SLACK
    assert crew.members[1].busy[0][0] == pytest.approx(first_restart)
    pool.close()


def test_a_worker_that_dies_while_it_has_nothing_to_do_costs_nothing(clock: Any) -> None:
    crew, source = clock(Crew()), Source(6)
    pool = Pool(crew, 2, 1, 1, None).run(source.supply)
    source.tell(next(pool))
    idle = next(member for member in crew.members if member.busy[-1][1] <= crew.now)
    crew._say(crew.now, Gone(idle, "ended by signal 9 (SIGKILL)"))
    for outcome in pool:
        source.tell(outcome)
    assert source.told == {number: 10 * number for number in range(6)}


def test_workers_that_never_start_are_an_error(clock: Any) -> None:
    crew = clock(Crew(start=lambda member: Gone(member, "ended by exit status 1")))
    with pytest.raises(EvaluatorError, match="3 in a row ended by exit status 1"):
        drive(crew, Source(5), 1)
    assert len(crew.members) == 3
    crew = clock(
        Crew(start=lambda member: Refused(member, "no module named simulator") if member.name else Ready(member))
    )
    source = Source(5)
    with pytest.raises(EvaluatorError, match="no module named simulator"):
        drive(crew, source, 2)
    assert all(member.ended for member in crew.members)
    deaths = iter([True, True, False, True, True, False] + [False] * 9)
    crew = clock(
        Crew(start=lambda member: Gone(member, "died") if next(deaths) else Ready(member), dies={1}.__contains__)
    )
    drive(crew, source := Source(3), 1)
    assert source.told[0] == 0 and source.told[2] == 20, "a start that works is forgiven what came before"


# -- the end -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [Stopped, KeyboardInterrupt, ZeroDivisionError])
def test_what_has_arrived_is_not_lost(reason: type[BaseException], clock: Any) -> None:
    """Thrown in after the first of three outcomes that came together: the others come, then the exception."""
    crew, source = clock(Crew()), Source(30)
    pool = Pool(crew, 4, 1, 1, None).run(source.supply)
    source.tell(next(pool))
    assert len(source.out) == 3
    crew.now += 0.5
    source.tell(pool.throw(reason()))
    with pytest.raises(reason):
        tell_all(source, pool)
    assert sorted(source.told) == [0, 1, 2, 3] and not source.out
    assert all(member.ended for member in crew.members)


def test_an_error_of_the_supply_does_not_lose_what_arrives_meanwhile(clock: Any) -> None:
    crew, source = clock(Crew(lambda number: 1.0 + number / 10)), Source(30)

    def supply(rows: int, fresh: int) -> list[Batch]:
        if source.told:
            crew.now += 5.0  # a strategy that thinks for long, and fails
            raise ZeroDivisionError
        return source.supply(rows, fresh)

    pool = Pool(crew, 3, 1, 1, None).run(supply)
    with pytest.raises(ZeroDivisionError):
        tell_all(source, pool)
    assert sorted(source.told) == [0, 1, 2] and all(member.ended for member in crew.members)


def test_closing_ends_all_workers_at_once(clock: Any) -> None:
    crew, source = clock(Crew(lambda number: 1.0 + number)), Source(30)
    pool = Pool(crew, 4, 1, 1, None).run(source.supply)
    next(pool)
    pool.close()
    assert [member.ended for member in crew.members] == [True] * 4
    assert [member.dismissed for member in crew.members] == [True, False, False, False], "who is at work is not asked"
