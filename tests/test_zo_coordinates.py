"""Coordinate-wise differences: order of accuracy, exactness on quadratics, bounds, radii."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt.errors import UsageError
from bbopt.zeroth_order.coordinates import coordinate_gradient, coordinate_steps, difference_quotients
from bbopt.zeroth_order.penalty import grown, penalised
from bbopt.zeroth_order.smoothing import (
    central_radius,
    forward_radius,
    noise_radius,
    precision_radius,
    relative_radius,
)

Array = np.ndarray[Any, np.dtype[Any]]


def waves(X: Array) -> Array:
    """A smooth function without symmetry; its gradient is below in closed form."""
    return np.asarray(np.exp(0.3 * X[:, 0]) * np.sin(X[:, 1]) + np.cos(2.0 * X[:, 2]) * X[:, 0])


def waves_gradient(x: Array) -> Array:
    e = np.exp(0.3 * x[0])
    return np.array([0.3 * e * np.sin(x[1]) + np.cos(2.0 * x[2]), e * np.cos(x[1]), -2.0 * np.sin(2.0 * x[2]) * x[0]])


@pytest.mark.parametrize(("scheme", "order"), [("forward", 1.0), ("central", 2.0)])
def test_order_of_accuracy(scheme: Any, order: float) -> None:
    x, radii = np.array([0.7, -0.4, 1.1]), np.array([1e-1, 1e-2, 1e-3])
    errors = [np.abs(coordinate_gradient(waves, x, h, scheme) - waves_gradient(x)).max() for h in radii]
    slope = np.polyfit(np.log10(radii), np.log10(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.05)


@given(seed=st.integers(0, 1000), radius=st.sampled_from([1e-3, 0.1, 2.0]))
def test_central_differences_are_exact_on_quadratics_and_forward_ones_off_by_half_the_curvature(
    seed: int, radius: float
) -> None:
    rng = np.random.default_rng(seed)
    A, b, x = rng.normal(size=(5, 5)), rng.normal(size=5), rng.normal(size=5)
    H = A + A.T

    def quadratic(X: Array) -> Array:
        return np.asarray(0.5 * ((X @ H) * X).sum(axis=1) + X @ b)

    exact = H @ x + b
    central = coordinate_gradient(quadratic, x, radius, "central")
    forward = coordinate_gradient(quadratic, x, radius)
    np.testing.assert_allclose(central, exact, atol=1e-10)
    np.testing.assert_allclose(forward, exact + 0.5 * radius * np.diag(H), atol=1e-10)


def test_the_divisor_is_the_step_as_it_is() -> None:
    """At 1e8 the nearest number to x + 1e-7 is 1.04e-7 away: dividing by 1e-7 would be 4 % wrong on a linear function."""
    x = np.array([1e8])
    actual = (x + 1e-7) - x
    assert actual[0] != 1e-7
    slopes = difference_quotients(x, 0.0, (x + 1e-7, 3.0 * actual), (x, np.array([np.nan])))
    assert slopes[0] == pytest.approx(3.0, rel=1e-15)


@given(
    x=st.floats(0.0, 1.0),
    radius=st.floats(1e-6, 0.6),
    scheme=st.sampled_from(["forward", "central"]),
)
def test_steps_stay_within_bounds(x: float, radius: float, scheme: Any) -> None:
    up, down = coordinate_steps(np.array([x]), radius, scheme, 0.0, 1.0)
    assert 0.0 <= x + down[0] <= x + up[0] <= 1.0
    assert max(up[0], -down[0]) >= min(radius, 0.5) * (1.0 - 1e-9)
    if scheme == "forward":
        assert (up[0] == 0.0) != (down[0] == 0.0)


@pytest.mark.parametrize("scheme", ["forward", "central"])
def test_one_sided_at_bounds(scheme: Any) -> None:
    asked: list[Array] = []

    def function(X: Array) -> Array:
        asked.append(X)
        return np.asarray((X**2).sum(axis=1))

    x = np.array([0.0, 0.5, 1.0])
    gradient = coordinate_gradient(function, x, 1e-4, scheme, 0.0, 1.0)
    assert asked[0].min() >= 0.0 and asked[0].max() <= 1.0
    assert len(asked[0]) == {"forward": 4, "central": 5}[scheme]  # central: a pair, two single ones and the base
    np.testing.assert_allclose(gradient, [0.0, 1.0, 2.0], atol=2e-4)


def test_a_point_without_room_has_no_slope() -> None:
    gradient = coordinate_gradient(
        lambda X: X.sum(axis=1), np.array([0.5, 0.25]), 0.1, low=np.array([0.5, 0.0]), high=0.5
    )
    assert np.isnan(gradient[0]) and gradient[1] == pytest.approx(1.0)


def test_unknown_values_leave_what_can_be_had() -> None:
    x = np.zeros(4)
    nan = np.nan
    slopes = difference_quotients(
        x, 1.0, (x + 1.0, np.array([2.0, nan, 2.0, nan])), (x - 2.0, np.array([5.0, 5.0, nan, nan]))
    )
    np.testing.assert_array_equal(slopes, [-1.0, -2.0, 1.0, nan])
    without = difference_quotients(
        x, nan, (x + 1.0, np.array([2.0, nan, 2.0, nan])), (x - 2.0, np.array([5.0, 5.0, nan, nan]))
    )
    np.testing.assert_array_equal(without, [-1.0, nan, nan, nan])


@pytest.mark.parametrize("scheme", ["forward", "central"])
def test_the_radius_rule_is_near_the_best_radius(scheme: Any) -> None:
    """exp at 0: all derivatives are 1, as the rule assumes; the values are rounded to single precision."""

    def single(X: Array) -> Array:
        return np.exp(X[:, 0]).astype(np.float32).astype(float)

    # over points near 0, since the rounding of one point may happen to be small
    points = np.linspace(-0.05, 0.05, 41)

    def error(radius: float) -> float:
        return max(abs(coordinate_gradient(single, np.array([x]), radius, scheme)[0] - np.exp(x)) for x in points)

    best = min(error(radius) for radius in 10.0 ** np.linspace(-6, -0.5, 56))
    assert error(precision_radius("float32", scheme)) < 2.5 * best


def test_radii_by_hand() -> None:
    assert forward_radius(1e-7, 2.0) == pytest.approx(2.0 * np.sqrt(5e-8))
    assert central_radius(1e-7, 2.0) == pytest.approx(1.5e-7 ** (1 / 3))
    assert noise_radius(0.3, "central") == noise_radius("unknown", "forward") == 0.1
    assert noise_radius(1e-6, "forward") == pytest.approx(2e-3)
    np.testing.assert_allclose(
        relative_radius(np.array([0.0, 6.0, 8.0, 0.0]), 0.5, [slice(0, 3), slice(3, 4)]),
        0.5 * np.array([np.sqrt(100 / 3), 6.0, 8.0, 1.0]).clip(min=[np.sqrt(100 / 3)] * 3 + [0.0]),
    )
    with pytest.raises(UsageError, match="float64, float32, float16; got 'double'"):
        precision_radius("double", "forward")  # type: ignore[arg-type]


def test_the_penalty_is_exact_where_its_weight_exceeds_the_multiplier() -> None:
    """min x^2 with x >= 1: the multiplier is 2. With a weight above it the penalised minimum is at 1, below it is not."""
    x = np.linspace(0.0, 2.0, 2001)
    values = np.stack([x**2, 1.0 - x], axis=1)
    assert x[np.argmin(penalised(values, np.array([2.5])))] == pytest.approx(1.0)
    assert x[np.argmin(penalised(values, np.array([1.0])))] == pytest.approx(0.5)


@given(scale=st.sampled_from([1e-200, 1e-6, 1.0, 1e6, 1e140]), unit=st.sampled_from([1e-6, 1.0, 1e6]))
def test_weights_follow_units(scale: float, unit: float) -> None:
    slopes = np.array([[3.0 * scale, 0.5 * unit], [-4.0 * scale, 0.0]])
    weights = grown(np.zeros(1), slopes, np.array([unit]))
    assert weights[0] == pytest.approx(min(2.0 * 10.0 * scale / unit, 1e30), rel=1e-9)
    assert grown(weights, slopes, np.array([-unit]))[0] == weights[0]
    assert grown(weights, slopes, np.array([unit]))[0] == pytest.approx(min(1.5 * weights[0], 1e30), rel=1e-9)


def test_weights_of_flat_constraints_are_numbers() -> None:
    flat = grown(np.zeros(2), np.zeros((3, 3)), np.array([1.0, -1.0]))
    assert flat.tolist() == [1.0, 0.0]
    assert np.isfinite(penalised(np.array([[1e300, 1e300, -1e300], [-1e300, 0.0, 0.0]]), np.array([1e30, 1.0]))).all()
