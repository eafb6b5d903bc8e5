"""The training loop: draws batches, follows the gradient, keeps a moving average of the weights, can stop and go on.

Batch number i is a function of (seed, i) alone, so a run that was stopped and resumed is the run that was not, and so
are runs with other numbers of batch workers (where time ends the run, the learning rate depends on the clock). AdamW
(Loshchilov and Hutter 2019) with warm-up and a cosine; gradients clipped at norm 1. Started under `torchrun`, every
process takes its own batches and gradients are averaged over processes; the first process decides on the time, the
learning rate and the end, so that all take the same steps.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from surrogates.pfn.batches import batches
from surrogates.pfn.checkpoint import load_checkpoint, save_checkpoint
from surrogates.pfn.group import Group, Interruption, joined, stopping
from surrogates.pfn.lessons import Batch, score
from surrogates.pfn.network import Network
from surrogates.pfn.recipe import Training
from surrogates.pfn.threads import limited_threads
from surrogates.pfn.weights import save_weights

__all__ = ["LOG", "WEIGHTS", "Record", "train"]

AVERAGE = 0.999
QUIET = 1e-5  # noise of the best anchor below which a task counts as noise-free
WEIGHTS = "weights.safetensors"
LOG = "log.jsonl"


@dataclass(frozen=True)
class Record:
    """A line of the log: averages over the steps since the last one. Gaps are above the oracle, in nats per point.

    gap is that of told values, gap_latent of noise-free ones, gap_quiet of told ones where data sets look noise-free.
    seconds: of training, over all sessions. share: of the run that is done.
    """

    step: int
    seconds: float
    share: float
    loss: float
    gap: float
    gap_latent: float
    gap_quiet: float
    gradient: float
    rate: float


@dataclass
class Run:
    """What changes while training; `midway` while an update is being made, when it cannot be saved."""

    network: Network
    optimizer: torch.optim.AdamW
    average: dict[str, torch.Tensor]
    step: int = 0
    seconds: float = 0.0
    midway: bool = False
    sums: dict[str, float] = field(default_factory=dict)


def train(training: Training, folder: Path, report: Callable[[Record], None] = lambda record: None) -> Path:
    """Train, or go on with the training in `folder`; returns the path of the finished weights.

    report: called with every line of the log, by the first process. Raises KeyboardInterrupt after SIGINT or SIGTERM,
    at the next step, with a checkpoint from which the same call goes on; UsageError where the folder holds a training of
    another configuration or where there is no GPU; BboptError where a process that draws batches dies.

    >>> import tempfile
    >>> from surrogates.pfn.recipe import configuration
    >>> training = Training.from_json({**configuration("smoke"), "steps": 2})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     train(training, Path(folder)).name
    'weights.safetensors'
    """
    with joined(training.device) as group, limited_threads(training.threads), stopping() as interruption:
        folder.mkdir(parents=True, exist_ok=True)
        run = _start(training, folder, group)
        source = batches(training, run.step * group.world + group.rank, group.world, group.device)
        with source as drawn:
            try:
                _follow(training, run, folder, group, interruption, drawn.__next__, report)
            finally:
                if group.first and not run.midway:
                    save_checkpoint(training, run, folder)
        if interruption.asked and training.progress(run.step, run.seconds) < 1.0:
            raise KeyboardInterrupt
        if group.first:
            averaged = copy.deepcopy(run.network)
            averaged.load_state_dict(run.average)
            facts = {"training": training.to_json(), "steps": run.step, "seconds": round(run.seconds)}
            save_weights(folder / WEIGHTS, averaged, facts)
    return folder / WEIGHTS


def _follow(
    training: Training, run: Run, folder: Path, group: Group, interruption: Interruption,
    draw: Callable[[], Batch], report: Callable[[Record], None],
) -> None:  # fmt: skip
    """Steps until the first process says that it is enough."""
    began = saved = time.monotonic()
    while True:
        now = time.monotonic()
        run.seconds, began = run.seconds + now - began, now
        run.seconds, interrupted = group.agree(run.step, run.seconds, interruption.asked)
        interruption.asked = interrupted
        if interrupted or training.progress(run.step, run.seconds) >= 1.0:
            return
        _step(training, run, draw(), group)
        if not group.first:
            continue
        if run.step % training.every == 0:
            _log(training, run, folder, report)
        if time.monotonic() - saved > training.save_seconds:
            save_checkpoint(training, run, folder)
            saved = time.monotonic()


def _step(training: Training, run: Run, batch: Batch, group: Group) -> None:
    """One step along the gradient of one batch (per process)."""
    for part in run.optimizer.param_groups:
        part["lr"] = training.learning_rate(run.step, run.seconds)
    generator = torch.Generator().manual_seed((training.seed * 1_000_003 + run.step) * 64 + group.rank)
    jitter = torch.randn(*batch.oracle.shape, generator=generator, dtype=batch.z.dtype).to(batch.z.device)
    with torch.autocast("cuda", torch.bfloat16, enabled=batch.z.is_cuda):
        losses, gaps = score(run.network, batch, jitter, training.blur(run.step, run.seconds))
    loss = losses.mean()
    run.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    group.average([part.grad for part in run.network.parameters() if part.grad is not None])
    norm = float(torch.nn.utils.clip_grad_norm_(run.network.parameters(), 1.0))
    run.midway = True
    if math.isfinite(norm):
        run.optimizer.step()
    run.step += 1
    keep = min(AVERAGE, run.step / (run.step + 10.0))
    with torch.no_grad():
        for name, value in run.network.state_dict().items():
            run.average[name].lerp_(value, 1.0 - keep)
    run.midway = False
    quiet = (batch.anchors.noise[:, 0] < QUIET)[:, None].expand(gaps.shape[:2])
    for name, average in {
        "loss": loss.detach(), "gap": gaps[..., 1].nanmean(), "gap_latent": gaps[..., 0].nanmean(),
        "gap_quiet": gaps[..., 1][quiet].nanmean(), "gradient": torch.tensor(norm),
    }.items():  # fmt: skip
        number = float(average)
        if math.isfinite(number):
            run.sums[name] = run.sums.get(name, 0.0) + number
            run.sums[name + " count"] = run.sums.get(name + " count", 0.0) + 1.0


def _log(training: Training, run: Run, folder: Path, report: Callable[[Record], None]) -> None:
    """One line in the log, and to whoever wants to hear of it."""

    def mean(name: str) -> float:
        count = run.sums.get(name + " count", 0.0)
        return run.sums[name] / count if count else math.nan

    record = Record(
        step=run.step, seconds=run.seconds, share=training.progress(run.step, run.seconds), loss=mean("loss"),
        gap=mean("gap"), gap_latent=mean("gap_latent"), gap_quiet=mean("gap_quiet"), gradient=mean("gradient"),
        rate=training.learning_rate(run.step, run.seconds),
    )  # fmt: skip
    run.sums.clear()
    line = {name: None if value != value else value for name, value in dataclasses.asdict(record).items()}
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    report(record)


def _start(training: Training, folder: Path, group: Group) -> Run:
    """A run at its beginning, or where the checkpoint in the folder left it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(training.seed)
        network = Network(training.shape)
    network = network.to(group.device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=training.rate, betas=(0.9, 0.98), weight_decay=training.decay
    )
    run = Run(network, optimizer, {name: part.clone() for name, part in network.state_dict().items()})
    load_checkpoint(training, run, folder)
    if group.first:
        _cut_log(folder / LOG, run.step)
    return run


def _cut_log(path: Path, step: int) -> None:
    """Without the lines of steps that will be taken again: a killed run logs further than it saves."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        path.write_text("".join(kept), encoding="utf-8")
