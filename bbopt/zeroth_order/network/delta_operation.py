"""What the delta engine asks of a node's computation: to carry on what perturbations made of its inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from bbopt.zeroth_order.network.delta_state import Channel, Dense, Difference, NotPropagated, State
from bbopt.zeroth_order.network.graph import Graph


class Operation(ABC):
    """One node's computation, bound to the base pass.

    inputs: places of the nodes whose change it can carry on. Each computes what the layer computes, on tensors whose first
    dimension is the perturbation and whose last one is the sample.
    """

    def __init__(self, graph: Graph, place: int, inputs: tuple[int, ...]) -> None:
        self.graph, self.place, self.inputs = graph, place, inputs

    @abstractmethod
    def spread(self, given: tuple[State | None, ...], spare: bool = False) -> State:
        """What perturbations of the inputs (None: an input that did not change) make of the output.

        spare: nothing needs the inputs' states afterwards, so their memory may be used. Fresh memory is dear: the allocator
        gives large blocks back to the system, and each is filled page by page again.
        """

    def difference(self, given: tuple[State | None, ...]) -> Difference | None:
        """The change of the output without its base value, where that comes cheaper and more precisely."""
        return None

    def perturbed(self, local: str, index: Tensor, steps: Tensor) -> State:
        """What steps in single scalars of the layer's own parameter `local` make of the output; index, steps: (P,)."""
        raise NotPropagated(f"perturbations of {local} in {self.name} have no rule")

    def flops(self, given: tuple[State | None, ...]) -> float:
        """Multiplications and additions of `spread` per perturbation, those of linear layers and convolutions alone."""
        return 0.0

    @property
    def name(self) -> str:
        """The node's name and what it computes, for messages."""
        node = self.graph.nodes[self.place]
        target = node.target
        kind = target if isinstance(target, str) else getattr(target, "__name__", type(target).__name__)
        return f"{node.name} ({kind})"

    def rows(self, which: int = 0) -> Tensor:
        """(C, *S, B): the base value of an input."""
        return self.graph.rows(self.inputs[which])

    def output(self) -> Tensor:
        """(C, *S, B): the base value of the output."""
        return self.graph.rows(self.place)

    def dense(self, given: tuple[State | None, ...], which: int = 0) -> Tensor:
        """(P or 1, C, *S, B): the values of an input, made dense where they were a channel's change."""
        state = given[which]
        if state is None:
            return self.rows(which)[None]
        return (state.dense(self.rows(which)) if isinstance(state, Channel) else state).values


def owned(given: tuple[State | None, ...], spare: bool) -> bool:
    """Whether the dense values of the first input are this operation's own, to be overwritten."""
    return (spare and isinstance(given[0], Dense)) or isinstance(given[0], Channel)


def counted(given: tuple[State | None, ...]) -> int:
    """P, from the inputs that did change."""
    return next(state.count for state in given if state is not None)
