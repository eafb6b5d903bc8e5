"""The page of a report: words, numbers and figures put into the template, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbopt.report import figures
from bbopt.report.data import ProblemFacts
from bbopt.report.statistics import cliques, quartiles
from bbopt.report.summary import ProblemView, Summary
from bbopt.report.theme import Look, css_variables, drawing, inline_svg, number

__all__ = ["render"]

Cells = list[dict[str, Any]]


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
    feasible = _feasible_table(summary)
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
        lead=_lead(summary),
        findings=_findings(summary),
        sections=[(anchor, name) for anchor, name in sections if not absent.get(anchor)],
        missing=_missing(summary),
        failures=[(f"{r.problem}/{r.strategy}/{r.seed}", r.error) for r in bench.runs if r.error],
        protocol=_protocol(summary),
        numbers=_Numbers(),
        figures=drawn,
        panels=panels,
        keys=[(name, Markup(key)) for name, key in figures.legend_keys(chosen, order)],
        strategies=list(bench.strategies),
        rank_caption=_rank_caption(summary),
        rank_table=_rank_table(summary),
        pair_table=_pair_table(summary),
        gap_caption=_gap_caption(summary),
        value_caption="Best feasible value at the end of the run: median over the seeds; below it the range between the "
        "quartiles and the median relative gap. Bold: the smallest median gap of the problem.",
        value_table=_value_table(summary),
        best_caption="Best feasible value against evaluations, median and quartiles over the seeds. Dotted: the known "
        "optimum. The vertical axis ends where the quartiles stand after the initial points.",
        all_known=all(view.known for view in summary.problems),
        feasible_table=feasible,
        seconds_table=_seconds_table(summary),
        trivial="Problems where every run has one among its initial points are left out."
        if len(shown) < len(panels)
        else "",
        designs=[_design(view) for view in summary.problems],
        definitions=_definitions(summary),
        sources=[(view.facts.label, view.facts.source) for view in summary.problems],
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
        "size": _size(view.facts),
        "gap": svg("gap"),
        "best": svg("best"),
        "feasible": "" if trivial else svg("feasible"),
    }


def _size(facts: ProblemFacts) -> str:
    """Number of variables and constraints, as `d = 4, 5 constraints`."""
    limits = len(facts.constraints)
    return f"d = {facts.dimension}" + (f", {limits} constraint{'s' * (limits != 1)}" if limits else "")


def _listing(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _counted(n: int, word: str) -> str:
    plural = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return f"{n} {word if n == 1 else plural}"


def _lead(summary: Summary) -> str:
    bench = summary.bench
    text = (
        f"{_counted(len(bench.strategies), 'strategy')} ({_listing(bench.strategies)}) on "
        f"{_counted(len(bench.problems), 'problem')} with {_counted(len(bench.seeds), 'seed')}, "
        f"{bench.budget} evaluations each"
    )
    if bench.initial:
        text += f", the first {bench.initial} of them shared by all strategies"
    return text + "."


def _findings(summary: Summary) -> list[str]:
    """What the numbers say, in sentences that hold for any outcome."""
    sentences = []
    comparison = summary.comparison
    if comparison is not None:
        ranks = dict(zip(summary.bench.strategies, comparison.mean_ranks, strict=True))
        text = "Mean ranks over " + _counted(len(summary.compared), "problem") + ": "
        text += ", ".join(f"{name} {ranks[name]:.2f}" for name in summary.order) + "."
        test = comparison.friedman
        if test is not None and comparison.difference is not None:
            text += f" Friedman test: χ² = {test.statistic:.2f}, p {_p(test.p)}."
            best, *others = summary.order
            apart = [name for name in others if ranks[name] - ranks[best] >= comparison.difference]
            if test.p < 0.05 and apart:
                text += f" {best} is significantly better than {_listing(apart)} (Nemenyi, 5 %)."
        sentences.append(text)
    solved = []
    for name in summary.order:
        known = [view for view in summary.problems if view.known and view.cells[name].n]
        within = sum(float(view.cells[name].final()[0][1]) <= 0.01 for view in known)
        if known:
            solved.append(f"{name} on {within} of {len(known)}")
    if solved:
        sentences.append("A median gap of at most 1 % to the known optimum was reached by " + _listing(solved) + ".")
    return sentences


def _missing(summary: Summary) -> list[str]:
    """What is not there yet, or cannot be right; empty for a complete benchmark."""
    bench, sentences = summary.bench, list(summary.bench.notes)
    failed = sum(bool(run.error) for run in bench.runs)
    if summary.complete < summary.planned:
        text = f"This benchmark is not complete: {summary.complete} of {_counted(summary.planned, 'run')} have used their budget."
        partial = [
            view.facts.label for view in summary.problems if any(c.complete < c.planned for c in view.cells.values())
        ]
        text += f" Missing in part or altogether: {_listing(partial)}." if len(partial) <= 20 else ""
        sentences.append(text + " Run the same command again to continue.")
    if failed:
        sentences.append(f"{_counted(failed, 'run')} failed; their tracebacks stand below.")
    if summary.comparison is not None and len(summary.compared) < len(summary.problems):
        left = [v.facts.label for v in summary.problems if v.facts.name not in summary.compared]
        sentences.append(f"Not in the ranks, because no seed is complete for all strategies: {_listing(left)}.")
    beaten = [view.facts.label for view in summary.problems if view.beaten]
    if beaten:
        sentences.append(f"Better than the known optimum, which should be looked into: {_listing(beaten)}.")
    unknown = [view.facts.label for view in summary.problems if not view.known]
    if unknown:
        sentences.append(
            f"No optimum is known for {_listing(unknown)}; gaps there refer to the best value of this benchmark."
        )
    return sentences


def _protocol(summary: Summary) -> list[tuple[str, str]]:
    bench = summary.bench
    seeds = ", ".join(map(str, bench.seeds))
    if len(bench.seeds) > 3 and list(bench.seeds) == list(range(bench.seeds[0], bench.seeds[-1] + 1)):
        seeds = f"{bench.seeds[0]} to {bench.seeds[-1]}"
    rows = [
        ("Evaluations per run", str(bench.budget)),
        ("Shared initial points", str(bench.initial) if bench.initial else "none"),
        ("Seeds", seeds),
        ("Runs complete", f"{summary.complete} of {summary.planned}"),
    ]
    rows += list(bench.protocol)
    return rows + [(f"Strategy {name}", bench.strategy_fields.get(name, "")) for name in bench.strategies]


def _p(p: float) -> str:
    """A p value with its sign; below 0.0001 only that."""
    return "< 0.0001" if p < 1e-4 else f"= {p:.2g}"


def _rank_caption(summary: Summary) -> str:
    comparison = summary.comparison
    if comparison is None:
        return ""
    text = f"Mean rank of each strategy over {_counted(len(summary.compared), 'problem')}; 1 is best."
    if comparison.difference is None:
        return text + " Tests need at least two problems."
    joined = cliques(list(comparison.mean_ranks), comparison.difference)
    text += " A bar joins strategies whose mean ranks differ by less than the critical difference" if joined else ""
    text += " of the Nemenyi test at 5 %." if joined else " All differences exceed the critical one (Nemenyi, 5 %)."
    return text


def _rank_table(summary: Summary) -> list[dict[str, Any]]:
    comparison = summary.comparison
    if comparison is None:
        return []
    labels = {view.facts.name: view.facts.label for view in summary.problems}
    rows = []
    for row, name in enumerate(summary.compared):
        ranks = comparison.ranks[row]
        cells = [
            {"value": f"{rank:g}", "sub": f"{mean:.2f}", "best": rank == ranks.min() < ranks.max()}
            for rank, mean in zip(ranks, comparison.seed_ranks[row], strict=True)
        ]
        rows.append({"name": labels[name], "cells": cells, "total": False})
    lowest = comparison.mean_ranks.min()
    total = [{"value": f"{rank:.2f}", "sub": "", "best": rank == lowest} for rank in comparison.mean_ranks]
    return [*rows, {"name": "Mean rank", "cells": total, "total": True}]


def _pair_table(summary: Summary) -> list[dict[str, Any]]:
    comparison, names = summary.comparison, summary.bench.strategies
    if comparison is None or not comparison.pairs:
        return []
    rows = []
    place = {name: index for index, name in enumerate(names)}
    for first, name in enumerate(summary.order):
        for other in summary.order[first + 1 :]:
            a, b = place[name], place[other]
            difference = comparison.ranks[:, a] - comparison.ranks[:, b]
            rows.append(
                {
                    "pair": f"{name} – {other}",
                    "better": int((difference < 0).sum()),
                    "equal": int((difference == 0).sum()),
                    "worse": int((difference > 0).sum()),
                    "p": _p(comparison.pairs[min(a, b), max(a, b)]).removeprefix("= "),
                }
            )
    return rows


def _gap_caption(summary: Summary) -> str:
    text = (
        "Relative gap of the best feasible value to the known optimum against evaluations, on a log scale: median "
        "(line) and range between the quartiles (band) over the seeds. "
    )
    if summary.bench.initial > 1:
        text += "The shaded part on the left are the shared initial points. "
    return text + (
        "A run without a feasible point has an infinite gap: a line begins where half of the runs have one, and a band "
        f"that reaches the top includes runs that have none. Dotted: the floor of {number(summary.floor, 1)}."
    )


def _range(first: float, third: float, digits: int = 5) -> str:
    return f"{number(first, digits)} … {number(third, digits)}"


def _value_table(summary: Summary) -> list[dict[str, Any]]:
    rows = []
    for view in summary.problems:
        finals = {name: cell.final() for name, cell in view.cells.items() if cell.n}
        gaps = [max(float(gap[1]), summary.floor) for gap, _ in finals.values()]
        lowest = min(gaps, default=np.inf)
        cells: Cells = []
        for name in summary.bench.strategies:
            if name not in finals:
                cells.append({"value": "–", "sub": "no run", "best": False})
                continue
            gap, value = finals[name]
            best = bool(np.isfinite(lowest)) and max(float(gap[1]), summary.floor) <= lowest and len(set(gaps)) > 1
            shown = "none" if np.isnan(value[1]) else number(float(value[1]), 6)
            low, high = (value[0], value[2]) if not view.facts.maximize else (value[2], value[0])
            third = "none" if np.isnan(high) else number(float(high), 5)
            span = "" if np.isnan(low) else f"{number(float(low), 5)} … {third}"
            middle = float(gap[1])
            small = f"< {number(summary.floor, 1)}" if middle < summary.floor else number(middle, 2)
            cells.append({"value": shown, "sub": f"{span} · gap {small}" if span else f"gap {small}", "best": best})
        reference = "–" if view.reference is None else number(view.reference, 7)
        optimum = reference if view.known else f"{reference} (best seen)" if view.reference is not None else "–"
        rows.append({"name": view.facts.label, "size": _size(view.facts), "optimum": optimum, "cells": cells})
    return rows


def _feasible_table(summary: Summary) -> list[dict[str, Any]]:
    """Empty where no problem has outcome constraints."""
    rows = []
    for view in summary.problems:
        if not view.facts.constraints:
            continue
        cells: Cells = []
        initial: dict[int, bool] = {}
        for name in summary.bench.strategies:
            cell = view.cells[name]
            found = int(np.isfinite(cell.first).sum())
            middle = float(quartiles(cell.first)[1]) if cell.n else np.nan
            cells.append(
                {"value": f"{found}/{len(cell.runs)}" if cell.n else "–", "sub": number(middle) if cell.n else ""}
            )
            initial |= {
                run.seed: first <= summary.bench.initial for run, first in zip(cell.runs, cell.first, strict=True)
            }
        shared = f"{sum(initial.values())}/{len(initial)}" if summary.bench.initial else "–"
        rows.append({"name": view.facts.label, "initial": shared, "cells": cells})
    return rows


def _seconds_table(summary: Summary) -> list[dict[str, Any]]:
    rows = []
    for name in summary.bench.strategies:
        seconds = summary.seconds(name)
        known = seconds[np.isfinite(seconds)]
        if not len(known):
            continue
        low, middle, high = (number(float(value), 2) for value in quartiles(known))
        per_run = number(float(np.nansum(seconds, axis=1).mean()), 3)
        rows.append({"name": name, "cells": [middle, f"{low} … {high}", number(float(known.max()), 2), per_run]})
    return rows


def _value(value: Any, digits: int = 7) -> str:
    """A parameter's value for a table; long vectors are cut."""
    if isinstance(value, (bool, str)) or value is None:
        return "–" if value is None else str(value)
    if isinstance(value, (int, np.integer)):
        return number(float(value), 12)
    if isinstance(value, (float, np.floating)):
        return number(float(value), digits)
    items: NDArray[Any] = np.asarray(value, dtype=object).ravel()
    shown = ", ".join(_value(item, 4) for item in items[:6])
    return f"({shown}{', …' if len(items) > 6 else ''})"


