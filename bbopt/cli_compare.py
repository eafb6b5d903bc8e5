"""The command `bbopt compare`: bbopt beside other toolkits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bbopt.cli_input import seeds_of
from bbopt.cli_output import json_option, note, print_json, print_table

if TYPE_CHECKING:
    from bbopt.compare.run import Compared
    from bbopt.compare.summary import Summary

__all__ = ["compare"]


@click.command(short_help="Run bbopt beside other toolkits.")
@click.argument("suite", nargs=-1, metavar="[SUITE|PROBLEM]...")
@click.option("--peer", "-p", "peers", multiple=True, metavar="NAME",
              help="A peer; repeatable. [default: bbopt and all that are installed]")  # fmt: skip
@click.option("--budget", "-b", default=60, show_default=True, type=click.IntRange(1), help="Evaluations per run.")
@click.option("--seeds", default="10", show_default=True, metavar="K",
              help="How many seeds (10), a list (3,7) or a range (10-19).")  # fmt: skip
@click.option("--slow-seeds", type=click.IntRange(0), help="How many of them slow peers get. [default: all]")
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="The folder of the comparison.")
@click.option("--again", multiple=True, metavar="NAME",
              help="Throw the runs of this peer away first, or those that failed ('failed'); repeatable.")  # fmt: skip
@click.option("--no-run", is_flag=True, help="Run nothing: the tables and the page of what the folder has.")
@click.option("--check", is_flag=True, help="Exit status 1 where bbopt does not meet the bars.")
@click.option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
@json_option
def compare(suite: tuple[str, ...], peers: tuple[str, ...], budget: int, seeds: str, slow_seeds: int | None, out: str,
            again: tuple[str, ...], no_run: bool, check: bool, quiet: bool, as_json: bool) -> None:  # fmt: skip
    """Run bbopt beside other toolkits on problems with a known optimum, and print who is how far from it and how fast.

    SUITE is core (12 problems, the default), one of `bbopt problems`, or problems by name. Peers are toolkits with the
    settings that their own documentation recommends: bbopt (the strategy auto), optuna-tpe, optuna-gp, ax, botorch (a loop as its
    tutorials write it), cma, cobyla (SciPy's, from the centre), pymoo, smac, nevergrad, hebo, random; bbopt:STRATEGY
    with options; and module:Class, an adapter of your own (a `bbopt.compare.peer.Peer`). One that is not installed is left out, with a note.

    Runs go seed by seed and problem by problem, all peers of each one after the other, in one process with one numerical
    thread. Ctrl-C and the same command later go on where it stopped; more problems, peers and seeds may be added. The folder
    gets comparison.html, comparison.png and comparison.csv.

    \b
    Examples:
      bbopt compare --out comparison
      bbopt compare core --peer bbopt --peer optuna-gp --peer cobyla --seeds 5 --out comparison
      bbopt compare engineering -p bbopt -p bbopt:gp:initial=10 -p random -b 40 --seeds 3 -o engineering
      bbopt compare --out comparison --no-run --seeds 0-4

    JSON: page, complete and planned (runs), budget, problems, peers (rank, area_rank, seed_rank, cpu_s, cpu_s_95, versions,
    settings), gaps (problem, class, peer, seeds, end, area, never: medians of log10 gaps), classes (best, gaps, behind),
    verdicts (peer, first, near, met), failed, left_out, refused.
    """
    from bbopt.compare.run import Compared, run_compare, suite_of
    from bbopt.compare.summary import summarize
    from bbopt.compare.write import load_cells, notes_of, write_comparison

    numbers = seeds_of(seeds)
    if no_run:
        if again:
            raise click.UsageError("--again throws runs away and makes them anew: expected it without --no-run")
        done = Compared(Path(out), 0, 0)
        names = suite_of(suite) if suite else None
    else:
        names = suite_of(suite or ("core",))
        try:
            done = run_compare(names, peers, budget=budget, seeds=numbers, slow_seeds=slow_seeds, out=out, again=again,
                               progress=not quiet)  # fmt: skip
        except KeyboardInterrupt:
            note("the runs that are complete are safe; the same command goes on from here")
            raise
    wanted = range(numbers) if isinstance(numbers, int) else numbers
    summary = summarize(load_cells(out, names, peers or None, wanted), done.refused)
    page = write_comparison(out, summary, done.left_out, done.refused)
    for line in notes_of(summary, done.left_out, done.refused):
        note(line)
    for peer, count in done.stale.items():
        note(
            f"{peer}: {count} runs are of another version than the one that is installed; --again {peer} makes them anew"
        )
    if as_json:
        print_json(_document(summary, done, str(page)))
    else:
        _print(summary, str(page))
    if check and not (summary.verdicts and all(verdict.met for verdict in summary.verdicts)):
        click.get_current_context().exit(1)


def _print(summary: Summary, page: str) -> None:
    from bbopt.compare.tables import all_tables, verdict_lines

    for table in all_tables(summary):
        click.echo(f"{table.caption}:")
        print_table(table.head, table.rows)
        click.echo("")
    for line in verdict_lines(summary.verdicts):
        click.echo(line)
    click.echo(page)


def _document(summary: Summary, done: Compared, page: str) -> dict[str, Any]:
    from bbopt.compare.gaps import class_of

    return {
        "page": page,
        "complete": done.complete,
        "planned": done.planned,
        "budget": summary.budget,
        "problems": summary.problems,
        "peers": {
            peer: {
                "rank": summary.rank.get(peer),
                "area_rank": summary.area_rank.get(peer),
                "seed_rank": summary.seed_rank.get(peer),
                "cpu_s": summary.ask[peer][0],
                "cpu_s_95": summary.ask[peer][1],
                "versions": summary.versions[peer],
                "settings": summary.settings[peer],
            }
            for peer in summary.peers
        },
        "gaps": [
            {"problem": problem, "class": class_of(problem), "peer": peer, "seeds": summary.seeds[problem, peer],
             "end": summary.end[problem, peer], "area": summary.area[problem, peer],
             "never": summary.never[problem, peer]}
            for problem, peer in summary.seeds
        ],
        "classes": [
            {"class": row.name, "problems": row.problems, "best": row.best, "gaps": row.gaps,
             "behind": {peer: row.behind(peer) for peer in row.gaps}}
            for row in summary.classes
        ],
        "verdicts": [
            {"peer": verdict.peer, "first": verdict.first, "near": verdict.near, "met": verdict.met}
            for verdict in summary.verdicts
        ],
        "failed": {f"{cell.problem}/{cell.peer}/{cell.seed}": cell.error for cell in summary.errors},
        "left_out": done.left_out,
        "refused": {f"{problem}/{peer}": why for (problem, peer), why in done.refused.items()},
    }  # fmt: skip
