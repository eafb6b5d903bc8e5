"""Random histories of a study against a reference model: every call, several handles on one file, several open trials."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bbopt.errors import BboptError, UnknownTrial, Waiting
from bbopt.optimizer import Optimizer
from bbopt.parameters import Float, Int
from bbopt.space import Space
from bbopt.strategy import Strategy
from bbopt.task import Constraint, Objective, Task
from bbopt.trial import Trial
from contract.hand import content
from contract.model import Model, Row
from contract.toys import Climber, Population

TASK = Task(
    Space(x=Float(0.0, 1.0), y=Float(1.0, 100.0, log=True), k=Int(1, 1000)),
    objectives=(Objective("gain", maximize=True),),
    constraints=(Constraint("load", upper=10.0),),
    where=("x * k <= 900",),
)
HANDLES = st.integers(0, 1)
PICK = st.integers(0, 10**6)
VALUES = st.fixed_dictionaries(
    {"gain": st.sampled_from([0.0, 1.0, -1.0, 1e300, 0.1]), "load": st.sampled_from([9.0, 10.0, 11.0])}
)
FATES = st.lists(st.tuples(st.sampled_from(["ok", "ok", "lost", "impossible", "open"]), VALUES), min_size=1, max_size=7)
POINTS = st.fixed_dictionaries({"x": st.floats(0, 0.9), "y": st.floats(1, 100), "k": st.integers(1, 1000)})


class StudyMachine(RuleBasedStateMachine):
    """`strategy`, `population` (its size, None if free) and `on_disk` are set by the subclasses below."""

    strategy: Strategy
    population: int | None
    on_disk: bool

    @initialize(retries=st.integers(0, 2))
    def start(self, retries: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="machine")) if self.on_disk else None
        self.path = self.folder / "study.db" if self.folder else None
        self.now = 1000.0
        self.model = Model(self.population, retries)
        self.issued: list[Trial] = []
        self.points: dict[int, str] = {}
        first = Optimizer(TASK, self.strategy, store=self.path, retries=retries)
        second = Optimizer.open(self.path, strategy=self.strategy) if self.path else first
        self.handles = [first, second]
        self._set_clocks()

    def _set_clocks(self) -> None:
        for handle in self.handles:
            handle._clock = lambda: self.now

    def teardown(self) -> None:
        if not hasattr(self, "handles"):
            return
        states = [content(handle._state()) for handle in self.handles]
        assert states[0] == states[1], "two handles on one file have different states"
        self.handles[0]._forget()
        self.handles[0]._sync()
        assert content(self.handles[0]._state()) == states[0], "the fold of the log differs from the live state"
        for handle in self.handles:
            handle.close()
        if self.folder:
            shutil.rmtree(self.folder)

    # -- what both sides do --------------------------------------------------------------------------------------------

    def same(self, real: Callable[[], Any], model: Callable[[], Any]) -> tuple[Any, Any]:
        """Do it on both sides: the same kind of error, or none."""
        wanted: Any = None
        error: type[BboptError] | None = None
        try:
            wanted = model()
        except BboptError as raised:
            error = type(raised)
        if error is None:
            return real(), wanted
        with pytest.raises(error) as caught:
            real()
        assert str(caught.value)
        return None, None

    def number(self, pick: int) -> int:
        return pick % len(self.model.rows)

    def row(self, number: int) -> Row:
        return self.model.rows[number]

    @rule(handle=HANDLES, n=st.integers(1, 7), fewer=st.booleans(), lease=st.sampled_from([None, None, 10.0]))
    def ask(self, handle: int, n: int, fewer: bool, lease: float | None) -> None:
        opt = self.handles[handle]
        before = [str(trial) for trial in opt.trials()]
        expected = None
        wanted: list[int] = []
        try:
            wanted = self.model.ask(n, fewer, self.now, lease)
        except Waiting as raised:
            expected = raised
        if expected is not None:
            with pytest.raises(Waiting) as caught:
                opt.ask(n, fewer=fewer, lease=lease)
            assert caught.value.available == expected.available
            out = {number for number, row in enumerate(self.model.rows) if row.status == "open"}
            assert {trial.number for trial in caught.value.open} == out
            assert [str(trial) for trial in opt.trials()] == before, "an ask that was refused left a trace"
            return
        trials = opt.ask(n, fewer=fewer, lease=lease)
        assert [trial.number for trial in trials] == wanted
        assert [trial.attempt for trial in trials] == [self.row(i).issues for i in wanted]
        for trial in trials:
            assert TASK.known(TASK.space.encode(trial.params)[None])[0]
            assert self.points.get(trial.number, str(trial.params)) == str(trial.params), "a trial changed its point"
        self.issued += trials
        self._new_points(opt)

    def _new_points(self, opt: Optimizer) -> None:
        for trial in opt.trials():
            if trial.number not in self.points:
                taken = [other for other, params in self.points.items() if params == str(trial.params)
                         and self.row(other).status != "cancelled"]  # fmt: skip
                assert not taken, f"trial {trial.number} repeats the point of {taken}"
                self.points[trial.number] = str(trial.params)

    @rule(handle=HANDLES, n=st.integers(1, 7), lease=st.sampled_from([None, 10.0]), fates=FATES)
    def ask_and_tell_rows(
        self, handle: int, n: int, lease: float | None, fates: list[tuple[str, dict[str, float]]]
    ) -> None:
        """Batches at array level: the same rows as trials, some of them answered together, the rest left open."""
        opt = self.handles[handle]
        try:
            wanted = self.model.ask(n, True, self.now, lease)
        except Waiting:
            with pytest.raises(Waiting):
                opt.ask_rows(n, lease=lease)
            return
        batches = opt.ask_rows(n, lease=lease)
        assert [int(number) for batch in batches for number in batch.numbers] == wanted
        self.issued += [opt.trial(number) for number in wanted]
        self._new_points(opt)
        for batch in batches:
            mine = [fates[int(number) % len(fates)] for number in batch.numbers]
            assert {self.row(int(number)).issues for number in batch.numbers} == {batch.attempt}
            part = batch.take(np.array([i for i, (fate, _) in enumerate(mine) if fate != "open"], int))
            mine = [item for item in mine if item[0] != "open"]
            if not mine:
                continue
            failed = {i: (fate, fate == "impossible") for i, (fate, _) in enumerate(mine) if fate != "ok"}
            opt.tell_rows(part, np.array([[values["gain"], values["load"]] for _, values in mine]), failed)
            for number, (fate, values) in zip(part.numbers.tolist(), mine, strict=True):
                if fate == "ok":
                    self.model.tell(number, values)
                else:
                    self.model.fail(number, fate == "impossible", batch.attempt)

    @precondition(lambda self: self.model.rows)
    @rule(handle=HANDLES, pick=PICK, values=VALUES)
    def tell(self, handle: int, pick: int, values: dict[str, float]) -> None:
        number = self.number(pick)
        self.same(lambda: self.handles[handle].tell(number, values), lambda: self.model.tell(number, values))

    @precondition(lambda self: self.issued)
    @rule(handle=HANDLES, pick=PICK, values=VALUES)
    def tell_by_an_old_trial(self, handle: int, pick: int, values: dict[str, float]) -> None:
        trial = self.issued[pick % len(self.issued)]
        self.same(lambda: self.handles[handle].tell(trial, values), lambda: self.model.tell(trial.number, values))

    @precondition(lambda self: self.model.rows)
    @rule(handle=HANDLES, pick=PICK, impossible=st.booleans())
    def fail(self, handle: int, pick: int, impossible: bool) -> None:
        number = self.number(pick)
        self.same(
            lambda: self.handles[handle].fail(number, "broken", impossible=impossible),
            lambda: self.model.fail(number, impossible, None),
        )

    @precondition(lambda self: self.issued)
    @rule(handle=HANDLES, pick=PICK, impossible=st.booleans())
    def fail_by_an_old_trial(self, handle: int, pick: int, impossible: bool) -> None:
        trial = self.issued[pick % len(self.issued)]
        self.same(
            lambda: self.handles[handle].fail(trial, "broken", impossible=impossible),
            lambda: self.model.fail(trial.number, impossible, trial.attempt),
        )

    @precondition(lambda self: self.model.rows)
    @rule(handle=HANDLES, pick=PICK)
    def cancel(self, handle: int, pick: int) -> None:
        number = self.number(pick)
        self.same(lambda: self.handles[handle].cancel(number), lambda: self.model.cancel(number))

    @precondition(lambda self: self.model.rows)
    @rule(handle=HANDLES, pick=PICK, values=VALUES)
    def amend(self, handle: int, pick: int, values: dict[str, float]) -> None:
        number = self.number(pick)
        self.same(lambda: self.handles[handle].amend(number, values), lambda: self.model.amend(number, values))

    @precondition(lambda self: self.model.rows)
    @rule(handle=HANDLES, pick=PICK)
    def retract(self, handle: int, pick: int) -> None:
        number = self.number(pick)
        self.same(lambda: self.handles[handle].retract(number), lambda: self.model.retract(number))

    @rule(handle=HANDLES, point=POINTS)
    def enqueue(self, handle: int, point: dict[str, Any]) -> None:
        trial, number = self.same(lambda: self.handles[handle].enqueue(point), lambda: self.model.user_point(None))
        assert trial.number == number and trial.status == "queued"
        self.points[number] = str(trial.params)

    @rule(handle=HANDLES, point=POINTS, values=VALUES)
    def add(self, handle: int, point: dict[str, Any], values: dict[str, float]) -> None:
        trial, number = self.same(
            lambda: self.handles[handle].add(point, values), lambda: self.model.user_point(dict(values))
        )
        assert trial.number == number and trial.status == "ok"
        self.points[number] = str(trial.params)

    @rule(seconds=st.sampled_from([1.0, 5.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(handle=HANDLES)
    def reopen(self, handle: int) -> None:
        if self.path is None:
            self.handles[0]._forget()  # a study in memory is read again from its log
            return
        self.handles[handle].close()
        self.handles[handle] = Optimizer.open(self.path, strategy=self.strategy)
        self._set_clocks()

    @rule(handle=HANDLES, beyond=st.integers(0, 3))
    def unknown_numbers_are_refused(self, handle: int, beyond: int) -> None:
        opt = self.handles[handle]
        for number in (len(self.model.rows) + beyond, -1 - beyond):
            for call in (
                opt.cancel,
                opt.retract,
                opt.trial,
                opt.fail,
                lambda i: opt.tell(i, {"gain": 1.0, "load": 1.0}),
            ):
                with pytest.raises(UnknownTrial):
                    call(number)

    @invariant()
    def trials_are_the_models(self) -> None:
        if not hasattr(self, "handles"):
            return
        for opt in self.handles[: 2 if self.path else 1]:
            found = [
                (t.number, t.status, t.attempt, None if t.values is None else dict(t.values)) for t in opt.trials()
            ]
            wanted = [(i, r.status, max(r.issues, 1), r.values) for i, r in enumerate(self.model.rows)]
            assert found == wanted
            feasible = [r.values["gain"] for r in self.model.rows if r.values and r.values["load"] <= 10.0]
            best = opt.best()
            assert (best is None) == (not feasible)
            if best is not None and best.values is not None:
                assert best.values["gain"] == max(feasible) and best.feasible


class FreeInMemory(StudyMachine):
    strategy, population, on_disk = Climber(), None, False


class FreeOnDisk(StudyMachine):
    strategy, population, on_disk = Climber(), None, True


class LockstepInMemory(StudyMachine):
    strategy, population, on_disk = Population(), 5, False


class LockstepOnDisk(StudyMachine):
    strategy, population, on_disk = Population(), 5, True


IN_MEMORY = settings(max_examples=60, stateful_step_count=40)
ON_DISK = settings(max_examples=12, stateful_step_count=30)
TestFreeInMemory, TestLockstepInMemory = FreeInMemory.TestCase, LockstepInMemory.TestCase
TestFreeOnDisk, TestLockstepOnDisk = FreeOnDisk.TestCase, LockstepOnDisk.TestCase
TestFreeInMemory.settings = TestLockstepInMemory.settings = IN_MEMORY
TestFreeOnDisk.settings = TestLockstepOnDisk.settings = ON_DISK
