"""A million coordinates: queries that are never written out, in memory and on disk."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bbopt
from bbopt.bench_wide import main, squares
from bbopt.query import DirectionRows
from bbopt.zeroth_order.cge import CGE
from bbopt.zeroth_order.openes import OpenES
from bbopt.zeroth_order.rge import RGE
from bbopt.zeroth_order.spsa import SPSA

MILLION = 1_000_000
PLAIN: dict[str, Any] = {"update": "sgd", "rate": 1e-3}  # a step downhill for certain, however few the directions
STRATEGIES = [CGE(), RGE(directions=2, **PLAIN), SPSA(**PLAIN), OpenES(pairs=1, fitness="values", **PLAIN)]
each = pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)


@each
def test_a_million_coordinates_without_a_dense_query(strategy: Any) -> None:
    task = bbopt.Task(bbopt.Space(w=bbopt.Float(scale=1.0, shape=(MILLION,))))
    opt = bbopt.Optimizer(task, strategy)
    tracemalloc.start()
    first = opt.ask_query()
    opt.tell_query(first, squares(first))
    second = opt.ask_query()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    assert first.lazy and second.lazy and first.size == second.size
    # a row is 8 MB; measured: 470 for cge with its 1,000,001 rows, 145 to 190 for the others; dense, cge has 8,000,000
    assert peak < 700
    base = np.asarray(second.X.base)  # type: ignore[union-attr]
    moved = base - np.asarray(first.X.base)  # type: ignore[union-attr]
    gradient = 2.0 * np.asarray(first.X.base)  # type: ignore[union-attr]
    assert np.count_nonzero(moved) > 0.9 * MILLION and moved @ gradient < 0.0


@each
@pytest.mark.parametrize("bounded", [False, True])
def test_wide_queries_survive_reopening_to_the_bit(strategy: Any, bounded: bool, tmp_path: Path) -> None:
    size = 300_000
    parameter = bbopt.Float(-1.0, 1.0, shape=(size,)) if bounded else bbopt.Float(scale=1.0, shape=(size,))
    opt = bbopt.Optimizer(bbopt.Task(bbopt.Space(w=parameter)), strategy, store=tmp_path / "wide.db")
    query = opt.ask_query()
    assert query.lazy
    opt.tell_query(query, squares(query))
    query = opt.ask_query()
    trial = opt.trial(int(query.numbers[-1]))
    opt.close()
    again = bbopt.Optimizer.open(tmp_path / "wide.db")
    (read,) = again.open_queries()
    some = np.array([0, 1, query.size - 1])
    np.testing.assert_array_equal(read.X[some], query.X[some])
    np.testing.assert_array_equal(again.trial(trial.number).params["w"], trial.params["w"])
    assert isinstance(read.X, DirectionRows) or np.array_equal(read.X.values, query.X.values)  # type: ignore[union-attr]
    np.testing.assert_array_equal(opt.task.space.canonical(read.X[some]), read.X[some])
    again.close()
    # two bases, and for cge the answers: 8 bytes per number, and little else
    numbers = 3 * size if isinstance(strategy, CGE) else 2 * size
    assert (tmp_path / "wide.db").stat().st_size < 8 * numbers * 1.1 + 200_000


def test_the_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--columns", "2000"])
    printed = capsys.readouterr().out.strip().splitlines()
    assert len(printed) == 2 + 16 + 2 and printed[-1].startswith("cge: ask ")
