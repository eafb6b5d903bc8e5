"""Optuna's TPE and its Gaussian-process sampler, by ask and tell."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Any

from bbopt.compare.peer import Toolkit, quiet
from bbopt.compare.view import Result, View

__all__ = ["OptunaGP", "OptunaTPE"]


class _Search:
    """Ordered choices are whole numbers, their places in the list; conditional parameters are always there."""

    def __init__(self, view: View, sampler: Any) -> None:
        import optuna
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._view = view
        self._study = optuna.create_study(sampler=sampler)
        self._space: dict[str, Any] = {}
        for column in view.columns:
            if column.kind == "category":
                self._space[column.key] = CategoricalDistribution(tuple(range(column.levels)))
            elif column.kind == "float":
                self._space[column.key] = FloatDistribution(column.low, column.high, column.log, column.step)
            else:
                step = 1 if column.step is None else int(column.step)
                self._space[column.key] = IntDistribution(int(column.low), int(column.high), column.log, step)

    def ask(self) -> dict[str, Any]:
        with quiet():
            self._trial = self._study.ask(self._space)
        values = [self._trial.params[column.key] for column in self._view.columns]
        return self._view.of_user(
            [
                column.choices[int(v)] if column.chosen else v
                for column, v in zip(self._view.columns, values, strict=True)
            ]
        )

    def tell(self, params: dict[str, Any], result: Result | None) -> None:
        import optuna

        with quiet():
            if result is None:
                self._study.tell(self._trial, state=optuna.trial.TrialState.FAIL)
                return
            for j, value in enumerate(result.G.tolist()):
                self._trial.set_constraint(f"g{j}", value)
            self._study.tell(self._trial, result.y)

    def add(self, params: dict[str, Any], result: Result) -> None:
        """A point that was never asked."""
        import optuna

        limits = {f"g{j}": value for j, value in enumerate(result.G.tolist())}
        values = dict(zip(self._space, self._view.to_user(params), strict=True))
        with quiet():
            trial = optuna.trial.create_trial(
                value=result.y, params=values, distributions=self._space, constraints=limits or None
            )
            self._study.add_trial(trial)


class _Optuna(Toolkit):
    package = module = "optuna"

    def refuses(self, view: View) -> str | None:
        steps = [c.key for c in view.columns if c.log and c.step is not None and c.step != 1]
        return f"Optuna has no steps on logarithmic axes ({', '.join(steps)})" if steps else None


@dataclass(frozen=True)
class OptunaTPE(_Optuna):
    """Its default sampler."""

    name: str = "optuna-tpe"
    settings: str = (
        "TPESampler(seed=): Optuna's default, as it comes (10 random points first); constraints by Trial.set_constraint; "
        "ordered choices as whole numbers"
    )

    def start(self, view: View, seed: int, budget: int) -> _Search:
        import optuna

        with quiet():
            return _Search(view, optuna.samplers.TPESampler(seed=seed))


@dataclass(frozen=True)
class OptunaGP(_Optuna):
    """Its sampler with Gaussian processes; needs torch too."""

    name: str = "optuna-gp"
    settings: str = (
        "GPSampler(seed=, deterministic_objective=True where the task declares no noise): as Optuna's documentation of "
        "GPSampler advises (10 random points first); constraints by Trial.set_constraint; ordered choices as whole numbers"
    )

    def version(self) -> str:
        return f"{super().version()}, torch {importlib.metadata.version('torch')}"

    def slow(self, view: View) -> bool:
        return view.constraints > 1

    def start(self, view: View, seed: int, budget: int) -> _Search:
        import optuna

        with quiet():
            sampler = optuna.samplers.GPSampler(seed=seed, deterministic_objective=not view.task.noisy)
            return _Search(view, sampler)
