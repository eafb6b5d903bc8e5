"""Minima of functions drawn from the posterior: what entropy search asks about.

Each path (`surrogates.paths`) is evaluated over the whole domain and around the best known points, and the best row climbs on
along it. Under constraints the minimum is that of the rows that are feasible along the same draw; where there is none, that of
all rows, as if the constraints could still be met anywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bbopt.acquisition.ascent import climb
from bbopt.acquisition.domain import Domain
from bbopt.acquisition.search import around
from surrogates.gp import GaussianProcess
from surrogates.paths import draw_paths

Array = NDArray[np.float64]
RAW, AROUND, CLIMBS = 512, 10, 30


def sample_minima(
    gp: GaussianProcess, limits: Array, domain: Domain, centres: Array, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """(k, D) places and (k,) values of the minima of `count` draws; output 0 is the objective, the rest are constraints.

    limits: (c,); centres: (a, D) good rows around which to look as well.

    >>> from surrogates.columns import Inputs
    >>> from surrogates.gp import fit_gp
    >>> from surrogates.map_fit import Prior
    >>> X = np.linspace(0.0, 1.0, 9)[:, None]
    >>> gp = fit_gp(Inputs.continuous(1), X, (X - 0.3) ** 2, [Prior.noiseless(1)])
    >>> rows, values = sample_minima(gp, np.zeros(0), Domain.box(1), X[:1], 8, np.random.default_rng(0))
    >>> bool(np.abs(rows - 0.3).max() < 0.1), bool(np.abs(values).max() < 0.01)
    (True, True)
    """
    paths = draw_paths(gp.of_values(), count, rng)
    rows = domain.sample(RAW, rng)
    if len(centres):
        rows = np.concatenate([rows, around(centres, domain, AROUND, rng), centres])
    values = paths.value(rows)  # (k, q, m)
    over = np.asarray((values[:, :, 1:] > limits).any(axis=2))
    over &= ~over.all(axis=1, keepdims=True)
    best = np.where(over, np.inf, values[:, :, 0]).argmin(axis=1)
    starts, which = rows[best], np.arange(count)
    lowest = values[which, best, 0]
    free = np.broadcast_to(domain.continuous, starts.shape) & domain.active(starts)
    if not free.any() or len(limits):
        return starts, lowest

    def along(rows_and_paths: Array) -> tuple[Array, Array]:
        X = rows_and_paths[:, :-1]
        value, slope = paths.along(X, rows_and_paths[:, -1].astype(np.intp))
        return np.where(domain.contains(X), -value[:, 0], -np.inf), np.hstack([-slope[:, 0], np.zeros((len(X), 1))])

    # a column that does not move says along which path a row climbs
    low, high = np.append(domain.low, 0.0), np.append(domain.high, float(count))
    begin = np.hstack([starts, which[:, None]])
    found, _ = climb(along, begin, low, high, np.hstack([free, np.zeros((count, 1), bool)]), CLIMBS)
    found = domain.canonical(found[:, :-1])
    reached = paths.value(found)[which, which, 0]
    better = (reached < lowest) & domain.contains(found)
    return np.where(better[:, None], found, starts), np.where(better, reached, lowest)
