"""A Gaussian process given values and some of their partial derivatives.

The joint posterior of section 9.4 of Rasmussen and Williams 2006: a square system over s told derivatives and n values. It
predicts values, with the interface of `surrogates.gp`, so that whatever works on that posterior works on this one. Outputs
may have derivatives in different places: where an output has none, that observation is one of nothing (correlation 0 with
everything), so that all outputs share one set of observations. Without derivatives it is `surrogates.gp` to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from bbopt.errors import UsageError
from surrogates.columns import Inputs
from surrogates.gp import GaussianProcess, condition, inverse_factors
from surrogates.kernels import Kernel, correlation_and_slope, curvatures
from surrogates.map_fit import Fitted, factor
from surrogates.predictor import FLOOR, Moments, Predictor
from surrogates.slope_kernel import Index, Sites, joint_correlations, own_variances

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SlopeMoments(Moments):
    """Moments that know the g at the derivatives' points, (m, q, s), besides."""

    direct: Array


@dataclass(frozen=True)
class SlopePredictor(Predictor):
    """Means and variances over observations that begin with s derivatives; X (s + n, d) has the points of all.

    places: (s,) the features along which the derivatives are; told: (m, s) which of them each output has.
    """

    places: Index = field(default_factory=lambda: np.zeros(0, np.intp))
    told: Mask = field(default_factory=lambda: np.zeros((1, 0), bool))

    def take(self, chosen: NDArray[np.intp]) -> SlopePredictor:
        taken = super().take(chosen)
        assert isinstance(taken, SlopePredictor)
        return replace(taken, told=self.told[chosen])

    def correlations(self, features: Array) -> tuple[Array, Array]:
        """k, and what stands for g in gradients (the radial part alone), each (m, q, N)."""
        return self._observed(features)[:2]

    def _observed(self, features: Array) -> tuple[Array, Array, Array]:
        """k (m, q, N), what stands for g in gradients (m, q, N), and the g at the derivatives (m, q, s)."""
        assert isinstance(self.kernel, str) and not np.any(self.offset)
        s, r2 = len(self.places), self.distances(features)
        k, g = correlation_and_slope(self.kernel, r2)
        if not s:
            return k, g, g[:, :, :0]
        told = self.told[:, None, :]
        own = self._rates[:, None, self.places]
        u = (features[None, :, self.places] - self._features[np.arange(s), self.places]) * own
        direct = np.where(told, g[:, :, :s], 0.0)
        k, g = np.array(k), np.array(g)  # one array for the RBF kernel
        k[:, :, :s] = direct * u
        g[:, :, :s] = np.where(told, curvatures(self.kernel, r2[:, :, :s])[0] * u, 0.0)
        return k, g, direct

    def forward(self, X: Array) -> SlopeMoments:
        """Moments at (q, d) points. Variances are those of the noise-free function."""
        points = self.inputs.features(X)
        k, g, direct = self._observed(points)
        mean = np.matmul(k, self.weights) + self.mean[:, None, None]
        half = np.matmul(self.inverse, k.transpose(0, 2, 1))
        share = 1.0 - np.einsum("mnq,mnq->mq", half, half)
        return SlopeMoments(mean, self.scale[:, None] * np.maximum(share, FLOOR), points, g, half, direct)

    def _along(self, moments: Moments, weight: Array) -> Array:
        assert isinstance(moments, SlopeMoments)
        direct = weight[..., : len(self.places)] * moments.direct * self._rates[:, None, self.places]
        found = super()._along(moments, weight)
        for place in np.unique(self.places):  # d(g u_c)/dx_c has a part of its own: g / l_c
            found[..., place] += direct[..., self.places == place].sum(axis=-1)
        return found


