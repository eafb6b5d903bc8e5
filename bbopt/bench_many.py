"""Many columns: what `gp` (two priors of its lengthscales), `turbo`, `cmaes` and `random` find, and how long an ask takes.

    python -m bbopt.bench_many                          # ask times at 200 columns and 1,000 rows, and the small cases
    python -m bbopt.bench_many --all --seeds 3          # every case (hours)
    python -m bbopt.bench_many --out FOLDER             # keeps each run in a file of its own: stopped, it goes on from there

Ask times are CPU seconds on one thread. `gp` and `turbo` are told 960 rows of a function of 200 columns, 40 columns of
which matter, and are then asked and told in turn up to 1,000, refits among them: the 95th percentile of the asks, the first aside, which has no
hyperparameters to start from, must be below 2. Quality: the median over seeds of the gap to the optimum after all
evaluations, "none" where most runs found nothing feasible. A case with "of N" has its
function's columns among N, the others do nothing. The last line is the verdict; the exit status is 1 if a time is missed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bbopt.errors import UsageError
from bbopt.optimizer import Optimizer
from bbopt.space import Float, Space
from bbopt.strategies.auto import choose
from bbopt.strategy import Strategy
from bbopt.table import configured
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]
COLUMNS, ROWS, LIMIT = 200, 960, 2.0
STRATEGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "cmaes": ("cmaes", {}),
    "gp": ("gp", {}),
    "gp sparse": ("gp", {"lengthscales": "sparse"}),
    "turbo": ("turbo", {}),
    "auto": ("auto", {}),
}


@dataclass(frozen=True)
class Case:
    """A problem of the collection, evaluations of a run, and among how many columns those that matter are hidden (0: none
    are added)."""

    problem: str
    evaluations: int
    hidden: int = 0
    small: bool = False

    @property
    def name(self) -> str:
        return self.problem + (f" of {self.hidden}" if self.hidden else "")


CASES = (
    Case("ackley_20@shift0", 200, small=True),
    Case("hartmann6", 100, 50, small=True),
    Case("rosenbrock_20", 200),
    Case("levy_20@shift0", 200),
    Case("ellipsoid_20@shift0+rotate0", 200),
    Case("ackley_60@shift0", 200),
    Case("rosenbrock_60", 200),
    Case("levy_100@shift0", 200),
    Case("ellipsoid_100@shift0+rotate0", 200),
    Case("hartmann6", 200, 100),
    Case("ackley_constrained_10", 100),
    Case("keane_bump_18", 100),
)


def problem_of(case: Case) -> tuple[Task, Callable[[dict[str, Any]], dict[str, float]], float]:
    """The task, its function, and the value of its optimum."""
    import problems

    found = problems.get(case.problem)
    optimum = found.optimum.value
    assert optimum is not None, "every case here has a known optimum"
    if not case.hidden:
        return found.task, found, float(optimum)
    inner = found.task.space
    places = np.random.default_rng(0).permutation(case.hidden)[: inner.dimension]
    task = Task(Space(x=Float(0.0, 1.0, shape=(case.hidden,))), found.task.objectives)

    def function(params: dict[str, Any]) -> dict[str, float]:
        return dict(found(inner.decode(np.asarray(params["x"])[places])))

    return task, function, float(optimum)


def strategy_of(name: str, task: Task, budget: int) -> Strategy:
    """A strategy by its name in this table, told what is planned where it asks for that."""
    kind, options = STRATEGIES[name]
    if kind == "auto":
        return choose(task, budget)[0]
    return configured(kind, {**options, **({"budget": budget} if kind in ("gp", "turbo") else {})})


def run(case: Case, name: str, seed: int) -> dict[str, Any]:
    """Gap to the optimum after all evaluations (None: nothing feasible), and CPU seconds per ask."""
    task, function, optimum = problem_of(case)
    opt = Optimizer(task, strategy_of(name, task, case.evaluations), seed=seed)
    asks = []
    for _ in range(case.evaluations):
        started = time.process_time()
        trial = opt.ask()
        asks.append(time.process_time() - started)
        opt.tell(trial, function(trial.params))
    best = opt.best()
    objective = task.objectives[0]
    value = None if best is None or best.values is None else best.values[objective.name]
    gap = None if value is None else (optimum - value if objective.maximize else value - optimum)
    return {"gap": gap, "ask": float(np.mean(asks)), "p95": float(np.quantile(asks, 0.95))}


def kept(out: Path | None, case: Case, name: str, seed: int) -> dict[str, Any]:
    """A run, from its file where there is one."""
    if out is None:
        return run(case, name, seed)
    path = out / f"{case.name}-{case.evaluations}-{name}-{seed}.json".replace(" ", "_")
    if path.exists():
        return dict(json.loads(path.read_text()))
    found = run(case, name, seed)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found))
    part.replace(path)
    return found


def asks(name: str, columns: int = COLUMNS, rows: int = ROWS, count: int = 41) -> Array:
    """CPU seconds of `count` asks in turn, each told, after `rows` rows, half of them around the best of the others."""
    task, rng = Task(Space(x=Float(0.0, 1.0, shape=(columns,)))), np.random.default_rng(0)
    centre, matter = rng.uniform(0.2, 0.8, columns), np.arange(columns) % 5 == 0

    def value(X: Array) -> Array:
        return np.asarray((((X - centre) ** 2) @ matter) + 0.3 * np.sin(8.0 * X[:, 0] * X[:, 1]))

    X = rng.random((rows, columns))
    far = rows // 2
    best = X[value(X[:far]).argmin()]
    X[far:] = np.clip(best + 0.1 * rng.standard_normal((rows - far, columns)), 0.0, 1.0)
    kind, options = STRATEGIES[name]
    opt = Optimizer(task, configured(kind, {**options, "initial": 1}))
    for x, y in zip(X, value(X), strict=True):
        opt.add({"x": x.tolist()}, float(y))
    spent = []
    for _ in range(count):
        started = time.process_time()
        trial = opt.ask()
        spent.append(time.process_time() - started)
        opt.tell(trial, float(value(np.asarray(trial.params["x"])[None])[0]))
    return np.array(spent)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; 1 if an ask at 200 columns and 1,000 rows takes too long."""
    parser = argparse.ArgumentParser(description="many columns: quality and ask time")
    parser.add_argument("--all", action="store_true", help="every case, not only the small ones")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--case", action="append", help="cases whose name contains this")
    parser.add_argument("--strategy", action="append", choices=list(STRATEGIES), help="only these")
    parser.add_argument("--no-times", action="store_true", help="leave out the ask times")
    parser.add_argument("--out", type=Path, help="a folder for finished runs")
    given = parser.parse_args(arguments)
    if given.seeds < 1:
        raise UsageError(f"--seeds: expected at least 1, got {given.seeds}")
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
    cases = [case for case in CASES if (given.all or given.case or case.small)
             and (not given.case or any(part in case.name for part in given.case))]  # fmt: skip
    names = given.strategy or list(STRATEGIES)
    print(f"gap to the optimum (CPU seconds per ask), median of {given.seeds} seed(s)")
    print(f"{'case':32}{'evaluations':>12}" + "".join(f"{name:>20}" for name in names))
    for case in cases:
        print(f"{case.name:32}{case.evaluations:12}", end="", flush=True)
        for name in names:
            runs = [kept(given.out, case, name, seed) for seed in range(given.seeds)]
            middle = float(np.median([np.inf if each["gap"] is None else float(each["gap"]) for each in runs]))
            text = "none" if np.isinf(middle) else f"{middle:.4g}"
            print(f"{text:>12} ({np.median([each['ask'] for each in runs]):.2f})".rjust(20), end="", flush=True)
        print()
    if given.no_times:
        return 0
    print(f"\nCPU seconds of an ask with {COLUMNS} columns and {ROWS} to 1000 rows")
    print(f"{'strategy':12}{'first':>8}{'median':>8}{'95 %':>8}{'most':>8}")
    good = True
    for name in ("gp", "gp sparse", "turbo"):
        spent = asks(name)
        late = float(np.quantile(spent[1:], 0.95))
        good = good and late < LIMIT
        print(f"{name:12}{spent[0]:8.2f}{np.median(spent[1:]):8.2f}{late:8.2f}{spent[1:].max():8.2f}", flush=True)
    print(f"95 % of asks below {LIMIT:g} s: " + ("met" if good else "MISSED"))
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
