"""What the runs say: medians of log gaps, ranks, differences by class, seconds, and the verdict.

Ranks: on each problem peers are ordered by the median over seeds of their log gap at the end, ties sharing the mean of
their ranks; the mean rank is over the problems that every ranked peer has runs on. The mean rank by seed orders the
single runs of each problem and seed that all have. A peer that cannot have a problem (it has no categories, say) is not
ranked; its gaps are shown, and count as a peer's where the best single peer of a problem class is looked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.compare.cell import Cell
from bbopt.compare.gaps import CLASSES, class_of, curve_of, log_gaps

__all__ = ["MARGIN", "ClassRow", "Summary", "Verdict", "is_ours", "ranks", "summarize"]

Array = np.ndarray[Any, np.dtype[Any]]

MARGIN = 0.2
TIE = 1e-12


def is_ours(peer: str) -> bool:
    """Whether a peer is bbopt, or one of its strategies by name.

    >>> is_ours("bbopt"), is_ours("bbopt:gp"), is_ours("random")
    (True, True, False)
    """
    return peer.partition(":")[0] == "bbopt"


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1 for the smallest; equal values share the mean of their ranks.

    >>> ranks([0.5, -1.0, 0.5, 3.0])
    [2.5, 1.0, 2.5, 4.0]
    """
    found = []
    for value in values:
        less = sum(other < value - TIE for other in values)
        equal = sum(abs(other - value) <= TIE for other in values)
        found.append(less + (equal + 1) / 2)
    return found


@dataclass(frozen=True)
class ClassRow:
    """A class of problems: the mean over its problems of each peer's median log gap at the end, of the peers that have all
    of them; `best`: the best single peer that is not ours."""

    name: str
    problems: tuple[str, ...]
    gaps: Mapping[str, float]
    best: str | None

    def behind(self, peer: str) -> float:
        """How many decades a peer is behind the best single other; negative where it is ahead; NaN where unknown."""
        if self.best is None or peer not in self.gaps:
            return math.nan
        return self.gaps[peer] - self.gaps[self.best]


@dataclass(frozen=True)
class Verdict:
    """Whether a peer of ours meets the bars: first by mean rank, and in no class more than `MARGIN` decades behind."""

    peer: str
    rank: float
    next_rank: float
    next_peer: str
    behind: Mapping[str, float]

    @property
    def first(self) -> bool:
        return self.rank < self.next_rank

    @property
    def near(self) -> bool:
        return all(value <= MARGIN for value in self.behind.values() if not math.isnan(value))

    @property
    def met(self) -> bool:
        return self.first and self.near


@dataclass(frozen=True, eq=False)
class Summary:
    """All tables. Mappings by (problem, peer): `end` and `area` are medians over seeds of the log gap after the last
    evaluation and of its mean over all evaluations; `curves` (n,) medians after each; `never` how many runs found nothing
    feasible. `rank` by peer from medians, `seed_rank` from single runs; `ask` median and 95th percentile of the CPU
    seconds of an ask and a tell together."""

    problems: tuple[str, ...]
    peers: tuple[str, ...]
    budget: int
    seeds: Mapping[tuple[str, str], tuple[int, ...]]
    end: Mapping[tuple[str, str], float]
    area: Mapping[tuple[str, str], float]
    curves: Mapping[tuple[str, str], Array]
    never: Mapping[tuple[str, str], int]
    ranked: tuple[str, ...]
    ranked_problems: tuple[str, ...]
    rank: Mapping[str, float]
    area_rank: Mapping[str, float]
    seed_rank: Mapping[str, float]
    seed_pairs: int
    classes: tuple[ClassRow, ...]
    ask: Mapping[str, tuple[float, float]]
    verdicts: tuple[Verdict, ...]
    errors: tuple[Cell, ...]
    versions: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, str]


