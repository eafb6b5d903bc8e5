"""The amortised Gaussian process: a network proposes hyperparameters, exact algebra weighs them, and nothing is iterated long.

`fit_amortised` reads the told rows once (`surrogates.amortised.network`), draws hyperparameters and weighs them
(`surrogates.amortised.proposal`), and gives the weighted set as a posterior. Where few draws carry all the weight, the
proposal was off: one with wider tails follows, and if that does not help, the weights are made more even, with the reason
recorded. (The most probable hyperparameters alone, as a fit would have them, were tried in their place: on tasks where the
guard speaks they lost by nats what the uncertain mixture keeps.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaincinv

from bbopt.errors import UsageError
from surrogates.amortised.components import Components, Diagnosis
from surrogates.amortised.conditioning import invert_triangle
from surrogates.amortised.evidence import Evidence, SquaredDifferences
from surrogates.amortised.hyperprior import Hyperprior
from surrogates.amortised.lessons import read
from surrogates.amortised.network import HyperNetwork
from surrogates.amortised.posterior import AmortisedGP, condition_components
from surrogates.amortised.proposal import Believed, Parts, tempered, weigh, widened
from surrogates.amortised.shipped import shipped
from surrogates.amortised.thinning import thinned
from surrogates.columns import Inputs
from surrogates.training.threads import limited_threads

__all__ = ["DRAWS", "fit_amortised", "propose_components"]

Array = NDArray[np.float64]
DRAWS, KEEP = 64, 32
DIRECT = 300  # rows up to which all of them say what the hyperparameters are; beyond, as many of them
FEW_OUTPUTS = 4  # beyond which each gets half as many draws
READ, READ_OF_MANY = (
    128,
    64,
)  # rows that the network reads at most, as many as it was trained for, or of many outputs; the exact part uses all
LEAST = 4.0  # effective draws below which the network was off
WIDER_TAIL = 2.0  # factor of variances of the second proposal, where the first was off
GOLDEN = 0.6180339887498949
LARGEST, LEAST_WIDTH = 1e151, 1e-150  # of values and of their range: variances are squares of those
NEGLIGIBLE = 1e-3  # share of the weight that may be left away


def fit_amortised(
    inputs: Inputs,
    X: Array,
    Z: Array,
    priors: Sequence[Hyperprior] | None = None,
    variances: Array | None = None,
    draws: int | None = None,
    keep: int = KEEP,
    network: HyperNetwork | None = None,
) -> AmortisedGP:
    """The posterior of m outputs Z (n, m) at n >= 1 rows X (n, d), hyperparameters integrated out.

    priors: what is believed of each output's hyperparameters; deterministic functions unless said otherwise.
    variances: (n, m) known noise variances. draws: of hyperparameters per output, at least 8; None: 64, or 32 of each of
    more than four outputs. keep: how many of them predict at most, in the name of all, at least 1. network: that which
    comes with the package unless another is given.
    Hyperparameters come from at most 300 rows, evenly spread; predictions from all.
    The same values in other units, or rows in another order, give the same posterior; so do columns in another order,
    wherever they differ in what the data say. Values of different size by less than 1e-150 count as equal.
    Raises UsageError for shapes that do not agree, and numbers that are not finite, negative variances or beyond 1e151.

    >>> X = np.linspace(0.0, 1.0, 8)[:, None]
    >>> posterior = fit_amortised(Inputs.continuous(1), X, np.sin(6.0 * X))
    >>> bool(abs(posterior.mean_variance(np.array([[0.4]]))[0][0, 0] - np.sin(2.4)) < 0.02)
    True
    """
    if keep < 1:
        raise UsageError(f"expected at least 1 draw to keep, got {keep}")
    rows, targets = np.asarray(X, dtype=float), np.asarray(Z, dtype=float)
    noise = None if variances is None else np.asarray(variances, dtype=float)
    _check(inputs, rows, targets, noise)
    if len(rows) > DIRECT:
        few = np.sort(_order(rows, targets)[np.linspace(0, len(rows) - 1, DIRECT).round().astype(int)])
        found, _ = _find(inputs, rows[few], targets[few], priors, None if noise is None else noise[few], draws, network)
        made = [each.at_most(keep) for each in found]
        posterior = condition_components(inputs, rows, targets, [each.components() for each in made], noise)
        return replace(posterior, diagnosis=tuple(each.diagnosis for each in made))
    found, order = _find(inputs, rows, targets, priors, noise, draws, network)
    made = [each.at_most(keep) for each in found]
    inverse = _inverses([L for each in made for L in each.factors()])[:, :, np.argsort(order)]
    jitter = np.concatenate([each.jitter() for each in made])
    components = tuple(each.components() for each in made)
    return AmortisedGP(
        inputs, rows, targets, noise, components, inverse, jitter, tuple(each.diagnosis for each in made)
    )


def propose_components(
    inputs: Inputs,
    X: Array,
    Z: Array,
    priors: Sequence[Hyperprior] | None = None,
    variances: Array | None = None,
    draws: int | None = None,
    network: HyperNetwork | None = None,
) -> tuple[tuple[Components, ...], tuple[Diagnosis, ...]]:
    """Weighted hyperparameters of every output and how they were found, for who conditions on a few of them only.

    Arguments and errors are those of `fit_amortised`; all rows say what the hyperparameters are, however many.

    >>> X = np.linspace(0.0, 1.0, 8)[:, None]
    >>> (components,), (diagnosis,) = propose_components(Inputs.continuous(1), X, np.sin(6.0 * X))
    >>> components.dimension, diagnosis.how
    (1, 'network')
    """
    noise = None if variances is None else np.asarray(variances, dtype=float)
    rows, targets = np.asarray(X, dtype=float), np.asarray(Z, dtype=float)
    _check(inputs, rows, targets, noise)
    found, _ = _find(inputs, rows, targets, priors, noise, draws, network)
    made = [each.at_most(len(each.belief.v)) for each in found]
    return tuple(each.components() for each in made), tuple(each.diagnosis for each in made)


@dataclass(frozen=True, eq=False)
class _Found:
    """The draws of one output that are kept, by number, with their weights, and the units of the values."""

    belief: Believed
    diagnosis: Diagnosis
    prior: Hyperprior
    unit: _Units
    kept: NDArray[np.intp]
    weight: Array

    def at_most(self, keep: int) -> _Found:
        """So many that stand for all (see `surrogates.amortised.thinning`), but those that together weigh next to nothing."""
        weight = np.exp(self.belief.log_weight)
        order = np.argsort(-weight, kind="stable")
        count = int(np.searchsorted(weight[order].cumsum(), 1.0 - NEGLIGIBLE)) + 1
        weight[order[count:]] = 0.0
        kept, weight = thinned(weight, keep, self.belief.v.sum(axis=1))
        return replace(self, kept=kept, weight=weight)

    def components(self) -> Components:
        """The hyperparameters, in the values' own units."""
        scale = np.array([_variance(self.belief, int(k), self.prior) for k in self.kept])
        v = self.belief.v[self.kept]
        made = Components(
            self.belief.kernel[self.kept], self.prior.lengthscales(v), self.prior.noises(v),
            scale * self.unit.width**2, np.log(self.weight), self.prior.offset, self.unit.centre,
        )  # fmt: skip
        return made.weighted(made.log_weight)

    def factors(self) -> list[Array]:
        """Cholesky factors of the rows in the order in which they were read."""
        return [L for k in self.kept if (L := self.belief.likelihoods[k].factor) is not None]

    def jitter(self) -> Array:
        """What is in the diagonals of the factors beside the noise."""
        return np.array([self.belief.likelihoods[k].jitter for k in self.kept])


