"""The PFN as a BoTorch model: its posterior against ours, against draws and differences, and BoTorch's acquisitions on it.

The network is a small one with random weights: what is tested here holds for any.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("surrogates.gp_botorch", reason="needs the extra bbopt[botorch]", exc_type=ImportError)
pytest.importorskip("safetensors", reason="needs the extra bbopt[pfn]")

import torch
from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.acquisition.analytic import (
    AnalyticAcquisitionFunction,
    LogConstrainedExpectedImprovement,
    LogExpectedImprovement,
    PosteriorMean,
    ProbabilityOfImprovement,
    UpperConfidenceBound,
)
from botorch.acquisition.knowledge_gradient import qKnowledgeGradient
from botorch.acquisition.logei import qLogExpectedImprovement, qLogNoisyExpectedImprovement
from botorch.acquisition.monte_carlo import qUpperConfidenceBound
from botorch.acquisition.objective import ExpectationPosteriorTransform, ScalarizedPosteriorTransform
from botorch.models.model import Model, ModelList
from botorch.optim import optimize_acqf, optimize_acqf_mixed
from botorch.posteriors.posterior import Posterior
from botorch.sampling.get_sampler import get_sampler
from botorch.sampling.normal import IIDNormalSampler, SobolQMCNormalSampler
from torch import Tensor

import problems
from bbopt.errors import UsageError, ValueRefused
from surrogates.columns import Inputs
from surrogates.mixture_posterior import MixturePosterior, WeightedSum, value_at
from surrogates.pfn.mixture import Mixture
from surrogates.pfn.network import Network, Shape
from surrogates.pfn.normalise import Normal
from surrogates.pfn.posterior import PFNPosterior, fit_pfn
from surrogates.pfn_botorch import MixtureLogConstrainedEI, MixtureLogEI, PFNBoTorch, as_botorch

Array = NDArray[np.float64]
ROUGH = {"seed": 0, "factr": 5e10}
"""Of L-BFGS: it stops where the network's single precision does; else it warns of line searches that find noise."""
BOX = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)


