"""Results from files and standard input, JSON and CSV, and the parts of the command line that read them."""

from __future__ import annotations

import csv
import doctest
import io
import json
from pathlib import Path
from typing import Any

import pytest
from cli_shell import CURVE, make_store, read, refused, run

import bbopt
from bbopt import cli_input, cli_output, tables


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = make_store(tmp_path)
    read("ask", path, "beam", "-n", 3)
    read("ask", path, "curve", "-n", 3)
    return path


def told(store: Path, name: str) -> dict[int, Any]:
    return {t["number"]: t["values"] for t in read("show", store, name)["trials"] if t["values"] is not None}


@pytest.mark.parametrize("module", [cli_input, cli_output, tables])
def test_examples_of_the_parts(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.failed == 0 and result.attempted > 0


@pytest.mark.parametrize(
    "text",
    ['{"cost": 3, "stress": 5}', '{"values": {"cost": 3, "stress": 5}}', '{"values": [3, 5]}', "[3, 5]",
     '{"trial": {"number": 1, "values": {"cost": 3, "stress": 5}, "std": {}, "cost": null}}',
     '[{"number": 1, "cost": 3, "stress": 5}]', "cost,stress\n3,5\n", "number,stress,cost\n1,5,3\n"],
)  # fmt: skip
def test_forms_of_one_result(store: Path, text: str) -> None:
    (trial,) = read("tell", store, "beam", 1, "-", input=text)["trials"]
    assert (trial["number"], trial["values"]) == (1, {"cost": 3.0, "stress": 5.0})
    assert told(store, "beam") == {1: {"cost": 3.0, "stress": 5.0}}


def test_a_bare_number_is_a_result(store: Path) -> None:
    assert read("tell", store, "curve", 0, "-", input="-1.5e-3\n")["trials"][0]["values"] == {"y": -0.0015}
    assert read("tell", store, "curve", 1, "-7")["trials"][0]["values"] == {"y": -7.0}
    assert read("tell", store, "curve", 2, "y=-7")["trials"][0]["values"] == {"y": -7.0}


def test_metrics_with_awkward_names(tmp_path: Path) -> None:
    """Metrics called like our own keys and columns are told, exported and read back."""
    path = tmp_path / "a.db"
    metrics = ("values", "number", "cost")
    space = {"cost": CURVE["space"]["x"], "status": {"type": "Categorical", "choices": ["ok", "open"]}}
    task = {
        "space": space,
        "objectives": [{"name": metrics[0]}],
        "constraints": [{"name": n, "upper": 1} for n in metrics[1:]],
    }
    read("create", path, "odd", "--task", "-", "--strategy", "random", input=json.dumps(task))
    read("ask", path, "odd", "-n", 2)
    read("tell", path, "odd", 0, "values=1", "number=2", "cost=3", "--cost", 9)
    nested = {"number": 1, "values": {"values": 4, "number": 5, "cost": 6}, "cost": 8}
    read("tell", path, "odd", "-", input=json.dumps(nested))
    text = run("export", path, "odd", "-").stdout
    header = text.splitlines()[0].split(",")
    assert len(set(header)) == len(header)
    assert {"trial:number", "trial:status", "trial:cost", "value:cost", "cost", "number"} <= set(header)
    read("create", path, "copy", "--task", "-", "--strategy", "random", input=json.dumps(task))
    copied = read("import", path, "copy", "-", input=text)["trials"]
    original = read("show", path, "odd")["trials"]
    for key in ("params", "values", "cost"):
        assert [t[key] for t in copied] == [t[key] for t in original]
    assert read("tell", path, "odd", "-", input=text)["trials"] == original  # the same again is a no-op


def test_many_results_from_a_file(store: Path, tmp_path: Path) -> None:
    results = [
        {"number": 2, "values": {"cost": 1, "stress": 2}, "std": {"cost": 0.1}, "cost": 5},
        {"number": 0, "cost": 3, "stress": 4},
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    trials = read("tell", store, "beam", "--file", tmp_path / "results.json")["trials"]
    assert [trial["number"] for trial in trials] == [2, 0]
    assert (trials[0]["std"], trials[0]["cost"], trials[1]["cost"]) == ({"cost": 0.1}, 5.0, None)
    (tmp_path / "results.csv").write_text("\ufeffnumber,lab,cost,stress,std:stress\n1,B,7,8,0.5\n", "utf-8")
    (trial,) = read("tell", store, "beam", "--file", tmp_path / "results.csv")["trials"]
    assert (trial["values"], trial["std"]) == ({"cost": 7.0, "stress": 8.0}, {"stress": 0.5})
    assert len(told(store, "beam")) == 3


def test_all_of_a_file_or_nothing(store: Path) -> None:
    error = refused(1, "tell", store, "beam", "-", input="number,cost,stress\n0,1,1\n1,2,nan\n")
    assert "trial 1: stress" in error
    assert told(store, "beam") == {}


@pytest.mark.parametrize(
    ("words", "text", "message"),
    [
        (("-",), "", "got nothing"),
        (("-",), "{", "expected JSON"),
        (("-",), '{"cost": NaN, "stress": 1}', "NaN is not JSON"),
        (("-",), '{"cost": 1, "stress": 1}', "expected the number of a trial"),
        (("-",), '[{"number": "1", "cost": 1, "stress": 1}]', "expected the number of a trial"),
        (("-",), '[{"number": true, "cost": 1, "stress": 1}]', "expected the number of a trial"),
        (("1", "-"), '{"number": 2, "cost": 1, "stress": 1}', "expected the result of trial 1"),
        (("1", "-"), '{"cost": "1", "stress": 1}', "expected a number, got '1'"),
        (("1", "-"), '{"cost": 1e999, "stress": 1}', "finite"),
        (("1", "-"), '{"cost": 1, "stress": 1, "mass": 2}', "unknown metric 'mass'"),
        (("1", "-"), '{"values": null}', "expected values"),
        (("-",), '{"trials": [{"number": 0, "values": null}]}', "no trial in it has a result"),
        (("-",), "a,b\n1,2\n", "'cost' is not among a, b"),
        (("-",), "cost,stress\n1,2\n3,4\n", "line 2: expected the number"),
        (("-",), "number,cost,stress\n1,2\n", "stress"),
        (("-",), "number,cost,stress\n1,2,\n", "stress"),
        (("-",), "number,cost,stress\nx,2,3\n", "line 2: expected the number"),
        (("-",), "number,cost,stress\n77,2,3\n", "no trial 77"),
        (("1", "cost=1"), None, "'stress' is missing"),
        (("1", "cost=one", "stress=1"), None, "expected a number, got 'one'"),
        (("1", "cost=1", "stress=1e400"), None, "finite"),
        (("1", "cost=1", "stress=1_0"), None, "expected a number, got '1_0'"),
        (("1", "3"), None, "single number"),
        (("1", "cost=1", "stress=1", "--std", "mass=1"), None, "unknown metric 'mass'"),
        (("1", "cost=1", "stress=1", "--std", "cost=-1"), None, "standard error >= 0"),
        (("1", "cost=1", "stress=1", "--cost", "nan"), None, "finite"),
    ],
)
def test_results_that_are_none(store: Path, words: tuple[str, ...], text: str | None, message: str) -> None:
    error = refused(1, "tell", store, "beam", *words, input=text)
    assert message in error and error.count("\n") == 1
    assert told(store, "beam") == {}


def test_results_in_no_known_form(store: Path, tmp_path: Path) -> None:
    for words, message in (
        ((), "expected the number of a trial"),
        (("1",), "expected values of trial 1"),
        (("1", "cost=1", "3"), "expected name=value"),
        (("1", "cost=1", "cost=2"), "twice"),
        (("one", "cost=1"), "expected the number of a trial"),
        (("-1", "3"), "expected the number of a trial"),
        (("1", "cost=1", "--stdd", "3"), "No such option"),
        (("1", "-x"), "No such option"),
        (("1", "3", "--file", str(store)), "got both"),
        (("--file", str(tmp_path / "none.json")), "does not exist"),
    ):
        assert message in refused(2, "tell", store, "beam", *words)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refused(1, "tell", store, "beam", "--file", binary)
    assert "UTF-8" in refused(1, "tell", store, "beam", "-", input=b"\xff\xfe")


def test_told_twice(store: Path) -> None:
    read("tell", store, "curve", 0, 1)
    assert read("tell", store, "curve", 0, 1)["trials"][0]["status"] == "ok"
    assert "AlreadyTold" in refused(1, "tell", store, "curve", 0, 2)


# -- CSV of a whole study ----------------------------------------------------------------------------------------------


def test_export_and_import(store: Path, tmp_path: Path) -> None:
    read("tell", store, "beam", 0, "cost=0.1", "stress=1e-300", "--std", "cost=0.01")
    read("fail", store, "beam", 1, "--impossible")
    file = tmp_path / "beam.csv"
    assert read("export", store, "beam", file) == {"format": 1, "file": str(file), "trials": 3}
    assert run("export", store, "beam", "-").stdout == file.read_text()
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [row["status"] for row in rows] == ["ok", "impossible", "open"]
    task = read("show", store, "beam")
    read("create", store, "copy", "--task", "-", "--strategy", "random", input=json.dumps(task))
    (trial,) = read("import", store, "copy", file)["trials"]
    original = read("show", store, "beam", 0)["trial"]
    assert {key: trial[key] for key in ("params", "values", "std")} == {
        k: original[k] for k in ("params", "values", "std")
    }
    assert run("import", store, "copy", file).stdout == "copy: 1 trials\n"
    assert "both have standard output" in refused(2, "export", store, "beam", "-", "--json")


def test_an_exported_table_is_filled_in_and_read_again(store: Path) -> None:
    """Rows of open trials are answered once their values are filled in; rows without values stay open."""
    rows = list(csv.DictReader(io.StringIO(run("export", store, "beam", "-").stdout)))
    rows[1] |= {"cost": "7", "stress": "8", "trial:cost": "9"}
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    (trial,) = read("import", store, "beam", "-", input=text.getvalue())["trials"]
    assert (trial["number"], trial["values"], trial["cost"]) == (1, {"cost": 7.0, "stress": 8.0}, 9.0)
    assert read("show", store, "beam")["statuses"] == {"open": 2, "ok": 1}


def test_import_refuses(store: Path, tmp_path: Path) -> None:
    point = "width,bolts,steel"
    for text, message in (
        (f"{point}\n1,4,S235\n", "no column 'cost'"),
        (f"{point},cost,stress\n1,4,S235,3,x\n", "line 2: stress: expected a number"),
        (f"{point},cost,stress\n1,4,S235,3,4\n1,5,S99,3,4\n", "line 3: steel"),
        ("cost,stress\n3,4\n", "no column 'width'"),
    ):
        assert message in refused(1, "import", store, "beam", "-", input=text)
    assert "does not exist" in refused(2, "import", store, "beam", tmp_path / "none.csv")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\n")
    assert "UTF-8" in refused(1, "import", store, "beam", tmp_path / "binary")
    assert "No such file" in refused(1, "export", store, "beam", tmp_path / "none" / "a.csv")
    assert told(store, "beam") == {}


def test_numbers_that_json_does_not_have(tmp_path: Path) -> None:
    """A query told as a whole with a lost row has NaN in the log; the document has null."""
    import numpy as np

    path = tmp_path / "a.db"
    with bbopt.Optimizer(bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1))), "random", store=path, name="s") as opt:
        query = opt.ask_query(2)
        values = bbopt.Values.of(np.array([1.0, np.nan]))
        opt.tell_query(query, values if "lost" in values.status else _lost(values))
    body = read("show", path, "s", "--log")["log"][-1]["body"]
    assert body["metrics"] == [[1.0], [None]]


