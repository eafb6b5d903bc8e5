"""How good the network that predicts is, beside fitted processes, the Bayes floor and no model: `bbopt bench-surrogates`.

One part per cell and contestant is written to the folder as soon as it is there: a run that was interrupted goes on, and
other weights in the same folder cost only their own parts. The numbers are those of `surrogates.pfn.evaluation`; this
module decides who is compared where, keeps the parts, and joins them in `results.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import problems
from bbopt.bench import Progress
from surrogates.pfn import evaluation
from surrogates.pfn.evaluation import HELD_OUT, KNOWN, MIXTURE, PLAIN, Belief, Cell, Gaps, Reader, Summary, gaps
from surrogates.pfn.evaluation_checks import LEVELS, Coverage, function_coverage, sanity, told_coverage
from surrogates.pfn.evaluation_rivals import fitted, floor, joined, nothing
from surrogates.pfn.network import Network
from surrogates.pfn.shipped import PATH
from surrogates.pfn.weights import load_weights
from surrogates.prior import Tasks
from surrogates.training.threads import limited_threads

__all__ = ["CELLS", "FUNCTIONS", "run_surrogates"]

Array = NDArray[np.float64]
FORMAT = 1
CELLS = {str(cell): cell for cell in (*PLAIN, *KNOWN, *MIXTURE, *HELD_OUT)}
FLOOR_TASKS, PARTICLES = 10, 128
RIVALS = {"plain": ("right",), "known": ("right",), "mixture": ("wide", "botorch")}
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


def run_surrogates(
    folder: str | Path,
    weights: str | Path | None = None,
    tasks: int = 64,
    with_floor: bool = False,
    cells: tuple[Cell, ...] | None = None,
    functions: tuple[str, ...] | None = None,
    show: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Any]:
    """Do what is missing in the folder, write `results.json` and return what is in it.

    weights: a file of weights, None for the package's own. tasks: of each cell. with_floor: the Bayes floor too (the first
    10 tasks of plain cells). cells: only these; None for all, with test functions and behaviour. functions: names of
    problems without constraints; None for `FUNCTIONS`, or for none of them where cells are given.
    Raises ValueRefused where the weights cannot be read. Uses one thread. KeyboardInterrupt loses the part in progress.
    """
    network, header = load_weights(Path(weights) if weights is not None else PATH)
    out = Path(folder) / f"parts-{FORMAT}"
    out.mkdir(parents=True, exist_ok=True)
    chosen = tuple(CELLS.values()) if cells is None else cells
    functions = (FUNCTIONS if cells is None else ()) if functions is None else functions
    mark = header["sha256"][:12]
    found: dict[str, dict[str, Any]] = {}
    with limited_threads(1):
        every = list(_parts(chosen, network, mark, tasks, with_floor, functions))
        if cells is None:
            every.append(Part(f"sanity/pfn-{mark}", partial(_sanity, network)))
        groups = sorted({name.partition("/")[0] for name in (part.name for part in every)})
        waiting = [part for part in every if not _read(out, part.name, found)]
        began, total = time.monotonic(), len(waiting)
        for done in range(total + 1):
            left = {part.name.partition("/")[0] for part in waiting[done:]}
            took = time.monotonic() - began
            remaining = took / done * (total - done) if done else None
            show(Progress(runs=len(groups) - len(left), runs_total=len(groups), evaluations=len(every) - total + done,
                          evaluations_total=len(every), failed=0, seconds_left=remaining))  # fmt: skip
            if done < total:
                start = time.process_time()
                data = waiting[done].work()
                _write(out, waiting[done].name, {**data, "cpu_seconds": time.process_time() - start})
                _read(out, waiting[done].name, found)
    results: dict[str, Any] = _finite(_join(found, chosen, mark, tasks, functions, header))
    _replace(Path(folder) / "results.json", results)
    return results


def _parts(
    cells: tuple[Cell, ...], network: Network, mark: str, tasks: int, with_floor: bool, functions: tuple[str, ...]
) -> Iterator[Part]:
    """All pieces of work, those of a cell together."""
    with torch.random.fork_rng(devices=[]):
        untrained = Network(network.shape).eval()
    shape = "-".join(map(str, asdict(network.shape).values()))
    for cell in cells:
        at = _place(cell, tasks)
        if cell.kind == "held-out":
            yield Part(f"{at}/pfn-{mark}", partial(_calibrate, cell, network, tasks))
            continue
        yield Part(f"{at}/pfn-{mark}", partial(_read_by, network, cell, tasks))
        if cell.kind != "known":
            yield Part(f"{at}/anchors-{shape}", partial(_read_by, untrained, cell, tasks))
        for priors in RIVALS[cell.kind]:
            yield Part(f"{at}/{priors}", partial(_fit, cell, tasks, priors))
        yield Part(f"{at}/nothing", partial(_none, cell, tasks))
        if with_floor and cell.kind == "plain":
            yield Part(f"{at}/floor", partial(_floor, cell, tasks))
    for name in functions:
        yield Part(f"{name}/pfn-{mark}", partial(_on_function, name, network))


@cache
def _place(cell: Cell, count: int) -> str:
    """The folder of a cell's parts: another one where the prior gives other tasks."""
    digest = hashlib.sha256(cell.tasks(2).told.numpy().tobytes()).hexdigest()[:8]
    return f"{cell}-{count}-{digest}"


