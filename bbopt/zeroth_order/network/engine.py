"""What an engine is: a way to evaluate many one-coordinate perturbations of a network's loss.

Engines differ in what they know of the module and so in what they can reuse; they agree, up to rounding, in what they
return. All are made for one `BasePass`, inside `untouched`, and leave parameters as they found them.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor

from bbopt.errors import NotHandled


class NotApplicable(NotHandled):
    """An engine cannot serve this module at all; the text says why."""


class Engine(Protocol):
    """Made for one base pass; its constructor raises NotApplicable where it can do nothing for the module."""

    name: ClassVar[str]

    def refusal(self, parameter: str) -> str | None:
        """Why this engine cannot perturb a parameter, in words; None where it can."""

    def changes(self, parameter: str, index: Tensor, steps: Tensor) -> Tensor:
        """(n,) float64: loss(theta + steps_j e_{index_j}) - loss(theta).

        index: (n,) int64 flat indices. steps: (n,) float64, such that theta + step is a number of the parameter's dtype.
        """
