"""Forward parallelism on Ray: one worker per core or GPU, each with a replica of the training; see `parallel`.

Per step a worker is sent the number of the step and units of it, a few orders one after the other, the long ones first;
with the first order the gradient of the step before, which it applies to its own replica. Weights travel once: to a worker
that is new, and to one whose parameters are found to differ. A worker that dies in the middle of a step loses the order
that it was at; this goes out again.
"""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from bbopt.errors import EvaluatorError, UsageError
from bbopt.ray_cluster import Cluster, RayWorker, WorkerDied, open_cluster
from bbopt.zeroth_order.network.coordinates import Coordinates
from bbopt.zeroth_order.network.estimate import NetworkGradient, scattered
from bbopt.zeroth_order.network.parallel import (
    About,
    Cut,
    Replica,
    Step,
    Unit,
    derivatives,
    digest,
    gathered,
    opened_step,
    units,
)
from bbopt.zeroth_order.network.sweep import Sweep

__all__ = ["RayPool"]

Array = np.ndarray[Any, np.dtype[Any]]

SHARE = 0.5  # of what is left per worker, that an order is made of
SMALLEST_SHARE = 1 / 16  # of the whole step per worker: messages take time too
STARTS = 3  # workers in a row that died before they had answered once


@dataclass(frozen=True, eq=False)
class _Done:
    """What a worker answers to an order; `digest` of its parameters where it was asked for."""

    found: list[Array]
    seconds: float
    about: About
    digest: str | None


class _Follower:
    """What a worker holds: a replica that takes every step, and the differences of the one that is open."""

    def __init__(self, factory: Callable[[], Replica], threads: int) -> None:
        torch.set_num_threads(threads)  # of a process that is there for nothing else
        self._replica = factory()
        self._open = ExitStack()
        self._number: int | None = None
        self._step: Step | None = None
        self._differences: Sweep | None = None
        self._digest: str | None = None

    def compute(
        self, number: int, state: Mapping[str, Any] | None, before: Array | None, cut: Cut, check: bool
    ) -> _Done:
        """Derivatives of some units of a step. To get there: `state` is that of another replica at this step; `before` the
        gradient of the last one; with neither, the step is open already."""
        if state is not None or before is not None:
            self._digest = None
            self._advance(number, state, before, check)
        assert self._number == number and self._step is not None and self._differences is not None
        start = time.perf_counter()
        found = derivatives(self._differences, self._step.coordinates, cut)
        seconds = time.perf_counter() - start
        return _Done([part.numpy() for part in found], seconds, About.of(self._differences), self._digest)

    def _advance(self, number: int, state: Mapping[str, Any] | None, before: Array | None, check: bool) -> None:
        step = self._step
        self._open.close()
        self._step = self._differences = None
        if state is not None:
            self._replica.load(_writable(state))
        elif before is not None:
            assert step is not None and self._number == number - 1, (self._number, number)
            self._replica.apply(number - 1, _spread(step, before))
        if check:
            self._digest = digest(self._replica.module)
        self._step, self._number = self._replica.step(number), number
        self._differences = self._open.enter_context(opened_step(self._step))


@dataclass(eq=False)
class _Seat:
    """A place for a worker. waits: the reference that its worker is to answer next; at: the step it was last led to."""

    worker: RayWorker
    waits: Any
    ready: bool = False
    answered: bool = False
    at: int | None = None
    order: Cut = ()


