"""The model behind all advice: the Gaussian processes of `gp`, fitted to the told rows of any study.

Whatever strategy asked, the rows are judged by the model that `gp` would have made of them (`bbopt.strategies.gp_model`); a
study of `gp` itself keeps the kernel and the hyperparameters that it works with. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.special import ndtri

from bbopt.errors import NotHandled, UsageError
from bbopt.parameters import Categorical, Fixed
from bbopt.query import Ranking
from bbopt.strategies.blas_thread import one_blas_thread
from bbopt.strategies.gp import GP
from bbopt.strategies.gp_model import Model, build
from bbopt.strategies.gp_state import GPState, newer
from bbopt.strategies.merit import by_merit
from bbopt.task import Task
from surrogates.gp import GaussianProcess
from surrogates.warps import Warp

if TYPE_CHECKING:
    from bbopt.optimizer import Optimizer

__all__ = ["Output", "StudyModel", "number_text", "studied"]

Array = np.ndarray[Any, np.dtype[Any]]
MOST_ROWS = 3000
MOST_COLUMNS = 1000


@dataclass(frozen=True, eq=False)
class Output:
    """The model of one column of results: an objective, or one side of a constraint.

    gp: its process, in units in which it is minimised, or holds at or below 0; warp: from told values (inside units) to those;
    sign, shift: a user's value is sign * inside + shift; noisy: whether its told values have noise;
    told: (n,) values as the user told them.
    """

    metric: str
    kind: Literal["objective", "constraint"]
    gp: GaussianProcess
    warp: Warp
    sign: float
    shift: float
    noisy: bool
    told: Array

    def to_user(self, z: Array) -> Array:
        """Values in the user's units and sign of the model's, any shape."""
        with np.errstate(over="ignore"):
            return np.asarray(self.sign * self.warp.inverse(z) + self.shift)

    def quantile(self, mean: Array, sd: Array, level: float) -> Array:
        """The user's value below which a share `level` lies, for normal beliefs in the model's units, any shape."""
        return self.to_user(mean + self.sign * float(ndtri(level)) * sd)

    def beliefs(self, X: Array) -> tuple[Array, Array]:
        """(q,) means and standard deviations of the noise-free function in the model's units at (q, D) rows."""
        mean, variance = self.gp.mean_variance(X)
        return mean[:, 0], np.sqrt(variance[:, 0])


@dataclass(frozen=True, eq=False)
class StudyModel:
    """The told rows of a study and their model. Made by `studied`; every function of `bbopt.advice` takes it for a study.

    numbers: (n,) trial numbers of the told rows, in the order of the answers; state: rows and values inside (first objective and
    constraints); model: of these together; outputs: one per objective, then one per column of a constraint; labels: of the
    columns; notes: what a reader must know of how it was made.
    """

    name: str
    task: Task
    numbers: Array
    state: GPState
    model: Model
    outputs: tuple[Output, ...]
    labels: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def n(self) -> int:
        """How many rows have values."""
        return len(self.state.X)

    @property
    def objectives(self) -> tuple[Output, ...]:
        """The outputs that are objectives."""
        return self.outputs[: self.task.m]

    @property
    def constraints(self) -> tuple[Output, ...]:
        """The outputs that are sides of constraints."""
        return self.outputs[self.task.m :]

    def metric(self, name: str | None, what: str) -> Output:
        """The output of a metric by name, the first objective for None. Raises UsageError."""
        for output in self.outputs:
            if name is None or output.metric == name:
                return output
        raise UsageError(f"{what}: the task has no metric {name!r}; it has {', '.join(self.task.metrics)}")

    def holds(self) -> Array:
        """(n,) whether the told rows satisfy the constraints: by their values where exact, by the model where noisy."""
        model = self.model
        values = np.where(model.noisy, model.gp.mean_variance(self.state.X)[0], model.gp.Z)[:, 1:]
        return np.asarray(np.where(model.noisy[1:], values <= 0.0, self.state.values[:, 1:] <= 0.0).all(axis=1))

    def best_row(self) -> int:
        """The told row that is recommended: the best believed feasible one, or the one that violates least."""
        model = self.model
        values = np.where(model.noisy, model.gp.mean_variance(self.state.X)[0], model.gp.Z)
        return int(by_merit(values, self.holds())[0])

    def chance(self, X: Array) -> Array:
        """(q,) how likely (q, D) rows are to satisfy every constraint, as if they were independent, and to work at all."""
        from scipy.special import ndtr

        found: Array = np.ones(len(X))
        for output in self.constraints:
            mean, sd = output.beliefs(X)
            found = found * ndtr(-mean / np.maximum(sd, 1e-12))
        if self.model.region is not None:
            mean, variance = self.model.region.mean_variance(X)
            found = found * ndtr(-mean[:, 0] / np.sqrt(variance[:, 0] + 1e-6))
        return found


