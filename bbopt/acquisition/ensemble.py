"""Log expected improvement under constraints on weighted sets of Gaussian processes, one set per output, in closed form.

    score(x) = log mean_s [ EI_s(x) prod_c P_s(g_c(x) <= limit_c) ] + log P(x can be evaluated)

as in `bbopt.acquisition.constrained`, but every EI_s and P_s is that of a mixture: sum_k w_k EI_sk and sum_k w_k P_sk, not
of one Gaussian with its moments. With exact values and nothing pending there is one s and

    score(x) = log sum_k w_k EI_k(x) + sum_c log sum_k w_ck P_ck(x).

Where values are drawn (`bbopt.acquisition.ensemble_draws`), each draw is made under one component per output and read by
that component alone. Hyperparameters of different outputs are independent. All sums are sums of exponentials shifted by
their largest term, so that a score keeps its gradient where improvement and feasibility are too unlikely for floating point.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bbopt.acquisition.constrained import LOG_2, SMALLEST_SD, Chance, Rule
from surrogates.amortised.posterior import AmortisedGP
from surrogates.improvement import log_expected_improvement, log_probability_below
from surrogates.predictor import Predictor

Array = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """C Gaussian processes of all outputs, and which of them every draw reads.

    predictor: C outputs, each with vectors of base values. In each of S draws, output after output, R readings of one
    vector of one component: component, vector: (R, S); log_weight: (R,) adding up to 1 per output; first: (m,) the first
    reading of each output. No (component, vector) is read twice.
    """

    predictor: Predictor
    component: Places
    vector: Places
    log_weight: Array
    first: Places

    @classmethod
    def of(cls, posterior: AmortisedGP) -> Ensemble:
        """One draw: the told values as they are, read by all components."""
        owner = posterior.owner
        places = np.arange(len(owner))[:, None]
        first = np.searchsorted(owner, np.arange(posterior.outputs))
        return cls(posterior.predictor, places, np.zeros_like(places), posterior.log_weight, first)

    def heads(self) -> Ensemble:
        """The one component per output that weighs most, or that most draws are made under, with draws that all have."""
        ends = [*self.first[1:], len(self.component)]
        heads, vectors = [], []
        for start, end in zip(self.first, ends, strict=True):
            if end - start > 1 or self.component.shape[1] == 1:
                row = start + int(self.log_weight[start:end].argmax())
                heads.append(int(self.component[row, 0]))
                vectors.append(self.vector[row])
            else:
                heads.append(int(np.bincount(self.component[start]).argmax()))
                vectors.append(self.vector[start][self.component[start] == heads[-1]])
        draws = min(len(own) for own in vectors)
        outputs = np.arange(len(heads))
        return Ensemble(
            self.predictor.take(np.array(heads)), np.repeat(outputs[:, None], draws, axis=1),
            np.stack([own[:draws] for own in vectors]), np.zeros(len(heads)), outputs,
        )  # fmt: skip

    def means(self, X: Array) -> Array:
        """(m, q, S) means of every output at (q, d) points in each draw."""
        mean = self.predictor.forward(X).mean[self.component, :, self.vector]
        weighted = np.exp(self.log_weight)[:, None, None] * mean
        return np.asarray(np.add.reduceat(weighted, self.first, axis=0).transpose(0, 2, 1))


@dataclass(frozen=True, eq=False)
class EnsembleLogEI:
    """The score as a function of points.

    ensemble: output 0 is the objective (minimised), the rest are constraints. best: (S,) lowest objective value among the
    feasible base points of each draw, NaN where there is none. limits, evaluable, reward, rule: as in ConstrainedLogEI.

    >>> from surrogates.amortised.components import Components
    >>> from surrogates.amortised.posterior import condition_components
    >>> from surrogates.columns import Inputs
    >>> X = np.linspace(0.0, 1.0, 5)[:, None]
    >>> two = Components(np.array([0, 1]), np.array([[0.2], [0.4]]), np.full(2, 1e-4), np.ones(2), np.log([0.5, 0.5]))
    >>> model = condition_components(Inputs.continuous(1), X, np.sin(6.0 * X), [two])
    >>> score = EnsembleLogEI(Ensemble.of(model), np.array([-0.5]), np.zeros(0))
    >>> bool(np.allclose(score.value(X + 0.1), model.log_expected_improvement(X + 0.1, np.array([-0.5]))[:, 0]))
    True
    """

    ensemble: Ensemble
    best: Array
    limits: Array
    evaluable: Chance | None = None
    reward: float = 0.0
    rule: Rule = "cei"

    def rough(self, evaluable: Chance | None) -> EnsembleLogEI:
        """A cheaper stand-in for a first search: one component per output, and one level to improve on."""
        heads = self.ensemble.heads()
        level = np.nan if np.isnan(self.best).all() else float(np.nanmean(self.best))
        best = np.full(heads.component.shape[1], level)
        return replace(self, ensemble=heads, best=best, evaluable=evaluable)

    def value(self, X: Array) -> Array:
        """(q,) scores of (q, d) points."""
        return self._evaluate(X, False)[0]

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        """(q,) scores and (q, d) gradients; zero for category columns."""
        return self._evaluate(X, True)

    def _evaluate(self, X: Array, with_gradient: bool) -> tuple[Array, Array]:
        ensemble = self.ensemble
        moments = ensemble.predictor.forward(X)
        sd_of = np.sqrt(np.maximum(moments.variance, SMALLEST_SD**2))
        mean, sd = moments.mean[ensemble.component, :, ensemble.vector], sd_of[ensemble.component]  # (R, S, q)
        terms, by_mean, by_sd = self._terms(mean, sd)
        value, shares = _mixed(terms, ensemble.log_weight, ensemble.first)  # (m, S, q), (R, S, q)
        by_mean *= shares
        by_sd *= shares
        if self.rule == "cei+" and len(self.limits):
            likely = value[1:] >= -LOG_2
            value[1:] = np.where(likely, 0.0, value[1:] + LOG_2)
            flat = np.repeat(likely, np.diff(ensemble.first[1:], append=len(terms)), axis=0)
            constraints = slice(ensemble.first[1], None)
            by_mean[constraints][flat] = 0.0
            by_sd[constraints][flat] = 0.0
        scores = value.sum(axis=0)  # (S, q)
        top = scores.max(axis=0)
        share = np.exp(scores - top)
        total = share.sum(axis=0)
        score = top + np.log(total / len(share))
        gradient = np.zeros_like(X)
        if with_gradient:
            share /= total
            floored = moments.variance <= SMALLEST_SD**2
            for_mean = np.zeros_like(moments.mean)
            for_mean[ensemble.component, :, ensemble.vector] = by_mean * share
            spread = np.zeros_like(moments.mean)
            spread[ensemble.component, :, ensemble.vector] = by_sd * share
            by_variance = np.where(floored, 0.0, spread.sum(axis=2) / (2.0 * sd_of))
            gradient = ensemble.predictor.backward(moments, for_mean, by_variance)
        if self.evaluable is not None:
            chance, slope = self.evaluable.log_chance(X, with_gradient)
            score, gradient = score + chance, gradient + slope
        return score, gradient

    def _terms(self, mean: Array, sd: Array) -> tuple[Array, Array, Array]:
        """(R, S, q) log EI or log P of every reading, and their derivatives in the mean and in the standard deviation."""
        first = self.ensemble.first
        end = first[1] if len(first) > 1 else len(mean)
        seen = ~np.isnan(self.best)
        terms, by_mean, by_sd = np.full_like(mean, self.reward), np.zeros_like(mean), np.zeros_like(mean)
        if seen.any():
            pick = slice(None) if seen.all() else seen
            gain = log_expected_improvement(mean[:end, pick], sd[:end, pick], self.best[seen][:, None])
            terms[:end, pick], by_mean[:end, pick], by_sd[:end, pick] = gain
        if len(self.limits):
            limits = np.repeat(self.limits, np.diff(first[1:], append=len(mean)))[:, None, None]
            terms[end:], by_mean[end:], by_sd[end:] = log_probability_below(mean[end:], sd[end:], limits)
        return terms, by_mean, by_sd


def _mixed(terms: Array, log_weight: Array, first: Places) -> tuple[Array, Array]:
    """(m, S, q) logarithms of weighted sums of exponentials of (R, S, q) terms, and the (R, S, q) share of each term."""
    if len(first) == len(terms):  # one reading per output
        return terms.copy(), np.ones_like(terms)
    sizes = np.diff(first, append=len(terms))
    weighted = terms + log_weight[:, None, None]
    top = np.maximum.reduceat(weighted, first, axis=0)
    shares = np.exp(weighted - np.repeat(top, sizes, axis=0))
    total = np.add.reduceat(shares, first, axis=0)
    shares /= np.repeat(total, sizes, axis=0)
    return np.asarray(top + np.log(total)), shares
