"""The constrained optimum of the model itself, as candidates for the last digits.

Where the model has become exact, the score is a wall at every active constraint, a million times steeper across than
along it, and a climb on the score stalls in the corner. The corner is the solution of a smooth problem,
    minimise mean_0(x)  subject to  mean_c(x) + k sd_c(x) <= limit_c  inside the box,
which sequential quadratic programming (Kraft 1988, SLSQP in SciPy) solves in some ten steps. Solutions for a few
margins k join the candidates; the score decides among them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bbopt.acquisition.domain import Domain
from surrogates.predictor import Beliefs

Array = NDArray[np.float64]
WIDE = 50  # columns beyond which a step of SLSQP costs more than the model: without constraints L-BFGS-B does as well
PENALTY = 1e3  # of a violation against the objective, both in standard deviations, for keeping the best point


class Belief(NamedTuple):
    """What a model says of one point: (m,) means and standard deviations, and their (m, d) gradients."""

    mean: Array
    sd: Array
    mean_slope: Array
    sd_slope: Array


def belief_of(predictor: Beliefs) -> Callable[[Array], Belief]:
    """What Gaussian processes say of a point (d,); means are averaged over the vectors of base values."""

    def at(x: Array) -> Belief:
        moments = predictor.forward(x[None])
        sd = np.sqrt(moments.variance[:, 0])
        means, variances = predictor.slopes(moments)
        return Belief(moments.mean[:, 0].mean(axis=1), sd, means[:, 0], variances[:, 0] / (2.0 * sd[:, None]))

    return at


def corner_candidates(
    belief: Callable[[Array], Belief],
    limits: Array,
    starts: Array,
    domain: Domain,
    margins: tuple[float, ...] = (0.0, 1.0, 2.0),
    radius: float = 1.0,
    evaluations: int = 30,
) -> Array:
    """(k, d) solutions of the model's own constrained problem, one per start and margin; discrete columns stay.

    belief: of a point (d,); output 0 is minimised, the rest must be at or below `limits` (c,). starts: (a, d).
    radius: half width of the box around the start that may be searched, in box widths.
    """
    found = []
    for start in starts:
        free = np.flatnonzero(domain.continuous & domain.active(start[None])[0])
        if not len(free):
            continue
        point = start
        for margin in margins:
            point = _solve(belief, limits, start, point, free, domain, margin, radius, evaluations)
            found.append(point)
    return np.array(found).reshape(-1, domain.dimension)


def _solve(
    belief: Callable[[Array], Belief],
    limits: Array,
    centre: Array,
    start: Array,
    free: NDArray[np.intp],
    domain: Domain,
    margin: float,
    radius: float,
    evaluations: int,
) -> Array:
    width = radius * (domain.high - domain.low)
    low = np.maximum(domain.low, centre - width)[free]
    high = np.minimum(domain.high, centre + width)[free]
    best = (np.inf, np.clip(start[free], low, high))
    last: tuple[bytes, float, Array, Array, Array] | None = None
    spent = 0

    def evaluate(u: Array) -> tuple[float, Array, Array, Array]:
        nonlocal best, last, spent
        key = u.tobytes()
        if last is None or last[0] != key:
            if spent == evaluations:
                raise _Spent
            spent += 1
            x = start.copy()
            x[free] = np.clip(u, low, high)
            value, slope, slack, rise = _moments(belief(x), limits, free, margin)
            last = (key, value, slope, slack, rise)
            merit = value + PENALTY * float(np.maximum(-slack, 0.0).sum())
            if merit < best[0]:
                best = (merit, x[free])
        return last[1:]

    constraints = (
        [{"type": "ineq", "fun": lambda u: evaluate(u)[2], "jac": lambda u: evaluate(u)[3]}] if len(limits) else []
    )
    method = "L-BFGS-B" if not constraints and len(free) > WIDE else "SLSQP"
    with contextlib.suppress(_Spent):
        minimize(
            lambda u: evaluate(u)[0], best[1], jac=lambda u: evaluate(u)[1], method=method,
            bounds=list(zip(low, high, strict=True)), constraints=constraints,
            options={"maxiter": evaluations, "ftol": 1e-9},
        )  # fmt: skip
    point = start.copy()
    point[free] = best[1]
    return point


class _Spent(Exception):
    """The evaluations allowed for one solution are used up."""


def _moments(at: Belief, limits: Array, free: NDArray[np.intp], margin: float) -> tuple[float, Array, Array, Array]:
    """Objective, its gradient, the (c,) slacks and their (c, free) gradients."""
    slope = (at.mean_slope[1:] + margin * at.sd_slope[1:])[:, free]
    slack = limits - at.mean[1:] - margin * at.sd[1:]
    # SciPy's SLSQP reads the memory of a gradient without its strides
    return float(at.mean[0]), np.ascontiguousarray(at.mean_slope[0][free]), slack, np.ascontiguousarray(-slope)
