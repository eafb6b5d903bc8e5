"""Renderers in a process of their own: what they do cannot hold up, crash or outlive the server.

A renderer is code of the user: it may compute for a second with the interpreter's lock in its hands, loop for ever, or end
its process. Beside the server's threads each of these would delay or lose answers, so it runs in one spawned process per
renderer, at lower priority, with a time limit after which that process is killed and started again for the next point. The
process ends by itself when it has had nothing to do for a while, and when the server is gone, however it went.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any

import bbopt
from server.render_load import find_function
from server.rendering import RenderFailed, Rendering, rendering_of

__all__ = ["RenderProcess"]

START_SECONDS = 60.0
"""Time for the process to start and import the user's module, which may load a large library."""
IDLE_SECONDS = 300.0


class RenderProcess:
    """A renderer in its own process.

    spec: "picture" (the problem's own, for `task`) or "module:function"; seconds: time for one rendering. The process
    starts here, and a spec that does not work is said here. Raises bbopt.UsageError.
    """

    def __init__(self, spec: str, task: bbopt.Task, seconds: float = 10.0, idle: float = IDLE_SECONDS) -> None:
        self.spec, self.seconds, self.idle = spec, seconds, idle
        self._task = json.dumps(task.to_json())
        self._turn = threading.Lock()  # one rendering at a time
        self._closed = False
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        with self._turn:
            self._start()

    def __call__(self, params: Mapping[str, Any], /) -> Rendering:
        with self._turn:
            for _ in range(2):
                try:
                    connection = self._running() or self._start()
                    connection.send(dict(params))
                    return self._answer(connection)
                except bbopt.UsageError as error:  # it was found before, and is not now
                    raise RenderFailed(str(error)) from None
                except (EOFError, OSError):
                    if self._end(grace=1.0) != 0:
                        break
                    # it ended by itself, having been idle: the next one takes the point
            raise RenderFailed(f"renderer {self.spec}: its process ended while it rendered {_short(params)}")

    def close(self) -> None:
        self._closed = True
        process = self._process
        if process is not None:
            with suppress(ValueError):  # closed by another thread
                process.kill()
        with self._turn:
            self._end()

    # -- the process -----------------------------------------------------------------------------------------------------

    def _running(self) -> Connection | None:
        return self._connection if self._process is not None and self._process.is_alive() else None

    def _start(self) -> Connection:
        """A fresh process that has found the function. Raises bbopt.UsageError, or RenderFailed after `close`."""
        self._end()
        if self._closed:
            raise RenderFailed("the server is closing")
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.spec, self._task, self.idle), daemon=True)
        try:
            process.start()
        finally:
            theirs.close()
        self._process, self._connection = process, ours
        try:
            late = f"renderer {self.spec}: not imported within {START_SECONDS:g} s"
            problem: str | None = ours.recv() if ours.poll(START_SECONDS) else late
        except (EOFError, OSError):
            problem = f"renderer {self.spec}: its process ended while it imported the module"
        if problem is not None:
            self._end()
            raise bbopt.UsageError(problem)
        return ours

    def _answer(self, connection: Connection) -> Rendering:
        if not connection.poll(self.seconds):
            self._end()
            raise RenderFailed(f"renderer {self.spec}: no result after {self.seconds:g} s; its process was ended")
        answer = connection.recv()
        if isinstance(answer, str):
            raise RenderFailed(f"renderer {self.spec}: {answer}")
        rendering: Rendering = answer
        return rendering

    def _end(self, grace: float = 0.0) -> int | None:
        """End the process, if there is one: at once, or after `grace` seconds in which it may end by itself. Its exit status."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        if process is None:
            return None
        process.join(grace)
        process.kill()
        process.join()
        code = process.exitcode
        process.close()
        return code


def _short(params: Mapping[str, Any]) -> str:
    text = repr(dict(params))
    return text if len(text) <= 200 else text[:197] + "..."


# -- in the process ------------------------------------------------------------------------------------------------------


def _work(connection: Connection, spec: str, task: str, idle: float) -> None:
    """The life of the process: says None or what is wrong with the spec, then a Rendering or a text per point."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends us
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with suppress(AttributeError, OSError):
        os.dup2(2, 1)  # the server's standard output is for its links
        os.nice(5)
    sys.stdout = sys.stderr
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        function = _find(spec, task)
    except bbopt.BboptError as error:
        connection.send(str(error))
        return
    connection.send(None)
    with suppress(EOFError, OSError):
        while connection.poll(idle):
            connection.send(_render(function, connection.recv()))


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _find(spec: str, task: str) -> Callable[[dict[str, Any]], Any]:
    if spec != "picture":
        return find_function(spec)
    function = bbopt.problems.renderer_for(bbopt.Task.from_json(json.loads(task)))
    if function is None:
        raise bbopt.UsageError(
            "renderer: this task is none of the picture problems; expected table or module:function, got picture"
        )
    found: Callable[[dict[str, Any]], Any] = function
    return found


def _render(function: Callable[[dict[str, Any]], Any], params: dict[str, Any]) -> Rendering | str:
    try:
        return rendering_of(function(params))
    except RenderFailed as error:
        return str(error)
    except Exception:  # whatever a user's function raises
        return f"failed for {_short(params)}\n{traceback.format_exc().strip()}"
