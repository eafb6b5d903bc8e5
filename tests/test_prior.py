"""The prior: its oracle against dense algebra, its warps against differences, its shares against binomial bounds."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import binom, norm
from torch import Tensor
from torch.overrides import TorchFunctionMode

from surrogates import prior as prior_module
from surrogates import prior_draws, prior_functions, prior_process, prior_warps
from surrogates.pfn.lessons import Sizes, draw_batch
from surrogates.prior import NODES, Prior, Tasks, sample_tasks
from surrogates.prior_draws import Draw
from surrogates.prior_functions import formula, random_network
from surrogates.prior_process import Process, lower_factors
from surrogates.prior_warps import OutputWarp


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal_of(values: np.ndarray, density: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the normal distribution with these log densities at these values (..., J)."""
    mean, sd = np.empty(values.shape[:-1]), np.empty(values.shape[:-1])
    for at in np.ndindex(mean.shape):
        centre = values[at].mean()
        a, b, _ = np.polyfit(values[at] - centre, density[at], 2)
        mean[at], sd[at] = centre - b / (2.0 * a), math.sqrt(-0.5 / a)
    return mean, sd


KERNELS = {
    0: lambda r: np.exp(-0.5 * r**2),
    1: lambda r: (1.0 + math.sqrt(5.0) * r + 5.0 / 3.0 * r**2) * np.exp(-math.sqrt(5.0) * r),
    2: lambda r: (1.0 + math.sqrt(3.0) * r) * np.exp(-math.sqrt(3.0) * r),
}


@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("warped", [0.0, 1.0])
def test_the_oracle_is_the_exact_posterior(kind: int, warped: float) -> None:
    """Of noise-free and of told values, conditional on the rows and the true hyperparameters, by dense algebra in NumPy."""
    kernels = tuple(float(k == kind) for k in range(4))
    prior = replace(Prior.plain(), kernels=kernels, warped_inputs=warped, irrelevant=0.3, blobs=0.5, noisy=(0.05, 0.3))
    tasks = sample_tasks(prior, 5, 14, 6, 3, generator(kind))
    facts = {name: part.numpy() for name, part in tasks.hyperparameters.items()}
    for b in range(5):
        a, c = facts["warp"][b]

        def place(X: Tensor, b: int = b, a: np.ndarray = a, c: np.ndarray = c) -> np.ndarray:
            inside = X[b].numpy()
            return (1.0 - (1.0 - inside**a) ** c if warped else inside) * facts["inverse_lengthscales"][b]

        rows, points = place(tasks.X), place(tasks.Q)
        noise = math.exp(facts["log_noise"][b, 0])
        C = KERNELS[kind](cdist(rows, rows)) + noise * np.eye(14)
        cross = KERNELS[kind](cdist(points, rows))
        mean = cross @ np.linalg.solve(C, tasks.y[b].numpy())
        variance = 1.0 - (cross * np.linalg.solve(C, cross.T).T).sum(1)
        for values, density, expected in (
            (tasks.latent, tasks.latent_density, variance), (tasks.told, tasks.told_density, variance + noise),
        ):  # fmt: skip
            found, sd = normal_of(values[b].numpy(), density[b].numpy())
            np.testing.assert_allclose(found, mean, atol=1e-4)
            np.testing.assert_allclose(sd, np.sqrt(expected), rtol=1e-3, atol=1e-6)


def test_where_there_is_a_quiet_row_the_oracle_is_its_value() -> None:
    """Through trends, steps and output warps, which the rows and the points must go through alike."""
    prior = replace(
        Prior.plain(), trend=1.0, steps=1.0, warped_outputs=1.0, discrete=1.0, quiet=1.0, quiet_noise=(1e-6, 1e-5)
    )
    tasks = sample_tasks(prior, 60, 40, 8, 1, generator(4))
    same = (tasks.Q[:, :, None, 0] - tasks.X[:, None, :, 0]).abs() < 1e-12  # (B, q, n)
    told = tasks.y.gather(1, same.double().argmax(-1))
    off = (tasks.latent.mean(-1) - told).abs() / tasks.y.std(-1, keepdim=True)
    assert float(same.any(-1).double().mean()) > 0.9
    assert float(off[same.any(-1)].max()) < 1e-3


