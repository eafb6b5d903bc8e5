"""TabPFN as a surrogate: the `tabpfn` package and weights that are on this machine, behind our protocols.

Hollmann et al. 2025, "Accurate predictions on small data with a tabular foundation model", Nature 637 (v2), and the
later versions of the package (9.2 or newer). It reads the told rows as context; nothing is fitted. Outputs are
predicted one by one, each with a context of its own, from one network in memory. What comes out are bars with
half-normal tails (`surrogates.bars`), with softmax temperature 1: the package's default of 0.9 for older weights
sharpens what it says, which a search pays for. Its fingerprint feature, a hash of each row with a counter for
repeats, is off: it makes the predictions of v2 depend on the order of the rows. It predicts observations: what the
rows show of noise is in its variances.

With `differentiable=True` the package's transformations of the inputs (quantiles, categories of its own) give way to
the plain columns, categories one-hot, so that there are gradients in x; values and gradients are then of the same
function, a slightly different one. The keys and values of the context are not cached then: each call costs a full one.

>>> from surrogates.columns import Inputs
>>> fit_tabpfn(Inputs.continuous(1), np.zeros((1, 1)), np.array([[np.nan]]))
Traceback (most recent call last):
bbopt.errors.UsageError: expected finite targets, got nan in row 0, column 0: leave such rows out
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import UsageError
from surrogates.bars import Bars
from surrogates.columns import Inputs
from surrogates.tabpfn_inputs import View, options_of, rows_of, standard, targets_of
from surrogates.tabpfn_weights import calling_the_package, find_weights, require_package

Array = NDArray[np.float64]

ROWS_AT_ONCE = 512  # rows of a forward pass: 5000 bars of float64 for each of them are 20 MB


@dataclass(frozen=True)
class Output:
    """One output: an estimator of standardised targets, or None where these rows have nothing to learn from."""

    estimator: Any
    centre: float
    scale: float

    def bars(self, F: Array) -> Bars:
        """The predictive distributions at (q, p) features."""
        if self.estimator is None or not len(F):
            return Bars.normal(self.centre, self.scale, len(F))
        if self.estimator.differentiable_input:
            return self._forward(F, graph=False)[0]
        with calling_the_package():
            full = self.estimator.predict(F, output_type="full", quantiles=[])
        return Bars.of(self._borders(full["criterion"]), full["logits"].cpu().numpy())

    def slopes(self, F: Array, j: int, of: Callable[[Bars, int], tuple[Array, Array]]) -> tuple[Array, Array]:
        """(q,) values and their (q, p) gradients in the features.

        of: from the bars and this output's number j to (q,) values and their (q, B) derivatives in the logits.
        """
        if self.estimator is None:
            return of(self.bars(F), j)[0], np.zeros_like(F)
        import torch

        bars, log_p, x = self._forward(F, graph=True)
        values, by_logits = of(bars, j)
        (slopes,) = torch.autograd.grad(log_p, x, torch.as_tensor(by_logits))
        return values, np.asarray(slopes.double().numpy())

    def _forward(self, F: Array, *, graph: bool) -> tuple[Bars, Any, Any]:
        """The distributions, their log probabilities and the features they came from, as tensors."""
        import torch

        with calling_the_package(), torch.set_grad_enabled(graph):
            x = torch.tensor(F, dtype=torch.float32, requires_grad=graph)
            members = self.estimator.forward(x, use_inference_mode=True)[1]
            each = torch.stack([torch.log_softmax(member.cpu().double(), dim=-1) for member in members])
            log_p = torch.log_softmax(torch.logsumexp(each, dim=0), dim=-1)
        return Bars(self._borders(self.estimator.raw_space_bardist_), log_p.detach().numpy()), log_p, x

    def _borders(self, criterion: Any) -> Array:
        borders = criterion.borders.cpu().double().numpy()
        return np.asarray(borders * self.scale + self.centre)


@dataclass(frozen=True)
class TabPFN:
    """The predictive distributions of m outputs; `surrogates.protocol.Predictive`, with gradients where asked for.

    Each method runs the network on all the points, for every output; `bars` gives the distributions themselves, for
    those who want several things at the same points.
    """

    view: View
    outputs: tuple[Output, ...]
    differentiable: bool

    def bars(self, X: Array) -> tuple[Bars, ...]:
        """The m distributions at (q, d) points, all held in memory: 40 kB for each point and output."""
        F = self.view.features(rows_of(X, self.view.inputs))
        return tuple(output.bars(F) for output in self.outputs)

    def mean_variance(self, X: Array) -> tuple[Array, Array]:
        """(q, m) means and (q, m) variances."""
        both = self._each(X, lambda bars, j: np.stack([bars.mean(), bars.variance()], axis=1))
        return both[..., 0], both[..., 1]

    def log_probability_below(self, X: Array, limits: Array) -> Array:
        """(q, m) logarithms of the probability that each output is at or below its limit, (m,)."""
        bounds = self._bounds(limits, "limits")
        return self._each(X, lambda bars, j: bars.log_below(bounds[j]))

    def log_expected_improvement(self, X: Array, best: Array) -> Array:
        """(q, m) logarithms of the expected amount by which each output is below its `best`, (m,)."""
        bounds = self._bounds(best, "best values")
        return self._each(X, lambda bars, j: bars.log_improvement(bounds[j]))

    def quantiles(self, X: Array, probabilities: Array) -> Array:
        """(q, m, k) quantiles at (k,) probabilities between 0 and 1, ends excluded."""
        u = np.atleast_1d(np.asarray(probabilities, dtype=float))
        if not ((u > 0.0) & (u < 1.0)).all():
            raise UsageError(f"expected probabilities between 0 and 1, ends excluded, got {u.tolist()}")
        return self._each(X, lambda bars, j: bars.quantiles(np.tile(u, (len(bars.log_p), 1))))

    def sample(self, X: Array, count: int, rng: np.random.Generator) -> Array:
        """(count, q, m) draws, independent from point to point."""
        U = 1.0 - rng.random((len(self.outputs), len(X), count))  # above 0
        U = np.clip(U, 1e-16, 1.0 - 1e-16)
        starts = range(0, max(len(X), 1), ROWS_AT_ONCE)
        parts = []
        for start in starts:
            rows = slice(start, start + ROWS_AT_ONCE)
            draws = [bars.quantiles(u[rows]) for bars, u in zip(self.bars(X[rows]), U, strict=True)]
            parts.append(np.stack(draws, axis=1))
        return np.moveaxis(np.concatenate(parts), 2, 0)

    def mean_gradient(self, X: Array) -> tuple[Array, Array]:
        """(q, m) means and their (q, m, d) gradients in x; zero for category columns."""
        return self._gradient(X, lambda bars, j: bars.mean_slope())

    def log_probability_below_gradient(self, X: Array, limits: Array) -> tuple[Array, Array]:
        """`log_probability_below` and its (q, m, d) gradients in x."""
        bounds = self._bounds(limits, "limits")
        return self._gradient(X, lambda bars, j: bars.log_below_slope(bounds[j]))

    def log_expected_improvement_gradient(self, X: Array, best: Array) -> tuple[Array, Array]:
        """`log_expected_improvement` and its (q, m, d) gradients in x."""
        bounds = self._bounds(best, "best values")
        return self._gradient(X, lambda bars, j: bars.log_improvement_slope(bounds[j]))

    def _bounds(self, given: Array, what: str) -> list[float]:
        bounds = np.atleast_1d(np.asarray(given, dtype=float))
        if bounds.shape != (len(self.outputs),) or not np.isfinite(bounds).all():
            raise UsageError(f"expected {len(self.outputs)} finite {what}, one per output, got {bounds.tolist()}")
        return [float(bound) for bound in bounds]

    def _each(self, X: Array, of: Callable[[Bars, int], Array]) -> Array:
        """(q, m, ...) what `of` gives, (q, ...), for each output, a few hundred rows at a time."""
        F = self.view.features(rows_of(X, self.view.inputs))
        parts = []
        for start in range(0, max(len(F), 1), ROWS_AT_ONCE):
            part = F[start : start + ROWS_AT_ONCE]
            parts.append(np.stack([of(output.bars(part), j) for j, output in enumerate(self.outputs)], axis=1))
        return np.concatenate(parts)

    def _gradient(self, X: Array, of: Callable[[Bars, int], tuple[Array, Array]]) -> tuple[Array, Array]:
        if not self.differentiable:
            raise UsageError("this TabPFN was fitted without gradients: fit_tabpfn(..., differentiable=True) has them")
        X = rows_of(X, self.view.inputs)
        F = self.view.features(X)
        values, slopes = np.zeros((len(X), len(self.outputs))), np.zeros((len(X), len(self.outputs), X.shape[1]))
        for start in range(0, len(F), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            for j, output in enumerate(self.outputs):
                values[rows, j], by_feature = output.slopes(F[rows], j, of)
                slopes[rows, j] = self.view.spread(by_feature)
        return values, slopes


@dataclass(frozen=True)
class TabPFNClasses:
    """The probabilities of classes; `surrogates.protocol.ClassPredictive`. `shares`: how often each class was told."""

    view: View
    estimator: Any
    classes: NDArray[np.int64]
    shares: Array

    def probabilities(self, X: Array) -> Array:
        """(q, k) probabilities of the classes, each row adding up to 1."""
        F = self.view.features(rows_of(X, self.view.inputs))
        if self.estimator is None or not len(F):
            return np.tile(self.shares, (len(F), 1))
        starts = range(0, len(F), ROWS_AT_ONCE)
        with calling_the_package():
            parts = [self.estimator.predict_proba(F[start : start + ROWS_AT_ONCE]) for start in starts]
        p = np.concatenate(parts).astype(float)
        return np.asarray(p / p.sum(axis=1, keepdims=True))


def fit_tabpfn(
    inputs: Inputs,
    X: Array,
    Y: Array,
    weights: str | Path | None = None,
    *,
    estimators: int = 1,
    random_state: int = 0,
    device: str = "cpu",
    differentiable: bool = False,
    allow_pickle_weights: bool = False,
) -> TabPFN:
    """The predictive of (n, m) targets Y at (n, d) rows X, n >= 1; Y (n,) is one output.

    weights: a file, a folder, or None for the package's cache (`surrogates.tabpfn_weights.find_weights`).
    estimators: forward passes over differently transformed data that are averaged; costs as many times more.
    random_state: decides how they differ. device: for torch; only "cpu" is tested.
    differentiable: see the top of this file.
    A constant output, and a single row, give a point mass with a small standard deviation; rows that are all at one
    point give a normal with their mean and standard deviation.
    Raises MissingPackage, UsageError (no weights, unusable data, more rows than the package takes: 1000 on a CPU up to
    v2.6, 5000 from v3).
    """
    X = rows_of(X, inputs)
    Y = targets_of(Y, len(X))
    require_package()
    path = find_weights("regressor", weights, allow_pickle_weights=allow_pickle_weights)
    view = View.of(inputs, X, one_hot=differentiable)
    F = view.features(X)
    options = dict(options_of(view, estimators, random_state, device), differentiable_input=differentiable)
    options["fit_mode"] = "fit_preprocessors" if differentiable else "fit_with_cache"
    model: Any = str(path)
    outputs = []
    for y in Y.T:
        centre, scale, constant = standard(y)
        estimator = None
        if not constant and F.shape[1]:
            estimator = _fit_regressor(F, (y - centre) / scale, model, options)
            model = _shared(estimator)
        outputs.append(Output(estimator, centre, scale))
    return TabPFN(view, tuple(outputs), differentiable)


def fit_tabpfn_classes(
    inputs: Inputs,
    X: Array,
    labels: NDArray[np.int64],
    weights: str | Path | None = None,
    *,
    estimators: int = 1,
    random_state: int = 0,
    device: str = "cpu",
    allow_pickle_weights: bool = False,
) -> TabPFNClasses:
    """The predictive of (n,) integer labels at (n, d) rows X; arguments and errors as in `fit_tabpfn`.

    Where a single class was told it is certain, and where all rows are at one point the classes have their shares.
    """
    X = rows_of(X, inputs)
    told = np.asarray(labels)
    if not len(X) or told.shape != (len(X),) or not (np.issubdtype(told.dtype, np.integer) or told.dtype == bool):
        raise UsageError(
            f"expected one integer label per row, got {told.dtype} of shape {told.shape} for {X.shape} rows"
        )
    require_package()
    path = find_weights("classifier", weights, allow_pickle_weights=allow_pickle_weights)
    view = View.of(inputs, X, one_hot=False)
    classes, counts = np.unique(told.astype(np.int64), return_counts=True)
    estimator = None
    if len(classes) > 1 and len(view.kept):
        options = dict(options_of(view, estimators, random_state, device), fit_mode="fit_with_cache")
        with calling_the_package():
            from tabpfn import TabPFNClassifier

            estimator = TabPFNClassifier(model_path=str(path), **options).fit(view.features(X), told.astype(np.int64))
    return TabPFNClasses(view, estimator, classes, counts / counts.sum())


def _fit_regressor(F: Array, z: Array, model: Any, options: dict[str, Any]) -> Any:
    with calling_the_package():
        import torch
        from tabpfn import TabPFNRegressor

        estimator = TabPFNRegressor(model_path=model, **options)
        if not options["differentiable_input"]:
            return estimator.fit(F, z)
        rows, targets = torch.tensor(F, dtype=torch.float32), torch.tensor(z, dtype=torch.float32)
        estimator.fit_with_differentiable_input(rows, targets)
        for network in estimator.models_:
            network.requires_grad_(False)
        return estimator


def _shared(estimator: Any) -> Any:
    """The network of a fitted estimator, for the next output: one in memory, read once."""
    from tabpfn import ModelSpecs

    return ModelSpecs(
        estimator.models_[0], estimator.configs_[0], estimator.inference_config_, estimator.znorm_space_bardist_
    )
