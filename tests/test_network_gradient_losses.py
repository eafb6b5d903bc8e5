"""Losses of outputs: against torch's functions, and their changes where a difference of two losses has no digits left."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bbopt.errors import UsageError, ValueRefused
from bbopt.zeroth_order.network.objective import BlackBox, CrossEntropy, Loss, SquaredError


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, 5, shape, generator=torch.Generator().manual_seed(seed))


LOSSES: list[tuple[Loss, Tensor]] = [
    (CrossEntropy(classes(0, 6)), drawn(0, 6, 5)),
    (CrossEntropy(classes(0, 6, 3, 2)), drawn(0, 6, 5, 3, 2)),
    (SquaredError(drawn(1, 6, 5)), drawn(0, 6, 5)),
    (SquaredError(drawn(1, 6)), drawn(0, 6)),
    (SquaredError(drawn(1, 6, 2, 3)), drawn(0, 6, 2, 3)),
    (BlackBox(lambda outputs: outputs.exp().sum(1)), drawn(0, 6, 5)),
    (BlackBox(lambda outputs: outputs.exp().mean()), drawn(0, 6, 5)),
    (BlackBox(lambda outputs: float(outputs.exp().mean())), drawn(0, 6, 5)),
    (BlackBox(lambda outputs: outputs.exp().sum(2), stacked=True), drawn(0, 6, 5)),
    (BlackBox(lambda outputs: outputs.exp().mean((1, 2)), stacked=True), drawn(0, 6, 5)),
]


def test_values_are_those_of_torch() -> None:
    for (loss, outputs), function in zip(
        LOSSES[:5], [nn.functional.cross_entropy] * 2 + [nn.functional.mse_loss] * 3, strict=True
    ):
        expected = function(outputs, loss.targets)  # type: ignore[attr-defined]
        assert loss.mean(outputs) == pytest.approx(float(expected), rel=1e-13)


@pytest.mark.parametrize(("loss", "outputs"), LOSSES)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([1e-3, 0.1, 3.0, 40.0]))
def test_changes_are_differences_of_values(loss: Loss, outputs: Tensor, seed: int, size: float) -> None:
    moved = outputs + size * drawn(seed, 3, *outputs.shape)
    expected = torch.tensor([loss.mean(each) - loss.mean(outputs) for each in moved], dtype=torch.float64)
    found = loss.change(moved, outputs)
    assert found.dtype == torch.float64 and found.shape == (3,)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12 * float(expected.abs().max()) + 1e-12)
    near = loss.around(outputs)
    assert near.loss == pytest.approx(loss.mean(outputs), rel=1e-13)
    each = loss.each(outputs)
    if each is not None:
        assert torch.allclose(near.values, each)
        changes = near.changes(moved - outputs)
        later = torch.stack([loss.each(one) for one in moved])  # type: ignore[misc]
        assert changes.shape == (3, 6)
        assert torch.allclose(changes, later - each, rtol=1e-8, atol=1e-9 * max(1.0, float(later.abs().max())))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_tiny_change_has_no_digits_left(index: int) -> None:
    """At 1e-14 a difference of two float64 losses keeps two digits; first order is exact to 1e-14 here."""
    loss, outputs = LOSSES[index]
    leaf = outputs.clone().requires_grad_(True)
    function = nn.functional.cross_entropy if index < 2 else nn.functional.mse_loss
    slope = torch.autograd.grad(function(leaf, loss.targets), leaf)[0]  # type: ignore[attr-defined]
    moved = 1e-14 * drawn(9, 1, *outputs.shape)
    expected = float((slope * moved[0]).sum())
    assert loss.around(outputs).change(moved).item() == pytest.approx(expected, rel=1e-11)


def test_a_step_so_long_that_exp_overflows() -> None:
    """Logits (0, 0), target 0: moving the other by 2000 costs log(1 + e^2000) - log 2."""
    loss, outputs = CrossEntropy(torch.tensor([0])), torch.zeros(1, 2).double()
    moved = torch.tensor([[[0.0, 2000.0]], [[2000.0, 0.0]], [[0.0, 1.0]]], dtype=torch.float64)
    expected = [2000.0 - math.log(2), -math.log(2), math.log((1 + math.e) / 2)]
    assert loss.change(moved, outputs).tolist() == pytest.approx(expected, rel=1e-14)


def test_a_confident_network_still_changes() -> None:
    """At a loss of e^-30 a difference in float32, or in float64 of the mean, sees nothing."""
    loss, outputs = CrossEntropy(torch.tensor([0])), torch.tensor([[30.0, 0.0]])
    moved = torch.tensor([[[30.0 + 2**-10, 0.0]]])
    expected = math.log1p(math.exp(-30 - 2**-10)) - math.log1p(math.exp(-30))
    assert loss.change(moved, outputs).item() == pytest.approx(expected, rel=1e-6)


def test_a_black_box_is_asked_once_per_evaluation() -> None:
    asked = [0]

    def judge(outputs: Tensor) -> Tensor:
        asked[0] += 1
        return outputs.sum(1)

    near = BlackBox(judge).around(torch.zeros(4, 2))
    assert asked[0] == 1 and near.loss == 0.0
    near.change(torch.ones(3, 4, 2).double())
    assert asked[0] == 4


@pytest.mark.parametrize(
    ("loss", "outputs", "words"),
    [
        (CrossEntropy(torch.zeros(4, dtype=torch.int64)), torch.zeros(4), r"got outputs of shape \(4,\)"),
        (CrossEntropy(torch.zeros(4, dtype=torch.int64)), torch.zeros(3, 2), r"for targets of shape \(4,\)"),
        (CrossEntropy(torch.zeros(4)), torch.zeros(4, 2), "int64 class indices, got torch.float32"),
        (CrossEntropy(torch.tensor([0, 2])), torch.zeros(2, 2), "from 0 to 1, got 0 to 2"),
        (SquaredError(torch.zeros(4, 1)), torch.zeros(4), r"shape of the targets, \(4, 1\), got \(4,\)"),
    ],
)
def test_targets_that_do_not_fit_are_refused(loss: Loss, outputs: Tensor, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        loss.mean(outputs)


def test_answers_of_a_black_box_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(
        ValueRefused, match=r"one number, or one per sample; for outputs of shape \(4, 2\) it gave \(3,\)"
    ):
        BlackBox(lambda outputs: torch.zeros(3)).mean(torch.zeros(4, 2))
    with pytest.raises(
        ValueRefused, match=r"per evaluation and sample; for outputs of shape \(1, 4, 2\) it gave \(4,\)"
    ):
        BlackBox(lambda outputs: torch.zeros(4), stacked=True).mean(torch.zeros(4, 2))
