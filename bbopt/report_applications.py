"""Pictures of what was trained by queries: a classifier's defence, and a solver with a corrector in its loop.

Both are drawn from arrays, one curve per name; names keep their colour in the order in which they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bbopt.report.theme import INK, Look, drawing, looks, png_bytes, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["draw_defence", "draw_rollouts"]

Array = NDArray[np.floating[Any]]


def draw_defence(
    path: Path, radii: Array, accuracy: Mapping[str, Array], images: Mapping[str, Array], largest: float
) -> None:
    """Write the picture (PNG): rows of small images, and certified accuracy against radius.

    accuracy: per name (len(radii),) shares of images. images: per title (k, h, w) pictures from 0 to 1, the same k in all.
    largest: the radius that no certificate exceeds.
    """
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(9.0, 3.1), layout="constrained")
        left, right = _halves(figure, (1, 1.15))
        count = len(next(iter(images.values())))
        panels = left.subplots(len(images), count, squeeze=False)
        for row, (title, pictures) in zip(panels, images.items(), strict=True):
            row[0].set_ylabel(title, rotation="horizontal", ha="right", va="center")
            for axes, picture in zip(row, pictures, strict=True):
                axes.imshow(picture, cmap="gray_r", vmin=0.0, vmax=1.0, interpolation="nearest")
                _bare(axes)
        axes = right.subplots()
        _curves(
            axes, radii, {name: 100 * np.asarray(values) for name, values in accuracy.items()}, looks(list(accuracy))
        )
        axes.axvline(largest, color=INK, linewidth=0.8, linestyle=(0, (1.5, 1.5)))
        axes.annotate(
            "no certificate beyond:\nall draws agree",
            (largest, 97),
            (-4, 0),
            textcoords="offset points",
            ha="right",
            va="top",
        )
        axes.set(xlabel="L2 radius", ylabel="certified accuracy, %", ylim=(0, 100), xlim=(0, 1.04 * largest))
        axes.legend(loc="lower left")
        tidy(axes, "both")
        _write(path, figure)


def draw_rollouts(path: Path, fields: Mapping[str, Array], errors: Mapping[str, Array], step: int) -> None:
    """Write the picture (PNG): fields side by side, and errors against the step of the solver.

    fields: the true one first, then others by names that `errors` has too, (n, n) each, all after so many steps.
    errors: per name (steps,) after steps 1, 2, ...
    """
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(9.6, 3.2), layout="constrained")
        left, right = _halves(figure, (1.6, 1.0))
        panels, chosen = left.subplots(1, len(fields)), looks(list(errors))
        truth = next(iter(fields.values()))
        size = max(float(np.abs(field).max()) for field in fields.values())
        for axes, (name, field) in zip(panels, fields.items(), strict=True):
            shown = axes.imshow(field.T, origin="lower", cmap="RdBu_r", vmin=-size, vmax=size, interpolation="nearest")
            axes.set_title(name, color=chosen[name].colour if name in chosen else INK)
            if name in chosen:
                axes.set_xlabel(f"mean absolute error {np.abs(field - truth).mean():.3f}")
            _bare(axes)
        left.colorbar(shown, ax=list(panels), location="bottom", shrink=0.5, aspect=40, label=f"u after {step} steps")
        axes = right.subplots()
        longest = max(len(values) for values in errors.values())
        _curves(axes, np.arange(1.0, longest + 1), errors, chosen)
        axes.axvline(step, color=INK, linewidth=0.6, linestyle=(0, (1.5, 1.5)))
        axes.set(xlabel="steps of the solver", ylabel="mean absolute error", ylim=(0, None), xlim=(0, longest))
        right.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=1)
        tidy(axes, "both")
        _write(path, figure)


def _halves(figure: Figure, width_ratios: tuple[float, float]) -> tuple[SubFigure, SubFigure]:
    grid = figure.add_gridspec(1, 2, width_ratios=width_ratios)
    return figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])


def _curves(axes: Axes, at: Array, curves: Mapping[str, Array], chosen: Mapping[str, Look]) -> None:
    for name, values in curves.items():
        axes.plot(at, values, color=chosen[name].colour, linestyle=chosen[name].linestyle, linewidth=1.6, label=name)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_linewidth(0.4)


def _write(path: Path, figure: Figure) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(figure))
