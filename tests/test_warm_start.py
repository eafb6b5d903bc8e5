"""Earlier studies as a start for a new one: their data, what is refused, and what they bring or cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import bbopt
from bbopt.cli import main
from bbopt.earlier_data import encode_earlier
from bbopt.errors import UsageError
from bbopt.strategies.gp import GP

SPACE = bbopt.Space(x=bbopt.Float(-5, 10), y=bbopt.Float(0, 15))
TASK = bbopt.Task(SPACE)


def branin(x: float, y: float) -> float:
    return float(
        (y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6) ** 2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10
    )


def shifted(x: float, y: float) -> float:
    return 5.0 * branin(min(x + 1.0, 10.0), max(y - 1.0, 0.0)) + 100.0


def misleading(x: float, y: float) -> float:
    return -branin(x, y)


def told(function: Any, rows: int = 30, seed: int = 0, task: bbopt.Task = TASK) -> bbopt.Optimizer:
    """A study with space-filling rows."""
    opt = bbopt.Optimizer(task, strategy="random", seed=seed)
    for _ in range(rows):
        trial = opt.ask()
        opt.tell(trial, function(**trial.params))
    return opt


def regret(evaluations: int, seed: int, earlier: tuple[Mapping[str, Any], ...] = ()) -> float:
    """log10 of the distance to the optimum's value."""
    opt = bbopt.Optimizer(TASK, GP(search="whole", earlier=earlier), seed=seed)
    for _ in range(evaluations):
        trial = opt.ask()
        assert "failed" not in trial.note
        opt.tell(trial, branin(**trial.params))
    best = opt.best()
    assert best is not None and best.values is not None
    return float(np.log10(max(best.values["objective"] - 0.39788736, 1e-4)))


def test_a_like_study_saves_evaluations() -> None:
    """Eight evaluations, two seeds: half a decade and more below those that start from nothing."""
    like = [regret(8, seed, (bbopt.earlier(told(shifted, seed=seed)),)) for seed in range(2)]
    cold = [regret(8, seed) for seed in range(2)]
    assert np.mean(like) < np.mean(cold) - 0.5


@pytest.mark.slow
def test_a_misleading_study_costs_little() -> None:
    false = [regret(18, seed, (bbopt.earlier(told(misleading, seed=seed)),)) for seed in range(4)]
    cold = [regret(18, seed) for seed in range(4)]
    assert np.mean(false) < np.mean(cold) + 0.7


def test_the_first_row_is_the_best_of_the_earlier_study() -> None:
    old = told(branin)
    trial = bbopt.Optimizer(TASK, GP(), earlier=[old]).ask()
    best = old.best()
    assert best is not None and trial.params == pytest.approx(best.params)


def test_earlier_data_is_json_and_stays_with_the_study(tmp_path: Path) -> None:
    data = bbopt.earlier(told(branin, 12))
    assert json.loads(json.dumps(data)) == data
    store = tmp_path / "runs.db"
    opt = bbopt.Optimizer(TASK, "gp", earlier=[data], store=store, seed=1)
    plain = bbopt.Optimizer(TASK, GP(earlier=(data,)), seed=1)
    for i in range(6):
        if i == 4:
            opt.close()
            opt = bbopt.Optimizer.open(store)
        trials = opt.ask(), plain.ask()
        assert trials[0].params == trials[1].params
        for study, trial in zip((opt, plain), trials, strict=True):
            study.tell(trial, branin(**trial.params))
    assert opt.strategy == plain.strategy
    again = bbopt.Optimizer.create_or_open(TASK, store=store, earlier=[told(misleading, 3)])
    assert again.strategy == plain.strategy  # an existing study keeps what it began with


def test_another_space_needs_values_for_what_is_new_and_names_for_what_goes() -> None:
    old = told(branin, 6)
    wider = bbopt.Task(bbopt.Space(x=bbopt.Float(-5, 4), y=bbopt.Float(0, 15), steel=bbopt.Categorical(["a", "b"])))
    with pytest.raises(UsageError, match="has no parameter steel; say which value it had"):
        bbopt.Optimizer(wider, "gp", earlier=[old])
    rows, values = encode_earlier(wider, bbopt.earlier(old, fixed={"steel": "b"}))
    inside = [trial for trial in old.trials() if trial.params["x"] <= 4]
    assert len(rows) == len(values) == len(inside) and (rows[:, 2] == 1.0).all()
    narrow = bbopt.Task(bbopt.Space(x=bbopt.Float(-5, 10)))
    with pytest.raises(UsageError, match="leave it out by earlier"):
        bbopt.Optimizer(narrow, "gp", earlier=[old])
    assert encode_earlier(narrow, bbopt.earlier(old, drop=["y"]))[0].shape == (6, 1)
    far = bbopt.Task(bbopt.Space(x=bbopt.Float(100, 110), y=bbopt.Float(0, 15)))
    with pytest.raises(UsageError, match="no point of the earlier study lies in"):
        bbopt.Optimizer(far, "gp", earlier=[old])
    other = bbopt.Task(SPACE, [bbopt.Objective("cost")])
    with pytest.raises(UsageError, match="no values of cost"):
        bbopt.Optimizer(other, "gp", earlier=[old])


