"""What a GPU makes of finite differences: queries per second by engine and chunk, of batched objectives, of a ResNet-20 step.

    python -m bbopt.bench_gpu             # on the GPU if torch sees one, else on the CPU, with fewer coordinates
    python -m bbopt.bench_gpu cpu

Float32, forward differences, one process; wall time, after a first pass that warms up kernels and the allocator. "chunk" is
the budget for the activations of perturbations that are evaluated together. Queries are evaluations of the loss on a whole
mini-batch; engines are timed on random coordinates of all parameters (their number is printed). The step of ResNet-20 is
that of 90 % sparsity with coordinates drawn uniformly: 28,221 queries, of which a part is timed and the rest is
extrapolated; "error" is the distance to the gradient of automatic differentiation on the coordinates timed, over its length.
Nothing here has a threshold: the table is what it is for.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bbopt.device_batch import Batching, DeviceFunction
from bbopt.space import Float, Space
from bbopt.task import Task
from bbopt.zeroth_order.network.choice import Level
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.gradient import NetworkGradient, network_gradient
from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss
from problems.networks import mlp, resnet20, small_cnn

LEVELS: tuple[Level, ...] = ("oracle", "staged", "vmap", "delta")
CHUNKS = (2**20, 2**22, 2**24, 2**26, 2**28)
SPARSE_STEP = 28_221  # queries: 10 % of 268,336 weights, 1,386 others, the base
WIDTH = 1000  # columns of the batched objective


def main(words: list[str]) -> int:
    """Print the tables."""
    wanted = words[0] if words else "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(wanted)
    on_gpu = device.type == "cuda"
    if not on_gpu:
        torch.set_num_threads(1)
    name = torch.cuda.get_device_name(device) if on_gpu else f"CPU, {torch.get_num_threads()} thread"
    print(f"{name}; torch {torch.__version__}")
    print("\nqueries per second by engine and chunk")
    print(f"{'network':<14} {'batch':>5} {'timed':>6} {'engine':>7}  " + " ".join(f"{_size(c):>9}" for c in CHUNKS))
    for title, module, inputs in _networks(on_gpu):
        _engines(title, _problem(module, inputs, device), 2048 if on_gpu else 64)
    print(f"\nrows per second of a batched objective, {WIDTH} columns, by rows per call")
    _batched(device)
    print("\nResNet-20, batch 256 of 3 x 32 x 32, 90 % sparse")
    _resnet(device, 1024 if on_gpu else 8, 256 if on_gpu else 32)
    return 0


def _networks(on_gpu: bool) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    found: list[tuple[str, nn.Module, tuple[int, ...]]] = [
        ("MLP 64-32-10", mlp((64, 32, 10)), (256, 64)),
        ("CNN 12-12-12", small_cnn((12, 12, 12)), (128, 1, 8, 8)),
    ]
    if on_gpu:
        found.append(("ResNet-20", resnet20(), (256, 3, 32, 32)))
    return found


def _problem(module: nn.Module, shape: tuple[int, ...], device: torch.device) -> NetworkLoss:
    """Random images and classes: speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(shape, generator=generator).to(device)
    targets = torch.randint(10, shape[:1], generator=generator).to(device)
    return NetworkLoss(module.to(device).train(), inputs, CrossEntropy(targets))


def _engines(title: str, problem: NetworkLoss, most: int) -> None:
    coordinates = _some(problem, most)
    batch = len(problem.inputs)
    for level in LEVELS:
        cells = []
        for chunk in CHUNKS if level in ("vmap", "delta") else CHUNKS[:1]:  # the others take one at a time

            def gradient(level: Level = level, chunk: int = chunk) -> Any:
                return network_gradient(problem, coordinates=coordinates, level=level, bytes=chunk)

            seconds = _timed(gradient)
            cells.append("memory" if seconds is None else f"{coordinates.count / seconds:.0f}")
        print(f"{title:<14} {batch:>5} {coordinates.count:>6} {level:>7}  " + " ".join(f"{cell:>9}" for cell in cells))


def _batched(device: torch.device) -> None:
    """Rastrigin's function of many columns, from encoded rows to numbers on the host, copies included."""
    task = Task(Space(x=Float(-5.12, 5.12, shape=(WIDTH,))))

    def rastrigin(X: Tensor) -> Tensor:
        return (X**2 - 10 * torch.cos(2 * torch.pi * X) + 10).sum(1)

    batching = Batching("cuda" if device.type == "cuda" else "cpu", "float32", 2**40)
    function = DeviceFunction(rastrigin, batching, task)
    rng = np.random.default_rng(0)
    for rows in (1, 16, 256, 4096, 16384):
        X = rng.random((rows, WIDTH))
        seconds = _timed(lambda X=X: function.answer(X))  # type: ignore[misc]
        print(
            f"{rows:>6} rows per call: " + ("memory" if seconds is None else f"{rows / seconds:>10.0f} rows per second")
        )


def _resnet(device: torch.device, few: int, batch: int) -> None:
    problem = _problem(resnet20(), (batch, 3, 32, 32), device)
    parameters = dict(problem.module.named_parameters())
    some = _some(problem, few)
    outputs = problem.module(problem.inputs)
    loss = nn.functional.cross_entropy(outputs, problem.loss.targets)  # type: ignore[attr-defined]
    exact = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
    levels: tuple[Level, ...] = ("staged", "delta")
    for level in levels:
        found: list[NetworkGradient] = []

        def gradient(level: Level = level, found: list[NetworkGradient] = found) -> None:
            found.append(network_gradient(problem, coordinates=some, level=level))

        seconds = _timed(gradient, 1)
        if seconds is None:
            print(f"{level:>7}: memory")
            continue
        mine, true = (
            torch.cat([part[name].flatten()[index].double() for name, index in some.indices.items()])
            for part in (found[-1].gradient, exact)
        )
        error = float((mine - true).norm() / true.norm())
        each = seconds / some.count * 256 / batch
        scaled = "" if batch == 256 else f", scaled from batches of {batch}"
        print(f"{level:>7}: {1e3 * each:.2f} ms per query ({some.count} timed{scaled}), "
              f"{each * SPARSE_STEP:.0f} s per step of {SPARSE_STEP:,} queries; error {error:.1e}")  # fmt: skip


def _some(problem: NetworkLoss, most: int) -> Coordinates:
    everything = Coordinates.all(problem.module)
    chosen = torch.randperm(everything.count, generator=torch.Generator().manual_seed(1))[:most]
    return everything.select(chosen)


def _timed(work: Callable[[], Any], rounds: int = 2) -> float | None:
    """Seconds of the fastest of some rounds after a first one; None where memory runs out."""
    try:
        work()
        best = float("inf")
        for _ in range(rounds):
            start = time.perf_counter()
            work()  # results come back to the host, which waits for them
            best = min(best, time.perf_counter() - start)
        return best
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None


def _size(count: int) -> str:
    return f"{count // 2**20} MiB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
