"""What a strategy with a model leaves out when an ask has a deadline.

From the most thought to the least: fit and search as always; keep the hyperparameters of an earlier ask (or fit them to
a hundred rows); search less; no model at all, a point near the best one. Whether the next step fits into the time left is
estimated: a fit from its operations and from how fast this machine factors a small matrix right now, a search from how
long the score takes for a few points.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.linalg import lapack

from bbopt.acquisition.domain import Domain
from bbopt.acquisition.search import Effort, Score, Taken, around
from bbopt.deadline import Deadline

Array = np.ndarray[Any, np.dtype[Any]]
PROBE = 128  # rows of the matrix by which the machine's speed is measured: a fraction of a millisecond
FITS, FITS_MANY = 40, 15  # gradients that new hyperparameters take, up to 300 rows and beyond, where they end early
SLACK = 0.5  # share of the time left that an estimate may fill
TRIED = 32  # points by which a score is timed
SMALL = Effort(raw=128, around=6, starts=3, iterations=15)
NO_MODEL = "deadline: no time for a model, a point near the best"
NO_FIT = "deadline: hyperparameters not fitted again"
SMALLER = "deadline: a smaller search"


def fits_in(deadline: Deadline | None, rows: int, outputs: int, refit: bool) -> bool:
    """Whether a model of that many rows, with new hyperparameters or with those of before, fits into the time left."""
    if deadline is None:
        return True
    return model_seconds(_probe() / PROBE**3, rows, outputs, refit) <= SLACK * deadline.left()


def model_seconds(unit: float, rows: int, outputs: int, refit: bool) -> float:
    """An estimate, `unit` being the seconds of a factorisation with its inverse per cubed row.

    >>> [round(model_seconds(1e-10, 1000, 1, refit), 2) for refit in (True, False)]
    [2.65, 0.1]
    """
    fit = (FITS if rows <= 300 else FITS_MANY) * (1.2 * unit * rows**3 + 5e-8 * rows**2) if refit else 0.0
    return outputs * (fit + unit * rows**3)


def searches_in(deadline: Deadline | None, score: Score, domain: Domain, rng: np.random.Generator, asked: int) -> bool:
    """Whether there is time for a full search for each of `asked` rows; if not, one of effort `SMALL` is made."""
    if deadline is None:
        return True
    rows = domain.sample(TRIED, rng)
    started = time.perf_counter()
    score.value(rows)
    each = (time.perf_counter() - started) / TRIED
    full = Effort()
    points = full.raw + 18 * full.around + 2 * full.starts * full.iterations
    return asked * points * each <= SLACK * deadline.left()


def near_best(domain: Domain, best: Array, away: Taken, rng: np.random.Generator, count: int) -> Array:
    """(k, D) distinct rows, at most `count`, near the (a, D) best ones: what can be had without a model."""
    rows = rng.permutation(around(best, domain, max(1, count), rng))
    rows = np.unique(rows[~away(rows)], axis=0)
    rows = rng.permutation(rows)[:count]
    return rows if len(rows) == count else np.concatenate([rows, domain.sample(count - len(rows), rng)])


def with_note(memo: dict[str, Any], note: str) -> dict[str, Any]:
    """The memo with one more note for people, if there is something to say.

    >>> with_note({"note": "a", "x": 1}, "b")
    {'note': 'a; b', 'x': 1}
    """
    return {**memo, "note": "; ".join([*([memo["note"]] if "note" in memo else []), note])} if note else memo


def _probe() -> float:
    """Seconds that factoring and inverting a small matrix take now, the better of two."""
    K = np.full((PROBE, PROBE), 0.5) + 0.5 * np.eye(PROBE)
    spent = []
    for _ in range(2):
        started = time.perf_counter()
        L, _ = lapack.dpotrf(K, lower=1)
        lapack.dtrtri(L, lower=1)
        spent.append(time.perf_counter() - started)
    return min(spent)
