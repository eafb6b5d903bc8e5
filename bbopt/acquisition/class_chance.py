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
from scipy.special import ndtri_exp

from bbopt.acquisition.constrained import PENALTY
from surrogates.pfn.classify import PFNClasses
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
            # d quantile / d log P = P / pdf(quantile)
            ratio = np.exp(value + 0.5 * quantile**2) * np.sqrt(2.0 * np.pi)
            numbers = [j for j, kind in enumerate(inputs.kind) if kind != "category"]
            places = np.flatnonzero(np.isin(inputs.owner, numbers))
            weight = 1.0 + 2.0 * PENALTY * missing * ratio
            gradient[:, numbers] = weight[:, None] * np.nan_to_num(slope.numpy()[:, places])
        return value - PENALTY * missing**2, gradient
