"""Scores of weights and layer-wise ratios: against closed forms, and by their properties."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from bbopt.errors import UsageError
from bbopt.zeroth_order.sparsity import (
    grasp_scores,
    hessian_gradient,
    hessian_step,
    layer_ratios,
    length_of,
    pruning_mask,
    released_scores,
    uniform_ratios,
)
from problems.networks import resnet20

# --- scores ----------------------------------------------------------------------------------------------------------


def bowl(seed: int, size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """A symmetric H and a theta: l = theta^T H theta / 2 has the gradient H theta."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(size, size))
    return A @ A.T / size, rng.normal(size=size)


@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 10.0])
def test_scores_of_a_quadratic_are_exact(epsilon: float) -> None:
    """S = -theta * H H theta, whatever the length of the step, split over two layers and whatever the unit of the loss."""
    H, theta = bowl(0)
    for unit in (1e-150, 1.0, 1e150):

        def gradient(x: np.ndarray, unit: float = unit) -> dict[str, np.ndarray]:
            g = unit * (H @ x)
            return {"a": g[:5], "b": g[5:].reshape(7, 1)}

        g = gradient(theta)
        step = hessian_step(g, epsilon)
        moved = gradient(theta + np.concatenate([step["a"], step["b"].ravel()]))
        assert length_of(step) == pytest.approx(epsilon)
        scores = grasp_scores({"a": theta[:5], "b": theta[5:].reshape(7, 1)}, hessian_gradient(g, moved, epsilon))
        wanted = -theta * (H @ H @ theta)
        np.testing.assert_allclose(np.concatenate([scores["a"], scores["b"].ravel()]) / unit**2, wanted, rtol=1e-9)
        assert scores["b"].shape == (7, 1)


def test_a_score_is_the_change_of_the_gradient_s_length() -> None:
    """GraSP's own meaning: d |g|^2 when one weight moves towards zero is 2 S times the share of the way."""
    H, theta = bowl(1)
    S = grasp_scores({"w": theta}, {"w": H @ H @ theta})["w"]
    share = 1e-6
    for j in range(len(theta)):
        moved = theta.copy()
        moved[j] *= 1 - share
        change = np.sum((H @ moved) ** 2) - np.sum((H @ theta) ** 2)
        assert change / share == pytest.approx(2 * S[j], rel=1e-4, abs=1e-6)


def test_a_flat_loss_gives_no_step_and_no_scores() -> None:
    zero = {"w": np.zeros(3)}
    assert hessian_step(zero, 0.1)["w"].tolist() == [0, 0, 0]
    assert not hessian_gradient(zero, zero, 0.1)["w"].any()


def test_the_second_difference_shortcut_estimates_nothing() -> None:
    """-theta u (f+ + f- - 2 f) / mu^2 with Gaussian u is an odd moment: zero in the mean, where the scores are not.

    Over 40,000 draws the mean of each entry lies within five of its standard errors of 0, and the scores do not.
    """
    H, theta = bowl(2)
    rng = np.random.default_rng(3)
    U = rng.standard_normal((40_000, len(theta)))
    second = np.einsum("ki,ij,kj->k", U, H, U)  # (f+ + f- - 2 f) / mu^2 of a quadratic, exactly
    shortcut = -theta * U * second[:, None]
    error = shortcut.std(axis=0) / np.sqrt(len(U))
    assert (np.abs(shortcut.mean(axis=0)) < 5 * error).all()
    S = grasp_scores({"w": theta}, {"w": H @ H @ theta})["w"]
    assert (np.abs(S) > 5 * error).mean() > 0.8


def test_the_ratios_as_released_of_resnet20() -> None:
    """At 90 %: the ratios that the released code's ZO-GraSP gave for ResNet-20 on random images, without any data here."""
    network = resnet20(seed=0)
    weights = {name: p.detach().double().numpy() for name, p in network.named_parameters() if p.ndim >= 2}
    ratios = layer_ratios(released_scores(weights, np.random.default_rng(0)), 0.1, "absolute")

    def stage(first: int) -> float:
        blocks = [f"block{i}." for i in range(first, first + 3)]
        inside = [
            r
            for name, r in ratios.items()
            if name.startswith(tuple(blocks)) and weights[name].shape[1] == weights[name].shape[0]
        ]
        return float(np.mean(inside))

    found = [ratios["conv.weight"], stage(1), stage(4), stage(7), ratios["head.linear.weight"]]
    assert found == pytest.approx([0.83, 0.51, 0.21, 0.026, 0.76], abs=0.04)


