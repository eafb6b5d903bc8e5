"""The training loop: draws batches, follows the gradient, keeps a moving average of the weights, can stop and go on.

Batch number i is a function of (seed, i) alone, so a run that was stopped and resumed is the run that was not, and so
are runs with other numbers of batch workers (where time ends the run, the learning rate depends on the clock). AdamW
(Loshchilov and Hutter 2019) with warm-up and a cosine; gradients clipped at norm 1. Started under `torchrun`, every
process takes its own batches and gradients are averaged over processes; the first process decides on the time, the
learning rate and the end, so that all take the same steps.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from surrogates.training.batches import batches
from surrogates.training.checkpoint import load_checkpoint, save_checkpoint
from surrogates.training.group import Group, Interruption, joined, stopping
from surrogates.training.recipe import Training
from surrogates.training.threads import limited_threads
from surrogates.training.weights import save_weights

__all__ = ["LOG", "WEIGHTS", "Record", "train"]

AVERAGE = 0.999
WEIGHTS = "weights.safetensors"
LOG = "log.jsonl"
COUNT = " count"  # ends the names of numbers of steps, among sums over steps


@dataclass(frozen=True)
class Record:
    """A line of the log: averages over the steps since the last one, NaN where there was no finite number.

    seconds: of training, over all sessions. share: of the run that is done. gradient: norm before it is clipped. rate: of
    learning. numbers: those of the subject.
    """

    step: int
    seconds: float
    share: float
    loss: float
    gradient: float
    rate: float
    numbers: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As it stands in the log: the subject's numbers among the others, None where there is no number.

        >>> Record(2, 0.5, 1.0, 0.3, 1.2, 0.001, {"gap": math.nan}).to_json()
        {'step': 2, 'seconds': 0.5, 'share': 1.0, 'loss': 0.3, 'gap': None, 'gradient': 1.2, 'rate': 0.001}
        """
        line = {"step": self.step, "seconds": self.seconds, "share": self.share, "loss": self.loss, **self.numbers,
                "gradient": self.gradient, "rate": self.rate}  # fmt: skip
        return {name: None if math.isnan(value) else value for name, value in line.items()}


@dataclass
class Run:
    """What changes while training; `midway` while an update is being made, when it cannot be saved."""

    network: torch.nn.Module
    optimizer: torch.optim.AdamW
    average: dict[str, Tensor]
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
    >>> from surrogates.pfn.subject import PFNSubject
    >>> from surrogates.training.recipe import configs_of, configuration
    >>> smoke = configuration("smoke", configs_of(PFNSubject))
    >>> training = Training.from_json({**smoke, "steps": 2}, PFNSubject)
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
    draw: Callable[[], Mapping[str, Tensor]], report: Callable[[Record], None],
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


def _step(training: Training, run: Run, batch: Mapping[str, Tensor], group: Group) -> None:
    """One step along the gradient of one batch (per process)."""
    for part in run.optimizer.param_groups:
        part["lr"] = training.learning_rate(run.step, run.seconds)
    generator = torch.Generator().manual_seed((training.seed * 1_000_003 + run.step) * 64 + group.rank)
    progress = training.progress(run.step, run.seconds)
    losses, numbers = training.subject.learn(run.network, batch, generator, progress)
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
    for name, value in {"loss": loss, **numbers, "gradient": norm}.items():
        number = float(value.detach()) if isinstance(value, Tensor) else float(value)
        finite = math.isfinite(number)
        run.sums[name] = run.sums.get(name, 0.0) + (number if finite else 0.0)
        run.sums[name + COUNT] = run.sums.get(name + COUNT, 0.0) + float(finite)


def _log(training: Training, run: Run, folder: Path, report: Callable[[Record], None]) -> None:
    """One line in the log, and to whoever wants to hear of it."""
    means = {
        name: total / run.sums[name + COUNT] if run.sums[name + COUNT] else math.nan
        for name, total in run.sums.items()
        if not name.endswith(COUNT)
    }
    run.sums.clear()
    record = Record(
        step=run.step, seconds=run.seconds, share=training.progress(run.step, run.seconds), loss=means.pop("loss"),
        gradient=means.pop("gradient"), rate=training.learning_rate(run.step, run.seconds), numbers=means,
    )  # fmt: skip
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record.to_json()) + "\n")
    report(record)


def _start(training: Training, folder: Path, group: Group) -> Run:
    """A run at its beginning, or where the checkpoint in the folder left it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(training.seed)
        network = training.subject.network()
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
