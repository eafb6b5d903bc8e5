"""Where a model has its minimum, how uncertain that is, and which rows would tell most about it.

Near a minimum x^ of the mean, whose Hessian there is H, the minimum of the function is where its gradient g is zero, to
first order at x^ - H^-1 g(x^). The gradient of a Gaussian process is normal with a covariance S by formula
(`surrogates.slope_belief`), so the minimum is normal about x^ with the covariance C = H^-1 S H^-1. What can be learnt of it is
learnt by differences across C's widest axes. Choosing rows for what they say of the gradient is the idea of GIBO (Mueller,
von Rohr, Trimpe 2021, arXiv 2106.11899); here the gradient counts as far as it moves the minimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from surrogates.predictor import Predictor
from surrogates.slope_belief import slope_covariance

Array = NDArray[np.float64]
STEP = 1e-3  # of the differences of slopes that the Hessian is made of, in widths of the unit cube
FLATTEST = 1e-2  # smallest curvature that is believed, in units of the largest
FLAT = 1e-6  # and in units of what is usual


@dataclass(frozen=True)
class Minimiser:
    """x: (d,) the minimum of the mean; sd: (d,) standard deviations along the principal axes (d, d), rows, widest first."""

    x: Array
    sd: Array
    axes: Array


def minimiser(predictor: Predictor, start: Array, low: Array, high: Array) -> Minimiser:
    """The minimum of output 0's mean in a box, from a start (d,), and what the model's doubts make of it.

    Where there are several vectors of base values, their average counts.

    >>> from surrogates.columns import Inputs
    >>> from surrogates.gp import fit_gp
    >>> from surrogates.map_fit import Prior
    >>> X = np.linspace(0.0, 1.0, 6)[:, None]
    >>> predictor = fit_gp(Inputs.continuous(1), X, (X - 0.47) ** 2, [Prior.noiseless(1)]).predictor
    >>> found = minimiser(predictor, np.array([0.4]), np.zeros(1), np.ones(1))
    >>> bool(abs(found.x[0] - 0.47) < 1e-3), bool(found.sd[0] < 0.01)
    (True, True)
    """

    def mean(x: Array) -> tuple[float, Array]:
        moments = predictor.forward(x[None])
        return float(moments.mean[0, 0].mean()), predictor.slopes(moments)[0][0, 0]

    found = minimize(mean, start, jac=True, bounds=list(zip(low, high, strict=True)), method="L-BFGS-B",
                     options={"maxiter": 60, "ftol": 1e-15, "gtol": 1e-12})  # fmt: skip
    x = np.clip(found.x, low, high)
    curvature, directions = np.linalg.eigh(_hessian(predictor, x))
    usual = float(
        np.sqrt(predictor.scale[0]) / predictor.lengthscales[0].min() ** 2
    )  # of functions drawn from the prior
    curvature = np.maximum(np.abs(curvature), max(FLATTEST * float(np.abs(curvature).max()), FLAT * usual))
    back = (directions / curvature) @ directions.T
    variances, axes = np.linalg.eigh(back @ slope_covariance(predictor, x)[0] @ back)
    return Minimiser(x, np.sqrt(np.maximum(variances[::-1], 0.0)), axes.T[::-1])


def _hessian(predictor: Predictor, x: Array) -> Array:
    """(d, d) second derivatives of output 0's mean, by central differences of its slopes."""
    steps = STEP * np.eye(len(x))
    slopes = predictor.slopes(predictor.forward(np.concatenate([x + steps, x - steps])))[0][0]
    rough = (slopes[: len(x)] - slopes[len(x) :]) / (2.0 * STEP)
    return np.asarray(0.5 * (rough + rough.T))
