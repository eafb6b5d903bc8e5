"""Space-filling points: by index, and even in every column."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import qmc

from bbopt.designs import LARGEST_DIMENSION, latin_hypercube, sobol
from bbopt.errors import UsageError


@given(start=st.integers(0, 300), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5), seed=st.integers(0, 10))
def test_a_point_depends_on_its_number_alone(start: int, sizes: list[int], seed: int) -> None:
    whole = sobol(start, sum(sizes), 3, seed)
    parts = [sobol(start + sum(sizes[:i]), size, 3, seed) for i, size in enumerate(sizes)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_is_the_sequence_of_scipy() -> None:
    assert np.array_equal(sobol(0, 32, 5, 7), qmc.Sobol(5, rng=np.random.default_rng(7)).random(32))


def test_every_cell_of_a_net_has_one_point() -> None:
    """Definition of a (0, m, 1)-net: each of 64 intervals holds one of the first 64 points, in each column."""
    cells = np.sort(np.floor(sobol(0, 64, 4, 3) * 64), axis=0)
    assert (cells == np.arange(64)[:, None]).all()
    assert not np.array_equal(sobol(0, 8, 2, 0), sobol(0, 8, 2, 1))


@pytest.mark.parametrize(
    ("start", "n", "dimension"), [(0, 1, 0), (0, 1, LARGEST_DIMENSION + 1), (2**30, 1, 2), (-1, 1, 2)]
)
def test_limits_are_named(start: int, n: int, dimension: int) -> None:
    with pytest.raises(UsageError, match="random points instead"):
        sobol(start, n, dimension, 0)


@given(n=st.integers(1, 50), dimension=st.integers(1, 6), seed=st.integers(0, 99))
def test_latin_hypercube_has_one_point_per_row_and_column(n: int, dimension: int, seed: int) -> None:
    points = latin_hypercube(n, dimension, np.random.default_rng(seed))
    assert points.shape == (n, dimension) and (points >= 0).all() and (points < 1).all()
    assert (np.sort(np.floor(points * n), axis=0) == np.arange(n)[:, None]).all()


def test_no_points_are_no_points() -> None:
    assert sobol(0, 0, 3, 0).shape == sobol(5, 0, 3, 0).shape == (0, 3)
    assert latin_hypercube(0, 2, np.random.default_rng(0)).shape == (0, 2)
