"""The local model of `turbo`: a Gaussian process per output of the rows of its region, outputs made tame first.

Matern 5/2 with a lengthscale per column in [0.005, 2] and no prior on them, an output scale in [0.05, 20], as in the code of
Eriksson et al. 2019 (arXiv 1910.01739). The objective has the warp that its values ask for (`surrogates.warps`, where SCBO
has a copula); constraints have a bilog, asinh(g / median of |g|), which keeps 0 where it is (arXiv 2002.08526, section 3).
Hyperparameters are fitted by L-BFGS from those of the ask before. Where the region has more rows than `MOST_ROWS`, those
nearest to its centre are modelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.strategies.gp_model import Model, inputs_of, noises_of, warped_variances
from bbopt.strategies.gp_state import GPState
from bbopt.task import Task
from surrogates.gp import condition
from surrogates.kernels import Kernel
from surrogates.map_fit import Fitted, Objective, Prior, fit_map
from surrogates.warped_fit import fit_warped
from surrogates.warps import Warp, constraint_warps, objective_warps

Array = np.ndarray[Any, np.dtype[Any]]
MOST_ROWS = 400
KERNEL: Kernel = "matern52"
NUGGET = 1e-6  # of deterministic outputs, in units of their output scale
REFIT_SHARE = 0.02  # new rows, as a share of those of the last fit, that ask for another
WARP_EVERY = 20  # rows after which the objective's warp is chosen again


@dataclass(frozen=True)
class RegionPrior(Prior):
    """No prior on lengthscales: their bounds alone."""

    def start_length(self) -> float:
        """0.5, as in the published code."""
        return float(np.log(0.5))

    def log_lengthscales(self, theta: Array) -> tuple[float, Array]:
        """A constant.

        >>> RegionPrior((0.0, 1.0)).log_lengthscales(np.zeros(2))
        (0.0, array([0., 0.]))
        """
        return 0.0, np.zeros_like(theta)


def prior(learnt: bool) -> RegionPrior:
    """Of one output, with noise to be learnt or without."""
    return RegionPrior(
        (0.0, 1.0), (0.005, 2.0), noise=(-4.0, 1.0) if learnt else None, noise_bounds=(5e-4, 0.2),
        nugget=0.0 if learnt else NUGGET, scale=(0.0, 1.0), scale_bounds=(0.05, 20.0),
    )  # fmt: skip


def nearest(X: Array, centre: Array, weights: Array, most: int = MOST_ROWS) -> Array:
    """Row numbers, in order, of at most `most` rows of (n, d), those with the least distance to the centre in units of
    the sides.

    >>> nearest(np.array([[0.0], [0.9], [0.4]]), np.array([0.5]), np.ones(1), 2).tolist()
    [1, 2]
    """
    if len(X) <= most:
        return np.arange(len(X))
    distance = (((X - centre) / weights) ** 2).sum(axis=1)
    return np.sort(np.argsort(distance, kind="stable")[:most])


def local_model(task: Task, state: GPState, warm: Mapping[str, Any], hurried: bool) -> Model:
    """The model of all rows of a state, which are those of a region; warm: memo of an earlier ask for it, or empty.

    hurried: keep the hyperparameters of before.
    """
    inputs, n, m = inputs_of(task), len(state.X), 1 + task.c
    learnt, noisy, noise = noises_of(task, state)
    start = [_fitted(warm, j) for j in range(m)] if warm else [None] * m
    keep = bool(warm) and (hurried or n - warm["local"] < max(1.0, REFIT_SHARE * warm["local"]))
    choose = not warm or n - warm["chosen"] >= WARP_EVERY
    names: list[str] = []
    warps: list[Warp] = []
    fitted: list[Fitted] = []
    objectives: dict[bool, Objective] = {}
    for j in range(m):
        y = state.values[:, j]
        maps = objective_warps(y) if j == 0 else bilog(y)
        if noisy[j]:
            maps = {"linear": (maps if j == 0 else constraint_warps(y))["linear"]}
        if keep:
            name, found = str(warm["names"][j]), start[j]
            warp = Warp(*np.asarray(warm["warps"])[j].tolist())
        else:
            rule = prior(bool(learnt[j]))
            shape = objectives.setdefault(bool(learnt[j]), Objective(inputs, state.X, KERNEL, rule))
            if choose and len(maps) > 1:
                name, found = fit_warped(shape, y, maps, start[j])
            else:
                name = str(warm["names"][j]) if warm else next(iter(maps))
                name = name if name in maps else next(iter(maps))
                known = noise[:, j] * maps[name].slope(y) ** 2 if noisy[j] else None
                found = fit_map(inputs, state.X, maps[name].forward(y), rule, KERNEL, known, (start[j],), shape, 50)
            warp = maps[name]
        assert found is not None
        names, warps, fitted = [*names, name], [*warps, warp], [*fitted, found]
    Z = np.column_stack([warp.forward(state.values[:, j]) for j, warp in enumerate(warps)])
    variances = warped_variances(warps, state.values, noise) if noisy.any() else None
    gp = condition(inputs, state.X, Z, fitted, KERNEL, variances)
    memo = gp.hyperparameters() | {
        "local": warm["local"] if keep else n,
        "chosen": n if choose and not keep else warm["chosen"],
        "names": names,
        "warps": np.array([[w.anchor, w.width, w.centre, w.factor, w.low, w.high] for w in warps]),
    }
    return Model(gp, tuple(warps), noisy, None, memo)


def bilog(g: Array) -> dict[str, Warp]:
    """The map of a constraint's values, by name.

    >>> round(float(bilog(np.array([-1.0, 1.0, 1e6]))["zero 0.5"].forward(np.zeros(1))[0]), 6)
    0.0
    """
    maps = constraint_warps(g)
    name = "zero 0.5" if "zero 0.5" in maps else "linear"
    return {name: maps[name]}


def _fitted(memo: Mapping[str, Any], j: int) -> Fitted:
    number = {key: float(memo[key][j]) for key in ("scale", "noise", "mean", "nugget")}
    return Fitted(np.asarray(memo["lengthscales"][j]), value=0.0, evaluations=0, **number)
