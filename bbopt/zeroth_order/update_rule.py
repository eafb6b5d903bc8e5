"""Update rules by their text, as strategies keep them: "adam", "sgd(momentum=0.9)", "torch.optim.RMSprop(alpha=0.9)".

The text is a name and options that are numbers or truth values, in the syntax of Python; nothing of it is executed.
"""

from __future__ import annotations

import ast
import dataclasses
from functools import cache
from typing import Any, ClassVar, Protocol

import numpy as np

from bbopt.errors import MissingPackage, UsageError
from bbopt.zeroth_order.updates import SGD, Adam, Rprop

Array = np.ndarray[Any, np.dtype[Any]]
RULES: dict[str, Any] = {"sgd": SGD, "adam": Adam, "rprop": Rprop}
TORCH = "torch.optim."


class Update(Protocol):
    """How a gradient becomes a step; the state is frozen data. `lengths`: the rate is the length of a step."""

    lengths: ClassVar[bool]

    def start(self, size: int) -> Any:
        """The state before the first step."""
        ...

    def step(self, x: Array, gradient: Array, state: Any, rate: float) -> tuple[Array, Any]:
        """The point and the state after one step."""
        ...


@cache
def update_rule(text: str) -> Update:
    """The rule of this text. Raises UsageError for an unknown name or option, MissingPackage where torch is missing.

    >>> update_rule("sgd(momentum=0.9, nesterov=True)")
    SGD(momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=True)
    """
    name, options = _read(text)
    if name.startswith(TORCH):
        try:
            from bbopt.zeroth_order.torch_updates import TorchOptimizer
        except ImportError as missing:
            raise MissingPackage(f"update {text!r} needs torch ({missing}); pip install 'bbopt[network]'") from missing
        return TorchOptimizer(name.removeprefix(TORCH), tuple(options.items()))
    if name not in RULES:
        raise UsageError(f"update: expected {', '.join(RULES)} or {TORCH}NAME, with options in brackets; got {text!r}")
    known = {item.name: item.default for item in dataclasses.fields(RULES[name])}
    for option, value in options.items():
        if option not in known:
            raise UsageError(f"update: {name} has no option {option!r}; it has {', '.join(known)}")
        if isinstance(value, bool) != isinstance(known[option], bool) or not isinstance(value, bool | int | float):
            raise UsageError(f"update: {name}: expected {option} like {known[option]!r}, got {value!r}")
        if not isinstance(value, bool) and not (np.isfinite(value) and value >= 0):
            raise UsageError(f"update: {name}: expected {option} as a finite number of at least 0, got {value!r}")
    made: Update = RULES[name](**options)
    return made


def _read(text: str) -> tuple[str, dict[str, Any]]:
    problem = UsageError(f"update: expected a name with options such as 'sgd(momentum=0.9)', got {text!r}")
    if not isinstance(text, str):
        raise problem
    try:
        node = ast.parse(text, mode="eval").body
        call = node if isinstance(node, ast.Call) else None
        if call is not None and call.args:
            raise problem
        options = {str(item.arg): ast.literal_eval(item.value) for item in (call.keywords if call else [])}
    except (SyntaxError, ValueError):
        raise problem from None
    return ast.unparse(call.func if call is not None else node), options
