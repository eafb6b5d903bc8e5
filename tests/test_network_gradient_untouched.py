"""Mistakes that finite differences of a module invite, each as a test named after the wrong behaviour.

Those of the code released with DeepZero (weights that drift, perturbations that get lost, scales that are wrong), and those
of batch norm, dropout, in-place activations, shared and recomputed weights. References: autograd in float64.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from network_modules import MODULES, problem_of
from network_reference import bits, cosine, relative_error, true_gradient
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from bbopt.errors import UsageError
from bbopt.zeroth_order.network.engine import NotApplicable
from bbopt.zeroth_order.network.gradient import network_gradient
from bbopt.zeroth_order.network.hybrid import hybrid_gradient
from bbopt.zeroth_order.network.naive import cells
from bbopt.zeroth_order.network.objective import BlackBox, CrossEntropy, NetworkLoss, SquaredError
from bbopt.zeroth_order.network.random_directions import random_gradient
from bbopt.zeroth_order.network.untouched import untouched


@pytest.mark.parametrize("level", ["oracle", "auto", "vmap"])
@pytest.mark.parametrize("name", MODULES)
def test_every_module_gets_its_gradient_and_comes_back_as_it_was(name: str, level: str) -> None:
    problem = problem_of(name)
    true = true_gradient(problem)
    before, inputs = bits(problem.module), problem.inputs.clone()
    try:
        found = network_gradient(problem, scheme="central", level=level)  # type: ignore[arg-type]
    except NotApplicable as reason:
        if level != "vmap":
            raise
        pytest.skip(str(reason))
    finally:
        assert bits(problem.module) == before
        assert torch.equal(problem.inputs, inputs)
    assert relative_error(found.gradient, true) < 1e-8


@pytest.mark.parametrize("name", MODULES)
def test_every_estimator_leaves_single_precision_bits_alone(name: str) -> None:
    """Adding a radius and subtracting it again changes a fifth of float32 weights."""
    problem = problem_of(name, torch.float32)
    problem.module(problem.inputs.clone()).square().mean().backward()
    before = bits(problem.module)
    network_gradient(problem, radius=5e-3, check=3)
    random_gradient(problem, 3, kind="sphere", radius=0.1)
    hybrid_gradient(problem)
    assert bits(problem.module) == before


def test_weights_drift_by_the_radius() -> None:
    """With a backup that aliases the weights, each stays perturbed and the gradient's cosine is 0.05."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 4))
    problem = NetworkLoss(net, torch.randn(40, 20), CrossEntropy(torch.randint(0, 4, (40,))))
    before = bits(net)
    first = network_gradient(problem, radius=5e-3)
    assert bits(net) == before
    second = network_gradient(problem, radius=5e-3)
    assert all(torch.equal(first.gradient[name], second.gradient[name]) for name in first.gradient)
    assert cosine(first.gradient, true_gradient(problem)) > 0.999


@pytest.mark.parametrize("name", ["channels last", "transposed weight", "sliced weight"])
def test_the_perturbation_is_lost_in_a_copy(name: str) -> None:
    """flatten() of these weights is a copy: writing into it changes nothing."""
    problem = problem_of(name)
    weight = next(p for n, p in problem.module.named_parameters() if n.endswith("weight") and not p.is_contiguous())
    strides = weight.stride()
    with untouched(problem.module):
        for j, cell in enumerate(cells(weight, torch.arange(weight.numel()))):
            cell.fill_(j)
        assert torch.equal(weight.reshape(-1), torch.arange(weight.numel()).to(weight))
    assert weight.stride() == strides
    found = network_gradient(problem).gradient
    assert all(float(each.abs().max()) > 0.0 for each in found.values())


def test_perturbed_passes_move_the_running_statistics() -> None:
    problem = problem_of("batch norm in training")
    norm = problem.module[2]  # type: ignore[index]
    mean, seen = norm.running_mean.clone(), norm.num_batches_tracked.item()
    network_gradient(problem)
    assert torch.equal(norm.running_mean, mean) and norm.num_batches_tracked.item() == seen
    assert norm.track_running_stats and norm.training
    problem.module(problem.inputs)
    assert norm.num_batches_tracked.item() == seen + 1  # and a pass of the user's own does move them


