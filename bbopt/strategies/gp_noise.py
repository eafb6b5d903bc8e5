"""Noise in the model of `gp`: what is believed of the noise-free outputs, and models of noise beyond one variance per output.

`noise="heteroscedastic"`: the variance of the noise depends on the point (`surrogates.heteroscedastic`). `noise="outliers"`: few
values are wrong altogether, and get variances of their own (`surrogates.relevance_pursuit`). Both end in a variance for every
told row, so that everything that works with known standard errors works with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from surrogates.gp import GaussianProcess
from surrogates.warps import Warp

Array = np.ndarray[Any, np.dtype[Any]]


def believed(gp: GaussianProcess, warps: Sequence[Warp], X: Array) -> tuple[Array, Array]:
    """(q, m) medians and half widths of the 16 % to 84 % range, in raw units: mean and standard deviation where warps are linear."""
    mean, variance = gp.mean_variance(X)
    sd = np.sqrt(variance)
    middle, low, high = (
        np.column_stack([warp.inverse(part[:, j]) for j, warp in enumerate(warps)])
        for part in (mean, mean - sd, mean + sd)
    )
    return middle, 0.5 * (high - low)
