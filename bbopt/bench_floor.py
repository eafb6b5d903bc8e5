"""The Bayes floor of the fixed plain tasks, kept as reference numbers: `python -m bbopt.bench_floor [CELL ...]`.

Writes `surrogates/evaluation/floor.json`, cell by cell. Cells that are in it already are left alone, so that an interrupted
run goes on; remove the file to make all of it anew. Some minutes on one core.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS

import json
import sys
import time
from pathlib import Path
from typing import Any

from bbopt.errors import UsageError
from surrogates.evaluation.gaps import Summary
from surrogates.evaluation.reference import PARTICLES, PATH, TASKS, compute_floor
from surrogates.evaluation.tasks import PLAIN, Cell
from surrogates.training.threads import limited_threads

__all__ = ["main", "write_floor"]


def write_floor(path: Path, cells: tuple[Cell, ...], particles: int = PARTICLES) -> dict[str, Any]:
    """Compute what is missing of these cells, writing the file after each; returns the cells that are in it now."""
    done: dict[str, Any] = json.loads(path.read_text())["cells"] if path.exists() else {}
    for cell in cells:
        if str(cell) in done:
            continue
        start = time.process_time()
        with limited_threads(1):
            done[str(cell)] = compute_floor(cell.tasks(TASKS), particles)
        order = [str(each) for each in PLAIN if str(each) in done]
        text = ",\n".join(f"  {json.dumps(name)}: {json.dumps(done[name])}" for name in order)
        path.write_text('{"made_by": "python -m bbopt.bench_floor", "cells": {\n' + text + "\n}}\n")
        middle = Summary.of(tuple(done[str(cell)]["anywhere"])).mean
        print(f"{cell}: {middle:.4f} nats above the oracle, {time.process_time() - start:.0f} CPU seconds", flush=True)
    return done


def main(names: list[str]) -> None:
    """The cells of these names, or all."""
    known = {str(cell): cell for cell in PLAIN}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"expected cells among {', '.join(known)}; got {', '.join(unknown)}")
    write_floor(PATH, tuple(known[name] for name in names) or PLAIN)


if __name__ == "__main__":
    main(sys.argv[1:])
