"""The command that trains a model that comes with the package."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bbopt.cli_output import json_option, note, print_json

if TYPE_CHECKING:
    from surrogates.pfn.training import Record

__all__ = ["train"]


@click.group("train", short_help="Train a model that comes with bbopt.")
def train() -> None:
    """Train a model that comes with bbopt, from data drawn here; nothing is downloaded.

    \b
    Example:
      bbopt train pfn --config smoke --out smoke

    JSON: each command says what it prints with --json.
    """


@train.command("pfn", short_help="The prior-data fitted network.")
@click.option("--config", "-c", required=True, metavar="NAME|FILE", help="cpu, gpu, smoke, or a JSON file like theirs.")
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False, path_type=Path), help="The folder of the training.")  # fmt: skip
@click.option("--minutes", type=float, metavar="M", help="End after this long.  [default: the configuration's]")
@click.option("--steps", type=int, metavar="N", help="End after so many steps.  [default: the configuration's]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where to compute.  [default: the configuration's]")
@click.option("--seed", type=int, metavar="K", help="Of all random numbers.  [default: the configuration's]")
@click.option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
@json_option
def pfn(config: str, out: Path, minutes: float | None, steps: int | None, device: str | None, seed: int | None,
        quiet: bool, as_json: bool) -> None:  # fmt: skip
    """Train the prior-data fitted network on random tasks, for a number of steps or minutes, whichever ends first.

    The gap is the distance to the exact Gaussian process with the true hyperparameters, in nats per predicted value, which
    no model can bring to 0; quiet is the gap where data are noise-free. Every line of progress is also in OUT/log.jsonl.
    Ctrl-C and the same command later go on where it stopped. With --minutes or --steps the configuration's own end is
    replaced. Several GPUs or processes: torchrun --nproc-per-node N -m bbopt.cli train pfn ...

    \b
    Examples:
      bbopt train pfn --config smoke --out smoke
      bbopt train pfn --config cpu --out net --minutes 100
      bbopt train pfn --config gpu --out net

    JSON: weights (path of the finished file), steps, seconds and last (the last line of the log, or null).
    """
    try:
        from surrogates.pfn.recipe import Training, configuration
        from surrogates.pfn.training import train as run
        from surrogates.pfn.weights import load_tensors
    except ModuleNotFoundError as missing:
        from bbopt.errors import MissingPackage

        raise MissingPackage(f"training needs torch and safetensors ({missing}); pip install 'bbopt[pfn]'") from missing

    data = configuration(config)
    if minutes is not None or steps is not None:
        data |= {"minutes": minutes, "steps": steps}
    data |= {name: value for name, value in (("device", device), ("seed", seed)) if value is not None}
    training = Training.from_json(data)
    first_process = os.environ.get("RANK", "0") == "0"  # of those that torchrun starts; the others say nothing
    last: list[Record] = []
    try:
        with _progress(quiet or not first_process) as show:

            def report(record: Record) -> None:
                last[:] = [record]
                show(record)

            weights = run(training, out, report)
    except KeyboardInterrupt:
        if first_process:
            note(f"what was learnt is safe in {out}; the same command goes on from here")
        raise
    if not first_process:
        return
    header = load_tensors(weights)[1]
    if as_json:
        print_json({"weights": str(weights), "steps": header["steps"], "seconds": header["seconds"],
                    "last": asdict(last[0]) if last else None})  # fmt: skip
    else:
        click.echo(f"{header['steps']} steps in {_time(header['seconds'])}; the weights: {weights}")


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[Record], None]]:
    """What shows a line of the log: nothing, a bar on a terminal, a line of text elsewhere; on standard error."""
    if quiet:
        yield lambda record: None
    elif not sys.stderr.isatty():
        yield lambda record: note(f"step {record.step}: {_text(record)}, {record.share:.0%} done, {_left(record)} left")
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

            def show(record: Record) -> None:
                text = f"{_left(record)} left, {_text(record)}"
                bar.update(line, completed=record.share, description=f"step {record.step}", text=text)

            yield show


def _text(record: Record) -> str:
    parts = {"loss": record.loss, "gap": record.gap, "quiet": record.gap_quiet}
    return ", ".join(f"{name} {'-' if math.isnan(value) else f'{value:.3f}'}" for name, value in parts.items())


def _left(record: Record) -> str:
    """The time that is left if it goes on as it went."""
    return _time(record.seconds * (1.0 - record.share) / max(record.share, 1e-9))


def _time(seconds: float) -> str:
    """Seconds as people say them.

    >>> _time(4.2), _time(125), _time(7300)
    ('4 s', '2 min 5 s', '2 h 1 min')
    """
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
