"""The comparison of two strategies problem by problem, on a benchmark that is really run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bbopt.bench import run_bench
from bbopt.bench_pairs import Pair, main, pairs, signed_rank
from bbopt.report.load import load


def folder_of(tmp_path: Path) -> Path:
    out = tmp_path / "bench"
    assert run_bench(["branin"], ["random", "sobol"], 9, 6, out, initial=2, workers=1, progress=False).ok
    return out


def test_pairs_are_of_the_same_seed_and_gaps_of_the_best_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder_of(tmp_path)
    bench = load(out)
    (pair,) = pairs(bench, "random", "sobol")
    assert pair.problem == "branin" and len(pair.first) == len(pair.second) == 6
    for seed in range(6):
        run = next(r for r in bench.of("branin", "random") if r.seed == seed)
        optimum = bench.problems[0].optimum
        assert optimum is not None
        gap = (np.nanmin(run.objective) - optimum) / abs(optimum)
        assert pair.first[seed] == pytest.approx(np.log10(gap))
    early = pairs(bench, "random", "sobol", evaluations=2)[0]
    assert early.first == pytest.approx(early.second), "the first two points are shared"
    assert early.p == 1.0 and early.verdict == "as good"
    assert main(["random", "sobol", str(out)]) == 0
    assert "random against sobol on 1 problems" in capsys.readouterr().out
    assert main(["random", "nobody", str(out)]) == 1


def test_a_difference_in_every_seed_is_a_verdict() -> None:
    low, high = np.linspace(-4.0, -3.0, 9), np.linspace(-2.0, -1.5, 9)
    p = signed_rank(low - high)
    assert p == pytest.approx(2.0 / 2**9), "all signs alike, exact"
    assert Pair("x", low, high, p).verdict == "better" and Pair("x", high, low, p).verdict == "worse"
    assert signed_rank(np.array([0.0, 0.0, 1.0])) == 1.0
