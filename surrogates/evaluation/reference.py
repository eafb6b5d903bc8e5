"""The Bayes floor of the fixed plain tasks as kept numbers: what could be reached on them at best, computed once.

`floor.json` beside this file holds, per cell of `PLAIN`, the gaps of the mixture over the posterior of the hyperparameters
on the first `TASKS` tasks, those of its two halves (populations of particles that never met), and some told values, by
which it is seen that the tasks are the same here. `make bench-floor` makes it (`bbopt.bench_floor`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch

from surrogates.evaluation.gaps import gaps
from surrogates.evaluation.rivals import floor, joined
from surrogates.evaluation.tasks import Cell, first
from surrogates.prior import Tasks

__all__ = ["PATH", "TASKS", "compute_floor", "kept_floor"]

PATH = Path(__file__).with_name("floor.json")
TASKS, PARTICLES = 10, 128
FEW = 4  # told values that are kept


def compute_floor(tasks: Tasks, particles: int = PARTICLES) -> dict[str, Any]:
    """Gaps of the floor on the first `TASKS` of a plain cell's tasks, as plain data."""
    few = first(tasks, TASKS)
    one, other = floor(few, particles)
    halves = [asdict(gaps(few, half)) for half in (one, other)]
    mark = [float(value) for value in few.y[:, -1][:FEW]]
    return {**asdict(gaps(few, joined(one, other))), "halves": halves, "particles": particles, "mark": mark}


def kept_floor(cell: Cell, tasks: Tasks) -> dict[str, Any] | None:
    """The kept numbers of a cell; None where there are none, or where the tasks here are others.

    >>> cell = Cell("plain", 1, 8)
    >>> kept = kept_floor(cell, cell.tasks(10))
    >>> kept is not None and len(kept["anywhere"])
    10
    """
    found = _kept().get(str(cell))
    if found is None or len(tasks.y) < TASKS:
        return None
    mark = torch.tensor(found["mark"], dtype=tasks.y.dtype)
    same = torch.allclose(tasks.y[: len(mark), -1], mark, rtol=1e-6, atol=1e-9)
    return dict(found) if same else None


@cache
def _kept() -> dict[str, dict[str, Any]]:
    document = json.loads(PATH.read_text())
    cells: dict[str, dict[str, Any]] = document["cells"]
    return cells
