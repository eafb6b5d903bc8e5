"""A module's forward as a plain list of what it computes, with the values of one base pass.

`torch.fx` runs the forward once with stand-ins for tensors and writes down every layer, function and method that they meet.
A forward whose course depends on values (an `if` on a tensor, a loop until convergence) cannot be written down so; it is
refused with that reason. The list is then run on the mini-batch, and has to give what the module itself gave.

Values are kept *batch last*: a tensor (B, C, ...) lies in memory as (C, ..., B). A perturbation of a network touches few
channels and all samples, so long contiguous runs over the samples are what every operation on a channel wants.
In-place operations are done out of place, and what reads the overwritten value later reads the new one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F  # noqa: N812 the name that everybody reads as this
from torch.nn.modules.dropout import _DropoutNd

from bbopt.zeroth_order.network.base import BasePass
from bbopt.zeroth_order.network.engine import NotApplicable

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
DROPOUT_FUNCTIONS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
SIZES = ("size", "dim", "numel", "ndimension", "nelement")
SIZE_ATTRIBUTES = ("shape", "ndim", "dtype", "device")


@dataclass(frozen=True)
class Ref:
    """In the arguments of a node: the value of an earlier one."""

    place: int


@dataclass(frozen=True, eq=False)
class Node:
    """One computation of the forward.

    target: the layer, the function, or the name of the method of its first argument; None: a value that was there.
    args, kwargs: with a `Ref` for each value of another node. value: in the base pass, (B, ...), in memory batch last.
    mask: what a dropout multiplied by, shaped like the value; None elsewhere. parameter: whose value this is, if one's.
    """

    place: int
    name: str
    target: nn.Module | Callable[..., Any] | str | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    value: Any
    mask: Tensor | None = None
    parameter: str | None = None

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """Places of the nodes it reads, each once."""
        return tuple(dict.fromkeys(ref.place for ref in references((self.args, self.kwargs))))

    @property
    def of_sizes_only(self) -> bool:
        """Whether it looks at shapes alone, which no perturbation changes."""
        if self.target is getattr:
            return self.args[1] in SIZE_ATTRIBUTES
        return self.target is len or (isinstance(self.target, str) and self.target in SIZES)


@dataclass(frozen=True)
class Use:
    """Where a parameter enters: the node, and the parameter's name in its layer (None: it is a function's argument)."""

    place: int
    local: str | None


@dataclass(frozen=True, eq=False)
class Graph:
    """The nodes in the order they are computed, where parameters enter, and which node gives the outputs.

    >>> from bbopt.zeroth_order.network.base import base_pass
    >>> from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss
    >>> from bbopt.zeroth_order.network.untouched import untouched
    >>> module = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> problem = NetworkLoss(module, torch.ones(4, 2), CrossEntropy(torch.tensor([0, 1, 2, 0])))
    >>> with untouched(module) as snapshot:
    ...     graph = trace(base_pass(problem, snapshot))
    >>> [node.name for node in graph.nodes], graph.uses["0.bias"]
    (['input_1', '_0', '_1'], (Use(place=1, local='bias'),))
    """

    base: BasePass
    nodes: tuple[Node, ...]
    output: int
    uses: dict[str, tuple[Use, ...]]
    _rows: dict[int, Tensor] = field(default_factory=dict)
    _weights: dict[tuple[int, str], Tensor] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """B, the number of samples."""
        return len(self.base.problem.inputs)

    @cached_property
    def fed(self) -> frozenset[int]:
        """Places of the inputs (the first node) and of what was computed from them."""
        found = {0}
        for node in self.nodes:
            if any(j in found for j in node.inputs):
                found.add(node.place)
        return frozenset(found)

    def rows(self, place: int) -> Tensor:
        """(C, ..., B) contiguous: the value of a node whose first dimension is the batch."""
        if place not in self._rows:
            self._rows[place] = self.nodes[place].value.movedim(0, -1).contiguous()
        return self._rows[place]

    def tensor(self, place: int, local: str) -> Tensor | None:
        """A layer's tensor as the base pass saw it, such as "weight"; None where the layer has none."""
        if (place, local) not in self._weights:
            layer = self.nodes[place].target
            if hasattr(layer, "parametrizations"):  # a spectral norm moves on each time its weight is read
                self.base.rewind()
            found = getattr(layer, local)
            if found is None:
                return None
            self._weights[place, local] = found.detach()
        return self._weights[place, local]

    def below(self, place: int) -> tuple[int, ...]:
        """Places of the nodes, in order, that a change of this node reaches and that reach the outputs."""
        reached = {place}
        for node in self.nodes[place + 1 :]:
            if not node.of_sizes_only and any(j in reached for j in node.inputs):
                reached.add(node.place)
        needed = {self.output}
        for node in reversed(self.nodes):
            if node.place in needed:
                needed.update(node.inputs)
        return tuple(sorted((reached & needed) - {place}))


