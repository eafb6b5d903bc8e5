"""What a module must be for its parameters to be perturbed in place; each refusal says what to do."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from bbopt.errors import UsageError
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.objective import NetworkLoss

FLOATS = (torch.float32, torch.float64)
DEVICES = ("cpu", "cuda")


def admitted(problem: NetworkLoss, coordinates: Coordinates | None) -> Coordinates:
    """The coordinates that take part, checked against the module; all that require a gradient where None are given.

    Raises UsageError for TorchScript, for parameters that are not there, not initialised, not on a CPU or CUDA device, of a precision too
    coarse for differences, or that share memory with others without being the same parameter.
    """
    module = problem.module
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise UsageError("a TorchScript module keeps its tensors out of reach; give the module that it was made from")
    parameters = dict(module.named_parameters())
    lazy = [name for name, p in parameters.items() if isinstance(p, UninitializedParameter)]
    if lazy:
        raise UsageError(f"parameter {lazy[0]!r} is not initialised; run the module on an input first")
    if coordinates is None:
        chosen = Coordinates.all(module)
        if not chosen.count:
            raise UsageError("the module has no parameter that requires a gradient; name frozen ones in coordinates=")
    else:
        chosen = Coordinates.of(module, coordinates.indices)
    for name in chosen.indices:
        _check_numbers(name, parameters[name])
    _check_memory(parameters, set(chosen.indices))
    if getattr(parametrize, "_cache_enabled", 0):
        raise UsageError("inside parametrize.cached() a weight is computed once, so its perturbation is lost; leave it")
    return chosen


def _check_numbers(name: str, parameter: Tensor) -> None:
    if parameter.dtype not in FLOATS:
        raise UsageError(
            f"parameter {name!r} is {parameter.dtype}: differences need float32 or float64 (a change of one part in a "
            "thousand is below half precision); use module.float() or module.double()"
        )
    if parameter.device.type not in DEVICES:
        raise UsageError(f"parameter {name!r} is on {parameter.device}; expected one of {', '.join(DEVICES)}")
    if parameter.layout != torch.strided:
        raise UsageError(f"parameter {name!r} is sparse ({parameter.layout}); expected an ordinary dense tensor")
    if any(stride == 0 and size > 1 for stride, size in zip(parameter.stride(), parameter.shape, strict=True)):
        raise UsageError(f"elements of parameter {name!r} share memory (it was expanded); clone it first")


def _check_memory(parameters: dict[str, nn.Parameter], chosen: set[str]) -> None:
    """Two parameters over the same memory move together, which no gradient of one of them means."""
    spans = []
    for name, p in parameters.items():
        if p.numel() and p.device.type in DEVICES and p.layout == torch.strided:
            last = sum((size - 1) * stride for size, stride in zip(p.shape, p.stride(), strict=True))
            spans.append((p.device.index or 0, p.data_ptr(), p.data_ptr() + last * p.element_size(), name))
    open_spans: list[tuple[int, int, int, str]] = []
    for span in sorted(spans):
        device, start, _, second = span
        open_spans = [other for other in open_spans if other[0] == device and other[2] >= start]
        for *_, first in open_spans:
            if {first, second} & chosen and _meet(parameters[first], parameters[second]):
                raise UsageError(
                    f"parameters {first!r} and {second!r} share memory but are two parameters; tie weights by assigning "
                    "one nn.Parameter to both places"
                )
        open_spans.append(span)


def _meet(one: Tensor, other: Tensor) -> bool:
    return bool(len(np.intersect1d(_addresses(one), _addresses(other))))


def _addresses(p: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    at = np.zeros((), np.int64)
    for size, stride in zip(p.shape, p.stride(), strict=True):
        at = at[..., None] + stride * p.element_size() * np.arange(size)
    return p.data_ptr() + at.ravel()
