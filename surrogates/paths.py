"""Functions drawn from the posterior of a Gaussian process, which can be evaluated anywhere at any time, with gradients.

Pathwise conditioning (Matheron's rule): a draw from the prior plus the correction that the data ask of it,
    f(x) = g(x) + k(x, X) (K + D)^-1 (z - g(X) - e),    g from the prior, e ~ N(0, D),
Wilson, Borovitskiy, Terenin, Mostowsky, Deisenroth 2020, "Efficiently sampling functions from Gaussian process posteriors"
(ICML, arXiv 2002.09309), equation 13. The prior draw is a sum of random Fourier features (Rahimi and Recht 2007,
algorithm 1): frequencies are normal for the RBF kernel and Student's t with 2 nu degrees of freedom for Matern's. Sampling is
O(n^2) a path and evaluation O(F p + n) a point, where joint draws at q points would need O(q^3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surrogates.gp import GaussianProcess
from surrogates.kernels import Kernel

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
FEATURES = 1024  # cosines of the prior draw: its covariance is then off by some 3 % of the scale
FREEDOM: dict[Kernel, float] = {"matern32": 3.0, "matern52": 5.0}


@dataclass(frozen=True)
class Paths:
    """S functions per output. Made by `draw_paths`.

    model: the process; frequencies: (m, p, F) of the prior draws in feature space; phases: (m, F); amplitudes: (m, F, S);
    weights: (m, n, S) of the correction.
    """

    model: GaussianProcess
    frequencies: Array
    phases: Array
    amplitudes: Array
    weights: Array

    @property
    def count(self) -> int:
        """Number of functions S."""
        return int(self.weights.shape[2])

    def value(self, X: Array) -> Array:
        """(S, q, m) values at (q, d) points."""
        points = self.model.inputs.features(np.asarray(X, dtype=float))
        k = self.model.predictor.correlations(points)[0]
        cosines = np.cos(np.matmul(points, self.frequencies) + self.phases[:, None, :])
        values = np.matmul(cosines, self.amplitudes) + np.matmul(k, self.weights)
        return np.asarray((values + self.model.predictor.mean[:, None, None]).transpose(2, 1, 0))

    def along(self, X: Array, which: Indices) -> tuple[Array, Array]:
        """(q, m) values at (q, d) points, each along its own function, which (q,), and (q, m, d) gradients.

        Category columns get a zero.
        """
        inputs, predictor = self.model.inputs, self.model.predictor
        points = inputs.features(np.asarray(X, dtype=float))
        k, g = predictor.correlations(points)
        angles = np.matmul(points, self.frequencies) + self.phases[:, None, :]
        amplitudes = self.amplitudes[:, :, which].transpose(0, 2, 1)  # (m, q, F)
        weights = self.weights[:, :, which].transpose(0, 2, 1)  # (m, q, n)
        values = (np.cos(angles) * amplitudes).sum(axis=2) + (k * weights).sum(axis=2) + predictor.mean[:, None]
        by_feature = -np.matmul(np.sin(angles) * amplitudes, self.frequencies.transpose(0, 2, 1))
        pull = g * weights
        rates = 1.0 / predictor.lengthscales[:, inputs.owner]
        told = inputs.features(predictor.X)
        by_feature += (rates**2)[:, None, :] * (np.matmul(pull, told) - points[None] * pull.sum(axis=2)[:, :, None])
        return values.T, inputs.in_columns(by_feature).transpose(1, 0, 2)


def of_values(gp: GaussianProcess) -> GaussianProcess:
    """The same process given its told values alone: paths know nothing of derivatives that may have been told with them."""
    return gp.of_values()


def draw_paths(gp: GaussianProcess, count: int, rng: np.random.Generator, features: int = FEATURES) -> Paths:
    """`count` functions from the posterior of every output; noise of the told values is accounted for.

    features: cosines in a prior draw.

    >>> from surrogates.columns import Inputs
    >>> from surrogates.gp import fit_gp
    >>> from surrogates.map_fit import Prior
    >>> X = np.linspace(0.0, 1.0, 5)[:, None]
    >>> gp = fit_gp(Inputs.continuous(1), X, np.sin(6 * X), [Prior.noiseless(1)])
    >>> paths = draw_paths(gp, 3, np.random.default_rng(0))
    >>> bool(np.abs(paths.value(X) - np.sin(6 * X)).max() < 1e-3)  # all go through the told values
    True
    """
    predictor = gp.predictor
    m, n = gp.outputs, len(gp.X)
    rates = 1.0 / predictor.lengthscales[:, gp.inputs.owner]
    normal = rng.standard_normal((m, rates.shape[1], features))
    kernels = (gp.kernel,) * m if isinstance(gp.kernel, str) else gp.kernel
    for j, kernel in enumerate(kernels):
        if kernel != "rbf":
            freedom = FREEDOM[kernel]
            normal[j] /= np.sqrt(rng.chisquare(freedom, features) / freedom)
    frequencies = normal * rates[:, :, None]
    phases = rng.uniform(0.0, 2.0 * np.pi, (m, features))
    amplitudes = rng.standard_normal((m, features, count)) * np.sqrt(2.0 * predictor.scale / features)[:, None, None]
    told = gp.inputs.features(gp.X)
    prior = np.matmul(np.cos(np.matmul(told, frequencies) + phases[:, None, :]), amplitudes)
    added = np.stack([f.noise + (f.nugget + jitter) * f.scale for f, jitter in zip(gp.fitted, gp.jitter, strict=True)])
    spread = np.sqrt(added[:, None] + (0.0 if gp.variances is None else gp.variances.T))  # (m, 1) or (m, n)
    missed = (gp.Z.T - predictor.mean[:, None])[:, :, None] - prior
    missed -= np.broadcast_to(spread, (m, n))[:, :, None] * rng.standard_normal((m, n, count))
    weights = np.matmul(predictor.inverse.transpose(0, 2, 1), np.matmul(predictor.inverse, missed))
    return Paths(gp, frequencies, phases, amplitudes, weights)
