"""The amortised Gaussian process as BoTorch models: a weighted mixture, and an ensemble of equally likely members.

`to_botorch` gives the mixture. Its posterior has the exact mean, variance, quantiles and density of the weighted mixture,
and joint draws from it, so every acquisition that draws is right up to the number of draws, and so is everything that
fantasises: the weights move with what is told (`AmortisedMixture.fantasize`), as Bayes' rule has it.

| acquisition | what to do |
|---|---|
| qLogEI, qLogNEI, qUCB, qSimpleRegret, qLogNEHVI, knowledge gradient, ... | the mixture, as it is |
| expected improvement, also with constraints, in closed form | `MixtureLogEI`, `MixtureLogConstrainedEI` of `surrogates.pfn_botorch` on the mixture: exact |
| PosteriorMean, UpperConfidenceBound of the mixture | the mixture: exact mean and standard deviation |
| BoTorch's own (Log)ExpectedImprovement, LogConstrainedExpectedImprovement, probability of improvement | `model.ensemble()`: averages over members; on the mixture itself they take it for one Gaussian of the same mean and variance |
| qBayesianActiveLearningByDisagreement and others for fully Bayesian models | `model.ensemble()` |
| qMaxValueEntropy and others that want one Gaussian (`distribution`) | `to_botorch(belief, at_most=1)`, the heaviest component; UsageError on a mixture, and BoTorch has them for no ensemble |

The ensemble is BoTorch's own kind: a Gaussian mixture with the members in place -3, over which acquisitions average with
equal weights. Members are the components repeated by systematic resampling: one with the weight w is there
floor(w S) or ceil(w S) times: exact for equal weights and a multiple of as many members, else off by less than one member. Members pair the
components of the outputs at random (a fixed permutation), where the mixture has all pairs. It does not fantasise.

BoTorch maximises unless told otherwise, here too: for our outputs, which are minimised, say `maximize=False`, or give a
ScalarizedPosteriorTransform with weight -1.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import MissingPackage, UsageError

try:
    with warnings.catch_warnings():
        # linear_operator compiles two functions with it on import, which torch 2.9 and later deprecates
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        import torch
        from botorch.acquisition.objective import PosteriorTransform, ScalarizedPosteriorTransform
        from botorch.models.model import Model
        from botorch.posteriors.fully_bayesian import GaussianMixturePosterior
        from botorch.posteriors.posterior import Posterior
        from botorch.sampling.base import MCSampler
        from gpytorch.distributions import MultitaskMultivariateNormal, MultivariateNormal
        from linear_operator.operators import DenseLinearOperator
        from torch import Tensor

        from surrogates.columns_torch import checked_points
        from surrogates.gp_batch import Predicted, Processes, common, distinct, processes
        from surrogates.gp_mixture_posterior import JITTER, GPMixturePosterior, JointSum
except ImportError as error:
    raise MissingPackage(
        f"expected torch and BoTorch for a BoTorch model, got {error}; install them with pip install 'bbopt[botorch,pfn]'"
    ) from error

if TYPE_CHECKING:
    from surrogates.amortised.posterior import AmortisedGP

Array = NDArray[np.float64]
LEAST = 1.001e-10  # variance of a member: GPyTorch rounds what is below 1e-10 up to it, and warns


class AmortisedMixture(Model):
    """m outputs, each a weighted mixture of exact processes, as a BoTorch model. Made by `to_botorch`.

    Points are float64 tensors (*b, q, d) on the CPU in encoded coordinates: numbers in [0, 1], categories as indices,
    which have no slope. processes: C of them; place: (m, K) which are the components of an output, the first repeated where
    an output has fewer; share: (m, K) logarithms of the part of a weight that a repeated one has; log_weight: (*c, C).
    """

    def __init__(self, processes: Processes, place: Tensor, share: Tensor, log_weight: Tensor) -> None:
        super().__init__()
        self._parts = (processes, place, share, log_weight)  # not buffers: acquisitions call Module.to

    @property
    def num_outputs(self) -> int:
        """m."""
        return len(self._parts[1])

    @property
    def batch_shape(self) -> torch.Size:
        """The shape of the fantasies; () where nothing was fantasised."""
        return self._parts[0].batch

    @property
    def train_inputs(self) -> tuple[Tensor]:
        """The told rows (n, d), in a tuple as in GPyTorch."""
        return (self._parts[0].X,)

    @property
    def log_weights(self) -> Tensor:
        """(*c, m, K) logarithms of the weights, which add up to 1 in the last place."""
        _, place, share, log_weight = self._parts
        return torch.log_softmax(log_weight[..., place] + share, -1)

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: PosteriorTransform | None = None,
    ) -> Posterior:
        """The belief at (*b, q, d) points. `observation_noise`: True, or variances (*, 1 or q, m), for what would be told.

        Where variances of told values are known, True adds their mean. A ScalarizedPosteriorTransform with one weight that
        is not 0 stays a `GPMixturePosterior`; one of several gives a `JointSum`. Raises UsageError for shapes that do not
        fit and for transforms that need one Gaussian, ValueRefused for NaN.
        """
        if output_indices is not None:
            return self.subset_output(output_indices).posterior(X, None, observation_noise, posterior_transform)
        held, place = self._parts[:2]
        predicted = _predicted(held, place, X, observation_noise)
        posterior = GPMixturePosterior(predicted, place, self.log_weights)
        if isinstance(posterior_transform, ScalarizedPosteriorTransform):
            return _scalarized(posterior, posterior_transform)
        return posterior if posterior_transform is None else posterior_transform(posterior=posterior, X=X)

    def forward(self, X: Tensor) -> MultivariateNormal:
        """What GPyTorch's models return: the one Gaussian at X. Raises UsageError where there are several components."""
        posterior = self.posterior(X)
        assert isinstance(posterior, GPMixturePosterior), "nothing was transformed"
        return posterior.distribution

    def subset_output(self, idcs: Sequence[int]) -> AmortisedMixture:
        """The model of some outputs. Raises UsageError for outputs that there are not."""
        held, place, share, log_weight = self._parts
        rows = _chosen(idcs, len(place))
        used, place = distinct(place[rows])
        return AmortisedMixture(held.take(used), place, share[rows], log_weight[..., used]).eval()

    def condition_on_observations(self, X: Tensor, Y: Tensor, noise: Tensor | None = None) -> AmortisedMixture:  # type: ignore[override]
        """The model after k more rows X (*b, k, d) with Y (*c, k, m), where c goes with b; slopes pass through both.

        noise: variances (*, 1 or k, m); None: the components' own, and the mean of known ones. The weights are multiplied
        by the density of the rows under each component. Raises UsageError for shapes that do not fit.
        """
        held, place, share, log_weight = self._parts
        X = checked_points(held.inputs, X)
        k, m = X.shape[-2], len(place)
        if Y.dim() < 2 or Y.shape[-2:] != (k, m):
            raise UsageError(f"expected values of shape (*c, {k}, {m}), one row per row of X; got {tuple(Y.shape)}")
        try:
            common(X.shape[:-2], Y.shape[:-2], held.batch)
        except ValueError:
            raise UsageError(f"expected t-batches that go with one another and with that of the model; got X {tuple(X.shape[:-2])}, Y {tuple(Y.shape[:-2])}, model {tuple(held.batch)}") from None  # fmt: skip
        owner = _owner(place, len(held))
        variances = None if noise is None else _variances(noise, owner)
        told, gained = held.given(X, Y.double().mT[..., owner, :], variances)
        return AmortisedMixture(told, place, share, log_weight + gained).eval()

    def fantasize(
        self, X: Tensor, sampler: MCSampler, observation_noise: Tensor | None = None, propagate_grads: bool = True
    ) -> AmortisedMixture:
        """The models after rows X (*b, k, d) with values drawn by `sampler`: `batch_shape` is its shape and then b.

        observation_noise: variances (*, 1 or k, m) of the values; None: those of the model. propagate_grads: taken as
        BoTorch passes it, without effect: slopes always pass.
        """
        known = True if observation_noise is None else observation_noise
        Y = sampler(self.posterior(X, observation_noise=known))
        return self.condition_on_observations(X, Y, noise=observation_noise)

    def ensemble(self, members: int = 64) -> AmortisedEnsemble:
        """`members` equally likely processes per output, by systematic resampling: what BoTorch averages over.

        More members cost little in closed forms and much in draws. Raises UsageError for fantasies and fewer than one.
        """
        held, place, _, _ = self._parts
        if held.rows is not None and held.rows.total.dim() > 1:
            raise UsageError("expected a model without a batch of fantasies, as each has weights of its own; got one: call ensemble() before, or condition on one set of values")  # fmt: skip
        if members < 1:
            raise UsageError(f"expected at least one member; got {members}: ask for as many as there are components")
        at = _resampled(self.log_weights.detach().exp().numpy(), members)
        return AmortisedEnsemble(held, place.gather(1, torch.from_numpy(at))).eval()


