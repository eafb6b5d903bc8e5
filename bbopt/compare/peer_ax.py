"""Ax by its client, as its documentation begins."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from bbopt.compare.peer import Toolkit, quiet
from bbopt.compare.view import Result, View

__all__ = ["Ax"]


class _Search:
    """Metrics are told in the user's units with the limits the task has; ordered choices are ordered numbers."""

    def __init__(self, view: View, seed: int) -> None:
        with quiet():
            from ax.api.client import Client
            from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
            from ax.utils.common.logger import set_stderr_log_level

            set_stderr_log_level(logging.ERROR)
            self._view = view
            parameters: list[Any] = []
            for i, column in enumerate(view.columns):
                if column.chosen:
                    kept = list(range(column.levels))
                    parameters.append(
                        ChoiceParameterConfig(
                            name=f"p{i}", values=kept, parameter_type="int", is_ordered=column.kind == "ordered"
                        )
                    )
                    continue
                parameters.append(
                    RangeParameterConfig(
                        name=f"p{i}",
                        bounds=(column.low, column.high),
                        parameter_type="float" if column.kind == "float" else "int",
                        step_size=column.step if column.kind == "float" or column.step != 1 else None,
                        scaling="log" if column.log else None,
                    )
                )
            self._client = Client(random_seed=seed)
            self._client.configure_experiment(parameters=parameters)
            task = view.task
            self._metrics = {name: f"m{j}" for j, name in enumerate(task.metrics)}
            objective = task.objectives[0]
            sign = "" if objective.maximize else "-"
            limits = []
            for item in task.constraints:
                for direction, limit in item.limits:
                    limits.append(f"{self._metrics[item.name]} {'<=' if direction > 0 else '>='} {limit!r}")
            if task.where:
                limits.append("known <= 0.0")
            self._client.configure_optimization(
                objective=sign + self._metrics[objective.name], outcome_constraints=limits or None
            )
            self._client.configure_generation_strategy(initialization_random_seed=seed)

    def ask(self) -> dict[str, Any]:
        with quiet():
            ((self._index, values),) = self._client.get_next_trials(max_trials=1).items()
        flat = [values[f"p{i}"] for i in range(len(self._view.columns))]
        return self._view.of_user(
            [column.choices[int(v)] if column.chosen else v for column, v in zip(self._view.columns, flat, strict=True)]
        )

    def tell(self, params: dict[str, Any], result: Result | None) -> None:
        with quiet():
            if result is None:
                self._client.mark_trial_failed(self._index)
                return
            self._client.complete_trial(self._index, raw_data=self._data(result))

    def add(self, params: dict[str, Any], result: Result) -> None:
        """A point that was never asked."""
        values = {f"p{i}": value for i, value in enumerate(self._view.to_user(params))}
        with quiet():
            index = self._client.attach_trial(values)
            self._client.complete_trial(index, raw_data=self._data(result))

    def _data(self, result: Result) -> dict[str, Any]:
        """Metrics without a declared noise are told with a standard error of zero."""
        task = self._view.task
        noises = {item.name: item.noise for item in task.objectives} | {
            item.name: item.noise for item in task.constraints
        }
        data: dict[str, Any] = {}
        for name, value in result.metrics.items():
            data[self._metrics[name]] = (float(value), 0.0) if noises[name] is None else float(value)
        if task.where:
            data["known"] = (float(result.G[-1]), 0.0)
        return data


@dataclass(frozen=True)
class Ax(Toolkit):
    """Its default generation strategy."""

    package, module = "ax-platform", "ax"
    name: str = "ax"
    settings: str = (
        "Client with the default generation strategy (the centre, Sobol points, then its own choice of BoTorch model), "
        "configure_optimization with outcome constraints, values told as (value, 0.0) where the task declares no noise: as Ax's introduction and its documentation of raw_data have it"
    )

    def slow(self, view: View) -> bool:
        return True

    def start(self, view: View, seed: int, budget: int) -> _Search:
        return _Search(view, seed)
