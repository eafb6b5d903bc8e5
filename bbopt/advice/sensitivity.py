"""Which parameters matter, by the model: Sobol's indices of the posterior mean, and its lengthscales.

For independent inputs, spread evenly over their columns (log axes evenly in the logarithm, categories alike),

    first_i = Var(E[f | x_i]) / Var(f),      total_i = E(Var(f | all but x_i)) / Var(f),

by two matrices of points A, B and A with the columns of i from B (Saltelli et al. 2010, Computer Physics Communications 181,
259-270): first_i by their equation (b), mean f(B) (f(AB_i) - f(A)), total_i by Jansen's (f), mean (f(A) - f(AB_i))^2 / 2. The points
are scrambled Sobol points, several times over, which gives standard errors. f is the posterior mean in the units of the model
(its warp, if any, left on: a few huge values do not decide everything).

A vector parameter counts as one. A conditional parameter counts where it is active, and its own index does not contain that
of its parent. Conditions of `where` make inputs dependent, for which these indices are not defined: they are left aside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bbopt.acquisition.domain import sobol
from bbopt.advice.study_model import Output, StudyModel, studied
from bbopt.parameters import Fixed
from bbopt.strategies.blas_thread import one_blas_thread

if TYPE_CHECKING:
    from bbopt.optimizer import Optimizer

__all__ = ["Importance", "importance", "sobol_indices"]

Array = np.ndarray[Any, np.dtype[Any]]
LEAST = 3
REPEATS = 4
POINTS = 1024  # of each matrix and repeat, fewer where that takes long
WORK = 3e7  # correlations between points and told rows, all metrics together
BLOCK = 4096
SMALL = 0.02
SEED = 11


@dataclass(frozen=True, eq=False)
class Importance:
    """How much each parameter matters for each metric.

    parameters: k names; metrics: j names; first, total, error: (j, k) Sobol's indices and the standard error of the total one; NaN
    where the model is flat; relevance: (j, k) inverse lengthscales, in shares of 1; known: (j,) share of the variance over
    the space that the model has pinned down (the rest is its doubt); notes: on the model.
    """

    parameters: tuple[str, ...]
    metrics: tuple[str, ...]
    first: Array
    total: Array
    error: Array
    relevance: Array
    known: Array
    notes: tuple[str, ...]

    def order(self, metric: int = 0) -> Array:
        """(k,) places of the parameters, the most important one for a metric first."""
        total = np.nan_to_num(self.total[metric], nan=-1.0)
        return np.lexsort((-self.relevance[metric], -total))

    def summary(self) -> str:
        """In words, a line per metric."""
        lines = []
        for j, metric in enumerate(self.metrics):
            if np.isnan(self.total[j]).any():
                lines.append(f"{metric}: the model is flat, no parameter matters")
                continue
            order = self.order(j)
            told = [f"{self.parameters[i]} {100 * self.total[j, i]:.0f} %" for i in order if self.total[j, i] >= SMALL][
                :8
            ]
            rest = len(order) - len(told)
            alone = float(np.clip(self.first[j], 0.0, None).sum())
            lines.append(
                f"{metric}: {', '.join(told) or 'no parameter above 2 %'}" + (f"; {rest} others less" if rest else "")
                + f" (total indices; {100 * min(alone, 1.0):.0f} % of the variation comes from parameters one by one)"
                + ("" if self.known[j] >= 0.5 else f"; the model knows only {100 * self.known[j]:.0f} % of the variation")
            )  # fmt: skip
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}


def sobol_indices(
    function: Callable[[Array], Array], groups: Sequence[Sequence[int]], dimension: int, points: int, repeats: int,
    rng: np.random.Generator,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """First-order and total indices (j, k), standard errors of both (j, k), of k groups of columns.

    function: (q, dimension) points, uniform in the unit cube, to (q, j) values. NaN where a function is constant.

    >>> line = lambda U: (3 * U[:, :1] + U[:, 1:])
    >>> first, total, *_ = sobol_indices(line, [[0], [1]], 2, 1024, 4, np.random.default_rng(0))
    >>> first.round(2).tolist(), total.round(2).tolist()
    ([[0.9, 0.1]], [[0.9, 0.1]])
    """
    found = []
    for _ in range(repeats):
        both = sobol(points, 2 * dimension, rng)
        A, B = both[:, :dimension], both[:, dimension:]
        at_a, at_b = function(A), function(B)
        centre = 0.5 * (at_a.mean(axis=0) + at_b.mean(axis=0))
        at_a, at_b = at_a - centre, at_b - centre
        variance = 0.5 * ((at_a**2).mean(axis=0) + (at_b**2).mean(axis=0))
        variance = np.where(variance > 0.0, variance, np.nan)
        rows = []
        for columns in groups:
            mixed = A.copy()
            mixed[:, list(columns)] = B[:, list(columns)]
            at = function(mixed) - centre
            rows.append(
                [(at_b * (at - at_a)).mean(axis=0) / variance, 0.5 * ((at_a - at) ** 2).mean(axis=0) / variance]
            )
        found.append(rows)
    each = np.array(found)  # (repeats, k, 2, j)
    mean, error = each.mean(axis=0), each.std(axis=0, ddof=1) / np.sqrt(repeats) if repeats > 1 else 0.0 * each[0]
    return mean[:, 0].T, mean[:, 1].T, error[:, 0].T, error[:, 1].T


def importance(study: Optimizer | StudyModel) -> Importance:
    """Sobol's indices and lengthscales of every parameter, for every metric.

    Raises UsageError with fewer than three told rows.

    >>> import bbopt
    >>> space = bbopt.Space(a=bbopt.Float(0, 1), b=bbopt.Float(0, 1))
    >>> opt = bbopt.Optimizer(bbopt.Task(space), "sobol")
    >>> for trial in opt.ask(16):
    ...     opt.tell(trial, 3 * trial.params["a"] + trial.params["b"])
    >>> importance(opt).total.round(1).tolist()
    [[0.9, 0.1]]
    """
    known = studied(study, LEAST, "importance")
    space = known.task.space
    outputs = _once(known)
    names = tuple(name for name, item in space.parameters.items() if not isinstance(item, Fixed))
    groups = [range(*space.slice(name).indices(space.dimension)) for name in names]
    budget = WORK / (len(outputs) * known.n * REPEATS * (len(groups) + 2))
    points = int(2 ** np.clip(np.floor(np.log2(max(budget, 1.0))), 6, np.log2(POINTS)))
    rng = np.random.default_rng(SEED)

    def means(U: Array) -> Array:
        X = space.from_uniform(U)
        parts = [X[i : i + BLOCK] for i in range(0, len(X), BLOCK)]
        return np.concatenate([np.column_stack([_mean(output, part) for output in outputs]) for part in parts])

    with np.errstate(all="ignore"), one_blas_thread():
        first, total, _, error = sobol_indices(means, groups, space.dimension, points, REPEATS, rng)
        here = space.from_uniform(sobol(512, space.dimension, rng))
        share = []
        for output in outputs:
            mean, sd = output.beliefs(here)
            share.append(float(mean.var() / max(mean.var() + (sd**2).mean(), 1e-300)))
        relevance = np.array(
            [[np.sqrt((1.0 / o.gp.fitted[0].lengthscales[list(g)] ** 2).sum()) for g in groups] for o in outputs]
        )
        relevance /= relevance.sum(axis=1, keepdims=True)
    flat = np.array([bool(np.ptp(output.gp.Z) <= 1e-12) for output in outputs])
    first[flat], total[flat], error[flat] = np.nan, np.nan, np.nan
    notes = known.notes
    if known.task.where:
        notes += ("importance is over the whole box: the known conditions (where) are left aside",)
    return Importance(names, tuple(o.metric for o in outputs), first, total, error, relevance, np.array(share), notes)


def _once(known: StudyModel) -> list[Output]:
    """One output per metric: of a constraint with two limits the first."""
    found: dict[str, Output] = {}
    for output in known.outputs:
        found.setdefault(output.metric, output)
    return list(found.values())


def _mean(output: Output, X: Array) -> Array:
    """(q,) posterior means alone."""
    predictor = output.gp.predictor
    correlations, _ = predictor.correlations(predictor.inputs.features(X))
    return np.asarray((correlations[0] @ predictor.weights[0])[:, 0] + predictor.mean[0])
