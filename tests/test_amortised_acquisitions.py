"""The amortised process as BoTorch models: fantasies, ensembles, and BoTorch's acquisitions against ours and against draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("surrogates.gp_botorch", reason="needs the extra bbopt[botorch]", exc_type=ImportError)
pytest.importorskip("safetensors", reason="needs the extra bbopt[pfn]")

import torch
from amortised_beliefs import believed, mixture_of, points, sampler
from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.acquisition.analytic import (
    ExpectedImprovement,
    LogConstrainedExpectedImprovement,
    LogExpectedImprovement,
    LogProbabilityOfImprovement,
    PosteriorMean,
    UpperConfidenceBound,
)
from botorch.acquisition.bayesian_active_learning import qBayesianActiveLearningByDisagreement
from botorch.acquisition.knowledge_gradient import qKnowledgeGradient
from botorch.acquisition.logei import qLogExpectedImprovement, qLogNoisyExpectedImprovement
from botorch.acquisition.max_value_entropy_search import qLowerBoundMaxValueEntropy, qMaxValueEntropy
from botorch.acquisition.monte_carlo import qUpperConfidenceBound
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_step_lookahead import qMultiStepLookahead
from botorch.acquisition.objective import ScalarizedPosteriorTransform
from botorch.exceptions.warnings import NumericsWarning
from botorch.models.model import Model
from botorch.optim import optimize_acqf, optimize_acqf_mixed

from bbopt.errors import UsageError
from surrogates.amortised.components import Components
from surrogates.amortised.posterior import condition_components
from surrogates.amortised_botorch import AmortisedMixture, to_botorch
from surrogates.gp import condition
from surrogates.map_fit import Fitted
from surrogates.pfn_botorch import MixtureLogConstrainedEI, MixtureLogEI

BOX = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)


# -- more rows and fantasies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
def test_more_rows_are_as_given_to_our_posterior(known: bool) -> None:
    """In two steps, weights included."""
    belief, X, Y, T = believed(known=known), points(3), points(3) - 0.5, points(5)
    variances, noise = (np.full((3, 2), 0.05), torch.full((1, 2), 0.05)) if known else (None, None)
    if known:  # what BoTorch is told is all the noise there is, and ours adds a component's own: so it has none
        parts = [replace(part, noise=0.0 * part.noise) for part in belief.components]
        belief = condition_components(belief.inputs, belief.X, belief.Z, parts, belief.variances)
    model = to_botorch(belief)
    once = model.condition_on_observations(X[:2], Y[:2], noise=noise)
    twice = once.condition_on_observations(X[2:], Y[2:], noise=noise)
    given = belief.given(X.numpy(), Y.numpy(), variances)
    assert once.batch_shape == twice.batch_shape == () and twice.num_outputs == 2
    assert twice.posterior(T).mean.numpy() == pytest.approx(given.mean_variance(T.numpy())[0], abs=1e-7)
    assert twice.posterior(T).variance.numpy() == pytest.approx(given.mean_variance(T.numpy())[1], abs=1e-7)
    assert torch.exp(twice.log_weights[0]).numpy() == pytest.approx(np.exp(given.components[0].log_weight), abs=1e-8)


def test_fantasies_are_a_batch_of_models() -> None:
    model, X, T = to_botorch(believed()), points(2), points(5)
    draw = sampler(4)
    many = model.fantasize(X, draw)
    assert many.batch_shape == (4,) and many.num_outputs == 2
    drawn = draw(model.posterior(X, observation_noise=True))
    apart = points(3, 4, 5)
    for i in range(4):
        one = model.condition_on_observations(X, drawn[i])
        assert torch.allclose(many.posterior(T).mean[i], one.posterior(T).mean, atol=1e-10)
        assert torch.allclose(many.posterior(apart).variance[:, i], one.posterior(apart[:, i]).variance, atol=1e-10)
    twice = many.fantasize(T[:1], sampler(3))
    assert twice.batch_shape == (3, 4) and twice.posterior(T).mean.shape == (3, 4, 5, 2)
    assert sampler(6)(twice.posterior(T)).shape == (6, 3, 4, 5, 2)  # each fantasy has weights of its own


def test_fantasies_of_a_t_batch_equal_a_loop() -> None:
    model, X, T = to_botorch(believed()), points(3, 2), points(3, 5)
    draw = sampler(4)
    many = model.fantasize(X, draw)
    assert many.batch_shape == (4, 3) and many.posterior(T).mean.shape == (4, 3, 5, 2)
    for i in range(3):
        one = model.fantasize(X[i], draw)
        assert torch.allclose(many.posterior(T).mean[:, i], one.posterior(T[i]).mean, atol=1e-9)
        assert torch.allclose(many.posterior(T).variance[:, i], one.posterior(T[i]).variance, atol=1e-9)


def test_fantasies_keep_what_is_believed_on_average() -> None:
    """Mean and variance before are the mean, and the mean variance plus the variance of means, after: weights must move."""
    model, X, T = to_botorch(believed()), points(2), points(5)
    after, before = model.fantasize(X, sampler(8192)).posterior(T), model.posterior(T)
    assert torch.allclose(after.mean.mean(0), before.mean, atol=2e-3)
    total = after.variance.mean(0) + after.mean.var(0)
    assert torch.allclose(total, before.variance, rtol=2e-2)


def test_outputs_of_fantasies_are_chosen() -> None:
    many, T = to_botorch(believed(3)).fantasize(points(2), sampler(3)), points(5)
    part = many.subset_output([2, -3])
    assert torch.allclose(part.posterior(T).variance, many.posterior(T).variance[..., [2, 0]], atol=1e-12)
    assert torch.allclose(many.posterior(T, output_indices=[1]).mean, many.posterior(T).mean[..., [1]], atol=1e-12)
    assert torch.allclose(part.log_weights.exp().sum(-1), torch.ones(3, 2).double())


# -- the ensemble --------------------------------------------------------------------------------------------------------------


def test_members_are_as_many_as_the_weights_say() -> None:
    belief = believed()
    ensemble = to_botorch(belief).ensemble(40)
    assert ensemble.batch_shape == (40,) and ensemble.num_outputs == 2
    means = ensemble.posterior(points(1)).mean[:, 0]  # (S, m)
    each = belief.predictor.forward(points(1).numpy()).mean[:, 0, 0]
    for j in range(2):
        count = [(np.abs(means[:, j].numpy() - one) < 1e-9).sum() for one in each[belief.owner == j]]
        assert sum(count) == 40
        assert np.abs(np.array(count) - 40 * np.exp(belief.components[j].log_weight)).max() < 1.0


def test_equal_members_are_the_mixture() -> None:
    model, X, at = to_botorch(believed(equal=True, sizes=(4, 4))), points(3, 5), torch.tensor([0.1, 0.7]).double()
    ensemble, mixture = model.ensemble(8).posterior(X), mixture_of(model, X)
    assert ensemble.mean.shape == (3, 8, 5, 2)
    assert torch.allclose(ensemble.mixture_mean, mixture.mean, atol=1e-9)
    assert torch.allclose(ensemble.mixture_variance, mixture.variance, atol=1e-9)
    one = model.subset_output([0])
    quantiles = one.ensemble(4).posterior(X).quantile(at)
    assert torch.allclose(quantiles, one.posterior(X).quantile(at), atol=1e-4)  # theirs end at 1e-6 of probability


def test_members_that_are_certain_do_not_warn() -> None:
    """GPyTorch warns of variances below 1e-10, and of covariances that it cannot factor."""
    base = believed(1)
    certain = Components.single("rbf", np.array([0.7, 0.7]), 10**-4.5, 0.01)
    ensemble = to_botorch(condition_components(base.inputs, base.X, base.Z, [certain])).ensemble(2)
    X = torch.from_numpy(np.vstack([base.X, base.X])).requires_grad_()
    assert 1e-10 < ensemble.posterior(X).variance.min() < 2e-10
    draws = sampler(4)(ensemble.posterior(X))
    assert torch.allclose(draws[0, 0, :, 0], torch.from_numpy(np.tile(base.Z[:, 0], 2)), atol=1e-2)
    draws.sum().backward()
    assert X.grad is not None and bool(X.grad.isfinite().all())


def test_ensembles_do_not_fantasise() -> None:
    ensemble = to_botorch(believed()).ensemble(4)
    for attempt in (
        lambda: ensemble.condition_on_observations(points(1), points(1)),
        lambda: ensemble.fantasize(points(1), sampler()),
        lambda: qKnowledgeGradient(ensemble.subset_output([1]), 4)(points(2, 5)),
    ):
        with pytest.raises(UsageError, match="use the model that ensemble"):
            attempt()
    with pytest.raises(UsageError, match="without a batch of fantasies"):
        to_botorch(believed()).fantasize(points(1), sampler(3)).ensemble(4)
    assert to_botorch(believed()).condition_on_observations(points(1), points(1)).ensemble(4).num_outputs == 2
    with pytest.raises(UsageError, match="at least one member"):
        to_botorch(believed()).ensemble(0)


# -- acquisitions: values --------------------------------------------------------------------------------------------------------

ANALYTIC: dict[str, Callable[[Model, float], AcquisitionFunction]] = {
    "LogEI": lambda model, best: LogExpectedImprovement(model, best),
    "EI": lambda model, best: quiet(ExpectedImprovement, model, best),
    "UCB": lambda model, best: UpperConfidenceBound(model, 4.0),
    "PI": lambda model, best: LogProbabilityOfImprovement(model, best),
    "PosteriorMean": lambda model, best: PosteriorMean(model),
}


def quiet(kind: type[ExpectedImprovement], model: Model, best: float) -> ExpectedImprovement:
    """Without the advice to take the logarithm."""
    with pytest.warns(NumericsWarning):
        return kind(model, best)


@pytest.mark.parametrize("name", [*ANALYTIC])
def test_one_component_has_the_closed_forms_of_a_process(name: str) -> None:
    base, lengthscales, X = believed(1), np.array([0.4, 0.8]), points(20, 1)
    fitted = Fitted(lengthscales, 1.7, 1.7 * 0.02**2, 0.0, 0.0, 0.0, 0)
    theirs = condition(base.inputs, base.X, base.Z, [fitted], "matern52").botorch_model()
    single = Components.single("matern52", lengthscales, 0.02, 1.7, 0.0)
    model = to_botorch(condition_components(base.inputs, base.X, base.Z, [single]))
    expected = ANALYTIC[name](theirs, 0.2)(X).numpy()
    for ours in (model, model.ensemble(1)):
        assert ANALYTIC[name](ours, 0.2)(X).numpy() == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("best", [-3.0, 0.2, 4.0])
def test_mixture_improvement_is_that_of_our_posterior(best: float) -> None:
    belief, X = believed(3), points(20, 1)
    limits, within = np.array([best, 0.3, 0.1]), {1: (None, 0.3), 2: (None, 0.1)}
    ours = belief.log_expected_improvement(X[:, 0].numpy(), limits)[:, 0]
    model = to_botorch(belief)
    value = MixtureLogEI(model.subset_output([0]), best, maximize=False)(X)
    assert value.numpy() == pytest.approx(ours, abs=1e-8)
    ours += belief.log_probability_below(X[:, 0].numpy(), limits)[:, 1:].sum(1)
    assert MixtureLogConstrainedEI(model, best, 0, within, maximize=False)(X).numpy() == pytest.approx(ours, abs=1e-8)


def test_ensembles_of_equal_weights_have_the_improvement_of_our_posterior() -> None:
    belief, X = believed(2, equal=True, sizes=(4, 1)), points(20, 1)
    limits = np.array([0.2, 0.3])
    ours = belief.log_expected_improvement(X[:, 0].numpy(), limits)[:, 0]
    ensemble = to_botorch(belief).ensemble(4)
    first, best = ensemble.subset_output([0]), torch.tensor(0.2, dtype=torch.float64)
    assert LogExpectedImprovement(first, best, maximize=False)(X).numpy() == pytest.approx(ours, abs=1e-8)
    minus = ScalarizedPosteriorTransform(torch.tensor([-1.0], dtype=torch.float64))
    with pytest.warns(NumericsWarning):
        plain = ExpectedImprovement(first, -best, posterior_transform=minus)
    assert plain(X).numpy() == pytest.approx(np.exp(ours), abs=1e-8)
    ours += belief.log_probability_below(X[:, 0].numpy(), limits)[:, 1]
    value = LogConstrainedExpectedImprovement(ensemble, best, 0, {1: (None, 0.3)}, maximize=False)(X)
    assert value.numpy() == pytest.approx(ours, rel=1e-6, abs=1e-7)  # their limits are in single precision


def test_many_members_come_near_the_improvement_of_our_posterior() -> None:
    belief, X = believed(2), points(20, 1)
    limits = np.array([0.2, 0.3])
    ours = belief.log_expected_improvement(X[:, 0].numpy(), limits)[:, 0]
    ours += belief.log_probability_below(X[:, 0].numpy(), limits)[:, 1]
    ensemble = to_botorch(belief).ensemble(1024)
    value = LogConstrainedExpectedImprovement(ensemble, 0.2, 0, {1: (None, 0.3)}, maximize=False)(X).numpy()
    near = ours > -8.0
    assert near.sum() > 8 and value[near] == pytest.approx(ours[near], abs=0.1)


def test_bounds_and_means_are_those_of_the_mixture() -> None:
    belief, X = believed(1), points(20, 1)
    mean, variance = (part[:, 0] for part in belief.mean_variance(X[:, 0].numpy()))
    model = to_botorch(belief)
    assert PosteriorMean(model)(X).numpy() == pytest.approx(mean, abs=1e-9)
    assert UpperConfidenceBound(model, 4.0)(X).numpy() == pytest.approx(mean + 2.0 * np.sqrt(variance), abs=1e-8)
    low = UpperConfidenceBound(model, 4.0, maximize=False)(X).numpy()
    assert low == pytest.approx(2.0 * np.sqrt(variance) - mean, abs=1e-8)


@pytest.mark.parametrize("kind", ["mixture", "ensemble"])
def test_drawn_improvement_is_the_one_in_closed_form(kind: str) -> None:
    belief, X = believed(1, equal=True), points(30, 1)
    model = to_botorch(belief)
    exact = MixtureLogEI(model, 0.5)(X)
    X, exact = X[exact > -4.0], exact[exact > -4.0]
    drawing: Model = model if kind == "mixture" else model.ensemble(5)
    drawn = qLogExpectedImprovement(drawing, 0.5, sampler(4096), tau_relu=1e-4, tau_max=1e-4)(X)
    assert len(X) > 5 and torch.allclose(drawn, exact, atol=0.05)


@pytest.mark.parametrize("kind", ["mixture", "ensemble"])
@pytest.mark.parametrize("pending", [False, True])
def test_noisy_improvement_is_that_of_our_joint_draws(pending: bool, kind: str) -> None:
    belief, X = believed(1, equal=True), points(6, 2)
    told, waiting = torch.from_numpy(belief.X), points(2) if pending else None
    model: Model = to_botorch(belief) if kind == "mixture" else to_botorch(belief).ensemble(5)
    value = qLogNoisyExpectedImprovement(
        model, told, sampler(2048), X_pending=waiting, prune_baseline=False, tau_relu=1e-4, tau_max=1e-4
    )(X)
    before = np.vstack([belief.X] if waiting is None else [belief.X, waiting.numpy()])
    for i in range(6):
        draws = belief.sample(np.vstack([before, X[i].numpy()]), 40_000, np.random.default_rng(i))[..., 0]
        gain = np.maximum(draws[:, -2:].max(1) - draws[:, : len(before)].max(1), 0.0)
        if gain.mean() > 0.01:
            assert float(value[i].exp()) == pytest.approx(gain.mean(), rel=0.06)


def test_drawn_bound_is_that_of_our_joint_draws() -> None:
    belief, X = believed(1), points(4, 2)
    value = qUpperConfidenceBound(to_botorch(belief), 4.0, sampler(4096))(X)
    for i in range(4):
        draws = belief.sample(X[i].numpy(), 40_000, np.random.default_rng(i))[..., 0]
        mean = belief.mean_variance(X[i].numpy())[0][:, 0]
        bound = (mean + np.sqrt(4.0 * np.pi / 2.0) * np.abs(draws - mean)).max(1).mean()
        assert float(value[i]) == pytest.approx(bound, rel=0.03)


def test_knowledge_gradient_is_that_of_our_posterior_after_the_same_values() -> None:
    """Weights included: what is told at a point also says which hyperparameters are right."""
    belief, X = believed(1), points(3, 1 + 4)
    model, draw = to_botorch(belief), sampler(4)
    value = qKnowledgeGradient(model, num_fantasies=4, sampler=draw)(X)
    for i in range(3):
        Y = draw(model.posterior(X[i, :1], observation_noise=True))
        after = [
            belief.given(X[i, :1].numpy(), Y[f].numpy()).mean_variance(X[i, 1 + f][None].numpy())[0] for f in range(4)
        ]
        assert float(value[i]) == pytest.approx(np.mean(after), abs=1e-8)


# -- acquisitions: they run ------------------------------------------------------------------------------------------------------

ONE: dict[str, Callable[[AmortisedMixture], AcquisitionFunction]] = {
    "LogEI": lambda model: LogExpectedImprovement(model, 0.2),
    "UCB": lambda model: UpperConfidenceBound(model, 4.0),
    "PosteriorMean": lambda model: PosteriorMean(model),
    "PI": lambda model: LogProbabilityOfImprovement(model, 0.9),
    "MixtureLogEI": lambda model: MixtureLogEI(model, 0.2),
    "LogEI of members": lambda model: LogExpectedImprovement(model.ensemble(16), 0.2),
    "UCB of members": lambda model: UpperConfidenceBound(model.ensemble(16), 4.0),
    "qLogEI": lambda model: qLogExpectedImprovement(model, 0.9, sampler()),
    "qLogEI, its own sampler": lambda model: qLogExpectedImprovement(model, 0.9),
    "qLogEI of members": lambda model: qLogExpectedImprovement(model.ensemble(8), 0.9, sampler()),
    "qUCB": lambda model: qUpperConfidenceBound(model, 4.0, sampler()),
    "qLogNEI": lambda model: qLogNoisyExpectedImprovement(model, model.train_inputs[0], sampler(), X_pending=points(1)),
    "qLogNEI of members": lambda model: qLogNoisyExpectedImprovement(
        model.ensemble(8), model.train_inputs[0], sampler()
    ),
    "BALD of members": lambda model: qBayesianActiveLearningByDisagreement(model.ensemble(8), sampler(16)),
}
SEVERAL: dict[str, Callable[[AmortisedMixture], AcquisitionFunction]] = {
    "LogCEI": lambda model: LogConstrainedExpectedImprovement(model, 0.5, 0, {1: (None, 0.4), 2: (-1.0, 1.4)}),
    "LogCEI of members": lambda model: LogConstrainedExpectedImprovement(model.ensemble(32), 0.5, 0, {1: (None, 0.4)}),
    "MixtureLogConstrainedEI": lambda model: MixtureLogConstrainedEI(model, 0.5, 0, {1: (None, 0.4), 2: (-1.0, 1.4)}),
    "qLogEI of a sum": lambda model: qLogExpectedImprovement(
        model, 0.5, sampler(), posterior_transform=ScalarizedPosteriorTransform(torch.tensor([1.0, -1.0, 0.5]).double())
    ),
    "qLogNEI with constraints": lambda model: qLogNoisyExpectedImprovement(
        model, model.train_inputs[0], sampler(), objective=lambda samples, X=None: samples[..., 0],
        constraints=[lambda samples: samples[..., 1] - 0.4], eta=0.1,
    ),
    "qLogNEHVI": lambda model: qLogNoisyExpectedHypervolumeImprovement(
        model.subset_output([0, 1]), [-2.0, -2.0], model.train_inputs[0], sampler(16), X_pending=points(1)
    ),
}  # fmt: skip


LONG = {"qLogNEHVI": pytest.mark.slow}  # half a minute


@pytest.mark.parametrize("name", [pytest.param(each, marks=LONG.get(each, ())) for each in (*ONE, *SEVERAL)])
def test_acquisitions_evaluate_and_are_optimised(name: str) -> None:
    model = to_botorch(believed(1 if name in ONE else 3))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        acquisition = (ONE | SEVERAL)[name](model)
        X = points(5, 1)
        value = acquisition(X)
        assert value.shape == (5,) and bool(value.isfinite().all())
        alone = torch.cat([acquisition(x[None]) for x in X])
        assert torch.allclose(value, alone, rtol=1e-6, atol=1e-6)
        options = {"maxiter": 30, "seed": 0}
        best, at = optimize_acqf(acquisition, BOX, q=1, num_restarts=2, raw_samples=16, options=options)
    assert best.shape == (1, 2) and bool(((best >= 0.0) & (best <= 1.0)).all())
    assert at >= value.max() - 1e-3 - 0.01 * value.max().abs()


@pytest.mark.parametrize("sequential", [False, True])
def test_batches_are_optimised(sequential: bool) -> None:
    model = to_botorch(believed(1))
    acquisition = qLogNoisyExpectedImprovement(model, model.train_inputs[0], sampler(32))
    with torch.random.fork_rng():
        best, _ = optimize_acqf(
            acquisition,
            BOX,
            q=3,
            num_restarts=2,
            raw_samples=16,
            sequential=sequential,
            options={"maxiter": 20, "seed": 0},
        )
    assert acquisition(best) > acquisition(best[:1].expand(3, 2)) + 1e-3  # the points of a batch see one another


def test_looking_ahead_is_optimised() -> None:
    model = to_botorch(believed(1))
    ahead = (qKnowledgeGradient(model, num_fantasies=4), qMultiStepLookahead(model, [1], num_fantasies=[4]))
    for acquisition, q in zip(ahead, (1, ahead[1].get_augmented_q_batch_size(1)), strict=True):
        with torch.random.fork_rng():
            best, _ = optimize_acqf(
                acquisition, BOX, q=q, num_restarts=2, raw_samples=8, options={"maxiter": 10, "seed": 0}
            )
        assert best.shape == (1, 2)


def test_mixed_spaces_are_optimised() -> None:
    acquisition = qLogExpectedImprovement(to_botorch(believed(1, category=True)), 0.2, sampler(16))
    box = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    with torch.random.fork_rng():
        best, _ = optimize_acqf_mixed(
            acquisition, box, q=1, num_restarts=1, raw_samples=4, options={"maxiter": 5, "seed": 0},
            fixed_features_list=[{1: 0.0}, {1: 1.0}, {1: 2.0}],
        )  # fmt: skip
    assert best[0, 1].item() in (0.0, 1.0, 2.0)


def test_what_wants_one_gaussian_has_the_heaviest_component() -> None:
    belief, X = believed(1), points(4, 1)
    with pytest.raises(UsageError, match="at_most=1"):
        qMaxValueEntropy(to_botorch(belief), points(30))(X)
    one = to_botorch(belief, at_most=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for pending in (None, points(2)):
            for acquisition in (qMaxValueEntropy(one, points(30), X_pending=pending), qLowerBoundMaxValueEntropy(one, points(30), X_pending=pending)):  # fmt: skip
                assert acquisition(X).shape == (4,) and bool(acquisition(X).isfinite().all())
