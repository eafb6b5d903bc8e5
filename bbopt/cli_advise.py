"""The command `bbopt advise`: when to stop, how good the model is, which parameters matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bbopt.cli_output import json_option, note, print_json, print_table
from bbopt.cli_study import opened, study_arguments

if TYPE_CHECKING:
    from bbopt.advice.page import Advice

__all__ = ["advise"]


@click.command(short_help="When to stop, how good the model is, which parameters matter.")
@study_arguments
@click.option("--out", "-o", type=click.Path(file_okay=False), help="A folder for advice.html, the page with pictures.")
@click.option("--tolerance", type=click.FloatRange(0.0), metavar="GAIN",
              help="A gain that is worth an evaluation. [default: 1 % of what was found so far]")  # fmt: skip
@json_option
def advise(store: str, name: str, out: str | None, tolerance: float | None, as_json: bool) -> None:
    """Say of the study NAME what the next evaluation is expected to gain and how far the optimum can be, how well the model
    predicts every told value from the others, and which parameters matter.

    The model is that of the strategy gp, fitted to the told rows whatever strategy asked. The store is only read.

    \b
    Examples:
      bbopt advise runs.db vessel
      bbopt advise runs.db vessel --out advice

    JSON: page (null without --out), stopping (verdict, recommendation, gain, bound, best, found, tolerance, noise, chance,
    next, and gains, bounds, bests at so many rows), quality (metrics with q2, log_score, inside_50, inside_90, calibration,
    worst, and predictions), importance (parameters, metrics, first, total, error, relevance, known), missing (why something is
    not there), notes.
    """
    from bbopt.advice.page import advise as give
    from bbopt.advice.page import write_advice

    with opened(store, name) as opt:
        found = give(opt, tolerance)
    page = None if out is None else str(write_advice(found, out))
    if as_json:
        print_json(_document(found, page))
    else:
        _print(found, page)


def _document(found: Advice, page: str | None) -> dict[str, Any]:
    parts = {"stopping": found.stopping, "quality": found.quality, "importance": found.importance}
    return {
        "page": page,
        **{key: None if part is None else part.to_json() for key, part in parts.items()},
        "missing": list(found.missing),
        "notes": list(found.known.notes),
    }


def _print(found: Advice, page: str | None) -> None:
    from bbopt.advice.page import importance_rows, quality_row

    if found.stopping is not None:
        click.echo(f"{found.stopping.verdict}: {found.stopping.recommendation}")
    if found.quality is not None:
        click.echo("")
        head = ["metric", "Q2", "log score", "in 50 %", "in 90 %", "verdict", "worst trials"]
        print_table(head, [quality_row(one) for one in found.quality.metrics])
    if found.importance is not None:
        click.echo("")
        rows = importance_rows(found.importance)
        print_table(["parameter", "total", "error", "first order", "1/lengthscale, share"], rows)
    for line in (*found.missing, *found.known.notes):
        note(line)
    if page is not None:
        click.echo(page)
