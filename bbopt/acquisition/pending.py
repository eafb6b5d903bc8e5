"""What an ask assumes of points that are out without an answer, so that several asks do not go to one place.

    greedy      integrates over them: S joint draws of their values, a model given each draw (`acquisition.draws`)
    believer    they have their posterior means (kriging believer)
    liar-min, liar-mean, liar-max
                their objective is the lowest, mean or highest value told so far (constant liar); constraints have their means
    penalised   nothing: a penalty around each keeps others away (`acquisition.local_penalty`)
    thompson    nothing: every point is the best one of a function of its own (`acquisition.thompson`)

Believer and liars are those of Ginsbourger, Le Riche, Carraro 2010, "Kriging is well-suited to parallelize optimization",
sections 4.2 and 4.3; the lowest value is the liar that stays closest to what is known, the highest explores most.
All work on values in the model's own units, where the objective is minimised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bbopt.acquisition.draws import draw_values, given_draws
from surrogates.gp import GaussianProcess
from surrogates.predictor import Predictor

Array = NDArray[np.float64]
Batch = Literal["greedy", "believer", "liar-min", "liar-mean", "liar-max", "penalised", "thompson"]
BATCHES: tuple[Batch, ...] = get_args(Batch)
LIARS: Mapping[str, Callable[[Array], Array]] = {
    "liar-min": lambda told: np.asarray(told.min(axis=0)),
    "liar-mean": lambda told: np.asarray(told.mean(axis=0)),
    "liar-max": lambda told: np.asarray(told.max(axis=0)),
}


def given_pending(
    batch: Batch, gp: GaussianProcess, noisy: NDArray[np.bool_], pending: Array, draws: int, rng: np.random.Generator
) -> tuple[Predictor, Array]:
    """The model given what is assumed, and (m, k, S) values of the k = n told and assumed points that it was given. Not for
    "thompson", which needs no such model.

    noisy: (m,) outputs whose told values are integrated over; pending: (p, D); draws: S where something is drawn.

    >>> from surrogates.columns import Inputs
    >>> from surrogates.gp import fit_gp
    >>> from surrogates.map_fit import Prior
    >>> X = np.linspace(0.0, 1.0, 6)[:, None]
    >>> gp, out = fit_gp(Inputs.continuous(1), X, X**2, [Prior.noiseless(1)]), np.array([[0.5]])
    >>> base, values = given_pending("liar-max", gp, np.array([False]), out, 8, np.random.default_rng(0))
    >>> values.shape, float(values[0, -1, 0])
    ((1, 7, 1), 1.0)
    """
    nobody = pending[:0]
    if batch == "penalised" or not len(pending):
        if not noisy.any():
            return gp.predictor, gp.Z.T[:, :, None]
        drawn = draw_values(gp, noisy, nobody, draws, rng)
        return given_draws(gp, noisy, nobody, drawn), drawn
    if batch == "greedy":
        drawn = draw_values(gp, noisy, pending, draws, rng)
        return given_draws(gp, noisy, pending, drawn), drawn
    if noisy.any():
        told = draw_values(gp, noisy, nobody, draws, rng)
        means = given_draws(gp, noisy, nobody, told).forward(pending).mean
    else:
        told, means = gp.Z.T[:, :, None], gp.predictor.forward(pending).mean
    if batch in LIARS:
        means[0] = LIARS[batch](told[0])
    assumed = np.concatenate([told, means], axis=1)
    return given_draws(gp, noisy, pending, assumed), assumed
