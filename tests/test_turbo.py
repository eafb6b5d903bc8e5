"""`turbo`: its draws, its model beside BoTorch's, batches, held columns, restarts, corrections, and what it finds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import problems
from bbopt.errors import UsageError
from bbopt.optimizer import Optimizer
from bbopt.query import Query, Values
from bbopt.space import Float, Space
from bbopt.strategies import turbo_draws
from bbopt.strategies.gp_state import GPState
from bbopt.strategies.turbo import Turbo
from bbopt.strategies.turbo_draws import Scene, choose
from bbopt.strategies.turbo_model import RegionPrior, bilog, local_model, nearest, prior
from bbopt.task import Constraint, Objective, Task
from surrogates.columns import Inputs
from surrogates.gp import GaussianProcess, condition
from surrogates.map_fit import Fitted
from surrogates.map_fit import Objective as Likelihood

Array = NDArray[np.float64]


def model(n: int = 20, d: int = 3, noise: float = 0.0) -> GaussianProcess:
    """Two outputs with hyperparameters of their own; the first may have noise."""
    rng = np.random.default_rng(0)
    X = rng.random((n, d))
    Z = np.column_stack([np.sin(3.0 * X.sum(axis=1)), X[:, 0] - 0.5])
    fitted = [
        Fitted(np.full(d, 0.6), 1.3, noise, 0.2, 0.0 if noise else 1e-6, 0.0, 0),
        Fitted(np.linspace(0.5, 1.0, d), 0.7, 0.0, 0.1, 1e-6, 0.0, 0),
    ]
    return condition(Inputs.continuous(d), X, Z, fitted, "matern52")


@pytest.mark.parametrize("exact", [0, 500])
def test_draws_of_few_and_of_many_candidates_have_the_posteriors_moments(
    exact: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2000 draws in 100 sets of features. Bounds: 5 standard errors, and 1 % of the prior scale for the features."""
    monkeypatch.setattr(turbo_draws, "EXACT", exact)
    gp = model(noise=0.01)
    X = np.random.default_rng(1).random((5, 3))
    draws = np.concatenate([turbo_draws.sample(gp, X, 20, np.random.default_rng(seed)) for seed in range(100)])
    mean, variance = gp.mean_variance(X)
    assert draws.shape == (2000, 5, 2)
    assert (np.abs(draws.mean(axis=0) - mean) < 5.0 * np.sqrt(variance / 2000) + 0.01).all()
    for j in range(2):
        covariance = np.cov(draws[:, :, j].T)
        assert np.abs(covariance - gp.covariance(X)[j]).max() < 0.013 + 5.0 * variance[:, j].max() * np.sqrt(2.0 / 2000)


def test_choices_are_distinct_allowed_and_by_the_rule() -> None:
    """With hardly any doubt left every draw is the mean: feasible rows by objective first, then those of least violation."""
    X = np.linspace(0.0, 1.0, 41)[:, None]
    Z = np.column_stack([X[:, 0], 0.5 - X[:, 0]])  # feasible above 0.5, best at 0.5
    fitted = [Fitted(np.array([1.0]), 1.0, 0.0, 0.0, 1e-9, 0.0, 0)] * 2
    gp = condition(Inputs.continuous(1), X, Z, fitted, "matern52")
    rows = np.concatenate([X[::2], X[::2]])  # every candidate twice
    forbidden = 0.55
    scene = Scene(gp, rows, lambda P: np.abs(P[:, 0] - forbidden) < 1e-9)
    got = choose(scene, 3, np.random.default_rng(0))
    assert sorted(np.round(got[:, 0], 6).tolist()) == [0.5, 0.6, 0.65] or sorted(np.round(got[:, 0], 6).tolist()) == [
        0.6,
        0.65,
        0.7,
    ]
    infeasible = choose(Scene(gp, X[:10], lambda P: np.zeros(len(P), bool)), 1, np.random.default_rng(0))
    assert np.isclose(infeasible[0, 0], X[9, 0], atol=1e-9), "the least violation"
    assert len(choose(Scene(gp, X[:2], lambda P: np.ones(len(P), bool)), 3, np.random.default_rng(0))) == 0


