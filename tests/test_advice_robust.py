"""Advice on awkward studies, its pictures and page, and the command `bbopt advise`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_shell import read, refused, run

import bbopt
from bbopt import advice
from bbopt.advice import figures
from bbopt.advice.page import advise

LINE = bbopt.Space(x=bbopt.Float(0, 1))
PLANE = bbopt.Space(x=bbopt.Float(0, 1), n=bbopt.Int(1, 4))


def told(task: bbopt.Task, values: list[Any], strategy: Any = "random") -> bbopt.Optimizer:
    opt = bbopt.Optimizer(task, strategy, seed=4)
    for value in values:
        opt.tell(opt.ask(), value)
    return opt


def everything(opt: bbopt.Optimizer, folder: Path | None = None) -> Any:
    """All advice, with its words and, in a folder, its page."""
    found = advise(opt)
    if folder is not None:
        page = advice.write_advice(found, folder)
        assert page.read_text("utf-8").rstrip().endswith("</html>")
    for part in (found.stopping, found.quality, found.importance, *found.slices, found.contour):
        if part is not None:
            assert part.summary() and part.to_json()
    return found


AWKWARD: dict[str, list[float]] = {
    "one": [1.0],
    "two": [1.0, 2.0],
    "constant": [3.0] * 8,
    "huge": [1e300, -1e300, 1.0, 1e299, 5.0, 7.0],
    "tiny": [1e-300, 2e-300, 3e-300, 1.5e-300, 1e-300],
    "decades": [10.0**k for k in range(-8, 9)],
}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_values(name: str, tmp_path: Path) -> None:
    found = everything(told(bbopt.Task(PLANE), AWKWARD[name]), tmp_path if name in ("constant", "huge") else None)
    assert found.stopping is not None and found.stopping.verdict in ("unclear", "go on", "little left", "stop")
    if len(AWKWARD[name]) < 3:
        assert found.quality is None and found.importance is None and found.stopping.verdict == "unclear"
        assert any("at least 3 told values" in line for line in found.missing)
    if name == "constant":
        assert "nothing to predict" in found.quality.summary() and "no parameter matters" in found.importance.summary()


def test_no_row_is_a_clear_error() -> None:
    opt = bbopt.Optimizer(bbopt.Task(LINE))
    for give in (advice.stopping, advice.quality, advice.importance, advice.slices):
        with pytest.raises(bbopt.UsageError, match=r"told values?, the study has none yet"):
            give(opt)  # type: ignore[operator]
    opt.fail(opt.ask(), "broke", impossible=True)
    with pytest.raises(bbopt.UsageError, match="none yet"):
        advice.contour(opt, "x", "x")


def test_duplicates_one_point_spaces_and_failures() -> None:
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(2, 2), n=bbopt.Int(1, 1)), bbopt.Objective("f", noise="unknown"))
    found = everything(told(task, [1.0, 2.0, 1.5]))
    assert found.stopping is not None
    opt = bbopt.Optimizer(bbopt.Task(PLANE), "random", seed=1)
    for _ in range(30):
        trial = opt.ask()
        if trial.params["x"] > 0.6:
            opt.fail(trial, "mesh", impossible=True)
        else:
            opt.tell(trial, trial.params["x"])
    found = everything(opt)
    along_x = found.slices[0]
    assert along_x.chance[along_x.values > 0.9].max() < 0.5 < along_x.chance[along_x.values < 0.4].min()
    assert any("cannot work" in line for line in found.known.notes)
    assert found.stopping.next["x"] < 0.75


def test_several_objectives_are_judged_one_by_one_and_have_no_stopping(tmp_path: Path) -> None:
    task = bbopt.Task(
        PLANE, [bbopt.Objective("a"), bbopt.Objective("b", maximize=True)], [bbopt.Constraint("g", upper=3.0)]
    )
    opt = bbopt.Optimizer(task, "random", seed=2)
    for _ in range(15):
        trial = opt.ask()
        opt.tell(trial, {"a": trial.params["x"], "b": trial.params["n"], "g": trial.params["x"] + trial.params["n"]})
    found = everything(opt, tmp_path)
    assert found.stopping is None and any(
        "expected one objective, the task has 2 (a, b)" in line for line in found.missing
    )
    assert [one.metric for one in found.quality.metrics] == ["a", "b", "g"]
    assert found.importance.total[0].round(1).tolist() == [1.0, 0.0] and found.importance.total[1].round(
        1
    ).tolist() == [0.0, 1.0]
    with pytest.raises(bbopt.NotHandled, match="expected one objective"):
        advice.stopping(opt)
    assert advice.slices(opt, ["n"], metric="b")[0].median.round(1).tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (bbopt.Space(x=bbopt.Float(0, 1), day=bbopt.Categorical(["mon", "tue"], role="context")), "day has the role 'context'"),
        (bbopt.Space(x=bbopt.Float(0, 1), wind=bbopt.Float(0, 9, role="environment")), "wind has the role 'environment'"),
        (bbopt.Space(x=bbopt.Float(scale=2.0)), "without bounds"),
    ],
)  # fmt: skip
def test_roles_and_unbounded_parameters(space: bbopt.Space, words: str) -> None:
    opt = bbopt.Optimizer(bbopt.Task(space), "random", seed=3)
    for i in range(8):
        trial = opt.ask(context={"day": "mon" if i % 2 else "tue"} if "day" in space.names else None)
        opt.tell(trial, float(trial.params["x"]) + (i % 2))
    found = everything(opt)
    assert found.stopping is None and any(words in line for line in found.missing)
    assert found.quality is not None and found.importance is not None and found.slices


def test_rankings_and_very_wide_spaces_are_refused_by_name() -> None:
    with pytest.raises(bbopt.NotHandled, match="one of rankings"):
        advice.quality(bbopt.Optimizer(bbopt.Task(PLANE, feedback="ranking")))
    wide = bbopt.Optimizer(bbopt.Task(bbopt.Space(w=bbopt.Float(-1, 1, shape=(2000,)))), "random")
    with pytest.raises(bbopt.UsageError, match="2000 columns"):
        advice.importance(wide)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda k: advice.stopping(k, tolerance=-1.0), "tolerance of at least 0"),
        (lambda k: advice.stopping(k, history=-1), "history as a whole number"),
        (lambda k: advice.slices(k, ["y"]), "no column 'y'; expected one of x, n"),
        (lambda k: advice.slices(k, metric="cost"), "no metric 'cost'; it has objective"),
        (lambda k: advice.slices(k, points=1), "points as a whole number of at least 2"),
        (lambda k: advice.slices(k, at={"x": 3.0, "n": 1}), r"x: expected a value within \[0, 1\]"),
        (lambda k: advice.contour(k, "x", "x"), "two different columns"),
        (lambda k: advice.contour(k, "x", "z"), "no column 'z'"),
    ],
)
def test_wrong_arguments(call: Any, words: str) -> None:
    with pytest.raises(bbopt.BboptError, match=words):
        call(advice.studied(told(bbopt.Task(PLANE), [1.0, 2.0, 3.0])))


def test_a_study_of_gp_keeps_its_model_and_every_other_is_told_so() -> None:
    opt = told(bbopt.Task(LINE), [float(i % 3) for i in range(8)], "gp")
    known = advice.studied(opt)
    assert known.notes == () or "gp" not in known.notes[0]
    (one,) = opt.predict([{"x": 0.3}])
    assert advice.slices(known, points=11)[0].median[3] == pytest.approx(one.mean["objective"])
    for strategy in ("random", "sobol", "cmaes"):
        notes = advice.studied(told(bbopt.Task(PLANE), [1.0, 2.0, 0.5, 4.0], strategy)).notes
        assert any("the model that `gp` would make" in line for line in notes)
    assert advice.studied(known) is known


def test_corrections_are_seen() -> None:
    opt = told(bbopt.Task(LINE), [1.0, 2.0, 3.0, 4.0])
    opt.amend(2, 30.0)
    opt.retract(0)
    known = advice.studied(opt)
    assert known.numbers.tolist() == [1, 2, 3] and known.outputs[0].told.tolist() == [2.0, 30.0, 4.0]


# -- pictures and the page ----------------------------------------------------------------------------------------------


def test_pictures_change_no_setting_and_use_no_global_figure() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    known = advice.studied(told(bbopt.Task(PLANE), [1.0, 2.0, 4.0, 0.5, 3.0]))
    with figures.drawing():
        drawn = [
            figures.stopping_figure(advice.stopping(known)), figures.quality_figure(advice.quality(known)),
            figures.importance_figure(advice.importance(known)), figures.slices_figure(advice.slices(known)),
            figures.slices_figure([]), figures.contour_figure(advice.contour(known, "x", "n")),
        ]  # fmt: skip
    assert [len(figure.axes) for figure in drawn] == [1, 1, 1, 2, 1, 4]
    assert dict(matplotlib.rcParams) == before
    bars = drawn[2].axes[0].patches
    total = advice.importance(known)
    assert [bar.get_width() for bar in bars[:2]] == pytest.approx(total.total[0, total.order(0)].tolist())


def test_advice_loads_neither_matplotlib_nor_torch() -> None:
    code = """
