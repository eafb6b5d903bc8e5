"""The evaluation of predictions: what is perfect scores perfectly, by independent computations; rivals stand in order."""

from __future__ import annotations

import doctest
import importlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bbopt.bench_features import lines
from surrogates.amortised.hyperprior import Hyperprior
from surrogates.columns import Inputs
from surrogates.evaluation.amortised import MIXED, hyperprior_of, read_amortised, read_cell
from surrogates.evaluation.calibration import LEVELS, told_coverage
from surrogates.evaluation.features import FEATURES, TwoScales, gain
from surrogates.evaluation.gaps import Belief, Summary, gaps
from surrogates.evaluation.reference import TASKS, compute_floor, kept_floor
from surrogates.evaluation.rivals import Priors, ZeroMean, _prior, fitted, floor, joined, nothing
from surrogates.evaluation.tasks import PLAIN, POINTS, Cell, first, noise_of
from surrogates.gp import condition
from surrogates.map_fit import Fitted
from surrogates.pfn.mixture import Mixture
from surrogates.prior import Tasks
from surrogates.prior_draws import Draw
from surrogates.prior_process import Process


def truth(tasks: Tasks) -> Belief:
    """The exact process with the true hyperparameters, by `surrogates.gp` in NumPy."""
    means, sds, noises = [], [], []
    hyper = tasks.hyperparameters
    for b in range(len(tasks.X)):
        d, noise = tasks.X.shape[-1], float(hyper["log_noise"][b, 0].exp())
        known = Fitted(1.0 / hyper["inverse_lengthscales"][b].numpy(), 1.0, noise, 0.0, 0.0, 0.0, 0)
        y = tasks.y[b].numpy()[:, None]
        process = condition(Inputs.continuous(d), tasks.X[b].numpy(), y, [known], "matern52")
        mean, variance = process.mean_variance(tasks.Q[b].numpy())
        means.append(mean[:, 0])
        sds.append(np.sqrt(np.maximum(variance[:, 0], 1e-12)))
        noises.append(math.sqrt(noise))
    return Belief.gaussian(*map(torch.tensor, (np.stack(means), np.stack(sds), np.array(noises)[:, None])))


@pytest.mark.parametrize("cell", [Cell("plain", 1, 8), Cell("plain", 4, 24)])
def test_the_exact_process_has_no_gap(cell: Cell) -> None:
    tasks = cell.tasks(6)
    found = gaps(tasks, truth(tasks))
    assert len(found.told) == len(found.anywhere) == 6
    for each in (found.told, found.anywhere, found.latent):
        assert max(map(abs, each)) < 2e-3


def test_a_gap_is_the_divergence_of_two_normal_distributions() -> None:
    """Exact means moved by two standard deviations cost two nats, and doubled standard deviations log 2 - 3/8."""
    tasks = Cell("plain", 2, 24).tasks(6)
    exact = truth(tasks).told
    moved = Mixture(exact.log_weight, exact.mean + 2.0 * exact.sd, exact.sd)
    doubled = Mixture(exact.log_weight, exact.mean, 2.0 * exact.sd)
    assert np.mean(gaps(tasks, Belief(moved, moved)).told) == pytest.approx(2.0, abs=0.03)
    assert np.mean(gaps(tasks, Belief(doubled, doubled)).told) == pytest.approx(math.log(2) - 0.375, abs=0.01)


def test_exact_intervals_cover_what_they_say() -> None:
    tasks = Cell("plain", 2, 24).tasks(8)
    inside = told_coverage(tasks, truth(tasks))
    for level in LEVELS:
        share, error, binomial = inside.at(level)
        assert share == pytest.approx(level, abs=4 * binomial) and error < 0.03


def test_tasks_of_a_cell_are_always_the_same() -> None:
    one, two = Cell("mixture", 6, 10).tasks(3), Cell("mixture", 6, 10).tasks(3)
    assert torch.equal(one.told, two.told) and one.Q.shape[1] == POINTS
    assert not torch.equal(one.X, Cell("held-out", 6, 10).tasks(3).X)
    assert all(0.01 <= sd <= 0.3 for sd in noise_of(Cell("plain", 1, 8).tasks(20)))