def studied(study: Optimizer | StudyModel, least: int = 1, what: str = "advice") -> StudyModel:
    """The model of a study's told rows; one that was made before is given back as it is.

    least: rows that are needed. Raises UsageError where there are fewer, or more than such a model can take, and NotHandled
    for a study of rankings.

    >>> import bbopt
    >>> opt = bbopt.Optimizer(bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)), bbopt.Objective("y", maximize=True)), "random")
    >>> for x in (0.1, 0.4, 0.9):
    ...     trial = opt.add({"x": x}, x * (1 - x))
    >>> known = studied(opt)
    >>> known.n, known.labels, known.outputs[0].to_user(known.outputs[0].gp.Z[:, 0]).round(2).tolist()
    (3, ('x',), [0.09, 0.24, 0.09])
    """
    if isinstance(study, StudyModel):
        _enough(study.n, least, what)
        return study
    task = study.task
    if task.feedback == "ranking":
        raise NotHandled(f"{what}: expected a study with told values, got one of rankings; `agreement` judges those")
    if task.space.dimension > MOST_COLUMNS:
        raise UsageError(
            f"{what}: a Gaussian process of {task.space.dimension} columns says nothing; expected at most {MOST_COLUMNS}"
        )
    numbers, state, objectives = _told(study)
    _enough(len(numbers), least, what)
    if len(numbers) > MOST_ROWS:
        raise UsageError(f"{what}: expected at most {MOST_ROWS} told rows, got {len(numbers)}; copy a part of them to a "
                         "study of its own (to_csv, from_csv)")  # fmt: skip
    options: dict[str, Any] = {"kernel": "rbf"}
    warm: Mapping[str, Any] = {}
    if type(study.strategy) is GP:
        own = study.strategy
        options = {"kernel": own.kernel, "lengthscales": own.lengthscales, "noise_model": own.noise,
                   "warped": own.inputs == "warped"}  # fmt: skip
        warm = {} if own.acquisition == "penalty" or own.earlier else state.warm(())
    with np.errstate(all="ignore"), one_blas_thread():
        models = [build(_single(task, 0), state, warm, **options)]
        for j in range(1, task.m):
            alone = replace(state, values=objectives[:, [j]], std=state.std[:, [j]], memo={})
            models.append(build(Task(task.space, [task.objectives[j]]), alone, {}, with_region=False, **options))
    outputs = _outputs(task, models, np.hstack([objectives, state.values[:, 1:]]))
    return StudyModel(
        study.name, task, numbers, state, models[0], outputs, labels_of(task), _notes(study, state, outputs)
    )


def _enough(n: int, least: int, what: str) -> None:
    if n < least:
        have = "none yet" if n == 0 else f"{n}"
        raise UsageError(f"{what}: expected at least {least} told value{'s' * (least > 1)}, the study has {have}")


def _single(task: Task, j: int) -> Task:
    """The task with one of its objectives."""
    if task.m == 1:
        return task
    return Task(task.space, [task.objectives[j]], task.constraints, task.where)