@lru_cache(maxsize=1)
def _tasks(cell: Cell, count: int) -> Tasks:
    return cell.tasks(count)


@lru_cache(maxsize=1)
def _reader(cell: Cell, count: int, kernels: int) -> Reader:
    tasks = _tasks(cell, count)
    return Reader(tasks.X, tasks.y, kernels)


def _read_by(network: Network, cell: Cell, count: int) -> dict[str, Any]:
    tasks = _tasks(cell, count)
    return _scored(tasks, _reader(cell, count, network.shape.anchors).believe(network, tasks.Q))


def _fit(cell: Cell, count: int, priors: Any) -> dict[str, Any]:
    tasks = _tasks(cell, count)
    return _scored(tasks, fitted(cell, tasks, priors))


def _none(cell: Cell, count: int) -> dict[str, Any]:
    tasks = _tasks(cell, count)
    return _scored(tasks, nothing(cell, tasks))


def _floor(cell: Cell, count: int) -> dict[str, Any]:
    tasks = _first(_tasks(cell, count), FLOOR_TASKS)
    one, other = floor(tasks, PARTICLES)
    halves = [asdict(gaps(tasks, half)) for half in (one, other)]
    return {**_scored(tasks, joined(one, other)), "halves": halves}


def _scored(tasks: Tasks, belief: Belief) -> dict[str, Any]:
    return {**asdict(gaps(tasks, belief)), "noise": evaluation.noise_of(tasks)}


def _calibrate(cell: Cell, network: Network, count: int) -> dict[str, Any]:
    tasks = _tasks(cell, count)
    belief = _reader(cell, count, network.shape.anchors).believe(network, tasks.Q)
    return asdict(told_coverage(tasks, belief))


def _on_function(name: str, network: Network) -> dict[str, Any]:
    problem = problems.get(name)
    metric = problem.task.objectives[0].name

    def function(X: Array) -> Array:
        return np.asarray(problem.evaluate(X)[metric], dtype=float)

    found = {}
    for rows in ROWS:
        inside, error = function_coverage(network, function, problem.task.space.dimension, rows, DESIGNS, seed=0)
        found[str(rows)] = {**asdict(inside), "error": error}
    return found


def _sanity(network: Network) -> dict[str, Any]:
    return dict(sanity(network))


def _first(tasks: Tasks, count: int) -> Tasks:
    parts = {name: part[:count] for name, part in vars(tasks).items() if name != "hyperparameters"}
    return replace(tasks, **parts, hyperparameters={name: part[:count] for name, part in tasks.hyperparameters.items()})


