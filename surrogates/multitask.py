"""A Gaussian process over several tasks whose covariance is learnt: the intrinsic coregionalisation model.

    cov(f_s(x), f_t(x')) = B[s, t] k(x, x'),      B = W W^T + diag(v)
(Bonilla, Chai, Williams 2007, "Multi-task Gaussian Process Prediction", NeurIPS 20, equation 1; low rank plus diagonal as in
BoTorch's `MultiTaskGP`). Tasks are the levels of one category column; or the rows of earlier data are other tasks, and
predictions are of task 0. The interface is that of `surrogates.gp`, so that whatever works on that posterior works on this one.
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
from surrogates.kernels import Kernel
from surrogates.map_fit import Fitted, factor
from surrogates.predictor import FLOOR, Moments, Predictor, prior_correlation

Array = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class TaskPredictor(Predictor):
    """Means and variances over base points of several tasks.

    between: (m, T, T) task covariances in units of the scale; tasks: (N,) of the base points; told: (m, N) whether an output
    has a value there; column: the category column whose level is the task of a point, None where all points to predict are of task 0.
    """

    between: Array = field(default_factory=lambda: np.ones((1, 1, 1)))
    tasks: Index = field(default_factory=lambda: np.zeros(0, np.intp))
    told: NDArray[np.bool_] = field(default_factory=lambda: np.ones((1, 0), bool))
    column: int | None = None

    def take(self, chosen: NDArray[np.intp]) -> TaskPredictor:
        taken = super().take(chosen)
        assert isinstance(taken, TaskPredictor)
        return replace(taken, between=self.between[chosen], told=self.told[chosen])

    def tasks_of(self, features: Array) -> Index:
        """(q,) the tasks of feature rows."""
        if self.column is None:
            return np.zeros(len(features), np.intp)
        return np.asarray(features[:, self._owner == self.column].argmax(axis=1))

    def share(self, left: Array, right: Array) -> Array:
        return self.between[:, self.tasks_of(left)[:, None], self.tasks_of(right)]

    def correlations(self, features: Array) -> tuple[Array, Array]:
        """k and g, each (m, q, N), times the task covariance."""
        k, g = super().correlations(features)
        share = self.between[:, self.tasks_of(features)[:, None], self.tasks] * self.told[:, None, :]
        return k * share, g * share

    def prior(self, left: Array, right: Array) -> Array:
        return super().prior(left, right) * self.share(left, right)

    def forward(self, X: Array) -> Moments:
        """Moments at (q, d) points. Variances are those of the noise-free function."""
        points = self.inputs.features(X)
        k, g = self.correlations(points)
        mean = np.matmul(k, self.weights) + self.mean[:, None, None]
        half = np.matmul(self.inverse, k.transpose(0, 2, 1))
        task = self.tasks_of(points)
        own = self.between[:, task, task]
        share = np.maximum(own - np.einsum("mnq,mnq->mq", half, half), FLOOR * own)
        return Moments(mean, self.scale[:, None] * share, points, g, half)


@dataclass(frozen=True)
class Elder:
    """Rows of other tasks, before those of this model: X (e, d), Z (m, e) less their means, NaN where an output has none,
    tasks (e,), and their noise variances (m, e)."""

    X: Array
    Z: Array
    tasks: Index
    variances: Array

    @classmethod
    def none(cls, dimension: int, outputs: int) -> Elder:
        """No such rows.

        >>> len(Elder.none(2, 1).X)
        0
        """
        empty = np.zeros((outputs, 0))
        return cls(np.zeros((0, dimension)), empty, np.zeros(0, np.intp), empty)


@dataclass(frozen=True)
class TaskProcess(GaussianProcess):
    """Posterior of m outputs after n rows, of tasks by a column or all of task 0, and e elder rows of other tasks.

    Made by `condition_tasks`. between: (m, T, T) in units of the scale; factors: (m, e + n, e + n), elder rows first. The
    lengthscale of the task column is infinite: it has no part in the distances. plain: hyperparameters of a model without tasks.
    """

    between: Array = field(default_factory=lambda: np.ones((1, 1, 1)))
    column: int | None = None
    elder: Elder = field(default_factory=lambda: Elder.none(1, 1))
    plain: tuple[Fitted, ...] = ()

    @cached_property
    def predictor(self) -> TaskPredictor:
        """Means, variances and gradients of all outputs (see `surrogates.predictor`)."""
        inverse = np.stack([lapack.dtrtri(L, lower=1)[0] for L in self.factors])
        return self._predictor(self.X, inverse, (self.Z - self._means).T[:, :, None])

    def _predictor(self, X: Array, inverse: Array, centred: Array) -> TaskPredictor:
        old = np.nan_to_num(self.elder.Z)[:, :, None]
        observed = np.concatenate([np.broadcast_to(old, (*old.shape[:2], centred.shape[2])), centred], axis=1)
        weights = np.matmul(inverse.transpose(0, 2, 1), np.matmul(inverse, observed))
        lengthscales = np.stack([f.lengthscales for f in self.fitted])
        return TaskPredictor(
            self.inputs, self.kernel, np.concatenate([self.elder.X, X]), lengthscales, self._scales, self._means, inverse,
            weights, between=self.between, told=np.concatenate([~np.isnan(self.elder.Z), np.ones((self.outputs, len(X)), bool)], axis=1), tasks=_tasks(self.elder, X, self.column), column=self.column,
        )  # fmt: skip

    def output(self, index: int) -> TaskProcess:
        one, pick = super().output(index), slice(index, index + 1)
        assert isinstance(one, TaskProcess)
        elder = replace(self.elder, Z=self.elder.Z[pick], variances=self.elder.variances[pick])
        return replace(one, between=self.between[pick], elder=elder)

    def of_values(self) -> GaussianProcess:
        return condition(self.inputs, self.X, self.Z, self.plain or self.fitted, self.kernel, self.variances)

    def given_exactly(self, X: Array, values: Array, nuggets: Array) -> TaskPredictor:
        rows, e = np.concatenate([self.X, X]), len(self.elder.X)
        C = _correlations(self.inputs, rows, self.elder, self.fitted, self.between, self.column, self.kernel)
        extra = np.broadcast_to(nuggets[:, None], C.shape[:2]).copy()
        for j, f in enumerate(self.fitted):  # it is values of this model that are known exactly, not the elder ones
            extra[j, :e] = f.nugget + (f.noise + self.elder.variances[j]) / f.scale
        return self._predictor(rows, inverse_factors(C, extra), values - self._means[:, None, None])

    def leave_one_out(self) -> tuple[Array, Array]:
        """(n, m) means and variances of each target predicted from all other rows, the elder ones among them."""
        e = len(self.elder.X)
        diagonal = (self.predictor.inverse**2).sum(axis=1)[:, e:].T
        means = self.Z - self.predictor.weights[:, e:, 0].T / diagonal
        return means, self._scales / diagonal

    def hyperparameters(self) -> dict[str, Any]:
        return super().hyperparameters() | {"between": self.between}

    def botorch_model(self) -> Any:
        raise UsageError("a model of several tasks has no BoTorch form here; use an acquisition that does without")


def _tasks(elder: Elder, X: Array, column: int | None) -> Index:
    own = np.zeros(len(X), np.intp) if column is None else X[:, column].astype(np.intp)
    return np.concatenate([elder.tasks, own])


def _correlations(
    inputs: Inputs, X: Array, elder: Elder, fitted: Sequence[Fitted], between: Array, column: int | None, kernel: Kernel
) -> Array:
    """(m, N, N) of elder rows and X; an observation that an output does not have is one of nothing."""
    features = inputs.features(np.concatenate([elder.X, X]))
    rates = np.stack([1.0 / f.lengthscales[inputs.owner] for f in fitted])
    tasks = _tasks(elder, X, column)
    C = prior_correlation(kernel, features, features, rates) * between[:, tasks[:, None], tasks]
    for j in range(len(fitted)):
        missing = np.flatnonzero(np.isnan(elder.Z[j]))
        C[j, missing, :], C[j, :, missing] = 0.0, 0.0
        C[j, missing, missing] = 1.0
    return C


def condition_tasks(
    inputs: Inputs,
    X: Array,
    Z: Array,
    fitted: Sequence[Fitted],
    between: Array,
    column: int | None = None,
    elder: Elder | None = None,
    kernel: Kernel = "rbf",
    variances: Array | None = None,
    plain: Sequence[Fitted] = (),
) -> TaskProcess:
    """The posterior of m outputs given X (n, d), Z (n, m), variances (n, m) or None, and rows of other tasks.

    between: (m, T, T) task covariances in units of each output's scale; column: of X, whose levels are the tasks, or None
    where all rows are of task 0 and the `elder` ones of others; plain: hyperparameters of a model without tasks, if there are.

    >>> one = Fitted(np.array([0.5, np.inf]), 1.0, 0.0, 0.0, 1e-9, 0.0, 0)
    >>> inputs = Inputs(("float", "category"), (0, 2), (0, 1))
    >>> B = np.array([[[1.0, 0.9], [0.9, 1.0]]])
    >>> model = condition_tasks(inputs, np.array([[0.5, 0.0]]), np.ones((1, 1)), [one], B, column=1)
    >>> model.mean_variance(np.array([[0.5, 1.0]]))[0].round(3)
    array([[0.9]])
    """
    rows, targets = np.asarray(X, dtype=float), np.asarray(Z, dtype=float)
    old = Elder.none(inputs.dimension, len(fitted)) if elder is None else elder
    C = _correlations(inputs, rows, old, fitted, between, column, kernel)
    factors, jitters = np.empty_like(C), np.zeros(len(fitted))
    for j, f in enumerate(fitted):
        own = np.zeros(len(rows)) if variances is None else variances[:, j]
        extra = f.nugget + (f.noise + np.concatenate([old.variances[j], own])) / f.scale
        found = factor(C[j], extra, 1.0)
        if found is None:
            raise FloatingPointError("covariance of the told points is not finite")
        factors[j], jitters[j] = found
    return TaskProcess(
        inputs, kernel, rows, targets, variances, tuple(fitted), factors, jitters, between, column, old, tuple(plain)
    )
