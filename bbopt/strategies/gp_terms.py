"""What people believe of the optimum and what evaluations cost, as `gp` takes them in: see `bbopt.acquisition.terms`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from bbopt.acquisition.constrained import Chance
from bbopt.acquisition.terms import CostPer, UserPrior
from bbopt.errors import UsageError
from bbopt.parameters import Categorical, Float, Int
from bbopt.strategies.gp_state import GPState
from bbopt.task import Task
from surrogates.columns import Inputs
from surrogates.gp import fit_gp
from surrogates.map_fit import Prior

Array = np.ndarray[Any, np.dtype[Any]]
Cost = Literal["ignored", "told"]
BETA = 10.0  # told rows after which a belief counts as much as one in the formula of piBO, whose default this is
COSTS = 3  # told costs from which on they are modelled
NEWEST = 200  # of them that are
EXAMPLE = "{'x': [centre, spread]} in the parameter's own units, or {'steel': {'S355': 3, 'S235': 1}}"


def read_belief(task: Task, belief: Mapping[str, Any]) -> UserPrior | None:
    """The option `belief` for a task, its weight still 1; None where nothing is believed. Raises UsageError."""
    if not isinstance(belief, Mapping):
        raise UsageError(f"GP: belief: expected {EXAMPLE}; got {belief!r}")
    columns: list[int] = []
    centres: list[float] = []
    spreads: list[float] = []
    choices: dict[int, dict[float, float]] = {}
    for name, entry in belief.items():
        parameter = task.space.parameters.get(name)
        if parameter is None or name in task.space.roles("context"):
            raise UsageError(
                f"GP: belief: {name!r} is no parameter that is chosen; there are {', '.join(task.space.parameters)}"
            )
        if isinstance(parameter, Categorical):
            choices.update(_weights(task, name, parameter, entry))
        elif isinstance(parameter, Float | Int):
            where, centre, spread = _numbers(task, name, parameter, entry)
            columns += where
            centres += centre
            spreads += spread
        else:
            raise UsageError(f"GP: belief: {name} is fixed, there is nothing to believe of it")
    if not columns and not choices:
        return None
    return UserPrior(np.array(columns, np.intp), np.array(centres), np.array(spreads), choices, 1.0)


def _numbers(task: Task, name: str, parameter: Float | Int, entry: Any) -> tuple[list[int], list[float], list[float]]:
    try:
        centre, spread = (float(part) for part in entry)
    except (TypeError, ValueError):
        raise UsageError(f"GP: belief: {name}: expected [centre, spread], two numbers; got {entry!r}") from None
    axis = parameter.axis
    low, high = axis.low, axis.high
    assert low is not None and high is not None, "gp refuses parameters without bounds"
    if not low <= centre <= high:
        raise UsageError(f"GP: belief: {name}: expected a centre within [{low:g}, {high:g}], got {centre:g}")
    if not 0.0 < spread < math.inf:
        raise UsageError(f"GP: belief: {name}: expected a spread above 0, got {spread:g}")
    down, at, up = axis.encode(np.clip(np.array([centre - spread, centre, centre + spread]), low, high)).tolist()
    width = max(at - down, up - at)
    if not width > 0.0:
        raise UsageError(f"GP: belief: {name}: a spread of {spread:g} is too small to be told from 0 on this range")
    index = list(task.space.parameters).index(name)
    where = [j for j, group in enumerate(task.space.columns.group) if group == index]
    return where, [at] * len(where), [width] * len(where)


def _weights(task: Task, name: str, parameter: Categorical, entry: Any) -> dict[int, dict[float, float]]:
    if not isinstance(entry, Mapping) or not entry:
        raise UsageError(f"GP: belief: {name}: expected {{choice: weight}}, got {entry!r}")
    known = {str(choice): choice for choice in parameter.choices}
    weights = dict.fromkeys(known, 0.0)
    for choice, weight in entry.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool) and 0.0 <= weight < math.inf
        if str(choice) not in known or not number:
            raise UsageError(
                f"GP: belief: {name}: expected choices of {', '.join(known)} with weights of at least 0, got {choice!r}: {weight!r}"
            )
        weights[str(choice)] = float(weight)
    total = sum(weights.values())
    if not total > 0.0:
        raise UsageError(f"GP: belief: {name}: expected a weight above 0, got {entry!r}")
    least = 1e-6 * total  # a choice that is not believed in is unlikely, not impossible
    logs: dict[int, dict[float, float]] = {}
    for text, weight in weights.items():
        for column, value in task.space.encode_some({name: known[text]}).items():
            logs.setdefault(column, {})[value] = math.log(max(weight, least) / total)
    return logs


def believed_first(task: Task, prior: UserPrior, rows: Array) -> Array:
    """Rows of a design with the first one at the believed optimum."""
    first = rows[:1].copy()
    first[:, prior.columns] = prior.centre
    for column, logs in prior.choices.items():
        first[:, column] = max(logs, key=lambda value: logs[value])
    first = task.space.canonical(first)
    return np.concatenate([first, rows[1:]]) if task.known(first)[0] else rows


def with_terms(
    task: Task,
    state: GPState,
    belief: Mapping[str, Any],
    cost: Cost,
    budget: int | None,
    inputs: Inputs,
    also: Chance | None,
) -> Chance | None:
    """What is added to the logarithm of an acquisition, `also` included."""
    n = max(len(state.X), 1)
    prior = read_belief(task, belief)
    if prior is not None:
        also = replace(prior, weight=BETA / n, also=also)
    told = np.flatnonzero(state.costs > 0.0)[-NEWEST:] if cost == "told" else np.zeros(0, int)
    left = 1.0 if budget is None else max(0.0, 1.0 - len(state.X) / budget)
    if len(told) < COSTS or left == 0.0:
        return also
    logs = np.log(state.costs[told])
    factor = float(logs.std())
    if not factor > 1e-9:
        return also
    z = ((logs - logs.mean()) / factor)[:, None]
    model = fit_gp(inputs, state.X[told], z, [Prior.botorch(inputs.dimension)])
    return CostPer(model.predictor, left * factor, also)