def test_fewer_tasks_are_the_first_of_many() -> None:
    cell = Cell("plain", 1, 8)
    few, many = cell.tasks(3), cell.tasks(70)
    assert len(many.y) == 70 and torch.equal(few.told, many.told[:3])
    assert all(len(part) == 70 for part in many.hyperparameters.values())
    assert not torch.equal(many.X[:6], many.X[64:])


def test_summary() -> None:
    found = Summary.of((0.0, 1.0, 5.0))
    assert (found.mean, found.median, found.tasks) == (2.0, 1.0, 3)
    assert found.error == pytest.approx(math.sqrt(7.0 / 3.0))
    assert math.isnan(Summary.of(()).mean) and Summary.of(()).tasks == 0


def test_the_fitted_process_follows_its_gradient() -> None:
    cell = Cell("plain", 2, 8)
    tasks = cell.tasks(1)
    prior, kernel = _prior(cell, "right")
    target = ZeroMean(Inputs.continuous(2), tasks.X[0].numpy(), kernel, prior)
    theta, y = np.array([-0.5, -1.5, -6.0]), tasks.y[0].numpy()
    value, gradient = target(theta, y, None)
    for j, step in enumerate(1e-5 * np.eye(3)):
        assert gradient[j] == pytest.approx((target(theta + step, y, None)[0] - target(theta - step, y, None)[0]) / 2e-5, abs=1e-6)  # fmt: skip
    assert math.isfinite(value)


def test_contestants_stand_in_their_order() -> None:
    """64 rows in one dimension are enough for everyone who looks at them; the floor is at the bottom."""
    cell = Cell("plain", 1, 64)
    tasks = cell.tasks(4)
    few = Cell("plain", 1, 8)
    assert np.mean(gaps(tasks, fitted(cell, tasks)).anywhere) < 0.1
    assert np.mean(gaps(tasks, nothing(cell, tasks)).anywhere) > 1.0
    small = few.tasks(4)
    halves = floor(small, 48)
    bottom = np.mean(gaps(small, joined(*halves)).anywhere)
    assert 0.0 < bottom < np.mean(gaps(small, fitted(few, small)).anywhere)
    assert bottom <= np.mean([gaps(small, half).anywhere for half in halves]) + 1e-9, "the density is concave in mixing"


@pytest.mark.parametrize("priors", ["wide", "botorch", "gp"])
def test_fitted_processes_with_other_priors(priors: Priors) -> None:
    cell = Cell("mixture", 2, 10)
    tasks = cell.tasks(3)
    assert all(map(math.isfinite, gaps(tasks, fitted(cell, tasks, priors)).told))


@pytest.mark.parametrize("priors", ["wide", "gp"])
def test_units_do_not_matter(priors: Priors) -> None:
    """A task and its prediction in other units have the same gap."""
    cell = Cell("mixture", 2, 10)
    tasks = cell.tasks(3)
    other = replace(tasks, y=1e6 * tasks.y, told=1e6 * tasks.told, latent=1e6 * tasks.latent,
                    told_density=tasks.told_density - math.log(1e6), latent_density=tasks.latent_density - math.log(1e6))  # fmt: skip
    one, two = gaps(tasks, fitted(cell, tasks, priors)), gaps(other, fitted(cell, other, priors))
    np.testing.assert_allclose(one.told, two.told, rtol=1e-4, atol=1e-4)


def test_the_kept_floor_is_of_these_tasks_and_is_found_again() -> None:
    """By another, smaller, population of particles; some 0.01 of Monte Carlo error in a cell."""
    for cell in PLAIN:
        kept = kept_floor(cell, cell.tasks(TASKS))
        assert kept is not None, f"{cell}: the kept floor is of other tasks; remake it with `make bench-floor`"
        apart = abs(np.mean(kept["halves"][0]["anywhere"]) - np.mean(kept["halves"][1]["anywhere"]))
        assert len(kept["anywhere"]) == TASKS and apart < 0.03
    cell = PLAIN[0]
    tasks = cell.tasks(TASKS)
    again = compute_floor(tasks, 96)
    assert np.mean(again["anywhere"]) == pytest.approx(np.mean(kept_floor(cell, tasks)["anywhere"]), abs=0.03)  # type: ignore[index]
    assert kept_floor(cell, first(tasks, 5)) is None and kept_floor(cell, replace(tasks, y=tasks.y + 1.0)) is None


