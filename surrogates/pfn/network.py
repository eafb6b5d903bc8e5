"""The network: told rows attend to each other, points to predict attend to told rows only.

One token per told row and one per point, as in Mueller et al. 2022 (ICLR, "Transformers can do Bayesian inference") and
2023 (PFNs4BO, arXiv 2305.17535): no positions, so the order of rows means nothing, and points do not see each other, so
keys and values of the told rows are computed once and kept. What differs: tokens carry what kernel regression says
(`surrogates.pfn.anchors`), columns are ordered by their relevance, so the order of inputs means nothing either, and the
output is a mixture whose components start at the kernel regressions' predictions; at initialisation, when the last
layer is zero, the network IS the average of kernel regressions by their evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from surrogates.pfn.anchors import Anchors
from surrogates.pfn.mixture import Mixture

SPREAD = 12.0**0.5  # a uniform input gets a standard deviation of 1
FREE = 2  # components that no kernel regression holds
LARGEST_SHIFT = 20.0


@dataclass(frozen=True)
class Shape:
    """Sizes: width of a token, layers, heads, width of the inner layers, columns shown, kernel regressions.

    >>> sum(part.numel() for part in Network(Shape(width=16, layers=1, heads=2, inner=32)).parameters())
    5777
    """

    width: int = 128
    layers: int = 4
    heads: int = 4
    inner: int = 512
    columns: int = 16
    anchors: int = 6


class Cache(NamedTuple):
    """What is kept of n told rows in B data sets: enough to predict any number of points later.

    keys, values: of each layer, (B, heads, n, width / heads). summary: (B, 1, width) the data set as a whole. order:
    (B, columns shown) columns by falling relevance.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    summary: Tensor
    order: Tensor