def test_told_values_have_the_prior_covariance() -> None:
    """Over many tasks whose rows are the same two points, values have unit variance and the kernel's covariance."""
    draw = Draw(generator(3))
    process = Process.draw(replace(Prior.plain(), lengthscale=(0.5, 1e-9)), 20_000, 1, draw)
    X = torch.tensor([[0.2], [0.6]], dtype=torch.float64).expand(20_000, 2, 1)
    K = process.covariance(X, X)
    values = (
        lower_factors(K, torch.full((20_000, 2), 1e-10, dtype=torch.float64)) @ draw.normal(20_000, 2, 1)
    ).squeeze(-1)
    found = values.T @ values / 20_000
    torch.testing.assert_close(found, K[0], atol=4.0 * math.sqrt(2.0 / 20_000), rtol=0.0)


def test_two_scales_add_up_to_unit_variance_and_are_between_their_parts() -> None:
    prior = replace(Prior.plain(), kernels=(0.0, 0.0, 0.0, 1.0))
    process = Process.draw(prior, 50, 2, Draw(generator()))
    X = torch.rand(50, 6, 2, dtype=torch.float64, generator=generator(1))
    K = process.covariance(X, X)
    torch.testing.assert_close(K.diagonal(dim1=1, dim2=2), torch.ones(50, 6, dtype=torch.float64))
    smooth = replace(process, kernel=torch.zeros(50, dtype=torch.float64)).covariance(X, X)
    assert (K <= smooth + 1e-12).all() and (torch.linalg.eigvalsh(K) > -1e-9).all()


def test_the_density_of_the_oracle_has_mass_one() -> None:
    """Its nodes are draws from it: the mean of 1 / density over an interval of them is the length of the interval."""
    prior = replace(Prior.plain(), warped_outputs=1.0)
    tasks = sample_tasks(prior, 400, 10, 30, 2, generator(5))
    for values, density in ((tasks.latent, tasks.latent_density), (tasks.told, tasks.told_density)):
        low, high = values.min(-1, keepdim=True).values, values.max(-1, keepdim=True).values
        a, b = low + 0.3 * (high - low), low + 0.7 * (high - low)  # random, but nearly so: inside the bulk
        assert torch.isfinite(density).all()
        inside = (values > a) & (values < b)
        share = torch.where(inside, (-density).exp(), torch.zeros_like(density)).mean(-1) / (b - a).squeeze(-1)
        assert 0.8 < float(share.median()) < 1.2


def test_nodes_are_stratified_draws_of_equal_weight() -> None:
    tasks = sample_tasks(Prior.plain(), 64, 6, 20, 2, generator(6))
    mean, sd = normal_of(tasks.told.numpy(), tasks.told_density.numpy())
    u = norm.cdf((tasks.told.numpy() - mean[..., None]) / sd[..., None])
    np.testing.assert_array_equal(np.floor(u * NODES + 1e-6 * (0.5 - u)).clip(0, NODES - 1).astype(int).mean((0, 1)), np.arange(NODES))  # fmt: skip
    within = u * NODES - np.arange(NODES)
    assert abs(within.mean() - 0.5) < 4.0 / math.sqrt(12.0 * within.size)


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_slopes_of_output_warps_match_differences(kind: int) -> None:
    B, k, step = 40, 25, 1e-6
    draw = Draw(generator(kind))
    v = 3.0 * draw.normal(B, 12) + 5.0
    warp = replace(OutputWarp.draw(1.0, v, draw), kind=torch.full((B,), float(kind), dtype=torch.float64))
    at = v.mean(-1, keepdim=True) + v.std(-1, keepdim=True) * (draw.uniform(B, k) * 6.0 - 3.0)
    slope = (warp(at + step) - warp(at - step)) / (2.0 * step)
    torch.testing.assert_close(warp.log_slope(at).exp(), slope, rtol=1e-4, atol=1e-7)
    ordered = at.sort(-1).values
    assert (warp(ordered).diff(dim=-1) > 0.0).all()


