"""Ctrl-C that waits for the right moment, so that it loses nothing.

Python raises KeyboardInterrupt between any two instructions of the main thread: also after an answer was received and
before it is told. Inside `held_back()` it waits, except where `let_through()` says that nothing can be lost: while the
user's function runs, while a strategy thinks, and while nothing is to do but wait. A Ctrl-C that came meanwhile is raised
at the next such place, or at the end of the block.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class _Guard:
    def __init__(self, before: Callable[[int, FrameType | None], Any]) -> None:
        self.before = before  # the handler that was there
        self.through = False
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.through:
            self.before(number, frame)
        else:
            self.came = True

    def raise_what_came(self) -> None:
        if self.came:
            self.came = False
            self.before(signal.SIGINT, None)


_guard: _Guard | None = None  # of the process, as its signal handlers are


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def held_back() -> Iterator[None]:
    """Ctrl-C waits for the end of this block or for `let_through`. Does nothing outside the main thread (which alone is
    interrupted), inside another such block, or where Ctrl-C is ignored or ends the process."""
    global _guard
    before = signal.getsignal(signal.SIGINT) if _in_main_thread() else None
    if _guard is not None or not callable(before):
        yield
        return
    guard = _guard = _Guard(before)
    signal.signal(signal.SIGINT, guard)
    try:
        yield
    finally:
        _guard = None
        signal.signal(signal.SIGINT, before)
        guard.raise_what_came()


@contextmanager
def let_through() -> Iterator[None]:
    """Inside `held_back`: Ctrl-C is raised here, at once."""
    guard = _guard
    if guard is None or guard.through or not _in_main_thread():
        yield
        return
    guard.through = True
    try:
        guard.raise_what_came()
        yield
    finally:
        guard.through = False