import sys, bbopt
opt = bbopt.Optimizer(bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1))), "random")
assert "scipy" not in sys.modules
for i in range(4):
    opt.tell(opt.ask(), float(i))
bbopt.advice.stopping(opt), bbopt.advice.quality(opt), bbopt.advice.importance(opt)
print([m for m in ("matplotlib", "torch", "jinja2", "pandas") if m in sys.modules])
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout == "[]\n", result.stderr


def test_the_page_is_one_file_and_escapes_names(tmp_path: Path) -> None:
    space = bbopt.Space(
        {"<script>x": bbopt.Float(0, 1), "a name & more, which is longer than any column": bbopt.Int(0, 3)}
    )
    opt = told(bbopt.Task(space, bbopt.Objective("<b>cost")), [3.0, 1.0, 2.0, 5.0, 4.0])
    page = advice.write_advice(opt, tmp_path / "new" / "folder")
    text = page.read_text("utf-8")
    assert "<script" not in text and "<b>cost" not in text and "&lt;script&gt;x" in text
    assert not re.findall(r'(?:src|href)="(?!#|\s*data:)', text) and text.count("<svg") == 5
    assert [path.name for path in page.parent.iterdir()] == ["advice.html"]


# -- the command --------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "runs.db"
    task = bbopt.Task(PLANE, bbopt.Objective("f"), [bbopt.Constraint("g", upper=4.2)])
    opt = bbopt.Optimizer(task, "gp", store=path, name="beam", seed=1)
    for _ in range(14):
        trial = opt.ask()
        p = trial.params
        opt.tell(trial, {"f": (p["x"] - 0.4) ** 2 - 0.2 * p["n"], "g": p["n"] + p["x"]})
    bbopt.Optimizer(task, "random", store=path, name="empty")
    return path