def _design(view: ProblemView) -> dict[str, Any]:
    facts = view.facts
    design: dict[str, Any] = {"name": facts.label, "known": facts.optimum_params is not None, "rows": []}
    if view.champion is None:
        return design | {"from": "No run has found a feasible point."}
    run, place = view.champion
    design["from"] = f"Found by {run.strategy}, seed {run.seed}, at evaluation {place + 1}."
    known, there = facts.optimum_params or {}, facts.optimum_constraints or {}

    def row(name: str, found: Any, optimum: Any, limits: str, metric: bool = False) -> dict[str, Any]:
        shown = "" if optimum is None else _value(optimum)
        return {"name": name, "found": _value(found), "optimum": shown, "limits": limits, "metric": metric}

    direction = "maximised" if facts.maximize else "minimised"
    parameters = []
    for parameter in facts.parameters:
        name = f"{parameter.name} [{parameter.unit}]" if parameter.unit else parameter.name
        parameters.append(row(name, run.params[place].get(parameter.name), known.get(parameter.name), parameter.domain))
    metrics = [row(facts.objective, float(run.objective[place]), facts.optimum, direction, True)]
    limits = [
        row(limit.name, float(value), there.get(limit.name), limit.text)
        for limit, value in zip(facts.constraints, run.constraints[place], strict=True)
    ]
    return design | {"rows": [group for group in (metrics, parameters, limits) if group]}


