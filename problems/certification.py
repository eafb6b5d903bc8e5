"""Randomised smoothing: a radius within which the vote of a classifier under Gaussian noise provably stays the same.

Cohen, Rosenfeld, Kolter (2019), Certified Adversarial Robustness via Randomized Smoothing, ICML, arXiv 1902.02918. The smoothed
classifier answers what the base classifier f says most often under noise,

    g(x) = argmax_c P(f(x + delta) = c),    delta ~ N(0, sigma^2 I)                                       (their eq. 1)

If class A has a probability of at least p > 1/2 at x, g says A everywhere within the Euclidean distance

    R = sigma Phi^-1(p)                                                    (their theorem 1, with p_B <= 1 - p)

As in their procedure CERTIFY, a first sample of votes chooses A, and a second, independent one bounds p from below: the exact
one-sided bound of Clopper, Pearson (1934, Biometrika 26). Where the bound is no more than 1/2, the answer is to abstain.
A certificate is wrong with probability at most alpha, for each point on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri

from bbopt.errors import UsageError

__all__ = ["ABSTAIN", "Certificates", "certify", "largest_radius", "lower_bound", "votes"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Classifier = Callable[[Array], NDArray[np.integer]]
"""From inputs (n, d) to their classes (n,), from 0 to the number of classes - 1."""

ABSTAIN = -1
"""The label of a point for which nothing is claimed."""
BLOCK = 4_000  # noisy inputs classified at a time: 2 MB for 64 pixels, about what a cache holds


def lower_bound(count: NDArray[np.integer] | int, n: int, alpha: float) -> Array:
    """The exact lower confidence bound at level 1 - alpha of a probability, after `count` successes in n draws.

    The p at which `count` or more successes have probability alpha: a quantile of a beta distribution; 0 for no success.

    >>> round(float(lower_bound(99, 100, 0.001)), 4)
    0.9114
    """
    k = np.asarray(count)
    if not 0.0 < alpha < 1.0 or n < 1 or np.any(k < 0) or np.any(k > n):
        raise UsageError(
            f"expected 0 < alpha < 1 and counts from 0 to n >= 1; got alpha {alpha}, n {n}, counts {count}"
        )
    bound = betaincinv(np.maximum(k, 1), n - k + 1, alpha)
    return np.asarray(np.where(k == 0, 0.0, bound), dtype=float)


def largest_radius(sigma: float, n: int, alpha: float) -> float:
    """The radius when all n draws agree, which no certificate exceeds: choose n so that the radii wanted are below it.

    >>> [round(largest_radius(0.25, n, 0.001), 2) for n in (100, 500, 10_000)]
    [0.38, 0.55, 0.8]
    """
    return float(sigma * ndtri(lower_bound(n, n, alpha)))


@dataclass(frozen=True, eq=False)
class Certificates:
    """What is claimed for each of n inputs: label (n,), ABSTAIN for no claim, and radius (n,), 0 where there is none.

    >>> found = Certificates(np.array([3, ABSTAIN, 5]), np.array([0.4, 0.0, 0.2]))
    >>> found.accuracy(np.array([3, 1, 5]), [0.0, 0.25]).round(3).tolist()
    [0.667, 0.333]
    """

    label: Labels
    radius: Array

    def accuracy(self, truth: NDArray[np.integer], radii: list[float] | Array) -> Array:
        """Certified accuracy at each radius: the share of inputs with the right label and a radius of at least this."""
        right = (self.label == truth) & (self.label != ABSTAIN)
        return np.array([np.mean(right & (self.radius >= r)) for r in radii])


def certify(
    classifier: Classifier,
    inputs: Array,
    sigma: float,
    rng: np.random.Generator,
    classes: int,
    first: int = 50,
    n: int = 500,
    alpha: float = 0.001,
) -> Certificates:
    """A certificate for each row of inputs (m, d): `first` draws of noise choose its class, n more bound its probability.

    sigma: standard deviation of the noise, in units of the inputs; the radius is in the same.
    The same state of `rng` draws the same noise for every classifier, so that two of them can be compared.
    """
    if sigma <= 0.0:
        raise UsageError(f"expected a standard deviation of the noise sigma > 0, got {sigma}")
    chosen = votes(classifier, inputs, sigma, first, rng, classes).argmax(axis=1)
    count = votes(classifier, inputs, sigma, n, rng, classes)[np.arange(len(inputs)), chosen]
    p = lower_bound(count, n, alpha)
    claimed = p > 0.5
    radius = np.where(claimed, sigma * ndtri(np.where(claimed, p, 0.5)), 0.0)
    return Certificates(np.where(claimed, chosen, ABSTAIN).astype(np.int64), radius)


def votes(
    classifier: Classifier, inputs: Array, sigma: float, n: int, rng: np.random.Generator, classes: int
) -> Labels:
    """(m, classes): how often each class was said for each row of inputs (m, d) under n draws of noise."""
    m, d = inputs.shape
    counts = np.zeros((m, classes), dtype=np.int64)
    at_a_time = max(1, BLOCK // n)
    for low in range(0, m, at_a_time):
        part = inputs[low : low + at_a_time]
        noisy = part[:, None] + sigma * rng.standard_normal((len(part), n, d))
        said = np.asarray(classifier(noisy.reshape(-1, d))).reshape(len(part), n)
        for c in range(classes):
            counts[low : low + len(part), c] = np.sum(said == c, axis=1)
    return counts