def _find(
    inputs: Inputs, rows: Array, targets: Array, priors: Sequence[Hyperprior] | None, noise: Array | None,
    draws: int | None, network: HyperNetwork | None,
) -> tuple[list[_Found], NDArray[np.intp]]:  # fmt: skip
    """Weighted draws for every output, and the order in which the rows were read. The data are checked."""
    outputs = targets.shape[1]
    believed = [Hyperprior()] * outputs if priors is None else list(priors)
    count = (DRAWS if outputs <= FEW_OUTPUTS else DRAWS // 2) if draws is None else draws
    if len(believed) != outputs or count < 8:
        raise UsageError(
            f"expected a prior for each of {outputs} outputs and at least 8 draws; got {len(believed)}, {count}"
        )
    units = [_Units.of(targets[:, j], prior) for j, prior in enumerate(believed)]
    z = np.stack([unit.forward(targets[:, j]) for j, unit in enumerate(units)], axis=1)
    order = _order(rows, z)
    z = z[order]
    differences = SquaredDifferences(inputs, rows[order])
    densities = _propose(inputs, rows[order], differences, z, believed, shipped()[0] if network is None else network)
    found = []
    for j, (prior, unit) in enumerate(zip(believed, units, strict=True)):
        known = None if noise is None else noise[order, j] / unit.width**2
        belief, diagnosis = _weighed(Evidence(differences, z[:, j], prior, known), densities[j], count)
        found.append(_Found(belief, diagnosis, prior, unit, np.arange(len(belief.v)), np.exp(belief.log_weight)))
    return found, order


def _check(inputs: Inputs, X: Array, Z: Array, variances: Array | None) -> None:
    """UsageError unless these are data: shapes that agree, numbers that are finite and not too large to be squared."""
    shapes = [X.shape, Z.shape, *([] if variances is None else [variances.shape])]
    n, d, m = X.shape[0] if X.ndim else 0, inputs.dimension, Z.shape[-1] if Z.ndim else 0
    if not (n and d and m) or shapes != [(n, d), (n, m), (n, m)][: len(shapes)]:
        raise UsageError(
            f"expected n > 0 rows X (n, {d}) of the inputs, values Z (n, m) with m > 0, and variances (n, m) or None; got"
            f" shapes {', '.join(map(str, shapes))}"
        )
    wrong = {
        "finite inputs X": int((~np.isfinite(X)).sum()),
        f"finite values Z up to {LARGEST:g}": int((~(np.abs(Z) <= LARGEST)).sum()),
        "finite variances of at least 0": 0 if variances is None else int((~(variances >= 0.0) | np.isinf(variances)).sum()),
    }  # fmt: skip
    for expected, count in wrong.items():
        if count:
            raise UsageError(f"expected {expected}; {count} numbers are not; leave their rows out, or rescale")


def _order(X: Array, z: Array) -> NDArray[np.intp]:
    """(n,) an order of the rows that neither that in which they came, nor that of columns, nor units of values change.

    By the sum of their coordinates, then by these, the least first, then by the values.
    """
    ascending = np.sort(X, axis=1)
    return np.lexsort((*z.T[::-1], *ascending.T[::-1], ascending.sum(axis=1)))


@dataclass(frozen=True)
class _Units:
    """Centre and width by which an output's values are standardised."""

    centre: float
    width: float

    @classmethod
    def of(cls, y: Array, believed: Hyperprior) -> _Units:
        """Mean and standard deviation, or 0 and 1 where the process's own are known; the width of equal values is 1."""
        if believed.standard:
            return cls(0.0, 1.0)
        low, high = float(y.min()), float(y.max())
        largest = max(abs(low), abs(high))
        if high - low < LEAST_WIDTH:  # also the mean of equal values need not be exactly theirs
            return cls(low, 1.0)
        scaled = y / largest  # whose squares neither overflow nor vanish
        return cls(largest * float(scaled.mean()), largest * float(scaled.std()))

    def forward(self, y: Array) -> Array:
        """Standardised values."""
        return np.asarray((y - self.centre) / self.width)


def _propose(
    inputs: Inputs, X: Array, differences: SquaredDifferences, z: Array, believed: Sequence[Hyperprior], network: HyperNetwork
) -> list[Parts]:  # fmt: skip
    """The network's density for each output; outputs of which the same is believed are read together.

    Of more rows than it was trained for it reads as many as it was, evenly over their order.
    """
    n, d = X.shape
    most = READ if z.shape[1] <= FEW_OUTPUTS else READ_OF_MANY
    seen = np.arange(n) if n <= most else np.linspace(0, n - 1, most).round().astype(int)
    pairs = differences.pairs.reshape(d, n, n)[:, seen[:, None], seen]
    place = [
        max(levels - 1, 1) if kind in ("category", "ordered") else 1
        for kind, levels in zip(inputs.kind, inputs.levels, strict=True)
    ]
    shown = torch.from_numpy(X[seen] / np.array(place, dtype=float))[None]
    found: dict[int, Parts] = {}
    for prior in dict.fromkeys(believed):
        own = [j for j, each in enumerate(believed) if each == prior]
        with torch.inference_mode(), limited_threads(1):
            reading = read(
                shown, torch.from_numpy(pairs)[None], torch.from_numpy(z[seen][:, own].T.copy())[None], prior
            )
            density = network(reading, prior.learns_noise)
        names = ("log_part", "log_kernel", "mean", "log_sd", "loading")
        arrays = [getattr(density, name).double().numpy() for name in names]
        for row, j in enumerate(own):
            found[j] = Parts(*(part[row] for part in arrays))
    return [found[j] for j in range(len(believed))]


def _weighed(evidence: Evidence, parts: Parts, draws: int) -> tuple[Believed, Diagnosis]:
    """Weighted draws; where few of them count, from wider tails; where that does not help, with evener weights."""
    belief = weigh(evidence, parts, draws)
    if belief.ess >= LEAST:
        return belief, Diagnosis(belief.ess, "network")
    again = widened(evidence, parts, belief, WIDER_TAIL)
    words = f"only {belief.ess:.1f} of {draws} draws from the network's proposal counted"
    if again.ess >= LEAST:
        return again, Diagnosis(again.ess, "refined", f"{words}; with wider tails {again.ess:.1f} do")
    reason = f"{words}, and {again.ess:.1f} with wider tails; weights were made even until {LEAST:g} do"
    return tempered(again, LEAST), Diagnosis(again.ess, "tempered", reason)


def _inverses(factors: list[Array]) -> Array:
    """(K, n, n) inverses of Cholesky factors."""
    inverse = np.zeros((len(factors), *factors[0].shape))
    for L, out in zip(factors, inverse, strict=True):
        invert_triangle(L, out)
    return inverse


def _variance(belief: Believed, draw: int, prior: Hyperprior) -> float:
    """The process's variance under a draw: from its posterior, at a place that the number of the draw says.

    Where noise variances are known it is the one that they were divided by.
    """
    if prior.standard:
        return 1.0
    found = belief.likelihoods[draw]
    if found.variance is not None:
        return found.variance
    place = (0.5 + draw * GOLDEN) % 1.0
    return float(found.scale / gammaincinv(found.shape, min(max(place, 1e-6), 1.0 - 1e-6)))
