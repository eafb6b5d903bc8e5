"""The comparison of classifiers: scores against numbers by hand, a folder that continues, the report and the command."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bbopt.bench import BenchDiffers, Progress
from bbopt.bench_classify import models, run_classify, write_report
from bbopt.bench_classify.job import held_out, run_job, training_rows
from bbopt.bench_classify.models import MODELS, Fitted, Model, Prediction, fit, model, unavailable
from bbopt.bench_classify.plan import SIZES, Job, Plan
from bbopt.bench_classify.results import RESULTS, Log, Result, read_results
from bbopt.bench_classify.scores import calibration_error, scores
from bbopt.bench_classify.summary import load
from bbopt.errors import MissingPackage, UsageError
from surrogates.columns import Inputs

Array = np.ndarray[Any, np.dtype[np.float64]]
SKLEARN = ["random_forest", "boosting", "svm", "neighbours", "gp", "logistic"]
CHEAP = ["neighbours", "logistic"]
SETS = ["four_islands", "concrete_beam_cost"]
TWO = Inputs.continuous(2)


def labelled(n: int, classes: int = 2) -> tuple[Array, Array]:
    """n rows in the unit square, labelled by the sum of their coordinates."""
    X = np.random.default_rng(0).random((n, 2))
    return X, np.minimum((X.sum(axis=1) / 2 * classes).astype(np.int64), classes - 1)


def lines(folder: Path) -> dict[Job, dict[str, float | None]]:
    """Scores by job, without the time, which is never the same."""
    return {job: result.scores for job, result in read_results(folder / RESULTS).items()}


def small(folder: Path, chosen: list[str] = CHEAP, **changes: Any) -> Any:
    given: dict[str, Any] = {"sizes": (10, 30), "seeds": 2, "test": 300, "workers": 1, "progress": False}
    return run_classify(folder, SETS, chosen, **{**given, **changes})


# --- scores ----------------------------------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3], [0.1, 0.9]])
    truth = np.array([0, 0, 0, 1, 1])
    found = scores(Prediction(p), np.array([0, 1]), truth, 2, 1)
    assert found["f1"] == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))  # one hit, one false alarm, one miss
    assert found["auc"] == pytest.approx(5 / 6)  # 5 of 6 pairs in order
    assert found["log_loss"] == pytest.approx(-np.mean(np.log([0.9, 0.8, 0.4, 0.3, 0.9])))
    assert found["calibration"] == pytest.approx(np.mean([0.1, 0.2, 0.6, 0.7, 0.1]))  # each row in a bin of its own
    infeasible = scores(Prediction(p), np.array([0, 1]), truth, 2, 0)
    assert infeasible["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))


def test_a_class_that_was_not_seen_gets_no_probability() -> None:
    truth = np.array([0, 1, 2, 2])
    prediction = Prediction(np.array([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9]]))
    found = scores(prediction, np.array([0, 2]), truth, 3, None)
    # class 0: one hit, one false alarm; class 1: never found; class 2: one hit, one false alarm, one miss
    assert found["f1"] == pytest.approx((2 / 3 + 0 + 2 / 4) / 3)
    assert found["log_loss"] == pytest.approx(-(np.log(0.7) + np.log(2.0**-52) + np.log(0.4) + np.log(0.9)) / 4)
    assert scores(prediction, np.array([0, 2]), np.array([0, 0, 2, 2]), 3, None)["auc"] is None


def test_nothing_found_is_zero_without_a_warning() -> None:
    found = scores(Prediction(np.ones((4, 1))), np.array([0]), np.array([0, 0, 1, 1]), 2, 1)
    assert (found["f1"], found["auc"], found["calibration"]) == (0.0, 0.5, 0.5)


def test_own_decisions_count_in_f1() -> None:
    p = np.array([[0.6, 0.4], [0.6, 0.4]])
    truth = np.array([0, 1])
    assert scores(Prediction(p), np.array([0, 1]), truth, 2, 1)["f1"] == 0.0
    assert scores(Prediction(p, np.array([0, 1])), np.array([0, 1]), truth, 2, 1)["f1"] == 1.0


def test_calibration_of_true_probabilities_vanishes() -> None:
    rng = np.random.default_rng(1)
    above = rng.random(200_000)
    truth = (rng.random(len(above)) < above).astype(np.int64)
    p = np.stack([1 - above, above], axis=1)
    assert calibration_error(p, truth) < 0.006
    # the probabilities p^2 are off by p - p^2, 1/6 on average
    assert calibration_error(np.stack([1 - above**2, above**2], axis=1), truth) == pytest.approx(1 / 6, abs=0.006)


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SKLEARN)
@pytest.mark.parametrize("classes", [2, 3])
def test_models_learn(name: str, classes: int) -> None:
    assert unavailable(name) == ""
    X, labels = labelled(150, classes)
    Q, truth = labelled(400, classes)
    fitted = fit(model(name), TWO, X, labels, 0)
    prediction = fitted.predict(Q[200:])
    assert fitted.classes.tolist() == list(range(classes))
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1.0, atol=1e-9)
    found = scores(prediction, fitted.classes, truth[200:], classes, 1 if classes == 2 else None)
    assert found["f1"] > 0.85


@pytest.mark.parametrize("name", SKLEARN)
@pytest.mark.parametrize(
    "labels",
    [[1] * 8, [0] * 7 + [1], [0] * 4 + [2] * 4, [0] * 6 + [1, 2], [1]],
    ids=["one class", "one row of a class", "a class is missing", "two rare classes", "one row"],
)
def test_models_take_few_rows_of_few_classes(name: str, labels: list[int]) -> None:
    X, _ = labelled(len(labels))
    fitted = fit(model(name), TWO, X, np.array(labels), 0)
    p = fitted.predict(labelled(20)[0]).probabilities
    assert fitted.classes.tolist() == sorted(set(labels))
    assert p.shape == (20, len(set(labels))) and p.min() >= 0
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-9)


def test_no_rows_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one row"):
        fit(model("logistic"), TWO, np.empty((0, 2)), np.empty(0, np.int64), 0)
    with pytest.raises(UsageError, match="there are pfn, tabpfn, random_forest"):
        model("forest")


class Says:
    """A model that says what it is told to."""

    def __init__(self, probabilities: list[float], classes: list[int]) -> None:
        self.p, self.classes = probabilities, np.array(classes)

    def predict(self, X: Array) -> Prediction:
        return Prediction(np.array([self.p] * len(X)))


def stub(monkeypatch: pytest.MonkeyPatch, name: str, answer: Any) -> Model:
    """A model of this name that answers as `answer(n)` says for n training rows."""

    def learn(inputs: Inputs, X: Array, labels: Array, seed: int) -> Fitted:
        made: Fitted = answer(len(X))
        return made

    made = Model(name, f"a stub called {name}", learn)
    monkeypatch.setitem(MODELS, name, made)  # type: ignore[arg-type]  # the table is a dict
    return made


@pytest.mark.parametrize(
    "p", [[0.5, 0.4], [1.2, -0.2], [float("nan"), 1.0], [1.0]], ids=["sum", "negative", "nan", "shape"]
)
def test_predictions_that_are_no_probabilities_are_an_error(p: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"wrong {p}"
    stub(monkeypatch, name, lambda n: Says(p if n > 12 else [0.5, 0.5], [0, 1]))
    result = run_job(Job("three_bar_truss", 0, 30, name), 50)
    assert "expected probabilities" in result.error and result.scores == {}


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_training_rows_are_nested_and_the_test_rows_are_others() -> None:
    few, labels = training_rows("car_side_impact", 3, 50)
    many, more = training_rows("car_side_impact", 3, 200)
    np.testing.assert_array_equal(few, many[:50])
    np.testing.assert_array_equal(labels, more[:50])
    rows, _ = held_out("car_side_impact", 100)
    assert not set(map(bytes, rows)) & set(map(bytes, many))
    assert not np.array_equal(training_rows("car_side_impact", 4, 50)[0], few)


def test_a_job_gives_the_same_scores_again() -> None:
    job = Job("concrete_beam_cost", 1, 40, "random_forest")
    first, second = run_job(job, 300), run_job(job, 300)
    assert first.error == "" and first.scores == second.scores and first.seconds > 0
    assert Result.from_json(json.loads(json.dumps(first.to_json()))).scores == first.scores


def test_a_training_set_of_one_class_predicts_it() -> None:
    seed = next(seed for seed in range(99) if not training_rows("welded_beam", seed, 20)[1].any())
    result = run_job(Job("welded_beam", seed, 20, "boosting"), 500)
    assert result.seen == 1 and result.scores["f1"] == 0.0 and result.scores["auc"] == 0.5


def test_the_process_stops_at_its_limit() -> None:
    jobs = list(Plan(("four_islands",), ("gp", "logistic"), SIZES).jobs())
    assert [job.size for job in jobs if job.model == "gp"] == [50, 100, 200, 500]
    assert [job.size for job in jobs if job.model == "logistic"] == list(SIZES)


# --- a folder --------------------------------------------------------------------------------------------------------


def test_an_interrupted_comparison_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle, then half a line as kill -9 leaves it: the same results as without any of it."""
    monkeypatch.setattr("bbopt.bench_classify.run.SHOW_SECONDS", 0.0)

    def interrupt(progress: Progress) -> None:
        if progress.evaluations == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(tmp_path / "a", progress=interrupt)
    path = tmp_path / "a" / RESULTS
    assert len(path.read_text().splitlines()) == 5
    with path.open("a") as file:
        file.write('{"data": "four_isl')
    seen: list[Progress] = []
    outcome = small(tmp_path / "a", progress=seen.append)
    assert outcome.ok and (outcome.complete, outcome.planned) == (16, 16)
    assert seen[0].evaluations == 5 and (seen[-1].runs, seen[-1].runs_total) == (4, 4)
    assert len(path.read_text().splitlines()) == 16
    small(tmp_path / "b")
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    before = path.read_text()
    assert small(tmp_path / "a").ok and path.read_text() == before
    assert len(json.loads((tmp_path / "a" / "classify.json").read_text())["sessions"]) == 3