class AmortisedEnsemble(Model):
    """S equally likely exact processes per output, in BoTorch's terms an ensemble. Made by `AmortisedMixture.ensemble`.

    The posterior at (*b, q, d) is a GaussianMixturePosterior with the members in place -3, (*b, S, q, m): acquisitions
    average over them. place: (m, S) which of the processes are the members.
    """

    _is_ensemble = True
    _is_fully_bayesian = True

    def __init__(self, processes: Processes, place: Tensor) -> None:
        super().__init__()
        used, place = distinct(place)
        self._parts = (processes.take(used), place)

    @property
    def num_outputs(self) -> int:
        """m."""
        return len(self._parts[1])

    @property
    def batch_shape(self) -> torch.Size:
        """(S,)."""
        return self._parts[1].shape[1:]

    @property
    def train_inputs(self) -> tuple[Tensor]:
        """The told rows (n, d), in a tuple as in GPyTorch."""
        return (self._parts[0].X,)

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: PosteriorTransform | None = None,
    ) -> Posterior:
        """The members' beliefs at (*b, q, d) points; arguments as of `AmortisedMixture.posterior`. Variances are at least 1e-10."""
        if output_indices is not None:
            return self.subset_output(output_indices).posterior(X, None, observation_noise, posterior_transform)
        held, place = self._parts
        predicted = _predicted(held, place, X, observation_noise)
        covariance, more = predicted.covariance, (LEAST - predicted.variance).clamp_min(0.0)
        if covariance.shape[-1] > 1:  # so that BoTorch can factor it as it is, and need not warn
            more = more + JITTER * held.scale[:, None]
        covariance = covariance + torch.diag_embed(more)
        each = [
            MultivariateNormal(predicted.mean[..., at, :], DenseLinearOperator(covariance[..., at, :, :]))
            for at in place
        ]
        joint = each[0] if len(each) == 1 else MultitaskMultivariateNormal.from_independent_mvns(each)
        posterior = GaussianMixturePosterior(joint)
        return posterior if posterior_transform is None else posterior_transform(posterior=posterior, X=X)

    def subset_output(self, idcs: Sequence[int]) -> AmortisedEnsemble:
        """The ensemble of some outputs. Raises UsageError for outputs that there are not."""
        held, place = self._parts
        return AmortisedEnsemble(held, place[_chosen(idcs, len(place))]).eval()

    def condition_on_observations(self, X: Tensor, Y: Tensor) -> Model:  # type: ignore[override]
        """Raises UsageError: the weights of members cannot move, those of the mixture do."""
        raise UsageError("expected the mixture where rows are added or fantasised, as its weights move with what is told; got an ensemble: use the model that ensemble() was called on")  # fmt: skip

    def fantasize(
        self, X: Tensor, sampler: MCSampler, observation_noise: Tensor | None = None, propagate_grads: bool = True
    ) -> Model:
        """Raises UsageError, as `condition_on_observations`."""
        return self.condition_on_observations(X, X)


