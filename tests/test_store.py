"""The store by itself and under an optimizer: how files are made, opened and refused, what a commit is, and a full disk."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract.hand import content
from contract.study import facts
from contract.tasks import plain
from contract.toys import Climber

from bbopt.errors import (
    NotAStore,
    StoreError,
    StoreMissing,
    StoreTooNew,
    StudyExists,
    StudyMissing,
    TaskMismatch,
    UsageError,
)
from bbopt.optimizer import Optimizer
from bbopt.packing import pack
from bbopt.parameters import Categorical, Float, Int
from bbopt.space import Space
from bbopt.store import VERSION, SQLiteStore
from bbopt.task import Constraint, Objective, Task

TASK = Task(
    Space(x=Float(0.0, 1.0), k=Int(1, 9)), objectives=(Objective("cost"),), constraints=(Constraint("load", upper=1.0),)
)
RESULT = {"cost": 1.5, "load": 0.5}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


# -- create, open, create or open ----------------------------------------------------------------------------------------


def test_creating_twice_is_refused(path: Path) -> None:
    """A second study must never go on in the first one's log without being told to."""
    Optimizer(TASK, "random", store=path, name="a").close()
    with pytest.raises(StudyExists, match=r"'a'.*open"):
        Optimizer(TASK, "random", store=path, name="a")


def test_opening_what_is_not_there(path: Path) -> None:
    with pytest.raises(StoreMissing, match=r"runs\.db") as missing:
        Optimizer.open(path, "a")
    assert isinstance(missing.value, FileNotFoundError) and not path.exists()
    Optimizer(TASK, "random", store=path, name="a").close()
    with pytest.raises(StudyMissing, match=r"'b'.*a"):
        Optimizer.open(path, "b")
    with pytest.raises(UsageError):
        Optimizer.open(None, "a")
    with pytest.raises(StoreMissing, match="no_such_folder"):
        Optimizer(TASK, "random", store=path.parent / "no_such_folder" / "runs.db")


def test_create_or_open(path: Path) -> None:
    """Makes the study once, and finds it again with its seed, strategy and trials."""
    first = Optimizer.create_or_open(TASK, "random", store=path, name="a", seed=4)
    first.tell(first.ask(), RESULT)
    second = Optimizer.create_or_open(TASK, "random", store=path, name="a", seed=9)
    assert second.seed == 4 and facts(second) == facts(first)
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        (Task(Space(x=Float(0.0, 2.0), k=Int(1, 9)), TASK.objectives, TASK.constraints), ["x.high", "2.0", "1.0"]),
        (Task(Space(x=Float(0.0, 1.0)), TASK.objectives, TASK.constraints), ["k", "absent"]),
        (Task(TASK.space, (Objective("cost", maximize=True),), TASK.constraints), ["cost", "maximize"]),
        (Task(TASK.space, TASK.objectives, (Constraint("load", upper=2.0),)), ["load", "upper", "2.0"]),
        (Task(TASK.space, TASK.objectives, TASK.constraints, where=("x <= 0.5",)), ["where", "x <= 0.5"]),
    ],
)
def test_another_task_is_refused_and_the_difference_shown(path: Path, other: Task, shown: list[str]) -> None:
    Optimizer(TASK, "random", store=path, name="a").close()
    attempts: list[Callable[[], Any]] = [
        lambda: Optimizer.open(path, "a", task=other),
        lambda: Optimizer.create_or_open(other, "random", store=path, name="a"),
    ]
    for attempt in attempts:
        with pytest.raises(TaskMismatch) as caught:
            attempt()
        assert [word for word in shown if word not in str(caught.value)] == [], str(caught.value)


def test_another_strategy_is_refused(path: Path) -> None:
    Optimizer(TASK, Climber(width=0.2), store=path, name="a").close()
    with pytest.raises(UsageError, match="Climber"):
        Optimizer.open(path, "a")
    with pytest.raises(TaskMismatch, match=r"0\.2"):
        Optimizer.open(path, "a", strategy=Climber(width=0.3))
    Optimizer.open(path, "a", strategy=Climber(width=0.2)).close()


