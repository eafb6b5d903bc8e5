"""The network as a contestant of `surrogates.evaluation`."""

from __future__ import annotations

import torch
from torch import Tensor

from surrogates.evaluation.gaps import Belief
from surrogates.pfn.anchors import Anchors, fit_anchors
from surrogates.pfn.mixture import Mixture
from surrogates.pfn.network import Network, predict
from surrogates.pfn.normalise import Normal

__all__ = ["Reader", "read_by"]


class Reader:
    """Networks read tasks here; the kernel regressions of a batch are made once for all networks of one shape.

    X: (B, n, d), y: (B, n); kernels: how many regressions the networks have (`Shape.anchors`).
    """

    def __init__(self, X: Tensor, y: Tensor, kernels: int) -> None:
        self.normal = Normal.of(y)
        self.z = self.normal.forward(y)
        self.anchors: Anchors = fit_anchors(X, self.z, kernels)

    def believe(self, network: Network, Q: Tensor) -> Belief:
        """What a network predicts at Q (B, q, d)."""
        with torch.no_grad():
            mixture, noise = predict(network, self.anchors, self.z, Q)
        told = Mixture(mixture.log_weight, mixture.mean, (mixture.sd.square() + noise.square()).sqrt())
        return Belief(mixture, told, self.normal)


def read_by(network: Network, X: Tensor, y: Tensor, Q: Tensor) -> Belief:
    """What a network predicts at Q (B, q, d) after rows X (B, n, d) with values y (B, n)."""
    return Reader(X, y, network.shape.anchors).believe(network, Q)
