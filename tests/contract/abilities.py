"""A small task for each ability, on which a strategy that claims it must beat random search (law 7).

`score(strategy, rows, seed)` is lower for better and means the same for every strategy. A new ability needs a contest here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbopt.optimizer import Optimizer
from bbopt.parameters import Categorical, Float, Int, Parameter
from bbopt.space import Space
from bbopt.strategy import Strategy
from bbopt.task import Constraint, Objective, Task
from bbopt.trial import Trial

NOTHING = 10.0  # the score of a run without a feasible point; worse than any point of these tasks


@dataclass(frozen=True)
class Contest:
    """rows: evaluations of one run; factor: the median score must be below this share of random search's median.

    The factors leave room: the values found when this was written stand in `test_abilities.py`.
    """

    score: Callable[[Strategy, int, int], float]
    rows: int
    factor: float


def one(opt: Optimizer, context: Mapping[str, Any] | None = None, fixed: Mapping[str, Any] | None = None) -> Trial:
    return opt.ask(context=context, fixed=fixed)


def cube(n: int) -> dict[str, Parameter]:
    return {f"x{i}": Float(0.0, 1.0) for i in range(n)}


def bowl(params: Mapping[str, Any], centre: tuple[float, ...]) -> float:
    return math.fsum((params[f"x{i}"] - c) ** 2 for i, c in enumerate(centre))


def constraints(strategy: Strategy, rows: int, seed: int) -> float:
    """The lowest corner of a small ball (3 % of the cube): how far the best feasible point is above it."""
    task = Task(Space(cube(3)), (Objective("sum"),), (Constraint("distance", upper=0.04),))
    opt = Optimizer(task, strategy, seed=seed)
    for _ in range(rows):
        trial = one(opt)
        opt.tell(trial, {"sum": sum(trial.params.values()), "distance": bowl(trial.params, (0.7, 0.2, 0.5))})
    best = opt.best()
    return NOTHING if best is None or best.values is None else best.values["sum"] - (1.4 - 0.2 * math.sqrt(3.0))


def noise(strategy: Strategy, rows: int, seed: int) -> float:
    """The true value of the recommended point, under noise as large as a tenth of the range."""
    task = Task(Space(cube(3)), (Objective("value", noise=0.1),))
    opt = Optimizer(task, strategy, seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(rows):
        trial = one(opt)
        opt.tell(trial, bowl(trial.params, (0.3, 0.6, 0.8)) + 0.1 * rng.normal())
    chosen = opt.recommend()
    return NOTHING if chosen is None else bowl(chosen.params, (0.3, 0.6, 0.8))


def rankings(strategy: Strategy, rows: int, seed: int) -> float:
    """The true value of the winner of the last slate, from orders alone."""
    task = Task(Space(cube(3)), feedback="ranking")
    opt = Optimizer(task, strategy, seed=seed)
    asked = 0
    while asked < rows:
        query = opt.ask_query(5)
        asked += query.size
        slate = [opt.trial(number) for number in query.numbers]
        opt.rank(sorted(slate, key=lambda trial: bowl(trial.params, (0.3, 0.6, 0.8))))
    best = opt.best()
    return NOTHING if best is None else bowl(best.params, (0.3, 0.6, 0.8))


def categorical(strategy: Strategy, rows: int, seed: int) -> float:
    """Four unordered choices of seven with independent prices."""
    prices = np.random.default_rng(7).permuted(np.tile(np.arange(7) / 6.0, (4, 1)), axis=1)
    task = Task(Space({f"c{i}": Categorical(tuple("abcdefg")) for i in range(4)}))
    opt = Optimizer(task, strategy, seed=seed)
    for _ in range(rows):
        trial = one(opt)
        opt.tell(trial, float(sum(prices[i]["abcdefg".index(trial.params[f"c{i}"])] for i in range(4))))
    best = opt.best()
    return NOTHING if best is None or best.values is None else best.values["objective"]


def conditional(strategy: Strategy, rows: int, seed: int) -> float:
    """Three branches with two numbers of their own each; the middle one holds the optimum."""
    space = {"branch": Int(0, 2)} | {
        f"x{i}{branch}": Float(0.0, 1.0, when=f"branch == {branch}") for branch in range(3) for i in range(2)
    }
    opt = Optimizer(Task(Space(space)), strategy, seed=seed)
    for _ in range(rows):
        trial = one(opt)
        branch = trial.params["branch"]
        x, y = trial.params[f"x0{branch}"], trial.params[f"x1{branch}"]
        opt.tell(trial, (0.2, 0.0, 0.1)[branch] + (x - 0.3) ** 2 + (y - 0.8) ** 2)
    best = opt.best()
    return NOTHING if best is None or best.values is None else best.values["objective"]


def fixed(strategy: Strategy, rows: int, seed: int) -> float:
    """The best point on a plane that is off the free optimum; every third ask is free."""
    opt = Optimizer(Task(Space(cube(3))), strategy, seed=seed)
    found = NOTHING
    for step in range(rows):
        trial = one(opt, fixed={"x0": 0.75} if step % 3 else None)
        value = bowl(trial.params, (0.3, 0.6, 0.8)) + trial.params["x0"] * (1.0 - trial.params["x1"])
        opt.tell(trial, value)
        if step % 3:
            found = min(found, value)
    x1 = 0.6 + 0.375
    return found - (0.45**2 + (x1 - 0.6) ** 2 + 0.75 * (1.0 - x1))


def context(strategy: Strategy, rows: int, seed: int) -> float:
    """Mean regret in the last third, where the best design follows a context that comes at random."""
    task = Task(Space({**cube(2), "heat": Float(0.0, 1.0, role="context")}))
    opt = Optimizer(task, strategy, seed=seed)
    rng = np.random.default_rng(seed)
    regret = []
    for _ in range(rows):
        heat = float(rng.random())
        trial = one(opt, context={"heat": heat})
        value = bowl(trial.params, (0.2 + 0.6 * heat, 0.9 - 0.5 * heat))
        regret.append(value)
        opt.tell(trial, value)
    return float(np.mean(regret[-rows // 3 :]))


def environment(strategy: Strategy, rows: int, seed: int) -> float:
    """The true mean, over what nature draws, of the recommended design: bold designs have the lowest single values."""
    task = Task(Space({**cube(2), "wind": Float(0.0, 1.0, role="environment")}))
    opt = Optimizer(task, strategy, seed=seed)
    for _ in range(rows):
        trial = one(opt)
        opt.tell(trial, bowl(trial.params, (0.3, 0.6)) + 2.0 * trial.params["x0"] * (trial.params["wind"] - 0.5))
    chosen = opt.recommend()
    return NOTHING if chosen is None else bowl(chosen.params, (0.3, 0.6))


def unbounded(strategy: Strategy, rows: int, seed: int) -> float:
    """An optimum three scales from the origin, in four directions."""
    task = Task(Space({f"x{i}": Float(scale=1.0) for i in range(4)}))
    opt = Optimizer(task, strategy, seed=seed)
    for _ in range(rows):
        trial = one(opt)
        opt.tell(trial, bowl(trial.params, (3.0, -3.0, 3.0, 0.0)))
    best = opt.best()
    return NOTHING if best is None or best.values is None else best.values["objective"]


def objectives(strategy: Strategy, rows: int, seed: int) -> float:
    """The part of the square below (1.5, 1.5) that the front leaves uncovered; two bowls in four variables."""
    task = Task(Space(cube(4)), (Objective("a"), Objective("b")))
    opt = Optimizer(task, strategy, seed=seed)
    for _ in range(rows):
        trial = one(opt)
        opt.tell(trial, {"a": bowl(trial.params, (0.2,) * 4), "b": bowl(trial.params, (0.8,) * 4)})
    corner, area = 1.5, 0.0
    front = sorted(((t.values or {})["a"], (t.values or {})["b"]) for t in opt.front())
    for a, b in front:
        if a < 1.5 and b < corner:
            area += (1.5 - a) * (corner - b)
            corner = b
    return 1.5**2 - area


CONTESTS: dict[str, Contest] = {
    "constraints": Contest(constraints, 60, 0.7),
    "noise": Contest(noise, 60, 0.7),
    "rankings": Contest(rankings, 100, 0.5),
    "categorical": Contest(categorical, 80, 0.8),
    "conditional": Contest(conditional, 80, 0.7),
    "fixed": Contest(fixed, 60, 0.7),
    "context": Contest(context, 60, 0.5),
    "environment": Contest(environment, 20, 0.5),
    "unbounded": Contest(unbounded, 120, 0.5),
    "objectives": Contest(objectives, 80, 0.95),
}
