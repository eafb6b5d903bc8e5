"""The page of advice on one study: one HTML file that needs no network, with the words, tables and pictures of `bbopt.advice`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bbopt.advice import figures
from bbopt.advice.lines import Slice, slices
from bbopt.advice.model_quality import Quality, quality
from bbopt.advice.plane import Contour, contour
from bbopt.advice.remaining import Stopping, stopping
from bbopt.advice.sensitivity import Importance, importance
from bbopt.advice.study_model import StudyModel, number_text, studied
from bbopt.errors import BboptError
from bbopt.report.theme import css_variables, inline_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bbopt.optimizer import Optimizer

__all__ = ["Advice", "advise", "write_advice"]

PAGE = "advice.html"


@dataclass(frozen=True, eq=False)
class Advice:
    """All advice on a study; what cannot be had is None, and `missing` says why."""

    known: StudyModel
    stopping: Stopping | None
    quality: Quality | None
    importance: Importance | None
    slices: list[Slice]
    contour: Contour | None
    missing: tuple[str, ...]


def advise(study: Optimizer | StudyModel, tolerance: float | None = None) -> Advice:
    """Everything at once, from one fit: the contour is over the two most important columns.

    Raises what `bbopt.advice.studied` raises: without a told value there is no advice.
    """
    known = studied(study)
    missing: list[str] = []

    def tried(make: Callable[[], Any]) -> Any:
        try:
            return make()
        except BboptError as error:
            missing.append(str(error))
            return None

    weights = tried(lambda: importance(known))
    lines = slices(known)
    pair = _pair(known, weights, lines)
    return Advice(
        known, tried(lambda: stopping(known, tolerance=tolerance)), tried(lambda: quality(known)), weights, lines,
        tried(lambda: contour(known, *pair)) if pair else None, tuple(missing),
    )  # fmt: skip


def _pair(known: StudyModel, weights: Importance | None, lines: list[Slice]) -> tuple[str, str] | None:
    """The two most important columns that exist at the best point."""
    shown = [line.column.label for line in lines]
    space = known.task.space
    if weights is not None:
        rank = {weights.parameters[i]: place for place, i in enumerate(weights.order(0))}
        names = list(space.parameters)
        shown.sort(key=lambda label: rank[names[space.columns.group[known.labels.index(label)]]])
    return (shown[0], shown[1]) if len(shown) >= 2 else None


def write_advice(
    study: Optimizer | StudyModel | Advice, folder: str | os.PathLike[str], tolerance: float | None = None
) -> Path:
    """Write `advice.html` into the folder, which is made if it is not there; returns its path. The study is only read."""
    from jinja2 import Environment
    from markupsafe import Markup

    found = study if isinstance(study, Advice) else advise(study, tolerance)
    light, dark = css_variables()
    css = (
        resources.files("bbopt.report")
        .joinpath("page.css")
        .read_text("utf-8")
        .replace("LIGHT", light)
        .replace("DARK", dark)
    )
    template = resources.files("bbopt.advice").joinpath("page.html").read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    with figures.drawing():
        drawn = {name: Markup(inline_svg(figure, name, label)) for name, figure, label in _figures(found)}
    known = found.known
    page = environment.from_string(template).render(
        title=f"Advice on {known.name}",
        css=Markup(css),
        lead=f"{known.n} told rows, {known.task.space.dimension} parameter columns, {', '.join(known.task.metrics)}.",
        advice=found,
        figures=drawn,
        quality_rows=[quality_row(one) for one in found.quality.metrics] if found.quality else [],
        importance_rows=importance_rows(found.importance),
        point=[
            (name, _text(value)) for name, value in known.task.space.decode(known.state.X[known.best_row()]).items()
        ],
        trial=int(known.numbers[known.best_row()]),
        next=[(name, _text(value)) for name, value in found.stopping.next.items()] if found.stopping else [],
        footer="Written by bbopt. The page needs no network; figures follow the light or dark scheme of the reader.",
    )
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    part = target / f".{PAGE}.{os.getpid()}"
    part.write_bytes(page.encode())
    part.replace(target / PAGE)
    return target / PAGE


def _figures(found: Advice) -> list[tuple[str, Figure, str]]:
    drawn: list[tuple[str, Figure, str]] = []
    if found.stopping is not None:
        drawn.append(
            ("stopping", figures.stopping_figure(found.stopping), "Expected gain and regret bound against told rows")
        )
    if found.quality is not None:
        drawn.append(
            ("quality", figures.quality_figure(found.quality), "Told values against leave-one-out predictions")
        )
    if found.importance is not None:
        drawn.append(("importance", figures.importance_figure(found.importance), "Importance of the parameters"))
    drawn.append(("slices", figures.slices_figure(found.slices), "The model along each parameter"))
    if found.contour is not None:
        drawn.append(("contour", figures.contour_figure(found.contour), "The model over two parameters"))
    return drawn


def quality_row(one: Any) -> list[str]:
    shares = [f"{100 * share:.0f} %" for share in (one.inside_50, one.inside_90)]
    return [one.label, number_text(one.q2, 3), number_text(one.log_score, 3), *shares, one.verdict,
            ", ".join(map(str, one.worst[:3])) or "-"]  # fmt: skip


def importance_rows(found: Importance | None) -> list[list[str]]:
    if found is None:
        return []
    return [
        [found.parameters[i], number_text(found.total[0, i], 2), number_text(found.error[0, i], 1), number_text(found.first[0, i], 2),
         number_text(found.relevance[0, i], 2)]
        for i in found.order(0)
    ]  # fmt: skip


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        shown = ", ".join(number_text(float(item)) for item in value.ravel()[:6])
        return f"{shown}, …" if value.size > 6 else shown
    return number_text(value, 6) if isinstance(value, float) else str(value)
