"""Functionals of a loss that is random because the environment is: mean, worst case, value at risk, conditional value at risk.

A loss takes the values v_k with the probabilities p_k (what is minimised: for an objective to be maximised, minus its
value). With its distribution function F and a level a:

    mean    sum_k p_k v_k
    worst   the largest v_k with p_k > 0
    var     min {v: F(v) >= a}                                           the loss that is not exceeded with probability a
    cvar    the mean of the worst share 1 - a of the probability         (1 / (1 - a)) int_a^1 F^-1(u) du

The last is exact for atoms, too: the atom in which level a falls counts with the part of it that lies above (Rockafellar
and Uryasev 2002, Conditional value-at-risk for general loss distributions, Journal of Banking and Finance 26, equation 25).
At level 0 it is the mean, and as the level approaches 1 the worst case.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Over = Literal["mean", "worst", "var", "cvar"]
OVER: tuple[Over, ...] = ("mean", "worst", "var", "cvar")
ROUNDING = 1e-12  # probabilities are sums of floats: levels that differ by less are equal


def risk(values: Array, probabilities: Array, over: Over, level: float | None = None) -> Array:
    """(...) the functional of losses (..., k) with probabilities (k,), which sum to 1; level: of "var" and "cvar".

    >>> losses, even = np.arange(10.0), np.full(10, 0.1)
    >>> [round(float(risk(losses, even, over, 0.8)), 6) for over in ("mean", "worst", "var", "cvar")]
    [4.5, 9.0, 7.0, 8.5]
    """
    weights = risk_weights(values, probabilities, over, level)
    used = np.where(weights > 0.0, values, 0.0)
    total: Array = (weights * used).sum(axis=-1)
    return total


def risk_weights(values: Array, probabilities: Array, over: Over, level: float | None = None) -> Array:
    """(..., k) weights, which sum to 1, with which the losses enter: the functional is their weighted sum, and these are its
    derivatives wherever it has them (all four are unmoved by the order of losses that are equal: the first counts).

    >>> risk_weights(np.array([3.0, 1.0, 2.0]), np.array([0.5, 0.25, 0.25]), "cvar", 0.4)
    array([0.83333333, 0.        , 0.16666667])
    """
    losses = np.asarray(values, float)
    p = np.broadcast_to(probabilities, losses.shape)
    if over == "mean":
        return np.array(p)
    if over == "worst":
        at = np.argmax(np.where(p > 0.0, losses, -np.inf), axis=-1)
        return _one_at(at, losses.shape)
    assert level is not None
    order = np.argsort(losses, axis=-1, kind="stable")
    sorted_p = np.take_along_axis(p, order, axis=-1)
    reached = np.cumsum(sorted_p, axis=-1)
    if over == "var":
        place = np.argmax((reached >= level - ROUNDING) & (sorted_p > 0.0), axis=-1)
        return _one_at(np.take_along_axis(order, place[..., None], axis=-1)[..., 0], losses.shape)
    above = np.clip(reached - np.maximum(reached - sorted_p, level), 0.0, None)
    above = np.where(above <= ROUNDING * (1.0 - level), 0.0, above)
    weights: Array = np.empty_like(above)
    np.put_along_axis(weights, order, above / above.sum(axis=-1, keepdims=True), axis=-1)
    return weights


def risk_text(over: str | None, level: float | None) -> str:
    """A functional in words, for people.

    >>> risk_text("cvar", 0.9), risk_text("worst", None)
    ('mean of the worst 10 %', 'worst case')
    """
    if over in ("var", "cvar"):
        share = f"{100.0 * (1.0 - (level or 0.0)):.6g} %"
        return f"mean of the worst {share}" if over == "cvar" else f"value that is worse in {share}"
    return {"mean": "mean", "worst": "worst case"}.get(over or "", "")


def _one_at(index: Array, shape: tuple[int, ...]) -> Array:
    weights = np.zeros(shape)
    np.put_along_axis(weights, index[..., None], 1.0, axis=-1)
    return weights