class RayPool:
    """Gradients from workers on Ray: the same, to the bit, for any number of them, and as from `InProcessPool`.

    factory: makes a replica in a worker, so that data need not travel; replica: that of the caller, at whose parameters
    gradients are taken; workers: by default as many as the cluster has room for; address: as in `RayEvaluator`; cpus,
    gpus: share of each; threads: torch threads of each; check: every so many steps, parameters of the workers are compared
    with those of the replica, and set to them where they differ (`resent` counts these).

    Worth it where a step takes longer than some 50 ms; below that `InProcessPool` is faster.
    """

    def __init__(
        self,
        factory: Callable[[], Replica],
        replica: Replica,
        *,
        workers: int | None = None,
        address: str | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        threads: int = 1,
        check: int = 50,
    ) -> None:
        for what, value in (("workers", 1 if workers is None else workers), ("threads", threads), ("check", check)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"RayPool: {what}: expected a whole number of at least 1, got {value!r}")
        self._replica, self._share, self._check = replica, (cpus, gpus), check
        self._context = ExitStack()
        with ExitStack() as stack:
            wanted = None if workers is None else max(1, math.ceil(workers * cpus))
            self._cluster: Cluster = stack.enter_context(open_cluster(address, cpus=wanted))
            self._size = self._cluster.size("RayPool", workers, cpus, gpus)
            self._made = self._cluster.put(functools.partial(_Follower, factory, threads))
            self._context = stack.pop_all()
        self._seats: list[_Seat] = []
        self._deaths = 0
        self._last: tuple[int, Array] | None = None  # the step whose gradient was given out, and its derivatives
        self._seconds: dict[str, float] = {}  # per coordinate of a parameter, as last seen
        self.resent = 0

    # -- a step --------------------------------------------------------------------------------------------------------

    def gradient(self, number: int, /) -> NetworkGradient:
        """Of this step, at the replica's parameters. Raises what the differences raise, and EvaluatorError where workers
        cannot work."""
        step = self._replica.step(number)
        follows = self._last is not None and self._last[0] == number - 1
        work = _Work(self._cluster, self._replica, step, number, number % self._check == 0, self._seconds)
        if self._last is not None and follows:
            work.before = self._cluster.put(self._last[1])
        while len(self._seats) < self._size:
            self._seats.append(self._started())
        for seat in self._seats:
            seat.at = seat.at if follows else None
        try:
            self._carry_out(work)
        except BaseException:
            self._end_workers()  # they are in the middle of something
            raise
        found = gathered(step, work.found, work.about)
        self._last = number, _flat(step.coordinates, found.gradient)
        self._seconds = work.seconds()
        return found

    def _carry_out(self, work: _Work) -> None:
        for seat in self._seats:
            self._occupy(seat, work)
        while len(work.found) < len(work.cut):
            waited = [seat.waits for seat in self._seats if seat.waits is not None]
            ready = self._cluster.wait(waited, None)
            for place, seat in enumerate(self._seats):
                if seat.waits in ready:
                    self._hear(place, work)

    def _occupy(self, seat: _Seat, work: _Work) -> None:
        """Give a worker that is free the next order, and what it has to know for it."""
        if not seat.ready or seat.waits is not None:
            return
        order = work.take(self._size)
        if not order:
            return
        state = before = None
        if seat.at == work.number - 1:
            before = work.before
        elif seat.at != work.number:
            state = work.state()
        seat.at, seat.order = work.number, order
        seat.waits = seat.worker.call("compute", work.number, state, before, order, work.check)

    def _hear(self, place: int, work: _Work) -> None:
        seat = self._seats[place]
        reference, seat.waits = seat.waits, None
        try:
            answer = self._cluster.take(reference)
        except WorkerDied as death:
            work.give_back(seat.order)
            self._replace(place, death, work)
            return
        if seat.ready:
            seat.answered, self._deaths = True, 0
            self._take(seat, answer, work)
        elif answer is None:
            seat.ready = True
        else:
            error, text = answer
            if isinstance(error, UsageError):
                raise error
            raise EvaluatorError(f"expected a replica that workers on Ray can make, got: {error}\n{text}")
        self._occupy(seat, work)

    def _take(self, seat: _Seat, done: _Done, work: _Work) -> None:
        order, seat.order = seat.order, ()
        if work.check and done.digest != work.digest():
            self.resent += 1
            seat.at = None  # it gets the state again, and its order goes out again
            work.give_back(order)
        else:
            work.add(order, done)

    def _replace(self, place: int, death: WorkerDied, work: _Work) -> None:
        self._deaths = 0 if self._seats[place].answered else self._deaths + 1
        if self._deaths >= STARTS:
            raise EvaluatorError(
                f"expected workers that compute, but {STARTS} in a row {death} before they had answered"
            )
        self._seats[place] = self._started()
        for seat in self._seats:  # those that found nothing to do take what it leaves
            self._occupy(seat, work)

    def _started(self) -> _Seat:
        worker = self._cluster.start(self._made, *self._share)
        return _Seat(worker, worker.prepared)

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end_workers(self) -> None:
        for seat in self._seats:
            seat.worker.kill()
        self._seats, self._last = [], None

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        self._end_workers()
        self._context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Work:
    """One step: what is left to hand out, and what came back."""

    def __init__(
        self, cluster: Cluster, replica: Replica, step: Step, number: int, check: bool, seconds: Mapping[str, float]
    ) -> None:
        self._cluster, self._replica = cluster, replica
        self.number, self.check = number, check
        self.cut = units(step.coordinates)
        self.found: dict[Unit, Tensor] = {}
        self.before: Any = None
        self.about = About(0.0, 0.0, {}, {})
        self._cost = _costs(self.cut, seconds)
        self._left = deque(sorted(self.cut, key=self._cost.__getitem__, reverse=True))
        self._whole = self._remaining = sum(self._cost.values())
        self._took: dict[str, list[float]] = {}
        self._state: Any = None
        self._digest = ""

    def take(self, workers: int) -> Cut:
        """The next order: a share of what is left, so that the last ones are small."""
        wanted = max(SHARE * self._remaining, SMALLEST_SHARE * self._whole) / workers
        order: list[Unit] = []
        cost = 0.0
        while self._left and cost < wanted:
            order.append(self._left.popleft())
            cost += self._cost[order[-1]]
        self._remaining -= cost
        return tuple(order)

    def give_back(self, order: Cut) -> None:
        """An order that has to go out again."""
        self._left.extendleft(reversed(order))
        self._remaining += sum(self._cost[unit] for unit in order)

    def add(self, order: Cut, done: _Done) -> None:
        """What a worker found."""
        for unit, part in zip(order, done.found, strict=True):
            self.found[unit] = torch.from_numpy(part.copy())  # what comes from Ray is read-only
        self.about = done.about
        ratio = done.seconds / sum(self._cost[unit] for unit in order)
        for unit in order:
            took = self._took.setdefault(unit.parameter, [0.0, 0.0])
            took[0] += ratio * self._cost[unit]
            took[1] += len(unit)

    def seconds(self) -> dict[str, float]:
        """Per coordinate of each parameter, as they were in this step."""
        return {name: total / count for name, (total, count) in self._took.items()}

    def state(self) -> Any:
        """The replica's state, stored on the cluster once in a step that needs it."""
        if self._state is None:
            self._state = self._cluster.put(self._replica.save())
        return self._state

    def digest(self) -> str:
        self._digest = self._digest or digest(self._replica.module)
        return self._digest