def test_a_folder_may_grow_but_not_change(tmp_path: Path) -> None:
    small(tmp_path)
    first = lines(tmp_path)
    assert small(tmp_path, ["neighbours"], sizes=(20,), seeds=[5]).planned == 2
    definition = load(tmp_path)
    assert definition.sizes == (10, 20, 30) and definition.seeds == (0, 1, 5) and definition.models == tuple(CHEAP)
    assert {job: found for job, found in lines(tmp_path).items() if job in first} == first
    assert definition.complete == 18 and definition.planned == 36
    with pytest.raises(BenchDiffers, match="test rows: 300 there, 200 here"):
        small(tmp_path, test=200)


def test_another_setting_of_a_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stub(monkeypatch, "stub", lambda n: Says([0.5, 0.5], [0, 1]))
    run_classify(tmp_path, ["four_islands"], ["stub"], sizes=(60,), seeds=1, test=50, workers=1, progress=False)
    monkeypatch.setitem(MODELS, "stub", replace(made, words="another stub"))  # type: ignore[arg-type]
    with pytest.raises(BenchDiffers, match="stub: model 'a stub called stub' there, 'another stub' here"):
        run_classify(tmp_path, ["four_islands"], ["stub"], sizes=(60,), seeds=1, test=50, workers=1, progress=False)


