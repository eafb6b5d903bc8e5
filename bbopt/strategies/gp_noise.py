"""Noise in the model of `gp`: what is believed of the noise-free outputs, and models of noise beyond one variance per output.

`noise="heteroscedastic"`: the variance of the noise depends on the point (`surrogates.heteroscedastic`). `noise="outliers"`: few
values are wrong altogether, and get variances of their own (`surrogates.relevance_pursuit`). Both end in a variance for every
told row, so that everything that works with known standard errors works with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from bbopt.errors import UsageError
from bbopt.task import Task
from surrogates.gp import GaussianProcess
from surrogates.heteroscedastic import fit_heteroscedastic
from surrogates.map_fit import Fitted
from surrogates.relevance_pursuit import pursue_relevance
from surrogates.warps import Warp

if TYPE_CHECKING:
    from bbopt.strategies.gp_model import Fits

Array = np.ndarray[Any, np.dtype[Any]]
NoiseModel = Literal["plain", "heteroscedastic", "outliers"]
NOISE_MODELS: tuple[NoiseModel, ...] = get_args(NoiseModel)


def check_noise(model: NoiseModel, task: Task) -> None:
    """Raise UsageError where a model of the noise has nothing to model."""
    wanted = task.noisy if model == "outliers" else model == "plain" or "unknown" in task.noises
    if not wanted and model != "plain":
        declare = 'noise="unknown"' + (" or a standard deviation" if model == "outliers" else "")
        raise UsageError(f"GP: noise {model!r} needs an objective or a constraint with {declare}, got none")


def believed(gp: GaussianProcess, warps: Sequence[Warp], X: Array) -> tuple[Array, Array]:
    """(q, m) medians and half widths of the 16 % to 84 % range, in raw units: mean and standard deviation where warps are linear."""
    mean, variance = gp.mean_variance(X)
    sd = np.sqrt(variance)
    middle, low, high = (
        np.column_stack([warp.inverse(part[:, j]) for j, warp in enumerate(warps)])
        for part in (mean, mean - sd, mean + sd)
    )
    return middle, 0.5 * (high - low)


def with_noise_model(
    model: NoiseModel, fits: Fits, values: Array, warps: Sequence[Warp], fitted: Sequence[Fitted], learnt: Array, noisy: Array,
    noise: Array,
) -> tuple[list[Fitted], Array]:  # fmt: skip
    """Hyperparameters of every output under a model of its noise, and the (n, m) variances that told rows get in it.

    fitted: the plain fits, kept where an output has no noise or where all its noise is known; learnt, noisy (m,) and noise (n, m): see
    `noises_of`. Where rows are many, the support of outliers is found under the plain hyperparameters.
    """
    found, own = list(fitted), np.zeros_like(values)
    many = len(fits.few) < len(fits.X)
    for j, warp in enumerate(warps):
        if not noisy[j]:
            continue
        z = warp.forward(values[:, j])
        if model == "outliers":
            known = noise[:, j] * warp.slope(values[:, j]) ** 2
            robust = pursue_relevance(
                fits.objective(fits.prior(learnt[j], True)),
                z,
                known if known.any() else None,
                fitted[j],
                0 if many else 50,
            )
            found[j], own[:, j] = robust.fitted, robust.rho
        elif learnt[j] and not noise[:, j].any():
            changing = fit_heteroscedastic(fits.objective(fits.prior(True, True)), z, fitted[j])
            found[j], own[:, j] = changing.fitted, changing.variances
    return found, own


def kept_variances(warm: Mapping[str, Any], n: int) -> Array | None:
    """(n, m) variances of an earlier ask, if it had any; rows that have come since get the median."""
    if "own" not in warm:
        return None
    before = np.asarray(warm["own"], dtype=float)[:n]
    rest = np.broadcast_to(np.median(before, axis=0), (n - len(before), before.shape[1]))
    return np.concatenate([before, rest])
