"""Which map of the raw values makes them most probable, judged by kernel regressions that all maps share.

log p(y) = log p(z) + sum log dz/dy (Snelson, Rasmussen, Ghahramani 2003, equation 6), with log p(z) the evidence of the
best of the isotropic kernels of `surrogates.pfn.anchors`. One factorisation per kernel serves every map of every output,
so the choice costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from surrogates.columns import Inputs
from surrogates.pfn.anchors import shared_evidence
from surrogates.warps import Warp

Array = NDArray[np.float64]


def choose_warps(inputs: Inputs, X: Array, Y: Array, candidates: Sequence[Mapping[str, Warp]]) -> list[str]:
    """The name of the best candidate for each of m outputs: rows X (n, d), raw values Y (n, m).

    >>> from surrogates.warps import constraint_warps
    >>> X = np.linspace(0.0, 1.0, 30)[:, None]
    >>> y = np.exp(12.0 * np.sin(3.0 * X)) - 1.0
    >>> choose_warps(Inputs.continuous(1), X, y, [constraint_warps(y[:, 0])])[0] == "linear"
    False
    """
    columns, worth = [], []
    for y, maps in zip(Y.T, candidates, strict=True):
        for warp in maps.values():
            z = warp.forward(y)
            width = max(float(z.std()), 1e-12)
            columns.append((z - z.mean()) / width)
            worth.append(float(np.log(np.maximum(warp.slope(y), 1e-300)).sum()) - len(y) * np.log(width))
    features = torch.from_numpy(np.array(inputs.features(X)))
    evidence = shared_evidence(features, torch.from_numpy(np.array(columns))).numpy() + np.array(worth)
    names, start = [], 0
    for maps in candidates:
        names.append(list(maps)[int(evidence[start : start + len(maps)].argmax())])
        start += len(maps)
    return names
