"""One run of a peer on a problem with a seed: what is kept of it, and the file it is kept in."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

import problems
from bbopt.compare.peer import Peer
from bbopt.compare.view import View
from bbopt.errors import Exhausted, ValueRefused

__all__ = ["Cell", "path_of", "read_cell", "run_cell", "write_cell"]


@dataclass(frozen=True)
class Cell:
    """What is kept of a run.

    points: (params, metrics or None where they were not finite numbers) per evaluation; ask, tell: CPU seconds of each
    call, on one thread; error: of the peer, with its traceback, None where it came to its end.
    """

    problem: str
    peer: str
    seed: int
    budget: int
    version: str
    settings: str
    points: tuple[tuple[dict[str, Any], dict[str, float] | None], ...]
    ask: tuple[float, ...]
    tell: tuple[float, ...]
    start: float
    ended: str
    error: str | None = None
    traceback: str | None = None
    exhausted: bool = False


def path_of(folder: Path, problem: str, peer: str, seed: int) -> Path:
    """Where the cell is kept."""
    return folder / "cells" / quote(problem, safe="@+=,") / quote(peer, safe="@+=,") / f"{seed}.json"


def run_cell(problem: str, peer: Peer, seed: int, budget: int, told: Callable[[int], None] = lambda n: None) -> Cell:
    """Ask and tell `budget` times. What the peer raises is kept in the cell; the rest of the budget is lost to it."""
    made = problems.get(problem)
    view = View(made.task)
    points: list[tuple[dict[str, Any], dict[str, float] | None]] = []
    ask: list[float] = []
    tell: list[float] = []
    error = trace = None
    exhausted, begun = False, time.process_time()
    started = 0.0
    try:
        search = peer.start(view, seed, budget)
        started = time.process_time() - begun
        for n in range(budget):
            clock = time.process_time()
            params = search.ask()
            ask.append(time.process_time() - clock)
            try:
                metrics: dict[str, float] | None = made.task.read_metrics(made(params))
            except (ValueRefused, ArithmeticError):
                metrics = None
            points.append((_plain(params), metrics))
            result = None if metrics is None else view.result(params, metrics)
            clock = time.process_time()
            search.tell(params, result)
            tell.append(time.process_time() - clock)
            told(n + 1)
    except Exhausted:
        exhausted = True
    except Exception as failure:
        error, trace = f"{type(failure).__name__}: {failure}", traceback.format_exc()
    ended = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return Cell(problem, peer.name, seed, budget, peer.version(), peer.settings, tuple(points), tuple(ask), tuple(tell),
                started, ended, error, trace, exhausted)  # fmt: skip


def _plain(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in params.items()}


def write_cell(folder: Path, cell: Cell) -> None:
    """Keep a cell, whole or not at all."""
    path = path_of(folder, cell.problem, cell.peer, cell.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {**vars(cell), "ask": [round(s, 6) for s in cell.ask], "tell": [round(s, 6) for s in cell.tell]}
    beside = path.with_suffix(f".part{os.getpid()}")
    beside.write_text(json.dumps(document), encoding="utf-8")
    os.replace(beside, path)


def read_cell(path: Path) -> Cell | None:
    """The cell that a file holds, None where there is no file."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    kept["points"] = tuple((params, metrics) for params, metrics in kept["points"])
    kept["ask"], kept["tell"] = tuple(kept["ask"]), tuple(kept["tell"])
    return Cell(**kept)
