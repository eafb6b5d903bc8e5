"""From the records of a benchmark to the numbers that its tables and figures show.

Curves of a strategy on a problem are taken over its complete runs; where none is complete yet, over the runs there
are, up to the length of the shortest. A run that used up a finite space keeps its last value. The comparison of
strategies uses, per problem, the seeds that every strategy has completed; problems without such a seed are left out
of it and named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bbopt.report.data import Bench, ProblemFacts, Run
from bbopt.report.statistics import (
    FLOOR,
    Comparison,
    best_so_far,
    compare,
    evaluations_to_feasible,
    quartiles,
    relative_gap,
)

__all__ = ["Cell", "ProblemView", "Summary", "summarize"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One strategy on one problem: s runs of n evaluations.

    `best` (s, n) is the best feasible value so far (NaN: none yet), `gap` (s, n) its relative gap (infinite: none yet),
    `first` (s,) the evaluations to the first feasible point (infinite: none), `seconds` (s, n) the CPU seconds of each
    ask, NaN for the shared initial points. `complete` of `planned` runs have used their budget. `sign` is -1 where the
    problem is maximised.
    """

    runs: tuple[Run, ...]
    best: Floats
    gap: Floats
    first: Floats
    seconds: Floats
    complete: int
    planned: int
    sign: float = 1.0

    @property
    def n(self) -> int:
        """Evaluations of the curves; 0 where there is no run."""
        return int(self.best.shape[1])

    def final(self) -> tuple[Floats, Floats]:
        """Quartiles over the runs of the last gap (3,) and the best value at the same ranks (3,), NaN where none."""
        inside = self.sign * self.best[:, -1]
        value = quartiles(np.where(np.isnan(inside), np.inf, inside))
        return quartiles(self.gap[:, -1]), np.where(np.isfinite(value), self.sign * value, np.nan)


@dataclass(frozen=True)
class ProblemView:
    """A problem with its cells by strategy, the reference value of its gaps, and the best run with the place in it."""

    facts: ProblemFacts
    cells: Mapping[str, Cell]
    reference: float | None
    champion: tuple[Run, int] | None
    beaten: bool

    @property
    def known(self) -> bool:
        """Whether gaps refer to a known optimum, and not to the best value of this benchmark."""
        return self.facts.optimum is not None


@dataclass(frozen=True)
class Summary:
    """What the report shows. `compared` are the names of the problems behind `comparison`, in its row order."""

    bench: Bench
    problems: tuple[ProblemView, ...]
    comparison: Comparison | None
    compared: tuple[str, ...]
    floor: float
    complete: int
    planned: int

    @property
    def order(self) -> list[str]:
        """Strategies, best mean rank first; as given where they cannot be compared."""
        names = list(self.bench.strategies)
        if self.comparison is None:
            return names
        ranks = dict(zip(names, self.comparison.mean_ranks, strict=True))
        return sorted(names, key=lambda name: ranks[name])

    def seconds(self, strategy: str) -> Floats:
        """CPU seconds of asks over all problems: one row per run (runs, budget), NaN where not asked."""
        rows = [view.cells[strategy].seconds for view in self.problems if view.cells[strategy].n]
        width = self.bench.budget
        padded = [np.pad(row, ((0, 0), (0, width - row.shape[1])), constant_values=np.nan) for row in rows]
        return np.concatenate(padded) if padded else np.full((0, width), np.nan)


def summarize(bench: Bench, floor: float = FLOOR) -> Summary:
    """Compute everything that the report shows from the records."""
    views = tuple(_view(bench, facts) for facts in bench.problems)
    names, gaps = [], []
    for view in views:
        common = _paired_gaps(bench, view)
        if len(common):
            names.append(view.facts.name)
            gaps.append(common)
    comparable = len(bench.strategies) > 1 and bool(gaps)
    planned = len(bench.strategies) * len(bench.problems) * len(bench.seeds)
    return Summary(
        bench=bench,
        problems=views,
        comparison=compare(gaps, floor) if comparable else None,
        compared=tuple(names),
        floor=floor,
        complete=sum(cell.complete for view in views for cell in view.cells.values()),
        planned=planned,
    )


def _view(bench: Bench, facts: ProblemFacts) -> ProblemView:
    runs = [run for strategy in bench.strategies for run in bench.of(facts.name, strategy)]
    champion: tuple[Run, int] | None = None
    lowest = np.inf
    for run in runs:
        usable = np.where(run.feasible & np.isfinite(run.objective), facts.sign * run.objective, np.inf)
        place = int(np.argmin(usable))
        if usable[place] < lowest:
            champion, lowest = (run, place), float(usable[place])
    reference = facts.optimum
    if reference is None and champion is not None:
        reference = facts.sign * lowest
    beaten = False
    if facts.optimum is not None and champion is not None:
        beaten = float(relative_gap(np.array(facts.sign * lowest), facts.optimum, facts.maximize)) < -FLOOR
    cells = {strategy: _cell(bench, facts, strategy, reference) for strategy in bench.strategies}
    return ProblemView(facts, cells, reference, champion, beaten)


def _cell(bench: Bench, facts: ProblemFacts, strategy: str, reference: float | None) -> Cell:
    runs = bench.of(facts.name, strategy)
    complete = [run for run in runs if bench.complete(run)]
    used = complete or runs
    n = bench.budget if complete else min((run.n for run in used), default=0)
    best = np.full((len(used), n), np.nan)
    seconds = np.full((len(used), n), np.nan)
    for row, run in enumerate(used):
        length = min(n, run.n)
        best[row, :length] = best_so_far(run.objective[:length], run.feasible[:length], facts.maximize)
        best[row, length:] = best[row, length - 1] if length else np.nan
        seconds[row, bench.initial : length] = run.seconds[bench.initial : length]
    gap = relative_gap(best, 0.0 if reference is None else reference, facts.maximize)
    first = np.array([evaluations_to_feasible(run.feasible[:n]) for run in used], dtype=np.float64)
    return Cell(tuple(used), best, gap, first, seconds, len(complete), len(bench.seeds), facts.sign)


def _paired_gaps(bench: Bench, view: ProblemView) -> Floats:
    """Final gaps (seeds, strategies) for the seeds that all strategies have completed."""
    finals: list[dict[int, float]] = []
    for strategy in bench.strategies:
        cell = view.cells[strategy]
        usable = cell.complete > 0
        finals.append({run.seed: float(cell.gap[row, -1]) for row, run in enumerate(cell.runs)} if usable else {})
    shared = sorted(set.intersection(*(set(final) for final in finals))) if finals else []
    return np.array([[final[seed] for final in finals] for seed in shared], dtype=np.float64)
