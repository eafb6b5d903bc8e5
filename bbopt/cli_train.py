"""The commands that train the models that come with the package: one per model, all with the same options and the same run."""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

from bbopt.cli_output import json_option, note, print_json

if TYPE_CHECKING:
    from surrogates.training.loop import Record
    from surrogates.training.subject import Subject

__all__ = ["duration", "progress", "torch_needed", "train"]


@click.group("train", short_help="Train a model that comes with bbopt, or a network by finite differences.")
def train() -> None:
    """Train a model that comes with bbopt, from data drawn here, or a network by finite differences; nothing is downloaded.

    \b
    Examples:
      bbopt train pfn --config smoke --out smoke
      bbopt train amortised --config smoke --out smoke
      bbopt train network --config smoke --out smoke

    JSON: each command says what it prints with --json.
    """


@dataclass(frozen=True)
class Call:
    """What a command is called with."""

    config: str
    out: Path
    minutes: float | None
    steps: int | None
    device: str | None
    seed: int | None
    quiet: bool
    as_json: bool


def _with_options(command: Callable[[Call], None]) -> Callable[..., None]:
    """The options of a command that trains."""

    @click.option("--config", "-c", required=True, metavar="NAME|FILE", help="cpu, gpu, smoke, or a JSON file like theirs.")  # fmt: skip
    @click.option("--out", "-o", required=True, type=click.Path(file_okay=False, path_type=Path), help="The folder of the training.")  # fmt: skip
    @click.option("--minutes", type=float, metavar="M", help="End after this long.  [default: the configuration's]")
    @click.option("--steps", type=int, metavar="N", help="End after so many steps.  [default: the configuration's]")
    @click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where to compute.  [default: the configuration's]")  # fmt: skip
    @click.option("--seed", type=int, metavar="K", help="Of all random numbers.  [default: the configuration's]")
    @click.option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
    @json_option
    @functools.wraps(command)
    def called(config: str, out: Path, minutes: float | None, steps: int | None, device: str | None, seed: int | None,
               quiet: bool, as_json: bool) -> None:  # fmt: skip
        command(Call(config, out, minutes, steps, device, seed, quiet, as_json))

    return called


@train.command("pfn", short_help="The prior-data fitted network.")
@_with_options
def pfn(call: Call) -> None:
    """Train the prior-data fitted network on random tasks, for a number of steps or minutes, whichever ends first.

    The gap is the distance to the exact Gaussian process with the true hyperparameters, in nats per predicted value, which
    no model can bring to 0; gap latent is that of noise-free values, gap quiet the one where data are noise-free. Every
    line of progress is also in OUT/log.jsonl. Ctrl-C and the same command later go on where it stopped. With --minutes or
    --steps the configuration's own end is replaced. Several GPUs or processes: torchrun --nproc-per-node N -m bbopt.cli
    train pfn ...

    \b
    Examples:
      bbopt train pfn --config smoke --out smoke
      bbopt train pfn --config cpu --out net --minutes 100
      bbopt train pfn --config gpu --out net

    JSON: weights (path of the finished file), steps, seconds and last (the last line of the log, or null).
    """
    with torch_needed():
        from surrogates.pfn.subject import PFNSubject
    _run(PFNSubject, call)


@train.command("amortised", short_help="The network that reads a Gaussian process's hyperparameters off data.")
@_with_options
def amortised(call: Call) -> None:
    """Train the network that gives a Gaussian process its hyperparameters, for a number of steps or minutes.

    Gains are nats by which the true hyperparameters are more likely given the data than before it, for data sets of few
    and of many rows. Every line of progress is also in OUT/log.jsonl. Ctrl-C and the same command later go on where it
    stopped. With --minutes or --steps the configuration's own end is replaced. Several GPUs or processes: torchrun
    --nproc-per-node N -m bbopt.cli train amortised ...

    \b
    Examples:
      bbopt train amortised --config smoke --out smoke
      bbopt train amortised --config cpu --out net --minutes 100
      bbopt train amortised --config gpu --out net

    JSON: weights (path of the finished file), steps, seconds and last (the last line of the log, or null).
    """
    with torch_needed():
        from surrogates.amortised.subject import AmortisedSubject
    _run(AmortisedSubject, call)


@contextmanager
def torch_needed(extra: str = "pfn") -> Iterator[None]:
    """Raises MissingPackage, with the extra to install, where the packages that training needs are not installed."""
    try:
        yield
    except ModuleNotFoundError as missing:
        from bbopt.errors import MissingPackage

        raise MissingPackage(
            f"training needs torch and safetensors ({missing}); pip install 'bbopt[{extra}]'"
        ) from missing


def _run(kind: type[Subject], call: Call) -> None:
    """Train a kind of subject."""
    with torch_needed():
        from surrogates.training.loop import train as run
        from surrogates.training.recipe import Training, configs_of, configuration
        from surrogates.training.weights import load_tensors

    data = configuration(call.config, configs_of(kind))
    if call.minutes is not None or call.steps is not None:
        data |= {"minutes": call.minutes, "steps": call.steps}
    data |= {name: value for name, value in (("device", call.device), ("seed", call.seed)) if value is not None}
    training = Training.from_json(data, kind)
    first_process = os.environ.get("RANK", "0") == "0"  # of those that torchrun starts; the others say nothing
    last: list[Record] = []
    try:
        with progress(call.quiet or not first_process, _text) as show:

            def report(record: Record) -> None:
                last[:] = [record]
                show(record)

            weights = run(training, call.out, report)
    except KeyboardInterrupt:
        if first_process:
            note(f"what was learnt is safe in {call.out}; the same command goes on from here")
        raise
    if not first_process:
        return
    header = load_tensors(weights)[1]
    if call.as_json:
        print_json({"weights": str(weights), "steps": header["steps"], "seconds": header["seconds"],
                    "last": last[0].to_json() if last else None})  # fmt: skip
    else:
        click.echo(f"{header['steps']} steps in {duration(header['seconds'])}; the weights: {weights}")


class Line(Protocol):
    """What a training says of itself: the step, the share of the training that is done, and the seconds it took."""

    @property
    def step(self) -> int: ...
    @property
    def share(self) -> float: ...
    @property
    def seconds(self) -> float: ...


L = TypeVar("L", bound=Line)


@contextmanager
def progress(quiet: bool, words: Callable[[L], str]) -> Iterator[Callable[[L], None]]:
    """What shows a line of the log, with its numbers in words: nothing, a bar on a terminal, a line of text elsewhere; on
    standard error."""
    if quiet:
        yield lambda record: None
    elif not sys.stderr.isatty():
        yield lambda record: note(f"step {record.step}: {words(record)}, {record.share:.0%} done, {_left(record)} left")
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            line = bar.add_task("train", total=1.0, text="")

            def show(record: L) -> None:
                text = f"{_left(record)} left, {words(record)}"
                bar.update(line, completed=record.share, description=f"step {record.step}", text=text)

            yield show


def _text(record: Record) -> str:
    parts = {"loss": record.loss, **record.numbers}
    return ", ".join(
        f"{name.replace('_', ' ')} {'-' if math.isnan(value) else f'{value:.3f}'}" for name, value in parts.items()
    )


def _left(record: Line) -> str:
    """The time that is left if it goes on as it went."""
    return duration(record.seconds * (1.0 - record.share) / max(record.share, 1e-9))


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(4.2), duration(125), duration(7300)
    ('4 s', '2 min 5 s', '2 h 1 min')
    """
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
