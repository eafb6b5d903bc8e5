"""Pictures of advice: Matplotlib figures of what `bbopt.advice` returns. Nothing is shown and no setting stays changed.

from bbopt.advice import figures, slices
with figures.drawing():
    figures.slices_figure(slices(opt)).savefig("slices.png")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bbopt.advice.lines import Column, Slice
from bbopt.advice.model_quality import Quality
from bbopt.advice.plane import Contour
from bbopt.advice.remaining import Stopping
from bbopt.advice.sensitivity import Importance
from bbopt.report.theme import GRID, INK, MUTED, drawing, empty, looks, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["contour_figure", "drawing", "importance_figure", "quality_figure", "slices_figure", "stopping_figure"]

Array = np.ndarray[Any, np.dtype[Any]]
LARGEST = 1e290  # what Matplotlib can still scale
LONG = 22  # letters of a name in a picture
COLOURS = looks(["objective", "other", "third"])
BLUE, RED, GREEN = (COLOURS[name].colour for name in COLOURS)


def short(name: object, most: int = LONG) -> str:
    """A name that fits: its middle left out where it is long.

    >>> short("a_very_long_parameter_name_indeed")
    'a_very_lon…ame_indeed'
    """
    text = str(name)
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def stopping_figure(found: Stopping) -> Figure:
    """Expected gain and regret bound against told rows, on a logarithmic axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 2.7), layout="constrained")
    axes = figure.subplots()
    series = [
        ("expected gain of the next evaluation", found.gains, BLUE, "o"),
        ("regret bound", found.bounds, RED, "s"),
    ]
    drawn = False
    for label, values, colour, marker in series:
        good = np.isfinite(values) & (values > 0.0) & (values < LARGEST)
        if good.any():
            axes.plot(
                found.at[good], values[good], color=colour, marker=marker, markersize=3.5, linewidth=1.5, label=label
            )
            drawn = True
    if not drawn:
        axes.set_axis_off()
        empty(axes, "nothing feasible is known yet" if np.isnan(found.best) else "nothing is left to be gained")
        return figure
    axes.set_yscale("log")
    if 0.0 < found.tolerance < LARGEST:
        axes.axhline(found.tolerance, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)), label="worth an evaluation")
    if found.noise > 0.0:
        axes.axhline(found.noise, color=GREEN, linewidth=0.9, linestyle=(0, (1, 1.5)), label="noise of one value")
    axes.set_xlabel("told rows")
    axes.set_ylabel(short(found.metric))
    tidy(axes)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def quality_figure(found: Quality, columns: int = 4) -> Figure:
    """Told values against leave-one-out predictions with their 90 % intervals, a panel per metric."""
    figure, panels = _panels(len(found.metrics), columns, 2.5, 2.35)
    for one, axes in zip(found.metrics, panels, strict=False):
        axes.set_title(short(one.label, 24), loc="left")
        good = (
            np.isfinite(one.median)
            & np.isfinite(one.told)
            & (np.abs(one.told) < LARGEST)
            & (np.abs(one.median) < LARGEST)
        )
        if not good.any() or one.calibration == "nothing to judge":
            axes.set_axis_off()
            empty(axes, "all values are equal" if one.calibration == "nothing to judge" else "too large to draw")
            continue
        told, median = one.told[good], one.median[good]
        span = np.array([min(told.min(), median.min()), max(told.max(), median.max())])
        margin = 0.05 * float(np.ptp(span)) or 1.0
        limits = (span[0] - margin, span[1] + margin)
        low, high = (np.clip(part[good], *limits) for part in (one.low, one.high))
        outside = np.abs(one.residuals[good]) > 1.6449
        axes.plot(limits, limits, color=MUTED, linewidth=0.8)
        for mask, colour in ((~outside, BLUE), (outside, RED)):
            axes.vlines(told[mask], low[mask], high[mask], color=colour, linewidth=0.8, alpha=0.5)
            axes.plot(told[mask], median[mask], "o", color=colour, markersize=2.6, markeredgewidth=0)
        axes.set_xlim(*limits)
        axes.set_ylim(*limits)
        if one.told.min() > 0 and median.min() > 0 and told.max() > 300 * told.min():
            _logarithmic(axes, told, median)
        axes.set_xlabel("told")
        axes.set_ylabel("predicted")
        tidy(axes, "both")
    return figure


