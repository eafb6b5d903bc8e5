"""Reading a folder's runs, and writing its page: one HTML file that needs no network, the picture and a CSV file beside it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection
from importlib import resources
from pathlib import Path

from bbopt.compare import gaps
from bbopt.compare import summary as summaries
from bbopt.compare.cell import Cell, read_cell
from bbopt.compare.picture import curves_figure, seconds_figure
from bbopt.compare.summary import Summary
from bbopt.compare.tables import all_tables, verdict_lines
from bbopt.errors import UsageError
from bbopt.report.theme import css_variables, drawing, inline_svg, png_bytes

__all__ = ["definitions", "load_cells", "notes_of", "write_comparison"]

PAGE, PICTURE, CSV = "comparison.html", "comparison.png", "comparison.csv"


def load_cells(
    folder: str | Path,
    problems: Collection[str] | None = None,
    peers: Collection[str] | None = None,
    seeds: Collection[int] | None = None,
) -> list[Cell]:
    """The runs that a folder holds, of these problems, peers and seeds, in this order, all of them by default. Raises
    UsageError where there are none."""
    from bbopt.bench.plan import read_json
    from bbopt.compare.run import DEFINITION

    document = read_json(Path(folder) / DEFINITION)
    order = [*(problems if problems is not None else document.get("problems", ()))]
    among = [*(peers if peers is not None else document.get("peers", ()))]
    cells = [cell for path in (Path(folder) / "cells").glob("*/*/*.json") if (cell := read_cell(path)) is not None]
    chosen = [
        cell for cell in cells if cell.problem in order and cell.peer in among and (seeds is None or cell.seed in seeds)
    ]
    if not chosen:
        raise UsageError(f"compare: no runs of these problems, peers and seeds in {folder}")
    return sorted(chosen, key=lambda cell: (order.index(cell.problem), among.index(cell.peer), cell.seed))


def notes_of(summary: Summary, left_out: dict[str, str], refused: dict[tuple[str, str], str]) -> list[str]:
    """What a reader must know: who is left out and why, who failed, what is of different versions."""
    notes = [f"{peer} is left out: {why}" for peer, why in left_out.items()]
    notes += [f"{peer} does not have {problem}, and is not ranked: {why}" for (problem, peer), why in refused.items()]
    for cell in summary.errors:
        notes.append(f"{cell.peer} failed on {cell.problem}, seed {cell.seed}, after {len(cell.points)} evaluations; its "
                     f"best value stands from there on: {cell.error}")  # fmt: skip
    notes += [f"{peer}: runs of several versions: {', '.join(found)}; --again {peer} makes them anew"
              for peer, found in summary.versions.items() if len(found) > 1]  # fmt: skip
    return notes


def definitions() -> list[str]:
    """How the numbers are made."""
    found = []
    for text in (gaps.__doc__, summaries.__doc__):
        parts = (text or "").strip().split("\n\n")[1:]
        found += [" ".join(part.split()) for part in parts]
    found.append(
        "Every run starts as its peer recommends, with its own initial points; nothing is shared between peers. CPU seconds "
        "are of one process with one numerical thread, all peers one after the other on the same machine; what a toolkit "
        "imports at its first ask is counted there."
    )
    return found


def write_comparison(
    folder: str | Path,
    summary: Summary,
    left_out: dict[str, str] | None = None,
    refused: dict[tuple[str, str], str] | None = None,
) -> Path:
    """Write `comparison.html`, `comparison.png` and `comparison.csv` into the folder; return the path of the page."""
    from jinja2 import Environment
    from markupsafe import Markup

    folder = Path(folder)
    light, dark = css_variables()
    css = resources.files("bbopt.report").joinpath("page.css").read_text("utf-8")
    template = resources.files("bbopt.compare").joinpath("page.html").read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    with drawing():
        curves = inline_svg(curves_figure(summary), "curves", "Median log gap of every peer against evaluations")
        seconds = inline_svg(seconds_figure(summary), "seconds", "Mean rank against CPU seconds per ask")
        _replace(folder / PICTURE, png_bytes(curves_figure(summary)))
    runs = sum(len(found) for found in summary.seeds.values())
    page = environment.from_string(template).render(
        title="bbopt beside other toolkits",
        css=Markup(css.replace("LIGHT", light).replace("DARK", dark)),
        lead=f"{len(summary.peers)} peers on {len(summary.problems)} problems, {summary.budget} evaluations per run, "
        f"{runs} runs. A gap is the distance of the best feasible value from the known optimum.",
        verdict=verdict_lines(summary.verdicts),
        notes=notes_of(summary, left_out or {}, refused or {}),
        tables=all_tables(summary),
        curves=Markup(curves),
        seconds=Markup(seconds),
        settings=list(summary.settings.items()),
        definitions=definitions(),
        footer="Written by bbopt. The page needs no network; figures follow the light or dark scheme of the reader.",
    )
    _replace(folder / PAGE, page.encode())
    _replace(folder / CSV, _csv(summary).encode())
    return folder / PAGE


def _csv(summary: Summary) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["problem", "peer", "seeds", "evaluation", "median_log10_gap"])
    for (problem, peer), curve in summary.curves.items():
        for n, value in enumerate(curve.tolist(), 1):
            writer.writerow([problem, peer, len(summary.seeds[problem, peer]), n, f"{value:.6g}"])
    return text.getvalue()


def _replace(path: Path, content: bytes) -> None:
    """A reader finds either the old file or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
