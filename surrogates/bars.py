"""A predictive distribution made of bars with half-normal tails, and everything about it in closed form.

Inside bar b, between two borders, the density is constant with mass p_b. The first and the last bar are half-normals
that start at their inner border; half of their mass lies within the bar's width w, so their scale is w / 0.67449.
This is the output of TabPFN (Müller et al. 2023, arXiv 2305.17535, appendix; the released code's moments and quantiles
of the tails differ from version to version, so none of it is used here). NumPy, float64, values are minimised.

Two bars of equal mass that meet at c are exactly a normal around c: `Bars.normal`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, erfcx, log_ndtr, logsumexp, ndtri

Array = NDArray[np.float64]
MEDIAN = float(ndtri(0.75))  # the median of a half-normal of scale 1
HALF_NORMAL_MEAN = math.sqrt(2.0 / math.pi)
PEAK = 1.0 / math.sqrt(2.0 * math.pi)  # phi(0)
LOWEST = -104.0  # log of the least positive float32: what a float32 softmax calls zero is taken to be this


@dataclass(frozen=True)
class Bars:
    """The distributions of q values over the same B >= 2 bars.

    borders: (B+1,) rising; only inner bars may have no width. log_p: (q, B), each row's exponentials add up to 1.

    >>> bars = Bars.normal(1.0, 2.0, count=1)
    >>> bars.mean().round(9).tolist(), bars.variance().round(9).tolist()
    ([1.0], [4.0])
    >>> bars.log_below(-3.0).round(4).tolist()  # log of the normal distribution at two standard deviations
    [-3.7832]
    """

    borders: Array
    log_p: Array

    @classmethod
    def of(cls, borders: Array, logits: Array) -> Bars:
        """Bars with (q, B) logits of any offset; minus infinity, where a softmax ran out of digits, counts as -104."""
        log_p = _normalised(np.asarray(logits, dtype=float))
        if log_p.min(initial=0.0) < LOWEST:
            log_p = _normalised(np.maximum(log_p, LOWEST))
        return cls(np.asarray(borders, dtype=float), log_p)

    @classmethod
    def normal(cls, centre: float, sd: float, count: int) -> Bars:
        """The same normal distribution `count` times."""
        width = MEDIAN * sd
        return cls(np.array([centre - width, centre, centre + width]), np.full((count, 2), -math.log(2.0)))

    @cached_property
    def _widths(self) -> Array:
        return np.diff(self.borders)

    @cached_property
    def _scales(self) -> tuple[float, float]:
        return float(self._widths[0]) / MEDIAN, float(self._widths[-1]) / MEDIAN

    @cached_property
    def _centres(self) -> Array:
        """(B,) the mean of each bar."""
        centres = 0.5 * (self.borders[:-1] + self.borders[1:])
        centres[0] = self.borders[1] - self._scales[0] * HALF_NORMAL_MEAN
        centres[-1] = self.borders[-2] + self._scales[1] * HALF_NORMAL_MEAN
        return centres

    def mean(self) -> Array:
        """(q,) means."""
        return np.asarray(np.exp(self.log_p) @ self._centres)

    def variance(self) -> Array:
        """(q,) variances: within the bars and between them, so never negative."""
        within = self._widths**2 / 12.0
        within[[0, -1]] = (1.0 - 2.0 / math.pi) * np.square(self._scales)
        p, mean = np.exp(self.log_p), self.mean()
        between = np.sum(p * np.square(self._centres - mean[:, None]), axis=1)
        return np.asarray(p @ within + between)

    def log_below(self, limit: float) -> Array:
        """(q,) log P(value <= limit), finite however far the limit lies in the lower tail."""
        return self._log_expectation(self._log_share_below(limit))

    def log_improvement(self, best: float) -> Array:
        """(q,) log E max(best - value, 0), finite however far `best` lies in the lower tail."""
        return self._log_expectation(self._log_improvement_of_bars(best))

    def quantiles(self, probabilities: Array) -> Array:
        """(q, k) quantiles at (q, k) probabilities, between 0 and 1, ends excluded."""
        u = np.asarray(probabilities, dtype=float)
        p = np.exp(self.log_p)
        up_to = np.cumsum(p, axis=1)
        up_to /= up_to[:, -1:]
        last = p.shape[1] - 1
        bar = np.stack([np.searchsorted(row, v) for row, v in zip(up_to, u, strict=True)]) if len(u) else u.astype(int)
        bar = np.minimum(bar, last)
        end = np.take_along_axis(up_to, bar, axis=1)
        mass = np.maximum(np.take_along_axis(p, bar, axis=1), 1e-300)
        left = np.clip((end - u) / mass, 0.0, 1.0)  # share of the bar above the quantile
        values = self.borders[bar + 1] - left * self._widths[bar]
        low, high = self._scales
        outer = np.clip(u / mass, 1e-300, 1.0)  # share of the first bar below the quantile
        values = np.where(bar == 0, self.borders[1] + low * ndtri(0.5 * outer), values)
        outer = np.clip((1.0 - u) / mass, 1e-300, 1.0)  # share of the last bar above the quantile
        return np.asarray(np.where(bar == last, self.borders[-2] - high * ndtri(0.5 * outer), values))

    def mean_slope(self) -> tuple[Array, Array]:
        """(q,) means and their (q, B) derivatives in the logits."""
        mean = self.mean()
        return mean, np.exp(self.log_p) * (self._centres - mean[:, None])

    def log_below_slope(self, limit: float) -> tuple[Array, Array]:
        """`log_below` and its (q, B) derivatives in the logits."""
        return self._with_slope(self._log_share_below(limit))

    def log_improvement_slope(self, best: float) -> tuple[Array, Array]:
        """`log_improvement` and its (q, B) derivatives in the logits."""
        return self._with_slope(self._log_improvement_of_bars(best))

    def _log_expectation(self, log_f: Array) -> Array:
        return np.asarray(logsumexp(self.log_p + log_f, axis=1))

    def _with_slope(self, log_f: Array) -> tuple[Array, Array]:
        value = self._log_expectation(log_f)
        return value, np.exp(self.log_p + log_f - value[:, None]) - np.exp(self.log_p)

    def _log_share_below(self, limit: float) -> Array:
        """(B,) log P(value <= limit) of each bar."""
        low, high = self._scales
        share = _share(limit, self.borders[:-1], self._widths)
        share[-1] = erf(max(limit - float(self.borders[-2]), 0.0) / (high * math.sqrt(2.0)))
        log_share = _log(share)
        log_share[0] = math.log(2.0) + log_ndtr(min((limit - float(self.borders[1])) / low, 0.0))
        return log_share

    def _log_improvement_of_bars(self, best: float) -> Array:
        """(B,) log E max(best - value, 0) of each bar."""
        (low, high), inner_low, inner_high = self._scales, float(self.borders[1]), float(self.borders[-2])
        share = _share(best, self.borders[:-1], self._widths)  # of the bar below `best`: its mean gap is half as wide
        gain = np.where(share < 1.0, 0.5 * share**2 * self._widths, best - self._centres)
        z = (best - inner_high) / high
        gain[-1] = high * _gain_in_upper_tail(z)
        log_gain = _log(gain)
        z = (best - inner_low) / low
        log_gain[0] = math.log(2.0 * low) + _log_h(z) if z < 0.0 else math.log(best - float(self._centres[0]))
        return log_gain


def _normalised(logits: Array) -> Array:
    top = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(top - np.log(np.exp(top).sum(axis=1, keepdims=True)))


def _share(limit: float, left: Array, width: Array) -> Array:
    """(B,) which share of each bar lies below the limit; a bar without width lies where it begins."""
    wide = width > 0.0
    return np.where(wide, np.clip((limit - left) / np.where(wide, width, 1.0), 0.0, 1.0), (left < limit).astype(float))


def _log(values: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values))


def _gain_in_upper_tail(z: float) -> float:
    """E max(z - |Z|, 0) of a standard normal Z: the integral of 2 (z - t) phi(t) over t from 0 to z."""
    if z <= 0.0:
        return 0.0
    if z < 0.1:  # the closed form below would subtract equal numbers; next term of the series: z^10 / 34560
        return 2.0 * PEAK * (z**2 / 2 - z**4 / 24 + z**6 / 240 - z**8 / 2688)
    return z * float(erf(z / math.sqrt(2.0))) - 2.0 * PEAK * -math.expm1(-0.5 * z * z)


def _log_h(z: float) -> float:
    """log(phi(z) + z Phi(z)) for z <= 0 (Ament et al. 2023, arXiv 2310.20708, equation 9)."""
    x2 = z * z
    if z < -50.0:  # 1 + z Phi / phi loses its digits, its series in 1/z^2 has them
        rest = math.log((1.0 - 3.0 / x2 + 15.0 / x2**2 - 105.0 / x2**3) / x2)
    else:
        rest = math.log(1.0 + z * math.sqrt(0.5 * math.pi) * float(erfcx(-z / math.sqrt(2.0))))
    return -0.5 * x2 + math.log(PEAK) + rest
