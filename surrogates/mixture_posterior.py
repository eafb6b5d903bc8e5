"""Independent mixtures of Gaussians as a BoTorch posterior: moments, quantiles, densities, and samples smooth in x.

Samples are quantiles at the standard normal base samples u of a BoTorch sampler: z with P(f <= z) = cdf(u). So a sample
is a smooth function of the mixture, and of the point that it belongs to. The root is found by safeguarded Newton steps
on the normal score of the probability; its slopes follow from implicit differentiation (Figurnov et al. 2018, NeurIPS,
"Implicit reparameterization gradients", equation 8). First derivatives only: second ones through a sample are not right.
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
        from botorch.posteriors.posterior import Posterior
        from botorch.posteriors.transformed import TransformedPosterior
        from botorch.sampling.get_sampler import GetSampler
        from botorch.sampling.normal import IIDNormalSampler, NormalMCSampler, SobolQMCNormalSampler
        from botorch.utils.probability.utils import log_prob_normal_in
        from torch import Tensor
        from torch.quasirandom import SobolEngine

        from surrogates.pfn.mixture import Mixture
        from surrogates.pfn.moments import target_moments
        from surrogates.pfn.normalise import Normal
except ImportError as error:
    raise MissingPackage(
        f"expected torch and BoTorch for a BoTorch posterior, got {error}; install them with pip install 'bbopt[botorch,pfn]'"
    ) from error

ROUNDS = 200  # at most, of the search for a quantile
PATIENCE = 8  # rounds after which every fourth halves the interval, whatever Newton says
NEAR = 1e-12  # error of a standard normal score at which a quantile is found
FARTHEST = 37.0  # standard normal score; beyond it tails are no numbers
PEAK = (2.0 * math.pi) ** -0.5
LEAST_DENSITY = 1e-300


class MixturePosterior(Posterior):
    """At each of (*b, q) points and for each of m outputs a mixture of K Gaussians, independent of all others.

    mixture: log weights, means and standard deviations (*b, q, m, K) of standardised values; normal: centre and width,
    of a shape that goes with (*b, q, m), which lead back to the units of the targets.

    >>> one = torch.ones(1, 1, 1, dtype=torch.float64)
    >>> posterior = MixturePosterior(Mixture(one.log(), 0.5 * one, 0.5 * one), Normal(one[0], 2.0 * one[0]))
    >>> posterior.mean.item(), posterior.variance.item(), posterior.quantile(torch.tensor(0.5)).item()
    (2.0, 1.0, 2.0)
    """

    def __init__(self, mixture: Mixture, normal: Normal) -> None:
        self.mixture = mixture
        self.normal = normal

    @property
    def mean(self) -> Tensor:
        """(*b, q, m) means."""
        return self._moments[0]

    @property
    def variance(self) -> Tensor:
        """(*b, q, m) variances."""
        return self._moments[1]

    def quantile(self, value: Tensor) -> Tensor:
        """Quantiles at one probability, (*b, q, m), or at (k,) of them, (k, *b, q, m). Raises UsageError outside (0, 1)."""
        value = value.to(self.dtype)
        if not bool(((value > 0.0) & (value < 1.0)).all()):
            raise UsageError(f"expected probabilities between 0 and 1, ends excluded; got {value.tolist()}")
        return self._values(torch.special.ndtri(self._every(value)))

    def density(self, value: Tensor) -> Tensor:
        """Densities at one value, (*b, q, m), or at (k,) of them, (k, *b, q, m)."""
        y = self._every(value.to(self.dtype))
        u = (self.normal.forward(y)[..., None] - self.mixture.mean) / self.mixture.sd
        log_each = self.mixture.log_weight - 0.5 * u.square() - self.mixture.sd.log() + math.log(PEAK)
        return (torch.logsumexp(log_each, -1) + self.normal.log_slope(y)).exp()

    def log_between(self, lower: float | None, upper: float | None) -> Tensor:
        """(*b, q, m) log P(lower <= f <= upper); None: no limit on that side."""
        shape = self.mixture.mean.shape[:-1]
        if lower is None:
            return (
                self.mixture.mean.new_zeros(shape)
                if upper is None
                else self.mixture.log_below(self._standard(upper).expand(shape))
            )
        if upper is None:
            return self.mixture.log_above(self._standard(lower).expand(shape))
        ends = [(self._standard(end)[..., None] - self.mixture.mean) / self.mixture.sd for end in (lower, upper)]
        return torch.logsumexp(self.mixture.log_weight + log_prob_normal_in(*ends), -1)

    def log_improvement(self, best: float | Tensor, maximize: bool = True) -> Tensor:
        """(*b, q, m) log E max(f - best, 0), or of best - f; `best` goes with (*b, q, m).

        Exact within 4 standard deviations of the targets' mean; beyond it improvements are compressed as targets are.
        """
        at, sign = self._standard(best).expand(self.mixture.mean.shape[:-1]), -1.0 if maximize else 1.0
        mirrored = Mixture(self.mixture.log_weight, sign * self.mixture.mean, self.mixture.sd)
        return mirrored.log_improvement(sign * at) + self.normal.width.log()

    def output(self, index: int) -> MixturePosterior:
        """The posterior of one output, m = 1."""
        one = slice(index, index + 1)
        mixture = Mixture(
            *(part[..., one, :] for part in (self.mixture.log_weight, self.mixture.mean, self.mixture.sd))
        )
        return MixturePosterior(mixture, Normal(self.normal.centre[..., one], self.normal.width[..., one]))

    def affine(self, weight: float, offset: float) -> MixturePosterior:
        """The posterior of weight * f + offset, weight not 0."""
        sign = 1.0 if weight > 0.0 else -1.0
        return MixturePosterior(
            Mixture(self.mixture.log_weight, sign * self.mixture.mean, self.mixture.sd),
            Normal(weight * self.normal.centre + offset, abs(weight) * self.normal.width),
        )

    def rsample(self, sample_shape: torch.Size | None = None) -> Tensor:
        """(*sample_shape, *b, q, m) draws, differentiable; torch's global generator is the source, as in all of BoTorch."""
        sample_shape = torch.Size([1]) if sample_shape is None else sample_shape
        base = torch.randn(sample_shape + self.base_sample_shape, dtype=self.dtype, device=self.device)
        return self.rsample_from_base_samples(sample_shape, base)

    def rsample_from_base_samples(self, sample_shape: torch.Size, base_samples: Tensor) -> Tensor:
        """(*sample_shape, *b, q, m) draws at standard normal base samples of that shape."""
        if base_samples.shape[: len(sample_shape)] != sample_shape:
            raise UsageError(
                f"expected base samples of shape ({tuple(sample_shape)}, ...); got {tuple(base_samples.shape)}"
            )
        return self._values(base_samples.to(self.dtype))

    @property
    def batch_shape(self) -> torch.Size:
        """b."""
        return self.base_sample_shape[:-2]

    @property
    def base_sample_shape(self) -> torch.Size:
        """(*b, q, m)."""
        return self.mixture.mean.shape[:-1]

    @property
    def batch_range(self) -> tuple[int, int]:
        """Where the t-batch is in `base_sample_shape`: base samples are shared along it."""
        return 0, -2

    @property
    def device(self) -> torch.device:
        return self.mixture.mean.device

    @property
    def dtype(self) -> torch.dtype:
        return self.mixture.mean.dtype

    def _extended_shape(self, sample_shape: torch.Size = torch.Size()) -> torch.Size:  # noqa: B008
        return sample_shape + self.base_sample_shape

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        return target_moments(self.mixture, self.normal)

    def _values(self, u: Tensor) -> Tensor:
        return self.normal.backward(value_at(self.mixture, u))

    def _every(self, value: Tensor) -> Tensor:
        """One number or (k,), in places before those of the points."""
        if value.dim() > 1:
            raise UsageError(f"expected one number or a row of them; got shape {tuple(value.shape)}")
        return value.reshape(*value.shape, *[1] * len(self.base_sample_shape)).expand(
            *value.shape, *self.base_sample_shape
        )

    def _standard(self, value: float | Tensor) -> Tensor:
        return self.normal.forward(torch.as_tensor(value, dtype=self.dtype, device=self.device))


