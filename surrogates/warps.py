"""Monotone maps from raw outputs to standardised targets, chosen by how probable they make the data.

    z = (w(y - anchor) - centre) / factor,     w(u) = u   or   w(u) = asinh(u / width)

asinh is linear near the anchor and logarithmic far from it, on both sides, and has all derivatives. A constraint has
its threshold 0 as anchor and is not centred, so z = 0 exactly where g = 0, at full precision, while values of 1e7 and
poles become tame. An objective has its best value as anchor: resolution where it matters, decades elsewhere.
The candidates are compared by log p(y) = log p(z) + sum log dz/dy (Snelson, Rasmussen, Ghahramani 2003, "Warped
Gaussian Processes", equation 6). Values beyond a far fence on the bad side are moved to the fence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LARGEST = 1e150  # raw values beyond this are taken as this, so that squares stay finite
FENCE = 6.0  # in units of the spread of the middle half of the warped values


@dataclass(frozen=True)
class Warp:
    """One map. width: infinite for the linear one. low, high: fences for z.

    >>> warp = Warp(anchor=0.0, width=1.0, centre=0.0, factor=2.0)
    >>> z = warp.forward(np.array([0.0, 1e7]))
    >>> z.round(4).tolist(), warp.inverse(z).round(3).tolist()
    ([0.0, 8.4056], [0.0, 10000000.0])
    """

    anchor: float
    width: float
    centre: float
    factor: float
    low: float = -np.inf
    high: float = np.inf

    def forward(self, y: Array) -> Array:
        """Targets of raw values, any shape."""
        return np.asarray(np.clip((self._bend(y) - self.centre) / self.factor, self.low, self.high))

    def inverse(self, z: Array) -> Array:
        """Raw values of targets, any shape."""
        u = np.asarray(z) * self.factor + self.centre
        return np.asarray(self.anchor + (u if np.isinf(self.width) else self.width * np.sinh(u)))

    def slope(self, y: Array) -> Array:
        """dz/dy, fences aside, any shape."""
        u = np.clip(np.asarray(y, dtype=float), -LARGEST, LARGEST) - self.anchor
        bent = np.ones_like(u) if np.isinf(self.width) else 1.0 / np.hypot(self.width, u)
        return np.asarray(bent / self.factor)

    def _bend(self, y: Array) -> Array:
        u = np.clip(np.asarray(y, dtype=float), -LARGEST, LARGEST) - self.anchor
        return np.asarray(u if np.isinf(self.width) else np.arcsinh(u / self.width))


def objective_warps(y: Array) -> dict[str, Warp]:
    """Candidate maps for an objective that is minimised, by name: linear, and logarithmic ones of its excess.

    >>> list(objective_warps(np.array([1.0, 2.0, 1000.0])))
    ['linear', 'low 0.5', 'low 0.15']
    """
    clean = np.clip(y, -LARGEST, LARGEST)
    maps = {"linear": _standardised(clean, 0.0, np.inf, centred=True)}
    return maps | _logarithmic(clean, "low", float(clean.min()), centred=True)


def constraint_warps(g: Array) -> dict[str, Warp]:
    """Candidate maps for a constraint g <= 0, by name, each taking 0 to 0 exactly.

    Linear; logarithmic away from 0; and logarithmic away from the largest or the smallest value, where a quantity that
    saturates on one side has its resolution (g = 1 - load, with a load over decades).

    >>> warps = constraint_warps(np.array([-1.0, 2.0, 1000.0]))
    >>> [float(warp.forward(np.zeros(1))[0]) for warp in warps.values()]
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    clean = np.clip(g, -LARGEST, LARGEST)
    maps = {"linear": _standardised(clean, 0.0, np.inf, centred=False)}
    for name, anchor in (("zero", 0.0), ("high", float(clean.max())), ("low", float(clean.min()))):
        maps |= _logarithmic(clean, name, anchor, centred=False)
    return maps


def _logarithmic(y: Array, name: str, anchor: float, centred: bool) -> dict[str, Warp]:
    away = np.abs(y - anchor)
    smallest = max(1e-12 * abs(anchor), 1e-100)
    widths = {q: float(np.quantile(away, q)) for q in (0.5, 0.15)}
    return {f"{name} {q}": _standardised(y, anchor, w, centred) for q, w in widths.items() if w > smallest}


def _standardised(y: Array, anchor: float, width: float, centred: bool) -> Warp:
    u = Warp(anchor, width, 0.0, 1.0)._bend(y)
    q1, middle, q3 = np.quantile(u, (0.25, 0.5, 0.75))
    spread = float(q3 - q1)
    tails = (float(middle - FENCE * spread), float(middle + FENCE * spread)) if spread > 0.0 else (-np.inf, np.inf)
    kept = np.clip(u, *tails)
    centre = float(kept.mean()) if centred else float(Warp(anchor, width, 0.0, 1.0)._bend(np.zeros(1))[0])
    factor = float(kept.std(ddof=1)) if len(kept) > 1 else 0.0
    if not centred and not factor > 0.0:
        factor = float(np.sqrt(np.mean((kept - centre) ** 2)))
    if not (np.isfinite(factor) and factor > 1e-300 * (1.0 + abs(centre))):
        factor = 1.0
    high = (tails[1] - centre) / factor
    low = -np.inf if centred else (tails[0] - centre) / factor
    if not centred:
        low, high = min(low, -1.0), max(high, 1.0)
    return Warp(anchor, width, centre, factor, low, high)
