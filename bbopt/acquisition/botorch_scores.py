"""Acquisitions that are BoTorch's own, on our posterior (`GaussianProcess.botorch_model`): predictive entropy search, one-shot KG.

Predictive entropy search (Hernández-Lobato, Hoffman, Ghahramani 2014, arXiv 1406.2541) is a function of points, used like every
other score. The one-shot knowledge gradient (Balandat et al. 2020, arXiv 1910.06403, section 4.2) is optimised together with
the best points of its fantasies, so it gives candidates, not a score; it is for boxes of numbers without constraints.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbopt.acquisition.constrained import SMALLEST_SD, Chance
from bbopt.acquisition.domain import Domain
from bbopt.errors import MissingPackage
from surrogates.gp import GaussianProcess
from surrogates.improvement import log_probability_below

try:
    with warnings.catch_warnings():
        # linear_operator compiles two functions with it on import, which torch 2.9 and later deprecates
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        import torch
        from botorch.acquisition.knowledge_gradient import qKnowledgeGradient
        from botorch.acquisition.objective import ScalarizedPosteriorTransform
        from botorch.acquisition.predictive_entropy_search import qPredictiveEntropySearch
        from botorch.optim.optimize import optimize_acqf
        from botorch.sampling.normal import SobolQMCNormalSampler
except ImportError as error:
    raise MissingPackage(
        f"expected torch and BoTorch for acquisition 'pes' or 'one-shot-kg', got {error}; install them with pip install 'bbopt[botorch]'"
    ) from error

Array = NDArray[np.float64]
SMALLEST = 1e-300
FANTASIES, RESTARTS, RAW, ITERATIONS = 16, 4, 64, 50


@dataclass(frozen=True, eq=False)
class PredictiveEntropy:
    """The logarithm of the information about the place of the minimum, times the probability of feasibility.

    model: output 0 is the objective, the rest are constraints with `limits` (c,); search: BoTorch's acquisition on the
    objective; evaluable: see ConstrainedLogEI. Where it is zero or below, which its approximation allows, the score is a floor.
    """

    model: GaussianProcess
    search: Any
    limits: Array
    evaluable: Chance | None = None

    def value(self, X: Array) -> Array:
        """(q,) log values of (q, d) points."""
        return self._evaluate(X, False)[0]

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        """(q,) log values and (q, d) gradients; zero for category columns."""
        return self._evaluate(X, True)

    def _evaluate(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        rows = torch.tensor(X, dtype=torch.float64)[:, None, :].requires_grad_(with_gradient)
        found = self.search(rows)
        gain = found.detach().numpy()
        total, gradient = np.maximum(gain, SMALLEST), np.zeros_like(X)
        value = np.log(total)
        if with_gradient:
            (slope,) = torch.autograd.grad(found.sum(), rows)
            by_x = np.where((gain > SMALLEST)[:, None], np.nan_to_num(slope[:, 0].numpy()) / total[:, None], 0.0)
            numbers = np.array([kind != "category" for kind in self.model.inputs.kind])
            gradient = np.where(numbers, by_x, 0.0)
        if len(self.limits):
            predictor = self.model.predictor
            moments = predictor.forward(X)
            sd = np.sqrt(np.maximum(moments.variance, SMALLEST_SD**2))
            chances, d_mean, d_sd = log_probability_below(moments.mean[1:, :, 0], sd[1:], self.limits[:, None])
            value = value + chances.sum(axis=0)
            if with_gradient:
                by_mean, by_variance = np.zeros_like(moments.mean), np.zeros_like(sd)
                by_mean[1:, :, 0], by_variance[1:] = d_mean, d_sd / (2.0 * sd[1:])
                gradient = gradient + predictor.backward(moments, by_mean, by_variance)
        if self.evaluable is not None:
            chance, slope_of = self.evaluable.log_chance(X, with_gradient)
            value, gradient = value + chance, gradient + slope_of
        return value, gradient


def predictive_entropy(
    gp: GaussianProcess, optima: Array, limits: Array, evaluable: Chance | None
) -> PredictiveEntropy:
    """The score for (k, D) sampled places of the minimum."""
    search = qPredictiveEntropySearch(gp.output(0).botorch_model(), torch.tensor(optima), maximize=False)
    return PredictiveEntropy(gp, search, limits, evaluable)


def one_shot_candidates(gp: GaussianProcess, domain: Domain, rng: np.random.Generator) -> Array:
    """(1, D) the point that the one-shot knowledge gradient of output 0 is largest at. Torch's own generator stays as it is."""
    model, seed = gp.output(0).botorch_model(), int(rng.integers(2**31))
    sampler = SobolQMCNormalSampler(torch.Size([FANTASIES]), seed=seed)
    down = ScalarizedPosteriorTransform(torch.tensor([-1.0], dtype=torch.float64))
    knowledge = qKnowledgeGradient(model, num_fantasies=FANTASIES, sampler=sampler, posterior_transform=down)
    bounds = torch.tensor(np.stack([domain.low, domain.high]), dtype=torch.float64)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        warnings.simplefilter("ignore", RuntimeWarning)  # a restart that does not converge is only one of several
        best, _ = optimize_acqf(
            knowledge, bounds, q=1, num_restarts=RESTARTS, raw_samples=RAW, options={"maxiter": ITERATIONS},
            fixed_features=domain.fixed or None,
        )  # fmt: skip
    return np.asarray(best.numpy())
