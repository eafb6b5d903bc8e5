"""What delta propagation refuses, with which words, and that a general engine takes over."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations

from bbopt.zeroth_order.network.base import opened
from bbopt.zeroth_order.network.delta import Delta
from bbopt.zeroth_order.network.engine import NotApplicable
from bbopt.zeroth_order.network.gradient import network_gradient
from bbopt.zeroth_order.network.objective import CrossEntropy, NetworkLoss


class Forward(nn.Module):
    """Two linear layers, and a forward that is a function of the module and the inputs."""

    def __init__(self, call: Callable[[Forward, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)
        self.free = nn.Parameter(torch.full((6,), 0.5))
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def problem_of(module: nn.Module) -> NetworkLoss:
    inputs = torch.randn(7, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return NetworkLoss(module.double(), inputs, CrossEntropy(torch.arange(7) % 3), seed=1)


def refusals(module: nn.Module) -> dict[str, str | None]:
    with opened(problem_of(module), None) as (base, chosen):
        delta = Delta(base)
        return {name: delta.refusal(name) for name in chosen.indices}


def assert_right(module: nn.Module, bound: float = 1e-5) -> dict[str, str]:
    """The gradient at level "auto" is that of autograd; gives the engines."""
    problem = problem_of(module)
    found = network_gradient(problem, radius=1e-6)
    torch.random.manual_seed(1)  # the seed of the problem: dropout draws as in it
    F.cross_entropy(problem.module(problem.inputs), torch.arange(7) % 3).backward()
    for name, parameter in problem.module.named_parameters():
        wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert float((found.gradient[name] - wanted).norm()) <= bound * (1.0 + float(wanted.norm())), name
    return dict(found.engines)


def test_tied_weights_and_a_layer_that_is_used_twice() -> None:
    twice = Forward(lambda m, x: m.b(m.a(m.a(x).tanh())))
    found = refusals(twice)
    assert found["b.weight"] is None and "2 times" in str(found["a.weight"])
    assert assert_right(twice) == {
        "a.weight": "naive",
        "a.bias": "naive",
        "b.weight": "delta",
        "b.bias": "delta",
        "free": "naive",
    }

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.second(self.first(x).tanh()))
            return out

    found = refusals(Tied())
    assert "2 times" in str(found["first.weight"]) and found["first.bias"] is None and found["second.bias"] is None
    assert_right(Tied())


def test_weights_that_are_computed() -> None:
    normed = nn.Sequential(
        nn.Linear(6, 5), nn.Tanh(), parametrizations.weight_norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3)
    )
    found = refusals(normed)
    assert [name for name, reason in found.items() if reason] == [
        "2.parametrizations.weight.original0", "2.parametrizations.weight.original1",
    ]  # fmt: skip
    assert "not itself the weight" in str(found["2.parametrizations.weight.original0"])
    assert_right(normed)
    spectral = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), parametrizations.spectral_norm(nn.Linear(5, 3)))
    assert refusals(spectral)["0.weight"] is None
    problem = problem_of(
        spectral
    )  # the power iteration moves on in every forward: compare with the plain loop, not with autograd
    fast, slow = (network_gradient(problem, radius=1e-5, level=level).gradient for level in ("delta", "oracle"))
    for name in slow:
        assert float((fast[name] - slow[name]).norm()) < 1e-8 * (1.0 + float(slow[name].norm())), name


def test_layers_without_a_rule_end_the_way_of_those_before_them() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.odd, self.b = nn.Linear(6, 6), nn.Bilinear(6, 6, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.a(x)
            out: Tensor = self.b(self.odd(hidden, hidden).tanh())
            return out

    found = refusals(Odd())
    assert "Bilinear" in str(found["a.weight"]) and "Bilinear" in str(found["odd.weight"]) and found["b.weight"] is None
    assert assert_right(Odd())["b.weight"] == "delta"


@pytest.mark.parametrize(
    ("name", "call", "word"),
    [
        ("samples mixed by a matrix", lambda m, x: m.b(torch.softmax(m.a(x) @ m.a(x).t(), 1) @ x), "times"),
        ("softmax over the batch", lambda m, x: m.b(torch.softmax(m.a(x), 0)), "does not"),
        ("mean over the batch", lambda m, x: m.b(m.a(x) - m.a.bias - m.a.weight.sum() + x.mean(0)), "times"),
        ("batch reversed", lambda m, x: m.b(m.a(x).flip(0)), "flip"),
        ("half of the batch", lambda m, x: m.b(torch.cat([m.a(x)[:3], x[3:]])), "batch"),
        ("noise", lambda m, x: m.b(m.a(x) * torch.rand_like(m.a(x))), "times"),
        ("a parameter of its own", lambda m, x: m.b(m.a(x) * m.free), None),
        ("a product with a parameter", lambda m, x: m.b(m.a(x) @ m.free.diag()), None),
    ],
)
def test_forwards_that_mix_samples(name: str, call: Callable[[Forward, Tensor], Tensor], word: str | None) -> None:
    """Folding perturbations into the batch would be wrong here."""
    module = Forward(call)
    reason = refusals(module)["a.weight"]
    assert reason is None if word is None else word in str(reason), reason
    if name != "noise":
        assert_right(module)


def test_a_parameter_that_is_no_weight_of_a_layer() -> None:
    module = Forward(lambda m, x: m.b(m.a(x) * m.free))
    assert "not itself the weight or the bias" in str(refusals(module)["free"])
    unused = Forward(lambda m, x: m.b(m.a(x)))
    assert "not at all" in str(refusals(unused)["free"])
    assert assert_right(unused)["free"] == "naive"


def test_a_forward_whose_course_depends_on_values() -> None:
    module = Forward(lambda m, x: m.b(m.a(x)) if x.sum() > 100.0 else m.b(m.a(x).tanh()))
    with opened(problem_of(module), None) as (base, _), pytest.raises(NotApplicable, match="cannot be traced"):
        Delta(base)
    assert set(assert_right(module).values()) == {"naive"}


def test_hooks_are_seen() -> None:
    module = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    module[1].register_forward_hook(lambda _, __, output: output * 2.0)
    assert "hooks" in str(refusals(module)["0.weight"])
    assert_right(module)
    whole = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    whole.register_forward_hook(lambda _, __, output: output * 2.0)
    with opened(problem_of(whole), None) as (base, _), pytest.raises(NotApplicable, match="other outputs"):
        Delta(base)
    assert_right(whole)


def test_memory_that_is_written_in_place_under_two_names() -> None:
    """What the forward means is that both names change; a trace that took one for the other would be wrong."""
    right = Forward(lambda m, x: _in_place(m, x, view=False))
    assert refusals(right)["a.weight"] is None
    assert_right(right)
    shared = Forward(lambda m, x: _in_place(m, x, view=True))
    with opened(problem_of(shared), None) as (base, _), pytest.raises(NotApplicable):
        Delta(base)
    assert_right(shared)


def _in_place(m: Forward, x: Tensor, view: bool) -> Tensor:
    hidden = m.a(x)
    other = hidden.view(7, 6) if view else hidden
    F.relu(other, inplace=True)
    out: Tensor = m.b(hidden)
    return out


def test_dropout_draws_what_the_base_pass_drew() -> None:
    module = nn.Sequential(
        nn.Linear(6, 30), nn.Dropout(0.5), nn.ReLU(), nn.Linear(30, 6), nn.Dropout(0.2), nn.Linear(6, 3)
    )
    assert set(assert_right(module).values()) == {"delta"}


def test_a_remembered_trace_is_not_used_for_other_settings() -> None:
    class Switch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.bent = nn.Linear(6, 6), nn.Linear(6, 3), True
            self.odd = (torch.zeros(2), torch.ones(2))  # no setting, and not to be compared

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.b(self.a(x).tanh() if self.bent else self.a(x).relu())
            return out

    module = Switch()
    for bent in (True, False, True):
        module.bent, module.odd = bent, (torch.zeros(2), torch.ones(2))
        module.zero_grad()
        assert set(assert_right(module).values()) == {"delta"}
