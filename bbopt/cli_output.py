"""What the command line prints: one JSON document, or tables for people."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bbopt.task import Constraint, Task
    from bbopt.trial import Trial

__all__ = [
    "FORMAT",
    "json_option",
    "limits_text",
    "note",
    "plain",
    "print_facts",
    "print_json",
    "print_table",
    "print_trials",
    "value_text",
]

FORMAT = 1
LONG = 6  # entries of a vector that are shown to people

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")


def plain(value: Any) -> Any:
    """Nested data as JSON values: arrays and tuples as lists, numbers that are not finite as null.

    >>> plain({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple | range):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json(document: Mapping[str, Any]) -> None:
    """The document in one line, with its format number first."""
    click.echo(json.dumps(plain({"format": FORMAT, **document}), allow_nan=False))


def note(text: str) -> None:
    """A line on standard error."""
    click.echo(text, err=True)


def value_text(value: Any, digits: int = 12) -> str:
    """A value as people read it: numbers with up to `digits` digits, long vectors cut, no value as a dash.

    >>> value_text(0.1 + 0.2), value_text(None), value_text("S355"), value_text(True)
    ('0.3', '-', 'S355', 'true')
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, list | tuple):
        shown = ", ".join(value_text(item, digits) for item in value[:LONG])
        return f"[{shown}]" if len(value) <= LONG else f"[{shown}, ... {len(value)} in all]"
    return value if isinstance(value, str) else json.dumps(value)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table with a line of headings. Piped, it is as wide as it needs to be."""
    from rich.console import Console
    from rich.table import Column, Table

    headings = [Column(name, overflow="fold") for name in columns]
    table = Table(*headings, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 1_000_000
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def print_facts(facts: Mapping[str, str]) -> None:
    """Name and value, one per line."""
    width = max(map(len, facts), default=0)
    for name, text in facts.items():
        first, *rest = text.splitlines() or [""]
        click.echo(f"{name:{width}}  {first}".rstrip())
        for line in rest:
            click.echo(f"{'':{width}}  {line}")


def print_trials(trials: Sequence[Trial], task: Task, digits: int = 12) -> None:
    """One trial in full, several as a table with a line each, or in full too where the terminal is too narrow for it."""
    if len(trials) == 1:
        print_facts(_facts(trials[0]))
        return
    names = task.space.names
    metrics = task.metrics if any(trial.values for trial in trials) else ()
    rows = []
    for trial in trials:
        point = {**trial.params, **trial.context}
        row = [str(trial.number), trial.status + ("" if trial.feasible is not False else ", infeasible")]
        row += [value_text(point.get(name), digits) for name in names]
        rows.append(row + [value_text((trial.values or {}).get(name), digits) for name in metrics])
    headings = ["trial", "status", *names, *metrics]
    if _fits(headings, rows):
        print_table(headings, rows)
        return
    for trial in trials:
        print_facts(_facts(trial))
        click.echo("")


def _fits(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a table can be read on this terminal; a pipe takes any."""
    widths = [max(map(len, column)) + 2 for column in zip(headings, *rows, strict=True)]
    return not sys.stdout.isatty() or sum(widths) <= shutil.get_terminal_size().columns


def _facts(trial: Trial) -> dict[str, str]:
    attempt = f", attempt {trial.attempt}" if trial.attempt > 1 else ""
    facts = {"trial": str(trial.number), "status": trial.status + attempt}
    facts |= {name: value_text(value) for name, value in {**trial.params, **trial.context}.items()}
    for name, value in (trial.values or {}).items():
        error = f" (standard error {trial.std[name]:g})" if name in trial.std else ""
        facts[name if name not in facts else f"{name} (told)"] = value_text(value) + error
    if trial.feasible is not None:
        facts["feasible"] = "yes" if trial.feasible else "no"
    if trial.cost is not None:
        facts["evaluation cost"] = value_text(trial.cost)
    for name, text in (("owner", trial.owner), ("reason", trial.reason), ("note", trial.note)):
        if text:
            facts[name] = text.rstrip()
    return facts


def limits_text(constraint: Constraint) -> str:
    """A constraint as a comparison.

    >>> from bbopt.task import Constraint
    >>> limits_text(Constraint("stress", upper=250.0)), limits_text(Constraint("gap", 0.1, 0.3, tolerance=0.01))
    ('stress <= 250', '0.1 <= gap <= 0.3 (tolerance 0.01)')
    """
    low = "" if constraint.lower is None or constraint.upper is None else f"{constraint.lower:.12g} <= "
    side = f" >= {constraint.lower:.12g}" if constraint.upper is None else f" <= {constraint.upper:.12g}"
    return f"{low}{constraint.name}{side}" + (f" (tolerance {constraint.tolerance:g})" if constraint.tolerance else "")
