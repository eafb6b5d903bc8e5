"""The fit against quadrature and tempered Monte Carlo, what must not change what is believed, and what is refused."""

from __future__ import annotations

import doctest
from dataclasses import replace

import numpy as np
import pytest
import torch
from amortised_waves import wave
from numpy.typing import NDArray
from scipy.stats import norm

from bbopt.errors import UsageError
from surrogates.amortised import fit
from surrogates.amortised.evidence import Evidence, SquaredDifferences
from surrogates.amortised.fit import fit_amortised
from surrogates.amortised.hyperprior import Hyperprior
from surrogates.amortised.posterior import AmortisedGP, condition_components
from surrogates.bayes_floor import Hyperprior as FloorPrior
from surrogates.bayes_floor import Rows, sample_posterior
from surrogates.columns import Inputs
from surrogates.evaluation.tasks import Cell

Array = NDArray[np.float64]
ONE = Hyperprior((0.0, 1.0, 0.0), (0.3, 0.8), 0.0, (0.1, 0.1))


def test_the_examples_run() -> None:
    assert doctest.testmod(fit).failed == 0


def predict(posterior: AmortisedGP, Q: Array) -> tuple[Array, Array]:
    mean, variance = posterior.mean_variance(Q)
    return mean, np.sqrt(variance)


def test_the_prediction_of_one_column_against_quadrature() -> None:
    """The variance of the process is integrated by one draw per component, which is why deviations agree less."""
    X, y = wave(7, 1, noise=0.1)
    believed, Q = replace(ONE, standard=True), np.linspace(0.0, 1.0, 15)[:, None]
    posterior = fit_amortised(Inputs.continuous(1), X, y[:, None], [believed], draws=512, keep=512)
    grid = np.linspace(-5.0, 5.0, 201)[:, None]
    kernel = np.ones(201, dtype=int)
    evidence = Evidence(SquaredDifferences(Inputs.continuous(1), X), y, believed)
    height = evidence.height(evidence.at(kernel, grid), kernel, grid)
    components = replace(
        posterior.components[0].take(np.zeros(201, dtype=int)), lengthscales=believed.lengthscales(grid)
    )
    exact = condition_components(Inputs.continuous(1), X, y[:, None], [components.weighted(height)])
    for found, wanted in zip(predict(posterior, Q), predict(exact, Q), strict=True):
        np.testing.assert_allclose(found, wanted, atol=0.02)


@pytest.mark.parametrize("cell", [Cell("plain", 1, 8), Cell("plain", 2, 15), Cell("plain", 4, 24)], ids=str)
def test_against_tempered_monte_carlo(cell: Cell) -> None:
    """Means differ by less than a fifth of the standard deviation on average, deviations by less than a tenth.

    Two runs of the sampler with 400 particles differ by about half of that.
    """
    tasks = cell.tasks(3)
    theta = sample_posterior(Rows(tasks.X, tasks.y), FloorPrior.plain(cell.d), 400, seed=0)
    means, sds = (part.numpy() for part in Rows(tasks.X, tasks.y).predict(theta, tasks.Q))
    for b in range(3):
        posterior = fit_amortised(
            Inputs.continuous(cell.d), tasks.X[b].numpy(), tasks.y[b].numpy()[:, None], [Hyperprior.plain()]
        )
        mean, sd = (part[:, 0] for part in predict(posterior, tasks.Q[b].numpy()))
        wanted = means[b].mean(axis=1)
        deviation = np.sqrt((sds[b] ** 2).mean(axis=1) + means[b].var(axis=1))
        assert posterior.diagnosis[0].how in ("network", "refined"), posterior.diagnosis
        assert (abs(mean - wanted) / deviation).mean() < 0.2
        assert abs(np.log(sd / deviation)).mean() < 0.1


