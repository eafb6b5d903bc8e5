"""Batches by number, drawn ahead by worker processes where there are any."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bbopt.errors import BboptError
from surrogates.pfn.anchors import Anchors
from surrogates.pfn.lessons import Batch, draw_batch
from surrogates.pfn.recipe import Training
from surrogates.pfn.threads import limited_threads

__all__ = ["batches"]

AHEAD = 6  # batches per worker drawn before they are needed
ANCHORS = "anchors."


@contextmanager
def batches(training: Training, first: int, stride: int, device: str) -> Iterator[Iterator[Batch]]:
    """Batches number first, first + stride, ... without end; the worker processes end with the context.

    Raises BboptError, when a batch is taken, where a worker has died.

    >>> with batches(Training(steps=1, workers=0), 0, 1, "cpu") as drawn:
    ...     next(drawn).Q.shape[1]
    24
    """
    numbers = itertools.count(first, stride)
    if training.workers == 0 or device.startswith("cuda"):
        yield (_draw(training, number, device) for number in numbers)
        return
    pool = ProcessPoolExecutor(training.workers, multiprocessing.get_context("spawn"), _live_with_parent)
    waiting: deque[Future[dict[str, NDArray[Any]]]] = deque()

    def ahead() -> Iterator[Batch]:
        while True:
            try:
                while len(waiting) < AHEAD * training.workers:
                    waiting.append(pool.submit(_draw_arrays, training, next(numbers), device))
                yield _batch_of(waiting.popleft().result())
            except BrokenProcessPool as trouble:
                raise BboptError(
                    "a process that draws batches has died, most often for want of memory; the same command goes on from"
                    " the checkpoint, with fewer workers or smaller sizes.tokens in the configuration where memory is short"
                ) from trouble

    try:
        yield ahead()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _draw(training: Training, number: int, device: str) -> Batch:
    """The batch of a number."""
    with limited_threads(1):
        return draw_batch(training.prior, training.sizes, training.shape.anchors, (training.seed, number), device)


def _draw_arrays(training: Training, number: int, device: str) -> dict[str, NDArray[Any]]:
    """The batch of a number as arrays, which travel through a pipe.

    Tensors would travel through shared memory, of which containers often have 64 MB, and keep a file open each.
    """
    batch = _draw(training, number, device)
    parts = {**vars(batch), **{ANCHORS + name: part for name, part in vars(batch.anchors).items()}}
    return {name: part.numpy() for name, part in parts.items() if isinstance(part, Tensor)}


def _batch_of(arrays: dict[str, NDArray[Any]]) -> Batch:
    """The batch behind arrays."""
    tensors = {name: torch.from_numpy(part) for name, part in arrays.items()}
    anchors = Anchors(
        **{name.removeprefix(ANCHORS): part for name, part in tensors.items() if name.startswith(ANCHORS)}
    )
    return Batch(anchors, **{name: part for name, part in tensors.items() if not name.startswith(ANCHORS)})


def _live_with_parent() -> None:
    """Signals to stop are for the process that trains; workers end with it, even where it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
