"""What `best` and `recommend` give where nature draws some parameters: a design, without an environment.

No told value is the risk of a design, which is made of its values in all environments: a design is judged by belief.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bbopt.task import Task
from bbopt.trial import Trial

Array = np.ndarray[Any, np.dtype[Any]]


def believed_design(task: Task, row: Array, mean: float, sd: float) -> Trial:
    """The design of a row (D,) as a trial of number -1 and status "believed", as it is no row of the study: params of the
    design alone, and for its value the posterior mean of its risk, given in the inside sign, with the standard deviation.

    >>> from bbopt.space import Float, Space
    >>> task = Task(Space(x=Float(0, 1), wind=Float(0, 9, role="environment")))
    >>> trial = believed_design(task, np.array([0.5, 0.1]), 1.5, 0.25)
    >>> trial.params, dict(trial.values), dict(trial.std), trial.note
    ({'x': 0.5}, {'objective': 1.5}, {'objective': 0.25}, 'mean over wind, as the model believes')
    """
    name = task.objectives[0].name
    point = task.space.decode(row)
    context = {key: point.pop(key) for key in task.space.roles("context") if key in point}
    params = {key: value for key, value in point.items() if key not in task.environment}
    values = task.metrics_of(np.array([mean]), np.zeros(0))
    note = f"{task.objectives[0].risk_text} over {', '.join(task.environment)}, as the model believes"
    return Trial(
        -1, params, status="believed", context=context, values=values, std={name: float(sd)}, feasible=True, note=note
    )


def told_design(task: Task, trial: Trial) -> Trial:
    """A told trial with the params of its design alone, for strategies without a belief; its note says what its value is.

    >>> from bbopt.space import Float, Space
    >>> task = Task(Space(x=Float(0, 1), wind=Float(0, 9, role="environment")))
    >>> told_design(task, Trial(3, {"x": 0.5, "wind": 7.0}, values={"objective": 2.0})).params
    {'x': 0.5}
    """
    params = {key: value for key, value in trial.params.items() if key not in task.environment}
    where = ", ".join(f"{key}={trial.params[key]!r}" for key in task.environment)
    risk = f"{task.objectives[0].risk_text} over {', '.join(task.environment)}"
    return replace(
        trial, params=params, note=f"told in one environment ({where}); the strategy has no belief of the {risk}"
    )
