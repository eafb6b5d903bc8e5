"""How fast each engine gives the gradient of a network by finite differences, beside the plain loop and plain vmap.

    python -m bbopt.bench_zo              # six networks on scikit-learn's digits, under a minute
    python -m bbopt.bench_zo resnet20     # CPU seconds and memory of a dense step of ResNet-20 (some minutes)

One thread, CPU seconds, float32, forward differences of radius 1e-3. `naive`, `vmap` and `staged` are timed on random
coordinates of every parameter, and each parameter's seconds are scaled to all of its coordinates (a `~` says so); `delta`
and `units` are timed in full, with the base pass and the tracing. Of several rounds the fastest counts, for each engine.
"queries" is the number of evaluations of the loss that the gradient is made of: d + 1, and for `units`, which are no
coordinate-wise differences, one per unit and the base. "model" is the ratio of multiplications and additions to those
of one forward per coordinate (`cost`): it leaves out norms, activations, the loss and the calls themselves.
"cosine" is that to the gradient by automatic differentiation.

The last line is the verdict; the exit status is 1 when a threshold is missed: staged at least twice as fast as naive on CNN
12-12-12, and within 40 % of its model on the perceptron of 8 hidden layers; delta at least 6 times as fast as naive on CNN
12-12-12 and on the perceptron 64-32-10; units at least 80 times there, with a query per unit and one more.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bbopt.zeroth_order.network.base import opened
from bbopt.zeroth_order.network.choice import Level
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.cost import Costs, costs
from bbopt.zeroth_order.network.delta import Delta
from bbopt.zeroth_order.network.gradient import network_gradient
from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss
from bbopt.zeroth_order.network.sweep import sweep
from bbopt.zeroth_order.network.units import unit_gradient
from bbopt.zeroth_order.network.untouched import untouched
from problems.networks import digits, mlp, resnet20, small_cnn

RADIUS = 1e-3
SAMPLED: dict[str, Level] = {"naive": "oracle", "vmap": "vmap", "staged": "staged"}
"""Engines that are timed on some coordinates, and their levels."""


@dataclass(frozen=True)
class Case:
    """A network: its name, its widths (hidden ones of a perceptron, channels of a convolutional one), samples of a batch."""

    name: str
    kind: str
    widths: tuple[int, ...]
    batch: int

    def problem(self) -> NetworkLoss:
        """The loss of the network as it is initialised, on the first digits of the training set."""
        images = digits(flat=self.kind == "mlp")
        module = mlp((64, *self.widths, 10)) if self.kind == "mlp" else small_cnn(self.widths)
        targets = images.train_targets[: self.batch]
        return NetworkLoss(module, images.train_inputs[: self.batch], CrossEntropy(targets))


MLP, DEEP, CNN = "MLP 64-32-10", "MLP 64-32x8-10", "CNN 12-12-12"
CASES = (
    Case(MLP, "mlp", (32,), 256),
    Case("MLP 64-32x3-10", "mlp", (32,) * 3, 256),
    Case(DEEP, "mlp", (32,) * 8, 256),
    Case("CNN 8-16", "cnn", (8, 16), 128),
    Case(CNN, "cnn", (12,) * 3, 128),
    Case("CNN 16-16-16-16", "cnn", (16,) * 4, 128),
)


@dataclass(frozen=True)
class Line:
    """An engine on a network: queries of a gradient, CPU seconds, whether those were scaled up, the model's ratio, cosine."""

    engine: str
    queries: int
    seconds: float
    scaled: bool
    model: float | None
    cosine: float | None = None


@dataclass(frozen=True)
class Table:
    """All engines on one network of d scalars; `lines["naive"]` is what the others are compared with."""

    case: Case
    size: int
    lines: Mapping[str, Line]

    def speedup(self, engine: str) -> float:
        """How many times faster than the plain loop a gradient comes."""
        return self.lines["naive"].seconds / self.lines[engine].seconds


