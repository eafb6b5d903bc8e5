"""The training loop with a small subject: what it asks of it, what it logs and saves, which configurations it refuses."""

from __future__ import annotations

import doctest
import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from line_subject import Line, LineShape, LineSubject, Span

from bbopt.errors import UsageError, ValueRefused
from surrogates.training.checkpoint import CHECKPOINT
from surrogates.training.loop import LOG, WEIGHTS, Record, train
from surrogates.training.recipe import Training, configuration, configurations
from surrogates.training.weights import add_facts, load_tensors, load_weights


@dataclass(frozen=True)
class OtherSubject(LineSubject):
    """The same with a field of its own."""

    colour: str = "red"


SHORT = Training(LineSubject(), seed=3, steps=6, rate=0.05, warmup=1, workers=0, every=2)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def make(shape: Mapping[str, Any]) -> Line:
    return Line(LineShape(**shape))


def test_it_learns(tmp_path: Path) -> None:
    path = train(replace(SHORT, steps=300, rate=0.02, every=50), tmp_path)
    network, header = load_weights(path, make)
    torch.testing.assert_close(network.weight, torch.ones(1, 2), atol=0.02, rtol=0.0)
    assert header["steps"] == 300 and header["training"]["shape"] == {"inputs": 2} == header["shape"]
    assert lines(tmp_path)[-1]["loss"] < 1e-3 * lines(tmp_path)[0]["loss"]


def test_a_line_of_the_log_holds_the_means_of_what_the_subject_says(tmp_path: Path) -> None:
    """Means leave out what is not finite; a number that never is stays in the log, as null."""
    records: list[Record] = []
    train(SHORT, tmp_path, records.append)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6]
    assert list(lines(tmp_path)[0]) == [
        *("step", "seconds", "share", "loss", "progress", "dice", "never", "odd", "off", "gradient", "rate")
    ]
    assert [line["progress"] for line in lines(tmp_path)] == pytest.approx([0.5 / 6, 2.5 / 6, 4.5 / 6])
    assert all(line["never"] is None and line["odd"] == 1.0 for line in lines(tmp_path))
    assert [record.to_json() for record in records] == lines(tmp_path)
    assert math.isnan(records[0].numbers["never"])
    dice = [float(torch.rand((), generator=torch.Generator().manual_seed((3_000_009 + i) * 64))) for i in range(2)]
    assert lines(tmp_path)[0]["dice"] == pytest.approx(sum(dice) / 2, rel=1e-6)


def test_batches_from_workers_are_those_drawn_here(tmp_path: Path) -> None:
    """Tensors of no dimension travel as well."""
    train(SHORT, tmp_path / "none")
    train(replace(SHORT, workers=2), tmp_path / "two")
    none, two = (load_tensors(tmp_path / name / CHECKPOINT)[0] for name in ("none", "two"))
    assert none.keys() == two.keys() and all(part.equal(two[name]) for name, part in none.items())


def test_a_training_of_another_subject_is_refused(tmp_path: Path) -> None:
    train(replace(SHORT, subject=OtherSubject()), tmp_path)
    with pytest.raises(UsageError, match=r"holds a training of another kind \(.*got colour\); give another folder"):
        train(SHORT, tmp_path)
    with pytest.raises(UsageError, match="holds a training with another bend, colour"):
        train(replace(SHORT, subject=OtherSubject(bend=0.5, colour="blue")), tmp_path)


def test_fields_of_the_subject_stand_beside_those_of_the_training() -> None:
    data = {"steps": 3, "span": {"rows": [2, 3], "mirrored": True}, "bend": -1, "minutes": None}
    made = Training.from_json(data, LineSubject)
    assert made == Training(LineSubject(Span((2, 3), mirrored=True), bend=-1), steps=3)
    assert (
        made.to_json()["span"] == {"rows": [2, 3], "scale": 1.0, "mirrored": True} and "subject" not in made.to_json()
    )
    assert Training.from_json(made.to_json(), LineSubject) == made


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"subject": {}}, "expected names of bend, .*; got subject"),
    ({"span": 3}, "span: expected an object"),
    ({"span": {"cols": 1}}, "span: expected names of mirrored, rows, scale; got cols"),
    ({"span": {"mirrored": 1}}, "span.mirrored: expected true or false, got 1"),
    ({"span": {"scale": True}}, "span.scale: expected a number, got True"),
    ({"span": {"rows": [1, "2"]}}, "span.rows: expected a whole number, got '2'"),
    ({"span": {"rows": 4}}, "span.rows: expected a list of 2 values, got 4"),
    ({"bend": float("inf")}, "bend: expected a number, got inf"),
    ({"rate": 0, "bend": 2, "shape": {"inputs": 0}}, r"rate above 0, got 0; shape.inputs of at least 1, got 0; bend below 1, got 2"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), WRONG)
def test_wrong_configurations_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Training.from_json({"steps": 1, **data}, LineSubject)


def test_configurations_are_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "fast.json").write_text('{"steps": 1}')
    (tmp_path / "slow.json").write_text("[]")
    assert configurations(tmp_path) == ["fast", "slow"]
    assert configuration("fast", tmp_path) == {"steps": 1} == configuration(str(tmp_path / "fast.json"), Path("/none"))
    with pytest.raises(UsageError, match="expected a JSON object in slow, got list"):
        configuration("slow", tmp_path)
    with pytest.raises(UsageError, match=r"expected a configuration \(fast, slow\) or a JSON file .* got 'medium'"):
        configuration("medium", tmp_path)


def test_weights_of_another_network_are_refused_and_facts_are_added(tmp_path: Path) -> None:
    path = train(SHORT, tmp_path)
    add_facts(path, {"evaluation": {"gap": 0.5}})
    header = load_weights(path, make)[1]
    assert header["evaluation"] == {"gap": 0.5} and header["steps"] == 6 and path.name == WEIGHTS
    with pytest.raises(ValueRefused, match="not those that their header names"):
        load_weights(path, lambda shape: torch.nn.Linear(3, 1))
    with pytest.raises(ValueRefused, match="not those that their header names"):
        load_weights(path, lambda shape: LineShape(**shape, more=1))


MODULES = ("batches", "fields", "group", "loop", "recipe", "threads", "weights")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_the_docstrings_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"surrogates.training.{name}"))
    assert result.failed == 0 and result.attempted > 0