def test_densities_change_with_the_warp_as_they_must() -> None:
    """log p(y) + log dy/dv does not depend on the warp: with and without, the same draws."""
    plain = sample_tasks(Prior.plain(), 30, 8, 5, 2, generator(7))
    bent = sample_tasks(replace(Prior.plain(), warped_outputs=1.0), 30, 8, 5, 2, generator(7))
    slope = ((bent.told[..., 1:] - bent.told[..., :-1]) / (plain.told[..., 1:] - plain.told[..., :-1])).log()
    change = plain.told_density - bent.told_density
    low, high = torch.minimum(change[..., 1:], change[..., :-1]), torch.maximum(change[..., 1:], change[..., :-1])
    between = (slope > low - 0.1) & (slope < high + 0.1)
    assert float(between.double().mean()) > 0.9


def inside(count: int, total: int, share: float) -> bool:
    """Whether a count is within the central 99.99 % of its binomial distribution."""
    low, high = binom.ppf([5e-5, 1.0 - 5e-5], total, share)
    return bool(low <= count <= high)


def test_shares_are_those_of_the_prior() -> None:
    prior, B = Prior(), 4000
    tasks = sample_tasks(prior, B, 6, 2, 4, generator(8))
    facts = tasks.hyperparameters
    for index, share in enumerate(prior.kernels):
        assert inside(int((facts["kernel"] == index).sum()), B, share)
    assert inside(int(tasks.labels.sum()), B, prior.labels)
    exact = (1.0 - prior.network - prior.formula) * (1.0 - prior.plateau - prior.labels)
    assert inside(int((~tasks.told_density.isnan().any(-1).any(-1)).sum()), B, exact)
    assert inside(int((facts["warp"] != 1.0).any(-1).any(-1).sum()), B, prior.warped_inputs)
    assert inside(int((facts["log_noise"][:, 0] < 2.0 * math.log(prior.quiet_noise[1])).sum()), B, prior.quiet)
    assert inside(int((facts["log_noise"][:, 1:] != 0.0).any(-1).sum()), B, prior.varying_noise * (1.0 - prior.quiet))
    irrelevant = (facts["inverse_lengthscales"] == 0.0).sum()
    assert inside(int(irrelevant), 4 * B, prior.irrelevant * 3.0 / 4.0)  # one column of the four is always kept
    assert ((facts["inverse_lengthscales"] > 0.0).any(-1)).all()


@pytest.mark.parametrize(("name", "value"), [("network", 1.0), ("formula", 1.0), ("labels", 1.0), ("plateau", 1.0)])
def test_families_without_an_oracle_say_so(name: str, value: float) -> None:
    prior = replace(Prior.plain(), **{name: value})
    tasks = sample_tasks(prior, 20, 10, 5, 3, generator(9))
    assert tasks.latent_density.isnan().all() and tasks.told_density.isnan().all()
    assert torch.isfinite(tasks.y).all() and torch.isfinite(tasks.told).all()
    if name == "labels":
        assert set(tasks.y.unique().tolist()) <= {-1.0, 1.0} and tasks.labels.all()
    if name == "plateau":
        ties = [min(row.unique(return_counts=True)[1].max(), 9) for row in tasks.y]
        assert float(np.mean([int(count) > 1 for count in ties])) > 0.5
    if name in ("network", "formula"):
        quiet = sample_tasks(replace(prior, quiet=1.0, quiet_noise=(1e-9, 1e-8)), 20, 10, 5, 3, generator(9))
        assert float((quiet.latent - quiet.latent[..., :1]).abs().max()) < 1e-6  # one value, known


@pytest.mark.parametrize("family", [random_network, formula])
def test_functions_are_standardised_functions(family: Any) -> None:
    function = family(200, 3, generator(10))
    X = torch.rand(200, 500, 3, dtype=torch.float64, generator=generator(11))
    values = function(X)
    assert torch.isfinite(values).all() and values.equal(function(X))
    assert float(values.mean(-1).abs().median()) < 0.2 and 0.8 < float(values.std(-1).median()) < 1.2
    torch.testing.assert_close(function(X[:, :7]), values[:, :7], atol=1e-5, rtol=1e-6)


