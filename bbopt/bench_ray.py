"""What Ray costs and what it buys: throughput of evaluations and of a parallel step, beside this process. Two cores, idle.

    python -m bbopt.bench_ray

"waiting" is the share of the ideal throughput that 2 workers reach on evaluations that wait for 100 ms, as for a program
elsewhere, with asks and tells of a study in memory. "short" is the time per evaluation of 1 ms of computing, in tasks of
50, on one worker, over that of `InProcess`; the two alternate, and of three rounds the fastest counts for each. "step" is
the time of a finite-difference gradient in this process over that on 2 workers, for a step above 0.2 s (prefix reuse, CNN
12-12-12, 128 digits); beside it the faster engine's step, for which Ray is no help. Starting the cluster and its workers
is left out of all ratios and printed apart. Wall time: on a machine with other work the numbers say little, so that the
load is printed too.

The last line is the verdict; the exit status is 1 when a threshold is missed: at least 95 % of the ideal throughput, at
most 20 % on top of this process, at least 1.4 times as fast a step.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS

import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bbopt.evaluate import Evaluator, InProcess
from bbopt.evaluate_ray import RayEvaluator
from bbopt.ray_cluster import open_cluster
from bbopt.run import minimize
from bbopt.space import Float, Space
from bbopt.task import Task
from bbopt.zeroth_order.network.choice import Level
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss
from bbopt.zeroth_order.network.parallel import GradientPool, InProcessPool, Step
from bbopt.zeroth_order.network.parallel_ray import RayPool
from problems.networks import digits, small_cnn

TASK = Task(Space({f"x{i}": Float(0.0, 1.0) for i in range(6)}))
LEAST_THROUGHPUT, MOST_OVERHEAD, LEAST_SPEEDUP, SHORTEST_STEP = 0.95, 0.20, 1.4, 0.2
WORKERS, ROUNDS = 2, 3


def wait(params: dict[str, Any]) -> float:
    """100 ms elsewhere."""
    time.sleep(0.1)
    return float(params["x0"])


def compute(params: dict[str, Any]) -> float:
    """1 ms of this core."""
    start = time.thread_time()
    while time.thread_time() - start < 1e-3:
        pass
    return float(params["x0"])


def per_evaluation(function: Any, evaluator: Evaluator | None, rows: int, warm: int) -> float:
    """Wall seconds per evaluation, from the one of number `warm` to the last, so that workers have started."""
    told: list[float] = []
    minimize(function, TASK, rows, "random", evaluator, progress=False,
             callback=lambda opt, trial: told.append(time.perf_counter()))  # fmt: skip
    return (told[-1] - told[warm - 1]) / (rows - warm)


class Fixed:
    """A replica whose parameters stay where they are: every step is the same amount of work."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.module = small_cnn((12, 12, 12))
        images = digits()
        loss = CrossEntropy(images.train_targets[:128])
        self.problem = NetworkLoss(self.module, images.train_inputs[:128], loss)

    def step(self, number: int) -> Step:
        return Step(self.problem, Coordinates.all(self.module), radius=1e-3, level=self.level)

    def apply(self, number: int, gradient: Mapping[str, Tensor]) -> None:
        """Nothing moves."""

    def save(self) -> dict[str, Any]:
        return {"module": dict(self.module.state_dict())}

    def load(self, state: Mapping[str, Any]) -> None:
        self.module.load_state_dict(state["module"])


def main() -> int:
    """Print the ratios; 1 if a threshold is missed."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    with open_cluster("local", cpus=WORKERS + 1) as cluster:  # one more stands by in the comparison of steps
        started = time.perf_counter() - began
        began = time.perf_counter()
        worker = cluster.start(cluster.put(dict), 1.0, 0.0)
        cluster.take(worker.prepared)
        alive = time.perf_counter() - began
        worker.kill()
        print(f"start of a local cluster {started:.1f} s, of a worker {alive:.1f} s; load {os.getloadavg()[0]:.1f}")
        throughput = 0.1 / WORKERS / per_evaluation(wait, RayEvaluator(workers=WORKERS), 120, 20)
        print(f"waiting  100 ms, {WORKERS} workers: {100 * throughput:.1f} % of the ideal throughput")
        here, there = [], []
        for _ in range(ROUNDS):
            here.append(per_evaluation(compute, InProcess(batch=50), 1500, 500))
            there.append(per_evaluation(compute, RayEvaluator(workers=1, batch=50), 1500, 500))
        overhead = min(there) / min(here) - 1.0
        print(f"short    1 ms in tasks of 50: {1e3 * min(here):.3f} ms here, {1e3 * min(there):.3f} ms on a worker, {100 * overhead:+.1f} %")  # fmt: skip
        speedup, long_enough, same = _steps()
    missed = [
        words
        for words, right in (
            (f"throughput below {100 * LEAST_THROUGHPUT:.0f} %", throughput >= LEAST_THROUGHPUT),
            (f"overhead above {100 * MOST_OVERHEAD:.0f} %", overhead <= MOST_OVERHEAD),
            (f"speed-up below {LEAST_SPEEDUP}", speedup >= LEAST_SPEEDUP),
            (f"a step below {SHORTEST_STEP} s, too short to tell", long_enough),
            ("gradients that differ", same),
        )
        if not right
    ]
    print("missed: " + "; ".join(missed) if missed else "every threshold is met")
    return int(bool(missed))


def _steps() -> tuple[float, bool, bool]:
    """Speed-up of the long step, whether it is long, and whether all gradients are the same bits. The fastest counts of
    some steps in turn, after two in which workers start and units show what they take."""
    best: dict[tuple[Level, int], float] = {}
    same = True
    levels: tuple[Level, ...] = ("staged", "delta")
    for level in levels:
        replica = Fixed(level)
        with RayPool(partial(Fixed, level), replica, workers=1) as one, RayPool(partial(Fixed, level), replica, workers=WORKERS) as two:  # fmt: skip
            pools: dict[int, GradientPool] = {0: InProcessPool(replica), 1: one, WORKERS: two}
            for number in range(ROUNDS + 2):
                found = {}
                for workers, pool in pools.items():
                    start = time.perf_counter()
                    found[workers] = pool.gradient(number).gradient
                    if number >= 2:
                        seconds = time.perf_counter() - start
                        best[level, workers] = min(seconds, best.get((level, workers), seconds))
                same &= all(torch.equal(part[name], found[0][name]) for part in found.values() for name in found[0])
        first, second, third = (1e3 * best[level, workers] for workers in pools)
        print(f"step     {level}: {first:.0f} ms here, {second:.0f} ms on 1 worker, {third:.0f} ms on {WORKERS}: {first / third:.2f} times as fast")  # fmt: skip
    print("         gradients are the same to the bit" if same else "         GRADIENTS DIFFER")
    return best["staged", 0] / best["staged", WORKERS], best["staged", 0] >= SHORTEST_STEP, same


if __name__ == "__main__":
    sys.exit(main())