def test_two_studies_in_one_file(path: Path) -> None:
    """Each has its own log, numbers and lock."""
    a = Optimizer(TASK, "random", store=path, name="a", seed=1)
    case = plain()
    b = Optimizer(case.task, Climber(), store=path, name="b", seed=2)
    for step in range(6):
        trial = a.ask()
        other = b.ask()
        assert trial.number == other.number == step
        a.tell(trial, RESULT)
        b.tell(other, float(step))
    assert [event.position for event in a.history()] == [event.position for event in b.history()] == list(range(1, 13))
    assert {t.values["cost"] for t in a.trials() if t.values} == {1.5}
    assert [t.values["objective"] for t in b.trials() if t.values] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert SQLiteStore(path).studies() == ["a", "b"]
    a.close()
    b.close()


def test_names_and_values_with_any_text(path: Path) -> None:
    """Quotes, line ends, other scripts: nothing in a name or a choice is taken for SQL or breaks the text."""
    name = 'a\'; DROP TABLE log; --\n"Größe" 大小'
    task = Task(Space({name: Categorical(("x'y", 'a"b', "\n", "大", "")), "if": Float(0, 1)}), (Objective("o'\"\n"),))
    opt = Optimizer(task, "random", store=path, name=name)
    trial = opt.ask()
    opt.tell(trial, {"o'\"\n": 1.0})
    opt.close()
    again = Optimizer.open(path, name)
    assert again.trials()[0].params == trial.params and again.task == task
    again.close()


# -- files that are no stores --------------------------------------------------------------------------------------------


