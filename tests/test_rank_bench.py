"""The benchmark of rankings: its parts at a small size, its verdict, and that it goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bbopt import bench_ranking, bench_ranking_parts, bench_ranking_picture
from bbopt.bench_ranking_parts import PARTS
from bbopt.bench_ranking_runs import box, differences, oracle, run, sphere
from bbopt.zeroth_order.rank_sgd import RankSGD


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows, people and answers."""
    parts = bench_ranking_parts
    monkeypatch.setattr(parts, "SPHERE", {k: v for k, v in parts.SPHERE.items() if "values" in k or "15, " in k})
    monkeypatch.setattr(parts, "ROSENBROCK", {"rank-sgd, defaults": parts.ROSENBROCK["rank-sgd, defaults"]})
    monkeypatch.setattr(parts, "PEOPLE", {(12, 8, "bins 2-4-2"): (14, 30, 20, 42)})
    monkeypatch.setattr(parts, "RATERS", 5)
    monkeypatch.setattr(parts, "PEOPLE_OF_FEW", 1)
    monkeypatch.setattr(parts, "FEW", ("rank-sgd", "cmaes"))
    monkeypatch.setattr(bench_ranking_picture, "FEW", ("rank-sgd", "cmaes"))
    monkeypatch.setattr(parts, "ASKS", {"rank-sgd": ("rank-sgd", 12)})


@pytest.mark.usefixtures("small")
def test_it_measures_once_and_says_what_was_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_ranking.main(["--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "verdict: good"
    assert (tmp_path / "ranking.png").stat().st_size > 20_000
    kept = json.loads((tmp_path / "ranking.json").read_text())
    assert set(kept) == set(PARTS)
    kept["noise"]["1.0"], kept["people"]["12, 8, bins 2-4-2"][2] = 86.0, None
    kept["rosenbrock"]["rank-sgd, defaults"]["rise"], kept["asks"]["rank-sgd"] = 0.5, 0.6
    kept["sphere"]["rank-sgd, (15, 5)"]["iterations"], kept["estimator"]["15, 1"][2] = 62.0, 3.4
    (tmp_path / "ranking.json").write_text(json.dumps(kept))
    assert bench_ranking.main(["--out", str(tmp_path)]) == 1
    verdict = capsys.readouterr().out.splitlines()[-1]
    for what in ("efficiency of 15, 1", "k = 5", "a rise of 0.5", "noise of 1.0", "three bins", "0.60 s"):
        assert what in verdict, verdict


def test_runs_end_where_they_are_told_to() -> None:
    def function(X: np.ndarray) -> np.ndarray:
        return sphere(X - 0.3)

    whole = run(RankSGD(), box(3), function, oracle(), 40, seed=1)
    assert len(whole.values) == 40 and whole.rows.tolist() == list(range(6, 246, 6))
    level = float(whole.values[20])
    part = run(RankSGD(), box(3), function, oracle(), 40, seed=1, until=level)
    assert part.values.tolist() == whole.values[: len(part.values)].tolist() and part.values[-1] <= level
    assert part.rounds_to(level) == part.rounds.sum() == whole.rounds_to(level)
    assert whole.rows_to(level) == 6 * whole.slates_to(level)
    assert whole.rounds_to(-1.0) == whole.slates_to(-1.0) == whole.rows_to(-1.0) == np.inf
    assert whole.after(6) == whole.values[0] and whole.after(10_000) == whole.values[-1]
    assert len(run(RankSGD(), box(3), function, oracle(), 40, seed=1, rows=30).values) == 5


def test_differences_of_values_descend() -> None:
    """In 10 dimensions by 5 directions, 10 evaluations a round: the squared cosine is 1 / 2, 7 rounds divide by 100."""
    found = differences(sphere, np.full(10, 3.0), 5, 5, seed=0, until=0.9, rows=1000, orthogonal=True)
    assert found.values[0] == 90.0 and found.values[-1] <= 0.9 and len(found.values) <= 15
    assert (np.diff(found.values) <= 0.0).all() and (np.diff(found.rows) == 10).all()