@cache
def network() -> Network:
    """A small network in which every part has a say."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Network(Shape(width=32, layers=2, heads=2, inner=64))
        with torch.no_grad():
            for weight in net.parameters():
                weight += 0.05 * torch.randn_like(weight)
    return net.requires_grad_(False)


def believed(m: int = 2, n: int = 12, wild: bool = False, category: bool = False) -> PFNPosterior:
    """m functions of two columns after n rows; `wild`: targets so skewed that standardisation bends."""
    rng = np.random.default_rng(3)
    X = rng.random((n, 2))
    if category:
        X[:, 1] = rng.integers(3, size=n)
    Y = np.column_stack([np.sin(5 * X[:, 0]) + X[:, 1], 3.0 * (X[:, 0] - X[:, 1]) ** 2, X.sum(1)])[:, :m]
    if wild:
        Y[0] += 1e3
    inputs = Inputs(("float", "category"), (0, 3), (0, 1)) if category else Inputs.continuous(2)
    return fit_pfn(inputs, X, Y, network())


def points(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).random((*shape, 2)))


def differences(function: Callable[[Tensor], Tensor], X: Tensor, h: float = 2e-3) -> Tensor:
    """Central differences of a sum over points; the network is float32, which bounds h from below."""
    slope = torch.zeros_like(X)
    for place in np.ndindex(*X.shape):
        step = torch.zeros_like(X)
        step[place] = h
        with torch.no_grad():
            slope[place] = (function(X + step).sum() - function(X - step).sum()) / (2.0 * h)
    return slope


# -- the posterior -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wild", [False, True])
def test_mean_and_variance_are_those_of_our_posterior(wild: bool) -> None:
    belief, X = believed(wild=wild), points(3, 2, 4)
    posterior = as_botorch(belief).posterior(X)
    assert posterior.mean.shape == posterior.variance.shape == (3, 2, 4, 2)
    mean, variance = belief.mean_variance(X.reshape(-1, 2).numpy())
    assert posterior.mean.reshape(-1, 2).numpy() == pytest.approx(mean, rel=1e-5, abs=1e-6)
    assert posterior.variance.reshape(-1, 2).numpy() == pytest.approx(variance, rel=1e-5)


def test_noise_is_added_when_asked_for() -> None:
    belief, X = believed(), points(5)
    model = as_botorch(belief)
    added = model.posterior(X, observation_noise=True).variance - model.posterior(X).variance
    assert added.numpy() == pytest.approx(belief.noise_variance(X.numpy()), rel=1e-4)


def test_t_batches_equal_a_loop() -> None:
    model, X = as_botorch(believed()), points(3, 2, 4)
    whole = model.posterior(X)
    for i in range(3):
        for j in range(2):
            part = model.posterior(X[i, j])
            assert torch.allclose(whole.mean[i, j], part.mean, rtol=1e-5, atol=1e-6)
            assert torch.allclose(whole.variance[i, j], part.variance, rtol=1e-5, atol=1e-8)


def test_many_points_go_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model, X = as_botorch(believed()), points(9, 2)
    whole = model.posterior(X).mean
    monkeypatch.setattr("surrogates.pfn_botorch.POINTS_AT_ONCE", 7)
    assert torch.allclose(model.posterior(X).mean, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wild", [False, True])
def test_quantiles_are_those_of_our_posterior(wild: bool) -> None:
    belief, X, at = believed(wild=wild), points(6), torch.tensor([1e-6, 0.1, 0.5, 0.97])
    posterior = as_botorch(belief).posterior(X)
    ours = belief.quantiles(X.numpy(), at.double().numpy())  # (q, m, k)
    assert posterior.quantile(at).permute(1, 2, 0).numpy() == pytest.approx(ours, rel=1e-5, abs=1e-5)
    assert torch.equal(posterior.quantile(at[1]), posterior.quantile(at)[1])


@pytest.mark.parametrize("wild", [False, True])
def test_density_is_the_slope_of_the_probability(wild: bool) -> None:
    posterior = as_botorch(believed(m=1, wild=wild)).posterior(points(4))
    for y in (0.3, 1.1, 900.0) if wild else (0.3, 1.1):
        h = 1e-3 * posterior.normal.width.item()
        slope = posterior.log_between(y - h, y + h).exp() / (2.0 * h)
        assert torch.allclose(posterior.density(torch.tensor(y)), slope, rtol=1e-2)


def test_draws_have_the_moments_and_quantiles_of_the_mixture() -> None:
    posterior = as_botorch(believed()).posterior(points(3))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        draws = posterior.rsample(torch.Size([20_000]))
    assert draws.shape == (20_000, 3, 2)
    sd = posterior.variance.sqrt()
    assert ((draws.mean(0) - posterior.mean).abs() <= 5.0 * sd / 20_000**0.5).all()
    for p in (0.02, 0.5, 0.9):
        below = (draws <= posterior.quantile(torch.tensor(p))).double().mean(0)
        assert ((below - p).abs() <= 5.0 * (p * (1.0 - p) / 20_000) ** 0.5).all()
    ranks = (draws > posterior.quantile(torch.tensor(0.5))).double() - 0.5
    assert (ranks[:, 0] * ranks[:, 1]).mean(0).abs().max() < 0.01  # points are independent
    even = torch.special.ndtri((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000).reshape(-1, 1, 1)
    draws = posterior.rsample_from_base_samples(torch.Size([20_000]), even.expand(-1, 3, 2))
    assert torch.allclose(draws.mean(0), posterior.mean, atol=1e-4)
    assert torch.allclose(draws.var(0), posterior.variance, rtol=0.05)  # tails beyond 4 sd are not drawn


def test_one_set_of_base_samples_serves_all_t_batches() -> None:
    model, X = as_botorch(believed()), points(4, 3)
    sampler = get_sampler(model.posterior(X), torch.Size([16]), seed=0)
    assert isinstance(sampler, SobolQMCNormalSampler)
    draws = sampler(model.posterior(X))
    again = sampler(model.posterior(X.flip(0)))
    assert draws.shape == (16, 4, 3, 2)
    assert torch.allclose(draws, again.flip(1), rtol=1e-5, atol=1e-5)
    assert isinstance(get_sampler(model.posterior(points(11_000)), torch.Size([1]), seed=0), IIDNormalSampler)


# -- inversion ---------------------------------------------------------------------------------------------------------------

HARD = {
    "needles far apart": ([0.3, 0.7], [-5.0, 5.0], [1e-6, 1e-7]),
    "a needle in a hill": ([0.5, 0.5], [0.1, 0.0], [1e-8, 10.0]),
    "a hill that hardly counts": ([1.0 - 1e-9, 1e-9], [0.0, 50.0], [0.1, 20.0]),
    "one": ([1.0], [2.0], [3.0]),
}


@pytest.mark.parametrize("name", HARD)
def test_quantiles_of_hard_mixtures_lead_back(name: str) -> None:
    weight, mean, sd = (torch.tensor(part, dtype=torch.float64) for part in HARD[name])
    mixture, u = Mixture(weight.log(), mean, sd), torch.linspace(-9.0, 9.0, 181, dtype=torch.float64)
    z = value_at(mixture, u)
    assert bool((z[1:] >= z[:-1]).all())
    many = Mixture(*(part.expand(181, -1) for part in (mixture.log_weight, mixture.mean, mixture.sd)))
    lower, upper = u <= 0.0, u > 0.0
    wide = {"needles far apart": 1e-7, "a needle in a hill": 1e-6}.get(name, 1e-11)  # a needle is few numbers wide
    assert many.log_below(z)[lower].numpy() == pytest.approx(torch.special.log_ndtr(u)[lower].numpy(), rel=wide)
    assert many.log_above(z)[upper].numpy() == pytest.approx(torch.special.log_ndtr(-u)[upper].numpy(), rel=wide)


def test_slopes_of_quantiles_are_right() -> None:
    raw = torch.tensor([0.2, -0.5, 0.4], dtype=torch.float64, requires_grad=True)
    mean = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    sd = torch.tensor([0.5, 1.0, 0.2], dtype=torch.float64, requires_grad=True)
    u = torch.tensor([-6.0, -1.0, 0.0, 0.7, 4.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda r, m, s: value_at(Mixture(r.log_softmax(-1), m, s), u), (raw, mean, sd))


# -- gradients ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["mean", "variance", "draws"])
def test_gradients_are_those_of_differences(what: str) -> None:
    model, X = as_botorch(believed()), points(2, 2)
    base = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 2, 2, 2)))

    def value(X: Tensor) -> Tensor:
        posterior = model.posterior(X)
        if what == "draws":
            return posterior.rsample_from_base_samples(torch.Size([3]), base)
        return posterior.mean if what == "mean" else posterior.variance

    at = X.clone().requires_grad_()
    value(at).sum().backward()
    slope = differences(value, X)
    assert at.grad is not None
    assert torch.allclose(at.grad, slope, rtol=1e-2, atol=1e-2 * slope.abs().max().item())


def test_categories_count_and_have_no_slope() -> None:
    belief = believed(category=True)
    X = torch.tensor([[[0.3, 0.0], [0.3, 1.0], [0.3, 2.0]]], dtype=torch.float64, requires_grad=True)
    posterior = as_botorch(belief).posterior(X)
    mean, _ = belief.mean_variance(X[0].detach().numpy())
    assert posterior.mean[0].detach().numpy() == pytest.approx(mean, rel=1e-5, abs=1e-6)
    posterior.mean.sum().backward()
    assert X.grad is not None
    assert bool((X.grad[..., 0] != 0.0).all()) and bool((X.grad[..., 1] == 0.0).all())


def test_the_network_is_left_alone() -> None:
    """Acquisitions call `.to` on the whole model; slopes of a network in training must not pile up."""
    trained = Network(Shape(width=32, layers=1, heads=2, inner=32))
    belief = believed()
    model = as_botorch(fit_pfn(belief.inputs, belief.X, belief.Y[:, :1], trained))
    X = points(2, 1).requires_grad_()
    LogExpectedImprovement(model, best_f=0.0)(X).sum().backward()
    assert {weight.dtype for weight in trained.parameters()} == {torch.float32}
    assert all(weight.grad is None and weight.requires_grad for weight in trained.parameters())


# -- acquisitions ------------------------------------------------------------------------------------------------------------


def sampler() -> SobolQMCNormalSampler:
    return SobolQMCNormalSampler(torch.Size([32]), seed=0)


ONE: dict[str, Callable[[Model], AcquisitionFunction]] = {
    "LogEI": lambda model: LogExpectedImprovement(model, 0.2, maximize=False),
    "UCB": lambda model: UpperConfidenceBound(model, 4.0, maximize=False),
    "PosteriorMean": lambda model: PosteriorMean(model, maximize=False),
    "PI": lambda model: ProbabilityOfImprovement(model, 0.9, maximize=False),
    "MixtureLogEI": lambda model: MixtureLogEI(model, 0.2, maximize=False),
    "qLogEI": lambda model: qLogExpectedImprovement(model, 0.9, sampler()),
    "qLogEI, its own sampler": lambda model: qLogExpectedImprovement(model, 0.9),
    "qUCB": lambda model: qUpperConfidenceBound(model, 4.0, sampler()),
    "qLogNEI": lambda model: qLogNoisyExpectedImprovement(model, points(4), sampler(), prune_baseline=False),
}
LIMITS = {1: (None, 1.0), 2: (0.3, 1.4)}
SEVERAL: dict[str, Callable[[Model], AcquisitionFunction]] = {
    "LogCEI": lambda model: LogConstrainedExpectedImprovement(model, 0.5, 0, LIMITS, maximize=False),
    "MixtureLogConstrainedEI": lambda model: MixtureLogConstrainedEI(model, 0.5, 0, LIMITS, maximize=False),
    "qLogEI of a sum": lambda model: qLogExpectedImprovement(
        model, 0.5, sampler(), posterior_transform=ScalarizedPosteriorTransform(torch.tensor([1.0, -1.0, 0.5]).double())
    ),
    "qLogEI with constraints": lambda model: qLogExpectedImprovement(
        model, 0.5, sampler(), objective=lambda samples, X=None: -samples[..., 0],
        constraints=[lambda samples: samples[..., 1] - 1.0], eta=0.1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*ONE, *SEVERAL])
def test_acquisitions_evaluate_and_are_optimised(name: str) -> None:
    model = as_botorch(believed(1 if name in ONE else 3))
    acquisition = (ONE | SEVERAL)[name](model)
    X = points(5, 1)
    value = acquisition(X)
    assert value.shape == (5,) and bool(value.isfinite().all())
    alone = torch.cat([acquisition(x[None]) for x in X])
    assert torch.allclose(value, alone, rtol=1e-4, atol=1e-5)
    with torch.random.fork_rng():
        best, at = optimize_acqf(acquisition, BOX, q=1, num_restarts=2, raw_samples=16, options={"maxiter": 8, **ROUGH})
    assert best.shape == (1, 2) and bool(((best >= 0.0) & (best <= 1.0)).all())
    assert at >= value.max() - 1e-3 - 0.1 * value.max().abs()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ONE, *SEVERAL])
def test_gradients_of_acquisitions_are_those_of_differences(name: str) -> None:
    acquisition = (ONE | SEVERAL)[name](as_botorch(believed(1 if name in ONE else 3)))
    X = points(6, 1)
    at = X.clone().requires_grad_()
    acquisition(at).sum().backward()
    slope = differences(acquisition, X)
    assert at.grad is not None
    assert torch.allclose(at.grad, slope, rtol=5e-2, atol=2e-2 * slope.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("sequential", [False, True])
def test_batches_are_optimised(sequential: bool) -> None:
    acquisition = ONE["qLogEI"](as_botorch(believed(1)))
    with torch.random.fork_rng():
        best, _ = optimize_acqf(
            acquisition, BOX, q=3, num_restarts=2, raw_samples=16, sequential=sequential, options=ROUGH
        )
    assert best.shape == (3, 2) and acquisition.X_pending is None


def test_mixed_spaces_are_optimised() -> None:
    acquisition = MixtureLogEI(as_botorch(believed(1, category=True)), 0.2, maximize=False)
    box = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    with torch.random.fork_rng():
        best, _ = optimize_acqf_mixed(
            acquisition, box, q=1, num_restarts=1, raw_samples=4, options={"maxiter": 5, **ROUGH},
            fixed_features_list=[{1: 0.0}, {1: 1.0}, {1: 2.0}],
        )  # fmt: skip
    assert best[0, 1].item() in (0.0, 1.0, 2.0)


class OneGaussian(Model):
    """Two outputs with a single component each: what BoTorch's formulas are made for."""

    num_outputs, batch_shape = 2, torch.Size()

    def posterior(self, X: Tensor, posterior_transform: None = None) -> Posterior:  # type: ignore[override]
        mean = torch.stack([X.sum(-1) - 1.0, X[..., 0] - 3.0 * X[..., 1]], -1)[..., None]
        mixture = Mixture(torch.zeros_like(mean), 0.1 * mean, 0.1 + 0.01 * mean.square())
        return MixturePosterior(
            mixture, Normal(torch.tensor([[1.0, -2.0]]).double(), torch.tensor([[3.0, 0.5]]).double())
        )


