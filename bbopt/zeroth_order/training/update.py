"""The update rule: any optimizer of `torch.optim`, by name, fed with the estimate; its state as tensors and numbers.

As in the code published with DeepZero, a coordinate that is masked at a step has the gradient 0 there and is not skipped:
weight decay and momentum move it all the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bbopt.errors import UsageError
from surrogates.training.fields import built, check_names

__all__ = ["Update", "load_state", "state"]


@dataclass(frozen=True)
class Update:
    """An optimizer of `torch.optim`, with or without capitals in its name, and what it is called with.

    rate: learning rate, the highest of the schedule. decay: weight decay. momentum, nesterov: for those that have them.
    options: further arguments by name. Raises UsageError for a name or an argument that torch does not know, and for
    optimizers that ask for the loss again in a step.

    >>> Update("adam", rate=1e-3, options={"betas": [0.9, 0.99]}).name
    'adam'
    """

    name: str = "SGD"
    rate: float = 0.1
    decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rate <= 0.0:
            raise UsageError(f"update: expected a rate above 0, got {self.rate!r}")
        self.optimizer([nn.Parameter(torch.zeros(2, 2))])

    @classmethod
    def from_json(cls, data: Any) -> Update:
        """From a mapping of fields. Raises UsageError for unknown names and values of another type.

        >>> Update.from_json({"name": "SGD", "rate": 1, "options": {"dampening": 0.1}}).options["dampening"]
        0.1
        """
        if not isinstance(data, Mapping):
            raise UsageError(f"update: expected an object of names and values, got {data!r}")
        rest = {name: value for name, value in data.items() if name != "options"}
        options = data.get("options", {})
        if not isinstance(options, Mapping):
            raise UsageError(f"update.options: expected an object of names and values, got {options!r}")
        plain = built(_Plain(), "update", rest)
        return cls(plain.name, plain.rate, plain.decay, plain.momentum, plain.nesterov, dict(options))

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"name": self.name, "rate": self.rate, "decay": self.decay, "momentum": self.momentum,
                "nesterov": self.nesterov, "options": dict(self.options)}  # fmt: skip

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """A fresh optimizer of these parameters."""
        kind = _kind(self.name)
        known = inspect.signature(kind).parameters
        given = {"lr": self.rate, "weight_decay": self.decay, "momentum": self.momentum, "nesterov": self.nesterov}
        missing = [name for name, value in given.items() if name not in known and value]
        if missing:
            raise UsageError(f"update: expected arguments of torch.optim.{kind.__name__}, got {', '.join(missing)}, which it does not have; leave them out or at 0")  # fmt: skip
        check_names("update.options", self.options, [name for name in known if name not in ("params", *given)])
        arguments = {name: value for name, value in given.items() if name in known} | {
            name: tuple(value) if isinstance(value, list) else value for name, value in self.options.items()
        }
        try:
            made: torch.optim.Optimizer = kind(list(parameters), **arguments)
            return made
        except (TypeError, ValueError, RuntimeError) as trouble:
            raise UsageError(f"update: torch.optim.{kind.__name__} refuses its arguments ({trouble})") from trouble


@dataclass(frozen=True)
class _Plain:
    """The fields of an update but its options, for reading."""

    name: str = "SGD"
    rate: float = 0.1
    decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False


def _kind(name: str) -> Any:
    """The class of an optimizer. Raises UsageError where it is unknown, or where it needs more than a gradient."""
    found = {
        each.lower(): kind
        for each, kind in vars(torch.optim).items()
        if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    }
    # LBFGS evaluates the loss again within a step, SparseAdam takes sparse tensors alone
    usable = {each: kind for each, kind in found.items() if each not in ("lbfgs", "sparseadam")}
    if name.lower() not in usable:
        known = ", ".join(sorted(kind.__name__ for kind in usable.values()))
        raise UsageError(f"update.name: expected an optimizer of torch.optim that needs a gradient alone ({known}), got {name!r}")  # fmt: skip
    return usable[name.lower()]


def state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """What the optimizer remembers: tensors by "place.name" (copies on the CPU), and the rest as JSON by place.

    >>> weight = nn.Parameter(torch.ones(2))
    >>> weight.grad = torch.ones(2)
    >>> sgd = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    >>> sgd.step()
    >>> state(sgd)[0]["0.momentum_buffer"].tolist()
    [1.0, 1.0]
    """
    tensors: dict[str, Tensor] = {}
    rest: dict[str, dict[str, Any]] = {}
    for place, entries in optimizer.state_dict()["state"].items():
        rest[str(place)] = {}
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{place}.{name}"] = value.detach().cpu().clone()
            else:
                rest[str(place)][name] = value
    return tensors, rest


def load_state(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], rest: Mapping[str, Mapping[str, Any]]
) -> None:
    """Put the optimizer where `state` found it."""
    entries: dict[int, dict[str, Any]] = {int(place): dict(values) for place, values in rest.items()}
    for name, value in tensors.items():
        place, _, own = name.partition(".")
        entries[int(place)][own] = value
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
