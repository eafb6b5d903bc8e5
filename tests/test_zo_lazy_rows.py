"""Lazy rows equal their dense rows, survive saving, and are canonical within a space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt.directions import KINDS, direction
from bbopt.errors import UsageError
from bbopt.lazy_rows import CoordinateRows, DirectionRows, canonical_entries, rows_from_plain, rows_to_plain
from bbopt.packing import pack, unpack
from bbopt.parameters import Categorical, Float, Int
from bbopt.query import Query
from bbopt.space import Space

Array = np.ndarray[Any, np.dtype[Any]]
SPACE = Space(
    a=Float(-2.0, 3.0, shape=(3,)),
    n=Int(0, 10),
    rate=Float(1e-3, 1.0, log=True),
    w=Float(scale=4.0, shape=(2,)),
    grade=Categorical(("low", "high"), ordered=True),
)
WIDE = SPACE.dimension


def saved(rows: Any, space: Space | None = None) -> Any:
    """Through the format of the store and back."""
    return rows_from_plain(unpack(*pack(rows_to_plain(rows))), space)


@given(seed=st.integers(0, 999), count=st.integers(0, 40), few=st.booleans())
def test_stepped_rows(seed: int, count: int, few: bool) -> None:
    rng = np.random.default_rng(seed)
    base = SPACE.canonical(rng.random(WIDE))[0]
    columns = rng.integers(-1, WIDE, count)
    steps = rng.choice([0.125, -0.25], count) if few else rng.normal(size=count)
    dense = np.tile(base, (count, 1))
    for row, column, step in zip(dense, columns, steps, strict=True):
        if column >= 0:
            row[column] += step
    free = CoordinateRows.stepped(base, columns, steps)
    assert np.array_equal(free[:], dense)
    assert np.array_equal(saved(free)[:], dense)
    rows = CoordinateRows.stepped(base, columns, steps, SPACE)
    wanted = SPACE.canonical(dense) if count else dense
    assert np.array_equal(rows[:], wanted)
    assert np.array_equal(free.canonical(SPACE)[:], wanted)
    again = saved(rows, SPACE)
    assert np.array_equal(again[:], wanted)
    assert np.array_equal(again.columns, rows.columns) and np.array_equal(again.values, rows.values)


@given(
    seed=st.integers(0, 2**63 - 1),
    kind=st.sampled_from(KINDS),
    signs=st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=6),
    some=st.booleans(),
    bound=st.booleans(),
)
def test_direction_rows(seed: int, kind: Any, signs: list[int], some: bool, bound: bool) -> None:
    base = SPACE.canonical(np.full(WIDE, 0.4))[0]
    columns = np.array([0, 2, 4, 6]) if some else np.arange(WIDE)
    indices = np.arange(len(signs)) % 3
    rows = DirectionRows(base, columns, 0.3, kind, seed, np.array(signs), indices)
    dense = np.tile(base, (len(signs), 1))
    for row, sign, index in zip(dense, signs, indices, strict=True):
        row[columns] += 0.3 * sign * direction(kind, len(columns), seed, int(index))
    if bound:
        rows, dense = rows.canonical(SPACE), SPACE.canonical(dense)
    assert rows.shape == dense.shape and len(rows) == len(dense)
    assert np.array_equal(rows[:], dense)
    assert all(np.array_equal(rows[i], dense[i]) for i in range(len(dense)))
    assert np.array_equal(rows[np.arange(len(dense))[::-1]], dense[::-1])
    assert np.array_equal(rows[:0], dense[:0])
    again = saved(rows, SPACE if bound else None)
    assert np.array_equal(again[:], dense)
    assert Query(again).fingerprint() == Query(rows).fingerprint()


def test_runs_are_saved_as_runs() -> None:
    base = np.zeros(1000)
    both = np.concatenate([[-1], np.arange(1000), np.arange(1000)])
    steps = np.concatenate([[0.0], np.full(1000, 0.5), np.full(1000, -0.5)])
    plain = rows_to_plain(CoordinateRows.stepped(base, both, steps))
    assert plain["columns"] == {"runs": [[-1, 1001], [0, 1000]]}
    assert plain["steps"]["values"].tolist() == [0.0, 0.5, -0.5] and plain["steps"]["counts"].tolist() == [
        1,
        1000,
        1000,
    ]
    text, block = pack(plain)
    assert len(text) + len(block or b"") < 8 * 1000 + 600
    scattered = rows_to_plain(CoordinateRows.stepped(base, np.arange(0, 1000, 3), np.linspace(0, 1, 334)))
    assert scattered["columns"].dtype == np.int32 and scattered["steps"].shape == (334,)


@given(seed=st.integers(0, 99), count=st.integers(0, 30))
def test_single_entries_are_made_canonical_like_rows(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    columns, values = rng.integers(-1, WIDE, count), rng.normal(0.5, 1.0, count)
    found = canonical_entries(SPACE, columns, values)
    for column, value, entry in zip(columns, values, found, strict=True):
        row = np.full(WIDE, 0.5)
        row[column] = value
        assert entry == (value if column < 0 else SPACE.canonical(row)[0, column])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "cosine"}, "expected a kind of directions"),
        ({"columns": np.array([3])}, "columns from 0 to 2"),
        ({"signs": np.array([2])}, "signs of -1, 0 or 1"),
        ({"indices": np.array([-1])}, "indices of at least 0"),
        ({"indices": np.array([1, 2])}, "indices \\(k,\\)"),
        ({"base": np.zeros((2, 3))}, "expected base \\(D,\\)"),
    ],
)
def test_direction_rows_that_do_not_fit_are_refused(change: dict[str, Any], words: str) -> None:
    fields = {"base": np.zeros(3), "columns": np.arange(3), "radius": 0.1, "kind": "sphere", "seed": 0,
              "signs": np.array([1]), "indices": np.array([0])}  # fmt: skip
    with pytest.raises(UsageError, match=words):
        DirectionRows(**{**fields, **change})