def _lost(values: bbopt.Values) -> bbopt.Values:
    import dataclasses

    return dataclasses.replace(values, status=("ok", "lost"))


def test_vectors_and_conditions(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    space = {
        "w": {"type": "Float", "scale": 1.0, "shape": [10]},
        "kind": {"type": "Categorical", "choices": [True, 2, "x y", None, [1, 2]], "ordered": True},
        "n": {"type": "Int", "low": 1, "high": 64, "log": True, "when": "kind == 2"},
        "unit": {"type": "Fixed", "value": "mm"},
    }
    task = {"space": space, "objectives": [{"name": "y", "noise": 0.5}]}
    read("create", path, "v", "--task", "-", "--strategy", "random", input=json.dumps(task))
    read("enqueue", path, "v", f"w={list(range(10))}", "kind=2", "n=8")
    (trial,) = read("ask", path, "v")["trials"]
    assert trial["params"] == {"w": list(range(10)), "kind": 2, "n": 8, "unit": "mm"}
    assert "n" not in read("enqueue", path, "v", f"w={[0] * 10}", "kind=null")["trial"]["params"]
    assert read("enqueue", path, "v", f"w={[1] * 10}", "kind=[1, 2]")["trial"]["params"]["kind"] == [1, 2]
    assert "[0, 1, 2, 3, 4, 5, ... 10 in all]" in run("show", path, "v", 0).stdout
    shown = run("show", path, "v").stdout
    for text in ("scale 1, shape (10,)", "ordered one of true, 2, x y, -, [1, 2]", "1 to 64, log, when kind == 2",
                 "fixed at mm", "noise       y: 0.5"):  # fmt: skip
        assert text in shown
