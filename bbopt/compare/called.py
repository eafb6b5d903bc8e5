"""Asking and telling a method that wants to call a function: it runs in a thread, which waits at each call."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Called"]


class Called:
    """`run(function)` in a thread; `ask` gives the argument of its next call, `tell` what the call returns.

    `ask` raises whatever `run` raised, and StopIteration once `run` has returned. The thread is a daemon and stays at its
    call if nobody tells it anything any more.

    >>> called = Called(lambda function: function(1) + function(2))
    >>> called.ask(), called.tell(10.0), called.ask()
    (1, None, 2)
    """

    def __init__(self, run: Callable[[Callable[[Any], Any]], Any]) -> None:
        self._arguments: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._answers: queue.Queue[Any] = queue.Queue()

        def call(argument: Any) -> Any:
            self._arguments.put(("call", argument))
            return self._answers.get()

        def work() -> None:
            try:
                run(call)
                self._arguments.put(("end", None))
            except BaseException as error:  # it belongs to whoever asks
                self._arguments.put(("error", error))

        threading.Thread(target=work, daemon=True).start()

    def ask(self) -> Any:
        """The argument of the next call."""
        kind, what = self._arguments.get()
        if kind == "error":
            raise what
        if kind == "end":
            raise StopIteration
        return what

    def tell(self, answer: Any) -> None:
        """What that call returns."""
        self._answers.put(answer)