@pytest.mark.parametrize("bad", [{"points": [], "values": []}, {"points": [1], "values": [2]}, "text", {}])
def test_what_is_no_earlier_data_is_refused(bad: Any) -> None:
    with pytest.raises(UsageError, match="expected earlier data"):
        GP(earlier=(bad,))


def test_who_cannot_learn_from_it_says_so() -> None:
    old = told(branin, 3)
    with pytest.raises(UsageError, match="does not learn from earlier studies"):
        bbopt.Optimizer(TASK, "random", earlier=[old])
    with pytest.raises(UsageError, match="a list of studies"):
        bbopt.Optimizer(TASK, "gp", earlier=bbopt.earlier(old))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="none was told"):
        bbopt.earlier(bbopt.Optimizer(TASK, "random"))
    with pytest.raises(UsageError, match="neither with acquisition"):
        GP(earlier=(bbopt.earlier(old),), acquisition="penalty")


@pytest.mark.parametrize("noise", [None, pytest.param("unknown", marks=pytest.mark.slow)])
def test_constraints_failures_categories_and_pending_points_go_along(noise: Any) -> None:
    """The earlier study has no such constraint; the sign of what is maximised is kept."""
    space = bbopt.Space(x=bbopt.Float(0, 1), y=bbopt.Float(0, 1), kind=bbopt.Categorical(["a", "b"]))
    gain = bbopt.Objective("gain", maximize=True, noise=noise)
    old = bbopt.Optimizer(bbopt.Task(space, [gain]), strategy="random", seed=1)
    task = bbopt.Task(space, [gain], constraints=[bbopt.Constraint("load", upper=1.0, noise=noise)])
    for trial in old.ask(15):
        old.tell(trial, trial.params["x"] * trial.params["y"])
    opt = bbopt.Optimizer(task, GP(), earlier=[old, old], seed=0)
    for i in range(6):
        trial = opt.ask(2)[0]
        assert "failed" not in trial.note
        if i == 5:
            opt.fail(trial, impossible=True)
        else:
            opt.tell(
                trial, {"gain": trial.params["x"] * trial.params["y"], "load": trial.params["x"] + trial.params["y"]}
            )
    assert opt.recommend() is not None


def test_strange_earlier_values_never_break_an_ask() -> None:
    for values in ([1.0] * 8, [1e300, -1e300] * 4, [0.0, 1e-300] * 4):
        data = {
            "points": [{"x": float(i), "y": float(i % 3)} for i in range(8)],
            "values": [{"objective": v} for v in values],
        }
        opt = bbopt.Optimizer(TASK, GP(earlier=(data,)), seed=0)
        for _ in range(5):
            trial = opt.ask()
            assert trial.note == ""
            opt.tell(trial, branin(**trial.params))


def test_the_command_line_starts_from_another_study(tmp_path: Path) -> None:
    store, task = str(tmp_path / "runs.db"), tmp_path / "task.json"
    task.write_text(json.dumps(TASK.to_json()))
    old = bbopt.Optimizer(TASK, strategy="random", store=store, name="old")
    for trial in old.ask(5):
        old.tell(trial, branin(**trial.params))
    done = CliRunner().invoke(
        main, ["create", store, "new", "--task", str(task), "--strategy", "gp", "--earlier", f"{store}:old"]
    )
    assert done.exit_code == 0 and len(done.output) < 600, done.output
    with bbopt.Optimizer.open(store, "new") as new:
        assert new.strategy.earlier == (bbopt.earlier(old),)  # type: ignore[attr-defined]
    bad = CliRunner().invoke(main, ["create", store, "other", "--task", str(task), "--earlier", "old"])
    assert bad.exit_code == 2 and "STORE:STUDY" in bad.output
