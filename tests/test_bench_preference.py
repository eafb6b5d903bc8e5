"""`make bench-preference`: what it measures on a small scale, that it goes on where it stopped, and its verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bbopt import bench_preference as bench


def test_a_curve_is_regret_in_units_of_a_random_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SLATES", 4)
    found = bench.curve("branin", "cmaes", 0.3, 0)
    assert len(found) == 4 and min(found) > 0.0
    assert found == bench.curve("branin", "cmaes", 0.3, 0) != bench.curve("branin", "cmaes", 0.3, 1)
    people = bench.curve("sunset", "random", 0.0, 0)
    assert len(people) == 4 and all(0.0 < regret < 2.0 for regret in people), "what people like is maximised"


def test_rankings_that_are_timed_have_all_pairs() -> None:
    task, state = bench.answered(12)
    assert len(state.pairs) == 12 * 15 and state.X.shape[1] == task.space.dimension == 6
    assert len(np.unique(state.X, axis=0)) == len(state.X) < 72, "the best row is in each slate"
    assert set(bench.ours(12)) == {"first", "next"}


def test_what_was_run_is_not_run_again_and_limits_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []

    def curve(problem: str, strategy: str, noise: float, seed: int) -> list[float]:
        calls.append((problem, strategy, noise, seed))
        return [{"random": 0.5, "preference-gp": 0.1}.get(strategy, 0.2)] * bench.SLATES

    monkeypatch.setattr(bench, "curve", curve)
    monkeypatch.setattr(bench, "ours", lambda slates: {"first": 0.1, "next": 0.1})
    monkeypatch.setattr(bench, "botorch", lambda slates: {"fit": 1.0, "optimise": 1.0})
    words = ["--out", str(tmp_path), "--seeds", "2"]
    assert bench.main(words) == 0
    assert len(calls) == len(bench.PROBLEMS) * len(bench.NOISES) * len(bench.STRATEGIES) * 2
    assert capsys.readouterr().out.endswith("all limits met\n")
    assert bench.main(words) == 0 and len(calls) == len(set(calls)), "run again"
    monkeypatch.setattr(bench, "CLEARLY", 0.1)
    monkeypatch.setattr(bench, "LIMIT", 0.05)
    assert bench.main(words) == 1
    assert "missed: an ask after 50 answers takes 0.1 s" in capsys.readouterr().out
