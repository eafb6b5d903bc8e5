"""From told rows to a model: warps, hyperparameters and posterior of every output, on a refit schedule.

Refits: at every new row up to 100, every 5 rows up to 300, every 20 up to 1000, then every 50; in between the
hyperparameters of the last fit are kept and only the data grow. Which warp an output has is decided again every 10 rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.strategies.gp_domain import places_of
from bbopt.strategies.gp_earlier import model_with_earlier
from bbopt.strategies.gp_inputs import inputs_before, warped_inputs
from bbopt.strategies.gp_noise import NoiseModel, kept_variances, with_noise_model
from bbopt.strategies.gp_slope_warps import warps_with_slopes
from bbopt.strategies.gp_slopes import model_with_slopes
from bbopt.strategies.gp_state import GPState
from bbopt.strategies.gp_tasks import model_of_tasks, task_column
from bbopt.strategies.haste import NO_FIT
from bbopt.task import Task
from surrogates.columns import Inputs
from surrogates.gp import GaussianProcess, condition, hyperparameters_of
from surrogates.input_warp import WarpedInputs
from surrogates.kernels import Kernel
from surrogates.map_fit import Fitted, Objective, Prior, fit_map
from surrogates.region import fit_region
from surrogates.saas import Lengthscales, SparsePrior, dense_start
from surrogates.warped_fit import fit_warped
from surrogates.warps import Warp, constraint_warps, objective_warps

Array = np.ndarray[Any, np.dtype[Any]]
NUGGET = 1e-9  # of deterministic outputs, in units of their output scale: the sixth digit stays visible
SUBSET = 300  # rows of the first fit where there are many and no hyperparameters to start from
FEW = 50  # the same where there is hardly time for it
LINEAR = ("linear",)
WARP_EVERY = 10  # rows


@dataclass(frozen=True, eq=False)
class Model:
    """Posterior of the objective (output 0) and the constraints in warped units, where a constraint holds at z <= 0.

    noisy: (1 + c,) outputs with noise; region: model of the rows that cannot work, or None; memo: plain data from which
    the next ask starts.
    """

    gp: GaussianProcess
    warps: tuple[Warp, ...]
    noisy: Array
    region: GaussianProcess | None
    memo: dict[str, Any]


def inputs_of(task: Task) -> Inputs:
    """The columns of a task's space as surrogates know them."""
    columns = task.space.columns
    return Inputs(columns.kind, columns.levels, columns.group, places_of(task))


def refit_due(n: int, fitted: int) -> bool:
    """Whether n rows need new hyperparameters when the last were fitted to `fitted` rows."""
    step = 1 if n <= 100 else 5 if n <= 300 else 20 if n <= 1000 else 50
    return n - fitted >= step or fitted == 0


