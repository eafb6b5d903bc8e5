"""Processes killed by kill -9, and many processes on one file: nothing acknowledged is lost, nothing is there by halves."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from contract import crash
from contract.hand import content
from contract.study import Loop, facts
from contract.subjects import SUBJECTS, Subject
from contract.tasks import rich
from contract.toys import Ladder

from bbopt.optimizer import Optimizer
from bbopt.slates import RankRequest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the harness forks its children")


def harness(scenario: str, folder: Path, *rest: str) -> dict[str, Any]:
    """Run one scenario of `contract/crash.py` in a process of its own."""
    tests = Path(__file__).resolve().parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"}
    command = [sys.executable, "-m", "contract.crash", scenario, str(folder), *rest]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    errors = [line[1] for line in found["heard"] if line[0] == "error"]
    assert not errors, errors[0]
    return found


def check(path: Path, heard: list[list[Any]]) -> Optimizer:
    """Everything acknowledged is in the file, every trial is whole, and the file is sound."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    positions = [position for (position,) in connection.execute("SELECT position FROM log ORDER BY position")]
    assert positions == list(range(1, len(positions) + 1)), "the log has gaps"
    connection.close()
    opt = Optimizer.open(path, strategy=crash.Free())
    trials = {trial.number: trial for trial in opt.trials()}
    for line in heard:
        if line[0] == "asked":
            assert trials[line[1]].params == line[2], "an acknowledged ask is lost or changed"
        if line[0] == "told":
            assert trials[line[1]].status == "ok", f"an acknowledged tell is lost: {line[1]}"
    for trial in trials.values():
        result = crash.result_of(trial.number)
        if trial.status == "ok":
            told = {"values": dict(trial.values or {}), "std": dict(trial.std), "cost": trial.cost}
            assert told == result, f"trial {trial.number} is half told: {told}"
        else:
            assert trial.status == "open" and trial.values is None and trial.cost is None and not trial.std
    return opt


def test_killed_in_the_middle_of_tell(tmp_path: Path) -> None:
    """200 processes killed while they ask and tell."""
    started = time.monotonic()
    found = harness("in_the_middle_of_tell", tmp_path)
    heard = found["heard"]
    asked = {line[1] for line in heard if line[0] == "asked"}
    told = {line[1] for line in heard if line[0] == "told"}
    opt = check(tmp_path / "kills.db", heard)
    trials = opt.trials()
    print(f"{len(asked)} asked, {len(told)} told, {len(trials)} trials, {time.monotonic() - started:.1f} s")
    assert len(asked) >= crash.KILLS
    statuses = [trials[number].status for number in sorted(asked - told)]
    print(f"killed before the tell was acknowledged: {statuses.count('open')} open, {statuses.count('ok')} told")
    assert min(statuses.count("open"), statuses.count("ok")) >= 5, "the kills missed one side of the commit"
    assert [trial.number for trial in trials] == list(range(len(trials)))
    for trial in trials:
        if trial.status == "open":
            crash.tell(opt, trial.number)
    assert {trial.status for trial in opt.trials()} == {"ok"}
    opt.close()


def test_killed_in_the_middle_of_a_group_of_rankings(tmp_path: Path) -> None:
    """40 processes killed while they rank in groups: a group is there as a whole or not at all, once, with its details, and
    what was acknowledged is there; the same answers again are no news."""
    heard = harness("in_the_middle_of_rank_many", tmp_path)["heard"]
    sent = {(line[1], first): tuple(line[2]) for line in heard if line[0] == "ranking" for first in line[2]}
    acknowledged = {(line[1], first) for line in heard if line[0] == "ranked" for first in line[2]}
    opt = Optimizer.open(tmp_path / "ranks.db", strategy=Ladder())
    answers = opt.rankings()
    found = {(answer.rater, answer.first) for answer in answers}
    assert len(found) == len(answers) and acknowledged <= found <= set(sent)
    for key, group in sent.items():
        assert (key in found) == ((key[0], group[0]) in found), "half a group of answers"
    lost = {(rater, group[0]) for (rater, _), group in sent.items() if (rater, group[0]) not in acknowledged}
    print(
        f"{len(acknowledged)} acknowledged, {len(found)} kept, {len(lost)} groups killed before they were acknowledged"
    )
    for answer in answers:
        assert [answer.first + row for (row,) in answer.ranking.groups] == crash.order_of(answer.first)
        assert answer.details == {"sum": 3 * answer.first}
    position = opt.position
    again = [RankRequest(crash.order_of(first), rater=rater) for rater, first in sorted(found)]
    assert opt.rank_many(again) == [None] * len(found) and opt.position == position
    live = content(opt._state())
    opt.close()
    other = Optimizer.open(tmp_path / "ranks.db", strategy=Ladder())
    assert content(other._state()) == live
    other.close()


