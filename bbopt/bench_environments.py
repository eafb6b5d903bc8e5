"""Designs for random surroundings: how far the design that a study names is from the best one, by its true risk.

    python -m bbopt.bench_environments --evaluations 40 --seeds 5

Each problem of the suite "environments" is solved by `environment-gp` and by random search. What is compared is
`problem.risk` of the design that `Optimizer.best` names, less that of the best one, by the same quadrature: told values are those of single environments. CPU
seconds per ask are the median over the last ten asks of each run.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

import problems
from bbopt.optimizer import Optimizer

STRATEGIES = ("environment-gp", "random")
LAST = 10
NODES = 128


@dataclass(frozen=True)
class Run:
    """regret: true risk of the named design less the optimum, for objectives to be minimised; seconds: CPU per ask at the end."""

    regret: float
    seconds: float


def solve(name: str, strategy: str, evaluations: int, seed: int) -> Run:
    """One study of a problem of the suite.

    >>> solve("tail_mean", "random", 5, 0).regret >= 0.0
    True
    """
    problem = problems.get(name)
    assert problem.optimum.params is not None
    opt = Optimizer(problem.task, strategy, seed=seed, budget=evaluations)
    seconds = []
    for _ in range(evaluations):
        started = time.process_time()
        trial = opt.ask()
        seconds.append(time.process_time() - started)
        opt.tell(trial, problem(trial.params))
    best = opt.best()
    assert best is not None
    return Run(
        problem.risk(best.params, NODES) - problem.risk(problem.optimum.params, NODES),
        float(np.median(seconds[-LAST:])),
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 0."""
    parser = argparse.ArgumentParser(description="designs for random surroundings, by their true risk")
    parser.add_argument("problem", nargs="*", help="of the suite environments; all by default")
    parser.add_argument("--evaluations", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args(arguments)
    print(
        f"median of {given.seeds} seeds after {given.evaluations} evaluations: true risk of the named design less the optimum"
    )
    print(f"{'problem':22s} {'optimum':>10s} " + " ".join(f"{name:>15s}" for name in STRATEGIES) + "   CPU s per ask")
    for name in given.problem or problems.names("environments"):
        runs = {
            kind: [solve(name, kind, given.evaluations, seed) for seed in range(given.seeds)] for kind in STRATEGIES
        }
        regrets = [float(np.median([run.regret for run in runs[kind]])) for kind in STRATEGIES]
        spent = float(np.median([run.seconds for run in runs[STRATEGIES[0]]]))
        print(f"{name:22s} {problems.get(name).optimum.value:10.4g} " + " ".join(f"{r:15.3g}" for r in regrets)
              + f" {spent:15.2f}", flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