@pytest.mark.parametrize("maximize", [False, True])
def test_one_component_gives_the_formulas_of_botorch(maximize: bool) -> None:
    X, limits = points(20, 1), {1: (-2.125, -1.875)}
    ours: AnalyticAcquisitionFunction = MixtureLogConstrainedEI(OneGaussian(), 1.125, 0, limits, maximize)
    theirs = LogConstrainedExpectedImprovement(OneGaussian(), 1.125, 0, limits, maximize)
    assert torch.allclose(ours(X), theirs(X), rtol=1e-9)
    for limit in ((None, -1.875), (-2.125, None)):
        ours = MixtureLogConstrainedEI(OneGaussian(), 1.125, 0, {1: limit}, maximize)
        theirs = LogConstrainedExpectedImprovement(OneGaussian(), 1.125, 0, {1: limit}, maximize)
        assert torch.allclose(ours(X), theirs(X), rtol=1e-9)


@pytest.mark.parametrize("maximize", [False, True])
def test_mixture_improvement_is_that_of_a_million_draws(maximize: bool) -> None:
    belief, X = believed(1), points(4)
    best = float(np.quantile(belief.Y, 0.5))
    exact = MixtureLogEI(as_botorch(belief), best, maximize=maximize)(X[:, None]).exp()
    draws = torch.from_numpy(belief.sample(X.numpy(), 1_000_000, np.random.default_rng(0))[..., 0])
    gain = ((draws - best) if maximize else (best - draws)).clamp_min(0.0)
    assert ((exact - gain.mean(0)).abs() <= 4.0 * gain.std(0) / 1e3).all()


