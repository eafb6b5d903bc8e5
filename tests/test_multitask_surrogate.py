"""The posterior over several tasks: against BoTorch's MultiTaskGP, differences, and simpler models it contains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bbopt.acquisition.draws import draw_values, given_draws
from surrogates.columns import Inputs
from surrogates.gp import condition
from surrogates.kernels import Kernel
from surrogates.map_fit import Fitted, Prior
from surrogates.multitask import Elder, TaskProcess, condition_tasks
from surrogates.multitask_fit import TaskObjective, fit_tasks

TASKS = Inputs(("float", "category", "float"), (0, 3, 0), (0, 1, 2))
KERNELS: tuple[Kernel, ...] = ("rbf", "matern52")


def rows_of(n: int, rng: np.random.Generator) -> np.ndarray:
    X = rng.random((n, 3))
    X[:, 1] = rng.integers(3, size=n)
    return X


def some_between(rng: np.random.Generator, outputs: int = 1, tasks: int = 3) -> np.ndarray:
    W = rng.standard_normal((outputs, tasks, 1))
    return np.asarray(
        W @ W.transpose(0, 2, 1) + np.array([np.diag(rng.uniform(0.1, 1, tasks)) for _ in range(outputs)])
    )


def some_model(seed: int, kernel: Kernel = "rbf", noisy: bool = False) -> TaskProcess:
    rng = np.random.default_rng(seed)
    X = rows_of(10, rng)
    fitted = [Fitted(np.array([0.4, np.inf, 0.9]), 1.7, 0.02 * noisy, 0.3, 1e-8, 0.0, 0) for _ in range(2)]
    variances = rng.uniform(0.01, 0.05, (10, 2)) if noisy else None
    return condition_tasks(
        TASKS, X, rng.standard_normal((10, 2)), fitted, some_between(rng, 2), 1, None, kernel, variances
    )


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_at_equal_hyperparameters_it_is_botorchs() -> None:
    pytest.importorskip("surrogates.gp_botorch", reason="needs the extra bbopt[botorch]", exc_type=ImportError)
    import torch
    from botorch.models.multitask import MultiTaskGP

    rng = np.random.default_rng(0)
    X, z, Q = rows_of(12, rng), rng.standard_normal(12), rows_of(7, rng)
    X[:3, 1] = [0, 1, 2]
    theirs = MultiTaskGP(
        torch.tensor(X), torch.tensor(z)[:, None], task_feature=1, rank=2, outcome_transform=None,
        train_Yvar=torch.full((12, 1), 0.05, dtype=torch.double),
    )  # fmt: skip
    data, task = theirs.covar_module.kernels
    data.lengthscale = torch.tensor([0.3, 0.8])
    for mean in theirs.mean_module.base_means:  # they have one for each task
        mean.constant = torch.tensor(0.25)
    theirs.eval()
    with torch.no_grad():
        between = task.covar_matrix.to_dense().numpy()
        posterior = theirs(torch.tensor(Q))
        mean, covariance = posterior.mean.numpy(), posterior.covariance_matrix.numpy()
    fitted = Fitted(np.array([0.3, np.inf, 0.8]), 1.0, 0.0, 0.25, 0.0, 0.0, 0)
    ours = condition_tasks(TASKS, X, z[:, None], [fitted], between[None], 1, variances=np.full((12, 1), 0.05))
    np.testing.assert_allclose(ours.mean_variance(Q)[0][:, 0], mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(ours.covariance(Q)[0], covariance, rtol=1e-5, atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(KERNELS))
def test_gradients_are_those_of_differences(seed: int, kernel: Kernel) -> None:
    model, rng = some_model(seed, kernel), np.random.default_rng(seed)
    Q, B = rows_of(3, rng), rows_of(2, rng)
    predictor, weights = model.predictor, rng.standard_normal((3, 2))
    moments = predictor.forward(Q)
    by_mean, by_variance = rng.standard_normal((2, 3, 1)), rng.standard_normal((2, 3))
    gradient = predictor.backward(moments, by_mean, by_variance)
    pulled = predictor.pull_covariance(moments, B, weights, output=1)

    def value(at: np.ndarray) -> np.ndarray:
        found = predictor.forward(at)
        return np.asarray((by_mean[:, :, 0] * found.mean[:, :, 0] + by_variance * found.variance).sum(axis=0))

    for column in (0, 2):
        e = 1e-5 * np.eye(3)[column]
        np.testing.assert_allclose(gradient[:, column], (value(Q + e) - value(Q - e)) / 2e-5, rtol=1e-4, atol=1e-4)
        moved = [(predictor.covariance(Q + side * e, B)[1] * weights).sum(axis=1) for side in (1, -1)]
        np.testing.assert_allclose(pulled[:, column], (moved[0] - moved[1]) / 2e-5, rtol=1e-4, atol=1e-4)
    assert not gradient[:, 1].any()


def test_the_hamming_kernel_is_one_of_them() -> None:
    """exp(-1 / l^2) between all different categories is a task covariance, for the RBF kernel."""
    rng = np.random.default_rng(1)
    X, Z, Q = rows_of(14, rng), rng.standard_normal((14, 1)), rows_of(6, rng)
    plain = Fitted(np.array([0.4, 0.7, 0.9]), 2.0, 0.0, 0.1, 1e-8, 0.0, 0)
    alike = np.exp(-1 / 0.7**2)
    between = np.full((1, 3, 3), alike) + (1 - alike) * np.eye(3)
    tasks = condition_tasks(TASKS, X, Z, [replace(plain, lengthscales=np.array([0.4, np.inf, 0.9]))], between, 1)
    hamming = condition(TASKS, X, Z, [plain])
    for a, b in zip(
        tasks.mean_variance(Q) + tasks.gradients(Q), hamming.mean_variance(Q) + hamming.gradients(Q), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def test_tasks_that_have_nothing_in_common_are_models_of_their_own() -> None:
    rng = np.random.default_rng(2)
    X, Z, Q = rows_of(15, rng), rng.standard_normal((15, 1)), rows_of(9, rng)
    one = Fitted(np.array([0.4, np.inf, 0.9]), 1.0, 0.0, 0.1, 1e-12, 0.0, 0)
    apart = condition_tasks(TASKS, X, Z, [one], np.diag([1.0, 2.0, 0.5])[None], 1)
    mean, variance = apart.mean_variance(Q)
    for task, scale in enumerate((1.0, 2.0, 0.5)):
        mine, asked = X[:, 1] == task, Q[:, 1] == task
        alone = condition(
            Inputs.continuous(2),
            X[mine][:, [0, 2]],
            Z[mine],
            [replace(one, lengthscales=np.array([0.4, 0.9]), scale=scale)],
        )
        expected = alone.mean_variance(Q[asked][:, [0, 2]])
        np.testing.assert_allclose(mean[asked], expected[0], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(variance[asked], expected[1], rtol=1e-5, atol=1e-7)


def test_elder_rows_are_rows_of_other_tasks() -> None:
    """The same numbers with the earlier rows as levels of a column; an output without earlier values is as if alone."""
    rng = np.random.default_rng(3)
    old, X, Q = rng.random((8, 2)), rng.random((5, 2)), rng.random((6, 2))
    old_z, z = rng.standard_normal((2, 8)), rng.standard_normal((5, 2))
    old_z[1] = np.nan
    between = some_between(rng, 2, 2)
    inputs = Inputs.continuous(2)
    fitted = [Fitted(np.array([0.3, 0.6]), 1.3, 0.01, 0.0, 1e-8, 0.0, 0)] * 2
    elder = Elder(old, old_z, np.ones(8, np.intp), np.zeros((2, 8)))
    model = condition_tasks(inputs, X, z, fitted, between, None, elder)
    wide = Inputs(("float", "float", "category"), (0, 0, 2), (0, 1, 2))
    everything = np.column_stack([np.vstack([old, X]), np.repeat([1.0, 0.0], [8, 5])])
    long = [replace(fitted[0], lengthscales=np.array([0.3, 0.6, np.inf]))]
    whole = condition_tasks(wide, everything, np.concatenate([old_z[0], z[:, 0]])[:, None], long, between[:1], 2)
    asked = np.column_stack([Q, np.zeros(6)])
    for a, b in zip(model.mean_variance(Q), whole.mean_variance(asked), strict=True):
        np.testing.assert_allclose(a[:, 0], b[:, 0], rtol=1e-7, atol=1e-9)
    scaled = replace(fitted[1], scale=1.3 * between[1, 0, 0], nugget=1e-8 / between[1, 0, 0])
    alone = condition(inputs, X, z[:, 1:], [scaled])
    for a, b in zip(model.mean_variance(Q), alone.mean_variance(Q), strict=True):
        np.testing.assert_allclose(a[:, 1], b[:, 0], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("noisy", [False, True])
def test_more_rows_one_by_one_or_at_once(noisy: bool) -> None:
    model, rng = some_model(4, noisy=noisy), np.random.default_rng(5)
    X, Z, Q = rows_of(3, rng), rng.standard_normal((3, 2)), rows_of(5, rng)
    variances = np.full((3, 2), 0.02) if noisy else None
    known = None if model.variances is None or variances is None else np.vstack([model.variances, variances])
    whole = condition_tasks(
        TASKS, np.vstack([model.X, X]), np.vstack([model.Z, Z]), model.fitted, model.between, 1, None, "rbf", known
    )
    more = model.given(X, Z, variances)
    for a, b in zip(
        more.mean_variance(Q) + more.leave_one_out(), whole.mean_variance(Q) + whole.leave_one_out(), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
    for j in range(2):
        np.testing.assert_allclose(model.output(j).mean_variance(Q)[0][:, 0], model.mean_variance(Q)[0][:, j])


def test_draws_of_what_is_not_known_average_to_the_posterior() -> None:
    model, rng = some_model(7), np.random.default_rng(0)
    pending, Q = rows_of(2, rng), rows_of(6, rng)
    exact = np.zeros(2, bool)
    given_them = given_draws(model, exact, pending, draw_values(model, exact, pending, 512, rng))
    mean, variance = model.mean_variance(Q)
    found = given_them.forward(Q)
    np.testing.assert_allclose(found.mean.mean(axis=2).T, mean, atol=0.05)
    np.testing.assert_allclose(found.variance.T + found.mean.var(axis=2).T, variance, rtol=0.1, atol=0.02)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(KERNELS), st.booleans())
def test_the_density_has_the_gradient_of_its_differences(seed: int, kernel: Kernel, noisy: bool) -> None:
    rng = np.random.default_rng(seed)
    X, z = rows_of(9, rng), rng.standard_normal(9)
    prior = Prior.botorch(3) if noisy else Prior.noiseless(3, 1e-6)
    free = (rng.random(9) < 0.7).astype(float)
    objective = TaskObjective(TASKS, X, 1, X[:, 1].astype(np.intp), 3, free, kernel, prior)
    theta = objective.join(None, *objective.start(0.5, 1.0)) + 0.3 * rng.standard_normal(objective.size)
    theta = np.clip(theta, *(np.array(objective.bounds()).T + np.array([[1e-3], [-1e-3]])))
    variances = rng.uniform(0.0, 0.1, 9) if noisy else None
    _, gradient = objective(theta, z, variances)
    for j in range(objective.size):
        e = 1e-5 * np.eye(objective.size)[j]
        difference = (objective(theta + e, z, variances)[0] - objective(theta - e, z, variances)[0]) / 2e-5
        assert gradient[j] == pytest.approx(difference, rel=2e-4, abs=2e-4 * (1 + np.abs(gradient).max()))


def test_opposed_tasks_are_found_to_be_so() -> None:
    rng = np.random.default_rng(0)
    X = rows_of(45, rng)
    sign = np.array([1.0, -1.0, 1.0])[X[:, 1].astype(int)]
    z = sign * np.sin(5 * X[:, 0] + 2 * X[:, 2])
    objective = TaskObjective(TASKS, X, 1, X[:, 1].astype(np.intp), 3, np.ones(45), "rbf", Prior.noiseless(3))
    fit = fit_tasks(objective, z, [objective.join(None, *objective.start(0.5, 1.0))])
    spread = np.sqrt(np.diag(fit.between))
    correlation = fit.between / spread / spread[:, None]
    assert correlation[0, 1] < -0.9 and correlation[0, 2] > 0.9
