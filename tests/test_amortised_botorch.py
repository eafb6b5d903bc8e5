"""The amortised process as BoTorch models: against ours, against BoTorch's own processes, against draws, and what it refuses."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip("surrogates.gp_botorch", reason="needs the extra bbopt[botorch]", exc_type=ImportError)
pytest.importorskip("safetensors", reason="needs the extra bbopt[pfn]")

import torch
from amortised_beliefs import believed, mixture_of, points, sampler
from botorch.acquisition.analytic import LogExpectedImprovement
from botorch.acquisition.logei import qLogExpectedImprovement
from botorch.acquisition.objective import ExpectationPosteriorTransform, ScalarizedPosteriorTransform
from botorch.exceptions.warnings import InputDataWarning
from botorch.models.gp_regression import SingleTaskGP
from botorch.models.model import ModelList
from botorch.sampling.get_sampler import get_sampler
from botorch.sampling.normal import IIDNormalSampler, SobolQMCNormalSampler
from gpytorch.kernels import ConstantKernel, MaternKernel, RBFKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.means import ZeroMean
from torch import Tensor

from bbopt.errors import UsageError, ValueRefused
from surrogates.amortised.components import Components
from surrogates.amortised.posterior import AmortisedGP, condition_components
from surrogates.amortised_botorch import AmortisedEnsemble, AmortisedMixture, to_botorch
from surrogates.columns import Inputs
from surrogates.gp import condition
from surrogates.gp_mixture_posterior import GPMixturePosterior, JointSum
from surrogates.kernels import Kernel
from surrogates.map_fit import Fitted
from surrogates.pfn_botorch import MixtureLogEI


@pytest.fixture
def double() -> Iterator[None]:
    """BoTorch's and GPyTorch's own classes make parameters of torch's default type; restored afterwards."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


# -- the posterior -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("category", [False, True])
def test_moments_are_those_of_our_posterior(category: bool, known: bool) -> None:
    belief, X = believed(3, category=category, known=known), points(3, 2, 4)
    if category:
        X[..., 1] = torch.from_numpy(np.random.default_rng(0).integers(3, size=(3, 2, 4)))
    posterior = mixture_of(to_botorch(belief), X)
    assert posterior.mean.shape == posterior.variance.shape == (3, 2, 4, 3) and posterior.batch_shape == (3, 2)
    mean, variance = belief.mean_variance(X.reshape(-1, 2).numpy())
    assert posterior.mean.reshape(-1, 3).numpy() == pytest.approx(mean, abs=1e-9)
    assert posterior.variance.reshape(-1, 3).numpy() == pytest.approx(variance, abs=1e-9)
    assert posterior.covariance[1, 1].numpy() == pytest.approx(belief.covariance(X[1, 1].numpy()), abs=1e-9)


def test_quantiles_and_densities_are_those_of_our_posterior() -> None:
    belief, X, at = believed(), points(6), torch.tensor([1e-6, 0.1, 0.5, 0.97], dtype=torch.float64)
    posterior = to_botorch(belief).posterior(X)
    ours = belief.quantiles(X.numpy(), at.numpy())  # (q, m, k)
    assert posterior.quantile(at).permute(1, 2, 0).numpy() == pytest.approx(ours, abs=1e-8)
    assert torch.equal(posterior.quantile(at[1]), posterior.quantile(at)[1])
    limits = np.array([0.3, -20.0])  # far out too: nothing is bent
    ends = [np.exp(belief.log_probability_below(X.numpy(), limits + step)[:, 0]) for step in (-1e-4, 1e-4)]
    slope = (ends[1] - ends[0]) / 2e-4
    assert posterior.density(torch.tensor(0.3))[:, 0].numpy() == pytest.approx(slope, rel=1e-3, abs=1e-8)
    below = mixture_of(to_botorch(belief), X).log_between(None, -20.0)[:, 1].numpy()
    assert below == pytest.approx(belief.log_probability_below(X.numpy(), limits)[:, 1], rel=1e-8)


def test_only_the_heaviest_components_where_it_is_asked_for() -> None:
    belief, X = believed(), points(5)
    fewer = to_botorch(belief, at_most=2).posterior(X)
    assert fewer.mean.numpy() == pytest.approx(belief.at_most(2).mean_variance(X.numpy())[0], abs=1e-9)