def test_mixture_improvement_is_that_of_our_posterior() -> None:
    belief, X = believed(3), points(7)
    limits = np.array([0.5, 1.0, 1.4])
    value = MixtureLogConstrainedEI(as_botorch(belief), 0.5, 0, {1: (None, 1.0), 2: (None, 1.4)}, maximize=False)(
        X[:, None]
    )
    ours = belief.log_expected_improvement(X.numpy(), limits)[:, 0]
    ours += belief.log_probability_below(X.numpy(), limits)[:, 1:].sum(1)
    assert value.numpy() == pytest.approx(ours, rel=1e-5, abs=1e-5)


def test_draws_give_the_same_improvement() -> None:
    model, X = as_botorch(believed(1)), points(30, 1)
    many = SobolQMCNormalSampler(torch.Size([4096]), seed=0)
    exact = MixtureLogEI(model, 0.5)(X)
    X, exact = X[exact > -4.0], exact[exact > -4.0]
    drawn = qLogExpectedImprovement(model, 0.5, many, tau_relu=1e-4, tau_max=1e-4)(X)
    assert len(X) > 5 and torch.allclose(drawn, exact, atol=0.05)


# -- transforms and outputs --------------------------------------------------------------------------------------------------


def test_a_weight_of_minus_one_minimises() -> None:
    belief, X = believed(1), points(5, 1)
    model, minus = as_botorch(belief), ScalarizedPosteriorTransform(torch.tensor([-1.0], dtype=torch.float64))
    assert torch.allclose(model.posterior(X, posterior_transform=minus).mean, -model.posterior(X).mean)
    least = MixtureLogEI(model, 0.2, maximize=False)(X)
    assert torch.allclose(MixtureLogEI(model, -0.2, posterior_transform=minus)(X), least, rtol=1e-6)


