"""Expectation propagation for weighted probit comparisons: sites that match the moments of each judgement.

Laplace's approximation puts a Gaussian at the mode, where judgements that are clear bend the density least: with little noise
it hardly learns from them. Expectation propagation (Minka 2001; Rasmussen and Williams 2006, section 3.6) matches moments
instead. Each comparison e is w_e copies of one factor Phi(z_e), and each copy has the site exp(nu z - tau z^2 / 2):

    A = I + E^T diag(w tau) E,   v = A^-1 E^T (w nu),   z ~ N(E v, E A^-1 E^T)
    cavity: that marginal without one copy's site, N(m, c);  u = m / sqrt(1 + c)
    tau' = d2 / (1 - c d2),  nu' = (d1 + m d2) / (1 - c d2),  d1 = r(u) / sqrt(1 + c),  d2 = r (u + r) / (1 + c)

All sites are updated at once, most of the way, and less of it where they overshoot. The evidence is stationary in the sites, so its gradient is that with the
sites held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.special import log_ndtr

Array = NDArray[np.float64]
SWEEPS = 100
DAMPING = 0.9  # share of the way that sites go in one sweep...
CALMER, CALMEST = 0.7, 0.3  # ...times this whenever the largest change grew, and at least so much
TOLERANCE = 5e-4  # largest change of a site, in units of the marginal it is part of
LEAST_CAVITY = 0.02  # of the marginal's precision
LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True)
class Sites:
    """nu and tau (c,) of one copy of each comparison."""

    nu: Array
    tau: Array


@dataclass(frozen=True)
class Matched:
    """What came out: mean v and precision A of v with its Cholesky factor, log evidence, sites, z the means E v, sweeps, and
    what `precision` gave besides A."""

    v: Array
    A: Array
    factored: Array
    evidence: float
    sites: Sites
    z: Array
    sweeps: int
    besides: Array | None


def match(
    E: Array, weight: Array, precision: Callable[[Array], tuple[Array, Array | None]], start: Sites | None,
    variances: Callable[[Array], Array],
) -> Matched:  # fmt: skip
    """Sites for z = E v, v ~ N(0, I). Raises FloatingPointError where nothing can be factored.

    precision: from (c,) factors h to I + E^T diag(h) E, and whatever it made besides; variances: from a Cholesky factor of
    A to (c,) diagonal entries of E A^-1 E^T; start: sites of a similar problem.
    """
    nu, tau = (np.full(len(E), 0.5), np.full(len(E), 0.3)) if start is None else (start.nu, start.tau)
    before, damping = np.inf, DAMPING
    for sweep in range(SWEEPS):  # noqa: B007  # how many there were is given back
        A, besides = precision(weight * tau)
        factored, info = lapack.dpotrf(A, lower=1, clean=1)
        if info:
            raise FloatingPointError("the precision of the utilities is not finite")
        v = lapack.dpotrs(factored, E.T @ (weight * nu), lower=1)[0]
        z = E @ v
        variance = variances(factored)
        cavity = 1.0 / np.maximum(1.0 / variance - tau, LEAST_CAVITY / variance)
        mean = cavity * (z / variance - nu)
        root = np.sqrt(1.0 + cavity)
        u = mean / root
        log_chance = log_ndtr(u)
        r = np.exp(-0.5 * u * u - 0.5 * LOG_2PI - log_chance)
        d1, d2 = r / root, r * (u + r) / (1.0 + cavity)
        share = np.maximum(1.0 - cavity * d2, 1e-10)
        new_tau, new_nu = d2 / share, (d1 + mean * d2) / share
        moved = np.abs([(new_tau - tau) * variance, (new_nu - nu) * np.sqrt(variance)])
        change = float(moved.max(initial=0.0))
        if change < TOLERANCE:
            break
        if change > before:
            damping = max(CALMER * damping, CALMEST)
        before = change
        tau, nu = tau + damping * (new_tau - tau), nu + damping * (new_nu - nu)
    at = mean / cavity
    log_site = log_chance + 0.5 * np.log1p(tau * cavity) + 0.5 * (mean * at - (at + nu) ** 2 / (1.0 / cavity + tau))
    evidence = weight @ log_site + 0.5 * (E.T @ (weight * nu)) @ v - np.log(np.diagonal(factored)).sum()
    return Matched(v, A, factored, float(evidence), Sites(nu, tau), z, sweep, besides)
