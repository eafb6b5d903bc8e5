"""Which layers, functions and methods the delta engine knows, and how each becomes an operation.

One line per kind in the tables below. What is in none of them ends the propagation with its name as the reason, and a
general engine takes over for the parameters before it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrize

from bbopt.zeroth_order.network.delta_conv import Conv, Geometry
from bbopt.zeroth_order.network.delta_linear import Linear
from bbopt.zeroth_order.network.delta_norm import BatchNorm
from bbopt.zeroth_order.network.delta_operation import Operation
from bbopt.zeroth_order.network.delta_pointwise import Pointwise, ReLU, Same, Scaled, Sum
from bbopt.zeroth_order.network.delta_pool import AvgPool, MaxPool, taps
from bbopt.zeroth_order.network.delta_shape import Cut, Divided, Folded, Joined, Padded, Piece, Positions
from bbopt.zeroth_order.network.delta_site import Site
from bbopt.zeroth_order.network.delta_state import NotPropagated
from bbopt.zeroth_order.network.graph import Graph, Node, Ref

Builder = Callable[[Site], Operation]
"""Raises NotPropagated, or TypeError for arguments it does not know."""


def operation(graph: Graph, place: int) -> Operation:
    """The operation of a node. Raises NotPropagated where its kind is not known."""
    site = Site(graph, place)
    target = site.node.target
    value = site.node.value
    if isinstance(target, nn.Module):
        if target._forward_hooks or target._forward_pre_hooks:
            raise NotPropagated(f"{site.node.name} has hooks")
        kind = parametrize.type_before_parametrizations(target)
        build = MODULES.get(kind)
        name = kind.__name__
    elif isinstance(target, str):
        build, name = METHODS.get(target), f".{target}()"
    else:
        build, name = FUNCTIONS.get(target), getattr(target, "__name__", str(target))
    if build is None:
        raise NotPropagated(f"{site.node.name}: no rule for {name}")
    pieces = build is _divided and isinstance(value, tuple | list)
    if not pieces and (not isinstance(value, Tensor) or value.ndim < 2 or len(value) != graph.batch):
        raise NotPropagated(f"{site.node.name} ({name}): the batch is not the first dimension of its value")
    try:
        return build(site)
    except TypeError as error:
        raise NotPropagated(f"{site.node.name} ({name}): {error}") from error


def _pointwise(site: Site) -> Operation:
    places = site.places(lambda node: node.value.ndim > 0)
    return Pointwise(site.graph, site.place, places, site.function(places))


def _relu(site: Site) -> Operation:
    return ReLU(site.graph, site.place, site.first(), torch.relu)


def _same(site: Site) -> Operation:
    return Same(site.graph, site.place, site.first())


def _dropout(site: Site) -> Operation:
    if site.node.mask is None:
        return _same(site)
    return Scaled(site.graph, site.place, site.first(), site.node.mask)


def _sum(sign: float) -> Builder:
    def build(site: Site) -> Operation:
        def read(left: Any, right: Any, *, alpha: float = 1.0) -> tuple[Any, Any, float]:
            return left, right, alpha

        left, right, alpha = read(*site.node.args, **site.node.kwargs)
        tensors = [isinstance(each, Ref) and getattr(site.value(each), "ndim", 0) > 0 for each in (left, right)]
        if not all(tensors):
            return _pointwise(site)
        return Sum(site.graph, site.place, (left.place, right.place), sign * alpha)

    return build


def _folded(site: Site) -> Operation:
    places = site.places(lambda node: node.place in site.graph.fed)
    return Folded(site.graph, site.place, places, site.function(places))


def _joined(site: Site) -> Operation:
    def read(tensors: Any, dim: int = 0) -> tuple[Any, int]:
        return tensors, dim

    tensors, dim = read(*site.node.args, **site.node.kwargs)
    dim %= site.node.value.ndim
    if dim == 0:
        raise NotPropagated(f"{site.node.name} joins along the batch")
    return Joined(site.graph, site.place, tuple(ref.place for ref in tensors), dim)


def _divided(site: Site) -> Operation:
    _dimension(site.node)
    return Divided(site.graph, site.place, site.first())


def _dimension(node: Node) -> int:
    """Along which dimension a tensor is cut into pieces."""

    def read(tensor: Any, size: Any, dim: int = 0) -> int:
        return dim

    dim = read(*node.args, **{("dim" if key == "dim" else "size"): value for key, value in node.kwargs.items()})
    dim = dim % int(node.value[0].ndim)
    if dim == 0:
        raise NotPropagated(f"{node.name} cuts the batch into pieces")
    return dim


def _cut(site: Site) -> Operation:
    items, whole = site.value(site.node.args[1]), site.graph.nodes[site.first()[0]]
    if isinstance(whole.value, tuple | list):
        dim = _dimension(whole)
        lengths = [each.shape[dim] for each in whole.value]
        number = items % len(lengths)
        return Piece(site.graph, site.place, site.first(), dim, sum(lengths[:number]), lengths[number])
    items = items if isinstance(items, tuple) else (items,)
    if not all(isinstance(each, slice | int) for each in items) or items[0] != slice(None):
        raise NotPropagated(f"{site.node.name} takes a part of the batch, or indexes by more than slices and integers")
    return Cut(site.graph, site.place, site.first(), items)


def _padded(site: Site) -> Operation:
    def read(tensor: Any, pad: Any, mode: str = "constant", value: float | None = None) -> tuple[Any, str, float]:
        return pad, mode, value or 0.0

    args, kwargs = site.given()
    pad, mode, value = read(*args, **kwargs)
    if mode != "constant" or len(pad) > 2 * len(site.size):
        return _folded(site)
    return Padded(site.graph, site.place, site.first(), tuple(pad), value)


def _mean(site: Site) -> Operation:
    def read(tensor: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> tuple[Any, bool]:
        return dim, keepdim

    args, kwargs = site.given()
    dim, keep = read(*args, **kwargs)
    count = len(site.size) + 1
    dims = tuple(each % count for each in (dim if isinstance(dim, tuple | list) else (dim,)))
    if min(dims) < 2:
        return _folded(site)
    return Positions(site.graph, site.place, site.first(), dims, keep)


def _linear_layer(site: Site) -> Operation:
    weight = site.graph.tensor(site.place, "weight")
    assert weight is not None
    return Linear(site.graph, site.place, site.first(), weight, site.graph.tensor(site.place, "bias"))


def _linear_function(site: Site) -> Operation:
    def read(x: Any, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return weight, bias

    args, kwargs = site.given()
    return Linear(site.graph, site.place, site.first(), *read(*args, **kwargs))


def _conv_layer(site: Site) -> Operation:
    layer, weight = site.layer, site.graph.tensor(site.place, "weight")
    sides = layer._reversed_padding_repeated_twice
    padding = tuple((sides[j], sides[j + 1]) for j in range(len(sides) - 2, -1, -2))
    geometry = Geometry(layer.kernel_size, layer.stride, layer.dilation, padding, layer.padding_mode)
    assert weight is not None
    bias = site.graph.tensor(site.place, "bias")
    return Conv(site.graph, site.place, site.first(), weight, bias, geometry, layer.groups)


def _conv_function(site: Site) -> Operation:
    def read(
        x: Any, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
    ) -> tuple[Tensor, Tensor | None, Any, Any, Any, int]:  # fmt: skip
        return weight, bias, stride, padding, dilation, groups

    args, kwargs = site.given()
    weight, bias, stride, padding, dilation, groups = read(*args, **kwargs)
    kernel = tuple(weight.shape[2:])
    spread = _per_dim(dilation, kernel)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(spread, kernel, strict=True)]
        sides = tuple((each // 2, each - each // 2) for each in total)
    else:
        sides = tuple((p, p) for p in _per_dim(0 if padding == "valid" else padding, kernel))
    geometry = Geometry(kernel, _per_dim(stride, kernel), spread, sides)
    return Conv(site.graph, site.place, site.first(), weight, bias, geometry, groups)


def _batch_norm_layer(site: Site) -> Operation:
    layer, tensor = site.layer, site.graph.tensor
    mean, variance = tensor(site.place, "running_mean"), tensor(site.place, "running_var")
    running = None if layer.training or mean is None or variance is None else (mean.clone(), variance.clone())
    weight, bias = tensor(site.place, "weight"), tensor(site.place, "bias")
    return BatchNorm(site.graph, site.place, site.first(), weight, bias, layer.eps, running)


def _batch_norm_function(site: Site) -> Operation:
    def read(
        x: Any, mean: Any, variance: Any, weight: Any = None, bias: Any = None, training: bool = False, momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> tuple[Any, Any, float, tuple[Tensor, Tensor] | None]:  # fmt: skip
        return weight, bias, eps, None if training else (mean.clone(), variance.clone())

    args, kwargs = site.given()
    return BatchNorm(site.graph, site.place, site.first(), *read(*args, **kwargs))


def _per_dim(value: Any, like: tuple[int, ...]) -> tuple[int, ...]:
    """One number for all spatial dimensions, or one each, as a tuple."""
    return tuple(value) if isinstance(value, tuple | list) else (value,) * len(like)


def _max_pool(site: Site) -> Operation:
    def read(
        x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Geometry:  # fmt: skip
        return _window(site, kernel_size, stride, padding, dilation)

    args, kwargs = site.given()
    if isinstance(site.node.target, nn.Module):
        layer = site.layer
        geometry = _window(site, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    else:
        geometry = read(*args, **kwargs)
    return MaxPool(site.graph, site.place, site.first(), geometry)


def _avg_pool(site: Site) -> Operation:
    def read(
        x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Geometry:  # fmt: skip
        return _window(site, kernel_size, stride, padding, 1)

    args, kwargs = site.given()
    if isinstance(site.node.target, nn.Module):
        layer = site.layer
        geometry = _window(site, layer.kernel_size, layer.stride, layer.padding, 1)
    else:
        geometry = read(*args, **kwargs)
    size, out, value = site.size[1:], tuple(site.node.value.shape[2:]), site.node.value
    counts = value.new_zeros(out)
    for _, target in taps(geometry, size, out):
        counts[target] += 1.0
    of_ones = site.function(site.first())(value.new_ones((1, 1, *size)))[0, 0]  # taps over the divisor, with its rules
    return AvgPool(site.graph, site.place, site.first(), geometry, of_ones / counts)


def _window(site: Site, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Geometry:
    size = site.size[1:]
    kernel = _per_dim(kernel, size)
    stride = kernel if stride is None or stride == () else _per_dim(stride, size)
    return Geometry(kernel, stride, _per_dim(dilation, size), tuple((p, p) for p in _per_dim(padding, size)))


def _adaptive_mean(site: Site) -> Operation:
    size, out = site.size[1:], tuple(site.node.value.shape[2:])
    if any(inner % outer for inner, outer in zip(size, out, strict=True)):
        return _folded(site)
    kernel = tuple(inner // outer for inner, outer in zip(size, out, strict=True))
    geometry = Geometry(kernel, kernel, (1,) * len(kernel), ((0, 0),) * len(kernel))
    scale = torch.full(out, 1.0 / geometry.taps, dtype=site.node.value.dtype, device=site.node.value.device)
    return AvgPool(site.graph, site.place, site.first(), geometry, scale)


def _instance_norm(site: Site) -> Operation:
    if not site.layer.training and site.layer.running_mean is not None:
        raise NotPropagated(f"{site.node.name}: no rule for InstanceNorm with running statistics")
    return _folded(site)


POINTWISE = """abs celu clamp clamp_max clamp_min clip cos div elu erf exp expm1 gelu hardshrink hardsigmoid hardswish hardtanh
leaky_relu log log1p logsigmoid maximum minimum mish mul multiply neg negative pow reciprocal relu6 rsqrt selu sigmoid silu sin
softplus softshrink softsign sqrt square sub tanh tanhshrink threshold truediv true_divide"""
FOLDED = """amax amin bmm conv_transpose1d conv_transpose2d conv_transpose3d cumsum einsum glu group_norm interpolate
layer_norm log_softmax logsumexp matmul normalize permute pixel_shuffle pixel_unshuffle prelu rms_norm scaled_dot_product_attention
softmax softmin stack sum swapaxes transpose unfold"""
SAME = "clone contiguous detach flatten reshape squeeze unflatten unsqueeze view"


def _named(names: str, build: Builder) -> dict[str, Builder]:
    """The same builder for each of the words."""
    return dict.fromkeys(names.split(), build)


def _found(names: str, build: Builder) -> dict[Any, Builder]:
    """The same builder for what torch, its functional interface and Python's operators have under these names."""
    places: tuple[Any, ...] = (torch, F, operator)
    return {getattr(place, name): build for place in places for name in names.split() if hasattr(place, name)}


