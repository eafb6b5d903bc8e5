"""Expected improvement under constraints on mixtures of Gaussians, with gradients through the network.

    cei       log EI(x) + sum_c log P(g_c(x) <= limit_c)
    cei+      log EI(x) + sum_c log min(1, 2 P(g_c(x) <= limit_c))
    feasible  sum_c log P(g_c(x) <= limit_c), while nothing feasible is known

EI and P are closed forms of the mixture (`surrogates.pfn.mixture`), not of a Gaussian with its moments. The names are those
of Yu, Picard, Ahmed 2024 (arXiv 2404.04495); as in Gardner et al. 2014 the incumbent is the best FEASIBLE value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbopt.acquisition.constrained import LOG_2, Chance, Rule
from surrogates.pfn.mixture import Mixture
from surrogates.pfn.posterior import PFNPosterior

Array = NDArray[np.float64]
AT_ONCE = 8192  # tokens of one pass through the network


@dataclass(frozen=True, eq=False)
class MixtureEI:
    """The score as a function of points.

    posterior: output 0 is the objective, minimised, the rest are constraints. best: its lowest feasible value in
    standardised units, or None where none is known. limits: (c,) standardised thresholds of the constraints. evaluable:
    the chance that a point works at all, or None if that is everywhere.
    """

    posterior: PFNPosterior
    best: float | None
    limits: Tensor
    rule: Rule = "cei"
    evaluable: Chance | None = None

    def value(self, X: Array) -> Array:
        """(q,) scores of (q, d) points."""
        with torch.no_grad():
            pieces = torch.split(self._features(X), max(1, AT_ONCE // self.posterior.outputs))
            score = torch.cat([self._score(piece) for piece in pieces]).numpy()
        return self._chance(X, score, False)[0]

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        """(q,) scores and (q, d) gradients; zero for category columns."""
        features = self._features(X).requires_grad_(True)
        score = self._score(features)
        (slope,) = torch.autograd.grad(score.sum(), features)
        gradient = self.posterior.inputs.in_columns(np.nan_to_num(slope.numpy()))
        return self._chance(X, score.detach().numpy(), True, gradient)

    def _features(self, X: Array) -> Tensor:
        return torch.from_numpy(np.array(self.posterior.inputs.features(X)))

    def _score(self, features: Tensor) -> Tensor:
        points = features.expand(self.posterior.outputs, *features.shape)
        return self._combine(self.posterior.mixture(points)[0])

    def _combine(self, mixture: Mixture) -> Tensor:
        parts = [part[1:] for part in (mixture.log_weight, mixture.mean, mixture.sd)]
        total = torch.zeros_like(mixture.mean[0, :, 0])
        if len(self.limits):
            below = Mixture(*parts).log_below(self.limits[:, None].expand(parts[0].shape[:-1]))
            if self.rule == "cei+":
                below = (below + LOG_2).clamp_max(0.0)
            total = total + below.sum(0)
        if self.best is None:
            return total
        objective = Mixture(mixture.log_weight[0], mixture.mean[0], mixture.sd[0])
        return total + objective.log_improvement(torch.full_like(total, self.best))

    def _chance(
        self, X: Array, score: Array, with_gradient: bool, gradient: Array | None = None
    ) -> tuple[Array, Array]:
        gradient = np.zeros_like(X) if gradient is None else gradient
        if self.evaluable is None:
            return score, gradient
        chance, slope = self.evaluable.log_chance(X, with_gradient)
        return score + chance, gradient + slope
