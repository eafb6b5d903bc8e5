"""An exact Gaussian process for several outputs that share their inputs: fit, predict, extend, check, hand over.

The model of each output is the one of `surrogates.map_fit` (BoTorch's current default, optionally noise-free or with a
Matern 5/2 kernel); this file holds the posterior. Notation follows Rasmussen and Williams 2006: L L^T = C + D, where C
is the correlation matrix and D the noise in units of the output scale; alpha = (C + D)^-1 (z - mean).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from surrogates.columns import Inputs
from surrogates.kernels import Kernel
from surrogates.map_fit import JITTERS, Fitted, Objective, Prior, factor, fit_map
from surrogates.predictor import Predictor, prior_correlation

if TYPE_CHECKING:
    from botorch.models.gp_regression import SingleTaskGP
    from botorch.models.model_list_gp_regression import ModelListGP

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GaussianProcess:
    """Posterior of m outputs after n rows. Made by `fit_gp` or `condition`; never changed afterwards.

    X: (n, d) encoded inputs; Z: (n, m) targets; variances: (n, m) known noise variances, or None;
    fitted: the hyperparameters of each output; factors: (m, n, n) lower Cholesky factors; jitter: (m,) what had to be
    added to the diagonal, in units of the output scale (0 where nothing was).
    """

    inputs: Inputs
    kernel: Kernel
    X: Array
    Z: Array
    variances: Array | None
    fitted: tuple[Fitted, ...]
    factors: Array
    jitter: Array

    @property
    def outputs(self) -> int:
        """Number of outputs m."""
        return len(self.fitted)

    @cached_property
    def predictor(self) -> Predictor:
        """Means, variances and gradients of all outputs (see `surrogates.predictor`)."""
        inverse = np.stack([lapack.dtrtri(L, lower=1)[0] for L in self.factors])
        centred = (self.Z - self._means).T[:, :, None]
        weights = np.matmul(inverse.transpose(0, 2, 1), np.matmul(inverse, centred))
        lengthscales = np.stack([f.lengthscales for f in self.fitted])
        return Predictor(self.inputs, self.kernel, self.X, lengthscales, self._scales, self._means, inverse, weights)

    @property
    def _means(self) -> Array:
        return np.array([f.mean for f in self.fitted])

    @property
    def _scales(self) -> Array:
        return np.array([f.scale for f in self.fitted])

    def output(self, index: int) -> GaussianProcess:
        """The posterior of one output alone."""
        pick = slice(index, index + 1)
        known = None if self.variances is None else self.variances[:, pick]
        return replace(
            self, Z=self.Z[:, pick], variances=known, fitted=self.fitted[pick], factors=self.factors[pick],
            jitter=self.jitter[pick],
        )  # fmt: skip

    def mean_variance(self, X: Array) -> tuple[Array, Array]:
        """(q, m) means and (q, m) variances of the noise-free functions at (q, d) points."""
        moments = self.predictor.forward(np.asarray(X, dtype=float))
        return moments.mean[:, :, 0].T, moments.variance.T

    def gradients(self, X: Array) -> tuple[Array, Array]:
        """(q, m, d) gradients in x of the means and of the variances (zero for category columns)."""
        moments = self.predictor.forward(np.asarray(X, dtype=float))
        means, variances = self.predictor.slopes(moments)
        return means.transpose(1, 0, 2), variances.transpose(1, 0, 2)

    def covariance(self, X: Array) -> Array:
        """(m, q, q) joint covariances of the noise-free functions at (q, d) points."""
        return self.predictor.covariance(np.asarray(X, dtype=float))

    def sample(self, X: Array, count: int, rng: np.random.Generator) -> Array:
        """(count, q, m) joint draws of the noise-free functions at (q, d) points."""
        mean, _ = self.mean_variance(X)
        covariance = self.covariance(X)
        draws = np.empty((count, len(mean), self.outputs))
        for j in range(self.outputs):
            root = root_of(covariance[j], self.fitted[j].scale)
            draws[:, :, j] = mean[:, j] + rng.standard_normal((count, len(mean))) @ root.T
        return draws

    def given(self, X: Array, Z: Array, variances: Array | None = None) -> GaussianProcess:
        """The posterior after q more rows, hyperparameters kept: O(n^2 q) instead of O(n^3).

        X: (q, d), Z: (q, m), variances: (q, m), needed exactly where the model has known variances.
        """
        added = np.asarray(X, dtype=float)
        targets = np.asarray(Z, dtype=float).reshape(len(added), self.outputs)
        n, q = self.factors.shape[1], len(added)
        k = self.predictor.correlations(self.inputs.features(added))[0]  # (m, q, n)
        features = self.inputs.features(added)
        corner = self.predictor.prior(features, features)
        factors = np.zeros((self.outputs, n + q, n + q))
        jitter = self.jitter.copy()
        for j, f in enumerate(self.fitted):
            low = self.predictor.inverse[j] @ k[j].T  # (n, q)
            noise = f.noise / f.scale + f.nugget + jitter[j]
            extra = noise if variances is None else noise + np.asarray(variances)[:, j] / f.scale
            found = factor(corner[j] - low.T @ low, extra, 1.0)
            assert found is not None, "finite inputs can be factored"
            factors[j, :n, :n] = self.factors[j]
            factors[j, n:, :n] = low.T
            factors[j, n:, n:] = found[0]
            jitter[j] = max(jitter[j], found[1])
        known = None if self.variances is None else np.vstack([self.variances, np.asarray(variances)])
        return replace(
            self, X=np.vstack([self.X, added]), Z=np.vstack([self.Z, targets]), variances=known, factors=factors,
            jitter=jitter,
        )  # fmt: skip

    def given_exactly(self, X: Array, values: Array, nuggets: Array) -> Predictor:
        """The model given S vectors of exact values (m, n + p, S) at the told points and at p more, X (p, d).

        nuggets: (m,) on the diagonal, in units of the output scale.
        """
        rows = np.concatenate([self.X, X])
        features = self.inputs.features(rows)
        base = self.predictor
        C = prior_correlation(self.kernel, features, features, 1.0 / base.lengthscales[:, self.inputs.owner])
        inverse = inverse_factors(C, nuggets)
        weights = np.matmul(inverse.transpose(0, 2, 1), np.matmul(inverse, values - base.mean[:, None, None]))
        return replace(base, X=rows, inverse=inverse, weights=weights)

    def of_values(self) -> GaussianProcess:
        """The posterior of the told values alone, without what a subclass knows besides: this one itself."""
        return self

    def leave_one_out(self) -> tuple[Array, Array]:
        """(n, m) means and variances of each target predicted from all others (equations 5.12 in the book)."""
        diagonal = (self.predictor.inverse**2).sum(axis=1).T  # (n, m) of (C + D)^-1
        means = self.Z - self.predictor.weights[:, :, 0].T / diagonal
        return means, self._scales / diagonal

    def hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters as plain data, per output: what `condition` needs besides the rows."""
        return hyperparameters_of(self.kernel, self.fitted)

    def botorch_model(self) -> SingleTaskGP | ModelListGP:
        """The same posterior as a BoTorch model (see `surrogates.gp_botorch`); MissingPackage where torch is absent."""
        from surrogates.gp_botorch import to_botorch

        return to_botorch(self)


