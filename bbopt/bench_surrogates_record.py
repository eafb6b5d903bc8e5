"""What an evaluation found, short enough for the header of the weights that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from surrogates.training.weights import add_facts

__all__ = ["record_in", "summary"]

LEVELS = ("0.5", "0.9", "0.95")


def summary(results: Mapping[str, Any]) -> dict[str, Any]:
    """Mean gaps of the network by kind and measure, mean coverage on held-out tasks and on functions, and behaviour.

    results: as `bbopt.bench_surrogates.run_surrogates` returns them.
    """
    gaps = {
        f"{row['kind']} {row['measure']}": {"mean": round(row["mean"], 4), "median": round(row["median"], 4)}
        for row in results["means"]
        if row["who"] == "pfn"
    }
    coverage = {
        name: {level: round(sum(row["coverage"][level]["mean"] for row in rows) / len(rows), 3) for level in LEVELS}
        for name, rows in (("tasks", results["calibration"]), ("functions", results["functions"]))
        if rows
    }
    return {"tasks": results["tasks"], "gaps": gaps, "coverage": coverage, "behaviour": results["sanity"]}


def record_in(path: Path, results: Mapping[str, Any]) -> None:
    """Put the summary into the header of a file of weights."""
    add_facts(path, {"evaluation": summary(results)})