def test_one_weight_of_several_stays_a_mixture() -> None:
    model, X = as_botorch(believed(3)), points(5)
    chosen = model.posterior(X, posterior_transform=ScalarizedPosteriorTransform(torch.tensor([0.0, -2.0, 0.0]), 1.0))
    assert isinstance(chosen, MixturePosterior)
    of = model.posterior(X, output_indices=[1])
    assert torch.allclose(chosen.mean, 1.0 - 2.0 * of.mean) and torch.allclose(chosen.variance, 4.0 * of.variance)
    at = torch.tensor(0.9)
    assert torch.allclose(chosen.quantile(at), 1.0 - 2.0 * of.quantile(1.0 - at), rtol=1e-5)


def test_a_sum_has_the_moments_of_independent_outputs() -> None:
    model, X = as_botorch(believed(2)), points(3)
    weights = torch.tensor([0.5, -2.0], dtype=torch.float64)
    total, each = model.posterior(X, posterior_transform=ScalarizedPosteriorTransform(weights, 1.0)), model.posterior(X)
    assert isinstance(total, WeightedSum)
    assert torch.allclose(total.mean[..., 0], 1.0 + each.mean @ weights)
    assert torch.allclose(total.variance[..., 0], each.variance @ weights.square())
    draws = get_sampler(total, torch.Size([4096]), seed=0)(total)
    assert draws.shape == (4096, 3, 1) == total._extended_shape(torch.Size([4096]))
    parts = get_sampler(each, torch.Size([4096]), seed=0)(each)
    assert torch.allclose(draws[..., 0], 1.0 + parts @ weights)
    with pytest.raises(UsageError, match="one mixture per output; got a WeightedSum"):
        MixtureLogEI(model, 0.0, ScalarizedPosteriorTransform(weights))(X[:, None])


