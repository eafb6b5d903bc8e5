"""The probability that a point works, from a classifier, as a term of a score.

Beside the logarithm of the probability stands a steep penalty where the classifier is less sure than `floor` standard
deviations, as in `bbopt.acquisition.constrained.Evaluable`: expected improvement grows without limit across the edge of a
failing region, and a factor alone would send every point there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtri_exp

from bbopt.acquisition.constrained import PENALTY
from surrogates.improvement import log_probability_below
from surrogates.pfn.classify import PFNClasses
from surrogates.pfn.kernel_belief import KernelBelief
from surrogates.protocol import ClassPredictive

Array = NDArray[np.float64]
SMALLEST = 1e-12  # probability of working that a classifier's word is taken for


@dataclass(frozen=True, eq=False)
class ClassChance:
    """Any classifier with the labels 1, works, and 0, does not. It gives no gradient: climbs go by the other terms alone."""

    classes: ClassPredictive
    floor: float = 0.0

    def log_chance(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        """(q,) values and zeros."""
        place = np.flatnonzero(self.classes.classes == 1)
        probability = self.classes.probabilities(X)[:, place].sum(axis=1)  # 0 where no row worked
        works = np.log(np.clip(probability, SMALLEST, 1.0 - 1e-15))
        missing = np.maximum(self.floor - ndtri_exp(works), 0.0)
        return works - PENALTY * missing**2, np.zeros_like(X)


@dataclass(frozen=True, eq=False)
class NetworkChance:
    """The network as a classifier (label 1: works, 0: does not), with gradients through it."""

    classes: PFNClasses
    floor: float = 0.0

    def rough(self) -> KernelChance:
        """The same from the best kernel regression of the labels, at a tenth of the price: for the first of two searches."""
        contexts = self.classes.contexts
        zero = np.zeros((1, 1))
        return KernelChance(
            tuple(KernelBelief.of(self.classes.inputs, context.anchors) for context in contexts),
            tuple(float(context.standardised(zero)[0, 0]) for context in contexts),
            0.0 if len(contexts) or self.classes.classes[0] == 1 else float(np.log(SMALLEST)),
            self.floor,
        )

    def log_chance(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        """(q,) values and their (q, d) gradients (or zeros); zero for category columns."""
        inputs, gradient = self.classes.inputs, np.zeros_like(X)
        features = torch.from_numpy(np.array(inputs.features(X))).requires_grad_(with_gradient)
        with torch.set_grad_enabled(with_gradient):
            works = self.classes.log_second(features).clamp(float(np.log(SMALLEST)), -1e-15)
        value = works.detach().numpy()
        quantile = ndtri_exp(value)
        missing = np.maximum(self.floor - quantile, 0.0)
        if with_gradient and len(self.classes.classes) > 1:
            (slope,) = torch.autograd.grad(works.sum(), features)
            by_column = inputs.in_columns(np.nan_to_num(slope.numpy()))
            gradient = _weight(value, quantile, missing)[:, None] * by_column
        return value - PENALTY * missing**2, gradient


@dataclass(frozen=True, eq=False)
class KernelChance:
    """What kernel regressions of labels say: values above `middles` mean "works", probabilities are averaged.

    certain: the logarithm where there are no regressions because all labels were the same.
    """

    beliefs: tuple[KernelBelief, ...]
    middles: tuple[float, ...]
    certain: float
    floor: float = 0.0

    def log_chance(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        """(q,) values and their (q, d) gradients (or zeros); zero for category columns."""
        gradient = np.zeros_like(X)
        if not self.beliefs:
            return np.full(len(X), self.certain), gradient
        logs, slopes = [], []
        for belief, middle in zip(self.beliefs, self.middles, strict=True):
            moments = belief.forward(X)
            sd = np.sqrt(moments.variance[0])
            log_p, by_mean, by_sd = log_probability_below(-moments.mean[0, :, 0], sd, -middle)
            logs.append(log_p)
            if with_gradient:
                slopes.append(belief.backward(moments, -by_mean[None, :, None], (by_sd / (2.0 * sd))[None]))
        works = np.clip(logsumexp(logs, axis=0) - np.log(len(logs)), np.log(SMALLEST), -1e-15)
        quantile = ndtri_exp(works)
        missing = np.maximum(self.floor - quantile, 0.0)
        if with_gradient:
            inside = (works > np.log(SMALLEST)) & (works < -1e-15)
            shares = np.exp(np.array(logs) - works) / len(logs)
            slope = (shares[:, :, None] * np.array(slopes)).sum(axis=0)
            gradient = np.where(inside, _weight(works, quantile, missing), 0.0)[:, None] * slope
        return works - PENALTY * missing**2, gradient


def _weight(log_p: Array, quantile: Array, missing: Array) -> Array:
    """The slope of log p - PENALTY missing^2 in log p; d quantile / d log p = p / pdf(quantile)."""
    ratio = np.exp(log_p + 0.5 * quantile**2) * np.sqrt(2.0 * np.pi)
    return np.asarray(1.0 + 2.0 * PENALTY * missing * ratio)
