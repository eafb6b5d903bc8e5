"""Input warping: numbers go through a learnt distribution function before the kernel sees them.

Snoek, Swersky, Zemel, Adams 2014, "Input Warping for Bayesian Optimization of Non-Stationary Functions" (ICML), with the Kumaraswamy
distribution as in BoTorch's Warp: for a number x of the unit interval,

    w(x) = 1 - (1 - t^a)^b,    t = eps + (1 - 2 eps) x,

so that a function which changes fast near a border becomes one that changes evenly. log a and log b have normal priors of
variance 0.75 (BoTorch's tutorial); their mode, a = b = 1, is the plain model, and there x is left alone to the bit. All outputs
share the warp of the space; it is fitted together with their hyperparameters, with gradients in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.optimize import minimize

from surrogates.columns import Inputs
from surrogates.kernels import Kernel, correlation_and_slope, squared_distances
from surrogates.map_fit import Fitted, Objective, Prior, factor

Array = NDArray[np.float64]
NUMBERS = ("float", "int")  # kinds of columns that are warped
EPS = 1e-7
SPREAD = float(np.sqrt(0.75))  # of the logarithms of the concentrations
FARTHEST = float(np.log(10.0))


@dataclass(frozen=True)
class WarpedInputs(Inputs):
    """Inputs whose numbers are warped. a, b: per column, 1 for listed values.

    >>> inputs = WarpedInputs.of(Inputs.continuous(2), np.array([[2.0, 1.0], [1.0, 1.0]]))
    >>> inputs.features(np.array([[0.5, 0.3]])).round(4)
    array([[0.25, 0.3 ]])
    """

    a: tuple[float, ...] = ()
    b: tuple[float, ...] = ()

    @classmethod
    def of(cls, inputs: Inputs, concentrations: Array) -> WarpedInputs:
        """The same columns with concentrations (2, d)."""
        a, b = (tuple(float(c) for c in row) for row in concentrations)
        return cls(**{each.name: getattr(inputs, each.name) for each in fields(Inputs)}, a=a, b=b)

    @property
    def plain(self) -> Inputs:
        """The columns without their warp."""
        return Inputs(**{each.name: getattr(self, each.name) for each in fields(Inputs)})

    @property
    def bent(self) -> list[int]:
        """The columns that the warp changes."""
        return [j for j, kind in enumerate(self.kind) if kind in NUMBERS and (self.a[j], self.b[j]) != (1.0, 1.0)]

    def features(self, X: Array) -> Array:
        """(n, p) features of (n, d) rows: warped numbers, and indicators of categories."""
        if not self.bent:
            return super().features(X)
        warped = np.array(X, dtype=float)
        for j in self.bent:
            warped[:, j] = kumaraswamy(warped[:, j], self.a[j], self.b[j])[0]
        return super().features(warped)

    def rates(self, X: Array) -> Array | None:
        """(n, d) derivatives of the warped numbers in the numbers; None where nothing is warped."""
        if not self.bent:
            return None
        found = np.ones(X.shape)
        for j in self.bent:
            found[:, j] = kumaraswamy(np.asarray(X[:, j], dtype=float), self.a[j], self.b[j])[1]
        return found


def kumaraswamy(x: Array, a: float, b: float) -> tuple[Array, Array, Array, Array]:
    """w, dw/dx, dw/dlog a and dw/dlog b of numbers x in [0, 1], each of its shape.

    >>> [part.round(3).tolist() for part in kumaraswamy(np.array([0.5]), 2.0, 2.0)]
    [[0.437], [1.5], [-0.52], [0.324]]
    """
    t = EPS + (1.0 - 2.0 * EPS) * np.clip(x, 0.0, 1.0)
    log_t = np.log(t)
    power = np.exp(a * log_t)
    log_rest = np.log(-np.expm1(a * log_t))  # of 1 - t^a
    rest = np.exp(b * log_rest)
    inner = b * np.exp((b - 1.0) * log_rest) * power * a  # dw/dlog t
    return -np.expm1(b * log_rest), inner / t * (1.0 - 2.0 * EPS), inner * log_t, -b * rest * log_rest


def fit_input_warp(
    inputs: Inputs,
    X: Array,
    Z: Array,
    priors: Sequence[Prior],
    fitted: Sequence[Fitted],
    kernel: Kernel = "rbf",
    variances: Array | None = None,
    start: Array | None = None,
    max_iterations: int = 100,
) -> tuple[WarpedInputs, list[Fitted]]:
    """The most probable warp of the columns and the outputs' hyperparameters under it.

    X: (n, d) in the unit cube; Z, variances: (n, m) targets and known noise; priors, fitted: of each output, the latter to start from; start: (2, d)
    concentrations to start from, 1 if None.
    """
    joint = Joint(inputs, X, Z, priors, kernel, variances)
    begin = np.zeros((2, inputs.dimension)) if start is None else np.log(start)
    plain = [Objective(inputs, X[:1], kernel, prior) for prior in priors]
    thetas = [one.join(fit.lengthscales, fit.scale, fit.noise) for one, fit in zip(plain, fitted, strict=True)]
    numbers = joint.numbers
    if not numbers:
        return WarpedInputs.of(inputs, np.exp(begin)), list(fitted)
    theta = np.concatenate([*thetas, begin[:, numbers].ravel()])
    bounds = [limit for one in plain for limit in one.bounds()] + [(-FARTHEST, FARTHEST)] * (2 * len(numbers))
    found = minimize(
        joint, theta, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": max_iterations, "ftol": 1e-8}
    )
    warped = joint.inputs_at(found.x)
    result = []
    for j, (part, fit) in enumerate(zip(joint.split(found.x), fitted, strict=True)):
        target = Objective(warped, X, kernel, priors[j])
        known = None if variances is None else variances[:, j]
        value, _ = target(part, Z[:, j], known)
        lengthscales, scale, noise = target.split(part)
        mean = target.mean(part, Z[:, j], known)
        result.append(
            replace(fit, lengthscales=lengthscales, scale=scale, noise=noise, mean=mean, nugget=priors[j].nugget, value=-value, evaluations=found.nfev)
        )  # fmt: skip
    return warped, result


class Joint:
    """The negative log posterior per row of all outputs' hyperparameters and the log concentrations, with its gradient.

    Parameters: those of each output (`surrogates.map_fit.Objective`), then log a and log b of the columns that are numbers.
    """

    def __init__(
        self, inputs: Inputs, X: Array, Z: Array, priors: Sequence[Prior], kernel: Kernel, variances: Array | None
    ) -> None:
        self.inputs, self.X, self.Z, self.priors = inputs, X, Z, priors
        self.kernel: Kernel = kernel
        self.variances = variances
        self.numbers = [j for j, kind in enumerate(inputs.kind) if kind in NUMBERS]
        self.sizes = [Objective(inputs, X[:1], kernel, prior).size for prior in priors]

    def split(self, theta: Array) -> list[Array]:
        """The parameters of each output."""
        return np.split(theta[: sum(self.sizes)], np.cumsum(self.sizes)[:-1])

    def inputs_at(self, theta: Array) -> WarpedInputs:
        """The columns with the concentrations of a parameter vector."""
        concentrations = np.ones((2, self.inputs.dimension))
        concentrations[:, self.numbers] = np.exp(theta[sum(self.sizes) :]).reshape(2, -1)
        return WarpedInputs.of(self.inputs, concentrations)

    def __call__(self, theta: Array) -> tuple[float, Array]:
        n, warped = len(self.X), self.inputs_at(theta)
        log_c = theta[sum(self.sizes) :]
        value = 0.5 * float((log_c**2).sum()) / SPREAD**2 / n
        parts, by_feature = [], np.zeros_like(warped.features(self.X))
        for j, part in enumerate(self.split(theta)):
            target = Objective(warped, self.X, self.kernel, self.priors[j])
            known = None if self.variances is None else self.variances[:, j]
            worth, slope = target(part, self.Z[:, j], known)
            value += worth
            parts.append(slope)
            by_feature += _by_feature(target, part, self.Z[:, j], known) / n
        by_column = warped.in_columns(by_feature)[:, self.numbers]
        slopes = np.stack(
            [
                np.stack(kumaraswamy(self.X[:, j], warped.a[j], warped.b[j])[2:])  # (2, n)
                for j in self.numbers
            ],
            axis=2,
        )
        by_log_c = (slopes * by_column).sum(axis=1).ravel() + log_c / SPREAD**2 / n
        return value, np.concatenate([*parts, by_log_c])


def _by_feature(target: Objective, theta: Array, z: Array, variances: Array | None) -> Array:
    """(n, p) gradient of the negative log likelihood in the features."""
    lengthscales, scale, noise = target.split(theta)
    scaled = target.features / lengthscales[target.owner]
    k, g = correlation_and_slope(target.kernel, squared_distances(scaled, scaled))
    extra = noise if variances is None else noise + variances
    found = factor(scale * k, extra + scale * target.prior.nugget, scale)
    if found is None:
        return np.zeros_like(target.features)
    lower, _ = lapack.dpotri(found[0], lower=1)
    inverse = np.tril(lower) + np.tril(lower, -1).T
    ones = inverse.sum(axis=1)
    alpha = inverse @ z
    alpha -= alpha.sum() / ones.sum() * ones
    pull = scale * g * (inverse - alpha[:, None] * alpha[None, :])
    moved = target.features * pull.sum(axis=1)[:, None] - pull @ target.features
    return np.asarray(-moved / lengthscales[target.owner] ** 2)
