"""The loss of a network as a problem: its weights are the parameters, a fixed batch of digits the data.

Found by name: `network_mlp_64_32_10` (ReLU; `network_mlp_tanh_64_32_10` for tanh), `network_cnn_8_16` and
`network_resnet20`, with `@seedS` for another start and another batch. What is minimised is the mean cross-entropy over 256
training images of `digits`, in float64. Norms use the statistics of the batch, as in training.

There is one parameter per tensor of the network, named after it, without bounds and with a scale of 1: encoded
numbers are the weights, so that a step size means what it means in training. The origin is no place to start from (all
gradients but that of the last bias vanish there, or nearly): `problem.start` holds the initial weights, which
`Optimizer.enqueue` or `add` make the first point of a study.

>>> from problems import get
>>> problem = get("network_mlp_64_32_10")
>>> problem.task.space.names
('linear1.weight', 'linear1.bias', 'linear2.weight', 'linear2.bias')
>>> round(problem(problem.start)["loss"], 3)
2.324
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bbopt.errors import UsageError
from bbopt.query import CoordinateRows
from bbopt.space import Float, Space
from bbopt.task import Objective, Task

from ..problem import Array, Columns, Optimum, Problem
from .architectures import mlp, parameter_count, resnet20, small_cnn
from .digit_images import digits

__all__ = ["NetworkFormula", "network_problem"]

BATCH = 256  # images
BYTES = 2**24  # of what one chunk of rows keeps in memory
_NAME = re.compile(
    r"network_(?:(?P<kind>mlp|mlp_tanh|cnn)_(?P<sizes>[1-9]\d{0,3}(?:_[1-9]\d{0,3})*)|resnet20)(?:@seed(?P<seed>\d{1,9}))?"
)
_FIT_STEPS = 200  # of L-BFGS, for the optimum
_SHARPER = 1e4  # how much the outputs are enlarged then


@dataclass(frozen=True, eq=False)
class NetworkFormula:
    """The mean cross-entropy of a network on a batch of digits, for many sets of weights at once.

    kind: "mlp", "mlp_tanh", "cnn" or "resnet20", of these sizes; seed: of the initial weights and of the batch.
    bytes: of memory for one chunk of rows; the number of rows in a chunk changes no answer but for rounding.
    What travels to another process is this description, not the network or the images.
    """

    kind: str
    sizes: tuple[int, ...]
    seed: int
    bytes: int = BYTES

    def __reduce__(self) -> tuple[Any, ...]:
        return NetworkFormula, (self.kind, self.sizes, self.seed, self.bytes)

    @cached_property
    def network(self) -> nn.Sequential:
        """In float64, at its initial weights, with norms that keep no running statistics."""
        match self.kind:
            case "mlp" | "mlp_tanh":
                return _pure(mlp(self.sizes, "relu" if self.kind == "mlp" else "tanh", self.seed))
            case "cnn":
                return _pure(small_cnn(self.sizes, seed=self.seed))
            case _:
                return _pure(resnet20(inputs=1, seed=self.seed))

    @cached_property
    def inputs(self) -> Tensor:
        """(256, 64) or (256, 1, 8, 8)"""
        images = digits(self.kind.startswith("mlp"), self.seed)
        return images.train_inputs[:BATCH].double()

    @cached_property
    def targets(self) -> Tensor:
        """(256,) class indices."""
        return digits(seed=self.seed).train_targets[:BATCH].clone()

    def __call__(self, columns: Columns) -> dict[str, Array]:
        """The loss of rows in which every weight may differ: (k, size) per tensor to (k,)."""
        shapes = {name: parameter.shape for name, parameter in self.network.named_parameters()}
        rows = len(columns[next(iter(shapes))])
        weights = {name: torch.as_tensor(columns[name], dtype=torch.float64) for name in shapes}
        losses = torch.empty(rows, dtype=torch.float64)
        per_row = 8 * parameter_count(self.network) + self._activations

        def one(some: Mapping[str, Tensor]) -> Tensor:
            return self._loss(functional_call(self.network, dict(some), (self.inputs,)))

        with torch.no_grad():
            for part in self._chunks(rows, per_row):
                chunk = {name: tensor[part].reshape(-1, *shapes[name]) for name, tensor in weights.items()}
                losses[part] = vmap(one)(chunk)
        return {"loss": losses.numpy()}

    def coordinate_rows(self, rows: CoordinateRows, space: Space) -> dict[str, Array]:
        """The loss of rows that differ from one set of weights in one number each: a forward, and a part of one per row.

        The stages before the changed tensor run once for all, and no dense row is made.
        """
        base = {
            name: torch.from_numpy(np.array(values, dtype=float)) for name, values in space.decode(rows.base).items()
        }
        losses = torch.empty(len(rows), dtype=torch.float64)
        with torch.no_grad():
            fed = [self.inputs]
            for stage, module in self.network.named_children():
                fed.append(functional_call(module, _inside(base, stage), (fed[-1],)))
            losses[torch.from_numpy(rows.columns == -1)] = self._loss(fed[-1])
            order = np.argsort(rows.columns, kind="stable")
            for name in base:
                part = space.slice(name)
                first, last = np.searchsorted(rows.columns[order], (part.start, part.stop))
                if last > first:
                    mine = order[first:last]
                    parameter = space.parameters[name]
                    assert isinstance(parameter, Float)
                    values = parameter.values(rows.values[mine])
                    index = rows.columns[mine] - part.start
                    losses[torch.from_numpy(mine)] = self._moved(base, name, fed, index, values)
        return {"loss": losses.numpy()}

    def _moved(self, base: Mapping[str, Tensor], name: str, fed: list[Tensor], index: Array, values: Array) -> Tensor:
        """(k,) losses where entry index[j] of one tensor is values[j] and everything else is the base."""
        stage, _, inner = name.partition(".")
        position = [child for child, _ in self.network.named_children()].index(stage)
        module, rest = (
            self.network[position],
            nn.Sequential(OrderedDict(list(self.network.named_children())[position + 1 :])),
        )
        mine = _inside(base, stage)
        later = {
            f"{child}.{key}": base[f"{child}.{key}"]
            for child, m in rest.named_children()
            for key, _ in m.named_parameters()
        }
        tensor, losses = base[name], torch.empty(len(index), dtype=torch.float64)

        def one(changed: Tensor) -> Tensor:
            after = functional_call(module, {**mine, inner: changed}, (fed[position],))
            return self._loss(functional_call(rest, later, (after,)) if len(rest) else after)

        for part in self._chunks(len(index), 8 * tensor.numel() + self._activations):
            where = torch.from_numpy(index[part])
            changed = tensor.reshape(1, -1).repeat(len(where), 1)
            changed[torch.arange(len(where)), where] = torch.from_numpy(values[part])
            losses[part] = vmap(one)(changed.reshape(-1, *tensor.shape))
        return losses

    def _loss(self, outputs: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, self.targets)

    @cached_property
    def _activations(self) -> int:
        """Bytes of the largest outputs of a stage for one row, three times over: what goes in, comes out and is kept."""
        largest, out = self.inputs.numel(), self.inputs
        for module in self.network:
            out = module(out)
            largest = max(largest, out.numel())
        return 3 * 8 * largest

    def _chunks(self, rows: int, per_row: int) -> Iterator[slice]:
        size = max(1, self.bytes // per_row)
        return (slice(start, start + size) for start in range(0, rows, size))


def _inside(weights: Mapping[str, Tensor], stage: str) -> dict[str, Tensor]:
    """The tensors of one stage, by their names in it."""
    return {name.partition(".")[2]: tensor for name, tensor in weights.items() if name.partition(".")[0] == stage}


def network_problem(name: str) -> Problem | None:
    """The problem that the name describes; None where it describes none.

    Raises UsageError for a perceptron that does not take 64 numbers or does not give 10.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    sizes = tuple(int(size) for size in match["sizes"].split("_")) if match["sizes"] else ()
    kind = match["kind"] or "resnet20"
    if kind.startswith("mlp") and (len(sizes) < 2 or sizes[0] != 64 or sizes[-1] != 10):
        raise UsageError(f"{name}: digits have 64 pixels and 10 classes, expected network_mlp_64_..._10")
    return _problem(name, kind, sizes, int(match["seed"] or 0))


