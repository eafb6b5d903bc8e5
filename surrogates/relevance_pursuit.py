"""A Gaussian process that finds the values that are wrong altogether and gives each of them a noise variance of its own.

Ament, Santorella, Eriksson, Letham, Balandat, Bakshy 2024, "Robust Gaussian Processes via Relevance Pursuit" (arXiv 2410.24222):

    z ~ N(mean, K + noise I + diag(rho)),   rho_i > 0 only for rows in a support that grows greedily.

Its size is chosen by evidence with an exponential prior over sizes. As in BoTorch, whose evidence is per row and whose prior has the
mean n / 5, each row in the support costs 5 nats: less, and rows that only happen to lie far out join as well. Given everything else, the best rho_i
is known: with the error r_i and the variance v_i of leaving row i out, rho_i = max(0, r_i^2 - v_i), and the evidence grows by
(r_i^2 / v_i - 1 - log(r_i^2 / v_i)) / 2, because the other rows do not depend on rho_i. Rows join by this gain; what is in the
support is then maximised coordinate by coordinate by the same formula, in turns with the hyperparameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from surrogates.map_fit import Fitted, Objective, factor, fit_map

Array = NDArray[np.float64]
FRACTIONS = (
    0.0,
    0.05,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
)  # of the rows, tried as sizes of the support; beyond, nothing tells good from bad
PRICE = 5.0  # nats that a row in the support must earn
SWEEPS = 3  # of coordinate steps per fit
TURNS = 2  # of fit and sweeps per size


@dataclass(frozen=True)
class Robust:
    """Hyperparameters, and the (n,) variances `rho` that come on top of the noise: 0 for rows that are taken at their word.

    evidence: log posterior density with the prior over the size of the support.
    """

    fitted: Fitted
    rho: Array
    evidence: float

    @property
    def outliers(self) -> NDArray[np.intp]:
        """The rows with a variance of their own."""
        return np.flatnonzero(self.rho > 0.0)


def pursue_relevance(
    objective: Objective, z: Array, known: Array | None = None, start: Fitted | None = None, iterations: int = 50
) -> Robust:
    """The most probable support and model of (n,) standardised targets.

    objective: inputs, kernel and prior; known: (n,) known noise variances; start: hyperparameters to start from; iterations: of
    the fit for each size of the support; 0 keeps the hyperparameters of `start` until the size is chosen.

    >>> from surrogates.columns import Inputs
    >>> from surrogates.map_fit import Prior
    >>> X = np.linspace(0.0, 1.0, 20)[:, None]
    >>> z = np.sin(6.0 * X[:, 0]) + 5.0 * (np.arange(20) == 7)
    >>> pursue_relevance(Objective(Inputs.continuous(1), X, "rbf", Prior.botorch(1)), z).outliers
    array([7])
    """
    n = len(z)
    base = np.zeros(n) if known is None else known

    def fit(rho: Array, start: Fitted | None, most: int) -> Fitted:
        variances = None if known is None and not rho.any() else base + rho
        return fit_map(
            objective.inputs, objective.X, z, objective.prior, objective.kernel, variances, (start,), objective, most
        )

    keep = start is not None and iterations == 0
    rho, support = np.zeros(n), np.zeros(n, bool)
    fitted = _valued(objective, start, z, base) if keep and start is not None else fit(rho, start, 200)
    best = Robust(fitted, rho, fitted.value * n)
    for size in sorted({int(np.ceil(fraction * n)) for fraction in FRACTIONS} - {0}):
        gain = np.where(support, -np.inf, _gains(objective, fitted, z, base + rho))
        joining = np.argsort(-gain, kind="stable")[: size - int(support.sum())]
        if not (gain[joining] > 0.0).any():
            break
        support[joining] = True
        for _ in range(TURNS):
            rho = _sweep(objective, fitted, z, base, rho, support)
            fitted = _valued(objective, fitted, z, base + rho) if keep else fit(rho, fitted, iterations)
        evidence = fitted.value * n - PRICE * np.count_nonzero(rho)
        if evidence > best.evidence:
            best = Robust(fitted, rho, float(evidence))
    if not keep:
        return best
    return replace(best, fitted=fit(best.rho, best.fitted, 15))


def _valued(objective: Objective, fitted: Fitted, z: Array, variances: Array) -> Fitted:
    """The same hyperparameters with the value and the mean that they have under these variances."""
    theta = objective.join(fitted.lengthscales, fitted.scale, fitted.noise)
    value, _ = objective(theta, z, variances)
    return replace(fitted, value=-value, mean=objective.mean(theta, z, variances))


def _solved(objective: Objective, fitted: Fitted, z: Array, variances: Array) -> tuple[Array, Array]:
    """Inverse (n, n) of the covariance of the targets, and its product with the centred targets."""
    found = factor(
        fitted.scale * objective.correlations(fitted.lengthscales),
        variances + fitted.noise + fitted.nugget * fitted.scale,
        fitted.scale,
    )
    if found is None:
        raise FloatingPointError("covariance of the told points is not finite")
    lower, _ = lapack.dpotri(found[0], lower=1)
    inverse = np.tril(lower) + np.tril(lower, -1).T
    return inverse, inverse @ (z - fitted.mean)


def _gains(objective: Objective, fitted: Fitted, z: Array, variances: Array) -> Array:
    """(n,) what the log evidence gains if one row alone gets the variance that suits it best."""
    inverse, alpha = _solved(objective, fitted, z, variances)
    ratio = np.maximum(alpha**2 / np.diagonal(inverse), 1.0)  # r^2 / v
    return np.asarray(0.5 * (ratio - 1.0 - np.log(ratio)))


def _sweep(
    objective: Objective, fitted: Fitted, z: Array, base: Array, rho: Array, support: NDArray[np.bool_]
) -> Array:
    """The variances (n,) of the rows in the support after coordinate steps, each with a rank-one update."""
    rho = rho.copy()
    inverse, alpha = _solved(objective, fitted, z, base + rho)
    for _ in range(SWEEPS):
        for i in np.flatnonzero(support):
            own = inverse[i, i]
            step = max((alpha[i] ** 2 / own - 1.0) / own, -rho[i])  # r^2 - v, as v holds the rho_i of now
            if step == 0.0:
                continue
            rho[i] += step
            column = inverse[:, i].copy()
            weight = step / (1.0 + step * own)
            alpha = alpha - weight * alpha[i] * column
            inverse -= weight * np.outer(column, column)
    return rho
