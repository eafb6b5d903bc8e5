"""What the `tabpfn` package gets to see: the columns that vary, standardised targets, and our options.

The package refuses a single row, inputs that are all constant and constant targets, each in another way; here they are
found before it is asked, and anything that is not finite is refused.

>>> standard(np.array([2.0, 4.0, 6.0]))[2], standard(np.array([5.0, 5.0]))
(False, (5.0, 4.9999999999999996e-06, True))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import UsageError
from surrogates.columns import Inputs

Array = NDArray[np.float64]

POINT_MASS = 1e-6  # standard deviation, relative to the value, where all the told values are the same
LARGEST = 1e150  # magnitude of a target whose square is still a number


@dataclass(frozen=True)
class View:
    """What the package gets to see of the columns: those that vary, categories as they are or one-hot."""

    inputs: Inputs
    one_hot: bool
    kept: NDArray[np.intp]

    @classmethod
    def of(cls, inputs: Inputs, X: Array, *, one_hot: bool) -> View:
        """The columns of (n, d) told rows that vary in float32, which is what the networks compute in."""
        features = (inputs.features(X) if one_hot else X).astype(np.float32)
        return cls(inputs, one_hot, np.flatnonzero((features != features[:1]).any(axis=0)))

    @property
    def categories(self) -> list[int]:
        """Which of the kept columns are categories."""
        return [] if self.one_hot else [i for i, j in enumerate(self.kept) if self.inputs.kind[j] == "category"]

    def features(self, X: Array) -> Array:
        """(q, p) what the package sees of (q, d) rows."""
        return (self.inputs.features(X) if self.one_hot else X)[:, self.kept]

    def spread(self, by_feature: Array) -> Array:
        """(q, d) gradients in the columns from (q, p) gradients in the features; zero for categories."""
        owner = self.inputs.owner[self.kept]
        number = np.array([self.inputs.kind[j] != "category" for j in owner], dtype=bool)
        out = np.zeros((len(by_feature), self.inputs.dimension))
        out[:, owner[number]] = by_feature[:, number]
        return out


def options_of(view: View, estimators: int, random_state: int, device: str) -> dict[str, Any]:
    """What the package's two estimators are told, both alike."""
    if estimators < 1:
        raise UsageError(f"expected 1 or more estimators, got {estimators}")
    import torch

    return {
        "n_estimators": int(estimators),
        "random_state": int(random_state),
        "device": device,
        "softmax_temperature": 1.0,
        "inference_precision": torch.float32,
        "categorical_features_indices": view.categories,
        "inference_config": {"FINGERPRINT_FEATURE": False, "MIN_UNIQUE_FOR_NUMERICAL_FEATURES": 0},
    }


def standard(y: Array) -> tuple[float, float, bool]:
    """Mean, standard deviation, and whether there is none (then it is that of a point mass)."""
    largest = float(np.abs(y).max())
    unit = y / largest if largest > 0.0 else y
    centre, scale = float(unit.mean()) * largest, float(unit.std()) * largest
    if float(unit.std()) <= 1e-12 or scale < 1e-300:
        return centre, POINT_MASS * (abs(centre) if abs(centre) > 1e-200 else 1.0), True
    return centre, scale, False


def rows_of(X: Array, inputs: Inputs) -> Array:
    """(q, d) finite float64 rows of these columns, or UsageError."""
    X = np.asarray(X, dtype=float)
    if X.ndim != 2 or X.shape[1] != inputs.dimension:
        raise UsageError(f"expected rows of {inputs.dimension} columns, got an array of shape {X.shape}")
    refuse_unless_finite(X, "inputs")
    return X


def targets_of(Y: Array, rows: int) -> Array:
    """(n, m) finite float64 targets, one row each, or UsageError; (n,) is one output."""
    Y = np.asarray(Y, dtype=float)
    Y = Y[:, None] if Y.ndim == 1 else Y
    if not rows or Y.ndim != 2 or len(Y) != rows or not Y.shape[1]:
        raise UsageError(
            f"expected one row of targets for each row of inputs, and at least one, got {Y.shape} for {rows} rows"
        )
    refuse_unless_finite(Y, "targets")
    if np.abs(Y).max() > LARGEST:
        raise UsageError(
            f"expected targets of magnitude up to {LARGEST:g}, got {np.abs(Y).max():g}: transform them first"
        )
    return Y


def refuse_unless_finite(values: Array, what: str) -> None:
    """Raise UsageError naming the first entry that is not finite."""
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        value = values[row, column]
        raise UsageError(f"expected finite {what}, got {value} in row {row}, column {column}: leave such rows out")
