"""The classification data sets: shares and formulas against numbers that are not ours, and what `sample` promises.

The shares were measured by another author with another code, most of them with a million points.
"""

from __future__ import annotations

import doctest
from math import pi, sqrt

import numpy as np
import pytest
from scipy import ndimage

import problems
from bbopt.errors import UsageError
from problems import classification, classification_rules
from problems.classification import BLOCK, data_set, data_sets
from problems.classification_rules import heat_exchanger, on_an_island

MEASURED = {  # data set: share of each class, points behind it (where they are not known, few)
    "three_bar_truss": ((0.7817, 0.2183), 1_000_000),
    "solar_heat_exchanger": ((0.706, 0.294), 20_000),
    "four_islands": ((0.946, 0.054), 100_000),
    "pressure_vessel": ((0.5963, 0.4037), 1_000_000),
    "welded_beam": ((0.9735, 0.0265), 100_000),
    "welded_beam_balanced": ((0.5, 0.5), 1_000_000),
    "car_side_impact": ((0.9256, 0.0744), 1_000_000),
    "concrete_beam_cost": ((0.839, 0.101, 0.060), 20_000),
}
N = 60_000


def close(share: float, expected: float, n: int, measured: int) -> bool:
    """Whether two shares of n and of `measured` points, given with three digits, may be of the same thing."""
    error = 4 * sqrt(max(expected, 1e-3) * (1 - expected) * (1 / n + 1 / measured)) + 5e-4
    return abs(share - expected) <= error


def test_the_suite() -> None:
    assert data_sets() == tuple(MEASURED)
    for name in data_sets():
        made = data_set(name)
        assert made.name == name and made.docs and made.source
        assert len(made.features) == len(made.integer) == len(made.bounds) == made.dimension
        assert sum(made.shares) == pytest.approx(1.0)
        if made.positive is None:
            assert len(made.classes) > 2
        else:
            assert made.shares[made.positive] == min(made.shares)
    assert [data_set(name).dimension for name in data_sets()] == [2, 2, 2, 4, 4, 4, 11, 3]


@pytest.mark.parametrize("name", data_sets())
def test_shares_agree_with_the_measured_ones(name: str) -> None:
    made, (expected, measured) = data_set(name), MEASURED[name]
    _, labels = made.sample(N, np.random.default_rng(11))
    for share, there, ours in zip(np.bincount(labels) / N, expected, made.shares, strict=True):
        assert close(share, there, N, measured), f"{name}: {share} here, {there} measured by others"
        assert close(share, ours, N, 4_000_000), f"{name}: {share} here, {ours} stated"


@pytest.mark.parametrize("name", data_sets())
def test_samples_are_labelled_rows_that_depend_on_the_generator_alone(name: str) -> None:
    made = data_set(name)
    X, labels = made.sample(250, np.random.default_rng(3))
    assert X.dtype == np.float64 and labels.dtype == np.int64
    assert X.shape == (250, made.dimension) and labels.shape == (250,)
    assert X.min() >= 0 and X.max() <= 1 and set(labels) <= set(range(len(made.classes)))
    np.testing.assert_array_equal(made.label(X), labels)
    again, labels_again = made.sample(250, np.random.default_rng(3))
    np.testing.assert_array_equal(X, again)
    np.testing.assert_array_equal(labels, labels_again)
    few, labels_few = made.sample(70, np.random.default_rng(3))
    np.testing.assert_array_equal(few, X[:70])
    np.testing.assert_array_equal(labels_few, labels[:70])
    assert not np.array_equal(X, made.sample(250, np.random.default_rng(4))[0])
    assert made.sample(0, np.random.default_rng(3))[0].shape == (0, made.dimension)


def test_a_balanced_sample_has_as_many_of_each_class() -> None:
    made = data_set("welded_beam_balanced")
    X, labels = made.sample(3 * BLOCK, np.random.default_rng(0))
    for place in range(3):
        assert labels[place * BLOCK : (place + 1) * BLOCK].sum() == BLOCK // 2
    np.testing.assert_array_equal(data_set("welded_beam").label(X), labels)


def test_whole_numbers_come_from_every_level() -> None:
    made = data_set("solar_heat_exchanger")
    assert made.integer == (False, True) and made.bounds.tolist() == [[0.01, 0.05], [2.0, 40.0]]
    X, _ = made.sample(20_000, np.random.default_rng(0))
    levels, counts = np.unique(made.space.values(X)["passes"], return_counts=True)
    assert levels.tolist() == list(range(2, 41))
    assert counts.min() > 0.75 * counts.max()


