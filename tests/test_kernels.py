"""The correlation functions: known values, slopes, and what happens where two points are the same or very far apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gamma, kv

from surrogates.kernels import Kernel, correlation, correlation_and_slope

KERNELS: tuple[Kernel, ...] = ("rbf", "matern52", "matern32")
NU = {"matern52": 2.5, "matern32": 1.5}


@pytest.mark.parametrize("kernel", NU)
@given(r=st.floats(1e-3, 30.0))
def test_matern_correlations_are_the_general_formula_with_bessel_functions(kernel: Kernel, r: float) -> None:
    """Equation 4.14 of Rasmussen and Williams 2006."""
    nu = NU[kernel]
    s = np.sqrt(2.0 * nu) * r
    expected = 2.0 ** (1.0 - nu) / gamma(nu) * s**nu * kv(nu, s)
    assert correlation(kernel, np.array(r * r)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
@given(r2=st.floats(1e-4, 50.0))
def test_slope_is_minus_twice_the_derivative(kernel: Kernel, r2: float) -> None:
    step = 1e-6 * r2
    low, high = correlation(kernel, np.array([r2 - step, r2 + step]))
    assert correlation_and_slope(kernel, np.array(r2))[1] == pytest.approx((low - high) / step, rel=1e-5, abs=1e-9)


def test_matern_three_halves_at_distance_one() -> None:
    """(1 + sqrt 3) exp(-sqrt 3) and 3 exp(-sqrt 3), by mpmath."""
    k, g = correlation_and_slope("matern32", np.array(1.0))
    assert (float(k), float(g)) == pytest.approx((0.48335772459650766, 0.5307636189532926), abs=1e-14)


@pytest.mark.parametrize("kernel", KERNELS)
def test_at_no_distance_and_at_a_great_one_all_is_finite(kernel: Kernel) -> None:
    """The slope in r2 of Matern 3/2 has a cusp at 0, but a finite value there: 3."""
    k, g = correlation_and_slope(kernel, np.array([0.0, 1e-300, 1e12]))
    assert np.isfinite(k).all() and np.isfinite(g).all()
    assert k == pytest.approx([1.0, 1.0, 0.0])
    assert g == pytest.approx([{"rbf": 1.0, "matern52": 5.0 / 3.0, "matern32": 3.0}[kernel]] * 2 + [0.0])


def test_rougher_kernels_forget_faster_near_by() -> None:
    near = [float(correlation(kernel, np.array(0.01))) for kernel in KERNELS]
    assert near[0] > near[1] > near[2]
