"""Local penalisation: around each point that is out, the score falls as far as that point is likely to rule out others.

A function with slope at most L cannot reach its minimum m within (f(x_j) - m) / L of x_j. With f(x_j) normal, x lies outside
of that ball with probability
    phi_j(x) = Phi((L |x - x_j| - (mu_j - m)) / sd_j),
and the score is multiplied by all of them. González, Dai, Hennig, Lawrence 2016, "Batch Bayesian Optimization via Local
Penalization" (AISTATS, arXiv 1505.08052), equations 9 and 11, turned to minimisation; L is the largest gradient of the
posterior mean over many points and the best of them refined (section 3.2). Distances are those of the encoded features, in
which two categories are sqrt 2 apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bbopt.acquisition.constrained import SMALLEST_SD, Chance
from bbopt.acquisition.domain import Domain
from surrogates.columns import Inputs
from surrogates.improvement import log_probability_below
from surrogates.predictor import Beliefs

Array = NDArray[np.float64]
POINTS = 500  # over which the largest gradient is sought
STEEPEST = 10  # of them whose neighbourhoods are looked at again
LEAST_SLOPE = 1e-7  # so that a constant model does not rule out everything


@dataclass(frozen=True)
class LocalPenalty:
    """The sum of log phi_j as a term of a score, besides another one (`also`, for instance of a failing region).

    inputs: of the model; centres: (p, q) features of the points that are out; mean, sd: (p,) beliefs there; slope: L; best: m.
    """

    inputs: Inputs
    centres: Array
    mean: Array
    sd: Array
    slope: float
    best: float
    also: Chance | None = None

    @classmethod
    def of(
        cls, inputs: Inputs, model: Beliefs, pending: Array, best: float, domain: Domain, rng: np.random.Generator,
        also: Chance | None = None,
    ) -> LocalPenalty:  # fmt: skip
        """From a model whose output 0 is the objective, and (p, D) points that are out."""
        moments = model.forward(pending)
        mean, sd = moments.mean[0].mean(axis=1), np.sqrt(np.maximum(moments.variance[0], SMALLEST_SD**2))
        return cls(inputs, inputs.features(pending), mean, sd, largest_slope(model, domain, rng), best, also)

    def log_chance(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        """(q,) values and their (q, D) gradients (or zeros)."""
        away = self.inputs.features(X)[:, None, :] - self.centres[None]
        distance = np.sqrt((away**2).sum(axis=2))
        reach = self.mean - self.best
        value, by_mean, _ = log_probability_below(reach - self.slope * distance, self.sd, 0.0)
        total, gradient = value.sum(axis=1), np.zeros_like(X)
        if with_gradient:
            weights = -by_mean * self.slope / np.maximum(distance, 1e-300)
            gradient = self.inputs.in_columns((weights[:, :, None] * away).sum(axis=1))
        if self.also is not None:
            chance, slope = self.also.log_chance(X, with_gradient)
            total, gradient = total + chance, gradient + slope
        return total, gradient


def largest_slope(model: Beliefs, domain: Domain, rng: np.random.Generator) -> float:
    """The largest norm of the gradient of the mean of output 0: over points of the domain, then near the steepest."""

    def norms(X: Array) -> Array:
        by_x, _ = model.slopes(model.forward(X))
        return np.asarray(np.sqrt((by_x[0] ** 2).sum(axis=1)))

    rows = domain.sample(POINTS, rng)
    found = norms(rows)
    steepest = rows[np.argsort(-found, kind="stable")[:STEEPEST]]
    near = np.repeat(steepest, STEEPEST, axis=0)
    near = near + 0.03 * rng.standard_normal(near.shape) * domain.continuous
    return max(float(found.max()), float(norms(domain.canonical(near)).max()), LEAST_SLOPE)
