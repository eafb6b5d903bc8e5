"""Small tasks for the contract: built from what a strategy claims to handle, so that no test needs to know its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bbopt.parameters import Categorical, Float, Int, Parameter
from bbopt.space import Space
from bbopt.task import Constraint, Objective, Task

Metrics = dict[str, float]


@dataclass(frozen=True)
class Case:
    """A task, its function, and the context values that an ask must bring."""

    task: Task
    function: Callable[[Mapping[str, Any]], Metrics]
    context: Mapping[str, Any] | None = None


def plain(dimension: int = 2) -> Case:
    """A sphere with its minimum 0 at 0.3 in every one of `dimension` columns: nothing that needs an ability."""
    names = [f"x{i}" for i in range(dimension)]
    task = Task(Space({name: Float(0.0, 1.0) for name in names}))
    return Case(task, lambda params: {"objective": math.fsum((params[name] - 0.3) ** 2 for name in names)})


def rich(handles: frozenset[str]) -> Case:
    """Every kind of parameter, condition and metric that `handles` covers, in one small task."""
    parameters: dict[str, Parameter] = {
        "a": Float(0.0, 2.0),
        "rate": Float(1e-4, 1.0, log=True),
        "plate": Float(0.0625, 1.0, step=0.0625),
        "bolts": Int(2, 12),
        "turns": Int(1, 1000, log=True),
        "grade": Categorical(("low", "middle", "high"), ordered=True),
        "pair": Float(-1.0, 1.0, shape=(2,)),
    }
    where = ["a + plate <= 2", "bolts >= 4 or grade == 'high'", "pair[0] <= pair[1]"]
    if "categorical" in handles:
        parameters["steel"] = Categorical((None, "S235", 3, True))
    if "conditional" in handles:
        parameters["welds"] = Int(1, 4, when="bolts >= 8")
        parameters["depth"] = Float(0.0, 1.0, when="welds >= 3")
    drawn = "environment" in handles and not handles & {"constraints", "objectives"}  # which go without it
    if drawn:
        parameters["wind"] = Float(0.0, 10.0, role="environment", normal=(4.0, 2.0))
        parameters["crew"] = Categorical((2, 3, 5), ordered=True, role="environment", weights=(0.5, 0.25, 0.25))
    if "unbounded" in handles:
        parameters["free"] = Float(scale=10.0)
    objectives = [Objective("cost", over="cvar" if drawn else None)]
    if "objectives" in handles:
        objectives.append(Objective("strength", maximize=True))
    constraints = [Constraint("load", lower=0.1, upper=1.5)] if "constraints" in handles else []
    names = {item.name for item in objectives} | {item.name for item in constraints}

    def function(params: Mapping[str, Any]) -> Metrics:
        metrics = {
            "cost": (params["a"] - 1.0) ** 2
            + 0.1 * (math.log10(params["rate"]) + 2.0) ** 2
            + params["plate"] * params["bolts"] / 12.0
            + 0.1 * math.log(params["turns"])
            + 0.2 * float(params["pair"][1] - params["pair"][0])
            + (0.0 if params.get("steel", "S235") == "S235" else 0.3)
            + 0.1 * params.get("welds", 0)
            + params.get("depth", 0.5) ** 2
            + 0.02 * params.get("wind", 0.0) * params["a"] / params.get("crew", 1)
            + 0.01 * params.get("free", 0.0) ** 2,
            "strength": params["plate"] + params["a"],
            "load": params["a"] * params["plate"],
        }
        return {name: metrics[name] for name in metrics if name in names}

    return Case(
        Task(Space(parameters), objectives=tuple(objectives), constraints=tuple(constraints), where=tuple(where)),
        function,
    )


def small_finite(noise: bool = False) -> Case:
    """27 points: three parameters of three levels each."""
    space = Space(
        i=Int(0, 2), step=Float(0.0, 1.0, step=0.5), grade=Categorical(("low", "middle", "high"), ordered=True)
    )
    grades = ["low", "middle", "high"]
    task = Task(space, objectives=(Objective("objective", noise="unknown" if noise else None),))
    return Case(task, lambda p: {"objective": p["i"] + p["step"] + grades.index(p["grade"]) / 7.0})


def one_point() -> Case:
    """A space with a single point."""
    space = Space(i=Int(3, 3), x=Float(0.25, 0.25), grade=Categorical(("only",), ordered=True))
    return Case(Task(space), lambda params: {"objective": params["x"] * params["i"]})


def needing(ability: str) -> Task:
    """A task that needs one ability and no other."""
    x = Float(0.0, 1.0)
    match ability:
        case "constraints":
            return Task(Space(x=x), constraints=(Constraint("load", upper=1.0),))
        case "objectives":
            return Task(Space(x=x), objectives=(Objective("cost"), Objective("mass")))
        case "noise":
            return Task(Space(x=x), objectives=(Objective("cost", noise="unknown"),))
        case "rankings":
            return Task(Space(x=x), feedback="ranking")
        case "fidelity" | "source" | "context":
            return Task(Space(x=x, extra=Float(0.0, 1.0, role=ability)))
        case "environment":
            return Task(Space(x=x, wind=Float(0.0, 1.0, role="environment")))
        case "categorical":
            return Task(Space(x=x, kind=Categorical(("a", "b", "c"))))
        case "conditional":
            return Task(Space(x=x, y=Float(0.0, 1.0, when="x >= 0.5")))
        case "unbounded":
            return Task(Space(x=x, y=Float(scale=1.0)))
        case _:
            raise ValueError(f"no task for the ability {ability!r}: write one here")
