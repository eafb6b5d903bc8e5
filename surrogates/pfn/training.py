"""The training loop: draws batches, follows the gradient, keeps a moving average of the weights, can stop and go on.

Batch number i is a function of (seed, i) alone, so a run that was stopped and resumed is the run that was not, and so
are runs with other numbers of batch workers. AdamW (Loshchilov and Hutter 2019) with warm-up and a cosine that follows
whichever is further, steps or time; gradients clipped at norm 1. Started under `torchrun`, every process takes its own
batches and gradients are averaged over processes.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, multiprocessing

from bbopt.errors import UsageError
from surrogates.pfn.lessons import Batch, Sizes, draw_batch, score
from surrogates.pfn.network import Network, Shape
from surrogates.pfn.weights import load_tensors, save_tensors, save_weights
from surrogates.prior import Prior

AVERAGE = 0.999
AHEAD = 6  # batches per worker drawn before they are needed
CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
LOG = "log.jsonl"


@dataclass(frozen=True)
class Training:
    """A whole training run, as JSON: what is drawn, the network, the schedule, the machine.

    steps, minutes: the end, whichever comes first; at least one is needed. rate: highest learning rate. threads: of the
    process that follows the gradient. workers: processes that draw batches (0: none). every: steps per log line.
    """

    prior: Prior = Prior()
    sizes: Sizes = Sizes()
    shape: Shape = Shape()
    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    rate: float = 1e-3
    decay: float = 0.01
    warmup: int = 200
    device: str = "cpu"
    threads: int = 1
    workers: int = 1
    every: int = 50
    save_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise UsageError("Training: expected steps or minutes (or both) as its end, got neither")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Training:
        """From a mapping of the fields, with mappings for prior, sizes and shape. Raises UsageError for unknown names."""
        parts: dict[str, Any] = {"prior": Prior, "sizes": Sizes, "shape": Shape}
        return _build(cls, {**data, **{name: _build(kind, data[name]) for name, kind in parts.items() if name in data}})

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / (60.0 * self.minutes) if self.minutes else 0.0
        return min(max(by_steps, by_time), 1.0)

    def learning_rate(self, step: int, seconds: float) -> float:
        """Of one step: linear warm-up, then a cosine down to 2 %."""
        cosine = 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * self.progress(step, seconds)))
        return self.rate * cosine * min(1.0, (step + 1) / self.warmup)


def _build(kind: Any, data: Mapping[str, Any]) -> Any:
    known = {each.name for each in dataclasses.fields(kind)}
    if wrong := sorted(set(data) - known):
        raise UsageError(f"{kind.__name__}: expected names of {', '.join(sorted(known))}; got {', '.join(wrong)}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in data.items()})


@dataclass(frozen=True)
class Record:
    """A line of the log: averages over the steps since the last one. Gaps are above the oracle, in nats per point."""

    step: int
    seconds: float
    loss: float
    gap: float
    gap_latent: float
    gap_quiet: float
    gradient: float
    rate: float


@dataclass
class _Run:
    """What changes while training."""

    network: Network
    optimizer: torch.optim.AdamW
    average: dict[str, Tensor]
    step: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)


def train(training: Training, folder: Path, report: Callable[[Record], None] = lambda record: None) -> Path:
    """Train, or go on with the training in `folder`; returns the path of the finished weights.

    report: called with every line of the log. KeyboardInterrupt leaves a checkpoint from which the same call goes on.
    Raises UsageError where the folder holds a training of another configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rank, world = _join()
    device = f"cuda:{rank}" if training.device == "cuda" else training.device
    run = _start(training, folder, device)
    saved = time.monotonic()
    with _threads(training.threads), _batches(training, run.step, rank, world, device) as batches:
        try:
            began = time.monotonic()
            while training.progress(run.step, run.seconds) < 1.0:
                _step(training, run, next(batches), rank, world)
                now = time.monotonic()
                run.seconds, began = run.seconds + now - began, now
                if run.step % training.every == 0 and rank == 0:
                    _log(training, run, folder, report)
                if time.monotonic() - saved > training.save_seconds and rank == 0:
                    _save(training, run, folder)
                    saved = time.monotonic()
        finally:
            if rank == 0:
                _save(training, run, folder)
    if rank == 0:
        averaged = Network(training.shape)
        averaged.load_state_dict(run.average)
        facts = {"training": dataclasses.asdict(training), "steps": run.step, "seconds": round(run.seconds)}
        save_weights(folder / WEIGHTS, averaged, facts)
    return folder / WEIGHTS