class WeightedSum(TransformedPosterior):
    """The posterior of a weighted sum of independent outputs: (*b, q, m) becomes (*b, q, 1); no quantiles, no density."""

    def __init__(self, posterior: MixturePosterior, weights: Tensor, offset: float) -> None:
        w = weights.to(posterior.dtype)
        super().__init__(
            posterior,
            sample_transform=lambda samples: offset + (samples @ w)[..., None],
            mean_transform=lambda mean, variance: offset + (mean @ w)[..., None],
            variance_transform=lambda mean, variance: (variance @ w.square())[..., None],
        )

    def _extended_shape(self, sample_shape: torch.Size = torch.Size()) -> torch.Size:  # noqa: B008
        return sample_shape + self.base_sample_shape[:-1] + torch.Size([1])


def value_at(mixture: Mixture, u: Tensor) -> Tensor:
    """z with P(y <= z) = cdf(u) of the standard normal; mixture (..., K), u (*s, ...); differentiable once in the mixture.

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> value_at(Mixture(one.log(), 3.0 * one, 2.0 * one), -one[0]).round(decimals=9)
    tensor(1., dtype=torch.float64)
    """
    shape, K = u.shape, mixture.mean.shape[-1]
    weight, mean, sd = (part.reshape(-1, 1, K) for part in (mixture.log_weight.exp(), mixture.mean, mixture.sd))
    u = u.reshape(-1, len(mean)).transpose(0, 1).clamp(-FARTHEST, FARTHEST)  # (mixtures, draws)
    with torch.no_grad():
        root = _solve(weight, mean, sd, u)
        v = (root[..., None] - mean) / sd
        density = (weight / sd * torch.exp(-0.5 * v.square())).sum(-1) * PEAK
    side = torch.where(u < 0.0, 1.0, -1.0).to(u)  # the smaller tail is the one that is known well
    tail = (weight * _below(side[..., None] * (root[..., None] - mean) / sd)).sum(-1)
    values: Tensor = root - side * (tail - tail.detach()) / density.clamp_min(LEAST_DENSITY)
    return values.transpose(0, 1).reshape(shape)


