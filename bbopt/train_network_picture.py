"""The picture of a training: loss and accuracy against queries, from its log."""

from __future__ import annotations

from pathlib import Path

from bbopt.report.theme import drawing, looks, number, png_bytes, tidy
from bbopt.zeroth_order.training.record import read

__all__ = ["PICTURE", "draw"]

PICTURE = "training.png"
WIDE = 8.0  # times that losses go down where a logarithmic scale shows more


def draw(folder: Path) -> Path:
    """Write `training.png` beside the log in a folder; returns its path."""
    from matplotlib.figure import Figure

    lines = read(folder)
    tests = [line for line in lines if line["accuracy"] is not None]
    train, test = looks(["training", "test"]).values()
    with drawing():
        figure = Figure(figsize=(7.2, 2.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot([line["queries"] for line in lines], [line["loss"] for line in lines], color=train.colour,
                  linestyle=train.linestyle, label="training batches")  # fmt: skip
        left.plot([line["queries"] for line in tests], [line["test_loss"] for line in tests], color=test.colour,
                  linestyle=test.linestyle, marker=test.marker, markersize=3, label="test")  # fmt: skip
        losses = [line["loss"] for line in lines] + [line["test_loss"] for line in tests]
        if max(losses) > WIDE * min(losses):
            left.set_yscale("log")
        else:
            left.set_ylim(bottom=0.0)
        left.set_ylabel("cross-entropy in nats")
        left.legend()
        right.plot([line["queries"] for line in tests], [100.0 * line["accuracy"] for line in tests], color=test.colour,
                   linestyle=test.linestyle, marker=test.marker, markersize=3)  # fmt: skip
        right.set_ylabel("test examples right, %")
        right.set_ylim(top=min(right.get_ylim()[1], 100.0))
        for axes in (left, right):
            axes.set_xlabel("queries: forward passes of a batch")
            axes.xaxis.set_major_formatter(lambda value, place: number(value))
            tidy(axes, "both")
        path = folder / PICTURE
        path.write_bytes(png_bytes(figure))
    return path