@dataclass(frozen=True)
class SlopeProcess(GaussianProcess):
    """Posterior of m outputs after n values and s derivatives. Made by `condition_with_slopes`.

    sites: where the derivatives are; slopes: (m, s) in encoded units, NaN where an output has none; factors: (m, s + n, s + n)
    of the joint correlations in units of the lengthscales (`surrogates.slope_kernel`).
    """

    sites: Sites = field(default_factory=lambda: Sites(np.zeros(0, np.intp), np.zeros(0, np.intp), 0))
    slopes: Array = field(default_factory=lambda: np.zeros((1, 0)))

    @cached_property
    def predictor(self) -> SlopePredictor:
        """Means, variances and gradients of all outputs (see `surrogates.predictor`)."""
        inverse = np.stack([lapack.dtrtri(L, lower=1)[0] for L in self.factors])
        return self._predictor(self.X, inverse, (self.Z - self._means).T[:, :, None])

    def _predictor(self, X: Array, inverse: Array, centred: Array) -> SlopePredictor:
        """From inverse factors and S vectors of values less their means, (m, n, S)."""
        lengthscales = np.stack([f.lengthscales for f in self.fitted])
        known = np.nan_to_num(self.slopes * lengthscales[:, self.sites.columns])
        steep = np.broadcast_to(known[:, :, None], (*known.shape, centred.shape[2]))
        observed = np.concatenate([steep, centred], axis=1)
        weights = np.matmul(inverse.transpose(0, 2, 1), np.matmul(inverse, observed))
        points, places = np.concatenate([X[self.sites.rows], X]), self.sites.places(self.inputs)
        return SlopePredictor(
            self.inputs, self.kernel, points, lengthscales, self._scales, self._means, inverse, weights,
            places=places, told=~np.isnan(self.slopes),
        )  # fmt: skip

    def output(self, index: int) -> SlopeProcess:
        one = super().output(index)
        assert isinstance(one, SlopeProcess)
        return replace(one, slopes=self.slopes[index : index + 1])

    def of_values(self) -> GaussianProcess:
        return condition(self.inputs, self.X, self.Z, self.fitted, self.kernel, self.variances)

    def given(self, X: Array, Z: Array, variances: Array | None = None) -> SlopeProcess:
        more = super().given(X, Z, variances)
        assert isinstance(more, SlopeProcess)
        return replace(more, sites=replace(self.sites, n=len(more.X)))

    def given_exactly(self, X: Array, values: Array, nuggets: Array) -> SlopePredictor:
        rows = np.concatenate([self.X, X])
        sites = replace(self.sites, n=len(rows))
        C = _correlations(self.inputs, rows, sites, self.slopes, self.fitted, self.kernel)
        own = own_variances(self.kernel, sites)
        extra = nuggets[:, None] * own
        for j, f in enumerate(self.fitted):  # derivatives keep their noise: it is values that are known exactly now
            extra[j, : sites.count] += self._noise_of_slopes(j) * own[: sites.count] - (nuggets[j] - f.nugget)
        return self._predictor(rows, inverse_factors(C, extra), values - self._means[:, None, None])

    def _noise_of_slopes(self, output: int) -> Array:
        """(s,) noise of one output's derivatives, in units of the output scale and of their own prior variance."""
        known = 0.0 if self.variances is None else self.variances[self.sites.rows, output]
        return np.asarray((self.fitted[output].noise + known) / self.fitted[output].scale * np.ones(self.sites.count))

    def leave_one_out(self) -> tuple[Array, Array]:
        """(n, m) means and variances of each value predicted from all other values and all derivatives."""
        s = self.sites.count
        diagonal = (self.predictor.inverse**2).sum(axis=1)[:, s:].T
        means = self.Z - self.predictor.weights[:, s:, 0].T / diagonal
        return means, self._scales / diagonal

    def botorch_model(self) -> Any:
        raise UsageError("a model with derivatives has no BoTorch form; use an acquisition that does without")


def _correlations(
    inputs: Inputs, X: Array, sites: Sites, slopes: Array, fitted: Sequence[Fitted], kernel: Kernel
) -> Array:
    """(m, N, N) joint correlations; an observation that an output does not have is one of nothing."""
    features, places = sites.features(inputs, X), sites.places(inputs)
    C = np.stack([joint_correlations(kernel, features, places, 1.0 / f.lengthscales[inputs.owner]) for f in fitted])
    for j in range(len(fitted)):
        missing = np.flatnonzero(np.isnan(slopes[j]))
        C[j, missing, :], C[j, :, missing] = 0.0, 0.0
        C[j, missing, missing] = 1.0
    return C


def condition_with_slopes(
    inputs: Inputs,
    X: Array,
    Z: Array,
    sites: Sites,
    slopes: Array,
    fitted: Sequence[Fitted],
    kernel: Kernel = "rbf",
    variances: Array | None = None,
) -> SlopeProcess:
    """The posterior of m outputs given X (n, d), Z (n, m), variances (n, m) or None, and slopes (m, s) at the sites.

    slopes: derivatives in encoded units, NaN where an output has none. kernel: "rbf" or "matern52".

    >>> sites = Sites(np.array([0, 1]), np.array([0, 0]), 2)  # the derivatives at both points
    >>> flat = Fitted(np.array([0.5]), 1.0, 0.0, 0.0, 1e-9, 0.0, 0)
    >>> X = np.array([[0.0], [1.0]])
    >>> model = condition_with_slopes(Inputs.continuous(1), X, np.sin(X), sites, np.cos(X).T, [flat])
    >>> round(float(model.mean_variance(np.array([[0.5]]))[0][0, 0]), 2)
    0.5
    """
    rows, targets = np.asarray(X, dtype=float), np.asarray(Z, dtype=float)
    C = _correlations(inputs, rows, sites, slopes, fitted, kernel)
    own = own_variances(kernel, sites)
    factors, jitters = np.empty_like(C), np.zeros(len(fitted))
    for j, f in enumerate(fitted):
        extra = np.full(len(own), f.noise / f.scale + f.nugget)
        if variances is not None:
            extra += variances[sites.all, j] / f.scale
        found = factor(C[j], extra * own, 1.0)
        if found is None:
            raise FloatingPointError("covariance of the told points is not finite")
        factors[j], jitters[j] = found
    return SlopeProcess(inputs, kernel, rows, targets, variances, tuple(fitted), factors, jitters, sites, slopes)