def _solve(weight: Tensor, mean: Tensor, sd: Tensor, u: Tensor) -> Tensor:
    """Where the score of the mixtures (b, 1, K) is u (b, s). Each element's steps depend on it alone.

    The score, the normal quantile of the probability, is a straight line for one component and nearly one between points
    that are close in terms of all components, so Newton steps from a chord need few rounds.
    """
    offsets = torch.tensor([-9.0, -5.0, -3.0, -1.8, -0.9, 0.0, 0.9, 1.8, 3.0, 5.0, 9.0]).to(mean)
    knots = (mean + sd * offsets[:, None]).flatten(1).sort(-1).values  # (b, g)
    scores = _score(weight, mean, sd, knots)[0].cummax(-1).values
    after = torch.searchsorted(scores, u.contiguous())
    each = mean + sd * u[..., None]  # the quantiles of the components enclose that of the mixture
    last = knots.shape[-1] - 1
    low = torch.where(after > 0, knots.gather(1, (after - 1).clamp_min(0)), each.amin(-1))
    high = torch.where(after <= last, knots.gather(1, after.clamp_max(last)), each.amax(-1))
    below, above = scores.gather(1, (after - 1).clamp_min(0)), scores.gather(1, after.clamp_max(last))
    share = ((u - below) / (above - below)).nan_to_num(0.5).clamp(0.0, 1.0)
    z = torch.where((after > 0) & (after <= last), low + share * (high - low), 0.5 * (low + high))
    moving = torch.ones_like(z, dtype=torch.bool)
    for count in range(ROUNDS):
        score, slope = _score(weight, mean, sd, z)
        miss = score - u
        step = miss / slope
        low, high = torch.where(miss < 0.0, z, low), torch.where(miss < 0.0, high, z)
        exhausted = torch.minimum(high - low, step.abs()) <= 1e-15 * z.abs()
        moving = moving & ~(exhausted | (miss.abs() <= NEAR))
        if not bool(moving.any()):
            break
        newton = z - step
        usable = (newton > low) & (newton < high) & (count < PATIENCE or count % 4 > 0)
        z = torch.where(moving, torch.where(usable, newton, 0.5 * (low + high)), z)
    return z


def _score(weight: Tensor, mean: Tensor, sd: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Standard normal scores of z (b, s) under the mixtures, and their slopes in z."""
    v = (z[..., None] - mean) / sd
    below, above = (weight * _below(v)).sum(-1), (weight * _below(-v)).sum(-1)
    score = torch.where(below <= above, torch.special.ndtri(below), -torch.special.ndtri(above))
    score = score.clamp(-FARTHEST, FARTHEST)
    density = (weight / sd * torch.exp(-0.5 * v.square())).sum(-1)
    return score, density * torch.exp(0.5 * score.square())


def _below(v: Tensor) -> Tensor:
    """The normal distribution function; torch's own loses the lower tail."""
    return 0.5 * torch.erfc(v * -(0.5**0.5))


@GetSampler.register(MixturePosterior)  # type: ignore[untyped-decorator]
def _sampler(posterior: MixturePosterior, sample_shape: torch.Size, *, seed: int | None = None) -> NormalMCSampler:
    """Quasi-random base samples where BoTorch has as many dimensions of them, else random ones."""
    q, m = posterior.base_sample_shape[-2:]
    kind = SobolQMCNormalSampler if q * m <= SobolEngine.MAXDIM else IIDNormalSampler
    return kind(sample_shape=sample_shape, seed=seed)
