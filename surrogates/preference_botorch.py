"""Our process of utility as a BoTorch model: the same posterior, for BoTorch's preference acquisitions and all others.

BoTorch's own PairwiseGP takes pairs alone, one by one and unweighted; this model is what rankings, ties and weights gave.
Utility is maximised, as BoTorch wants. Points are float64 tensors in encoded coordinates, a category as its index.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import MissingPackage, UsageError

try:
    with warnings.catch_warnings():
        # linear_operator compiles two functions with it on import, which torch 2.9 and later deprecates
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        import torch
        from botorch.acquisition.objective import PosteriorTransform
        from botorch.models.model import Model
        from botorch.posteriors.gpytorch import GPyTorchPosterior
        from botorch.posteriors.posterior import Posterior
        from gpytorch.distributions import MultivariateNormal
        from torch import Tensor

        from surrogates.columns_torch import checked_points, features
except ImportError as error:
    raise MissingPackage(
        f"expected torch and BoTorch for a BoTorch model, got {error}; install them with pip install 'bbopt[botorch]'"
    ) from error

if TYPE_CHECKING:
    from surrogates.preference import PreferenceProcess

Array = NDArray[np.float64]
ROOT5 = 5.0**0.5
JITTER = 1e-9  # on the diagonal of a joint covariance, in units of the scale


class PreferenceModel(Model):
    """Utility as a BoTorch model of one output, in evaluation mode. Made by `to_botorch`.

    `datapoints` are the rows that span the process (M, d), which BoTorch's preference acquisitions ask for.
    """

    def __init__(self, process: PreferenceProcess) -> None:
        super().__init__()
        self._process = process
        self._rates = _tensor(1.0 / process.lengthscales[process.inputs.owner])
        self._pivots = _tensor(process.inputs.features(process.X)) * self._rates
        self._inverse, self._weights = _tensor(process.inverse), _tensor(process.weights)
        self.datapoints = _tensor(process.X)

    @property
    def num_outputs(self) -> int:
        """1."""
        return 1

    @property
    def batch_shape(self) -> torch.Size:
        """(): one model."""
        return torch.Size()

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: PosteriorTransform | None = None,
    ) -> Posterior:
        """The joint belief of the utilities at (*b, q, d) points, with slopes in X.

        Raises UsageError where noise of values is asked for (a judgement is of pairs) or for outputs that there are not.
        """
        if output_indices not in (None, [0]):
            raise UsageError(f"expected output 0, the utility; got {output_indices}")
        if not isinstance(observation_noise, bool) or observation_noise:
            raise UsageError(
                "expected observation_noise=False: people judge pairs, utilities have no noise of their own"
            )
        points = checked_points(self._process.inputs, X)
        scaled = features(self._process.inputs, points) * self._rates
        k = self._correlation(scaled, self._pivots)
        half = self._inverse @ k.transpose(-1, -2)
        prior = self._correlation(scaled, scaled)
        covariance = self._process.scale * (prior - half.transpose(-1, -2) @ half)
        eye = torch.eye(points.shape[-2], dtype=torch.float64)
        distribution = MultivariateNormal(k @ self._weights, covariance + JITTER * self._process.scale * eye)
        posterior = GPyTorchPosterior(distribution)
        return posterior if posterior_transform is None else posterior_transform(posterior=posterior, X=X)

    def _correlation(self, left: Tensor, right: Tensor) -> Tensor:
        r2 = (left.unsqueeze(-2) - right.unsqueeze(-3)).square().sum(-1)
        if self._process.kernel == "rbf":
            return torch.exp(-0.5 * r2)
        scaled = ROOT5 * torch.sqrt(r2.clamp_min(1e-30))
        return (1.0 + scaled + (5.0 / 3.0) * r2) * torch.exp(-scaled)


def to_botorch(process: PreferenceProcess) -> PreferenceModel:
    """A BoTorch model with the posterior of `process`.

    >>> from surrogates.columns import Inputs
    >>> from surrogates.preference import fit_preferences
    >>> from surrogates.preference_fit import Comparisons
    >>> X = np.linspace(0.0, 1.0, 5)[:, None]
    >>> model = fit_preferences(Inputs.continuous(1), X, Comparisons.of([[2, 0], [2, 4], [1, 0], [3, 4]]))
    >>> mean = to_botorch(model).posterior(torch.from_numpy(X)).mean.squeeze(-1).numpy()
    >>> bool(np.allclose(mean, model.mean_variance(X)[0][:, 0]))
    True
    """
    return PreferenceModel(process).eval()


def _tensor(values: Array) -> Tensor:
    return torch.tensor(np.asarray(values, float), dtype=torch.float64)
