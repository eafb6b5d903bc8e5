"""The figures of a report: functions that draw computed numbers into given axes, and figures built from them.

Panels of one problem are small figures of their own, so that the page can set one or three of them side by side;
`sheet` puts the same drawings on one large figure for the PNG file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bbopt.report.data import ProblemFacts
from bbopt.report.statistics import Comparison, cliques, quartiles, share_feasible
from bbopt.report.summary import Cell, ProblemView, Summary
from bbopt.report.theme import INK, MUTED, WASH, Look, empty, number, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "PANELS",
    "Panel",
    "best_panel",
    "feasible_panel",
    "first_feasible_figure",
    "gap_panel",
    "panel_figure",
    "ranks_figure",
    "seconds_curve_figure",
    "seconds_figure",
    "sheet",
]

Floats = NDArray[np.float64]
Looks = Mapping[str, Look]
Panel = Callable[["Axes", ProblemView, Summary, Looks], None]
BAND = 0.16  # opacity of the band between the quartiles


def _steps(axes: Axes, look: Look, middle: Floats, low: Floats, high: Floats, ceiling: float) -> None:
    """A median with its band as stairs, from the first place where the median (the band) is finite."""
    count = np.arange(1, len(middle) + 1)
    shown = np.isfinite(low)
    if shown.any():
        upper = np.where(np.isfinite(high), high, ceiling)
        axes.fill_between(
            count, low, upper, where=shown.tolist(), step="post", color=look.colour, alpha=BAND, linewidth=0
        )
    drawn = np.isfinite(middle)
    if drawn.any():
        axes.plot(
            count[drawn],
            middle[drawn],
            color=look.colour,
            linestyle=look.linestyle,
            linewidth=1.6,
            drawstyle="steps-post",
            solid_capstyle="butt",
        )


def _evaluations(axes: Axes, summary: Summary) -> None:
    """The axis of evaluations, with the shared initial points shaded."""
    budget, initial = summary.bench.budget, summary.bench.initial
    axes.set_xlim(1, max(budget, 2))
    if 1 < initial < budget:
        axes.axvspan(1, initial, color=WASH, linewidth=0, zorder=0)
    step = next((s for s in (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000) if budget / s <= 5), budget // 4)
    ticks = [1, *range(step, budget + 1, step)] if step > 1 else list(range(1, budget + 1))
    axes.set_xticks(ticks)


def _nothing(view: ProblemView) -> str:
    """Why no quartile of any strategy is finite."""
    first = np.concatenate([cell.first for cell in view.cells.values()])
    if not len(first):
        return "no run yet"
    found = int(np.isfinite(first).sum())
    return f"a feasible point in {found} of {len(first)} runs only" if found else "no feasible point in any run"


def gap_panel(axes: Axes, view: ProblemView, summary: Summary, chosen: Looks) -> None:
    """Median and quartiles over the seeds of the relative gap, on a log scale down to the floor."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    floor = summary.floor
    bands = {
        name: quartiles(np.maximum(cell.gap, floor)) for name, cell in view.cells.items() if cell.n and len(cell.runs)
    }
    values = np.concatenate([band.ravel() for band in bands.values()]) if bands else np.array([])
    values = values[np.isfinite(values)]
    _evaluations(axes, summary)
    tidy(axes)
    if not len(values):
        axes.set_yticks([])
        empty(axes, _nothing(view))
        return
    low, high = float(values.min()), float(values.max())
    bottom, top = np.log10(low) - 0.15, np.log10(high) + 0.15
    if top - bottom < 1.3:  # at least one labelled decade
        bottom, top = min(bottom, np.floor(bottom + 0.14)), max(top, np.ceil(top - 0.14))
    ceiling = 10.0 ** (top + 1)
    for name, (first, middle, third) in bands.items():
        _steps(axes, chosen[name], middle, first, third, ceiling)
    axes.set_yscale("log")
    axes.set_ylim(10.0**bottom, 10.0**top)
    narrow = top - bottom < 2.2  # decades
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=8 if narrow else 6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 3)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if low <= floor * 1.0001:
        axes.axhline(floor, color=MUTED, linewidth=0.8, dashes=(1, 2))


