"""How good the model of a study is: every told value predicted from all others.

Leave-one-out predictions in closed form (Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, equations
5.10 to 5.12; hyperparameters and warp are those of all rows). They are normal in the units of the model; in the user's units
medians and quantiles are given. For each metric:

    Q2          1 - sum (z - mean)^2 / sum (z - constant)^2, where the constant is the mean of the other values: 1 is perfect,
                0 or less no better than a constant (both in the model's units)
    log score   mean log density of the told values, less that of a normal distribution of the other values: nats per row
    coverage    share of the told values within the central 50 % and 90 % intervals
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binom

from bbopt.advice.study_model import Output, StudyModel, number_text, studied

if TYPE_CHECKING:
    from bbopt.optimizer import Optimizer

__all__ = ["MetricQuality", "Quality", "quality"]

Array = np.ndarray[Any, np.dtype[Any]]
LEAST = 3
INNER, OUTER = (
    0.6744897501960817,
    1.6448536269514722,
)  # half widths of the central 50 % and 90 % of a normal distribution
DOUBT = 0.01  # chance that a calibrated model is called otherwise, on each side, if rows were independent
GOOD, FAIR = 0.8, 0.4  # of Q2
WORST = 5


@dataclass(frozen=True, eq=False)
class MetricQuality:
    """Leave-one-out predictions of one metric, in the user's units and sign.

    numbers: (n,) trials; told, median, low, high: (n,) values, predictions and their central 90 %; residuals: (n,)
    standardised, in the model's units and the user's sign (positive: more than was predicted); q2, log_score (nats per row),
    inside_50, inside_90: see the module; calibration: "calibrated", "overconfident" (intervals too narrow), "cautious" (too
    wide) or "nothing to judge"; worst: trials with the largest residuals, first the worst; fenced: values so far out that
    the model takes them as less extreme.
    """

    metric: str
    side: str
    numbers: Array
    told: Array
    median: Array
    low: Array
    high: Array
    residuals: Array
    q2: float
    log_score: float
    inside_50: float
    inside_90: float
    calibration: str
    worst: tuple[int, ...]
    fenced: int

    @property
    def label(self) -> str:
        """The metric, with the side of the limit where it has two."""
        return f"{self.metric} ({self.side})" if self.side else self.metric

    @property
    def verdict(self) -> str:
        """In one sentence."""
        if self.calibration == "nothing to judge":
            return "all values are equal: nothing to predict"
        level = (
            "good"
            if self.q2 >= GOOD
            else "fair"
            if self.q2 >= FAIR
            else "poor"
            if self.q2 > 0.0
            else "no better than a constant"
        )
        words = {
            "calibrated": "its intervals are as wide as they say",
            "overconfident": "its intervals are too narrow: trust them less",
            "cautious": "its intervals are wider than need be",
        }[self.calibration]
        return f"predictions {'are ' if self.q2 <= 0.0 else ''}{level}, {words}"


@dataclass(frozen=True)
class Quality:
    """Leave-one-out quality of every metric's model; n: told rows; notes: on the model."""

    n: int
    metrics: tuple[MetricQuality, ...]
    notes: tuple[str, ...]

    def summary(self) -> str:
        """In words, one metric per line."""
        lines = [f"leave-one-out over {self.n} rows:"]
        for one in self.metrics:
            lines.append(
                f"{one.label}: {one.verdict} (Q2 {number_text(one.q2, 3)}, {one.log_score:+.2f} nats per row against a constant, "
                f"{100 * one.inside_50:.0f} % within 50 %, {100 * one.inside_90:.0f} % within 90 %)"
                if one.calibration != "nothing to judge"
                else f"{one.label}: {one.verdict}"
            )
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "rows": self.n,
            "metrics": [
                {
                    "metric": one.metric, "side": one.side, "q2": one.q2, "log_score": one.log_score,
                    "inside_50": one.inside_50, "inside_90": one.inside_90, "calibration": one.calibration,
                    "verdict": one.verdict, "worst": list(one.worst), "fenced": one.fenced, "trials": one.numbers,
                    "told": one.told, "median": one.median, "low": one.low, "high": one.high, "residuals": one.residuals,
                }
                for one in self.metrics
            ],
            "notes": list(self.notes),
        }  # fmt: skip


