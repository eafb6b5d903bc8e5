"""Joint draws of values that are not known exactly from weighted sets of Gaussian processes, and the sets given each of them.

As in `bbopt.acquisition.draws`, told values with noise and pending points are integrated over by S quasi-Monte Carlo
draws. Each draw is made under one component of every output: components get numbers of draws in proportion to their
weights (systematic resampling: one uniform number moves a comb of S teeth), draws of different outputs are
paired at random. A drawn value is a fantasy: it does not change the weights. Given its draws, a component costs one factor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from bbopt.acquisition.draws import NOISY_NUGGET, normal_numbers
from bbopt.acquisition.ensemble import Ensemble
from surrogates.amortised.conditioning import grown
from surrogates.amortised.posterior import AmortisedGP
from surrogates.gp import root_of
from surrogates.map_fit import factor
from surrogates.predictor import Predictor, prior_correlation

Array = NDArray[np.float64]
Places = NDArray[np.intp]


def drawn_ensemble(
    model: AmortisedGP, noisy: NDArray[np.bool_], pending: Array, count: int, rng: np.random.Generator
) -> tuple[Ensemble, Array]:
    """The model given each of `count` draws, and the drawn values (m, n + p, S) at the n told and the p pending points.

    noisy: (m,) outputs whose told values are not exact; pending: (p, d). An exact output without pending points keeps all
    its components in every draw; where every output does, there is one draw (S = 1), the told values as they are.

    >>> from surrogates.amortised.components import Components
    >>> from surrogates.amortised.posterior import condition_components
    >>> from surrogates.columns import Inputs
    >>> X = np.linspace(0.0, 1.0, 5)[:, None]
    >>> two = Components(np.array([0, 1]), np.array([[0.2], [0.4]]), np.full(2, 1e-4), np.ones(2), np.log([0.5, 0.5]))
    >>> model = condition_components(Inputs.continuous(1), X, np.sin(6.0 * X), [two])
    >>> ensemble, values = drawn_ensemble(model, np.array([False]), np.array([[0.6]]), 8, np.random.default_rng(0))
    >>> values.shape, np.bincount(ensemble.component[0]).tolist()
    ((1, 6, 8), [4, 4])
    """
    outputs, n, p = model.outputs, len(model.X), len(pending)
    open_ = noisy | (p > 0)
    if not open_.any():
        return Ensemble.of(model), np.array(model.Z.T[:, :, None])
    sizes = [len(part) for part in model.components]
    start = np.concatenate([[0], np.cumsum(sizes)])
    chosen = [
        _comb(np.exp(model.log_weight[start[j] : start[j + 1]]), count, rng) if open_[j] else np.zeros(count, np.intp)
        for j in range(outputs)
    ]
    kept = [np.unique(chosen[j]) if open_[j] else np.arange(sizes[j]) for j in range(outputs)]
    places = np.concatenate([start[j] + own for j, own in enumerate(kept)])
    owner = np.repeat(np.arange(outputs), [len(own) for own in kept])
    vectors = [_numbered(chosen[j]) if open_[j] else np.arange(count) for j in range(outputs)]
    base = model.predictor.take(places)
    held = np.tile(model.Z.T[owner][:, :, None], (1, 1, 1 + max(int(v.max()) for v in vectors)))
    held = np.concatenate([held, np.zeros((len(places), p, held.shape[2]))], axis=1)
    values = np.repeat(np.concatenate([model.Z, np.zeros((p, outputs))]).T[:, :, None], count, axis=2)
    component, vector, log_weight = [], [], []
    for j in range(outputs):
        own = np.flatnonzero(owner == j)
        if not open_[j]:
            component.append(np.broadcast_to(own[:, None], (len(own), count)))
            vector.append(np.broadcast_to(np.arange(count), (len(own), count)))
            log_weight.append(model.log_weight[start[j] : start[j + 1]])
            continue
        wanted = np.concatenate([model.X, pending]) if noisy[j] else pending
        normal = normal_numbers(len(wanted), count, rng)
        order = rng.permutation(count)  # draws of other outputs have an order of their own
        picked = np.searchsorted(kept[j], chosen[j])
        for k, place in enumerate(own):
            mine = picked == k
            drawn = _draws(base.take(np.array([place])), wanted, normal[:, mine])
            held[place, n + p - len(wanted) :, vectors[j][mine]] = drawn.T
            values[j, n + p - len(wanted) :, mine] = drawn.T
        values[j] = values[j][:, order]
        component.append(own[picked][None, order])
        vector.append(vectors[j][None, order])
        log_weight.append(np.zeros(1))
    given = _given(model, base, places, noisy[owner], pending, held)
    first = np.cumsum([0, *(len(part) for part in component)])[:-1]
    ensemble = Ensemble(
        given, np.concatenate(component), np.concatenate(vector), np.concatenate(log_weight), np.asarray(first, np.intp)
    )
    return ensemble, values


def _comb(weight: Array, count: int, rng: np.random.Generator) -> Places:
    """(count,) places in proportion to their weights, in rising order."""
    teeth = (rng.random() + np.arange(count)) / count
    return np.minimum(np.searchsorted(weight.cumsum() / weight.sum(), teeth), len(weight) - 1)


def _numbered(chosen: Places) -> Places:
    """How many equal entries stand before each entry of a sorted array.

    >>> _numbered(np.array([0, 0, 2, 2, 2])).tolist()
    [0, 1, 0, 1, 2]
    """
    return np.asarray(np.arange(len(chosen)) - np.searchsorted(chosen, chosen), np.intp)


def _draws(one: Predictor, wanted: Array, normal: Array) -> Array:
    """(w, s) joint draws of one component at (w, d) points from (w, s) standard normal numbers."""
    root = root_of(one.covariance(wanted)[0], float(one.scale[0]))
    return np.asarray(one.forward(wanted).mean[0] + root @ normal)


def _given(
    model: AmortisedGP, base: Predictor, places: Places, noisy: NDArray[np.bool_], pending: Array, held: Array
) -> Predictor:
    """Components given vectors of exact values (C, n + p, V) at the told and pending points."""
    count, size, _ = held.shape
    inverse = np.zeros((count, size, size))
    noise = np.concatenate([part.noise for part in model.components])[places] ** 2
    X = np.concatenate([model.X, pending])
    exact = np.flatnonzero(~noisy)
    if len(exact):
        old, jitter = base.take(exact), model.jitter[places[exact]]
        if len(pending):
            extra = np.repeat(noise[exact, None], len(pending), axis=1)
            nothing = np.zeros((len(pending), len(exact)))
            inverse[exact], _, _, worked = grown(old, jitter, pending, nothing, extra)
            if not worked.all():
                raise FloatingPointError("covariance of told and pending points is not finite")
        else:
            inverse[exact] = old.inverse
    unknown = np.flatnonzero(noisy)
    if len(unknown):
        part = base.take(unknown)
        features = base.inputs.features(X)
        rates = 1.0 / part.lengthscales[:, base.inputs.owner]
        C = prior_correlation(part.kernel, features, features, rates, part.offset)
        for c, correlations in zip(unknown, C, strict=True):
            found = factor(correlations, NOISY_NUGGET, 1.0)
            if found is None:
                raise FloatingPointError("covariance of told and pending points is not finite")
            inverse[c] = lapack.dtrtri(found[0], lower=1)[0]
    weights = np.matmul(inverse.transpose(0, 2, 1), np.matmul(inverse, held - base.mean[:, None, None]))
    return Predictor(
        base.inputs, base.kernel, X, base.lengthscales, base.scale, base.mean, inverse, weights, base.offset
    )