def _told(study: Optimizer) -> tuple[Array, GPState, Array]:
    """Trial numbers (n,), the state of the first objective and the constraints, and all objectives (n, m), of the told rows."""
    task, m = study.task, study.task.m
    state = GPState.empty(_single(task, 0))
    numbers, rows, values, deviations, objectives, failed = [], [], [], [], [], []
    with study._lock:
        study._sync()
        book = study._book
        for query, row in book.lessons:
            record = book.records[query]
            if isinstance(record.ranking, Ranking):
                continue
            answer = book.values(record, book.learnt(query, row))
            ok = answer.ok
            X = np.asarray(record.query.X[answer.rows], float).reshape(len(answer.rows), -1)
            numbers.append(record.query.first + answer.rows[ok])
            rows.append(X[ok])
            values.append(np.hstack([answer.Y[:, :1], answer.G])[ok])
            deviations.append(np.hstack([answer.std[:, :1], answer.std[:, m:]])[ok])
            objectives.append(answer.Y[ok])
            failed.append(X[np.array([status == "impossible" for status in answer.status], bool)])
            if type(study.strategy) is GP:
                state = replace(state, memo=newer(state.memo, record.query.memo))
    if not numbers:
        return np.zeros(0, int), state, np.zeros((0, m))
    state = replace(state, X=np.concatenate(rows), values=np.concatenate(values), std=np.concatenate(deviations),
                    failed=np.concatenate(failed))  # fmt: skip
    return np.concatenate(numbers), state, np.concatenate(objectives)


def _outputs(task: Task, models: list[Model], inside: Array) -> tuple[Output, ...]:
    signs = [-1.0 if item.maximize else 1.0 for item in task.objectives]
    found = [
        Output(item.name, "objective", model.gp.output(0), model.warps[0], signs[j], 0.0,
               bool(model.noisy[0]), signs[j] * inside[:, j])
        for j, (item, model) in enumerate(zip(task.objectives, models, strict=True))
    ]  # fmt: skip
    first, column = models[0], 1
    for constraint in task.constraints:
        for sign, limit in constraint.limits:
            found.append(Output(constraint.name, "constraint", first.gp.output(column), first.warps[column], sign, limit,
                                bool(first.noisy[column]), sign * inside[:, task.m - 1 + column] + limit))  # fmt: skip
            column += 1
    return tuple(found)


def labels_of(task: Task) -> tuple[str, ...]:
    """A name for every column: that of its parameter, with the place in a vector.

    >>> from bbopt.space import Float, Space
    >>> labels_of(Task(Space(a=Float(0, 1), w=Float(0, 1, shape=(2,)))))
    ('a', 'w[0]', 'w[1]')
    """
    found: list[str] = []
    for name, parameter in task.space.parameters.items():
        if isinstance(parameter, Fixed):
            continue
        shape = None if isinstance(parameter, Categorical) else parameter.shape
        if shape is None:
            found.append(name)
        else:
            found += [f"{name}[{', '.join(map(str, at))}]" for at in np.ndindex(*shape)]
    return tuple(found)


def _notes(study: Optimizer, state: GPState, outputs: tuple[Output, ...]) -> tuple[str, ...]:
    task, found = study.task, []
    if type(study.strategy) is not GP:
        found.append(f"the points were asked by {type(study.strategy).__name__}; the advice is from the model that `gp` would "
                     "make of them")  # fmt: skip
    elif study.strategy.earlier:
        found.append("rows of earlier studies are not in the model of this advice")
    if task.m > 1:
        found.append("every objective has a model of its own")
    if len(state.failed):
        found.append(f"{len(state.failed)} trials that cannot work are in the chance of feasibility, not in the values")
    bent = [output.metric for output in outputs if np.isfinite(output.warp.width)]
    if bent:
        found.append(f"{', '.join(dict.fromkeys(bent))}: modelled on a bent (logarithmic) scale, so medians and quantiles "
                     "stand for means and standard deviations")  # fmt: skip
    if task.environment:
        found.append(f"{', '.join(task.environment)} (drawn by nature) are columns like the others here")
    return tuple(found)


def number_text(value: float, digits: int = 4) -> str:
    """A number for a sentence or a table.

    >>> number_text(0.000123456), number_text(float("nan")), number_text(1e300)
    ('0.0001235', '-', '1e+300')
    """
    return "-" if np.isnan(value) else f"{value:.{digits}g}"
