"""The model of `gp` with earlier studies: these are other tasks of a Gaussian process with learnt covariances.

Each earlier study's values are warped like this one's, by a map of the same kind made from its own values, so that neither units
nor a shift between studies matter (Swersky, Snoek, Adams 2013, "Multi-Task Bayesian Optimization", NeurIPS 26, with the
covariance of `surrogates.multitask`). Where an output's told values are less probable given the earlier ones than without
them, by the log likelihoods at the fitted hyperparameters, the earlier ones have no part in that output: a study that misleads is
left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bbopt.earlier_data import check_earlier, encode_earlier
from bbopt.errors import UsageError
from bbopt.query import Key, Request
from bbopt.strategies.gp_domain import spread_rows
from bbopt.strategies.gp_slopes import chosen_rows
from bbopt.strategies.gp_tasks import _kept, log_likelihood
from bbopt.strategies.merit import by_merit
from bbopt.task import Task
from surrogates.columns import Inputs
from surrogates.gp import hyperparameters_of
from surrogates.kernels import Kernel
from surrogates.map_fit import Fitted, Prior
from surrogates.multitask import Elder, TaskProcess, condition_tasks
from surrogates.multitask_fit import TaskFit, TaskObjective, fit_tasks, rank_of
from surrogates.warps import constraint_warps, objective_warps

Array = np.ndarray[Any, np.dtype[Any]]
Rows = tuple[Array, Array]
MOST = 120  # earlier rows in all: of each study the best and the last
FIRST, REFINE = 60, 15  # iterations of a fit, and of one that starts from an earlier ask's


def check_option(strategy: Any) -> None:
    """Raise UsageError unless a strategy's option `earlier` is data of earlier studies, and goes with its other options."""
    if not isinstance(strategy.earlier, tuple):
        raise UsageError(
            f"GP: expected earlier as a tuple of bbopt.earlier(study), got {type(strategy.earlier).__name__}"
        )
    for data in strategy.earlier:
        check_earlier(data)
    if strategy.earlier and (strategy.acquisition == "penalty" or strategy.lengthscales == "sparse"):
        raise UsageError("GP: earlier studies go neither with acquisition 'penalty' nor with lengthscales 'sparse'")


def rows_from_earlier(task: Task, earlier: Sequence[Mapping[str, Any]], request: Request, key: Key, n: int) -> Array:
    """The next n rows of the first design: the best point of each earlier study, then rows spread over the space."""
    rows = []
    for i in range(n):
        at = request.number + i
        if at < len(earlier):
            X, values = encode_earlier(task, earlier[at])
            holds = np.asarray((np.nan_to_num(values[:, 1:]) <= 0.0).all(axis=1))
            best = np.array(X[by_merit(values, holds)[:1]])
            best[:, list(request.held)] = list(request.held.values())
            best = task.space.canonical(best)
            if task.feasible.contains(best)[0]:
                rows.append(best)
                continue
        rows.append(spread_rows(task, request, key, 1, i))
    return np.concatenate(rows) if rows else np.zeros((0, task.space.dimension))


