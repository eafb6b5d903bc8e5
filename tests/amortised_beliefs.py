"""Amortised posteriors of two columns that the tests of their BoTorch models share: mixtures that are none of their components."""

from __future__ import annotations

import numpy as np
import torch
from botorch.sampling.normal import SobolQMCNormalSampler
from torch import Tensor

from surrogates.amortised.components import Components
from surrogates.amortised.posterior import AmortisedGP, condition_components
from surrogates.amortised_botorch import AmortisedMixture
from surrogates.columns import Inputs
from surrogates.gp_mixture_posterior import GPMixturePosterior

SIZES = (5, 3, 4)


def components(count: int, seed: int, equal: bool = False, offset: float = 10.0) -> Components:
    """Hyperparameters that differ enough for a mixture to be none of its components."""
    rng = np.random.default_rng(seed)
    weight = np.full(count, 1.0 / count) if equal else rng.dirichlet(np.full(count, 2.0))
    return Components(
        rng.integers(3, size=count), np.exp(rng.normal(-0.5, 0.6, (count, 2))), np.exp(rng.normal(-3.0, 0.7, count)),
        np.exp(rng.normal(0.0, 0.5, count)), np.log(weight), offset,
    )  # fmt: skip


def believed(
    m: int = 2,
    n: int = 10,
    category: bool = False,
    known: bool = False,
    sizes: tuple[int, ...] = SIZES,
    equal: bool = False,
) -> AmortisedGP:
    """m functions of two columns after n rows, with different numbers of components."""
    rng = np.random.default_rng(3)
    X = rng.random((n, 2))
    if category:
        X[:, 1] = rng.integers(3, size=n)
    Z = np.column_stack([np.sin(5 * X[:, 0]) + X[:, 1], 3.0 * (X[:, 0] - X[:, 1]) ** 2, X.sum(1)])[:, :m]
    Z = (Z - Z.mean(0)) / Z.std(0)
    inputs = Inputs(("float", "category"), (0, 3), (0, 1)) if category else Inputs.continuous(2)
    variances = rng.uniform(0.0, 0.1, Z.shape) if known else None
    parts = [components(count, seed, equal) for seed, count in enumerate(sizes[:m])]
    return condition_components(inputs, X, Z, parts, variances)


def points(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).random((*shape, 2)))


def sampler(count: int = 64, seed: int = 0) -> SobolQMCNormalSampler:
    return SobolQMCNormalSampler(torch.Size([count]), seed=seed)


def mixture_of(model: AmortisedMixture, X: Tensor) -> GPMixturePosterior:
    posterior = model.posterior(X)
    assert isinstance(posterior, GPMixturePosterior)
    return posterior