def build(
    task: Task, state: GPState, warm: Mapping[str, Any], kernel: Kernel, with_region: bool = True, hurried: bool = False,
    lengthscales: Lengthscales = "dimension", noise_model: NoiseModel = "plain",
    warped: bool = False,
) -> Model:  # fmt: skip
    """The model of all told rows (at least one), started from the memo of an earlier ask where there is one.

    with_region: whether rows that cannot work are modelled here; hurried: keep the hyperparameters of before, or fit to few
    rows where there are none. lengthscales: their prior, scaled with the dimension or sparse (`surrogates.saas`).
    noise_model: of outputs with noise (`bbopt.strategies.gp_noise`). warped: whether inputs are (`bbopt.strategies.gp_inputs`).
    """
    plain, n = inputs_of(task), len(state.X)
    inputs = inputs_before(plain, warm) if warped else plain
    learnt, noisy, noise = noises_of(task, state)
    outputs = len(learnt)
    due = not warm or refit_due(n, warm["fitted"])
    own: Array | None = None
    if warm and (hurried or not due):
        warps = tuple(Warp(*row) for row in np.asarray(warm["warps"]).tolist())
        fitted = [_fitted(warm, j) for j in range(outputs)]
        names, selected, at = list(warm["names"]), warm["selected"], warm["fitted"]
        own = kept_variances(warm, n)
    else:
        selected = warm.get("selected", 0)
        choose = not (warm or hurried) or n - selected >= WARP_EVERY
        selected, at = (n if choose else selected), 1 if hurried else n  # what was fitted in a hurry is soon due again
        fits = Fits(inputs, state.X, kernel, FEW if hurried else SUBSET, lengthscales)
        chosen = [
            _fit_output(
                fits, state.values[:, j], j == 0, learnt[j], noise[:, j] if noisy[j] else None,
                _fitted(warm, j) if warm else None, None if choose else warm.get("names", LINEAR * outputs)[j],
            )
            for j in range(outputs)
        ]  # fmt: skip
        names, warps, fitted = (list(part) for part in zip(*chosen, strict=True))  # type: ignore[assignment]
        if noise_model != "plain" and not hurried:
            fitted, own = with_noise_model(noise_model, fits, state.values, warps, fitted, learnt, noisy, noise)
    Z = np.column_stack([warp.forward(state.values[:, j]) for j, warp in enumerate(warps)])
    variances = warped_variances(warps, state.values, noise) if noisy.any() else None
    if own is not None:
        variances = own if variances is None else variances + own
    if warped and due and not hurried:
        still = learnt & np.array(
            [fit.noise > 0.0 for fit in fitted]
        )  # a noise that depends on the point is known by now
        priors = [_prior(inputs.dimension, *kind, lengthscales) for kind in zip(still, noisy, strict=True)]
        inputs, fitted = warped_inputs(plain, inputs, state.X, Z, priors, fitted, kernel, variances, SUBSET)
    gp: GaussianProcess | None = None
    if len(state.slopes) and own is None and not warped:
        starts = [(fit, *((_fitted(warm, j),) if warm else ())) for j, fit in enumerate(fitted)]
        priors = [_prior(inputs.dimension, *kind, lengthscales) for kind in zip(learnt, noisy, strict=True)]
        if due and not hurried and selected == n:
            names, warps, starts = warps_with_slopes(inputs, state, names, warps, noisy, starts, priors, kernel)
            Z = np.column_stack([warp.forward(state.values[:, j]) for j, warp in enumerate(warps)])
        gp = model_with_slopes(inputs, state, warps, Z, starts, priors, kernel, variances, refit=due and not hurried)
    column, parts = None if gp or lengthscales == "sparse" or own is not None or warped else task_column(task), {}
    if state.earlier and gp is None:
        priors = [_prior(inputs.dimension, *kind) for kind in zip(learnt, noisy, strict=True)]
        with_earlier = model_with_earlier(
            inputs, state.earlier, names, state.X, Z, fitted, priors, kernel, variances, warm, due and not hurried
        )
        if with_earlier is not None:
            gp, parts = with_earlier[0], hyperparameters_of(kernel, fitted) | {"earlier": with_earlier[1]}
    elif column is not None:
        priors = [_prior(inputs.dimension, *kind) for kind in zip(learnt, noisy, strict=True)]
        with_tasks = model_of_tasks(
            inputs,
            column,
            state.X,
            Z,
            fitted,
            priors,
            kernel,
            variances,
            warm,
            due and not hurried,
            choose=selected == n,
        )
        if with_tasks is not None:
            gp, parts = with_tasks[0], hyperparameters_of(kernel, fitted) | {"tasks": with_tasks[1]}
    gp = condition(inputs, state.X, Z, fitted, kernel, variances) if gp is None else gp
    region = None
    if with_region and len(state.failed):
        region = fit_region(plain, state.X, state.failed, region_starts(warm))
    memo = (parts or gp.hyperparameters()) | schedule_memo(state, at, selected, names, warps, region)
    if own is not None:
        memo["own"] = own
    if isinstance(inputs, WarpedInputs):
        memo["concentrations"] = np.array([inputs.a, inputs.b])
    if hurried and due:
        memo["note"] = NO_FIT
    if gp.jitter.any():
        memo["jitter"] = gp.jitter
    return Model(gp, tuple(warps), noisy, region, memo)


def warped_variances(warps: Sequence[Warp], values: Array, noise: Array) -> Array:
    """(n, m) variances of warped values, to first order, where raw values (n, m) have the variances `noise` (n, m)."""
    return np.asarray(noise * np.column_stack([warp.slope(values[:, j]) for j, warp in enumerate(warps)]) ** 2)


def schedule_memo(
    state: GPState, at: int, selected: int, names: Sequence[str], warps: Sequence[Warp], region: GaussianProcess | None
) -> dict[str, Any]:
    """What the refit schedule needs of an ask: rows fitted to and seen, when warps were chosen, which, the region's model."""
    memo: dict[str, Any] = {
        "fitted": at,
        "seen": len(state.X),
        "hash": state.fingerprint(at),
        "selected": selected,
        "names": list(names),
        "warps": np.array([[w.anchor, w.width, w.centre, w.factor, w.low, w.high] for w in warps]),
    }
    return memo if region is None else memo | {"region": region.hyperparameters()}