def importance_figure(found: Importance, most: int = 25) -> Figure:
    """Total and first-order indices of the first metric as bars, and the total ones of all metrics as a table of shades."""
    from matplotlib.figure import Figure

    order = found.order(0)[:most]
    names = [short(found.parameters[i]) for i in order]
    many = len(found.metrics) > 1
    width = 5.2 + (0.9 + 0.34 * len(found.metrics) if many else 0.0)
    tall = 1.0 + 0.23 * len(names) + (0.055 * max(len(short(m, 16)) for m in found.metrics) if many else 0.0)
    figure = Figure(figsize=(width, max(tall, 1.7)), layout="constrained")
    ratios = [4.2, 0.6 + 0.34 * len(found.metrics)]
    grid: Any = figure.subplots(1, 2, sharey=True, width_ratios=ratios) if many else [figure.subplots()]
    axes = grid[0]
    if np.isnan(found.total[0]).any():
        axes.set_yticks(np.arange(len(names)), names)
        empty(axes, "the model is flat: no parameter matters")
    else:
        places = np.arange(len(names))
        axes.barh(places, found.total[0, order], color=BLUE, alpha=0.35, height=0.72, label="total", xerr=2 * found.error[0, order],
                  error_kw={"ecolor": MUTED, "elinewidth": 0.8})  # fmt: skip
        axes.barh(places, np.clip(found.first[0, order], 0.0, None), color=BLUE, height=0.36, label="first order")
        axes.plot(
            found.relevance[0, order],
            places,
            "|",
            color=RED,
            markersize=8,
            markeredgewidth=1.6,
            label="1/lengthscale, share",
        )
        axes.set_yticks(places, names)
        axes.set_xlim(left=0.0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(f"share of the variation of {short(found.metrics[0])}")
    tidy(axes, "x")
    if not np.isnan(found.total[0]).any():
        figure.legend(loc="outside lower left", ncols=3)
    if many:
        shades = grid[1]
        shades.imshow(np.nan_to_num(found.total[:, order].T), aspect="auto", cmap="Blues", vmin=0.0, vmax=1.0)
        shades.set_xticks(np.arange(len(found.metrics)), [short(m, 16) for m in found.metrics], rotation=90)
        shades.xaxis.tick_top()
        shades.tick_params(length=0)
        shades.set_xlabel("total, every metric")
        for side in shades.spines.values():
            side.set_visible(False)
    return figure


def slices_figure(found: Sequence[Slice], columns: int = 4) -> Figure:
    """A panel per slice: median and 90 % band, told points near it (the nearer the darker), the point itself as a line; shaded
    where feasibility is unlikely."""
    figure, panels = _panels(max(len(found), 1), columns, 2.5, 1.95)
    if not found:
        panels[0].set_axis_off()
        empty(panels[0], "no column exists at this point")
        return figure
    kept = [np.concatenate([part[one.allowed & np.isfinite(one.low) & np.isfinite(one.high)] for part in (one.low, one.high)])
            for one in found]  # fmt: skip
    together = np.concatenate([*kept, *(one.told for one in found)])
    together = together[np.isfinite(together) & (np.abs(together) < LARGEST)]
    middle = np.concatenate([one.median[one.allowed] for one in found])
    for one, axes in zip(found, panels, strict=False):
        _slice(axes, one)
        if len(together) and np.isfinite(middle).any():
            finite = middle[np.isfinite(middle)]
            reach = float(np.ptp(finite)) or float(abs(finite[0])) or 1.0
            low = max(float(together.min()), float(finite.min()) - reach)
            high = min(float(together.max()), float(finite.max()) + reach)
            margin = 0.05 * (high - low) or 1.0
            axes.set_ylim(low - margin, high + margin)
    for axes in panels[:: min(columns, len(found))]:
        axes.set_ylabel(short(found[0].metric))
    return figure


def contour_figure(found: Contour) -> Figure:
    """Median, standard deviation and, where there are constraints, the chance of feasibility, side by side."""
    from matplotlib.figure import Figure

    kinds: list[tuple[str, Array]] = [(found.metric, found.median), ("its standard deviation", found.sd)]
    if float(np.nanmin(found.chance)) < 0.999:
        kinds.append(("chance of feasibility", found.chance))
    figure = Figure(figsize=(3.3 * len(kinds) + 0.2, 2.9), layout="constrained")
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    for (title, values), axes in zip(kinds, panels, strict=True):
        shown = np.where(found.allowed & np.isfinite(values) & (np.abs(values) < LARGEST), values, np.nan)
        if np.isnan(shown).all():
            axes.set_axis_off()
            empty(axes, "nothing to draw here")
            continue
        chance = title == "chance of feasibility"
        mesh = axes.pcolormesh(found.x, found.y, shown, shading="nearest", cmap="Greens" if chance else "Blues_r" if values is found.median else "Greys",
                               vmin=0.0 if chance else None, vmax=1.0 if chance else None, rasterized=True)  # fmt: skip
        bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=26)
        bar.outline.set_visible(False)
        axes.plot(found.told_x, found.told_y, "o", color=INK, markersize=2.4, markeredgewidth=0)
        axes.plot(found.here[:1], found.here[1:], "+", color=RED, markersize=9, markeredgewidth=1.8)
        for column, which in ((found.across, "x"), (found.up, "y")):
            _name_ticks(axes, column, which)
        axes.set_title(short(title, 30), loc="left")
        axes.set_xlabel(short(found.across.label))
        axes.set_ylabel(short(found.up.label) if axes is panels[0] else "")
        tidy(axes)
        axes.grid(False)
    return figure


