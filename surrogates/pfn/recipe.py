"""A training run as data: what is drawn, the network, the schedule, the machine; read from JSON and checked in full.

Named ones stand in `configs/` beside this file. `cpu`: the shipped weights, on two cores. `gpu`: 20 minutes of one GPU,
for the same network as `cpu`, because an ask on a CPU costs in proportion to the weights, and the solves that a larger
network would have to learn are made for it (`surrogates.pfn.anchors`); what a GPU buys is 25 times as many tasks per
step. `smoke`: 200 steps of a small network, to see that all parts work.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bbopt.errors import UsageError
from surrogates.pfn.anchors import MOST_ANCHORS
from surrogates.pfn.lessons import Sizes
from surrogates.pfn.network import Shape
from surrogates.prior import Prior

__all__ = ["Training", "configuration", "configurations"]

FOLDER = Path(__file__).with_name("configs")
DEVICES = ("cpu", "cuda")
LOWEST_RATE = 0.02  # of the highest learning rate, at the end of the cosine
BLURS = (5e-4, 2e-6)  # standardised units, first and last


@dataclass(frozen=True)
class Training:
    """A whole training run.

    steps, minutes: the end, whichever comes first; at least one is needed. rate: highest learning rate. decay: of
    weights. warmup: steps of rising learning rate. threads: of the process that follows the gradient. workers: processes
    that draw batches (0: none; on a GPU always none). every: steps per log line. save_seconds: between checkpoints.
    Raises UsageError for values out of range.

    >>> Training(steps=100).progress(step=25, seconds=9.0)
    0.25
    """

    prior: Prior = field(default_factory=Prior)
    sizes: Sizes = field(default_factory=Sizes)
    shape: Shape = field(default_factory=Shape)
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
        if wrong := list(_wrong(self)):
            raise UsageError("Training: expected " + "; ".join(wrong))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Training:
        """From a mapping of the fields, with mappings for prior, sizes and shape.

        Raises UsageError for unknown names, values of another type or out of range.

        >>> Training.from_json({"steps": 10, "shape": {"width": 64}}).shape.width
        64
        """
        parts: dict[str, Any] = {"prior": Prior(), "sizes": Sizes(), "shape": Shape()}
        built = {name: _build(default, name, data[name]) for name, default in parts.items() if name in data}
        rest = {name: value for name, value in data.items() if name not in parts}
        known = [each.name for each in dataclasses.fields(cls)]
        ends = {"steps": 1, "minutes": 1.0}  # of these types, where they are given
        defaults = {each.name: ends.get(each.name, each.default) for each in dataclasses.fields(cls)}
        _check_names("a training", rest, known)
        values: dict[str, Any] = {
            name: None if name in ends and value is None else _typed(name, value, defaults[name])
            for name, value in rest.items()
        }
        return cls(**built, **values)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        data: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
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

    def blur(self, step: int, seconds: float) -> float:
        """How exactly values are asked to be known: 5e-4 for a fifth of the run, then geometrically to 2e-6 at three fifths.

        A noise-free function is soon known to a millionth of its spread, and what training does not ask for, a search
        does not get; asked from the start, gradients would come from few points alone.
        """
        return _blur(self.progress(step, seconds))


def _blur(progress: float) -> float:
    share = min(max((progress - 0.2) / 0.4, 0.0), 1.0)
    return float(BLURS[0] * (BLURS[1] / BLURS[0]) ** share)


def configurations() -> list[str]:
    """Names of the configurations that come with the package.

    >>> configurations()
    ['cpu', 'gpu', 'smoke']
    """
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def configuration(name: str) -> dict[str, Any]:
    """The fields of a named configuration, or those in a JSON file; `Training.from_json` reads them.

    Raises UsageError where there is no such name or file, or where the file holds no JSON object.

    >>> configuration("smoke")["steps"]
    200
    """
    path = FOLDER / f"{name}.json" if name in configurations() else Path(name)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as trouble:
        known = ", ".join(configurations())
        raise UsageError(f"expected a configuration ({known}) or a JSON file that can be read, got {name!r} ({trouble.strerror})") from trouble  # fmt: skip
    except ValueError as trouble:
        raise UsageError(f"expected JSON in {name}, got something else ({trouble})") from trouble
    if not isinstance(data, dict):
        raise UsageError(f"expected a JSON object in {name}, got {type(data).__name__}")
    return data


def _build(default: Any, where: str, data: Any) -> Any:
    """An object of the type of `default` from a mapping of its fields."""
    if not isinstance(data, Mapping):
        raise UsageError(f"{where}: expected an object of names and values, got {data!r}")
    _check_names(where, data, [each.name for each in dataclasses.fields(default)])
    values = {name: _typed(f"{where}.{name}", value, getattr(default, name)) for name, value in data.items()}
    return dataclasses.replace(default, **values)


def _check_names(where: str, data: Mapping[str, Any], known: list[str]) -> None:
    if wrong := sorted(set(data) - set(known)):
        raise UsageError(f"{where}: expected names of {', '.join(sorted(known))}; got {', '.join(wrong)}")


def _typed(name: str, value: Any, default: Any) -> Any:
    """The value, if it is of the type of the default; lists become tuples of the same length."""
    if isinstance(default, tuple):
        if isinstance(value, list | tuple) and len(value) == len(default):
            return tuple(_typed(name, *pair) for pair in zip(value, default, strict=True))
        raise UsageError(f"{name}: expected a list of {len(default)} numbers, got {value!r}")
    kinds: dict[type, tuple[Any, str]] = {int: (int, "a whole number"), float: (int | float, "a number"), str: (str, "text")}  # fmt: skip
    kind, words = kinds[type(default)]
    if (
        not isinstance(value, kind)
        or isinstance(value, bool)
        or (isinstance(value, float) and not math.isfinite(value))
    ):
        raise UsageError(f"{name}: expected {words}, got {value!r}")
    return value


def _wrong(training: Training) -> Iterator[str]:
    """What is out of range, as 'what was expected, got what came'."""
    t, sizes, shape, prior = training, training.sizes, training.shape, training.prior
    shares = {name: value for name, value in vars(prior).items() if isinstance(value, float)}
    checks: list[tuple[str, Any, bool]] = [
        ("steps of at least 1", t.steps, t.steps is None or t.steps >= 1),
        ("minutes above 0", t.minutes, t.minutes is None or t.minutes > 0.0),
        ("seed of at least 0", t.seed, t.seed >= 0),
        ("rate above 0", t.rate, t.rate > 0.0),
        ("decay of at least 0", t.decay, t.decay >= 0.0),
        *((f"{name} of at least 1", getattr(t, name), getattr(t, name) >= 1) for name in ("warmup", "threads", "every")),
        ("workers of at least 0", t.workers, t.workers >= 0),
        ("save_seconds of at least 0", t.save_seconds, t.save_seconds >= 0.0),
        (f"device as one of {', '.join(DEVICES)}", t.device, t.device in DEVICES),
        *((f"sizes.{name} as a range from at least 1", getattr(sizes, name), 1 <= getattr(sizes, name)[0] <= getattr(sizes, name)[1])
          for name in ("columns", "rows", "tasks")),
        *((f"sizes.{name} of at least 1", getattr(sizes, name), getattr(sizes, name) >= 1) for name in ("points", "tokens")),
        *((f"shape.{name} of at least 1", value, value >= 1) for name, value in vars(shape).items()),
        (f"shape.anchors of at most {MOST_ANCHORS}", shape.anchors, shape.anchors <= MOST_ANCHORS),
        ("shape.width as a multiple of shape.heads", (shape.width, shape.heads), shape.heads < 1 or shape.width % shape.heads == 0),
        *((f"prior.{name} between 0 and 1", value, 0.0 <= value <= 1.0) for name, value in shares.items()),
        ("prior.kernels as shares that add up to 1", prior.kernels, min(prior.kernels) >= 0.0 and abs(sum(prior.kernels) - 1.0) < 1e-6),
        ("prior.network and prior.formula that add up to at most 1", (prior.network, prior.formula), prior.network + prior.formula <= 1.0),
        ("prior.plateau and prior.labels that add up to at most 1", (prior.plateau, prior.labels), prior.plateau + prior.labels <= 1.0),
        ("prior.lengthscale as a location above 0 and a spread", prior.lengthscale, prior.lengthscale[0] > 0.0 <= prior.lengthscale[1]),
        *((f"prior.{name} as a range above 0", getattr(prior, name), 0.0 < getattr(prior, name)[0] <= getattr(prior, name)[1])
          for name in ("quiet_noise", "noisy")),
    ]  # fmt: skip
    return (f"{words}, got {value!r}" for words, value, right in checks if not right)
