"""A black box behind a differentiable network: against autograd through both."""

from __future__ import annotations

import pytest
import torch
from network_reference import bits, relative_error
from torch import Tensor, nn

from bbopt.errors import UsageError, ValueRefused
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.engine import NotApplicable
from bbopt.zeroth_order.network.gradient import network_gradient
from bbopt.zeroth_order.network.hybrid import hybrid_gradient
from bbopt.zeroth_order.network.objective import BlackBox, Loss, NetworkLoss


class Judge:
    """A frozen classifier that answers with its loss per sample, as a black box or as torch sees it."""

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(size, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype).requires_grad_(False)
        self.targets = torch.randint(0, 3, (6,))

    def each(self, outputs: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.net(outputs.flatten(1)), self.targets, reduction="none")

    def stacked(self, outputs: Tensor) -> Tensor:
        return torch.stack([self.each(one) for one in outputs])


def denoiser(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    parts = [
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.Tanh(),
        nn.Dropout(0.3),
        nn.Conv2d(3, 1, 3, padding=1),
    ]
    return nn.Sequential(*parts).to(dtype).train()


def posed(loss: Loss, dtype: torch.dtype = torch.float64) -> NetworkLoss:
    torch.manual_seed(2)
    return NetworkLoss(denoiser(dtype), torch.randn(6, 1, 4, 4).to(dtype), loss, seed=4)


def through_both(problem: NetworkLoss, judge: Judge) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        loss = judge.each(problem.module(problem.inputs)).mean()
    named = dict(problem.module.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@pytest.mark.parametrize("stacked", [False, True])
def test_it_is_the_gradient_through_both(stacked: bool) -> None:
    judge = Judge(16, torch.float64)
    problem = posed(BlackBox(judge.stacked, stacked=True) if stacked else BlackBox(judge.each))
    true = through_both(problem, judge)
    before = bits(problem.module)
    found = network_gradient(problem, level="hybrid", scheme="central")
    assert bits(problem.module) == before
    assert relative_error(found.gradient, true) < 1e-8
    assert set(found.engines.values()) == {"hybrid"}


@pytest.mark.parametrize(("scheme", "count"), [("forward", 17), ("central", 32)])
def test_samples_share_their_queries(scheme: str, count: int) -> None:
    """16 entries of one sample, whatever the batch and the 61 scalars of the network."""
    judge, asked = Judge(16, torch.float64), [0]

    def each(outputs: Tensor) -> Tensor:
        asked[0] += 1
        return judge.each(outputs)

    found = network_gradient(posed(BlackBox(each)), level="hybrid", scheme=scheme)  # type: ignore[arg-type]
    assert found.queries == count and asked[0] == count + found.extra
    asked[0] = 0
    some = Coordinates.of(denoiser(), {"4.weight": [1]})
    fewer = network_gradient(posed(BlackBox(each)), level="hybrid", scheme=scheme, coordinates=some)  # type: ignore[arg-type]
    assert fewer.queries == count and set(fewer.gradient) == {"4.weight"}
    one, all = (each.gradient["4.weight"].reshape(-1) for each in (fewer, found))
    assert torch.equal(torch.nonzero(one).flatten(), torch.tensor([1])) and torch.equal(one[1], all[1])


def test_a_loss_that_is_no_mean_moves_every_entry_of_the_batch() -> None:
    judge = Judge(16, torch.float64)
    problem = posed(BlackBox(lambda outputs: float(judge.each(outputs).mean())))
    found = network_gradient(problem, level="hybrid", scheme="central", check=10)
    assert (found.queries, found.extra) == (2 * 6 * 16, 21)
    assert relative_error(found.gradient, through_both(problem, judge)) < 1e-8


def test_in_single_precision() -> None:
    """Measured 1e-3 at the default radius of a black box, whose float32 losses are subtracted."""
    judge = Judge(16, torch.float32)
    problem = posed(BlackBox(judge.each), torch.float32)
    found = network_gradient(problem, level="hybrid", scheme="central", check=16)
    error = relative_error(found.gradient, through_both(problem, judge))
    assert error < 5e-3
    assert 0.2 * error < found.error < 10.0 * error


@pytest.mark.parametrize("kind", ["gaussian", "rademacher", "sphere"])
def test_random_directions_at_the_interface_are_unbiased(kind: str) -> None:
    """4000 directions in 16 dimensions, each sample with its own: in each sample a deviation of sqrt(17 / 4000) = 0.065.
    Through the network it averages over samples; measured 0.02 to 0.06 over 20 seeds and the three kinds."""
    judge = Judge(16, torch.float64)
    problem = posed(BlackBox(judge.stacked, stacked=True))
    found = hybrid_gradient(problem, directions=4000, kind=kind, radius=1e-4, seed=5)  # type: ignore[arg-type]
    assert found.queries == 4001
    assert relative_error(found.gradient, through_both(problem, judge)) < 0.12


def test_as_many_orthonormal_directions_as_entries_are_exact() -> None:
    judge = Judge(16, torch.float64)
    problem = posed(BlackBox(judge.each))
    found = hybrid_gradient(problem, directions=16, kind="orthonormal", scheme="central")
    assert relative_error(found.gradient, through_both(problem, judge)) < 1e-7


def test_a_module_without_derivatives_is_refused() -> None:
    class Rounds(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return torch.from_numpy(super().forward(x).detach().numpy().round(2))

    problem = NetworkLoss(Rounds(3, 2), torch.zeros(2, 3), BlackBox(lambda outputs: outputs.sum(1)))
    before = bits(problem.module)
    with pytest.raises(NotApplicable, match="'hybrid' does not apply: the outputs cannot be differentiated"):
        network_gradient(problem, level="hybrid")
    assert bits(problem.module) == before


def test_wrong_options_are_refused() -> None:
    problem = posed(BlackBox(lambda outputs: outputs.flatten(1).sum(1)))
    with pytest.raises(UsageError, match="a number of directions, 1 or more, or None"):
        hybrid_gradient(problem, directions=0)
    with pytest.raises(UsageError, match="which random directions do not give"):
        hybrid_gradient(problem, directions=3, check=2)
    with pytest.raises(UsageError, match="expected a kind of directions"):
        hybrid_gradient(problem, directions=3, kind="spherical")  # type: ignore[arg-type]
    away = BlackBox(lambda outputs: torch.where(outputs.flatten(1).abs().amax(1) > 40.0, torch.inf, 1.0))
    with pytest.raises(ValueRefused, match="not finite at moved outputs"):
        hybrid_gradient(posed(away), radius=50.0)
