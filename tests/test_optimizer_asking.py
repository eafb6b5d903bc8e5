"""Law 1 between processes and threads: who waits for whom while a strategy thinks, and what an ask is committed with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from contract.tasks import plain
from contract.toys import Climber, ClimberState

from bbopt.optimizer import Optimizer
from bbopt.query import Key, Query, Request
from bbopt.task import Task

CASE = plain(2)
PATIENCE = 20.0  # seconds until a test that would hang fails instead


@dataclass(frozen=True)
class Thinker(Climber):
    """Asks outside the transaction, and waits in it until it is let go."""

    instant: ClassVar[bool] = False
    thinking: ClassVar[threading.Event] = threading.Event()
    go: ClassVar[threading.Event] = threading.Event()
    calls: ClassVar[list[int]] = []

    def ask(self, task: Task, state: ClimberState, request: Request, key: Key) -> Query:
        self.calls.append(request.number)
        self.thinking.set()
        assert self.go.wait(PATIENCE)
        return super().ask(task, state, request, key)


class InThread:
    """A call in a thread of its own, and its result."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error

    def join(self, seconds: float = PATIENCE) -> Any:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the call still waits"
        if self.error is not None:
            raise self.error
        return self.result


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Optimizer, Optimizer]:
    """Two handles on one study, with two told and two open trials."""
    Thinker.go.set()
    Thinker.calls.clear()
    one = Optimizer(CASE.task, Thinker(), store=tmp_path / "study.db")
    for trial in one.ask(4)[:2]:
        one.tell(trial, 1.0)
    two = Optimizer.open(tmp_path / "study.db", strategy=Thinker())
    Thinker.thinking.clear()
    Thinker.go.clear()
    return one, two


def test_tells_do_not_wait_for_an_ask(pair: tuple[Optimizer, Optimizer]) -> None:
    """While one process thinks, another one tells; the ask is committed with the position it saw, not planned again."""
    one, two = pair
    ask = InThread(one.ask)
    assert Thinker.thinking.wait(PATIENCE)
    seen = len(two.history())
    InThread(lambda: two.tell(2, 5.0)).join()
    assert two.trial(2).status == "ok"
    Thinker.go.set()
    assert ask.join().number == 4
    last = two.history()[-1]
    assert (last.kind, last.body["seen"], last.position) == ("ask", seen, seen + 2)
    assert Thinker.calls == [0, 4]
    assert (one.trial(2).values or {})["objective"] == 5.0


def test_tells_do_not_wait_for_an_ask_in_the_same_object(pair: tuple[Optimizer, Optimizer]) -> None:
    """As in a server: threads share one optimizer."""
    one, _ = pair
    ask = InThread(one.ask)
    assert Thinker.thinking.wait(PATIENCE)
    tell = InThread(lambda: one.tell(2, 5.0))
    try:
        tell.join(1.0)
    finally:
        Thinker.go.set()
        ask.join()


def test_asks_of_two_processes_are_serialised(pair: tuple[Optimizer, Optimizer]) -> None:
    """The second asker waits for the first one, and sees its trial as pending."""
    one, two = pair
    first = InThread(one.ask)
    assert Thinker.thinking.wait(PATIENCE)
    second = InThread(two.ask)
    Thinker.go.set()
    assert sorted((first.join().number, second.join().number)) == [4, 5]
    assert sorted(Thinker.calls) == [0, 4, 5], "a strategy thought in vain: the second asker did not wait"


def test_points_enqueued_while_a_strategy_thinks_keep_their_numbers(pair: tuple[Optimizer, Optimizer]) -> None:
    """Somebody enqueues meanwhile: the ask is planned again, and hands out the queued point first."""
    one, two = pair
    ask = InThread(one.ask)
    assert Thinker.thinking.wait(PATIENCE)
    queued = two.enqueue({"x0": 0.5, "x1": 0.5})
    Thinker.go.set()
    assert ask.join().number == queued.number == 4
    assert [trial.number for trial in two.trials()] == list(range(5))


def test_a_strategy_that_fails_leaves_nothing(pair: tuple[Optimizer, Optimizer]) -> None:
    """The error comes through as it is, no trial is made, the lock is free, and nothing told is lost."""

    @dataclass(frozen=True)
    class Broken(Climber):
        instant: ClassVar[bool] = False
        wrong: ClassVar[list[int]] = [1]

        def ask(self, task: Task, state: ClimberState, request: Request, key: Key) -> Query:
            if self.wrong:
                raise ZeroDivisionError("in the strategy")
            return super().ask(task, state, request, key)

    for instant in (False, True):
        Broken.instant = instant
        Broken.wrong[:] = [1]
        opt = Optimizer(CASE.task, Broken(), store=pair[0]._store, name=f"broken {instant}")
        opt.add({"x0": 0.5, "x1": 0.5}, 1.0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError, match="in the strategy"):
                opt.ask()
        assert len(opt.trials()) == 1 and [event.kind for event in opt.history()] == ["add"]
        Broken.wrong.clear()
        assert opt.ask().number == 1
