"""A Gaussian process whose noise variance depends on the point: the logarithm of that variance is a Gaussian process too.

The most likely heteroscedastic Gaussian process of Kersting, Plagemann, Pfaff, Burgard 2007 (ICML): the variances at the told rows are
set to their most probable value g under the second process, in turns with the first one. Instead of logarithms of sampled
residuals, which are biased, the second process sees the step of Fisher scoring for the evidence of the first one,

    q_i = v_i (alpha_i^2 - [C^-1]_ii) / 2,   w_i = (v_i [C^-1]_ii)^2 / 2,   target_i = g_i + q_i / w_i with variance 1 / w_i,

v = exp(g), C = K + diag(v), alpha = C^-1 (z - mean): at its fixed point, g is a maximum of p(z | g) p(g). Rows at one place (replicates) tell
most of it, because their [C^-1]_ii v_i is near 1. Laplace's approximation integrates g out; where the evidence is not
clearly greater than that of one variance for all, the plain fit is given back as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from surrogates.gp import GaussianProcess, condition
from surrogates.map_fit import Fitted, Objective, Prior, factor, fit_map

Array = NDArray[np.float64]
TURNS = 8  # of the fixed-point iteration, most of which change little
STEP = 2.0  # largest change of a log variance in one turn
LOWEST, HIGHEST = float(np.log(1e-4)), float(np.log(10.0))  # of log variances, as the bounds of learnt noise
ODDS = 2.0  # log odds that a constant noise has from the start: it is the simpler one
LEAST = 12  # rows below which a changing variance is not looked for


@dataclass(frozen=True)
class Heteroscedastic:
    """The first process and the variances (n,) of the rows' noise, on top of those that were known.

    fitted: hyperparameters, whose `noise` is 0 unless the noise is constant; noise: the process of the log variance, or None
    where it is constant and `variances` are 0; evidence: log, with g integrated out.
    """

    fitted: Fitted
    variances: Array
    noise: GaussianProcess | None
    evidence: float

    def variances_at(self, X: Array) -> Array:
        """(q,) most probable noise variances at (q, D) points."""
        if self.noise is None:
            return np.full(len(X), self.fitted.noise)
        return np.exp(np.clip(self.noise.mean_variance(X)[0][:, 0], LOWEST, HIGHEST))


def fit_heteroscedastic(objective: Objective, z: Array, start: Fitted | None = None) -> Heteroscedastic:
    """The more probable of a noise that depends on the point and of one that does not, for (n,) standardised targets.

    objective: inputs, kernel and a prior with learnt noise.

    >>> from surrogates.columns import Inputs
    >>> rng = np.random.default_rng(0)
    >>> X = np.repeat(np.linspace(0.0, 1.0, 12), 4)[:, None]
    >>> z = np.sin(6.0 * X[:, 0]) + np.where(X[:, 0] > 0.5, 0.8, 0.05) * rng.standard_normal(48)
    >>> model = fit_heteroscedastic(Objective(Inputs.continuous(1), X, "rbf", Prior.botorch(1)), z)
    >>> quiet, loud = model.variances_at(np.array([[0.2], [0.8]]))
    >>> bool(loud > 20 * quiet)
    True
    """
    n, prior = len(z), objective.prior
    plain = fit_map(objective.inputs, objective.X, z, prior, objective.kernel, None, (start,), objective)
    constant = Heteroscedastic(plain, np.zeros(n), None, plain.value * n)
    if n < LEAST or prior.noise is None:
        return constant
    quiet = Objective(objective.inputs, objective.X, objective.kernel, replace(prior, noise=None, nugget=0.0))
    second = Prior(prior.lengthscale, noise=None, nugget=1e-6, scale=(0.0, 1.0), scale_bounds=(1e-3, 25.0))
    other = Objective(objective.inputs, objective.X, "rbf", second)
    best, fitted, found = constant, plain, None
    g = np.full(n, np.log(plain.noise))
    for _ in range(TURNS):
        target, variance = _step(objective, fitted, z, g)
        found = fit_map(objective.inputs, objective.X, target, second, "rbf", variance, (found,), other, 30)
        process = condition(objective.inputs, objective.X, target[:, None], [found], "rbf", variance[:, None])
        mean = process.mean_variance(objective.X)[0][:, 0]
        moved = float(np.abs(mean - g).max())
        g = np.clip(np.clip(mean, g - STEP, g + STEP), LOWEST, HIGHEST)
        fitted = fit_map(
            objective.inputs, objective.X, z, quiet.prior, objective.kernel, np.exp(g), (fitted,), quiet, 30
        )
        evidence = fitted.value * n - _price(process, g) + _noise_prior(prior, found.mean)
        if evidence > max(best.evidence, constant.evidence + ODDS):
            best = Heteroscedastic(fitted, np.exp(g), process, float(evidence))
        if moved < 0.02:
            break
    return best


def _step(objective: Objective, fitted: Fitted, z: Array, g: Array) -> tuple[Array, Array]:
    """Targets (n,) of the second process and their variances (n,), by Fisher scoring at log variances g."""
    v = np.exp(g)
    found = factor(
        fitted.scale * objective.correlations(fitted.lengthscales), v + fitted.nugget * fitted.scale, fitted.scale
    )
    if found is None:
        raise FloatingPointError("covariance of the told points is not finite")
    lower, _ = lapack.dpotri(found[0], lower=1)
    inverse = np.tril(lower) + np.tril(lower, -1).T
    alpha = inverse @ (z - fitted.mean)
    share = np.clip(v * np.diagonal(inverse), 1e-3, 1.0)
    slope, weight = 0.5 * (v * alpha**2 - share), 0.5 * share**2
    return g + np.clip(slope / weight, -10.0, 10.0), 1.0 / weight


def _price(process: GaussianProcess, g: Array) -> float:
    """What the log variances cost: half their squared length under the second process, and half of log det(I + K W)."""
    fitted, variances = process.fitted[0], process.variances
    assert variances is not None
    weights = process.predictor.weights[0, :, 0] / fitted.scale
    length = float(weights @ (g - fitted.mean))
    determinant = 2.0 * np.log(np.diagonal(process.factors[0])).sum() + float(
        (np.log(fitted.scale) - np.log(variances[:, 0])).sum()
    )
    return float(0.5 * (max(length, 0.0) + determinant))


def _noise_prior(prior: Prior, mean: float) -> float:
    """Log prior density of the typical variance, which in the plain fit is part of its value."""
    assert prior.noise is not None
    location, spread = prior.noise
    at = float(np.clip(mean, LOWEST, HIGHEST))
    return float(-(at + 0.5 * ((at - location) / spread) ** 2 + np.log(spread) + 0.5 * np.log(2.0 * np.pi)))
