"""Many exact Gaussian processes over the same rows, in torch: joint moments with slopes in x, and more rows.

Process c has mean 0, covariance scale_c (k_c(r) + offset_c) with lengthscales of its own, and noise of its own. The told
rows come with their factors, from `surrogates.amortised` (L L^T = k + offset + noise, in units of the scale; Rasmussen and Williams 2006, algorithm
2.1). Further rows are conditioned on by the block form of the same factor, so they may be a t-batch, differ from process
to process in their values, and carry slopes: what fantasies need.

Places of a batch come first, then the C processes, then rows: (*b, C, q).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bbopt.errors import UsageError
from surrogates.amortised.components import KERNELS
from surrogates.columns import Inputs
from surrogates.columns_torch import features
from surrogates.kernels import Kernel
from surrogates.map_fit import JITTERS
from surrogates.predictor import FLOOR

if TYPE_CHECKING:
    from surrogates.amortised.posterior import AmortisedGP

NEAREST = 1e-30  # squared distance below which a Matern kernel is flat, so that its slope is a number


@dataclass(frozen=True, eq=False)
class Rows:
    """k further rows of C processes.

    X: (*b, k, d); Y: (*c, C, k); noise: (*, C, k) variances; points: (*b, 1, k, p) features; solved: (*b, C, n, k),
    L^-1 k(told, points); root: (*b, C, k, k) of what remains of the covariance; first (*c, C, n) and last (*c, C, k):
    weights of the told and of the further rows in a mean; total: (*c, C) log density of the further rows.
    """

    X: Tensor
    Y: Tensor
    noise: Tensor
    points: Tensor
    solved: Tensor
    root: Tensor
    first: Tensor
    last: Tensor
    total: Tensor


@dataclass(frozen=True, eq=False)
class Processes:
    """C processes after n rows, and after those in `rows`. Made by `processes`; never changed afterwards.

    kernel: C names; X: (n, d); rates: (C, p) inverse lengthscales per feature; scale: (C,); noise: (C,) variance relative
    to the scale; offset, centre: (C,); known: (C,) mean of the known noise variances; inverse: (C, n, n) of L; weights: (C, n) of the told rows in a mean.
    """

    inputs: Inputs
    kernel: tuple[Kernel, ...]
    X: Tensor
    rates: Tensor
    scale: Tensor
    noise: Tensor
    offset: Tensor
    centre: Tensor
    known: Tensor
    inverse: Tensor
    weights: Tensor
    rows: Rows | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        """C."""
        return len(self.kernel)

    @property
    def batch(self) -> torch.Size:
        """Shape of the batch of values that further rows have; () where there are none."""
        return torch.Size() if self.rows is None else self.rows.last.shape[:-2]

    def at(self, X: Tensor) -> Predicted:
        """What is believed at (*b, q, d) points, where b goes with the batch of the processes. Raises UsageError."""
        try:
            common(X.shape[:-2], self.batch)
        except ValueError:
            raise UsageError(f"expected a t-batch that goes with the batch of the model, {tuple(self.batch)}; got {tuple(X.shape[:-2])}") from None  # fmt: skip
        return Predicted(self, features(self.inputs, X)[..., None, :, :])

    def observed(self, extra: Tensor | None = None) -> Tensor:
        """(*, C, 1 or k) noise variances of an observation: extra (*, C, 1 or k) instead of the noise, or both known kinds."""
        return (self.scale * self.noise + self.known)[:, None] if extra is None else extra

    def given(self, X: Tensor, Y: Tensor, noise: Tensor | None = None) -> tuple[Processes, Tensor]:
        """The processes after k more rows (*b, k, d), and (*c, C) log densities of these rows before them.

        Y: (*c, C, k), values for every process; noise: (*, C, 1 or k) their variances, None: the processes' own.
        """
        variances = self.observed(noise)
        variances = variances.expand(common(variances.shape, Y.shape[-2:]))
        before = torch.zeros_like(self.scale) if self.rows is None else self.rows.total
        if self.rows is not None:  # earlier further rows are read again, with the new ones
            batch = common(self.rows.X.shape[:-2], X.shape[:-2])
            X = torch.cat([part.expand(*batch, *part.shape[-2:]) for part in (self.rows.X, X)], -2)
            Y, variances = _joined(self.rows.Y, Y), _joined(self.rows.noise, variances)
        points = features(self.inputs, X)[..., None, :, :]
        cross = self._between(points, self._base).mT  # (*b, C, n, k)
        solved = times(cross.mT, self.inverse.mT).mT
        rest = self._between(points, points) - solved.mT @ solved
        root = lower_root(rest + torch.diag_embed(variances / self.scale[:, None]))
        apart = Y - self.centre[:, None] - (cross.mT @ self.weights[..., None])[..., 0]
        white = _solved(root, apart[..., None])
        last = _solved(root.mT, white, upper=True)
        first = self.weights - (times(solved.mT, self.inverse).mT @ last)[..., 0]
        total = -0.5 * (white.square().sum((-1, -2)) / self.scale + (2.0 * math.pi * self.scale).log() * X.shape[-2])
        total = total - root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        rows = Rows(X, Y, variances, points, solved, root, first, last[..., 0], total)
        return replace(self, rows=rows), total - before

    def take(self, chosen: Tensor) -> Processes:
        """The processes at the places `chosen`."""
        names = ("rates", "scale", "noise", "offset", "centre", "known", "inverse", "weights")
        parts = {name: getattr(self, name)[chosen] for name in names}
        rows = self.rows
        if rows is not None:
            vectors = {name: getattr(rows, name)[..., chosen, :] for name in ("Y", "noise", "first", "last")}
            matrices = {name: getattr(rows, name)[..., chosen, :, :] for name in ("solved", "root")}
            rows = replace(rows, total=rows.total[..., chosen], **vectors, **matrices)
        return replace(self, kernel=tuple(self.kernel[c] for c in chosen.tolist()), rows=rows, **parts)

    @property
    def _base(self) -> Tensor:
        """(1, n, p) features of the told rows."""
        return features(self.inputs, self.X)[None]

    def _between(self, A: Tensor, B: Tensor) -> Tensor:
        """(*b, C, a, b) prior covariances, in units of the scale, between features (*b, 1, a, p) and (*b, 1, b, p)."""
        rates = self.rates[:, None, :]
        left, right = A * rates, B * rates
        r2 = left.square().sum(-1)[..., :, None] + right.square().sum(-1)[..., None, :]
        r2 = (r2 - 2.0 * times(left, right.mT)).clamp_min(0.0)
        names = sorted(set(self.kernel), key=KERNELS.index)
        if len(names) == 1:
            k = _correlation(names[0], r2)
        else:
            at = [torch.tensor([c for c, name in enumerate(self.kernel) if name == one]) for one in names]
            parts = [_correlation(one, r2[..., c, :, :]) for one, c in zip(names, at, strict=True)]
            k = torch.cat(parts, -3)[..., torch.cat(at).argsort(), :, :]
        return k + self.offset[:, None, None]


class Predicted:
    """Means (*b, C, q), variances and covariances of C processes at q points; each is computed when it is asked for."""

    def __init__(self, processes: Processes, points: Tensor, noise: Tensor | None = None) -> None:
        self.processes, self._points, self._noise = processes, points, noise

    def noisy(self, noise: Tensor) -> Predicted:
        """The same of observations with noise variances (*, C, 1 or q)."""
        return Predicted(self.processes, self._points, noise)

    @cached_property
    def mean(self) -> Tensor:
        """(*b, C, q)."""
        rows = self.processes.rows
        if rows is None:
            return (self._cross @ self.processes.weights[..., None])[..., 0] + self.processes.centre[:, None]
        apart: Tensor = (self._cross @ rows.first[..., None] + self._further @ rows.last[..., None])[..., 0]
        return apart + self.processes.centre[:, None]

    @cached_property
    def variance(self) -> Tensor:
        """(*b, C, q), positive."""
        known = sum(half.square().sum(-2) for half in self._halves)
        share = (1.0 + self.processes.offset[:, None] - known).clamp_min(FLOOR)
        value = self.processes.scale[:, None] * share
        return value if self._noise is None else value + self._noise

    @cached_property
    def covariance(self) -> Tensor:
        """(*b, C, q, q); the diagonal is `variance`."""
        if self._points.shape[-2] == 1:
            return self.variance[..., None]
        prior = self.processes._between(self._points, self._points)
        known = sum(half.mT @ half for half in self._halves)
        value = self.processes.scale[:, None, None] * (prior - known)
        return value - torch.diag_embed(value.diagonal(dim1=-2, dim2=-1) - self.variance)

    @cached_property
    def _cross(self) -> Tensor:
        """(*b, C, q, n)."""
        return self.processes._between(self._points, self.processes._base)

    @cached_property
    def _further(self) -> Tensor:
        """(*b, C, q, k)."""
        assert self.processes.rows is not None
        return self.processes._between(self._points, self.processes.rows.points)

    @cached_property
    def _halves(self) -> list[Tensor]:
        """(*b, C, n, q) and (*b, C, k, q): what the rows tell of the points."""
        first, rows = times(self._cross, self.processes.inverse.mT).mT, self.processes.rows
        if rows is None:
            return [first]
        return [first, _solved(rows.root, self._further.mT - rows.solved.mT @ first)]


def processes(belief: AmortisedGP) -> Processes:
    """All components of all outputs as processes, output after output, in the order of `belief.owner`.

    >>> from surrogates.amortised.components import Components
    >>> from surrogates.amortised.posterior import condition_components
    >>> X = np.linspace(0.0, 1.0, 6)[:, None]
    >>> three = Components(np.arange(3), np.full((3, 1), 0.4), np.full(3, 1e-3), np.ones(3), np.log(np.full(3, 1 / 3)))
    >>> many = processes(condition_components(Inputs.continuous(1), X, np.sin(6 * X), [three]))
    >>> bool(((many.at(torch.tensor([[0.3]], dtype=torch.float64)).mean - math.sin(1.8)).abs() < 0.1).all())
    True
    """
    predictor, owner = belief.predictor, belief.owner
    noise = np.concatenate([part.noise for part in belief.components]) ** 2 + belief.jitter
    known = np.zeros(len(owner)) if belief.variances is None else belief.variances.mean(axis=0)[owner]
    offset = np.repeat([part.offset for part in belief.components], [len(part) for part in belief.components])
    rates, weights = 1.0 / predictor.lengthscales[:, belief.inputs.owner], predictor.weights[:, :, 0]
    kernel = tuple(part.kernel_name(k) for part in belief.components for k in range(len(part)))
    arrays = (belief.X, rates, predictor.scale, noise, offset, predictor.mean, known, predictor.inverse, weights)
    X, *parts = (torch.from_numpy(np.array(part)) for part in arrays)
    return Processes(belief.inputs, kernel, X, *parts)


def times(left: Tensor, right: Tensor) -> Tensor:
    """left (*b, C, q, p) @ right (C, p, n) or (*b, C, p, n); one without b is not copied for every place of the batch.

    >>> times(torch.ones(5, 2, 3, 4), torch.ones(2, 4, 1)).shape
    torch.Size([5, 2, 3, 1])
    """
    if right.dim() > 3 or left.dim() == 3:
        return left @ right
    folded = left.movedim(-3, 0)
    product = folded.reshape(len(right), -1, left.shape[-1]) @ right
    return product.reshape(*folded.shape[:-1], right.shape[-1]).movedim(0, -3)


def common(*shapes: torch.Size) -> torch.Size:
    """The shape that all go with. Raises ValueError where there is none.

    >>> common(torch.Size([3, 1]), torch.Size([4]))
    torch.Size([3, 4])
    """
    return torch.Size(np.broadcast_shapes(*(tuple(shape) for shape in shapes)))


def distinct(places: Tensor) -> tuple[Tensor, Tensor]:
    """Rising distinct integers (k,), and for each of `places` where it is among them.

    >>> distinct(torch.tensor([5, 2, 5]))
    (tensor([2, 5]), tensor([1, 0, 1]))
    """
    values, at = np.unique(places.numpy(), return_inverse=True)
    return torch.from_numpy(values), torch.from_numpy(at.reshape(places.shape))


def lower_root(matrix: Tensor, least: float = 0.0) -> Tensor:
    """Lower Cholesky factors of (*b, q, q), each with as little jitter as works, from `least` on; of ones on the diagonal.

    >>> lower_root(torch.ones(2, 2, dtype=torch.float64)).round(decimals=3)
    tensor([[1., 0.],
            [1., 0.]], dtype=torch.float64)
    """
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype)
    jitter = torch.full(matrix.shape[:-2], least, dtype=matrix.dtype)
    for more in (*(j for j in JITTERS if j > least), 1.0):
        root: Tensor
        root, info = torch.linalg.cholesky_ex(matrix + jitter[..., None, None] * one)
        if not bool(info.any()):
            return root
        jitter = torch.where(info > 0, more, jitter)
    raise FloatingPointError("covariance of the points is not finite")


def _correlation(kernel: Kernel, r2: Tensor) -> Tensor:
    """As `surrogates.kernels.correlation`, with slopes."""
    if kernel == "rbf":
        return torch.exp(-0.5 * r2)
    s = r2.clamp_min(NEAREST).sqrt() * math.sqrt(3.0 if kernel == "matern32" else 5.0)
    polynomial = 1.0 + s if kernel == "matern32" else 1.0 + s + s.square() / 3.0
    return polynomial * torch.exp(-s)


def _solved(root: Tensor, right: Tensor, upper: bool = False) -> Tensor:
    """Solution for a triangular root, t-batches broadcast."""
    batch = common(root.shape[:-2], right.shape[:-2])
    expanded = (part.expand(*batch, *part.shape[-2:]) for part in (root, right))
    solution: Tensor = torch.linalg.solve_triangular(*expanded, upper=upper)
    return solution


def _joined(old: Tensor, new: Tensor) -> Tensor:
    """(*c, C, k) and (*c', C, k') as (*c'', C, k + k')."""
    batch = common(old.shape[:-1], new.shape[:-1])
    return torch.cat([part.expand(*batch, part.shape[-1]) for part in (old, new)], -1)