def _costs(cut: Cut, seconds: Mapping[str, float]) -> dict[Unit, float]:
    """What units are expected to take, on some scale: as long as last time. At first, earlier parameters are taken for
    dearer, as more of the network comes after them."""
    names = list(dict.fromkeys(unit.parameter for unit in cut))
    if not seconds:
        each = {name: float(len(names) - place) for place, name in enumerate(names)}
    else:
        usual = sum(seconds.values()) / len(seconds)
        each = {name: max(seconds.get(name, usual), 1e-9) for name in names}
    return {unit: len(unit) * each[unit.parameter] for unit in cut}


def _flat(coordinates: Coordinates, gradient: Mapping[str, Tensor]) -> Array:
    """The entries of a gradient at its coordinates, one after the other."""
    parts = [gradient[name].detach().cpu().reshape(-1)[index] for name, index in coordinates.indices.items()]
    return np.asarray(torch.cat(parts).numpy())


def _spread(step: Step, flat: Array) -> dict[str, Tensor]:
    """The gradient that `_flat` was made of."""
    parameters = dict(step.problem.module.named_parameters())
    sizes = [len(index) for index in step.coordinates.indices.values()]
    values = torch.split(torch.from_numpy(flat.copy()), sizes)
    return {
        name: scattered(parameters[name], index, part)
        for (name, index), part in zip(step.coordinates.indices.items(), values, strict=True)
    }


def _writable(state: Any) -> Any:
    """A copy whose tensors can be kept and written to."""
    if isinstance(state, Tensor):
        return state.clone()
    if isinstance(state, Mapping):
        return {name: _writable(value) for name, value in state.items()}
    return state
