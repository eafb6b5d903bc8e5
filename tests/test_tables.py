"""Trials as a table: what goes out as CSV comes back as the same results."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import bbopt


def make_task() -> bbopt.Task:
    space = bbopt.Space(
        {
            "thickness (mm)": bbopt.Float(0, 1),
            "bolts": bbopt.Int(1, 9),
            "steel": bbopt.Categorical(["S235", "1", 1, True, None, [1, 2]]),
            "weld": bbopt.Float(1, 2, when="bolts >= 5"),
        }
    )
    return bbopt.Task(space, [bbopt.Objective("cost", maximize=True)], [bbopt.Constraint("stress", upper=1.0)])


def told(n: int = 30) -> bbopt.Optimizer:
    opt = bbopt.Optimizer(make_task(), "random", seed=3)
    for trial in opt.ask(n):
        opt.tell(trial, {"cost": trial.params["bolts"] / 7, "stress": 0.1 * trial.number}, cost=0.5)
    return opt


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    opt = told()
    opt.ask()  # an open trial is in the table, but is no result
    opt.to_csv(tmp_path / "trials.csv")
    copy = bbopt.Optimizer(make_task(), "random")
    added = copy.from_csv(tmp_path / "trials.csv")
    assert len(added) == 30
    for mine, theirs in zip(opt.trials()[:30], copy.trials(), strict=True):
        assert mine.params == theirs.params
        assert [type(v) for v in mine.params.values()] == [type(v) for v in theirs.params.values()]
        assert (mine.values, mine.cost) == (theirs.values, theirs.cost)


def test_rows_with_the_number_of_an_open_trial_are_told(tmp_path: Path) -> None:
    opt = told(3)
    trials = opt.ask(2)
    opt.to_csv(tmp_path / "trials.csv")
    lines = (tmp_path / "trials.csv").read_text().splitlines()
    head = lines[0].split(",")
    filled = [lines[0]]
    for line in lines[1:]:
        cells = line.split(",")
        if cells[1] == "open":  # as a person does in a spreadsheet
            cells[1], cells[head.index("cost")], cells[head.index("stress")] = "ok", "4.5", "0.25"
        filled.append(",".join(cells))
    (tmp_path / "filled.csv").write_text("\n".join(filled) + "\n")
    opt.from_csv(tmp_path / "filled.csv")
    assert [opt.trial(t.number).values for t in trials] == [{"cost": 4.5, "stress": 0.25}] * 2
    assert len(opt.trials()) == 5


def test_a_data_frame_is_read_like_a_file() -> None:
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1), n=bbopt.Int(1, 9)))
    opt = bbopt.Optimizer(task, "random")
    frame = pd.DataFrame({"x": [0.25, 0.5], "n": [3, 4], "objective": [1.0, 2.0]})
    assert [trial.params for trial in opt.from_csv(frame)] == [{"x": 0.25, "n": 3}, {"x": 0.5, "n": 4}]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("x,objective\n0.5,abc\n", bbopt.ValueRefused, "line 2.*objective.*'abc'"),
        ("x,objective\n0.5,1\n7,1\n", bbopt.SpaceError, r"line 3.*x.*\[0, 1\]"),
        ("x,objective\n0.5,nan\n", bbopt.ValueRefused, "objective"),
        ("y,objective\n0.5,1\n", bbopt.SpaceError, "no column 'x'"),
        ("x,value\n0.5,1\n", bbopt.ValueRefused, "no column 'objective'"),
    ],
)
def test_a_bad_table_names_its_line_and_leaves_no_trace(
    tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "bad.csv").write_text(text)
    opt = bbopt.Optimizer(bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1))), "random")
    with pytest.raises(error, match=message):
        opt.from_csv(tmp_path / "bad.csv")
    assert opt.trials() == []
