"""Every acquisition of `gp` by its name, and what each does about points that are out without an answer.

    logei, nei   log EI integrated over noise and pending points (`constrained`; Ament et al. 2023, Letham et al. 2019)
    cei+, penalty  the same with the rules of Yu, Picard, Ahmed 2024 (`constrained`, `bbopt.strategies.penalty`)
    ei           EI below the best posterior mean; pending points have their means
    frazier      the gain in the best posterior mean over evaluated points (`noisy_ei`), pending ones among them; under noise,
                 without which it is EI
    kg           the gain in the best posterior mean over the whole domain, on a set of rows (knowledge gradient)
    one-shot-kg  the same by BoTorch's joint optimisation over fantasies (`botorch_scores`), for boxes without constraints
    pi, ucb(beta=4), mes, gibbon   gains in the formula of log EI (`gains`), integrated like it; of the two entropies, mes
                 takes a value for exact and gibbon knows of its noise; their minima are drawn with pending points at their means
    jes          joint entropy search (`joint_entropy`)
    pes          predictive entropy search, BoTorch's (`botorch_scores`)
    thompson     the best point along a path (`thompson`)
    pof          the probability of feasibility alone

Where nothing else is said, pending points have their posterior means. All are multiplied by the probability of every
constraint. Those that draw minima or paths, and the two of BoTorch, know the told values, not derivatives or earlier studies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bbopt.acquisition.constrained import Chance, ConstrainedLogEI, incumbents
from bbopt.acquisition.domain import Domain
from bbopt.acquisition.gains import Gain, LowerBound, MaxValueEntropy
from bbopt.acquisition.joint_entropy import LEAST_NOISE, JointEntropy
from bbopt.acquisition.minima import sample_minima
from bbopt.acquisition.noisy_ei import NoisyEI
from bbopt.acquisition.search import Score, around
from bbopt.acquisition.thompson import PathScore
from bbopt.errors import UsageError
from surrogates.gp import GaussianProcess
from surrogates.improvement import log_expected_improvement, log_probability_below
from surrogates.paths import draw_paths

Array = NDArray[np.float64]
DRAWN = ("logei", "nei", "cei+", "penalty", "pi", "ucb", "mes", "gibbon")  # formulas of `constrained`
OTHERS = ("ei", "frazier", "kg", "one-shot-kg", "jes", "pes", "thompson", "pof")
NAMES = (*DRAWN, *OTHERS)
OF_VALUES = ("mes", "gibbon", *OTHERS)  # which need the plain form of the posterior
MINIMA = 32  # draws of the minimum
BEST_ROWS, SPREAD_ROWS, NEAR_ROWS = 30, 64, 2  # over which the knowledge gradient looks for the best mean


def parse(text: str) -> tuple[str, float | None]:
    """The name and, for ucb, beta. Raises UsageError for anything else.

    >>> parse("ucb(beta=9)"), parse("ucb"), parse("mes")
    (('ucb', 9.0), ('ucb', 4.0), ('mes', None))
    """
    found = re.fullmatch(r"ucb(?:\(beta=([0-9.eE+-]+)\))?", text) if isinstance(text, str) else None
    if found:
        try:
            beta = 4.0 if found[1] is None else float(found[1])
        except ValueError:
            beta = float("nan")
        if 0.0 <= beta < float("inf"):
            return "ucb", beta
        raise UsageError(f"GP: expected beta of 'ucb(beta=...)' as a finite number of at least 0, got {text!r}")
    elif text in NAMES:
        return text, None
    raise UsageError(f"GP: expected acquisition {', '.join(NAMES)}, or text like 'ucb(beta=4)'; got {text!r}")


@dataclass(frozen=True)
class Scene:
    """What an ask knows when it chooses a score.

    gp: posterior of the objective (0) and constraints, which hold at or below `limits` (c,); noisy: (1 + c,) bool; pending:
    (p, D); centres: (a, D) good rows, best first; evaluable: where points can be evaluated, or None.
    """

    gp: GaussianProcess
    noisy: NDArray[np.bool_]
    pending: Array
    limits: Array
    centres: Array
    domain: Domain
    evaluable: Chance | None = None

    @property
    def noise(self) -> float:
        """The variance of a value of the objective about the function, at a point like those told."""
        known = 0.0 if self.gp.variances is None else float(np.median(self.gp.variances[:, 0]))
        return self.gp.fitted[0].noise + known if self.noisy[0] else 0.0

    def believed(self) -> GaussianProcess:
        """The process of the told values, given that pending points have their posterior means."""
        gp = self.gp.of_values()
        if not len(self.pending):
            return gp
        values, _ = gp.mean_variance(self.pending)
        return gp.given(self.pending, values, None if gp.variances is None else np.zeros_like(values))

    def minima(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Places (k, D) and values (k,) of drawn minima."""
        return sample_minima(self.believed(), self.limits, self.domain, self.centres, MINIMA, rng)


