"""`bbopt problems`, `strategies`, `bench` and `report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from cli_shell import document, read, refused, run

import bbopt
from bbopt import table
from bbopt.bench import Outcome
from bbopt.cli_input import read_strategy, seeds_of, split_strategy


def test_problems() -> None:
    found = read("problems", "--suite", "engineering")["problems"]
    assert [problem["name"] for problem in found] == list(bbopt.problems.names("engineering"))
    assert all(problem["suites"] == ["engineering"] and problem["docs"] and problem["source"] for problem in found)
    assert len(read("problems")["problems"]) == len(bbopt.problems.names())
    lines = run("problems", "--suite", "engineering").stdout.splitlines()
    assert lines[0].split() == ["problem", "columns", "objective", "limits", "optimum", "suites"]
    assert len(lines) == 1 + len(found)
    one = read("problems", "welded_beam")
    assert bbopt.Task.from_json(one["task"]) == bbopt.problems.get("welded_beam").task
    assert one["optimum"]["params"] == dict(bbopt.problems.get("welded_beam").optimum.params or {})
    text = run("problems", "welded_beam").stdout
    assert "shear_stress <= 13600" in text and "optimum     2.38113424918" in text
    assert "ackley_20" in run("problems", "ackley_20@shift3").stdout
    assert "did you mean" in refused(1, "problems", "weldedbeam")
    assert "no suite" in refused(1, "problems", "--suite", "none")
    assert "got both" in refused(2, "problems", "branin", "--suite", "synthetic")


def test_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {entry["name"]: entry for entry in read("strategies")["strategies"]}
    assert list(found) == list(table.STRATEGIES)
    assert found["random"]["instant"] is True and "constraints" in found["random"]["handles"]
    text = run("strategies").stdout
    assert all(name in text for name in (*table.STRATEGIES, "auto"))
    monkeypatch.setitem(table.STRATEGIES, "absent", "no_such_package:Strategy")
    assert "no_such_package" in run("strategies").stdout
    assert read("strategies")["strategies"][-1]["missing"]


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("gp", "gp", {}),
        ("s:a=1,b=x,c=[1,2],d={\"e\":1,\"f\":2},g=null", "s", {"a": 1, "b": "x", "c": [1, 2], "d": {"e": 1, "f": 2}, "g": None}),
        ("s:a=x=y", "s", {"a": "x=y"}),
    ],
)  # fmt: skip
def test_strategy_with_options(text: str, name: str, options: dict[str, Any]) -> None:
    assert split_strategy(text) == (name, options)


def test_strategies_and_seeds_that_are_none() -> None:
    assert read_strategy("auto") == "auto"
    for text in ("gp:", "gp:a", "gp:=1", "gp:a=1,,b=2", "gp:a=1,a=2"):
        with pytest.raises(click.UsageError):
            split_strategy(text)
    for text in ("x", "1-x", "-3", "1.5"):
        with pytest.raises(click.BadParameter):
            seeds_of(text)


class Recorded:
    """Stands for `run_bench`, and keeps what it was called with."""

    def __init__(self, failed: dict[str, str] | None = None, error: BaseException | None = None) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.failed, self.error = failed or {}, error

    def __call__(self, *given: Any, **named: Any) -> Outcome:
        self.calls.append((given, named))
        if self.error is not None:
            raise self.error
        return Outcome(Path(given[4]), 4 - len(self.failed), 4, self.failed)


def test_what_bench_passes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench = Recorded()
    monkeypatch.setattr("bbopt.bench.run_bench", bench)
    words = ("--budget", 30, "--out", tmp_path, "--seeds")
    done = read("bench", "synthetic", "-s", "random", "--strategy", "cmaes:population=8", *words, 2, "--quiet")
    assert done == {"format": 1, "folder": str(tmp_path), "complete": 4, "planned": 4, "failed": {}}
    (suite, named, budget, seeds, out), options = bench.calls[0]
    assert (suite, budget, seeds, out) == ("synthetic", 30, 2, str(tmp_path))
    assert list(named) == ["random", "cmaes:population=8"]
    assert named["cmaes:population=8"] == table.configured("cmaes", {"population": 8})
    assert options == {"initial": 20, "workers": None, "progress": False, "ray": False}
    result = run("bench", "synthetic", "-s", "random", "--problem", "branin", "--problem", "levy_10", *words, "3-4",
                 "--initial", 5, "--workers", 1)  # fmt: skip
    assert f"4 of 4 runs are complete; the report: bbopt report {tmp_path}" in result.stdout
    assert bench.calls[1][0][0] == ("branin", "levy_10") and bench.calls[1][0][3] == [3, 4]
    assert bench.calls[1][1] == {"initial": 5, "workers": 1, "progress": True, "ray": False}
    for given, passed in ((["--ray"], True), (["--ray", "head:6379"], "head:6379"), (["--ray", "--quiet"], True)):
        run("bench", "branin", "-s", "random", *words, 1, *given)
        assert bench.calls[-1][1]["ray"] == passed


def test_bench_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = ("bench", "branin", "-s", "random", "--budget", 3, "--out", tmp_path, "--seeds")
    assert "did you mean" in refused(1, "bench", "brannin", *words[2:], 1)
    assert "did you mean" in refused(1, "bench", "branin", "-s", "randm", *words[4:], 1)
    assert "every strategy once" in refused(2, *words, 1, "-s", "random")
    assert "at least one seed" in refused(2, *words, 0)
    assert "expected a number of seeds" in refused(2, *words, "many")
    assert "no suite" in refused(1, *words, 1, "--problem", "branin")
    assert "got 'spring'" in refused(2, "bench", "synthetic", *words[2:], 1, "--problem", "spring")
    monkeypatch.setattr("bbopt.bench.run_bench", Recorded({"branin/random/0": "ValueError: no"}))
    result = run(*words, 1, "--json")
    assert result.exit_code == 1 and document(result.stdout)["failed"] == {"branin/random/0": "ValueError: no"}
    assert result.stderr == "branin/random/0 failed: ValueError: no\n"
    monkeypatch.setattr("bbopt.bench.run_bench", Recorded(error=KeyboardInterrupt()))
    error = run(*words, 1)
    assert error.exit_code == 130
    assert error.stderr == "what was evaluated is safe; the same command goes on from here\ninterrupted\n"


def test_a_benchmark_and_its_report(tmp_path: Path) -> None:
    """A real one: two strategies, one problem, real workers; and the page."""
    words = (
        "bench",
        "branin",
        "-s",
        "random",
        "-s",
        "sobol",
        "-b",
        6,
        "--seeds",
        1,
        "--initial",
        4,
        "-o",
        tmp_path / "b",
    )
    result = run(*words, "--json")
    assert result.exit_code == 0, result.stderr
    done = document(result.stdout)
    assert (done["complete"], done["planned"]) == (2, 2)
    assert "2 of 2 runs" in result.stderr  # progress
    assert run(*words, "--quiet").stderr == ""  # nothing left to do
    studies = read("list", tmp_path / "b" / "runs.db")["studies"]
    assert [study["statuses"] for study in studies] == [{"ok": 6}] * 2
    made = read("report", tmp_path / "b")
    assert Path(made["page"]).is_file() and "index.html" in made["files"] and "trials.csv" in made["files"]
    assert run("report", tmp_path / "b").stdout == made["page"] + "\n"
    part = Path(read("report", tmp_path / "b", "--evaluations", "2")["page"])
    assert part.parent == tmp_path / "b" / "report-2" and "first 2 evaluations" in part.read_text()
    assert "holds another benchmark" in refused(1, *words[:-4], "--initial", 3, "-o", tmp_path / "b", "-q")
    (tmp_path / "empty").mkdir()
    assert "run the benchmark first" in refused(1, "report", tmp_path / "empty")
    assert json.loads((tmp_path / "b" / "bench.json").read_text())["budget"] == 6
