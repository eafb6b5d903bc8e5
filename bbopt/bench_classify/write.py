"""Write the report of a comparison of classifiers to a folder: the page, CSV files and PNG files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbopt.bench_classify import figures, words
from bbopt.bench_classify.figures import LABELS, label
from bbopt.bench_classify.scores import SCORES
from bbopt.bench_classify.summary import MEASURES, Summary, best, load
from bbopt.report.figures import legend_keys, ranks_figure
from bbopt.report.tables import csv_text
from bbopt.report.theme import Look, css_variables, drawing, inline_svg, looks, number, png_bytes
from problems.classification import data_set

__all__ = ["write_report"]

Floats = NDArray[np.float64]


def write_report(folder: str | Path) -> Path:
    """Write the report of a folder of `run_classify` and return the path of the page, `folder/report/index.html`.

    A comparison that is not complete gives a report that says what is missing. Raises `bbopt.errors.UsageError` where the
    folder holds none.
    """
    summary = load(folder)
    out = Path(folder) / "report"
    out.mkdir(parents=True, exist_ok=True)
    chosen = looks(summary.models)
    files = {"results.csv": ("every trained model, one per row", csv_text(_result_rows(summary)).encode())}
    files["summary.csv"] = ("means per data set, size and model", csv_text(summary.rows()).encode())
    with drawing():
        files["f1.png"] = ("F1 against training rows, all data sets", png_bytes(figures.sheet(summary, chosen)))
        others = png_bytes(figures.score_sheet(summary, chosen))
        files["scores.png"] = ("ROC area, log loss, calibration and time against training rows", others)
        if summary.comparison is not None:
            drawn = png_bytes(ranks_figure(summary.comparison, _shown(chosen)))
            files["ranks.png"] = ("mean ranks by F1 with the critical difference", drawn)
    for name, (_, content) in files.items():
        _replace(out / name, content)
    page = out / "index.html"
    _replace(page, _page(summary, chosen, [(name, text) for name, (text, _) in files.items()]).encode())
    return page


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds either the old one or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)


def _result_rows(summary: Summary) -> list[dict[str, Any]]:
    """One row per trained model, in the order of the definition."""
    order = {name: place for place, name in enumerate((*summary.data, *summary.models))}
    rows = [result.to_json() for result in summary.results.values() if not result.error]
    return sorted(rows, key=lambda row: (order[row["data"]], row["size"], row["seed"], order[row["model"]]))


def _page(summary: Summary, chosen: Mapping[str, Look], files: list[tuple[str, str]]) -> str:
    from jinja2 import Environment
    from markupsafe import Markup

    light, dark = css_variables()
    css = resources.files("bbopt.report").joinpath("page.css").read_text("utf-8")
    css = css.replace("LIGHT", light).replace("DARK", dark)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files(__package__).joinpath("page.html").read_text("utf-8"))
    with drawing():
        drawn = {name: Markup(svg) for name, svg in _figures(summary, chosen).items()}
        panels = [_panel(summary, chosen, place) for place in range(len(summary.data))]
    sections = (("protocol", "Protocol"), ("f1", "F1"), ("ranks", "Mean ranks"), ("probabilities", "Probabilities"),
                ("time", "Time"), ("quoted", "Quoted"), ("definitions", "Definitions"))  # fmt: skip
    captions = {
        "auc": "Area under the ROC curve; for three classes the mean of one against the rest.",
        "log_loss": "Log loss in nats.",
        "calibration": "Class-wise calibration error.",
    }
    return template.render(
        title="Classifiers of engineering designs",
        css=Markup(css),
        lead=words.lead(summary),
        sections=sections,
        missing=words.missing(summary),
        protocol=words.protocol(summary),
        keys=[(label(name), Markup(key)) for name, key in legend_keys(chosen, list(chosen))],
        panels=panels,
        f1_table=_f1_table(summary),
        figures=drawn,
        difference_caption=words.difference_caption(summary),
        rank_caption=words.rank_caption(summary),
        rank_table=_rank_table(summary),
        score_tables=[(caption, _sized(summary, measure)) for measure, caption in captions.items()],
        seconds_table=_sized(summary, "seconds"),
        quoted_text=words.QUOTED_TEXT,
        quoted_columns=words.QUOTED_COLUMNS,
        quoted=words.QUOTED,
        definitions=words.definitions(summary),
        models=[(label(name), words.about_model(summary, name)) for name in summary.models],
        data=[(label(name), words.about_data(name)) for name in summary.data],
        files=files,
    )


def _figures(summary: Summary, chosen: Mapping[str, Look]) -> dict[str, str]:
    drawn = {"rank": inline_svg(figures.rank_figure(summary, chosen), "rank", "Mean rank against training rows")}
    for measure in ("auc", "log_loss", "calibration", "seconds"):
        figure = figures.score_figure(summary, chosen, measure)
        drawn[measure] = inline_svg(figure, measure, f"{LABELS[measure]} against training rows")
    if summary.comparison is not None:
        figure = ranks_figure(summary.comparison, _shown(chosen))
        drawn["difference"] = inline_svg(figure, "difference", "Critical difference diagram of mean ranks")
    return drawn


def _shown(chosen: Mapping[str, Look]) -> dict[str, Look]:
    """Looks by names for readers."""
    return {label(name): look for name, look in chosen.items()}


def _panel(summary: Summary, chosen: Mapping[str, Look], place: int) -> dict[str, Any]:
    from markupsafe import Markup

    name = summary.data[place]
    made = data_set(name)
    svg = inline_svg(
        figures.f1_figure(summary, chosen, place), f"f1{place}", f"{label(name)}: F1 against training rows"
    )
    rare = "macro F1" if made.positive is None else f"{number(100 * made.shares[made.positive], 3)} % positive"
    return {"label": label(name), "size": f"{made.dimension} features, {rare}", "svg": Markup(svg)}


def _cells(values: Floats, digits: int, more: bool, below: Floats | None = None) -> list[dict[str, Any]]:
    """Cells of a row of values (models,), the best in bold, with other numbers below them."""
    bold = best(values.tolist(), more)
    found = []
    for place, value in enumerate(values.tolist()):
        text = "–" if value != value else f"{value:.{digits}f}"
        sub = "" if below is None or below[place] != below[place] else f"{below[place]:.{digits}f}"
        found.append({"value": text, "best": bold[place], "sub": sub})
    return found


def _f1_table(summary: Summary) -> list[list[dict[str, Any]]]:
    mean, deviation = summary.mean("f1"), summary.deviation("f1")
    return [
        [
            {"name": label(name), "size": size, "cells": _cells(mean[i, j], 3, True, deviation[i, j])}
            for j, size in enumerate(summary.sizes)
        ]
        for i, name in enumerate(summary.data)
    ]


def _rank_table(summary: Summary) -> list[list[dict[str, Any]]]:
    ranks = {measure: summary.ranks(measure) for measure in MEASURES}
    return [
        [
            {"name": LABELS[measure], "size": size, "cells": _cells(ranks[measure][j], 2, False)}
            for j, size in enumerate(summary.sizes)
        ]
        for measure in MEASURES
    ]


def _sized(summary: Summary, measure: str) -> list[dict[str, Any]]:
    values = summary.over_data(measure)
    more = SCORES.get(measure, False)
    return [{"name": size, "cells": _cells(values[j], 3, more)} for j, size in enumerate(summary.sizes)]
