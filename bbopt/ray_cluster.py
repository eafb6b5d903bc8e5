"""Ray from one place: a cluster that is started or attached to, and workers on it that hold one object each.

Everything that imports Ray is in this file, and nothing is imported before a cluster is opened. Ray's own restarts and
retries are off: a worker that dies is reported, and whoever gave it something to do decides what becomes of it.

What Ray leaves behind in the process that uses it (environment variables, a handler of SIGTERM, lines on standard output
when a worker dies) is put back or kept away where the connection is ours; a connection that was there before is used as
it is. The output of workers stays in the log files of Ray's session.
"""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bbopt.errors import BboptError, EvaluatorError, MissingPackage, UsageError

__all__ = ["Cluster", "RayWorker", "WorkerDied", "open_cluster"]

INSTALL = "pip install 'bbopt[ray]'"
CONNECT_SECONDS = 5.0
CHANGED = ("RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_CLIENT_MODE", "PYTHONBREAKPOINT")
_opening = threading.Lock()


class WorkerDied(BboptError):
    """A worker on Ray ended before it answered; the text says how, as Ray knows it."""


def _ray() -> Any:
    try:
        import ray
    except ImportError as missing:
        raise MissingPackage(f"evaluations on Ray need the package ray ({missing}); {INSTALL}") from missing
    return ray


# -- the cluster -------------------------------------------------------------------------------------------------------


@contextmanager
def open_cluster(address: str | None = None, *, cpus: int | None = None) -> Iterator[Cluster]:
    """A cluster, for as long as the context lasts.

    address: of a cluster that runs, "host:port", or "auto" for one on this machine; None takes the
    connection that this process has already, then the environment's RAY_ADDRESS, and else starts a cluster on this
    machine, as "local" always does; cpus: how many tasks at once such a new one is for, by default one per core. What was
    started or connected here is ended with the context, and nothing else.

    Raises MissingPackage without Ray, UsageError for an address where no cluster answers, EvaluatorError where none
    can be started.
    """
    left = _Left.now()
    ray = _ray()
    with _opening:
        ours = not ray.is_initialized()
        if ours:
            _connect(ray, address or os.environ.get("RAY_ADDRESS") or "local", cpus, left)
        elif address is not None:
            _check_connected(ray, address)
    try:
        yield Cluster(ray)
    finally:
        if ours:
            ray.shutdown()
            left.put_back(ray)


def _connect(ray: Any, address: str, cpus: int | None, left: _Left) -> None:
    local = address == "local"
    if not local:
        _check_reachable(address)
    options: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False} if local else {}
    loggers = {name: logging.getLogger(name).level for name in ("ray", "ray._private", "ray._private.authentication")}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # of the cluster that starts here: no reports over the network
    try:
        for name in loggers:
            logging.getLogger(name).setLevel(logging.ERROR)
        ray.init(address=address, log_to_driver=False, configure_logging=False, **options)
        left.silence(ray)
    except BaseException as error:
        ray.shutdown()
        left.put_back(ray)
        if not isinstance(error, Exception):
            raise
        if local:
            raise EvaluatorError(f"expected to start Ray on this machine, got: {error}") from error
        raise UsageError(f"expected a Ray cluster at {address!r}, got: {error}") from error
    finally:
        for name, level in loggers.items():
            logging.getLogger(name).setLevel(level)


def _check_reachable(address: str) -> None:
    """Ray itself tries an address for minutes, and ends the process when it gives up."""
    if address == "auto":
        return
    match = re.fullmatch(r"\[?(?P<host>[^\]/]+?)\]?:(?P<port>\d+)", address)
    if match is None:
        hint = "; run the study on a machine of the cluster" if address.startswith("ray://") else ""
        raise UsageError(
            f"expected the address of a Ray cluster as 'host:port', 'auto' or 'local', got {address!r}{hint}"
        )
    try:
        socket.create_connection((match["host"], int(match["port"])), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"expected a Ray cluster at {address!r}, but nothing answers there ({error}); start one by `ray start --head`, "
            "or leave the address out for a cluster on this machine"
        ) from error


def _check_connected(ray: Any, address: str) -> None:
    there = ray.get_runtime_context().gcs_address
    if address not in ("auto", there):
        raise UsageError(
            f"expected to use the Ray cluster at {address!r}, but this process is connected to {there!r} already; "
            "leave the address out, or call ray.shutdown() first"
        )


@dataclass(frozen=True)
class _Left:
    """What Ray changes in the process that connects to a cluster, as it was before."""

    environment: dict[str, str]
    terminate: Any

    @staticmethod
    def now() -> _Left:
        return _Left(dict(os.environ), signal.getsignal(signal.SIGTERM))

    def silence(self, ray: Any) -> None:
        """Ray prints a paragraph on standard output for each worker that dies, whatever its options say. The same words
        are in the error that is reported."""
        if hasattr(ray._private.worker, "_worker_logs_enabled"):
            ray._private.worker._worker_logs_enabled = False

    def put_back(self, ray: Any) -> None:
        if hasattr(ray._private.worker, "_worker_logs_enabled"):
            ray._private.worker._worker_logs_enabled = True
        for name in CHANGED:
            if name in self.environment:
                os.environ[name] = self.environment[name]
            else:
                os.environ.pop(name, None)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.terminate)


