"""When to stop: what the next evaluation is expected to gain, and how far the best known point can be from the optimum.

Expected gain: the largest log expected improvement over the space, that of the strategy `gp` (constrained, noise integrated
over, `bbopt.acquisition.constrained`), brought to the user's units at the best known value: for a metric that is modelled
through a warp, the gain that the improvement in the model's units amounts to there.

Regret bound: Makarova et al. 2022, "Automatic Termination for Hyperparameter Optimization" (arXiv 2104.08166), equation 4,

    min over told x of ucb(x)  -  min over x of lcb(x),     ucb, lcb = mean +- sqrt(beta_t) sd,

with their beta_t = 2 log(D t^2 pi^2 / (6 delta)) / 5, delta = 0.1. With constraints, the first minimum is over told points that
are feasible, and the second over points that may be (every constraint's lcb <= 0), an optimistic set as in Xu et al. 2023
(CONFIG, arXiv 2304.13242). The bound holds as far as the model does; `bbopt.advice.quality` says how far that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bbopt.acquisition.constrained import ConstrainedLogEI, Evaluable, incumbents
from bbopt.acquisition.pending import given_pending
from bbopt.acquisition.search import Effort, Score, enumerate_best, maximise
from bbopt.advice.study_model import StudyModel, number_text, studied
from bbopt.errors import NotHandled, UsageError
from bbopt.strategies.blas_thread import one_blas_thread
from bbopt.strategies.gp_domain import domain_of, finite_points
from bbopt.strategies.merit import taken
from bbopt.strategies.model_based import NEAR
from surrogates.gp import GaussianProcess, condition
from surrogates.predictor import Beliefs

if TYPE_CHECKING:
    from bbopt.optimizer import Optimizer

__all__ = ["Stopping", "stopping"]

Array = np.ndarray[Any, np.dtype[Any]]
Verdict = Literal["stop", "little left", "go on", "unclear"]
DRAWS = 16
DELTA, SHRINK = 0.1, 5.0
WORTH = 0.01  # of what was found so far, where no tolerance is given
SMALLEST = 1e-9  # variances of a bound's slope are floored by its square
ROUGH = Effort(raw=256, around=8, starts=4, iterations=25)  # of each point of the history
VIOLATION = 1e3
WILD = 100.0  # times what was found so far: a gain that no evaluation will bring
SEED = 7
KEPT = 8  # of the best rows of one search, which the next one tries


@dataclass(frozen=True, eq=False)
class Stopping:
    """What is left to be gained, in the user's units of the objective.

    n: told rows; best: the best known value (under noise what the model believes of it), NaN where nothing feasible is known;
    found: how much better that is than the median of the first rows; gain: expected gain of the next evaluation; bound: the
    best known value is at most this far from the optimum, as far as the model holds; tolerance: what is worth an evaluation;
    noise: standard deviation of one told value, 0 where there is none; chance: of the next evaluation to be the first feasible one,
    NaN where one is known; next: where that gain is expected; at, gains, bounds, bests: (k,) the same after so many rows, by
    the hyperparameters of today; verdict: "stop", "little left", "go on" or "unclear"; recommendation: in words.
    """

    n: int
    metric: str
    best: float
    found: float
    gain: float
    bound: float
    tolerance: float
    noise: float
    chance: float
    next: dict[str, Any]
    at: Array
    gains: Array
    bounds: Array
    bests: Array
    verdict: Verdict
    recommendation: str
    notes: tuple[str, ...]

    def summary(self) -> str:
        """In words."""
        return "\n".join([f"{self.verdict}: {self.recommendation}", *self.notes])

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}


@dataclass(frozen=True)
class _Lowest:
    """A score whose maximum is the least lower confidence bound over points that may be feasible.

    predictor: objective and constraints; width: standard deviations; region: of points that cannot work.
    """

    predictor: Beliefs
    width: float
    region: Beliefs | None = None

    def value(self, X: Array) -> Array:
        return self._evaluate(X)[0]

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        return self._evaluate(X)

    def _evaluate(self, X: Array) -> tuple[Array, Array]:
        value, gradient = self._of(self.predictor, X, 1)
        if self.region is not None:
            more, slope = self._of(self.region, X, 0)
            value, gradient = value + more, gradient + slope
        return value, gradient

    def _of(self, beliefs: Beliefs, X: Array, objectives: int) -> tuple[Array, Array]:
        moments = beliefs.forward(X)
        sd = np.sqrt(np.maximum(moments.variance, SMALLEST**2))
        bound = moments.mean[:, :, 0] - self.width * sd
        weight = np.where(bound > 0.0, VIOLATION, 0.0)
        weight[:objectives] = 1.0
        by_variance = weight * self.width / (2.0 * sd)
        gradient = beliefs.backward(moments, -weight[:, :, None], by_variance)
        return -(weight * bound).sum(axis=0), gradient


def stopping(study: Optimizer | StudyModel, *, tolerance: float | None = None, history: int = 6) -> Stopping:
    """What the next evaluation is expected to gain, a bound on the regret, both over the study, and advice in words.

    tolerance: a gain, in the user's units, that is worth an evaluation; None for 1 % of what was found so far. history: at how
    many earlier points of the study the same is worked out (with today's hyperparameters). Raises UsageError for no told
    value or a wrong argument, and NotHandled for several objectives, unbounded parameters and such as are not the user's to
    choose.

    >>> import bbopt
    >>> opt = bbopt.Optimizer(bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1))), "random")
    >>> for i in range(12):
    ...     trial = opt.add({"x": i / 11}, (i / 11 - 0.3) ** 2)
    >>> found = stopping(opt)
    >>> 0 <= found.gain < 1e-3, found.bound >= found.gain
    (True, True)
    """
    if tolerance is not None and (
        isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0.0 <= tolerance < np.inf
    ):
        raise UsageError(
            f"stopping: expected a tolerance of at least 0 in the units of the objective, got {tolerance!r}"
        )
    if isinstance(history, bool) or not isinstance(history, int) or history < 0:
        raise UsageError(f"stopping: expected history as a whole number of at least 0, got {history!r}")
    _check(study.task)
    known = studied(study, 1, "stopping")
    with np.errstate(all="ignore"), one_blas_thread():
        return _stopping(known, tolerance, history)


def _check(task: Any) -> None:
    if task.m > 1:
        raise NotHandled(f"stopping: expected one objective, the task has {task.m} ({', '.join(o.name for o in task.objectives)}); "
                         "what is best of several is no single value")  # fmt: skip
    for role in ("context", "environment", "fidelity", "source"):
        if names := task.space.roles(role):
            raise NotHandled(f"stopping: {', '.join(names)} has the role {role!r}; the gain is worked out for tasks whose "
                             "parameters are all to be chosen")  # fmt: skip
    if not all(task.space.columns.bounded):
        raise NotHandled(
            "stopping: expected bounded parameters: without bounds there is always something left to be found"
        )


def _stopping(known: StudyModel, tolerance: float | None, history: int) -> Stopping:
    n, objective = known.n, known.outputs[0]
    at = np.unique(np.linspace(0, n, history + 2).round().astype(int)[1:])
    at = at[at > 0]
    rows = [_now(known, int(k), Effort() if k == n else ROUGH) for k in at]
    last = rows[-1]
    gains, bounds, bests = (np.array([getattr(row, key) for row in rows]) for key in ("gain", "bound", "best"))
    holds = known.holds()
    first = objective.told[holds][: 2 * (known.task.space.dimension + 1)]
    found = (
        float(max(objective.sign * (np.median(first) - last.best), 0.0))
        if len(first) and last.best == last.best
        else np.nan
    )
    noise = _noise(known)
    worth = float(tolerance) if tolerance is not None else WORTH * found if found > 0.0 else 0.0
    verdict, words = _words(known, last, found, worth, noise)
    point = known.task.space.decode(last.where) if last.where is not None else {}
    return Stopping(n, objective.metric, last.best, found, last.gain, last.bound, worth, noise, last.chance, point, at, gains, bounds,
                    bests, verdict, words, known.notes)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Now:
    best: float
    gain: float
    bound: float
    chance: float
    where: Array | None


def _now(known: StudyModel, k: int, effort: Effort) -> _Now:
    """Gain and bound after the first k rows, with the hyperparameters and warps of all."""
    model, objective = known.model, known.outputs[0]
    gp, noisy = (model.gp if k == known.n else _first(model.gp, k)), model.noisy
    rng = np.random.default_rng(SEED)
    domain = domain_of(known.task, {})
    base, drawn = given_pending("greedy", gp, noisy, gp.X[:0], DRAWS, rng)
    feasible = np.asarray((drawn[1:] <= 0.0).all(axis=0))
    if not noisy[1:].any():
        feasible[:] = np.asarray((known.state.values[:k, 1:] <= 0.0).all(axis=1))[:, None]
    best = incumbents(drawn[0], feasible)
    seen = not np.isnan(best).any()
    region = model.region
    score = ConstrainedLogEI(
        base, best, np.zeros(known.task.c), None if region is None else Evaluable(region.predictor)
    )
    mean, variance = gp.mean_variance(gp.X)
    values = np.where(noisy, mean, gp.Z)
    holds = np.where(noisy[1:], values[:, 1:] <= 0.0, known.state.values[:k, 1:] <= 0.0).all(axis=1)
    order = np.lexsort((np.where(holds, values[:, 0], np.maximum(values[:, 1:], 0.0).sum(axis=1)), ~holds))
    centres = domain.settle(gp.X[order[:3]], rng)
    told = known.state.failed if known.task.noisy else np.concatenate([gp.X, known.state.failed])
    rows, height = _highest(known, score, told, centres, centres, effort, rng)
    where = rows[0] if len(rows) else None
    if not seen or not holds.any():
        chance = 0.0 if where is None else float(np.exp(min(height, 0.0)))
        return _Now(np.nan, np.nan, np.nan, chance, where)
    top = float(values[holds, 0].min())
    user = float(objective.to_user(np.array(top)))
    gain = 0.0 if where is None else float(np.exp(min(height, 700.0)))
    there = float(objective.to_user(np.array(top - gain)))
    width = float(np.sqrt(2.0 * np.log(known.task.space.dimension * k**2 * np.pi**2 / (6.0 * DELTA)) / SHRINK))
    sd = np.where(noisy[0], np.sqrt(variance[:, 0]), 0.0)  # a told value without noise is known
    upper = float((values[:, 0] + width * sd)[holds].min())
    lowest = _Lowest(gp.predictor, width, None if region is None else region.predictor)
    at, _ = _highest(known, lowest, gp.X[:0], np.concatenate([centres, rows]), centres, effort, rng)
    lower = upper
    if len(at):
        means, variances = gp.mean_variance(at[:1])
        lower = min(upper, float(means[0, 0] - width * np.sqrt(variances[0, 0])))
    bound = abs(float(objective.to_user(np.array(upper))) - float(objective.to_user(np.array(lower))))
    return _Now(user, abs(there - user), bound, np.nan, where)


def _first(gp: GaussianProcess, k: int) -> GaussianProcess:
    known = None if gp.variances is None else gp.variances[:k]
    return condition(gp.inputs, gp.X[:k], gp.Z[:k], gp.fitted, gp.kernel, known)


def _highest(
    known: StudyModel, score: Score, told: Array, tried: Array, centres: Array, effort: Effort, rng: np.random.Generator
) -> tuple[Array, float]:
    """Some rows (k, D) that were not told, the one of the highest score first, and that score; none where every row was told."""
    points = finite_points(known.task, {})
    if points is not None:
        rows, values = enumerate_best(score, points, partial(taken, groups=((told, 0.0),)))
    else:
        away = partial(taken, groups=((told, NEAR),))
        rows, values = maximise(score, domain_of(known.task, {}), rng, centres, tried, away, effort)
    return rows[:KEPT], float(values[0]) if len(rows) else -np.inf


def _noise(known: StudyModel) -> float:
    """Standard deviation of one told value of the objective where the best one is, in the user's units."""
    output = known.outputs[0]
    if not output.noisy:
        return 0.0
    gp, row = output.gp, known.best_row()
    variance = gp.fitted[0].noise + (0.0 if gp.variances is None else float(gp.variances[row, 0]))
    slope = float(output.warp.slope(np.array(output.sign * output.told[row])))
    return float(np.sqrt(variance)) / slope


