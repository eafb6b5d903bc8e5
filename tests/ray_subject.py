"""Objectives that tests of Ray send to workers, which find this file by PYTHONPATH. Loads no torch: workers start often."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bbopt
from bbopt.ray_cluster import Cluster, open_cluster


@contextmanager
def cluster(monkeypatch: Any) -> Iterator[Cluster]:
    """One cluster for a whole file of tests: starting one takes seconds."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with open_cluster("local", cpus=2) as opened:
        yield opened


# -- objectives --------------------------------------------------------------------------------------------------------


def wave(params: dict[str, Any]) -> dict[str, float]:
    x, y = params["x"], params["y"]
    return {"f": math.sin(3 * x) * y, "g": x}


def first_columns(params: dict[str, Any]) -> float:
    return float(params["w"][:100].sum() + (params["w"] ** 2).sum())


@bbopt.batched
def batched_bowl(X: Any) -> Any:
    return (X**2).sum(1)


@bbopt.batched(device="cuda")
def batched_on_gpu(X: Any) -> Any:
    return X.sum(1)


def killed_once(trace: str, number: int, params: dict[str, Any]) -> float:
    """By -9, in one of its calls."""
    path = Path(trace)
    calls = getattr(killed_once, "calls", 0) + 1
    setattr(killed_once, "calls", calls)  # noqa: B010
    if calls >= number and not path.exists():
        path.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return float(params["x"] ** 2)


def interrupts(params: dict[str, Any]) -> float:
    raise KeyboardInterrupt


def returns(value: Any, params: dict[str, Any]) -> Any:
    return value


class Unloadable:
    """Travels, but does not arrive."""

    def __call__(self, params: dict[str, Any]) -> float:
        return 0.0

    def __reduce__(self) -> Any:
        return _raise, ("no such thing here",)


def _raise(text: str) -> None:
    raise OSError(text)
