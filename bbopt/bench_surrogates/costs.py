"""CPU seconds of a surrogate's fit alone, on one thread, without any search: amortised, our fast fit, BoTorch's default."""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from surrogates.amortised.fit import fit_amortised
from surrogates.amortised.network import HyperNetwork
from surrogates.columns import Inputs
from surrogates.gp import fit_gp
from surrogates.map_fit import Prior

__all__ = ["CASES", "LIMITS", "cost"]

Array = NDArray[np.float64]
CASES = {"n100-d6": (100, 6, 1), "n300-d20": (300, 20, 1), "n100-d8-m16": (100, 8, 16)}
"""Rows, columns, outputs."""
LIMITS = {"n100-d6": 0.03, "n300-d20": 0.20, "n100-d8-m16": 0.30}
"""CPU seconds that the amortised process may take."""
REPEATS = 5


def cost(case: str, who: Literal["amortised", "gp", "botorch"], network: HyperNetwork | None = None) -> dict[str, Any]:
    """Median and least seconds of a fit that starts from nothing; BoTorch's is made once, and None where it is not installed.

    >>> cost("n100-d6", "gp")["least"] > 0.0
    True
    """
    n, d, m = CASES[case]
    X, Z = _data(n, d, m)
    inputs = Inputs.continuous(d)
    if who == "botorch":
        if importlib.util.find_spec("botorch") is None:
            return {"median": None, "least": None, "repeats": 0}
        return _timed(lambda: _botorch(X, Z), 1)
    if who == "gp":
        return _timed(lambda: fit_gp(inputs, X, Z, [Prior.noiseless(d)] * m), REPEATS)
    fit_amortised(inputs, X[:8], Z[:8], network=network)  # whatever a first call costs
    return _timed(lambda: fit_amortised(inputs, X, Z, network=network), REPEATS)


def _data(n: int, d: int, m: int) -> tuple[Array, Array]:
    """Uniform rows, and smooth functions of them of mean 0 and standard deviation 1."""
    rng = np.random.default_rng([n, d, m])
    X = rng.random((n, d))
    along = X @ rng.standard_normal((d, m))
    Z = np.sin(2.0 * along) + 0.5 * along + ((X[:, :, None] - rng.random((d, m))) ** 2).sum(axis=1)
    return X, (Z - Z.mean(axis=0)) / Z.std(axis=0)


def _timed(work: Callable[[], object], repeats: int) -> dict[str, Any]:
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return {"median": float(np.median(seconds)), "least": min(seconds), "repeats": repeats}


def _botorch(X: Array, Z: Array) -> None:
    import torch
    from botorch.fit import fit_gpytorch_mll
    from botorch.models.gp_regression import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for z in torch.as_tensor(Z).T:
            model = SingleTaskGP(torch.as_tensor(X), z[:, None])
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
