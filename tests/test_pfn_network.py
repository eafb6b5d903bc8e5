"""The network: what may not matter does not, what is kept is what is computed, and untrained it is the anchors' average."""

from __future__ import annotations

import doctest
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import surrogates.pfn.network as network_module
from surrogates.pfn.anchors import fit_anchors
from surrogates.pfn.mixture import Mixture
from surrogates.pfn.network import FREE, Network, Shape, predict
from surrogates.pfn.normalise import Normal

SMALL = Shape(width=32, layers=2, heads=4, inner=48, columns=5, anchors=6)


def network(shape: Shape = SMALL, spread: float = 0.15) -> Network:
    """A network with random weights in every layer, also in those that start at zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Network(shape)
    with torch.no_grad():
        for part in made.parameters():
            part += spread * torch.randn(part.shape, generator=generator)
    return made.requires_grad_(False)


def data(seed: int = 0, n: int = 13, p: int = 3, batch: int = 2, q: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, told values and points."""
    rng = np.random.default_rng(seed)
    X, Q = rng.random((batch, n, p)), rng.random((batch, q, p))
    y = np.sin(4.0 * X[..., 0]) + 0.5 * X[..., -1] ** 2 + 0.05 * rng.normal(size=(batch, n))
    return torch.tensor(X), torch.tensor(y), torch.tensor(Q)


def predicted(net: Network, X: Tensor, y: Tensor, Q: Tensor) -> tuple[Mixture, Tensor]:
    z = Normal.of(y).forward(y)
    return predict(net, fit_anchors(X, z, net.shape.anchors), z, Q)


def same(found: tuple[Mixture, Tensor], expected: tuple[Mixture, Tensor], tolerance: float) -> None:
    """Equal in weights, means relative to spreads, logarithms of spreads and of noises."""
    (a, noise_a), (b, noise_b) = found, expected
    torch.testing.assert_close(a.log_weight.exp(), b.log_weight.exp(), atol=tolerance, rtol=0.0)
    assert float(((a.mean - b.mean) / b.sd).abs().max()) < tolerance
    assert float((a.sd / b.sd).log().abs().max()) < tolerance
    assert float((noise_a / noise_b).log().abs().max()) < tolerance


@pytest.mark.parametrize("p", [1, 3, 8])
def test_the_order_of_rows_changes_nothing(p: int) -> None:
    X, y, Q = data(1, p=p)
    order = torch.randperm(X.shape[1], generator=torch.Generator().manual_seed(0))
    same(predicted(network(), X[:, order], y[:, order], Q), predicted(network(), X, y, Q), 1e-4)


@pytest.mark.parametrize("p", [2, 3, 8])
def test_the_order_of_columns_changes_nothing(p: int) -> None:
    """With more columns than are shown, too."""
    X, y, Q = data(2, p=p)
    order = torch.randperm(p, generator=torch.Generator().manual_seed(1))
    same(predicted(network(), X[..., order], y, Q[..., order]), predicted(network(), X, y, Q), 1e-4)


@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0.0), (3.0, -70.0), (1e200, 1e201)])
def test_affine_maps_of_told_values_change_nothing(scale: float, shift: float) -> None:
    """In standardised values: the map back is the affine map itself."""
    X, y, Q = data(3)
    same(predicted(network(), X, scale * y + shift, Q), predicted(network(), X, y, Q), 1e-5)
    torch.testing.assert_close(Normal.of(scale * y + shift).backward(torch.zeros(2, 1, dtype=torch.float64)),
                               scale * Normal.of(y).backward(torch.zeros(2, 1, dtype=torch.float64)) + shift)  # fmt: skip


def test_points_do_not_hear_of_each_other_and_data_sets_neither() -> None:
    """Alone, in pieces, or all at once: the facts ask for 1e-6 of a spread in float32."""
    X, y, Q = data(4)
    net = network()
    z = Normal.of(y).forward(y)
    anchors = fit_anchors(X, z, 6)
    cache = net.encode(anchors, z)
    whole = net.decode(anchors, cache, Q)
    for low, high in ((0, 3), (3, 7), (6, 7)):
        mixture, noise = net.decode(anchors, cache, Q[:, low:high])
        part = Mixture(*(each[:, low:high] for each in (whole[0].log_weight, whole[0].mean, whole[0].sd)))
        same((mixture, noise), (part, whole[1][:, low:high]), 2e-5)
    alone = predicted(net, X[1:], y[1:], Q[1:])
    part = Mixture(*(each[1:] for each in (whole[0].log_weight, whole[0].mean, whole[0].sd)))
    same(alone, (part, whole[1][1:]), 2e-5)


