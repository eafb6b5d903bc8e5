"""The results of an evaluation as pictures: gaps per cell beside the rivals, and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbopt.bench_surrogates.tables import NAMES
from bbopt.report.theme import MUTED, drawing, looks, png_bytes, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_results"]

ORDER = ("amortised", "right", "gp", "floor", "pfn", "botorch", "nothing")
LEFT_OUT = ("anchors",)
KEYS = {"wide": "right"}  # drawn alike: the fitted process that is meant to be strong
KINDS = {
    "plain": ("anywhere", "mean", "Plain tasks: mean over tasks, points anywhere"),
    "mixture": ("told", "median", "Full mixture: median over tasks, half of the points near the lowest values"),
}
LOWEST = 3e-3
TICKS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def draw_results(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write gaps.png and calibration.png to the folder, where there are such results; returns their paths.

    >>> draw_results({"gaps": [], "floor": [], "calibration": [], "functions": []}, Path("."))
    []
    """
    figures = {}
    with drawing():
        if any(row["kind"] in KINDS for row in results["gaps"]):
            figures["gaps.png"] = png_bytes(_gaps(results))
        if any(row["kind"] == "held-out" for row in results["calibration"]) or results["functions"]:
            figures["calibration.png"] = png_bytes(_calibration(results))
    for name, content in figures.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in figures]


def _gaps(results: Mapping[str, Any]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in results["gaps"])]
    figure = Figure(figsize=(9.0, 2.7 * len(kinds) + 0.5), layout="constrained")
    chosen, used = looks(ORDER), set()
    for kind, part in zip(kinds, figure.subfigures(len(kinds), 1, squeeze=False)[:, 0], strict=True):
        measure, statistic, title = KINDS[kind]
        part.suptitle(title, fontsize=9.5, x=0.01, ha="left")
        rows = [row for row in results["gaps"] if row["kind"] == kind and measure in row and row["who"] not in LEFT_OUT]
        rows += [row for row in results["floor"] if row["kind"] == kind and row["who"] == "floor" and measure in row]
        columns = sorted({row["d"] for row in rows})
        for d, axes in zip(columns, part.subplots(1, len(columns), sharey=True, squeeze=False)[0], strict=True):
            used |= _panel(axes, [row for row in rows if row["d"] == d], measure, statistic, chosen)
            axes.set_title(f"d = {d}")
            if d == columns[0]:
                axes.set_ylabel("nats per point above the oracle")
    handles = [
        Line2D([], [], color=look.colour, linestyle=look.linestyle, marker=look.marker, markersize=4, label=NAMES[who])
        for who, look in chosen.items()
        if who in used
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _panel(axes: Axes, rows: list[dict[str, Any]], measure: str, statistic: str, chosen: Mapping[str, Any]) -> set[str]:
    """Gaps against n; returns who is in it."""
    used = set()
    for name in dict.fromkeys(row["who"] for row in rows):
        who = KEYS.get(name, name)
        used.add(who)
        look, mine = chosen[who], sorted((row for row in rows if row["who"] == name), key=lambda row: int(row["n"]))
        n = [row["n"] for row in mine]
        value = [max(row[measure][statistic] or 0.0, LOWEST) for row in mine]
        axes.plot(
            n, value, color=look.colour, linestyle=look.linestyle, marker=look.marker, markersize=4, linewidth=1.4
        )
        if statistic == "mean":
            error = [row[measure]["error"] or 0.0 for row in mine]
            low = [max(v - e, LOWEST) for v, e in zip(value, error, strict=True)]
            axes.vlines(n, low, [v + e for v, e in zip(value, error, strict=True)], color=look.colour, linewidth=0.9)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({row["n"] for row in rows})
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("told rows n")
    bottom, top = axes.get_ylim()
    shown = [tick for tick in TICKS if bottom <= tick <= top]
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes.set_yticks([], minor=True)
    tidy(axes)
    return used


def _calibration(results: Mapping[str, Any]) -> Figure:
    from matplotlib.figure import Figure

    held_out = [row for row in results["calibration"] if row["kind"] == "held-out"]
    everything = (*held_out, *results["functions"])
    who = [name for name in ORDER if any(row["who"] == name for row in everything)]
    figure = Figure(figsize=(9.0, 3.1 * len(who) + 0.5), layout="constrained")
    for name, (left, right) in zip(who, figure.subplots(len(who), 2, sharey=True, squeeze=False), strict=True):
        mine, on_functions = ([row for row in rows if row["who"] == name] for rows in (held_out, results["functions"]))
        _curves(left, mine, "n", "told rows", f"{NAMES[name]}: told values, held-out tasks of the prior")
        _curves(right, on_functions, "n", "told rows", f"{NAMES[name]}: noise-free values of test functions")
        left.set_ylabel("% of values inside, minus the interval's %")
    return figure


def _curves(axes: Axes, rows: list[dict[str, Any]], key: str, name: str, title: str) -> None:
    """How far the shares inside are off, one thin line per row, one thick line per value of the key."""
    axes.set_title(title)
    axes.axhline(0.0, color=MUTED, linewidth=0.9)
    groups = list(dict.fromkeys(row[key] for row in rows))
    for value, look in looks([str(group) for group in groups]).items():
        mine = [row["coverage"] for row in rows if str(row[key]) == value]
        levels = [float(level) for level in mine[0]]
        lines = [[100 * (part[level]["mean"] - float(level)) for level in part] for part in mine]
        for line in lines:
            axes.plot([100 * level for level in levels], line, color=look.colour, linewidth=0.5, alpha=0.45)
        middle = [sum(column) / len(column) for column in zip(*lines, strict=True)]
        axes.plot([100 * level for level in levels], middle, color=look.colour, linestyle=look.linestyle,
                  linewidth=1.8, label=f"{value} {name}")  # fmt: skip
    axes.set_xlabel("central interval, %")
    axes.set_xlim(0, 100)
    if rows:
        axes.legend(loc="lower left", fontsize=8)
    tidy(axes)
