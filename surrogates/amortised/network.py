"""The network that reads a data set and puts out a density over the hyperparameters of a Gaussian process.

One token per row and input, made of the coordinate and the told value. Blocks of attention over the rows of an input and
over the inputs of a row; then one token per input, pooled over rows, joined with closed-form statistics of its column
(`surrogates.amortised.statistics`), and one for the whole, with what is believed before (`Hyperprior.describe`); blocks of
attention over those. Coordinates of the hyperparameters of input j are read from token j, those of the noise, the kernels
and the weights of the parts from the token of the whole. So nothing depends on the order of rows, everything goes along
with the order of inputs, and there may be any number of both.

Deep sets and attention: Zaheer et al. 2017 (arXiv 1703.06114), Lee et al. 2019 (arXiv 1810.00825). Amortised
hyperparameters: Liu et al. 2020 (NeurIPS, point estimates), Bitzer et al. 2023 (ICML); a density, and importance weights
by the exact likelihood, are what is new here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from surrogates.amortised.density import Density
from surrogates.amortised.statistics import GLOBAL, PER_COLUMN

__all__ = ["Reading", "Shape", "HyperNetwork"]

DESCRIBED = 12  # numbers of Hyperprior.describe
KERNELS = 3
WIDEST = 4.0  # logarithm


@dataclass(frozen=True)
class Shape:
    """Width of tokens, heads, blocks over rows and inputs, blocks over inputs alone, parts of the density, loadings."""

    width: int = 64
    heads: int = 4
    grid_blocks: int = 2
    column_blocks: int = 3
    parts: int = 5
    loadings: int = 2


@dataclass(frozen=True)
class Reading:
    """What the network reads of B data sets: X (B, n, d), z (B, n), statistics (B, d, ...) and (B, ...), belief (B, 12)."""

    X: Tensor
    z: Tensor
    columns: Tensor
    whole: Tensor
    belief: Tensor


class Attention(nn.Module):
    """Pre-norm self-attention over the last but one axis, added to what comes in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.split = nn.Linear(width, 3 * width, bias=False)
        self.join = nn.Linear(width, width)
        nn.init.zeros_(self.join.weight)

    def forward(self, x: Tensor) -> Tensor:
        *batch, n, w = x.shape
        parts = self.split(self.norm(x)).reshape(-1, n, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(parts[0], parts[1], parts[2])
        out: Tensor = x + self.join(mixed.transpose(1, 2).reshape(*batch, n, w))
        return out


class Inner(nn.Module):
    """Pre-norm perceptron, added to what comes in."""

    def __init__(self, width: int, times: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, times * width)
        self.down = nn.Linear(times * width, width)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.down(gelu(self.up(self.norm(x))))
        return out


class GridBlock(nn.Module):
    """Attention over the rows of an input, then over the inputs of a row; x: (B, n, d, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.rows, self.inputs, self.inner = Attention(width, heads), Attention(width, heads), Inner(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.rows(x.transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.inner(self.inputs(x))
        return out


class HyperNetwork(nn.Module):
    """From readings to densities; `shape` says how large it is."""

    def __init__(self, shape: Shape = Shape()) -> None:
        super().__init__()
        self.shape = shape
        w, K, r = shape.width, shape.parts, shape.loadings
        self.token = nn.Sequential(nn.Linear(4, w), nn.GELU(), nn.Linear(w, w))
        self.grid = nn.ModuleList(GridBlock(w, shape.heads) for _ in range(shape.grid_blocks))
        self.pooled = nn.Linear(2 * w, w)
        self.statistics = nn.Sequential(nn.Linear(PER_COLUMN, 2 * w), nn.GELU(), nn.Linear(2 * w, w))
        self.whole = nn.Sequential(nn.Linear(GLOBAL + DESCRIBED, 2 * w), nn.GELU(), nn.Linear(2 * w, w))
        self.belief = nn.Linear(DESCRIBED, w)
        self.columns = nn.ModuleList(
            nn.Sequential(Attention(w, shape.heads), Inner(w, 3)) for _ in range(shape.column_blocks)
        )
        self.last = nn.LayerNorm(w)
        self.part = nn.Parameter(torch.randn(K, w))
        self.of_part = nn.Linear(w, w)
        self.of_token = nn.Linear(w, w)
        self.per_column = nn.Linear(w, 2 + r)
        self.per_whole = nn.Linear(w, 2 + r + 1 + KERNELS)
        for layer in (self.per_column, self.per_whole):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, reading: Reading, learns_noise: bool) -> Density:
        """(B) densities over d coordinates, and one of the noise where it is learnt."""
        d = reading.X.shape[-1]
        centred = 2.0 * reading.X - 1.0
        z = reading.z[:, :, None].expand(-1, -1, d)
        x = self.token(torch.stack([centred, z, torch.asinh(3.0 * z), centred * z], -1))
        for block in self.grid:
            x = block(x)
        pooled = self.pooled(torch.cat([x.mean(1), x.amax(1)], -1))  # (B, d, w)
        tokens = pooled + self.statistics(reading.columns) + self.belief(reading.belief)[:, None]
        whole = self.whole(torch.cat([reading.whole, reading.belief], -1)) + pooled.mean(1)
        tokens = torch.cat([tokens, whole[:, None]], 1)
        for block in self.columns:
            tokens = block(tokens)
        tokens = self.last(tokens)
        part = self.of_part(self.part + tokens[:, -1:])  # (B, K, w)
        mixed = gelu(self.of_token(tokens)[:, None] + part[:, :, None])  # (B, K, d + 1, w)
        of_columns, of_whole = self.per_column(mixed[:, :, :-1]), self.per_whole(mixed[:, :, -1])
        r = self.shape.loadings
        coordinates = of_columns
        if learns_noise:
            coordinates = torch.cat([of_columns, of_whole[:, :, None, : 2 + r]], 2)
        spread = WIDEST * torch.tanh(coordinates[..., 1] / WIDEST)
        return Density(
            torch.log_softmax(of_whole[..., 2 + r], -1), torch.log_softmax(of_whole[..., 3 + r :], -1),
            coordinates[..., 0], spread, coordinates[..., 2:],
        )  # fmt: skip
