"""A node that is to become an operation of the delta engine, and where its parts are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from bbopt.zeroth_order.network.delta_state import NotPropagated
from bbopt.zeroth_order.network.graph import Graph, Node, Ref, filled, references


class Site:
    """A node that is to become an operation, and where its parts are."""

    def __init__(self, graph: Graph, place: int) -> None:
        self.graph, self.place, self.node = graph, place, graph.nodes[place]

    @property
    def layer(self) -> Any:
        """The module of the node."""
        return self.node.target

    @property
    def size(self) -> tuple[int, ...]:
        """(C, *S) of the first argument."""
        return tuple(self.value(self.node.args[0]).shape[1:])

    def value(self, argument: Any) -> Any:
        """An argument with base values in place of references."""
        return filled(argument, lambda ref: self.graph.nodes[ref.place].value)

    def given(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """All arguments with base values, but the first, which stays a reference."""
        return (self.node.args[0], *self.value(self.node.args[1:])), self.value(self.node.kwargs)

    def first(self) -> tuple[int]:
        """The place of the first argument, which must be a tensor of the graph."""
        argument = self.node.args[0] if self.node.args else None
        if not isinstance(argument, Ref):
            raise NotPropagated(f"{self.node.name} does not take the perturbed tensor as its first argument")
        return (argument.place,)

    def places(self, wanted: Callable[[Node], bool]) -> tuple[int, ...]:
        """The tensors among the arguments that are wanted, each once."""
        found = dict.fromkeys(ref.place for ref in references((self.node.args, self.node.kwargs)))
        return tuple(j for j in found if isinstance(self.graph.nodes[j].value, Tensor) and wanted(self.graph.nodes[j]))

    def function(self, places: tuple[int, ...]) -> Callable[..., Any]:
        """The node's computation as a function of the tensors at these places."""
        node, nodes = self.node, self.graph.nodes

        def of(*tensors: Tensor) -> Any:
            held = dict(zip(places, tensors, strict=True))
            args, kwargs = filled((node.args, node.kwargs), lambda ref: held.get(ref.place, nodes[ref.place].value))
            if isinstance(node.target, str):
                return getattr(args[0], node.target)(*args[1:], **kwargs)
            return node.target(*args, **kwargs)  # type: ignore[misc]

        return of
