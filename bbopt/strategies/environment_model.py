"""The model behind `environment-gp`: a Gaussian process over designs and environments, and the risks that it gives designs.

Values are standardised and nothing else: a warp that bends values would change which mean and which tail is least.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bbopt.designs import sobol
from bbopt.environment import Draw, draws_of, grid
from bbopt.risk import Over, risk, risk_weights
from bbopt.strategies.gp_model import (
    FEW,
    NUGGET,
    SUBSET,
    Fits,
    inputs_of,
    noises_of,
    refit_due,
    region_starts,
    schedule_memo,
)
from bbopt.strategies.gp_state import GPState
from bbopt.strategies.haste import NO_FIT
from bbopt.task import Task
from surrogates.gp import GaussianProcess, condition
from surrogates.integrated import Distribution, Functionals, Weights, at_environments, node_values
from surrogates.kernel_means import Spread
from surrogates.map_fit import Fitted, Prior, fit_map
from surrogates.region import fit_region
from surrogates.warps import LARGEST, Warp

Array = np.ndarray[Any, np.dtype[Any]]
ALL = 128  # environments up to which they are all taken
LINE, SPREAD = 64, 128  # environments that stand for a distribution of one column, and of several
DRAWS = 64  # joint draws of a design's values over environments
SEED = 20180804  # of the environments and of the draws: the same in every ask, so that risks can be compared


@dataclass(frozen=True, eq=False)
class Nature:
    """What a task says of its environment.

    columns: (e,) encoded columns; spreads: one for each; nodes: (k, e) environments with probabilities (k,), all there are or
    such as stand for them; over, level: the functional of the objective.
    """

    columns: Array
    spreads: tuple[Spread, ...]
    nodes: Array
    probabilities: Array
    over: Over
    level: float | None

    @classmethod
    def of(cls, task: Task) -> Nature:
        draws, kinds = draws_of(task.space), task.space.columns.kind
        columns = np.array([draw.column for draw in draws])
        spreads = tuple(Spread(d.values, d.weights, d.normal, kinds[d.column] == "category") for d in draws)
        goal = task.objectives[0]
        found = grid(draws, ALL)
        nodes, probabilities = found if found is not None else _spread(task, draws, columns, goal.over == "worst")
        over: Any = goal.over
        return cls(columns, spreads, nodes, probabilities, over, goal.level)


def _spread(task: Task, draws: tuple[Draw, ...], columns: Array, with_ends: bool) -> tuple[Array, Array]:
    """Environments of equal probability: midpoints of one column's quantiles, or a scrambled Sobol sequence.

    with_ends: the corners of the box come with them, up to as many again, as the worst case often lies there.
    """
    e = len(draws)
    if e == 1:
        U = (np.arange(LINE)[:, None] + 0.5) / LINE
    elif e <= 64:
        U = sobol(0, SPREAD, e, SEED)
    else:
        U = np.random.default_rng(SEED).random((SPREAD, e))
    if with_ends:
        corners = (np.arange(2 ** min(e, 6))[:, None] >> np.arange(min(e, 6))) & 1
        ends = np.full((len(corners), e), 0.5)
        ends[:, : corners.shape[1]] = corners
        U = np.concatenate([U, ends])
    full = np.zeros((len(U), task.space.dimension))
    full[:, columns] = U
    nodes = task.space.from_uniform(full)[:, columns]
    return nodes, np.full(len(nodes), 1.0 / len(nodes))


@dataclass(frozen=True, eq=False)
class EnvironmentModel:
    """Posterior over (design, environment) in standardised units; warp: to those; memo: what the next ask starts from."""

    nature: Nature
    gp: GaussianProcess
    warp: Warp
    noisy: bool
    region: GaussianProcess | None
    memo: dict[str, Any]

    @cached_property
    def noise(self) -> float:
        """Variance of a new value around f."""
        fitted = self.gp.fitted[0]
        known = 0.0 if self.gp.variances is None else float(np.median(self.gp.variances))
        return fitted.noise + fitted.nugget * fitted.scale + known

    def given(self, pending: Array) -> EnvironmentModel:
        """With points that are out told their posterior means: what they will teach counts, not which way."""
        if not len(pending):
            return self
        mean, _ = self.gp.mean_variance(pending)
        known = None if self.gp.variances is None else np.full((len(pending), 1), float(np.median(self.gp.variances)))
        return replace(self, gp=self.gp.given(pending, mean, known))

    def outlook(self, designs: Array) -> tuple[Array, Functionals]:
        """(a,) posterior means of the risks of (a, d) designs, and what they depend on to first order."""
        nature = self.nature
        if nature.over == "mean":
            found = Functionals(self.gp, nature.columns, designs, Distribution(nature.spreads))
            return found.mean, found
        values = self._draws(designs)
        weights = risk_weights(values, nature.probabilities, nature.over, nature.level)
        risks = (weights * values).sum(axis=2).mean(axis=1)
        return risks, Functionals(self.gp, nature.columns, designs, Weights(nature.nodes, weights.mean(axis=1)))

    def believed(self, designs: Array) -> tuple[Array, Array]:
        """(a,) posterior means and (a,) standard deviations of the risks of (a, d) designs."""
        if self.nature.over == "mean":
            found = self.outlook(designs)[1]
            return found.mean, np.sqrt(np.maximum(np.diagonal(found.covariance), 0.0))
        risks = risk(self._draws(designs), self.nature.probabilities, self.nature.over, self.nature.level)
        return risks.mean(axis=1), risks.std(axis=1)

    def rough(self, designs: Array) -> Array:
        """(a,) risks of the posterior mean of f: a cheap stand-in for many designs."""
        nature = self.nature
        if nature.over == "mean":
            return self.outlook(designs)[0]
        rows = at_environments(designs, nature.columns, nature.nodes)
        correlations = self.gp.predictor.correlations(self.gp.inputs.features(rows))[0][0]
        mean = correlations @ self.gp.predictor.weights[0, :, 0] + self.gp.fitted[0].mean
        return risk(mean.reshape(len(designs), -1), nature.probabilities, nature.over, nature.level)

    def _draws(self, designs: Array) -> Array:
        rng = np.random.default_rng(SEED)
        normals = rng.standard_normal((DRAWS // 2, len(self.nature.nodes)))
        return node_values(
            self.gp, designs, self.nature.columns, self.nature.nodes, np.concatenate([normals, -normals])
        )


def build(task: Task, state: GPState, warm: Mapping[str, Any], with_region: bool, hurried: bool) -> EnvironmentModel:
    """The model of all told rows (at least one), started from the memo of an earlier ask where there is one.

    with_region: whether rows that cannot work are modelled; hurried: keep the hyperparameters of before, or fit to few rows.
    """
    inputs, n = inputs_of(task), len(state.X)
    learnt, noisy, noise = noises_of(task, state)
    y = state.values[:, 0]
    due = not warm or refit_due(n, warm["fitted"])
    warp = _standardised(y)
    z = warp.forward(y)
    variances = noise[:, 0] * warp.slope(y) ** 2 if noisy[0] else None
    at = n
    if warm and (hurried or not due):
        at = warm["fitted"]
        warp = Warp(*np.asarray(warm["warps"])[0].tolist())
        z, variances = warp.forward(y), noise[:, 0] * warp.slope(y) ** 2 if noisy[0] else None
        fitted = _fitted(warm)
    else:
        prior = (
            Prior.botorch(inputs.dimension)
            if learnt[0]
            else Prior.noiseless(inputs.dimension, 1e-8 if noisy[0] else NUGGET)
        )
        fits = Fits(inputs, state.X, "rbf", FEW if hurried else SUBSET)
        start, few = _fitted(warm) if warm else None, fits.few
        if len(few) < n and start is None:
            part = None if variances is None else variances[few]
            start = fit_map(inputs, state.X[few], z[few], prior, "rbf", part, objective=fits.objective(prior, True))
        if hurried and start is not None and len(few) < n:
            fitted, at = start, 1
        else:
            fitted = fit_map(inputs, state.X, z, prior, "rbf", variances, (start,), fits.objective(prior),
                             max_iterations=15 if len(few) < n else 200)  # fmt: skip
    gp = condition(inputs, state.X, z[:, None], [fitted], "rbf", None if variances is None else variances[:, None])
    region = (
        fit_region(inputs, state.X, state.failed, region_starts(warm)) if with_region and len(state.failed) else None
    )
    memo = gp.hyperparameters() | schedule_memo(state, at, n, ["linear"], [warp], region)
    if hurried and due:
        memo["note"] = NO_FIT
    return EnvironmentModel(Nature.of(task), gp, warp, bool(noisy[0]), region, memo)


def _standardised(y: Array) -> Warp:
    kept = np.clip(y, -LARGEST, LARGEST)
    scale = float(np.abs(kept).max()) or 1.0
    spread = float((kept / scale).std()) * scale  # squares of the largest values stay finite
    centre = float((kept / scale).mean()) * scale
    return Warp(0.0, np.inf, centre, spread if spread > 1e-13 * scale else 1.0)


def _fitted(memo: Mapping[str, Any]) -> Fitted:
    number = {key: float(memo[key][0]) for key in ("scale", "noise", "mean", "nugget")}
    return Fitted(np.asarray(memo["lengthscales"][0]), value=0.0, evaluations=0, **number)