def measure(case: Case, sample: int, rounds: int, patience: float = 0.2) -> Table:
    """Times all engines; sample: coordinates of the network for the slow ones, at least two of each parameter.

    rounds: of all engines in turn; patience: CPU seconds for which `delta` and `units` are repeated in each, as one gradient
    of a few milliseconds is at the mercy of what else the machine does.
    """
    problem = case.problem()
    chosen = Coordinates.all(problem.module)
    ratios, true = _model(problem), _true_gradient(problem)
    seconds: dict[str, list[float]] = {}
    lines: dict[str, Line] = {}
    for _ in range(rounds):  # in turns, so that other work on the machine hits all alike
        for engine, level in SAMPLED.items():
            seconds.setdefault(engine, []).append(scaled_seconds(problem, level, _spread(chosen, sample)))
        for engine, gradient in (("delta", _delta), ("units", _units)):
            found, until = None, time.process_time() + patience
            while found is None or time.process_time() < until:
                start = time.process_time()
                found = gradient(problem)
                seconds.setdefault(engine, []).append(time.process_time() - start)
                if found is None:
                    break
            if found is not None:
                values, queries = found
                model = ratios.speedup(engine, chosen)
                lines[engine] = Line(engine, queries, min(seconds[engine]), False, model, _cosine(values, true))
    for engine in SAMPLED:
        model = 1.0 if engine != "staged" else ratios.speedup("staged", chosen)
        lines[engine] = Line(engine, chosen.count + 1, min(seconds[engine]), True, model)
    order = ("naive", "vmap", "staged", "delta", "units")
    return Table(case, chosen.count, {engine: lines[engine] for engine in order if engine in lines})


def scaled_seconds(problem: NetworkLoss, level: Level, some: Coordinates) -> float:
    """CPU seconds of a whole gradient, from those of some coordinates of each parameter."""
    parameters = dict(problem.module.named_parameters())
    start = time.process_time()
    with sweep(problem, coordinates=some, radius=RADIUS, level=level) as differences:
        whole = time.process_time() - start
        for name, index in some.indices.items():
            differences.derivatives(
                name, index[:1]
            )  # what is made on first use: caches of kernels, an engine's buffers
            start = time.process_time()
            differences.derivatives(name, index)
            whole += (time.process_time() - start) * parameters[name].numel() / len(index)
    return whole


