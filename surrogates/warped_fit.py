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


def fit_warped(
    objective: Objective, y: Array, warps: Mapping[str, Warp], start: Fitted | None = None, finalists: int = 2
) -> tuple[str, Fitted]:
    """The name of the best warp for (n,) raw values, and the hyperparameters under it.

    objective: inputs, kernel and prior (`surrogates.map_fit.Objective`); start: hyperparameters to start from.
    """
    names = list(warps)
    first = names[0]
    targets = {name: warps[name].forward(y) for name in names}
    fits = {first: _fit(objective, targets[first], start)}
    if len(names) > 1:
        rough = _profile(objective, fits[first], np.column_stack([targets[name] for name in names]))
        rough += np.array([_jacobian(warps[name], y) for name in names])
        for i in np.argsort(-rough, kind="stable")[: finalists + 1]:
            name = names[i]
            if name not in fits and len(fits) <= finalists:
                fits[name] = _fit(objective, targets[name], start if start is not None else fits[first])
    worth = {name: fit.value * len(y) + _jacobian(warps[name], y) for name, fit in fits.items()}
    best = max(worth, key=lambda name: worth[name])
    return best, fits[best]


def _fit(objective: Objective, z: Array, start: Fitted | None) -> Fitted:
    starts = (None,) if start is None else (start, None)
    return fit_map(objective.inputs, objective.X, z, objective.prior, objective.kernel, None, starts, objective)


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
