"""What a comparison of classifiers is: its definition, how it is kept in a folder, and what may be added to it later.

`classify.json` holds the definition and a list of the sessions that worked on it. A later command may name more data sets,
models, sizes or seeds: the folder then holds the union, and the command works on what it names. Another number of test
rows, or a model of the same name with other settings, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbopt.bench.plan import BenchDiffers
from bbopt.bench_classify.models import model
from bbopt.errors import UsageError
from problems.classification import data_set

__all__ = ["DEFINITION", "SIZES", "SUITE", "TEST", "Job", "Plan", "join"]

DEFINITION = "classify.json"
SUITE = "engineering-classification"
SIZES = (50, 100, 200, 500, 1000, 2000)
TEST = 10_000
FORMAT = 1


@dataclass(frozen=True)
class Job:
    """One model trained on the first `size` rows of the training draw that belongs to the data set and the seed."""

    data: str
    seed: int
    size: int
    model: str


@dataclass(frozen=True)
class Plan:
    """The definition: names of data sets and models, numbers of training rows, seeds, number of test rows."""

    data: tuple[str, ...]
    models: tuple[str, ...]
    sizes: tuple[int, ...] = SIZES
    seeds: tuple[int, ...] = (0,)
    test: int = TEST

    def __post_init__(self) -> None:
        lists: tuple[tuple[str, Sequence[Any]], ...] = (
            ("data set", self.data),
            ("model", self.models),
            ("size", self.sizes),
            ("seed", self.seeds),
        )
        for what, values in lists:
            if not values:
                raise UsageError(f"bench-classify: expected at least one {what}, got none")
            twice = [value for value in values if values.count(value) > 1]
            if twice:
                raise UsageError(f"bench-classify: expected every {what} once, got {twice[0]!r} twice")
        for name in self.data:
            data_set(name)
        for name in self.models:
            model(name)
        if min(self.sizes) < 1 or min(self.seeds) < 0 or self.test < 1:
            raise UsageError(
                f"bench-classify: expected sizes and test rows >= 1 and seeds >= 0, "
                f"got {min(self.sizes)}, {self.test} and {min(self.seeds)}"
            )

    def jobs(self) -> Iterator[Job]:
        """All that is to be trained, seed by seed, so that a part of the work is a comparison with fewer seeds."""
        for seed in self.seeds:
            for data in self.data:
                for size in self.sizes:
                    for name in self.models:
                        largest = model(name).largest
                        if largest is None or size <= largest:
                            yield Job(data, seed, size, name)

    def to_json(self) -> dict[str, Any]:
        """The definition as JSON values."""
        return {
            "format": FORMAT,
            "suite": SUITE,
            "data": list(self.data),
            "models": {name: model(name).describe() for name in self.models},
            "sizes": list(self.sizes),
            "seeds": list(self.seeds),
            "test": self.test,
        }


def join(found: Mapping[str, Any], plan: Plan, folder: Path) -> dict[str, Any]:
    """The definition of a folder together with a plan for it. Raises BenchDiffers where they contradict each other."""
    wanted = plan.to_json()
    if (found.get("suite"), found.get("format")) != (SUITE, FORMAT):
        raise BenchDiffers(
            f"{folder / DEFINITION} is of {found.get('suite')!r}, format {found.get('format')}; expected {SUITE!r}, "
            f"format {FORMAT}: use another folder"
        )
    lines = [] if found["test"] == plan.test else [f"test rows: {found['test']} there, {plan.test} here"]
    for name, settings in wanted["models"].items():
        there = found["models"].get(name, settings)
        lines += [f"{name}: {k} {there.get(k)!r} there, {v!r} here" for k, v in settings.items() if there.get(k) != v]
    if lines:
        raise BenchDiffers(
            f"{folder} holds another comparison than this one:\n  "
            + "\n  ".join(lines)
            + "\nChoose another folder, or the values that are there. More data sets, models, sizes or seeds may be added."
        )
    return {
        **wanted,
        "data": [*found["data"], *(name for name in plan.data if name not in found["data"])],
        "models": {**found["models"], **wanted["models"]},
        "sizes": sorted({*found["sizes"], *plan.sizes}),
        "seeds": sorted({*found["seeds"], *plan.seeds}),
        "sessions": list(found.get("sessions", [])),
    }
