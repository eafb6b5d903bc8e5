"""Fewer weighted draws that stand for many: the heavy ones as they are, the light ones drawn among in proportion.

To keep only the heaviest is biased: of draws that weigh nearly the same it takes those where a proposal was too thin, and
half of the tails is gone. Here a draw of weight w is kept for certain where w >= c, with its weight, and else with
probability w / c and weight c, where sum_i min(w_i / c, 1) is the number asked for: every expectation stays what it was,
and no other such scheme changes the weights by less (Fearnhead and Clifford 2003, J. R. Statist. Soc. B 65, section 4).
Systematic numbers with a fixed start make it a function of the weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import UsageError

__all__ = ["thinned"]

Array = NDArray[np.float64]
START = 0.5


def thinned(weight: Array, count: int, along: Array) -> tuple[NDArray[np.intp], Array]:
    """Places and new weights of at most `count` >= 1 of (S,) weights >= 0, which both add up to the same; the heavy first.

    along: (S,) numbers by which alike draws are near each other: of those that are, about the right share is kept.
    UsageError for a count below 1.

    >>> places, weights = thinned(np.array([0.6, 0.1, 0.1, 0.1, 0.1]), 3, np.arange(5))
    >>> places.tolist(), weights.round(6).tolist()
    ([0, 1, 3], [0.6, 0.2, 0.2])
    """
    if count < 1:
        raise UsageError(f"expected a count of at least 1, got {count}; keep one draw or more")
    heaviest = np.argsort(-weight, kind="stable")
    ordered = weight[heaviest]
    if count >= np.count_nonzero(weight):
        places = heaviest[ordered > 0.0]
        return places, weight[places]
    rest = np.append(ordered[::-1].cumsum()[::-1], 0.0)  # of all but the k heaviest
    levels = rest[:count] / (count - np.arange(count))  # c, if k are kept for certain
    certain = int(np.argmax(ordered[:count] < levels)) if (ordered[:count] < levels).any() else count - 1
    level = float(levels[certain])
    light = heaviest[certain:]
    light = light[np.argsort(along[light], kind="stable")]
    at = level * (START + np.arange(count - certain))
    drawn = light[np.minimum(np.searchsorted(weight[light].cumsum(), at), len(light) - 1)]
    places = np.concatenate([heaviest[:certain], drawn])
    return places, np.concatenate([ordered[:certain], np.full(count - certain, level)])