def summarize(cells: Iterable[Cell], refused: Mapping[tuple[str, str], str] | None = None) -> Summary:
    """The summary of runs, in the order of their first appearance; `refused`: (problem, peer) that cannot be, and why."""
    cells = list(cells)
    problems_ = tuple(dict.fromkeys(cell.problem for cell in cells))
    peers = tuple(dict.fromkeys(cell.peer for cell in cells))
    budget = max((cell.budget for cell in cells), default=0)
    logs: dict[tuple[str, str, int], Array] = {}
    for problem in problems_:
        here = [cell for cell in cells if cell.problem == problem]
        curves = [curve_of(cell) for cell in here]
        for cell, log in zip(here, log_gaps(curves), strict=True):
            logs[problem, cell.peer, cell.seed] = log
    never: dict[tuple[str, str], int] = {}
    for cell in cells:
        lost = not np.isfinite(curve_of(cell).best[-1])
        never[cell.problem, cell.peer] = never.get((cell.problem, cell.peer), 0) + int(lost)
    seeds = {
        (problem, peer): tuple(sorted(seed for p, q, seed in logs if (p, q) == (problem, peer)))
        for problem, peer in never
    }
    together = {pair: np.array([logs[(*pair, seed)] for seed in found]) for pair, found in seeds.items()}
    end = {pair: float(np.median(many[:, -1])) for pair, many in together.items()}
    area = {pair: float(np.median(many.mean(axis=1))) for pair, many in together.items()}
    limited = {peer for _, peer in refused or ()}
    ranked = tuple(peer for peer in peers if peer not in limited)
    common = tuple(problem for problem in problems_ if all((problem, peer) in end for peer in ranked))
    last = {key: float(log[-1]) for key, log in logs.items()}
    by_seed, pairs = _seed_ranks(last, ranked, common)
    classes = _classes(problems_, peers, end)
    return Summary(
        problems=problems_,
        peers=peers,
        budget=budget,
        seeds=seeds,
        end=end,
        area=area,
        curves={pair: np.median(many, axis=0) for pair, many in together.items()},
        never=never,
        ranked=ranked,
        ranked_problems=common,
        rank=mean_ranks(end, ranked, common),
        area_rank=mean_ranks(area, ranked, common),
        seed_rank=by_seed,
        seed_pairs=pairs,
        classes=classes,
        ask={peer: _seconds([cell for cell in cells if cell.peer == peer]) for peer in peers},
        verdicts=tuple(_verdict(peer, ranked, common, end, classes) for peer in ranked if is_ours(peer)),
        errors=tuple(cell for cell in cells if cell.error is not None),
        versions={
            peer: tuple(sorted({cell.version for cell in cells if cell.peer == peer and cell.version}))
            for peer in peers
        },
        settings={cell.peer: cell.settings for cell in cells},
    )


def mean_ranks(
    values: Mapping[tuple[str, str], float], peers: Sequence[str], problems_: Sequence[str]
) -> dict[str, float]:
    """Mean over problems of each peer's rank among the peers.

    >>> mean_ranks({("a", "x"): 1.0, ("a", "y"): 2.0, ("b", "x"): 0.0, ("b", "y"): 0.0}, ["x", "y"], ["a", "b"])
    {'x': 1.25, 'y': 1.75}
    """
    if not problems_ or not peers:
        return {}
    each = [ranks([values[problem, peer] for peer in peers]) for problem in problems_]
    return dict(zip(peers, np.mean(each, axis=0).tolist(), strict=True))


def _seed_ranks(
    last: Mapping[tuple[str, str, int], float], peers: Sequence[str], problems_: Sequence[str]
) -> tuple[dict[str, float], int]:
    """Mean rank of single runs over the (problem, seed) that all peers have, and how many these are."""
    keys = sorted({(problem, seed) for problem, _, seed in last if problem in problems_})
    whole = [(problem, seed) for problem, seed in keys if all((problem, peer, seed) in last for peer in peers)]
    if not whole or not peers:
        return {}, 0
    each = [ranks([last[problem, peer, seed] for peer in peers]) for problem, seed in whole]
    return dict(zip(peers, np.mean(each, axis=0).tolist(), strict=True)), len(whole)


def _classes(
    problems_: Sequence[str], peers: Sequence[str], end: Mapping[tuple[str, str], float]
) -> tuple[ClassRow, ...]:
    rows = []
    for name in CLASSES:
        members = tuple(problem for problem in problems_ if class_of(problem) == name)
        if not members:
            continue
        whole = [peer for peer in peers if all((problem, peer) in end for problem in members)]
        gaps = {peer: float(np.mean([end[problem, peer] for problem in members])) for peer in whole}
        others = [peer for peer in whole if not is_ours(peer)]
        rows.append(ClassRow(name, members, gaps, min(others, key=gaps.__getitem__, default=None)))
    return tuple(rows)


def _seconds(cells: Sequence[Cell]) -> tuple[float, float]:
    """Median and 95th percentile of the CPU seconds of an ask and its tell."""
    both = [a + t for cell in cells for a, t in zip(cell.ask, cell.tell, strict=False)]
    if not both:
        return math.nan, math.nan
    return float(np.median(both)), float(np.quantile(both, 0.95))


def _verdict(
    peer: str,
    ranked: Sequence[str],
    common: Sequence[str],
    end: Mapping[tuple[str, str], float],
    classes: Sequence[ClassRow],
) -> Verdict:
    """One of ours among the others, without the rest of ours."""
    among = [other for other in ranked if other == peer or not is_ours(other)]
    found = mean_ranks(end, among, common)
    others = {other: rank for other, rank in found.items() if other != peer}
    nearest = min(others, key=others.__getitem__, default="")
    return Verdict(
        peer,
        found.get(peer, math.nan),
        others.get(nearest, math.nan),
        nearest,
        {row.name: row.behind(peer) for row in classes},
    )
