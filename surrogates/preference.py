"""A Gaussian process of utility, learnt from comparisons of points: fit, predict, hand over.

The model and its approximation stand in `surrogates.preference_fit`; this file holds the posterior. Utility is better
where it is higher, and one judgement of a pair has noise sqrt 2: only differences of utility mean something.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.special import ndtr

from surrogates.columns import Inputs
from surrogates.gp import root_of
from surrogates.kernels import Kernel
from surrogates.map_fit import Prior
from surrogates.predictor import Predictor
from surrogates.preference_fit import Comparisons, Evidence, Method, choose_pivots, fit_theta, preference_prior

if TYPE_CHECKING:
    from surrogates.preference_botorch import PreferenceModel

Array = NDArray[np.float64]
MOST_PIVOTS = 150
FLAT = 1e-12  # squared factors of the posterior below which a direction has learnt nothing


@dataclass(frozen=True)
class PreferenceProcess:
    """Utility after comparisons. Made by `fit_preferences` or `condition_preferences`; never changed afterwards.

    X: (M, d) pivots; lengthscales: (d,); scale: prior variance; mode: (M,) most probable utilities of the pivots;
    inverse: (M, M) with posterior variance = scale (1 - |inverse k|^2) for correlations k with the pivots;
    weights: (M,) with posterior mean = weights^T k; evidence: its logarithm; evaluations: gradients that the fit took.
    """

    inputs: Inputs
    kernel: Kernel
    X: Array
    lengthscales: Array
    scale: float
    mode: Array
    inverse: Array
    weights: Array
    evidence: float
    evaluations: int = 0

    @cached_property
    def predictor(self) -> Predictor:
        """Mean, variance and gradients of the utility (see `surrogates.predictor`)."""
        return self._predictor(1.0)

    @cached_property
    def regret(self) -> Predictor:
        """The same of minus the utility, for searches that minimise."""
        return self._predictor(-1.0)

    def _predictor(self, sign: float) -> Predictor:
        return Predictor(
            self.inputs, self.kernel, self.X, self.lengthscales[None], np.array([self.scale]), np.zeros(1),
            self.inverse[None], sign * self.weights[None, :, None],
        )  # fmt: skip

    def mean_variance(self, X: Array) -> tuple[Array, Array]:
        """(q, 1) means and (q, 1) variances at (q, d) points."""
        moments = self.predictor.forward(np.asarray(X, float))
        return moments.mean[:, :, 0].T, moments.variance.T

    def covariance(self, X: Array) -> Array:
        """(1, q, q) joint covariance at (q, d) points."""
        return self.predictor.covariance(np.asarray(X, float))

    def sample(self, X: Array, count: int, rng: np.random.Generator) -> Array:
        """(count, q, 1) joint draws at (q, d) points."""
        mean = self.mean_variance(X)[0][:, 0]
        root = root_of(self.covariance(X)[0], self.scale)
        return np.asarray((mean + rng.standard_normal((count, len(mean))) @ root.T)[:, :, None])

    def probability(self, better: Array, worse: Array) -> Array:
        """(q,) probabilities that a person prefers the rows of `better` (q, d) to those of `worse`, one by one."""
        mean = self.mean_variance(better)[0][:, 0] - self.mean_variance(worse)[0][:, 0]
        both = np.concatenate([better, worse])
        C, q = self.covariance(both)[0], len(better)
        i, j = np.arange(q), np.arange(q, 2 * q)
        return np.asarray(ndtr(mean / np.sqrt(2.0 + C[i, i] + C[j, j] - 2.0 * C[i, j])))

    def hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters as plain data: what `condition_preferences` needs besides the comparisons."""
        return {"kernel": self.kernel, "lengthscales": self.lengthscales, "scale": self.scale}

    def botorch_model(self) -> PreferenceModel:
        """The same posterior as a BoTorch model (see `surrogates.preference_botorch`)."""
        from surrogates.preference_botorch import to_botorch

        return to_botorch(self)


def condition_preferences(
    inputs: Inputs, X: Array, told: Comparisons, lengthscales: Array, scale: float, kernel: Kernel = "rbf",
    most: int = MOST_PIVOTS, importance: Array | None = None, method: Method = "ep",
) -> PreferenceProcess:  # fmt: skip
    """The posterior with given hyperparameters. X: (n, d) rows, all different; see `fit_preferences`.

    Raises FloatingPointError where nothing can be factored.
    """
    pivots = choose_pivots(inputs, X, lengthscales, kernel, most, np.ones(len(X)) if importance is None else importance)
    evidence = Evidence(inputs, X, told, pivots, kernel, method=method)
    return _posterior(evidence, X, np.append(np.log(lengthscales), np.log(scale)))


def fit_preferences(
    inputs: Inputs, X: Array, told: Comparisons, kernel: Kernel = "rbf", start: tuple[Array, float] | None = None,
    most: int = MOST_PIVOTS, importance: Array | None = None, max_iterations: int = 60, prior: Prior | None = None,
    method: Method = "ep",
) -> PreferenceProcess:  # fmt: skip
    """The posterior after comparisons (numbers of rows of X) with the most probable hyperparameters.

    X: (n, d) rows, all different; start: lengthscales and scale to start from; most: rows that span the process, more
    rows are projected on it; importance: (n,) factors by which rows must be represented well (1 each by default); prior: of
    the hyperparameters, `preference_prior` by default; method: the approximation (see `surrogates.preference_fit`).

    >>> X = np.linspace(0.0, 1.0, 5)[:, None]
    >>> model = fit_preferences(Inputs.continuous(1), X, Comparisons.of([[2, 0], [2, 4], [1, 0], [3, 4], [2, 1], [2, 3]]))
    >>> int(model.mean_variance(X)[0].argmax())
    2
    """
    d = X.shape[1]
    prior = preference_prior(d) if prior is None else prior
    weights = np.ones(len(X)) if importance is None else importance
    first = np.full(d, np.exp(prior.lengthscale[0])) if start is None else start[0]
    pivots = choose_pivots(inputs, X, first, kernel, most, weights)
    evidence = Evidence(inputs, X, told, pivots, kernel, prior, method)
    theta = None if start is None else np.append(np.log(start[0]), np.log(start[1]))
    theta, used = fit_theta(evidence, theta, max_iterations)
    return _posterior(evidence, X, theta, used)


def _posterior(evidence: Evidence, X: Array, theta: Array, evaluations: int = 0) -> PreferenceProcess:
    found = evidence.approximation(theta)
    d = evidence.d
    scale = float(np.exp(theta[d]))
    values, vectors = np.linalg.eigh(found.A)  # I - A^-1 = V V^T, singular where nothing was learnt
    factors = np.sqrt(np.maximum(1.0 - 1.0 / np.maximum(values, 1.0), 0.0))
    keep = factors**2 > FLAT
    rooted = (factors[keep] * vectors[:, keep]).T
    inverse = lapack.dtrtrs(found.root, np.asfortranarray(rooted.T), lower=1, trans=1)[0].T
    weights = np.sqrt(scale) * lapack.dtrtrs(found.root, found.v, lower=1, trans=1)[0]
    mode = np.sqrt(scale) * (found.root @ found.v)
    return PreferenceProcess(
        evidence.inputs, evidence.kernel, X[evidence.pivots], np.exp(theta[:d]), scale, mode, inverse, weights,
        found.evidence, evaluations,
    )  # fmt: skip
