"""Asks compute on one BLAS thread and leave the number of threads as it was, also where several asks overlap."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Barrier, Thread

import pytest
from threadpoolctl import threadpool_limits

from bbopt import Float, Space, Task
from bbopt.query import Key, Query, Request, Values
from bbopt.strategies import blas_thread
from bbopt.strategies.blas_thread import one_blas_thread
from bbopt.strategies.gp import GP


def threads() -> set[int]:
    """Of the libraries of NumPy and SciPy, as this thread sees them."""
    return {each.num_threads for each in blas_thread._libraries()}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    blas_thread._libraries()
    with threadpool_limits(2, user_api="blas"):
        yield


def test_it_is_one_inside_and_as_before_outside() -> None:
    with one_blas_thread():
        assert threads() == {1}
        with one_blas_thread():
            assert threads() == {1}
        assert threads() == {1}
    assert threads() == {2}


def test_an_error_inside_changes_nothing() -> None:
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        raise ZeroDivisionError
    assert threads() == {2}


def test_asks_that_overlap_put_it_back_whoever_ends_first() -> None:
    inside, first_gone = Barrier(2), Barrier(2)
    seen = []

    def first() -> None:
        with one_blas_thread():
            inside.wait(10)
            seen.append(threads())
        first_gone.wait(10)

    other = Thread(target=first)
    other.start()
    with one_blas_thread():
        inside.wait(10)
        first_gone.wait(10)
    other.join(10)
    assert seen == [{1}] and threads() == {2}


def test_an_ask_of_a_model_runs_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    search = GP._search

    def look(self: GP, *args: object) -> object:
        seen.append(threads())
        return search(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(GP, "_search", look)
    task = Task(Space(x=Float(0, 1)))
    rows = task.space.from_uniform([[0.1], [0.5], [0.9]])
    state = GP().tell(task, GP().init(task, Key(0, 0)), Query(rows, {}), Values.of([1.0, 0.0, 1.0]))
    GP(initial=1).ask(task, state, Request(1, 3, rows[:0]), Key(0, 3))
    assert seen == [{1}] and threads() == {2}