def test_intervals_hold_what_they_promise() -> None:
    """Noise-free values within central 80 % intervals, 40 tasks of 32 points: the spread of the share is about 0.02."""
    tasks = Cell("plain", 2, 10).tasks(40)
    inside = []
    for b in range(40):
        X, y = tasks.X[b].numpy(), tasks.y[b].numpy()[:, None]
        posterior = fit_amortised(Inputs.continuous(2), X, y, [Hyperprior.plain()])
        mean, sd = predict(posterior, tasks.Q[b, :32].numpy())
        truth = tasks.latent[b, :32].numpy()  # nodes of the oracle
        inside.append((abs(truth - mean) < norm.ppf(0.9) * sd).mean())
    assert 0.74 < np.mean(inside) < 0.88


@pytest.mark.parametrize("believed", [Hyperprior(), Hyperprior.noisy()], ids=["exact", "noisy"])
@pytest.mark.parametrize("n", [5, 40, 170])
def test_orders_units_and_company_mean_nothing(n: int, believed: Hyperprior) -> None:
    d = 3
    X, y = wave(n, d, noise=0.0 if believed == Hyperprior() else 0.1)
    Q, rng, inputs = np.random.default_rng(9).random((30, d)), np.random.default_rng(8), Inputs.continuous(d)
    rows, columns, width = rng.permutation(n), rng.permutation(d), float(y.std())
    mean, sd = predict(fit_amortised(inputs, X, y[:, None], [believed]), Q)
    by_rows = predict(fit_amortised(inputs, X[rows], y[rows, None], [believed]), Q)
    by_columns = predict(fit_amortised(inputs, X[:, columns], y[:, None], [believed]), Q[:, columns])
    moved = predict(fit_amortised(inputs, X, 70.0 * y[:, None] - 3.0, [believed]), Q)
    other = np.cos(7.0 * X[:, 0])
    both = predict(fit_amortised(inputs, X, np.column_stack([other, y]), [believed, believed]), Q)
    others = {
        "rows": by_rows, "columns": by_columns, "units": ((moved[0] + 3.0) / 70.0, moved[1] / 70.0),
        "company": (both[0][:, 1:], both[1][:, 1:]),
    }  # fmt: skip
    for name, (other_mean, other_sd) in others.items():
        np.testing.assert_allclose(other_mean, mean, atol=1e-5 * width, rtol=0, err_msg=name)
        np.testing.assert_allclose(other_sd, sd, atol=1e-5 * width, rtol=0, err_msg=name)


def test_outputs_of_different_beliefs_are_as_if_alone() -> None:
    X, y = wave(12, 2, noise=0.2)
    Z = np.column_stack([y, np.cos(3.0 * X[:, 0]), -y])
    priors, variances = [Hyperprior.noisy(), Hyperprior(), Hyperprior.plain()], np.full(Z.shape, 0.01)
    Q, inputs = np.random.default_rng(2).random((9, 2)), Inputs.continuous(2)
    for known in (None, variances):
        together = fit_amortised(inputs, X, Z, priors, known)
        assert [part.offset for part in together.components] == [10.0, 10.0, 0.0]
        for j, prior in enumerate(priors):
            own = None if known is None else known[:, j : j + 1]
            alone = predict(fit_amortised(inputs, X, Z[:, j : j + 1], [prior], own), Q)
            for found, wanted in zip(predict(together, Q), alone, strict=True):
                np.testing.assert_allclose(found[:, j], wanted[:, 0], atol=1e-5)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("n", [1, 2, 30])
def test_the_posterior_is_that_of_its_components(n: int, known: bool) -> None:
    """Its factors come from the search; conditioning anew must give the same, and say the same to new rows."""
    X, y = wave(n, 2, noise=0.1)
    variances = np.full((n, 1), 0.02) if known else None
    believed = Hyperprior(noise=(1e-2, 1e-2))
    posterior = fit_amortised(Inputs.continuous(2), X, 5.0 + y[:, None], [believed], variances)
    anew = condition_components(Inputs.continuous(2), X, 5.0 + y[:, None], posterior.components, variances)
    Q = np.random.default_rng(4).random((9, 2))
    for found, wanted in zip(predict(posterior, Q), predict(anew, Q), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-7)


