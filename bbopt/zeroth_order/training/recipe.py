"""A zeroth-order training as data: network, data, estimate, sparsity, update, machine; read from JSON and checked in full.

Defaults are those of the code published with DeepZero (Chen et al., ICLR 2024, arXiv 2310.02025): forward differences with
radius 5e-3, masks anew every 5 epochs; except that layers get their shares from coordinate-wise GraSP with its sign.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bbopt.directions import KINDS
from bbopt.errors import UsageError
from bbopt.zeroth_order.training.update import Update
from surrogates.training.fields import check_names, typed
from surrogates.training.recipe import configuration
from surrogates.training.subject import Check

__all__ = ["CONFIGS", "Estimate", "Machine", "Recipe", "Schedule", "Sparsity", "named"]

CONFIGS = Path(__file__).with_name("configs")
ESTIMATES = ("cge", "rge", "first-order")
SCHEMES = ("forward", "central")
LEVELS = ("auto", "oracle", "staged", "delta", "units", "vmap")
RATIOS = ("grasp", "grasp-rge", "released", "magnitude", "uniform")
RULES = ("absolute", "signed")
VARIANTS = ("deepzero", "m1", "m2")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Schedule:
    """How the learning rate goes: "cosine" to 0, "steps" (a tenth from 50 %, a hundredth from 75 % on), "constant".

    warmup: epochs of linear rise before it, which the cosine does not count.
    """

    kind: str = "cosine"
    warmup: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """How the gradient of a step is made.

    kind: "cge" (one difference per coordinate), "rge" (along `directions` random directions of a `distribution`), or
    "first-order" (backpropagation, for comparison). radius: of the differences at the start; shrink: by how much it is
    multiplied over the whole run, geometrically. level: what of the network may be used (see `network_gradient`).
    """

    kind: str = "cge"
    scheme: str = "forward"
    radius: float = 5e-3
    shrink: float = 1.0
    directions: int = 192
    distribution: str = "gaussian"
    level: str = "auto"


@dataclass(frozen=True)
class Sparsity:
    """Which weights of convolutions and linear layers take part at a step; biases and norms always do.

    keep: share of those weights. ratios: where the share of each layer comes from. rule: whether the sign of GraSP's scores
    counts ("signed"), or their size alone, as in the code published with the paper. frozen: whether the mask drawn first stays; otherwise it is drawn anew every `interval` epochs. variant:
    "deepzero" (the gradient is sparse, weights are dense), "m1" (prune by the scores of single weights, train what is left,
    prune anew at every interval) or "m2" (prune once). samples: examples per class for the scores. directions: of
    "grasp-rge".
    """

    keep: float = 1.0
    ratios: str = "grasp"
    rule: str = "signed"
    frozen: bool = False
    interval: int = 5
    variant: str = "deepzero"
    samples: int = 25
    directions: int = 192


@dataclass(frozen=True)
class Machine:
    """Where it is computed: "cpu" or "cuda", with so many torch threads per process.

    workers: on Ray, that share out the passes of a step; 0 for none, in this process. address: of a running Ray; empty for
    one of its own. gpus: share of a GPU per worker, where the device is one.
    """

    device: str = "cpu"
    threads: int = 1
    workers: int = 0
    address: str = ""
    gpus: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    network: "mlp-64-32-10", "cnn-8-16", "resnet20" or "resnet20-8"; activation: of a perceptron. data: "digits" or
    "cifar10". augment: whether training images are moved by up to 4 pixels and mirrored at random. seed: of weights,
    order, masks and directions. every: steps per line of the log. check: random coordinates whose estimate is compared with that of another radius at the end of each
    epoch; 0 for none. save_seconds: between checkpoints. Raises UsageError for values out of range.

    >>> Recipe.from_json({"epochs": 3, "update": {"rate": 0.1}}).update.rate
    0.1
    """

    network: str = "mlp-64-32-10"
    activation: str = "relu"
    data: str = "digits"
    augment: bool = False
    epochs: int = 20
    batch: int = 128
    seed: int = 0
    update: Update = field(default_factory=Update)
    schedule: Schedule = field(default_factory=Schedule)
    estimate: Estimate = field(default_factory=Estimate)
    sparsity: Sparsity = field(default_factory=Sparsity)
    machine: Machine = field(default_factory=Machine)
    every: int = 50
    check: int = 0
    save_seconds: float = 60.0

    def __post_init__(self) -> None:
        if wrong := [f"{words}, got {value!r}" for words, value, right in _checks(self) if not right]:
            raise UsageError("Recipe: expected " + "; ".join(wrong))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """From a mapping of fields; what is not given is as by default.

        Raises UsageError for unknown names, values of another type or out of range.

        >>> Recipe.from_json({"epoch": 3})
        Traceback (most recent call last):
        bbopt.errors.UsageError: a recipe: expected names of activation, augment, ...; got epoch
        """
        default = cls()
        check_names("a recipe", data, [each.name for each in dataclasses.fields(cls)])
        values: dict[str, Any] = {
            name: Update.from_json(value) if name == "update" else typed(name, value, getattr(default, name))
            for name, value in data.items()
        }
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        data: dict[str, Any] = json.loads(json.dumps({**dataclasses.asdict(self), "update": self.update.to_json()}))
        return data

    def steps(self, examples: int) -> int:
        """Steps of the run with so many training examples; the last batch of an epoch may be small.

        >>> Recipe(epochs=20, batch=128).steps(1437)
        240
        """
        return self.epochs * math.ceil(examples / self.batch)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step, 0 to steps - 1.

        >>> [round(Recipe(update=Update(rate=1.0)).rate(step, 4), 3) for step in range(4)]
        [1.0, 0.854, 0.5, 0.146]
        """
        rising = min(round(self.schedule.warmup * steps / self.epochs), steps)
        if step < rising:
            return self.update.rate * (step + 1) / rising
        progress = (step - rising) / (steps - rising)
        if self.schedule.kind == "cosine":
            return self.update.rate * 0.5 * (1.0 + math.cos(math.pi * progress))
        if self.schedule.kind == "steps":
            return self.update.rate * (1.0 if step < 0.5 * steps else 0.1 if step < 0.75 * steps else 0.01)
        return self.update.rate

    def radius(self, step: int, steps: int) -> float:
        """Radius of the differences of a step.

        >>> [Recipe(estimate=Estimate(radius=0.08, shrink=0.25)).radius(step, 5) for step in (0, 2, 4)]
        [0.08, 0.04, 0.02]
        """
        return float(self.estimate.radius * self.estimate.shrink ** (step / max(steps - 1, 1)))


def named(name: str) -> dict[str, Any]:
    """The fields of a configuration that comes with bbopt, or of a JSON file; `Recipe.from_json` reads them.

    Raises UsageError where there is no such name or file, or where the file holds no JSON object.

    >>> named("smoke")["network"]
    'mlp-64-32-10'
    """
    return configuration(name, CONFIGS)


def _checks(recipe: Recipe) -> Iterator[Check]:
    """What was expected, what came, whether it is right."""
    r, e, s, m = recipe, recipe.estimate, recipe.sparsity, recipe.machine
    yield "epochs of at least 1", r.epochs, r.epochs >= 1
    yield "a batch of at least 2 examples", r.batch, r.batch >= 2
    yield "seed of at least 0", r.seed, r.seed >= 0
    yield "every of at least 1", r.every, r.every >= 1
    yield "check of at least 0", r.check, r.check >= 0
    yield "no check of a gradient that is not estimated by coordinates", r.check, r.check == 0 or e.kind == "cge"
    yield "save_seconds of at least 0", r.save_seconds, r.save_seconds >= 0.0
    yield _one("schedule.kind", r.schedule.kind, ("cosine", "steps", "constant"))
    yield "schedule.warmup from 0 to epochs", r.schedule.warmup, 0.0 <= r.schedule.warmup <= r.epochs
    yield _one("estimate.kind", e.kind, ESTIMATES)
    yield _one("estimate.scheme", e.scheme, SCHEMES)
    yield _one("estimate.level", e.level, LEVELS)
    yield _one("estimate.distribution", e.distribution, KINDS)
    yield "estimate.radius above 0", e.radius, e.radius > 0.0
    yield "estimate.shrink above 0, at most 1", e.shrink, 0.0 < e.shrink <= 1.0
    yield "estimate.directions of at least 1", e.directions, e.directions >= 1
    yield "sparsity.keep above 0, at most 1", s.keep, 0.0 < s.keep <= 1.0
    yield _one("sparsity.ratios", s.ratios, RATIOS)
    yield _one("sparsity.rule", s.rule, RULES)
    yield _one("sparsity.variant", s.variant, VARIANTS)
    for name in ("interval", "samples", "directions"):
        yield f"sparsity.{name} of at least 1", getattr(s, name), getattr(s, name) >= 1
    pruned = s.variant != "deepzero"
    yield "sparsity.keep below 1 where a variant prunes", s.keep, s.keep < 1.0 or not pruned
    scored = s.ratios not in ("uniform", "released")
    yield "sparsity.ratios of scores of this network where a variant prunes", s.ratios, scored or not pruned
    yield _one("machine.device", m.device, DEVICES)
    yield "machine.threads of at least 1", m.threads, m.threads >= 1
    yield "machine.workers of at least 0", m.workers, m.workers >= 0
    yield "machine.gpus above 0", m.gpus, m.gpus > 0.0
    shared = e.kind == "cge" and e.level != "units"
    yield "no machine.workers but for differences of single coordinates", m.workers, shared or m.workers == 0


def _one(name: str, value: str, known: tuple[str, ...]) -> Check:
    """Whether a text is one of those that are known."""
    return f"{name} as one of {', '.join(known)}", value, value in known
