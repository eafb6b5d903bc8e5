"""A process of utility from comparisons of points: its approximation, and the hyperparameters by evidence.

The model is Chu and Ghahramani 2005, "Preference learning with Gaussian processes" (ICML), as in BoTorch's PairwiseGP:
a utility f ~ GP(0, s^2 k), and P(x beats x') = Phi((f(x) - f(x')) / sqrt 2), so that the noise of one judgement is the
unit of the utility. What differs:

* every comparison e has a weight w_e, a power of its likelihood (a ranking gives many comparisons that are dependent);
* the process is spanned by M of the n rows, the pivots: f = L v with v ~ N(0, I_M), L = K_np R^-T, R R^T = K_pp. With
  M = n that is the exact model; with more rows it is the projected process (Rasmussen and Williams 2006, section 8.3.4).
  All matrices are M x M or n x M, and the sparse W = -dd log p / df df^T is never inverted;
* the search is over LOG lengthscales and log s^2, with the gradient of the evidence by formula.

With z_e = (f_better - f_worse) / sqrt 2 = (E v)_e, two approximations are there. "laplace" (BoTorch's), at the mode v, with
r = phi(z) / Phi(z), h = r (z + r) = -r', A = I + L^T W L, W the Laplacian of the graph of comparisons with weights w h / 2:

    log evidence = sum_e w_e log Phi(z_e) - v^T v / 2 - log|A| / 2                          (book, equation 3.32)
    d/dtheta     = tr(G dQ),  Q = L L^T,  G = (g g^T - B)/2 + (g t^T + t g^T)/2             (5.20 to 5.24)

where g = d log p / df, B = W - W L A^-1 L^T W, t = (I - W L A^-1 L^T) s, s_i = -tr(L A^-1 L^T dW/df_i) / 2. As
B L = W L A^-1, and dQ is linear in dK_np and dK_pp, all of it costs O(n M^2). "ep" (`surrogates.preference_ep`) has the same
form with its sites in place of r and h, and t = 0. Where people judge clearly, Laplace's approximation hardly learns (the
curvature at the mode of a clear judgement is next to nothing), the less the larger s is; by matched moments it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import log_ndtr

from surrogates.columns import Inputs
from surrogates.kernels import Kernel, correlation_and_slope
from surrogates.map_fit import LOG_2PI, Prior, factor
from surrogates.preference_ep import Sites, match

Array = NDArray[np.float64]
Index = NDArray[np.intp]
ROOT_HALF = float(np.sqrt(0.5))
Method = Literal["ep", "laplace"]
NUGGET = 1e-8  # on the diagonal of the pivots' correlations
NEWTON_STEPS = 60
DECREMENT = 1e-14  # of the log posterior density, at which Newton's method ends: log|A| is as wrong as its root
SURE = 1e-8  # decrement below which a full step needs no check, which rounding would fail
SCALE_PRIOR = (float(np.log(100.0)), 2.0)  # of log s^2; a judgement has the variance 1
LENGTHSCALE = (0.4, 0.7)  # median, over the square root of the columns, and spread of the logarithm, for short rankings
WIDE_LENGTHSCALE = (
    float(np.exp(np.sqrt(2.0) - 3.0)),
    float(np.sqrt(3.0)),
)  # the same where the order of all rows is known
DENSE = 40_000  # comparisons times pivots up to which dense products are quicker than sparse ones


@dataclass(frozen=True)
class Comparisons:
    """Who beat whom: (c,) row numbers of the better and the worse ones, and (c,) weights, 1 for an independent judgement."""

    better: Index
    worse: Index
    weight: Array

    @classmethod
    def of(cls, pairs: Any, weight: Any = None) -> Comparisons:
        """From pairs (c, 2) of (better, worse).

        >>> Comparisons.of([[0, 1], [2, 1]]).worse
        array([1, 1])
        """
        both = np.asarray(pairs, np.intp).reshape(-1, 2)
        return cls(both[:, 0], both[:, 1], np.ones(len(both)) if weight is None else np.asarray(weight, float))

    def __len__(self) -> int:
        return len(self.better)


@dataclass(frozen=True)
class Approximation:
    """A Gaussian for v at given hyperparameters: v (M,) its mean, A (M, M) its precision, root (M, M) the Cholesky factor of
    the pivots' correlations, evidence: its logarithm; steps: of Newton's method, or sweeps over the sites."""

    v: Array
    root: Array
    A: Array
    evidence: float
    steps: int


def preference_prior(d: int, wide: bool = False) -> Prior:
    """Log-normal priors of the lengthscales, and of the scale, which says how clearly people see differences.

    Short rankings say too little about lengthscales for a wide prior. The wide one has its mode where that of
    `Prior.botorch` is.

    >>> preference_prior(4).lengthscale == (float(np.log(0.8)), 0.7)
    True
    """
    median, spread = WIDE_LENGTHSCALE if wide else LENGTHSCALE
    location = float(np.log(median * np.sqrt(max(d, 1))))
    return Prior((location, spread), noise=None, nugget=NUGGET, scale=SCALE_PRIOR, scale_bounds=(1e-2, 1e4))


class Evidence:
    """Evidence times prior density of log parameters (d log lengthscales, then log s^2), and its gradient.

    X: (n, d) rows, all different; pivots: (M,) numbers of the rows that span the process; method: see above.
    """

    def __init__(
        self, inputs: Inputs, X: Array, told: Comparisons, pivots: Index, kernel: Kernel = "rbf",
        prior: Prior | None = None, method: Method = "ep",
    ) -> None:  # fmt: skip
        self.inputs, self.told, self.pivots, self.kernel, self.method = inputs, told, pivots, kernel, method
        self.n, self.d = X.shape
        self.prior = preference_prior(self.d) if prior is None else prior
        features = inputs.features(X)
        squares = np.zeros((self.d, self.n, len(pivots)))
        for feature, column in zip(features.T, inputs.owner, strict=True):
            squares[column] += (feature[:, None] - feature[pivots][None, :]) ** 2
        self._squares = squares.reshape(self.d, -1)
        self._sparse = len(told) * len(pivots) > DENSE
        self._mode: Array | None = None  # utilities of the pivots at the last mode, from which the next search starts
        self._sites: Sites | None = None  # the same for sites

    def bounds(self) -> list[tuple[float, float]]:
        """Bounds of the log parameters."""
        assert self.prior.scale is not None
        limits = [self.prior.lengthscale_bounds] * self.d + [self.prior.scale_bounds]
        return [(float(np.log(low)), float(np.log(high))) for low, high in limits]

    def start(self) -> Array:
        """The medians of the priors."""
        assert self.prior.scale is not None
        return np.array([self.prior.lengthscale[0]] * self.d + [self.prior.scale[0]])

    def approximation(self, theta: Array) -> Approximation:
        """The approximation at log parameters theta. Raises FloatingPointError where nothing can be factored."""
        return self._solve(theta)[0]

    def _correlations(self, theta: Array) -> tuple[Array, Array]:
        rates = np.exp(-2.0 * theta[: self.d])
        r2 = (rates @ self._squares).reshape(self.n, -1)
        return correlation_and_slope(self.kernel, r2)

    def _solve(self, theta: Array) -> tuple[Approximation, _Parts]:
        k, slope = self._correlations(theta)
        scale = float(np.exp(theta[self.d]))
        found = factor(k[self.pivots].copy(), NUGGET, 1.0)
        if found is None:
            raise FloatingPointError("the correlations of the compared points are not finite")
        root, told = found[0], self.told
        L = np.sqrt(scale) * lapack.dtrtrs(root, k.T, lower=1)[0].T  # (n, M)
        E = ROOT_HALF * (L[told.better] - L[told.worse])  # z = E v
        if self.method == "ep":
            matched = match(
                E, told.weight, lambda h: self._precision(E, L, h), self._sites, lambda A: self._variances(L, A)
            )
            nu, tau = matched.sites.nu, matched.sites.tau
            self._sites = matched.sites
            pull, curve = told.weight * (nu - tau * matched.z), told.weight * tau
            parts = _Parts(k, slope, scale, L, pull, curve, None, matched.factored, matched.besides)
            return Approximation(matched.v, root, matched.A, matched.evidence, matched.sweeps), parts
        return self._newton(k, slope, scale, root, L, E)

    def _newton(
        self, k: Array, slope: Array, scale: float, root: Array, L: Array, E: Array
    ) -> tuple[Approximation, _Parts]:
        """Laplace's approximation: the mode by Newton's method."""
        told, v = self.told, np.zeros(len(root))
        if self._mode is not None:
            v = lapack.dtrtrs(root, self._mode, lower=1)[0] / np.sqrt(scale)
        value, z = self._density(E, v)
        if value < told.weight.sum() * np.log(0.5):
            v = np.zeros(len(root))
            value, z = self._density(E, v)
        for step in range(NEWTON_STEPS):  # noqa: B007  # how many there were is given back
            r = hazard(z)
            h = r * (z + r)
            A, WL = self._precision(E, L, told.weight * h)
            factored, info = lapack.dpotrf(A, lower=1, clean=1)
            if info:
                raise FloatingPointError("the precision of the utilities is not finite")
            gradient = E.T @ (told.weight * r) - v
            direction = lapack.dpotrs(factored, gradient, lower=1)[0]
            decrement = float(gradient @ direction)
            if not decrement > DECREMENT:
                break
            length = 1.0
            while True:
                new_value, new_z = self._density(E, v + length * direction)
                if decrement < SURE or new_value >= value + 1e-4 * length * decrement or length < 1e-6:
                    break
                length *= 0.5
            v, value, z = v + length * direction, new_value, new_z
        self._mode = np.sqrt(scale) * (root @ v)
        evidence = value - np.log(np.diagonal(factored)).sum()
        third = told.weight * (r * (1.0 - h) - h * (z + r))  # w dh/dz
        parts = _Parts(k, slope, scale, L, told.weight * r, told.weight * h, third, factored, WL)
        return Approximation(v, root, A, float(evidence), step), parts

    def _density(self, E: Array, v: Array) -> tuple[float, Array]:
        z = E @ v
        return float(self.told.weight @ log_ndtr(z) - 0.5 * v @ v), z

    def _precision(self, E: Array, L: Array, h: Array) -> tuple[Array, Array | None]:
        """A, and W L where the sparse W was used."""
        if not self._sparse:
            A = E.T @ (h[:, None] * E)
            A[np.diag_indices(len(A))] += 1.0
            return A, None
        WL = self._hessian(h) @ L
        A = L.T @ WL
        A[np.diag_indices(len(A))] += 1.0
        return A, WL

    def _variances(self, L: Array, factored: Array) -> Array:
        """(c,) variances of z, from the Cholesky factor of A."""
        C = lapack.dtrtrs(factored, L.T, lower=1)[0].T  # (n, M), L A^-1 L^T = C C^T
        half = C[self.told.better]
        half -= C[self.told.worse]
        return np.asarray(0.5 * np.einsum("cm,cm->c", half, half))

    def _hessian(self, h: Array) -> csr_matrix:
        """W (n, n), sparse."""
        i, j, half = self.told.better, self.told.worse, 0.5 * h
        rows, columns = np.concatenate([i, j, i, j]), np.concatenate([i, j, j, i])
        return csr_matrix((np.concatenate([half, half, -half, -half]), (rows, columns)), (self.n, self.n))

    def _spread(self, by_comparison: Array) -> Array:
        """(n,) sums over the comparisons of each row, with a minus sign where it is the worse one."""
        told, n = self.told, self.n
        return np.asarray(np.bincount(told.better, by_comparison, n) - np.bincount(told.worse, by_comparison, n))

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Minus (log evidence + log prior) per comparison, and its gradient; (1e10, zeros) where nothing can be factored."""
        count = max(len(self.told), 1)
        try:
            found, parts = self._solve(theta)
        except FloatingPointError:
            return 1e10, np.zeros_like(theta)
        gradient = self._gradient(theta, found, parts)
        log_prior, by_prior = self._log_prior(theta)
        return -(found.evidence + log_prior) / count, -(gradient + by_prior) / count

    def _gradient(self, theta: Array, found: Approximation, parts: _Parts) -> Array:
        L, scale = parts.L, parts.scale
        g = ROOT_HALF * self._spread(parts.pull)
        WL = parts.WL if parts.WL is not None else self._hessian(parts.curve) @ L
        t = np.zeros(self.n)
        if parts.third is not None:
            s = -0.5 * ROOT_HALF * self._spread(parts.third * self._variances(L, parts.factored))
            t = s - WL @ lapack.dpotrs(parts.factored, L.T @ s, lower=1)[0]
        upper = np.sqrt(scale) * found.root.T  # R^T
        B = lapack.dtrtrs(upper, L.T, lower=0)[0]  # K_pp^-1 K_pn, (M, n)
        Bg, Bt = B @ g, B @ t
        solved = lapack.dpotrs(parts.factored, WL.T, lower=1)[0]  # A^-1 (W L)^T
        middle = lapack.dtrtrs(upper, solved, lower=0)[0].T  # (W L) A^-1 R^-1, (n, M)
        GB = 0.5 * (np.outer(g, Bg + Bt) + np.outer(t, Bg) - middle)
        by_rows, by_pivots = 2.0 * scale * GB, -scale * (B @ GB)
        weight = by_rows.copy()
        weight[self.pivots] += by_pivots
        gradient = np.empty_like(theta)
        rates = np.exp(-2.0 * theta[: self.d])
        gradient[: self.d] = rates * (self._squares @ (weight * parts.slope).ravel())
        gradient[self.d] = (weight * parts.k).sum() + NUGGET * np.trace(by_pivots)
        return gradient

    def _log_prior(self, theta: Array) -> tuple[float, Array]:
        """Log density of the log parameters, and its gradient."""
        assert self.prior.scale is not None
        location, spread = np.array([self.prior.lengthscale] * self.d + [self.prior.scale]).T
        q = (theta - location) / spread
        return float(-(0.5 * q * q + np.log(spread) + 0.5 * LOG_2PI).sum()), -q / spread