def test_known_variances_say_which_rows_to_trust() -> None:
    X = np.linspace(0.0, 1.0, 12)[:, None]
    y = np.sin(5.0 * X)
    wrong = y.copy()
    wrong[5] += 1.0
    variances = np.full((12, 1), 1e-4)
    variances[5] = 4.0
    mean, _ = predict(fit_amortised(Inputs.continuous(1), X, wrong, None, variances), X)
    np.testing.assert_allclose(mean, y, atol=0.1)


def test_no_more_components_are_kept_than_asked_for() -> None:
    X, y = wave(5, 2)
    whole = fit_amortised(Inputs.continuous(2), X, y[:, None], keep=1000)
    few = fit_amortised(Inputs.continuous(2), X, y[:, None], keep=3)
    assert len(few.components[0]) == 3 < len(whole.components[0]) <= 64
    assert np.exp(few.log_weight).sum() == pytest.approx(1.0)


def test_those_kept_are_as_uncertain_as_all() -> None:
    """The heaviest 32 of 64 draws alone had deviations too small by a sixth on such data: half of the tails was left out."""
    tasks = Cell("plain", 1, 8).tasks(8)
    ratio = []
    for b in range(8):
        X, y, Q = tasks.X[b].numpy(), tasks.y[b].numpy()[:, None], tasks.Q[b].numpy()
        sds = [
            predict(fit_amortised(Inputs.continuous(1), X, y, [Hyperprior.plain()], draws=draws, keep=keep), Q)[1]
            for draws, keep in ((64, 32), (512, 512))
        ]
        ratio.append(np.log(sds[0] / sds[1]).mean())
    assert abs(np.mean(ratio)) < 0.06


@pytest.mark.parametrize("value", [0.0, 3.3, -1e12, 1e150])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_equal_values_predict_themselves(value: float, n: int) -> None:
    """Also those whose mean, as computed, is not exactly theirs."""
    X, _ = wave(n, 2)
    mean, sd = predict(fit_amortised(Inputs.continuous(2), X, np.full((n, 1), value)), X)
    np.testing.assert_allclose(mean, value, rtol=1e-9, atol=1e-9)
    reference = predict(fit_amortised(Inputs.continuous(2), X, np.zeros((n, 1))), X + 0.1)[1]
    sd = predict(fit_amortised(Inputs.continuous(2), X, np.full((n, 1), 3.3)), X + 0.1)[1]
    np.testing.assert_allclose(sd, reference, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-140, 0.0, 1e100, 1e150])
def test_values_of_every_size_give_numbers(size: float) -> None:
    X, y = wave(9, 2)
    mean, sd = predict(fit_amortised(Inputs.continuous(2), X, size * y[:, None]), X)
    assert np.isfinite(mean).all() and np.isfinite(sd).all()
    np.testing.assert_allclose(mean[:, 0], size * y, atol=1e-3 * size, rtol=1e-3)


def test_values_that_differ_by_next_to_nothing_count_as_equal() -> None:
    X, y = wave(9, 2)
    mean, sd = predict(fit_amortised(Inputs.continuous(2), X, 1e-300 * y[:, None]), X)
    assert np.isfinite(sd).all() and abs(mean).max() < 1e-299


def test_repeated_rows() -> None:
    X, y = wave(8, 2)
    twice = fit_amortised(Inputs.continuous(2), np.vstack([X, X]), np.concatenate([y, y])[:, None])
    np.testing.assert_allclose(twice.mean_variance(X)[0][:, 0], y, atol=1e-3)


def test_category_columns_are_read() -> None:
    inputs = Inputs(("float", "category"), (0, 4), (0, 1))
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.random(24), np.arange(24) % 4])
    y = np.sin(4.0 * X[:, 0]) + np.array([0.0, 2.0, -1.0, 1.0])[X[:, 1].astype(int)]
    mean, _ = predict(fit_amortised(inputs, X, y[:, None]), X)
    np.testing.assert_allclose(mean[:, 0], y, atol=0.01)