class Fits:
    """Objectives of the fits to the same rows, made once per prior."""

    def __init__(
        self, inputs: Inputs, X: Array, kernel: Kernel, most: int = SUBSET, lengthscales: Lengthscales = "dimension"
    ) -> None:
        self.sparse = lengthscales == "sparse"
        self.inputs, self.X, self.kernel, self.hurried = inputs, X, kernel, most < SUBSET
        self._made: dict[tuple[Prior, bool], Objective] = {}
        few = np.arange(len(X)) if len(X) <= most else np.unique(np.linspace(0, len(X) - 1, most).astype(int))
        self.few = few

    def prior(self, learnt: bool, noisy: bool) -> Prior:
        """The prior of an output, by whether its noise is learnt and whether there is any."""
        return _prior(self.inputs.dimension, learnt, noisy, "sparse" if self.sparse else "dimension")

    def objective(self, prior: Prior, few: bool = False) -> Objective:
        if (prior, few) not in self._made:
            self._made[prior, few] = Objective(self.inputs, self.X[self.few] if few else self.X, self.kernel, prior)
        return self._made[prior, few]


def _prior(dimension: int, learnt: bool, noisy: bool, lengthscales: Lengthscales = "dimension") -> Prior:
    """The prior of an output whose noise must be learnt, is known, or is none."""
    prior = Prior.botorch(dimension) if learnt else Prior.noiseless(dimension, 1e-8 if noisy else NUGGET)
    return SparsePrior.of(prior) if lengthscales == "sparse" else prior


def _fit_output(
    fits: Fits, y: Array, is_objective: bool, learnt: bool, noise: Array | None, start: Fitted | None, name: str | None
) -> tuple[str, Warp, Fitted]:
    d = fits.inputs.dimension
    warps = objective_warps(y) if is_objective else constraint_warps(y)
    if learnt or noise is not None:
        warps = {"linear": warps["linear"]}
    prior = _prior(d, learnt, noise is not None)
    many = len(fits.few) < len(fits.X)
    # with a sparse prior, the columns that matter are chosen anew from two starts; with many rows they are known
    anew = fits.sparse and (start is None or (name is None and not many))
    if fits.sparse:
        if anew:
            start = dense_start(fits.objective(prior, many), warps["linear"].forward(y[fits.few]))
        prior = SparsePrior.of(prior)
    if name is None and len(warps) > 1:
        name, found = fit_warped(fits.objective(prior, many), y[fits.few], warps, start)
        if not many:
            return name, warps[name], found
        start = found
    name = name if name in warps else "linear"
    z = warps[name].forward(y)
    variances = None if noise is None else noise * warps[name].slope(y) ** 2
    if many and start is None:
        part = None if variances is None else variances[fits.few]
        start = fit_map(
            fits.inputs, fits.X[fits.few], z[fits.few], prior, fits.kernel, part, objective=fits.objective(prior, True)
        )
    if many and fits.hurried and start is not None:
        return name, warps[name], start
    found = fit_map(
        fits.inputs, fits.X, z, prior, fits.kernel, variances, (start, None) if anew and not many else (start,), fits.objective(prior),
        max_iterations=15 if many else 200,
    )  # fmt: skip
    return name, warps[name], found


def noises_of(task: Task, state: GPState) -> tuple[Array, Array, Array]:
    """Per output whether the noise must be learnt and whether there is any, (1 + c,) each; and (n, 1 + c) known variances.

    Variances are in raw units: told ones first, then declared ones, 0 for exact outputs and where they are unknown.
    """
    declared = np.array([np.nan if isinstance(kind, str) else (kind or 0.0) ** 2 for kind in task.noises])
    with np.errstate(over="ignore"):
        told = np.minimum(state.std**2, 1e300)
    noise = np.where(np.isnan(told), declared, told)
    unknown = np.array([kind == "unknown" for kind in task.noises])
    learnt = np.asarray(unknown & np.isnan(noise).any(axis=0))
    noise = np.nan_to_num(noise)
    return learnt, np.asarray(learnt | (noise > 0.0).any(axis=0)), noise


def _fitted(memo: Mapping[str, Any], j: int) -> Fitted:
    number = {key: float(memo[key][j]) for key in ("scale", "noise", "mean", "nugget")}
    return Fitted(np.asarray(memo["lengthscales"][j]), value=0.0, evaluations=0, **number)


def region_starts(warm: Mapping[str, Any]) -> tuple[Fitted | None, ...]:
    """Where a fit of the failing region starts: at the last one, if a memo has it."""
    return (_fitted(warm["region"], 0),) if "region" in warm else (None,)
