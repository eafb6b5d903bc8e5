"""Functions that the contract of evaluators has evaluated, in any process: well-behaved ones, and all ways to misbehave.

What a function needs to know beyond its point is a folder, given by functools.partial. Nothing heavy is imported here:
workers load this file.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bbopt

TASK = bbopt.Task(
    bbopt.Space(x=bbopt.Float(0, 1), n=bbopt.Int(1, 5), kind=bbopt.Categorical(["a", "b"])),
    objectives=[bbopt.Objective("gain", maximize=True)],
    constraints=[bbopt.Constraint("load", upper=240.1)],
)
LINE = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)))
SECONDS = 60.0  # after this, whoever waits gives up and fails the test


def bowl(params: dict[str, Any]) -> dict[str, float]:
    """Numbers with many digits, that must come back to the bit."""
    return {
        "gain": math.sin(9 * params["x"]) * params["n"],
        "load": 240.1 / (0.7 + params["x"]) + (params["kind"] == "b"),
    }


def line(params: dict[str, Any]) -> float:
    return params["x"] / 3.0


class Strange(Exception):
    """Cannot be made from its own `args`, like many people's exceptions."""

    def __init__(self, part: str, force: float) -> None:
        super().__init__(f"{part} broke at {force}")
        self.part = part


def fails_above(limit: float, kind: str, params: dict[str, Any]) -> Any:
    """x / 3, or above the limit what `kind` says."""
    x = params["x"]
    if x <= limit:
        return x / 3.0
    if kind == "strange":
        raise Strange("the beam", 3.0)
    if kind == "impossible":
        raise bbopt.Impossible("the beam does not fit")
    if kind == "exit":
        os._exit(3)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        time.sleep(SECONDS)
    results = {
        "nan": math.nan,
        "none": None,
        "long": [x, x],
        "unknown": {"objective": x, "colour": x},
        "generator": iter([]),
    }
    return results[kind]


def fails_once(folder: Path, kind: str, params: dict[str, Any]) -> float:
    """The first of all calls misbehaves, in whatever process it is."""
    if first(folder / "failed"):
        fails_above(-1.0, kind, params)
    return params["x"] / 3.0


def first(path: Path) -> bool:
    """Whether this call is the first one of all processes with this path."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("waited for something that never came: is a worker idle?")
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be noticed does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def the_first_waits(folder: Path, params: dict[str, Any]) -> float:
    """The first call lasts until there is a file "go"."""
    if first(folder / "first"):
        wait_for((folder / "go").exists)
    return params["x"] / 3.0


def two_pairs(folder: Path, what: str, params: dict[str, Any]) -> float:
    """For the points 0.1 and 0.2 on one worker, 0.3 and 0.4 on another, in tasks of two rows: 0.3 is answered, after which 0.4
    says so and hangs. 0.1 is answered or raises when 0.3 has been sent, 0.2 says that 0.1 has been, and hangs."""
    x = round(params["x"], 9)
    (folder / f"pid {os.getpid()}").touch()
    if x == 0.1:
        wait_for((folder / "at 0.4").exists)
        if what == "raise":
            raise ValueError("in the user's code")
    if x in (0.2, 0.4):
        (folder / f"at {x}").touch()
        time.sleep(SECONDS)
    time.sleep(0.02)  # so long that what is done is sent before the next row begins
    return x


def noted(folder: Path, params: dict[str, Any]) -> float:
    """A short evaluation that leaves its process and its point in a file."""
    with (folder / "calls").open("a") as file:
        file.write(f"{os.getpid()} {params['x']!r}\n")
    time.sleep(0.05)
    return params["x"] / 3.0


def starts_a_solver(folder: Path, params: dict[str, Any]) -> float:
    """Runs a program that would last for ever, the first time; leaves one behind, the other times."""
    solver = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    (folder / f"solver {solver.pid}").touch()
    if first(folder / "waited"):
        solver.wait()
    return params["x"]


def _double(value: float) -> float:
    return 2.0 * value


def uses_a_pool(params: dict[str, Any]) -> float:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return sum(pool.map(_double, [1.0, 2.0]))