def test_it_is_a_function_of_the_data_and_leaves_no_trace() -> None:
    X, y = wave(20, 2)
    threads, state, numpy_state = torch.get_num_threads(), torch.random.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    first = fit_amortised(Inputs.continuous(2), X, y[:, None], [Hyperprior.noisy()])
    torch.manual_seed(77)
    between = torch.random.get_rng_state()
    second = fit_amortised(Inputs.continuous(2), X.copy(), y[:, None].copy(), [Hyperprior.noisy()])
    assert torch.equal(torch.random.get_rng_state(), between)
    torch.random.set_rng_state(state)
    assert torch.get_num_threads() == threads and torch.is_grad_enabled()
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert first.diagnosis == second.diagnosis
    for name in ("lengthscales", "noise", "scale", "log_weight", "kernel"):
        np.testing.assert_array_equal(first.hyperparameters()[name], second.hyperparameters()[name])


def test_where_few_draws_count_weights_are_made_even(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "LEAST", 60.0)
    X, y = wave(10, 2)
    posterior = fit_amortised(Inputs.continuous(2), X, y[:, None])
    (diagnosis,) = posterior.diagnosis
    assert diagnosis.how == "tempered" and "with wider tails" in diagnosis.reason
    assert diagnosis.ess < 60.0
    every = fit_amortised(Inputs.continuous(2), X, y[:, None], keep=1000).components[0]
    assert every.effective() == pytest.approx(60.0, rel=0.05), "next to nothing is left away"
    np.testing.assert_allclose(posterior.mean_variance(X)[0][:, 0], y, atol=1e-2)


def changed(part: Array, value: float) -> Array:
    other = part.copy()
    other.flat[0] = value
    return other


def test_what_cannot_be_fitted_is_refused() -> None:
    X, y = wave(6, 2)
    Z, V, inputs = y[:, None], np.full((6, 1), 0.1), Inputs.continuous(2)
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(UsageError, match="finite inputs X"):
            fit_amortised(inputs, changed(X, wrong), Z)
        with pytest.raises(UsageError, match="finite values Z up to 1e"):
            fit_amortised(inputs, X, changed(Z, wrong))
        with pytest.raises(UsageError, match="finite variances of at least 0"):
            fit_amortised(inputs, X, Z, None, changed(V, wrong))
    with pytest.raises(UsageError, match="finite variances of at least 0"):
        fit_amortised(inputs, X, Z, None, -V)
    with pytest.raises(UsageError, match="finite values Z up to 1e"):
        fit_amortised(inputs, X, 1e300 * Z)
    for rows, values, known in (
        (X, y, None), (X[:0], Z[:0], None), (X[:5], Z, None), (X[:, :1], Z, None), (X, Z[:, :0], None), (X, Z, V[:, 0]),
        (X, Z, V[:3]),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="expected n > 0 rows"):
            fit_amortised(inputs, rows, values, None, known)
    for priors, draws in (([], 64), ([Hyperprior()] * 2, 64), (None, 7)):
        with pytest.raises(UsageError, match="expected a prior for each"):
            fit_amortised(inputs, X, Z, priors, draws=draws)
    with pytest.raises(UsageError, match="to keep"):
        fit_amortised(inputs, X, Z, keep=0)


def test_more_rows_than_it_weighs_draws_by_all_predict() -> None:
    rng = np.random.default_rng(5)
    X = rng.random((420, 2))
    y = np.sin(7.0 * X[:, 0]) + X[:, 1] ** 2
    posterior = fit_amortised(Inputs.continuous(2), X, y[:, None], draws=16)
    assert len(posterior.X) == 420 and posterior.diagnosis[0].ess > 0.0
    np.testing.assert_allclose(posterior.mean_variance(X)[0][:, 0], y, atol=1e-3)
    turn = rng.permutation(420)
    again = fit_amortised(Inputs.continuous(2), X[turn], y[turn, None], draws=16)
    Q = rng.random((20, 2))
    for one, other in zip(posterior.mean_variance(Q), again.mean_variance(Q), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)