def to_botorch(belief: AmortisedGP, at_most: int | None = None) -> AmortisedMixture:
    """The BoTorch model of an amortised Gaussian process, in evaluation mode; at_most: the heaviest components alone.

    >>> from surrogates.amortised.components import Components
    >>> from surrogates.amortised.posterior import condition_components
    >>> from surrogates.columns import Inputs
    >>> X = np.linspace(0.0, 1.0, 6)[:, None]
    >>> parts = Components(np.zeros(2, int), np.array([[0.3], [0.5]]), np.full(2, 1e-3), np.ones(2), np.log([0.3, 0.7]))
    >>> belief = condition_components(Inputs.continuous(1), X, np.sin(6 * X), [parts])
    >>> theirs = to_botorch(belief).posterior(torch.tensor([[0.3]], dtype=torch.float64)).mean
    >>> bool(abs(theirs.item() - belief.mean_variance(np.array([[0.3]]))[0].item()) < 1e-9)
    True
    """
    belief = belief if at_most is None else belief.at_most(at_most)
    sizes = [len(part) for part in belief.components]
    place, share = np.empty((len(sizes), max(sizes)), dtype=np.int64), np.zeros((len(sizes), max(sizes)))
    for j, size in enumerate(sizes):
        repeated = max(sizes) - size  # so often more is the first component there, which keeps its weight in total
        place[j] = sum(sizes[:j]) + np.append(np.arange(size), np.zeros(repeated, dtype=np.int64))
        share[j, place[j] == place[j, 0]] = -math.log(1 + repeated)
    log_weight = torch.from_numpy(np.array(belief.log_weight))
    return AmortisedMixture(processes(belief), torch.from_numpy(place), torch.from_numpy(share), log_weight).eval()


