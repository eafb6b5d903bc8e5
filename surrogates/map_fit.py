"""Maximum a posteriori hyperparameters of one Gaussian process output, in log parameters, with closed-form gradients.

The model is BoTorch's current default (0.12 and later): a correlation function with one lengthscale per column, no
output scale, constant mean, lengthscale prior LogNormal(sqrt 2 + log(d)/2, sqrt 3) (Hvarfner, Hellsten, Nardi 2024,
"Vanilla Bayesian Optimization Performs Great in High Dimensions", arXiv 2402.02229), noise prior LogNormal(-4, 1).
What differs: the search runs over LOG parameters (the density that is maximised is still that of the parameters
themselves, so the maximum is the same point), the constant mean is eliminated in closed form (it has no prior, so
its best value given the rest is the generalised least squares mean), and gradients are matrix formulas
(Rasmussen and Williams 2006, equation 5.9). Optionally an output scale is fitted as well, for noise-free functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.optimize import minimize

from surrogates.columns import Inputs
from surrogates.kernels import Kernel, correlation_and_slope, squared_distances

Array = NDArray[np.float64]
LOG_2PI = float(np.log(2.0 * np.pi))
PAIRWISE_LIMIT = 400  # up to this many points the squared differences are kept per column...
PAIRWISE_COLUMNS = 20  # ...if there are at most so many: with 200 columns the other way is four times as fast
JITTERS = (0.0, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2)  # relative to the output scale, tried in turn


@dataclass(frozen=True)
class Prior:
    """Log-normal priors and bounds of the hyperparameters, all in the frame of encoded inputs and standardised outputs.

    lengthscale, noise, scale: (location, spread) of the logarithm. The noise here is a variance, the scale too.
    `noise` None: the noise is not learnt, but `nugget` times the scale is added to the diagonal.
    `scale` None: the output scale is 1, as in BoTorch.
    """

    lengthscale: tuple[float, float]
    lengthscale_bounds: tuple[float, float] = (0.025, 1e3)
    noise: tuple[float, float] | None = (-4.0, 1.0)
    noise_bounds: tuple[float, float] = (1e-4, 10.0)
    nugget: float = 0.0
    scale: tuple[float, float] | None = None
    scale_bounds: tuple[float, float] = (1e-2, 1e4)

    @classmethod
    def botorch(cls, dimension: int) -> Prior:
        """The priors of BoTorch's SingleTaskGP for d input columns, with learnt noise.

        >>> Prior.botorch(1).lengthscale
        (1.4142135623730951, 1.7320508075688772)
        """
        return cls((float(np.sqrt(2.0) + 0.5 * np.log(max(dimension, 1))), float(np.sqrt(3.0))))

    @classmethod
    def noiseless(cls, dimension: int, nugget: float = 1e-9, scale: tuple[float, float] | None = (0.0, 2.0)) -> Prior:
        """The same lengthscale prior for a deterministic function: no learnt noise, a free output scale."""
        return cls(cls.botorch(dimension).lengthscale, noise=None, nugget=nugget, scale=scale)

    def start_length(self) -> float:
        """The log lengthscale from which a fit starts: at the mode of the prior (not of its logarithm), as in BoTorch."""
        return self.lengthscale[0] - self.lengthscale[1] ** 2

    def log_lengthscales(self, theta: Array) -> tuple[float, Array]:
        """Log density of (d,) lengthscales given their logarithms, and its gradient in these; other priors override it.

        >>> value, slope = Prior((0.0, 1.0)).log_lengthscales(np.array([-1.0, 0.0]))
        >>> round(value, 4), slope.tolist()
        (-1.3379, [0.0, -1.0])
        """
        location, spread = self.lengthscale
        z = (theta - location) / spread
        value = -(theta + 0.5 * z * z + np.log(spread) + 0.5 * LOG_2PI).sum()
        return float(value), -(1.0 + z / spread)


@dataclass(frozen=True)
class Fitted:
    """Hyperparameters of one output: (d,) lengthscales, scale, noise variance, constant mean, and how they were found.

    `nugget` is what was added to the diagonal of the correlation matrix besides the noise (relative to the scale).
    `value` is the log posterior density per point at the maximum, `evaluations` the number of gradients spent.
    """

    lengthscales: Array
    scale: float
    noise: float
    mean: float
    nugget: float
    value: float
    evaluations: int


class Objective:
    """The negative log posterior per point of one output, and its gradient, as a function of the log parameters.

    Called with (parameters, (n,) standardised targets, (n,) known noise variances or None). The parameters are, in
    order, d log lengthscales, then the log scale (if fitted), then the log noise variance (if fitted).
    """

    def __init__(self, inputs: Inputs, X: Array, kernel: Kernel, prior: Prior) -> None:
        self.inputs = inputs
        self.X = X
        self.kernel: Kernel = kernel
        self.prior = prior
        self.n: int = X.shape[0]
        self.d: int = X.shape[1]
        self.features = inputs.features(X)
        self.features = self.features - self.features.mean(axis=0)
        self.owner = inputs.owner
        self.pairs: Array | None = None
        if self.n <= PAIRWISE_LIMIT and self.d <= PAIRWISE_COLUMNS:
            pairs = np.zeros((self.d, self.n, self.n))
            for feature, column in zip(self.features.T, self.owner, strict=True):
                pairs[column] += (feature[:, None] - feature[None, :]) ** 2
            self.pairs = pairs.reshape(self.d, -1)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.d + int(self.prior.scale is not None) + int(self.prior.noise is not None)

    def bounds(self) -> list[tuple[float, float]]:
        """Bounds of the log parameters."""
        limits = [self.prior.lengthscale_bounds] * self.d
        if self.prior.scale is not None:
            limits.append(self.prior.scale_bounds)
        if self.prior.noise is not None:
            limits.append(self.prior.noise_bounds)
        return [(float(np.log(low)), float(np.log(high))) for low, high in limits]

    def start(self) -> Array:
        """The modes of the priors (not of their logarithms), as BoTorch starts."""
        theta = [self.prior.start_length()] * self.d
        if self.prior.scale is not None:
            theta.append(self.prior.scale[0])
        if self.prior.noise is not None:
            theta.append(self.prior.noise[0] - self.prior.noise[1] ** 2)
        low, high = np.array(self.bounds()).T
        return np.asarray(np.clip(np.array(theta), low, high))

    def split(self, theta: Array) -> tuple[Array, float, float]:
        """(d,) lengthscales, scale and noise variance of a parameter vector."""
        values = np.exp(theta)
        scale = float(values[self.d]) if self.prior.scale is not None else 1.0
        noise = float(values[-1]) if self.prior.noise is not None else 0.0
        return values[: self.d], scale, noise

    def join(self, lengthscales: Array, scale: float, noise: float) -> Array:
        """The parameter vector of given hyperparameters, moved into the bounds."""
        values = list(lengthscales)
        if self.prior.scale is not None:
            values.append(scale)
        if self.prior.noise is not None:
            values.append(noise)
        low, high = np.array(self.bounds()).T
        return np.asarray(np.clip(np.log(np.maximum(np.array(values, dtype=float), 1e-300)), low, high))

    def _kernel(self, lengthscales: Array) -> tuple[Array, Array]:
        if self.pairs is not None:
            r2 = (lengthscales**-2.0 @ self.pairs).reshape(self.n, self.n)
        else:
            scaled = self.features / lengthscales[self.owner]
            r2 = squared_distances(scaled, scaled)
        return correlation_and_slope(self.kernel, r2)

    def correlations(self, lengthscales: Array) -> Array:
        """(n, n) correlation matrix of the inputs, without noise."""
        return self._kernel(lengthscales)[0]

    def _length_gradient(self, M: Array, lengthscales: Array) -> Array:
        """sum_ij M_ij (x_ik - x_jk)^2 / l_k^2 for each column k, M symmetric."""
        sums: Array
        if self.pairs is not None:
            sums = self.pairs @ M.ravel()
        else:
            per_feature = 2.0 * (M.sum(axis=1) @ self.features**2 - (self.features * (M @ self.features)).sum(axis=0))
            sums = np.bincount(self.owner, weights=per_feature, minlength=self.d).astype(float)
        return np.asarray(sums / lengthscales**2)

    def _log_prior(self, theta: Array) -> tuple[float, Array]:
        """Sum of the log densities of the parameters themselves, and its gradient in the log parameters."""
        value, slope = self.prior.log_lengthscales(theta[: self.d])
        slopes = [slope]
        for term, jacobian in ((self.prior.scale, 0.0), (self.prior.noise, 1.0)):
            if term is not None:
                at, (location, spread) = float(theta[sum(map(len, slopes))]), term
                z = (at - location) / spread
                value -= jacobian * at + 0.5 * z * z + np.log(spread) + 0.5 * LOG_2PI
                slopes.append(np.array([-(jacobian + z / spread)]))
        return value, np.concatenate(slopes)

    def mean(self, theta: Array, z: Array, variances: Array | None) -> float:
        """The generalised least squares mean at theta, or the plain mean where nothing can be factored."""
        lengthscales, scale, noise = self.split(theta)
        extra = noise if variances is None else noise + variances
        found = factor(scale * self._kernel(lengthscales)[0], extra + scale * self.prior.nugget, scale)
        if found is None:
            return float(z.mean())
        solved, _ = lapack.dpotrs(found[0], np.ones(self.n), lower=1)
        return float(solved @ z / solved.sum())

    def __call__(self, theta: Array, z: Array, variances: Array | None) -> tuple[float, Array]:
        """(value, gradient) per point at theta; (1e10, zeros) where no jitter helps."""
        lengthscales, scale, noise = self.split(theta)
        k, g = self._kernel(lengthscales)
        extra = noise if variances is None else noise + variances
        found = factor(scale * k, extra + scale * self.prior.nugget, scale)
        if found is None:
            return 1e10, np.zeros_like(theta)
        L, _ = found
        solved, _ = lapack.dpotrs(L, np.column_stack([z, np.ones(self.n)]), lower=1)
        mean = solved[:, 0].sum() / solved[:, 1].sum()
        alpha = solved[:, 0] - mean * solved[:, 1]
        fit = float((z - mean) @ alpha)
        value = 0.5 * fit + np.log(np.diagonal(L)).sum() + 0.5 * self.n * LOG_2PI  # equation 2.30
        inverse, _ = lapack.dpotri(L, lower=1)
        W = np.tril(inverse) + np.tril(inverse, -1).T
        W -= alpha[:, None] * alpha[None, :]  # equation 5.9, with a minus sign
        gradient = np.empty_like(theta)
        gradient[: self.d] = 0.5 * scale * self._length_gradient(W * g, lengthscales)
        if self.prior.scale is not None:
            gradient[self.d] = 0.5 * scale * ((W * k).sum() + self.prior.nugget * np.trace(W))
        if self.prior.noise is not None:
            gradient[-1] = 0.5 * noise * np.trace(W)
        log_prior, prior_gradient = self._log_prior(theta)
        return float(value - log_prior) / self.n, (gradient - prior_gradient) / self.n


def factor(K: Array, extra: Array | float, scale: float) -> tuple[Array, float] | None:
    """Lower Cholesky factor of K + extra on the diagonal, with as little jitter as works, and that jitter; or None."""
    n = len(K)
    diagonal = np.einsum("ii->i", K)
    diagonal += extra
    base = diagonal.copy()
    for jitter in JITTERS:
        diagonal[:] = base + jitter * scale
        L, info = lapack.dpotrf(K, lower=1, clean=1)
        if info == 0 and np.isfinite(L[n - 1, n - 1]):
            return L, jitter
    return None


def fit_map(
    inputs: Inputs,
    X: Array,
    z: Array,
    prior: Prior,
    kernel: Kernel = "rbf",
    variances: Array | None = None,
    starts: tuple[Fitted | None, ...] = (None,),
    objective: Objective | None = None,
    max_iterations: int = 200,
) -> Fitted:
    """Most probable hyperparameters of one output given (n, d) inputs and (n,) standardised targets.

    starts: hyperparameters to start from; None stands for the mode of the prior. The best result is given back.
    objective: pass one to share its squared differences among outputs with the same inputs and prior.
    Never raises for numerical reasons: where nothing can be factored, the start is given back with value -1e10.
    The mean of the result is the generalised least squares mean.
    """
    target = Objective(inputs, X, kernel, prior) if objective is None else objective
    best: tuple[float, Array] | None = None
    evaluations = 0

    def loss(theta: Array) -> tuple[float, Array]:
        return target(theta, z, variances)

    for start in starts:
        theta = target.start() if start is None else target.join(start.lengthscales, start.scale, start.noise)
        value, theta, used = _descend(loss, theta, target.bounds(), max_iterations)
        evaluations += used
        if best is None or value < best[0]:
            best = value, theta
    assert best is not None, "at least one start"
    value, theta = best
    lengthscales, scale, noise = target.split(theta)
    mean = target.mean(theta, z, variances)
    return Fitted(lengthscales, scale, noise, mean, target.prior.nugget, -value, evaluations)


def _descend(
    loss: Callable[[Array], tuple[float, Array]], theta: Array, bounds: list[tuple[float, float]], max_iterations: int
) -> tuple[float, Array, int]:
    found = minimize(
        loss, theta, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": max_iterations, "ftol": 1e-8}
    )
    return float(found.fun), np.asarray(found.x, dtype=float), int(found.nfev)
