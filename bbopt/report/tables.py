"""The tables of a report as tidy rows, for the CSV files: one value per cell, no formatting, empty where unknown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bbopt.report.data import Run
from bbopt.report.statistics import best_so_far, quartiles, relative_gap
from bbopt.report.summary import Summary

__all__ = ["csv_text", "design_rows", "rank_rows", "run_rows", "summary_rows", "trial_rows"]

Row = dict[str, Any]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as CSV with a header; NaN is an empty cell, infinity is `inf`.

    >>> csv_text([{"a": 1, "b": float("nan")}])
    'a,b\\n1,\\n'
    """
    buffer = io.StringIO()
    if rows:
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(rows[0].keys())
        writer.writerows([_plain(value) for value in row.values()] for row in rows)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else repr(float(value))
    return value


def trial_rows(summary: Summary) -> Iterable[Row]:
    """One row per evaluation; `params` and `constraints` are JSON, because problems have different ones."""
    for view in summary.problems:
        facts = view.facts
        for run in (run for strategy in summary.bench.strategies for run in summary.bench.of(facts.name, strategy)):
            best = best_so_far(run.objective, run.feasible, facts.maximize)
            known = view.reference is not None
            gap = relative_gap(best, view.reference, facts.maximize) if view.reference is not None else best
            for i in range(run.n):
                values = run.constraints[i]
                yield {
                    "problem": facts.name,
                    "strategy": run.strategy,
                    "seed": run.seed,
                    "evaluation": i + 1,
                    "trial": run.numbers[i] if run.numbers else i,
                    "initial": int(i < summary.bench.initial),
                    "status": run.status[i] if run.status else "ok",
                    "objective": run.objective[i],
                    "feasible": int(run.feasible[i]),
                    "violation": run.violation[i],
                    "best_feasible": best[i],
                    "gap": gap[i] if known else np.nan,
                    "ask_cpu_seconds": run.seconds[i],
                    "told_at": run.told_at[i],
                    "params": json.dumps(dict(run.params[i]), default=_listed),
                    "constraints": json.dumps(
                        {
                            limit.name: None if np.isnan(v) else float(v)
                            for limit, v in zip(facts.constraints, values, strict=True)
                        }
                    ),
                }


def _listed(value: Any) -> Any:
    return np.asarray(value).tolist()


def _total(run: Run) -> float:
    return float(np.nansum(run.seconds))


def run_rows(summary: Summary) -> Iterable[Row]:
    """One row per run of the plan, also for those that have not begun."""
    bench = summary.bench
    for view in summary.problems:
        facts = view.facts
        for strategy in bench.strategies:
            by_seed = {run.seed: run for run in bench.runs if (run.problem, run.strategy) == (facts.name, strategy)}
            for seed in bench.seeds:
                run = by_seed.get(seed)
                best = best_so_far(run.objective, run.feasible, facts.maximize)[-1:] if run else np.array([])
                final = float(best[0]) if len(best) else np.nan
                gap = np.nan
                if len(best) and view.reference is not None:
                    gap = float(relative_gap(best, view.reference, facts.maximize)[0])
                first = np.flatnonzero(run.feasible) if run else np.array([])
                yield {
                    "problem": facts.name,
                    "strategy": strategy,
                    "seed": seed,
                    "evaluations": run.n if run else 0,
                    "complete": int(run is not None and bench.complete(run)),
                    "failed": int(bool(run and run.error)),
                    "best_feasible": final,
                    "gap": gap,
                    "evaluations_to_feasible": int(first[0]) + 1 if len(first) else "",
                    "ask_cpu_seconds": _total(run) if run else 0.0,
                }


def summary_rows(summary: Summary) -> Iterable[Row]:
    """One row per problem and strategy: quartiles over the seeds of what the report shows."""
    for view in summary.problems:
        for strategy, cell in view.cells.items():
            if not cell.n:
                continue
            gap, value = cell.final()
            first = quartiles(cell.first)
            asked = cell.seconds[np.isfinite(cell.seconds)]
            seconds = quartiles(asked) if len(asked) else np.full(3, np.nan)
            yield {
                "problem": view.facts.name,
                "strategy": strategy,
                "optimum": np.nan if view.facts.optimum is None else view.facts.optimum,
                "runs": len(cell.runs),
                "complete": cell.complete,
                "evaluations": cell.n,
                "runs_with_feasible": int(np.isfinite(cell.first).sum()),
                "best_feasible_q1": value[0],
                "best_feasible_median": value[1],
                "best_feasible_q3": value[2],
                "gap_q1": gap[0],
                "gap_median": gap[1],
                "gap_q3": gap[2],
                "evaluations_to_feasible_q1": first[0],
                "evaluations_to_feasible_median": first[1],
                "evaluations_to_feasible_q3": first[2],
                "ask_cpu_seconds_q1": seconds[0],
                "ask_cpu_seconds_median": seconds[1],
                "ask_cpu_seconds_q3": seconds[2],
            }


def rank_rows(summary: Summary) -> Iterable[Row]:
    """One row per compared problem and strategy: mean rank over the seeds, and the rank of that within the problem."""
    comparison = summary.comparison
    if comparison is None:
        return
    for row, problem in enumerate(summary.compared):
        for column, strategy in enumerate(summary.bench.strategies):
            yield {
                "problem": problem,
                "strategy": strategy,
                "mean_rank_over_seeds": comparison.seed_ranks[row, column],
                "rank": comparison.ranks[row, column],
            }


def design_rows(summary: Summary) -> Iterable[Row]:
    """The best feasible design of each problem beside the known optimum, one row per parameter and metric."""
    for view in summary.problems:
        if view.champion is None:
            continue
        run, place = view.champion
        facts = view.facts
        known = facts.optimum_params or {}
        for parameter in facts.parameters:
            found = run.params[place].get(parameter.name, "")
            yield _design(
                facts.name,
                run,
                place,
                "parameter",
                parameter.name,
                found,
                known.get(parameter.name, ""),
                parameter.domain,
            )
        optimum = "" if facts.optimum is None else facts.optimum
        yield _design(facts.name, run, place, "objective", facts.objective, run.objective[place], optimum, "")
        at_optimum = facts.optimum_constraints or {}
        for limit, value in zip(facts.constraints, run.constraints[place], strict=True):
            there = at_optimum.get(limit.name, "")
            yield _design(facts.name, run, place, "constraint", limit.name, value, there, limit.text)


def _design(
    problem: str, run: Run, place: int, kind: str, name: str, found: Any, optimum: Any, limits: str
) -> dict[str, Any]:
    def cell(value: Any) -> Any:
        return json.dumps(_listed(value)) if isinstance(value, (list, tuple, dict, np.ndarray)) else value

    return {
        "problem": problem,
        "strategy": run.strategy,
        "seed": run.seed,
        "evaluation": place + 1,
        "kind": kind,
        "name": name,
        "found": cell(found),
        "known_optimum": cell(optimum),
        "limits": limits,
    }
