"""Batches by number, drawn ahead by worker processes where there are any."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bbopt.errors import BboptError
from surrogates.training.recipe import Training
from surrogates.training.threads import limited_threads

__all__ = ["batches"]

AHEAD = 6  # batches per worker drawn before they are needed


@contextmanager
def batches(training: Training, first: int, stride: int, device: str) -> Iterator[Iterator[Mapping[str, Tensor]]]:
    """Batches number first, first + stride, ... without end; the worker processes end with the context.

    Batch number i is what the subject draws of the seed (training.seed, i), with one torch thread.

    Raises BboptError, when a batch is taken, where a worker has died.

    >>> from surrogates.pfn.subject import PFNSubject
    >>> with batches(Training(PFNSubject(), steps=1, workers=0), 0, 1, "cpu") as drawn:
    ...     next(drawn)["Q"].shape[1]
    24
    """
    numbers = itertools.count(first, stride)
    if training.workers == 0 or device.startswith("cuda"):
        yield (_draw(training, number, device) for number in numbers)
        return
    pool = ProcessPoolExecutor(training.workers, multiprocessing.get_context("spawn"), _live_with_parent)
    waiting: deque[Future[dict[str, NDArray[Any]]]] = deque()

    def ahead() -> Iterator[Mapping[str, Tensor]]:
        while True:
            try:
                while len(waiting) < AHEAD * training.workers:
                    waiting.append(pool.submit(_draw_arrays, training, next(numbers), device))
                arrays = waiting.popleft().result()
                yield {name: torch.from_numpy(part) for name, part in arrays.items()}
            except BrokenProcessPool as trouble:
                raise BboptError(
                    "a process that draws batches has died, most often for want of memory; the same command goes on from"
                    " the checkpoint, with fewer workers or smaller sizes in the configuration where memory is short"
                ) from trouble

    try:
        yield ahead()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _draw(training: Training, number: int, device: str) -> Mapping[str, Tensor]:
    """The batch of a number."""
    with limited_threads(1):
        return training.subject.draw((training.seed, number), device)


def _draw_arrays(training: Training, number: int, device: str) -> dict[str, NDArray[Any]]:
    """The batch of a number as arrays, which travel through a pipe.

    Tensors would travel through shared memory, of which containers often have 64 MB, and keep a file open each.
    """
    return {name: part.numpy() for name, part in _draw(training, number, device).items()}


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