def _join(
    found: dict[str, dict[str, Any]], cells: tuple[Cell, ...], mark: str, tasks: int, functions: tuple[str, ...],
    header: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The parts as one document."""
    rows, floors, calibration = [], [], []
    for cell in cells:
        at = _place(cell, tasks) + "/"
        parts = {name.removeprefix(at).partition("-")[0]: part for name, part in found.items() if name.startswith(at)}
        where = {"kind": cell.kind, "d": cell.d, "n": cell.n}
        if cell.kind == "held-out":
            calibration.append({**where, **_coverage(parts["pfn"])})
            continue
        bottom = parts.pop("floor", None)
        for who, part in parts.items():
            rows.append({**where, "who": who, **_summaries(part)})
            if bottom is not None:
                k = len(bottom["told"])
                few = {name: part[name][:k] for name in ("told", "latent", "anywhere", "noise")}
                floors.append({**where, "who": who, **_summaries(few)})
        if bottom is not None:
            apart = {
                name: abs(Summary.of(tuple(bottom["halves"][0][name])).mean - Summary.of(tuple(bottom["halves"][1][name])).mean)
                for name in ("told", "latent", "anywhere")
            }  # fmt: skip
            floors.append({**where, "who": "floor", **_summaries(bottom), "halves_apart": apart})
    on_functions = [
        {"function": name, "n": int(n), "error": part["error"], **_coverage(part)}
        for name in functions
        for n, part in found[f"{name}/pfn-{mark}"].items()
        if n.isdigit()
    ]
    checks = {name: value for name, value in found.get(f"sanity/pfn-{mark}", {}).items() if name != "cpu_seconds"}
    about = {name: header.get(name) for name in ("sha256", "steps", "seconds", "shape", "training")}
    return {"format": FORMAT, "weights": about, "tasks": tasks, "means": _means(rows), "gaps": rows, "floor": floors, "calibration": calibration,
            "functions": on_functions, "sanity": checks}  # fmt: skip


def _summaries(part: dict[str, Any]) -> dict[str, Any]:
    """Of all tasks: told values, noise-free ones, told ones at points anywhere; and of the quiet tasks of the first."""
    found = {name: asdict(Summary.of(tuple(part[name]))) for name in Gaps.__dataclass_fields__ if part[name]}
    main = part["anywhere"] or part["told"]
    quiet = tuple(gap for gap, noise in zip(main, part["noise"], strict=True) if noise < evaluation.QUIET)
    return {**found, "quiet": asdict(Summary.of(quiet))}


def _means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over the cells of a kind, per contestant and measure: of means and of medians over tasks."""
    found = []
    for kind, who in dict.fromkeys((row["kind"], row["who"]) for row in rows):
        mine = [row for row in rows if (row["kind"], row["who"]) == (kind, who)]
        for measure in (*Gaps.__dataclass_fields__, "quiet"):
            parts = [row[measure] for row in mine if measure in row and row[measure]["tasks"]]
            if parts:
                numbers = {name: float(np.mean([part[name] for part in parts])) for name in ("mean", "median")}
                found.append({"kind": kind, "who": who, "measure": measure, "cells": len(parts), **numbers})
    return found


def _coverage(part: dict[str, Any]) -> dict[str, Any]:
    inside = Coverage(tuple(map(tuple, part["shares"])), part["points"])
    keys = ("mean", "error", "binomial")
    return {"coverage": {f"{level:g}": dict(zip(keys, inside.at(level), strict=True)) for level in LEVELS}}


def _finite(value: Any) -> Any:
    """JSON data with null for numbers that are not finite."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _read(out: Path, name: str, found: dict[str, dict[str, Any]]) -> bool:
    """Whether a part is there; it is then among those found. One that cannot be read is made again."""
    try:
        data = json.loads((out / f"{name}.json").read_text())
    except (OSError, ValueError):
        return False
    found[name] = data
    return isinstance(data, dict)


def _write(out: Path, name: str, data: dict[str, Any]) -> None:
    path = out / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    _replace(path, data)


def _replace(path: Path, data: dict[str, Any]) -> None:
    """A reader finds the old file or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(data) + "\n")
    part.replace(path)
