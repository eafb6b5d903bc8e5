"""The tables of a report's page: rows of formatted cells for the template."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bbopt.report import words
from bbopt.report.statistics import quartiles
from bbopt.report.summary import ProblemView, Summary
from bbopt.report.theme import number

__all__ = ["design", "feasible_table", "pair_table", "rank_table", "seconds_table", "value_table"]

Cells = list[dict[str, Any]]
LONGEST = 30  # entries of a vector that get a row each


def rank_table(summary: Summary) -> list[dict[str, Any]]:
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


def pair_table(summary: Summary) -> list[dict[str, Any]]:
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
                    "p": words.p(comparison.pairs[min(a, b), max(a, b)]).removeprefix("= "),
                }
            )
    return rows


def value_table(summary: Summary) -> list[dict[str, Any]]:
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
        rows.append({"name": view.facts.label, "size": words.size(view.facts), "optimum": optimum, "cells": cells})
    return rows


def feasible_table(summary: Summary) -> list[dict[str, Any]]:
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


def seconds_table(summary: Summary) -> list[dict[str, Any]]:
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


def _rounded(value: float | None) -> float | None:
    """Rounding errors of an active constraint are not worth a reader's time."""
    return 0.0 if value is not None and abs(value) < 5e-10 else value


def design(view: ProblemView) -> dict[str, Any]:
    facts = view.facts
    design: dict[str, Any] = {
        "name": facts.label,
        "docs": facts.docs,
        "known": facts.optimum_params is not None,
        "rows": [],
    }
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
        found, best = run.params[place].get(parameter.name), known.get(parameter.name)
        size = np.size(found) if isinstance(found, (list, tuple, np.ndarray)) else 1
        if 1 < size <= LONGEST and (best is None or np.size(best) == size):
            there_is = [None] * size if best is None else np.ravel(np.asarray(best)).tolist()
            parts = zip(np.ravel(np.asarray(found)).tolist(), there_is, strict=True)
            parameters += [row(f"{name}[{i}]", a, b, parameter.domain) for i, (a, b) in enumerate(parts)]
        else:
            parameters.append(row(name, found, best, parameter.domain))
    metrics = [row(facts.objective, float(run.objective[place]), facts.optimum, direction, True)]
    limits = [
        row(limit.name, _rounded(float(value)), _rounded(there.get(limit.name)), limit.text)
        for limit, value in zip(facts.constraints, run.constraints[place], strict=True)
    ]
    return design | {"rows": [group for group in (metrics, parameters, limits) if group]}
