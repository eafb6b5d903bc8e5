"""Two strategies of finished benchmarks, problem by problem: is one worse than the other on any, seed against seed?

Strategies of a benchmark share their initial design per seed, so a seed is a pair. Compared are logarithms of gaps to the
known optimum (at least `FLOOR`; no feasible point counts as the largest gap of the problem), by Wilcoxon's signed-rank test.

    python -m bbopt.bench_pairs amortised-gp gp DIR [DIR ...] [--evaluations N]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bbopt.report.data import Bench, ProblemFacts
from bbopt.report.load import load
from bbopt.report.statistics import FLOOR, best_so_far, relative_gap

__all__ = ["LEVEL", "Pair", "pairs", "signed_rank"]

Floats = NDArray[np.float64]
LEVEL = 0.05
NOTHING = 10.0  # factor by which a run without a feasible point is behind the worst that has one


@dataclass(frozen=True)
class Pair:
    """One problem: decimal logarithms of the gaps of both strategies (seeds,), and the test's two-sided p-value.

    >>> Pair("branin", np.array([-3.0, -2.0]), np.array([-2.0, -2.5]), 0.5).difference
    -0.25
    """

    problem: str
    first: Floats
    second: Floats
    p: float

    @property
    def difference(self) -> float:
        """Median of the pairs' differences, first minus second: below 0 the first is better."""
        return float(np.median(self.first - self.second))

    @property
    def verdict(self) -> str:
        """ "better", "worse", or "as good" where the test sees no difference."""
        if self.p >= LEVEL:
            return "as good"
        return "better" if float(np.mean(np.sign(self.first - self.second))) < 0.0 else "worse"


def signed_rank(difference: Floats) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test that differences are symmetric around 0; 1 where all are 0.

    >>> signed_rank(np.zeros(5)), round(signed_rank(np.arange(1.0, 9.0)), 4)
    (1.0, 0.0078)
    """
    from scipy.stats import wilcoxon

    moved = difference[difference != 0.0]
    return float(wilcoxon(moved).pvalue) if len(moved) else 1.0


def pairs(bench: Bench, first: str, second: str, evaluations: int | None = None) -> list[Pair]:
    """Each problem that both strategies have finished with some seed, after so many evaluations (None: all)."""
    count = bench.budget if evaluations is None else evaluations
    found = []
    for facts in bench.problems:
        gaps = [_gaps(bench, facts, name, count) for name in (first, second)]
        seeds = sorted(set(gaps[0]) & set(gaps[1]))
        if not seeds or facts.optimum is None:
            continue
        both = np.array([[own[seed] for seed in seeds] for own in gaps])
        finite = both[np.isfinite(both)]
        logs = np.log10(np.where(np.isfinite(both), np.maximum(both, FLOOR), NOTHING * finite.max(initial=1.0)))
        found.append(Pair(facts.name, logs[0], logs[1], signed_rank(logs[0] - logs[1])))
    return found


def _gaps(bench: Bench, facts: ProblemFacts, strategy: str, evaluations: int) -> dict[int, float]:
    """Gap of every complete run, by seed."""
    gaps = {}
    for run in bench.of(facts.name, strategy):
        if bench.complete(run) and facts.optimum is not None:
            best = best_so_far(run.objective[:evaluations], run.feasible[:evaluations], facts.maximize)
            gaps[run.seed] = float(relative_gap(best[-1:], facts.optimum, facts.maximize)[0])
    return gaps


def _print(found: Sequence[Pair], first: str, second: str) -> None:
    """The table and the totals."""
    print(
        f"{'problem':28s} {'seeds':>5s} {first[:14]:>14s} {second[:14]:>14s} {'difference':>10s} {'p':>7s}  {first} is"
    )
    for pair in found:
        medians = f"{np.median(pair.first):14.2f} {np.median(pair.second):14.2f}"
        print(
            f"{pair.problem:28s} {len(pair.first):5d} {medians} {pair.difference:10.2f} {pair.p:7.3f}  {pair.verdict}"
        )
    differences = np.array([pair.difference for pair in found])
    counts = {word: sum(pair.verdict == word for pair in found) for word in ("better", "as good", "worse")}
    print(f"{first} against {second} on {len(found)} problems: {counts} by the test at {LEVEL};")
    print(f"lower median difference on {int((differences < 0).sum())}, higher on {int((differences > 0).sum())}; "
          f"median over problems of the difference of log10 gaps {np.median(differences):.3f}")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison; 1 where no problem has a seed that both finished."""
    parser = argparse.ArgumentParser(description="Two strategies of finished benchmarks, problem by problem.")
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--evaluations", type=int)
    given = parser.parse_args(arguments)
    found = [
        pair for folder in given.folders for pair in pairs(load(folder), given.first, given.second, given.evaluations)
    ]
    if not found:
        print(f"expected runs of {given.first} and {given.second} with the same seed, found none; finish the benchmark")
        return 1
    _print(found, given.first, given.second)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
