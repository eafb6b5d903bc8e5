"""Delta propagation: what perturbing a single scalar of a network changes, and nothing else, is computed.

A scalar of a layer changes one channel of its output (for a linear layer W_oi + h changes column o by h a_i, for a
convolution channel o by h times the shifted input channel). Norms, activations and pooling keep the change in that channel;
the next linear layer or convolution takes it in as a rank-1 update of what it gave before; from there on the network
runs with all perturbations of a chunk side by side, weights shared. A last layer needs no forward at all. For layers with
n_l scalars the cost is about  sum_l n_l (c_l + F_{l+1} / inputs of l+1 + F_{>=l+2})  in place of  d F.

Changes are carried as changes while they stay in one channel. Afterwards values are carried, and one more row of each
chunk is left unperturbed: differences are taken against it, so that what rounds alike cancels. The chunk size follows from
a byte budget and the network alone, hence so does the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from bbopt.zeroth_order.network.base import BasePass
from bbopt.zeroth_order.network.delta_conv import Conv
from bbopt.zeroth_order.network.delta_linear import Linear
from bbopt.zeroth_order.network.delta_loss import LossChanges
from bbopt.zeroth_order.network.delta_norm import BatchNorm
from bbopt.zeroth_order.network.delta_operation import Operation
from bbopt.zeroth_order.network.delta_state import Channel, Dense, Difference, NotPropagated, State, Tally, width
from bbopt.zeroth_order.network.delta_table import operation
from bbopt.zeroth_order.network.gather import budget
from bbopt.zeroth_order.network.graph import Ref, Use, close, trace

MOST = 512
"""Perturbations of a chunk at most."""
Made = Callable[[Tensor, Tensor], State]
FEW = 8
"""Chunks of fewer perturbations than this have their unperturbed pass apart: a row in each would cost too much."""


@dataclass(frozen=True, eq=False)
class Path:
    """The way from a perturbed node to the outputs.

    steps: operations in order, each with the nodes whose states are not needed after it. dense: whether the outputs come
    as values (else as changes, exact where nothing changed). flops: multiplications and additions per perturbation after
    the node itself. widest: numbers of the largest tensor on the way, per perturbation.
    """

    steps: tuple[tuple[Operation, tuple[int, ...]], ...]
    dense: bool
    flops: float
    widest: int


class Delta:
    """The engine for networks whose layers it knows.

    bytes: of a chunk where it is widest, input and output of a layer together; None: what suits the device (`gather`).
    Raises NotApplicable where the forward cannot be traced.

    >>> from torch import nn
    >>> from bbopt.zeroth_order.network.base import opened
    >>> from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    >>> problem = NetworkLoss(net, torch.eye(2).double(), CrossEntropy(torch.tensor([0, 1])))
    >>> with opened(problem, None) as (base, _):
    ...     engine = Delta(base)
    ...     shift = engine.changes("2.bias", torch.tensor([0, 1]), torch.full((2,), 1e-8))
    >>> bool(shift.sum().abs() < 1e-15)  # to first order, moving both logits of every sample alike changes nothing
    True
    >>> engine.refusal("0.weight") is None
    True
    """

    name: ClassVar[str] = "delta"

    def __init__(self, base: BasePass, bytes: int | None = None) -> None:
        self.graph = trace(base)
        self.base = base
        self.loss = LossChanges(base)
        self.bytes = budget(base, bytes)
        self._operations: dict[int, Operation] = {}
        self._paths: dict[int, Path | str] = {}
        self._unperturbed: dict[tuple[int, int], Tensor] = {}

    def refusal(self, parameter: str) -> str | None:
        try:
            use, _ = self.entry(parameter)
            self.path(use.place)
        except NotPropagated as error:
            return str(error)
        return None

    def changes(self, parameter: str, index: Tensor, steps: Tensor) -> Tensor:
        use, local = self.entry(parameter)
        return self.swept(use.place, partial(self.operation(use.place).perturbed, local), index, steps)

    def swept(self, place: int, made: Made, index: Tensor, steps: Tensor, samples: bool = False) -> Tensor:
        """(n,) float64 changes of the loss, or (n, B) of its samples, for n changes at a node, chunk by chunk.

        made: of some entries of index and steps, what they make of the node's output.
        """
        path = self.path(place)
        index, steps = index.to(self.base.outputs.device), steps.to(self.base.outputs)
        if not len(index):
            return steps.new_zeros((0, self.graph.batch) if samples else 0, dtype=torch.float64)
        size = self.rows(path)
        in_channel = self.loss.channel_samples if samples else self.loss.channel_means
        in_outputs = self.loss.samples if samples else self.loss.means
        found = []
        chunks = -(-len(index) // size)
        for some, step in zip(index.tensor_split(chunks), steps.tensor_split(chunks), strict=True):
            with_base = path.dense and (size >= FEW or len(some) == 1)
            if with_base:
                some, step = torch.cat([some, some[-1:]]), torch.cat([step, step.new_zeros(1)])
            state = self.spread(path, place, made(some, step))
            if isinstance(state, Channel):
                found.append(in_channel(state))
            elif isinstance(state, Difference):
                found.append(in_outputs(state.values))
            elif with_base:
                found.append(in_outputs(state.values[:-1] - state.values[-1:]))
            else:
                found.append(in_outputs(state.values - self._base_of(path, place, made, some)))
        return torch.cat(found)

    def _base_of(self, path: Path, place: int, made: Made, some: Tensor) -> Tensor:
        """Outputs of an unperturbed chunk of the same shape, so that they were rounded in the same way."""
        key = (place, len(some))
        if key not in self._unperturbed:
            state = self.spread(path, place, made(some, self.base.outputs.new_zeros(len(some))))
            assert isinstance(state, Dense)
            self._unperturbed[key] = state.values
        return self._unperturbed[key]

    def rows(self, path: Path) -> int:
        """How many perturbations make a chunk: two at least, as torch convolves a batch of one at a fifth of the speed."""
        return max(2, min(MOST, self.bytes // (2 * path.widest * self.base.outputs.element_size())))

    def entry(self, parameter: str) -> tuple[Use, str]:
        """Where a parameter enters, and under which name. Raises NotPropagated where it is not the plain tensor of one layer."""
        uses = self.graph.uses.get(parameter, ())
        if len(uses) != 1:
            times = "not at all" if not uses else f"{len(uses)} times"
            raise NotPropagated(
                f"{parameter} enters the forward {times}; a change in one channel needs it to enter once"
            )
        (use,) = uses
        local = use.local or self._argument(parameter, use)
        if local not in ("weight", "bias"):
            raise NotPropagated(f"{parameter} is not itself the weight or the bias of a layer")
        return use, local

    def _argument(self, parameter: str, use: Use) -> str | None:
        """As which argument a function takes a parameter."""
        node, kind = self.graph.nodes[use.place], self.operation(use.place)
        named = list(node.kwargs.items()) if isinstance(kind, Linear | Conv | BatchNorm) else []
        if isinstance(kind, Linear | Conv):
            named += zip(("input", "weight", "bias"), node.args, strict=False)
        for name, value in named:
            if isinstance(value, Ref) and self.graph.nodes[value.place].parameter == parameter:
                return name
        return None

    def operation(self, place: int) -> Operation:
        """The operation of a node, made when first asked for."""
        if place not in self._operations:
            self._operations[place] = operation(self.graph, place)
        return self._operations[place]

    def path(self, place: int) -> Path:
        """The way from a node, tried with two perturbations of length zero. Raises NotPropagated where there is none."""
        if place not in self._paths:
            try:
                self._paths[place] = self._tried(place)
            except NotPropagated as error:
                self._paths[place] = str(error)
        known = self._paths[place]
        if isinstance(known, str):
            raise NotPropagated(known)
        return known

    def spread(self, path: Path, place: int, state: State, tally: Tally | None = None) -> State | Difference:
        """What a change at a node makes of the outputs; what that costs is added to the tally."""
        held: dict[int, State] = {place: state}
        for step, unneeded in path.steps:
            given = tuple(held.get(j) for j in step.inputs)
            shortcut = step.difference(given) if step.place == self.graph.output else None
            spare = all(j in unneeded or j not in held for j in step.inputs)
            found = step.spread(given, spare) if shortcut is None else shortcut
            if tally is not None:
                tally.flops += step.flops(given)
                tally.widest = max(tally.widest, width(found))
            if isinstance(found, Difference):
                return found
            held[step.place] = found
            for j in unneeded:
                del held[j]
        return held[self.graph.output]

    def _tried(self, place: int) -> Path:
        source, below = self.operation(place), self.graph.below(place)
        if place != self.graph.output and self.graph.output not in below:
            raise NotPropagated(f"{source.name} does not reach the outputs")
        operations = [self.operation(j) for j in below]
        for step in operations:
            hidden = set(self.graph.nodes[step.place].inputs) & {place, *below} - set(step.inputs)
            if hidden:
                raise NotPropagated(f"{step.name} takes a perturbed tensor in the place of a weight")
        last = {j: step.place for step in operations for j in step.inputs if j == place or j in below}
        steps = tuple((step, tuple(j for j, end in last.items() if end == step.place)) for step in operations)
        zeros = self.base.outputs.new_zeros(2)
        start = source.perturbed(self._local(place), torch.zeros(2, dtype=torch.int64, device=zeros.device), zeros)
        tally = Tally(widest=width(start))
        final = self.spread(Path(steps, False, 0.0, 0), place, start, tally)
        if isinstance(final, Dense):
            wanted = self.graph.rows(self.graph.output)
            if final.values.shape[1:] != wanted.shape or not close(final.values, wanted.expand_as(final.values)):
                raise NotPropagated(
                    f"without a perturbation, the way from {source.name} does not give the outputs again"
                )
        return Path(steps, isinstance(final, Dense), tally.flops, tally.widest)

    def _local(self, place: int) -> str:
        """A parameter of the layer at a node."""
        here = [use.local for uses in self.graph.uses.values() for use in uses if use.place == place]
        return next((local for local in here if local in ("weight", "bias")), "bias")
