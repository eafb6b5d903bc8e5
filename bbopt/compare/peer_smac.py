"""SMAC with Gaussian processes, or random forests where there are choices."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbopt.compare.peer import Toolkit, quiet
from bbopt.compare.view import Result, View
from bbopt.errors import Exhausted

__all__ = ["Smac"]


class _Search:
    """Everything SMAC writes goes to a temporary folder, which goes with the search."""

    def __init__(self, view: View, seed: int, budget: int) -> None:
        with quiet():
            from ConfigSpace import ConfigurationSpace, Float, Integer
            from ConfigSpace.hyperparameters import CategoricalHyperparameter, OrdinalHyperparameter
            from smac import BlackBoxFacade, HyperparameterOptimizationFacade, Scenario

            self._view, self._worst = view, 0.0
            self._folder = tempfile.TemporaryDirectory(prefix="bbopt-smac-")
            space = ConfigurationSpace(seed=seed)
            for i, column in enumerate(view.columns):
                if column.kind == "category":
                    space.add(CategoricalHyperparameter(f"p{i}", list(range(column.levels))))
                elif column.kind == "ordered":
                    space.add(OrdinalHyperparameter(f"p{i}", list(range(column.levels))))
                elif column.levels:
                    space.add(Integer(f"p{i}", (0, column.levels - 1)))
                else:
                    space.add(Float(f"p{i}", (0.0, 1.0)))
            chosen = any(column.chosen for column in view.columns)
            facade = HyperparameterOptimizationFacade if chosen else BlackBoxFacade
            scenario = Scenario(
                space, deterministic=not view.task.noisy, n_trials=budget, seed=seed,
                output_directory=Path(self._folder.name),
            )  # fmt: skip
            self._smac = facade(scenario, lambda config, seed=0: 0.0, logging_level=False, overwrite=True)

    def ask(self) -> dict[str, Any]:
        with quiet():
            try:
                self._info = self._smac.ask()
            except StopIteration:
                raise Exhausted("smac: no new configuration is left") from None
        x = []
        for i, column in enumerate(self._view.columns):
            value = self._info.config[f"p{i}"]
            x.append(float(column.grid[int(value)]) if column.levels else float(value))
        return self._view.of_encoded(x)

    def tell(self, params: dict[str, Any], result: Result | None) -> None:
        """An evaluation without numbers is a crash that cost as much as the worst so far: its models take no infinity."""
        from smac.runhistory.dataclasses import TrialValue
        from smac.runhistory.enumerations import StatusType

        with quiet():
            if result is None:
                value = TrialValue(cost=self._worst, status=StatusType.CRASHED)
            else:
                self._worst = max(self._worst, result.y)
                value = TrialValue(cost=result.y)
            self._smac.tell(self._info, value, save=False)


@dataclass(frozen=True)
class Smac(Toolkit):
    """It has no notion of constraints on results."""

    package = module = "smac"
    name: str = "smac"
    settings: str = (
        "BlackBoxFacade (Gaussian process), HyperparameterOptimizationFacade (random forest) where there are choices, with "
        "their defaults, by ask and tell: as its table of facades advises; logarithmic axes as their logarithms"
    )

    def refuses(self, view: View) -> str | None:
        return "SMAC has no constraints on results" if view.constraints else None

    def slow(self, view: View) -> bool:
        return True

    def start(self, view: View, seed: int, budget: int) -> _Search:
        return _Search(view, seed, budget)
