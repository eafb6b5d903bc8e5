"""Commands about tables: a study to CSV, and results from CSV."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from bbopt.cli_input import read_text
from bbopt.cli_output import json_option, print_json
from bbopt.cli_study import opened, report_trials, study_arguments

__all__ = ["export", "import_"]


@click.command(short_help="Write the trials to CSV.")
@study_arguments
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--rankings", is_flag=True, help="What people ranked instead: a line for each answer and trial.")
@json_option
def export(store: str, name: str, file: str, rankings: bool, as_json: bool) -> None:
    """Write all trials of a study to a CSV file (-: standard output).

    \b
    Examples:
      bbopt export runs.db vessel vessel.csv
      bbopt export runs.db vessel - | column -s, -t
      bbopt export runs.db faces answers.csv --rankings

    Columns: number, status, attempt, one per parameter, one per metric, std:METRIC and cost. `bbopt import` reads it.
    With --rankings: position in the log, time (UTC), query, rater, trial, place (1 is best, empty is not looked at),
    verdict, applied (0: it came late, or does not count yet) and details.
    JSON: file and trials (how many), or file and rankings.
    """
    from bbopt.cli_rankings import write_rankings

    if file == "-" and as_json:
        raise click.UsageError("--json and the CSV cannot both have standard output; give a file")
    with opened(store, name) as opt:
        if rankings:
            count = write_rankings(opt, None if file == "-" else Path(file))
            if file != "-":
                print_json({"file": file, "rankings": count}) if as_json else click.echo(f"{count} rankings in {file}")
            return
        if file != "-":
            opt.to_csv(file)
            count = len(opt.trials())
            print_json({"file": file, "trials": count}) if as_json else click.echo(f"{count} trials in {file}")
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trials.csv"
            opt.to_csv(path)
            click.echo(path.read_text("utf-8"), nl=False)


@click.command("import", short_help="Read results from CSV.")
@study_arguments
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@json_option
def import_(store: str, name: str, file: str, as_json: bool) -> None:
    """Read results from a CSV file (-: standard input): all of them, or none if one is refused.

    A row with the number and the values of parameters of an asked trial answers it; other rows are added as new points.
    Columns as `bbopt export` writes them; only parameters and metrics are needed.

    \b
    Example:
      bbopt import runs.db vessel measured.csv

    JSON: {"trials": [...]}, the trials that were told or added.
    """
    with opened(store, name) as opt:
        if file == "-":
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "trials.csv"
                path.write_text(read_text("-"), "utf-8", newline="")
                trials = opt.from_csv(path)
        else:
            trials = opt.from_csv(file)
        report_trials(opt, trials, as_json, f"{len(trials)} trials")
