"""Whole functions drawn from a posterior, each with a value and a gradient at any point, for the price of its n rows.

Matheron's rule: a draw of the prior is turned into one of the posterior by what it misses at the data (Wilson, Borovitskiy,
Terenin, Mostowsky, Deisenroth 2020, "Efficiently Sampling Functions from Gaussian Process Posteriors", arXiv 2002.09309,
equation 8):

    path(x) = prior(x) + k(x, X) (C + D)^-1 (z - prior(X) - noise)

The prior draw is a sum of cosines (Rahimi and Recht 2007, random Fourier features), prior(x) = sum_f a_f cos(w_f x + b_f)
plus the constant mean. Frequencies w_f follow the spectral density of the kernel: normal for the RBF kernel, Student's t
with 3 or 5 degrees of freedom for Matern 3/2 and 5/2. Every path has frequencies of its own, so over paths the means and the
covariances are those of the posterior without error; one path alone is Gaussian in the limit of many features only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surrogates.columns import Inputs
from surrogates.kernels import Kernel, squared_distances
from surrogates.predictor import Predictor, correlations_and_slopes

Array = NDArray[np.float64]
FEATURES = 512  # cosines of one path, where nothing else is said
FREEDOM: dict[Kernel, int] = {"matern52": 5, "matern32": 3}  # degrees of freedom of the frequencies; normal for others


@dataclass(frozen=True, eq=False)
class Path:
    """One draw of m functions: call it for values, or ask `value_and_gradient`.

    base: (n, p) features of the rows; kernel: (m,) names; rates: (m, p) inverse lengthscales; weights: (m, n) of the
    correlations with the rows; frequencies: (m, F, p), phases and amplitudes: (m, F) of the cosines; constant: (m,).

    >>> one = Path(Inputs.continuous(1), np.zeros((1, 1)), ("rbf",), np.ones((1, 1)), np.ones((1, 1)),
    ...            np.zeros((1, 1, 1)), np.zeros((1, 1)), np.zeros((1, 1)), np.array([3.0]))
    >>> one(np.zeros((1, 1)))
    array([[4.]])
    """

    inputs: Inputs
    base: Array
    kernel: tuple[Kernel, ...]
    rates: Array
    weights: Array
    frequencies: Array
    phases: Array
    amplitudes: Array
    constant: Array

    def __call__(self, X: Array) -> Array:
        """(q, m) values at (q, d) points."""
        return self._evaluate(X, False)[0]

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        """(q, m) values and (q, m, d) gradients; zero for category columns."""
        return self._evaluate(X, True)

    def _evaluate(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        points = self.inputs.features(np.asarray(X, dtype=float))
        values = np.empty((len(points), len(self.kernel)))
        slopes = np.zeros((len(points), len(self.kernel), points.shape[1] if with_gradient else 0))
        for j, name in enumerate(self.kernel):
            angle = points @ self.frequencies[j].T + self.phases[j]
            r2 = squared_distances(points * self.rates[j], self.base * self.rates[j])
            k, g = (part[0] for part in correlations_and_slopes(name, r2[None]))
            values[:, j] = self.constant[j] + np.cos(angle) @ self.amplitudes[j] + k @ self.weights[j]
            if with_gradient:
                pull = g * self.weights[j]
                slopes[:, j] = -(np.sin(angle) * self.amplitudes[j]) @ self.frequencies[j]
                slopes[:, j] += self.rates[j] ** 2 * (pull @ self.base - points * pull.sum(axis=1)[:, None])
        return values, self.inputs.in_columns(slopes) if with_gradient else slopes


def draw_path(
    predictor: Predictor, chosen: NDArray[np.intp], Z: Array, noise: Array, rng: np.random.Generator, features: int
) -> Path:
    """A path of the outputs at the places `chosen` (m,) of a predictor.

    Z: (n, m) targets; noise: (C, n) the noise variances, in the units of the targets squared, of all its outputs;
    features: number of cosines.

    >>> one, row = np.ones((1, 1)), np.zeros((1, 1))
    >>> told = Predictor(Inputs.continuous(1), "rbf", row, one, np.ones(1), np.zeros(1), one[None], one[None])
    >>> path = draw_path(told, np.array([0]), one, 0.0 * one, np.random.default_rng(0), 64)
    >>> path(row).round(9)  # without noise, through the only told value
    array([[1.]])
    """
    inputs = predictor.inputs
    base = inputs.features(predictor.X)
    n, p = base.shape
    count = len(chosen)
    kernel = tuple(predictor.kernel if isinstance(predictor.kernel, str) else predictor.kernel[c] for c in chosen)
    scale, rates = predictor.scale[chosen], 1.0 / predictor.lengthscales[chosen][:, inputs.owner]
    offset = np.broadcast_to(np.asarray(predictor.offset), predictor.scale.shape)[chosen]
    frequencies = rng.standard_normal((count, features, p)) * rates[:, None, :]
    for j, name in enumerate(kernel):
        if name in FREEDOM:
            frequencies[j] /= np.sqrt(rng.chisquare(FREEDOM[name], (features, 1)) / FREEDOM[name])
    phases = rng.uniform(0.0, 2.0 * np.pi, (count, features))
    amplitudes = np.sqrt(scale[:, None] / features * rng.chisquare(2.0, (count, features)))
    constant = np.sqrt(scale * offset) * rng.standard_normal(count)
    errors = np.sqrt(noise[chosen]) * rng.standard_normal((count, n))
    weights = np.empty((count, n))
    for j, c in enumerate(chosen):
        prior = constant[j] + np.cos(base @ frequencies[j].T + phases[j]) @ amplitudes[j]
        weights[j] = predictor.inverse[c].T @ (predictor.inverse[c] @ (Z[:, j] - predictor.mean[c] - prior - errors[j]))
    constant = constant + predictor.mean[chosen] + offset * weights.sum(axis=1)
    return Path(inputs, base, kernel, rates, weights, frequencies, phases, amplitudes, constant)
