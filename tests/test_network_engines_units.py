"""Unit-wise differences against autograd, their query counts, where they are refused; and the cost model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bbopt.errors import UsageError
from bbopt.zeroth_order.network.base import opened
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.cost import costs, prefix_speedup
from bbopt.zeroth_order.network.delta import Delta
from bbopt.zeroth_order.network.engine import NotApplicable
from bbopt.zeroth_order.network.objective import BlackBox, CrossEntropy, NetworkLoss, SquaredError
from bbopt.zeroth_order.network.units import unit_gradient
from problems.networks import digits, mlp, resnet20, small_cnn


def true_gradient(problem: NetworkLoss) -> dict[str, Tensor]:
    assert isinstance(problem.loss, CrossEntropy)
    found = torch.autograd.grad(
        F.cross_entropy(problem.module(problem.inputs), problem.loss.targets), list(problem.module.parameters())
    )
    return dict(zip(dict(problem.module.named_parameters()), found, strict=True))


def error(found: dict[str, Tensor], true: dict[str, Tensor]) -> float:
    gap = sum(float((found[name] - true[name]).square().sum()) for name in true)
    return (gap / sum(float(each.square().sum()) for each in true.values())) ** 0.5


def smooth_cnn(groups: int = 1) -> nn.Module:
    """16 channels on few positions, so that units are fewer than weights; Tanh, so that there are no kinks."""
    torch.random.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=3, padding=1), nn.Tanh(), nn.Conv2d(4, 16, 2, groups=groups), nn.Tanh(), nn.Flatten(),
        nn.Linear(16, 10),
    ).double()  # fmt: skip


def problem_of(module: nn.Module, flat: bool = False, batch: int = 40) -> NetworkLoss:
    data = digits(flat=flat)
    return NetworkLoss(module.double(), data.train_inputs[:batch].double(), CrossEntropy(data.train_targets[:batch]))


@pytest.mark.parametrize("network", ["mlp", "cnn", "groups"])
def test_error_is_of_the_order_of_the_radius(network: str) -> None:
    """Forward: a tenth of the radius, a tenth of the error; central: a hundredth."""
    module = mlp((64, 16, 16, 10), "tanh") if network == "mlp" else smooth_cnn(2 if network == "groups" else 1)
    problem = problem_of(module, flat=network == "mlp")
    true = true_gradient(problem)
    for scheme, order in (("forward", 1), ("central", 2)):
        one, other = (error(dict(unit_gradient(problem, scheme=scheme, radius=r).gradient), true) for r in (1e-2, 1e-3))  # type: ignore[arg-type]
        assert one < 5.0 * 1e-2**order
        assert 0.8 * 10**order < one / other < 1.25 * 10**order


def test_queries_are_one_per_unit_and_one_more() -> None:
    """Facts, section 6, check 5: 43 for 64-32-10; central counts two per unit and the base beside them."""
    problem = problem_of(mlp((64, 32, 10)), flat=True)
    found = unit_gradient(problem)
    assert found.queries == 32 + 10 + 1 and found.extra == 0 and set(found.engines.values()) == {"units"}
    assert unit_gradient(problem, scheme="central").queries == 2 * (32 + 10)
    calls = []

    def judge(outputs: Tensor) -> Tensor:
        calls.append(1)
        return F.cross_entropy(outputs, problem.loss.targets, reduction="none")  # type: ignore[attr-defined]

    black = NetworkLoss(problem.module, problem.inputs, BlackBox(judge))
    assert unit_gradient(black, radius=1e-5).queries == 43
    assert 43 <= len(calls) <= 43 + 2, "asked once per unit, for the base, and at most to know whether it is a mean"


def test_black_box_and_squared_losses_per_sample() -> None:
    problem = problem_of(mlp((64, 8, 10), "tanh"), flat=True)
    true = true_gradient(problem)
    targets = problem.loss.targets  # type: ignore[attr-defined]
    black = NetworkLoss(
        problem.module, problem.inputs, BlackBox(lambda o: F.cross_entropy(o, targets, reduction="none"))
    )
    assert error(dict(unit_gradient(black, radius=1e-5).gradient), true) < 1e-4
    wanted = torch.randn(40, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    squared = NetworkLoss(problem.module, problem.inputs, SquaredError(wanted))
    parameters = list(problem.module.parameters())
    exact = torch.autograd.grad(((problem.module(problem.inputs) - wanted) ** 2).mean(), parameters)
    ratio = squared.loss.mean(torch.zeros_like(wanted)) / float((wanted**2).mean())  # sum or mean over outputs
    found = unit_gradient(squared, radius=1e-5)
    assert error(dict(found.gradient), {n: ratio * e for n, e in zip(found.gradient, exact, strict=True)}) < 1e-4


def test_a_part_of_the_coordinates() -> None:
    """Only units of rows that have a coordinate are asked; the rest of the gradient is zero."""
    problem = problem_of(mlp((64, 8, 10), "tanh"), flat=True)
    some = Coordinates.of(
        problem.module, {"linear1.weight": [0, 5, 130, 131, 190], "linear1.bias": [0, 2], "linear2.bias": [3]}
    )
    found = unit_gradient(problem, coordinates=some, radius=1e-6)
    assert found.queries == 2 + 1 + 1, "rows 0 and 2 of the first layer, one bias by itself, the base"
    assert found.engines == {"linear1.weight": "units", "linear1.bias": "units", "linear2.bias": "delta"}
    true = true_gradient(problem)
    for name, index in some.indices.items():
        flat = found.gradient[name].flatten()
        assert torch.allclose(flat[index], true[name].flatten()[index], rtol=1e-4, atol=1e-7)
        flat[index] = 0.0
        assert not flat.any()


def test_batch_norm_in_training_mode_is_refused_and_in_evaluation_mode_is_not() -> None:
    net = nn.Sequential(nn.Linear(64, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 10))
    problem = problem_of(net, flat=True)
    found = unit_gradient(problem, radius=1e-6)
    assert found.engines["0.weight"] == "delta" and "mixes the samples" in found.fallbacks["0.weight"]
    assert found.engines["1.weight"] == "delta" and found.engines["3.weight"] == "units"
    assert error(dict(found.gradient), true_gradient(problem)) < 1e-4
    found = unit_gradient(problem_of(net.eval(), flat=True), radius=1e-6)
    assert found.engines["0.weight"] == "units" and found.queries == 12 + 2 * 12 + 10 + 1
    assert error(dict(found.gradient), true_gradient(problem)) < 1e-4


def test_refusals_name_their_reason() -> None:
    problem = problem_of(small_cnn((4,)))
    with pytest.raises(NotApplicable, match="mean over samples"):
        unit_gradient(NetworkLoss(problem.module, problem.inputs, BlackBox(lambda outputs: outputs.abs().max())))
    alone = nn.Sequential(nn.Linear(64, 10), nn.BatchNorm1d(10))
    with pytest.raises(NotApplicable, match="mixes the samples"):
        unit_gradient(problem_of(alone, flat=True))
    with pytest.raises(UsageError, match="radius"):
        unit_gradient(problem, radius=-1.0)


def test_prefix_model_of_the_facts() -> None:
    """Facts, section 1.3: relative costs from each of 12 stages to the end, 3.69 for dense ResNet-20; 4.2: 1.78."""
    to_end = [546, 508, 482, 416, 365, 318, 257, 210, 160, 102, 57, 11]
    counts = [sum(p.numel() for p in stage.parameters()) for stage in resnet20()]  # type: ignore[attr-defined]
    assert prefix_speedup(counts, to_end) == pytest.approx(3.69, abs=0.005)
    assert prefix_speedup([1] * 7, [7, 6, 5, 4, 3, 2, 1]) == pytest.approx(2 * 7 / 8)
    problem = problem_of(mlp((64, *[32] * 8, 10)), flat=True, batch=4)
    with opened(problem, None) as (base, chosen):
        assert costs(Delta(base)).speedup("staged", chosen) == pytest.approx(1.78, abs=0.005)
    with pytest.raises(UsageError, match="as many"):
        prefix_speedup([1], [2.0, 1.0])


def test_products_per_query() -> None:
    """By hand, for batch 3: 4-5-6-2, whose layers take 2 * 3 times 20, 30 and 12 products."""
    problem = NetworkLoss(mlp((4, 5, 6, 2)).double(), torch.randn(3, 4).double(), CrossEntropy(torch.tensor([0, 1, 0])))
    with opened(problem, None) as (base, chosen):
        found = costs(Delta(base))
    first, second, last = (found.by_parameter[f"linear{j}.weight"] for j in (1, 2, 3))
    assert (first.naive, first.staged, first.delta, first.units) == (6 * 62, 6 * 62, 6 * (6 + 12), 5)
    assert (second.staged, second.delta, second.units) == (6 * 42, 6 * 2, 6)
    assert (last.staged, last.delta, last.units) == (6 * 12, 0.0, 2)
    assert found.total("naive", chosen) == 75 * 6 * 62
    assert found.total("units", chosen) == 5 * 6 * 18 + 6 * 12
    with pytest.raises(UsageError, match="units"):
        found.total("unit", chosen)