def _step(training: Training, run: _Run, batch: Batch, rank: int, world: int) -> None:
    rate = training.learning_rate(run.step, run.seconds)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    generator = torch.Generator().manual_seed((training.seed * 1_000_003 + run.step) * 64 + rank)
    jitter = torch.randn(*batch.oracle.shape, generator=generator, dtype=batch.z.dtype).to(batch.z.device)
    with torch.autocast("cuda", torch.bfloat16, enabled=batch.z.is_cuda):
        losses, gaps = score(run.network, batch, jitter)
    loss = losses.mean()
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if world > 1:
        for part in run.network.parameters():
            if part.grad is not None:
                torch.distributed.all_reduce(part.grad)
                part.grad /= world
    norm = float(torch.nn.utils.clip_grad_norm_(run.network.parameters(), 1.0))
    if math.isfinite(norm):
        run.optimizer.step()
    run.step += 1
    keep = min(AVERAGE, run.step / (run.step + 10.0))
    with torch.no_grad():
        for name, part in run.network.state_dict().items():
            run.average[name].lerp_(part, 1.0 - keep)
    quiet = (batch.anchors.noise[:, 0] < 1e-5)[:, None].expand(gaps.shape[:2])
    for name, value in {
        "loss": loss.detach(), "gap": gaps[..., 1].nanmean(), "gap_latent": gaps[..., 0].nanmean(),
        "gap_quiet": gaps[..., 1][quiet].nanmean(), "gradient": torch.tensor(norm),
    }.items():  # fmt: skip
        number = float(value)
        if math.isfinite(number):
            run.sums[name] = run.sums.get(name, 0.0) + number
            run.sums[name + " count"] = run.sums.get(name + " count", 0.0) + 1.0


def _log(training: Training, run: _Run, folder: Path, report: Callable[[Record], None]) -> None:
    def mean(name: str) -> float:
        count = run.sums.get(name + " count", 0.0)
        return run.sums[name] / count if count else math.nan

    names = ("loss", "gap", "gap_latent", "gap_quiet", "gradient")
    record = Record(run.step, run.seconds, *map(mean, names), training.learning_rate(run.step, run.seconds))
    run.sums.clear()
    with (folder / LOG).open("a") as file:
        file.write(json.dumps(dataclasses.asdict(record)) + "\n")
    report(record)


def _start(training: Training, folder: Path, device: str) -> _Run:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = Network(training.shape)
    network = network.to(device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=training.rate, betas=(0.9, 0.98), weight_decay=training.decay
    )
    run = _Run(network, optimizer, {name: part.clone() for name, part in network.state_dict().items()})
    path = folder / CHECKPOINT
    if not path.exists():
        return run
    tensors, header = load_tensors(path)
    lasting = {"steps", "minutes", "threads", "workers", "device", "every", "save_seconds"}
    mine = json.loads(json.dumps(dataclasses.asdict(training)))
    if other := [name for name in mine if name not in lasting and mine[name] != header["training"].get(name)]:
        raise UsageError(
            f"{folder} holds a training with another {', '.join(other)}; give the same configuration, or another folder"
        )
    network.load_state_dict({name: tensors["weights." + name] for name in network.state_dict()})
    run.average = {name: tensors["average." + name].to(device) for name in run.average}
    run.step, run.seconds = header["step"], header["seconds"]
    for name, part in network.named_parameters():
        optimizer.state[part] = {
            "step": torch.tensor(float(run.step)),
            "exp_avg": tensors["first." + name].to(device),
            "exp_avg_sq": tensors["second." + name].to(device),
        }
    return run


def _save(training: Training, run: _Run, folder: Path) -> None:
    tensors = {"weights." + name: part.detach().cpu().clone() for name, part in run.network.state_dict().items()}
    tensors |= {"average." + name: part.cpu().clone() for name, part in run.average.items()}
    for name, part in run.network.named_parameters():
        if state := run.optimizer.state.get(part):
            tensors["first." + name], tensors["second." + name] = state["exp_avg"].cpu(), state["exp_avg_sq"].cpu()
    if run.step:
        header = {"training": dataclasses.asdict(training), "step": run.step, "seconds": run.seconds}
        save_tensors(folder / CHECKPOINT, tensors, header)


def _draw(training: Training, index: int, device: str) -> Batch:
    """The batch of a number."""
    with _threads(1):
        return draw_batch(training.prior, training.sizes, training.shape.anchors, (training.seed, index), device)


@contextmanager
def _batches(training: Training, step: int, rank: int, world: int, device: str) -> Iterator[Iterator[Batch]]:
    """The batches of this process from a step on, without end, drawn ahead by the workers."""
    numbers = itertools.count(step * world + rank, world)
    if training.workers == 0 or device.startswith("cuda"):
        yield (_draw(training, number, device) for number in numbers)
        return
    pool = ProcessPoolExecutor(training.workers, multiprocessing.get_context("spawn"), _ignore_interrupt)
    waiting: deque[Future[Batch]] = deque()

    def ahead() -> Iterator[Batch]:
        while True:
            while len(waiting) < AHEAD * training.workers:
                waiting.append(pool.submit(_draw, training, next(numbers), device))
            yield waiting.popleft().result()

    try:
        yield ahead()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupt() -> None:
    """Ctrl-C is for the process that trains; workers end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _join() -> tuple[int, int]:
    """Rank and number of processes; joins the group where `torchrun` started several."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return int(os.environ.get("LOCAL_RANK", "0")), world


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