def test_spectral_norm_steps_on_between_queries() -> None:
    """In training, each forward moves the vectors that the weight is divided by: base and perturbed must start alike."""
    torch.manual_seed(0)
    net = nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 4), n_power_iterations=1)).double().train()
    problem = NetworkLoss(net, torch.randn(12, 6).double(), CrossEntropy(torch.randint(0, 4, (12,))))
    again = network_gradient(problem, scheme="central", level="oracle")
    first = {name: each.clone() for name, each in again.gradient.items()}
    before = bits(net)
    for level in ("oracle", "auto"):
        found = network_gradient(problem, scheme="central", level=level)  # type: ignore[arg-type]
        assert relative_error(found.gradient, first) < 1e-8
    assert bits(net) == before
    # differences of the training-mode forward itself, one scalar, by hand
    state = {name: b.clone() for name, b in net.named_buffers()}

    def loss(step: float) -> float:
        for name, buffer in net.named_buffers():
            buffer.copy_(state[name])
        with torch.no_grad():
            net[0].parametrizations.weight.original[1, 2] += step
            value = nn.functional.cross_entropy(net(problem.inputs), problem.loss.targets).item()  # type: ignore[attr-defined]
            net[0].parametrizations.weight.original[1, 2] -= step
        return value

    expected = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert first["0.parametrizations.weight.original"][1, 2].item() == pytest.approx(expected, rel=1e-5)


def test_dropout_draws_anew_for_every_query() -> None:
    """Then the gradient is the noise of two masks over the radius: relative error in the millions."""
    problem = problem_of("dropout")
    assert relative_error(network_gradient(problem).gradient, true_gradient(problem)) < 1e-5
    unseeded = NetworkLoss(problem.module, problem.inputs, problem.loss)
    torch.manual_seed(11)
    first = network_gradient(unseeded)
    assert relative_error(first.gradient, true_gradient(unseeded)) < 1e-5  # the mask that comes next
    second = network_gradient(unseeded)
    assert all(torch.equal(first.gradient[name], second.gradient[name]) for name in first.gradient)
    other = network_gradient(NetworkLoss(problem.module, problem.inputs, problem.loss, seed=6))
    assert relative_error(other.gradient, first.gradient) > 0.1


class OtherDraws(nn.Module):
    """Draws from Python's, NumPy's and a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.own = nn.Linear(6, 4), torch.Generator().manual_seed(1)

    def forward(self, x: Tensor) -> Tensor:
        noise = random.random() + np.random.random() + torch.rand(1, generator=self.own, dtype=x.dtype)  # noqa: NPY002
        return self.layer(x) * noise


@pytest.mark.parametrize("seed", [None, 3])
def test_draws_outside_torchs_generator_differ_between_queries(seed: int | None) -> None:
    torch.manual_seed(0)
    net = OtherDraws().double()
    problem = NetworkLoss(net, torch.randn(8, 6).double(), SquaredError(torch.randn(8, 4)), seed)
    before, own = bits(net), net.own.get_state()
    first, second = network_gradient(problem), network_gradient(problem)
    assert bits(net) == before and torch.equal(net.own.get_state(), own)
    assert all(torch.equal(first.gradient[name], second.gradient[name]) for name in first.gradient)
    assert float(first.gradient["layer.weight"].norm()) < 100.0


def test_a_random_judge_sees_other_draws_per_query() -> None:
    net = nn.Linear(6, 4).double()
    judge = BlackBox(lambda outputs: (outputs + torch.randn(4).double()).square().sum(1))
    problem = NetworkLoss(net, torch.randn(8, 6).double(), judge, seed=3)
    torch.manual_seed(3)
    noise = torch.randn(4).double()
    loss = (net(problem.inputs) + noise).square().sum(1).mean()
    true = torch.autograd.grad(loss, net.weight)[0]
    for level in ("oracle", "vmap", "hybrid"):
        found = network_gradient(problem, level=level)  # type: ignore[arg-type]
        assert torch.allclose(found.gradient["weight"], true, rtol=1e-4, atol=1e-5), level


def test_activations_in_place_destroy_what_was_kept() -> None:
    """Kept inputs of stages, and the user's own inputs."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.ReLU(inplace=True), nn.Linear(6, 5), nn.Identity(), nn.ReLU(inplace=True), nn.Linear(5, 5), nn.Flatten(),
        nn.ELU(inplace=True), nn.Linear(5, 4),
    ).double()  # fmt: skip
    problem = NetworkLoss(net, torch.randn(9, 6).double(), CrossEntropy(torch.randint(0, 4, (9,))))
    inputs = problem.inputs.clone()
    plain, reused = (network_gradient(problem, level=level) for level in ("oracle", "staged"))  # type: ignore[arg-type]
    assert torch.equal(problem.inputs, inputs)
    assert all(torch.equal(plain.gradient[name], reused.gradient[name]) for name in plain.gradient)
    assert relative_error(plain.gradient, true_gradient(problem)) < 1e-6


