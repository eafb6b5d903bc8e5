"""The command that evaluates surrogates: parts are kept, it goes on, its checks say what was found, tables and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from bbopt.bench_floor import write_floor
from bbopt.bench_surrogates import CELLS, run_surrogates
from bbopt.bench_surrogates.checks import checks
from bbopt.bench_surrogates.costs import CASES, cost
from bbopt.bench_surrogates.figures import draw_results
from bbopt.bench_surrogates.tables import tables
from bbopt.cli import main
from bbopt.report_answers import answer, draw_answers
from bbopt.report_beliefs import draw_beliefs
from surrogates.amortised import shipped
from surrogates.amortised.network import HyperNetwork
from surrogates.amortised.network import Shape as HyperShape
from surrogates.evaluation.reference import TASKS
from surrogates.evaluation.tasks import Cell
from surrogates.pfn.network import Network, Shape
from surrogates.pfn.weights import load_weights
from surrogates.training.weights import save_weights

SMALL = Shape(width=16, layers=1, heads=2, inner=16, columns=16, anchors=6)


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Path, Path]:
    """Files of untrained networks: of the PFN and of the amortised process."""
    files = tmp_path / "pfn.safetensors", tmp_path / "amortised.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_weights(files[0], Network(SMALL), {"steps": 0})
        save_weights(files[1], HyperNetwork(HyperShape()), {"steps": 0})
    return files


def test_the_command_keeps_its_parts_and_goes_on(weights: tuple[Path, Path], tmp_path: Path) -> None:
    cells = tuple(CELLS[name] for name in ("plain-d1-n8", "mixture-d2-n10", "known-d1-n16", "held-out-d2-n10"))
    threads = torch.get_num_threads()

    def run() -> dict[str, Any]:
        return run_surrogates(
            tmp_path / "out", weights[0], 4, cells=cells, functions=("branin",), amortised_weights=weights[1]
        )

    first = run()
    assert torch.get_num_threads() == threads
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == first
    assert {row["who"] for row in first["gaps"]} == {"pfn", "amortised", "anchors", "right", "wide", "botorch", "gp", "nothing"}  # fmt: skip
    assert [row["kind"] for row in first["calibration"] if row["who"] == "amortised"] == [
        "plain",
        "mixture",
        "known",
        "held-out",
    ]
    assert [row["kind"] for row in first["calibration"] if row["who"] == "pfn"] == ["held-out"]
    assert len(first["functions"]) == 8 and first["sanity"] == {}
    assert len(first["draws"]) == 4 and {row["who"] for row in first["paired"]} >= {"gp", "right", "wide", "botorch"}
    assert any("gp" in row["check"] for row in first["checks"])
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("parts*/*/*.json")}
    lost, broken = [path for path in sorted(parts) if not path.name.startswith("amortised")][:2]
    lost.unlink()
    broken.write_text("{")
    assert run() == first
    changed = {path for path in parts if path.stat().st_mtime_ns != parts[path]}
    assert changed == {lost, broken}
    assert all(len(row) == len(table.headings) for table in tables(first) for row in table.rows)
    assert [path.name for path in draw_results(first, tmp_path)] == ["gaps.png", "calibration.png"]


def test_the_command_prints_tables_or_json_and_draws(weights: tuple[Path, Path], tmp_path: Path) -> None:
    files = ["--weights", str(weights[0]), "--amortised-weights", str(weights[1])]
    call = ["bench-surrogates", "--out", str(tmp_path / "out"), *files, "--tasks", "2",
            "--cell", "plain-d1-n8", "--floor", "-q"]  # fmt: skip
    shown = CliRunner().invoke(main, [*call, "--record"])
    assert shown.exit_code == 0, shown.output
    for header in (load_weights(weights[0])[1], shipped.load_network(weights[1])[1]):
        recorded = header["evaluation"]
        assert recorded["tasks"] == 2 and {"plain told", "plain anywhere"} <= set(recorded["gaps"])
    assert CliRunner().invoke(main, ["bench-surrogates", "--out", str(tmp_path), "--record"]).exit_code == 2
    for words in ("Bayes floor", "MAP GP", "amortised GP minus that of others", "Checks of the amortised GP"):
        assert words in shown.output
    for name in ("gaps.png", "beliefs_1d.png", "beliefs_2d.png"):
        assert (tmp_path / "out" / name).read_bytes()[:4] == b"\x89PNG"
    document = json.loads(CliRunner().invoke(main, [*call, "--json"]).stdout)
    assert {row["who"] for row in document["floor"]} == {"pfn", "amortised", "anchors", "right", "gp", "nothing", "floor"}  # fmt: skip
    wrong = CliRunner().invoke(main, [*call, "--cell", "plain-d3-n8"])
    assert wrong.exit_code == 2 and "plain-d2-n24" in wrong.output


def test_the_kept_floor_stands_where_none_is_computed(weights: tuple[Path, Path], tmp_path: Path) -> None:
    found = run_surrogates(
        tmp_path / "out", weights[0], TASKS, cells=(CELLS["plain-d1-n8"],), amortised_weights=weights[1]
    )
    rows = {row["who"]: row for row in found["floor"]}
    assert rows["floor"]["anywhere"]["tasks"] == TASKS and "amortised" in rows


def test_checks_say_what_is_missed() -> None:
    """Of made-up results: one cell where the amortised process is 0.3 above the fitted one, one where it is below."""

    def summary(mean: float) -> dict[str, float]:
        return {"mean": mean, "error": 0.01, "median": mean, "tasks": 9}

    cells = ({"kind": "plain", "d": 1, "n": 8}, {"kind": "plain", "d": 1, "n": 64})
    joined = {
        "means": [{"kind": "plain", "who": "amortised", "measure": "anywhere", "mean": 0.08}],
        "paired": [
            {**cells[0], "who": "gp", "anywhere": summary(0.3)}, {**cells[1], "who": "gp", "anywhere": summary(-0.1)},
        ],
        "floor": [
            {**cell, "who": who, "anywhere": summary(gap)}
            for cell, gaps in zip(cells, ((0.5, 0.2, 0.1), (0.1, 0.2, 0.05)), strict=True)
            for who, gap in zip(("amortised", "gp", "floor"), gaps, strict=True)
        ] + [{**cell, "who": "right", "anywhere": summary(0.0)} for cell in cells],
        "draws": [{**cells[1], "median": 30.0, "below_4": 0.1, "enough": 0.95, "refined": 0.1, "tempered": 0.05}],
        "calibration": [{"kind": "held-out", "who": "amortised", "coverage": {"0.5": summary(0.51), "0.9": summary(0.93), "0.95": summary(0.95)}}],
        "sanity": {"amortised": {"order": 0.0, "columns": 1e-3, "affine": 1e-12}},
        "costs": [{"case": "n100-d6", "who": "amortised", "median": 0.02, "least": 0.02}],
    }  # fmt: skip
    found = [(row["check"].split(",")[0], row["passed"]) for row in checks(joined)]
    assert found == [
        ("mean gap", True), ("gap minus that of gp", False), ("mean above the floor", False),
        ("below gp where that is 0.03 above the floor", False), ("below right where that is 0.03 above the floor", True),
        ("told values in 50 % intervals", True), ("told values in 90 % intervals", False),
        ("told values in 95 % intervals", True), ("effective draws of 64", True), ("below 4 effective draws", False),
        ("at least 0.3 of the draws effective", True), ("change of means", True), ("change of means", False),
        ("change of means", True), ("CPU seconds of a fit", True),
    ]  # fmt: skip


def test_costs_are_seconds_of_fits() -> None:
    small = HyperNetwork(HyperShape())
    case = next(iter(CASES))
    for who in ("amortised", "gp"):
        found = cost(case, who, small)
        assert 0.0 < found["least"] <= found["median"]


def test_the_floor_is_written_cell_by_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "floor.json"
    write_floor(path, (Cell("plain", 1, 8),), particles=8)
    kept = path.read_text()
    write_floor(path, (Cell("plain", 1, 8),), particles=8)
    assert path.read_text() == kept and capsys.readouterr().out.count("nats above") == 1
    assert len(json.loads(kept)["cells"]["plain-d1-n8"]["anywhere"]) == TASKS


def test_three_answers_to_the_same_rows(weights: tuple[Path, Path], tmp_path: Path) -> None:
    found = draw_answers(tmp_path / "new" / "three.png", weights[1], particles=32)
    assert (tmp_path / "new" / "three.png").read_bytes()[:4] == b"\x89PNG"
    assert set(found.beliefs) == {"fitted", "amortised", "bayes"} and set(found.nats) == {"fitted", "amortised"}
    again = answer(weights[1], particles=32, points=5)
    assert again.nats["fitted"] > 0.0 and again.beliefs["bayes"].middle().shape == (1, 5)


def test_beliefs_of_weights_that_are_not_there(tmp_path: Path) -> None:
    from bbopt.errors import ValueRefused

    with pytest.raises(ValueRefused, match="expected a safetensors file"):
        draw_beliefs(tmp_path, tmp_path / "none")