@pytest.mark.parametrize("known", [False, True])
def test_noise_is_added_when_asked_for(known: bool) -> None:
    belief, X = believed(known=known), points(5)
    model = to_botorch(belief)
    plain = model.posterior(X)
    added = model.posterior(X, observation_noise=True).variance - plain.variance
    each = [(np.exp(part.log_weight) * part.scale * part.noise**2).sum() for part in belief.components]
    each = each if belief.variances is None else each + belief.variances.mean(0)
    assert added.numpy() == pytest.approx(np.tile(each, (5, 1)), rel=1e-6)
    said = torch.tensor([[0.3, 0.0]])
    added = model.posterior(X, observation_noise=said).variance - plain.variance
    assert torch.allclose(added, said.double().expand(5, 2), atol=1e-9)
    joint = model.posterior(X, observation_noise=said).covariance[0] - plain.covariance[0]
    assert torch.allclose(joint, 0.3 * torch.eye(5).double(), atol=1e-7)


def test_t_batches_equal_a_loop() -> None:
    model, X = to_botorch(believed()), points(3, 2, 4)
    whole = mixture_of(model, X)
    for i in range(3):
        for j in range(2):
            part = mixture_of(model, X[i, j])
            assert torch.allclose(whole.mean[i, j], part.mean, atol=1e-12)
            assert torch.allclose(whole.covariance[i, j], part.covariance, atol=1e-12)


# -- one component: BoTorch's own process ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("category", [False, True])
@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
def test_one_component_is_the_model_that_a_process_hands_over(
    kernel: Kernel, category: bool, known: bool, outputs: int
) -> None:
    base = believed(outputs, category=category, known=known)
    lengthscales, noise, scale = np.array([0.4, 0.8]), 0.02, 1.7
    fitted = Fitted(lengthscales, scale, scale * noise**2, 0.0, 0.0, 0.0, 0)
    theirs = condition(base.inputs, base.X, base.Z, [fitted] * outputs, kernel, base.variances).botorch_model()
    single = Components.single(kernel, lengthscales, noise, scale, 0.0)
    model = to_botorch(condition_components(base.inputs, base.X, base.Z, [single] * outputs, base.variances))
    X = points(2, 4)
    if category:
        X[..., 1] = torch.tensor([0.0, 1.0, 2.0, 2.0])
    for ours, reference in ((model, theirs), (model.ensemble(1), theirs)):
        got, expected = ours.posterior(X), reference.posterior(X)
        assert got.mean.reshape(2, 4, outputs).numpy() == pytest.approx(expected.mean.numpy(), abs=1e-6)
        assert got.variance.reshape(2, 4, outputs).numpy() == pytest.approx(expected.variance.numpy(), abs=1e-6)
        matrix, wanted = (p.distribution.covariance_matrix.detach() for p in (got, expected))
        assert matrix.reshape(wanted.shape).numpy() == pytest.approx(wanted.numpy(), abs=1e-6)
        draws = [get_sampler(p, torch.Size([2]), seed=0)(p) for p in (got, expected)]
        assert draws[0].reshape(2, 2, 4, outputs).shape == draws[1].shape


def constant_mean(belief: AmortisedGP) -> SingleTaskGP:
    """GPyTorch's process with a constant kernel in place of the constant mean."""
    part = belief.components[0]
    inner = (
        RBFKernel(ard_num_dims=2)
        if part.kernel[0] == 0
        else MaternKernel([0, 2.5, 1.5][part.kernel[0]], ard_num_dims=2)
    )
    inner.lengthscale = torch.tensor(part.lengthscales[0])
    covariance = ScaleKernel(inner + ConstantKernel())
    covariance.outputscale = torch.tensor(part.scale[0])
    inner_constant = covariance.base_kernel.kernels[1]
    inner_constant.constant = torch.tensor(part.offset)
    likelihood = GaussianLikelihood()
    likelihood.noise = torch.tensor(part.scale[0] * part.noise[0] ** 2)
    return SingleTaskGP(
        torch.tensor(belief.X), torch.tensor(belief.Z), likelihood=likelihood, covar_module=covariance,
        mean_module=ZeroMean(), outcome_transform=None,
    ).eval()  # fmt: skip