class Layer(nn.Module):
    """A pre-norm transformer layer: attention, then a two-layer perceptron."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, self.heads = shape.width, shape.heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        first, last = nn.Linear(width, shape.inner), nn.Linear(shape.inner, width)
        self.inner = nn.Sequential(first, nn.GELU(), last)
        _silence(self.out, last)

    def remember(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, n, width / heads) of told rows (B, n, width)."""
        key, value = self.key_value(self.norm_1(rows)).chunk(2, -1)
        return self._split(key), self._split(value)

    def forward(self, tokens: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Tokens (B, k, width) after hearing the told rows behind the keys and values, each for itself."""
        heard = nn.functional.scaled_dot_product_attention(self._split(self.query(self.norm_1(tokens))), key, value)
        tokens = tokens + self.out(heard.transpose(1, 2).flatten(2))
        further: Tensor = self.inner(self.norm_2(tokens))
        return tokens + further

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, heads, k, width / heads) parts of (B, k, width) tokens."""
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


class Network(nn.Module):
    """From anchors and standardised values to mixtures of the noise-free value, and the noise around it.

    Anchors and mixtures are float64, what is between them float32. As many kernel regressions are expected as the shape
    says; of more columns than it says, the most relevant ones are shown.

    >>> from surrogates.pfn.anchors import fit_anchors
    >>> X = torch.linspace(0, 1, 9, dtype=torch.float64)[None, :, None]
    >>> z = torch.sin(6 * X[..., 0])
    >>> mixture, noise = predict(Network(), fit_anchors(X, z, 6), z, X[:, :3] + 0.05)
    >>> mixture.mean.shape, noise.shape
    (torch.Size([1, 3, 8]), torch.Size([1, 3, 8]))
    """

    def __init__(self, shape: Shape = Shape()) -> None:
        super().__init__()
        self.shape = shape
        width, K = shape.width, shape.anchors
        self.place = nn.Sequential(nn.Linear(3 * shape.columns, width), nn.GELU(), nn.Linear(width, width))
        self.told = nn.Linear(2 + 3 * K, width)
        self.asked = nn.Linear(4 * K, width)
        self.about = nn.Sequential(nn.Linear(6 * K + 3, width), nn.GELU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(width)
        first, last = nn.Linear(width, width), nn.Linear(width, 4 * (K + FREE))
        self.head = nn.Sequential(first, nn.GELU(), last)
        self.trust = nn.Parameter(torch.tensor(0.5))
        _silence(last)

    def encode(self, anchors: Anchors, z: Tensor) -> Cache:
        """What the told rows, with standardised values z (B, n), have to say."""
        order = anchors.relevance.argsort(dim=-1, descending=True, stable=True)[:, : self.shape.columns]
        summary = self.about(self._facts(anchors))[:, None, :]
        off = (z[:, None] - anchors.left_out_mean) / anchors.left_out_sd
        parts = [z[..., None], z[..., None].abs(), *(part.transpose(1, 2) for part in (
            torch.asinh(off), off.abs().clamp_max(3.0), anchors.left_out_sd.clamp_min(1e-6).log() / 4.0
        ))]  # fmt: skip
        rows = self.place(self._places(anchors, anchors.X, order)) + self.told(torch.cat(parts, -1).float()) + summary
        keys, values = [], []
        for layer in self.layers:
            assert isinstance(layer, Layer)
            key, value = layer.remember(rows)
            rows = layer(rows, key, value)
            keys.append(key)
            values.append(value)
        return Cache(tuple(keys), tuple(values), summary, order)

    def decode(self, anchors: Anchors, cache: Cache, Q: Tensor) -> tuple[Mixture, Tensor]:
        """Mixtures (B, q, K + 2) of the noise-free values at points Q (B, q, p), and the (B, q, K + 2) noise sds."""
        mean, sd = anchors.predict(Q)
        mean, sd = mean.transpose(1, 2), sd.transpose(1, 2)  # (B, q, K)
        middle = mean[..., :1]
        parts = [mean.clamp(-8.0, 8.0), sd.clamp_min(1e-6).log() / 4.0,
                 torch.asinh((mean - middle) / sd), (sd / anchors.scale.sqrt()[:, None]).clamp_max(3.0)]  # fmt: skip
        tokens = self.place(self._places(anchors, Q, cache.order)) + self.asked(torch.cat(parts, -1).float())
        tokens = tokens + cache.summary
        for layer, key, value in zip(self.layers, cache.keys, cache.values, strict=True):
            tokens = layer(tokens, key, value)
        return self._mixture(anchors, mean, sd, self.head(self.norm(tokens)).to(mean.dtype))

    def _mixture(self, anchors: Anchors, mean: Tensor, sd: Tensor, raw: Tensor) -> tuple[Mixture, Tensor]:
        K = self.shape.anchors
        logit, shift, stretch, hiss = raw.reshape(*raw.shape[:-1], 4, K + FREE).unbind(-2)
        evidence = (anchors.evidence - anchors.evidence[:, :1]) * self.trust.abs()
        known = logit[..., :K] + evidence[:, None, :]
        free = logit[..., K:] - 5.0
        noise = (anchors.scale * anchors.noise).sqrt()[:, None, :].expand_as(sd)
        shift = LARGEST_SHIFT * torch.tanh(shift / LARGEST_SHIFT)
        width = sd * stretch[..., :K].clamp(-6.0, 6.0).exp()
        centres = mean + sd * shift[..., :K]
        wide = torch.tensor([1.0, 0.1], dtype=sd.dtype, device=sd.device)
        free_sd = wide * stretch[..., K:].clamp(-6.0, 4.0).exp()
        free_noise = 0.1 * noise.amax(-1, keepdim=True) * hiss[..., K:].clamp(-6.0, 6.0).exp()
        return Mixture(
            torch.log_softmax(torch.cat([known, free], -1), -1),
            torch.cat([centres, mean[..., :1] + shift[..., K:]], -1),
            torch.cat([width, free_sd], -1),
        ), torch.cat([noise * hiss[..., :K].clamp(-6.0, 6.0).exp(), free_noise], -1)

    def _places(self, anchors: Anchors, X: Tensor, order: Tensor) -> Tensor:
        """Inputs in order of relevance, the same in units of relevance, and which of the columns there are."""
        p = X.shape[-1]
        centred = (X - 0.5) * SPREAD
        weighed = centred * (anchors.relevance * p).sqrt()[:, None, :]
        index = order[:, None, :].expand(-1, X.shape[1], -1)
        shown = [part.gather(-1, index) for part in (centred, weighed)]
        shown.append(torch.ones_like(shown[0]))
        missing = self.shape.columns - order.shape[-1]
        return torch.cat([nn.functional.pad(part, (0, missing)) for part in shown], -1).float()

    def _facts(self, anchors: Anchors) -> Tensor:
        """What is known of a data set as a whole."""
        B, n, p = anchors.X.shape
        behind = (anchors.evidence - anchors.evidence[:, :1]).clamp_min(-20.0)
        misfit = ((anchors.weights.square().mean(-1) + 1e-300).log() / 8.0).clamp(-3.0, 3.0)
        rate = anchors.rate.sum(-1).log() / 4.0
        parts = [behind / 5.0, anchors.noise.log() / 8.0, anchors.scale.log() / 2.0, rate, anchors.smooth, misfit]
        size = anchors.X.new_tensor([n, p]).log().expand(B, 2) / 2.0
        spread = -(anchors.relevance * (anchors.relevance + 1e-300).log()).sum(-1, keepdim=True)
        return torch.cat([*parts, size, spread], -1).float()


def _silence(*layers: nn.Linear) -> None:
    """Layers that start by saying nothing."""
    for layer in layers:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def predict(network: Network, anchors: Anchors, z: Tensor, Q: Tensor) -> tuple[Mixture, Tensor]:
    """Mixtures (B, q, K + 2) of the noise-free values at Q (B, q, p) and their noise sds, without keeping a cache.

    >>> from surrogates.pfn.anchors import fit_anchors
    >>> X = torch.zeros(1, 1, 2, dtype=torch.float64)
    >>> predict(Network(), fit_anchors(X, X[..., 0], 6), X[..., 0], X)[0].moments()[0].item()
    0.0
    """
    return network.decode(anchors, network.encode(anchors, z), Q)
