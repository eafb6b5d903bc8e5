"""Sparse axis-aligned lengthscale priors: most columns matter little, few may matter much.

Eriksson and Jankowiak 2021, "High-Dimensional Bayesian Optimization with Sparse Axis-Aligned Subspaces" (arXiv
2103.00349, equations 5 to 8): the inverse squared lengthscales rho_k = 1 / l_k^2 are half-Cauchy with a common scale tau,
which is small. Here tau is given and the rest is found by maximum a posteriori (`surrogates.map_fit`) instead of by Markov
chains, as in BoTorch's `EnsembleMapSaasSingleTaskGP`. With tau free the maximum would lie on the edge of what tau may be:
the joint density grows without limit as all rho_k and tau go to 0 together.

The density is that of rho_k, as in the paper, not that of its logarithm. It is flat and highest at rho_k = 0, so that a
column the data do not ask for goes to the upper bound of its lengthscale and drops out of the distances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from surrogates.map_fit import Fitted, Objective, Prior, fit_map

Array = NDArray[np.float64]
Lengthscales = Literal["dimension", "sparse"]
TAU = 0.1  # the scale of the paper's own prior of tau
LOG_PEAK = float(np.log(2.0 / np.pi))


@dataclass(frozen=True)
class SparsePrior(Prior):
    """Half-Cauchy inverse squared lengthscales of scale tau; scale and noise as in `Prior`.

    A lengthscale well above tau^(-1/2) costs nothing, one well below it 4 nats per factor of e. `lengthscale` is not used.

    >>> prior = SparsePrior.of(Prior.noiseless(50))
    >>> value, slope = prior.log_lengthscales(np.log([1e3, 0.1]))
    >>> slope.round(3).tolist()
    [0.0, 4.0]
    """

    tau: float = TAU

    @classmethod
    def of(cls, prior: Prior, tau: float = TAU) -> SparsePrior:
        """Another prior's scale, noise and nugget with sparse lengthscales."""
        return cls(
            prior.lengthscale, (0.01, 1e4), prior.noise, prior.noise_bounds, prior.nugget, prior.scale,
            prior.scale_bounds, tau,
        )  # fmt: skip

    def start_length(self) -> float:
        """Lengthscales of 1, as BoTorch starts: every column matters until the data say otherwise."""
        return 0.0

    def log_lengthscales(self, theta: Array) -> tuple[float, Array]:
        """Log density of u = rho / tau for (d,) log lengthscales, and its gradient in these.

        log p(u) = log(2 / pi) - log(1 + u^2), and d log u / d log l = -2.
        """
        twice = -4.0 * theta - 2.0 * np.log(self.tau)  # log u^2
        excess = np.logaddexp(0.0, twice)
        return float((LOG_PEAK - excess).sum()), 4.0 * np.exp(twice - excess)


def dense_start(objective: Objective, z: Array) -> Fitted:
    """Where a sparse fit may start besides lengthscales of 1: the most probable model with the usual prior.

    objective: with that prior; z: (n,) standardised targets. With few rows the two starts end in different columns.
    """
    return fit_map(objective.inputs, objective.X, z, objective.prior, objective.kernel, objective=objective)


def relevant_columns(lengthscales: Array, longest: float = 10.0) -> NDArray[np.intp]:
    """Columns whose lengthscale is at most `longest` widths of the unit box, most relevant first.

    >>> relevant_columns(np.array([1e4, 2.0, 0.5, 300.0])).tolist()
    [2, 1]
    """
    order = np.argsort(lengthscales, kind="stable")
    return order[lengthscales[order] <= longest]
