"""The PFN as a BoTorch model, and expected improvement in the closed form of its mixtures.

BoTorch's analytic acquisitions know Gaussians: they see the mixtures' means and variances alone. `MixtureLogEI` and
`MixtureLogConstrainedEI` are exact instead (Gaussian improvements added up in logarithms, Ament et al. 2023, arXiv
2310.20708), and Monte-Carlo acquisitions draw from the mixtures themselves (`surrogates.mixture_posterior`).

BoTorch maximises unless told otherwise, here too: for our outputs, which are minimised, say `maximize=False`, or give a
ScalarizedPosteriorTransform with weight -1.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bbopt.errors import MissingPackage, UsageError

try:
    with warnings.catch_warnings():
        # linear_operator compiles two functions with it on import, which torch 2.9 and later deprecates
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        import torch
        from botorch.acquisition.analytic import AnalyticAcquisitionFunction
        from botorch.acquisition.objective import (
            ExpectationPosteriorTransform,
            PosteriorTransform,
            ScalarizedPosteriorTransform,
        )
        from botorch.models.model import Model
        from botorch.posteriors.posterior import Posterior
        from botorch.sampling.base import MCSampler
        from botorch.utils.transforms import t_batch_mode_transform
        from torch import Tensor

        from surrogates.columns_torch import checked_points
        from surrogates.columns_torch import features as features_of
        from surrogates.mixture_posterior import MixturePosterior, WeightedSum
        from surrogates.pfn.anchors import Anchors
        from surrogates.pfn.mixture import Mixture
        from surrogates.pfn.network import Cache
        from surrogates.pfn.normalise import Normal
        from surrogates.pfn.posterior import POINTS_AT_ONCE, PFNPosterior, fit_pfn
except ImportError as error:
    raise MissingPackage(
        f"expected torch, BoTorch and safetensors for the PFN as a BoTorch model, got {error}; "
        "install them with pip install 'bbopt[botorch,pfn]'"
    ) from error


class PFNBoTorch(Model):
    """What a PFN believes of m functions, as a BoTorch model. Made by `as_botorch`.

    Points are float64 tensors (*b, q, d) on the CPU in encoded coordinates: numbers in [0, 1], categories as indices,
    which have no slope (`optimize_acqf_mixed` goes through them). The told rows were encoded once, when `belief` was
    made; every point is a query of its own. Hence the one thing to know: the q points of a batch are INDEPENDENT here,
    only their marginals are right. What needs joint draws (qLogEI with q > 1, noisy EI against the told points) runs,
    but does not see that two points close together tell the same; choose one after the other, with `fantasize` or
    `condition_on_observations`, when that matters.

    The network computes in single precision, so values carry noise of some 1e-6. L-BFGS then stops at times with
    "ABNORMAL", which BoTorch reports as a warning; `optimize_acqf(..., options={"factr": 5e10})` stops it before.

    belief: a posterior with k m outputs, where k is the number of elements of `batch`: fantasies of one another.
    """

    def __init__(self, belief: PFNPosterior, batch: torch.Size = torch.Size()) -> None:  # noqa: B008
        super().__init__()
        if belief.outputs % batch.numel():
            raise UsageError(
                f"expected a multiple of {batch.numel()} outputs for a batch {tuple(batch)}; got {belief.outputs}"
            )
        if any(
            weight.requires_grad for weight in belief.network.parameters()
        ):  # or slopes would pile up in the network
            belief = replace(belief, network=copy.deepcopy(belief.network).requires_grad_(False))
        self.belief = belief  # inside a dataclass, so that Module.to, which acquisitions call, leaves the network alone
        self._batch = batch

    @property
    def num_outputs(self) -> int:
        """m."""
        return self.belief.outputs // self._batch.numel()

    @property
    def batch_shape(self) -> torch.Size:
        """The shape of the fantasies; () where nothing was fantasised."""
        return self._batch

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: PosteriorTransform | None = None,
    ) -> Posterior:
        """The belief at (*b, q, d) points; `observation_noise` True: of what would be told there.

        A ScalarizedPosteriorTransform of a single output (weight 0 for the others) stays a `MixturePosterior`; one of
        several gives a `WeightedSum`. Raises UsageError for shapes and options that do not fit, ValueRefused for NaN.
        """
        if output_indices is not None:
            return self.subset_output(output_indices).posterior(X, None, observation_noise, posterior_transform)
        if not isinstance(observation_noise, bool):
            raise UsageError("expected observation_noise True or False, the network knows how much; got a tensor")
        mixture, noise = self._decode(checked_points(self.belief.inputs, X))
        if observation_noise:
            mixture = replace(mixture, sd=torch.hypot(mixture.sd, noise))
        centre, width = (
            part.reshape(*self._batch, 1, -1) for part in (self.belief.normal.centre, self.belief.normal.width)
        )
        posterior = MixturePosterior(mixture, Normal(centre, width))
        if isinstance(posterior_transform, ScalarizedPosteriorTransform):
            return _scalarized(posterior, posterior_transform)
        if isinstance(posterior_transform, ExpectationPosteriorTransform):
            raise UsageError("expected no ExpectationPosteriorTransform: it needs the joint distribution of a batch, and "
                             "a PFN knows marginals; take the mean of draws as an objective instead")  # fmt: skip
        return posterior if posterior_transform is None else posterior_transform(posterior=posterior, X=X)

    def subset_output(self, idcs: Sequence[int]) -> PFNBoTorch:
        """The model of some outputs; nothing is read again. Raises UsageError for outputs that there are not."""
        m = self.num_outputs
        if not len(idcs) or not all(-m <= i < m for i in idcs):
            raise UsageError(f"expected indices of outputs from 0 to {m - 1}; got {list(idcs)}")
        columns = np.arange(self.belief.outputs).reshape(-1, m)[:, list(idcs)].ravel()
        return PFNBoTorch(_columns(self.belief, columns), self._batch)

    def condition_on_observations(self, X: Tensor, Y: Tensor) -> PFNBoTorch:  # type: ignore[override]
        """The model after k more rows X (k, d) or (1, k, d), with Y (*c, k, m): a batch of c models. All are read again.

        Raises UsageError for a t-batch of rows (the models of a batch share their rows) and for tensors that carry
        gradients, which reading does not pass on.
        """
        checked_points(self.belief.inputs, X)
        if X.shape[:-2].numel() != 1:
            raise UsageError(f"expected one set of rows (k, {X.shape[-1]}), as all fantasies share their rows; got {tuple(X.shape)}: condition on one t-batch at a time")  # fmt: skip
        if torch.is_grad_enabled() and (X.requires_grad or Y.requires_grad):
            raise UsageError("expected tensors without gradients, as none pass through the reading of rows; got some that carry them: detach them, or choose an acquisition without fantasies (not the knowledge gradient)")  # fmt: skip
        k, m = X.shape[-2], self.num_outputs
        if Y.dim() < 2 or Y.shape[-2:] != (k, m):
            raise UsageError(f"expected values of shape (*c, {k}, {m}), one row per row of X; got {tuple(Y.shape)}")
        batch = self._joint(Y.shape[:-2])
        before = torch.from_numpy(self.belief.Y).reshape(-1, *self._batch, m).movedim(0, -2)
        values = torch.cat([part.expand(*batch, *part.shape[-2:]) for part in (before, Y.detach().double())], -2)
        rows = np.concatenate([self.belief.X, X.detach().double().reshape(k, -1).numpy()])
        columns = values.movedim(-2, 0).reshape(len(rows), -1).numpy()
        return PFNBoTorch(fit_pfn(self.belief.inputs, rows, columns, self.belief.network), batch)

    def fantasize(self, X: Tensor, sampler: MCSampler) -> PFNBoTorch:
        """The models after rows X (k, d) with values drawn by `sampler`, noise included: `batch_shape` begins with its shape.

        Raises UsageError as `condition_on_observations` does.
        """
        return self.condition_on_observations(X, sampler(self.posterior(X, observation_noise=True)))

    def _joint(self, batch: torch.Size) -> torch.Size:
        """The t-batch of points, or of values, with the model's batch last."""
        try:
            joint = torch.Size(np.broadcast_shapes(tuple(batch), tuple(self._batch)))
        except ValueError:
            joint = torch.Size()
        last = joint[len(joint) - len(self._batch) :]
        if len(joint) < len(batch) or (last != self._batch and self._batch.numel() > 1):
            raise UsageError(
                f"expected a t-batch that ends in the batch of the model, {tuple(self._batch)}; got {tuple(batch)}"
            )
        return joint

    def _decode(self, X: Tensor) -> tuple[Mixture, Tensor]:
        """Mixtures (*b, q, m, K) and noise standard deviations, standardised: t-batches become queries."""
        k, m, q = self._batch.numel(), self.num_outputs, X.shape[-2]
        lead = self._joint(X.shape[:-2])
        features = features_of(self.belief.inputs, X)
        features = (
            features.expand(*lead, *features.shape[-2:])
            .reshape(-1, k, *features.shape[-2:])
            .transpose(0, 1)
            .flatten(1, 2)
        )
        tokens = features[:, None].expand(k, m, *features.shape[1:]).flatten(0, 1)
        pieces = 1 + tokens.shape[0] * tokens.shape[1] // POINTS_AT_ONCE
        parts = [self.belief.mixture(piece) for piece in tokens.chunk(pieces, 1)]

        def placed(pieces: list[Tensor]) -> Tensor:
            joined = torch.cat(pieces, 1).reshape(k, m, -1, q, pieces[0].shape[-1])  # (k, m, b / k, q, K)
            return joined.permute(2, 0, 3, 1, 4).reshape(*lead, q, m, -1)

        log_weight, mean, sd = (
            placed([getattr(part, name) for part, _ in parts]) for name in ("log_weight", "mean", "sd")
        )
        return Mixture(log_weight, mean, sd), placed([noise for _, noise in parts])


