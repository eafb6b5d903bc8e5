"""A gradient from comparisons: the (m, k)-ranking oracle, and the estimate that any set of comparisons gives.

Z. Tang, D. Rybin, T.-H. Chang, Zeroth-Order Optimization Meets Human Feedback: Provable Learning via Ranking Oracles, ICLR
2024, arXiv:2303.03751. Of m points x + mu xi_i, xi_i ~ N(0, I), the oracle names the k best in order (smaller is better
here). What it says are edges i -> j, "i is better than j", of a graph with |E| = k m - k (k + 1) / 2 of them, and

    g = 1 / |E| sum over edges (xi_j - xi_i) = - 1 / |E| sum_i w_i xi_i,   w_i = (known worse than i) - (known better than i)

The second form needs no special cases, and none of its steps needs a graph without cycles. Tied rows have no edge between
them; rows that nobody looked at are no nodes; a verdict on the whole slate gives no edge; contradictions, repeats and
several raters make a multigraph, whose edges are counted as often as they were said. Without edges there is no estimate.

Where f is linear, with u its unit gradient, g = c u + noise of variance s^2 = sum w_i^2 / |E|^2 in every coordinate, with

    c = 1 / |E| sum_r w_(r) z_(r),   z_(r) the expected order statistics of n normal numbers, weights and z both descending

so that g / c has the same length along the gradient whatever was ranked, and steps do not change when a person ranks fewer
rows. c^2 / s^2, here `efficiency`, counts equivalent exact directional derivatives: the expected squared cosine to the
gradient is about efficiency / (efficiency + d - 1), and estimates at the same point are best averaged in this proportion.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from bbopt.errors import UsageError
from bbopt.query import Ranking

Array = np.ndarray[Any, np.dtype[Any]]

WIDEST, POINTS = 12.0, 4801  # of the quadrature of order statistics: the trapezoidal rule, exact to rounding


@dataclass(frozen=True, eq=False)
class Comparisons:
    """What is known of m rows: weights (m,) w_i, degrees (m,) comparisons that each row takes part in, edges |E|.

    >>> graph = from_groups([[0], [1], [2, 3, 4]], 5)
    >>> (graph.weights / graph.edges * 7).tolist(), graph.edges
    ([4.0, 2.0, -2.0, -2.0, -2.0], 7.0)
    """

    weights: Array
    degrees: Array
    edges: float

    @cached_property
    def sharing(self) -> float:
        """N(E): ordered pairs of edges that share a row, sum_i deg_i (deg_i - 1)."""
        return float((self.degrees * (self.degrees - 1.0)).sum())

    @cached_property
    def signal(self) -> float:
        """c: the length of g along the gradient of a linear function; 0 without edges."""
        if not self.edges:
            return 0.0
        weights = -np.sort(-self.weights[self.degrees > 0.0])
        return float(weights @ order_statistics(len(weights))) / self.edges

    @cached_property
    def efficiency(self) -> float:
        """c^2 / s^2: how many exact directional derivatives would tell as much.

        >>> round(from_groups([[i] for i in range(15)], 15).efficiency, 1)
        12.5
        """
        if not self.weights.any():
            return 0.0
        return self.signal**2 / float((self.weights**2).sum()) * self.edges**2

    def estimate(self, perturbations: Array) -> Array:
        """(d,) g / c from perturbations (m, d) in units of mu: uphill, of length about 1 along the gradient."""
        if not self.weights.any():
            return np.zeros(perturbations.shape[1])
        found: Array = (-self.weights / (self.edges * self.signal)) @ perturbations
        return found


def from_groups(groups: Sequence[Sequence[int]], rows: int) -> Comparisons:
    """Comparisons of ordered groups of tied rows, best first; rows in no group were not looked at."""
    return from_ranking(Ranking(tuple(tuple(group) for group in groups)), rows)


def from_ranking(ranking: Ranking, rows: int) -> Comparisons:
    """Comparisons of one person's answer, or of a pooled one. A verdict on the whole slate gives none."""
    degrees = np.zeros(rows)
    if ranking.verdict is not None:
        return Comparisons(np.zeros(rows), degrees, 0.0)
    seen = sum(len(group) for group in ranking.groups)
    for group in ranking.groups:
        degrees[list(group)] = seen - len(group)
    return Comparisons(ranking.scores(rows), degrees, float(degrees.sum() / 2.0))