def test_outputs_are_chosen_without_reading_again() -> None:
    model, X = as_botorch(believed(3)), points(2, 3)
    all_of_them = model.posterior(X)
    part = model.subset_output([2, -3])
    assert part.num_outputs == 2 and model.num_outputs == 3
    for chosen in (part.posterior(X), model.posterior(X, output_indices=[2, 0])):
        assert torch.allclose(chosen.mean, all_of_them.mean[..., [2, 0]], rtol=1e-5, atol=1e-6)


def test_it_stands_in_a_list_of_models() -> None:
    model, X = as_botorch(believed(1)), points(4, 2)
    pair = ModelList(model, model)
    assert pair.posterior(X).mean.shape == (4, 2, 2)
    acquisition = qLogExpectedImprovement(pair, 0.5, objective=lambda samples, X=None: samples.sum(-1))
    assert bool(acquisition(X).isfinite().all())


# -- more rows -----------------------------------------------------------------------------------------------------------------


def test_more_rows_shift_the_mean() -> None:
    belief, X = believed(), points(1)
    model = as_botorch(belief)
    before = model.posterior(X).mean
    after = model.condition_on_observations(X, before + 1.0)
    assert after.batch_shape == () and after.num_outputs == 2
    assert bool((after.posterior(X).mean > before + 0.05).all())
    again = belief.given(X.numpy(), before.numpy() + 1.0).mean_variance(X.numpy())[0]
    assert after.posterior(X).mean.numpy() == pytest.approx(again, rel=1e-6)


def test_fantasies_are_a_batch_of_models() -> None:
    model, X, T = as_botorch(believed()), points(2), points(5)
    draw = SobolQMCNormalSampler(torch.Size([3]), seed=0)
    many = model.fantasize(X, draw)
    assert many.batch_shape == (3,) and many.num_outputs == 2
    drawn = draw(model.posterior(X, observation_noise=True))
    assert many.posterior(T).mean.shape == (3, 5, 2)
    apart = torch.from_numpy(np.random.default_rng(9).random((4, 3, 5, 2)))
    for i in range(3):
        one = model.condition_on_observations(X, drawn[i])
        assert torch.allclose(many.posterior(T).mean[i], one.posterior(T).mean, rtol=1e-4, atol=1e-4)
        assert torch.allclose(many.posterior(apart).mean[:, i], one.posterior(apart[:, i]).mean, rtol=1e-4, atol=1e-4)
    first = many.subset_output([0])
    assert torch.allclose(first.posterior(T).mean[..., 0], many.posterior(T).mean[..., 0], rtol=1e-4, atol=1e-5)
    twice = many.fantasize(T[:1], SobolQMCNormalSampler(torch.Size([2]), seed=1))
    assert twice.batch_shape == (2, 3) and twice.posterior(T).mean.shape == (2, 3, 5, 2)
    assert many.fantasize(T[:1], SobolQMCNormalSampler(torch.Size([3]), seed=1)).batch_shape == (3, 3)


# -- refusals ------------------------------------------------------------------------------------------------------------------


