"""Write a report to a folder: the page, the CSV files and the PNG files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from bbopt.errors import UsageError
from bbopt.report import figures, tables
from bbopt.report.data import Bench
from bbopt.report.page import render
from bbopt.report.statistics import FLOOR
from bbopt.report.summary import Summary, summarize
from bbopt.report.theme import Look, drawing, looks, png_bytes

__all__ = ["write_bench", "write_report"]

_CSV: dict[str, tuple[Callable[[Summary], Iterable[tables.Row]], str]] = {
    "trials.csv": (tables.trial_rows, "every evaluation, one per row"),
    "runs.csv": (tables.run_rows, "every run of the plan, one per row"),
    "summary.csv": (tables.summary_rows, "quartiles over the seeds, per problem and strategy"),
    "ranks.csv": (tables.rank_rows, "ranks per problem and strategy"),
    "designs.csv": (tables.design_rows, "the best design of each problem beside the known optimum"),
}


def write_report(folder: str | Path, floor: float = FLOOR, evaluations: int | None = None) -> Path:
    """Write the report of a benchmark folder (as `bbopt.bench.run_bench` makes it) and return the path of the page.

    The page is `folder/report/index.html`; CSV and PNG files stand next to it. With `evaluations` the report is of the
    first so many of every run, in `folder/report-N`. A folder that is only partly run gives a
    report that says what is missing. Gaps below `floor` count as equal. Raises `bbopt.errors.UsageError` where the
    folder holds no benchmark.
    """
    from bbopt.report.load import load

    folder = Path(folder)
    bench = load(folder)
    if evaluations is None:
        return write_bench(bench, folder / "report", floor)
    if evaluations < 1:
        raise UsageError(f"expected evaluations of at least 1, got {evaluations}")
    return write_bench(bench.first(evaluations), folder / f"report-{evaluations}", floor)


def write_bench(bench: Bench, out: Path, floor: float = FLOOR) -> Path:
    """Write the report of plain records to the folder `out`, which is made if needed; return the path of the page."""
    out.mkdir(parents=True, exist_ok=True)
    summary = summarize(bench, floor)
    chosen = looks(bench.strategies)
    files = []
    for name, (rows, text) in _CSV.items():
        lines = tables.csv_text(list(rows(summary)))
        if lines:
            _replace(out / name, lines.encode())
            files.append((name, text))
    for name, content, text in _images(summary, chosen):
        _replace(out / name, content)
        files.append((name, text))
    footer = "Written by bbopt. The page needs no network; figures follow the light or dark scheme of the reader."
    page = out / "index.html"
    _replace(page, render(summary, chosen, files, footer).encode())
    return page


def _images(summary: Summary, chosen: dict[str, Look]) -> list[tuple[str, bytes, str]]:
    made = []
    with drawing():
        for panel, name, text in (
            ("gap", "convergence.png", "gap against evaluations, all problems"),
            ("best", "best_feasible.png", "best feasible value against evaluations, all problems"),
            ("feasible", "share_feasible.png", "share of runs with a feasible point, all problems"),
        ):
            made.append((name, png_bytes(figures.sheet(panel, summary, chosen)), text))
        single = [("first_feasible.png", figures.first_feasible_figure(summary, chosen), "evaluations to feasibility")]
        if summary.comparison is not None:
            ranks = figures.ranks_figure(summary.comparison, chosen)
            single.append(("ranks.png", ranks, "mean ranks with the critical difference"))
        seconds = figures.seconds_figure(summary, chosen)
        if seconds is not None:
            single.append(("seconds_per_ask.png", seconds, "CPU seconds per ask"))
        made += [(name, png_bytes(figure), text) for name, figure, text in single]
    return made


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds either the old one or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
