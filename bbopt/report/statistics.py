"""The statistics of a comparison of strategies: gaps, quartiles, ranks and tests. Pure functions of arrays.

Gaps are in the minimised sense and relative to the known optimum; a run without a feasible point has an infinite gap,
which ranks last and makes a quartile infinite where it must. The comparison over problems follows J. Demšar,
"Statistical comparisons of classifiers over multiple data sets", JMLR 7 (2006) 1-30: problems are the blocks of a
Friedman test, and the Nemenyi critical difference says which mean ranks can be told apart. Two additions: ties have
their correction (Conover, Practical Nonparametric Statistics, 1999, section 5.8), and the score that is ranked within
a problem is the mean over the seeds of the ranks within each seed, because strategies share their initial design
per seed. Wilcoxon's signed-rank test with Holm's correction compares pairs (Benavoli et al., JMLR 17 (2016) 1-10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FLOOR",
    "Comparison",
    "Friedman",
    "average_ranks",
    "best_so_far",
    "cliques",
    "compare",
    "critical_difference",
    "evaluations_to_feasible",
    "friedman",
    "holm",
    "pairwise_wilcoxon",
    "quartiles",
    "relative_gap",
    "share_feasible",
]

Floats = NDArray[np.float64]
FLOOR = 1e-6
"""Gaps below this are drawn here and are ties: known optima are good to six digits."""


def best_so_far(objective: Floats, feasible: NDArray[np.bool_], maximize: bool = False) -> Floats:
    """Best feasible value after each evaluation (n,), in the user's sign; NaN while there is none.

    >>> best_so_far(np.array([3.0, 1.0, 2.0]), np.array([False, True, True])).tolist()
    [nan, 1.0, 1.0]
    """
    sign = -1.0 if maximize else 1.0
    usable = np.where(feasible & np.isfinite(objective), sign * objective, np.inf)
    best = np.minimum.accumulate(usable) if len(usable) else usable
    return np.where(np.isfinite(best), sign * best, np.nan)


def relative_gap(best: Floats, optimum: float, maximize: bool = False) -> Floats:
    """Distance of best feasible values to the optimum, divided by |optimum| unless that is 0; NaN becomes infinity.

    Negative where a value beats the optimum. Same shape as `best`.

    >>> relative_gap(np.array([np.nan, 12.0, 10.0]), 10.0).tolist()
    [inf, 0.2, 0.0]
    """
    scale = abs(optimum) if optimum != 0.0 else 1.0
    gap = (-1.0 if maximize else 1.0) * (best - optimum) / scale
    return np.where(np.isnan(gap), np.inf, gap)


def quartiles(values: Floats, probabilities: Sequence[float] = (0.25, 0.5, 0.75)) -> Floats:
    """Quantiles over the first axis, linear between order statistics, where infinities are allowed.

    Shape (len(probabilities), ...). An infinite neighbour makes the quantile infinite; NumPy would answer NaN.

    >>> quartiles(np.array([1.0, 2.0, 3.0, np.inf])).tolist()
    [1.75, 2.5, inf]
    """
    ordered = np.sort(values, axis=0)
    last = len(ordered) - 1
    rows = []
    for probability in probabilities:
        position = probability * last
        low, high = int(np.floor(position)), int(np.ceil(position))
        fraction = position - low
        below, above = ordered[low], ordered[high]
        if fraction == 0.0:
            rows.append(below)
            continue
        finite = np.isfinite(below) & np.isfinite(above)
        step = np.where(finite, above, 0.0) - np.where(finite, below, 0.0)
        rows.append(np.where(finite, below + fraction * step, above))
    return np.array(rows)


def share_feasible(first: Floats, n: int) -> Floats:
    """Share of runs that have a feasible point after 1, ..., n evaluations (n,), from `evaluations_to_feasible`.

    >>> share_feasible(np.array([2.0, np.inf]), 3).tolist()
    [0.0, 0.5, 0.5]
    """
    counts = np.arange(1, n + 1)
    return np.asarray((first[:, None] <= counts[None, :]).mean(axis=0), dtype=np.float64)


def evaluations_to_feasible(feasible: NDArray[np.bool_]) -> float:
    """Number of evaluations up to and including the first feasible one; infinity where there is none.

    >>> evaluations_to_feasible(np.array([False, False, True]))
    3.0
    """
    where = np.flatnonzero(feasible)
    return float(where[0]) + 1.0 if len(where) else float("inf")


def average_ranks(scores: Floats) -> Floats:
    """Ranks along the last axis, 1 for the smallest; ties (infinities too) share the mean of their ranks.

    >>> average_ranks(np.array([0.5, np.inf, 0.1, np.inf])).tolist()
    [2.0, 3.5, 1.0, 3.5]
    """
    smaller = (scores[..., None, :] < scores[..., :, None]).sum(axis=-1)
    equal = (scores[..., None, :] == scores[..., :, None]).sum(axis=-1)
    return np.asarray(smaller + (equal + 1) / 2, dtype=np.float64)


@dataclass(frozen=True)
class Friedman:
    """Friedman's chi-squared with correction for ties, k - 1 degrees of freedom, and its p value."""

    statistic: float
    p: float
    blocks: int
    treatments: int