def test_labels_are_those_of_the_problem() -> None:
    """At the known optimum every limit holds; one unit beyond an active limit does not."""
    truss = problems.get("three_bar_truss")
    assert data_set("three_bar_truss").label(truss.task.space.encode(truss.optimum.params or {})[None]).tolist() == [1]
    vessel = data_set("pressure_vessel")
    low, high = vessel.bounds.T
    designs = np.array([[1.0, 0.5, 50.0, 150.0], [0.9, 0.5, 50.0, 150.0], [1.0, 0.5, 50.0, 90.0]])
    # 0.0193 R = 0.965 <= Ts; 0.00954 R = 0.477 <= Th; pi R^2 L + 4/3 pi R^3 = 1,701,696 and 1,230,457 against 1,296,000
    assert vessel.label((designs - low) / (high - low)).tolist() == [1, 0, 0]


def test_the_cost_classes_of_the_concrete_beam() -> None:
    """29.4 A + 0.6 p q with A p - 7.375 A^2 / q >= 180 and p/q <= 4: by hand."""
    beam = data_set("concrete_beam_cost")
    low, high = beam.bounds.T
    designs = np.array([[7.0, 35.0, 9.0], [9.0, 36.0, 10.0], [5.0, 34.0, 9.0], [8.0, 40.0, 9.0]])
    # moments 204.8, 264.3, 149.5, 267.6; costs 394.8, 480.6; p/q of the last is 4.44
    assert beam.label((designs - low) / (high - low)).tolist() == [2, 1, 0, 0]


@pytest.mark.parametrize(
    ("limits", "share"),
    [((20, 9, 9e9), 0.683), ((9e9, 0.2, 9e9), 0.835), ((9e9, 9, 3), 0.497), ((20, 0.2, 3), 0.294),
     ((10, 0.2, 4), 0.303), ((20, 0.18, 5), 0.251), ((10, 0.18, 3), 0.144)],
)  # fmt: skip
def test_the_heat_exchanger_meets_each_limit_as_often_as_measured(limits: tuple[float, ...], share: float) -> None:
    made = data_set("solar_heat_exchanger")
    X, _ = made.sample(N, np.random.default_rng(5))
    out = heat_exchanger(made.space.values(X))
    within = [out[key] <= limit for key, limit in zip(("head_loss", "volume", "length"), limits, strict=True)]
    assert close(float(np.mean(np.all(within, axis=0))), share, N, 20_000)


def test_the_heat_exchanger_with_one_pass() -> None:
    """Without bends: the pipe's heated half takes up what 0.2 kg/s need, less what the two ends hold."""
    d = 0.02
    straight = (2520 - pi * d * 0.04 * 1000) / (1000 * pi * d / 2)
    out = heat_exchanger({"diameter": np.array([d]), "passes": np.array([1.0])})
    assert out["length"][0] == pytest.approx(straight + 0.08)
    assert out["volume"][0] == pytest.approx((straight + 0.08) * 0.04 * 0.04)
    speed = 0.2 / 997.1 / (pi * d**2 / 4)  # head = f l/d v^2/(2 g)
    assert out["head_loss"][0] == pytest.approx(0.4 * (straight + 0.08) / d * speed**2 / (2 * 9.81))


@pytest.mark.parametrize("box", [(-0.2, 0.5), (-0.5, 0.5)])
def test_there_are_four_islands(box: tuple[float, float]) -> None:
    line = np.linspace(*box, 801)
    x, y = np.meshgrid(line, line, indexing="ij")
    land = on_an_island({"x": x.ravel(), "y": y.ravel()}).reshape(x.shape)
    _, islands = ndimage.label(land)
    assert islands == 4
    inside = (x >= -0.22) & (x <= 0.28) & (y >= 0.2) & (y <= 0.46)
    assert not land[~inside].any()


@pytest.mark.parametrize(("box", "share"), [((-0.2, 0.5), 0.054), ((-0.5, 0.5), 0.026), ((0.0, 1.0), 0.015)])
def test_the_islands_cover_as_much_as_measured(box: tuple[float, float], share: float) -> None:
    rng = np.random.default_rng(1)
    land = on_an_island({"x": rng.uniform(*box, N), "y": rng.uniform(*box, N)})
    assert close(float(land.mean()), share, N, 100_000)


def test_errors_say_what_to_do() -> None:
    with pytest.raises(UsageError, match="did you mean four_islands"):
        data_set("four_island")
    with pytest.raises(UsageError, match="there are three_bar_truss"):
        data_set("nothing like it")
    with pytest.raises(UsageError, match=r"shape \(n, 2\), got \(3,\)"):
        data_set("four_islands").label(np.zeros(3))
    with pytest.raises(UsageError, match="n >= 0"):
        data_set("four_islands").sample(-1, np.random.default_rng(0))


@pytest.mark.parametrize("module", [classification, classification_rules])
def test_examples_in_docstrings(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.failed == 0 and result.attempted > 0
