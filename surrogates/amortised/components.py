"""A weighted set of hyperparameter vectors of one output, and how it was found.

Each of the K vectors ("components") is an exact Gaussian process with prior mean `centre`:

    cov(x, x') = scale * (k(r) + offset),   r^2 = sum_j (x_j - x'_j)^2 / l_j^2,   noise variance = scale * noise^2

`offset` is the prior variance of a constant mean in units of the scale: that mean is thereby integrated out
(Rasmussen and Williams 2006, section 2.7, with the constant as the only basis function). With offset 0 the mean is the
centre; else the centre, of the told values most of all, is where the constant mean is believed to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from bbopt.errors import UsageError
from surrogates.kernels import Kernel

Array = NDArray[np.float64]
KERNELS: tuple[Kernel, ...] = ("rbf", "matern52", "matern32")
OFFSET = 10.0  # prior variance of the constant mean, in units of the scale, where nothing else is said


@dataclass(frozen=True)
class Diagnosis:
    """How the components of one output were found, and how far they can be trusted.

    ess: effective sample size of the weights, between 1 and K. how: "network" (proposed and reweighted), "refined" (draws
    from wider tails followed), "tempered" (few draws counted even so: their weights were made more even), "given" (by the
    caller). reason: why, in words.

    >>> Diagnosis(1.0, "given").reason
    ''
    """

    ess: float
    how: Literal["network", "refined", "tempered", "given"]
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Components:
    """K weighted hyperparameter vectors of one output, float64.

    kernel: (K,) indices into KERNELS; lengthscales: (K, d) per column; noise: (K,) standard deviations relative to
    sqrt(scale); scale: (K,) variances; log_weight: (K,), the logarithm of weights that add up to 1; offset: prior
    variance of the constant mean relative to the scale; centre: its prior mean. UsageError where the shapes do not agree. Numbers that are not
    finite are allowed: such a component gets the weight 0 when it is conditioned on data.

    >>> two = Components(np.array([0, 2]), np.ones((2, 3)), np.full(2, 0.1), np.ones(2), np.log([0.25, 0.75]))
    >>> len(two), two.dimension, [two.kernel_name(k) for k in range(2)]
    (2, 3, ['rbf', 'matern32'])
    """

    kernel: NDArray[np.intp]
    lengthscales: Array
    noise: Array
    scale: Array
    log_weight: Array
    offset: float = OFFSET
    centre: float = 0.0

    def __post_init__(self) -> None:
        count = len(self.kernel)
        shapes = [part.shape for part in (self.kernel, self.noise, self.scale, self.log_weight)]
        if count == 0 or self.lengthscales.ndim != 2 or {*shapes, self.lengthscales.shape[:1]} != {(count,)}:
            raise UsageError(
                "expected K > 0 components: kernel, noise, scale and log_weight (K,), lengthscales (K, d); got "
                f"{shapes} and {self.lengthscales.shape}; pass one row per component"
            )
        if not (0.0 <= self.offset < np.inf):
            raise UsageError(f"expected an offset that is finite and at least 0, got {self.offset!r}; 0 means no mean")
        if not np.isfinite(self.centre):
            raise UsageError(f"expected a finite centre, got {self.centre!r}; 0 for standardised values")

    @classmethod
    def single(
        cls, kernel: Kernel, lengthscales: Array, noise: float, scale: float = 1.0, offset: float = OFFSET
    ) -> Components:
        """One component of weight 1: (d,) lengthscales, noise as a standard deviation relative to sqrt(scale).

        >>> len(Components.single("matern52", np.ones(4), 0.1))
        1
        """
        row = np.asarray(lengthscales, dtype=float)[None]
        return cls(
            np.array([KERNELS.index(kernel)]),
            row,
            np.array([float(noise)]),
            np.array([float(scale)]),
            np.zeros(1),
            offset,
        )

    def __len__(self) -> int:
        """K."""
        return len(self.kernel)

    @property
    def dimension(self) -> int:
        """Number of columns d."""
        return int(self.lengthscales.shape[1])

    def kernel_name(self, index: int) -> Kernel:
        """The correlation function of one component."""
        return KERNELS[int(self.kernel[index])]

    def effective(self) -> float:
        """Effective sample size of the weights, 1 / sum w^2, between 1 and K.

        >>> Components(np.zeros(4, int), np.ones((4, 1)), np.ones(4), np.ones(4), np.log(np.full(4, 0.25))).effective()
        4.0
        """
        return float(np.exp(-logsumexp(2.0 * self.log_weight)))

    def weighted(self, log_weight: Array) -> Components:
        """The same vectors with other weights, (K,), normalised here. UsageError where none is above 0.

        >>> one = Components.single("rbf", np.ones(1), 0.1)
        >>> one.weighted(np.array([-700.0])).log_weight
        array([0.])
        """
        total = logsumexp(log_weight)
        if not np.isfinite(total):
            raise UsageError(
                f"expected at least one finite log weight, got {log_weight}; pass weights that add up to more than 0"
            )
        return replace(self, log_weight=np.asarray(log_weight - total))

    def take(self, chosen: NDArray[np.intp]) -> Components:
        """The components at the given places, their weights renormalised."""
        part = replace(
            self, kernel=self.kernel[chosen], lengthscales=self.lengthscales[chosen], noise=self.noise[chosen],
            scale=self.scale[chosen], log_weight=self.log_weight[chosen],
        )  # fmt: skip
        return part.weighted(part.log_weight)

    def heaviest(self, count: int) -> tuple[NDArray[np.intp], Array]:
        """Places and log weights of the `count` heaviest vectors after equal ones were merged, heaviest first.

        Of equal vectors the first keeps its place, with the sum of their weights; the weights are then normalised.
        UsageError for a count below 1.
        """
        if count < 1:
            raise UsageError(f"expected a count of at least 1, got {count}; ask for one component or more")
        rows = np.column_stack([self.kernel, self.noise, self.scale, self.lengthscales])
        _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        sums = np.full(len(first), -np.inf)
        np.logaddexp.at(sums, group.ravel(), self.log_weight)
        order = np.lexsort((first, -sums))[:count]
        return first[order], np.asarray(sums[order] - logsumexp(sums[order]))

    def at_most(self, count: int) -> Components:
        """The `count` heaviest vectors after equal ones were merged, heaviest first: what a search works with.

        >>> lengths = np.array([[1.0], [2.0], [3.0], [2.0]])
        >>> four = Components(np.zeros(4, int), lengths, np.ones(4), np.ones(4), np.log([0.3, 0.4, 0.1, 0.2]))
        >>> two = four.at_most(2)
        >>> two.lengthscales.ravel(), np.exp(two.log_weight).round(3)
        (array([2., 1.]), array([0.667, 0.333]))
        """
        chosen, log_weight = self.heaviest(count)
        return replace(self.take(chosen), log_weight=log_weight)


def components_of(saved: Mapping[str, Any]) -> tuple[Components, ...]:
    """The components of every output from the plain data that `AmortisedGP.hyperparameters` gives.

    >>> plain = {"owner": np.zeros(1, int), "kernel": np.zeros(1, int), "lengthscales": np.ones((1, 2)),
    ...          "noise": np.ones(1), "scale": np.ones(1), "log_weight": np.zeros(1), "offset": np.array([10.0]), "centre": np.zeros(1)}
    >>> [(len(part), part.offset) for part in components_of(plain)]
    [(1, 10.0)]
    """
    owner = np.asarray(saved["owner"])
    found = []
    for j, (offset, centre) in enumerate(zip(saved["offset"], saved["centre"], strict=True)):
        kernel = np.asarray(saved["kernel"])[owner == j].astype(np.intp)
        lengthscales, noise, scale, log_weight = (
            np.asarray(saved[name], dtype=float)[owner == j]
            for name in ("lengthscales", "noise", "scale", "log_weight")
        )
        found.append(Components(kernel, lengthscales, noise, scale, log_weight, float(offset), float(centre)))
    return tuple(found)