class OneShot(NoisyEI):
    """The knowledge gradient whose largest point BoTorch finds together with the best points of its fantasies."""

    def candidates(self, domain: Domain, rng: np.random.Generator) -> Array:
        """(1, D) that point."""
        from bbopt.acquisition.botorch_scores import one_shot_candidates

        return one_shot_candidates(self.model, domain, rng)


def check_task(text: str, constraints: int, box: bool) -> None:
    """Raise UsageError for an acquisition that means nothing for a task; box: of numbers without conditions."""
    name, _ = parse(text)
    if name == "pof" and not constraints:
        raise UsageError("GP: acquisition 'pof' is the probability of feasibility: the task has no constraints")
    if name == "one-shot-kg" and (constraints or not box):
        raise UsageError(
            "GP: acquisition 'one-shot-kg' is for exact values over boxes of numbers without constraints; 'kg' is for all tasks"
        )


def gain_of(name: str, beta: float | None, scene: Scene, rng: np.random.Generator) -> Gain:
    """What a point is worth by the objective, for the names in `DRAWN`."""
    if name == "pi":
        return log_probability_below
    if name == "ucb":
        assert beta is not None
        return LowerBound(beta)
    if name in ("mes", "gibbon"):
        return MaxValueEntropy(scene.minima(rng)[1], scene.noise, bound=name == "gibbon")
    return log_expected_improvement


def score_of(name: str, scene: Scene, rng: np.random.Generator) -> Score:
    """The score by name, for the names in `OTHERS`."""
    limits, evaluable = scene.limits, scene.evaluable
    if name == "thompson":
        return PathScore(draw_paths(scene.gp.of_values(), 1, rng), limits, evaluable)
    gp = scene.believed() if len(scene.pending) else scene.gp
    if name == "frazier":
        return NoisyEI.of(gp, gp.X, limits, evaluable)
    if name == "kg":
        return NoisyEI.of(gp, _rows(scene, gp, rng), limits, evaluable)
    if name == "one-shot-kg":
        return OneShot.of(scene.believed(), _rows(scene, gp, rng), limits, evaluable)
    gp = scene.believed()
    if name == "jes":
        rows, minima = scene.minima(rng)
        means, variances = gp.mean_variance(rows)
        sure = (
            variances[:, 0] <= LEAST_NOISE * gp.fitted[0].scale
        )  # at a told row: the path misses its value by more than is left
        minima = np.where(sure, np.minimum(minima, means[:, 0]), minima)
        return JointEntropy(gp.predictor, rows, minima, limits, scene.noise, evaluable)
    if name == "pof":
        return ConstrainedLogEI(gp.predictor, np.array([np.nan]), limits, evaluable)
    if name == "ei":
        means = gp.mean_variance(gp.X)[0]
        best = incumbents(means[:, :1], np.asarray((means[:, 1:] <= limits).all(axis=1))[:, None])
        return ConstrainedLogEI(gp.predictor, best, limits, evaluable)
    from bbopt.acquisition.botorch_scores import predictive_entropy

    return predictive_entropy(gp, scene.minima(rng)[0], limits, evaluable)


def _rows(scene: Scene, gp: GaussianProcess, rng: np.random.Generator) -> Array:
    """Rows over which the best mean is sought, before and after a value is known: the best told (and pending) ones, others
    around them and over the domain."""
    domain = scene.domain
    best = gp.X[np.argsort(gp.mean_variance(gp.X)[0][:, 0], kind="stable")[:BEST_ROWS]]
    near = around(scene.centres, domain, NEAR_ROWS, rng) if len(scene.centres) else best[:0]
    return np.concatenate([best, near, domain.sample(SPREAD_ROWS, rng)])
