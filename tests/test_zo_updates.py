"""Update rules against torch.optim, step by step in float64, and the bridge to any optimizer of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bbopt.errors import UsageError
from bbopt.packing import pack, unpack
from bbopt.zeroth_order.torch_updates import TorchOptimizer, TorchState
from bbopt.zeroth_order.update_rule import update_rule

Array = np.ndarray[Any, np.dtype[Any]]
SIZE, STEPS = 7, 40


def gradients() -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=SIZE) * 10.0 ** rng.integers(-3, 3, SIZE) for _ in range(STEPS)]


def rates() -> list[float]:
    return [0.1 / (1 + t) ** 0.5 for t in range(STEPS)]


def by_torch(kind: Any, options: dict[str, Any], falling: bool = True) -> list[Array]:
    """The path of a torch optimizer that lives through all steps."""
    parameter = torch.nn.Parameter(torch.from_numpy(np.linspace(-1.0, 1.0, SIZE)))
    optimizer = kind([parameter], lr=rates()[0], **options)
    path = []
    for gradient, rate in zip(gradients(), rates(), strict=True):
        if falling:
            optimizer.param_groups[0]["lr"] = rate
        parameter.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        path.append(parameter.detach().numpy().copy())
    return path


def by_rule(text: str, falling: bool = True) -> list[Array]:
    rule = update_rule(text)
    x, state, path = np.linspace(-1.0, 1.0, SIZE), rule.start(SIZE), []
    for gradient, rate in zip(gradients(), rates(), strict=True):
        before = x.copy(), gradient.copy()
        x, state = rule.step(x, gradient, state, rate if falling else rates()[0])
        path.append(x)
        assert np.array_equal(gradient, before[1])
    return path


@pytest.mark.parametrize(
    ("text", "kind", "options"),
    [
        ("sgd", torch.optim.SGD, {}),
        ("sgd(momentum=0.9)", torch.optim.SGD, {"momentum": 0.9}),
        ("sgd(momentum=0.9, dampening=0.3)", torch.optim.SGD, {"momentum": 0.9, "dampening": 0.3}),
        ("sgd(momentum=0.9, weight_decay=5e-4)", torch.optim.SGD, {"momentum": 0.9, "weight_decay": 5e-4}),
        ("sgd(momentum=0.8, nesterov=True)", torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
        ("adam", torch.optim.Adam, {}),
        ("adam(beta1=0.5, beta2=0.9)", torch.optim.Adam, {"betas": (0.5, 0.9)}),
        ("adam(epsilon=1e-3, weight_decay=0.01)", torch.optim.Adam, {"eps": 1e-3, "weight_decay": 0.01}),
        ("rprop", torch.optim.Rprop, {"step_sizes": (1e-12, 50.0)}),
        ("rprop(shrink=0.4, grow=1.3)", torch.optim.Rprop, {"etas": (0.4, 1.3), "step_sizes": (1e-12, 50.0)}),
    ],
)
def test_rules_walk_with_torch(text: str, kind: Any, options: dict[str, Any]) -> None:
    for step, (mine, theirs) in enumerate(zip(by_rule(text), by_torch(kind, options), strict=True)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-13, atol=1e-15, err_msg=f"step {step}")


DENSE = [
    name
    for name in sorted(vars(torch.optim))
    if isinstance(getattr(torch.optim, name), type)
    and issubclass(getattr(torch.optim, name), torch.optim.Optimizer)
    and name not in ("Optimizer", "LBFGS", "SparseAdam", "Muon")
]


@pytest.mark.parametrize("name", DENSE)
def test_the_bridge_is_the_optimizer_itself(name: str) -> None:
    """Made anew for every step from arrays, an optimizer walks to the bit as one that lives on."""
    path = by_rule(f"torch.optim.{name}")
    for mine, theirs in zip(path, by_torch(getattr(torch.optim, name), {}), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_there_are_optimizers_to_bridge() -> None:
    assert {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam"} <= set(DENSE)


@pytest.mark.parametrize("name", ["SGD(momentum=0.9)", "AdamW(weight_decay=0.1, amsgrad=True)", "ASGD"])
def test_states_of_the_bridge_are_plain_and_global_state_is_left_alone(name: str) -> None:
    rule = update_rule(f"torch.optim.{name}")
    before = torch.random.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    x, state = np.ones(3), rule.start(3)
    for _ in range(3):
        x, state = rule.step(x, np.array([1.0, -2.0, 0.5]), state, 0.1)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1:] == (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
    assert isinstance(state, TorchState)
    saved = unpack(*pack(dict(state.entries)))
    again = TorchState(tuple(saved.items()))
    assert np.array_equal(rule.step(x, np.ones(3), state, 0.1)[0], rule.step(x, np.ones(3), again, 0.1)[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sgdd", "sgd, adam, rprop or torch.optim.NAME"),
        ("sgd(mommentum=0.9)", "no option 'mommentum'; it has momentum"),
        ("sgd(momentum=-1.0)", "at least 0, got -1.0"),
        ("sgd(nesterov=1)", "nesterov like False, got 1"),
        ("adam(0.9)", "expected a name with options"),
        ("adam(beta1=open('x'))", "expected a name with options"),
        ("adam(", "expected a name with options"),
        ("torch.optim.Adma", "expected an optimizer of torch.optim"),
        ("torch.optim.LBFGS", "evaluates the function itself"),
        ("torch.optim.SparseAdam", "sparse gradients only"),
        ("torch.optim.SGD(lr=0.1)", "no option 'lr' here"),
        ("torch.optim.SGD(momentum=-2.0)", "refuses"),
        ("torch.optim.Adam(beta=0.1)", "no option 'beta' here; it has betas"),
    ],
)
def test_wrong_texts_are_refused_with_what_would_do(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        update_rule(text)
    with pytest.raises(UsageError):
        update_rule(None)  # type: ignore[arg-type]


def test_options_reach_the_optimizer() -> None:
    rule = update_rule("torch.optim.Adam(betas=(0.5, 0.9))")
    assert isinstance(rule, TorchOptimizer) and rule.options == (("betas", (0.5, 0.9)),)
    own = by_rule("adam(beta1=0.5, beta2=0.9)")[-1]
    np.testing.assert_allclose(by_rule("torch.optim.Adam(betas=(0.5, 0.9))")[-1], own, rtol=1e-13)
