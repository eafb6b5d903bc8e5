"""Delta propagation against the plain loop on random small networks."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bbopt.zeroth_order.network.base import opened
from bbopt.zeroth_order.network.delta import Delta
from bbopt.zeroth_order.network.naive import Naive
from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss


class Beside(nn.Module):
    """Two parts of the same shape added, joined, or multiplied."""

    def __init__(self, one: nn.Module, other: nn.Module, how: str) -> None:
        super().__init__()
        self.one, self.other, self.how = one, other, how

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.one(x), self.other(x)
        if self.how == "joined":
            return torch.cat([one, other], 1)
        return one + other if self.how == "added" else one * other


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, int]:
    """A convolutional network for images (1, 7, 7), and how many channels it ends with."""
    channels, layers = 1, []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "grouped", "norm", "act", "pool", "beside", "drop"]))
        if kind in ("conv", "beside"):
            out = draw(st.integers(1, 4))
            kernel, dilation = draw(st.sampled_from([1, 3])), draw(st.integers(1, 2))
            bias, stride = draw(st.booleans()), draw(st.integers(1, 2)) if kind == "conv" else 1
            padding = draw(st.integers(dilation * (kernel // 2), 2))
            layer: nn.Module = nn.Conv2d(channels, out, kernel, stride, padding, dilation, bias=bias)
            if kind == "beside":
                how = draw(st.sampled_from(["added", "joined", "multiplied"]))
                twin = nn.Conv2d(channels, out, kernel, stride, padding, dilation)
                layer = Beside(nn.Sequential(layer, nn.Tanh()), nn.Sequential(twin, nn.BatchNorm2d(out)), how)
                out *= 2 if how == "joined" else 1
            channels = out
        elif kind == "grouped":
            layer, channels = nn.Conv2d(channels, 2 * channels, 3, padding=1, groups=channels), 2 * channels
        elif kind == "norm":
            layer = nn.BatchNorm2d(channels, affine=draw(st.booleans())).train(draw(st.booleans()))
        elif kind == "act":
            layer = draw(st.sampled_from([nn.ReLU(), nn.ReLU(inplace=True), nn.GELU(), nn.Tanh()]))
        elif kind == "pool":
            pool = draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))
            layer = pool(2, draw(st.integers(1, 2)), draw(st.integers(0, 1)), ceil_mode=draw(st.booleans()))
        else:
            layer = nn.Dropout(0.3)
        layers.append(layer)
    tail = draw(st.sampled_from(["mean", "flat"]))
    layers += [nn.AdaptiveAvgPool2d(1)] if tail == "mean" else []
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(5), nn.Tanh(), nn.Linear(5, 3)), channels


@settings(max_examples=40, deadline=None, derandomize=True)
@given(network=networks(), seed=st.integers(0, 2**16), bytes=st.sampled_from([1, 2**15, 2**21]))
def test_random_networks(network: tuple[nn.Module, int], seed: int, bytes: int) -> None:
    module = network[0].double()
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(4, 1, 7, 7, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        module(inputs)
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    problem = NetworkLoss(module, inputs, CrossEntropy(torch.randint(3, (4,), generator=generator)), seed=seed)
    with opened(problem, None) as (base, chosen):
        delta, naive = Delta(base, bytes), Naive(base)
        for name, index in chosen.indices.items():
            assert delta.refusal(name) is None, f"{name}: {delta.refusal(name)}"
            some = index[torch.randperm(len(index), generator=generator)[:5]]
            steps = 1e-3 * torch.randn(len(some), generator=generator, dtype=torch.float64)
            found, wanted = delta.changes(name, some, steps), naive.changes(name, some, steps)
            # The plain loop subtracts outputs, and loses what they are larger by than their change: 1e-13 of them.
            size = max(float(wanted.abs().max()), 1e-4 * (1.0 + float(base.outputs.abs().max())))
            assert float((found - wanted).abs().max()) <= 1e-9 * size, name
