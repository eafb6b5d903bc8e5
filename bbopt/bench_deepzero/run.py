"""Do what is missing of the benchmark and print its tables, verdicts and notes."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from bbopt.bench_deepzero.cells import Result, Row, outcomes
from bbopt.bench_deepzero.parts import PARTS, Part
from bbopt.cli_output import note

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and print them; 1 where a threshold is missed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description="What DeepZero's parts buy on handwritten digits.")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder that keeps each training; the same call goes on"
    )
    parser.add_argument("--quick", action="store_true", help="one seed each; parts that need more are not judged")
    parser.add_argument("--part", nargs="+", choices=[part.name for part in PARTS], help="only these")
    given = parser.parse_args(arguments)
    folder = given.out / "trainings"
    folder.mkdir(parents=True, exist_ok=True)
    missed = 0
    try:
        for part in PARTS:
            if given.part is None or part.name in given.part:
                missed += _part(part, folder, given.quick)
    except KeyboardInterrupt:
        note(f"what is done is kept in {given.out}; the same command goes on from here")
        return 130
    print("every threshold holds" if not missed else f"{missed} thresholds missed")
    return 1 if missed else 0


def _part(part: Part, folder: Path, quick: bool) -> int:
    """Print one part; how many thresholds it misses."""
    print(f"\n{part.title}\n")
    print(f"{'':48s} {'seeds':>5s} {'accuracy %':>14s} {'queries':>9s} {'CPU s':>7s}")
    results: dict[str, Result] = {}
    for row in part.rows(quick):
        results[row.label] = outcomes(row, folder, _show)
        _print(row, results[row.label])
    print()
    missed = 0
    if quick and not part.quick:
        print("  not judged: one seed says too little here")
    else:
        for verdict in part.judge(results):
            print(f"  {'ok  ' if verdict.holds else 'MISS'} {verdict.text}")
            missed += not verdict.holds
    for text in part.notes(results):
        print(f"  note: {text}")
    sys.stdout.flush()
    return missed


def _print(row: Row, result: Result) -> None:
    spread = "" if math.isnan(result.spread) else f" ± {result.spread:4.1f}"
    lost = f"  ({result.diverged} without a finite loss)" if result.diverged else ""
    accuracy = f"{result.mean:.2f}{spread}"
    print(
        f"{row.label:48s} {row.seeds:5d} {accuracy:>14s} {result.queries:9,.0f} {result.seconds:7.1f}{lost}", flush=True
    )


def _show(text: str) -> None:
    """On a terminal, what is being trained; nothing elsewhere: lines of the table say it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}\r", end="", file=sys.stderr, flush=True)
