"""How well and how fast `preference-gp` asks people, beside rank-sgd, CMA-ES, random search and a plain BoTorch loop.

    python -m bbopt.bench_preference [--out DIR] [--seeds N]     # resumable: what is in DIR is not run again

With --caution instead: the regret of `preference-gp` by how dependent it takes the pairs of one ranking to be,
and that of `rank-sgd`, for people who are surer and less sure.

Two tables. Regret, in units of the median random point's, of the recommended row after 5, 10 and 16 slates of six, ranked by a
person without noise and by one with Plackett-Luce noise of 0.3 of a slate's standard deviation; medians over the seeds.
CPU seconds of asking for a slate of six after 50, 100 and 200 ranked slates in six dimensions, one thread; BoTorch:
`PairwiseGP` on all pairs of each ranking, `fit_gpytorch_mll`, `qExpectedUtilityOfBestOption` over six rows (64 draws),
`optimize_acqf` with 4 restarts and 64 raw samples. With nothing to start from ("first"), and as in a running study ("next").

The exit status is 1 if an ask after 200 answers takes two seconds or more, or if on any problem the median regret after 16
slates is not below half of random search's. Whether rank-sgd or CMA-ES are better is printed, not judged.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bbopt import problems
from bbopt.optimizer import Optimizer
from bbopt.query import Key, Query, Ranking, Request
from bbopt.space import Float, Space
from bbopt.strategies.preference_gp import PreferenceGP
from bbopt.strategies.preference_gp_state import PreferenceState
from bbopt.strategy import Strategy
from bbopt.task import Task

Array = np.ndarray[Any, np.dtype[Any]]
PROBLEMS = ("branin", "hartmann3", "rosenbrock_4", "levy_4", "sunset", "hartmann6")
CAUTIONS, CAUTION_PROBLEMS, CAUTION_NOISES = (0.0, 0.5, 1.0), ("branin", "hartmann3", "sunset"), (0.0, 0.3, 0.8)
STRATEGIES = ("preference-gp", "rank-sgd", "cmaes", "random")
NOISES = (0.0, 0.3)
SLATE, SLATES, SHOWN = 6, 16, (5, 10, 16)
TIMED, LIMIT, CLEARLY = (50, 100, 200), 2.0, 0.5


def curve(problem: str, strategy: str | Strategy, noise: float, seed: int) -> list[float]:
    """Regret of the recommended row after each slate, in units of the median random point's."""
    made = problems.get(problem)
    task, objective = made.ranked().task, made.task.objectives[0]
    sign = -1.0 if objective.maximize else 1.0
    assert made.optimum is not None and made.optimum.value is not None
    best_value = float(made.optimum.value)

    def gap(params: Any) -> float:
        return sign * (float(made(params)[objective.name]) - best_value)

    points = task.feasible.sample(300, np.random.default_rng(0))
    unit = float(np.median([gap(task.space.decode(x)) for x in points]))
    opt, rng = Optimizer(task, strategy, seed=seed), np.random.default_rng(seed)
    found: list[float] = []
    asked = 0
    while asked < SLATE * SLATES:
        query = opt.ask_query(SLATE)
        asked += query.size
        values = np.array([gap(task.space.decode(x)) for x in np.asarray(query.X)])
        heard = values - noise * max(float(values.std()), 1e-300) * rng.gumbel(size=len(values))
        opt.rank([query.first + int(row) for row in np.argsort(heard, kind="stable")])
        best = opt.recommend()
        assert best is not None
        found += [gap(best.params) / unit] * (asked // SLATE - len(found))
    return found[:SLATES]


def answered(slates: int, d: int = 6) -> tuple[Task, PreferenceState]:
    """A state after so many rankings of six rows: ten slates spread over the cube, the rest nearer and nearer to the best."""
    rng = np.random.default_rng(1)
    task = Task(Space({f"x{i}": Float(0.0, 1.0) for i in range(d)}), feedback="ranking")
    state, best = PreferenceState.empty(task), np.full(d, 0.5)
    centre = np.linspace(0.25, 0.7, d)
    for s in range(slates):
        near = best + rng.choice([0.05, 0.15, 0.4], (SLATE, 1)) * rng.standard_normal((SLATE, d))
        X = rng.random((SLATE, d)) if s < 10 else np.clip(near, 0.0, 1.0)
        X[0] = best
        order = np.argsort(((X - centre) ** 2).sum(axis=1) + 0.01 * rng.standard_normal(SLATE))
        best = X[order[0]].copy()
        state = state.after(Query(X), Ranking(tuple((int(i),) for i in order)))
    return task, state


def ours(slates: int) -> dict[str, float]:
    """CPU seconds of an ask with nothing to start from, and of the next one."""
    strategy = PreferenceGP()
    task, state = answered(slates)
    request = Request(SLATE, SLATE * slates, np.zeros((0, task.space.dimension)))
    start = time.thread_time()
    query = strategy.ask(task, state, request, Key(0, slates))
    first = time.thread_time() - start
    order = np.argsort(((np.asarray(query.X) - np.linspace(0.25, 0.7, 6)) ** 2).sum(axis=1))
    state = state.after(query, Ranking(tuple((int(i),) for i in order)))
    start = time.thread_time()
    strategy.ask(task, state, Request(SLATE, SLATE * (slates + 1), request.pending), Key(0, slates + 1))
    return {"first": round(first, 3), "next": round(time.thread_time() - start, 3)}


def botorch(slates: int) -> dict[str, float]:
    """CPU seconds of PairwiseGP's fit and of one optimisation of qEUBO on the same rankings."""
    import torch
    from botorch.acquisition.preference import qExpectedUtilityOfBestOption
    from botorch.fit import fit_gpytorch_mll
    from botorch.models.pairwise_gp import PairwiseGP, PairwiseLaplaceMarginalLogLikelihood
    from botorch.optim.optimize import optimize_acqf
    from botorch.sampling.normal import SobolQMCNormalSampler

    _, state = answered(slates)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = time.thread_time()
            model = PairwiseGP(torch.from_numpy(state.X.copy()), torch.from_numpy(state.pairs.copy()))
            fit_gpytorch_mll(PairwiseLaplaceMarginalLogLikelihood(model.likelihood, model))
            fitted = time.thread_time() - start
            sampler = SobolQMCNormalSampler(torch.Size([64]), seed=0)
            acquisition = qExpectedUtilityOfBestOption(model, sampler=sampler)
            d = state.X.shape[1]
            bounds = torch.tensor([[0.0] * d, [1.0] * d], dtype=torch.float64)
            start = time.thread_time()
            optimize_acqf(acquisition, bounds, q=SLATE, num_restarts=4, raw_samples=64)
            return {"fit": round(fitted, 2), "optimise": round(time.thread_time() - start, 2)}
    finally:
        torch.set_num_threads(threads)


def main(words: Sequence[str]) -> int:
    """Run what is missing, print both tables and the verdict."""
    parser = argparse.ArgumentParser(prog="python -m bbopt.bench_preference")
    parser.add_argument("--out", type=Path, default=Path("bench-results/preference"))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--caution", action="store_true")
    options = parser.parse_args(list(words))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "cells.jsonl"
    done = (
        {line["cell"]: line["found"] for line in map(json.loads, path.read_text().splitlines())}
        if path.exists()
        else {}
    )

    def cell(name: str, make: Any) -> Any:
        if name not in done:
            done[name] = make()
            with path.open("a") as file:
                file.write(json.dumps({"cell": name, "found": done[name]}) + "\n")
        return done[name]

    if options.caution:
        for problem in CAUTION_PROBLEMS:
            for noise in CAUTION_NOISES:
                shown = {}
                for power in CAUTIONS:
                    curves = [
                        cell(f"{problem} caution {power} {noise} {seed}",
                             lambda p=problem, c=power, n=noise, seed=seed: curve(p, PreferenceGP(caution=c), n, seed))
                        for seed in range(options.seeds)
                    ]  # fmt: skip
                    shown[str(power)] = _shown(curves)
                descent = [
                    cell(f"{problem} rank-sgd {noise} {seed}",
                         lambda p=problem, n=noise, seed=seed: curve(p, "rank-sgd", n, seed))
                    for seed in range(options.seeds)
                ]  # fmt: skip
                shown["rank-sgd"] = _shown(descent)
                _say(json.dumps({"problem": problem, "noise": noise, "slates": SHOWN, "regret by caution": shown}))
        return 0
    missed = []
    for slates in TIMED:
        mine = cell(f"ask {slates}", lambda slates=slates: ours(slates))
        line: dict[str, Any] = {"answers": slates, "pairs": 15 * slates, "preference-gp_cpu_s": mine}
        line["botorch_cpu_s"] = cell(f"botorch {slates}", lambda slates=slates: botorch(slates))
        _say(json.dumps(line))
        if max(mine.values()) >= LIMIT:
            missed.append(f"an ask after {slates} answers takes {max(mine.values())} s")
    for problem in PROBLEMS:
        for noise in NOISES:
            medians: dict[str, list[list[float]]] = {}
            for strategy in STRATEGIES:
                curves = [
                    cell(f"{problem} {strategy} {noise} {seed}",
                         lambda p=problem, s=strategy, n=noise, seed=seed: curve(p, s, n, seed))
                    for seed in range(options.seeds)
                ]  # fmt: skip
                medians[strategy] = curves
            shown = {name: _shown(m) for name, m in medians.items()}
            best = min(shown, key=lambda name: shown[name][-1])
            _say(json.dumps({"problem": problem, "noise": noise, "slates": SHOWN, "regret": shown, "best": best}))
            if shown["preference-gp"][-1] > CLEARLY * shown["random"][-1]:
                missed.append(f"{problem} with noise {noise}: not clearly better than random search")
    _say("missed: " + "; ".join(missed) if missed else "all limits met")
    return int(bool(missed))


def _shown(curves: list[list[float]]) -> list[float]:
    """Medians over the seeds after some slates, to two digits."""
    median = np.median(curves, axis=0)
    return [float(f"{median[slates - 1]:.2g}") for slates in SHOWN]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
