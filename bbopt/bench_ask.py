"""How long a strategy with a model takes to ask, beside BoTorch's own fit and optimisation of the same acquisition.

    python -m bbopt.bench_ask                  # gp
    python -m bbopt.bench_ask pfn              # pfn, and gp (the strong rival) in the same line
    python -m bbopt.bench_ask amortised-gp     # the same for amortised-gp, and its surrogate alone

CPU seconds on one thread. Data: Hartmann-6 (or a smooth function of the inputs where d is not 6), half of the rows Sobol
points, half clustered around the best of them; constraints are smooth functions with different scales. "first" is an
ask with nothing to start from, "next" the median of the five that follow, each after a tell, as in a running study: the
limits are for the latter. With more than 100 rows most of them find hyperparameters of an ask before, and "refitted" is the
slowest of the five; the two small cases of `amortised-gp` end at 100 rows, up to which every ask finds its own. "surrogate" is the posterior of
all outputs from standardised values, and nothing else (`surrogates.amortised.fit`).
BoTorch: `SingleTaskGP` per output with its defaults, `fit_gpytorch_mll`, `optimize_acqf` of log EI (constrained where
there are constraints) with 10 restarts and 512 raw samples. The last line is the verdict; the exit status is 1 if one of
our limits is missed: CPU seconds, and for `pfn` with 100 rows and 15 constraints also a tenth of BoTorch's time.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS

import json
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bbopt.errors import UsageError
from bbopt.optimizer import Optimizer
from bbopt.space import Float, Space
from bbopt.strategies.amortised import Amortised
from bbopt.strategies.gp import GP
from bbopt.strategies.pfn import PFN
from bbopt.strategy import Strategy
from bbopt.task import Constraint, Objective, Task

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Case:
    """n rows in d dimensions with c constraints, the limit in CPU seconds for the median ask, and how many times faster than
    BoTorch it must be (0: no limit)."""

    n: int
    d: int
    constraints: int
    limit: float
    times: float = 0.0


CASES: dict[str, tuple[Case, ...]] = {}
CASES["gp"] = (
    Case(100, 6, 0, 0.15),
    Case(300, 6, 0, 0.4),
    Case(1000, 6, 0, 3.0),
    Case(100, 10, 11, 0.6),
)
CASES["pfn"] = (
    Case(100, 8, 15, 1.2, 10.0),
    Case(100, 8, 0, 0.3),
    Case(20, 8, 15, 1.2),
    Case(50, 8, 15, 1.2),
)
CASES["amortised-gp"] = (
    Case(95, 6, 0, 0.06),
    Case(95, 8, 15, 0.4),
    Case(300, 20, 0, 0.4),
)
STRATEGIES: dict[str, Strategy] = {
    "gp": GP(initial=1),
    "pfn": PFN(initial=1),
    "amortised-gp": Amortised(initial=1),
}


@dataclass(frozen=True)
class Data:
    """X (n, d), and the functions that gave the objective y (n,) and the constraints G (n, c)."""

    X: Array
    weights: Array
    scales: Array

    def objective(self, X: Array) -> Array:
        if X.shape[1] == 6:
            import problems

            hartmann = problems.get("hartmann6")
            return np.asarray(hartmann.evaluate(X)[hartmann.task.objectives[0].name], float)
        centre = np.linspace(0.2, 0.8, X.shape[1])
        return np.asarray(((X - centre) ** 2).sum(axis=1) + 0.3 * np.cos(6.0 * X).sum(axis=1), float)

    def constraints(self, X: Array) -> Array:
        return np.asarray(self.scales * (np.sin(2.0 * X @ self.weights) + 0.5 * (X @ self.weights) - 0.5), float)


def data(case: Case) -> Data:
    """Half Sobol points, half around the best of them."""
    from scipy.stats import qmc

    rng = np.random.default_rng(case.n + case.d)
    weights = rng.standard_normal((case.d, case.constraints))
    scales = 10.0 ** np.linspace(-2, 4, case.constraints) if case.constraints else np.zeros(0)
    half = case.n // 2
    sobol = qmc.Sobol(case.d, seed=rng).random(1 << (half - 1).bit_length())[:half]
    best = sobol[np.argmin(Data(sobol, weights, scales).objective(sobol))]
    near = np.clip(best + 0.05 * rng.standard_normal((case.n - half, case.d)), 0.0, 1.0)
    return Data(np.concatenate([sobol, near])[rng.permutation(case.n)], weights, scales)


def ours(case: Case, strategy: Strategy) -> dict[str, float]:
    """CPU seconds of the first ask on n rows, and the median of the five that follow, each after a tell."""
    made = data(case)
    space = Space({f"x{i}": Float(0.0, 1.0) for i in range(case.d)})
    limits = tuple(Constraint(f"g{j}", upper=0.0) for j in range(case.constraints))
    opt = Optimizer(Task(space, (Objective("y"),), limits), strategy, seed=0)

    def result(x: Array) -> list[float]:
        return [*made.objective(x[None]).tolist(), *made.constraints(x[None])[0].tolist()]

    opt.add_many([(space.decode(x), result(x)) for x in space.canonical(made.X)])
    seconds = []
    for _ in range(6):
        start = time.thread_time()
        trial = opt.ask()
        seconds.append(time.thread_time() - start)
        opt.tell(trial, result(space.encode(trial.params)))
    return {"first": seconds[0], "next": float(np.median(seconds[1:])), "refitted": max(seconds[1:])}


def surrogate(case: Case) -> float:
    """CPU seconds of `fit_amortised` for all outputs of a case, the median of three."""
    from surrogates.amortised.fit import fit_amortised
    from surrogates.columns import Inputs

    made = data(case)
    values = np.column_stack([made.objective(made.X), made.constraints(made.X)])
    Z = (values - values.mean(axis=0)) / values.std(axis=0)
    seconds = []
    for _ in range(3):
        start = time.thread_time()
        fit_amortised(Inputs.continuous(case.d), made.X, Z)
        seconds.append(time.thread_time() - start)
    return float(np.median(seconds))


def botorch(case: Case) -> dict[str, float]:
    """CPU seconds of BoTorch's default fit and of one optimisation of its log EI, on the same n rows."""
    import torch
    from botorch.acquisition.analytic import LogConstrainedExpectedImprovement, LogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models.gp_regression import SingleTaskGP
    from botorch.models.model_list_gp_regression import ModelListGP
    from botorch.optim.optimize import optimize_acqf
    from gpytorch.mlls import ExactMarginalLogLikelihood

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = data(case)
            X, y, G = (torch.as_tensor(a) for a in (made.X, made.objective(made.X), made.constraints(made.X)))
            start = time.thread_time()
            outputs = [-y[:, None], *(G[:, j : j + 1] for j in range(case.constraints))]
            models = [SingleTaskGP(X, out) for out in outputs]
            for model in models:
                fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            fitted = time.thread_time() - start
            feasible = (G <= 0).all(dim=1) if case.constraints else torch.ones(len(y), dtype=torch.bool)
            best = (-y)[feasible].max() if feasible.any() else (-y).min()
            if case.constraints:
                limits = {j + 1: (None, 0.0) for j in range(case.constraints)}
                acquisition: Any = LogConstrainedExpectedImprovement(ModelListGP(*models), best, 0, limits)  # type: ignore[arg-type]
            else:
                acquisition = LogExpectedImprovement(models[0], best)
            bounds = torch.tensor([[0.0] * case.d, [1.0] * case.d], dtype=torch.float64)
            start = time.thread_time()
            optimize_acqf(acquisition, bounds, q=1, num_restarts=10, raw_samples=512)
            return {"fit": fitted, "optimise": time.thread_time() - start}
    finally:
        torch.set_num_threads(threads)