@pytest.mark.usefixtures("double")
@pytest.mark.filterwarnings(f"ignore::{InputDataWarning.__module__}.{InputDataWarning.__qualname__}")
@pytest.mark.parametrize("kernel", ["rbf", "matern52", "matern32"])
def test_an_unknown_mean_and_more_rows_are_as_in_gpytorch(kernel: Kernel) -> None:
    base = believed(1)
    single = Components.single(kernel, np.array([0.4, 0.8]), 0.1, 1.7, 10.0)
    belief = condition_components(base.inputs, base.X, base.Z, [single])
    model, theirs = to_botorch(belief), constant_mean(belief)
    X, new = points(2, 4), points(3)
    theirs.posterior(X)  # theirs can be told more only after a prediction
    Y = torch.randn(5, 3, 1, generator=torch.Generator().manual_seed(0))
    for ours, reference, at in (
        (model, theirs, X),
        (model.condition_on_observations(new, Y), theirs.condition_on_observations(new.expand(5, 3, 2), Y), X[0]),
    ):
        got, expected = ours.posterior(at), reference.posterior(at)
        assert got.mean.numpy() == pytest.approx(expected.mean.detach().numpy(), abs=1e-6)
        matrix = got.distribution.covariance_matrix
        assert matrix.numpy() == pytest.approx(expected.distribution.covariance_matrix.detach().numpy(), abs=1e-6)


# -- draws -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(), (3,)])
def test_draws_have_the_joint_moments_and_quantiles_of_the_mixture(batch: tuple[int, ...]) -> None:
    posterior = mixture_of(to_botorch(believed()), points(*batch, 3))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        draws = posterior.rsample(torch.Size([20_000]))
    assert draws.shape == (20_000, *batch, 3, 2)
    sd = posterior.variance.sqrt()
    assert ((draws.mean(0) - posterior.mean).abs() <= 5.0 * sd / 20_000**0.5).all()
    apart = draws - draws.mean(0)
    covariance = torch.einsum("s...qm,s...rm->...mqr", apart, apart) / 20_000
    widest = posterior.variance.amax()
    assert torch.allclose(covariance, posterior.covariance, atol=0.08 * float(widest))
    across = torch.einsum("s...q,s...r->...qr", apart[..., 0], apart[..., 1]) / 20_000
    assert across.abs().max() < 0.03 * widest  # outputs are independent
    for p in (0.02, 0.5, 0.9):
        below = (draws <= posterior.quantile(torch.tensor(p))).double().mean(0)
        assert ((below - p).abs() <= 5.0 * (p * (1.0 - p) / 20_000) ** 0.5).all()


def test_one_draw_takes_one_process_at_all_points() -> None:
    """Two processes that are certain of different things: no draw mixes them."""
    two = Components(
        np.zeros(2, int), np.full((2, 2), 1e3), np.array([1e-3, 1.0]), np.full(2, 1e-4), np.log([0.5, 0.5])
    )
    belief = condition_components(Inputs.continuous(2), np.full((1, 2), 0.5), np.ones((1, 1)), [two])
    posterior = to_botorch(belief).posterior(points(6))
    draws = get_sampler(posterior, torch.Size([64]), seed=0)(posterior)[..., 0]
    assert (draws.max(1).values - draws.min(1).values).max() < 0.01
    assert 0.4 <= (draws[:, 0] > 0.97).double().mean() <= 0.6


def test_one_set_of_base_samples_serves_all_t_batches() -> None:
    model, X = to_botorch(believed()), points(4, 3)
    draw = get_sampler(model.posterior(X), torch.Size([16]), seed=0)
    assert isinstance(draw, SobolQMCNormalSampler)
    draws = draw(model.posterior(X))
    assert draws.shape == (16, 4, 3, 2)
    assert torch.allclose(draws, draw(model.posterior(X.flip(0))).flip(1), atol=1e-9)
    assert isinstance(get_sampler(model.posterior(points(11_000)), torch.Size([1]), seed=0), IIDNormalSampler)


def test_draws_at_told_points_of_a_function_without_noise_are_finite() -> None:
    belief = believed(1, sizes=(1,))
    single = Components.single("rbf", np.array([0.7, 0.7]), 10**-4.5)
    model = to_botorch(condition_components(belief.inputs, belief.X, belief.Z, [single]))
    X = torch.from_numpy(np.vstack([belief.X, belief.X])).requires_grad_()
    draws = sampler(4)(model.posterior(X))
    assert torch.allclose(draws[..., 0], torch.from_numpy(np.tile(belief.Z[:, 0], 2)), atol=1e-2)
    draws.sum().backward()
    assert X.grad is not None and bool(X.grad.isfinite().all())


