"""Pictures of what the network believes beside the exact Gaussian process: in one dimension and in two.

The functions are drawn from a process, so that there is an exact answer: the process with the true kernel, lengthscales
and noise. In the third data set of the first picture a step is added to the function, of which that process knows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bbopt.report.theme import INK, MUTED, drawing, looks, png_bytes, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from surrogates.pfn.network import Network
    from surrogates.protocol import Predictive

__all__ = ["draw_beliefs"]

Array = NDArray[np.float64]
LEVELS = np.array([0.05, 0.25, 0.75, 0.95])
ONE_SD = np.array([0.1587, 0.8413])
SIDE = 41  # points along each side of the maps


@dataclass(frozen=True)
class DataSet:
    """A function drawn from a process of variance 1: n rows told with noise; a step, if any, is added at `step`."""

    name: str
    kernel: Any
    lengthscales: tuple[float, ...]
    noise: float
    n: int
    seed: int
    step: float | None = None

    def draw(self, grid: Array) -> tuple[Array, Array, Array]:
        """The function on the grid (k,), rows (n, d) and told values (n,).

        >>> values, X, y = LINES[0].draw(np.zeros((1, 1)))
        >>> values.shape, X.shape, y.shape
        ((1,), (6, 1), (6,))
        """
        from surrogates.kernels import correlation, squared_distances

        rng = np.random.default_rng(self.seed)
        X = rng.random((self.n, grid.shape[1]))
        points = np.concatenate([grid, X])
        scaled = points / np.array(self.lengthscales)
        K = correlation(self.kernel, squared_distances(scaled, scaled)) + 1e-8 * np.eye(len(points))
        values = np.linalg.cholesky(K) @ rng.standard_normal(len(points))
        if self.step is not None:
            values += 2.5 * (points[:, 0] > self.step)
        return values[: len(grid)], X, values[len(grid) :] + self.noise * rng.standard_normal(self.n)

    def exact(self, X: Array, y: Array) -> Any:
        """The process with the true hyperparameters after the rows."""
        from surrogates.columns import Inputs
        from surrogates.gp import condition
        from surrogates.map_fit import Fitted

        known = Fitted(np.array(self.lengthscales), 1.0, self.noise**2, 0.0, 0.0, 0.0, 0)
        return condition(Inputs.continuous(X.shape[1]), X, y[:, None], [known], self.kernel)


LINES = (
    DataSet("smooth", "rbf", (0.18,), 1e-4, 6, 4),
    DataSet("noisy", "matern52", (0.25,), 0.3, 24, 2),
    DataSet("a step unknown to the GP", "matern52", (0.45,), 0.02, 16, 6, step=0.55),
)
MAP = DataSet("two inputs", "matern52", (0.25, 0.6), 1e-3, 18, 3)


def draw_beliefs(folder: Path, weights: str | Path | None = None) -> list[Path]:
    """Write beliefs_1d.png and beliefs_2d.png to the folder; returns their paths.

    weights: a file of weights, None for the package's own. Raises ValueRefused where they cannot be read.
    """
    from surrogates.pfn.shipped import PATH
    from surrogates.pfn.weights import load_weights

    network = load_weights(Path(weights) if weights is not None else PATH)[0]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "beliefs_1d.png", folder / "beliefs_2d.png"]
    with drawing():
        paths[0].write_bytes(png_bytes(_lines(network)))
        paths[1].write_bytes(png_bytes(_maps(network)))
    return paths


def _pfn(network: Network, X: Array, y: Array) -> Predictive:
    from surrogates.columns import Inputs
    from surrogates.pfn.posterior import fit_pfn

    return fit_pfn(Inputs.continuous(X.shape[1]), X, y[:, None], network)


def _lines(network: Network) -> Figure:
    from matplotlib.figure import Figure
    from scipy.special import ndtri

    figure = Figure(figsize=(9.0, 4.8), layout="constrained")
    panels = figure.subplots(2, len(LINES), sharex=True, sharey="col")
    grid = np.linspace(0.0, 1.0, 301)[:, None]
    pfn_colour, gp_colour = (look.colour for look in looks(["pfn", "gp"]).values())
    for data, (above, below) in zip(LINES, panels.T, strict=True):
        truth, X, y = data.draw(grid)
        pfn, gp = _pfn(network, X, y), data.exact(X, y)
        _band(above, grid, pfn.mean_variance(grid)[0][:, 0], pfn.quantiles(grid, LEVELS)[:, 0], pfn_colour)
        mean, variance = (part[:, 0] for part in gp.mean_variance(grid))
        spread = np.sqrt(np.maximum(variance, 0.0))[:, None]
        _band(below, grid, mean, mean[:, None] + spread * ndtri(LEVELS), gp_colour)
        for axes in (above, below):
            shown = np.where(np.abs(np.diff(truth, prepend=truth[0])) > 1.0, np.nan, truth)
            axes.plot(grid[:, 0], shown, color=INK, linewidth=1.0, linestyle=(0, (1.5, 1.5)), label="function")
            axes.plot(X[:, 0], y, "o", color=INK, markersize=3.2, label="told rows")
            tidy(axes, "both")
        above.set_title(f"{data.name}, {data.n} rows")
        below.set_xlabel("x")
        reach = np.concatenate([truth, y])
        room = 0.25 * (reach.max() - reach.min())
        above.set_ylim(reach.min() - room, reach.max() + room)
    panels[0, 0].set_ylabel("PFN")
    panels[1, 0].set_ylabel("exact GP")
    handles, labels = panels[1, 0].get_legend_handles_labels()
    above_handles, _ = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles=[(a, b) if i < 3 else b for i, (a, b) in enumerate(zip(above_handles, handles, strict=True))],
                  labels=labels, loc="outside lower center", ncols=5, handler_map=_pairs())  # fmt: skip
    return figure


def _pairs() -> dict[type, Any]:
    from matplotlib.legend_handler import HandlerTuple

    return {tuple: HandlerTuple(ndivide=None, pad=0.3)}


def _band(axes: Axes, grid: Array, mean: Array, quantiles: Array, colour: str) -> None:
    """Mean and the central 50 and 90 % of the noise-free values; quantiles (k, 4)."""
    x = grid[:, 0]
    axes.plot(x, mean, color=colour, linewidth=1.6, label="mean")
    axes.fill_between(x, quantiles[:, 1], quantiles[:, 2], color=colour, alpha=0.35, linewidth=0, label="50 %")
    axes.fill_between(x, quantiles[:, 0], quantiles[:, 3], color=colour, alpha=0.18, linewidth=0, label="90 %")


def _maps(network: Network) -> Figure:
    from matplotlib.figure import Figure

    side = np.linspace(0.0, 1.0, SIDE)
    grid = np.stack([part.ravel() for part in np.meshgrid(side, side, indexing="xy")], 1)
    truth, X, y = MAP.draw(grid)
    pfn, gp = _pfn(network, X, y), MAP.exact(X, y)
    mean, (gp_mean, gp_variance) = pfn.mean_variance(grid)[0][:, 0], (part[:, 0] for part in gp.mean_variance(grid))
    low, high = pfn.quantiles(grid, ONE_SD)[:, 0].T
    sd, gp_sd = 0.5 * (high - low), np.sqrt(np.maximum(gp_variance, 0.0))
    figure = Figure(figsize=(9.0, 5.6), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    everything = np.concatenate([truth, gp_mean])
    values = {"vmin": float(everything.min()), "vmax": float(everything.max()), "cmap": "viridis"}
    doubts = {"vmin": 0.0, "vmax": 1.3 * float(gp_sd.max()), "cmap": "magma"}
    titles = ("function and told rows", "mean, PFN", "mean, exact GP", "distance of the two means", "half of the central 68 %, PFN",
              "half of the central 68 %, exact GP")  # fmt: skip
    for place, (axes, shown) in enumerate(
        zip(panels.ravel(), (truth, mean, gp_mean, abs(mean - gp_mean), sd, gp_sd), strict=True)
    ):
        scale: dict[str, Any] = values if place < 3 else doubts
        image = axes.imshow(
            shown.reshape(SIDE, SIDE), origin="lower", extent=(0, 1, 0, 1), interpolation="bilinear", **scale
        )
        axes.plot(X[:, 0], X[:, 1], "o", color="white", markeredgecolor=INK, markeredgewidth=0.7, markersize=3.4)
        axes.set_title(titles[place])
        axes.tick_params(length=2.5, width=0.6, colors=MUTED)
        if place in (2, 5):
            bar = figure.colorbar(image, ax=panels[place // 3].tolist(), shrink=0.9, pad=0.01)
            bar.outline.set_visible(False)
    return figure