def test_other_weights_are_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stub(monkeypatch, "trained", lambda n: Says([0.5, 0.5], [0, 1]))
    for weights in ("old", "new"):
        monkeypatch.setitem(MODELS, "trained", replace(made, weights=partial(str, weights)))  # type: ignore[arg-type]
        if weights == "old":
            run_classify(tmp_path, SETS[:1], ["trained"], sizes=(60,), seeds=1, test=50, workers=1, progress=False)
            assert "a stub called trained; weights old" in write_report(tmp_path).read_text()
    with pytest.raises(BenchDiffers, match="trained: weights 'old' there, 'new' here"):
        run_classify(tmp_path, SETS[:1], ["trained"], sizes=(60,), seeds=1, test=50, workers=1, progress=False)


def test_a_failing_model_is_recorded_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mood = ["bad"]

    def answer(n: int) -> Says:
        if n == 60 and mood == ["bad"]:
            raise RuntimeError("the matrix is singular")
        return Says([0.7, 0.3], [0, 1])

    stub(monkeypatch, "moody", answer)

    def go() -> Any:
        return run_classify(
            tmp_path, ["three_bar_truss"], ["moody", "logistic"], sizes=(50, 60), seeds=1, test=80, workers=1,
            progress=False,
        )  # fmt: skip

    outcome = go()
    job = Job("three_bar_truss", 0, 60, "moody")
    assert not outcome.ok and outcome.failed == {job: "RuntimeError: the matrix is singular"}
    assert load(tmp_path).errors == outcome.failed
    page = write_report(tmp_path).read_text()
    assert "the matrix is singular" in page and "1 of 4 trainings have no result yet" in page
    mood[0] = "good"
    assert go().ok and load(tmp_path).errors == {}


def test_models_that_cannot_be_used_are_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(n: int) -> Says:
        raise MissingPackage("its weights are not on this machine")

    monkeypatch.setattr("bbopt.bench_classify.run.MODELS", {"absent": 0, "logistic": 0})
    stub(monkeypatch, "absent", absent)
    outcome = small(tmp_path, [], sizes=(20,), seeds=1)
    assert outcome.ok and outcome.left_out == {"absent": "its weights are not on this machine"}
    assert "absent is left out: its weights are not on this machine" in write_report(tmp_path).read_text()
    with pytest.raises(MissingPackage, match="the model absent cannot be used here: its weights"):
        small(tmp_path, ["absent"])


def test_without_sklearn_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingPackage, match=r"pip install 'bbopt\[bench\]'"):
        small(tmp_path)
    with pytest.raises(MissingPackage, match="scikit-learn"):
        models.need_sklearn()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"sizes": ()}, "at least one size"), ({"seeds": []}, "at least one seed"), ({"sizes": (5, 5)}, "5 twice"),
     ({"sizes": (0,)}, "sizes and test rows >= 1"), ({"test": 0}, "sizes and test rows >= 1"),
     ({"seeds": [-1]}, "seeds >= 0")],
)  # fmt: skip
def test_definitions_that_make_no_sense_are_refused(changes: Mapping[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        small(tmp_path, **changes)


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"found no classify\.json"):
        write_report(tmp_path)
    (tmp_path / RESULTS).write_text('{"data": 1}\n')
    with pytest.raises(UsageError, match="line 1: expected a result"):
        small(tmp_path)
    (tmp_path / "classify.json").write_text('{"suite": "engineering"}')
    with pytest.raises(BenchDiffers, match="use another folder"):
        small(tmp_path)


def test_a_log_cuts_off_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / RESULTS
    path.write_text('{"half')
    with Log(path) as log:
        log.add(Result(Job("a", 0, 5, "b"), {"f1": 1.0, "auc": None}, 0.1, 2))
    assert list(read_results(path)) == [Job("a", 0, 5, "b")]
