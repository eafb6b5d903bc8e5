"""Feature reuse and vmap against the plain loop: bit by bit, or to rounding; and what they do with what they cannot serve."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from network_reference import bits, flat, relative_error, true_gradient
from torch import Tensor, nn

from bbopt.zeroth_order.network.engine import NotApplicable
from bbopt.zeroth_order.network.gradient import network_gradient
from bbopt.zeroth_order.network.objective import BlackBox, CrossEntropy, NetworkLoss
from problems.networks import mlp, small_cnn


class Block(nn.Module):
    """A residual block: one stage from outside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(x + self.branch(x))


class Branching(nn.Module):
    """Looks at its values to decide what to compute: vmap cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y if bool(y.sum() > -1e9) else -y


class Aside(nn.Module):
    """Uses its weight through a reference of its own, which no exchange of parameters reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6) / 3)
        self.bias = nn.Parameter(torch.randn(4))
        self.aside = [self.weight]

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.aside[0].t() + self.bias


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "perceptron": lambda: mlp((6, 5, 4), "tanh"),
    "nested": lambda: nn.Sequential(nn.Linear(6, 5), nn.Sequential(nn.Tanh(), nn.Sequential(nn.Linear(5, 5), nn.ReLU())), nn.Linear(5, 4)),
    "blocks with batch norm": lambda: nn.Sequential(nn.Linear(6, 5), Block(5), Block(5), nn.Linear(5, 4)).train(),
    "dropout in three places": lambda: nn.Sequential(
        nn.Dropout(0.2), nn.Linear(6, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 4)
    ).train(),
}  # fmt: skip


def problem_of(net: nn.Module, dtype: torch.dtype = torch.float64, rows: int = 10, classes: int = 4) -> NetworkLoss:
    torch.manual_seed(3)
    return NetworkLoss(
        net.to(dtype), torch.randn(rows, 6).to(dtype), CrossEntropy(torch.randint(0, classes, (rows,))), seed=1
    )


def images(net: nn.Module, dtype: torch.dtype) -> NetworkLoss:
    torch.manual_seed(3)
    return NetworkLoss(net.to(dtype), torch.randn(6, 1, 8, 8).to(dtype), CrossEntropy(torch.randint(0, 10, (6,))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*NETWORKS, "convolutions"])
def test_feature_reuse_equals_the_plain_loop_bit_by_bit(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    problem = (
        images(small_cnn((3, 4)).train(), dtype) if name == "convolutions" else problem_of(NETWORKS[name](), dtype)
    )
    plain = network_gradient(problem, level="oracle", radius=1e-3)
    reused = network_gradient(problem, level="staged", radius=1e-3)
    assert set(reused.engines.values()) == {"staged"} and set(plain.engines.values()) == {"naive"}
    assert torch.equal(flat(plain.gradient), flat(reused.gradient))
    assert plain.queries == reused.queries


@pytest.mark.parametrize("name", [*NETWORKS, "convolutions"])
def test_vmap_equals_the_plain_loop_to_rounding(name: str) -> None:
    torch.manual_seed(0)
    problem = (
        images(small_cnn((3, 4)).train(), torch.float64) if name == "convolutions" else problem_of(NETWORKS[name]())
    )
    plain = network_gradient(problem, level="oracle", radius=1e-3)
    folded = network_gradient(problem, level="vmap", radius=1e-3)
    assert set(folded.engines.values()) == {"vmap"}, folded.fallbacks
    assert relative_error(folded.gradient, plain.gradient) < 1e-10  # measured 1e-13
    assert folded.queries == plain.queries


def test_a_chunk_of_any_size_gives_the_same() -> None:
    problem = problem_of(NETWORKS["blocks with batch norm"]())
    one, many = (network_gradient(problem, level="vmap", radius=1e-3, bytes=size) for size in (1, 2**24))
    assert relative_error(one.gradient, many.gradient) < 1e-10


def test_rounding_of_another_shape_does_not_cancel() -> None:
    """Against the outputs of a base pass of another shape, float32 differences at 1e-5 would be rounding: each chunk
    brings its own unperturbed row. Measured: 8e-3, as the plain loop."""
    torch.manual_seed(0)
    problem = problem_of(mlp((6, 16, 16, 4), "tanh"), torch.float32, rows=64)
    true = true_gradient(problem)
    plain, folded = (network_gradient(problem, level=level, radius=1e-5) for level in ("oracle", "vmap"))  # type: ignore[arg-type]
    assert relative_error(folded.gradient, true) < 2.0 * relative_error(plain.gradient, true) < 0.1


def test_a_stage_is_run_for_the_perturbations_before_it_and_in_it() -> None:
    """4 stages with 12, 0, 6 and 4 scalars: stage s runs once for each scalar of stages up to s."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1, bias=True), nn.Linear(1, 2)).double()
    calls = [0, 0, 0, 0]
    for j, stage in enumerate(net):

        def note(*_: object, j: int = j) -> None:
            calls[j] += 1

        stage.register_forward_hook(note)
    problem = NetworkLoss(net, torch.randn(5, 3).double(), CrossEntropy(torch.zeros(5, dtype=torch.int64)))
    network_gradient(problem, level="staged")
    passes = 2  # the base pass, and the one that keeps the inputs
    assert calls == [12 + passes, 12 + passes, 16 + passes, 20 + passes]


class Gather(nn.Module):
    """No nn.Sequential; its author says how it is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 5), nn.Linear(5, 4)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.stem(x)))