def references(value: Any) -> Iterator[Ref]:
    """The `Ref`s inside nested arguments."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from references(each)
    elif isinstance(value, dict):
        yield from references(tuple(value.values()))
    elif isinstance(value, slice):
        yield from references((value.start, value.stop, value.step))


def filled(value: Any, of: Callable[[Ref], Any]) -> Any:
    """Nested arguments with each `Ref` replaced."""
    if isinstance(value, Ref):
        return of(value)
    if isinstance(value, tuple | list):
        return type(value)(filled(each, of) for each in value)
    if isinstance(value, dict):
        return {key: filled(each, of) for key, each in value.items()}
    if isinstance(value, slice):
        return slice(*(filled(each, of) for each in (value.start, value.stop, value.step)))
    return value


def trace(base: BasePass) -> Graph:
    """The graph of the module of a base pass, inside `untouched`.

    Raises NotApplicable where the forward cannot be written down as a list, or the list does not give what it gave.
    """
    module = base.problem.module
    written = _written(module)
    base.rewind()
    nodes, output = _run(module, base.problem.inputs, written)
    value = nodes[output].value
    if not isinstance(value, Tensor) or value.shape != base.outputs.shape or not close(value, base.outputs):
        raise NotApplicable(
            "the traced forward gives other outputs than the module (hooks, or tensors that share memory)"
        )
    return Graph(base, tuple(nodes), output, _uses(module, nodes))


def _written(module: nn.Module) -> list[fx.Node]:
    """What `torch.fx` writes down, from memory where the module and its settings are those of the last time."""
    settings = tuple(_settings(module))
    known = _TRACES.get(module)
    if known is not None and known[0] == settings:
        return known[1]
    try:
        written = list(fx.Tracer().trace(module).nodes)
    except Exception as error:  # whatever a forward does with a stand-in for a tensor, that is the reason
        raise NotApplicable(f"the forward cannot be traced: {type(error).__name__}: {error}") from error
    if not any(each.op == "get_attr" and "_tensor_constant" in str(each.target) for each in written):
        _TRACES[module] = settings, written  # constants would hang on the module, which is left as it was
    return written


_TRACES: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], list[fx.Node]]] = WeakKeyDictionary()
"""Traces take longer than a small network's forward. A stale one would be found out: it is compared with each base pass."""


_PLAIN = (bool, int, float, str, type(None))


def _settings(module: nn.Module) -> Iterator[Any]:
    """What a forward may depend on besides tensors: the parts, and their plain attributes, the training flag among them."""
    for part in module.modules():
        yield id(part), type(part)
        for name, value in vars(part).items():
            if isinstance(value, tuple | list):
                if all(isinstance(each, _PLAIN) for each in value):
                    yield name, tuple(value)
            elif isinstance(value, _PLAIN):
                yield name, value


def close(found: Tensor, wanted: Tensor) -> bool:
    """Whether two tensors agree up to rounding by different kernels."""
    if torch.equal(found, wanted):
        return True
    slack = 1e4 * torch.finfo(wanted.dtype).eps * max(1.0, float(wanted.abs().max()))
    return bool((found - wanted).abs().max() <= slack)


