"""The two strategies that learn nothing: random search and the Sobol' sequence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import qmc

from bbopt.designs import LARGEST_DIMENSION, sobol
from bbopt.errors import NotHandled
from bbopt.optimizer import Optimizer
from bbopt.parameters import Categorical, Float, Int
from bbopt.query import Array, Key, Request, Values
from bbopt.space import Space
from bbopt.strategies.random_search import RandomSearch
from bbopt.strategies.sobol import Sobol
from bbopt.task import Task


def rows(strategy: RandomSearch | Sobol, task: Task, sizes: list[int], held: dict[int, float] | None = None) -> Array:
    """The rows of asks of these sizes."""
    state = strategy.init(task, Key(3, -1))
    found, number = [], 0
    for i, n in enumerate(sizes):
        request = Request(n, number, np.zeros((0, task.space.dimension)), fixed=held or {})
        query = strategy.ask(task, state, request, Key(3, i))
        found.append(np.asarray(query.X))
        number += n
        state = strategy.tell(task, state, query, Values.of(np.zeros(n)))
    return np.concatenate(found)


MIXED = Space(a=Float(0, 1), b=Float(1, 100, log=True), n=Int(0, 9), s=Categorical(["x", "y"]), free=Float(scale=2.0))


@pytest.mark.parametrize("strategy", [RandomSearch(), Sobol()])
@pytest.mark.parametrize("where", [[], ["a + n <= 5", "s == 'x' or b >= 10"]])
def test_rows_satisfy_the_task(strategy: RandomSearch | Sobol, where: list[str]) -> None:
    task = Task(MIXED, where=where)
    X = rows(strategy, task, [1, 7, 64])
    assert X.shape == (72, 5) and len(np.unique(X, axis=0)) == 72
    assert task.known(X).all() and np.array_equal(task.space.canonical(X), X)
    X = rows(strategy, task, [20], {3: 1.0})
    assert (X[:, 3] == 1.0).all() and task.known(X).all()


@pytest.mark.parametrize("where", [[], ["a + n <= 5"]])
def test_sobol_does_not_depend_on_the_sizes_of_asks(where: list[str]) -> None:
    task = Task(MIXED, where=where)
    assert np.array_equal(rows(Sobol(), task, [24]), rows(Sobol(), task, [1, 3, 8, 12]))


def test_sobol_rows_are_the_fitting_points_of_the_sequence_in_order() -> None:
    task = Task(Space(a=Float(0, 1), b=Float(0, 1)), where=["a + b <= 0.5"])
    scramble = Sobol().init(task, Key(3, -1)).scramble
    points = task.space.from_uniform(sobol(0, 4000, 2, scramble))
    assert np.array_equal(rows(Sobol(), task, [5, 95]), points[task.known(points)][:100])


def test_sobol_is_more_even_than_random() -> None:
    """Centred discrepancy of 128 rows in 4 columns: less than half of random's, in every one of 5 seeds."""
    task = Task(Space(x=Float(0, 1, shape=(4,))))
    for seed in range(5):
        request = Request(128, 0, np.zeros((0, 4)))
        even, drawn = (
            qmc.discrepancy(np.asarray(s.ask(task, s.init(task, Key(seed, -1)), request, Key(seed, 0)).X))
            for s in (Sobol(), RandomSearch())
        )
        assert even < 0.5 * drawn


def test_sobol_falls_back_where_hardly_a_point_fits() -> None:
    task = Task(Space(a=Float(0, 1), b=Float(0, 1)), where=["abs(a - b) <= 1e-7"])
    X = rows(Sobol(), task, [10, 10])
    assert task.known(X).all() and len(np.unique(X, axis=0)) == 20


def test_sobol_refuses_more_columns_than_it_has_numbers_for() -> None:
    with pytest.raises(NotHandled, match="'random'"):
        Sobol().init(Task(Space(x=Float(0, 1, shape=(LARGEST_DIMENSION + 1,)))), Key(0, -1))


def test_random_levels_are_equally_likely() -> None:
    X = rows(RandomSearch(), Task(Space(n=Int(0, 9), s=Categorical(["x", "y", "z"]))), [6000])
    for column, levels in ((0, 10), (1, 3)):
        _, counts = np.unique(X[:, column], return_counts=True)
        assert len(counts) == levels and np.abs(counts / 6000 - 1 / levels).max() < 0.025


@pytest.mark.parametrize("name", ["random", "sobol"])
def test_27_points_are_asked_once_each(name: str) -> None:
    opt = Optimizer(Task(Space(a=Int(0, 2), b=Int(0, 2), c=Int(0, 2))), strategy=name, seed=1)
    seen = {tuple(opt.ask().params.values()) for _ in range(27)}
    assert len(seen) == 27


def test_a_row_of_random_is_one_draw() -> None:
    """Cheap enough to run inside the store's write transaction: one call of the generator, no search."""
    task = Task(Space(x=Float(0, 1, shape=(3,))))
    X = rows(RandomSearch(), task, [2])
    assert np.array_equal(X, task.space.from_uniform(Key(3, 0).rng("rows").random((2, 3))))