def test_wrong_shapes_and_options_are_refused() -> None:
    model, X = as_botorch(believed()), points(3)
    with pytest.raises(UsageError, match=r"shape \(\*b, q, 2\); got \(3, 1\)"):
        model.posterior(X[:, :1])
    with pytest.raises(UsageError, match=r"got \(2,\)"):
        model.posterior(X[0])
    with pytest.raises(ValueRefused, match="finite"):
        model.posterior(X * torch.nan)
    with pytest.raises(UsageError, match="indices of outputs from 0 to 1"):
        model.posterior(X, output_indices=[2])
    with pytest.raises(UsageError, match="observation_noise True or False"):
        model.posterior(X, observation_noise=torch.ones(1))
    with pytest.raises(UsageError, match="2 weights"):
        model.posterior(X, posterior_transform=ScalarizedPosteriorTransform(torch.ones(3)))
    with pytest.raises(UsageError, match="joint distribution"):
        model.posterior(X, posterior_transform=ExpectationPosteriorTransform(3))
    with pytest.raises(ValueRefused, match="index from 0 to 2 in column 1"):
        as_botorch(believed(category=True)).posterior(X)
    with pytest.raises(UsageError, match="multiple of 3 outputs"):
        PFNBoTorch(believed(), torch.Size([3]))
    with pytest.raises(UsageError, match="probabilities between 0 and 1"):
        model.posterior(X).quantile(torch.tensor(1.0))
    with pytest.raises(UsageError, match="one number or a row"):
        model.posterior(X).density(torch.ones(1, 2))
    with pytest.raises(UsageError, match="base samples of shape"):
        model.posterior(X).rsample_from_base_samples(torch.Size([4]), torch.zeros(5, 3, 2))


def test_rows_that_cannot_be_read_are_refused() -> None:
    model, X = as_botorch(believed()), points(3)
    with pytest.raises(UsageError, match="one t-batch at a time"):
        model.condition_on_observations(points(2, 3), points(2, 3))
    with pytest.raises(UsageError, match=r"shape \(\*c, 3, 2\), one row per row of X; got \(2, 2\)"):
        model.condition_on_observations(X, X[:2])
    with pytest.raises(UsageError, match="without gradients"):
        model.condition_on_observations(X.clone().requires_grad_(), X)
    many = model.condition_on_observations(X, torch.zeros(4, 3, 2))
    with pytest.raises(UsageError, match=r"ends in the batch of the model, \(4,\); got \(3,\)"):
        many.posterior(points(3, 1))
    gradient = qKnowledgeGradient(as_botorch(believed(1)), num_fantasies=2)
    with torch.no_grad():
        assert bool(gradient(points(3)).isfinite().all())
    with pytest.raises(UsageError, match="knowledge gradient"):
        gradient(points(3).requires_grad_())


def test_constraints_that_make_no_sense_are_refused() -> None:
    model = as_botorch(believed())
    with pytest.raises(UsageError, match="different outputs from 0 to 1"):
        MixtureLogConstrainedEI(model, 0.0, 0, {0: (None, 1.0)})
    with pytest.raises(UsageError, match="lower limits below the upper"):
        MixtureLogConstrainedEI(model, 0.0, 0, {1: (1.0, 1.0)})


@pytest.mark.slow
@pytest.mark.parametrize("module", ["pfn_botorch", "mixture_posterior"])
def test_botorch_missing_names_the_command(module: str) -> None:
    """In a fresh process in which BoTorch cannot be imported."""
    code = f"""
import sys
sys.modules["botorch"] = None
try:
    import surrogates.{module}
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("MissingPackage") and "pip install 'bbopt[botorch,pfn]'" in done.stdout


@pytest.mark.slow
def test_a_search_with_it_finds_the_optimum_of_branin() -> None:
    """6 points and 24 steps of the exact acquisition on an untrained network, which is an average of kernel regressions."""
    problem, rng = problems.get("branin"), np.random.default_rng(0)
    (name,) = problem.task.metrics
    plain = Network().requires_grad_(False)
    X = rng.random((6, 2))
    for _ in range(24):
        y = problem.evaluate(X)[name]
        acquisition = MixtureLogEI(
            as_botorch(fit_pfn(Inputs.continuous(2), X, y[:, None], plain)), y.min(), maximize=False
        )
        with torch.random.fork_rng():
            best, _ = optimize_acqf(acquisition, BOX, q=1, num_restarts=4, raw_samples=64, options=ROUGH)
        X = np.concatenate([X, best.numpy()])
    assert problem.evaluate(X)[name].min() <= 0.397887 + 0.1
