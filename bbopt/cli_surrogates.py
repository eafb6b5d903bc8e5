"""The command that evaluates the surrogates with trained weights: gaps, calibration, checks and pictures."""

from __future__ import annotations

import click

from bbopt.cli_output import json_option, note, print_json, print_table

__all__ = ["bench_surrogates"]


@click.command("bench-surrogates", short_help="Evaluate the trained surrogates beside fitted processes.")
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="The folder of the evaluation.")
@click.option(
    "--weights", type=click.Path(exists=True, dir_okay=False), help="Weights of the PFN. [default: the package's own]"
)
@click.option(
    "--amortised-weights",
    type=click.Path(exists=True, dir_okay=False),
    help="Weights of the amortised GP. [default: the package's own]",
)
@click.option("--tasks", default=64, show_default=True, type=click.IntRange(2), help="Tasks per cell.")
@click.option(
    "--floor", is_flag=True, help="Compute the Bayes floor of 10 tasks of each plain cell anew: many minutes more."
)
@click.option("--cell", "names", multiple=True, metavar="NAME", help="Only this cell, like plain-d2-n24; repeatable.")
@click.option(
    "--record", is_flag=True, help="Write the averages into the headers of the files of weights that are given."
)
@click.option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
@json_option
def bench_surrogates(
    out: str, weights: str | None, amortised_weights: str | None, tasks: int, floor: bool, names: tuple[str, ...], record: bool, quiet: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """How far predictions are from the exact answer, and whether their probabilities mean what they say.

    Contestants: the amortised GP, told what is known of each kind of task; the PFN, and the kernel regressions that it
    stands on, alone; Gaussian processes with fitted hyperparameters, the strategy gp's own fit among them; no model; and
    the best that anyone could do from the rows, the mixture over the posterior of the hyperparameters (kept numbers for
    10 tasks of each plain cell; --floor computes them anew).
    Gaps per cell of d columns and n rows, in nats per point above the Gaussian process with the true hyperparameters;
    paired differences; how far the amortised GP's draws counted; the coverage of central intervals, on held-out tasks and
    on test functions; behaviour; CPU seconds of a fit; and a list of checks, passed or missed.

    Every part is in the folder as soon as it is there. Ctrl-C and the same command later go on where it stopped; other
    weights in the same folder compute only what depends on them. results.json has every number, gaps.png, calibration.png,
    beliefs_1d.png and beliefs_2d.png the pictures. Some ten minutes on one core.

    \b
    Examples:
      bbopt bench-surrogates --out surrogates
      bbopt bench-surrogates --out candidate --amortised-weights run3/weights.safetensors --record

    JSON: the content of results.json: weights, tasks, means (over the cells of a kind), gaps (kind, d, n, who, and summaries over tasks: told, latent,
    anywhere, quiet), floor (the same on its few tasks), paired, draws, calibration, functions, sanity, costs, checks.
    """
    from contextlib import nullcontext
    from pathlib import Path

    from bbopt.bench.progress import bar
    from bbopt.bench_surrogates import CELLS, run_surrogates
    from bbopt.bench_surrogates.figures import draw_results
    from bbopt.bench_surrogates.record import record_in
    from bbopt.bench_surrogates.tables import tables
    from bbopt.report_beliefs import draw_beliefs

    if unknown := [name for name in names if name not in CELLS]:
        raise click.BadParameter(f"--cell: expected names among {', '.join(CELLS)}; got {', '.join(unknown)}")
    files = {"pfn": weights, "amortised": amortised_weights}
    if record and not any(files.values()):
        raise click.UsageError(
            "--record: expected --weights or --amortised-weights, the files whose headers are to say what was found"
        )
    cells = tuple(CELLS[name] for name in names) or None
    try:
        with nullcontext(lambda progress: None) if quiet else bar("parts") as show:
            results = run_surrogates(out, weights, tasks, floor, cells, None, show, amortised_weights)
    except KeyboardInterrupt:
        note("what was evaluated is safe; the same command goes on from here")
        raise
    pictures = [*draw_results(results, Path(out)), *draw_beliefs(Path(out), weights)]
    for who, file in files.items():
        if record and file is not None:
            record_in(Path(file), results, who)
    if as_json:
        print_json(results)
        return
    for table in tables(results):
        click.echo(f"{table.title}\n")
        print_table(table.headings, table.rows)
        click.echo("")
    for who, about in results["weights"].items():
        click.echo(f"{who}: weights {about['sha256'][:12]}, {about['steps']} steps")
    click.echo(f"{tasks} tasks per cell")
    click.echo("pictures: " + ", ".join(str(path) for path in pictures))
