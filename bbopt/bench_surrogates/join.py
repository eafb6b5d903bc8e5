"""The parts of an evaluation as one document of plain data: summaries over tasks, paired differences, shares, costs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from bbopt.bench_surrogates.costs import CASES
from bbopt.bench_surrogates.parts import Contestants, place, tasks_of
from surrogates.evaluation.calibration import LEVELS, Coverage
from surrogates.evaluation.gaps import Gaps, Summary
from surrogates.evaluation.reference import kept_floor
from surrogates.evaluation.tasks import QUIET, Cell

__all__ = ["join"]

MEASURES = tuple(Gaps.__dataclass_fields__)
FEW, MANY = 4.0, 0.3  # effective draws that are too few, and the share of all that is enough
DRAWS = 64


def join(
    found: dict[str, dict[str, Any]], cells: tuple[Cell, ...], who: Contestants, tasks: int, functions: tuple[str, ...]
) -> dict[str, Any]:
    """What the parts say.

    means: over the cells of a kind. gaps: kind, d, n, who, and summaries over tasks of told, latent, anywhere, quiet.
    floor: the same on the few tasks whose floor is known. paired: of the amortised process minus each other one, task by
    task. draws: how far the amortised process's draws counted. calibration: coverage of told values (of the PFN on held-out
    tasks alone). functions: coverage of noise-free values. sanity, costs.
    """
    rows: list[dict[str, Any]] = []
    floors: list[dict[str, Any]] = []
    paired: list[dict[str, Any]] = []
    calibration: list[dict[str, Any]] = []
    draws: list[dict[str, Any]] = []
    for cell in cells:
        at = place(cell, tasks) + "/"
        mine = {name.removeprefix(at).partition("-")[0]: part for name, part in found.items() if name.startswith(at)}
        where = {"kind": cell.kind, "d": cell.d, "n": cell.n}
        draws.append({**where, **_draws(mine["amortised"]["draws"])})
        calibration += [{**where, "who": name, **_coverage(part)} for name, part in mine.items() if "shares" in part]
        if cell.kind == "held-out":
            continue
        bottom = mine.pop("floor", None)
        if bottom is None and cell.kind == "plain":
            bottom = kept_floor(cell, tasks_of(cell, tasks))
        rows += [{**where, "who": name, **_summaries(part)} for name, part in mine.items()]
        paired += _paired(where, mine)
        if bottom is not None:
            floors += _beside_floor(where, mine, bottom)
    on_functions = [
        {"function": name, "n": int(n), "who": contestant, "error": part["error"], **_coverage(part)}
        for name in functions
        for contestant, mark in who.marks.items()
        for n, part in found[f"{name}/{mark}"].items()
        if n.isdigit()
    ]
    sanity = {
        contestant: {name: value for name, value in found[f"behaviour/{mark}"].items() if name != "cpu_seconds"}
        for contestant, mark in who.marks.items()
        if f"behaviour/{mark}" in found
    }
    marks = {"amortised": who.marks["amortised"], "gp": "gp", "botorch": "botorch"}
    costs = [
        {"case": case, "who": name, **{key: found[f"costs-{case}/{mark}"][key] for key in ("median", "least")}}
        for case in CASES
        for name, mark in marks.items()
        if f"costs-{case}/{mark}" in found
    ]
    return {"means": _means(rows), "gaps": rows, "floor": floors, "paired": paired, "draws": draws, "calibration": calibration,
            "functions": on_functions, "sanity": sanity, "costs": costs}  # fmt: skip


def _summaries(part: dict[str, Any]) -> dict[str, Any]:
    """Of all tasks: told values, noise-free ones, told ones at points anywhere; and of the quiet tasks of the first."""
    found = {name: asdict(Summary.of(tuple(part[name]))) for name in MEASURES if part[name]}
    main = part["anywhere"] or part["told"]
    quiet = tuple(gap for gap, noise in zip(main, part["noise"], strict=True) if noise < QUIET)
    return {**found, "quiet": asdict(Summary.of(quiet))}


def _paired(where: dict[str, Any], parts: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Summaries of the amortised process's gaps minus those of everyone else, on the same tasks."""
    own = parts["amortised"]
    found = []
    for name, part in parts.items():
        if name != "amortised":
            pairs = {key: np.subtract(own[key], part[key]).tolist() for key in MEASURES if part[key]}
            found.append({**where, "who": name, **{key: asdict(Summary.of(tuple(value))) for key, value in pairs.items()}})  # fmt: skip
    return found


def _beside_floor(
    where: dict[str, Any], parts: dict[str, dict[str, Any]], bottom: dict[str, Any]
) -> list[dict[str, Any]]:
    """Everyone on the few tasks whose floor is known, and the floor."""
    k = len(bottom["told"])
    found = []
    for name, part in parts.items():
        few = {key: part[key][:k] for key in (*MEASURES, "noise")}
        found.append({**where, "who": name, **_summaries(few)})
    noise = parts["amortised"]["noise"][:k]
    apart = {
        key: abs(Summary.of(tuple(bottom["halves"][0][key])).mean - Summary.of(tuple(bottom["halves"][1][key])).mean)
        for key in MEASURES
    }
    return [*found, {**where, "who": "floor", **_summaries({**bottom, "noise": noise}), "halves_apart": apart}]


def _draws(part: dict[str, Any]) -> dict[str, Any]:
    """Effective numbers of draws over tasks, shares of how the components were found, and CPU milliseconds per task."""
    ess, how = np.array(part["ess"]), part["how"]
    shares = {name: how.count(name) / len(how) for name in ("refined", "tempered")}
    return {"tasks": len(ess), "median": float(np.median(ess)), "below_4": float((ess < FEW).mean()), "enough": float((ess >= MANY * DRAWS).mean()),
            **shares, "milliseconds": 1e3 * float(np.median(part["seconds"]))}  # fmt: skip


def _means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over the cells of a kind, per contestant and measure: of means and of medians over tasks."""
    found = []
    for kind, who in dict.fromkeys((row["kind"], row["who"]) for row in rows):
        mine = [row for row in rows if (row["kind"], row["who"]) == (kind, who)]
        for measure in (*MEASURES, "quiet"):
            parts = [row[measure] for row in mine if measure in row and row[measure]["tasks"]]
            if parts:
                numbers = {name: float(np.mean([part[name] for part in parts])) for name in ("mean", "median")}
                found.append({"kind": kind, "who": who, "measure": measure, "cells": len(parts), **numbers})
    return found


def _coverage(part: dict[str, Any]) -> dict[str, Any]:
    inside = Coverage(tuple(map(tuple, part["shares"])), part["points"])
    keys = ("mean", "error", "binomial")
    return {"coverage": {f"{level:g}": dict(zip(keys, inside.at(level), strict=True)) for level in LEVELS}}
