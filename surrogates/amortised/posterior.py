"""The posterior of several outputs, each a weighted set of exact Gaussian processes over the same rows.

A Gaussian process whose hyperparameters theta are uncertain predicts by p(f | z) = sum_k w_k p(f | z, theta_k). Everything
here is exact for that mixture: moments by the law of total variance, tails and quantiles of the mixture itself, joint and
pathwise draws (first a component, then a function), new rows that also change the weights, w_k ~ w_k p(z' | z, theta_k), and
rows left out, which change them back. With one component it is the Gaussian process of `surrogates.gp`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from bbopt.errors import UsageError
from surrogates.amortised import mixture
from surrogates.amortised.components import Components, Diagnosis
from surrogates.amortised.conditioning import grown, inverse_factors, kernels_of
from surrogates.amortised.derivative import gradient_moments
from surrogates.amortised.paths import FEATURES, Path, draw_path
from surrogates.columns import Inputs
from surrogates.gp import root_of
from surrogates.map_fit import LOG_2PI
from surrogates.predictor import Predictor

if TYPE_CHECKING:
    from botorch.models.model import Model

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AmortisedGP:
    """Posterior of m outputs after n rows. Made by `condition_components`; never changed afterwards.

    X: (n, d) encoded inputs; Z: (n, m) standardised targets; variances: (n, m) known noise variances, or None;
    components: the hyperparameters of each output, K_1 to K_m of them, C in all; inverse: (C, n, n) inverses W of
    Cholesky factors, W^T W = (C + D)^-1 (triangular for the rows in one order, not necessarily that of X); jitter: (C,) what had to be added to the diagonal, in units of the scale (0 where nothing was);
    diagnosis: how the components of each output were found, or empty.

    Predictions are of the noise-free functions. All C components of all outputs are the outputs of `predictor`, output
    after output; `owner` says whose each is, `log_weight` what it weighs: that is what a search needs.
    """

    inputs: Inputs
    X: Array
    Z: Array
    variances: Array | None
    components: tuple[Components, ...]
    inverse: Array
    jitter: Array
    diagnosis: tuple[Diagnosis, ...] = ()

    @property
    def outputs(self) -> int:
        """Number of outputs m."""
        return len(self.components)

    @cached_property
    def owner(self) -> NDArray[np.intp]:
        """(C,) the output of each component."""
        return np.repeat(np.arange(self.outputs), [len(part) for part in self.components])

    @cached_property
    def log_weight(self) -> Array:
        """(C,) logarithms of the weights, which add up to 1 for each output."""
        return self._flat(lambda part: part.log_weight)

    @cached_property
    def predictor(self) -> Predictor:
        """Means, variances and gradients of all C components (see `surrogates.predictor`)."""
        centre = np.array([part.centre for part in self.components])[self.owner]
        targets = (self.Z.T[self.owner] - centre[:, None])[:, :, None]
        weights = np.matmul(self.inverse.transpose(0, 2, 1), np.matmul(self.inverse, targets))
        scale = self._flat(lambda part: part.scale)
        return Predictor(
            self.inputs, kernels_of(self.components), self.X, self._flat(lambda part: part.lengthscales), scale,
            centre, self.inverse, weights, self._flat(lambda part: np.full(len(part), part.offset)),
        )  # fmt: skip

    def output(self, index: int) -> AmortisedGP:
        """The posterior of one output alone."""
        pick = slice(index, index + 1)
        return replace(
            self, Z=self.Z[:, pick], variances=None if self.variances is None else self.variances[:, pick],
            components=self.components[pick], inverse=self.inverse[self._parts[index]],
            jitter=self.jitter[self._parts[index]], diagnosis=self.diagnosis[pick],
        )  # fmt: skip

    def at_most(self, count: int) -> AmortisedGP:
        """The same with only the `count` heaviest components of each output (see `Components.at_most`)."""
        kept = [part.start + c.heaviest(count)[0] for part, c in zip(self._parts, self.components, strict=True)]
        chosen = np.concatenate(kept)
        fewer = tuple(c.at_most(count) for c in self.components)
        return replace(self, components=fewer, inverse=self.inverse[chosen], jitter=self.jitter[chosen])

    def mean_variance(self, X: Array) -> tuple[Array, Array]:
        """(q, m) means and (q, m) variances of the noise-free functions at (q, d) points."""
        mean, variance = self._each(X)
        pairs = [mixture.moments(self.log_weight[p], mean[p], variance[p]) for p in self._parts]
        return np.stack([pair[0] for pair in pairs], axis=1), np.stack([pair[1] for pair in pairs], axis=1)

    def gradients(self, X: Array) -> tuple[Array, Array]:
        """(q, m, d) gradients in x of the means and of the variances (zero for category columns)."""
        moments = self.predictor.forward(np.asarray(X, dtype=float))
        by_mean, by_variance = self.predictor.slopes(moments)
        mean, weight = moments.mean[:, :, 0], np.exp(self.log_weight)
        means, variances = [], []
        for part in self._parts:
            apart = mean[part] - weight[part] @ mean[part]
            means.append(np.einsum("k,kqd->qd", weight[part], by_mean[part]))
            inner = by_variance[part] + 2.0 * apart[:, :, None] * by_mean[part]  # weighted, `apart` adds up to 0
            variances.append(np.einsum("k,kqd->qd", weight[part], inner))
        return np.stack(means, axis=1), np.stack(variances, axis=1)

    def derivative(self, X: Array) -> tuple[Array, Array]:
        """(q, m, d) means and (q, m, d, d) covariances of the gradients of the functions; zero for category columns."""
        return gradient_moments(self.predictor, np.asarray(X, dtype=float), self.log_weight, self._parts)

    def covariance(self, X: Array) -> Array:
        """(m, q, q) joint covariances of the noise-free functions at (q, d) points."""
        points = np.asarray(X, dtype=float)
        mean, _ = self._each(points)
        weight = np.exp(self.log_weight)
        total = np.zeros((self.outputs, len(points), len(points)))
        for j, part in enumerate(self._parts):
            apart = mean[part] - weight[part] @ mean[part]
            total[j] = (apart * weight[part, None]).T @ apart
            for c in range(part.start, part.stop):
                total[j] += weight[c] * self.predictor.take(np.array([c])).covariance(points)[0]
        return total

    def sample(self, X: Array, count: int, rng: np.random.Generator) -> Array:
        """(count, q, m) draws of the noise-free functions, joint over the (q, d) points of each draw."""
        points = np.asarray(X, dtype=float)
        draws = np.empty((count, len(points), self.outputs))
        for j, part in enumerate(self._parts):
            picks = self._pick(j, count, rng)
            normal = rng.standard_normal((count, len(points)))
            for c in np.unique(picks):
                one = self.predictor.take(np.array([part.start + c]))
                root = root_of(one.covariance(points)[0], float(one.scale[0]))
                mine = picks == c
                draws[mine, :, j] = one.forward(points).mean[0, :, 0] + normal[mine] @ root.T
        return draws

    def paths(self, count: int, rng: np.random.Generator, features: int = FEATURES) -> tuple[Path, ...]:
        """Draws of all m functions as functions, each with a value and a gradient anywhere (see `Path`).

        features: cosines per path; moments over paths are right with any number, one path is the closer to Gaussian
        between the data the more there are.
        """
        picks = np.stack([p.start + self._pick(j, count, rng) for j, p in enumerate(self._parts)])
        noise = self._noise
        return tuple(draw_path(self.predictor, chosen, self.Z, noise, rng, features) for chosen in picks.T)

    def given(self, X: Array, Z: Array, variances: Array | None = None, reweight: bool = True) -> AmortisedGP:
        """The posterior after q more rows, O(C n^2 q): hyperparameters kept, weights times the density of the new rows.

        X: (q, d), Z: (q, m), variances: (q, m), needed exactly where the model has known variances (UsageError).
        reweight: False for values that nobody measured (fantasies), which say nothing about hyperparameters. Where the
        new rows have the density 0 under every component, the weights stay. FloatingPointError as in
        `condition_components`.
        """
        added = np.asarray(X, dtype=float)
        targets = np.asarray(Z, dtype=float).reshape(len(added), self.outputs)
        known = None if variances is None else np.asarray(variances, dtype=float).reshape(targets.shape)
        if not len(added):
            return self
        if (known is None) != (self.variances is None):
            there = "known variances, as the rows told before" if known is None else "no variances, as before"
            raise UsageError(
                f"expected {there}; got {'none' if known is None else 'some'}; pass all rows or none with them"
            )
        extra = np.repeat(self._flat(lambda part: part.noise)[:, None] ** 2, len(added), axis=1)
        if known is not None:
            extra += known.T[self.owner] / self.predictor.scale[:, None]
        inverse, jitter, density, worked = grown(self.predictor, self.jitter, added, targets[:, self.owner], extra)
        weight = self.log_weight + density if reweight else self.log_weight
        log_weight = np.concatenate(
            [weight[p] if np.isfinite(logsumexp(weight[p])) else self.log_weight[p] for p in self._parts]
        )
        both = None if self.variances is None or known is None else np.vstack([self.variances, known])
        return _assembled(
            self.inputs, np.vstack([self.X, added]), np.vstack([self.Z, targets]), both, self.components, inverse,
            jitter, worked, log_weight, self.diagnosis,
        )  # fmt: skip

    def leave_one_out(self) -> tuple[Array, Array]:
        """(n, m) means and variances of each target, noise included, predicted from all others.

        The weights are those without the row too: a weight that is a posterior probability given all rows is
        proportional to p(z_i | others, theta_k) times the one given the others, so that factor is divided out. Per
        component: equations 5.12 of Rasmussen and Williams.
        """
        diagonal = (self.inverse**2).sum(axis=1)  # (C, n) of (C + D)^-1
        apart = self.predictor.weights[:, :, 0] / diagonal
        variance = self.predictor.scale[:, None] / diagonal
        log_density = -0.5 * (apart**2 / variance + np.log(variance) + LOG_2PI)
        log_weight = self.log_weight[:, None] - log_density
        means, variances = [], []
        for j, part in enumerate(self._parts):
            weight = np.exp(log_weight[part] - logsumexp(log_weight[part], axis=0))
            mean = self.Z[:, j] - apart[part]
            centre = (weight * mean).sum(axis=0)
            means.append(centre)
            variances.append((weight * (variance[part] + (mean - centre) ** 2)).sum(axis=0))
        return np.stack(means, axis=1), np.stack(variances, axis=1)

    def log_probability_below(self, X: Array, limits: Array) -> Array:
        """(q, m) logarithms of the probability that each function is at or below its limit, (m,)."""
        return self._of_each_output(X, mixture.log_below, limits)

    def log_expected_improvement(self, X: Array, best: Array) -> Array:
        """(q, m) logarithms of the expected amount by which each function is below its `best`, (m,)."""
        return self._of_each_output(X, mixture.log_improvement, best)

    def quantiles(self, X: Array, probabilities: Array) -> Array:
        """(q, m, k) quantiles at (k,) probabilities between 0 and 1, ends excluded (UsageError)."""
        mean, variance = self._each(X)
        sd = np.sqrt(variance)
        return np.stack(
            [mixture.quantiles(self.log_weight[p], mean[p], sd[p], probabilities) for p in self._parts], axis=1
        )

    def hyperparameters(self) -> dict[str, Any]:
        """The components as plain data, which `components_of` reads back (see `surrogates.amortised.components`)."""
        return {
            "owner": self.owner,
            "kernel": self._flat(lambda part: part.kernel),
            "lengthscales": self.predictor.lengthscales,
            "noise": self._flat(lambda part: part.noise),
            "scale": self.predictor.scale,
            "log_weight": self.log_weight,
            "offset": np.array([part.offset for part in self.components]),
            "centre": np.array([part.centre for part in self.components]),
        }

    def botorch_model(self) -> Model:
        """The same posterior as a BoTorch model (see `surrogates.amortised_botorch`); MissingPackage without torch."""
        from surrogates.amortised_botorch import to_botorch

        return to_botorch(self)

    @cached_property
    def _parts(self) -> list[slice]:
        """The components of each output among all."""
        ends = np.cumsum([len(part) for part in self.components]).tolist()
        return [slice(end - len(part), end) for end, part in zip(ends, self.components, strict=True)]

    @property
    def _noise(self) -> Array:
        """(C, n) noise variances of the rows, jitter included."""
        noise = self.predictor.scale * (self._flat(lambda part: part.noise) ** 2 + self.jitter)
        return noise[:, None] + (np.zeros((1, len(self.X))) if self.variances is None else self.variances.T[self.owner])

    def _flat(self, part: Callable[[Components], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([part(components) for components in self.components])

    def _each(self, X: Array) -> tuple[Array, Array]:
        """(C, q) means and variances of the components."""
        moments = self.predictor.forward(np.asarray(X, dtype=float))
        return moments.mean[:, :, 0], moments.variance

    def _pick(self, output: int, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """(count,) components of one output, drawn by their weights."""
        weight = np.exp(self.log_weight[self._parts[output]])
        return rng.choice(len(weight), size=count, p=weight / weight.sum())

    def _of_each_output(self, X: Array, score: Callable[[Array, Array, Array, Array], Array], level: Array) -> Array:
        mean, variance = self._each(X)
        sd, levels = np.sqrt(variance), np.asarray(level, dtype=float).reshape(self.outputs)
        columns = [score(self.log_weight[p], mean[p], sd[p], levels[j]) for j, p in enumerate(self._parts)]
        return np.stack(columns, axis=1)


def condition_components(
    inputs: Inputs, X: Array, Z: Array, components: Sequence[Components], variances: Array | None = None
) -> AmortisedGP:
    """The posterior of m outputs with given weighted hyperparameters: X (n, d), Z (n, m), variances (n, m) or None.

    Jitter is added where a covariance cannot be factored without; a component that no jitter helps, or whose weight is 0,
    is left out, and the weights of the others add up to 1. FloatingPointError where none of an output is left; UsageError
    where the shapes do not agree.

    >>> X = np.linspace(0.0, 1.0, 8)[:, None]
    >>> lengths = np.array([[0.2], [0.4]])
    >>> two = Components(np.array([0, 1]), lengths, np.full(2, 1e-4), np.ones(2), np.log([0.5, 0.5]))
    >>> model = condition_components(Inputs.continuous(1), X, np.sin(6 * X), [two])
    >>> mean, variance = model.mean_variance(np.array([[0.5]]))
    >>> bool(abs(mean[0, 0] - np.sin(3.0)) < 1e-2), model.outputs
    (True, 1)
    """
    rows, targets = np.asarray(X, dtype=float), np.asarray(Z, dtype=float)
    known = None if variances is None else np.asarray(variances, dtype=float)
    shapes = [rows.shape, targets.shape, *([] if known is None else [known.shape])]
    expected = [(len(rows), inputs.dimension), (len(rows), len(components)), (len(rows), len(components))]
    dimensions = {part.dimension for part in components}
    if shapes != expected[: len(shapes)] or dimensions != {inputs.dimension} or not len(rows):
        raise UsageError(
            f"expected X (n, {inputs.dimension}) with n > 0, Z and variances (n, {len(components)}), one set of components "
            f"per output with {inputs.dimension} lengthscales each; got {shapes} and {sorted(dimensions)} lengthscales"
        )
    features, n = inputs.features(rows), len(rows)
    sizes = [len(part) for part in components]
    inverse, jitter, worked = np.zeros((sum(sizes), n, n)), np.zeros(sum(sizes)), np.zeros(sum(sizes), dtype=bool)
    for j, part in enumerate(components):
        own = slice(sum(sizes[:j]), sum(sizes[: j + 1]))
        column = None if known is None else known[:, j]
        jitter[own], worked[own] = inverse_factors(features, inputs.owner, part, column, inverse[own])
    log_weight = np.concatenate([part.log_weight for part in components])
    return _assembled(inputs, rows, targets, known, components, inverse, jitter, worked, log_weight)


def _assembled(
    inputs: Inputs,
    X: Array,
    Z: Array,
    variances: Array | None,
    components: Sequence[Components],
    inverse: Array,
    jitter: Array,
    worked: NDArray[np.bool_],
    log_weight: Array,
    diagnosis: tuple[Diagnosis, ...] = (),
) -> AmortisedGP:
    """The posterior without the components that did not work or weigh nothing, the weights of the others normalised."""
    worked = worked & np.isfinite(log_weight)
    kept, end = [], 0
    for j, part in enumerate(components):
        start, end = end, end + len(part)
        chosen = np.flatnonzero(worked[start:end])
        if not len(chosen):
            raise FloatingPointError(
                f"covariance of the told points is not finite under any of the {len(part)} components of output {j}"
            )
        kept.append(replace(part, log_weight=log_weight[start:end]).take(chosen))
    if not worked.all():
        inverse, jitter = inverse[worked], jitter[worked]
    return AmortisedGP(inputs, X, Z, variances, tuple(kept), inverse, jitter, diagnosis)