def _definitions(summary: Summary) -> list[str]:
    initial = summary.bench.initial
    texts = [
        "Gap: the distance of the best feasible value so far from the known optimum, divided by the absolute value of the "
        f"optimum (not divided where that is 0). Gaps below {number(summary.floor, 1)} are shown there and count as equal, "
        "because optima are known to six digits or somewhat more. A run without a feasible point has an infinite gap, "
        "which ranks last; two such runs are equal.",
        "Feasible: all outcome constraints hold within the tolerance of the task, which is 0 unless the problem says more.",
        "Quartiles are linear between order statistics, and infinite where the upper neighbour is.",
    ]
    if initial:
        texts.append(
            f"Initial points: for each problem and seed, {initial} points drawn uniformly from the unit cube of encoded "
            "parameters (from the set that satisfies the known conditions, where a problem has some), evaluated first "
            "by every strategy. Differences between strategies are therefore differences after these points."
        )
    texts.append(
        "Ranks: within a problem and a seed the strategies are ranked by their final gap; the mean over the seeds is the "
        "score of the problem, and the scores are ranked again. These ranks enter Friedman’s test (corrected for ties) and "
        "the critical difference of Nemenyi’s test (Demšar, Journal of Machine Learning Research 7, 2006, 1–30)."
    )
    return texts