def quality(study: Optimizer | StudyModel) -> Quality:
    """How well the model predicts each told value from all others, for every metric.

    Raises UsageError with fewer than three told rows.

    >>> import bbopt
    >>> opt = bbopt.Optimizer(bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1))), "random")
    >>> for i in range(12):
    ...     trial = opt.add({"x": i / 11}, (i / 11 - 0.3) ** 2)
    >>> found = quality(opt).metrics[0]
    >>> found.q2 > 0.99, found.told.shape
    (True, (12,))
    """
    known = studied(study, LEAST, "quality")
    two = [item.name for item in known.task.constraints if len(item.limits) == 2]
    found = []
    with np.errstate(all="ignore"):
        for j, output in enumerate(known.outputs):
            side = (
                ("upper limit" if output.sign > 0 else "lower limit")
                if j >= known.task.m and output.metric in two
                else ""
            )
            found.append(_judge(known, output, side))
    return Quality(known.n, tuple(found), known.notes)


def _judge(known: StudyModel, output: Output, side: str) -> MetricQuality:
    z = output.gp.Z[:, 0]
    mean, variance = (part[:, 0] for part in output.gp.leave_one_out())
    sd = np.sqrt(variance)
    n = len(z)
    flat = bool(np.ptp(z) <= 1e-12 * (1.0 + np.abs(z).max()))
    residuals = np.zeros(n) if flat else (z - mean) / sd
    constant = (z.sum() - z) / (n - 1)
    spread = np.sqrt(
        np.maximum((n * z.var() - (z - constant) ** 2 * (n - 1) / n) / max(n - 2, 1), 1e-300) * n / (n - 1)
    )
    unexplained, whole = ((z - mean) ** 2).sum(), ((z - constant) ** 2).sum()
    score = _log_density(residuals, sd) - _log_density((z - constant) / spread, spread)
    inside_50, inside_90 = (float((np.abs(residuals) <= width).mean()) for width in (INNER, OUTER))
    low, high = (output.quantile(mean, sd, level) for level in (0.05, 0.95))
    lowest, highest = output.warp.low, output.warp.high
    fenced = int(((z <= lowest) & np.isfinite(lowest)).sum() + ((z >= highest) & np.isfinite(highest)).sum())
    order = np.argsort(-np.abs(residuals), kind="stable")[:WORST]
    return MetricQuality(
        output.metric, side, known.numbers, output.told, output.to_user(mean), low, high,
        output.sign * residuals, float("nan") if flat else float(1.0 - unexplained / whole),
        float("nan") if flat else float(score.mean()), inside_50, inside_90, "nothing to judge" if flat else calibration(n, inside_50, inside_90),
        () if flat else tuple(int(known.numbers[i]) for i in order), fenced,
    )  # fmt: skip


def calibration(n: int, inside_50: float, inside_90: float) -> str:
    """Whether the shares of n values within 50 % and 90 % intervals are what a calibrated model would give.

    Too narrow or too wide where a share is out of the central 98 % of a binomial distribution of n independent rows.

    >>> calibration(100, 0.5, 0.9), calibration(100, 0.3, 0.6), calibration(100, 0.8, 1.0)
    ('calibrated', 'overconfident', 'cautious')
    """
    below = above = False
    for share, level in ((inside_50, 0.5), (inside_90, 0.9)):
        count = round(share * n)
        below |= bool(binom.cdf(count, n, level) < DOUBT)
        above |= bool(binom.sf(count - 1, n, level) < DOUBT)
    return "overconfident" if below else "cautious" if above else "calibrated"


def _log_density(standardised: Array, sd: Array) -> Array:
    return np.asarray(-0.5 * standardised**2 - np.log(sd) - 0.5 * np.log(2.0 * np.pi))
