"""The best kernel regression of each output, in NumPy with gradients by formula: what a search can afford to ask often.

The same numbers as the first of `Anchors.predict`, with the interface of `surrogates.predictor.Predictor`, at a tenth of the
price of a graph of tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surrogates.columns import Inputs
from surrogates.pfn.anchors import MEAN_VARIANCE, SMALLEST_SHARE, Anchors
from surrogates.predictor import Moments

Array = NDArray[np.float64]


@dataclass(frozen=True)
class KernelBelief:
    """m outputs over n rows: features (n, p), rate (m, p), smooth (m,), scale (m,), weights (m, n), factor (m, n, n).

    Names as in `surrogates.pfn.anchors.Anchors`.
    """

    inputs: Inputs
    features: Array
    rate: Array
    smooth: NDArray[np.bool_]
    scale: Array
    weights: Array
    factor: Array

    @classmethod
    def of(cls, inputs: Inputs, anchors: Anchors) -> KernelBelief:
        """The first kernel regression of every data set, all of which have the same rows."""
        parts = (anchors.rate, anchors.smooth, anchors.scale, anchors.weights, anchors.factor)
        rate, smooth, scale, weights, factor = (part[:, 0].numpy() for part in parts)
        return cls(inputs, anchors.X[0].numpy(), rate, smooth > 0.5, scale, weights, factor)

    def forward(self, X: Array) -> Moments:
        """Means (m, q, 1) and variances (m, q) at (q, d) points."""
        points = self.inputs.features(X)
        root = np.sqrt(self.rate)[:, None, :]
        left, right = points[None] * root, self.features[None] * root
        r2 = (left**2).sum(axis=-1)[:, :, None] + (right**2).sum(axis=-1)[:, None, :]
        r2 -= 2.0 * np.matmul(left, right.transpose(0, 2, 1))
        np.maximum(r2, 0.0, out=r2)
        k, slope = np.empty_like(r2), np.empty_like(r2)
        for kind in (True, False):
            mine = self.smooth == kind
            if not mine.any():
                continue
            if kind:
                k[mine] = np.exp(-0.5 * r2[mine])
                slope[mine] = -0.5 * k[mine]
            else:
                a = np.sqrt(5.0 * r2[mine])
                decay = np.exp(-a)
                k[mine] = (1.0 + a + a**2 / 3.0) * decay
                slope[mine] = (-5.0 / 6.0) * (1.0 + a) * decay
        k += MEAN_VARIANCE
        half = np.matmul(self.factor, k.transpose(0, 2, 1))  # (m, n, q)
        share = np.maximum(1.0 + MEAN_VARIANCE - (half**2).sum(axis=1), SMALLEST_SHARE)
        mean = np.matmul(k, self.weights[:, :, None])
        return Moments(mean, self.scale[:, None] * share, points, slope, half)

    def backward(self, moments: Moments, by_mean: Array, by_variance: Array) -> Array:
        """(q, d) gradient of a function with derivatives by_mean (m, q, 1) and by_variance (m, q)."""
        by_k = by_mean * self.weights[:, None, :] + self._through(moments) * by_variance[:, :, None]
        return self.inputs.in_columns(self._pulled(moments, by_k).sum(axis=0))

    def slopes(self, moments: Moments) -> tuple[Array, Array]:
        """(m, q, d) gradients of every output's mean and variance."""
        weights = np.broadcast_to(self.weights[:, None, :], moments.slope.shape)
        mean, variance = (self._pulled(moments, part) for part in (weights, self._through(moments)))
        return self.inputs.in_columns(mean), self.inputs.in_columns(variance)

    def _through(self, moments: Moments) -> Array:
        """(m, q, n) derivatives of the variances in the correlations."""
        solved = np.matmul(self.factor.transpose(0, 2, 1), moments.half).transpose(0, 2, 1)
        return np.asarray(-2.0 * self.scale[:, None, None] * solved)

    def _pulled(self, moments: Moments, by_k: Array) -> Array:
        """(m, q, p) derivatives in the features from those in the correlations (m, q, n)."""
        weight = by_k * moments.slope
        apart = moments.points[None] * weight.sum(axis=-1)[:, :, None] - np.matmul(weight, self.features)
        return np.asarray(2.0 * self.rate[:, None, :] * apart)
