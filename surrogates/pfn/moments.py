"""Mean and variance of a standardised mixture in the units of the targets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from surrogates.pfn.mixture import Mixture
from surrogates.pfn.normalise import LINEAR, Normal, expand

FARTHEST = 6.0  # standardised values beyond which moments do not look: 7.6 spreads of the targets
QUADRATURE = 32  # nodes per component where standardisation is not linear


def target_moments(mixture: Mixture, normal: Normal) -> tuple[Tensor, Tensor]:
    """(...,) means and variances. Where a component reaches into the compressed values they are sums over nodes.

    Values beyond 6 standardised units count as 6: undoing the compression grows exponentially, and without an end a
    component of no weight would decide.

    >>> one = torch.ones(1, 1)
    >>> mean, variance = target_moments(Mixture(0.0 * one, one, 0.5 * one), Normal(10.0 * one[0], 2.0 * one[0]))
    >>> mean.item(), variance.item()
    (12.0, 1.0)
    """
    mean, variance = mixture.moments()
    bent = (mixture.mean.abs() + 6.0 * mixture.sd).amax(-1) > LINEAR
    if bool(bent.any()):
        at, weight = (torch.from_numpy(part).to(mean) for part in np.polynomial.hermite_e.hermegauss(QUADRATURE))
        values = expand((mixture.mean[..., None] + mixture.sd[..., None] * at).clamp(-FARTHEST, FARTHEST))
        share = mixture.log_weight.exp()[..., None] * (weight / weight.sum())
        first = (share * values).sum((-1, -2))
        second = (share * (values - first[..., None, None]).square()).sum((-1, -2))
        mean, variance = torch.where(bent, first, mean), torch.where(bent, second, variance)
    return normal.centre + normal.width * mean, normal.width.square() * variance