def test_newer_stores_are_left_alone(path: Path) -> None:
    Optimizer(TASK, "random", store=path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    attempts: list[Callable[[], Any]] = [
        lambda: Optimizer.open(path),
        lambda: Optimizer(TASK, "random", store=path, name="b"),
    ]
    for attempt in attempts:
        with pytest.raises(StoreTooNew, match=f"{VERSION + 1}.*newer"):
            attempt()
    assert path.read_bytes() == before


def test_older_stores_are_read_and_marked(path: Path) -> None:
    """Events in the form of format 1: whole answers without a list of rows, columns and values of lazy rows as arrays."""
    space = Space(w=Float(scale=1.0, shape=(3,)))
    Optimizer(Task(space), "cge", store=path).close()
    old_rows = {"rows": "coordinate", "base": np.zeros(3), "columns": np.arange(-1, 3), "values": np.array([0.0, 0.5, 0.5, 0.5])}  # fmt: skip
    ask = {"seen": 0, "owner": "a", "expires": None, "seconds": 0.0, "issue": [[0, 4, 1]],
           "queries": [{"X": old_rows, "memo": {}, "origin": "strategy"}]}  # fmt: skip
    told = {"query": 0, "metrics": np.array([[3.0], [2.0], [1.0], [4.0]]), "std": None, "cost": None, "status": None}
    with sqlite3.connect(path) as connection:
        for position, (kind, body) in enumerate((("ask", ask), ("tell_query", told)), start=1):
            row = (1, position, "2026-01-01T00:00:00.000+00:00", "host:1", kind, *pack(body))
            connection.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    opt = Optimizer.open(path)
    best = opt.best()
    assert best is not None and (best.number, best.params["w"].tolist()) == (2, [0.0, 0.5, 0.0])
    assert opt.ask_query().first == 4
    opt.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    connection.close()


def test_stores_of_format_2_are_read_and_what_an_older_bbopt_cannot_read_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rankings without details, quorums and steps in memos that were notes only; then the file is of the new format."""
    task = Task(Space(x=Float(0.0, 1.0)), feedback="ranking")
    Optimizer(task, "random", quorum=2, store=path).close()
    ask = {"seen": 0, "owner": "a", "expires": None, "seconds": 0.0, "issue": [[0, 3, 1]],
           "queries": [{"X": {"rows": "dense", "X": np.array([[0.1], [0.2], [0.3]])}, "memo": {}, "origin": "strategy"}]}  # fmt: skip
    events: list[tuple[str, dict[str, Any]]] = [("ask", ask)]
    for rater, groups in (("ann", [[1], [0, 2]]), ("bob", [[1], [0], [2]]), ("cyd", [[2], [0], [1]])):
        ranking = {"groups": groups, "unseen": [], "verdict": None}
        events.append(("rank", {"query": 0, "rater": rater, "ranking": ranking}))
    events.append(("retract", {"number": 0, "rater": "cyd"}))
    with sqlite3.connect(path) as connection:
        for position, (kind, body) in enumerate(events, start=1):
            row = (1, position, "2026-01-01T00:00:00.000+00:00", "host:1", kind, *pack(body))
            connection.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    opt = Optimizer.open(path)
    best = opt.best()
    assert best is not None and best.number == 1
    assert [(a.rater, a.applied, a.details) for a in opt.rankings()] == [("ann", True, {}), ("bob", True, {})]
    assert opt.slates()[0].asked == opt.rankings()[0].time == "2026-01-01T00:00:00.000+00:00"
    opt.rank([0, 1, 2], rater="dee", details={"revision": 1})
    opt.close()
    monkeypatch.setattr("bbopt.store.VERSION", 2)  # as a bbopt of that time
    with pytest.raises(StoreTooNew, match=r"format 3.*up to 2.*newer bbopt"):
        Optimizer.open(path)


def test_other_files_are_left_alone(path: Path) -> None:
    """Text, someone else's database, a damaged store, a folder: refused by name, and not changed."""
    path.write_text("number,cost\n0,1.5\n" * 100)
    foreign = path.with_name("foreign.db")
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()
    damaged = path.with_name("damaged.db")
    Optimizer(TASK, "random", store=damaged).close()
    damaged.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    for file in (path, foreign, damaged):
        before = file.read_bytes()
        with pytest.raises(NotAStore, match=file.name):
            Optimizer.open(file)
        with pytest.raises(NotAStore, match=file.name):
            Optimizer(TASK, "random", store=file)
        assert file.read_bytes() == before
    with pytest.raises(StoreError, match=path.parent.name):
        Optimizer(TASK, "random", store=path.parent)


READ_ONLY = """
import json, os, sys
import bbopt
path, fresh = sys.argv[1:]
task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)))
bbopt.Optimizer(task, "random").ask()  # loads what is needed before the rights to read it are gone
os.setgid(65534); os.setuid(65534)
found = []
for attempt in (lambda: bbopt.Optimizer(task, "random", store=fresh),
                lambda: bbopt.Optimizer.open(path).ask(),
                lambda: bbopt.Optimizer.create_or_open(task, "random", store=path, name="other")):
    try:
        attempt()
        found.append(["none", ""])
    except bbopt.BboptError as error:
        found.append([type(error).__name__, str(error)])
print(json.dumps(found))
"""


@pytest.mark.skipif(
    os.name != "posix" or os.getuid() != 0, reason="only root can drop privileges to test read-only folders"
)
def test_a_read_only_folder() -> None:
    """Another user's folder: a typed error that names the path, and the store as it was. (Root may write anywhere.)"""
    folder = Path("/tmp") / f"bbopt-read-only-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        path = folder / "runs.db"
        with Optimizer(Task(Space(x=Float(0, 1))), "random", store=path) as opt:
            opt.tell(opt.ask(), 1.0)
        os.chmod(path, 0o644)
        before = path.read_bytes()
        root = Path(__file__).resolve().parent.parent
        command = [sys.executable, "-c", READ_ONLY, str(path), str(folder / "fresh.db")]
        environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd="/")
        assert result.returncode == 0, result.stderr
        for kind, message in json.loads(result.stdout):
            assert kind == "StoreError" and str(folder) in message, (kind, message)
        assert path.read_bytes() == before and os.listdir(folder) == ["runs.db"]
    finally:
        shutil.rmtree(folder)


# -- what a commit is ----------------------------------------------------------------------------------------------------


def commits(opt: Optimizer, work: Callable[[], Any]) -> int:
    """Commits of transactions that wrote something."""
    heard: list[str] = []
    store = opt._store
    assert isinstance(store, SQLiteStore)
    store.trace(heard.append)
    work()
    store.trace(None)
    found, wrote = 0, False
    for statement in heard:
        word = statement.split()[0].upper()
        wrote = wrote or word in ("INSERT", "UPDATE", "DELETE", "REPLACE")
        if word in ("COMMIT", "END"):
            found += wrote
            wrote = False
    assert not wrote, "something was written outside a transaction"
    return found


