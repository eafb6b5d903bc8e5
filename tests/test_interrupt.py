"""Ctrl-C waits where something could get lost, and only there; the handler that was there comes back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bbopt.interrupt import held_back, let_through


def press() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, before)


def test_it_waits_for_the_end_of_the_block() -> None:
    steps = []

    def block() -> None:
        with held_back():
            press()
            steps.append("told")
        steps.append("after")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert steps == ["told"]


def test_it_is_let_through_at_once_and_where_it_came_before() -> None:
    steps = []

    def block(first: bool) -> None:
        with held_back():
            if first:
                press()
                steps.append("held")
            with let_through():
                steps.append("open")
                press()
            steps.append("never")

    with pytest.raises(KeyboardInterrupt):
        block(False)
    assert steps == ["open"]
    steps.clear()
    with pytest.raises(KeyboardInterrupt):
        block(True)
    assert steps == ["held"], "what came before is raised on entry"


def test_after_an_open_place_it_waits_again() -> None:
    steps = []

    def block() -> None:
        with held_back():
            with let_through(), let_through():
                pass
            press()
            steps.append("held")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert steps == ["held"]


def test_it_is_raised_once() -> None:
    with held_back():
        try:
            with let_through():
                press()
        except KeyboardInterrupt:
            pass
        with let_through():
            pass


def test_blocks_inside_blocks_are_one() -> None:
    steps = []

    def block() -> None:
        with held_back():
            with held_back():
                press()
            steps.append("still held")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert steps == ["still held"]


def test_without_a_block_nothing_changes() -> None:
    with pytest.raises(KeyboardInterrupt), let_through():
        press()


def test_a_handler_of_the_users_own_is_called() -> None:
    before = signal.getsignal(signal.SIGINT)
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with held_back():
            press()
            assert heard == []
            with let_through():
                assert heard == [signal.SIGINT]
                press()
                assert heard == [signal.SIGINT] * 2
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with held_back():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            press()
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_none_of_its_business() -> None:
    """A thread's own blocks do nothing, and its open places do not open the main thread's."""
    seen: list[Any] = []

    def other() -> None:
        with held_back(), let_through():
            press_main.set()
            done.wait(10.0)
            seen.append("through")

    press_main, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=other)

    def block() -> None:
        with held_back():
            thread.start()
            assert press_main.wait(10.0)
            press()
            seen.append("held")
            done.set()
            thread.join()

    with pytest.raises(KeyboardInterrupt):
        block()
    assert seen == ["held", "through"]
