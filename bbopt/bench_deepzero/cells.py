"""One training of the benchmark: what came of it, and the file it is kept in; and several of them, from several seeds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bbopt.train_network import train_network
from bbopt.zeroth_order.training.loop import Diverged
from bbopt.zeroth_order.training.recipe import Recipe
from bbopt.zeroth_order.training.record import Record

__all__ = ["Outcome", "Result", "Row", "outcome", "outcomes"]


@dataclass(frozen=True)
class Outcome:
    """What came of one training. accuracy: percent of the test images right, NaN where the loss was no number any more.

    queries: forward passes of a batch. seconds: of CPU, scores and tests included.
    """

    accuracy: float
    queries: int
    seconds: float


@dataclass(frozen=True)
class Row:
    """A line of a table: one recipe from so many seeds, which start from other weights and see other orders and masks."""

    label: str
    recipe: Recipe
    seeds: int


@dataclass(frozen=True)
class Result:
    """What came of a row, seed by seed.

    >>> Result((Outcome(90.0, 10, 1.0), Outcome(92.0, 10, 3.0))).mean
    91.0
    """

    outcomes: tuple[Outcome, ...]

    @property
    def mean(self) -> float:
        """Of accuracies; a training that diverged counts as guessing among ten classes."""
        return statistics.fmean(10.0 if math.isnan(each.accuracy) else each.accuracy for each in self.outcomes)

    def first(self, count: int) -> Result:
        """Of the first so many seeds alone, beside a row that has no more."""
        return Result(self.outcomes[:count])

    @property
    def spread(self) -> float:
        """Standard deviation of the accuracies over seeds, NaN of one."""
        if len(self.outcomes) < 2:
            return math.nan
        return statistics.stdev(10.0 if math.isnan(each.accuracy) else each.accuracy for each in self.outcomes)

    @property
    def diverged(self) -> int:
        """How many trainings had a loss that was no number."""
        return sum(math.isnan(each.accuracy) for each in self.outcomes)

    @property
    def seconds(self) -> float:
        """Median CPU seconds of a training."""
        return statistics.median(each.seconds for each in self.outcomes)

    @property
    def queries(self) -> float:
        """Mean queries of a training."""
        return statistics.fmean(each.queries for each in self.outcomes)


def outcomes(row: Row, folder: Path, show: Callable[[str], None]) -> Result:
    """What the folder has of a row, and the trainings that it lacks."""
    found = []
    for seed in range(row.seeds):
        recipe = dataclasses.replace(row.recipe, seed=seed)
        show(f"{row.label}, seed {seed}")
        found.append(outcome(recipe, folder))
    return Result(tuple(found))


def outcome(recipe: Recipe, folder: Path) -> Outcome:
    """What the folder has of one training; where it has nothing, the training, after which the folder has it."""
    path = folder / f"{_key(recipe)}.json"
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        accuracy = math.nan if kept["accuracy"] is None else kept["accuracy"]
        return Outcome(accuracy, kept["queries"], kept["seconds"])
    start, queries = time.process_time(), 0

    def count(record: Record) -> None:
        nonlocal queries
        queries = record.queries

    try:
        trained = train_network(recipe, report=count)
        accuracy, queries = 100.0 * trained.score.accuracy, trained.queries
    except Diverged:
        accuracy = math.nan
    seconds = time.process_time() - start
    kept = {"recipe": recipe.to_json(), "accuracy": None if math.isnan(accuracy) else accuracy, "queries": queries,
            "seconds": seconds}  # fmt: skip
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(kept), encoding="utf-8")
    os.replace(beside, path)
    return Outcome(accuracy, queries, seconds)


def _key(recipe: Recipe) -> str:
    """A name for a training: network, seed, and a digest of all the rest."""
    text = json.dumps(recipe.to_json(), sort_keys=True)
    return f"{recipe.network}-{hashlib.sha256(text.encode()).hexdigest()[:12]}-{recipe.seed}"
