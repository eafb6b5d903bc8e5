"""Derivatives that are told with results: what is refused, what is kept, and in which units strategies get them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import bbopt
from bbopt.cli import main
from bbopt.derivatives import encoded_slopes, read_gradient
from bbopt.errors import AlreadyTold, ValueRefused
from bbopt.query import Values

SPACE = bbopt.Space(
    x=bbopt.Float(-1, 3),
    y=bbopt.Float(0.01, 100, log=True, shape=(2,)),
    z=bbopt.Float(scale=4.0),
    n=bbopt.Int(1, 5),
    kind=bbopt.Categorical(["a", "b"]),
    extra=bbopt.Float(0, 1, when="kind == 'b'"),
)
TASK = bbopt.Task(
    SPACE,
    objectives=[bbopt.Objective("gain", maximize=True)],
    constraints=[bbopt.Constraint("stress", lower=-1.0, upper=250.0)],
)
POINT = {"x": 0.5, "y": [1.0, 2.0], "z": 0.3, "n": 2, "kind": "a"}
RESULT = {"gain": 3.0, "stress": 20.0}
SLOPES = {"gain": {"x": 0.25, "y": [1.0, -2.0]}, "stress": {"z": 5.0}}


def study(**options: Any) -> bbopt.Optimizer:
    return bbopt.Optimizer(TASK, strategy="random", **options)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ([1.0], "expected a mapping from parameters"),
        ({"x": 1.0}, "expected a mapping from metrics"),
        ({"loss": {"x": 1.0}}, "unknown metric 'loss'"),
        ({"gain": {"w": 1.0}}, "unknown parameter 'w'"),
        ({"gain": {"n": 1.0}}, "'n' is Int"),
        ({"gain": {"kind": 1.0}}, "'kind' is Categorical"),
        ({"gain": {"y": [1.0]}}, "expected numbers of shape \\(2,\\)"),
        ({"gain": {"y": [1.0, float("nan")]}}, "expected finite numbers"),
        ({"gain": {"x": float("nan")}}, "expected a finite number"),
        ({"gain": {"x": "steep"}}, "expected a number"),
        ({"gain": {"extra": 1.0}}, "'extra' does not exist at this point"),
    ],
)
def test_what_is_no_derivative_is_refused_and_leaves_no_trace(told: Any, says: str) -> None:
    opt = study()
    trial = opt.enqueue(POINT)
    opt.ask()
    before = opt.position
    with pytest.raises(ValueRefused, match=says):
        opt.tell(trial, RESULT, gradient=told)
    with pytest.raises(ValueRefused, match=says):
        opt.add(POINT, RESULT, gradient=told)
    assert opt.position == before and opt.trial(0).status == "open"


def test_derivatives_are_kept_as_told_through_the_store_and_corrections(tmp_path: Path) -> None:
    store = tmp_path / "runs.db"
    opt = study(store=store)
    trial = opt.enqueue(POINT)
    opt.ask()
    opt.tell(trial, RESULT, gradient=SLOPES)
    position = opt.position
    opt.tell(trial, RESULT, gradient=SLOPES)
    assert opt.position == position  # the same payload twice is a no-op
    with pytest.raises(AlreadyTold):
        opt.tell(trial, RESULT)
    opt.close()
    opt = bbopt.Optimizer.open(store)
    assert opt.trial(0).gradient == SLOPES and opt.trial(0).to_json()["gradient"] == SLOPES
    opt.amend(0, RESULT, gradient={"gain": {"x": 1.0}})
    assert opt.trial(0).gradient == {"gain": {"x": 1.0}}
    opt.amend(0, RESULT)
    assert opt.trial(0).gradient == {}
    opt.retract(0)
    opt.tell(0, RESULT, gradient=SLOPES)
    assert opt.trial(0).gradient == SLOPES
    opt.retract(0)
    assert opt.trial(0).gradient == {}
    opt.tell(0, RESULT)
    assert opt.trial(0).gradient == {}


def test_a_strategy_that_does_not_learn_from_them_says_so_in_the_trials_note() -> None:
    opt = study()
    assert "does not learn from them" in opt.add(POINT, RESULT, gradient=SLOPES).note
    assert opt.add({**POINT, "x": 0.6}, RESULT).note == ""
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)))
    model = bbopt.Optimizer(task, strategy="gp")
    assert model.add({"x": 0.5}, 1.0, gradient={"x": 2.0}).note == ""


def test_a_csv_file_brings_them_along(tmp_path: Path) -> None:
    opt = study()
    opt.add(POINT, RESULT, gradient=SLOPES)
    opt.add({**POINT, "x": 0.6}, RESULT)
    opt.to_csv(tmp_path / "all.csv")
    other = study()
    other.from_csv(tmp_path / "all.csv")
    assert [trial.gradient for trial in other.trials()] == [SLOPES, {}]
    plain = study()
    plain.add(POINT, RESULT)
    plain.to_csv(tmp_path / "plain.csv")
    assert "gradient" not in (tmp_path / "plain.csv").read_text()
    bad = (tmp_path / "all.csv").read_text().replace('""x"": 0.25', '""w"": 0.25')
    (tmp_path / "bad.csv").write_text(bad)
    with pytest.raises(ValueRefused, match=r"line 2.*unknown parameter 'w'"):
        study().from_csv(tmp_path / "bad.csv")


def test_the_command_line_tells_them(tmp_path: Path) -> None:
    store = str(tmp_path / "runs.db")
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)))
    bbopt.Optimizer(task, strategy="random", store=store, name="curve").close()

    def run(*words: str, code: int = 0, text: str | None = None) -> str:
        done = CliRunner().invoke(main, list(words), input=text)
        assert done.exit_code == code, done.output
        return done.output

    run("ask", store, "curve", "-n", "2")
    run("tell", store, "curve", "0", "0.3", "--gradient", '{"x": -1.5}')
    run("tell", store, "curve", "-", text='{"number": 1, "values": 0.5, "gradient": {"x": 2}}')
    run("add", store, "curve", "x=0.5", "--value", "1", "--gradient", '{"x": 3}')
    run("amend", store, "curve", "0", "0.4", "--gradient", '{"x": -2}')
    with bbopt.Optimizer.open(store, "curve") as opt:
        assert [trial.gradient["objective"]["x"] for trial in opt.trials()] == [-2.0, 2.0, 3.0]
    assert "unknown parameter" in run("amend", store, "curve", "0", "0.4", "--gradient", '{"w": 1}', code=1)
    assert "expected a mapping" in run("amend", store, "curve", "0", "0.4", "--gradient", "steep", code=1)


def test_one_metric_takes_both_forms() -> None:
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)))
    assert read_gradient(task, {"x": 1}) == read_gradient(task, {"objective": {"x": 1.0}}) == {"objective": {"x": 1.0}}
    assert read_gradient(task, {}) == read_gradient(task, None) == {}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_encoded_derivatives_are_those_of_the_inside_columns(seed: int) -> None:
    """Against differences of a smooth function over encoded columns: signs, both limits, log axes, scales."""
    rng = np.random.default_rng(seed)
    row = SPACE.canonical(0.05 + 0.9 * SPACE.from_uniform(rng.random((1, SPACE.dimension))))[0]
    point = SPACE.decode(row)
    a = rng.standard_normal(4)

    def metrics(x: np.ndarray) -> np.ndarray:
        """The inside columns at continuous encoded ones, by the axes' own decoding without rounding."""
        value = np.array([-1 + 4 * x[0], *(0.01 * 10_000 ** x[1:3]), 4.0 * x[3]])
        gain, stress = float(np.sin(a * value / 5).sum()), float((a * value**2).sum())
        return np.concatenate(TASK.to_inside({"gain": gain, "stress": stress}))

    value = np.array([point["x"], *point["y"], point["z"]])
    gain, stress = np.cos(a * value / 5) * a / 5, 2 * a * value
    told = {name: {"x": g[0], "y": g[1:3], "z": g[3]} for name, g in (("gain", gain), ("stress", stress))}
    slopes = encoded_slopes(TASK, row, read_gradient(TASK, told))
    steps = 1e-6 * np.eye(4)
    expected = np.array([(metrics(row[:4] + e) - metrics(row[:4] - e)) / 2e-6 for e in steps]).T
    np.testing.assert_allclose(slopes[:, :4], expected, rtol=1e-4, atol=1e-4)
    assert np.isnan(slopes[:, 4:]).all()


def test_array_level_values_have_no_place_for_them() -> None:
    opt = bbopt.Optimizer(bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1))), strategy="random")
    query = opt.ask_query()
    plain = Values.of(np.zeros((query.size, 1)))
    slopes = np.zeros((query.size, 1, 1))
    told = Values(plain.Y, plain.G, plain.std, plain.cost, plain.status, plain.rows, slopes)
    with pytest.raises(ValueRefused, match="row by row"):
        opt.tell_query(query, told)