def test_the_command_prints_tables_json_and_a_page(store: Path, tmp_path: Path) -> None:
    opt = bbopt.Optimizer.open(store, "beam")
    before = opt.position
    text = run("advise", store, "beam")
    assert text.exit_code == 0 and re.search(r"^(go on|stop|little left|unclear): the next evaluation", text.stdout)
    assert re.search(r"^metric +Q2 +log score", text.stdout, re.M) and re.search(
        r"^parameter +total", text.stdout, re.M
    )
    found = read("advise", store, "beam", "--tolerance", 0.5, "--out", tmp_path / "page")
    assert Path(found["page"]).read_text("utf-8").count("<svg") == 5
    assert found["stopping"]["tolerance"] == 0.5 and found["stopping"]["best"] == pytest.approx(opt.best().values["f"])
    assert {one["metric"] for one in found["quality"]["metrics"]} == {"f", "g"} and found["missing"] == []
    assert np.shape(found["importance"]["total"]) == (2, 2)
    assert opt.position == before  # nothing was written


def test_the_command_refuses_as_the_others(store: Path, tmp_path: Path) -> None:
    assert "StudyMissing" in refused(1, "advise", store, "other")
    assert "StoreMissing" in refused(1, "advise", tmp_path / "no.db", "beam")
    assert "UsageError: advice: expected at least 1 told value, the study has none yet" in refused(
        1, "advise", store, "empty"
    )
    assert "--tolerance" in refused(2, "advise", store, "beam", "--tolerance", -1)


@pytest.mark.slow
def test_reading_while_another_process_writes(store: Path) -> None:
    """Another process asks and tells as fast as it can; every look is at some state of its log."""
    code = f"""
import sys, bbopt
opt = bbopt.Optimizer.open({str(store)!r}, "empty")
print("ready", flush=True)
for i in range(60):
    opt.tell(opt.ask(), {{"f": float(i % 7), "g": 1.0}})
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        opt, seen = bbopt.Optimizer.open(store, "empty"), [0]
        while other.poll() is None or seen[-1] < 60:
            try:
                seen.append(advice.quality(opt).n)
            except bbopt.UsageError:
                continue
        assert other.wait(60) == 0
    assert seen == sorted(seen) and seen[-1] == 60
