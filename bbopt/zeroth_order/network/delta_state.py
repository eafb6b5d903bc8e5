"""What P perturbations make of one tensor of the network, as long as possible as a change in a single channel.

A perturbation of one weight changes one channel of its layer's output, the same for all samples. P of them are carried
side by side, each with the channel it touches, as P times (..., B) numbers instead of P times (C, ..., B): this is what
makes the first layers after a perturbation nearly free. The batch is the last dimension throughout (see `graph`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import Tensor

from bbopt.errors import NotHandled


class NotPropagated(NotHandled):
    """Perturbations cannot be carried through a node; the text says through which and why."""


@dataclass(frozen=True, eq=False)
class Channel:
    """Changes of one channel per perturbation; everything else is as in the base pass.

    delta: (P, *S, B), the change of the channel, not its new value. index: (P,) int64, which channel. A tensor of
    C * prod(S) columns that was flattened from C channels counts as C channels of S still.
    runs: the same as (first row, one past the last row, channel), for neighbours that share a channel.
    """

    delta: Tensor
    index: Tensor
    runs: tuple[tuple[int, int, int], ...]

    @property
    def count(self) -> int:
        """P, the number of perturbations."""
        return len(self.delta)

    def moved(self, delta: Tensor) -> Channel:
        """Another change of the same channels."""
        return Channel(delta, self.index, self.runs)

    def shifted(self, by: int) -> Channel:
        """The same change of the channels that lie `by` further on."""
        if not by:
            return self
        return Channel(self.delta, self.index + by, tuple((lo, hi, c + by) for lo, hi, c in self.runs))

    def of(self, rows: Tensor) -> Tensor:
        """(P or 1, *S, B): the touched channels of a base tensor (C, *S, B)."""
        channels = rows.reshape(-1, *self.delta.shape[1:])
        if len(self.runs) == 1:
            lone = self.runs[0][2]
            return channels[lone : lone + 1]
        return channels.index_select(0, self.index)

    def dense(self, rows: Tensor) -> Dense:
        """All channels of the base (C, *S, B), with these changes."""
        values = rows.expand(self.count, *rows.shape).clone()
        self.add_to(values)
        return Dense(values)

    def add_to(self, values: Tensor) -> None:
        """Adds the changes to (P, C, *S, B), in place."""
        channels = values.view(self.count, -1, *self.delta.shape[1:])
        for lo, hi, channel in self.runs:
            channels[lo:hi, channel] += self.delta[lo:hi]


@dataclass(frozen=True, eq=False)
class Dense:
    """All values for each perturbation: (P, C, ..., B)."""

    values: Tensor

    @property
    def count(self) -> int:
        """P, the number of perturbations."""
        return len(self.values)


@dataclass(frozen=True, eq=False)
class Difference:
    """Changes of all values for each perturbation, (P, C, ..., B): what the last layer makes of a change in a channel."""

    values: Tensor


State = Channel | Dense


@dataclass(eq=False)
class Tally:
    """What a propagation costs: multiplications and additions, per perturbation, and the widest tensor, in numbers."""

    flops: float = 0.0
    widest: int = 0


def width(state: State | Difference) -> int:
    """Numbers that a state holds per perturbation."""
    return (state.delta if isinstance(state, Channel) else state.values)[0].numel()


def channels(index: Tensor) -> tuple[Tensor, tuple[tuple[int, int, int], ...]]:
    """Channel numbers with their runs of equal neighbours.

    >>> import torch
    >>> channels(torch.tensor([4, 4, 2]))[1]
    ((0, 2, 4), (2, 3, 2))
    """
    runs, start = [], 0
    for channel, equal in itertools.groupby(index.tolist()):
        end = start + len(list(equal))
        runs.append((start, end, channel))
        start = end
    return index, tuple(runs)
