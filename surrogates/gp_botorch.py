"""Our Gaussian process as BoTorch models: the same data and hyperparameters, the same posterior.

A Gaussian process of one output becomes a SingleTaskGP; several become a ModelListGP with one SingleTaskGP each,
because every output has its own lengthscales, scale, noise and jitter. What was added to the diagonal (noise, known
variances, nugget, jitter) is the noise of the likelihood. A category column takes the indices 0, 1, ... that ours
takes; an input transform turns it into one indicator per level, each with the column's lengthscale, which is the
Hamming-type kernel of `surrogates.columns` for both kernels; an ordered column is turned into its places there. The lengthscale prior is BoTorch's; parameters are frozen,
because the model is to be used, not fitted again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import MissingPackage, UsageError

try:
    with warnings.catch_warnings():
        # linear_operator compiles two functions with it on import, which torch 2.9 and later deprecates
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        import torch
        from botorch.exceptions.warnings import InputDataWarning
        from botorch.models.gp_regression import SingleTaskGP
        from botorch.models.model_list_gp_regression import ModelListGP
        from botorch.models.transforms.input import InputTransform, NumericToCategoricalEncoding
        from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
        from gpytorch import settings
        from gpytorch.constraints import Positive
        from gpytorch.kernels import ScaleKernel
        from gpytorch.likelihoods import FixedNoiseGaussianLikelihood, GaussianLikelihood
        from gpytorch.means import ConstantMean
except ImportError as error:
    raise MissingPackage(
        f"expected torch and BoTorch for a BoTorch model, got {error}; install them with pip install 'bbopt[botorch]'"
    ) from error

from surrogates.columns_torch import features

if TYPE_CHECKING:
    from surrogates.columns import Inputs
    from surrogates.gp import GaussianProcess

Array = NDArray[np.float64]


def to_botorch(gp: GaussianProcess) -> SingleTaskGP | ModelListGP:
    """A BoTorch model with the data, the hyperparameters and the posterior of `gp`, in evaluation mode.

    A SingleTaskGP where there is one output, else a ModelListGP of them. All tensors are float64 on the CPU, targets
    are in the units of `gp` (no outcome transform), parameters have `requires_grad` False.

    >>> from surrogates.columns import Inputs
    >>> from surrogates.gp import fit_gp
    >>> from surrogates.map_fit import Prior
    >>> X = np.linspace(0.0, 1.0, 6)[:, None]
    >>> gp = fit_gp(Inputs.continuous(1), X, np.sin(6 * X), [Prior.botorch(1)])
    >>> theirs = to_botorch(gp).posterior(torch.tensor([[0.3]], dtype=torch.float64)).mean
    >>> bool(abs(theirs.item() - gp.mean_variance(np.array([[0.3]]))[0].item()) < 1e-9)
    True
    """
    if gp.inputs.rates(gp.X[:1]) is not None:
        raise UsageError("botorch_model: expected inputs without a warp, got warped ones; take GP(inputs='plain')")
    models = [_single(gp, j) for j in range(gp.outputs)]
    model = models[0] if len(models) == 1 else ModelListGP(*models)
    model.requires_grad_(False)
    model.eval()
    return model


def _single(gp: GaussianProcess, output: int) -> SingleTaskGP:
    fitted, inputs = gp.fitted[output], gp.inputs
    covariance = get_covar_module_with_dim_scaled_prior(len(inputs.owner), use_rbf_kernel=gp.kernel == "rbf").double()
    covariance.lengthscale = _tensor(fitted.lengthscales[inputs.owner])
    if fitted.scale != 1.0:
        covariance = ScaleKernel(covariance).double()
        covariance.outputscale = _tensor(fitted.scale)
    mean = ConstantMean().double()  # before the value is set, or it is rounded to single precision
    mean.constant = _tensor(fitted.mean)
    diagonal = fitted.noise + (fitted.nugget + float(gp.jitter[output])) * fitted.scale
    if gp.variances is None:
        likelihood = GaussianLikelihood(noise_constraint=Positive(transform=None)).double()
        likelihood.noise = _tensor(diagonal)
    else:
        with settings.min_fixed_noise(double_value=0.0):  # while it is made, or small variances are rounded up to 1e-6
            likelihood = FixedNoiseGaussianLikelihood(_tensor(gp.variances[:, output] + diagonal))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputDataWarning)  # targets are standardised by their owner, or on purpose not
        return SingleTaskGP(
            _tensor(gp.X),
            _tensor(gp.Z[:, output : output + 1]),
            likelihood=likelihood,
            covar_module=covariance,
            mean_module=mean,
            outcome_transform=None,
            input_transform=_encoding(gp),
        )


class _Features(InputTransform):
    """Columns as the features of `surrogates.columns`: BoTorch's own encoding knows indicators alone, not places."""

    transform_on_train = transform_on_eval = transform_on_fantasize = True
    is_one_to_many = False

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.inputs = inputs

    def transform(self, X: torch.Tensor) -> torch.Tensor:
        return features(self.inputs, X)

    def equals(self, other: InputTransform) -> bool:
        return isinstance(other, _Features) and other.inputs == self.inputs


def _encoding(gp: GaussianProcess) -> InputTransform | None:
    """The map from columns to features; a category with a single level may stay a number, as it never differs."""
    inputs = gp.inputs
    if "ordered" in inputs.kind:
        return _Features(inputs)
    columns = {j: n for j, n in enumerate(inputs.levels) if inputs.kind[j] == "category" and n > 1}
    if not columns:
        return None
    encoders: dict[int, Callable[[torch.Tensor], torch.Tensor]] = {
        j: partial(torch.nn.functional.one_hot, num_classes=n) for j, n in columns.items()
    }
    return NumericToCategoricalEncoding(inputs.dimension, columns, encoders)


def _tensor(values: Array | float) -> torch.Tensor:
    return torch.tensor(np.asarray(values, dtype=float), dtype=torch.float64)
