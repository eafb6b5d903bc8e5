"""Scripts: replay from the answers, groups of queries with a quorum, corrections, and what is caught."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from contract.hand import content
from contract.study import drive, facts, measure, reopen
from contract.tasks import plain
from contract.toys import Walk

from bbopt.errors import BboptError, Exhausted, UsageError, Waiting
from bbopt.optimizer import Optimizer
from bbopt.query import Query, Ranking, Values
from bbopt.script import Reply, Script, Slates, Steps
from bbopt.task import Task

CASE = plain(2)
LOG: list[Any] = []


@dataclass(frozen=True)
class Recorder(Script):
    """Asks three slates of two rows, of which two must be answered, then a last query; keeps what it was sent."""

    handles: ClassVar[frozenset[str]] = frozenset({"rankings"})
    quorum: int | None = 2

    def run(self, task: Task, rng: np.random.Generator) -> Steps:
        slates = tuple(Query(task.feasible.sample(2, rng), memo={"slate": i}) for i in range(3))
        replies = yield Slates(slates, self.quorum)
        LOG.append(replies)
        best = np.mean([np.asarray(reply.X).mean(axis=0) for reply in replies if reply is not None], axis=0)
        last = yield Query(np.vstack([best, task.feasible.sample(1, rng)]))
        LOG.append(last)


@pytest.fixture(autouse=True)
def _fresh_log() -> None:
    LOG.clear()


def test_a_script_sees_rows_and_answers() -> None:
    opt = Optimizer(CASE.task, Recorder(quorum=None))
    trials = drive(opt, CASE, 8)
    assert [trial.number for trial in trials] == list(range(8))
    with pytest.raises(Exhausted, match="ended"):
        opt.ask()
    replies, last = LOG
    assert [type(reply) for reply in replies] == [Reply] * 3 and isinstance(last, Reply)
    for reply, first in zip([*replies, last], range(0, 8, 2), strict=True):
        assert isinstance(reply.answer, Values)
        rows = [CASE.task.space.encode(trial.params) for trial in trials[first : first + 2]]
        assert np.array_equal(np.asarray(reply.X), rows)
        assert [measure(CASE, trial)["objective"] for trial in trials[first : first + 2]] == reply.answer.Y[
            :, 0
        ].tolist()


def test_a_quorum_goes_on_without_the_rest() -> None:
    """Two of three slates are enough; the third stays open, its late answer is kept and changes nothing."""
    opt = Optimizer(CASE.task, Recorder())
    six = opt.ask(6)
    with pytest.raises(Waiting):
        opt.ask()
    for trial in (*six[4:], *six[:2]):
        opt.tell(trial, measure(CASE, trial))
    nxt = opt.ask(2)
    assert [trial.number for trial in nxt] == [6, 7]
    assert [reply is None for reply in LOG[0]] == [False, True, False]
    state = content(opt._state())
    for trial in six[2:4]:
        opt.tell(trial, measure(CASE, trial))
    assert len(LOG) == 1 and content(opt._state()) != state, "a late answer is on record"
    for trial in nxt:
        opt.tell(trial, measure(CASE, trial))
    with pytest.raises(Exhausted):
        opt.ask()
    assert len(LOG) == 2


def test_two_raters_take_a_slate_each() -> None:
    """A group of slates is how several people rank at one iterate; each answer is a ranking of its own rows."""
    task = Task(CASE.task.space, feedback="ranking")
    opt = Optimizer(task, Recorder())
    ann, bob, _ = opt.ask(2, owner="ann"), opt.ask(2, owner="bob"), opt.ask(2, owner="cyd")
    assert len({trial.query for trial in (*ann, *bob)}) == 2
    opt.rank([ann[1], ann[0]], rater="ann")
    with pytest.raises(Waiting):
        opt.ask()
    opt.rank([[bob[0], bob[1]]], rater="bob")
    opt.ask(2)
    answers = [None if reply is None else reply.answer for reply in LOG[0]]
    assert answers == [Ranking(((1,), (0,))), Ranking(((0, 1),)), None]


def test_a_new_process_replays_the_answers(tmp_path: Path) -> None:
    """At any point of the script, a fresh generator comes to where the old one was."""
    path = tmp_path / "walk.db"
    opt = Optimizer(CASE.task, Walk(steps=6), store=path)
    whole = Optimizer(CASE.task, Walk(steps=6))
    for _ in range(9):
        for one in (opt, whole):
            drive(one, CASE, 2)
        opt = reopen(opt, path)
        assert facts(opt) == facts(whole)
    opt.close()


def test_scripts_do_not_mix() -> None:
    """Studies of one task and strategy, alive at once or one after the other, keep their own generators.

    Regression: live generators were found by the identity of reply objects, which a later study can be given again.
    """
    expected = []
    for seed in (0, 1):
        alone = Optimizer(CASE.task, Walk(), seed=seed)
        drive(alone, CASE, 30)
        expected.append(facts(alone))
    one, two = Optimizer(CASE.task, Walk(), seed=0), Optimizer(CASE.task, Walk(), seed=1)
    for _ in range(30):
        drive(one, CASE, 1)
        drive(two, CASE, 1)
    assert [facts(one), facts(two)] == expected
    for round_ in range(8):
        other = Optimizer(CASE.task, Walk(), seed=0)
        rng = np.random.default_rng(round_)
        for trial in other.ask(4):
            other.tell(trial, float(rng.normal()))
        values = [(trial.values or {})["objective"] for trial in other.trials()]
        again = Optimizer(CASE.task, Walk(), seed=0)
        for trial, value in zip(again.ask(4), values, strict=True):
            again.tell(trial, value)
        assert [t.params for t in again.ask(3)] == [t.params for t in other.ask(3)]
        del other, again
        gc.collect()


@dataclass(frozen=True)
class Restless(Script):
    """Broken: depends on something that is neither an answer nor rng."""

    calls: ClassVar[list[int]] = []

    def run(self, task: Task, rng: np.random.Generator) -> Steps:
        self.calls.append(1)
        for step in range(5):
            yield Query(np.full((1, task.space.dimension), (len(self.calls) + step) / 50.0))


def test_a_script_that_is_no_function_of_its_answers_is_caught(tmp_path: Path) -> None:
    opt = Optimizer(CASE.task, Restless(), store=tmp_path / "restless.db")
    drive(opt, CASE, 2)
    opt.close()
    from bbopt import script

    script._LIVE.clear()  # as in another process
    again = Optimizer.open(tmp_path / "restless.db", strategy=Restless())
    with pytest.raises(BboptError, match="different query"):
        again.ask()
    assert len(again.trials()) == 2
    again.close()


def test_undo_while_nothing_later_was_answered() -> None:
    """Law 9: the answer of the last answered query can be taken back; open queries after it are cancelled."""
    opt = Optimizer(CASE.task, Walk())
    plan = Optimizer(CASE.task, Walk())
    for trial in opt.ask(4):
        opt.tell(trial, float(trial.number))
    later = opt.ask(2)
    opt.retract(3)
    assert [opt.trial(trial.number).status for trial in later] == ["cancelled"] * 2
    with pytest.raises(Waiting):
        opt.ask()
    opt.tell(3, -5.0)
    for trial, value in zip(plan.ask(4), (0.0, 1.0, 2.0, -5.0), strict=True):
        plan.tell(trial, value)
    assert [t.params for t in opt.ask(3)] == [t.params for t in plan.ask(3)], (
        "the script went on as if it had been so always"
    )


def test_an_older_correction_changes_the_record_but_not_the_path(tmp_path: Path) -> None:
    path = tmp_path / "walk.db"
    opt = Optimizer(CASE.task, Walk(), store=path)
    same = Optimizer(CASE.task, Walk())
    for one in (opt, same):
        drive(one, CASE, 10)
    with pytest.raises(UsageError, match="amend"):
        opt.retract(0)
    opt.amend(0, -100.0)
    best = opt.best()
    assert best is not None and best.number == 0
    opt = reopen(opt, path)
    assert (opt.trial(0).values or {})["objective"] == -100.0
    for one in (opt, same):
        drive(one, CASE, 9)
    assert facts(opt)[1:] == facts(same)[1:], "the path changed"
    opt.close()


def test_points_of_the_users_own_do_not_disturb_a_script() -> None:
    opt, same = Optimizer(CASE.task, Walk(), seed=4), Optimizer(CASE.task, Walk(), seed=4)
    opt.add({"x0": 0.25, "x1": 0.25}, -1.0)
    drive(same, CASE, 12)
    queued = opt.enqueue({"x0": 0.5, "x1": 0.5})
    drive(opt, CASE, 13)
    assert opt.trial(queued.number).status == "ok"
    assert [t.params for t in opt.trials()[2:]] == [t.params for t in same.trials()]
    best = opt.best()
    assert best is not None and best.number == 0
