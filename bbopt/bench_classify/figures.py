"""The figures of a comparison of classifiers: curves over the number of training rows, one line per model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bbopt.bench_classify.summary import Summary
from bbopt.report.theme import INK, MUTED, Look, empty, number, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "LABELS",
    "f1_figure",
    "f1_panel",
    "label",
    "rank_figure",
    "score_figure",
    "score_panel",
    "score_sheet",
    "sheet",
]

Floats = NDArray[np.float64]
Looks = Mapping[str, Look]
Panel = Callable[["Axes", Summary, Looks], None]
LABELS = {
    "f1": "F1",
    "auc": "area under the ROC curve",
    "log_loss": "log loss, nats",
    "calibration": "calibration error",
    "seconds": "CPU seconds, training and test",
}
BAND = 0.12  # opacity of the band of one standard error


def _curves(axes: Axes, summary: Summary, chosen: Looks, middle: Floats, error: Floats | None = None) -> None:
    """One line per model: middle (sizes, models), with a band of `error` on either side."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    sizes = np.array(summary.sizes, dtype=float)
    for place, name in enumerate(summary.models):
        there = np.isfinite(middle[:, place])
        look = chosen[name]
        if error is not None:
            low, high = middle[:, place] - error[:, place], middle[:, place] + error[:, place]
            axes.fill_between(sizes, low, high, where=there.tolist(), color=look.colour, alpha=BAND, linewidth=0)
        axes.plot(
            sizes[there], middle[there, place], color=look.colour, linestyle=look.linestyle, linewidth=1.5,
            marker=look.marker, markersize=3.4,
        )  # fmt: skip
    axes.set_xscale("log")
    if sizes[-1] > sizes[0]:
        axes.set_xlim(sizes[0] / 1.1, sizes[-1] * 1.1)
    axes.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 3)))
    tidy(axes)
    if not np.isfinite(middle).any():
        empty(axes, "no result yet")


def f1_panel(axes: Axes, summary: Summary, chosen: Looks, place: int) -> None:
    """Mean F1 of a data set with a band of one standard error of the mean."""
    count = np.maximum(np.isfinite(summary.cubes["f1"][place]).sum(axis=1), 1)
    error = np.nan_to_num(summary.deviation("f1")[place] / np.sqrt(count))
    _curves(axes, summary, chosen, summary.mean("f1")[place], error)
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])


def f1_figure(summary: Summary, chosen: Looks, place: int) -> Figure:
    """One data set as a small figure; margins are fixed, so that panels side by side line up."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.5, 2.3))
    axes = figure.add_axes((0.125, 0.165, 0.855, 0.8))
    f1_panel(axes, summary, chosen, place)
    axes.set_xlabel("training rows", labelpad=1.5)
    axes.set_ylabel("F1", labelpad=2)
    return figure


def sheet(summary: Summary, chosen: Looks) -> Figure:
    """F1 of all data sets on one figure with a legend, for the PNG file."""
    panels = [(label(name), partial(f1_panel, place=place)) for place, name in enumerate(summary.data)]
    return _sheet(summary, chosen, panels, "F1")


def score_sheet(summary: Summary, chosen: Looks) -> Figure:
    """The other measures, means over the data sets, on one figure with a legend, for the PNG file."""
    panels = [(text, partial(score_panel, measure=measure)) for measure, text in LABELS.items() if measure != "f1"]
    return _sheet(summary, chosen, panels, "mean over the data sets")


def _sheet(summary: Summary, chosen: Looks, panels: Sequence[tuple[str, Panel]], vertical: str) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    width, height = max(3.1 * columns + 0.2, 4.2), 2.35 * rows + 0.95
    figure = Figure(figsize=(width, height))
    edges = {"left": 0.75 / width, "right": 1 - 0.15 / width, "bottom": 0.55 / height, "top": 1 - 0.75 / height}
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw={**edges, "wspace": 0.24, "hspace": 0.34})
    for axes, (title, draw) in zip(grid.flat, panels, strict=False):
        draw(axes, summary, chosen)
        axes.set_title(title, loc="left", fontweight="bold")
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    handles = [
        Line2D(
            [], [], color=k.colour, linestyle=k.linestyle, marker=k.marker, markersize=4, linewidth=1.8, label=label(n)
        )
        for n, k in chosen.items()
    ]
    most = max(1, int(width / 1.4))
    figure.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1 - 0.02 / height), ncols=min(len(handles), most)
    )
    figure.text(0.5, 0.12 / height, "training rows", ha="center", va="bottom", fontsize=9, color=MUTED)
    figure.text(0.1 / width, 0.5, vertical, ha="left", va="center", rotation=90, fontsize=9, color=MUTED)
    return figure


def score_panel(axes: Axes, summary: Summary, chosen: Looks, measure: str) -> None:
    """Mean over the data sets of a measure, where all have one; costs on a log scale."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    values = summary.over_data(measure)
    if measure != "auc":
        values = np.maximum(values, 1e-5)  # scores of nothing but hits, and times below the clock, on a log scale
    _curves(axes, summary, chosen, values)
    if measure != "auc" and np.isfinite(values).any():
        axes.set_yscale("log")
        narrow = np.nanmax(values) < 100 * np.nanmin(values)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=8))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 2)))
        axes.yaxis.set_minor_formatter(NullFormatter())


def score_figure(summary: Summary, chosen: Looks, measure: str) -> Figure:
    """`score_panel` as a small figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.5, 2.5))
    axes = figure.add_axes((0.165, 0.155, 0.815, 0.815))
    score_panel(axes, summary, chosen, measure)
    axes.set_xlabel("training rows", labelpad=1.5)
    axes.set_ylabel(LABELS[measure], labelpad=2)
    return figure


def rank_figure(summary: Summary, chosen: Looks) -> Figure:
    """Mean rank by F1 against the number of training rows, the best at the top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 2.9))
    axes = figure.add_axes((0.1, 0.14, 0.87, 0.83))
    _curves(axes, summary, chosen, summary.ranks("f1"))
    axes.set_ylim(len(summary.models) + 0.2, 0.8)
    axes.set_yticks(range(1, len(summary.models) + 1))
    axes.tick_params(axis="y", colors=INK)
    axes.set_xlabel("training rows", labelpad=1.5)
    axes.set_ylabel("mean rank by F1", labelpad=2)
    return figure


def label(name: str) -> str:
    """The name of a model or data set for readers.

    >>> label("random_forest")
    'random forest'
    """
    return name.replace("_", " ")
