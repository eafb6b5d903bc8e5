"""A training run as data: what is trained, the schedule, the machine; read from JSON and checked in full."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbopt.errors import UsageError
from surrogates.training.fields import check_names, typed
from surrogates.training.subject import Check, Subject

__all__ = ["Training", "configs_of", "configuration", "configurations"]

DEVICES = ("cpu", "cuda")
LOWEST_RATE = 0.02  # of the highest learning rate, at the end of the cosine


@dataclass(frozen=True)
class Training:
    """A whole training run.

    subject: what is drawn and the network. steps, minutes: the end, whichever comes first; at least one is needed. rate:
    highest learning rate. decay: of weights. warmup: steps of rising learning rate. threads: of the process that follows
    the gradient. workers: processes that draw batches (0: none; on a GPU always none). every: steps per log line.
    save_seconds: between checkpoints. Raises UsageError for values out of range, those of the subject included.

    >>> from surrogates.pfn.subject import PFNSubject
    >>> Training(PFNSubject(), steps=100).progress(step=25, seconds=9.0)
    0.25
    """

    subject: Subject
    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    rate: float = 1e-3
    decay: float = 0.01
    warmup: int = 200
    device: str = "cpu"
    threads: int = 1
    workers: int = 1
    every: int = 50
    save_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise UsageError("Training: expected steps or minutes (or both) as its end, got neither")
        checks = (*_checks(self), *self.subject.checks())
        if wrong := [f"{words}, got {value!r}" for words, value, right in checks if not right]:
            raise UsageError("Training: expected " + "; ".join(wrong))

    @classmethod
    def from_json(cls, data: Mapping[str, Any], kind: type[Subject]) -> Training:
        """From a mapping of the fields of a kind of subject and of those here; what is not given is as by default.

        Raises UsageError for unknown names, values of another type or out of range.

        >>> from surrogates.pfn.subject import PFNSubject
        >>> Training.from_json({"steps": 10, "shape": {"width": 64}}, PFNSubject).to_json()["shape"]["width"]
        64
        """
        subject = kind()
        parts: dict[str, Any] = {each.name: getattr(subject, each.name) for each in dataclasses.fields(subject)}
        ends = {"steps": 1, "minutes": 1.0}  # of these types, where they are given
        own = {each.name: ends.get(each.name, each.default) for each in dataclasses.fields(cls) if each.name != "subject"}  # fmt: skip
        check_names("a training", data, [*parts, *own])
        values: dict[str, Any] = {
            name: None if name in ends and value is None else typed(name, value, {**own, **parts}[name])
            for name, value in data.items()
        }
        subject = dataclasses.replace(subject, **{name: values.pop(name) for name in parts if name in values})
        return cls(subject, **values)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        own = dataclasses.asdict(self)
        data: dict[str, Any] = json.loads(json.dumps({**own.pop("subject"), **own}))
        return data

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / (60.0 * self.minutes) if self.minutes else 0.0
        return min(max(by_steps, by_time), 1.0)

    def learning_rate(self, step: int, seconds: float) -> float:
        """Of one step: linear warm-up, then a cosine down to 2 %."""
        cosine = LOWEST_RATE + (1.0 - LOWEST_RATE) * 0.5 * (1.0 + math.cos(math.pi * self.progress(step, seconds)))
        return self.rate * cosine * min(1.0, (step + 1) / self.warmup)


def configs_of(kind: type[Subject]) -> Path:
    """The folder of the configurations that come with a kind of subject: `configs` beside its module.

    >>> from surrogates.pfn.subject import PFNSubject
    >>> configs_of(PFNSubject).parts[-2:]
    ('pfn', 'configs')
    """
    return Path(inspect.getfile(kind)).with_name("configs")


def configurations(folder: Path) -> list[str]:
    """Names of the configurations in a folder.

    >>> from surrogates.pfn.subject import PFNSubject
    >>> configurations(configs_of(PFNSubject))
    ['cpu', 'gpu', 'smoke']
    """
    return sorted(path.stem for path in folder.glob("*.json"))


def configuration(name: str, folder: Path) -> dict[str, Any]:
    """The fields of a named configuration in a folder, or those in a JSON file; `Training.from_json` reads them.

    Raises UsageError where there is no such name or file, or where the file holds no JSON object.

    >>> from surrogates.pfn.subject import PFNSubject
    >>> configuration("smoke", configs_of(PFNSubject))["steps"]
    200
    """
    path = folder / f"{name}.json" if name in configurations(folder) else Path(name)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as trouble:
        known = ", ".join(configurations(folder))
        raise UsageError(f"expected a configuration ({known}) or a JSON file that can be read, got {name!r} ({trouble.strerror})") from trouble  # fmt: skip
    except ValueError as trouble:
        raise UsageError(f"expected JSON in {name}, got something else ({trouble})") from trouble
    if not isinstance(data, dict):
        raise UsageError(f"expected a JSON object in {name}, got {type(data).__name__}")
    return data


def _checks(training: Training) -> Iterator[Check]:
    """The ranges of what does not depend on the subject."""
    t = training
    yield "steps of at least 1", t.steps, t.steps is None or t.steps >= 1
    yield "minutes above 0", t.minutes, t.minutes is None or t.minutes > 0.0
    yield "seed of at least 0", t.seed, t.seed >= 0
    yield "rate above 0", t.rate, t.rate > 0.0
    yield "decay of at least 0", t.decay, t.decay >= 0.0
    for name in ("warmup", "threads", "every"):
        yield f"{name} of at least 1", getattr(t, name), getattr(t, name) >= 1
    yield "workers of at least 0", t.workers, t.workers >= 0
    yield "save_seconds of at least 0", t.save_seconds, t.save_seconds >= 0.0
    yield f"device as one of {', '.join(DEVICES)}", t.device, t.device in DEVICES