def best_panel(axes: Axes, view: ProblemView, summary: Summary, chosen: Looks) -> None:
    """Median and quartiles of the best feasible value in the user's sign, with the known optimum as a line."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    sign = view.facts.sign
    bands = {}
    for name, cell in view.cells.items():
        if cell.n:
            bands[name] = quartiles(np.where(np.isnan(cell.best), np.inf, sign * cell.best))
    finite = [band[np.isfinite(band)] for band in bands.values()]
    values = np.concatenate(finite) if finite else np.array([])
    _evaluations(axes, summary)
    tidy(axes)
    if not len(values):
        axes.set_yticks([])
        empty(axes, _nothing(view))
        return
    # the top is where the bands stand after the initial points, so that the end can be seen
    start = min(summary.bench.initial, summary.bench.budget) - 1
    late = np.concatenate([band[:, max(start, 0) :].ravel() for band in bands.values()])
    late = late[np.isfinite(late)]
    low = float(values.min()) if view.reference is None else min(float(values.min()), sign * view.reference)
    high = float(late.max()) if len(late) else float(values.max())
    margin = 0.06 * (high - low) or abs(high) * 0.05 or 1.0
    ceiling = sign * (high + 10 * margin)
    for name, (first, middle, third) in bands.items():
        signed = [np.where(np.isfinite(edge), sign * edge, np.nan) for edge in (first, middle, third)]
        _steps(axes, chosen[name], signed[1], signed[0], signed[2], ceiling)
    if view.reference is not None:
        axes.axhline(view.reference, color=INK, linewidth=0.9, dashes=(1.5, 2))
    limits = sorted((sign * (low - margin), sign * (high + margin)))
    axes.set_ylim(limits[0], limits[1])
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 5)))


def feasible_panel(axes: Axes, view: ProblemView, summary: Summary, chosen: Looks) -> None:
    """Share of runs with a feasible point after each evaluation, in percent."""
    _evaluations(axes, summary)
    tidy(axes)
    axes.set_ylim(-3, 104)
    axes.set_yticks([0, 25, 50, 75, 100])
    drawn = False
    for name, cell in view.cells.items():
        if cell.n:
            share = 100 * share_feasible(cell.first, cell.n)
            look = chosen[name]
            axes.plot(
                np.arange(1, cell.n + 1),
                share,
                color=look.colour,
                linestyle=look.linestyle,
                linewidth=1.6,
                drawstyle="steps-post",
            )
            drawn = True
    if not drawn:
        empty(axes, "no run yet")


PANELS: dict[str, tuple[Panel, str]] = {
    "gap": (gap_panel, "relative gap"),
    "best": (best_panel, "best feasible value"),
    "feasible": (feasible_panel, "runs with a feasible point, %"),
}
"""The three drawings that exist once per problem: function and name of the vertical axis."""


def panel_figure(panel: str, view: ProblemView, summary: Summary, chosen: Looks) -> Figure:
    """One problem as a small figure; margins are fixed, so that panels side by side line up."""
    from matplotlib.figure import Figure

    draw, label = PANELS[panel]
    figure = Figure(figsize=(3.5, 2.2))
    axes = figure.add_axes((0.165, 0.165, 0.805, 0.8))
    draw(axes, view, summary, chosen)
    axes.set_xlabel("evaluations", labelpad=1.5)
    if panel != "feasible":
        axes.set_ylabel(label if panel == "gap" else view.facts.objective, labelpad=2)
    return figure


def sheet(panel: str, summary: Summary, chosen: Looks, columns: int = 4) -> Figure:
    """All problems on one figure with a legend, for the PNG file."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    draw, label = PANELS[panel]
    views = summary.problems
    columns = max(1, min(columns, len(views)))
    rows = max(1, -(-len(views) // columns))
    width, height = max(3.1 * columns + 0.2, 4.0), 2.35 * rows + 0.85
    figure = Figure(figsize=(width, height))
    edges = {"left": 0.8 / width, "right": 1 - 0.15 / width, "bottom": 0.55 / height, "top": 1 - 0.65 / height}
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw={**edges, "wspace": 0.28, "hspace": 0.32})
    for axes, view in zip(grid.flat, views, strict=False):
        draw(axes, view, summary, chosen)
        axes.set_title(view.facts.label, loc="left", fontweight="bold")
    for axes in list(grid.flat)[len(views) :]:
        axes.set_axis_off()
    handles = [Line2D([], [], color=k.colour, linestyle=k.linestyle, linewidth=1.8, label=n) for n, k in chosen.items()]
    figure.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1 - 0.05 / height), ncols=min(len(handles), 7)
    )
    figure.text(0.5, 0.12 / height, "evaluations", ha="center", va="bottom", fontsize=9, color=MUTED)
    figure.text(0.1 / width, 0.5, label, ha="left", va="center", rotation=90, fontsize=9, color=MUTED)
    return figure


