"""The page of a report: words, numbers and figures put into the template, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import count
from typing import Any

from bbopt.report import cells, figures, words
from bbopt.report.summary import ProblemView, Summary
from bbopt.report.theme import Look, css_variables, drawing, inline_svg

__all__ = ["render"]


class _Numbers:
    """Running numbers of figures and tables, in the order of the page."""

    def __init__(self) -> None:
        self._figures, self._tables = count(1), count(1)

    def figure(self) -> int:
        return next(self._figures)

    def table(self) -> int:
        return next(self._tables)


def render(summary: Summary, chosen: Mapping[str, Look], files: Sequence[tuple[str, str]], footer: str) -> str:
    """The whole page as text.

    `chosen` has the look of each strategy, `files` the names and descriptions of the files beside the page.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    folder = resources.files("bbopt.report")
    light, dark = css_variables()
    css = folder.joinpath("page.css").read_text("utf-8").replace("LIGHT", light).replace("DARK", dark)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(folder.joinpath("page.html").read_text("utf-8"))
    bench, order = summary.bench, list(chosen)
    feasible = cells.feasible_table(summary)
    with drawing():
        drawn = {name: Markup(svg) for name, svg in _figures(summary, chosen, bool(feasible)).items()}
        panels = [_panel(view, summary, chosen, place) for place, view in enumerate(summary.problems)]
    shown = [panel for panel in panels if panel["feasible"]]
    sections = [("protocol", "Protocol"), ("ranks", "Mean ranks"), ("convergence", "Convergence")]
    sections += [
        ("best", "Best feasible value"),
        ("feasibility", "Finding a feasible point"),
        ("cost", "Seconds per ask"),
    ]
    sections += [("designs", "Best designs"), ("definitions", "Definitions")]
    absent = {"ranks": summary.comparison is None, "feasibility": not feasible, "cost": "seconds" not in drawn}
    return template.render(
        title=f"Benchmark report: {bench.title}",
        css=Markup(css),
        lead=words.lead(summary),
        findings=words.findings(summary),
        sections=[(anchor, name) for anchor, name in sections if not absent.get(anchor)],
        missing=words.missing(summary),
        failures=[(f"{r.problem}/{r.strategy}/{r.seed}", r.error) for r in bench.runs if r.error],
        protocol=words.protocol(summary),
        numbers=_Numbers(),
        figures=drawn,
        panels=panels,
        keys=[(name, Markup(key)) for name, key in figures.legend_keys(chosen, order)],
        strategies=list(bench.strategies),
        rank_caption=words.rank_caption(summary),
        rank_table=cells.rank_table(summary),
        pair_table=cells.pair_table(summary),
        gap_caption=words.gap_caption(summary),
        value_caption="Best feasible value at the end of the run: median over the seeds; below it the range between the "
        "quartiles and the median relative gap. Bold: the smallest median gap of the problem.",
        value_table=cells.value_table(summary),
        best_caption="Best feasible value against evaluations, median and quartiles over the seeds. Dotted: the known "
        "optimum. The vertical axis ends where the quartiles stand after the initial points.",
        all_known=all(view.known for view in summary.problems),
        feasible_table=feasible,
        seconds_table=cells.seconds_table(summary),
        trivial="Problems where every run has one among its initial points are left out."
        if len(shown) < len(panels)
        else "",
        designs=[cells.design(view) for view in summary.problems],
        definitions=words.definitions(summary),
        sources=[(view.facts.label, f"{view.facts.docs} {view.facts.source}".strip()) for view in summary.problems],
        files=files,
        footer=footer,
    )


def _figures(summary: Summary, chosen: Mapping[str, Look], feasibility: bool) -> dict[str, str]:
    drawn = {}
    if summary.comparison is not None:
        figure = figures.ranks_figure(summary.comparison, _in_order(summary, chosen))
        drawn["ranks"] = inline_svg(figure, "ranks", "Critical difference diagram of mean ranks")
    if feasibility:
        figure = figures.first_feasible_figure(summary, chosen)
        drawn["first"] = inline_svg(figure, "first", "Evaluations to the first feasible point by problem")
    by_problem = figures.seconds_figure(summary, chosen)
    curve = figures.seconds_curve_figure(summary, chosen)
    if by_problem is not None and curve is not None:
        drawn["seconds"] = inline_svg(by_problem, "seconds", "CPU seconds per ask by problem")
        drawn["curve"] = inline_svg(curve, "curve", "CPU seconds per ask by evaluation")
    return drawn


def _in_order(summary: Summary, chosen: Mapping[str, Look]) -> dict[str, Look]:
    """Looks in the order of the definition, which is the order of the columns of a comparison."""
    return {name: chosen[name] for name in summary.bench.strategies}


def _panel(view: ProblemView, summary: Summary, chosen: Mapping[str, Look], place: int) -> dict[str, Any]:
    from markupsafe import Markup

    def svg(kind: str) -> Markup:
        figure = figures.panel_figure(kind, view, summary, chosen)
        label = f"{view.facts.label}: {figures.PANELS[kind][1]} against evaluations"
        return Markup(inline_svg(figure, f"{kind}{place}", label))

    first = [value for cell in view.cells.values() for value in cell.first]
    trivial = not view.facts.constraints or (bool(first) and max(first) <= summary.bench.initial)
    return {
        "label": view.facts.label,
        "size": words.size(view.facts),
        "gap": svg("gap"),
        "best": svg("best"),
        "feasible": "" if trivial else svg("feasible"),
    }
