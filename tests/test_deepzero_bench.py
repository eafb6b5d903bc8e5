"""The benchmark of DeepZero's parts: what it judges, what it keeps, how it ends; and its main claims over seeds (slow)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bbopt.bench_deepzero.cells as cells
import bbopt.bench_deepzero.run as bench
from bbopt.bench_deepzero.cells import Outcome, Result, Row, outcomes
from bbopt.bench_deepzero.parts import CNN, MLP, PARTS, Part, Verdict
from bbopt.zeroth_order.training.recipe import Recipe
from bbopt.zeroth_order.training.update import Update

BY_NAME = {part.name: part for part in PARTS}
TINY = Recipe(network="mlp-64-2-10", epochs=1, batch=1437)


def result(*accuracies: float, seconds: float = 1.0) -> Result:
    return Result(tuple(Outcome(each, 100, seconds) for each in accuracies))


def judged(part: Part, **changed: Result) -> list[bool]:
    """Verdicts where rows whose label has all words of a name (joined by _) have these results, and all others 92 %."""
    found = {row.label: result(92.0) for row in part.rows(False)}
    for words, value in changed.items():
        for label in found:
            if all(word in label for word in words.split("_")):
                found[label] = value
    assert all(isinstance(text, str) for text in part.notes(found))
    return [verdict.holds for verdict in part.judge(found)]


def test_dense_estimates_are_held_to_half_a_point_and_one_and_a_half() -> None:
    part = BY_NAME["dense"]
    assert judged(part) == [True, True]
    assert judged(part, MLP_CGE=result(92.4, 92.6)) == [True, True]
    assert judged(part, MLP_CGE=result(91.0, 91.9)) == [False, True]
    assert judged(part, CNN_CGE=result(90.6), MLP_CGE=result(92.6)) == [False, True]
    assert judged(part, CNN_CGE=result(90.4)) == [True, False]


def test_random_directions_are_held_against_accuracy_and_cpu_of_the_same_seed() -> None:
    part, many = BY_NAME["random"], "directions_2,410"
    assert judged(part, **{many: result(92.0, seconds=5.0)}) == [True, True]
    assert judged(part, **{many: result(92.0, seconds=4.9)}) == [True, False]
    assert judged(part, **{many: result(92.6, seconds=9.0)}) == [False, True]


def test_sparse_estimates_are_held_to_ninety_one_percent() -> None:
    part = BY_NAME["sparse"]
    slow = {"frozen": result(85.0), "rate 3": result(math.nan)}
    assert judged(part, **slow) == [True] * 9
    assert judged(part, **{"epoch": result(90.9)}, **slow) == [False, True, True] * 3
    assert judged(part, **{**slow, "uniform_frozen": result(90.0)}) == [True] * 7 + [False, True]
    assert judged(part, **{**slow, "rate 3": result(61.0)}) == [True, True, False] * 3


def test_scores_are_held_to_five_points() -> None:
    part = BY_NAME["ratios"]
    assert judged(part) == [False, False]
    assert judged(part, uniform=result(87.0)) == [True, True]
    assert judged(part, **{"90%_uniform": result(87.0), "95%_uniform": result(87.1)}) == [True, False]


def test_a_training_without_a_finite_loss_counts_as_a_guess() -> None:
    found = result(90.0, math.nan)
    assert (found.mean, found.diverged) == (50.0, 1) and found.spread == pytest.approx(56.57, abs=0.01)


def test_trainings_are_kept_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    train = cells.train_network

    def counted(recipe: Recipe, **options: Any) -> Any:
        made.append(recipe.seed)
        return train(recipe, **options)

    monkeypatch.setattr(cells, "train_network", counted)
    row = Row("tiny", TINY, 2)
    first = outcomes(row, tmp_path, lambda text: None)
    assert made == [0, 1] and first.outcomes[0].queries == 161 and first.seconds > 0.0
    again = outcomes(replace(row, seeds=3), tmp_path, lambda text: None)
    assert made == [0, 1, 2] and again.outcomes[:2] == first.outcomes
    lost = Row("lost", replace(TINY, network="mlp-64-8-10", epochs=3, update=Update(rate=1e30)), 1)
    for _ in range(2):
        assert outcomes(lost, tmp_path, lambda text: None).diverged == 1
    assert made == [0, 1, 2, 0] and not list(tmp_path.glob("*.part"))


def test_it_prints_a_table_verdicts_and_notes_and_ends_by_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part = Part("small", "A small part", lambda quick: [Row("tiny", TINY, 1 if quick else 2)],
                lambda results: [Verdict("more than guessing", results["tiny"].mean > 200.0), Verdict("fine", True)],
                lambda results: ["a note"], quick=False)  # fmt: skip
    monkeypatch.setattr(bench, "PARTS", (part,))
    assert bench.main(["--out", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    for words in (
        "A small part",
        "accuracy %",
        "MISS more than guessing",
        "ok   fine",
        "note: a note",
        "1 thresholds missed",
    ):
        assert words in text
    assert bench.main(["--out", str(tmp_path), "--quick"]) == 0
    assert "not judged: one seed says too little here" in capsys.readouterr().out


def test_ctrl_c_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cells, "train_network", interrupted)
    assert bench.main(["--out", str(tmp_path), "--part", "dense"]) == 130
    assert "the same command goes on from here" in capsys.readouterr().err


def test_the_trainings_are_those_that_the_thresholds_were_measured_on() -> None:
    assert (MLP.steps(1437), CNN.steps(1437)) == (240, 96)
    assert MLP.update == CNN.update == Update(rate=0.1, momentum=0.9, decay=5e-4)
    assert (MLP.estimate.radius, CNN.estimate.radius) == (5e-3, 1e-3)
    rows = {row.label: row.recipe for part in PARTS for row in part.rows(False)}
    assert all(row.sparsity.interval == 1 for label, row in rows.items() if "by epoch" in label)
    assert rows["95% sparse, uniform shares"].sparsity.keep == 0.05
    for part in PARTS:
        labels = [row.label for row in part.rows(False)]
        assert len(set(labels)) == len(labels) and {row.label for row in part.rows(True)} <= set(labels)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "sparse"])
def test_the_claims_hold(name: str, tmp_path: Path) -> None:
    """Dense estimates train as backpropagation does (3 seeds each); a tenth of the weights is enough at rate 1 (10 seeds)."""
    part = BY_NAME[name]
    results = {row.label: outcomes(row, tmp_path, lambda text: None) for row in part.rows(False)}
    assert [verdict.text for verdict in part.judge(results) if not verdict.holds] == []