def ranks_figure(comparison: Comparison, chosen: Looks) -> Figure:
    """Critical-difference diagram: mean ranks on a line, best at the left; bars join what cannot be told apart."""
    from matplotlib.figure import Figure

    names = list(chosen)
    k = len(names)
    ranks = comparison.mean_ranks
    order = [int(i) for i in np.argsort(ranks, kind="stable")]
    left, right = order[: (k + 1) // 2], order[(k + 1) // 2 :]
    groups = cliques(list(ranks), comparison.difference) if comparison.difference is not None else []
    height = 1.05 + 0.13 * len(groups) + 0.24 * len(left)
    margin = max(1.45, 0.75 + 0.09 * max(map(len, names)))  # inches for a name and its rank
    width = 2.5 + 2 * margin
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(-height, 0)
    begin, end, line = margin, width - margin, -0.72

    def place(rank: float) -> float:
        return begin + (rank - 1) / max(k - 1, 1) * (end - begin)

    axes.plot([begin, end], [line, line], color=INK, linewidth=1.0)
    for tick in range(1, k + 1):
        axes.plot([place(tick)] * 2, [line, line + 0.07], color=INK, linewidth=1.0)
        axes.text(place(tick), line + 0.1, str(tick), ha="center", va="bottom", fontsize=8.5, color=MUTED)
    if comparison.difference is not None:
        stop = min(begin + comparison.difference / max(k - 1, 1) * (end - begin), width - 0.1)
        axes.plot([begin, stop], [-0.3, -0.3], color=INK, linewidth=1.4)
        for x in (begin, stop):
            axes.plot([x, x], [-0.34, -0.26], color=INK, linewidth=1.4)
        axes.text(
            (begin + stop) / 2, -0.22, f"critical difference {comparison.difference:.2f}", ha="center", va="bottom"
        )
    bars = line - 0.12
    for depth, group in enumerate(groups):
        y = bars - 0.13 * depth
        axes.plot(
            [place(ranks[group[0]]) - 0.05, place(ranks[group[-1]]) + 0.05],
            [y, y],
            color=INK,
            linewidth=3.2,
            solid_capstyle="butt",
        )
    first_label = bars - 0.13 * len(groups) - 0.14
    for side, members in ((-1, left), (1, list(reversed(right)))):
        for depth, index in enumerate(members):
            look, x = chosen[names[index]], place(ranks[index])
            y = first_label - 0.24 * depth
            edge = begin - 0.2 if side < 0 else end + 0.2
            axes.plot([x, x, edge], [line, y, y], color=look.colour, linewidth=1.1)
            axes.plot([x], [line], marker=look.marker, color=look.colour, markersize=5.5, zorder=3)
            text = f"{names[index]}  {ranks[index]:.2f}" if side < 0 else f"{ranks[index]:.2f}  {names[index]}"
            axes.text(edge + side * 0.06, y, text, ha="right" if side < 0 else "left", va="center", fontsize=9.5)
    return figure


def _dots(
    summary: Summary, chosen: Looks, spread: Callable[[Cell], Floats | None], label: str, limits: tuple[float, float]
) -> Figure:
    """Problems down the side; per strategy the median as a marker on the line between its quartiles, log scale."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    views, names = summary.problems, list(chosen)
    row = max(0.24, 0.1 * len(names) + 0.09)
    height = row * len(views) + 0.62
    figure = Figure(figsize=(4.4, height))
    axes = figure.add_axes((0.33, 0.5 / height, 0.61, 1 - 0.58 / height))
    low, high = limits
    for place, view in enumerate(views):
        if place % 2 == 0:
            axes.axhspan(place - 0.5, place + 0.5, color=WASH, linewidth=0, zorder=0)
        for index, name in enumerate(names):
            band = spread(view.cells[name]) if view.cells[name].n else None
            if band is None:
                continue
            look = chosen[name]
            y = place + (index - (len(names) - 1) / 2) * min(0.28, 0.76 / len(names))
            first, middle, third = band
            if np.isfinite(first) and first < high:
                axes.plot([first, min(third, high * 2)], [y, y], color=look.colour, linewidth=1.3, alpha=0.75)
            if np.isfinite(middle):
                axes.plot([middle], [y], marker=look.marker, color=look.colour, markersize=4.2, linestyle="none")
            else:
                axes.plot([high], [y], marker=">", color=look.colour, markersize=4.2, clip_on=False, fillstyle="none")
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    tidy(axes, "x")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 2)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(views)), [_short(view.facts) for view in views], color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(views) - 0.5, -0.5)
    axes.set_xlabel(label)
    return figure


def _short(facts: ProblemFacts) -> str:
    return facts.label if len(facts.label) <= 24 else facts.label[:23] + "…"


def first_feasible_figure(summary: Summary, chosen: Looks) -> Figure:
    """Evaluations to the first feasible point, one row per problem; an open arrow at the edge: median run has none."""

    def spread(cell: Cell) -> Floats | None:
        return quartiles(cell.first)

    return _dots(summary, chosen, spread, "evaluations to the first feasible point", (0.9, 1.15 * summary.bench.budget))


def _positive(seconds: Floats) -> Floats:
    """Asks faster than a microsecond are drawn there."""
    known = seconds[np.isfinite(seconds)]
    return np.maximum(known, 1e-6)


def seconds_figure(summary: Summary, chosen: Looks) -> Figure | None:
    """CPU seconds per ask after the initial points, one row per problem; None where nothing was measured."""
    known = [_positive(summary.seconds(name)) for name in chosen]
    together = np.concatenate(known) if known else np.array([])
    if not len(together):
        return None

    def spread(cell: Cell) -> Floats | None:
        values = _positive(cell.seconds)
        return quartiles(values) if len(values) else None

    limits = (float(np.quantile(together, 0.005)) / 2, float(np.quantile(together, 0.995)) * 2)
    return _dots(summary, chosen, spread, "CPU seconds per ask", limits)


def seconds_curve_figure(summary: Summary, chosen: Looks) -> Figure | None:
    """CPU seconds of the ask of each evaluation, median and quartiles over all problems and runs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(4.4, 3.1))
    axes = figure.add_axes((0.15, 0.14, 0.81, 0.82))
    drawn = False
    for name, look in chosen.items():
        rows = summary.seconds(name)
        places = np.flatnonzero(np.isfinite(rows).any(axis=0)) if len(rows) else np.array([], dtype=np.intp)
        if not len(places):
            continue
        band = np.array([quartiles(_positive(rows[:, place])) for place in places])
        axes.fill_between(places + 1, band[:, 0], band[:, 2], color=look.colour, alpha=BAND, linewidth=0)
        axes.plot(places + 1, band[:, 1], color=look.colour, linestyle=look.linestyle, linewidth=1.6)
        drawn = True
    if not drawn:
        return None
    axes.set_yscale("log")
    _evaluations(axes, summary)
    tidy(axes)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 2)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("evaluations")
    axes.set_ylabel("CPU seconds per ask, all problems")
    return figure


def legend_keys(chosen: Looks, names: Sequence[str]) -> list[tuple[str, str]]:
    """Name and a small inline SVG key for each strategy, for the legend in the page."""
    keys = []
    for name in names:
        look = chosen[name]
        dashes = f' stroke-dasharray="{" ".join(f"{d * 2:g}" for d in look.dashes)}"' if look.dashes else ""
        svg = (
            f'<svg class="key" viewBox="0 0 34 10" aria-hidden="true"><line x1="0" y1="5" x2="34" y2="5" '
            f'style="stroke: var(--{look.variable})" stroke-width="3"{dashes}/></svg>'
        )
        keys.append((name, svg))
    return keys
