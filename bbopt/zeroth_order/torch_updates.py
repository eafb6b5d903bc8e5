"""Any optimizer of `torch.optim`, fed with an estimate of the gradient, as a pure function of arrays.

The optimizer is made anew for each step from what its state was: arrays, numbers and nothing, by name. So its state can
be compared, saved and replayed like that of the rules in `updates.py`. Nothing of torch's global state is touched. Only
optimizers that need nothing but one dense gradient will do: not LBFGS, which evaluates the loss itself, nor SparseAdam.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from bbopt.errors import UsageError

Array = np.ndarray[Any, np.dtype[Any]]
REFUSED = {"LBFGS": "it evaluates the function itself", "SparseAdam": "it takes sparse gradients only",
           "Muon": "it takes matrices only", "Optimizer": "it is the base class"}  # fmt: skip


@dataclass(frozen=True, eq=False)
class TorchState:
    """The optimizer's state of the one parameter: (name, value) with arrays, numbers or None; empty before the first step."""

    entries: tuple[tuple[str, Array | float | int | bool | None], ...] = ()


@dataclass(frozen=True)
class TorchOptimizer:
    """`torch.optim.<name>` with these options; the learning rate is given with each step.

    >>> rule = TorchOptimizer("RMSprop", (("alpha", 0.5),))
    >>> x, state = rule.step(np.array([1.0]), np.array([2.0]), rule.start(1), rate=0.1)
    >>> x.round(4).tolist(), [name for name, _ in state.entries]
    ([0.8586], ['step', 'square_avg'])
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    lengths: ClassVar[bool] = False

    def __post_init__(self) -> None:
        kind = getattr(torch.optim, self.name, None)
        if not inspect.isclass(kind) or not issubclass(kind, torch.optim.Optimizer):
            raise UsageError(f"update: expected an optimizer of torch.optim, such as torch.optim.RMSprop; got torch.optim.{self.name}")  # fmt: skip
        if self.name in REFUSED:
            raise UsageError(f"update: torch.optim.{self.name} cannot be used here, {REFUSED[self.name]}; torch.optim.Adam can, say")  # fmt: skip
        self._make(torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)), 1.0)

    def start(self, size: int) -> TorchState:
        return TorchState()

    def step(self, x: Array, gradient: Array, state: TorchState, rate: float) -> tuple[Array, TorchState]:
        """(d,) the parameters after one step, in float64, and the state after it."""
        parameter = torch.nn.Parameter(torch.from_numpy(np.array(x, dtype=np.float64)))
        parameter.grad = torch.from_numpy(np.array(gradient, dtype=np.float64))
        optimizer = self._make(parameter, rate)
        if state.entries:
            optimizer.state[parameter] = {
                name: torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
                for name, value in state.entries
            }
        optimizer.step()
        after = tuple((name, _plain(name, value)) for name, value in optimizer.state[parameter].items())
        return parameter.detach().numpy().copy(), TorchState(after)

    def _make(self, parameter: torch.nn.Parameter, rate: float) -> torch.optim.Optimizer:
        kind = getattr(torch.optim, self.name)
        known = inspect.signature(kind).parameters
        for name, _ in self.options:
            if name not in known or name in ("params", "lr"):
                possible = ", ".join(key for key in known if key not in ("params", "lr"))
                raise UsageError(f"update: torch.optim.{self.name} has no option {name!r} here; it has {possible}")
        try:
            made: torch.optim.Optimizer = kind([parameter], lr=rate, **dict(self.options))
        except (TypeError, ValueError) as error:
            raise UsageError(f"update: torch.optim.{self.name} refuses {dict(self.options)}: {error}") from None
        return made


def _plain(name: str, value: Any) -> Array | float | int | bool | None:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy().copy()
    if value is None or isinstance(value, bool | int | float):
        return value
    raise UsageError(
        f"update: this optimizer keeps {name} as {type(value).__name__}, which cannot be saved as an array"
    )