# --- ratios ----------------------------------------------------------------------------------------------------------

numbers = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, -1.0, float("inf"), float("-inf")])
layers = st.lists(hnp.arrays(float, st.integers(1, 60), elements=numbers), min_size=1, max_size=6).map(
    lambda arrays: {f"layer{i}": array for i, array in enumerate(arrays)}
)
shares = st.floats(0.001, 1.0)
rules = st.sampled_from(["signed", "absolute"])


@given(layers, shares, rules)
def test_ratios_keep_the_share_and_something_of_every_layer(scores, keep, rule) -> None:
    ratios = layer_ratios(scores, keep, rule)
    total = sum(array.size for array in scores.values())
    counts = {name: ratios[name] * array.size for name, array in scores.items()}
    assert list(ratios) == list(scores)
    for name, count in counts.items():
        assert count == pytest.approx(round(count), abs=1e-9)
        assert 1 <= round(count) <= scores[name].size
    kept = sum(round(count) for count in counts.values())
    assert kept == max(round(keep * total), len(scores))
    if keep * total >= len(scores):
        assert abs(kept - keep * total) <= 0.5  # within 1 % of any network of 50 weights or more


@given(layers, shares, rules)
def test_what_is_kept_is_worth_more_than_what_is_not(scores, keep, rule) -> None:
    """Within every layer; and across layers too, but for weights kept so that no layer is empty."""
    mask = pruning_mask(scores, keep, rule)
    ratios = layer_ratios(scores, keep, rule)
    worth = {name: -array if rule == "signed" else np.abs(array) for name, array in scores.items()}
    inside, outside, single = [], [], []
    for name, index in mask.items():
        assert index.dtype == np.int64 and (np.diff(index) > 0).all()
        assert len(index) == round(ratios[name] * scores[name].size)
        left = np.delete(worth[name], index)
        outside.extend(left)
        (single if len(index) == 1 else inside).extend(worth[name][index])
        assert not len(left) or worth[name][index].min() >= left.max()
    if inside and outside and not single:
        assert min(inside) >= max(outside)


@given(layers, shares)
def test_rules_are_two_readings_of_the_same_scores(scores, keep) -> None:
    """Signed keeps the lowest, absolute the largest: of scores that are all negative, the same weights."""
    negative = {name: -np.abs(array) for name, array in scores.items()}
    assert layer_ratios(negative, keep, "signed") == layer_ratios(negative, keep, "absolute")


@given(st.lists(st.integers(1, 400), min_size=1, max_size=6), shares)
def test_scores_without_information_give_the_same_share_everywhere(sizes, keep) -> None:
    named = {f"layer{i}": size for i, size in enumerate(sizes)}
    ratios = uniform_ratios(named, keep)
    assert ratios == layer_ratios({name: np.full(size, 3.0) for name, size in named.items()}, keep)
    if keep * sum(sizes) >= len(sizes):
        for name, size in named.items():
            assert abs(ratios[name] * size - keep * size) <= len(sizes)


@pytest.mark.parametrize(
    ("scores", "keep", "rule", "text"),
    [
        ({"a": np.ones(3)}, 0.0, "signed", "above 0 and at most 1; got 0"),
        ({"a": np.ones(3)}, 1.5, "signed", "got 1.5"),
        ({"a": np.ones(3)}, True, "signed", "got True"),
        ({"a": np.ones(3)}, 0.5, "largest", "got 'largest'"),
        ({"a": np.array([1.0, np.nan])}, 0.5, "signed", "NaN in layer 'a'"),
        ({"a": np.ones(0)}, 0.5, "signed", "'a' empty"),
        ({}, 0.5, "signed", "got none"),
    ],
)
def test_wrong_scores_are_refused(scores, keep, rule, text) -> None:
    with pytest.raises(UsageError, match=text):
        layer_ratios(scores, keep, rule)