def test_the_amortised_process_is_near_the_floor_of_plain_tasks() -> None:
    cell = Cell("plain", 2, 24)
    tasks = cell.tasks(6)
    reading = read_amortised(None, hyperprior_of(cell), tasks.X, tasks.y, tasks.Q)
    bottom = compute_floor(tasks, 64)
    assert np.mean(gaps(tasks, reading.belief).anywhere) < np.mean(bottom["anywhere"]) + 0.05
    assert len(reading.ess) == len(reading.how) == len(reading.seconds) == 6 and min(reading.ess) >= 1.0


def test_beliefs_of_the_amortised_process_are_its_posterior() -> None:
    """Mean, standard deviation and quantiles of rows that were filled up to a common number of components."""
    from surrogates.amortised.fit import fit_amortised

    tasks = Cell("mixture", 2, 10).tasks(3)
    belief = read_amortised(None, MIXED, tasks.X, tasks.y, tasks.Q[:, :5]).belief
    for b in range(3):
        alone = fit_amortised(Inputs.continuous(2), tasks.X[b].numpy(), tasks.y[b].numpy()[:, None], [MIXED])
        Q = tasks.Q[b, :5].numpy()
        mean, variance = alone.mean_variance(Q)
        scale = float(tasks.y[b].std())
        np.testing.assert_allclose(belief.middle()[b].numpy(), mean[:, 0], atol=1e-9 * scale)
        np.testing.assert_allclose(belief.doubt()[b].numpy() ** 2, variance[:, 0], atol=1e-9 * scale**2)
        found = belief.quantiles(torch.tensor([0.1, 0.9], dtype=torch.float64))[b].numpy()
        np.testing.assert_allclose(found, alone.quantiles(Q, np.array([0.1, 0.9]))[:, 0], atol=1e-6 * scale)


def test_far_values_cost_logarithms_on_other_than_plain_tasks() -> None:
    cell = Cell("mixture", 2, 10)
    tasks = cell.tasks(2)
    far = replace(tasks, told=1e8 * tasks.y.abs().max() * torch.ones_like(tasks.told))
    assert max(gaps(far, read_cell(None, cell, tasks).belief).told) < 1e4


def test_what_each_kind_of_cell_tells() -> None:
    assert hyperprior_of(Cell("plain", 2, 8)) == Hyperprior.plain()
    assert hyperprior_of(Cell("known", 2, 8)).lengthscale == (0.25, 0.05)
    assert hyperprior_of(Cell("held-out", 2, 8)) is MIXED


def test_the_two_scales_of_the_floor_are_those_of_the_prior() -> None:
    process = Process.draw(FEATURES["two scales"], 2, 2, Draw(torch.Generator().manual_seed(0)))
    X = torch.rand(2, 6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = TwoScales(X, torch.zeros(2, 6), process.fine)
    for b in range(2):
        theta = torch.cat([-process.rate[b].log(), torch.tensor([-9.0], dtype=torch.float64)])[None]
        L = rows.factors(theta, b)[0]
        wanted = process.covariance(X, X)[b] + np.exp(-18.0) * torch.eye(6)
        torch.testing.assert_close(L @ L.T, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("feature", list(FEATURES))
def test_who_is_told_a_feature_gains(feature: str) -> None:
    """With no trend handed over as the trend, and so on, there would be no gain at all; small bounds on few tasks."""
    found = gain(feature, 1, 20, 6)
    assert len(found.without) == 6 and all(map(math.isfinite, (*found.without, *found.given)))
    if feature != "none":
        assert np.mean(found.given) < np.mean(found.without) + 0.05


def test_features_are_printed_line_by_line() -> None:
    (line,) = lines(["trend"], ((1, 8),), 2)
    assert line.startswith("trend") and "gains" in line


@pytest.mark.parametrize(
    "module", ["amortised", "behaviour", "calibration", "features", "gaps", "reference", "rivals", "tasks"]
)
def test_examples_in_the_docstrings_run(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"surrogates.evaluation.{module}")).failed == 0
