"""Do what is missing of an evaluation, keep every part in a file of its own, and write `results.json`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bbopt.bench import Progress
from bbopt.bench_surrogates.checks import checks
from bbopt.bench_surrogates.join import join
from bbopt.bench_surrogates.parts import CELLS, FUNCTIONS, Contestants, parts
from surrogates.amortised import shipped as amortised
from surrogates.evaluation.tasks import Cell
from surrogates.pfn import shipped as pfn
from surrogates.pfn.weights import load_weights
from surrogates.training.threads import limited_threads

__all__ = ["run_surrogates"]

FORMAT = 2
ABOUT = ("sha256", "steps", "seconds", "shape", "training")


def run_surrogates(
    folder: str | Path,
    weights: str | Path | None = None,
    tasks: int = 64,
    with_floor: bool = False,
    cells: tuple[Cell, ...] | None = None,
    functions: tuple[str, ...] | None = None,
    show: Callable[[Progress], None] = lambda progress: None,
    amortised_weights: str | Path | None = None,
) -> dict[str, Any]:
    """Do what is missing in the folder, write `results.json` and return what is in it.

    weights, amortised_weights: files of weights of the PFN and of the amortised process, None for the package's own.
    tasks: of each cell. with_floor: compute the Bayes floor of plain cells here rather than taking the kept numbers (both
    are of the first 10 tasks). cells: only these; None for all, with test functions, behaviour and costs. functions:
    names of problems without constraints; None for `FUNCTIONS`, or for none of them where cells are given.
    Raises ValueRefused where weights cannot be read. Uses one thread. KeyboardInterrupt loses the part in progress.
    """
    network, header = load_weights(Path(weights) if weights is not None else pfn.PATH)
    other, other_header = amortised.load_network(
        Path(amortised_weights) if amortised_weights is not None else amortised.PATH
    )
    who = Contestants(network, header["sha256"][:12], other, other_header["sha256"][:12])
    out = Path(folder) / f"parts-{FORMAT}"
    out.mkdir(parents=True, exist_ok=True)
    chosen = tuple(CELLS.values()) if cells is None else cells
    functions = (FUNCTIONS if cells is None else ()) if functions is None else functions
    found: dict[str, dict[str, Any]] = {}
    with limited_threads(1):
        every = list(parts(chosen, who, tasks, with_floor, functions, rest=cells is None))
        groups = {part.name.partition("/")[0] for part in every}
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
        found = {part.name: found[part.name] for part in every}
        joined = join(found, chosen, who, tasks, functions)
    headers = {"pfn": header, "amortised": other_header}
    about = {name: {key: each.get(key) for key in ABOUT} for name, each in headers.items()}
    document = {"format": FORMAT, "weights": about, "tasks": tasks, **joined, "checks": checks(joined)}
    results: dict[str, Any] = _finite(document)
    _replace(Path(folder) / "results.json", results)
    return results


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
