"""Three answers to the same eight rows, side by side: the fitted process, the amortised one, and Bayes'.

The same is believed before the data by all three (`surrogates.prior.Prior.plain`: Matern-5/2, mean 0, variance 1, a
lengthscale and a noise that are not known). The fitted process takes the most probable pair of these as if it were known;
the amortised one weighs some dozens of pairs; the third is their posterior by tempered sequential Monte Carlo
(`surrogates.bayes_floor`), exact but for the number of particles. The data set was chosen to show what taking one pair can cost:
over forty such sets the fitted process was 0.3 nats per point from Bayes' in the middle (median), the amortised one 0.01.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bbopt.report.theme import INK, drawing, looks, png_bytes, tidy
from bbopt.report_beliefs import DataSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from surrogates.evaluation.gaps import Belief

__all__ = ["Answers", "answer", "draw_answers"]

Array = NDArray[np.float64]
DATA = DataSet("eight rows", "matern52", (0.2,), 0.1, 8, 39)
POINTS = 201
LEVELS = (0.05, 0.25, 0.75, 0.95)
NODES = 128  # draws for the distance between two predictions
WHO = {"fitted": "fitted GP: one lengthscale, one noise", "amortised": "amortised GP: weighed draws", "bayes": "Bayes: all of them (SMC)"}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Answers:
    """On a grid (k,): the function (k,), beliefs by name; rows X (n,) and y (n,).

    nats: how far each prediction of the function is from Bayes', on average over the grid (Kullback and Leibler's divergence).
    """

    grid: Array
    truth: Array
    X: Array
    y: Array
    beliefs: dict[str, Belief]
    nats: dict[str, float]


def answer(
    weights: str | Path | None = None, particles: int = 300, points: int = POINTS, data: DataSet = DATA
) -> Answers:
    """What the three say after the rows of a data set in one column.

    weights: of the amortised process, None for the package's own. particles: in each of two populations; the more, the
    more exact is the third. Raises ValueRefused where the weights cannot be read.

    >>> found = answer(particles=24, points=9)
    >>> found.grid.shape, sorted(found.nats)
    ((9,), ['amortised', 'fitted'])
    """
    import torch

    from surrogates.amortised.hyperprior import Hyperprior
    from surrogates.amortised.shipped import load_network
    from surrogates.evaluation.amortised import read_amortised
    from surrogates.evaluation.rivals import fitted, floor, joined
    from surrogates.evaluation.tasks import Cell
    from surrogates.training.threads import limited_threads

    network = None if weights is None else load_network(Path(weights))[0]
    grid = np.linspace(0.0, 1.0, points)
    truth, rows, values = data.draw(grid[:, None])
    X, y, Q = (torch.from_numpy(part)[None] for part in (rows, values, grid[:, None]))
    cell = Cell("plain", 1, len(values))
    with limited_threads(1):
        asked = replace(cell.tasks(1), X=X, y=y, Q=Q)
        beliefs = {
            "fitted": fitted(cell, asked, "right"),
            "amortised": read_amortised(network, Hyperprior.plain(), X, y, Q).belief,
            "bayes": joined(*floor(asked, particles)),
        }
        draws = beliefs["bayes"].latent.draw(NODES, torch.Generator().manual_seed(0))
        at, sharp = draws.permute(1, 2, 0), torch.zeros(1, 1, dtype=torch.float64)
        heights = {name: belief.log_density(True, at, sharp) for name, belief in beliefs.items()}
    nats = {name: float((heights["bayes"] - heights[name]).mean()) for name in ("fitted", "amortised")}
    return Answers(grid, truth, rows[:, 0], values, beliefs, nats)


def draw_answers(path: Path, weights: str | Path | None = None, particles: int = 300) -> Answers:
    """Write the picture (PNG) to the path; arguments and result are those of `answer`."""
    found = answer(weights, particles)
    path.parent.mkdir(parents=True, exist_ok=True)
    with drawing():
        path.write_bytes(png_bytes(_figure(found)))
    return found


def _figure(found: Answers) -> Figure:
    import torch
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 2.9), layout="constrained")
    panels = figure.subplots(1, len(WHO), sharex=True, sharey=True)
    colours = looks(list(WHO))
    for (name, title), axes in zip(WHO.items(), panels, strict=True):
        belief, colour = found.beliefs[name], colours[name].colour
        low, first, third, high = belief.quantiles(torch.tensor(LEVELS, dtype=torch.float64))[0].numpy().T
        axes.fill_between(found.grid, low, high, color=colour, alpha=0.18, linewidth=0, label="90 %")
        axes.fill_between(found.grid, first, third, color=colour, alpha=0.35, linewidth=0, label="50 %")
        axes.plot(found.grid, belief.middle()[0].numpy(), color=colour, linewidth=1.6, label="mean")
        axes.plot(found.grid, found.truth, color=INK, linewidth=1.0, linestyle=(0, (1.5, 1.5)), label="function")
        axes.plot(found.X, found.y, "o", color=INK, markersize=3.6, label="told rows")
        axes.set_title(title)
        if name in found.nats:
            axes.set_xlabel(f"{found.nats[name]:.2f} nats per point from Bayes'")
        tidy(axes, "both")
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles=handles, labels=labels, loc="outside lower center", ncols=5)
    return figure
