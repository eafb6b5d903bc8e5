"""What a model of a black box must offer: fitting gives a new posterior, and a posterior never changes.

Two small protocols. A `Surrogate` is any callable that fits; there is no unfitted state. A `Posterior` is what it gives
back. Shapes: n told rows, d encoded columns, m outputs, q points to predict. All arrays are float64.

>>> from surrogates.gp import fit_gp
>>> from surrogates.map_fit import Prior
>>> X = np.linspace(0.0, 1.0, 5)[:, None]
>>> model = fit_gp(Inputs.continuous(1), X, X**2, [Prior.botorch(1)])
>>> isinstance(fit_gp, Surrogate), isinstance(model, Posterior)
(True, True)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from surrogates.columns import Inputs
from surrogates.map_fit import Prior

Array = NDArray[np.float64]


@runtime_checkable
class Posterior(Protocol):
    """What is believed of m functions after n rows. Predictions are of the noise-free functions.

    As with every runtime-checkable protocol, `isinstance` looks at the names of the methods, not at their arguments.
    """

    def mean_variance(self, X: Array, /) -> tuple[Array, Array]:
        """(q, m) means and (q, m) variances, never negative, at (q, d) points."""
        ...

    def gradients(self, X: Array, /) -> tuple[Array, Array]:
        """(q, m, d) gradients in x of the means and of the variances; zero for category columns."""
        ...

    def covariance(self, X: Array, /) -> Array:
        """(m, q, q) joint covariances at (q, d) points."""
        ...

    def sample(self, X: Array, count: int, rng: np.random.Generator, /) -> Array:
        """(count, q, m) joint draws at (q, d) points."""
        ...

    def given(self, X: Array, Z: Array, variances: Array | None = None, /) -> Self:
        """The posterior after q more rows, hyperparameters kept: X (q, d), Z (q, m), variances (q, m) or None."""
        ...

    def leave_one_out(self) -> tuple[Array, Array]:
        """(n, m) means and variances of each target, its noise included, predicted from all other rows."""
        ...

    def hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters as plain data (numbers, text, arrays)."""
        ...


@runtime_checkable
class Surrogate(Protocol):
    """A function that fits m outputs to n rows. `surrogates.gp.fit_gp` is one."""

    def __call__(self, inputs: Inputs, X: Array, Z: Array, priors: Sequence[Prior], /) -> Posterior:
        """The posterior of (n, m) targets Z at (n, d) rows X; one prior per output."""
        ...


@runtime_checkable
class Predictive(Protocol):
    """What is believed of m functions, point by point: any predictive distribution, not only a Gaussian one.

    Everything is of the noise-free functions, which are minimised.
    """

    def mean_variance(self, X: Array, /) -> tuple[Array, Array]:
        """(q, m) means and (q, m) variances, never negative, at (q, d) points."""
        ...

    def log_probability_below(self, X: Array, limits: Array, /) -> Array:
        """(q, m) logarithms of the probability that each function is at or below its limit, (m,)."""
        ...

    def log_expected_improvement(self, X: Array, best: Array, /) -> Array:
        """(q, m) logarithms of the expected amount by which each function is below its `best`, (m,)."""
        ...

    def quantiles(self, X: Array, probabilities: Array, /) -> Array:
        """(q, m, k) quantiles at (k,) probabilities between 0 and 1, ends excluded."""
        ...

    def sample(self, X: Array, count: int, rng: np.random.Generator, /) -> Array:
        """(count, q, m) draws, independent from point to point."""
        ...


@runtime_checkable
class ClassPredictive(Protocol):
    """What is believed of a label. `classes`: (k,) the labels that were seen, in rising order."""

    @property
    def classes(self) -> NDArray[np.int64]: ...

    def probabilities(self, X: Array, /) -> Array:
        """(q, k) probabilities of the classes, each row adding up to 1."""
        ...