def _spread(chosen: Coordinates, sample: int) -> Coordinates:
    """Random coordinates, for each parameter its share of the sample and two at least."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, index in chosen.indices.items():
        count = min(len(index), max(2, sample * len(index) // chosen.count))
        found[name] = index[torch.randperm(len(index), generator=generator)[:count]].sort().values
    return Coordinates(found)


def _model(problem: NetworkLoss) -> Costs:
    with opened(problem, None) as (base, _):
        return costs(Delta(base))


def _delta(problem: NetworkLoss) -> tuple[Mapping[str, Tensor], int] | None:
    found = network_gradient(problem, radius=RADIUS, level="delta")
    return found.gradient, found.queries


def _units(problem: NetworkLoss) -> tuple[Mapping[str, Tensor], int] | None:
    if any(isinstance(part, nn.BatchNorm2d) for part in problem.module.modules()):
        return None  # in training mode it mixes the samples
    found = unit_gradient(problem, radius=RADIUS)
    return found.gradient, found.queries


def _true_gradient(problem: NetworkLoss) -> dict[str, Tensor]:
    loss = nn.functional.cross_entropy(problem.module(problem.inputs), problem.loss.targets)  # type: ignore[attr-defined]
    parameters = dict(problem.module.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


def _cosine(found: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> float:
    one = torch.cat([found[name].flatten().double() for name in true])
    other = torch.cat([true[name].flatten().double() for name in true])
    return float(one @ other / (one.norm() * other.norm()))


def missed(tables: Sequence[Table]) -> list[str]:
    """The thresholds that these tables miss, in words; one whose network is not among them counts as missed."""
    known = {table.case.name: table for table in tables}
    found: list[str] = []

    def require(name: str, what: str, holds: Callable[[Table], bool]) -> None:
        if name not in known or not holds(known[name]):
            found.append(f"{what} on {name}" if name in known else f"{name} was not measured")

    require(CNN, "staged below 2x", lambda table: table.speedup("staged") >= 2.0)
    require(DEEP, "staged not within 40 % of the model", _as_modelled)
    require(CNN, "delta below 6x", lambda table: table.speedup("delta") >= 6.0)
    require(MLP, "delta below 6x", lambda table: table.speedup("delta") >= 6.0)
    require(MLP, "units below 80x", lambda table: table.speedup("units") >= 80.0)
    require(
        MLP, "units: not one query per unit and one more", lambda table: table.lines["units"].queries == 32 + 10 + 1
    )
    return list(dict.fromkeys(found))


def _as_modelled(table: Table) -> bool:
    model = table.lines["staged"].model
    return model is not None and abs(table.speedup("staged") / model - 1.0) <= 0.4


def show(table: Table) -> list[str]:
    """A table as lines of text."""
    head = f"{table.case.name}, {table.size:,} scalars, batch {table.case.batch}"
    rows = [
        head,
        f"  {'engine':8}{'queries':>9}{'CPU s':>11}{'queries/s':>12}{'times naive':>13}{'model':>8}{'cosine':>10}",
    ]
    for line in table.lines.values():
        mark = "~" if line.scaled else " "
        model = "" if line.model is None else f"{line.model:.1f}"
        cosine = "" if line.cosine is None else f"{line.cosine:.6f}"
        rows.append(
            f"  {line.engine:8}{line.queries:9,}{mark:>3}{line.seconds:8.4f}{line.queries / line.seconds:12,.0f}"
            f"{table.speedup(line.engine):13.1f}{model:>8}{cosine:>10}"
        )
    return rows


def residual(sample: int = 1, batch: int = 128, size: int = 32) -> list[str]:
    """CPU seconds and memory of a dense gradient of ResNet-20 on random images, from two chunks or so of each parameter."""
    generator = torch.Generator().manual_seed(0)
    module = resnet20()
    images = torch.randn(batch, 3, size, size, generator=generator)
    problem = NetworkLoss(module, images, CrossEntropy(torch.randint(10, (batch,), generator=generator)))
    with untouched(module):  # batch norm in training mode, running statistics left alone
        module(images)
        start = time.process_time()
        module(images)
        forward = time.process_time() - start
    chosen, before = Coordinates.all(module), _resident()
    some = _spread(chosen, sample)
    whole, queries = 0.0, chosen.count + 1
    start = time.process_time()
    with sweep(problem, radius=RADIUS, level="delta") as differences:
        whole += time.process_time() - start
        for name, index in some.indices.items():
            differences.derivatives(name, index)  # makes the path and its unperturbed pass
            start = time.process_time()
            differences.derivatives(name, index)
            whole += (time.process_time() - start) / len(index) * len(chosen.indices[name])
        gradient = {name: torch.zeros_like(parameter) for name, parameter in module.named_parameters()}
    above = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**30
    return [
        f"ResNet-20, {chosen.count:,} scalars, batch {batch}, {size} x {size} pixels; {sum(map(len, some.indices.values()))} "
        f"coordinates measured, {len(gradient)} parameters",
        f"  one forward: {forward:.3f} CPU s; a dense step by forwards alone: ~{forward * queries:,.0f} CPU s",
        f"  a dense step by delta: ~{whole:,.0f} CPU s, ~{queries / whole:,.1f} queries/s, {forward * queries / whole:.1f} times faster",
        f"  peak memory above network and batch: {above:.2f} GiB (limit 1.5)",
        f"verdict: {'good' if above <= 1.5 else 'missed: memory'}",
    ]


def _resident() -> int:
    """Bytes that the process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main(
    arguments: Sequence[str] | None = None, *, cases: Sequence[Case] = CASES, sample: int = 150, rounds: int = 3
) -> int:
    """Print the tables; 1 if a threshold is missed."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if given == ["resnet20"]:
            lines = residual()
            print("\n".join(lines))
            return int("missed" in lines[-1])
        if given:
            print(f"expected nothing or resnet20, got {' '.join(given)}", file=sys.stderr)
            return 2
        tables = []
        for case in cases:
            tables.append(measure(case, sample, rounds))
            print("\n".join(show(tables[-1])), flush=True)
        wrong = missed(tables)
        print(f"verdict: {'good' if not wrong else 'missed: ' + '; '.join(wrong)}")
        return int(bool(wrong))
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    raise SystemExit(main())
