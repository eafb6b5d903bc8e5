"""Fit one output together with its warp: the pair under which the raw values are most probable.

All candidate warps are first compared at common hyperparameters, where one Cholesky factor serves them all, with scale
and mean eliminated in closed form (Rasmussen and Williams 2006, section 2.7); only the best two are fitted.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from surrogates.map_fit import Fitted, Objective, factor, fit_map
from surrogates.warps import Warp

Array = NDArray[np.float64]
ROUGH = 8  # iterations of the fit whose hyperparameters serve the first comparison


def fit_warped(
    objective: Objective, y: Array, warps: Mapping[str, Warp], start: Fitted | None = None, finalists: int = 2
) -> tuple[str, Fitted]:
    """The name of the best warp for (n,) raw values, and the hyperparameters under it.

    objective: inputs, kernel and prior (`surrogates.map_fit.Objective`); start: hyperparameters to start from.
    """
    names = list(warps)
    targets = {name: warps[name].forward(y) for name in names}
    if len(names) == 1:
        return names[0], _fit(objective, targets[names[0]], (None,) if start is None else (start, None))
    common = start if start is not None else _fit(objective, targets[names[0]], (None,), ROUGH)
    rough = _profile(objective, common, np.column_stack([targets[name] for name in names]))
    rough += np.array([_jacobian(warps[name], y) for name in names])
    fits = {
        names[i]: _fit(objective, targets[names[i]], (common,)) for i in np.argsort(-rough, kind="stable")[:finalists]
    }
    worth = {name: fit.value * len(y) + _jacobian(warps[name], y) for name, fit in fits.items()}
    best = max(worth, key=lambda name: worth[name])
    if start is None:  # the common start came from the prior's mode already
        return best, fits[best]
    again = _fit(objective, targets[best], (None,))
    return best, again if again.value > fits[best].value else fits[best]


def _fit(objective: Objective, z: Array, starts: tuple[Fitted | None, ...], iterations: int = 200) -> Fitted:
    return fit_map(
        objective.inputs, objective.X, z, objective.prior, objective.kernel, None, starts, objective, iterations
    )


def _jacobian(warp: Warp, y: Array) -> float:
    return float(np.log(warp.slope(y)).sum())


def _profile(objective: Objective, fit: Fitted, Z: Array) -> Array:
    """Log likelihood of each column of Z at the lengthscales of `fit`, best scale and mean of each, up to a constant."""
    C = objective.correlations(fit.lengthscales)
    found = factor(C, max(objective.prior.nugget, 1e-10), 1.0)
    if found is None:
        return np.zeros(Z.shape[1])
    n = len(Z)
    solved, _ = lapack.dpotrs(found[0], np.column_stack([Z, np.ones(n)]), lower=1)
    ones = solved[:, -1]
    means = (ones @ Z) / ones.sum()
    quadratic = (Z * solved[:, :-1]).sum(axis=0) - means**2 * ones.sum()
    return np.asarray(-0.5 * n * np.log(np.maximum(quadratic, 1e-300) / n))
