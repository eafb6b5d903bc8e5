"""A loop with BoTorch as a competent user writes it from its tutorials."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bbopt.compare.peer import Toolkit, quiet
from bbopt.compare.view import Result, View

__all__ = ["Botorch", "BotorchInferred"]

RESTARTS, RAW = 10, 512
NOISE = 1e-6  # of the variance of an output, where the task declares none


def _output(j: int, samples: Any) -> Any:
    return samples[..., j]


def _objective(samples: Any, X: Any = None) -> Any:
    return samples[..., 0]


class _Search:
    def __init__(self, view: View, seed: int, inferred: bool = False) -> None:
        from scipy.stats import qmc

        self._view, self._seed, self._inferred = view, seed, inferred
        self._X: list[Any] = []
        self._Y: list[list[float]] = []
        d = len(view.columns)
        with quiet():
            uniform = qmc.Sobol(d, seed=seed).random(2 * (d + 1))
        self._initial = list(view.task.space.from_uniform(uniform))
        self._asked = 0

    def ask(self) -> dict[str, Any]:
        import torch

        self._asked += 1
        if self._asked <= len(self._initial):
            return self._view.task.space.decode(self._initial[self._asked - 1])
        if len(self._X) < 2:  # all has failed so far
            rng, space = np.random.default_rng([self._seed, self._asked]), self._view.task.space
            return space.decode(space.from_uniform(rng.random((1, space.dimension)))[0])
        with quiet(), torch.random.fork_rng():
            torch.manual_seed(1000 * self._seed + self._asked)
            return self._view.of_encoded(self._next())

    def _next(self) -> Any:
        import torch
        from botorch.acquisition.analytic import LogExpectedImprovement
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.acquisition.objective import GenericMCObjective
        from botorch.fit import fit_gpytorch_mll
        from botorch.models.gp_regression import SingleTaskGP
        from botorch.models.gp_regression_mixed import MixedSingleTaskGP
        from botorch.models.model_list_gp_regression import ModelListGP
        from botorch.models.transforms.input import Normalize
        from botorch.models.transforms.outcome import Standardize
        from botorch.optim.optimize import optimize_acqf
        from botorch.optim.optimize_mixed import optimize_acqf_mixed_alternating
        from gpytorch.mlls import ExactMarginalLogLikelihood

        view = self._view
        X, Y = torch.as_tensor(np.array(self._X)), torch.as_tensor(np.array(self._Y))
        bounds = torch.as_tensor(view.bounds)
        categories = [i for i, column in enumerate(view.columns) if column.kind == "category"]
        models = []
        noises = [*view.task.noises, *([None] if view.task.where else [])]
        for j in range(Y.shape[1]):
            y = Y[:, j : j + 1]
            noise = (
                None
                if noises[j] is not None or self._inferred
                else torch.full_like(y, NOISE) * y.var().clamp_min(1e-30)
            )
            if categories:
                model: Any = MixedSingleTaskGP(
                    X, y, cat_dims=categories, train_Yvar=noise, outcome_transform=Standardize(1)
                )
            else:
                model = SingleTaskGP(
                    X,
                    y,
                    train_Yvar=noise,
                    outcome_transform=Standardize(1),
                    input_transform=Normalize(X.shape[1], bounds=bounds),
                )
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            models.append(model)
        if view.constraints:
            limits: list[Any] = [partial(_output, j) for j in range(1, Y.shape[1])]
            acquisition: Any = qLogNoisyExpectedImprovement(
                ModelListGP(*models), X, objective=GenericMCObjective(_objective),
                constraints=limits, prune_baseline=True,
            )  # fmt: skip
        else:
            acquisition = LogExpectedImprovement(models[0], best_f=Y[:, 0].max())
        if view.continuous:
            x, _ = optimize_acqf(acquisition, bounds, q=1, num_restarts=RESTARTS, raw_samples=RAW)
        else:
            grids = {i: column.grid.tolist() for i, column in enumerate(view.columns) if column.levels}
            x, _ = optimize_acqf_mixed_alternating(
                acquisition, bounds, q=1, num_restarts=RESTARTS, raw_samples=RAW,
                discrete_dims={i: grid for i, grid in grids.items() if i not in categories},
                cat_dims={i: grids[i] for i in categories},
            )  # fmt: skip
        return x[0].numpy()

    def add(self, params: dict[str, Any], result: Result) -> None:
        """A point that was never asked; it stands for one of the initial ones."""
        self._initial = self._initial[1:]
        self.tell(params, result)

    def tell(self, params: dict[str, Any], result: Result | None) -> None:
        if result is not None:
            self._X.append(self._view.to_encoded(params))
            self._Y.append([-result.y, *result.G.tolist()])


@dataclass(frozen=True)
class Botorch(Toolkit):
    """Failed evaluations are left out of the model."""

    package = module = "botorch"
    name: str = "botorch"
    settings: str = (
        "2 (d + 1) Sobol points, then SingleTaskGP with its defaults and Standardize per output (train_Yvar 1e-6 of the variance where the task declares no noise), fit_gpytorch_mll, LogEI (with "
        "constraints qLogNEI over a ModelListGP), optimize_acqf with 10 restarts and 512 raw samples (discrete columns: "
        "optimize_acqf_mixed_alternating): as BoTorch's tutorials on closed-loop, constrained and mixed optimization"
    )

    def slow(self, view: View) -> bool:
        return True

    def start(self, view: View, seed: int, budget: int) -> _Search:
        return _Search(view, seed)


@dataclass(frozen=True)
class BotorchInferred(Botorch):
    """The same loop without a word on noise: SingleTaskGP(X, Y) infers it, which takes longer and finds less."""

    name: str = "bbopt.compare.peer_botorch:BotorchInferred"

    def start(self, view: View, seed: int, budget: int) -> _Search:
        return _Search(view, seed, inferred=True)