def test_the_likelihood_of_a_region_is_that_of_botorchs_kernel() -> None:
    """Matern 5/2 with an output scale and learnt noise, no lengthscale prior: GPyTorch's marginal likelihood."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("botorch")
    from gpytorch.distributions import MultivariateNormal
    from gpytorch.kernels import MaternKernel

    rng, d, n = np.random.default_rng(2), 4, 15
    X, z = rng.random((n, d)), rng.standard_normal(n)
    ours = Likelihood(Inputs.continuous(d), X, "matern52", prior(True))
    apart = []
    for _ in range(3):
        lengths, scale, noise = (
            rng.uniform(0.1, 1.9, d),
            1.0,
            0.0055,
        )  # one scale and noise: their priors are a constant
        theta = ours.join(lengths, scale, noise)
        kernel = MaternKernel(nu=2.5, ard_num_dims=d).double()
        kernel.lengthscale = torch.tensor(lengths)
        K = kernel(torch.tensor(X)).to_dense().detach() + noise * torch.eye(n)
        at = torch.full((n,), ours.mean(theta, z, None), dtype=torch.float64)
        apart.append(float(MultivariateNormal(at, K).log_prob(torch.tensor(z))) + n * ours(theta, z, None)[0])
    assert np.ptp(apart) < 1e-6


def test_the_model_keeps_the_published_bounds_and_the_threshold_of_constraints() -> None:
    task = Task(Space(x=Float(0, 1, shape=(3,))), constraints=(Constraint("g", upper=0.0),))
    rng = np.random.default_rng(0)
    X = rng.random((25, 3))
    state = GPState(
        X,
        np.column_stack([X.sum(axis=1), 1e6 * (X[:, 0] - 0.3) ** 3]),
        np.full((25, 2), np.nan),
        X[:0],
        np.zeros(25, bool),
    )
    found = local_model(task, state, {}, False)
    for fitted in found.gp.fitted:
        assert (fitted.lengthscales >= 0.005 - 1e-9).all() and (fitted.lengthscales <= 2.0 + 1e-9).all()
        assert 0.05 - 1e-9 <= fitted.scale <= 20.0 + 1e-9
    assert np.array_equal(found.gp.Z[:, 1] <= 0.0, state.values[:, 1] <= 0.0)
    again = local_model(task, state, found.memo, False)
    assert np.array_equal(again.gp.fitted[0].lengthscales, found.gp.fitted[0].lengthscales), "no new rows, no new fit"
    assert isinstance(prior(False), RegionPrior) and list(bilog(np.zeros(3))) == ["linear"]


def test_the_rows_nearest_to_the_centre_are_modelled() -> None:
    X = np.random.default_rng(0).random((30, 2))
    weights = np.array([10.0, 1.0])
    kept = nearest(X, X[7], weights, 5)
    distance = (((X - X[7]) / weights) ** 2).sum(axis=1)
    assert 7 in kept and distance[kept].max() <= np.delete(distance, kept).min() and (np.diff(kept) > 0).all()


@pytest.mark.parametrize("options", [{"initial": 0}, {"successes": None}, {"failures": 2.5}, {"budget": True}])
def test_options_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"Turbo: expected {next(iter(options))} as a whole number of at least 1"):
        Turbo(**options)  # type: ignore[arg-type]


def minimised(
    task: Task, strategy: Turbo, function: object, evaluations: int, batch: int = 1, seed: int = 0
) -> Optimizer:
    opt = Optimizer(task, strategy, seed=seed)
    for _ in range(evaluations // batch):
        for trial in opt.ask(batch):
            opt.tell(trial, function(trial.params))  # type: ignore[operator]
    return opt


def test_batches_are_distinct_and_lengths_follow_them() -> None:
    task = Task(Space(x=Float(0, 1, shape=(4,))))
    opt = minimised(task, Turbo(initial=8), lambda p: float(((np.asarray(p["x"]) - 0.3) ** 2).sum()), 48, 8)
    rows = np.array([task.space.encode(trial.params) for trial in opt.trials()])
    apart = np.abs(rows[:, None] - rows[None]).max(axis=2)[np.triu_indices(len(rows), 1)]
    assert apart.min() >= 1e-7
    best = opt.best()
    assert best is not None and best.values is not None and best.values["objective"] < 0.01


def test_pending_points_are_not_asked_again() -> None:
    task = Task(Space(x=Float(0, 1, shape=(2,))))
    opt = minimised(task, Turbo(initial=4), lambda p: float(np.sum(np.asarray(p["x"]) ** 2)), 8)
    rows = np.array([task.space.encode(opt.ask().params) for _ in range(8)])
    apart = np.abs(rows[:, None] - rows[None]).max(axis=2)[np.triu_indices(8, 1)]
    assert apart.min() >= 1e-3


def test_a_restart_begins_with_a_design_of_its_own() -> None:
    """A constant function never succeeds: with one failure allowed the region is given up after seven rows."""
    task = Task(Space(x=Float(0, 1, shape=(2,))))
    opt = minimised(task, Turbo(initial=3, failures=1), lambda p: 1.0, 25)
    state = opt._state()
    assert state.number == 2 and len(state.rows) == 25 - 2 * (3 + 7)


def test_the_state_is_corrected_with_the_values() -> None:
    task = Task(Space(x=Float(0, 1, shape=(2,))))
    opt = minimised(task, Turbo(initial=2, successes=1), lambda p: float(np.sum(p["x"])), 6)
    before = opt._state()
    number = [t.number for t in opt.trials()][1]
    opt.amend(number, -100.0)  # after this nothing that followed was a success
    after = opt._state()
    assert after.length < before.length and after.told.values[1, 0] == -100.0


def test_a_noisy_task_recommends_by_the_model() -> None:
    task = Task(Space(x=Float(0, 1, shape=(2,))), (Objective("y", noise=0.3),))
    strategy = Turbo(initial=6)
    state = strategy.init(task, None)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    X = rng.random((40, 2))
    y = ((X - 0.5) ** 2).sum(axis=1) * 4.0
    lucky = int(y.argmax())
    told = y.copy()
    told[lucky] = -0.2  # a lucky value far from the optimum
    for i, (x, value) in enumerate(zip(X, told, strict=True)):
        state = strategy.tell(task, state, Query(x[None], {"region": 0, "design": 1}, id=i), Values.of([[value]]))
    recommended = strategy.recommend(task, state)
    assert recommended is not None and not np.array_equal(recommended, X[lucky])
    assert ((recommended - 0.5) ** 2).sum() < 0.1


def test_it_finds_more_than_random_search() -> None:
    """Ackley in 10 columns, 60 evaluations: 11.9 to 19.0 in seeds 0 to 7 when this was written, 14.9 in this one; random
    search 18.6 to 20.3."""
    problem = problems.get("ackley_10@shift0")
    best = minimised(problem.task, Turbo(budget=60), problem, 60).best()
    assert best is not None and best.values is not None and next(iter(best.values.values())) < 18.0


@pytest.mark.slow
def test_a_constrained_problem_in_ten_columns() -> None:
    """SCBO on Ackley with two constraints, batches of 4: 3.3, 3.2, 3.4 in these seeds and 4.3 in the next when this was
    written."""
    problem = problems.get("ackley_constrained_10")
    found = []
    for seed in range(3):
        best = minimised(problem.task, Turbo(budget=100), problem, 100, 4, seed).best()
        found.append(np.inf if best is None or best.values is None else best.values[problem.task.objectives[0].name])
    assert np.median(found) < 4.0, found
