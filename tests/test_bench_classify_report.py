"""The report and the command of the comparison of classifiers, up to a sudden end of several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_shell import SHELL, read, refused, run

from bbopt.bench import Progress
from bbopt.bench_classify import run_classify, write_report
from bbopt.bench_classify.job import run_job
from bbopt.bench_classify.models import MODELS
from bbopt.bench_classify.plan import SIZES, Job, Plan
from bbopt.bench_classify.results import RESULTS, Result, read_results
from bbopt.bench_classify.summary import Summary
from bbopt.bench_classify.words import QUOTED, QUOTED_COLUMNS
from problems.classification import data_set, data_sets

CHEAP = ["neighbours", "logistic"]
SETS = ["four_islands", "concrete_beam_cost"]


def small(folder: Path, chosen: list[str] = CHEAP, **changes: Any) -> Any:
    given: dict[str, Any] = {"sizes": (10, 30), "seeds": 2, "test": 300, "workers": 1, "progress": False}
    return run_classify(folder, SETS, chosen, **{**given, **changes})


# --- the report ------------------------------------------------------------------------------------------------------


def summary_of(f1: Mapping[tuple[str, int, str], float], names: tuple[str, ...], sizes: tuple[int, ...]) -> Summary:
    """A comparison with one seed and these values of F1."""
    data = tuple(dict.fromkeys(key[0] for key in f1))
    definition = Plan(data, names, sizes).to_json()
    results = {
        Job(d, 0, size, name): Result(Job(d, 0, size, name), {"f1": v}, 1.0, 2) for (d, size, name), v in f1.items()
    }
    return Summary(definition, results)


def test_ranks_are_among_those_that_take_part() -> None:
    f1 = {("four_islands", 500, "gp"): 0.9, ("four_islands", 500, "svm"): 0.8, ("four_islands", 500, "logistic"): 0.8}
    f1 |= {("four_islands", 1000, "svm"): 0.7, ("four_islands", 1000, "logistic"): 0.9}
    found = summary_of(f1, ("gp", "svm", "logistic"), (500, 1000))
    assert found.ranks("f1")[0].tolist() == [1.0, 2.5, 2.5]
    assert found.ranks("f1")[1, 1:].tolist() == [2.0, 1.0] and np.isnan(found.ranks("f1")[1, 0])
    assert found.common_sizes == (500,) and found.planned == found.complete == 5
    assert found.comparison is None  # of one data set


def test_the_comparison_is_over_data_sets() -> None:
    f1 = {(data, size, name): value
          for data in ("four_islands", "welded_beam", "three_bar_truss") for size in (50, 100)
          for name, value in (("svm", 0.9), ("gp", 0.5))}  # fmt: skip
    found = summary_of(f1, ("svm", "gp"), (50, 100)).comparison
    assert found is not None and found.mean_ranks.tolist() == [1.0, 2.0] and found.ranks.shape == (3, 2)


def test_deviations_and_means_skip_what_is_not_there() -> None:
    plan = Plan(("four_islands",), ("svm", "gp"), (50,), (0, 1, 2))
    jobs = [Job("four_islands", seed, 50, "svm") for seed in (0, 1)]
    values = {job: Result(job, {"f1": value}, 1.0, 2) for job, value in zip(jobs, (0.2, 0.6), strict=True)}
    found = Summary(plan.to_json(), values)
    assert found.mean("f1")[0, 0, 0] == pytest.approx(0.4) and np.isnan(found.mean("f1")[0, 0, 1])
    assert found.deviation("f1")[0, 0, 0] == pytest.approx(np.std([0.2, 0.6], ddof=1))
    assert [(row["model"], row["seeds"]) for row in found.rows()] == [("svm", 2)]


def test_the_report(tmp_path: Path) -> None:
    small(tmp_path, sizes=(20, 50))
    page = write_report(tmp_path)
    text = page.read_text()
    assert {path.name for path in page.parent.iterdir()} == {
        "index.html", "results.csv", "summary.csv", "f1.png", "scores.png", "ranks.png"
    }  # fmt: skip
    for words in (
        "four islands",
        "concrete beam cost",
        "Mean ranks",
        "arXiv 2401.06948",
        "AutoGluon and XGBoost are not",
    ):
        assert words in text
    assert "src=" not in text and "http" not in text.replace("http://www.w3.org", "") and "nan" not in text.split()
    assert len((page.parent / "results.csv").read_text().splitlines()) == 1 + 16
    assert len((page.parent / "summary.csv").read_text().splitlines()) == 1 + 8
    assert write_report(tmp_path).read_text() == text


def test_the_report_of_next_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(tmp_path, progress=interrupt)
    assert "16 of 16 trainings have no result yet" in write_report(tmp_path).read_text()
    small(tmp_path, ["logistic"], seeds=1, sizes=(10,))
    assert "14 of 16 trainings have no result yet" in write_report(tmp_path).read_text()


def test_quoted_numbers_fill_their_columns() -> None:
    assert all(len(values) == len(QUOTED_COLUMNS) for _, values in QUOTED)


# --- the command -----------------------------------------------------------------------------------------------------

QUICK = ("bench-classify", "--seeds", 1, "--sizes", "20,40", "--test", 200, "--set", "four_islands", "--set",
         "concrete_beam_cost", "--model", "logistic", "--model", "neighbours", "--workers", 1)  # fmt: skip


def test_the_command(tmp_path: Path) -> None:
    result = run(*QUICK, "--out", tmp_path / "c")
    assert result.exit_code == 0 and "8 of 8 evaluations" in result.stderr
    printed = result.stdout.splitlines()
    assert printed[0].split() == ["F1", "rows", "logistic", "neighbours"]
    assert len([line for line in printed if line.startswith("four_islands")]) == 2
    assert any(line.startswith("mean rank by F1") for line in printed) and "8 of 8 trainings" in printed[-1]
    found = read(*QUICK, "--out", tmp_path / "c", "--quiet")
    assert (found["complete"], found["planned"], found["failed"], found["left_out"]) == (8, 8, [], {})
    assert len(found["results"]) == 8 and {row["seeds"] for row in found["results"]} == {1}
    assert Path(found["page"]).exists() and {row["size"] for row in found["ranks"]} == {20, 40}
    ranks = [row["rank"] for row in found["ranks"] if row["size"] == 20]
    assert sum(ranks) == pytest.approx(3.0)


def test_the_command_refuses(tmp_path: Path) -> None:
    assert "did you mean four_islands" in refused(1, *QUICK, "--out", tmp_path, "--set", "four_island")
    assert "no model 'forest'" in refused(1, *QUICK, "--out", tmp_path, "--model", "forest")
    assert "expected numbers like 50,100" in refused(2, *QUICK, "--out", tmp_path, "--sizes", "few")


def test_the_help_names_everything() -> None:
    text = " ".join(run("bench-classify", "--help").stdout.split())
    assert ", ".join(data_sets()) in text
    assert all(name in text for name in MODELS)
    assert ",".join(map(str, SIZES)) in text
    assert all(data_set(name).docs for name in data_sets())


def test_several_processes_and_sudden_ends(tmp_path: Path) -> None:
    """Workers go with their parent, whatever ends it; what was scored is there, and the next call goes on."""
    words = [*SHELL, "bench-classify", "--out", tmp_path / "c", "--seeds", 20, "--sizes", "20,40", "--test", 200, "--set",
             "four_islands", "--model", "neighbours", "--json"]  # fmt: skip
    command = [str(word) for word in words]
    path = tmp_path / "c" / RESULTS
    scored = 0
    for how in (signal.SIGKILL, signal.SIGINT):
        first = subprocess.Popen(
            [*command, "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 60
        while (not path.exists() or len(path.read_text().splitlines()) <= scored) and time.monotonic() < deadline:
            time.sleep(0.01)
        children = [int(pid) for pid in Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()]
        first.send_signal(how)
        _, errors = first.communicate(timeout=60)
        assert first.returncode == (130 if how == signal.SIGINT else -9), errors
        if how == signal.SIGINT:
            assert "the same command goes on from here" in errors and "Traceback" not in errors
        for child in children:
            deadline = time.monotonic() + 20
            while os.path.exists(f"/proc/{child}") and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not os.path.exists(f"/proc/{child}")
        before, scored = scored, len(read_results(path))
        assert before < scored < 40
    found = read(*words[len(SHELL) : -1], "--workers", 1, "--quiet")
    assert (found["complete"], len(path.read_text().splitlines())) == (40, 40)
    assert read_results(path)[Job("four_islands", 7, 40, "neighbours")].scores == (
        run_job(Job("four_islands", 7, 40, "neighbours"), 200).scores
    )
