"""Warped inputs in the model of `gp` (`inputs="warped"`): when they are fitted, and what they go with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bbopt.errors import UsageError
from surrogates.columns import Inputs
from surrogates.input_warp import WarpedInputs, fit_input_warp
from surrogates.kernels import Kernel
from surrogates.map_fit import Fitted, Prior

Array = np.ndarray[Any, np.dtype[Any]]
LEAST = 5  # rows below which no warp is looked for


def check_inputs(inputs: str, batch: str, earlier: bool, lengthscales: str) -> None:
    """Raise UsageError where the options of `gp` beside `inputs` do not go with it."""
    if inputs not in ("plain", "warped"):
        raise UsageError(f"GP: expected inputs 'plain' or 'warped', got {inputs!r}")
    if inputs == "plain":
        return
    if batch in ("penalised", "thompson"):
        raise UsageError(f"GP: inputs 'warped' do not go with batch {batch!r}; take 'greedy', 'believer' or a liar")
    if earlier or lengthscales != "dimension":
        raise UsageError("GP: inputs 'warped' go neither with earlier studies nor with lengthscales 'sparse'")


def inputs_before(plain: Inputs, warm: Mapping[str, Any]) -> Inputs:
    """The columns as the last fit left them, or without a warp where there was none."""
    return WarpedInputs.of(plain, np.asarray(warm["concentrations"])) if "concentrations" in warm else plain


def warped_inputs(
    plain: Inputs, before: Inputs, X: Array, Z: Array, priors: Sequence[Prior], fitted: Sequence[Fitted], kernel: Kernel,
    variances: Array | None, most: int,
) -> tuple[Inputs, list[Fitted]]:  # fmt: skip
    """The most probable warp of the columns, with the outputs' hyperparameters under it.

    before: the columns of the last fit; most: rows from which on the fit sees a part of them.
    """
    if len(X) < LEAST:
        return before, list(fitted)
    few = np.arange(len(X)) if len(X) <= most else np.unique(np.linspace(0, len(X) - 1, most).astype(int))
    start = np.array([before.a, before.b]) if isinstance(before, WarpedInputs) else None
    known = None if variances is None else variances[few]
    return fit_input_warp(plain, X[few], Z[few], priors, fitted, kernel, known, start)
