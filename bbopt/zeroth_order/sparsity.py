"""How much of each layer to keep: scores of the weights, and layer-wise pruning ratios from them.

C. Wang, G. Zhang, R. Grosse, Picking Winning Tickets Before Training by Preserving Gradient Flow, ICLR 2020,
arXiv:2002.07376 (GraSP); A. Chen et al., DeepZero, ICLR 2024, arXiv:2310.02025, section 4 (ZO-GraSP, and the use of its
layer-wise pruning ratios for sparse gradients). With g the gradient and H the Hessian of the loss at theta, the score

    S = -theta * (H g)                                                                        (GraSP, eq. 8)

is what setting a weight to zero adds to the squared length of the gradient, to first order and up to a factor of 2. Here
H g is a difference of two gradients, at theta and at theta + epsilon g / |g|, times |g| / epsilon: the step has a length
that is chosen, whatever that of the gradient. Both gradients have to be worth differencing: coordinate-wise ones are;
random directions at a tenth of the coordinates rank weights worse than their magnitude does.

Two rules say which weights are worth keeping. "signed" is GraSP's: the lowest scores, those without which the gradient
would shrink most. "absolute" is the released code's of DeepZero: the largest |S|, where the sign is lost.

What is not done here. The released code takes g from random directions scaled by about 1e-7 of what they should be, so
that its step vanishes and its score is the magnitude of the weight times noise: `released_scores` makes these scores
without a query, for comparison. The shortcut -theta * u (l(theta + mu u) + l(theta - mu u) - 2 l(theta)) / mu^2 with
Gaussian u has mean zero, as an odd moment of u, and estimates nothing.

Weights are given as mappings from a layer's name to an array of any shape; whatever is never pruned (biases, norms) is
left out of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from bbopt.errors import UsageError

__all__ = [
    "Rule",
    "grasp_scores",
    "hessian_gradient",
    "hessian_step",
    "layer_ratios",
    "magnitude_scores",
    "pruning_mask",
    "released_scores",
    "uniform_ratios",
]

Array = np.ndarray[Any, np.dtype[Any]]
Layers = Mapping[str, Array]
Rule = Literal["signed", "absolute"]
RULES: tuple[Rule, ...] = ("signed", "absolute")


def length_of(layers: Layers) -> float:
    """The Euclidean length of all layers together, without overflow.

    >>> length_of({"a": np.array([3.0]), "b": np.array([[4.0]])})
    5.0
    """
    largest = max((float(np.abs(array).max(initial=0.0)) for array in layers.values()), default=0.0)
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * math.sqrt(math.fsum(float(((array / largest) ** 2).sum()) for array in layers.values()))


def hessian_step(gradient: Layers, epsilon: float) -> dict[str, Array]:
    """What to add to the weights before the second gradient: epsilon g / |g|; nothing where g is 0.

    gradient: of every parameter that moves, those that are never pruned too; epsilon: length of the step, some 0.03 to
    0.1 in single precision and 1e-3 in double (for networks whose weights are about 0.1).

    >>> hessian_step({"w": np.array([3.0, 4.0])}, 0.5)["w"].round(12).tolist()
    [0.3, 0.4]
    """
    length = length_of(gradient)
    return {name: array * (epsilon / length if length > 0 else 0.0) for name, array in gradient.items()}


def hessian_gradient(gradient: Layers, moved: Layers, epsilon: float) -> dict[str, Array]:
    """H g, from the gradient and the one at the moved weights (`hessian_step` with the same gradient and epsilon).

    >>> g = {"w": np.array([3.0, 4.0])}                     # of |w|^2 / 2 at (3, 4): H is the identity
    >>> moved = {"w": g["w"] + hessian_step(g, 0.5)["w"]}
    >>> hessian_gradient(g, moved, 0.5)["w"].round(12).tolist()
    [3.0, 4.0]
    """
    factor = length_of(gradient) / epsilon
    return {name: (moved[name] - array) * factor for name, array in gradient.items()}


def grasp_scores(weights: Layers, hessian_gradient: Layers) -> dict[str, Array]:
    """S = -theta * (H g) of every weight; H g may hold more parameters than are scored.

    >>> grasp_scores({"w": np.array([1.0, -2.0])}, {"w": np.array([0.5, 0.5]), "bias": np.zeros(1)})["w"].tolist()
    [-0.5, 1.0]
    """
    return {name: -array * hessian_gradient[name] for name, array in weights.items()}


def magnitude_scores(weights: Layers) -> dict[str, Array]:
    """|theta|, the score that costs nothing; for the rule "absolute".

    >>> magnitude_scores({"w": np.array([1.0, -2.0])})["w"].tolist()
    [1.0, 2.0]
    """
    return {name: np.abs(array) for name, array in weights.items()}


def released_scores(weights: Layers, rng: np.random.Generator) -> dict[str, Array]:
    """|theta| |z| / sqrt(weights of the layer), z ~ N(0, 1): what the released code of DeepZero computes, in effect.

    No loss is queried: the ratios depend on the sizes and initial values of the layers alone. For the rule "absolute".

    >>> released_scores({"w": np.ones(4)}, np.random.default_rng(0))["w"].round(2).tolist()
    [0.06, 0.07, 0.32, 0.05]
    """
    return {
        name: np.abs(array * rng.standard_normal(array.shape)) / math.sqrt(array.size)
        for name, array in weights.items()
    }


def layer_ratios(scores: Layers, keep: float, rule: Rule = "signed") -> dict[str, float]:
    """Which share of each layer is among the weights worth keeping, when all layers compete.

    keep: share of all weights to keep, above 0 and at most 1. Exactly round(keep * weights) are kept in all, but at least
    one in every layer (taken from the largest counts). Weights with equal scores are kept in proportion from all layers,
    so that scores without information give the same ratio everywhere. A ratio times the layer's size is a whole number.
    Raises UsageError for a keep out of range, an unknown rule, an empty layer, or scores that are not numbers.

    >>> layer_ratios({"a": np.array([-4.0, -3.0]), "b": np.array([-2.0, 1.0, 9.0, 9.0])}, 0.5)
    {'a': 1.0, 'b': 0.25}
    >>> layer_ratios({"a": np.array([-4.0, -3.0]), "b": np.array([-2.0, 1.0, 9.0, 9.0])}, 0.5, "absolute")
    {'a': 0.5, 'b': 0.5}
    """
    counts = _counts(_importance(scores, rule), keep)
    return {name: count / scores[name].size for name, count in counts.items()}


def uniform_ratios(sizes: Mapping[str, int], keep: float) -> dict[str, float]:
    """The same share of every layer, up to rounding; totals and limits as in `layer_ratios`.

    >>> uniform_ratios({"a": 10, "b": 30}, 0.1)
    {'a': 0.1, 'b': 0.1}
    """
    counts = _counts({name: np.zeros(size) for name, size in sizes.items()}, keep)
    return {name: count / sizes[name] for name, count in counts.items()}


def pruning_mask(scores: Layers, keep: float, rule: Rule = "signed") -> dict[str, Array]:
    """For each layer, the sorted flat indices (int64) of the weights worth keeping; counts as in `layer_ratios`.

    >>> mask = pruning_mask({"a": np.array([[-4.0, 3.0]]), "b": np.array([-2.0, 1.0, 9.0, 9.0])}, 0.5)
    >>> mask["a"].tolist(), mask["b"].tolist()
    ([0], [0, 1])
    """
    importance = _importance(scores, rule)
    counts = _counts(importance, keep)
    return {
        name: np.sort(np.argsort(-importance[name], kind="stable")[: counts[name]]).astype(np.int64) for name in scores
    }


def _importance(scores: Layers, rule: Rule) -> dict[str, Array]:
    """Flat arrays in which larger is worth keeping."""
    if rule not in RULES:
        raise UsageError(f"expected the rule signed (keep the lowest scores) or absolute (the largest), got {rule!r}")
    flat = {name: np.asarray(array, float).ravel() for name, array in scores.items()}
    unknown = [name for name, array in flat.items() if np.isnan(array).any()]
    if unknown:
        raise UsageError(
            f"expected scores that are numbers, got NaN in layer {unknown[0]!r}; was the loss finite where it was queried?"
        )
    return {name: -array if rule == "signed" else np.abs(array) for name, array in flat.items()}


def _counts(importance: Layers, keep: float) -> dict[str, int]:
    """How many weights of each layer are kept."""
    if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep <= 1:
        raise UsageError(f"expected keep, the share of the weights to keep, above 0 and at most 1; got {keep!r}")
    empty = [name for name, array in importance.items() if not array.size]
    if empty or not importance:
        raise UsageError(
            f"expected layers of at least one weight, got {repr(empty[0]) + ' empty' if empty else 'none'}"
        )
    everything = np.concatenate(list(importance.values()))
    wanted = max(round(keep * len(everything)), len(importance))
    limit = np.partition(everything, len(everything) - wanted)[len(everything) - wanted]
    above = np.array([int((array > limit).sum()) for array in importance.values()])
    tied = np.array([int((array == limit).sum()) for array in importance.values()])
    counts = above + _shared_out(wanted - int(above.sum()), tied)
    while (counts == 0).any():
        counts[np.argmax(counts)] -= 1
        counts[np.argmin(counts)] += 1
    return dict(zip(importance, counts.tolist(), strict=True))


def _shared_out(total: int, available: Array) -> Array:
    """`total` things in proportion to what is available, in whole numbers; what is left goes to the largest remainders."""
    exact = total * (available / max(int(available.sum()), 1))
    shares = np.floor(exact).astype(np.int64)
    left = total - int(shares.sum())
    shares[np.argsort(-(exact - shares), kind="stable")[:left]] += 1
    return shares
