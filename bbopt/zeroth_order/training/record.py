"""The log of a training: one JSON object a line."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["LOG", "Record", "append", "cut", "read"]

LOG = "log.jsonl"


@dataclass(frozen=True)
class Record:
    """A line of the log; NaN where there is no number.

    epoch: epochs done, in whole and in part. seconds: over all sessions. share: of the run that is done. loss: mean over
    the steps since the last line. queries: forward passes of a batch so far, those for scores included, those for checks not. rate, radius: of
    the last step. active: coordinates that took part in it. accuracy, test_loss: on the test examples, at the end of an
    epoch. cosine, error: between the gradient and one of half the radius, on some coordinates, at the end of an epoch.

    >>> Record(2, 0.5, 0.1, 1.0, 0.3, 12, 0.1, 5e-3, 10, *[math.nan] * 4).to_json()["accuracy"] is None
    True
    """

    step: int
    epoch: float
    seconds: float
    share: float
    loss: float
    queries: int
    rate: float
    radius: float
    active: int
    accuracy: float
    test_loss: float
    cosine: float
    error: float

    def to_json(self) -> dict[str, Any]:
        """As it stands in the log: None where there is no finite number."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in dataclasses.asdict(self).items()
        }


def append(folder: Path, record: Record) -> None:
    """One more line."""
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record.to_json()) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """All lines; none where there is no log."""
    path = folder / LOG
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def cut(folder: Path, step: int) -> None:
    """Take away the lines of steps that will be taken again, and half a line: a killed run logs further than it saves."""
    path = folder / LOG
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        path.write_text("".join(kept), encoding="utf-8")
