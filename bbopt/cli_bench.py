"""Commands about problems, strategies, benchmarks and their reports."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from bbopt.cli_input import read_strategy, seeds_of
from bbopt.cli_output import json_option, note, plain, print_facts, print_json, print_table, value_text
from bbopt.cli_study import task_facts

if TYPE_CHECKING:
    from problems import Problem

__all__ = ["bench", "problems", "report", "strategies"]


@click.command(short_help="List the problems, or describe one.")
@click.argument("name", required=False)
@click.option("--suite", metavar="S", help="Only the problems of this suite.")
@json_option
def problems(name: str | None, suite: str | None, as_json: bool) -> None:
    """List the problems that come with bbopt, or tell all about the problem NAME.

    Synthetic functions exist in every dimension (ackley_20), shifted and rotated by a seed (ackley_20@shift3+rotate3).

    \b
    Examples:
      bbopt problems
      bbopt problems --suite engineering
      bbopt problems welded_beam

    JSON: {"problems": [...]} of name, suites, docs, source, optimum (value, params, how, tolerance) and task; for NAME
    the same for this one. `bbopt create --task` reads the latter.
    """
    import bbopt

    if name is not None and suite is not None:
        raise click.UsageError("expected a problem or --suite, got both")
    if name is not None:
        _one_problem(bbopt.problems.get(name), as_json)
        return
    found = [bbopt.problems.get(each) for each in bbopt.problems.names(suite)]
    if as_json:
        print_json({"problems": [_problem(problem) for problem in found]})
        return
    rows = []
    for problem in found:
        task = problem.task
        goals = ", ".join(("max " if item.maximize else "") + item.name for item in task.objectives)
        rows.append([problem.name, str(task.space.dimension), goals, str(task.c), value_text(problem.optimum.value, 8),
                     ", ".join(problem.suites)])  # fmt: skip
    print_table(["problem", "columns", "objective", "limits", "optimum", "suites"], rows)


def _problem(problem: Problem) -> dict[str, Any]:
    optimum = problem.optimum
    return {
        "name": problem.name,
        "suites": problem.suites,
        "docs": problem.docs,
        "source": problem.source,
        "optimum": {
            "value": optimum.value,
            "params": optimum.params,
            "how": optimum.how,
            "tolerance": optimum.tolerance,
        },
        "task": problem.task.to_json(),
    }


def _one_problem(problem: Problem, as_json: bool) -> None:
    if as_json:
        print_json(_problem(problem))
        return
    optimum = problem.optimum
    where = {name: value_text(value) for name, value in (optimum.params or {}).items()}
    facts = {"problem": problem.name, "what": problem.docs, "source": problem.source}
    facts |= {"suites": ", ".join(problem.suites) or "-", **task_facts(problem.task)}
    facts["optimum"] = f"{value_text(optimum.value)}, by {optimum.how}"
    if where:
        facts["reached at"] = "\n".join(f"{name}: {text}" for name, text in where.items())
    print_facts(facts)


@click.command(short_help="List the strategies and their options.")
@json_option
def strategies(as_json: bool) -> None:
    """List the strategies, what each handles, and its options (for --strategy name:option=value).

    \b
    Example:
      bbopt strategies

    JSON: {"strategies": [...]} of name, handles (abilities), learns (from rows or whole queries), instant (asking takes
    no time), options (with their default values) and missing (null, or the package that is not installed).
    """
    found = [_strategy(name) for name in _names()]
    if as_json:
        print_json({"strategies": found})
        return
    for entry in found:
        options = ", ".join(f"{name}={json.dumps(value)}" for name, value in plain(entry["options"]).items())
        facts = {"strategy": entry["name"], "handles": ", ".join(entry["handles"])}
        if entry["missing"]:
            facts = {"strategy": entry["name"], "missing": entry["missing"]}
        print_facts(facts | ({"options": options} if options else {}))
        click.echo("")
    print_facts({"strategy": "auto", "handles": "chooses one of them by the task and the budget, and says why"})


def _names() -> list[str]:
    from bbopt import table

    return list(table.STRATEGIES)


def _strategy(name: str) -> dict[str, Any]:
    import dataclasses

    from bbopt import table

    blank: dict[str, Any] = {
        "name": name,
        "handles": [],
        "learns": None,
        "instant": None,
        "options": {},
        "missing": None,
    }
    try:
        kind = table.load(name)
    except ImportError as error:
        return {**blank, "missing": str(error)}
    made = kind()
    return {
        **blank,
        "handles": sorted(kind.handles),
        "learns": kind.learns,
        "instant": kind.instant,
        "options": {item.name: getattr(made, item.name) for item in dataclasses.fields(kind) if item.init},
    }


@click.command(short_help="Run strategies on problems.")
@click.argument("suite")
@click.option("--strategy", "-s", "chosen", multiple=True, required=True, metavar="S[:option=value,...]",
              help="A strategy to compare, with options; repeatable.")  # fmt: skip
@click.option(
    "--budget", "-b", required=True, type=click.IntRange(1), help="Evaluations per run, the initial ones included."
)
@click.option("--seeds", required=True, metavar="K", help="How many seeds (10), a list (3,7) or a range (10-19).")
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False), help="The folder of the benchmark.")
@click.option(
    "--initial", default=20, show_default=True, type=click.IntRange(0), help="Shared random points of each run."
)
@click.option("--workers", type=click.IntRange(1), help="Processes. [default: one per core]")
@click.option("--ray", metavar="[ADDRESS]", is_flag=False, flag_value="", default=None,
              help="Evaluate on Ray: the cluster at ADDRESS or RAY_ADDRESS, or a new one on this machine.")  # fmt: skip
@click.option("--problem", "only", multiple=True, metavar="P", help="Only this problem of the suite; repeatable.")
@click.option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
@json_option
def bench(suite: str, chosen: tuple[str, ...], budget: int, seeds: str, out: str, initial: int, workers: int | None,
          ray: str | None, only: tuple[str, ...], quiet: bool, as_json: bool) -> None:  # fmt: skip
    """Run strategies on the problems of SUITE (or on one problem of this name), each with several seeds.

    Every evaluation is in the folder as soon as it is done. Ctrl-C and the same command later go on where it stopped;
    the same folder may get more problems, strategies, seeds, or a larger budget. `bbopt report` makes the report, also
    of a benchmark that is not complete. Exit status 1 if a run failed; the next call tries it again.

    With --ray, problems are evaluated by workers on a Ray cluster, one evaluation of each run at a time: the results are
    the same. Strategies and the folder stay here.

    \b
    Examples:
      bbopt bench engineering --strategy gp --strategy random --budget 60 --seeds 3 --out results
      bbopt bench engineering --problem spring --problem welded_beam -s gp -s cmaes:population=8 -b 100 --seeds 10-19 -o two
      bbopt bench hartmann6 -s sobol -s random -b 100 --seeds 30 -o hartmann
      bbopt bench hartmann6 -s gp -b 100 --seeds 30 -o cluster --ray 10.0.0.5:6379 --workers 16

    JSON: folder, complete and planned (runs), failed (error by name of the run, problem/strategy/seed).
    """
    import bbopt
    from bbopt.bench import run_bench

    named = {text: read_strategy(text) for text in chosen}
    if len(named) < len(chosen):
        raise click.UsageError(f"expected every strategy once, got {', '.join(chosen)}")
    numbers = seeds_of(seeds)
    if numbers in (0, []):
        raise click.BadParameter(f"expected at least one seed, got {seeds!r}")
    if only:
        listed = bbopt.problems.names(suite)
        strange = [name for name in only if name not in listed]
        if strange:
            raise click.UsageError(f"--problem: {suite} has {', '.join(listed)}; got {strange[0]!r}")
    try:
        outcome = run_bench(
            only or suite, named, budget, numbers, out, initial=initial, workers=workers, progress=not quiet,
            ray=False if ray is None else ray or True,
        )  # fmt: skip
    except KeyboardInterrupt:
        note("what was evaluated is safe; the same command goes on from here")
        raise
    if as_json:
        print_json({"folder": str(outcome.folder), "complete": outcome.complete, "planned": outcome.planned,
                    "failed": outcome.failed})  # fmt: skip
    else:
        click.echo(f"{outcome.complete} of {outcome.planned} runs are complete; the report: bbopt report {out}")
    for study, error in outcome.failed.items():
        note(f"{study} failed: {error}")
    if not outcome.ok:
        click.get_current_context().exit(1)


@click.command(short_help="Make the report of a benchmark.")
@click.argument("folder", type=click.Path(file_okay=False))
@click.option(
    "--evaluations", type=click.IntRange(1), help="Only the first so many of every run, in a report of their own."
)
@json_option
def report(folder: str, evaluations: int | None, as_json: bool) -> None:
    """Make the report of the benchmark in FOLDER: one HTML page that needs no network, with CSV and PNG files beside it.

    \b
    Example:
      bbopt report results
      bbopt report results --evaluations 40

    JSON: page (the path of the HTML file) and files (all that stand beside it).
    """
    from bbopt.report import write_report

    page = write_report(folder, evaluations=evaluations)
    files = sorted(path.name for path in page.parent.iterdir() if path.suffix in (".csv", ".png", ".html"))
    print_json({"page": str(page), "files": files}) if as_json else click.echo(str(page))