# -- gradients ---------------------------------------------------------------------------------------------------------------

OF: dict[str, Callable[[GPMixturePosterior], Tensor]] = {
    "mean": lambda posterior: posterior.mean,
    "variance": lambda posterior: posterior.variance,
    "covariance": lambda posterior: posterior.covariance,
    "quantile": lambda posterior: posterior.quantile(torch.tensor([0.1, 0.6])),
    "draws": lambda posterior: sampler(5)(posterior),
}


@pytest.mark.parametrize("what", OF)
def test_gradients_are_those_of_differences(what: str) -> None:
    model = to_botorch(believed())
    assert torch.autograd.gradcheck(
        lambda X: OF[what](mixture_of(model, X)), (points(2, 2).requires_grad_(),), atol=1e-5
    )


@pytest.mark.parametrize("what", ["mean", "variance"])
def test_gradients_pass_through_fantasies(what: str) -> None:
    """With respect to the points that were fantasised, their values and the points asked about."""
    model = to_botorch(believed())

    def value(at: Tensor, Y: Tensor, X: Tensor) -> Tensor:
        return OF[what](mixture_of(model.condition_on_observations(at, Y), X))

    inputs = (points(2, 2), points(3, 2, 2) - 0.5, points(3, 2, 1))
    assert torch.autograd.gradcheck(value, tuple(part.requires_grad_() for part in inputs), atol=1e-5)


def test_gradients_at_told_points_are_numbers() -> None:
    belief = believed()
    X = torch.from_numpy(np.array(belief.X)).requires_grad_()
    posterior = mixture_of(to_botorch(belief), X)
    (posterior.mean.sum() + posterior.variance.sum() + posterior.covariance.sum()).backward()
    assert X.grad is not None and bool(X.grad.isfinite().all())


def test_categories_have_no_slope() -> None:
    X = torch.tensor([[0.3, 0.0], [0.3, 2.0]], dtype=torch.float64, requires_grad=True)
    to_botorch(believed(category=True)).posterior(X).mean.sum().backward()
    assert X.grad is not None
    assert bool((X.grad[..., 0] != 0.0).all()) and bool((X.grad[..., 1] == 0.0).all())


# -- transforms and outputs --------------------------------------------------------------------------------------------------


def test_one_weight_of_several_stays_a_mixture() -> None:
    model, X = to_botorch(believed(3)), points(5)
    chosen = model.posterior(X, posterior_transform=ScalarizedPosteriorTransform(torch.tensor([0.0, -2.0, 0.0]), 1.0))
    assert isinstance(chosen, GPMixturePosterior)
    of = mixture_of(model.subset_output([1]), X)
    assert torch.allclose(chosen.mean, 1.0 - 2.0 * of.mean) and torch.allclose(chosen.covariance, 4.0 * of.covariance)
    at = torch.tensor(0.9)
    assert torch.allclose(chosen.quantile(at), 1.0 - 2.0 * of.quantile(1.0 - at), rtol=1e-5)
    assert torch.allclose(sampler(8)(chosen), 1.0 - 2.0 * sampler(8)(of), atol=1e-6)
    minus = ScalarizedPosteriorTransform(torch.tensor([-1.0]))
    least = MixtureLogEI(model.subset_output([1]), 0.2, maximize=False)(X[:, None])
    assert torch.allclose(MixtureLogEI(model.subset_output([1]), -0.2, posterior_transform=minus)(X[:, None]), least)


def test_a_sum_has_the_moments_and_draws_of_independent_outputs() -> None:
    model, X = to_botorch(believed(2)), points(4, 3)
    weights = torch.tensor([0.5, -2.0], dtype=torch.float64)
    total, each = model.posterior(X, posterior_transform=ScalarizedPosteriorTransform(weights, 1.0)), model.posterior(X)
    assert isinstance(total, JointSum)
    assert torch.allclose(total.mean[..., 0], 1.0 + each.mean @ weights)
    assert torch.allclose(total.variance[..., 0], each.variance @ weights.square())
    draws = get_sampler(total, torch.Size([64]), seed=0)(total)
    assert draws.shape == (64, 4, 3, 1) == total._extended_shape(torch.Size([64]))
    assert torch.allclose(draws[..., 0], 1.0 + get_sampler(each, torch.Size([64]), seed=0)(each) @ weights)