class MixtureLogEI(AnalyticAcquisitionFunction):
    """Log expected improvement on `best_f` in the closed form of the mixture; arguments as BoTorch's LogExpectedImprovement.

    Exact within 4 standard deviations of the targets' mean (`MixturePosterior.log_improvement`). Raises UsageError for
    a posterior that is no single mixture, such as a weighted sum of several outputs.
    """

    _log = True
    best_f: Tensor

    def __init__(
        self,
        model: Model,
        best_f: float | Tensor,
        posterior_transform: PosteriorTransform | None = None,
        maximize: bool = True,
    ) -> None:
        super().__init__(model=model, posterior_transform=posterior_transform)
        self.register_buffer("best_f", torch.as_tensor(best_f, dtype=torch.float64))
        self.maximize = maximize

    @t_batch_mode_transform(expected_q=1)  # type: ignore[arg-type]
    def forward(self, X: Tensor) -> Tensor:
        """(*b,) logarithms at (*b, 1, d) points."""
        posterior = _mixtures(self.model.posterior(X, posterior_transform=self.posterior_transform))
        return posterior.log_improvement(self.best_f[..., None, None], self.maximize)[..., 0, 0]


class MixtureLogConstrainedEI(AnalyticAcquisitionFunction):
    """The same plus log probabilities of all constraints; arguments as BoTorch's LogConstrainedExpectedImprovement.

    best_f: the best feasible value of output `objective_index`; constraints: {output: (lower or None, upper or None)}.
    """

    _log = True
    best_f: Tensor

    def __init__(
        self,
        model: Model,
        best_f: float | Tensor,
        objective_index: int,
        constraints: Mapping[int, tuple[float | None, float | None]],
        maximize: bool = True,
    ) -> None:
        super().__init__(model=model, allow_multi_output=True)
        if objective_index in constraints or not all(
            0 <= i < model.num_outputs for i in (objective_index, *constraints)
        ):
            raise UsageError(f"expected an objective and constraints that are different outputs from 0 to {model.num_outputs - 1}; got {objective_index} and {list(constraints)}")  # fmt: skip
        if any((-math.inf if low is None else low) >= (math.inf if high is None else high) for low, high in constraints.values()):  # fmt: skip
            raise UsageError(f"expected lower limits below the upper ones; got {dict(constraints)}")
        self.register_buffer("best_f", torch.as_tensor(best_f, dtype=torch.float64))
        self.objective_index, self.constraints, self.maximize = objective_index, dict(constraints), maximize

    @t_batch_mode_transform(expected_q=1)  # type: ignore[arg-type]
    def forward(self, X: Tensor) -> Tensor:
        """(*b,) logarithms at (*b, 1, d) points."""
        posterior = _mixtures(self.model.posterior(X))
        total = posterior.log_improvement(self.best_f[..., None, None], self.maximize)[..., 0, self.objective_index]
        for output, limits in self.constraints.items():
            total = total + posterior.output(output).log_between(*limits)[..., 0, 0]
        return total