def from_edges(edges: Iterable[tuple[int, int]], rows: int, counts: Iterable[float] | None = None) -> Comparisons:
    """Comparisons (better, worse) as they were said: repeats, contradictions and cycles are welcome.

    counts: how much each comparison counts, 1 by default. Raises UsageError for a row compared with itself.

    >>> from_edges([(0, 1), (1, 2), (2, 0)], 3).weights.tolist()
    [0.0, 0.0, 0.0]
    """
    weights, degrees = np.zeros(rows), np.zeros(rows)
    pairs = np.array(list(edges), int).reshape(-1, 2)
    many = np.ones(len(pairs)) if counts is None else np.array(list(counts), float)
    if (pairs[:, 0] == pairs[:, 1]).any() or len(many) != len(pairs) or not (many >= 0.0).all():
        raise UsageError(f"from_edges: expected pairs of different rows with counts of at least 0, got {pairs.tolist()}, {many.tolist()}")  # fmt: skip
    for sign, column in ((1.0, 0), (-1.0, 1)):
        np.add.at(weights, pairs[:, column], sign * many)
        np.add.at(degrees, pairs[:, column], many)
    return Comparisons(weights, degrees, float(many.sum()))


def together(parts: Sequence[Comparisons]) -> Comparisons:
    """All comparisons of several answers on the same rows."""
    weights, degrees = sum(part.weights for part in parts), sum(part.degrees for part in parts)
    return Comparisons(np.asarray(weights), np.asarray(degrees), float(sum(part.edges for part in parts)))


def best_of(values: Array, k: int | None = None) -> Ranking:
    """The (m, k)-oracle's answer to values (m,), smaller is better: the k best in order, the others worse than those.

    None for all of them. Equal values are tied, and a tie is not broken to come to k rows.

    >>> best_of(np.array([3.0, 1.0, 2.0, 5.0]), 2).groups
    ((1,), (2,), (0, 3))
    """
    rows = len(values)
    groups: list[tuple[int, ...]] = []
    listed = 0
    for value in np.unique(values):
        if listed >= (rows if k is None else k):
            rest = np.flatnonzero(values >= value)
            groups.append(tuple(rest.tolist()))
            break
        groups.append(tuple(np.flatnonzero(values == value).tolist()))
        listed += len(groups[-1])
    return Ranking(tuple(groups))


def edges_of(m: int, k: int) -> int:
    """|E| of the (m, k)-oracle.

    >>> edges_of(15, 3), edges_of(2, 1)
    (39, 1)
    """
    return k * m - k * (k + 1) // 2


def sharing_of(m: int, k: int) -> int:
    """N(E) of the (m, k)-oracle, m^2 k + m k^2 - k^3 + k^2 - 4 m k + 2 k: with |E| it bounds the variance.

    >>> round(sharing_of(15, 3) / edges_of(15, 3) ** 2, 3)
    0.406
    """
    return m**2 * k + m * k**2 - k**3 + k**2 - 4 * m * k + 2 * k


def expected_cosine(efficiency: float, dimension: int) -> float:
    """Root mean square cosine between the estimate and the gradient: sqrt(efficiency / (efficiency + d - 1)).

    >>> round(expected_cosine(12.56, 100), 3)
    0.336
    """
    return math.sqrt(efficiency / (efficiency + dimension - 1.0)) if efficiency else 0.0


@cache
def order_statistics(n: int) -> Array:
    """(n,) expected values of n standard normal numbers put in order, the largest first.

    E z_(r) = n! / ((r - 1)! (n - r)!) integral of z phi(z) (1 - Phi(z))^(r - 1) Phi(z)^(n - r), r = 1 the largest.

    >>> order_statistics(3).round(6).tolist()
    [0.846284, 0.0, -0.846284]
    """
    z = np.linspace(-WIDEST, WIDEST, POINTS)
    log_above = np.log([0.5 * math.erfc(t / math.sqrt(2.0)) for t in z.tolist()])  # of 1 - Phi
    log_below = log_above[::-1]
    log_density = -0.5 * z**2 - 0.5 * math.log(2.0 * math.pi)
    step = z[1] - z[0]
    found = np.zeros(n)
    for r in range(1, n // 2 + 1):  # the other half by symmetry
        count = math.lgamma(n + 1) - math.lgamma(r) - math.lgamma(n - r + 1)
        found[r - 1] = step * float((z * np.exp(count + log_density + (r - 1) * log_above + (n - r) * log_below)).sum())
    found -= found[::-1]
    found.flags.writeable = False
    return found