def _run(module: nn.Module, inputs: Tensor, written: list[fx.Node]) -> tuple[list[Node], int]:
    """The nodes with their values, and the place of the outputs."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    last = {source: position for position, each in enumerate(written) for source in each.all_input_nodes}
    place: dict[fx.Node, int] = {}  # the node that holds what a traced name means now
    nodes: list[Node] = []
    values: list[Any] = []  # as the forward makes them, in its own memory layout
    for position, each in enumerate(written):
        args, kwargs = _with_refs(each.args, place), _with_refs(each.kwargs, place)
        target, mask, parameter = None, None, None
        read = {source: place[source] for source in each.all_input_nodes}  # before writing in place renames one
        if each.op == "output":
            if not isinstance(args[0], Ref):
                raise NotApplicable(f"expected the module to return one tensor, got {args[0]!r}")
            return nodes, args[0].place
        if each.op == "placeholder":
            value: Any = args[0] if nodes and args else inputs  # arguments with a default come after the inputs
            args = ()
        elif each.op == "get_attr":
            held = _attribute(module, str(each.target))
            value = held.detach() if isinstance(held, Tensor) else held
            parameter = names.get(id(held))
        else:
            target = module.get_submodule(str(each.target)) if each.op == "call_module" else each.target
            target, kwargs, writes = _out_of_place(target, kwargs)
            given = filled((args, kwargs), lambda ref: values[ref.place])
            value, mask = _compute(target, given[0], given[1])
            if writes:
                overwritten = each.all_input_nodes[0]
                _refuse_shared(values, place, overwritten, last, position)
                place[overwritten] = len(nodes)
                last[each] = max(last.get(each, position), last[overwritten])
        place[each] = len(nodes)
        values.append(value)
        for source, at in read.items():
            if last[source] == position:
                values[at] = None
        nodes.append(Node(len(nodes), each.name, target, args, kwargs, _batch_last(value, inputs), mask, parameter))
    raise NotApplicable("the traced forward returns nothing")


def _batch_last(value: Any, inputs: Tensor) -> Any:
    if isinstance(value, Tensor) and value.ndim > 1 and len(value) == len(inputs):
        return value.movedim(0, -1).contiguous().movedim(-1, 0)
    return value


def _with_refs(value: Any, place: dict[fx.Node, int]) -> Any:
    if isinstance(value, fx.Node):
        return Ref(place[value])
    if isinstance(value, tuple | list):
        return tuple(_with_refs(each, place) for each in value)
    if isinstance(value, dict):
        return {key: _with_refs(each, place) for key, each in value.items()}
    if isinstance(value, slice):
        return slice(*(_with_refs(each, place) for each in (value.start, value.stop, value.step)))
    return value


def _attribute(module: nn.Module, path: str) -> Any:
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _compute(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Tensor | None]:
    """The value, and the mask of a dropout: what it makes of ones, from the same draws."""
    if isinstance(target, str):
        return getattr(args[0], target)(*args[1:], **kwargs), None
    if _drops(target, kwargs):
        mask: Tensor = target(torch.ones_like(args[0]), *args[1:], **kwargs)
        return args[0] * mask, mask
    return target(*args, **kwargs), None


def _drops(target: Any, kwargs: dict[str, Any]) -> bool:
    if isinstance(target, _DropoutNd):
        return isinstance(target, DROPOUTS) and target.training
    return any(target is each for each in DROPOUT_FUNCTIONS) and bool(kwargs.get("training", True))


def _out_of_place(target: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any], bool]:
    """The same computation into new memory, and whether it was into that of its first argument."""
    if isinstance(target, nn.Module):
        if not getattr(target, "inplace", False):
            return target, kwargs, False
        twin: Any = copy.copy(target)  # shares hooks and parameters; the flag is the copy's own
        twin.inplace = False
        return twin, kwargs, True
    if "out" in kwargs:
        raise NotApplicable("the forward writes through out=, which cannot be repeated out of place")
    if kwargs.get("inplace"):
        return target, {**kwargs, "inplace": False}, True
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    if name.startswith("__") or not name.endswith("_"):
        return target, kwargs, False
    if isinstance(target, str):
        return name[:-1], kwargs, True
    plain = getattr(torch, name[:-1], None) or getattr(F, name[:-1], None)
    if plain is None:
        raise NotApplicable(f"the forward calls {name}, which works in place and has no twin that does not")
    return plain, kwargs, True


def _refuse_shared(
    values: list[Any], place: dict[fx.Node, int], overwritten: fx.Node, last: dict[fx.Node, int], now: int
) -> None:
    """Other names for the memory that is written into, read later, would have to change as well."""
    value = values[place[overwritten]]
    for other, position in last.items():
        if position > now and other is not overwritten and other in place:
            held = values[place[other]]
            if isinstance(held, Tensor) and held.untyped_storage().data_ptr() == value.untyped_storage().data_ptr():
                raise NotApplicable(f"{overwritten.name} is written in place while {other.name} shares its memory")


def _uses(module: nn.Module, nodes: list[Node]) -> dict[str, tuple[Use, ...]]:
    """Where each parameter enters."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found: dict[str, list[Use]] = {name: [] for name in names.values()}
    for node in nodes:
        if isinstance(node.target, nn.Module):
            for local, parameter in node.target.named_parameters(remove_duplicate=False):
                found[names[id(parameter)]].append(Use(node.place, local))
        for ref in references((node.args, node.kwargs)):
            owner = nodes[ref.place].parameter
            if owner is not None:
                found[owner].append(Use(node.place, None))
    return {name: tuple(uses) for name, uses in found.items()}
