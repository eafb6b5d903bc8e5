"""The command that compares classifiers on the classification data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bbopt.cli_input import seeds_of
from bbopt.cli_output import json_option, note, print_json, print_table

if TYPE_CHECKING:
    from bbopt.bench_classify.summary import Summary

__all__ = ["bench_classify"]


@click.command("bench-classify", short_help="Compare classifiers on engineering designs.")
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="The folder of the comparison.")
@click.option("--seeds", default="20", show_default=True, metavar="K", help="How many training draws, a list (3,7) or a range (10-19).")  # fmt: skip
@click.option("--sizes", default="50,100,200,500,1000,2000", show_default=True, metavar="N,...", help="Training rows.")
@click.option("--test", default=10_000, show_default=True, type=click.IntRange(1), help="Test rows of each data set.")
@click.option("--set", "data", multiple=True, metavar="NAME", help="Only this data set; repeatable.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Only this model; repeatable.")
@click.option("--workers", type=click.IntRange(1), help="Processes. [default: one per core]")
@click.option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
@json_option
def bench_classify(out: str, seeds: str, sizes: str, test: int, data: tuple[str, ...], models: tuple[str, ...],
                   workers: int | None, quiet: bool, as_json: bool) -> None:  # fmt: skip
    """Train classifiers on data sets made by formula (will this design work?) and compare F1 against training rows.

    Models: pfn, tabpfn (where its weights are at hand), and from scikit-learn random_forest, boosting, svm, neighbours,
    gp (up to 500 rows) and logistic. A model that cannot be used here is left out, with the reason. Data sets:
    three_bar_truss, solar_heat_exchanger, four_islands, pressure_vessel, welded_beam, welded_beam_balanced,
    car_side_impact, concrete_beam_cost.

    Every trained model is in the folder as soon as it is scored. Ctrl-C and the same command later go on where it stopped;
    the same folder may get more data sets, models, sizes or seeds. At the end stand a table and a report,
    report/index.html in the folder. Exit status 1 if a training failed; the next call tries it again.

    \b
    Examples:
      bbopt bench-classify --out classify
      bbopt bench-classify --out quick --seeds 3 --sizes 50,200 --set four_islands --model pfn --model random_forest

    JSON: folder, page, complete and planned (trainings), failed, left_out (reason by model), results (data, size, model,
    seeds, means of f1, auc, log_loss, calibration and seconds, f1_deviation) and ranks (mean rank by F1: size, model, rank).
    """
    from bbopt.bench_classify import run_classify, write_report
    from bbopt.bench_classify.summary import load

    try:
        numbers = [int(word) for word in sizes.split(",")]
    except ValueError:
        raise click.BadParameter(f"--sizes: expected numbers like 50,100, got {sizes!r}") from None
    try:
        outcome = run_classify(out, data, models, sizes=numbers, seeds=seeds_of(seeds), test=test, workers=workers,
                               progress=not quiet)  # fmt: skip
    except KeyboardInterrupt:
        note("what was scored is safe; the same command goes on from here")
        raise
    page, summary = write_report(out), load(out)
    if as_json:
        failed = [{**vars(job), "error": error} for job, error in outcome.failed.items()]
        print_json({"folder": out, "page": str(page), "complete": outcome.complete, "planned": outcome.planned,
                    "failed": failed, "left_out": outcome.left_out, "results": summary.rows(),
                    "ranks": _ranks(summary)})  # fmt: skip
    else:
        _print(summary)
        click.echo(f"\n{outcome.complete} of {outcome.planned} trainings are complete; the report: {page}")
        for name, reason in outcome.left_out.items():
            note(f"{name} is left out: {reason}")
        for job, error in outcome.failed.items():
            note(f"{job.model} on {job.data}, {job.size} rows, seed {job.seed} failed: {error}")
    if not outcome.ok:
        click.get_current_context().exit(1)


def _ranks(summary: Summary) -> list[dict[str, Any]]:
    ranks = summary.ranks("f1")
    return [
        {"size": size, "model": name, "rank": float(ranks[j, k])}
        for j, size in enumerate(summary.sizes)
        for k, name in enumerate(summary.models)
        if ranks[j, k] == ranks[j, k]
    ]


def _print(summary: Summary) -> None:
    """Mean F1 per data set and size, then the mean ranks by it, then the time."""

    def texts(values: Any, digits: int) -> list[str]:
        return ["-" if value != value else f"{value:.{digits}f}" for value in values]

    f1, ranks, seconds = summary.mean("f1"), summary.ranks("f1"), summary.over_data("seconds")
    rows = [
        [name, str(size), *texts(f1[i, j], 3)]
        for i, name in enumerate(summary.data)
        for j, size in enumerate(summary.sizes)
    ]
    rows += [["mean rank by F1", str(size), *texts(ranks[j], 2)] for j, size in enumerate(summary.sizes)]
    rows += [["CPU seconds", str(size), *texts(seconds[j], 3)] for j, size in enumerate(summary.sizes)]
    print_table(["F1", "rows", *summary.models], rows)