def test_what_is_kept_of_the_rows_is_what_a_full_pass_computes() -> None:
    """An independent forward pass: rows and points as one sequence of tokens, with a mask over the points."""
    X, y, Q = data(5)
    net = network()
    z = Normal.of(y).forward(y)
    anchors = fit_anchors(X, z, 6)
    cache = net.encode(anchors, z)
    seen: list[Tensor] = []
    hook = net.layers[0].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    net.decode(anchors, net.encode(anchors, z), Q)
    hook.remove()
    rows, points = seen
    n, heads = rows.shape[1], SMALL.heads
    tokens = torch.cat([rows, points], 1)
    mask = torch.zeros(tokens.shape[1], tokens.shape[1], dtype=torch.bool)
    mask[:, :n] = True
    for index, layer in enumerate(net.layers):
        normal = layer.norm_1(tokens)
        key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in layer.key_value(normal).chunk(2, -1))
        torch.testing.assert_close(cache.keys[index], key[:, :, :n], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(cache.values[index], value[:, :, :n], atol=1e-5, rtol=1e-5)
        query = layer.query(normal).unflatten(-1, (heads, -1)).transpose(1, 2)
        weight = (
            (query @ key.transpose(-1, -2) / (SMALL.width / heads) ** 0.5).masked_fill(~mask, -torch.inf).softmax(-1)
        )
        tokens = tokens + layer.out((weight @ value).transpose(1, 2).flatten(2))
        tokens = tokens + layer.inner(layer.norm_2(tokens))
    ends: list[Tensor] = []
    hook = net.norm.register_forward_pre_hook(lambda layer, inputs: ends.append(inputs[0]))
    net.decode(anchors, cache, Q)
    hook.remove()
    torch.testing.assert_close(ends[0], tokens[:, n:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", ["mean", "log_improvement", "log_below"])
def test_gradients_in_the_points_match_differences(form: str) -> None:
    """Section F asks for 1e-2 relative; float32 inside the network limits the differences."""
    X, y, Q = data(6, q=3)
    net = network(spread=0.08)
    z = Normal.of(y).forward(y)
    anchors = fit_anchors(X, z, 6)
    cache = net.encode(anchors, z)
    limit = torch.full(Q.shape[:2], -0.5, dtype=torch.float64)

    def of(points: Tensor) -> Tensor:
        mixture = net.decode(anchors, cache, points)[0]
        if form == "mean":
            return mixture.moments()[0]
        return mixture.log_improvement(limit) if form == "log_improvement" else mixture.log_below(limit)

    inputs = Q.clone().requires_grad_()
    slope = torch.autograd.grad(of(inputs).sum(), inputs)[0]
    step = 1e-3
    for j in range(Q.shape[-1]):
        move = step * torch.nn.functional.one_hot(torch.tensor(j), Q.shape[-1]).double()
        difference = (of(Q + move) - of(Q - move)) / (2.0 * step)
        bound = 1e-2 * slope.abs().amax() + 1e-3
        assert float((slope[..., j] - difference).abs().max()) < float(bound)


def test_untrained_it_is_the_average_of_the_anchors_by_their_evidence() -> None:
    """The reduction: means and spreads of the anchors, weights by the square root of evidence, two free components aside."""
    X, y, Q = data(7)
    z = Normal.of(y).forward(y)
    anchors = fit_anchors(X, z, 6)
    mixture, noise = predict(Network(SMALL).requires_grad_(False), anchors, z, Q)
    mean, sd = anchors.predict(Q)
    K = SMALL.anchors
    torch.testing.assert_close(mixture.mean[..., :K], mean.transpose(1, 2))
    torch.testing.assert_close(mixture.sd[..., :K], sd.transpose(1, 2))
    expected = torch.softmax(0.5 * anchors.evidence, -1)[:, None, :].expand(-1, Q.shape[1], -1)
    weight = mixture.log_weight.exp()
    torch.testing.assert_close(weight[..., :K] / weight[..., :K].sum(-1, keepdim=True), expected, atol=1e-7, rtol=1e-6)
    assert mixture.mean.shape[-1] == K + FREE and float(weight[..., K:].sum(-1).max()) <= 2.0 * np.exp(-5.0) + 1e-9
    torch.testing.assert_close(
        noise[..., :K], (anchors.scale * anchors.noise).sqrt()[:, None].expand(-1, Q.shape[1], -1)
    )


def test_one_anchor_untrained_is_the_kernel_regression_itself() -> None:
    X, y, Q = data(8)
    shape = replace(SMALL, anchors=1)
    z = Normal.of(y).forward(y)
    anchors = fit_anchors(X, z, 1)
    mixture, _ = predict(Network(shape).requires_grad_(False), anchors, z, Q)
    only = Mixture(torch.zeros_like(mixture.mean[..., :1]), mixture.mean[..., :1], mixture.sd[..., :1])
    mean, variance = only.moments()
    expected, sd = anchors.predict(Q)
    torch.testing.assert_close(mean, expected[:, 0])
    torch.testing.assert_close(variance, sd[:, 0].square())


def test_attention_to_the_rows_is_heard() -> None:
    """With random weights a change of one told value changes predictions beyond what the anchors say."""
    X, y, Q = data(9)
    z = Normal.of(y).forward(y)
    anchors = fit_anchors(X, z, 6)
    net = network()
    changed = z.clone()
    changed[:, 0] += 1.0
    before, after = predict(net, anchors, z, Q)[0], predict(net, anchors, changed, Q)[0]
    assert float((before.mean - after.mean).abs().max()) > 1e-6


@given(n=st.integers(1, 20), p=st.integers(1, 9), q=st.integers(1, 4), seed=st.integers(0, 99), kind=st.sampled_from(["smooth", "constant", "far", "ties"]))  # fmt: skip
def test_any_size_gives_a_distribution(n: int, p: int, q: int, seed: int, kind: str) -> None:
    X, y, Q = data(seed, n, p, 1, q)
    if kind == "constant":
        y = torch.full_like(y, 3.0)
    elif kind == "far":
        y[0, 0] = 1e300
    elif kind == "ties":
        X = torch.round(X)
    mixture, noise = predicted(NETWORK, X, y, Q)
    assert mixture.mean.shape == mixture.sd.shape == noise.shape == (1, q, SMALL.anchors + FREE)
    torch.testing.assert_close(mixture.log_weight.exp().sum(-1), torch.ones(1, q, dtype=torch.float64))
    assert torch.isfinite(mixture.mean).all() and (mixture.sd > 0.0).all() and (noise > 0.0).all()
    assert torch.isfinite(mixture.log_improvement(torch.zeros(1, q, dtype=torch.float64))).all()


NETWORK = network()


def test_examples_in_the_docstrings_run() -> None:
    assert doctest.testmod(network_module).failed == 0
