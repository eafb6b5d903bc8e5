"""What a gradient costs in multiplications and additions, by engine and parameter, before anything is run twice.

With F the products of a forward, F_{>=l} those from layer l on, d scalars in all and n_l of them in layer l (DeepZero counts
stages, here every layer is one):

    naive   sum_l n_l F                        = d F
    staged  sum_l n_l F_{>=l}
    delta   sum_l n_l (F_{l+1} / inputs of l+1 + F_{>=l+2})     the first term where the next layer takes a rank-1 update
    units   sum_l m_l (as delta)                                m_l units of layer l in place of n_l weights

Only products of linear layers and convolutions count: what norms, activations, the loss and the calls themselves take
comes on top, and in small networks it prevails. Sparse coordinates enter by their numbers n_l.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bbopt.errors import UsageError
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.delta import Delta
from bbopt.zeroth_order.network.delta_conv import Conv
from bbopt.zeroth_order.network.delta_linear import Linear
from bbopt.zeroth_order.network.delta_state import NotPropagated


@dataclass(frozen=True)
class Cost:
    """Products of one query at a parameter, by the engine that answers it; None: the engine cannot.

    units: units of the layer that stand for the parameter's scalars, whatever their number; None where it has none.
    """

    naive: float
    staged: float
    delta: float | None
    units: int | None


@dataclass(frozen=True, eq=False)
class Costs:
    """The costs of the parameters of a module."""

    by_parameter: Mapping[str, Cost]

    def total(self, engine: str, coordinates: Coordinates) -> float:
        """Products of a gradient along some coordinates; a parameter that the engine cannot serve costs a staged query.

        engine: "naive", "staged", "delta" or "units".
        """
        if engine not in ("naive", "staged", "delta", "units"):
            raise UsageError(f"expected naive, staged, delta or units, got {engine!r}")
        whole = 0.0
        for name, index in coordinates.indices.items():
            cost = self.by_parameter[name]
            each = cost.delta if engine in ("delta", "units") else getattr(cost, engine)
            count = len(index)
            if engine == "units" and cost.units is not None:  # the bias of a layer comes with its weight
                count = 0 if name.endswith("bias") and _weight(name) in coordinates.indices else min(cost.units, count)
            whole += count * (cost.staged if each is None else each)
        return whole

    def speedup(self, engine: str, coordinates: Coordinates) -> float:
        """How many times fewer products than one forward per coordinate."""
        return self.total("naive", coordinates) / max(self.total(engine, coordinates), 1.0)


def costs(delta: Delta) -> Costs:
    """The costs of all parameters of the module of a delta engine.

    >>> from torch import nn, ones, tensor
    >>> from bbopt.zeroth_order.network.base import opened
    >>> from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss
    >>> net = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 10))
    >>> with opened(NetworkLoss(net, ones(1, 10), CrossEntropy(tensor([0]))), None) as (base, chosen):
    ...     found = costs(Delta(base))
    >>> found.by_parameter["0.weight"]  # a forward has 2 times 200 products, a rank-1 update of the second layer 2 times 10
    Cost(naive=400.0, staged=400.0, delta=20.0, units=10)
    """
    graph = delta.graph
    flops = []
    for node in graph.nodes:
        try:
            operation = delta.operation(node.place)
            flops.append(operation.flops((None,) * len(operation.inputs)))
        except NotPropagated:  # a kind without a rule, or a value that was given: no products that we know of
            flops.append(0.0)
    found = {}
    for name, uses in graph.uses.items():
        first = min((use.place for use in uses), default=len(flops))
        each: float | None = None
        units: int | None = None
        if delta.refusal(name) is None:
            place = delta.entry(name)[0].place
            operation, each = delta.operation(place), delta.path(place).flops
            if isinstance(operation, Linear | Conv) and operation.positions:
                units = len(operation.weight) * operation.positions
        found[name] = Cost(sum(flops), sum(flops[first:]), each, units)
    return Costs(found)


def prefix_speedup(counts: Sequence[float], to_end: Sequence[float]) -> float:
    """What restarting at a stage saves: F sum n_s / sum n_s F_{>=s}; counts n_s, costs to_end F_{>=s}, first stage first.

    >>> prefix_speedup([1, 1, 1], [3.0, 2.0, 1.0])  # equal stages: 2 L / (L + 1)
    1.5
    """
    if len(counts) != len(to_end) or not counts:
        raise UsageError(f"expected as many counts as costs, got {len(counts)} and {len(to_end)}")
    return to_end[0] * sum(counts) / sum(n * cost for n, cost in zip(counts, to_end, strict=True))


def _weight(bias: str) -> str:
    return bias[: -len("bias")] + "weight"