def elder_rows(earlier: Sequence[Rows], names: Sequence[str]) -> Elder:
    """Earlier rows (X, values) of each study as tasks 1, 2, ..., warped like outputs whose warps have these names."""
    parts: list[tuple[Array, Array, Array]] = []
    for task, (X, values) in enumerate(earlier, start=1):
        kept = chosen_rows(values[:, 0], np.ones(len(X), int), max(MOST // len(earlier), 1))
        rows, told = X[kept], values[kept]
        Z = np.full((len(names), len(rows)), np.nan)
        for j, name in enumerate(names):
            y = told[:, j]
            if not np.isnan(y).any():
                warps = objective_warps(y) if j == 0 else constraint_warps(y)
                Z[j] = warps.get(name, warps["linear"]).forward(y)
        parts.append((rows, Z, np.full(len(rows), task)))
    X, Z, tasks = (np.concatenate([part[i] for part in parts], axis=1 if i == 1 else 0) for i in range(3))
    return Elder(X, Z, tasks.astype(np.intp), np.zeros(Z.shape))


def model_with_earlier(
    inputs: Inputs,
    earlier: Sequence[Rows],
    names: Sequence[str],
    X: Array,
    Z: Array,
    plain: Sequence[Fitted],
    priors: Sequence[Prior],
    kernel: Kernel,
    variances: Array | None,
    warm: Mapping[str, Any],
    refit: bool,
) -> tuple[TaskProcess, dict[str, Any]] | None:
    """The posterior given told (n, m) targets and earlier rows, and its part of the memo; None where these are of no use.

    names: of the warps of each output; plain: hyperparameters without earlier rows; warm: a memo, or empty.
    """
    before, count = warm.get("earlier", {}), 1 + len(earlier)
    elder = elder_rows(earlier, names)
    if not refit and not before:
        return None
    if not refit:
        fits = [TaskFit(_kept(before, j), before["W"][j], before["v"][j], 0.0, 0) for j in range(len(plain))]
        used = np.asarray(before["used"], bool)
    else:
        found = [
            _fit(inputs, elder, j, count, X, Z[:, j], plain[j], priors[j], kernel, variances, before)
            for j in range(len(plain))
        ]
        fits, used = [fit for fit, _ in found], np.array([good for _, good in found])
    memo = hyperparameters_of(kernel, [fit.fitted for fit in fits]) | {
        "W": np.stack([fit.W for fit in fits]), "v": np.stack([fit.v for fit in fits]), "used": used,
    }  # fmt: skip
    fitted = [fit.fitted if good else alone for fit, good, alone in zip(fits, used, plain, strict=True)]
    between = np.stack([fit.between if good else np.eye(count) for fit, good in zip(fits, used, strict=True)])
    centres = np.array([0.0 if j == 0 else f.mean for j, f in enumerate(fitted)])
    values = np.where(used[:, None], elder.Z - centres[:, None], np.nan)
    known = Elder(elder.X, values, elder.tasks, elder.variances)
    return condition_tasks(inputs, X, Z, fitted, between, None, known, kernel, variances, plain), memo


def _fit(
    inputs: Inputs, elder: Elder, j: int, count: int, X: Array, z: Array, plain: Fitted, prior: Prior, kernel: Kernel,
    variances: Array | None, before: Mapping[str, Any],
) -> tuple[TaskFit, bool]:  # fmt: skip
    """The fit of one output to all rows, and whether the earlier ones make its values more probable."""
    has = ~np.isnan(elder.Z[j])
    if not has.any():
        W = np.zeros((count, rank_of(count)))
        return TaskFit(plain, W, np.full(count, plain.scale), 0.0, 0), False
    e = int(has.sum())
    rows, tasks = np.concatenate([elder.X[has], X]), np.concatenate([elder.tasks[has], np.zeros(len(X), np.intp)])
    free = np.concatenate([np.full(e, float(j > 0)), np.ones(len(X))])
    targets = np.concatenate([elder.Z[j, has], z])
    known = None if variances is None else np.concatenate([np.zeros(e), variances[:, j]])
    objective = TaskObjective(inputs, rows, None, tasks, count, free, kernel, prior)
    if before:
        starts = [objective.join(_kept(before, j), before["W"][j], before["v"][j])]
    else:
        starts = [objective.join(start, *objective.start(alike, 1.0)) for start, alike in ((None, 0.8), (plain, 0.1))]
    fit = fit_tasks(objective, targets, starts, known, REFINE if before else FIRST)
    old = TaskObjective(inputs, rows[:e], None, tasks[:e], count, free[:e], kernel, prior)
    theta = objective.join(fit.fitted, fit.W, fit.v)
    alone = old._solve(theta, targets[:e], None if known is None else known[:e])
    given = -np.inf if alone is None else fit.log_likelihood - alone[0]
    without = log_likelihood(inputs, X, z, plain, kernel, None if variances is None else variances[:, j])
    return fit, bool(given - without >= np.log(len(z)))  # half a logarithm for each of correlation and relative size
