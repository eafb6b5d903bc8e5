"""The numbers of a comparison, against ones computed by hand; its view of a task; the page and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_shell import document, read, refused, run
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

import problems
from bbopt.compare.cell import Cell, write_cell
from bbopt.compare.gaps import CLASSES, class_of, curve_of, log_gaps
from bbopt.compare.summary import mean_ranks, ranks, summarize
from bbopt.compare.tables import verdict_lines
from bbopt.compare.view import View
from bbopt.errors import UsageError
from bbopt.space import Categorical, Fixed, Float, Int, Space
from bbopt.task import Constraint, Objective, Task

WALK = "compare_peers:Walk"


def cell(problem: str, peer: str, seed: int, gaps: list[float | None], **more: Any) -> Cell:
    """A run whose values are those gaps away from the optimum; None: not feasible."""
    made = problems.get(problem)
    name, optimum = made.task.objectives[0].name, made.optimum.value
    assert optimum is not None
    points = []
    for gap in gaps:
        metrics = {name: optimum + (0.0 if gap is None else gap)}
        metrics |= {item.name: -1.0 if gap is not None else 1.0 for item in made.task.constraints}
        points.append((dict(made.optimum.params or {}), metrics))
    n = len(gaps)
    seconds = more.pop("seconds", 0.25)
    return Cell(problem, peer, seed, more.pop("budget", n), f"{peer} 1", "as it comes", tuple(points), (seconds,) * n,
                (0.0,) * n, 0.0, "2026-01-01", **more)  # fmt: skip


def test_the_gap_is_to_the_best_feasible_value_so_far() -> None:
    curve = curve_of(cell("jlh1", "a", 0, [None, 10.0, 100.0, 1.0, None]))
    assert curve.best.tolist() == pytest.approx([math.inf, 10.0, 10.0, 1.0, 1.0])
    assert curve.scale == 1.0


def test_never_feasible_is_a_decade_worse_than_the_worst_of_all() -> None:
    first = curve_of(cell("jlh1", "a", 0, [None, 100.0, 0.0]))
    second = curve_of(cell("jlh1", "b", 0, [None, None, None]))
    logs = log_gaps([first, second])
    assert logs[0].tolist() == pytest.approx([3.0, 2.0, -9.0])
    assert logs[1].tolist() == [3.0, 3.0, 3.0]
    assert log_gaps([second])[0].tolist() == [1.0, 1.0, 1.0]


def test_a_run_that_ended_early_keeps_its_gap() -> None:
    assert curve_of(cell("branin", "a", 0, [1.0], budget=3)).best.tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_values_without_numbers_are_no_evaluations() -> None:
    made = cell("branin", "a", 0, [4.0, 1.0])
    broken = Cell(**{**vars(made), "points": (made.points[0], (made.points[1][0], None))})
    assert curve_of(broken).best.tolist() == pytest.approx([4.0, 4.0])


@given(st.lists(st.integers(0, 4).map(float), min_size=1, max_size=8))
@settings(max_examples=50)
def test_ranks_are_those_of_scipy(values: list[float]) -> None:
    assert ranks(values) == rankdata(values).tolist()


def two_problems() -> list[Cell]:
    """ours and x on both problems; ours has two seeds of branin; z only branin."""
    return [
        cell("branin", "bbopt", 0, [100.0, 1.0]), cell("branin", "bbopt", 1, [100.0, 0.01]),
        cell("branin", "x", 0, [10.0, 0.1], seconds=0.5), cell("branin", "z", 0, [10.0, 10.0]),
        cell("jlh1", "bbopt", 0, [None, 1.0]), cell("jlh1", "x", 0, [10.0, 0.01]), cell("jlh1", "z", 0, [None, None]),
    ]  # fmt: skip


def test_medians_ranks_and_classes_by_hand() -> None:
    made = summarize(two_problems())
    assert made.end["branin", "bbopt"] == pytest.approx(-1.0)  # of 0 and -2
    assert made.area["branin", "bbopt"] == pytest.approx(0.5)  # of (2 + 0) / 2 and (2 - 2) / 2
    assert made.area["jlh1", "bbopt"] == pytest.approx(1.0)  # (2, a decade above the largest gap, + 0) / 2
    assert made.end["branin", "x"] == pytest.approx(-1.0) and made.end["branin", "z"] == pytest.approx(1.0)
    # branin: bbopt and x share 1 and 2, z third; jlh1: x, bbopt, z
    assert made.rank == pytest.approx({"bbopt": (1.5 + 2) / 2, "x": (1.5 + 1) / 2, "z": 3.0})
    # seed 0 alone, which all have: branin x 0.1, bbopt 1, z 10; jlh1 as above
    assert made.seed_pairs == 2
    assert made.seed_rank == pytest.approx({"bbopt": 2.0, "x": 1.0, "z": 3.0})
    assert [row.name for row in made.classes] == [CLASSES[0], CLASSES[2]]
    assert made.classes[0].best == "x" and made.classes[0].behind("bbopt") == pytest.approx(0.0)
    assert made.classes[1].behind("bbopt") == pytest.approx(2.0)
    assert made.ask["x"] == pytest.approx((0.375, 0.5))
    (verdict,) = made.verdicts
    assert (verdict.first, verdict.near, verdict.met, verdict.next_peer) == (False, False, False, "x")
    text = " ".join(verdict_lines(made.verdicts))
    assert "not first by mean rank, 1.75; x has 1.25" in text and "constrained: 2.00" in text


def test_verdict_is_of_one_of_ours_among_others() -> None:
    cells = [cell("branin", peer, 0, [gap]) for peer, gap in
             [("bbopt:sobol", 0.001), ("bbopt", 0.01), ("x", 0.1)]]  # fmt: skip
    made = summarize(cells)
    assert made.rank == {"bbopt:sobol": 1.0, "bbopt": 2.0, "x": 3.0}
    assert [(v.peer, v.rank, v.next_rank, v.met) for v in made.verdicts] == [
        ("bbopt:sobol", 1.0, 2.0, True), ("bbopt", 1.0, 2.0, True)
    ]  # fmt: skip
    assert made.classes[0].best == "x"


def test_a_tie_is_not_first_and_the_margin_is_two_tenths() -> None:
    tied = summarize([cell("branin", peer, 0, [1.0]) for peer in ("bbopt", "x")]).verdicts[0]
    assert not tied.first and tied.near
    for decades, near in ((0.19, True), (0.21, False)):
        gaps = {"bbopt": 1.0, "x": 10.0**-decades}
        assert summarize([cell("branin", p, 0, [g]) for p, g in gaps.items()]).verdicts[0].near is near


def test_ranked_are_those_without_gaps_on_common_problems() -> None:
    cells = [one for one in two_problems() if (one.problem, one.peer) != ("jlh1", "z")]
    made = summarize(cells)
    assert made.ranked_problems == ("branin",)
    made = summarize(cells, {("jlh1", "z"): "it has no constraints"})
    assert made.ranked == ("bbopt", "x") and made.ranked_problems == ("branin", "jlh1")
    assert made.rank == pytest.approx({"bbopt": 1.75, "x": 1.25})
    assert "z" in made.classes[0].gaps and "z" not in made.classes[1].gaps
    assert mean_ranks({}, [], []) == {}


def test_classes() -> None:
    assert class_of("hartmann6") == CLASSES[0] and class_of("rosenbrock_8") == CLASSES[1]
    assert class_of("spring") == CLASSES[2] and class_of("concrete_beam_mixed") == CLASSES[3]


# -- a task as peers see it --------------------------------------------------------------------------------------------

EVERYTHING = Task(
    Space(
        rate=Float(1e-4, 1.0, log=True), size=Float(0.0, 1.0, step=0.25), at=Float(-1.0, 3.0, shape=(2,)),
        teeth=Int(4, 12, step=2), count=Int(1, 64, log=True), steel=Categorical(["S235", "S355"]),
        grade=Categorical([0.5, 2.0, 7.0], ordered=True), depth=Float(0.0, 2.0, when="steel == 'S355'"), kind=Fixed("beam"),
    ),
    (Objective("strength", maximize=True),),
    (Constraint("stress", upper=250.0), Constraint("load", lower=1.0, upper=2.0)),
    where=["size <= at[0] + 2"],
)  # fmt: skip


def test_columns_say_what_the_parameters_are() -> None:
    view = View(EVERYTHING)
    found = {column.key: column for column in view.columns}
    assert list(found) == ["rate", "size", "at[0]", "at[1]", "teeth", "count", "steel", "grade", "depth"]
    assert (found["rate"].low, found["rate"].high, found["rate"].log, found["rate"].levels) == (1e-4, 1.0, True, 0)
    assert found["size"].levels == 5 and found["size"].grid.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert found["teeth"].levels == 5 and found["teeth"].step == 2
    assert found["grade"].choices == (0.5, 2.0, 7.0) and found["grade"].top == 2.0
    assert view.constraints == 4 and not view.continuous


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_points_go_there_and_back(seed: int) -> None:
    view = View(EVERYTHING)
    x = np.random.default_rng(seed).random(9) * view.bounds[1]
    params = view.of_encoded(x)
    assert ("depth" in params) == (params["steel"] == "S355")
    row = view.to_encoded(params)
    assert view.to_encoded(view.of_encoded(row)).tolist() == row.tolist()
    values = [column.choices[value] if column.chosen else value
              for column, value in zip(view.columns, view.to_user(params), strict=True)]  # fmt: skip
    assert view.to_encoded(view.of_user(values)) == pytest.approx(row, abs=1e-12)


def test_results_are_minimised_and_feasible_below_zero() -> None:
    view = View(EVERYTHING)
    params = view.of_encoded(np.zeros(9))  # size 0, at[0] -1: 0 <= 1 holds
    result = view.result(params, {"strength": 5.0, "stress": 200.0, "load": 1.5})
    assert result.y == -5.0 and result.G.tolist() == [-50.0, -0.5, -0.5, 0.0] and result.feasible
    assert not view.result(params, {"strength": 5.0, "stress": 200.0, "load": 0.5}).feasible
    outside = view.of_encoded(np.array([0.0, 1.0, 0.0, 0, 0, 0, 0, 0, 0]))  # size 1, at[0] -1: on the edge
    assert view.result(outside, {"strength": 5.0, "stress": 200.0, "load": 1.5}).feasible


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Task(Space(x=Float(0, 1)), (Objective("a"), Objective("b"))), "one objective"),
        (Task(Space(x=Float(0, 1)), feedback="ranking"), "values as answers"),
        (Task(Space(x=Float(0, 1), t=Float(0, 1, role="context"))), "context"),
        (Task(Space(x=Float(scale=1.0))), "unbounded"),
    ],
)
def test_tasks_that_no_comparison_can_have(task: Task, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        View(task)


# -- the page and the command ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compare")
    for one in [*two_problems(), cell("branin", "x", 1, [3.0], budget=2, error="RuntimeError: it <broke>")]:
        write_cell(out, one)
    definition = {
        "format": 1,
        "budget": 2,
        "problems": ["branin", "jlh1"],
        "peers": ["bbopt", "x", "z"],
        "seeds": [0, 1],
    }
    (out / "compare.json").write_text(json.dumps(definition))
    return out


def test_page_and_tables_of_a_folder(folder: Path) -> None:
    result = run("compare", "--no-run", "--out", folder)
    assert result.exit_code == 0
    assert "bbopt: first" not in result.stdout and "not first by mean rank" in result.stdout
    assert "(1/1 never)" in result.stdout
    assert "x failed on branin, seed 1, after 1 evaluations" in result.stderr
    page = (folder / "comparison.html").read_text("utf-8")
    assert "<svg" in page and "http://" not in page.replace("http://www.w3.org", "") and "src=" not in page
    assert "it &lt;broke&gt;" in page and "one decade more than the largest gap" in page and "as it comes" in page
    lines = (folder / "comparison.csv").read_text().splitlines()
    assert lines[0] == "problem,peer,seeds,evaluation,median_log10_gap" and "branin,bbopt,2,2,-1" in lines
    assert (folder / "comparison.png").read_bytes()[1:4] == b"PNG"


def test_json_of_a_folder_and_the_exit_status(folder: Path) -> None:
    result = run("compare", "branin", "--no-run", "--out", folder, "--seeds", "0,", "--json", "--check")
    found = document(result.stdout)
    assert result.exit_code == 1
    assert found["problems"] == ["branin"] and found["peers"]["x"]["rank"] == 1.0
    assert found["gaps"][0] == {"problem": "branin", "class": CLASSES[0], "peer": "bbopt", "seeds": [0],
                                "end": pytest.approx(0.0), "area": pytest.approx(1.0), "never": 0}  # fmt: skip
    assert found["verdicts"] == [{"peer": "bbopt", "first": False, "near": False, "met": False}]
    better = run("compare", "branin", "--no-run", "--out", folder, "-p", "bbopt", "-p", "z", "--check")
    assert better.exit_code == 0 and "bbopt: first by mean rank, 1.00; next z, 2.00" in better.stdout


def test_command_errors(folder: Path, tmp_path: Path) -> None:
    assert "no runs of these" in refused(1, "compare", "--no-run", "--out", tmp_path)
    assert "without --no-run" in refused(2, "compare", "--no-run", "--again", "x", "--out", folder)
    assert "holds runs of 2 evaluations" in refused(1, "compare", "branin", "-p", "random", "--out", folder)
    refused(2, "compare", "--out", tmp_path, "--seeds", "many")


def test_the_command_runs_what_is_lacking(tmp_path: Path) -> None:
    words = ("compare", "branin", "-p", WALK, "-p", "random", "-b", 4, "--seeds", 2, "-o", tmp_path, "-q")
    found = read(*words)
    assert (found["complete"], found["planned"], found["budget"]) == (4, 4, 4)
    assert set(found["peers"]) == {WALK, "random"} and found["failed"] == {}
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*/*/*.json")}
    read(*words)
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*/*/*.json")}
