"""A full disk: a typed error, nothing told before is lost, and work goes on once there is space."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract.study import facts

from bbopt.errors import (
    StoreFull,
)
from bbopt.optimizer import Optimizer
from bbopt.parameters import Float, Int
from bbopt.space import Space
from bbopt.task import Constraint, Objective, Task

TASK = Task(
    Space(x=Float(0.0, 1.0), k=Int(1, 9)), objectives=(Objective("cost"),), constraints=(Constraint("load", upper=1.0),)
)
RESULT = {"cost": 1.5, "load": 0.5}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


# -- a full disk ---------------------------------------------------------------------------------------------------------


def fill(opt: Optimizer, told: list[int]) -> None:
    while True:
        trial = opt.ask()
        opt.tell(trial, RESULT)
        told.append(trial.number)


def check_after_full(opt: Optimizer, path: Path, told: list[int]) -> None:
    """After the refusal: the live study and a fresh reader agree, everything acknowledged is there, and work goes on."""
    fresh = Optimizer.open(path)
    assert facts(fresh) == facts(opt), "the refused call left something in memory"
    trials = fresh.trials()
    assert [trial.number for trial in trials if trial.status == "ok"] == told
    for trial in trials:
        if trial.status == "open":
            opt.tell(trial, RESULT)
            told.append(trial.number)
    another = opt.ask()
    opt.tell(another, RESULT)
    told.append(another.number)
    again = Optimizer.open(path)
    assert [trial.number for trial in again.trials() if trial.status == "ok"] == sorted(told)
    assert facts(again) == facts(opt)
    for one in (fresh, again, opt):
        one.close()


def test_a_full_file(path: Path) -> None:
    """SQLite's own limit on pages: the insert fails."""
    opt = Optimizer(TASK, "random", store=path)
    connection = opt._store._connection  # type: ignore[attr-defined]
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    told: list[int] = []
    with pytest.raises(StoreFull, match=r"runs\.db"):
        fill(opt, told)
    points = [({"x": i / 500, "k": 1}, RESULT) for i in range(500)]
    with pytest.raises(StoreFull):
        opt.add_many(points)
    connection.execute("PRAGMA max_page_count = 1000000")
    opt2 = Optimizer.open(path)
    told = [trial.number for trial in opt2.trials() if trial.status == "ok"]
    opt2.close()
    check_after_full(opt, path, told)


class FailingCommit:
    """A connection whose next commit finds the disk full, as SQLite reports it: after a rollback of everything."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.failures = 0

    def execute(self, statement: str, *rest: Any) -> Any:
        if statement == "COMMIT" and self.failures:
            self.failures -= 1
            self.connection.execute("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")
        return self.connection.execute(statement, *rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


def test_a_disk_that_is_full_at_the_commit(path: Path) -> None:
    """The commit fails, not the insert: what was applied in memory must go, or the repeated tell is taken for a no-op."""
    opt = Optimizer(TASK, "random", store=path)
    store: Any = opt._store
    told = [trial.number for trial in opt.ask(3)]
    opt.tell_many([(number, RESULT) for number in told])
    trial = opt.ask()
    store._link = failing = FailingCommit(store._link)
    calls: list[Callable[[], Any]] = [
        lambda: opt.tell(trial, RESULT),
        lambda: opt.tell(trial, RESULT),
        opt.ask,
        lambda: opt.amend(0, {"cost": 7.0, "load": 0.0}),
        lambda: opt.retract(1),
        lambda: opt.fail(trial, impossible=True),
        lambda: opt.enqueue({"x": 0.5, "k": 3}),
    ]
    for call in calls:
        before = facts(opt)
        failing.failures = 1
        with pytest.raises(StoreFull):
            call()
        assert facts(opt) == before
    check_after_full(opt, path, told)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 400 KB, where this process may mount one."""
    folder = Path("/tmp") / f"bbopt-small-disk-{os.getpid()}"
    folder.mkdir()
    made = (
        shutil.which("mount") is not None
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    )
    if not made:
        folder.rmdir()
        pytest.skip("mounting a small disk needs rights that this process has not")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def test_a_small_disk(small_disk: Path) -> None:
    """A real file system without space."""
    path = small_disk / "runs.db"
    opt = Optimizer(TASK, "random", store=path)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 40_000)
    told: list[int] = []
    with pytest.raises(StoreFull):
        fill(opt, told)
    assert told
    ballast.unlink()
    check_after_full(opt, path, told)


def test_numbers_keep_every_bit(path: Path) -> None:
    """Values, errors, costs and points come back exactly, negative zero and subnormal numbers too."""
    rng = np.random.default_rng(3)
    opt = Optimizer(TASK, "random", store=path)
    numbers = [-0.0, 5e-324, 1e300, 0.1, *rng.normal(size=20).tolist()]
    trials = opt.ask(len(numbers))
    for trial, value in zip(trials, numbers, strict=True):
        opt.tell(trial, {"cost": value, "load": -value}, std={"cost": abs(value)}, cost=abs(value) / 3.0)
    opt.close()
    again = Optimizer.open(path)
    for trial, first, value in zip(again.trials(), trials, numbers, strict=True):
        assert trial.params == first.params
        assert trial.values is not None
        assert np.float64(trial.values["cost"]).tobytes() == np.float64(value).tobytes()
        assert (trial.std, trial.cost) == ({"cost": abs(value)}, abs(value) / 3.0)
    again.close()