def test_one_commit_per_ask_and_per_tell(path: Path) -> None:
    opt = Optimizer(TASK, "random", store=path)
    first = opt.ask()
    assert commits(opt, lambda: opt.tell(first, RESULT)) == 1
    assert commits(opt, lambda: opt.tell(first, RESULT)) == 0, "the same answer twice is a no-op"
    assert commits(opt, opt.ask) == 1
    assert commits(opt, lambda: opt.ask(7)) == 1
    assert commits(opt, lambda: opt.tell_many([(number, RESULT) for number in range(1, 6)])) == 1
    assert commits(opt, lambda: opt.fail(6, "lost")) == 1
    assert commits(opt, lambda: opt.add({"x": 0.5, "k": 2}, RESULT)) == 1
    assert commits(opt, lambda: opt.add_many([({"x": 0.25, "k": k}, RESULT) for k in range(1, 5)])) == 1
    assert commits(opt, lambda: opt.enqueue({"x": 0.75, "k": 2})) == 1
    assert commits(opt, lambda: opt.amend(1, {"cost": 2.0, "load": 0.0})) == 1
    assert commits(opt, lambda: opt.retract(1)) == 1
    assert commits(opt, lambda: [opt.best(), opt.trials(), opt.front(), opt.history(), opt.recommend()]) == 0
    opt.close()


def test_settings_of_the_file(path: Path) -> None:
    """Write-ahead log, full sync, strict tables: what durability and eight processes rest on."""
    opt = Optimizer(TASK, "random", store=path)
    connection = opt._store._connection  # type: ignore[attr-defined]
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    tables = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'").fetchall()
    assert tables and all("STRICT" in text for (text,) in tables)
    opt.close()


def test_the_log_is_append_only(path: Path) -> None:
    """Not even SQL changes or removes what was written; corrections are events of their own."""
    opt = Optimizer(TASK, "random", store=path)
    opt.tell(opt.ask(), RESULT)
    opt.amend(0, {"cost": 9.0, "load": 0.0})
    opt.retract(0)
    assert [event.kind for event in opt.history()] == ["ask", "tell", "amend", "retract"]
    assert [event.kind for event in opt.history(0)] == ["ask", "tell", "amend", "retract"]
    assert opt.history(0)[1].body["values"] == RESULT
    connection = sqlite3.connect(path)
    for statement in (
        "DELETE FROM log",
        "UPDATE log SET body = '{}'",
        "UPDATE log SET position = 99 WHERE position = 1",
        "REPLACE INTO log SELECT study, position, time, writer, kind, '{}', block FROM log",
        "INSERT OR REPLACE INTO log VALUES (1, 1, '', '', 'tell', '{}', NULL)",
        "INSERT INTO log VALUES (1, 99, '', '', 'tell', '{}', NULL)",
        "UPDATE study SET definition = '{}'",
        "DELETE FROM study",
    ):
        with pytest.raises(sqlite3.Error), connection:
            connection.execute(statement)
    connection.close()
    again = Optimizer.open(path)
    assert [content(vars(event)) for event in again.history()] == [content(vars(event)) for event in opt.history()]
    opt.close()
    again.close()


def test_events_say_when_and_who(path: Path) -> None:
    opt = Optimizer(TASK, "random", store=path)
    opt.tell(opt.ask(), RESULT)
    for event in opt.history():
        assert event.time.endswith("+00:00") and str(os.getpid()) in event.writer
    opt.close()


def test_a_closed_store_says_so(path: Path) -> None:
    opt = Optimizer(TASK, "random", store=path)
    trial = opt.ask()
    opt.close()
    opt.close()
    for call in (opt.ask, opt.trials, lambda: opt.tell(trial, RESULT)):
        with pytest.raises(StoreError, match="closed"):
            call()


def test_nothing_in_a_file_is_pickled_or_executed(path: Path) -> None:
    """Log entries are JSON and plain bytes: everything in the file can be read without bbopt."""
    opt = Optimizer(TASK, Climber(), store=path)
    for trial in opt.ask(40):
        opt.tell(trial, RESULT, cost=1.0)
    opt.close()
    connection = sqlite3.connect(path)
    for body, block in connection.execute("SELECT body, block FROM log"):
        json.loads(body)
        assert block is None or not block.startswith(b"\x80")
        assert block is None or len(block) % 8 == 0
    (definition,) = connection.execute("SELECT definition FROM study").fetchone()
    assert json.loads(definition)["task"] == json.loads(json.dumps(TASK.to_json()))
    connection.close()
