"""The best that can be predicted when hyperparameters are not known: their posterior, by tempered sequential Monte Carlo.

A predictive distribution is scored against the oracle, which knows the hyperparameters that a task was drawn with; no
method that sees only the rows reaches it. What can be reached is the mixture of Gaussian processes over the posterior of
the hyperparameters: its gap to the oracle is the floor that other gaps are read against. Here for Matern-5/2 processes of
mean 0 and variance 1, `surrogates.prior.Prior.plain`: log lengthscales normal, log noise standard deviation uniform.

Del Moral, Doucet and Jasra 2006 (J. R. Statist. Soc. B 68): particles from the prior, the likelihood raised to a power
that goes from 0 to 1, each next power chosen so that half of the particles would survive, systematic resampling, then
random walks shaped by the particles' covariance with a step that follows the share of accepted moves. Tasks are a batch,
each with its own powers, and everything is float64. Two populations that never meet share the work: how far they
disagree is the Monte Carlo error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

DTYPE = torch.float64
SURVIVE = 0.5  # effective share of the particles after each step of the power
MOVES, LAST_MOVES = 6, 20  # random-walk moves after each resampling, and in the end
ACCEPT = 0.3
AT_ONCE = 600_000  # numbers in one batch of covariance matrices
HALVINGS = 40
MOST_STAGES = 200


@dataclass(frozen=True)
class Hyperprior:
    """What is known of d lengthscales and the noise: location and spread of log lengthscales, ends of the noise's sd."""

    location: float
    spread: float
    noise: tuple[float, float]

    @classmethod
    def plain(cls, d: int) -> Hyperprior:
        """That of `surrogates.prior.Prior.plain` in d columns.

        >>> round(Hyperprior.plain(4).location, 3)
        -0.693
        """
        return cls(math.log(0.25) + 0.5 * math.log(d), 0.75, (0.01, 0.3))

    def draw(self, tasks: int, count: int, d: int, generator: torch.Generator) -> Tensor:
        """(tasks, count, d + 1) draws: log lengthscales, then the log of the noise's standard deviation."""
        lengths = self.location + self.spread * torch.randn(tasks, count, d, generator=generator, dtype=DTYPE)
        low, high = (math.log(end) for end in self.noise)
        noise = low + (high - low) * torch.rand(tasks, count, 1, generator=generator, dtype=DTYPE)
        return torch.cat([lengths, noise], -1)

    def log_density(self, theta: Tensor) -> Tensor:
        """(...) log densities of (..., d + 1) logarithms, up to a constant."""
        low, high = (math.log(end) for end in self.noise)
        inside = (theta[..., -1] >= low) & (theta[..., -1] <= high)
        normal = -0.5 * ((theta[..., :-1] - self.location) / self.spread).square().sum(-1)
        density: Tensor = torch.where(inside, normal, torch.full_like(normal, -torch.inf))
        return density


def matern(r2: Tensor) -> Tensor:
    """Matern-5/2 correlations at squared scaled distances.

    >>> matern(torch.tensor([0.0, 1.0]))
    tensor([1.0000, 0.5240])
    """
    root = (5.0 * r2).sqrt()
    return (1.0 + root + root.square() / 3.0) * torch.exp(-root)


