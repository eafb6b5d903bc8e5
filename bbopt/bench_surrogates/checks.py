"""What the amortised process must show, each check as a limit, what was found, and whether it is met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from bbopt.bench_surrogates.costs import LIMITS

__all__ = ["checks"]

Row = Mapping[str, Any]
MAIN = {"plain": "anywhere", "known": "anywhere", "mixture": "told"}
"""The measure of each kind of cells: points anywhere where there are such, else half of them near the lowest values."""
FITTED = {"plain": ("gp", "right"), "known": ("gp", "right"), "mixture": ("gp", "wide", "botorch")}
ROWS = 24  # from which draws must count
TINY = 1e-9  # of rounding in means of shares


def checks(joined: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of check, limit (in words), found (in words), passed; those without data are left out.

    joined: as `bbopt.bench_surrogates.join.join` gives it.

    >>> empty = {name: [] for name in ("means", "gaps", "floor", "paired", "draws", "calibration", "costs")}
    >>> checks({**empty, "sanity": {}})
    []
    """
    parts: tuple[Callable[[Mapping[str, Any]], Iterator[dict[str, Any]]], ...]
    parts = (_mean_gap, _beside_fitted, _beside_floor, _coverage, _draws, _behaviour, _costs)
    return [row for part in parts for row in part(joined)]


def _row(check: str, limit: str, found: str, passed: bool) -> dict[str, Any]:
    return {"check": check, "limit": limit, "found": found, "passed": bool(passed)}


def _mean_gap(joined: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in joined["means"]:
        if (row["kind"], row["who"], row["measure"]) == ("plain", "amortised", "anywhere"):
            yield _row("mean gap, plain cells", "at most 0.10", f"{row['mean']:.3f}", row["mean"] <= 0.10)


def _beside_fitted(joined: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """In every cell, on average over its tasks, hardly above each fitted process."""
    for kind, rivals in FITTED.items():
        for rival in rivals:
            rows = [row for row in joined["paired"] if row["kind"] == kind and row["who"] == rival]
            if rows:
                measure = MAIN[kind]
                above = [row for row in rows if row[measure]["mean"] > 0.01]
                worst = max(rows, key=lambda row: float(row[measure]["mean"]))
                words = f"{len(above)} of {len(rows)} cells above; most {_signed(worst[measure])} at d={worst['d']}, n={worst['n']}"
                yield _row(f"gap minus that of {rival}, each {kind} cell", "at most 0.01", words, not above)
            if rows and kind == "mixture":  # whose gaps have heavy tails
                high = [row for row in rows if row[measure]["median"] > 0.01]
                words = (
                    f"{len(high)} of {len(rows)} cells above; most {max(row[measure]['median'] for row in rows):+.3f}"
                )
                yield _row(f"median of gap minus that of {rival}, each {kind} cell", "at most 0.01", words, not high)


def _beside_floor(joined: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """On the tasks whose floor is known."""
    by = {(row["d"], row["n"], row["who"]): row["anywhere"]["mean"] for row in joined["floor"]}
    cells = [(d, n) for d, n, who in by if who == "floor"]
    if not cells:
        return
    over = float(np.mean([by[(*cell, "amortised")] - by[(*cell, "floor")] for cell in cells]))
    yield _row("mean above the floor, its tasks", "at most 0.05", f"{over:.3f}", over <= 0.05)
    for rival in FITTED["plain"]:
        open_cells = [cell for cell in cells if by[(*cell, rival)] > by[(*cell, "floor")] + 0.03]
        not_below = [cell for cell in open_cells if by[(*cell, "amortised")] >= by[(*cell, rival)]]
        words = f"in {len(open_cells) - len(not_below)} of {len(open_cells)} cells" + _names(not_below)
        yield _row(f"below {rival} where that is 0.03 above the floor", "everywhere", words, not not_below)


def _coverage(joined: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for kind in ("plain", "mixture", "held-out"):
        rows = [row for row in joined["calibration"] if row["who"] == "amortised" and row["kind"] == kind]
        for level in ("0.5", "0.9", "0.95") if rows else ():
            share = float(np.mean([row["coverage"][level]["mean"] for row in rows]))
            check, met = f"told values in {100 * float(level):.0f} % intervals, {kind} tasks", abs(share - float(level))
            yield _row(check, "within 2 points", f"{100 * share:.1f} %", met <= 0.02 + TINY)


def _draws(joined: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Cells of a kind have equally many tasks each."""
    for kind in ("plain", "mixture", "held-out"):
        rows = [row for row in joined["draws"] if row["kind"] == kind and row["n"] >= ROWS]
        if not rows:
            continue
        median = float(np.median([row["median"] for row in rows]))
        few, enough = (float(np.mean([row[name] for row in rows])) for name in ("below_4", "enough"))
        asked = float(np.mean([row["refined"] + row["tempered"] for row in rows]))
        of = f"{kind} tasks, n >= {ROWS}"
        yield _row(f"effective draws of 64, median over cells, {of}", "at least 16", f"{median:.1f}", median >= 16.0)
        words = f"{100 * few:.1f} % ({100 * asked:.1f} % before refinement)"
        yield _row(f"below 4 effective draws, {of}", "at most 5 %", words, few <= 0.05 + TINY)
        yield _row(f"at least 0.3 of the draws effective, {of}", "at least 90 %", f"{100 * enough:.1f} %", enough >= 0.9 - TINY)  # fmt: skip


def _behaviour(joined: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    found = joined["sanity"].get("amortised", {})
    for name in ("order", "columns", "affine"):
        if name in found:
            yield _row(f"change of means, {name}", "at most 1e-5", f"{found[name]:.1g}", found[name] <= 1e-5)


def _costs(joined: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in joined["costs"]:
        if row["who"] == "amortised":
            limit = LIMITS[row["case"]]
            words = f"{row['median']:.3f} (least {row['least']:.3f})"
            yield _row(f"CPU seconds of a fit, {row['case']}", f"at most {limit:.2f}", words, row["median"] <= limit)


def _signed(summary: Mapping[str, Any]) -> str:
    return f"{summary['mean']:+.3f} ± {summary['error']:.3f}"


def _names(cells: list[tuple[int, int]]) -> str:
    return ": not at " + ", ".join(f"d={d} n={n}" for d, n in cells) if cells else ""
