"""Masks of coordinates: their size, their chances, their seeds, and the counts of the paper's network."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from bbopt.errors import UsageError
from bbopt.zeroth_order.masks import active_count, alternating_keep, pruned, pruned_further, random_mask
from bbopt.zeroth_order.sparsity import layer_ratios, magnitude_scores, pruning_mask, released_scores, uniform_ratios
from problems.networks import resnet20

# --- masks -----------------------------------------------------------------------------------------------------------

RESNET = {name: p.numel() for name, p in resnet20().named_parameters()}
WEIGHTS = {name: size for name, size in RESNET.items() if not name.endswith("bias") and "norm" not in name}
ALWAYS = RESNET.keys() - WEIGHTS.keys()
SIZES = {"weight": 50, "bias": 7, "other": 200}


@pytest.mark.parametrize(
    ("keep", "queries"), [(1.0, 269_723), (0.2, 55_054), (0.1, 28_221), (0.05, 14_804), (0.01, 4_070)]
)
@pytest.mark.parametrize("kind", ["random", "uniform", "released"])
def test_queries_of_a_step_of_resnet20(keep: float, queries: int, kind: str) -> None:
    """|S| + 1, of 268,336 weights and 1,386 that are always active: the counts of the paper's 0, 80, 90, 95 and 99 %."""
    assert (sum(WEIGHTS.values()), sum(RESNET[name] for name in ALWAYS)) == (268_336, 1_386)
    rng = np.random.default_rng(1)
    if kind == "uniform":
        ratios = uniform_ratios(WEIGHTS, keep)
    elif kind == "released":
        weights = {name: p.detach().numpy() for name, p in resnet20().named_parameters() if name in WEIGHTS}
        ratios = layer_ratios(released_scores(weights, rng), keep, "absolute")
    else:
        ratios = layer_ratios({name: rng.standard_cauchy(size) for name, size in WEIGHTS.items()}, keep)
    assert active_count(RESNET, ratios, ALWAYS) + 1 == queries
    mask = random_mask(RESNET, ratios, ALWAYS, seed=0, epoch=0)
    assert sum(len(index) for index in mask.values()) + 1 == queries


@given(st.integers(0, 2**63), st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1), st.integers(1, 9))
def test_masks_are_sorted_and_of_the_right_size(seed, epoch, a, b, interval) -> None:
    mask = random_mask(SIZES, {"weight": a, "other": b}, ["bias"], seed=seed, epoch=epoch, interval=interval)
    assert list(mask) == list(SIZES)
    assert mask["bias"].tolist() == list(range(7))
    for name, ratio in (("weight", a), ("other", b)):
        index = mask[name]
        assert index.dtype == np.int64 and len(index) == max(1, round(ratio * SIZES[name]))
        assert (np.diff(index) > 0).all() and index[0] >= 0 and index[-1] < SIZES[name]
    start = epoch - epoch % interval
    again = random_mask(
        SIZES, {"weight": a, "other": b}, ["bias"], seed=seed, epoch=start + interval - 1, interval=interval
    )
    assert all(np.array_equal(mask[name], again[name]) for name in SIZES)


def test_masks_are_the_same_in_every_process() -> None:
    code = (
        "import hashlib; from bbopt.zeroth_order.masks import random_mask; "
        "m = random_mask({'weight': 1000, 'other': 300}, {'weight': 0.1, 'other': 0.5}, seed=7, epoch=3); "
        "print(hashlib.sha256(m['weight'].tobytes() + m['other'].tobytes()).hexdigest())"
    )
    here = random_mask({"weight": 1000, "other": 300}, {"weight": 0.1, "other": 0.5}, seed=7, epoch=3)
    digest = hashlib.sha256(here["weight"].tobytes() + here["other"].tobytes()).hexdigest()
    for hashing in ("0", "1"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                              env={"PYTHONHASHSEED": hashing})  # fmt: skip
        assert done.stdout.strip() == digest
    alone = random_mask({"other": 300}, {"other": 0.5}, seed=7, epoch=3)  # other layers do not matter
    assert np.array_equal(alone["other"], here["other"])