def test_blobs_lie_around_low_values_and_boxes_are_small() -> None:
    spread = sample_tasks(replace(Prior.plain(), blobs=0.0), 200, 40, 2, 3, generator(12))
    blobs = sample_tasks(replace(Prior.plain(), blobs=1.0), 200, 40, 2, 3, generator(12))
    boxes = sample_tasks(replace(Prior.plain(), boxes=1.0), 200, 40, 2, 3, generator(12))

    def nearest(tasks: Tasks) -> Tensor:
        distance = torch.cdist(tasks.X, tasks.X) + 9.0 * torch.eye(40, dtype=torch.float64)
        return distance.min(-1).values.median(-1).values

    assert float(nearest(blobs).median()) < 0.5 * float(nearest(spread).median())
    assert float(blobs.y.mean(-1).mean()) < float(spread.y.mean(-1).mean()) - 0.2
    width = (boxes.X.amax(1) - boxes.X.amin(1)).amax(-1)
    assert float(width.max()) < 0.81 and float(width.median()) < 0.4


def test_discrete_columns_repeat_their_levels() -> None:
    tasks = sample_tasks(replace(Prior.plain(), discrete=1.0, blobs=0.5), 50, 60, 4, 3, generator(13))
    levels = [len(tasks.X[b, :, j].unique()) for b in range(50) for j in range(3)]
    assert max(levels) <= 10 and min(levels) >= 2


def test_steps_and_trends_change_the_function_and_not_its_noise() -> None:
    draw = Draw(generator(14))
    process = Process.draw(replace(Prior.plain(), trend=1.0, steps=1.0), 300, 2, draw)
    X = draw.uniform(300, 40, 2)
    plain = replace(process, trend=torch.zeros_like(process.trend), step=torch.zeros_like(process.step))
    assert (plain.shift(X) == 0.0).all() and plain.noise(X).equal(process.noise(X))
    assert float((process.shift(X).std(-1) > 0.0).double().mean()) > 0.9
    stepped = replace(process, trend=torch.zeros_like(process.trend)).shift(X)
    assert all(len(row.round(decimals=9).unique()) <= 2**4 for row in stepped)


def test_a_seed_is_a_data_set() -> None:
    one, two, other = (sample_tasks(Prior(), 6, 9, 3, 2, generator(seed)) for seed in (1, 1, 2))
    assert one.y.equal(two.y) and one.X.equal(two.X) and not one.y.equal(other.y)
    before = torch.random.get_rng_state()
    sample_tasks(Prior(), 6, 9, 3, 2, generator(1))
    assert before.equal(torch.random.get_rng_state())


@given(
    n=st.integers(1, 30), q=st.integers(1, 6), d=st.integers(1, 12), batch=st.integers(1, 8), seed=st.integers(0, 999)
)
def test_any_size_gives_finite_tasks_in_the_cube(n: int, q: int, d: int, batch: int, seed: int) -> None:
    tasks = sample_tasks(Prior(), batch, n, q, d, generator(seed))
    assert tasks.X.shape == (batch, n, d) and tasks.Q.shape == (batch, q, d) and tasks.y.shape == (batch, n)
    assert tasks.latent.shape == tasks.told.shape == tasks.told_density.shape == (batch, q, NODES)
    for part in (tasks.X, tasks.Q):
        assert float(part.min()) >= 0.0 and float(part.max()) <= 1.0
    for part in (tasks.y, tasks.latent, tasks.told):
        assert torch.isfinite(part).all()


class WithoutDevice(TorchFunctionMode):
    """Notes functions that make tensors and are not told where: on a GPU they would make them on the CPU."""

    MAKERS = (
        torch.tensor,
        torch.zeros,
        torch.ones,
        torch.full,
        torch.eye,
        torch.arange,
        torch.rand,
        torch.randn,
        torch.linspace,
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.MAKERS and "device" not in (kwargs or {}):
            self.found.append(f"{func.__name__}{args}")
        return func(*args, **(kwargs or {}))


def test_every_tensor_is_made_on_the_device_of_the_generator() -> None:
    with WithoutDevice() as mode:
        for index in range(4):
            draw_batch(Prior(), Sizes((2, 4), (3, 9), 4, 60), 6, (0, index))
    assert mode.found == []


@pytest.mark.parametrize("module", [prior_module, prior_draws, prior_functions, prior_process, prior_warps])
def test_examples_in_the_docstrings_run(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.failed == 0 and result.attempted > 0
