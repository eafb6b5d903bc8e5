"""The mathematics of CMA-ES: selection weights, learning rates, and one update of mean, step size and covariance.

N. Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772 (the version of 2023); equation numbers are from there.
Differences: rows that are tied share the average of their weights; weights and rates are those of the number of rows that
were ranked, which may be smaller than the population; steps may be given in the units of a scaled sampling distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

LARGEST_CONDITION = 1e14  # of the covariance


@dataclass(frozen=True, eq=False)
class Gaussian:
    """The sampling distribution N(mean, step_size**2 C) with C = axes diag(lengths**2) axes^T, and what adapts it.

    mean, path_sigma, path_c, lengths: (n,); covariance, axes: (n, n); generation: updates so far.
    """

    mean: Array
    step_size: float
    covariance: Array
    axes: Array
    lengths: Array
    path_sigma: Array
    path_c: Array
    generation: int = 0

    @staticmethod
    def start(mean: Array, step_size: float, deviations: Array) -> Gaussian:
        """Around `mean`, with standard deviations step_size * deviations along the coordinates."""
        n = len(mean)
        return Gaussian(mean, step_size, np.diag(deviations**2), np.eye(n), deviations, np.zeros(n), np.zeros(n))

    @property
    def deviations(self) -> Array:
        """(n,) standard deviations of the coordinates."""
        deviations: Array = self.step_size * np.sqrt(np.diag(self.covariance))
        return deviations

    def whiten(self, Y: Array) -> Array:
        """(k, n) rows C^(-1/2) y of rows y."""
        white: Array = ((Y @ self.axes) / self.lengths) @ self.axes.T
        return white


@dataclass(frozen=True, eq=False)
class Rates:
    """Weights (best first) and learning rates for n columns and `ranked` rows."""

    weights: Array
    mu: int
    mu_eff: float
    c_sigma: float
    d_sigma: float
    c_c: float
    c_1: float
    c_mu: float
    chi_n: float


def default_population(n: int) -> int:
    """Rows per generation for n columns, eq. (48)."""
    return 4 + math.floor(3 * math.log(max(n, 1)))


def rates(n: int, ranked: int, active: bool = True) -> Rates:
    """The default strategy parameters, table 1 of the tutorial; without `active` no weight is negative.

    >>> chosen = rates(5, 8)
    >>> chosen.mu, round(float(chosen.weights[:4].sum()), 12)
    (4, 1.0)
    """
    raw = math.log((ranked + 1) / 2) - np.log(np.arange(1, ranked + 1))  # (49)
    mu = ranked // 2
    mu_eff = float(raw[:mu].sum() ** 2 / (raw[:mu] ** 2).sum())
    mu_eff_minus = float(raw[mu:].sum() ** 2 / (raw[mu:] ** 2).sum())
    c_sigma = (mu_eff + 2) / (n + mu_eff + 5)  # (55)
    d_sigma = 1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (n + 1)) - 1) + c_sigma  # (55)
    c_c = (4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n)  # (56)
    c_1 = 2 / ((n + 1.3) ** 2 + mu_eff)  # (57)
    c_mu = min(1 - c_1, 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((n + 2) ** 2 + mu_eff))  # (58)
    size = min(1 + c_1 / c_mu, 1 + 2 * mu_eff_minus / (mu_eff + 2), (1 - c_1 - c_mu) / (n * c_mu))  # (50), (51), (52)
    negative = (size if active else 0.0) / max(float(-raw[raw < 0].sum()), 1e-300)
    weights = np.where(raw >= 0, raw / raw[raw > 0].sum(), negative * raw)  # (53)
    chi_n = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))
    return Rates(weights, mu, mu_eff, c_sigma, d_sigma, c_c, c_1, c_mu, chi_n)


def shared(weights: Array, groups: Sequence[Sequence[int]]) -> Array:
    """Weights by position within the concatenated groups, averaged within each group of tied rows."""
    result = np.array(weights)
    start = 0
    for group in groups:
        if len(group) > 1:
            result[start : start + len(group)] = weights[start : start + len(group)].mean()
        start += len(group)
    return result


def update(
    now: Gaussian, Y: Array, groups: Sequence[Sequence[int]], chosen: Rates, scaling: Array | None = None
) -> Gaussian:
    """The distribution after one generation.

    Y: (ranked, n) steps (x - mean) / step_size, best first, in the order of the concatenated groups; groups: tied rows;
    scaling: (n,) factors by which the sampling distribution was wider than `now` along the coordinates, taken out of Y.
    """
    n = len(now.mean)
    scaling = np.ones(n) if scaling is None else scaling
    recombination = shared(np.maximum(chosen.weights, 0.0), groups)
    weights = shared(chosen.weights, groups)
    mu_eff = 1.0 / float((recombination**2).sum())
    y_w = recombination @ Y  # (41)
    mean = now.mean + now.step_size * scaling * y_w  # (42), c_m = 1

    keep = 1 - chosen.c_sigma
    path_sigma = (
        keep * now.path_sigma + math.sqrt(chosen.c_sigma * (2 - chosen.c_sigma) * mu_eff) * now.whiten(y_w[None])[0]
    )  # (43)
    length = float(np.linalg.norm(path_sigma))
    step_size = now.step_size * math.exp(
        min(1.0, chosen.c_sigma / chosen.d_sigma * (length / chosen.chi_n - 1))
    )  # (44)

    normal = length / math.sqrt(1 - keep ** (2 * (now.generation + 1)))
    h_sigma = 1.0 if normal < (1.4 + 2 / (n + 1)) * chosen.chi_n else 0.0
    path_c = (1 - chosen.c_c) * now.path_c + h_sigma * math.sqrt(chosen.c_c * (2 - chosen.c_c) * mu_eff) * y_w  # (45)
    squared = (now.whiten(Y) ** 2).sum(axis=1)
    w = np.where(weights >= 0, weights, weights * n / np.maximum(squared, 1e-300))  # (46)
    lost = (1 - h_sigma) * chosen.c_c * (2 - chosen.c_c)
    covariance = (
        (1 + chosen.c_1 * lost - chosen.c_1 - chosen.c_mu * weights.sum()) * now.covariance
        + chosen.c_1 * np.outer(path_c, path_c)
        + chosen.c_mu * (Y.T * w) @ Y
    )  # (47)
    changed = replace(
        now, mean=mean, step_size=step_size, path_sigma=path_sigma, path_c=path_c, generation=now.generation + 1
    )
    return decompose(changed, covariance)


def decompose(now: Gaussian, covariance: Array) -> Gaussian:
    """With this covariance and its axes; its eigenvalues are kept apart by at most `LARGEST_CONDITION`."""
    symmetric = (covariance + covariance.T) / 2
    values, axes = np.linalg.eigh(symmetric)
    floor = max(float(values[-1]), 1e-300) / LARGEST_CONDITION
    if values[0] < floor:
        values = np.maximum(values, floor)
        symmetric = (axes * values) @ axes.T
    return replace(now, covariance=symmetric, axes=axes, lengths=np.sqrt(values))
