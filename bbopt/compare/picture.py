"""The picture of a comparison: median log gaps of all peers on every problem against evaluations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bbopt.compare.gaps import class_of
from bbopt.compare.summary import Summary, is_ours
from bbopt.report.theme import INK, Look, looks, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["curves_figure", "looks_of", "seconds_figure"]

COLUMNS = 3


def looks_of(summary: Summary) -> dict[str, Look]:
    """A look per peer; ours come first, in the colour of the text."""
    ours = [peer for peer in summary.peers if is_ours(peer)]
    dark = {peer: replace(look, colour=INK, variable="ink") for peer, look in looks(ours).items()}
    return dark | looks([peer for peer in summary.peers if not is_ours(peer)])


def curves_figure(summary: Summary) -> Figure:
    """One panel per problem: the median log10 gap after each evaluation; the legend beside or below them."""
    from matplotlib.figure import Figure

    chosen = looks_of(summary)
    rows = -(-len(summary.problems) // COLUMNS)
    figure = Figure(figsize=(10.0, 2.5 * rows + 0.7), layout="constrained")
    axes = np.atleast_1d(np.array(figure.subplots(rows, COLUMNS, squeeze=False))).ravel()
    count = np.arange(1, summary.budget + 1)
    for place, (ax, problem) in enumerate(zip(axes, summary.problems, strict=False)):
        tidy(ax)
        for peer in reversed(chosen):
            curve = summary.curves.get((problem, peer))
            if curve is not None:
                ours, look = is_ours(peer), chosen[peer]
                ax.plot(count[: len(curve)], curve, color=look.colour, linestyle=look.linestyle,
                        linewidth=2.4 if ours else 1.3, drawstyle="steps-post", label=peer)  # fmt: skip
        ax.set_title(f"{problem} · {class_of(problem).split(',')[0]}", loc="left")
        ax.set_xlim(1, max(2, summary.budget))
        if place % COLUMNS == 0:
            ax.set_ylabel("log10 gap")
        if place >= len(summary.problems) - COLUMNS:
            ax.set_xlabel("evaluations")
    for ax in axes[len(summary.problems) :]:
        ax.set_axis_off()
    lines = {line.get_label(): line for ax in axes for line in ax.get_lines()}
    shown = [peer for peer in chosen if peer in lines]
    figure.legend([lines[peer] for peer in shown], shown, loc="outside lower center", ncols=min(8, max(1, len(shown))))
    return figure


def seconds_figure(summary: Summary) -> Figure:
    """Mean rank against CPU seconds per ask: a good peer stands at the lower left."""
    from matplotlib.figure import Figure

    chosen = looks_of(summary)
    figure = Figure(figsize=(6.2, 3.6), layout="constrained")
    ax = figure.subplots()
    tidy(ax, "both")
    for peer, rank in summary.rank.items():
        seconds = max(summary.ask[peer][0], 1e-5)
        ax.plot([seconds], [rank], marker=chosen[peer].marker, color=chosen[peer].colour, markersize=7, linestyle="")
        ax.annotate(peer, (seconds, rank), xytext=(6, 4), textcoords="offset points", fontsize=8.5)
    ax.set_xscale("log")
    ax.margins(x=0.2, y=0.15)
    ax.set_xlabel("CPU seconds per ask and tell, median")
    ax.set_ylabel("mean rank at the end")
    return figure