FUNCTIONS: dict[Any, Builder] = {
    **_found(POINTWISE, _pointwise),
    **_found(FOLDED, _folded),
    **_found(SAME, _same),
    **_found("relu", _relu),
    **_found("add", _sum(1.0)),
    **_found("sub subtract", _sum(-1.0)),
    **_found("cat concat concatenate", _joined),
    **_found("mean", _mean),
    **_found("linear", _linear_function),
    **_found("conv1d conv2d conv3d", _conv_function),
    **_found("max_pool1d max_pool2d max_pool3d", _max_pool),
    **_found("avg_pool1d avg_pool2d avg_pool3d", _avg_pool),
    **_found("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d", _adaptive_mean),
    **_found("dropout dropout1d dropout2d dropout3d", _dropout),
    **_found("chunk split", _divided),
    F.batch_norm: _batch_norm_function,
    F.pad: _padded,
    operator.getitem: _cut,
}
METHODS: dict[str, Builder] = {
    **_named(POINTWISE, _pointwise),
    **_named(FOLDED, _folded),
    **_named(SAME, _same),
    "relu": _relu,
    "add": _sum(1.0),
    "sub": _sum(-1.0),
    "mean": _mean,
    **_named("chunk split", _divided),
}
MODULES: dict[type[nn.Module], Builder] = {
    nn.ReLU: _relu,
    **dict.fromkeys((nn.Identity, nn.Flatten, nn.Unflatten), _same),
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), _dropout),
    **dict.fromkeys(
        (nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.LogSigmoid,
         nn.Mish, nn.ReLU6, nn.SELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink,
         nn.Threshold),
        _pointwise,
    ),
    **dict.fromkeys(
        (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm, nn.PReLU, nn.GLU, nn.Softmax, nn.LogSoftmax, nn.Softmin,
         nn.Softmax2d, nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, nn.PixelShuffle, nn.PixelUnshuffle,
         nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
         nn.AdaptiveMaxPool3d, nn.LPPool1d, nn.LPPool2d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d,
         nn.ConstantPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d,
         nn.CircularPad1d, nn.CircularPad2d, nn.Unfold),
        _folded,
    ),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), _instance_norm),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _batch_norm_layer),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), _max_pool),
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), _avg_pool),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), _adaptive_mean),
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _conv_layer),
    nn.Linear: _linear_layer,
}  # fmt: skip
