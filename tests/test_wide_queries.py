"""A query over 270,000 coordinates costs megabytes, not the 583 gigabytes of its dense rows."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from wide_toy import WIDTH, ForwardDifferences, quadratic

import bbopt
from bbopt.query import CoordinateRows


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_wide_step_costs_megabytes_and_descends(tmp_path: Path, on_disk: bool) -> None:
    task = bbopt.Task(bbopt.Space(w=bbopt.Float(scale=1.0, shape=(WIDTH,))))
    store = tmp_path / "wide.db" if on_disk else None
    centre = np.random.default_rng(0).normal(size=WIDTH)
    opt = bbopt.Optimizer(task, ForwardDifferences(), store=store)
    tracemalloc.start()
    values = []
    for _ in range(3):
        query = opt.ask_query()
        assert query.size == WIDTH + 1
        y = quadratic(query.X, centre)  # type: ignore[arg-type]
        values.append(y[0])
        opt.tell_query(query, y)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    assert peak < 200  # megabytes; measured 70, with three steps kept
    assert values[1] < 0.3 * values[0]
    assert values[2] < 0.3 * values[1]
    best = opt.best()
    assert best is not None
    assert best.query == 2
    if store is not None:
        assert store.stat().st_size < 40e6
        again = bbopt.Optimizer.open(store, strategy=ForwardDifferences())
        asked = again.ask_query()
        np.testing.assert_array_equal(asked.X[0], opt.open_queries()[-1].X[0])
        with pytest.raises(bbopt.Waiting, match="270001 open trials"):
            opt.ask_query()


def test_rows_of_a_wide_query_are_trials() -> None:
    task = bbopt.Task(bbopt.Space(w=bbopt.Float(scale=1.0, shape=(1000,))))
    opt = bbopt.Optimizer(task, ForwardDifferences())
    trials = opt.ask(3)
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert trials[0].params["w"].tolist() == [0.0] * 1000
    assert trials[2].params["w"][1] == 2.0**-10
    opt.tell(trials[1], 0.5)
    assert opt.trial(1).values == {"objective": 0.5}


def test_lazy_rows_are_canonical() -> None:
    space = bbopt.Space(a=bbopt.Float(0, 1, shape=(3,)), n=bbopt.Int(0, 10))
    rows = CoordinateRows(np.full(4, 0.123456789012345), np.array([-1, 0, 3]), np.array([0.0, 2.0, 0.57]))
    lazy = rows.canonical(space)
    np.testing.assert_array_equal(space.canonical(rows[:]), lazy[:])
    np.testing.assert_array_equal(lazy[1], lazy[0:2][1])


def test_lazy_rows_are_refused_where_conditions_need_dense_ones() -> None:
    space = bbopt.Space(w=bbopt.Float(scale=1.0, shape=(4,)))
    opt = bbopt.Optimizer(bbopt.Task(space, where=["w[0] <= 1"]), ForwardDifferences())
    with pytest.raises(bbopt.NotHandled, match="lazy query rows"):
        opt.ask_query()