class Rows:
    """The told rows of B tasks: X (B, n, d), y (B, n). Subclasses may have another kernel."""

    def __init__(self, X: Tensor, y: Tensor) -> None:
        self.X, self.y = X.to(DTYPE), y.to(DTYPE)
        difference = self.X[:, :, None] - self.X[:, None]
        self.pairs = difference.square().permute(0, 3, 1, 2).flatten(2)  # (B, d, n n)

    def correlation(self, r2: Tensor, task: int) -> Tensor:
        """Correlations at squared scaled distances (...) in one task."""
        return matern(r2)

    def factors(self, theta: Tensor, task: int) -> Tensor:
        """(P, n, n) Cholesky factors for (P, d + 1) hyperparameters of one task; NaN where there is none."""
        n = self.X.shape[1]
        K = self.correlation(torch.exp(-2.0 * theta[:, :-1]) @ self.pairs[task], task).reshape(-1, n, n)
        K.diagonal(dim1=-2, dim2=-1).add_(torch.exp(2.0 * theta[:, -1:]))
        lower, wrong = torch.linalg.cholesky_ex(K)
        L: Tensor = lower
        L[wrong > 0] = torch.nan
        return L

    def log_likelihood(self, theta: Tensor) -> Tensor:
        """(B, P) log likelihoods of (B, P, d + 1) hyperparameters; minus infinity where rounding leaves none."""
        n = self.X.shape[1]
        found = []
        for task in range(len(theta)):
            parts = []
            for part in _pieces(theta[task], AT_ONCE // n**2):
                L = self.factors(part, task)
                half = torch.linalg.solve_triangular(L, self.y[task][:, None].expand(len(part), n, 1), upper=False)
                parts.append(-0.5 * half[..., 0].square().sum(-1) - L.diagonal(dim1=-2, dim2=-1).log().sum(-1))
            found.append(torch.cat(parts))
        value = torch.stack(found) - 0.5 * n * math.log(2.0 * math.pi)
        value[~value.isfinite()] = -torch.inf
        return value

    def predict(self, theta: Tensor, Q: Tensor) -> tuple[Tensor, Tensor]:
        """(B, q, P) means and standard deviations of the noise-free values at Q (B, q, d) for (B, P, d + 1)."""
        n = self.X.shape[1]
        means, sds = [], []
        for task in range(len(theta)):
            pairs = (Q[task][:, None] - self.X[task][None]).square().permute(2, 0, 1).flatten(1)  # (d, q n)
            for part in _pieces(theta[task], AT_ONCE // (n * max(n, Q.shape[1]))):
                L = self.factors(part, task)
                r2 = torch.exp(-2.0 * part[:, :-1]) @ pairs
                cross = self.correlation(r2, task).reshape(len(part), -1, n).transpose(1, 2)
                right = torch.cat([cross, self.y[task][:, None].expand(len(part), n, 1)], -1)
                half = torch.linalg.solve_triangular(L, right, upper=False)
                means.append((half[..., :-1] * half[..., -1:]).sum(-2))
                sds.append((1.0 - half[..., :-1].square().sum(-2)).clamp_min(1e-12).sqrt())
        shape = (len(theta), theta.shape[1], Q.shape[1])
        return torch.cat(means).reshape(shape).transpose(1, 2), torch.cat(sds).reshape(shape).transpose(1, 2)


def _pieces(theta: Tensor, at_once: int) -> list[Tensor]:
    """The rows of theta in pieces of at most so many, at least one."""
    size = max(1, at_once)
    return [theta[start : start + size] for start in range(0, len(theta), size)]


def sample_posterior(rows: Rows, prior: Hyperprior, particles: int, seed: int) -> Tensor:
    """(B, particles, d + 1) draws from the posterior of the hyperparameters, of equal weight.

    >>> X = torch.linspace(0.0, 1.0, 12, dtype=DTYPE)[None, :, None]
    >>> draws = sample_posterior(Rows(X, torch.sin(9.0 * X[..., 0])), Hyperprior.plain(1), 64, seed=0)
    >>> draws.shape, bool(draws[0, :, 1].exp().median() < 0.05)
    (torch.Size([1, 64, 2]), True)
    """
    generator = torch.Generator().manual_seed(seed)
    B, _, d = rows.X.shape
    theta = prior.draw(B, particles, d, generator)
    likelihood = rows.log_likelihood(theta)
    power, step = torch.zeros(B, 1, dtype=DTYPE), torch.full((B, 1), 2.38 / math.sqrt(d + 1.0), dtype=DTYPE)
    for _ in range(MOST_STAGES):
        if bool((power >= 1.0).all()):
            break
        higher = _next_power(likelihood, power)
        log_weight = (higher - power) * likelihood.clamp_min(-1e300)
        index = _resample(torch.softmax(log_weight, -1), generator)
        power = higher
        theta = theta.gather(1, index[..., None].expand_as(theta))
        likelihood = likelihood.gather(1, index)
        theta, likelihood, step = _move(rows, prior, theta, likelihood, power, step, MOVES, generator)
    return _move(rows, prior, theta, likelihood, power, step, LAST_MOVES, generator)[0]


def _next_power(likelihood: Tensor, power: Tensor) -> Tensor:
    """(B, 1) powers at which the effective number of particles has fallen to the share that is to survive, at most 1."""

    def alive(candidate: Tensor) -> Tensor:
        weight = torch.softmax((candidate - power) * likelihood.clamp_min(-1e300), -1)
        return 1.0 / (weight.square().sum(-1, keepdim=True) * likelihood.shape[1])

    low, high = power.clone(), torch.ones_like(power)
    enough = alive(high) >= SURVIVE
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        good = alive(middle) >= SURVIVE
        low, high = torch.where(good, middle, low), torch.where(good, high, middle)
    return torch.where(enough, torch.ones_like(power), high)


def _resample(weight: Tensor, generator: torch.Generator) -> Tensor:
    """(B, P) indices by systematic resampling of weights (B, P)."""
    B, P = weight.shape
    at = (torch.arange(P, dtype=DTYPE) + torch.rand(B, 1, generator=generator, dtype=DTYPE)) / P
    return torch.searchsorted(weight.cumsum(-1).contiguous(), at).clamp_max(P - 1)


def _move(
    rows: Rows, prior: Hyperprior, theta: Tensor, likelihood: Tensor, power: Tensor, step: Tensor, count: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Random walks that leave prior times likelihood to the power alone; the step follows what is accepted."""
    P, size = theta.shape[1:]
    off = theta - theta.mean(1, keepdim=True)
    shape = torch.linalg.cholesky(off.transpose(1, 2) @ off / P + 1e-6 * torch.eye(size, dtype=DTYPE))
    density = prior.log_density(theta)
    for _ in range(count):
        walk = torch.randn(theta.shape, generator=generator, dtype=DTYPE) @ shape.transpose(1, 2)
        proposed = theta + step[..., None] * walk
        proposed_density = prior.log_density(proposed)
        proposed_likelihood = rows.log_likelihood(proposed)
        gain = proposed_density - density + power * (proposed_likelihood - likelihood)
        chance = torch.rand(gain.shape, generator=generator, dtype=DTYPE).log()
        accept = chance < gain
        theta = torch.where(accept[..., None], proposed, theta)
        density = torch.where(accept, proposed_density, density)
        likelihood = torch.where(accept, proposed_likelihood, likelihood)
        step = step * torch.exp(accept.to(DTYPE).mean(1, keepdim=True) - ACCEPT)
    return theta, likelihood, step
