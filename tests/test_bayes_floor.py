"""The posterior of hyperparameters by sequential Monte Carlo, against closed forms and plain importance sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from surrogates.bayes_floor import Hyperprior, Rows, sample_posterior
from surrogates.columns import Inputs
from surrogates.gp import condition
from surrogates.map_fit import Fitted
from surrogates.prior import Prior, Tasks, sample_tasks


def plain(d: int, n: int, count: int = 2, seed: int = 0) -> Tasks:
    return sample_tasks(Prior.plain(), count, n, 6, d, torch.Generator().manual_seed(seed))


def test_likelihood_is_that_of_a_normal_distribution() -> None:
    tasks = plain(2, 5)
    theta = Hyperprior.plain(2).draw(2, 3, 2, torch.Generator().manual_seed(1))
    found = Rows(tasks.X, tasks.y).log_likelihood(theta)
    for b in range(2):
        for p in range(3):
            length, noise = np.exp(theta[b, p, :2].numpy()), math.exp(float(theta[b, p, 2]))
            X = tasks.X[b].numpy()
            r = math.sqrt(5) * np.sqrt((((X[:, None] - X[None]) / length) ** 2).sum(-1))
            K = (1 + r + r**2 / 3) * np.exp(-r) + noise**2 * np.eye(5)
            assert found[b, p] == pytest.approx(
                multivariate_normal(np.zeros(5), K).logpdf(tasks.y[b].numpy()), abs=1e-9
            )


def test_prediction_is_that_of_the_exact_process() -> None:
    tasks = plain(3, 12)
    theta = Hyperprior.plain(3).draw(2, 2, 3, torch.Generator().manual_seed(1))
    mean, sd = Rows(tasks.X, tasks.y).predict(theta, tasks.Q)
    for b in range(2):
        for p in range(2):
            known = Fitted(np.exp(theta[b, p, :3].numpy()), 1.0, math.exp(2 * float(theta[b, p, 3])), 0.0, 0.0, 0.0, 0)
            y = tasks.y[b].numpy()[:, None]
            process = condition(Inputs.continuous(3), tasks.X[b].numpy(), y, [known], "matern52")
            wanted = process.mean_variance(tasks.Q[b].numpy())
            np.testing.assert_allclose(mean[b, :, p].numpy(), wanted[0][:, 0], atol=1e-9)
            np.testing.assert_allclose(sd[b, :, p].numpy() ** 2, wanted[1][:, 0], atol=1e-9)


def test_it_agrees_with_importance_sampling_where_that_works() -> None:
    """d = 1, n = 4: draws from the prior, weighted by their likelihood, are the same posterior."""
    tasks = plain(1, 4, count=3, seed=5)
    rows, prior = Rows(tasks.X, tasks.y), Hyperprior.plain(1)
    draws = prior.draw(3, 20_000, 1, torch.Generator().manual_seed(2))
    weight = torch.softmax(rows.log_likelihood(draws), -1)
    assert (1 / weight.square().sum(-1)).min() > 500, "importance sampling works here"
    theta = sample_posterior(rows, prior, 1000, seed=0)
    even = torch.full((3, 1000), 1e-3, dtype=torch.float64)
    found = []
    for particles, share in ((draws, weight), (theta, even)):
        mean, sd = rows.predict(particles, tasks.Q)
        first = (mean * share[:, None]).sum(-1)
        second = ((sd.square() + mean.square()) * share[:, None]).sum(-1)
        logs = (particles * share[..., None]).sum(1)
        found.append((first, (second - first.square()).sqrt(), logs))
    for sampled, wanted in zip(found[1], found[0], strict=True):
        assert (sampled - wanted).abs().max() < 0.12  # some four standard errors of a thousand draws of spread 0.75
    assert (found[1][1] - found[0][1]).abs().max() < 0.04


def test_rows_that_say_nothing_leave_the_prior() -> None:
    rows = Rows(torch.zeros(1, 1, 2, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))
    theta = sample_posterior(rows, Hyperprior.plain(2), 1000, seed=0)[0]
    assert theta[:, :2].mean(0).sub(Hyperprior.plain(2).location).abs().max() < 0.12
    assert theta[:, :2].std(0).sub(0.75).abs().max() < 0.1
    assert theta[:, 2].min() >= math.log(0.01) and theta[:, 2].max() <= math.log(0.3)


def test_a_seed_is_a_posterior_and_nothing_else_is_touched() -> None:
    tasks = plain(2, 10)
    before = torch.random.get_rng_state()
    one, two = (sample_posterior(Rows(tasks.X, tasks.y), Hyperprior.plain(2), 32, seed=3) for _ in range(2))
    assert torch.equal(one, two) and not torch.equal(one[:, :5], sample_posterior(Rows(tasks.X, tasks.y), Hyperprior.plain(2), 32, seed=4)[:, :5])  # fmt: skip
    assert torch.equal(before, torch.random.get_rng_state())
