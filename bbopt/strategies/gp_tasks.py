"""The model of `gp` where a context is a category: contexts as tasks whose covariance is learnt, where the data ask for it.

The kernel of `gp` has one lengthscale for a category: all its values are alike to the same degree, and never opposed. With a
learnt covariance (`surrogates.multitask`) some are more alike than others, may be opposed, and differ in size. It costs
parameters, so the two models are compared by their log likelihoods less half a logarithm of n for each parameter (Schwarz 1978,
the Bayesian information criterion), whenever warps are chosen: for each output with the RBF kernel, for which one lengthscale is
a task covariance too, and for all outputs together with Matern 5/2, for which it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bbopt.task import Task
from surrogates.columns import Inputs
from surrogates.gp import hyperparameters_of
from surrogates.kernels import Kernel
from surrogates.map_fit import LOG_2PI, Fitted, Objective, Prior, factor
from surrogates.multitask import TaskProcess, condition_tasks
from surrogates.multitask_fit import TaskFit, TaskObjective, fit_tasks

Array = np.ndarray[Any, np.dtype[Any]]
REFINE = 15  # iterations of a fit with many rows
MANY = 300


def task_column(task: Task) -> int | None:
    """The column of the first context parameter that is a category with several values, or None.

    >>> from bbopt.space import Categorical, Float, Space
    >>> task_column(Task(Space(x=Float(0, 1), machine=Categorical(["a", "b"], role="context"))))
    1
    """
    for name in task.space.roles("context"):
        column = task.space.slice(name).start
        if task.space.columns.kind[column] == "category" and task.space.columns.levels[column] > 1:
            return int(column)
    return None


def log_likelihood(
    inputs: Inputs, X: Array, z: Array, fitted: Fitted, kernel: Kernel, variances: Array | None
) -> float:
    """Log density of (n,) targets under one output's hyperparameters, -inf where nothing can be factored."""
    prior = Prior.noiseless(inputs.dimension)
    K = fitted.scale * Objective(inputs, X, kernel, prior).correlations(fitted.lengthscales)
    extra = fitted.noise + fitted.nugget * fitted.scale + (0.0 if variances is None else variances)
    found = factor(K, extra, fitted.scale)
    if found is None:
        return -np.inf
    half = np.linalg.solve(found[0], z - fitted.mean)
    return float(-0.5 * half @ half - np.log(np.diagonal(found[0])).sum() - 0.5 * len(z) * LOG_2PI)


def model_of_tasks(
    inputs: Inputs,
    column: int,
    X: Array,
    Z: Array,
    plain: Sequence[Fitted],
    priors: Sequence[Prior],
    kernel: Kernel,
    variances: Array | None,
    warm: Mapping[str, Any],
    refit: bool,
    choose: bool,
) -> tuple[TaskProcess, dict[str, Any]] | None:
    """The posterior with learnt covariances between the levels of a column, and its part of the memo; None where one
    lengthscale is the more probable model.

    plain: hyperparameters with one lengthscale, fitted to the same Z (n, m); warm: the part of an earlier memo, or empty;
    refit: whether hyperparameters are due; choose: whether the choice between the two is.
    """
    before = warm.get("tasks", {})
    if not before and not (refit and choose):
        return None
    if not refit:
        fitted = [_kept(before, j) for j in range(len(plain))]
        model = condition_tasks(inputs, X, Z, fitted, before["between"], column, None, kernel, variances, plain)
        return model, dict(before)
    n, count = len(X), inputs.levels[column]
    fits: list[TaskFit] = []
    gains = np.zeros(len(plain))
    for j, (start, prior) in enumerate(zip(plain, priors, strict=True)):
        objective = TaskObjective(inputs, X, column, X[:, column].astype(np.intp), count, np.ones(n), kernel, prior)
        known = None if variances is None else variances[:, j]
        alike = float(np.clip(np.exp(-(start.lengthscales[column] ** -2.0)), 0.05, 0.95))
        starts = [objective.join(start, *objective.start(alike, start.scale))]
        if before:
            starts.append(objective.join(_kept(before, j), before["W"][j], before["v"][j]))
        fits.append(fit_tasks(objective, Z[:, j], starts, known, REFINE if n > MANY else 200))
        parameters = inputs.dimension + 1 + (prior.scale is not None) + (prior.noise is not None)
        gains[j] = fits[j].log_likelihood - log_likelihood(inputs, X, Z[:, j], start, kernel, known)
        gains[j] -= 0.5 * np.log(n) * (fits[j].parameters - parameters)
        if kernel == "rbf" and not gains[j] > 0.0:
            fits[j] = _one_lengthscale(start, column, count, fits[j].W.shape[1])
            gains[j] = 0.0
    if choose and not gains.sum() > 0.0:
        return None
    between = np.stack([fit.between for fit in fits])
    fitted = [fit.fitted for fit in fits]
    model = condition_tasks(inputs, X, Z, fitted, between, column, None, kernel, variances, plain)
    parts = {"between": between, "W": np.stack([fit.W for fit in fits]), "v": np.stack([fit.v for fit in fits])}
    return model, hyperparameters_of(kernel, fitted) | parts


def _one_lengthscale(plain: Fitted, column: int, count: int, rank: int) -> TaskFit:
    """The RBF kernel's one lengthscale of a category as a task covariance: exp(-1 / l^2) between all different values."""
    alike = float(np.exp(-(plain.lengthscales[column] ** -2.0)))
    W = np.zeros((count, rank))
    W[:, 0] = np.sqrt(alike * plain.scale)
    lengthscales = np.array(plain.lengthscales)
    lengthscales[column] = np.inf
    v = np.full(count, max((1.0 - alike) * plain.scale, 1e-12))
    return TaskFit(replace(plain, lengthscales=lengthscales), W, v, 0.0, 0)


def _kept(memo: Mapping[str, Any], j: int) -> Fitted:
    number = {key: float(memo[key][j]) for key in ("scale", "noise", "mean", "nugget")}
    return Fitted(np.asarray(memo["lengthscales"][j]), value=0.0, evaluations=0, **number)