def as_botorch(belief: PFNPosterior) -> PFNBoTorch:
    """The BoTorch model of what a PFN believes, in evaluation mode.

    >>> from surrogates.columns import Inputs
    >>> X = np.linspace(0.0, 1.0, 6)[:, None]
    >>> belief = fit_pfn(Inputs.continuous(1), X, np.sin(6 * X))
    >>> theirs = as_botorch(belief).posterior(torch.tensor([[0.3]])).mean
    >>> bool(abs(theirs.item() - belief.mean_variance(np.array([[0.3]], dtype=np.float32))[0].item()) < 1e-6)
    True
    """
    return PFNBoTorch(belief).eval()


def _mixtures(posterior: Posterior) -> MixturePosterior:
    if not isinstance(posterior, MixturePosterior):
        raise UsageError(f"expected a posterior that is one mixture per output; got a {type(posterior).__name__}: give a transform with one weight that is not 0, or use qLogExpectedImprovement")  # fmt: skip
    return posterior


def _scalarized(posterior: MixturePosterior, transform: ScalarizedPosteriorTransform) -> Posterior:
    m, weights = posterior.base_sample_shape[-1], torch.as_tensor(transform.weights)
    if len(weights) != m:
        raise UsageError(f"expected {m} weights, one per output; got {len(weights)}")
    used = weights.nonzero().flatten().tolist()
    if len(used) == 1:
        return posterior.output(used[0]).affine(float(weights[used[0]]), float(transform.offset))
    return WeightedSum(posterior, weights, transform.offset)


def _columns(belief: PFNPosterior, columns: np.ndarray) -> PFNPosterior:
    """The belief about some outputs."""
    at = torch.from_numpy(columns)
    cache, anchors = belief.cache, belief.anchors
    return replace(
        belief,
        Y=belief.Y[:, columns],
        z=belief.z[at],
        normal=Normal(belief.normal.centre[at], belief.normal.width[at]),
        anchors=Anchors(**{name: getattr(anchors, name)[at] for name in anchors.__dataclass_fields__}),
        cache=Cache(
            tuple(key[at] for key in cache.keys),
            tuple(value[at] for value in cache.values),
            cache.summary[at],
            cache.order[at],
        ),
    )