def main(words: list[str]) -> int:
    """Print one JSON line per case, then the verdict. words: one of CASES, "gp" where there is none."""
    name = words[0] if words else "gp"
    if name not in CASES or len(words) > 1:
        raise UsageError(f"bench_ask: expected one of {', '.join(CASES)}; got {' '.join(words)}")
    botorch(Case(12, 2, 0, 1.0))  # the first call of torch pays for its start
    missed = []
    for case in CASES[name]:
        mine = {each: ours(case, STRATEGIES[each]) for each in dict.fromkeys([name, "gp"])}
        theirs = botorch(case)
        median = mine[name]["next"]
        line: dict[str, Any] = {"case": asdict(case)}
        line |= {f"{each}_cpu_s": _rounded(seconds) for each, seconds in mine.items()}
        if name == "amortised-gp":
            line["surrogate_cpu_s"] = round(surrogate(case), 3)
        line["botorch_cpu_s"] = _rounded(theirs)
        line[f"botorch_over_{name}"] = round(ratio := sum(theirs.values()) / median, 1)
        if name != "gp":
            line[f"gp_over_{name}"] = round(mine["gp"]["next"] / median, 2)
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        if median > case.limit or ratio < case.times:
            missed.append(f"n={case.n}, d={case.d}, {case.constraints} constraints")
    sys.stdout.write(("missed: " + "; ".join(missed) if missed else "all limits met") + "\n")
    return int(bool(missed))


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 3) for key, value in seconds.items()}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
