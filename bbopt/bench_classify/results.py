"""The results of a comparison of classifiers, as lines of JSON in one file that only grows.

A line is written and flushed to the disk when a model has been scored. A process that is killed leaves at most one line without
an end, which the next one cuts off. Of several lines about one job, the last counts.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TextIO

from bbopt.bench_classify.plan import Job
from bbopt.errors import UsageError

__all__ = ["RESULTS", "Log", "Result", "read_results"]

RESULTS = "results.jsonl"


@dataclass(frozen=True)
class Result:
    """A model after training and test: its scores (`bbopt.bench_classify.scores`), CPU seconds of training and of the test
    together, and how many classes were in the training rows; or the error that it ended with."""

    job: Job
    scores: dict[str, float | None]
    seconds: float = 0.0
    seen: int = 0
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        if self.error:
            return {**asdict(self.job), "error": self.error}
        return {**asdict(self.job), **self.scores, "seconds": round(self.seconds, 6), "seen": self.seen}

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Self:
        """The result that `to_json` described."""
        rest = dict(line)
        job = Job(rest.pop("data"), rest.pop("seed"), rest.pop("size"), rest.pop("model"))
        if "error" in rest:
            return cls(job, {}, error=rest["error"])
        return cls(job, seconds=rest.pop("seconds"), seen=rest.pop("seen"), scores=rest)


def read_results(path: Path) -> dict[Job, Result]:
    """All results of a file, {} where there is none. Raises UsageError for a line that is not one of ours."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    found = {}
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        try:
            result = Result.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path}, line {number}: expected a result, got {line[:80]!r}; move the file away"
            ) from error
        found[result.job] = result
    return found


class Log:
    """The file of results, open for adding. Use as a context."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        if self._path.exists():
            with self._path.open("r+b") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
        self._file: TextIO = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, result: Result) -> None:
        """Add a result; it is on the disk when this returns."""
        self._file.write(json.dumps(result.to_json(), allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
