"""The pieces of work of an evaluation: who is compared where, and what does it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import problems
from bbopt.bench_surrogates.costs import CASES, cost
from surrogates.amortised.hyperprior import Hyperprior
from surrogates.amortised.network import HyperNetwork
from surrogates.evaluation.amortised import MIXED, read_amortised, read_cell
from surrogates.evaluation.behaviour import behaviour
from surrogates.evaluation.calibration import Believer, function_coverage, told_coverage
from surrogates.evaluation.gaps import Belief, gaps
from surrogates.evaluation.reference import compute_floor
from surrogates.evaluation.rivals import Priors, fitted, nothing
from surrogates.evaluation.tasks import HELD_OUT, KNOWN, MIXTURE, PLAIN, Cell, noise_of
from surrogates.pfn.evaluation import Reader, read_by
from surrogates.pfn.network import Network
from surrogates.prior import Tasks

__all__ = ["CELLS", "FUNCTIONS", "Contestants", "Part", "parts", "place", "tasks_of"]

Array = NDArray[np.float64]
CELLS = {str(cell): cell for cell in (*PLAIN, *KNOWN, *MIXTURE, *HELD_OUT)}
RIVALS: dict[str, tuple[Priors, ...]] = {
    "plain": ("right", "gp"), "known": ("right", "gp"), "mixture": ("wide", "botorch", "gp"),
}  # fmt: skip
FUNCTIONS = (
    "branin",
    "hartmann3",
    "hartmann6",
    "ackley_2",
    "ackley_4",
    "levy_2",
    "levy_4",
    "rosenbrock_2",
    "rosenbrock_4",
)
ROWS, DESIGNS = (10, 20, 50, 100), 4


@dataclass(frozen=True)
class Part:
    """One piece of work, by the name of its file, and what does it."""

    name: str
    work: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Contestants:
    """The networks, and marks that tell their weights from others."""

    pfn: Network
    pfn_mark: str
    amortised: HyperNetwork
    amortised_mark: str

    @property
    def marks(self) -> dict[str, str]:
        """Name of each contestant's parts."""
        return {"pfn": f"pfn-{self.pfn_mark}", "amortised": f"amortised-{self.amortised_mark}"}

    def believers(self, prior: Hyperprior) -> dict[str, Believer]:
        """Both as functions from rows, values and points to beliefs; prior: what the amortised process is told."""

        def amortised(X: Tensor, y: Tensor, Q: Tensor) -> Belief:
            return read_amortised(self.amortised, prior, X, y, Q).belief

        return {"pfn": partial(read_by, self.pfn), "amortised": amortised}


def parts(
    cells: tuple[Cell, ...], who: Contestants, tasks: int, with_floor: bool, functions: tuple[str, ...], rest: bool
) -> Iterator[Part]:
    """All pieces of work, those of a cell together; rest: behaviour and costs too."""
    with torch.random.fork_rng(devices=[]):
        untrained = Network(who.pfn.shape).eval()
    shape = "-".join(map(str, asdict(who.pfn.shape).values()))
    pfn, amortised = who.marks["pfn"], who.marks["amortised"]
    for cell in cells:
        at = place(cell, tasks)
        held_out = cell.kind == "held-out"
        yield Part(f"{at}/{pfn}", partial(_by_pfn, who.pfn, cell, tasks))
        yield Part(f"{at}/{amortised}", partial(_by_amortised, who, cell, tasks))
        if held_out:
            continue
        if cell.kind != "known":
            yield Part(f"{at}/anchors-{shape}", partial(_by_pfn, untrained, cell, tasks))
        for priors in RIVALS[cell.kind]:
            yield Part(f"{at}/{priors}", partial(_fit, cell, tasks, priors))
        yield Part(f"{at}/nothing", partial(_none, cell, tasks))
        if with_floor and cell.kind == "plain":
            yield Part(f"{at}/floor", partial(_floor, cell, tasks))
    for name in functions:
        for contestant, believe in who.believers(Hyperprior()).items():
            yield Part(f"{name}/{who.marks[contestant]}", partial(_on_function, name, believe))
    if rest:
        for contestant, believe in who.believers(MIXED).items():
            yield Part(f"behaviour/{who.marks[contestant]}", partial(_behave, believe))
        for case in CASES:
            yield Part(f"costs-{case}/{amortised}", partial(cost, case, "amortised", who.amortised))
            for other in ("gp", "botorch"):
                yield Part(f"costs-{case}/{other}", partial(cost, case, other, who.amortised))


@cache
def place(cell: Cell, count: int) -> str:
    """The folder of a cell's parts: another one where the prior gives other tasks."""
    digest = hashlib.sha256(cell.tasks(2).told.numpy().tobytes()).hexdigest()[:8]
    return f"{cell}-{count}-{digest}"


@lru_cache(maxsize=1)
def tasks_of(cell: Cell, count: int) -> Tasks:
    """The first tasks of a cell, those of the last call kept."""
    return cell.tasks(count)


@lru_cache(maxsize=1)
def _reader(cell: Cell, count: int, kernels: int) -> Reader:
    tasks = tasks_of(cell, count)
    return Reader(tasks.X, tasks.y, kernels)


def _by_pfn(network: Network, cell: Cell, count: int) -> dict[str, Any]:
    return _scored(cell, count, _reader(cell, count, network.shape.anchors).believe(network, tasks_of(cell, count).Q))


def _by_amortised(who: Contestants, cell: Cell, count: int) -> dict[str, Any]:
    tasks = tasks_of(cell, count)
    reading = read_cell(who.amortised, cell, tasks)
    draws = {"ess": reading.ess, "how": reading.how, "seconds": reading.seconds}
    return {**_scored(cell, count, reading.belief), **asdict(told_coverage(tasks, reading.belief)), "draws": draws}


def _fit(cell: Cell, count: int, priors: Priors) -> dict[str, Any]:
    return _scored(cell, count, fitted(cell, tasks_of(cell, count), priors))


def _none(cell: Cell, count: int) -> dict[str, Any]:
    return _scored(cell, count, nothing(cell, tasks_of(cell, count)))


def _floor(cell: Cell, count: int) -> dict[str, Any]:
    return compute_floor(tasks_of(cell, count))


def _scored(cell: Cell, count: int, belief: Belief) -> dict[str, Any]:
    """Gaps, or coverage where there is no oracle."""
    tasks = tasks_of(cell, count)
    if cell.kind == "held-out":
        return asdict(told_coverage(tasks, belief))
    return {**asdict(gaps(tasks, belief)), "noise": noise_of(tasks)}


def _on_function(name: str, believe: Believer) -> dict[str, Any]:
    problem = problems.get(name)
    metric = problem.task.objectives[0].name

    def function(X: Array) -> Array:
        return np.asarray(problem.evaluate(X)[metric], dtype=float)

    found = {}
    for rows in ROWS:
        inside, error = function_coverage(believe, function, problem.task.space.dimension, rows, DESIGNS, seed=0)
        found[str(rows)] = {**asdict(inside), "error": error}
    return found


def _behave(believe: Believer) -> dict[str, Any]:
    return dict(behaviour(believe))
