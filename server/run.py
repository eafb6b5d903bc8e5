"""The server as a process: one of them on a store, on a socket that is bound before anything is promised, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging.config
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

import bbopt
from server.access import Access
from server.app import create_app
from server.config import Config

log = logging.getLogger("bbopt.server")

__all__ = ["alone", "bind", "serve", "settings"]

HEADER_SECONDS = 15.0  # for the whole of a request's headers to come
IDLE_SECONDS = 65  # that a connection may stay open without a request
GRACE_SECONDS = 1  # for requests that are being answered when the server is stopped
LAST_SECONDS = 2.5  # after which the process ends without those that are not, such as an ask of a slow strategy
CONNECTIONS = 1000  # beyond which requests get 503
MAX_HEAD = 65_536  # bytes of a request before its body that are kept; the gate refuses a quarter of them, with a reason

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "filters": {"worth saying": {"()": lambda: _worth_saying}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["worth saying"],
            "stream": "ext://sys.stderr",
        }
    },
    "loggers": {
        "bbopt.server": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "uvicorn.error": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
    },
}
"""No line for each request: their number is the clients' choice, and the log of a server is not where tokens may turn up."""


def serve(config: Config, started: Callable[[Config, Access], None]) -> None:
    """Serve until Ctrl-C (KeyboardInterrupt, after requests that have begun) or SIGTERM (ends the process, likewise).

    Where a strategy is still thinking then, and its thread cannot be stopped, the process ends without it, as if it had been
    killed: what was acknowledged is on the disk, and the next server goes on from there.

    started: called once, when requests are answered, with the configuration (its port is the real one) and the tokens.
    Raises UsageError (the address is taken, another server has the store), StoreError, and what `create_app` raises.
    """
    with alone(config.store), bind(config.host, config.port) as listener:
        config = replace(config, port=listener.getsockname()[1])
        app: Any = create_app(config)
        access: Access = app.app.state.access
        logging.config.dictConfig(LOGGING)
        with contextlib.closing(access):
            server = _Server(settings(app), lambda: started(config, access), LAST_SECONDS)
            server.run(sockets=[listener])
            if server.failure is not None:
                raise server.failure


def settings(app: Any) -> uvicorn.Config:
    """How uvicorn serves an app here: strictly parsed HTTP/1.1, nothing believed of proxies, nothing said of itself."""
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD,
    )


class _Server(uvicorn.Server):
    """One that says when it is ready, and that ends its process so many seconds after it was told to stop (None: never)."""

    def __init__(self, settings: uvicorn.Config, ready: Callable[[], None], last_seconds: float | None = None) -> None:
        super().__init__(settings)
        self._ready = ready
        self._last_seconds = last_seconds
        self._signal = signal.SIGINT
        self.failure: BaseException | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        try:
            self._ready()
        except BaseException as error:  # raised when everything that has been opened is closed again
            self.failure = error
            self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(sig)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._last_seconds is not None:
            last = threading.Timer(self._last_seconds, self._give_up)
            last.daemon = True  # a process that ends in time ends the timer with it
            last.start()
        await super().shutdown(sockets)

    def _give_up(self) -> None:
        log.warning(
            "ended while a strategy was thinking: what was acknowledged is stored, the slate is asked for again"
        )
        logging.shutdown()
        os._exit(128 + self._signal)


def _worth_saying(record: logging.LogRecord) -> bool:
    """Not that requests were ended, as they are when the server is."""
    return not record.getMessage().startswith("Cancel ")


class _Protocol(H11Protocol):
    """HTTP/1.1 that does not wait forever for headers; bodies have the gate's limit, and idle connections uvicorn's."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._forget()
        elif self._patience is None:
            self._patience = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _forget(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


@contextlib.contextmanager
def bind(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at this address, not listening yet. Raises UsageError that says what to do where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise bbopt.UsageError(f"host: expected an address of this machine, got {host!r} ({error.strerror})") from None
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise bbopt.UsageError(f"port {port} of {host} is in use; choose another by --port (0: any that is free)") from None  # fmt: skip
            if error.errno == errno.EACCES:
                raise bbopt.UsageError(f"port {port} of {host} needs rights that this process lacks; choose one above 1023") from None  # fmt: skip
            raise bbopt.UsageError(f"cannot listen at {host}, port {port}: {error.strerror}") from None
        yield listener


@contextlib.contextmanager
def alone(store: Path) -> Iterator[None]:
    """Be the only server of a store. Raises UsageError where there is one.

    Who works on which slate is known to the server's process alone: two would hand the same one out twice. Commands and
    programs may use the store beside it. The system gives the lock back when a process dies, however it dies.
    """
    store = store.resolve()
    path = store.with_name(store.name + ".serving")
    while True:
        try:
            file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise bbopt.StoreError(f"cannot make {path} ({error.strerror}); check the folder of the store") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same(file, path):  # another server may have removed it just now
                break
            os.close(file)
        except BlockingIOError:
            holder = os.read(file, 40).decode("ascii", "replace").strip()
            os.close(file)
            raise bbopt.UsageError(f"expected {store} to be free, another server (process {holder or 'unknown'}) has it: end that one, or use it") from None  # fmt: skip
    try:
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