def _predicted(held: Processes, place: Tensor, X: Tensor, noise: bool | Tensor) -> Predicted:
    predicted = held.at(checked_points(held.inputs, X))
    if noise is False:
        return predicted
    extra = _variances(noise, _owner(place, len(held))) if isinstance(noise, Tensor) else None
    return predicted.noisy(held.observed(extra))


def _owner(place: Tensor, count: int) -> Tensor:
    """(C,) the output of each process."""
    return torch.zeros(count, dtype=torch.int64).scatter(
        0, place.flatten(), torch.arange(len(place)).repeat_interleave(place.shape[1])
    )


def _variances(noise: Tensor, owner: Tensor) -> Tensor:
    """(*, 1 or q, m) variances as (*, C, 1 or q)."""
    if noise.dim() < 2 or noise.shape[-1] != int(owner.max()) + 1 or not bool((noise >= 0.0).all()):
        raise UsageError(f"expected noise variances of shape (*, q or 1, {int(owner.max()) + 1}), at least 0; got shape {tuple(noise.shape)}")  # fmt: skip
    return noise.double().mT[..., owner, :]


def _chosen(idcs: Sequence[int], m: int) -> Tensor:
    """Indices of outputs, none negative. Raises UsageError."""
    if not len(idcs) or not all(-m <= i < m for i in idcs):
        raise UsageError(f"expected indices of outputs from 0 to {m - 1}; got {list(idcs)}")
    return torch.tensor([i % m for i in idcs])


def _resampled(weights: Array, members: int) -> NDArray[np.int64]:
    """(m, S) places by systematic resampling of (m, K) weights, the outputs after the first in shuffled order."""
    at = np.arange(members) + 0.5
    chosen = [np.searchsorted(np.cumsum(row), at / members * row.sum()).clip(0, len(row) - 1) for row in weights]
    shuffled = [np.random.default_rng(j).permutation(part) if j else part for j, part in enumerate(chosen)]
    return np.stack(shuffled).astype(np.int64)


def _scalarized(posterior: GPMixturePosterior, transform: ScalarizedPosteriorTransform) -> Posterior:
    m, weights = len(posterior.place), torch.as_tensor(transform.weights)
    if len(weights) != m:
        raise UsageError(f"expected {m} weights, one per output; got {len(weights)}")
    used = weights.nonzero().flatten().tolist()
    if len(used) == 1:
        return posterior.output(used[0]).affine(float(weights[used[0]]), float(transform.offset))
    return JointSum(posterior, weights, transform.offset)
