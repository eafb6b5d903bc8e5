"""What a benchmark is: its definition, how it is kept in a folder, and what may be added to it later.

`bench.json` holds the definition and a list of the sessions that worked on it (when, versions, machine). A later command
may name more problems, strategies or seeds, or a larger budget: the folder then holds the union, and the command works on
what it names. Anything else that differs (a strategy of the same name with other options, another suite, a smaller
budget, another initial design) is refused with the difference. Problems named one by one are a "selection".
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbopt import table
from bbopt.errors import UsageError
from bbopt.strategy import Strategy
from bbopt.worker_process import cores

__all__ = ["BenchDiffers", "Job", "Plan", "describe_strategy", "join", "machine", "read_json", "versions", "write_json"]

FORMAT = 1
SETTINGS = ("initial", "initial_design")
SELECTION = "selection"  # in place of a suite: problems chosen one by one
PACKAGES = ("bbopt", "numpy", "scipy", "torch", "gpytorch", "botorch")


class BenchDiffers(UsageError):
    """The folder holds a benchmark with another definition; the message shows the difference."""


@dataclass(frozen=True)
class Job:
    """One run: a strategy on a problem with a seed."""

    problem: str
    strategy: str
    seed: int

    @property
    def study(self) -> str:
        """Name of the study in the store.

        >>> Job("branin", "gp", 3).study
        'branin/gp/3'
        """
        return f"{self.problem}/{self.strategy}/{self.seed}"


@dataclass(frozen=True)
class Plan:
    """The definition of a benchmark. Strategies are configured instances, or "auto", which the optimizer resolves per task."""

    suite: str
    problems: tuple[str, ...]
    strategies: Mapping[str, Strategy | str]
    seeds: tuple[int, ...]
    budget: int
    initial: int

    def __post_init__(self) -> None:
        for what, values in (("problem", self.problems), ("strategy", tuple(self.strategies)), ("seed", self.seeds)):
            if not values:
                raise UsageError(f"bench: expected at least one {what}, got none")
            twice = [value for value in values if values.count(value) > 1]
            if twice:
                raise UsageError(f"bench: expected every {what} once, got {twice[0]!r} twice")
        for name in (*self.problems, *self.strategies):
            if "/" in name or not name:
                raise UsageError(
                    f"bench: expected names without a slash (they make the names of studies), got {name!r}"
                )
        if any(seed < 0 for seed in self.seeds):
            raise UsageError(f"bench: expected seeds >= 0, got {min(self.seeds)}")
        if self.budget < 1 or self.initial < 0:
            raise UsageError(f"bench: expected budget >= 1 and initial >= 0, got {self.budget} and {self.initial}")

    def jobs(self) -> list[Job]:
        """All runs, problem by problem."""
        return [Job(p, s, seed) for p in self.problems for s in self.strategies for seed in self.seeds]

    def to_json(self) -> dict[str, Any]:
        """The definition as JSON values."""
        return {
            "format": FORMAT,
            "suite": self.suite,
            "problems": list(self.problems),
            "strategies": {name: describe_strategy(strategy) for name, strategy in self.strategies.items()},
            "seeds": list(self.seeds),
            "budget": self.budget,
            "initial": self.initial,
            "initial_design": "uniform in the unit cube, shared by all strategies per problem and seed",
        }


def describe_strategy(strategy: Strategy | str) -> dict[str, Any]:
    """A strategy as JSON values: its name or class with its options, or `auto`, which chooses per task.

    >>> describe_strategy("auto")
    {'name': 'auto'}
    """
    if isinstance(strategy, str):
        return {"name": strategy}
    document: dict[str, Any] = json.loads(json.dumps(table.to_json(strategy)))
    return document


def join(found: Mapping[str, Any], plan: Plan, folder: Path) -> dict[str, Any]:
    """The definition of a folder together with a plan for it. Raises BenchDiffers where they contradict each other."""
    wanted = plan.to_json()
    if found.get("format") != FORMAT:
        raise BenchDiffers(f"{folder} has format {found.get('format')}, this bbopt writes {FORMAT}; use another folder")
    lines = [f"{k}: {found.get(k)!r} there, {wanted[k]!r} here" for k in SETTINGS if found.get(k) != wanted[k]]
    if found["suite"] != wanted["suite"] and SELECTION not in (found["suite"], wanted["suite"]):
        lines.append(f"suite: {found['suite']!r} there, {wanted['suite']!r} here")
    if wanted["budget"] < found["budget"]:
        lines.append(f"budget: {found['budget']} there, {wanted['budget']} here (it can grow, not shrink)")
    for name, options in wanted["strategies"].items():
        there = found["strategies"].get(name, options)
        if there != options:
            lines += [f"strategy {name}: {line}" for line in _differences(there, options)]
    if lines:
        raise BenchDiffers(
            f"{folder} holds another benchmark than this one:\n  "
            + "\n  ".join(lines)
            + "\nChoose another folder, or the "
            "values that are there. More problems, strategies, seeds or evaluations may be added."
        )
    together = [*found["problems"], *(p for p in wanted["problems"] if p not in found["problems"])]
    whole = [d for d in (found, wanted) if d["suite"] != SELECTION and set(d["problems"]) == set(together)]
    return {
        **wanted,
        "suite": whole[0]["suite"] if whole else SELECTION,
        "problems": whole[0]["problems"] if whole else together,
        "strategies": {**found["strategies"], **wanted["strategies"]},
        "seeds": sorted({*found["seeds"], *wanted["seeds"]}),
        "sessions": list(found.get("sessions", [])),
    }


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    def flat(strategy: Mapping[str, Any]) -> dict[str, Any]:
        return {key: strategy[key] for key in ("name", "class") if key in strategy} | dict(strategy.get("options", {}))

    old, new = flat(there), flat(here)
    changed = [key for key in {**old, **new} if old.get(key, "absent") != new.get(key, "absent")]
    return [f"{key} {old.get(key, 'absent')!r} there, {new.get(key, 'absent')!r} here" for key in changed]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that influence results, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """What the benchmark runs on."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return {"system": platform.system(), "architecture": platform.machine(), "processor": model, "cores": cores()}


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a file so that it is whole on the disk, the old one or the new one, whatever happens."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of `write_json`; {} where there is none. Raises UsageError where it is something else."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UsageError(f"expected JSON in {path}, got something else ({error}); move the file away") from error
    if not isinstance(document, dict):
        raise UsageError(f"expected a JSON object in {path}, got {type(document).__name__}; move the file away")
    return document


def as_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Seeds from a number of them (0, 1, ...) or a list.

    >>> as_seeds(3), as_seeds([7, 8])
    ((0, 1, 2), (7, 8))
    """
    return tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)
