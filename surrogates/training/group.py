"""One process or many: who is first, what they agree on, and how they are asked to stop."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch
from torch import Tensor

from bbopt.errors import UsageError

__all__ = ["Group", "Interruption", "joined", "stopping"]

PATIENCE = 3  # signals after which a run that does not come to its next step is broken off


@dataclass(frozen=True)
class Group:
    """The processes that train together. rank: of this one, 0 to world - 1. device: where this one computes.

    >>> Group(0, 1, "cpu").agree(3, 1.5, False)
    (1.5, False)
    """

    rank: int
    world: int
    device: str

    @property
    def first(self) -> bool:
        """Whether this process keeps the log, the checkpoints and the weights."""
        return self.rank == 0

    def agree(self, step: int, seconds: float, interrupted: bool) -> tuple[float, bool]:
        """The seconds of training, and whether to stop, as the first process sees them.

        Raises UsageError where processes are at different steps, because they see different folders.
        """
        if self.world == 1:
            return seconds, interrupted
        theirs = torch.tensor([float(step), seconds, float(interrupted)], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(theirs, 0)
        if int(theirs[0]) != step:
            raise UsageError(
                f"expected every process at step {int(theirs[0])}, process {self.rank} is at {step}; give all of them"
                " the same folder, on a disk that all of them see"
            )
        return float(theirs[1]), bool(theirs[2])

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over processes."""
        if self.world > 1:
            for part in tensors:
                torch.distributed.all_reduce(part)
                part /= self.world


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """The group that `torchrun` started, or this process alone. Raises UsageError where there is no GPU to use."""
    world, rank, local = (int(os.environ.get(name, default)) for name, default in
                          (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0")))  # fmt: skip
    if device == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if found <= local:
            raise UsageError(
                f"device cuda: expected a GPU that torch can use for each process of this machine, found {found};"
                " train with --device cpu, start fewer processes, or install a torch that is built for the GPU"
            )
        torch.cuda.set_device(local)
    group = Group(rank, world, f"cuda:{local}" if device == "cuda" else device)
    joins = world > 1 and not torch.distributed.is_initialized()
    if joins:
        # Its functions take the group of the moment of their import as a default, and torch.optim imports it: after the
        # group began it would keep the group, and gloo's threads that abort a process as it ends, beyond the destruction.
        importlib.import_module("torch.distributed.nn.functional")
        torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield group
    finally:
        if joins:
            torch.distributed.destroy_process_group()


@dataclass
class Interruption:
    """asked: whether somebody wants the run to stop at its next step."""

    asked: bool = False


@contextmanager
def stopping() -> Iterator[Interruption]:
    """Inside, SIGINT and SIGTERM are noted, and only the third breaks off what is being done; before and after as always.

    In a thread other than the main one, which hears no signals, nothing changes.
    """
    noted, count = Interruption(), 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal count
        noted.asked, count = True, count + 1
        if count >= PATIENCE:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
