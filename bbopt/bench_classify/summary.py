"""The results of a comparison of classifiers as arrays, and what follows from them: means, and mean ranks of the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbopt.bench.plan import read_json
from bbopt.bench_classify.plan import DEFINITION, SUITE, Job
from bbopt.bench_classify.results import RESULTS, Result, read_results
from bbopt.bench_classify.scores import SCORES
from bbopt.errors import UsageError
from bbopt.report.statistics import Comparison, average_ranks, compare

__all__ = ["MEASURES", "Summary", "load"]

Floats = NDArray[np.float64]
MEASURES = (*SCORES, "seconds")
"""What is known of a trained model: its scores and its CPU seconds."""


@dataclass(frozen=True)
class Summary:
    """A comparison, complete or not: its definition, and the result of every job that was scored or failed."""

    definition: Mapping[str, Any]
    results: Mapping[Job, Result]

    @property
    def data(self) -> tuple[str, ...]:
        """Names of the data sets."""
        return tuple(self.definition["data"])

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models."""
        return tuple(self.definition["models"])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of training rows, rising."""
        return tuple(sorted(self.definition["sizes"]))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the training draws."""
        return tuple(self.definition["seeds"])

    @property
    def left_out(self) -> dict[str, str]:
        """Models without any result that the last session could not use, with the reason."""
        sessions = self.definition.get("sessions", [])
        reasons: dict[str, str] = sessions[-1].get("left_out", {}) if sessions else {}
        return {name: reason for name, reason in reasons.items() if name not in self.models}

    @property
    def errors(self) -> dict[Job, str]:
        """The error of each job whose last attempt failed."""
        return {job: result.error for job, result in self.results.items() if result.error}

    def limit(self, model: str) -> int | None:
        """The most rows that a model is trained with, None without a limit."""
        largest: int | None = self.definition["models"][model]["largest"]
        return largest

    def takes_part(self, model: str, size: int) -> bool:
        """Whether a model is trained with this number of rows."""
        limit = self.limit(model)
        return limit is None or size <= limit

    @cached_property
    def cubes(self) -> dict[str, Floats]:
        """For each of MEASURES, (data sets, sizes, seeds, models) values; NaN where there is none."""
        shape = (len(self.data), len(self.sizes), len(self.seeds), len(self.models))
        cubes = {measure: np.full(shape, np.nan) for measure in MEASURES}
        places = [
            {value: i for i, value in enumerate(axis)} for axis in (self.data, self.sizes, self.seeds, self.models)
        ]
        for job, result in self.results.items():
            keys = (job.data, job.size, job.seed, job.model)
            if result.error or not all(key in axis for key, axis in zip(keys, places, strict=True)):
                continue
            place = tuple(axis[key] for key, axis in zip(keys, places, strict=True))
            for measure, value in (*result.scores.items(), ("seconds", result.seconds)):
                cubes[measure][place] = np.nan if value is None else value
        return cubes

    @property
    def planned(self) -> int:
        """Number of jobs that the definition asks for."""
        sizes = sum(self.takes_part(name, size) for name in self.models for size in self.sizes)
        return sizes * len(self.data) * len(self.seeds)

    @property
    def complete(self) -> int:
        """Number of jobs that were scored."""
        return int(np.isfinite(self.cubes["f1"]).sum())

    def mean(self, measure: str) -> Floats:
        """(data sets, sizes, models) means over the seeds that were scored; NaN where there is none."""
        return mean(self.cubes[measure], 2)

    def deviation(self, measure: str) -> Floats:
        """(data sets, sizes, models) standard deviations over the seeds; NaN with fewer than two."""
        cube = self.cubes[measure]
        count = np.isfinite(cube).sum(axis=2)
        squares = np.nansum((cube - self.mean(measure)[:, :, None]) ** 2, axis=2)
        return np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)

    def over_data(self, measure: str) -> Floats:
        """(sizes, models) means over the data sets of the means over the seeds; NaN where some data set has none."""
        return np.asarray(self.mean(measure).mean(axis=0))

    def ranks(self, measure: str) -> Floats:
        """(sizes, models) mean ranks, 1 is best, among the models that take part at a size.

        Each pair of data set and seed for which all of them have a value is one block; ties share their ranks. NaN where
        there is no such block, or the model does not take part.
        """
        cost = self.cubes[measure] * (-1.0 if SCORES.get(measure, False) else 1.0)
        found = np.full((len(self.sizes), len(self.models)), np.nan)
        for place, size in enumerate(self.sizes):
            there = [i for i, name in enumerate(self.models) if self.takes_part(name, size)]
            blocks = cost[:, place][:, :, there].reshape(-1, len(there))
            blocks = blocks[np.isfinite(blocks).all(axis=1)]
            if len(blocks) and there:
                found[place, there] = average_ranks(blocks).mean(axis=0)
        return found

    @property
    def common_sizes(self) -> tuple[int, ...]:
        """Sizes at which every model takes part."""
        return tuple(size for size in self.sizes if all(self.takes_part(name, size) for name in self.models))

    @property
    def comparison(self) -> Comparison | None:
        """The models over the data sets by F1, each data set with its seeds and the sizes that are common to all models.

        Only complete blocks count; None where some data set has none, or there are fewer than two models or data sets.
        """
        places = [i for i, size in enumerate(self.sizes) if size in self.common_sizes]
        blocks = [(1.0 - cube[places]).reshape(-1, len(self.models)) for cube in self.cubes["f1"]]
        blocks = [block[np.isfinite(block).all(axis=1)] for block in blocks]
        if len(blocks) < 2 or len(self.models) < 2 or not all(len(block) for block in blocks):
            return None
        return compare(blocks)

    def rows(self) -> list[dict[str, Any]]:
        """One row per data set, size and model: number of seeds, mean and standard deviation of F1, means of the rest."""
        means = {measure: self.mean(measure) for measure in MEASURES}
        deviation, count = self.deviation("f1"), np.isfinite(self.cubes["f1"]).sum(axis=2)
        return [
            {
                "data": data,
                "size": size,
                "model": name,
                "seeds": int(count[i, j, k]),
                "f1": float(means["f1"][i, j, k]),
                "f1_deviation": float(deviation[i, j, k]),
                **{measure: float(means[measure][i, j, k]) for measure in MEASURES[1:]},
            }
            for i, data in enumerate(self.data)
            for j, size in enumerate(self.sizes)
            for k, name in enumerate(self.models)
            if count[i, j, k]
        ]


def mean(values: Floats, axis: int) -> Floats:
    """Mean of the values that are there; NaN where there is none.

    >>> mean(np.array([[1.0, np.nan], [3.0, np.nan]]), 0).tolist()
    [2.0, nan]
    """
    count = np.isfinite(values).sum(axis=axis)
    return np.where(count > 0, np.nansum(values, axis=axis) / np.maximum(count, 1), np.nan)


def load(folder: str | Path) -> Summary:
    """The comparison in a folder. Raises `UsageError` where there is none."""
    definition = read_json(Path(folder) / DEFINITION)
    if definition.get("suite") != SUITE:
        raise UsageError(f"expected a folder of `bbopt bench-classify`, found no {DEFINITION} of one in {folder}")
    return Summary(definition, read_results(Path(folder) / RESULTS))


def best(values: Sequence[float], more: bool) -> list[bool]:
    """Which of the values are the best to three digits; none where there are fewer than two.

    >>> best([0.5, 0.9, float("nan"), 0.9001], more=True)
    [False, True, False, True]
    """
    known = [round(value, 3) for value in values if value == value]
    if len(known) < 2:
        return [False] * len(values)
    top = max(known) if more else min(known)
    return [value == value and round(value, 3) == top for value in values]
