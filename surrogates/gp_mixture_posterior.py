"""A mixture of Gaussian processes as a BoTorch posterior: joint draws, and the closed forms of its marginals.

At (*b, q) points each of m outputs is a mixture of K joint Gaussians, outputs being independent of one another. A draw
takes one process per output and then a joint Gaussian draw from it: so base samples have one row more than there are
points, whose normal probability says which process it is. The same base samples give the same process wherever the
points are, and draws are smooth in x where the weights are constant. Where weights depend on x, which they do after
fantasies at x, the slope of that choice is not in the draws; it is in means, variances and all closed forms.
"""

from __future__ import annotations

import math
import warnings
from functools import cached_property

from bbopt.errors import MissingPackage, UsageError

try:
    with warnings.catch_warnings():
        # linear_operator compiles two functions with it on import, which torch 2.9 and later deprecates
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        import torch
        from gpytorch.distributions import MultitaskMultivariateNormal, MultivariateNormal
        from linear_operator.operators import DenseLinearOperator
        from torch import Tensor

    from surrogates.gp_batch import Predicted, common, distinct, lower_root
    from surrogates.mixture_posterior import MixturePosterior, WeightedSum
    from surrogates.pfn.mixture import Mixture
    from surrogates.pfn.normalise import Normal
except ImportError as error:
    raise MissingPackage(
        f"expected torch and BoTorch for a BoTorch posterior, got {error}; install them with pip install 'bbopt[botorch,pfn]'"
    ) from error

JITTER = 1e-10  # of joint draws, relative to the largest variance; of one point there is none


class Straight(Normal):
    """Values as they are: y = centre + width z everywhere, without the bend of `Normal`.

    >>> one = torch.ones(1)
    >>> Straight(one, 2.0 * one).backward(Straight(one, 2.0 * one).forward(9.0 * one))
    tensor([9.])
    """

    def forward(self, y: Tensor) -> Tensor:
        """z of y."""
        return (y - self.centre) / self.width

    def backward(self, z: Tensor) -> Tensor:
        """y of z."""
        return self.centre + self.width * z

    def log_slope(self, y: Tensor) -> Tensor:
        """log dz/dy."""
        return -self.width.log().expand_as(y)


