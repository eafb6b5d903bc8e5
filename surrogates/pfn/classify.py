"""Classification in context: the network reads labels as values -1 and 1, and its mass on either side is the answer.

It was trained on such tasks (`surrogates.prior.Prior.labels`), scored by the logarithm of that mass. More than two
classes are one against the rest, normalised. More rows than the network was trained for are dealt out over several
contexts with the classes in equal shares, and the contexts' probabilities are averaged: every row is read once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbopt.errors import ValueRefused
from surrogates.columns import Inputs
from surrogates.pfn.network import Network
from surrogates.pfn.posterior import PFNPosterior, checked_rows, fit_pfn

Array = NDArray[np.float64]
CONTEXT = 256  # rows of one context
SMALLEST = 1e-9  # probability


@dataclass(frozen=True, eq=False)
class PFNClasses:
    """Probabilities of k classes. Made by `fit_classes`; satisfies `surrogates.protocol.ClassPredictive`.

    classes: (k,) labels in rising order; contexts: posteriors of one output per class (two classes: one output).
    """

    classes: NDArray[np.int64]
    contexts: tuple[PFNPosterior, ...]
    inputs: Inputs

    def probabilities(self, X: Array) -> Array:
        """(q, k) probabilities at (q, d) rows."""
        X = checked_rows(self.inputs, X)
        if len(self.classes) == 1:
            return np.ones((len(X), 1))
        parts = []
        for context in self.contexts:
            above = -np.expm1(context.log_probability_below(X, np.zeros(context.outputs)))
            above = np.clip(above, SMALLEST, 1.0 - SMALLEST)
            parts.append(
                np.hstack([1.0 - above, above]) if len(self.classes) == 2 else above / above.sum(1, keepdims=True)
            )
        return np.asarray(np.mean(parts, axis=0))

    def log_second(self, features: Tensor) -> Tensor:
        """(q,) log probability of the second of two classes at (q, p) features, differentiable; 0 or -inf for one class."""
        if len(self.classes) == 1:
            return torch.full_like(features[:, 0], 0.0 if self.classes[0] > 0 else -torch.inf)
        logs = []
        for context in self.contexts:
            middle = context.normal.forward(torch.zeros(1, 1, dtype=torch.float64))
            mixture, _ = context.mixture(features[None])
            logs.append(mixture.log_above(middle.expand(1, len(features)))[0])
        return torch.logsumexp(torch.stack(logs), 0) - float(np.log(len(logs)))


def fit_classes(inputs: Inputs, X: Array, labels: NDArray[np.integer], network: Network | None = None) -> PFNClasses:
    """The class probabilities behind (n,) whole-number labels at (n, d) rows, n > 0.

    Raises ValueRefused for shapes that do not fit and for NaN and infinite inputs.

    >>> X = np.linspace(0.0, 1.0, 20)[:, None]
    >>> found = fit_classes(Inputs.continuous(1), X, (X[:, 0] > 0.5).astype(int))
    >>> found.probabilities(np.array([[0.1], [0.9]])).round(1).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    X, labels = checked_rows(inputs, X), np.asarray(labels)
    if labels.shape != (len(X),) or not len(X) or labels.dtype.kind not in "iub":
        raise ValueRefused(f"expected {len(X)} whole-number labels for {len(X)} rows, at least one; got {labels.dtype} of shape {labels.shape}")  # fmt: skip
    classes, index = np.unique(labels.astype(np.int64), return_inverse=True)
    if len(classes) == 1:
        return PFNClasses(classes, (), inputs)
    shown = range(1, 2) if len(classes) == 2 else range(len(classes))
    targets = np.column_stack([np.where(index == c, 1.0, -1.0) for c in shown])
    parts = -(-len(X) // CONTEXT)
    place = np.empty(len(X), dtype=np.intp)
    place[np.argsort(index, kind="stable")] = np.arange(len(X)) % parts
    contexts = tuple(fit_pfn(inputs, X[place == part], targets[place == part], network) for part in range(parts))
    return PFNClasses(classes, contexts, inputs)