def test_eight_processes_share_one_store(tmp_path: Path) -> None:
    """400 asks and tells in all: nothing lost, nothing twice."""
    found = harness("eight_processes", tmp_path)
    heard = found["heard"]
    total = crash.PROCESSES * crash.PAIRS
    asked = [line[1] for line in heard if line[0] == "asked"]
    told = [line[1] for line in heard if line[0] == "told"]
    assert found["codes"] == [0] * crash.PROCESSES
    assert sorted(asked) == sorted(told) == list(range(total))
    opt = check(tmp_path / "shared.db", heard)
    trials = opt.trials()
    assert len(trials) == total and {trial.status for trial in trials} == {"ok"}
    assert len({str(trial.params) for trial in trials}) == total, "two processes were given the same point"
    assert len({trial.owner for trial in trials}) == crash.PROCESSES
    opt.close()


def test_killed_between_ask_and_tell(tmp_path: Path) -> None:
    """The trials stay open, with their attempts, and anybody can answer them."""
    found = harness("between_ask_and_tell", tmp_path)
    assert found["heard"] == [["asked", [0, 1, 2], 1, 2]]
    opt = Optimizer.open(tmp_path / "between.db", strategy=crash.Free())
    assert [(trial.status, trial.attempt) for trial in opt.trials()] == [("open", 1), ("open", 2), ("open", 1)]
    assert opt.ask().number == 3, "without a lease an open trial must not go out again"
    for number in range(4):
        crash.tell(opt, number)
    opt.close()
    check(tmp_path / "between.db", [["told", number] for number in range(4)]).close()


def test_killed_while_asking_leaves_no_lock(tmp_path: Path) -> None:
    """The asker's lock of a dead process is taken over at once, not after its time is up."""
    found = harness("while_asking", tmp_path)
    assert found["heard"] == [["asking"]]
    assert found["number"] == 0
    assert found["seconds"] < 10.0


def test_an_expired_lock_of_another_host_is_taken_over(tmp_path: Path) -> None:
    """Whether a process of another host lives cannot be known: its lock counts until it expires."""
    path = tmp_path / "foreign.db"
    opt = Optimizer(crash.TASK, crash.Slow(), store=path)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("INSERT INTO asker VALUES (1, 'elsewhere.example:1:abc', ?)", (time.time() + 0.3,))
    connection.close()
    started = time.monotonic()
    assert opt.ask().number == 0
    assert 0.2 < time.monotonic() - started < 30.0
    opt.close()


def test_a_fork_does_not_share_a_connection(tmp_path: Path) -> None:
    """A child of a process that has the study open keeps what it tells, also after its parent closed the store."""
    found = harness("a_parent_that_closes", tmp_path)
    assert found["code"] == 0
    told = [line for line in found["heard"] if line[0] == "told"]
    assert len(told) == 4
    check(tmp_path / "forked.db", told).close()


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_resumes_after_kill_as_if_nothing_happened(subject: Subject, tmp_path: Path) -> None:
    """Law 4: n asks equal n/2 asks, kill -9, another process, the other half, to the bit."""
    asks = subject.rows(30, 14)
    harness("fifteen_and_fifteen", tmp_path, subject.name, str(asks))
    strategy = subject.make()
    case = rich(strategy.handles)
    opt = Optimizer.open(tmp_path / "resume.db", strategy=strategy)
    Loop(case).run(opt, asks - asks // 2)
    whole = Optimizer(case.task, strategy, seed=3)
    Loop(case).run(whole, asks)
    assert facts(opt) == facts(whole)
    opt.close()