def hyperparameters_of(kernel: Kernel, fitted: Sequence[Fitted]) -> dict[str, Any]:
    """Hyperparameters of several outputs as plain data."""
    plain = {name: np.array([getattr(f, name) for f in fitted]) for name in ("scale", "noise", "mean", "nugget")}
    return {"kernel": kernel, "lengthscales": np.stack([f.lengthscales for f in fitted]), **plain}


def inverse_factors(C: Array, nuggets: Array) -> Array:
    """(m, N, N) inverses of the lower Cholesky factors of correlations C, which are overwritten, plus nuggets (m,) or (m, N)."""
    inverse = np.empty_like(C)
    for j, nugget in enumerate(nuggets):
        found = factor(C[j], nugget, 1.0)
        if found is None:
            raise FloatingPointError("covariance of told and pending points is not finite")
        inverse[j] = lapack.dtrtri(found[0], lower=1)[0]
    return inverse


def root_of(covariance: Array, scale: float) -> Array:
    """A lower triangular square root of a covariance matrix that may be singular, by the smallest jitter that works."""
    K = np.array(covariance)
    for jitter in (1e-12, *JITTERS[1:], 1.0):
        L, info = lapack.dpotrf(K + jitter * scale * np.eye(len(K)), lower=1, clean=1)
        if info == 0 and np.isfinite(L).all():
            return np.asarray(L)
    return np.zeros_like(K)


def condition(
    inputs: Inputs, X: Array, Z: Array, fitted: Sequence[Fitted], kernel: Kernel = "rbf", variances: Array | None = None
) -> GaussianProcess:
    """The posterior of m outputs with given hyperparameters: X (n, d), Z (n, m), variances (n, m) or None."""
    rows, targets = np.asarray(X, dtype=float), np.asarray(Z, dtype=float)
    features = inputs.features(rows)
    rates = np.stack([1.0 / f.lengthscales[inputs.owner] for f in fitted])
    C = prior_correlation(kernel, features, features, rates)
    factors, jitters = np.empty_like(C), np.zeros(len(fitted))
    for j, f in enumerate(fitted):
        extra = np.full(len(rows), f.noise / f.scale + f.nugget)
        if variances is not None:
            extra += variances[:, j] / f.scale
        found = factor(C[j], extra, 1.0)
        if found is None:
            raise FloatingPointError("covariance of the told points is not finite")
        factors[j], jitters[j] = found
    return GaussianProcess(inputs, kernel, rows, targets, variances, tuple(fitted), factors, jitters)


def fit_gp(
    inputs: Inputs,
    X: Array,
    Z: Array,
    priors: Sequence[Prior],
    kernel: Kernel = "rbf",
    variances: Array | None = None,
    starts: Sequence[tuple[Fitted | None, ...]] | None = None,
) -> GaussianProcess:
    """Fit every output by `fit_map` and condition on the data. One prior, and one tuple of starts, per output.

    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((12, 1))
    >>> model = fit_gp(Inputs.continuous(1), X, np.sin(6 * X), [Prior.noiseless(1)])
    >>> mean, variance = model.mean_variance(np.array([[0.5]]))
    >>> bool(abs(mean[0, 0] - np.sin(3.0)) < 1e-3)
    True
    """
    rows, targets = np.asarray(X, dtype=float), np.asarray(Z, dtype=float)
    objectives: dict[Prior, Objective] = {}
    fitted = []
    for j, prior in enumerate(priors):
        if prior not in objectives:
            objectives[prior] = Objective(inputs, rows, kernel, prior)
        known = None if variances is None else variances[:, j]
        chosen = (None,) if starts is None else starts[j]
        fitted.append(fit_map(inputs, rows, targets[:, j], prior, kernel, known, chosen, objectives[prior]))
    return condition(inputs, rows, targets, fitted, kernel, variances)
