"""Maximum a posteriori hyperparameters of one output from values and partial derivatives together.

The density is that of all observations, with the priors of `surrogates.map_fit`; derivatives of the covariance in the log
lengthscales are closed forms. In the units of `surrogates.slope_kernel` the targets l_j df/dx_j depend on the lengthscales,
which adds sum log l_j to the log density. The constant mean, which derivatives do not know of, is eliminated as there. A
derivative has the noise and the nugget of its row's value, each in units of its own prior variance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from surrogates.columns import Inputs
from surrogates.kernels import Kernel, correlation_and_slope, curvatures, squared_distances
from surrogates.map_fit import LOG_2PI, Fitted, Objective, Prior, _descend, factor
from surrogates.slope_kernel import Sites, apart, joint_correlations, own_variances

Array = NDArray[np.float64]


class SlopeObjective(Objective):
    """The negative log posterior per observation, and its gradient, as `map_fit.Objective` has it for values alone.

    Called with (parameters, (s + n,) targets: derivatives in encoded units, then values; (n,) known variances or None).
    """

    def __init__(self, inputs: Inputs, X: Array, sites: Sites, kernel: Kernel, prior: Prior) -> None:
        super().__init__(inputs, X, kernel, prior)
        self.sites, self.places = sites, sites.places(inputs)
        self.all = sites.features(inputs, X)
        self.all = self.all - self.all.mean(axis=0)
        self.same = self.places[:, None] == self.places[None, :]

    def mean(self, theta: Array, z: Array, variances: Array | None) -> float:
        lengthscales, scale, noise = self.split(theta)
        K = scale * joint_correlations(self.kernel, self.all, self.places, 1.0 / lengthscales[self.owner])
        s, own = self.sites.count, own_variances(self.kernel, self.sites)
        extra = own * (noise + scale * self.prior.nugget + (0.0 if variances is None else variances[self.sites.all]))
        found = factor(K, extra, scale)
        if found is None:
            return float(z[s:].mean())
        ones = np.concatenate([np.zeros(s), np.ones(self.n)])
        solved, _ = lapack.dpotrs(found[0], ones, lower=1)
        return float(solved @ np.concatenate([z[:s] * lengthscales[self.sites.columns], z[s:]]) / (solved @ ones))

    def __call__(self, theta: Array, z: Array, variances: Array | None) -> tuple[float, Array]:
        lengthscales, scale, noise = self.split(theta)
        s, total, columns = self.sites.count, len(self.all), self.sites.columns
        scaled = self.all / lengthscales[self.owner]
        r2 = squared_distances(scaled, scaled)
        k, g = correlation_and_slope(self.kernel, r2)
        h, h2 = curvatures(self.kernel, r2)
        across = apart(scaled, self.places)
        product = (
            -across[:s] * across[:s].T
        )  # u_i u_j of two derivatives; `across` of the second one looks the other way
        K, by_length = np.array(k), np.array(g)  # by_length: dK / dlog l_k over (x_k - x'_k)^2 / l_k^2, the radial part
        K[s:, :s], by_length[s:, :s] = g[s:, :s] * across[s:], h[s:, :s] * across[s:]
        K[:s, :s] = g[:s, :s] * self.same - h[:s, :s] * product
        by_length[:s, :s] = h[:s, :s] * self.same - h2[:s, :s] * product
        for M in (K, by_length):
            M[:s, s:] = M[s:, :s].T
        own = own_variances(self.kernel, self.sites)
        extra = own * (noise + scale * self.prior.nugget)
        if variances is not None:
            extra += own * variances[self.sites.all]
        found = factor(scale * K, extra, scale)
        if found is None:
            return 1e10, np.zeros_like(theta)
        targets = np.concatenate([z[:s] * lengthscales[columns], z[s:]])
        ones = np.concatenate([np.zeros(s), np.ones(self.n)])
        solved, _ = lapack.dpotrs(found[0], np.column_stack([targets, ones]), lower=1)
        mean = (ones @ solved[:, 0]) / (ones @ solved[:, 1])
        alpha = solved[:, 0] - mean * solved[:, 1]
        value = 0.5 * float((targets - mean * ones) @ alpha) + np.log(np.diagonal(found[0])).sum()
        value += 0.5 * total * LOG_2PI - np.log(lengthscales[columns]).sum()
        inverse, _ = lapack.dpotri(found[0], lower=1)
        W = np.tril(inverse) + np.tril(inverse, -1).T
        W -= alpha[:, None] * alpha[None, :]
        M = W * by_length
        per_feature = (M.sum(axis=1) @ self.all**2 - (self.all * (M @ self.all)).sum(axis=0)) / lengthscales[
            self.owner
        ] ** 2
        gradient = np.empty_like(theta)
        along = scale * np.bincount(self.owner, weights=per_feature, minlength=self.d).astype(float)
        turned = (W[:s, :s] * h[:s, :s] * product).sum(axis=1) - (W[s:, :s] * K[s:, :s]).sum(axis=0)
        by_site = scale * turned + alpha[:s] * targets[:s] - 1.0
        gradient[: self.d] = along + np.bincount(columns, weights=by_site, minlength=self.d)
        trace = float(np.diagonal(W) @ own)
        if self.prior.scale is not None:
            gradient[self.d] = 0.5 * scale * ((W * K).sum() + self.prior.nugget * trace)
        if self.prior.noise is not None:
            gradient[-1] = 0.5 * noise * trace
        log_prior, prior_gradient = self._log_prior(theta)
        return float(value - log_prior) / total, (gradient - prior_gradient) / total


def fit_with_slopes(
    objective: SlopeObjective,
    z: Array,
    slopes: Array,
    variances: Array | None = None,
    starts: Sequence[Fitted | None] = (None,),
    max_iterations: int = 200,
) -> Fitted:
    """Most probable hyperparameters given (n,) values and (s,) derivatives in encoded units, in the order of its sites.

    starts: as for `map_fit.fit_map`. The mean of the result is the generalised least squares mean of all observations.
    """
    targets = np.concatenate([slopes, z])
    best: tuple[float, Array] | None = None
    evaluations = 0
    for start in starts:
        theta = objective.start() if start is None else objective.join(start.lengthscales, start.scale, start.noise)
        value, theta, used = _descend(
            lambda at: objective(at, targets, variances), theta, objective.bounds(), max_iterations
        )
        evaluations += used
        if best is None or value < best[0]:
            best = value, theta
    assert best is not None, "at least one start"
    lengthscales, scale, noise = objective.split(best[1])
    mean = objective.mean(best[1], targets, variances)
    return Fitted(lengthscales, scale, noise, mean, objective.prior.nugget, -best[0], evaluations)