class Cluster:
    """A Ray cluster that this process is connected to. Get one from `open_cluster`."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._holder = ray.remote(_Holder)

    @property
    def address(self) -> str:
        """Where other processes reach it."""
        return str(self._ray.get_runtime_context().gcs_address)

    def put(self, value: Any) -> Any:
        """Store a value on the cluster, once: a reference that travels in place of it.

        Raises UsageError for a value that cannot be pickled.
        """
        try:
            return self._ray.put(value)
        except Exception as error:  # pickling runs code of the user's classes: any error may come
            raise UsageError(
                f"expected a function, and what it holds, that pickle can send to workers, got {type(error).__name__}: {error}; "
                "make such things inside the function, or at the top of a module"
            ) from error

    def room(self, cpus: float, gpus: float) -> int:
        """How many workers of this share the nodes that are alive hold, whatever else is at work there.

        Raises UsageError where there is no room for one, EvaluatorError where no node is alive.
        """
        nodes = [node["Resources"] for node in self._nodes()]
        room = 0
        for node in nodes:
            fits = [
                math.floor(node.get(name, 0.0) / share + 1e-9)
                for name, share in (("CPU", cpus), ("GPU", gpus))
                if share
            ]
            room += min(fits, default=0)
        if not room and (cpus or gpus):
            has = "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
            hint = "leave gpus= at 0" if gpus and not any(node.get("GPU") for node in nodes) else "ask for less"
            raise UsageError(f"expected a node with {cpus:g} CPUs and {gpus:g} GPUs for a worker, the cluster has {has}; {hint}")  # fmt: skip
        return room

    def size(self, who: str, workers: int | None, cpus: float, gpus: float) -> int:
        """So many workers as are wanted, or as there is room for. Raises what `room` raises, UsageError for too many."""
        room = self.room(cpus, gpus)
        if workers is None:
            return room
        if (cpus or gpus) and workers > room:
            raise UsageError(
                f"{who}: expected at most {room} workers of {cpus:g} CPUs and {gpus:g} GPUs on this cluster, got "
                f"workers={workers}"
            )
        return workers

    def _nodes(self) -> list[Any]:
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        if not alive:
            raise EvaluatorError(
                "the Ray cluster is gone: none of its nodes is alive any more; what was told is recorded"
            )
        return alive

    def free(self) -> str:
        """What is not taken at the moment, in words."""
        free = self._ray.available_resources()
        return f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs are free"

    def start(self, make: Any, cpus: float, gpus: float) -> RayWorker:
        """A worker that will hold what the stored function `make` returns; see `RayWorker.prepared`."""
        self._nodes()
        actor = self._holder.options(
            num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0, max_concurrency=1
        ).remote([make])  # in a list: the worker itself looks it up, where an error can be caught
        return RayWorker(self._ray, actor)

    def wait(self, references: Collection[Any], timeout: float | None) -> set[Any]:
        """Those references and streams that have a value or an error, as soon as there is one, or none after `timeout`
        seconds. Fetches nothing."""
        waiting = list(references)
        if not waiting:
            return set()
        done, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout, fetch_local=False)
        if done and len(waiting) > 1:  # those that were ready at the same time
            done, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        return set(done)

    def take(self, reference: Any) -> Any:
        """The value of a reference, or the next one of a stream. Raises WorkerDied where its worker ended first, and what
        its worker raised."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(next(reference) if hasattr(reference, "__next__") else reference)
        except (errors.RayActorError, errors.ObjectLostError, errors.WorkerCrashedError) as error:
            raise WorkerDied(_how(str(error))) from None
        except errors.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, BboptError) else error) from None


class RayWorker:
    """A worker that holds an object and does one thing after the other.

    `prepared`: a reference to None once the object is made, or to why it cannot be: (exception, traceback).
    """

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self.prepared = actor.prepare.remote()

    def call(self, method: str, *arguments: Any) -> Any:
        """A reference to what `method` of the held object will return; references among the arguments arrive as values."""
        return self._actor.call.remote(method, *arguments)

    def stream(self, method: str, *arguments: Any) -> Any:
        """What `method` of the held object will yield, one after the other as it comes."""
        return self._actor.stream.options(num_returns="streaming").remote(method, *arguments)

    def kill(self) -> None:
        """End it, at work or not."""
        self._ray.kill(self._actor, no_restart=True)


class _Holder:
    """Becomes the worker's process."""

    def __init__(self, made: list[Any]) -> None:
        self._made, self._held = made, None

    def prepare(self) -> tuple[Exception, str] | None:
        import traceback

        from bbopt.outcome import Failure, portable

        ray = _ray()
        try:
            self._held = ray.get(self._made[0])()
        except Exception as error:
            text = "".join(traceback.format_exception(error))
            sent = portable(Failure(error, text), ray.cloudpickle.dumps, ray.cloudpickle.loads).error
            assert isinstance(sent, Exception)
            return sent, text
        return None

    def call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._held, method)(*arguments)
        except (KeyboardInterrupt, GeneratorExit) as error:  # Ray would take them for a cancelled task
            raise SystemExit(1) from error

    def stream(self, method: str, *arguments: Any) -> Iterator[Any]:
        try:
            yield from getattr(self._held, method)(*arguments)
        except KeyboardInterrupt as error:
            raise SystemExit(1) from error


def pickler() -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """How things travel: (to bytes, from bytes)."""
    cloudpickle = _ray().cloudpickle
    return cloudpickle.dumps, cloudpickle.loads


def _how(text: str) -> str:
    """What became of a worker, from the paragraphs that Ray writes about it."""
    last = text.strip().splitlines()[-1]
    detail = last.partition("Worker exit detail: ")[2] or last
    return "ended: " + detail.partition(" Some common causes")[0][:300]
