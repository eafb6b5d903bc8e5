"""The picture of `bbopt.bench_ranking`: values against evaluations, people's rounds, and few answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bbopt.bench_ranking_parts import ANSWERS, FEW, GRID, MOST, Data

COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#E69F00", "#999999", "#000000")
SHOWN = {  # in which colour, solid or dashed
    "rank-sgd, (15, 15)": (0, "-"), "rank-sgd, (15, 5)": (1, "-"), "rank-sgd, (15, 1)": (3, "-"), "rank-sgd, defaults": (2, "-"),
    "cmaes": (4, "-"), "openes": (5, "-"), "differences": (7, "--"),
}  # fmt: skip


def draw(data: dict[str, Data], path: Path) -> None:
    """Write the picture, a PNG of 2000 x 1300 dots."""
    figure = Figure(figsize=(12.5, 8.2), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(2, 2)
    _curves(axes[0, 0], data["sphere"], "|x|², 100 dimensions, slates of 15", 1.0)
    _curves(axes[0, 1], data["rosenbrock"], "Rosenbrock, 100 dimensions, slates of 15", 50.0)
    _people(axes[1, 0], data["people"])
    _few(axes[1, 1], data["few"])
    figure.savefig(path)


def _curves(axes: Axes, part: Data, title: str, lowest: float) -> None:
    for name, (colour, style) in SHOWN.items():
        if name in part:
            values = part[name]["curve"]
            end = next((i + 1 for i, value in enumerate(values) if value <= lowest), len(values))
            axes.plot(GRID[:end], values[:end], style, color=COLOURS[colour], label=name, linewidth=1.8)
    axes.set(title=title, xlabel="evaluations", ylabel="median value", xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.25, which="both")


def _people(axes: Axes, part: Data) -> None:
    """Answers to a tenth of the distance^2, without noise and with two levels of it, one group of bars per way to answer."""
    keys = list(part)
    for i, (place, label) in enumerate(((0, "no noise"), (2, "noise 0.5"), (4, "noise 1"))):
        heights = [part[key][place] for key in keys]
        at = [x + 0.27 * (i - 1) for x in range(len(keys))]
        axes.bar(at, [height or MOST for height in heights], 0.25, color=COLOURS[i], label=label)
        for x, height in zip(at, heights, strict=True):
            if height is None:
                axes.text(x, MOST, f">{MOST}", ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(keys)), [_words(key) for key in keys], fontsize=7.5)
    axes.set(title="Simulated people: answers to a tenth of the start's distance²", ylabel="median of 30 people")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.25, axis="y")


def _words(key: str) -> str:
    d, m, form = key.split(", ")
    return "\n".join([f"d = {d}", f"{m} items", *(form.split(" ") if "bins" in form else [form])])


def _few(axes: Axes, part: Data) -> None:
    for place, name in enumerate(FEW):
        for d, style in ((3, "-"), (6, "--")):
            values = part[f"{d}, {name}"][: len(ANSWERS)]
            axes.plot(ANSWERS, values, style, marker="o", color=COLOURS[place], label=f"{name}, d = {d}", linewidth=1.8)
    axes.set(title="Few answers: distance² to the target, noise 0.5, slates of 6", xlabel="answers", ylabel="median of 4 people",
             yscale="log", xticks=ANSWERS)  # fmt: skip
    axes.legend(frameon=False, fontsize=8, ncols=4, handlelength=3.5, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    axes.grid(alpha=0.25, which="both")
