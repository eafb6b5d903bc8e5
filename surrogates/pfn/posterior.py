"""The network's belief about m functions after n rows: fitting is one pass over the rows, a prediction one over the points.

Outputs are the batch: all of them share the rows and go through the network together. Arrays come and go as NumPy in the
units of the targets; the acquisition works on `mixture`, in torch, in standardised values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbopt.errors import ValueRefused
from surrogates.columns import Inputs
from surrogates.pfn.anchors import Anchors, fit_anchors
from surrogates.pfn.mixture import Mixture
from surrogates.pfn.moments import target_moments
from surrogates.pfn.network import Cache, Network
from surrogates.pfn.normalise import Normal
from surrogates.pfn.shipped import shipped_network

if TYPE_CHECKING:
    from surrogates.pfn_botorch import PFNBoTorch

Array = NDArray[np.float64]
TRAINED_ROWS = 160  # more told rows than the network has seen
TRAINED_COLUMNS = 20
POINTS_AT_ONCE = 16_384  # tokens of one pass


@dataclass(frozen=True, eq=False)
class PFNPosterior:
    """Mixtures of Gaussians at any point, for m outputs. Made by `fit_pfn`; satisfies `surrogates.protocol.Predictive`.

    X: (n, d) encoded rows; Y: (n, m) targets; z: (m, n) standardised targets; normal: their standardisation.
    """

    inputs: Inputs
    network: Network
    X: Array
    Y: Array
    z: Tensor
    normal: Normal
    anchors: Anchors
    cache: Cache

    @property
    def outputs(self) -> int:
        """Number of functions m."""
        return len(self.z)

    def mixture(self, Q: Tensor) -> tuple[Mixture, Tensor]:
        """Standardised mixtures (m, q, K) and noises at (m, q, p) features (`Inputs.features`); differentiable in Q."""
        return self.network.decode(self.anchors, self.cache, Q)

    def standardised(self, Y: Array) -> Array:
        """Values (k, m) in standardised units."""
        return self.normal.forward(torch.from_numpy(np.array(Y.T))).T.numpy()

    def mean_variance(self, X: Array) -> tuple[Array, Array]:
        """(q, m) means and variances of the noise-free functions."""
        mean, variance = [], []
        for mixture in self._passes(X):
            part = target_moments(mixture, self.normal)
            mean.append(part[0].T.numpy())
            variance.append(part[1].T.numpy())
        return np.concatenate(mean), np.concatenate(variance)

    def log_probability_below(self, X: Array, limits: Array) -> Array:
        """(q, m) log P(f_j <= limits_j)."""
        limit = self._limit(limits)
        return np.concatenate(
            [part.log_below(limit.expand(part.mean.shape[:-1])).T.numpy() for part in self._passes(X)]
        )

    def log_expected_improvement(self, X: Array, best: Array) -> Array:
        """(q, m) log E max(best_j - f_j, 0). Beyond 4 standard deviations from the targets' mean improvements are compressed."""
        limit = self._limit(best)
        width = self.normal.width.log()
        return np.concatenate(
            [(part.log_improvement(limit.expand(part.mean.shape[:-1])) + width).T.numpy() for part in self._passes(X)]
        )

    def quantiles(self, X: Array, probabilities: Array) -> Array:
        """(q, m, k) quantiles."""
        at = torch.from_numpy(np.asarray(probabilities, dtype=float))
        if not len(at) or bool(((at <= 0.0) | (at >= 1.0)).any()):
            raise ValueRefused(f"expected probabilities between 0 and 1, ends excluded; got {probabilities}")
        parts = []
        for mixture in self._passes(X):
            z = mixture.quantiles(at)
            parts.append(self.normal.backward(z.flatten(1)).reshape(z.shape).transpose(0, 1).numpy())
        return np.concatenate(parts)

    def sample(self, X: Array, count: int, rng: np.random.Generator) -> Array:
        """(count, q, m) draws, independent from point to point."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        parts = []
        for mixture in self._passes(X):
            z = mixture.draw(count, generator)  # (count, m, q)
            parts.append(self.normal.backward(z.transpose(0, 1).flatten(1)).reshape(self.outputs, count, -1))
        return np.ascontiguousarray(torch.cat(parts, -1).permute(1, 2, 0).numpy())

    def noise_variance(self, X: Array) -> Array:
        """(q, m) variances of what is told around the noise-free functions."""
        parts = []
        for Q in self._pieces(X):
            with torch.no_grad():
                mixture, noise = self.mixture(Q)
            parts.append(((mixture.log_weight.exp() * noise.square()).sum(-1) * self.normal.width.square()).T.numpy())
        return np.concatenate(parts)

    def given(self, X: Array, Y: Array) -> Self:
        """The posterior after k more rows (k, d) with targets (k, m): everything is read again."""
        start = self.anchors.found_rate, self.anchors.found_noise
        rows, targets = np.concatenate([self.X, X]), np.concatenate([self.Y, Y])
        return type(self)(*_read(self.inputs, rows, targets, self.network, start))

    def sampled_path(self, X: Array, rng: np.random.Generator) -> Array:
        """(q, m) one joint draw at (q, d) points: each is drawn given the ones before it (q passes)."""
        posterior, rows = self, []
        for row in X:
            rows.append(posterior.sample(row[None], 1, rng)[0])
            posterior = posterior.given(row[None], rows[-1])
        return np.concatenate(rows)

    def botorch_model(self) -> PFNBoTorch:
        """The same belief as a BoTorch model (`surrogates.pfn_botorch`); needs botorch."""
        from surrogates.pfn_botorch import as_botorch

        return as_botorch(self)

    def _limit(self, limits: Array) -> Tensor:
        limits = np.asarray(limits, dtype=float)
        if limits.shape != (self.outputs,) or np.isnan(limits).any():
            raise ValueRefused(f"expected {self.outputs} numbers, one per output; got {limits}")
        return self.normal.forward(torch.from_numpy(limits.copy())[:, None])

    def _pieces(self, X: Array) -> list[Tensor]:
        """(m, q', p) features of the points, in pieces."""
        features = torch.from_numpy(np.array(self.inputs.features(checked_rows(self.inputs, X))))
        return list(
            torch.split(features.expand(self.outputs, *features.shape), max(1, POINTS_AT_ONCE // self.outputs), 1)
        )

    def _passes(self, X: Array) -> list[Mixture]:
        with torch.no_grad():
            return [self.mixture(Q)[0] for Q in self._pieces(X)]


def fit_pfn(
    inputs: Inputs, X: Array, Y: Array, network: Network | None = None, start: tuple[Tensor, Tensor] | None = None
) -> PFNPosterior:
    """The posterior of (n, m) targets Y at (n, d) rows X, n > 0; `network` None: the one that comes with the package.

    start: `anchors.found_rate` and `anchors.found_noise` of an earlier posterior for much the same rows.
    Raises ValueRefused for shapes that do not fit and for NaN and infinite numbers.

    >>> X = np.linspace(0.0, 1.0, 8)[:, None]
    >>> posterior = fit_pfn(Inputs.continuous(1), X, np.hstack([X**2, 1e6 - X]))
    >>> mean, _ = posterior.mean_variance(np.array([[0.5]]))
    >>> mean.round(1).tolist()
    [[0.2, 999999.5]]
    """
    X = checked_rows(inputs, X)
    Y = np.asarray(Y, dtype=float)
    if Y.ndim != 2 or len(Y) != len(X) or not Y.size:
        raise ValueRefused(f"expected targets of shape ({len(X)}, m) with m > 0 and at least one row; got {Y.shape}")
    if not np.isfinite(Y).all():
        raise ValueRefused(f"expected finite targets; row {int(np.flatnonzero(~np.isfinite(Y).all(axis=1))[0])} has {Y[~np.isfinite(Y).all(axis=1)][0]}")  # fmt: skip
    return PFNPosterior(*_read(inputs, X, Y, network or shipped_network(), start))


def checked_rows(inputs: Inputs, X: Array) -> Array:
    """Rows (n, d) as finite numbers. Raises ValueRefused."""
    X = np.asarray(X, dtype=float)
    if X.ndim != 2 or X.shape[1] != inputs.dimension:
        raise ValueRefused(f"expected rows of shape (n, {inputs.dimension}); got {X.shape}")
    if not np.isfinite(X).all():
        raise ValueRefused(f"expected finite inputs; row {int(np.flatnonzero(~np.isfinite(X).all(axis=1))[0])} has {X[~np.isfinite(X).all(axis=1)][0]}")  # fmt: skip
    return X


def _read(
    inputs: Inputs, X: Array, Y: Array, network: Network, start: tuple[Tensor, Tensor] | None
) -> tuple[Inputs, Network, Array, Array, Tensor, Normal, Anchors, Cache]:
    rows = torch.from_numpy(np.array(inputs.features(X)))
    normal = Normal.of(torch.from_numpy(np.array(Y.T)))
    z = normal.forward(torch.from_numpy(np.array(Y.T)))
    with torch.no_grad():
        anchors = fit_anchors(rows.expand(len(z), *rows.shape), z, network.shape.anchors, start)
        cache = network.encode(anchors, z)
    return inputs, network, X, Y, z, normal, anchors, cache