def test_tied_weights_count_twice_or_move_at_one_place_only() -> None:
    problem = problem_of("tied weights")
    found = network_gradient(problem)
    assert set(found.gradient) == {"first.weight", "first.bias", "shift"}
    assert found.queries == 36 + 6 + 1 + 1
    assert found.gradient["shift"].shape == ()
    torch.manual_seed(1)
    shared = nn.Linear(4, 4)
    net = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), shared, nn.Tanh(), shared).double()  # a stage used twice
    again = NetworkLoss(net, problem.inputs, problem.loss)
    for level in ("oracle", "staged", "vmap"):
        estimate = network_gradient(again, level=level, scheme="central")  # type: ignore[arg-type]
        assert relative_error(estimate.gradient, true_gradient(again)) < 1e-8, level


def test_an_exception_leaves_a_weight_perturbed() -> None:
    for error in (RuntimeError("the simulator broke"), KeyboardInterrupt()):
        problem = problem_of("batch norm in training", torch.float32)
        calls = [0]

        def judge(outputs: Tensor, calls: list[int] = calls, error: BaseException = error) -> Tensor:
            calls[0] += 1
            if calls[0] == 9:
                raise error
            return outputs.sum(1)

        asked = NetworkLoss(problem.module, problem.inputs, BlackBox(judge))
        before = bits(problem.module)
        for run in (network_gradient, hybrid_gradient, lambda p: random_gradient(p, 20)):
            calls[0] = 6
            with pytest.raises(type(error)):
                run(asked)
            assert bits(problem.module) == before


def test_a_graph_recorded_before_is_broken() -> None:
    """Writing into weights would invalidate a forward whose backward is still to come."""
    problem = problem_of("batch norm in training")
    loss = problem.module(problem.inputs).square().mean()
    network_gradient(problem)
    random_gradient(problem, 2)
    loss.backward()


def test_nothing_records_gradients() -> None:
    recorded = []

    def judge(outputs: Tensor) -> Tensor:
        recorded.append(outputs.requires_grad or torch.is_grad_enabled())
        return outputs.sum(1)

    problem = problem_of("one stage")
    for level in ("oracle", "vmap"):
        network_gradient(NetworkLoss(problem.module, problem.inputs, BlackBox(judge)), level=level)  # type: ignore[arg-type]
    assert recorded and not any(recorded)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_a_gradient_of_rounding(dtype: torch.dtype) -> None:
    net, targets = nn.Linear(3, 2), CrossEntropy(torch.tensor([0, 1]))
    with pytest.raises(UsageError, match=rf"'weight' is {dtype}: differences need float32 or float64"):
        network_gradient(NetworkLoss(nn.Linear(3, 2).to(dtype), torch.zeros(2, 3, dtype=dtype), targets))

    class Casts(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).to(dtype)

    with pytest.raises(UsageError, match=rf"computes in {dtype}"):
        network_gradient(NetworkLoss(Casts(3, 2), torch.zeros(2, 3), targets))
    problem = NetworkLoss(net, torch.randn(2, 3), targets)
    plain = network_gradient(problem)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = network_gradient(problem)
    assert torch.equal(plain.gradient["weight"], inside.gradient["weight"])