def test_stages_may_be_named_and_be_black_boxes() -> None:
    torch.manual_seed(0)
    net = Gather().double()

    def through_numpy(x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy().copy()).tanh()

    plain = problem_of(net)
    named = NetworkLoss(net, plain.inputs, plain.loss, stages=[net.stem, through_numpy, net.head])
    first, second = network_gradient(plain, level="oracle"), network_gradient(named, level="staged")
    assert torch.equal(flat(first.gradient), flat(second.gradient))
    assert second.engines == {"stem.weight": "staged", "stem.bias": "staged", "head.weight": "staged",
                              "head.bias": "staged", "scale": "naive"}  # fmt: skip
    assert second.fallbacks == {"scale": "staged: it belongs to no stage"}


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        (lambda net: [net.stem, net.head], "give other outputs than the module"),
        (lambda net: [net], "the module is one piece"),
        (lambda net: [net.stem, lambda x: (x.tanh(), x), net.head], "stage 1 returns tuple"),
    ],
)
def test_wrong_stages_are_not_believed(cut: Callable[[Gather], list[Callable[[Tensor], Tensor]]], words: str) -> None:
    torch.manual_seed(0)
    plain = problem_of(Gather())
    wrong = NetworkLoss(plain.module, plain.inputs, plain.loss, stages=cut(plain.module))  # type: ignore[arg-type]
    before = bits(plain.module)
    with pytest.raises(NotApplicable, match=words):
        network_gradient(wrong, level="staged")
    found = network_gradient(wrong, scheme="central")
    assert relative_error(found.gradient, true_gradient(plain)) < 1e-8
    assert bits(plain.module) == before


def test_a_hook_on_a_container_is_skipped() -> None:
    """Taking a nested nn.Sequential apart would lose what its hook does to the outputs."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(5, 5), nn.Tanh())
    inner.register_forward_hook(lambda part, inputs, outputs: 2.0 * outputs)
    problem = problem_of(nn.Sequential(nn.Linear(6, 5), inner, nn.Linear(5, 4)))
    plain, reused = (network_gradient(problem, level=level) for level in ("oracle", "staged"))  # type: ignore[arg-type]
    assert torch.equal(flat(plain.gradient), flat(reused.gradient))
    assert relative_error(plain.gradient, true_gradient(problem)) < 1e-6


class Counter(nn.Module):
    """Its output depends on how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ran", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.ran += 1.0
        return x * (1.0 + 0.1 * self.ran)


def test_a_buffer_that_moves_in_several_stages() -> None:
    torch.manual_seed(0)
    counter = Counter()
    problem = problem_of(nn.Sequential(nn.Linear(6, 5), counter, nn.Tanh(), counter, nn.Linear(5, 4)))
    with pytest.raises(NotApplicable, match="a buffer that the forward changes is used by several stages"):
        network_gradient(problem, level="staged")
    once = problem_of(nn.Sequential(nn.Linear(6, 5), counter, nn.Tanh(), nn.Linear(5, 4)))
    plain, reused = (network_gradient(once, level=level) for level in ("oracle", "staged"))  # type: ignore[arg-type]
    assert torch.equal(flat(plain.gradient), flat(reused.gradient))
    assert counter.ran.item() == 0.0


def test_what_vmap_cannot_evaluate_falls_back_and_says_so() -> None:
    torch.manual_seed(0)
    problem = problem_of(nn.Sequential(Branching(), nn.Tanh(), nn.Linear(4, 4)))
    before = bits(problem.module)
    found = network_gradient(problem, level="vmap")
    assert found.engines["0.layer.weight"] == "staged" and found.engines["2.weight"] == "vmap"
    assert "vmap: vmap cannot evaluate the module" in found.fallbacks["0.layer.weight"]
    assert "2.weight" not in found.fallbacks
    assert relative_error(found.gradient, true_gradient(problem)) < 1e-6
    assert bits(problem.module) == before
    alone = problem_of(nn.Sequential(nn.Flatten(), Branching()))
    with pytest.raises(NotApplicable, match=r"'vmap' does not apply: vmap: .*; levels that do: oracle, staged"):
        network_gradient(alone, level="vmap")


def test_a_perturbation_that_vmap_loses_is_noticed() -> None:
    """Else its gradient would be 0 without a word."""
    torch.manual_seed(0)
    problem = problem_of(Aside())
    problem.module.aside = [problem.module.weight]  # type: ignore[assignment]
    found = network_gradient(problem, level="vmap")
    assert found.engines == {"weight": "naive", "bias": "vmap"}
    assert found.fallbacks == {"weight": "vmap: under vmap the module gives other outputs than alone"}
    plain = network_gradient(problem, level="oracle")
    assert relative_error(found.gradient, plain.gradient) < 1e-7


@pytest.mark.parametrize("level", ["oracle", "staged", "vmap"])
def test_a_stacked_judge_is_asked_once_per_chunk(level: str) -> None:
    torch.manual_seed(0)
    problem, shapes = problem_of(mlp((6, 5, 4), "tanh")), []

    def judge(outputs: Tensor) -> Tensor:
        shapes.append(tuple(outputs.shape))
        return outputs.square().sum(2)

    stacked = NetworkLoss(problem.module, problem.inputs, BlackBox(judge, stacked=True))
    single = NetworkLoss(problem.module, problem.inputs, BlackBox(lambda outputs: outputs.square().sum(1)))
    found = network_gradient(stacked, level=level)  # type: ignore[arg-type]
    assert shapes == [(1, 10, 4), (30, 10, 4), (5, 10, 4), (20, 10, 4), (4, 10, 4)]  # base, then each parameter
    assert found.queries == 60
    assert relative_error(found.gradient, network_gradient(single, level="oracle").gradient) < 1e-7
