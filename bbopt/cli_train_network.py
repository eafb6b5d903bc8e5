"""The command that trains a network by finite differences: `bbopt train network`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bbopt.cli_output import json_option, note, plain, print_json
from bbopt.cli_train import duration, progress, torch_needed

if TYPE_CHECKING:
    from bbopt.zeroth_order.training.record import Record

__all__ = ["network"]


@click.command("network", short_help="A network by finite differences, as DeepZero does.")
@click.option("--config", "-c", required=True, metavar="NAME|FILE", help="smoke, digits-mlp, digits-cnn, digits-resnet20, cifar10-resnet20, or a JSON file like theirs.")  # fmt: skip
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False, path_type=Path), help="The folder of the training.")  # fmt: skip
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="The folder that holds CIFAR-10.")  # fmt: skip
@click.option("--epochs", type=int, metavar="N", help="Passes over the data.  [default: the configuration's]")
@click.option("--estimate", type=click.Choice(["cge", "rge", "first-order"]), help="How gradients are made.  [default: the configuration's]")  # fmt: skip
@click.option("--keep", type=float, metavar="SHARE", help="Of the weights, those that a step moves.  [default: the configuration's]")  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where to compute.  [default: the configuration's]")
@click.option("--workers", type=int, metavar="N", help="Workers on Ray for the forward passes.  [default: the configuration's]")  # fmt: skip
@click.option("--seed", type=int, metavar="K", help="Of all random numbers.  [default: the configuration's]")
@click.option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
@json_option
def network(config: str, out: Path, data: Path | None, epochs: int | None, estimate: str | None, keep: float | None,
            device: str | None, workers: int | None, seed: int | None, quiet: bool, as_json: bool) -> None:  # fmt: skip
    """Train a network from forward passes alone: finite differences along every coordinate, or along those of a mask.

    A query is one forward pass of a batch. Every line of progress is also in OUT/log.jsonl; OUT/weights.safetensors holds
    the weights in the end, and OUT/training.png accuracy and loss against queries. Ctrl-C and the same command later go on
    where it stopped, as if it had not. Nothing is downloaded: digits come with scikit-learn, CIFAR-10 is read from --data.

    \b
    Examples:
      bbopt train network --config smoke --out smoke
      bbopt train network --config digits-mlp --out mlp
      bbopt train network --config digits-mlp --out backpropagation --estimate first-order
      bbopt train network --config cifar10-resnet20 --data ~/cifar-10-batches-bin --out resnet --device cuda

    JSON: weights, picture (paths), steps, seconds, queries, accuracy and test_loss (on the test examples), and last (the
    last line of the log, or null).
    """
    with torch_needed("network"):
        from bbopt.train_network import train_network
        from bbopt.train_network_picture import PICTURE, draw
        from bbopt.zeroth_order.training.loop import WEIGHTS
        from bbopt.zeroth_order.training.recipe import Recipe, named

    fields = _replaced(named(config), [("epochs", epochs), ("seed", seed), ("estimate.kind", estimate),
                                       ("sparsity.keep", keep), ("machine.device", device), ("machine.workers", workers)])  # fmt: skip
    if estimate not in (None, "cge"):
        fields |= {"check": 0}  # of a gradient by coordinates, which is not to be made
    recipe = Recipe.from_json(fields)
    last: list[Record] = []
    try:
        with progress(quiet, _text) as show:

            def report(record: Record) -> None:
                last[:] = [record]
                show(record)

            trained = train_network(recipe, out, data, report)
    except KeyboardInterrupt:
        note(f"what was learnt is safe in {out}; the same command goes on from here")
        raise
    draw(out)
    if as_json:
        print_json({"weights": str(out / WEIGHTS), "picture": str(out / PICTURE), "steps": trained.steps,
                    "seconds": trained.seconds, "queries": trained.queries, "accuracy": trained.score.accuracy,
                    "test_loss": trained.score.loss, "last": last[0].to_json() if last else None})  # fmt: skip
    else:
        click.echo(f"{trained.score.accuracy:.2%} of the test examples right after {trained.queries:,} queries in"
                   f" {trained.steps} steps, {duration(trained.seconds)}; the weights: {out / WEIGHTS}")  # fmt: skip


def _replaced(fields: dict[str, Any], options: list[tuple[str, Any]]) -> dict[str, Any]:
    """A configuration with the options that are given; a dot leads into a part of it.

    >>> _replaced({"epochs": 2, "estimate": {"radius": 0.1}}, [("epochs", None), ("estimate.kind", "rge")])
    {'epochs': 2, 'estimate': {'radius': 0.1, 'kind': 'rge'}}
    """
    for name, value in options:
        part, _, inner = name.rpartition(".")
        if value is not None:
            fields = {**fields, part: {**fields.get(part, {}), inner: value}} if part else {**fields, name: value}
    return fields


def _text(record: Record) -> str:
    numbers = plain(record.to_json())
    parts = [f"epoch {record.epoch:.1f}", f"loss {record.loss:.3f}", f"{record.queries:,} queries"]
    parts += [f"accuracy {record.accuracy:.2%}"] if numbers["accuracy"] is not None else []
    parts += [f"error of the gradient {record.error:.1%}"] if numbers["error"] is not None else []
    return ", ".join(parts)
