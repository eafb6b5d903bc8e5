"""The network as a contestant, and the behaviour of surrogates on fixed tasks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surrogates.evaluation.behaviour import behaviour
from surrogates.evaluation.calibration import function_coverage
from surrogates.evaluation.gaps import gaps
from surrogates.evaluation.tasks import Cell
from surrogates.pfn.evaluation import Reader, read_by
from surrogates.pfn.network import Network, Shape
from surrogates.pfn.normalise import Normal

SMALL = Shape(width=16, layers=1, heads=2, inner=16, columns=16, anchors=6)


@pytest.fixture
def network() -> Network:
    """Untrained, thus the kernel regressions alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network(SMALL).requires_grad_(False).eval()


def test_densities_and_probabilities_belong_together(network: Network) -> None:
    """Also beyond 4 standard deviations, where values are compressed."""
    tasks = Cell("mixture", 2, 10).tasks(2)
    belief = Reader(tasks.X, tasks.y, 6).believe(network, tasks.Q[:, :3])
    normal = Normal.of(tasks.y)
    even = torch.linspace(-7, 7, 4001, dtype=torch.float64).expand(2, 3, -1)
    fine = torch.linspace(-9, 9, 901, dtype=torch.float64)  # of every component, however narrow
    parts = (belief.told.mean[..., None] + belief.told.sd[..., None] * fine).flatten(2).clamp(-7, 7)
    z = torch.cat([even, parts], -1).sort(-1).values
    y = normal.backward(z.flatten(1)).reshape(z.shape)
    mass = belief.below(False, y)
    density = belief.log_density(False, y, torch.zeros(2, 1, dtype=torch.float64)).exp()
    steps = (0.5 * (density[..., 1:] + density[..., :-1]) * y.diff(dim=-1)).sum(-1)
    assert (steps - (mass[..., -1] - mass[..., 0])).abs().max() < 2e-3


def test_the_untrained_network_is_not_far_off(network: Network) -> None:
    tasks = Cell("plain", 1, 64).tasks(4)
    assert np.mean(gaps(tasks, read_by(network, tasks.X, tasks.y, tasks.Q)).anywhere) < 0.15


def test_behaviour_of_the_untrained_network(network: Network) -> None:
    found = behaviour(lambda X, y, Q: read_by(network, X, y, Q))
    assert found["told_row_error"] < 0.05 and found["shrinking"] > 0.7
    assert max(found["order"], found["columns"], found["affine"]) < 1e-4
    assert found["sd_160"] < 0.5 * found["sd_5"]


def test_a_given_function_is_covered(network: Network) -> None:
    inside, error = function_coverage(
        lambda X, y, Q: read_by(network, X, y, Q), lambda X: np.sin(5 * X[:, 0]) + X[:, 1], 2, 20, 3, seed=0
    )
    assert inside.at(0.9)[0] > 0.6 and error < 0.3