class GPMixturePosterior(MixturePosterior):
    """At (*b, q) points and for each of m outputs a mixture of K processes, in units of the targets.

    predicted: moments of C processes; place: (m, K) which of them are the components of an output; log_weight: (*c, m, K),
    c going with b. Values are shift + slope f. `mean`, `variance`, `quantile`, `density`, `log_between` and
    `log_improvement` are those of the mixture of each point; `covariance` and draws are joint.
    """

    def __init__(
        self, predicted: Predicted, place: Tensor, log_weight: Tensor, slope: float = 1.0, shift: float = 0.0
    ) -> None:
        # what the base class stores is computed here when it is asked for: a mean needs no variances
        self.predicted, self.place, self.log_weight, self.slope, self.shift = predicted, place, log_weight, slope, shift

    @cached_property
    def means(self) -> Tensor:
        """(*b, m, K, q) of the components."""
        return self.shift + self.slope * self.predicted.mean[..., self.place, :]

    @cached_property
    def variances(self) -> Tensor:
        """(*b, m, K, q) of the components; b may be shorter than that of `means`, which it goes with."""
        return self.slope**2 * self.predicted.variance[..., self.place, :]

    @cached_property
    def covariances(self) -> Tensor:
        """(*b, m, K, q, q) of the components; b as that of `variances`."""
        return self.slope**2 * self.predicted.covariance[..., self.place, :, :]

    @property
    def mean(self) -> Tensor:
        """(*b, q, m) means of the mixture."""
        return self._average(self.means)

    @property
    def variance(self) -> Tensor:
        """(*b, q, m) variances of the mixture."""
        return self._average(self.variances + (self.means - self.mean.mT[..., None, :]).square())

    @property
    def covariance(self) -> Tensor:
        """(*b, m, q, q) covariances of the mixture."""
        apart = self.means - self.mean.mT[..., None, :]
        each = self.covariances + apart[..., :, None] * apart[..., None, :]
        return (self.log_weight.exp()[..., None, None] * each).sum(-3)

    @cached_property
    def mixture(self) -> Mixture:  # type: ignore[override]
        """The mixture of every point, (*b, q, m, K)."""
        mean, sd = (torch.movedim(part, -1, -3) for part in (self.means, self.variances.sqrt()))
        return Mixture(self.log_weight[..., None, :, :].expand_as(mean), mean, sd.expand_as(mean))

    @cached_property
    def normal(self) -> Normal:  # type: ignore[override]
        """Nothing to undo: components are in units of the targets."""
        one = torch.ones(1, dtype=self.dtype)
        return Straight(0.0 * one, one)

    @property
    def distribution(self) -> MultivariateNormal:
        """The one joint Gaussian where each output has one component. Raises UsageError for true mixtures."""
        if self.place.shape[1] > 1:
            raise UsageError("expected a use that needs no single Gaussian, as a mixture is none; got one that asks for `distribution`: use a model of one component, to_botorch(belief, at_most=1), or model.ensemble()")  # fmt: skip
        mean, covariance = self.means[..., 0, :], self.covariances[..., 0, :, :]
        covariance = covariance.expand(*mean.shape, mean.shape[-1])
        each = [
            MultivariateNormal(mean[..., j, :], DenseLinearOperator(covariance[..., j, :, :]))
            for j in range(len(self.place))
        ]
        return each[0] if len(each) == 1 else MultitaskMultivariateNormal.from_independent_mvns(each)

    @property
    def mvn(self) -> MultivariateNormal:
        """`distribution`, as BoTorch calls it too."""
        return self.distribution

    def quantile(self, value: Tensor) -> Tensor:
        """Quantiles of each point at one probability, (*b, q, m), or at (k,) of them, (k, *b, q, m). UsageError outside (0, 1)."""
        return self._marginal.quantile(value)

    def density(self, value: Tensor) -> Tensor:
        """Densities of each point at one value, (*b, q, m), or at (k,) of them, (k, *b, q, m)."""
        return self._marginal.density(value)

    def output(self, index: int) -> GPMixturePosterior:
        """The posterior of one output, m = 1."""
        place, log_weight = self.place[[index]], self.log_weight[..., [index], :]
        return GPMixturePosterior(self.predicted, place, log_weight, self.slope, self.shift)

    def affine(self, weight: float, offset: float) -> GPMixturePosterior:
        """The posterior of weight * f + offset, weight not 0."""
        slope, shift = weight * self.slope, weight * self.shift + offset
        return GPMixturePosterior(self.predicted, self.place, self.log_weight, slope, shift)

    def rsample_from_base_samples(self, sample_shape: torch.Size, base_samples: Tensor) -> Tensor:
        """(*sample_shape, *b, q, m) joint draws at standard normal base samples (*sample_shape, *b, 1 + q, m)."""
        if base_samples.shape != sample_shape + self.base_sample_shape:
            raise UsageError(f"expected base samples of shape {tuple(sample_shape + self.base_sample_shape)}; got {tuple(base_samples.shape)}: one row chooses the process")  # fmt: skip
        base = base_samples.to(self.dtype).reshape(-1, *self.base_sample_shape)
        bounds = self.log_weight.detach().exp().cumsum(-1)
        which = (torch.special.ndtr(base[..., 0, :])[..., None] > bounds).sum(-1).clamp_max(self.place.shape[-1] - 1)
        z, flat = base[..., 1:, :].movedim(-1, 0), which.reshape(len(which), -1, which.shape[-1])  # z (m, s, *b, q)
        if bool((flat == flat[:, :1]).all()):  # the same processes in the whole t-batch
            values = [self._by_process(j, flat[:, 0, j], z[j]) for j in range(len(z))]
        else:
            values = [self._one_by_one(j, which[..., j], z[j]) for j in range(len(z))]
        return torch.stack(values, -1).reshape(*sample_shape, *self._extended_shape())

    @property
    def batch_shape(self) -> torch.Size:
        """b."""
        return common(self.predicted.mean.shape[:-2], self.log_weight.shape[:-2])

    @property
    def base_sample_shape(self) -> torch.Size:
        """(*b, 1 + q, m): the first row chooses the processes."""
        return self.batch_shape + torch.Size([1 + self.predicted.mean.shape[-1], len(self.place)])

    @property
    def device(self) -> torch.device:
        return self.predicted.mean.device

    @property
    def dtype(self) -> torch.dtype:
        return self.predicted.mean.dtype

    def _extended_shape(self, sample_shape: torch.Size = torch.Size()) -> torch.Size:  # noqa: B008
        return sample_shape + self.batch_shape + torch.Size([self.predicted.mean.shape[-1], len(self.place)])

    @cached_property
    def _marginal(self) -> MixturePosterior:
        return MixturePosterior(self.mixture, self.normal)

    def _average(self, values: Tensor) -> Tensor:
        """(*b, q, m) of (*b, m, K, q)."""
        return (self.log_weight.exp()[..., None] * values).sum(-2).mT

    def _roots(self, output: int, used: Tensor) -> Tensor:
        """(*b, K', q, q) factors of the joint covariances of some components of an output, with the sign of the slope."""
        covariance = self.covariances[..., output, used, :, :]
        if covariance.shape[-1] == 1:
            return math.copysign(1.0, self.slope) * covariance.sqrt()
        unit = covariance.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None].detach()
        return lower_root(covariance / unit, JITTER) * unit.sqrt() * math.copysign(1.0, self.slope)

    def _by_process(self, output: int, which: Tensor, z: Tensor) -> Tensor:
        """(s, *b, q) draws; which (s,), z (s, *b, q)."""
        used, at = distinct(which)
        root, mean = self._roots(output, used), self.means[..., output, used, :]
        order = [(at == k).nonzero()[:, 0] for k in range(len(used))]
        parts = [mean[..., k, :] + (root[..., k, :, :] @ z[rows][..., None])[..., 0] for k, rows in enumerate(order)]
        return torch.cat(parts)[torch.cat(order).argsort()]

    def _one_by_one(self, output: int, which: Tensor, z: Tensor) -> Tensor:
        """(s, *b, q) draws; which (s, *b), z (s, *b, q)."""
        used, at = distinct(which)
        root, mean = self._roots(output, used), self.means[..., output, used, :]
        shape, q = which.shape, z.shape[-1]
        mean = mean.expand(*shape, len(used), q).gather(-2, at[..., None, None].expand(*shape, 1, q))[..., 0, :]
        index = at[..., None, None, None].expand(*shape, 1, q, q)
        chosen = root.expand(*shape, len(used), q, q).gather(-3, index)[..., 0, :, :]
        return mean + (chosen @ z[..., None])[..., 0]


class JointSum(WeightedSum):
    """The posterior of a weighted sum of the outputs of a mixture of processes: (*b, q, m) becomes (*b, q, 1).

    Means, variances and joint draws are exact; there are no quantiles.
    """

    def __init__(self, posterior: GPMixturePosterior, weights: Tensor, offset: float) -> None:
        super().__init__(posterior, weights, offset)

    def _extended_shape(self, sample_shape: torch.Size = torch.Size()) -> torch.Size:  # noqa: B008
        return self._posterior._extended_shape(sample_shape)[:-1] + torch.Size([1])