@dataclass(frozen=True)
class _Parts:
    """What the gradient needs of a solution."""

    k: Array
    slope: Array
    scale: float
    L: Array
    pull: Array  # (c,) w r
    curve: Array  # (c,) w h
    third: Array | None  # (c,) w dh/dz, where the curvature moves with the mode
    factored: Array
    WL: Array | None


def hazard(z: Array) -> Array:
    """phi(z) / Phi(z) for any z.

    >>> hazard(np.array([0.0, -40.0])).round(4)
    array([ 0.7979, 40.025 ])
    """
    return np.asarray(np.exp(-0.5 * z * z - 0.5 * LOG_2PI - log_ndtr(z)))


def fit_theta(evidence: Evidence, start: Array | None = None, max_iterations: int = 60) -> tuple[Array, int]:
    """The most probable log parameters, and how many gradients that took."""
    found = minimize(
        evidence, evidence.start() if start is None else start, jac=True, method="L-BFGS-B",
        bounds=evidence.bounds(), options={"maxiter": max_iterations, "ftol": 1e-6, "gtol": 5e-4},
    )  # fmt: skip
    return np.asarray(found.x, float), int(found.nfev)


def choose_pivots(inputs: Inputs, X: Array, lengthscales: Array, kernel: Kernel, most: int, importance: Array) -> Index:
    """(M,) numbers of at most `most` rows that leave little of the others' prior variance, in rising order.

    Greedy, which is a pivoted Cholesky factorisation; importance: (n,) factors of the variances that are left.
    """
    n = len(X)
    if n <= most:
        return np.arange(n)
    F = inputs.features(X) / lengthscales[inputs.owner]
    norms = (F * F).sum(axis=1)
    left, chosen = np.ones(n), np.zeros(most, np.intp)
    L = np.zeros((n, most))
    for m in range(most):
        p = int((left * importance).argmax())
        r2 = np.maximum(norms + norms[p] - 2.0 * (F @ F[p]), 0.0)
        column = correlation_and_slope(kernel, r2)[0] - L[:, :m] @ L[p, :m]
        L[:, m] = column / np.sqrt(max(left[p], 1e-12))
        left = np.maximum(left - L[:, m] ** 2, 0.0)
        left[p] = -1.0
        chosen[m] = p
    return np.sort(chosen)