def test_every_weight_is_drawn_equally_often_and_independently() -> None:
    """4,000 masks of 5 in 20: counts are binomial (1,000 +- 27), pairs 4,000 * 5 * 4 / (20 * 19) = 211 +- 14."""
    drawn = np.zeros((4000, 20))
    for epoch in range(4000):
        drawn[epoch, random_mask({"w": 20}, {"w": 0.25}, seed=1, epoch=epoch)["w"]] = 1
    assert np.abs(drawn.sum(axis=0) - 1000).max() < 5 * 27.4
    pairs = (drawn.T @ drawn)[~np.eye(20, dtype=bool)]
    assert np.abs(pairs - 210.5).max() < 5 * 14.2
    following = (drawn[1:] * drawn[:-1]).sum(axis=1).mean()  # 5 / 4 weights stay by chance, +- 0.014
    assert following == pytest.approx(1.25, abs=0.07)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"seed": -1, "epoch": 0}, "at least 0"),
        ({"seed": 0, "epoch": -1}, "at least 0"),
        ({"seed": 0, "epoch": 0, "interval": 0}, "interval of at least 1"),
    ],
)
def test_wrong_masks_are_refused(options, text) -> None:
    with pytest.raises(UsageError, match=text):
        random_mask({"w": 3}, {"w": 0.5}, **options)
    for ratios in ({}, {"w": 1.5}, {"w": float("nan")}):
        with pytest.raises(UsageError, match="ratio from 0 to 1 for layer 'w'"):
            random_mask({"w": 3}, ratios, seed=0, epoch=0)


# --- weights that are pruned for good (M1, M2) -----------------------------------------------------------------------


@given(
    st.lists(hnp.arrays(float, st.integers(1, 60), elements=st.floats(-1e6, 1e6)), min_size=1, max_size=6),
    st.floats(0.001, 1.0),
)
def test_pruned_weights_are_zero_and_the_rest_as_it_was(arrays, keep) -> None:
    weights = {f"layer{i}": array for i, array in enumerate(arrays)}
    mask = pruning_mask(magnitude_scores(weights), keep, "absolute")
    before = {name: array.copy() for name, array in weights.items()}
    after = pruned({**weights, "bias": np.ones(2)}, mask)
    assert after["bias"].tolist() == [1, 1]
    for name, array in weights.items():
        assert np.array_equal(array, before[name])
        assert np.array_equal(after[name][mask[name]], array[mask[name]])
        assert not np.delete(after[name], mask[name]).any()


def test_rounds_of_pruning_are_nested_and_end_at_the_share() -> None:
    """M1: scores of the network as it is in each round; what is gone stays gone."""
    rng = np.random.default_rng(0)
    sizes = {"a": 300, "b": 700}
    mask = {name: np.arange(size) for name, size in sizes.items()}
    counts = []
    for turn in range(5):
        scores = {name: rng.normal(size=size) for name, size in sizes.items()}
        new = pruned_further(scores, mask, alternating_keep(0.1, turn, 4))
        assert all(np.isin(new[name], mask[name]).all() for name in sizes)
        for name in sizes:  # the lowest scores of what was left
            gone = np.setdiff1d(mask[name], new[name])
            assert not len(gone) or scores[name][new[name]].max() <= scores[name][gone].min()
        mask = new
        counts.append(sum(len(index) for index in mask.values()))
    assert counts == [562, 316, 178, 100, 100]  # 1000 * 0.1^(r / 4), rounded
    with pytest.raises(UsageError, match=r"keep of at most 0\.1"):
        pruned_further(scores, mask, 0.2)


def test_wrong_rounds_are_refused() -> None:
    for bad in ((0.0, 0, 1), (0.5, -1, 1), (0.5, 0, 0)):
        with pytest.raises(UsageError, match="alternating_keep"):
            alternating_keep(*bad)