def friedman(ranks: Floats) -> Friedman | None:
    """Friedman's test of ranks (blocks, treatments) within blocks; None with fewer than two of either.

    >>> friedman(np.array([[1.0, 2.0, 3.0]] * 4)).statistic
    8.0
    """
    if ranks.ndim != 2 or ranks.shape[0] < 2 or ranks.shape[1] < 2:
        return None
    from scipy.stats import chi2

    n, k = ranks.shape
    variance = float(((ranks - (k + 1) / 2) ** 2).sum()) / (n * (k - 1))  # k (k + 1) / 12 without ties
    if variance == 0.0:
        return Friedman(0.0, 1.0, n, k)
    statistic = n * float(((ranks.mean(axis=0) - (k + 1) / 2) ** 2).sum()) / variance
    return Friedman(statistic, float(chi2.sf(statistic, k - 1)), n, k)


def critical_difference(treatments: int, blocks: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of mean ranks at level `alpha` (Demsar 2006, section 3.2.2).

    >>> round(critical_difference(5, 30), 3)  # 2.728 sqrt(5 6 / (6 30))
    1.114
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1.0 - alpha, treatments, np.inf)) / np.sqrt(2.0)
    return float(q * np.sqrt(treatments * (treatments + 1) / (6.0 * blocks)))


def cliques(mean_ranks: Sequence[float], difference: float) -> list[tuple[int, ...]]:
    """Maximal groups of two or more treatments whose mean ranks differ by less than `difference`; indices, best first.

    >>> cliques([1.0, 3.2, 1.8, 2.6], 1.0)
    [(0, 2), (2, 3), (3, 1)]
    """
    order = sorted(range(len(mean_ranks)), key=lambda i: (mean_ranks[i], i))
    groups: list[tuple[int, ...]] = []
    for start in range(len(order)):
        end = start
        while end + 1 < len(order) and mean_ranks[order[end + 1]] - mean_ranks[order[start]] < difference:
            end += 1
        group = tuple(order[start : end + 1])
        if len(group) > 1 and not (groups and set(group) <= set(groups[-1])):
            groups.append(group)
    return groups


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p values, in the given order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        corrected[index] = largest
    return corrected


def pairwise_wilcoxon(scores: Floats) -> dict[tuple[int, int], float]:
    """Holm-corrected p values of Wilcoxon's signed-rank test for all pairs of columns of scores (blocks, treatments).

    Scores must be finite. Pairs without any difference have p = 1.
    """
    from scipy.stats import wilcoxon

    pairs = list(combinations(range(scores.shape[1]), 2))
    p = []
    for a, b in pairs:
        difference = scores[:, a] - scores[:, b]
        difference = difference[difference != 0.0]
        p.append(float(wilcoxon(difference).pvalue) if len(difference) else 1.0)
    return dict(zip(pairs, holm(p), strict=True))


@dataclass(frozen=True)
class Comparison:
    """Strategies over problems: `seed_ranks` and `ranks` (problems, strategies), and what the tests say of them."""

    seed_ranks: Floats
    ranks: Floats
    mean_ranks: Floats
    friedman: Friedman | None
    difference: float | None
    pairs: dict[tuple[int, int], float]


def compare(gaps: Sequence[Floats], floor: float = FLOOR) -> Comparison:
    """Compare strategies from their final gaps: one array (seeds, strategies) per problem, any number of seeds.

    Within a seed the strategies are ranked by their gap (below `floor` all are equal); the mean over the seeds is the
    score of the problem, and the scores are ranked again: these ranks, one row per problem, enter the tests.
    """
    seed_ranks = np.array([average_ranks(np.maximum(gap, floor)).mean(axis=0) for gap in gaps])
    ranks = average_ranks(np.round(seed_ranks, 9))
    test = friedman(ranks)
    enough = test is not None
    return Comparison(
        seed_ranks=seed_ranks,
        ranks=ranks,
        mean_ranks=ranks.mean(axis=0),
        friedman=test,
        difference=critical_difference(ranks.shape[1], ranks.shape[0]) if enough else None,
        pairs=pairwise_wilcoxon(seed_ranks) if enough else {},
    )