@cache
def _problem(name: str, kind: str, sizes: tuple[int, ...], seed: int) -> Problem:
    formula = NetworkFormula(kind, sizes, seed)
    start = _frozen(dict(formula.network.named_parameters()))
    space = Space({key: Float(scale=1.0, shape=value.shape) for key, value in start.items()})
    return Problem(
        name,
        Task(space, (Objective("loss"),)),
        formula,
        _unknown_optimum(formula, start) if kind == "resnet20" else _fitted_optimum(formula),
        "Network and loss: Zhang et al. (2024), DeepZero, ICLR, arXiv:2310.02025; digits: Alpaydin, Kaynak (1998), UCI",
        f"The {parameter_count(formula.network)} weights of a network that tells {BATCH} handwritten digits apart; the loss is "
        "the mean cross-entropy.",
        start=start,
    )


def _pure(network: nn.Sequential) -> nn.Sequential:
    """The network in float64, with norms that keep no running statistics: a function of weights and inputs."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return network.double().requires_grad_(False)


def _frozen(weights: Mapping[str, Tensor]) -> dict[str, Array]:
    """Read-only copies, as everybody who asks for the problem shares them."""
    arrays = {name: tensor.detach().numpy().copy() for name, tensor in weights.items()}
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def _unknown_optimum(formula: NetworkFormula, start: Mapping[str, Array]) -> Optimum:
    loss = float(formula._loss(formula.network(formula.inputs)))
    how = "not known: no cross-entropy is below 0, and the start is all that was evaluated"
    return Optimum(loss, start, how, tolerance=min(loss, 1.0))


def _fitted_optimum(formula: NetworkFormula) -> Optimum:
    """Weights that tell all images apart, by gradients, with the last layer enlarged until the loss is nothing.

    Where that many images cannot be told apart (a network that is too small), the best loss found.
    """
    weights = {name: parameter.clone().requires_grad_() for name, parameter in formula.network.named_parameters()}
    optimizer = torch.optim.LBFGS(
        list(weights.values()), max_iter=_FIT_STEPS, tolerance_grad=1e-9, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = formula._loss(functional_call(formula.network, weights, (formula.inputs,)))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = {name: tensor.detach() for name, tensor in weights.items()}
    last = [name for name, _ in formula.network.named_parameters()][-2:]
    sharper = {name: tensor * (_SHARPER if name in last else 1.0) for name, tensor in found.items()}
    plain, sharp = (_value(formula, some) for some in (found, sharper))
    params = _frozen(sharper if sharp < plain else found)
    value = min(plain, sharp)
    if value < 1e-9:
        return Optimum(0.0, params, "no cross-entropy is below 0; the weights come from L-BFGS with exact gradients, "
                       f"last layer times {_SHARPER:g}", tolerance=1e-9)  # fmt: skip
    return Optimum(
        value, params, "best of one run of L-BFGS with exact gradients; not below 0", tolerance=min(value, 1.0)
    )


def _value(formula: NetworkFormula, weights: Mapping[str, Any]) -> float:
    with torch.no_grad():
        return float(formula._loss(functional_call(formula.network, dict(weights), (formula.inputs,))))