def test_expectations_over_points_need_one_component() -> None:
    belief, X, over = believed(1), points(6), ExpectationPosteriorTransform(3)
    with pytest.raises(UsageError, match="no single Gaussian"):
        to_botorch(belief).posterior(X, posterior_transform=over)
    one = to_botorch(belief, at_most=1)
    mean = one.posterior(X, posterior_transform=ExpectationPosteriorTransform(3, torch.ones(3, 1).double())).mean
    assert torch.allclose(mean, one.posterior(X).mean.reshape(2, 3, 1).mean(1))


def test_it_stands_in_a_list_of_models() -> None:
    model, X = to_botorch(believed(1)), points(4, 2)
    pair = ModelList(model, model)
    assert pair.posterior(X).mean.shape == (4, 2, 2)
    with torch.random.fork_rng():
        acquisition = qLogExpectedImprovement(pair, 0.5, objective=lambda samples, X=None: samples.sum(-1))
        assert bool(acquisition(X).isfinite().all())


# -- refusals ------------------------------------------------------------------------------------------------------------------


def test_wrong_shapes_and_options_are_refused() -> None:
    model, X = to_botorch(believed()), points(3)
    with pytest.raises(UsageError, match=r"shape \(\*b, q, 2\); got \(3, 1\)"):
        model.posterior(X[:, :1])
    with pytest.raises(ValueRefused, match="finite"):
        model.posterior(X * torch.nan)
    with pytest.raises(UsageError, match="indices of outputs from 0 to 1"):
        model.posterior(X, output_indices=[2])
    with pytest.raises(UsageError, match="indices of outputs from 0 to 1"):
        model.ensemble(2).subset_output([])
    with pytest.raises(UsageError, match=r"noise variances of shape \(\*, q or 1, 2\)"):
        model.posterior(X, observation_noise=torch.ones(1, 3))
    with pytest.raises(UsageError, match="2 weights"):
        model.posterior(X, posterior_transform=ScalarizedPosteriorTransform(torch.ones(3)))
    with pytest.raises(ValueRefused, match="index from 0 to 2 in column 1"):
        to_botorch(believed(category=True)).posterior(X)
    with pytest.raises(UsageError, match=r"base samples of shape \(4, 4, 2\); got \(4, 3, 2\)"):
        model.posterior(X).rsample_from_base_samples(torch.Size([4]), torch.zeros(4, 3, 2))
    with pytest.raises(UsageError, match=r"shape \(\*c, 3, 2\), one row per row of X; got \(2, 2\)"):
        model.condition_on_observations(X, X[:2])
    many = model.condition_on_observations(X, torch.zeros(4, 3, 2))
    with pytest.raises(UsageError, match=r"goes with the batch of the model, \(4,\); got \(3,\)"):
        many.posterior(points(3, 1))
    with pytest.raises(UsageError, match="go with one another"):
        many.condition_on_observations(points(3, 1), points(3, 1))
    with pytest.raises(UsageError, match="no single Gaussian"):
        model(X)


def test_acquisitions_leave_the_type_of_numbers_alone() -> None:
    """They call Module.to with the type of the points."""
    model, X = to_botorch(believed(1)), points(2, 1)
    before = model.posterior(X).mean
    LogExpectedImprovement(model, 0.2)(X.float())
    assert torch.equal(model.posterior(X).mean, before)


def test_torch_missing_names_the_command() -> None:
    """In a fresh process in which torch cannot be imported."""
    code = """
import sys
sys.modules["torch"] = None
try:
    import surrogates.amortised_botorch
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("MissingPackage") and "pip install 'bbopt[botorch,pfn]'" in done.stdout


@pytest.mark.parametrize("module", ["amortised_botorch", "gp_mixture_posterior", "gp_batch", "columns_torch"])
def test_docstring_examples_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"surrogates.{module}"))
    assert result.failed == 0 and result.attempted > 0


def test_our_posterior_hands_it_over() -> None:
    model = believed().botorch_model()
    assert isinstance(model, AmortisedMixture) and isinstance(model.ensemble(2), AmortisedEnsemble)