def _blind(gp: GaussianProcess) -> bool:
    """Whether leave-one-out predictions are no better than the mean of the other values."""
    z, mean = gp.Z[:, 0], gp.leave_one_out()[0][:, 0]
    others = (z.sum() - z) / max(len(z) - 1, 1)
    return bool(((z - mean) ** 2).sum() >= ((z - others) ** 2).sum() > 0.0)


def _words(known: StudyModel, now: _Now, found: float, worth: float, noise: float) -> tuple[Verdict, str]:
    d, n = known.task.space.dimension, known.n
    if np.isnan(now.best):
        return "go on" if now.chance > 0.01 else "unclear", (
            f"nothing feasible is known after {n} rows; the next evaluation has a chance of {number_text(min(100 * now.chance, 99.0), 2)} % to be "
            "the first" + ("" if now.chance > 0.01 else ": look whether the limits can be met at all")
        )
    if now.where is None:
        return "stop", f"every point of the space was told; the best is {number_text(now.best)}"
    words = f"the next evaluation is expected to gain {number_text(now.gain, 2)}"
    words += f" of the {number_text(found, 2)} found so far" if found > 0.0 else ""
    words += f"; the best known value, {number_text(now.best)}, is at most {number_text(now.bound, 2)} from the optimum as far as the model holds"
    if noise > 0.0:
        words += f" (one told value has a noise of {number_text(noise, 2)}, so less than that shows only in repeats)"
    if n < 2 * (d + 1):
        return (
            "unclear",
            f"{words}; {n} row{'s' * (n > 1)} for {d} parameter column{'s' * (d > 1)} say little, expect surprises",
        )
    if _blind(known.outputs[0].gp):
        return "unclear", (
            "the model predicts told values no better than a constant (see the quality of the model), so its gain "
            f"({number_text(now.gain, 2)}) and its bound ({number_text(now.bound, 2)}) mean little; the best known value is {number_text(now.best)}"
        )
    if found > 0.0 and now.gain > WILD * found:
        return "unclear", (
            f"{words}; a gain that large comes from continuing a logarithmic scale beyond the best told value: it says that the "
            "model sees no limit there, not that so much can be had"
        )
    if not found > 0.0 and worth == 0.0:
        return (
            "unclear",
            f"{words}; nothing better than the first rows was found, so there is no measure of what is worth it",
        )
    floor = max(worth, noise if known.outputs[0].noisy else 0.0)
    if now.bound <= floor:
        return "stop", f"{words}: less than what is worth an evaluation ({number_text(floor, 2)})"
    if now.gain <= worth / 10.0 or now.gain <= WORTH * noise:
        return "little left", f"{words}: hardly any gain is expected, but the model does not rule one out"
    return "go on", words
