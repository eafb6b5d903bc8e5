"""What `python -m bbopt.bench_zo` prints, and when its exit status is 1."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch

from bbopt import bench_zo
from bbopt.bench_zo import CNN, DEEP, MLP, Case, Line, Table, main, measure, missed, residual, show


def table(name: str, **seconds: float) -> Table:
    """A table in which the plain loop takes one second."""
    models = {"naive": 1.0, "staged": 1.78 if name == DEEP else 2.1}
    lines = {
        engine: Line(engine, 43 if engine == "units" else 100, each, engine == "naive", models.get(engine))
        for engine, each in {"naive": 1.0, **seconds}.items()
    }
    return Table(Case(name, "mlp", (32,), 8), 99, lines)


def good() -> list[Table]:
    return [
        table(MLP, staged=1.0, delta=1 / 6.1, units=1 / 81),
        table(DEEP, staged=1 / 1.4, delta=0.5, units=0.1),
        table(CNN, staged=1 / 2.1, delta=1 / 6.1),
    ]


def test_thresholds() -> None:
    """Facts, section 6, check 5."""
    assert missed(good()) == []
    for change, words in (
        ((0, {"delta": 1 / 5.9}), f"delta below 6x on {MLP}"),
        ((0, {"units": 1 / 79}), f"units below 80x on {MLP}"),
        ((1, {"staged": 1 / 1.0}), f"staged not within 40 % of the model on {DEEP}"),
        ((1, {"staged": 1 / 2.6}), f"staged not within 40 % of the model on {DEEP}"),
        ((2, {"staged": 1 / 1.9}), f"staged below 2x on {CNN}"),
        ((2, {"delta": 1 / 5.9}), f"delta below 6x on {CNN}"),
    ):
        tables = good()
        (position, seconds), lines = change, dict(tables[change[0]].lines)
        for engine, each in seconds.items():
            lines[engine] = dataclasses.replace(lines[engine], seconds=each)
        tables[position] = dataclasses.replace(tables[position], lines=lines)
        assert missed(tables) == [words]
    tables = good()
    units = dataclasses.replace(tables[0].lines["units"], queries=44)
    tables[0] = dataclasses.replace(tables[0], lines={**tables[0].lines, "units": units})
    assert missed(tables) == [f"units: not one query per unit and one more on {MLP}"]
    assert missed([]) == [f"{name} was not measured" for name in (CNN, DEEP, MLP)]


def test_a_run_at_a_small_size(capsys: pytest.CaptureFixture[str]) -> None:
    cases = (Case("perceptron", "mlp", (5,), 8), Case("convolution", "cnn", (2,), 8))
    threads = torch.get_num_threads()
    assert main([], cases=cases, sample=4, rounds=1) == 1
    assert torch.get_num_threads() == threads
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "perceptron, 385 scalars, batch 8"
    assert printed[-1] == f"verdict: missed: {CNN} was not measured; {DEEP} was not measured; {MLP} was not measured"
    engines = [line.split()[0] for line in printed if re.match(r"  (naive|vmap|staged|delta|units) ", line)]
    assert engines == ["naive", "vmap", "staged", "delta", "units", "naive", "vmap", "staged", "delta"]
    scaled = {line.split()[0] for line in printed if "~" in line}
    assert scaled == {"naive", "vmap", "staged"}, "what was timed on a part says so"


def test_a_table_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(Case("perceptron", "mlp", (5,), 8), sample=4, rounds=1, patience=0.0)
    assert found.size == 64 * 5 + 5 + 5 * 10 + 10
    assert {name: line.queries for name, line in found.lines.items()} == {
        "naive": 386, "vmap": 386, "staged": 386, "delta": 386, "units": 16,
    }  # fmt: skip
    assert all(
        line.cosine is not None and line.cosine > 0.999
        for name, line in found.lines.items()
        if name in ("delta", "units")
    )
    assert found.speedup("naive") == 1.0
    assert "CPU s" in show(found)[1]
    monkeypatch.setattr(bench_zo, "CASES", ())
    assert main(["nonsense"]) == 2


def test_the_residual_network_at_a_small_size() -> None:
    lines = residual(sample=1, batch=4, size=8)
    assert lines[0].startswith("ResNet-20, 269,722 scalars, batch 4") and lines[-1] == "verdict: good"
    assert re.search(r"dense step by delta: ~[\d,]+ CPU s", lines[2])
