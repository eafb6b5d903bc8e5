"""The command that evaluates the network: gaps, calibration and pictures."""

from __future__ import annotations

import click

from bbopt.cli_output import json_option, note, print_json, print_table

__all__ = ["bench_surrogates"]


@click.command("bench-surrogates", short_help="Evaluate the network beside fitted processes.")
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="The folder of the evaluation.")
@click.option(
    "--weights", type=click.Path(exists=True, dir_okay=False), help="A file of weights. [default: the package's own]"
)
@click.option("--tasks", default=64, show_default=True, type=click.IntRange(2), help="Tasks per cell.")
@click.option("--floor", is_flag=True, help="The Bayes floor too, for 10 tasks of each plain cell: some minutes more.")
@click.option("--cell", "names", multiple=True, metavar="NAME", help="Only this cell, like plain-d2-n24; repeatable.")
@click.option("--record", is_flag=True, help="Write the averages into the header of the file of --weights.")
@click.option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
@json_option
def bench_surrogates(
    out: str, weights: str | None, tasks: int, floor: bool, names: tuple[str, ...], record: bool, quiet: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """How far the network's predictions are from the exact answer, and whether its probabilities mean what they say.

    Gaps per cell of d columns and n rows, in nats per point above the Gaussian process with the true hyperparameters,
    beside: the kernel regressions that the network stands on, alone; Gaussian processes with fitted hyperparameters; no
    model; and with --floor the best that anyone could do from the rows, the mixture over the posterior of the
    hyperparameters. Then the coverage of central intervals, on held-out tasks and on test functions, and behaviour.

    Every part is in the folder as soon as it is there. Ctrl-C and the same command later go on where it stopped; other
    weights in the same folder compute only what depends on them. results.json has every number, gaps.png, calibration.png,
    beliefs_1d.png and beliefs_2d.png the pictures. A few minutes on one core.

    \b
    Examples:
      bbopt bench-surrogates --out surrogates
      bbopt bench-surrogates --out candidate --weights run3/weights.safetensors --floor

    JSON: the content of results.json: weights, tasks, means (over the cells of a kind), gaps (kind, d, n, who, and summaries over tasks: told, latent,
    anywhere, quiet), floor (the same on its few tasks), calibration, functions, sanity.
    """
    from contextlib import nullcontext
    from pathlib import Path

    from bbopt.bench.progress import bar
    from bbopt.bench_surrogates import CELLS, run_surrogates
    from bbopt.bench_surrogates_figures import draw_results
    from bbopt.bench_surrogates_record import record_in
    from bbopt.bench_surrogates_tables import tables
    from bbopt.report_beliefs import draw_beliefs

    if unknown := [name for name in names if name not in CELLS]:
        raise click.BadParameter(f"--cell: expected names among {', '.join(CELLS)}; got {', '.join(unknown)}")
    if record and weights is None:
        raise click.UsageError("--record: expected --weights, the file whose header is to say what was found")
    cells = tuple(CELLS[name] for name in names) or None
    try:
        with nullcontext(lambda progress: None) if quiet else bar("parts") as show:
            results = run_surrogates(out, weights, tasks, floor, cells, show=show)
    except KeyboardInterrupt:
        note("what was evaluated is safe; the same command goes on from here")
        raise
    pictures = [*draw_results(results, Path(out)), *draw_beliefs(Path(out), weights)]
    if record and weights is not None:
        record_in(Path(weights), results)
    if as_json:
        print_json(results)
        return
    for table in tables(results):
        click.echo(f"{table.title}\n")
        print_table(table.headings, table.rows)
        click.echo("")
    click.echo(
        f"weights {results['weights']['sha256'][:12]}, {results['weights']['steps']} steps, {tasks} tasks per cell"
    )
    click.echo("pictures: " + ", ".join(str(path) for path in pictures))
