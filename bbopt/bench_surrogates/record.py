"""What an evaluation found, short enough for the header of the weights that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from surrogates.training.weights import add_facts

__all__ = ["record_in", "summary"]

LEVELS = ("0.5", "0.9", "0.95")


def summary(results: Mapping[str, Any], who: str) -> dict[str, Any]:
    """Mean gaps of a contestant by kind and measure, mean coverage on held-out tasks and on functions, and behaviour.

    results: as `bbopt.bench_surrogates.run_surrogates` returns them; who: "pfn" or "amortised".

    >>> summary({"tasks": 2, "means": [], "calibration": [], "functions": [], "sanity": {}}, "pfn")
    {'tasks': 2, 'gaps': {}, 'coverage': {}, 'behaviour': {}}
    """
    gaps = {
        f"{row['kind']} {row['measure']}": {"mean": round(row["mean"], 4), "median": round(row["median"], 4)}
        for row in results["means"]
        if row["who"] == who
    }
    coverage = {
        name: {level: round(sum(row["coverage"][level]["mean"] for row in rows) / len(rows), 3) for level in LEVELS}
        for name in ("calibration", "functions")
        if (rows := [row for row in results[name] if row["who"] == who and row.get("kind", "held-out") == "held-out"])
    }
    named = {{"calibration": "tasks"}.get(name, name): levels for name, levels in coverage.items()}
    return {"tasks": results["tasks"], "gaps": gaps, "coverage": named, "behaviour": results["sanity"].get(who, {})}


def record_in(path: Path, results: Mapping[str, Any], who: str) -> None:
    """Put the summary of a contestant into the header of the file of its weights."""
    add_facts(path, {"evaluation": summary(results, who)})
