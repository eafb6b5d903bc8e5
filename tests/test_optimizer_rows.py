"""Rows at array level: handed out in batches, answered in parts, lost and given out again, without decoding any."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract.hand import content
from contract.study import facts
from contract.toys import Climber, Population
from wide_toy import WIDTH, ForwardDifferences

from bbopt.errors import AlreadyTold, Exhausted, UsageError, ValueRefused, Waiting
from bbopt.optimizer import Optimizer
from bbopt.outcome import Batch
from bbopt.parameters import Float, Int
from bbopt.query import Query, Values
from bbopt.space import Space
from bbopt.strategy import Strategy
from bbopt.task import Constraint, Objective, Task

TASK = Task(
    Space(x=Float(0.0, 1.0), y=Float(1.0, 10.0, log=True)),
    objectives=(Objective("gain", maximize=True),),
    constraints=(Constraint("load", upper=240.1),),
)
STRATEGIES = [Climber(), Population(size=8)]
by_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.learns)


def metrics_of(batch: Batch) -> Any:
    """Numbers that are functions of the trial numbers, and whose way through inside units and back would round."""
    return np.stack([0.1 * batch.numbers, 240.1 + 0.3 * batch.numbers], axis=1)


def numbers(batches: list[Batch]) -> list[int]:
    return [int(number) for batch in batches for number in batch.numbers]


# -- handing out ---------------------------------------------------------------------------------------------------------


def test_rows_go_out_like_trials() -> None:
    """The same rows, in the same order, as `ask` hands out as trials."""
    one, two = Optimizer(TASK, Population(size=5)), Optimizer(TASK, Population(size=5))
    for opt in (one, two):
        opt.enqueue({"x": 0.5, "y": 2.0})
    for n in (2, 3, 9):
        trials = one.ask(n, fewer=True)
        batches = two.ask_rows(n)
        assert numbers(batches) == [trial.number for trial in trials]
        rows = np.concatenate([batch.X for batch in batches])
        assert [TASK.space.decode(row) for row in rows] == [trial.params for trial in trials]
    assert facts(one) == facts(two)
    with pytest.raises(Waiting):
        two.ask_rows(1)
    assert facts(one) == facts(two), "an ask that was refused left a trace"


def test_waiting_rows_travel_together_but_new_ones_are_asked_in_small_numbers() -> None:
    opt = Optimizer(TASK, Climber())
    assert numbers(opt.ask_rows(100, fresh=2)) == [0, 1]
    for x in (0.1, 0.2, 0.3):
        opt.enqueue({"x": x, "y": 2.0})
    assert numbers(opt.ask_rows(100, fresh=2)) == [2, 3, 4], "what waits goes out, and nothing new is needed"
    opt = Optimizer(TASK, Population(size=12))
    assert numbers(opt.ask_rows(100, fresh=1)) == list(range(12))
    opt = Optimizer(TASK, Population(size=12))
    assert numbers(opt.ask_rows(5, fresh=1)) == list(range(5))
    assert numbers(opt.ask_rows(5)) == list(range(5, 10))
    assert numbers(opt.ask_rows(5)) == [10, 11]


def test_lost_rows_and_expired_leases_come_first_with_their_attempt() -> None:
    now = [0.0]
    opt = Optimizer(TASK, Population(size=6), lease=10.0)
    opt._clock = lambda: now[0]
    (batch,) = opt.ask_rows(4)
    opt.tell_rows(batch.take(slice(1, 3)), metrics_of(batch)[1:3], {0: ("power cut", False), 1: ("power cut", False)})
    now[0] = 20.0
    again, fresh = opt.ask_rows(6)
    assert (again.rows.tolist(), again.attempt) == ([1, 2, 0, 3], 2), "lost ones, then expired ones"
    assert (fresh.rows.tolist(), fresh.attempt) == ([4, 5], 1)
    opt.tell_rows(batch.take(slice(0, 1)), metrics_of(batch)[:1])
    opt.tell_rows(again.take(slice(2, 3)), metrics_of(again)[2:3] + 1.0)  # the first answer counts
    assert opt.trial(0).values == {"gain": 0.0, "load": 240.1}
    assert [event.kind for event in opt.history(0)][-2:] == ["tell", "superseded"]


def test_open_rows_are_found_by_owner() -> None:
    opt = Optimizer(TASK, Population(size=9))
    opt.ask_rows(3, owner="ann")
    opt.ask_rows(2, owner="bob")
    (mine,) = opt.ask_rows(2, owner="ann")
    assert numbers(opt.open_rows("ann")) == [0, 1, 2, 5, 6]
    assert numbers(opt.open_rows("bob")) == [3, 4]
    assert numbers(opt.open_rows()) == list(range(7)) and opt.open_rows("eve") == []
    opt.tell_rows(mine, metrics_of(mine))
    assert numbers(opt.open_rows("ann")) == [0, 1, 2]
    assert opt.statuses() == {"queued": 2, "open": 5, "ok": 2}


def test_a_used_up_space_and_a_context_are_said() -> None:
    opt = Optimizer(Task(Space(k=Int(1, 3))), "random")
    assert len(opt.ask_rows(9)[0]) == 3
    with pytest.raises(Exhausted):
        opt.ask_rows(1)
    opt = Optimizer(Task(Space(x=Float(0, 1), c=Float(0, 1, role="context"))), "random")
    with pytest.raises(UsageError, match="context"):
        opt.ask_rows(1)


# -- telling -------------------------------------------------------------------------------------------------------------


@by_strategy
@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_chunks_come_to_the_same_as_single_rows(strategy: Strategy, chunk: int, tmp_path: Path) -> None:
    """State, trials and what is asked next, also from the file; with losses and impossible rows among them."""
    one = Optimizer(TASK, strategy, retries=1)
    two = Optimizer(TASK, strategy, retries=1, store=tmp_path / "rows.db")
    reasons = {2: ("lost once", False), 3: ("cannot work", True), 5: ("lost once", False)}
    for _ in range(6):
        try:
            trials, batches = one.ask(8, fewer=True), two.ask_rows(8)
        except Waiting:
            break
        for trial in trials:
            if trial.number % 8 in reasons and trial.attempt == 1:
                reason, impossible = reasons[trial.number % 8]
                one.fail(trial, reason, impossible=impossible)
            else:
                one.tell(trial, [0.1 * trial.number, 240.1 + 0.3 * trial.number])
        for batch in batches:
            for part in batch.split(chunk):
                failed = {i: reasons[int(n) % 8] for i, n in enumerate(part.numbers)
                          if int(n) % 8 in reasons and part.attempt == 1}  # fmt: skip
                two.tell_rows(part, metrics_of(part), failed)
    assert facts(one) == facts(two)
    assert len(one.trials()) >= 16
    again = Optimizer.open(tmp_path / "rows.db", strategy=strategy)
    assert facts(again) == facts(two) and content(again._state()) == content(two._state())
    if chunk == 1 or strategy.learns == "queries":
        assert content(two._state()) == content(one._state())
    assert two.trial(0).values == {"gain": 0.0, "load": 240.1}, "numbers are kept to the bit"
    two.close()
    again.close()


@by_strategy
def test_lost_rows_of_a_chunk_follow_the_retry_rule(strategy: Strategy) -> None:
    opt = Optimizer(TASK, strategy, retries=1)
    (batch,) = opt.ask_rows(8)
    lost = {1: ("a", False), 2: ("b", False), 6: ("a", False)}
    opt.tell_rows(batch, metrics_of(batch), lost)
    assert [[event.kind for event in opt.history(number)] for number in (0, 1, 2)] == [
        ["ask", "tell_query"],
        ["ask", "fail_rows"],
        ["ask", "fail_rows"],
    ]
    assert [opt.history(number)[1].body["reason"] for number in (1, 2, 6)] == ["a", "b", "a"]
    assert [opt.trial(number).reason for number in (1, 2, 6)] == ["a", "b", "a"]
    assert opt.statuses() == {"ok": 5, "lost": 3}
    again = opt.ask_rows(3)
    assert numbers(again) == [1, 2, 6] and {part.attempt for part in again} == {2}
    opt.tell_rows(again[0], metrics_of(again[0]), dict.fromkeys(range(3), ("c", False)))
    assert opt.statuses() == {"ok": 5, "lost": 3}
    assert numbers(opt.ask_rows(8))[0] == 8, "given up: a lockstep strategy goes on"


def corrections(opt: Optimizer) -> None:
    opt.amend(3, {"gain": 9.0, "load": 1.0})
    opt.retract(5)
    opt.tell(5, {"gain": 7.0, "load": 2.0})
    opt.retract(0)
    opt.amend(2, {"gain": -1.0, "load": 3.0})


@by_strategy
@pytest.mark.parametrize("chunk", [2, 3, 8])
def test_corrections_of_rows_told_in_chunks(strategy: Strategy, chunk: int) -> None:
    """Refolding the corrected log gives what telling the corrected values would have taught."""
    states = []
    for size in (1, chunk):
        opt = Optimizer(TASK, strategy)
        (batch,) = opt.ask_rows(8)
        for part in batch.split(size):
            opt.tell_rows(part, metrics_of(part))
        corrections(opt)
        opt.tell(0, {"gain": 0.5, "load": 1.0})
        live = content(opt._state())
        opt._forget()
        opt._sync()
        assert content(opt._state()) == live, "the fold of the log differs from the live state"
        lessons = [row for query, taught in opt._book.lessons for row in opt._book.learnt(query, taught).tolist()]
        assert sorted(lessons) == list(range(8)), "every row was learnt once"
        states.append((live, facts(opt)))
    assert states[0][1] == states[1][1]
    if strategy.learns == "queries":
        assert states[0] == states[1]


def test_the_same_answer_twice_is_none() -> None:
    opt = Optimizer(TASK, Population(size=6))
    (batch,) = opt.ask_rows(6)
    first = batch.take(slice(0, 4))
    opt.tell_rows(first, metrics_of(first), {3: ("cannot work", True)})
    before = len(opt.history())
    opt.tell_rows(first, metrics_of(first), {3: ("cannot work", True)})
    assert len(opt.history()) == before
    opt.tell_rows(batch, metrics_of(batch), {3: ("cannot work", True)})
    assert opt.statuses() == {"ok": 5, "impossible": 1}
    before = len(opt.history())
    for wrong, failed in (
        (metrics_of(batch) + 1.0, {3: ("", True)}),
        (metrics_of(batch), {0: ("late", False), 3: ("", True)}),
    ):
        with pytest.raises(AlreadyTold):
            opt.tell_rows(batch, wrong, failed)
    assert len(opt.history()) == before, "a refused call left a trace"


def test_wrong_rows_and_numbers_are_refused() -> None:
    opt, other = Optimizer(TASK, Population(size=6)), Optimizer(TASK, Population(size=4))
    (batch,) = opt.ask_rows(6)
    before = facts(opt)
    good = metrics_of(batch)
    for metrics in (good[:5], good[:, :1], np.where(np.arange(6)[:, None] == 2, np.nan, good), np.full((6, 2), np.inf)):
        with pytest.raises(ValueRefused, match="tell_rows"):
            opt.tell_rows(batch, metrics)
    with pytest.raises(UsageError, match="batch of this study"):
        other.tell_rows(replace(batch, query=replace(batch.query, id=3)), good)
    for rows in ([0, 1, 2, 3, 4, 6], [0, 1, 2, 3, 4, -1], [0, 1, 2, 3, 4, 4], []):
        for tell in (opt.tell_rows, opt.tell_query):
            with pytest.raises(UsageError, match="different rows of 0 to 5"):
                tell(replace(batch, rows=np.array(rows, int)), good[: len(rows)])
    with pytest.raises(UsageError, match="batch of rows"):
        opt.tell_rows(batch.query, good)  # type: ignore[arg-type]
    for n in (0, -1, True, 1.5, None):
        with pytest.raises(UsageError, match="positive number of rows"):
            opt.ask_rows(n)  # type: ignore[arg-type]
    assert facts(opt) == before
    opt.tell_rows(batch, np.where(np.arange(6)[:, None] == 2, np.nan, good), {2: ("no number", False)})
    assert opt.statuses() == {"ok": 5, "lost": 1}


# -- tell_query for a part -----------------------------------------------------------------------------------------------


def test_a_batch_is_answered_in_inside_units() -> None:
    opt = Optimizer(TASK, Population(size=6))
    (batch,) = opt.ask_rows(6)
    some = batch.take(np.array([1, 4]))
    values = Values.of([-1.0, -2.0], [-0.5, 0.5], std=[[0.1, np.nan], [np.nan, np.nan]], cost=[3.0, np.nan])
    opt.tell_query(some, values)
    assert (opt.trial(1).values or {})["gain"] == 1.0 and (opt.trial(4).values or {})["gain"] == 2.0
    assert (opt.trial(1).std, opt.trial(1).cost, opt.trial(4).std, opt.trial(4).cost) == ({"gain": 0.1}, 3.0, {}, None)
    assert [opt.trial(number).feasible for number in (1, 4)] == [True, False]
    before = len(opt.history())
    opt.tell_query(some, values)
    assert len(opt.history()) == before, "the same answer twice is a no-op"
    for changed in (
        Values.of([-1.0, -3.0], [-0.5, 0.5], std=values.std, cost=values.cost),
        Values.of([-1.0, -2.0], [-0.5, 0.5], cost=values.cost),
        Values.of([-1.0, -2.0], [-0.5, 0.5], std=values.std),
        replace(values, status=("ok", "lost")),
    ):
        with pytest.raises(AlreadyTold, match="trial"):
            opt.tell_query(some, changed)
    with pytest.raises(ValueRefused):
        opt.tell_query(some, Values.of([1.0], [1.0]))
    with pytest.raises(ValueRefused):
        opt.tell_query(batch.query, Values.of([1.0], [1.0]))  # a short answer to a whole query is no answer to a part
    rest = batch.take(np.array([5, 2, 3, 0]))
    last = Values.of([-5.0, 0.0, 0.0, -7.0], np.zeros((4, 1)), status=("ok", "lost", "impossible", "ok"))
    opt.tell_query(rest, last)
    assert [(opt.trial(number).values or {})["gain"] for number in (5, 0)] == [5.0, 7.0]
    before = len(opt.history())
    opt.tell_query(rest, last)
    assert len(opt.history()) == before, "lost and impossible rows twice, too"
    assert [trial.status for trial in opt.trials()] == ["ok", "ok", "lost", "impossible", "ok", "ok"]
    assert opt.ask_query().id == 1, "the query is answered"


def test_rows_of_a_batch_may_come_in_any_order() -> None:
    """Also all of them: an answer to a batch goes by its rows."""
    opt = Optimizer(TASK, Population(size=3))
    (batch,) = opt.ask_rows(3)
    opt.tell_query(batch.take(np.array([2, 0, 1])), Values.of([-2.0, 0.0, -1.0], np.zeros((3, 1))))
    assert [(trial.values or {})["gain"] for trial in opt.trials()] == [0.0, 1.0, 2.0]


# -- wide queries --------------------------------------------------------------------------------------------------------


def cpu(call: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    started = time.thread_time()
    result = call(*given)
    return time.thread_time() - started, result


def test_a_wide_query_in_chunks(tmp_path: Path) -> None:
    """270,001 rows handed out and told in chunks, on disk: milliseconds each, and durable as they come."""
    path = tmp_path / "wide.db"
    task = Task(Space(w=Float(scale=1.0, shape=(WIDTH,))))
    opt = Optimizer(task, ForwardDifferences(), store=path)
    first_ask, batches = cpu(lambda: opt.ask_rows(4096, fresh=1))
    asking, telling, told = [], [], 0
    while True:
        for batch in batches:
            lost = {5: ("power cut", False)} if len(telling) == 3 else {}
            y = answers(batch.numbers)
            telling.append(cpu(opt.tell_rows, batch, y[:, None], lost)[0])
            told += len(batch) - len(lost)
        if len(telling) == 40:
            opt.close()  # and no more: the process died
            opt = Optimizer.open(path, strategy=ForwardDifferences())
            assert opt.statuses() == {"queued": WIDTH + 1 - told, "ok": told}
        if told > WIDTH:
            break
        spent, batches = cpu(opt.ask_rows, 4096)
        asking.append(spent)
    assert opt.statuses() == {"ok": WIDTH + 1}
    whole = Optimizer(task, ForwardDifferences())
    query = whole.ask_query()
    whole.tell_query(query, answers(np.arange(WIDTH + 1)))
    assert content(opt._state()) == content(whole._state())
    opt.close()
    # CPU seconds, measured on a busy machine: 0.02 for the ask that makes the query, then 0.003 to ask and 0.005 to tell
    assert first_ask < 0.5 and np.median(asking) < 0.05 and np.median(telling) < 0.05, (first_ask, asking, telling)


def answers(numbers: Any) -> Any:
    return np.sin(numbers.astype(float))


def test_one_row_at_a_time_of_a_wide_query_is_cheap() -> None:
    task = Task(Space(w=Float(scale=1.0, shape=(WIDTH,))))
    opt = Optimizer(task, ForwardDifferences())
    opt.ask_rows(1)

    def one() -> None:
        (batch,) = opt.ask_rows(1)
        opt.tell_rows(batch, np.zeros((1, 1)))

    spent = [cpu(one)[0] for _ in range(50)]
    assert np.median(spent) < 0.01, spent  # measured 0.0006; the query has 270,001 rows


def test_batches_may_be_told_by_another_process(tmp_path: Path) -> None:
    """Which has not seen the ask yet."""
    for tell in (lambda opt, batch: opt.tell_rows(batch, metrics_of(batch)),
                 lambda opt, batch: opt.tell_query(batch, Values.of(np.zeros(3), np.zeros((3, 1))))):  # fmt: skip
        path = tmp_path / f"{id(tell)}.db"
        one = Optimizer(TASK, Population(size=3), store=path)
        two = Optimizer.open(path, strategy=Population(size=3))
        (batch,) = one.ask_rows(3)
        tell(two, batch)
        assert one.statuses() == two.statuses() == {"ok": 3}
        one.close()
        two.close()


def test_batches_of_a_foreign_query_object_are_data() -> None:
    """A batch may come back from anywhere: what counts is the query's number and the rows."""
    opt = Optimizer(TASK, Population(size=3))
    (batch,) = opt.ask_rows(3)
    copy = Batch(Query(batch.X, id=batch.query.id, first=batch.query.first), batch.rows.copy(), batch.attempt)
    opt.tell_rows(copy, metrics_of(copy))
    assert opt.statuses() == {"ok": 3}
