"""Weighted means of a Gaussian process over some of its inputs: they are Gaussian, too, and here is their posterior.

Inputs are z = (x, w): a design x and an environment w. For designs x_1 .. x_a and a measure p_i over w for each,

    F_i = int f(x_i, w) dp_i(w),    E F_i = mu + k_i^T C^-1 (z - mu),    k_i = int k((x_i, w), Z) dp_i(w)
    cov(F_i, f(z)) = s (k_x(x_i, x) int k_w(v, w) dp_i(v) - k_i^T C^-1 k(Z, z))

(Williams, Santner, Notz 2000, Statistica Sinica 10, section 3; Toscano-Palmerin, Frazier 2018, arXiv 1803.08661,
section 3.) The measure is the distribution of the environment itself, whose integrals have closed forms
(`surrogates.kernel_means`), or weights on finitely many environments, other ones for each design: the tail of a
distribution, of which a risk is the mean. The kernel must be a product over columns: "rbf".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import UsageError
from surrogates.columns import Inputs
from surrogates.gp import GaussianProcess
from surrogates.kernel_means import Spread, double, embedding
from surrogates.kernels import squared_distances

Array = NDArray[np.float64]
Columns = NDArray[np.intp]


class Measure(Protocol):
    """Measures over environments, one for each of a designs or one for all (then the axis a has length 1)."""

    def bind(self, gp: GaussianProcess, columns: Columns) -> Bound:
        """The measure with the kernel of a Gaussian process, whose environment is in these columns."""
        ...


class Bound(Protocol):
    """A measure's integrals of the environment's part of the correlation."""

    def at(self, W: Array) -> Array:
        """(q, a) of the correlation with environments W (q, e)."""
        ...

    def pull(self, W: Array, by: Array) -> Array:
        """(q, e) gradients in W of sum_i by_i at(W)_i, for (q, a) weights `by`."""
        ...

    def twice(self) -> Array:
        """(a, a) or (1, 1): integrals over both arguments."""
        ...


@dataclass(frozen=True, eq=False)
class Distribution:
    """The distribution of the environment, one spread for each of its columns: the same for every design."""

    spreads: Sequence[Spread]

    def bind(self, gp: GaussianProcess, columns: Columns) -> Bound:
        ordered = tuple(gp.inputs.kind[column] == "ordered" for column in columns)
        spreads = [
            replace(spread, values=_place(gp.inputs, column, np.asarray(spread.values))) if listed else spread
            for spread, column, listed in zip(self.spreads, columns, ordered, strict=True)
        ]
        return _Product(gp.inputs, columns, ordered, spreads, gp.fitted[0].lengthscales[columns])


def _place(inputs: Inputs, column: int, w: Array) -> Array:
    """The single feature of some values of a column that is a number to the kernel."""
    full = np.zeros((len(w), inputs.dimension))
    full[:, column] = w
    return np.asarray(inputs.features(full)[:, inputs.owner == column][:, 0])


@dataclass(frozen=True, eq=False)
class _Product:
    inputs: Inputs
    columns: Columns
    ordered: tuple[bool, ...]
    spreads: Sequence[Spread]
    lengths: Array

    def _parts(self, W: Array) -> tuple[Array, Array]:
        pairs = []
        for j, (spread, length) in enumerate(zip(self.spreads, self.lengths, strict=True)):
            w = _place(self.inputs, int(self.columns[j]), W[:, j]) if self.ordered[j] else W[:, j]
            pairs.append(embedding(spread, float(length), w))
        return np.column_stack([m for m, _ in pairs]), np.column_stack([slope for _, slope in pairs])

    def at(self, W: Array) -> Array:
        return np.asarray(self._parts(W)[0].prod(axis=1, keepdims=True))

    def pull(self, W: Array, by: Array) -> Array:
        means, slopes = self._parts(W)
        gradient = np.empty_like(means)
        for j in range(means.shape[1]):
            rest = np.delete(means, j, axis=1).prod(axis=1)
            gradient[:, j] = 0.0 if self.ordered[j] else slopes[:, j] * rest  # listed values have no slope
        return np.asarray(gradient * by.sum(axis=1, keepdims=True))

    def twice(self) -> Array:
        return np.array(
            [[np.prod([double(spread, length) for spread, length in zip(self.spreads, self.lengths, strict=True)])]]
        )


@dataclass(frozen=True, eq=False)
class Weights:
    """Environments `nodes` (k, e) with weights (a, k) for a designs, or (1, k) for all of them."""

    nodes: Array
    weights: Array

    def bind(self, gp: GaussianProcess, columns: Columns) -> Bound:
        owner = gp.inputs.owner
        feature = np.isin(owner, columns)
        return _Nodes(gp, columns, feature, 1.0 / gp.fitted[0].lengthscales[owner[feature]], self.nodes, self.weights)


@dataclass(frozen=True, eq=False)
class _Nodes:
    gp: GaussianProcess
    columns: Columns
    feature: NDArray[np.bool_]
    rates: Array
    nodes: Array
    weights: Array

    def _features(self, W: Array) -> Array:
        full = np.zeros((len(W), self.gp.inputs.dimension))
        full[:, self.columns] = W
        return self.gp.inputs.features(full)[:, self.feature]

    @cached_property
    def _placed(self) -> Array:
        return self._features(self.nodes)

    def _correlations(self, W: Array) -> Array:
        return np.asarray(np.exp(-0.5 * squared_distances(self._features(W) * self.rates, self._placed * self.rates)))

    def at(self, W: Array) -> Array:
        return np.asarray(self._correlations(W) @ self.weights.T)

    def pull(self, W: Array, by: Array) -> Array:
        each = by if len(self.weights) > 1 else by.sum(axis=1, keepdims=True)
        pulled = self._correlations(W) * (each @ self.weights)
        slopes = (pulled @ self._placed - pulled.sum(axis=1)[:, None] * self._features(W)) * self.rates**2
        full = np.zeros((len(W), len(self.feature)))
        full[:, self.feature] = slopes
        return self.gp.inputs.in_columns(full)[:, self.columns]

    def twice(self) -> Array:
        return np.asarray(self.weights @ self._correlations(self.nodes) @ self.weights.T)


@dataclass(frozen=True, eq=False)
class Functionals:
    """The posterior of F_1 .. F_a.

    gp: of one output, with the kernel "rbf"; columns: (e,) those of the environment; designs: (a, d) rows, whose environment
    columns do not matter; measure: over the environment.

    >>> from surrogates.columns import Inputs
    >>> from surrogates.gp import fit_gp
    >>> from surrogates.map_fit import Prior
    >>> Z = np.random.default_rng(0).random((20, 2))
    >>> gp = fit_gp(Inputs.continuous(2), Z, Z[:, :1] + Z[:, 1:] ** 2, [Prior.noiseless(2)])
    >>> Functionals(gp, np.array([1]), np.array([[0.5, 0.0]]), Distribution([Spread()])).mean.round(3)
    array([0.833])
    """

    gp: GaussianProcess
    columns: Columns
    designs: Array
    measure: Measure

    def __post_init__(self) -> None:
        if self.gp.kernel != "rbf" or self.gp.outputs != 1:
            raise UsageError(
                f"Functionals: expected one output with the kernel 'rbf', got {self.gp.outputs} with {self.gp.kernel!r}; "
                "gp.output(j) takes one of several"
            )

    @cached_property
    def _bound(self) -> Bound:
        return self.measure.bind(self.gp, self.columns)

    @cached_property
    def _design(self) -> NDArray[np.bool_]:
        return np.asarray(~np.isin(self.gp.inputs.owner, self.columns))

    @cached_property
    def _rates(self) -> Array:
        return np.asarray(1.0 / self.gp.fitted[0].lengthscales[self.gp.inputs.owner[self._design]])

    def _scaled(self, Z: Array) -> Array:
        return np.asarray(self.gp.inputs.features(Z)[:, self._design] * self._rates)

    @cached_property
    def _placed(self) -> Array:
        return self._scaled(self.designs)

    def _by_design(self, Z: Array) -> Array:
        return np.asarray(np.exp(-0.5 * squared_distances(self._scaled(Z), self._placed)))

    @cached_property
    def _told(self) -> Array:
        """(n, a) prior correlations of f at the told rows with F."""
        return self._by_design(self.gp.X) * self._bound.at(self.gp.X[:, self.columns])

    @cached_property
    def _solved(self) -> Array:
        """(n, a) C^-1 times those."""
        inverse = self.gp.predictor.inverse[0]
        return np.asarray(inverse.T @ (inverse @ self._told))

    @cached_property
    def mean(self) -> Array:
        """(a,) posterior means, for measures of total mass 1."""
        return np.asarray(self.gp.fitted[0].mean + self._told.T @ self.gp.predictor.weights[0, :, 0])

    @cached_property
    def covariance(self) -> Array:
        """(a, a) posterior covariances."""
        prior = np.exp(-0.5 * squared_distances(self._placed, self._placed)) * self._bound.twice()
        return np.asarray(self.gp.fitted[0].scale * (prior - self._told.T @ self._solved))

    def with_values(self, Z: Array) -> Array:
        """(q, a) posterior covariances of f at (q, d) points with F."""
        prior = self._by_design(Z) * self._bound.at(Z[:, self.columns])
        told = self.gp.predictor.correlations(self.gp.inputs.features(Z))[0][0]
        return np.asarray(self.gp.fitted[0].scale * (prior - told @ self._solved))

    def pull(self, Z: Array, by: Array) -> Array:
        """(q, d) gradients in the points of sum_i by_i cov(f(z), F_i), for (q, a) weights; zero for category columns."""
        gp, inputs = self.gp, self.gp.inputs
        features = inputs.features(Z)
        near, inner = self._by_design(Z), self._bound.at(Z[:, self.columns])
        by_design = by * near * inner
        full = np.zeros_like(features)
        full[:, self._design] = (
            by_design @ self._placed - by_design.sum(axis=1)[:, None] * self._scaled(Z)
        ) * self._rates
        slope = gp.predictor.correlations(features)[1][0]  # (q, n)
        through = (by @ self._solved.T) * slope
        rates = 1.0 / gp.fitted[0].lengthscales[inputs.owner]
        told = through @ inputs.features(gp.X) - through.sum(axis=1)[:, None] * features
        gradient = inputs.in_columns(full - told * rates**2)
        gradient[:, self.columns] += self._bound.pull(Z[:, self.columns], by * near)
        return np.asarray(gp.fitted[0].scale * gradient)


def at_environments(designs: Array, columns: Columns, nodes: Array) -> Array:
    """(a k, d) rows: each of the (a, d) designs in each of the (k, e) environments, design by design.

    >>> at_environments(np.array([[0.1, 0.0]]), np.array([1]), np.array([[0.5], [0.7]]))
    array([[0.1, 0.5],
           [0.1, 0.7]])
    """
    rows = np.repeat(designs, len(nodes), axis=0)
    rows[:, columns] = np.tile(nodes, (len(designs), 1))
    return rows


def node_values(gp: GaussianProcess, designs: Array, columns: Columns, nodes: Array, normals: Array) -> Array:
    """(a, j, k) joint draws, for each design by itself, of its values in k environments; normals (j, k) are shared by all.

    The environments of one design are correlated as the posterior says; draws of different designs belong together only in
    that they come from the same numbers.
    """
    a, k = len(designs), len(nodes)
    rows = at_environments(designs, columns, nodes)
    moments = gp.predictor.forward(rows)
    mean = moments.mean[0, :, 0].reshape(a, k)
    half = moments.half[0].T.reshape(a, k, -1)
    scale = gp.fitted[0].scale
    bound = Weights(nodes, np.eye(k)).bind(gp, columns)
    covariance = scale * (bound.at(nodes)[None] - half @ half.transpose(0, 2, 1))
    jitter = 1e-10
    while True:
        try:
            root = np.linalg.cholesky(covariance + jitter * scale * np.eye(k))
            break
        except np.linalg.LinAlgError:
            if jitter > 1.0:
                raise
            jitter *= 100.0
    return np.asarray(mean[:, None, :] + normals @ root.transpose(0, 2, 1))
