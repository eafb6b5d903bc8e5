"""Maximum a posteriori hyperparameters of one output over several tasks (`surrogates.multitask`).

The parameters are the log lengthscales of all columns but the task's, the entries of W (T, rank), the logarithms of v (T,)
and that of the noise variance where it is learnt. Lengthscales and noise have the priors of `surrogates.map_fit`; entries of W
are normal about 0, so that tasks may as well be opposed, and log v is normal. Gradients are matrix formulas: with
S[s, t] the sum of (K^-1 - alpha alpha^T) k over pairs of rows of tasks s and t, the negative log likelihood has the
derivatives S W in W and S[t, t] / 2 in v_t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from surrogates.columns import Inputs
from surrogates.kernels import Kernel
from surrogates.map_fit import LOG_2PI, Fitted, Objective, Prior, _descend, factor

Array = NDArray[np.float64]
Index = NDArray[np.intp]
SPREAD = 2.0  # of the entries of W
OWN = (-1.0, 2.0)  # location and spread of log v
OWN_BOUNDS = (1e-4, 1e4)
W_BOUND = 100.0


def rank_of(tasks: int) -> int:
    """Columns of W: one for two tasks, where that is every covariance; two beyond.

    >>> [rank_of(n) for n in (2, 3, 9)]
    [1, 2, 2]
    """
    return 1 if tasks <= 2 else 2


@dataclass(frozen=True)
class TaskFit:
    """Hyperparameters of one output: `fitted` (its scale is the mean of B's diagonal), W and v with B = W W^T + diag(v), and
    the log likelihood and the number of parameters, by which models are compared."""

    fitted: Fitted
    W: Array
    v: Array
    log_likelihood: float
    parameters: int

    @property
    def between(self) -> Array:
        """(T, T) task covariance in units of the scale."""
        return (self.W @ self.W.T + np.diag(self.v)) / self.fitted.scale


class TaskObjective:
    """The negative log posterior per row and its gradient, as a function of the parameters.

    inputs, X: all columns; column: the task's, or None; tasks: (N,) of the rows; free: (N,) 1 where a row has the free
    constant mean, 0 where its mean is 0. prior: of lengthscales and noise; its nugget is in units of the mean of B's diagonal.
    """

    def __init__(
        self,
        inputs: Inputs,
        X: Array,
        column: int | None,
        tasks: Index,
        count: int,
        free: Array,
        kernel: Kernel,
        prior: Prior,
    ) -> None:
        self.inputs, self.column = inputs, column
        keep = [j for j in range(inputs.dimension) if j != column]
        self.keep = np.array(keep, np.intp)
        kind, levels, group = inputs.kind, inputs.levels, inputs.group
        places = tuple(inputs.places[j] for j in keep) if inputs.places else ()
        rest = Inputs(
            tuple(kind[j] for j in keep), tuple(levels[j] for j in keep), tuple(group[j] for j in keep), places
        )
        self.base = Objective(rest, X[:, keep], kernel, replace(prior, scale=None))
        self.tasks, self.count, self.rank, self.free = tasks, count, rank_of(count), free
        self.hot = (tasks[:, None] == np.arange(count)).astype(float)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.base.size + self.count * (self.rank + 1)

    def bounds(self) -> list[tuple[float, float]]:
        own = (float(np.log(OWN_BOUNDS[0])), float(np.log(OWN_BOUNDS[1])))
        inner = [(-W_BOUND, W_BOUND)] * (self.count * self.rank) + [own] * self.count
        base = self.base.bounds()
        return base[: self.base.d] + inner + base[self.base.d :]

    def join(self, start: Fitted | None, W: Array, v: Array) -> Array:
        """The parameter vector that starts at given hyperparameters (None: the priors' modes) and task covariance."""
        if start is None:
            base = self.base.start()
        else:
            lengthscales = (
                start.lengthscales if len(start.lengthscales) == self.base.d else start.lengthscales[self.keep]
            )
            base = self.base.join(lengthscales, 1.0, start.noise)
        theta = np.concatenate([base[: self.base.d], W.ravel(), np.log(v), base[self.base.d :]])
        low, high = np.array(self.bounds()).T
        return np.asarray(np.clip(theta, low, high))

    def start(self, correlation: float, scale: float) -> tuple[Array, Array]:
        """W (T, rank) and v (T,) of tasks that are all alike to this degree; small differences let further columns grow."""
        W = np.zeros((self.count, self.rank))
        W[:, 0] = np.sqrt(correlation * scale)
        W[:, 1:] = 0.1 * np.sqrt(scale) * np.cos(np.pi * np.arange(self.count) / max(self.count - 1, 1))[:, None]
        return W, np.full(self.count, (1.0 - correlation) * scale)

    def split(self, theta: Array) -> tuple[Array, Array, Array, float]:
        """(d,) lengthscales, W, v and noise variance."""
        d, inner = self.base.d, self.count * self.rank
        W = theta[d : d + inner].reshape(self.count, self.rank)
        noise = float(np.exp(theta[-1])) if self.base.prior.noise is not None else 0.0
        return np.exp(theta[:d]), W, np.exp(theta[d + inner : d + inner + self.count]), noise

    def _solve(
        self, theta: Array, z: Array, variances: Array | None
    ) -> tuple[float, float, tuple[Array, Array, Array, Array, Array]] | None:
        """Log likelihood, mean, and k, g, the task covariance of all pairs, factor and alpha."""
        lengthscales, W, v, noise = self.split(theta)
        k, g = self.base._kernel(lengthscales)
        B = W @ W.T + np.diag(v)
        share = B[self.tasks[:, None], self.tasks]
        scale = float(np.trace(B)) / self.count
        extra = noise + scale * self.base.prior.nugget + (0.0 if variances is None else variances)
        found = factor(k * share, extra, scale)
        if found is None:
            return None
        solved, _ = lapack.dpotrs(found[0], np.column_stack([z, self.free]), lower=1)
        mean = float(self.free @ solved[:, 0] / (self.free @ solved[:, 1])) if self.free.any() else 0.0
        alpha = solved[:, 0] - mean * solved[:, 1]
        value = (
            0.5 * float((z - mean * self.free) @ alpha) + np.log(np.diagonal(found[0])).sum() + 0.5 * len(z) * LOG_2PI
        )
        return -float(value), mean, (k, g, share, found[0], alpha)

    def __call__(self, theta: Array, z: Array, variances: Array | None) -> tuple[float, Array]:
        """(value, gradient) per row; (1e10, zeros) where no jitter helps."""
        solution = self._solve(theta, z, variances)
        if solution is None:
            return 1e10, np.zeros_like(theta)
        log_likelihood, _, (k, g, share, L, alpha) = solution
        lengthscales, W, v, noise = self.split(theta)
        d, inner, n = self.base.d, self.count * self.rank, len(z)
        inverse, _ = lapack.dpotri(L, lower=1)
        M = np.tril(inverse) + np.tril(inverse, -1).T
        M -= alpha[:, None] * alpha[None, :]
        trace = float(np.trace(M))
        gradient = np.empty_like(theta)
        gradient[:d] = 0.5 * self.base._length_gradient(M * g * share, lengthscales)
        S = self.hot.T @ (M * k) @ self.hot + np.eye(self.count) * (self.base.prior.nugget * trace / self.count)
        gradient[d : d + inner] = (S @ W).ravel()
        gradient[d + inner : d + inner + self.count] = 0.5 * np.diagonal(S) * v
        at_base = theta[:d]
        if self.base.prior.noise is not None:
            gradient[-1] = 0.5 * noise * trace
            at_base = np.append(at_base, theta[-1])
        log_prior, slope = self.base._log_prior(at_base)
        gradient[:d] -= slope[:d]
        if self.base.prior.noise is not None:
            gradient[-1] -= slope[d]
        away = (np.log(v) - OWN[0]) / OWN[1]
        log_prior -= 0.5 * float((W**2).sum()) / SPREAD**2 + 0.5 * float((away**2).sum())
        gradient[d : d + inner] += W.ravel() / SPREAD**2
        gradient[d + inner : d + inner + self.count] += away / OWN[1]
        return -(log_likelihood + log_prior) / n, gradient / n

    def result(self, theta: Array, z: Array, variances: Array | None, value: float, evaluations: int) -> TaskFit:
        """The hyperparameters at theta; the lengthscale of the task column is infinite."""
        lengthscales, W, v, noise = self.split(theta)
        everywhere = np.full(self.inputs.dimension, np.inf)
        everywhere[self.keep] = lengthscales
        scale = float((W**2).sum() + v.sum()) / self.count
        solution = self._solve(theta, z, variances)
        log_likelihood, mean = (-1e10, 0.0) if solution is None else solution[:2]
        fitted = Fitted(everywhere, scale, noise, mean, self.base.prior.nugget, -value, evaluations)
        free, r = self.count * (self.rank + 1), self.rank
        of_between = min(self.count * (self.count + 1) // 2, free - r * (r - 1) // 2)  # turning W changes nothing
        return TaskFit(fitted, W, v, log_likelihood, self.size - free + of_between + int(self.free.any()))


def fit_tasks(
    objective: TaskObjective,
    z: Array,
    starts: Sequence[Array],
    variances: Array | None = None,
    max_iterations: int = 200,
) -> TaskFit:
    """The most probable hyperparameters given (N,) targets, from parameter vectors to start from (`TaskObjective.join`)."""
    found = [
        _descend(lambda theta: objective(theta, z, variances), start, objective.bounds(), max_iterations)
        for start in starts
    ]
    value, theta, _ = min(found, key=lambda one: one[0])
    return objective.result(theta, z, variances, value, sum(one[2] for one in found))
