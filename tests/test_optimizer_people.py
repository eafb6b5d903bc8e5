"""What people do with a study: rankings by several raters, contexts, tables, the log."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, Literal

import pytest
from contract.hand import content
from contract.study import drive, facts, measure, points, reopen
from contract.tasks import plain, rich, small_finite
from contract.toys import Climber, Population

from bbopt.errors import AlreadyTold, BboptError, SpaceError, UsageError, ValueRefused, Waiting
from bbopt.optimizer import Optimizer
from bbopt.parameters import Categorical, Float, Int
from bbopt.query import Ranking
from bbopt.space import Space
from bbopt.task import Objective, Task

SINGLE = Task(Space(x=Float(0.0, 1.0)), objectives=(Objective("cost"),))


# -- rankings ------------------------------------------------------------------------------------------------------------


def test_a_ranking_teaches_a_population() -> None:
    case = plain(2)
    task = Task(case.task.space, feedback="ranking")
    opt = Optimizer(task, Population(), seed=2)
    for _ in range(25):
        slate = opt.ask(5)
        order = sorted(slate, key=lambda trial: measure(case, trial)["objective"])
        opt.rank([order[0], order[1:3], order[3]])  # the last one is not listed: worse than those listed
        assert {opt.trial(trial.number).status for trial in slate} == {"ranked"}
    best = opt.best()
    assert best is not None and measure(case, best)["objective"] < 0.01


def test_two_raters_with_a_quorum(tmp_path: Path) -> None:
    """The answer is pooled once both have spoken; a third voice is kept and changes nothing; each may be taken back."""
    task = Task(plain(2).task.space, feedback="ranking")
    opt = Optimizer(task, Population(), quorum=2, store=tmp_path / "people.db")
    slate = [trial.number for trial in opt.ask(5)]
    opt.rank([0, 1, 2, 3, 4], rater="ann")
    opt.rank([0, 1, 2, 3, 4], rater="ann")
    with pytest.raises(AlreadyTold, match="ann"):
        opt.rank([1, 0, 2, 3, 4], rater="ann")
    with pytest.raises(Waiting):
        opt.ask()
    assert {opt.trial(number).status for number in slate} == {"open"}
    opt.rank([[0, 1], 4], unseen=[2], rater="bob")  # 3 is worse than those listed
    assert {opt.trial(number).status for number in slate} == {"ranked"}
    record = opt._book.records[0]
    assert record.ranking == Ranking(((0,), (1,), (2,), (3, 4))), "scores 6, 4, 0, -5, -5"
    state = content(opt._state())
    opt.rank([4, 3, 2, 1, 0], rater="eve")
    assert content(opt._state()) == state
    assert [event.kind for event in opt.history()] == ["ask", "rank", "rank", "rank"]
    opt = reopen(opt, tmp_path / "people.db")
    assert content(opt._state()) == state
    opt.retract(0, rater="bob")
    assert opt._book.records[0].ranking is not None, "ann and eve still make a quorum"
    opt.retract(0, rater="eve")
    assert {opt.trial(number).status for number in slate} == {"open"}
    with pytest.raises(UsageError, match="zoe"):
        opt.retract(0, rater="zoe")
    opt.rank([0], rater="bob", verdict="all bad")
    assert opt.ask().number == 5
    opt.close()


def test_verdicts_on_a_whole_slate() -> None:
    task = Task(plain(2).task.space, feedback="ranking")
    opt = Optimizer(task, Population())
    verdicts: tuple[Literal["all bad", "cannot tell"], ...] = ("all bad", "cannot tell")
    for verdict in verdicts:
        slate = opt.ask(5)
        opt.rank([slate[0]], verdict=verdict)
        assert {opt.trial(trial.number).status for trial in slate} == {"ranked"}


# -- context, tables, history --------------------------------------------------------------------------------------------


def test_context_is_part_of_the_point() -> None:
    task = Task(Space(x=Float(0.0, 1.0), heat=Float(0.0, 100.0, role="context")), objectives=(Objective("cost"),))
    opt = Optimizer(task, "random")
    for heat in (10.0, 50.0, 10.0):
        trials = opt.ask(2, context={"heat": heat})
        assert {trial.context["heat"] for trial in trials} == {heat}
        assert all("heat" not in trial.params for trial in trials)
        for trial in trials:
            opt.tell(trial, trial.params["x"])
    queued = opt.enqueue({"x": 0.125, "heat": 70.0})
    assert queued.context == {"heat": 70.0}
    assert opt.ask(context={"heat": 20.0}).number != queued.number, "a point queued for another context waits"
    assert opt.ask(context={"heat": 70.0}).number == queued.number


def lines(path: Path) -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file))


def awkward_study(path: Path | None = None) -> tuple[Optimizer, Any]:
    case = rich(Climber.handles)
    opt = Optimizer(case.task, Climber(), store=path, seed=3)
    drive(opt, case, 14, sizes=(3,))
    opt.amend(2, measure(case, opt.trial(2)), std={"cost": 0.25}, cost=7.5)
    trials = opt.ask(3)
    opt.fail(trials[0], "lost, with a comma\nand a line end")
    opt.fail(trials[1], impossible=True)
    return opt, case


def test_csv_round_trip(tmp_path: Path) -> None:
    """Every told trial comes back in a new study: point, values, errors and cost to the bit, all kinds of parameter."""
    opt, case = awkward_study()
    opt.to_csv(tmp_path / "trials.csv")
    assert len(lines(tmp_path / "trials.csv")) == 1 + len(opt.trials())
    other = Optimizer(case.task, "random")
    added = other.from_csv(tmp_path / "trials.csv")
    told = [trial for trial in opt.trials() if trial.status == "ok"]
    assert len(added) == len(told) == 14
    for mine, theirs in zip(told, added, strict=True):
        assert points([mine]) == points([theirs])
        assert (mine.values, mine.std, mine.cost) == (theirs.values, theirs.std, theirs.cost)
    other.to_csv(tmp_path / "again.csv")
    first = [line[3:] for line in lines(tmp_path / "trials.csv") if line[1] in ("ok", "status")]
    second = [line[3:] for line in lines(tmp_path / "again.csv")]
    assert first == second
    before = facts(opt)
    opt.from_csv(tmp_path / "trials.csv")
    assert facts(opt) == before, "reading one's own table changes nothing"


def test_csv_answers_open_trials(tmp_path: Path) -> None:
    case = small_finite()
    opt = Optimizer(case.task, "random")
    opt.ask(3)
    opt.to_csv(tmp_path / "open.csv")
    lines = (tmp_path / "open.csv").read_text().splitlines()
    filled = [lines[0]] + [
        line.replace(",open,", ",ok,").replace(",,,", f",{i}.5,,") for i, line in enumerate(lines[1:])
    ]
    (tmp_path / "filled.csv").write_text("\n".join(filled) + "\n")
    opt.from_csv(tmp_path / "filled.csv")
    assert [(t.status, (t.values or {}).get("objective")) for t in opt.trials()] == [
        ("ok", 0.5),
        ("ok", 1.5),
        ("ok", 2.5),
    ]


@pytest.mark.parametrize(
    ("line", "kind", "named"),
    [
        ("0.5,nan", ValueRefused, "cost"),
        ("0.5,inf", ValueRefused, "cost"),
        ("0.5,abc", ValueRefused, "cost"),
        ("0.5,", ValueRefused, "cost"),
        ("7.5,1.0", SpaceError, "x"),
        ("abc,1.0", SpaceError, "x"),
        (",1.0", SpaceError, "x"),
    ],
)
def test_csv_is_read_as_a_whole_or_not_at_all(tmp_path: Path, line: str, kind: type[BboptError], named: str) -> None:
    """The error names the line; open trials told by earlier lines of the file are still open."""
    opt = Optimizer(SINGLE, "random")
    trial = opt.ask()
    path = tmp_path / "bad.csv"
    path.write_text(f"number,x,cost\n{trial.number},{trial.params['x']!r},1.0\n,0.25,2.0\n,{line}\n,0.75,3.0\n")
    with pytest.raises(kind, match=rf"line 4.*{named}"):
        opt.from_csv(path)
    assert [t.status for t in opt.trials()] == ["open"]


def test_csv_without_what_it_needs(tmp_path: Path) -> None:
    opt = Optimizer(SINGLE, "random")
    (tmp_path / "no_metric.csv").write_text("x\n0.5\n")
    with pytest.raises(ValueRefused, match="cost"):
        opt.from_csv(tmp_path / "no_metric.csv")
    (tmp_path / "no_parameter.csv").write_text("cost\n0.5\n")
    with pytest.raises(SpaceError, match="x"):
        opt.from_csv(tmp_path / "no_parameter.csv")
    with pytest.raises((FileNotFoundError, BboptError)):
        opt.from_csv(tmp_path / "no_such_file.csv")
    with pytest.raises(UsageError):
        opt.from_csv([{"x": 0.5, "cost": 1.0}])
    (tmp_path / "empty.csv").write_text("x,cost\n")
    assert opt.from_csv(tmp_path / "empty.csv") == []
    assert opt.trials() == []


def test_data_frames_are_tables_too() -> None:
    pandas = pytest.importorskip("pandas")
    task = Task(Space(x=Float(0.0, 1.0), k=Int(1, 9), s=Categorical(("a", "b"))), objectives=(Objective("cost"),))
    opt = Optimizer(task, "random")
    frame = pandas.DataFrame({"x": [0.5, 0.25], "k": [1, 2], "s": ["a", "b"], "cost": [1.0, 2.0]})
    added = opt.from_csv(frame)
    assert [(t.params, dict(t.values or {})) for t in added] == [
        ({"x": 0.5, "k": 1, "s": "a"}, {"cost": 1.0}),
        ({"x": 0.25, "k": 2, "s": "b"}, {"cost": 2.0}),
    ]


def test_trials_are_json() -> None:
    """What a client gets survives JSON exactly, without NaN."""
    import json

    opt, _ = awkward_study()
    for trial in opt.trials():
        document = json.loads(json.dumps(trial.to_json(), allow_nan=False))
        assert document == trial.to_json() or math.isfinite(document["number"])
        assert document["params"].keys() == trial.params.keys()


def test_history_of_one_trial() -> None:
    opt = Optimizer(SINGLE, "random")
    opt.ask(3)
    opt.fail(1, "broken")
    opt.ask(2)
    opt.tell(1, 1.0)
    opt.amend(1, 2.0)
    opt.cancel(0)
    assert [event.kind for event in opt.history(1)] == ["ask", "fail", "ask", "tell", "amend"]
    assert [event.kind for event in opt.history(0)] == ["ask", "cancel"]
    assert [event.position for event in opt.history()] == list(range(1, 7))


def test_studies_in_threads() -> None:
    """One object, several threads: every trial once, every answer kept."""
    from concurrent.futures import ThreadPoolExecutor

    opt = Optimizer(plain(2).task, Climber())

    def work(_: int) -> list[int]:
        numbers = []
        for _ in range(25):
            trial = opt.ask()
            opt.tell(trial, float(trial.number))
            numbers.append(trial.number)
        return numbers

    with ThreadPoolExecutor(8) as pool:
        numbers = [number for part in pool.map(work, range(8)) for number in part]
    assert sorted(numbers) == list(range(200))
    assert [(t.values or {})["objective"] for t in opt.trials()] == [float(i) for i in range(200)]