def _panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns + 0.1, height * rows + 0.1), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count]


def _slice(axes: Axes, one: Slice) -> None:
    from matplotlib.ticker import MaxNLocator

    good = one.allowed & np.isfinite(one.low) & np.isfinite(one.high)
    good &= (np.abs(one.low) < LARGEST) & (np.abs(one.high) < LARGEST)
    axes.set_xlabel(short(one.column.label), labelpad=1.5)
    tidy(axes)
    if not good.any():
        empty(axes, "nothing to draw here")
        return
    near = np.isfinite(one.told) & (np.abs(one.told) < LARGEST)
    if one.column.choices is not None or len(one.values) <= 12:
        x = one.values[good]
        axes.vlines(x, one.low[good], one.high[good], color=BLUE, alpha=0.35, linewidth=5)
        axes.plot(x, one.median[good], "o", color=BLUE, markersize=4)
    else:
        median, low, high = (np.where(good, part, np.nan) for part in (one.median, one.low, one.high))
        axes.fill_between(one.values, low, high, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(one.values, median, color=BLUE, linewidth=1.5)
        unlikely = one.allowed & (one.chance < 0.5)
        if unlikely.any():
            axes.fill_between(one.values, 0, 1, where=unlikely.tolist(), color=GRID, alpha=0.7, linewidth=0, zorder=0,
                              transform=axes.get_xaxis_transform())  # fmt: skip
    if near.any():
        alpha = 1.0 - 0.85 * np.clip(one.distance[near], 0.0, 1.0)
        axes.scatter(one.told_at[near], one.told[near], s=7, color=INK, alpha=alpha.tolist(), linewidths=0, zorder=3)
    axes.axvline(one.here, color=RED, linewidth=0.9, linestyle=(0, (2, 1.5)), zorder=1)
    if one.column.log:
        axes.set_xscale("log")
    elif one.column.choices is None and np.array_equal(one.values, one.values.round()):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _name_ticks(axes, one.column, "x")


def _name_ticks(axes: Axes, column: Column, which: str) -> None:
    """The choices of a category as ticks, at most a dozen of them."""
    if column.choices is None:
        if column.log and (axes.get_xscale() if which == "x" else axes.get_yscale()) != "log":
            getattr(axes, f"set_{which}scale")("log")
        return
    step = -(-len(column.choices) // 12)
    places = np.arange(0, len(column.choices), step)
    names = [short(column.choices[i], 10) for i in places]
    crowded = which == "x" and sum(map(len, names)) > 18
    getattr(axes, f"set_{which}ticks")(places, names, **({"rotation": 90} if crowded else {}))
    getattr(axes, f"set_{which}lim")(-0.5, len(column.choices) - 0.5)


def _logarithmic(axes: Axes, told: Array, median: Array) -> None:
    low, high = float(min(told.min(), median.min())), float(max(told.max(), median.max()))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low / 1.3, high * 1.3)
    axes.set_ylim(low / 1.3, high * 1.3)
