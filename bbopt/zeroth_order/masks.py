"""Which coordinates take part: masks drawn at random by seed and epoch, and masks that prune for good.

A. Chen et al., DeepZero, ICLR 2024, arXiv:2310.02025, section 4. DeepZero keeps all weights and makes the *gradient*
sparse: every `interval` epochs each layer draws a fresh uniformly random mask of the share that its layer-wise pruning
ratio says; biases and norms are always active. A mask is a function of (seed, epoch, layer), so that processes that
share a seed agree on it without sending it.

Two ways that prune *weights* instead are here for comparison:

* M2: prune once, before training (`sparsity.pruning_mask`), set what was pruned to zero (`pruned`), train the rest;
* M1: prune and train in turns. Round r of R keeps the share keep^((r + 1) / R) of the weights (`alternating_keep`), scored
  anew on the network as it is then. A weight at zero scores zero, so pruned weights are left out of the next round
  (`pruned_further`) and never come back. The paper does not say how the share falls; this geometric fall is ours.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from bbopt.errors import UsageError
from bbopt.zeroth_order.sparsity import Rule, pruning_mask

__all__ = ["active_count", "alternating_keep", "pruned", "pruned_further", "random_mask"]

Array = np.ndarray[Any, np.dtype[Any]]
Mask = Mapping[str, Array]
"""For each layer, sorted flat indices (int64) of its active weights."""


def random_mask(
    sizes: Mapping[str, int],
    ratios: Mapping[str, float],
    always: Collection[str] = (),
    *,
    seed: int,
    epoch: int,
    interval: int = 1,
) -> dict[str, Array]:
    """The active coordinates of each layer in this epoch: sorted flat indices, drawn without replacement.

    sizes: weights of each layer; ratios: share that is active, for every layer that is not in `always`, whose weights are
    all active. round(ratio * size) weights are drawn, at least one. The mask changes when epoch // interval does.
    Raises UsageError for a layer without a ratio, a ratio outside [0, 1], an interval below 1 or a negative seed or epoch.

    >>> random_mask({"weight": 8, "bias": 2}, {"weight": 0.25}, ["bias"], seed=0, epoch=0)["bias"].tolist()
    [0, 1]
    >>> masks = [random_mask({"w": 8}, {"w": 0.25}, seed=0, epoch=e, interval=2)["w"].tolist() for e in range(4)]
    >>> masks[0] == masks[1], masks[1] == masks[2], masks[2] == masks[3]
    (True, False, True)
    """
    if interval < 1 or seed < 0 or epoch < 0:
        raise UsageError(
            f"random_mask: expected seed and epoch of at least 0 and interval of at least 1, got {seed}, {epoch}, {interval}"
        )
    mask: dict[str, Array] = {}
    for name, size in sizes.items():
        count = size if name in always else _active(name, size, ratios)
        if count == size:
            mask[name] = np.arange(size, dtype=np.int64)
        else:
            key = [seed, epoch // interval, zlib.crc32(name.encode())]
            rng = np.random.Generator(np.random.PCG64(key))
            mask[name] = np.sort(rng.choice(size, count, replace=False, shuffle=False)).astype(np.int64)
    return mask


def active_count(sizes: Mapping[str, int], ratios: Mapping[str, float], always: Collection[str] = ()) -> int:
    """How many coordinates `random_mask` makes active; a step of forward differences takes one query more.

    >>> active_count({"weight": 8, "bias": 2}, {"weight": 0.25}, ["bias"])
    4
    """
    return sum(size if name in always else _active(name, size, ratios) for name, size in sizes.items())


def pruned(weights: Mapping[str, Array], mask: Mask) -> dict[str, Array]:
    """The weights with zeros outside the mask; layers that the mask does not name stay as they are.

    >>> pruned({"w": np.array([[1.0, 2.0], [3.0, 4.0]])}, {"w": np.array([0, 3])})["w"].tolist()
    [[1.0, 0.0], [0.0, 4.0]]
    """
    out: dict[str, Array] = {}
    for name, array in weights.items():
        if name in mask:
            kept = np.zeros(array.size, array.dtype)
            kept[mask[name]] = array.ravel()[mask[name]]
            out[name] = kept.reshape(array.shape)
        else:
            out[name] = np.array(array)
    return out


def pruned_further(scores: Mapping[str, Array], mask: Mask, keep: float, rule: Rule = "signed") -> dict[str, Array]:
    """A mask within `mask` that keeps the share `keep` of all weights, by their scores; for M1.

    keep counts all weights of the layers, pruned ones too. Raises UsageError where the mask has fewer than that.

    >>> scores = {"w": np.array([0.0, -3.0, -2.0, -1.0])}
    >>> pruned_further(scores, {"w": np.array([0, 2, 3])}, 0.5)["w"].tolist()
    [2, 3]
    """
    total, left = sum(array.size for array in scores.values()), sum(len(mask[name]) for name in scores)
    wanted = round(keep * total)
    if wanted > left:
        raise UsageError(f"expected keep of at most {left / total:g}, the share that is left, got {keep!r}")
    within = {name: array.ravel()[mask[name]] for name, array in scores.items()}
    chosen = pruning_mask(within, max(wanted, 1) / left, rule)
    return {name: np.asarray(mask[name], np.int64)[chosen[name]] for name in scores}


def alternating_keep(keep: float, round: int, rounds: int) -> float:
    """The share of the weights that round 0, 1, ... of M1 keeps; `keep` from the last round on.

    >>> [alternating_keep(0.25, r, 2) for r in range(3)]
    [0.5, 0.25, 0.25]
    """
    if rounds < 1 or round < 0 or not 0 < keep <= 1:
        raise UsageError(
            f"alternating_keep: expected keep in (0, 1], round >= 0 and rounds >= 1; got {keep}, {round}, {rounds}"
        )
    return float(keep ** (min(round + 1, rounds) / rounds))


def _active(name: str, size: int, ratios: Mapping[str, float]) -> int:
    """How many weights of a layer are drawn."""
    ratio = ratios.get(name)
    if ratio is None or not 0 <= ratio <= 1:
        raise UsageError(f"random_mask: expected a ratio from 0 to 1 for layer {name!r}, got {ratio!r}")
    return max(1, round(ratio * size))