def test_tensor_float_32_stays_on_or_is_left_off() -> None:
    """Settings are the same afterwards, and full precision inside, on every way that torch has to say so."""
    seen = []

    def judge(outputs: Tensor) -> Tensor:
        seen.append((torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision,
                     torch.backends.mkldnn.matmul.fp32_precision, torch.backends.cudnn.deterministic))  # fmt: skip
        return outputs.sum(1)

    problem = NetworkLoss(nn.Linear(2, 1), torch.zeros(3, 2), BlackBox(judge))
    before = torch.get_float32_matmul_precision()
    try:
        for setting in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(setting)
            state = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32,
                     torch.backends.mkldnn.matmul.fp32_precision)  # fmt: skip
            network_gradient(problem)
            assert torch.get_float32_matmul_precision() == setting
            assert state == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32,
                             torch.backends.mkldnn.matmul.fp32_precision)  # fmt: skip
    finally:
        torch.set_float32_matmul_precision(before)
    assert set(seen) == {("ieee", "ieee", "ieee", True)}


def test_two_parameters_over_one_memory_get_the_sum_of_their_gradients() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = nn.Parameter(net[0].weight.data)
    problem = NetworkLoss(net, torch.zeros(2, 3), SquaredError(torch.zeros(2, 3)))
    with pytest.raises(UsageError, match=r"'0.weight' and '1.weight' share memory but are two parameters"):
        network_gradient(problem)
    whole = torch.randn(3, 6)  # two interleaved views of one tensor do not share an element
    net[0].weight, net[1].weight = nn.Parameter(whole[:, ::2]), nn.Parameter(whole[:, 1::2])
    network_gradient(problem)
    net[0].bias = nn.Parameter(torch.zeros(1).expand(3))
    with pytest.raises(UsageError, match=r"'0.bias' share memory \(it was expanded\)"):
        network_gradient(problem)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_weights_that_are_not_there_yet_or_computed_once_are_refused() -> None:
    targets, scripted = CrossEntropy(torch.tensor([0, 1])), torch.jit.script(nn.Linear(3, 2))
    with pytest.raises(UsageError, match=r"'weight' is not initialised; run the module on an input"):
        network_gradient(NetworkLoss(nn.LazyLinear(2), torch.zeros(2, 3), targets))
    with pytest.raises(UsageError, match="give the module that it was made from"):
        network_gradient(NetworkLoss(scripted, torch.zeros(2, 3), targets))
    net = parametrizations.weight_norm(nn.Linear(3, 2))
    with parametrize.cached(), pytest.raises(UsageError, match=r"inside parametrize.cached\(\)"):
        network_gradient(NetworkLoss(net, torch.zeros(2, 3), targets))
    with pytest.raises(UsageError, match=r"on meta; expected one of cpu, cuda"):
        network_gradient(NetworkLoss(nn.Linear(3, 2, device="meta"), torch.zeros(2, 3, device="meta"), targets))


def test_modes_and_flags_changed_inside_stay_changed() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.1)).train()
    net[1].eval()
    net[0].bias.requires_grad_(False)
    before = bits(net)

    def meddle() -> None:
        with untouched(net):
            net.eval()
            net.requires_grad_(True)
            net[1].running_mean = torch.ones(2)
            net[0].weight.fill_(3.0)
            net[0].weight.grad = torch.ones(2, 2)
            net[0].cache = net[0].weight * 2
            torch.rand(3)
            random.random()
            raise KeyError

    with pytest.raises(KeyError):
        meddle()
    assert bits(net) == before
    assert not hasattr(net[0], "cache")
