"""What is differentiated: a module, one mini-batch, a loss, and one set of random draws.

A loss gives its mean over the batch, its value per sample, and above all *changes* of the mean by formulas that do not
subtract two nearly equal numbers. With D the change of the outputs, p the class probabilities at the base and y the
target, cross-entropy changes per sample by

    log(sum_c p_c exp(D_c)) - D_y = log1p(sum_c p_c expm1(D_c - D_y)),

and a squared error by D (D + 2 (output - target)). Everything is added up in float64, whatever the network computes in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from bbopt.errors import UsageError, ValueRefused


@dataclass(frozen=True, eq=False)
class Around:
    """A loss that has looked at base outputs once, and then tells what changes of them do.

    values: float64, (B,) per sample, or () where the loss is no mean over samples.
    changes: (P, B, ...) float64 changes of the outputs to changes of the values: (P, B), or (P,).
    stable: whether they come without a difference of two nearly equal losses, so that a small radius is fine.

    >>> near = SquaredError(torch.tensor([[1.0], [2.0]])).around(torch.tensor([[1.0], [4.0]]))
    >>> near.loss, near.change(torch.tensor([[[0.0], [-2.0]]], dtype=torch.float64))
    (2.0, tensor([-2.], dtype=torch.float64))
    """

    values: Tensor
    changes: Callable[[Tensor], Tensor]
    stable: bool = False

    @property
    def loss(self) -> float:
        """The mean loss at the base."""
        return float(self.values.mean())

    def change(self, moved: Tensor) -> Tensor:
        """(P,) float64 changes of the mean loss for (P, B, ...) float64 changes of the outputs."""
        return self.changes(moved).reshape(len(moved), -1).mean(1)


class Loss(Protocol):
    """A number computed from the outputs of a network for one mini-batch."""

    def mean(self, outputs: Tensor) -> float:
        """The loss, in float64. outputs: (B, ...)."""

    def each(self, outputs: Tensor) -> Tensor | None:
        """(B,) float64 whose mean is the loss, entry i a function of row i alone; None where the loss is no such mean."""

    def around(self, base: Tensor) -> Around:
        """The loss near base outputs (B, ...), which are looked at once."""

    def change(self, outputs: Tensor, base: Tensor) -> Tensor:
        """(P,) float64: the loss of each of (P, B, ...) outputs less that of the (B, ...) base."""


@dataclass(frozen=True, eq=False)
class NetworkLoss:
    """The function of a module's parameters whose gradient is wanted.

    module: its forward takes `inputs` and returns one tensor. inputs: the mini-batch, (B, ...).
    seed: of the random draws inside the forward (dropout): every evaluation sees the same ones. None: those that the
    generators are about to give; as they are put back afterwards, a second gradient would see the same draws.
    stages: the forward cut in pieces, functions of one tensor whose composition it is; a piece uses no parameters but
    those that it registers as a module. None: the parts of an nn.Sequential, or no cut.

    >>> problem = NetworkLoss(nn.Linear(2, 3), torch.zeros(4, 2), CrossEntropy(torch.tensor([0, 1, 2, 0])))
    >>> problem.inputs.shape
    torch.Size([4, 2])
    """

    module: nn.Module
    inputs: Tensor
    loss: Loss
    seed: int | None = None
    stages: Sequence[Callable[[Tensor], Tensor]] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            raise UsageError(f"expected a torch.nn.Module, got {type(self.module).__name__}")
        if not isinstance(self.inputs, Tensor) or self.inputs.ndim == 0:
            raise UsageError("expected the inputs as a tensor with the batch as its first dimension")


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """Mean cross-entropy of logits (B, C, ...) against class indices (B, ...), as torch.nn.functional.cross_entropy.

    >>> loss = CrossEntropy(torch.tensor([1, 0]))
    >>> logits = torch.zeros(2, 4)
    >>> round(loss.mean(logits), 4)  # the logarithm of 4
    1.3863
    >>> moved = logits[None].clone()
    >>> moved[0, 0, 1] = 1e-12
    >>> f"{loss.change(moved.double(), logits).item():.3e}"  # (p - 1) / B times the change
    '-3.750e-13'
    """

    targets: Tensor

    def mean(self, outputs: Tensor) -> float:
        return float(self.each(outputs).mean())

    def each(self, outputs: Tensor) -> Tensor:
        targets = self._checked(outputs)
        losses = nn.functional.cross_entropy(outputs.double(), targets, reduction="none")
        return losses.flatten(1).mean(1) if losses.ndim > 1 else losses

    def around(self, base: Tensor) -> Around:
        targets = self._checked(base).unsqueeze(1)
        log_p = base.double().log_softmax(1)
        p = log_p.exp()

        def changes(moved: Tensor) -> Tensor:
            excess = moved - moved.gather(2, targets.expand(len(moved), *targets.shape))
            each = torch.log1p((p * torch.expm1(excess)).sum(2))
            if not bool(torch.isfinite(each).all()):  # steps so long that exp overflows: no cancellation to fear
                each = torch.logsumexp(log_p + excess, 2)
            return each.flatten(2).mean(2) if each.ndim > 2 else each

        losses = -log_p.gather(1, targets).squeeze(1)
        return Around(losses.flatten(1).mean(1) if losses.ndim > 1 else losses, changes, stable=True)

    def change(self, outputs: Tensor, base: Tensor) -> Tensor:
        return self.around(base).change(outputs.double() - base.double())

    def _checked(self, outputs: Tensor) -> Tensor:
        wanted = (outputs.shape[0], *outputs.shape[2:]) if outputs.ndim > 1 else None
        if wanted != tuple(self.targets.shape):
            raise UsageError(
                f"cross-entropy expected outputs (batch, classes, ...) for targets of shape {tuple(self.targets.shape)}, "
                f"got outputs of shape {tuple(outputs.shape)}"
            )
        if self.targets.dtype != torch.int64:
            raise UsageError(f"cross-entropy expected int64 class indices, got {self.targets.dtype}")
        low, high = int(self.targets.min()), int(self.targets.max())
        if low < 0 or high >= outputs.shape[1]:
            raise UsageError(
                f"cross-entropy expected class indices from 0 to {outputs.shape[1] - 1}, got {low} to {high}"
            )
        return self.targets.to(outputs.device)


@dataclass(frozen=True, eq=False)
class SquaredError:
    """Mean over all entries of (output - target)^2, as torch.nn.functional.mse_loss.

    >>> SquaredError(torch.tensor([[1.0], [2.0]])).mean(torch.tensor([[1.0], [4.0]]))
    2.0
    """

    targets: Tensor

    def mean(self, outputs: Tensor) -> float:
        return float(self.each(outputs).mean())

    def each(self, outputs: Tensor) -> Tensor:
        return (outputs.double() - self._checked(outputs)).square().reshape(len(outputs), -1).mean(1)

    def around(self, base: Tensor) -> Around:
        slope = 2.0 * (base.double() - self._checked(base))
        each = self.each(base)
        return Around(
            each, lambda moved: (moved * (moved + slope)).reshape(len(moved), len(each), -1).mean(2), stable=True
        )

    def change(self, outputs: Tensor, base: Tensor) -> Tensor:
        return self.around(base).change(outputs.double() - base.double())

    def _checked(self, outputs: Tensor) -> Tensor:
        if outputs.shape != self.targets.shape or outputs.ndim == 0:
            raise UsageError(
                f"squared error expected outputs of the shape of the targets, {tuple(self.targets.shape)}, "
                f"got {tuple(outputs.shape)}"
            )
        return self.targets.to(outputs.device, torch.float64)


@dataclass(frozen=True, eq=False)
class BlackBox:
    """A loss of which only values are to be had: a simulator, a query-only classifier, a judge.

    function: the outputs (B, ...) of one evaluation to one number, or to (B,) numbers, number i a function of row i
    alone, of which the mean is the loss. It is called once per evaluation of the loss.
    stacked: the function takes the outputs of P evaluations at once, (P, B, ...), and gives (P,) or (P, B) numbers:
    for functions whose call has a fixed price.

    >>> loss = BlackBox(lambda outputs: outputs.square().sum(1))
    >>> loss.mean(torch.tensor([[1.0], [3.0]]))
    5.0
    >>> BlackBox(lambda outputs: outputs.square().sum(2), stacked=True).each(torch.tensor([[1.0], [3.0]]))
    tensor([1., 9.], dtype=torch.float64)
    """

    function: Callable[[Tensor], Tensor | float]
    stacked: bool = False

    def mean(self, outputs: Tensor) -> float:
        return float(self._values(outputs[None]).mean())

    def each(self, outputs: Tensor) -> Tensor | None:
        values = self._values(outputs[None])[0]
        return values if values.ndim else None

    def around(self, base: Tensor) -> Around:
        before, start = self._values(base[None])[0], base.double()
        return Around(before, lambda moved: self._values((start + moved).to(base.dtype)) - before)

    def change(self, outputs: Tensor, base: Tensor) -> Tensor:
        return self.around(base).change(outputs.double() - base.double())

    def _values(self, outputs: Tensor) -> Tensor:
        """(P,) or (P, B) float64 for (P, B, ...) outputs."""
        if self.stacked:
            values = self._as_tensor(self.function(outputs), outputs)
        else:
            values = torch.stack([self._as_tensor(self.function(each), outputs) for each in outputs])
        if values.shape not in (outputs.shape[:1], outputs.shape[:2]):
            given, found = (outputs.shape, values.shape) if self.stacked else (outputs.shape[1:], values.shape[1:])
            wanted = (
                "one number per evaluation, or per evaluation and sample"
                if self.stacked
                else "one number, or one per sample"
            )
            raise ValueRefused(
                f"a black-box loss must give {wanted}; for outputs of shape {tuple(given)} it gave {tuple(found)}"
            )
        return values

    @staticmethod
    def _as_tensor(values: Tensor | float, outputs: Tensor) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float64, device=outputs.device).detach()
