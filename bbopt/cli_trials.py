"""Commands about trials: ask, tell, fail, rank, and what corrects or adds to them; best and front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bbopt.cli_input import deviations_of, gradient_of, params_of, read_params, read_results, values_of
from bbopt.cli_output import json_option, note, print_json, print_trials, value_text
from bbopt.cli_study import number_argument, opened, report_trials, study_arguments

if TYPE_CHECKING:
    from bbopt.optimizer import Optimizer
    from bbopt.trial import Trial

__all__ = ["add", "amend", "ask", "best", "cancel", "enqueue", "fail", "front", "retract", "tell"]

SLATE = 6  # trials of a query of free size, where nobody says how many

NEGATIVE_NUMBERS = {"ignore_unknown_options": True}  # -0.5 is a value; cli_input refuses misspelled options

std_option = click.option("--std", multiple=True, metavar="[METRIC=]SD", help="Standard error of a value; repeatable.")
cost_option = click.option("--cost", type=float, help="What the evaluation cost, in a unit of your own.")
gradient_option = click.option(
    "--gradient",
    metavar="JSON",
    help='Derivatives by parameter, {"x": 0.2}; with several metrics, {"cost": {"x": 0.2}}.',
)


@click.command(short_help="Ask for the next point, or several.")
@study_arguments
@click.option("-n", "--count", type=click.IntRange(1), help="How many trials. [default: 1]")
@click.option("--fewer", is_flag=True, help="Take fewer than --count (at least one) where no more can be had now.")
@click.option(
    "--whole", is_flag=True, help="One query with all its trials, to be ranked: --count, or the strategy's own number."
)
@click.option("--fixed", multiple=True, metavar="NAME=VALUE", help="A parameter that must have this value; repeatable.")
@click.option("--context", multiple=True, metavar="NAME=VALUE", help="A value of a context parameter; repeatable.")
@click.option("--lease", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Give the trial to somebody else if it is not answered in this time.")  # fmt: skip
@click.option("--deadline", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Be back in this time, with less thought if need be; a note says what was left out.")  # fmt: skip
@click.option("--owner", metavar="W", help="Who will answer, as `bbopt show` tells it. [default: host and process]")
@json_option
def ask(store: str, name: str, count: int | None, fewer: bool, whole: bool, fixed: tuple[str, ...],
        context: tuple[str, ...], lease: float | None, deadline: float | None, owner: str | None, as_json: bool) -> None:  # fmt: skip
    """Ask for the next point of a study, or for several.

    \b
    Examples:
      bbopt ask runs.db vessel
      bbopt ask runs.db vessel --count 4 --lease 3600 --owner cluster-7
      bbopt ask runs.db vessel --fixed bolts=4 --fixed steel=S355
      bbopt ask runs.db faces --whole                      # a slate for `bbopt rank`
      bbopt ask runs.db vessel --json | evaluate | bbopt tell runs.db vessel -

    The error Waiting says that open trials must be answered first, Exhausted that no points are left.

    JSON: {"trials": [...]}, also for one; "params" has the point, "number" is what `bbopt tell` wants.
    """
    if fewer and count is None:
        raise click.UsageError("--fewer goes with --count")
    if whole and (fewer or fixed or context or deadline):
        raise click.UsageError("--whole goes without --fewer, --fixed, --context and --deadline")
    with opened(store, name, asks=True) as opt:
        space = opt.task.space
        held = params_of(fixed, space, "--fixed"), params_of(context, space, "--context")
        if whole:
            query = opt.ask_query(count or SLATE, owner=owner, lease=lease)
            trials = [opt.trial(number) for number in query.numbers]
        else:
            trials = opt.ask(
                count or 1, fewer=fewer, fixed=held[0], context=held[1], owner=owner, lease=lease, deadline=deadline
            )
        for text in dict.fromkeys(trial.note for trial in trials if trial.note):
            note(f"note: {text}")
        _show(trials, opt, as_json)


def _show(trials: Sequence[Trial], opt: Optimizer, as_json: bool) -> None:
    if as_json:
        print_json({"trials": [trial.to_json() for trial in trials]})
    else:
        print_trials(trials, opt.task)


@click.command(context_settings=NEGATIVE_NUMBERS, short_help="Tell results, from words, JSON or CSV.")
@study_arguments
@click.argument("number", required=False)
@click.argument("values", nargs=-1, metavar="[METRIC=VALUE]...")
@std_option
@cost_option
@gradient_option
@click.option("--file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="FILE",
              help="Read results from JSON or CSV (-: standard input).")  # fmt: skip
@json_option
def tell(store: str, name: str, number: str | None, values: tuple[str, ...], std: tuple[str, ...], cost: float | None,
         gradient: str | None, file: str | None, as_json: bool) -> None:  # fmt: skip
    """Tell the result of trial NUMBER, or many results from a file. The same result twice is no error.

    \b
    Examples:
      bbopt tell runs.db vessel 7 cost=6021.5 stress=240
      bbopt tell runs.db curve 7 -0.25                     # a bare number, for a single metric
      bbopt tell runs.db curve 7 0.31 --std 0.02 --cost 12
      bbopt tell runs.db curve 7 0.31 --gradient '{"x": -1.5}'
      echo '{"cost": 6021.5, "stress": 240}' | bbopt tell runs.db vessel 7 -
      bbopt tell runs.db vessel --file results.csv         # columns number, cost, stress
      bbopt ask runs.db vessel --count 4 --json | evaluate | bbopt tell runs.db vessel -

    JSON that is read: {"number": 7, "values": {"cost": 6021.5, "stress": 240}, "std": {...}, "cost": 12,
    "gradient": {...}}, a list of these, or {"trials": [...]} as ask prints it, with "values" filled in; trials and CSV lines without values are left
    out. All results of a file are recorded, or none if one is refused. Only values can be told; see also `bbopt fail`.

    JSON: {"trials": [...]}, the trials as they are now.
    """
    if number == "-":
        number, values = None, ("-", *values)
    if values == ("-",) and file is None:
        file, values = "-", ()
    which = _number(number)
    if file is None and which is None:
        raise click.UsageError("expected the number of a trial and its values, or results by --file FILE or -")
    if file is None and not values:
        raise click.UsageError(f"expected values of trial {which}, such as cost=3.1; or read them by --file FILE or -")
    if file is not None and (values or std or cost is not None or gradient):
        raise click.UsageError("expected values either as words or from a file, got both")
    with opened(store, name) as opt:
        if file is None:
            results = [(which, values_of(values), deviations_of(std), cost, gradient_of(gradient))]
        else:
            results = list(read_results(file, which, opt.task))
        opt.tell_many(results)
        numbers = [int(result[0] or 0) for result in results]
        trials = [opt.trial(each) for each in numbers]
        report_trials(opt, trials, as_json, "told " + ", ".join(map(_told, trials)))


def _number(text: str | None) -> int | None:
    if text is not None and not text.isdecimal():
        raise click.UsageError(f"expected the number of a trial, such as 7, got {text!r}")
    return None if text is None else int(text)


def _told(trial: Trial) -> str:
    values = ", ".join(f"{name} = {value_text(value)}" for name, value in (trial.values or {}).items())
    return f"trial {trial.number} ({values}{', infeasible' if trial.feasible is False else ''})"


@click.command(short_help="Say that a trial has no result.")
@study_arguments
@number_argument
@click.option("--impossible", is_flag=True, help="The point itself cannot work: keep away from it and its like.")
@click.option("--reason", default="", metavar="TEXT", help="What happened.")
@json_option
def fail(store: str, name: str, number: int, impossible: bool, reason: str, as_json: bool) -> None:
    """Say that trial NUMBER has no result.

    It counts as lost and goes out again, at the next ask, up to the study's number of retries; with --impossible it is
    never asked again, and the strategy learns where evaluation does not work.

    \b
    Examples:
      bbopt fail runs.db vessel 7 --reason "node went down"
      bbopt fail runs.db vessel 8 --impossible --reason "mesh cannot close"

    JSON: {"trial": ...}, the trial as it is now.
    """
    with opened(store, name) as opt:
        opt.fail(number, reason, impossible=impossible)
        _changed(opt, number, as_json)


def _changed(opt: Optimizer, number: int, as_json: bool) -> None:
    """What became of one trial."""
    trial = opt.trial(number)
    if as_json:
        print_json({"trial": trial.to_json()})
    else:
        click.echo(f"{opt.name}: {_told(trial) if trial.values else f'trial {number} is {trial.status}'}")


@click.command(short_help="Show the best trial.")
@study_arguments
@json_option
def best(store: str, name: str, as_json: bool) -> None:
    """Show the best told trial that keeps all limits. For several objectives, see `bbopt front`.

    After rankings, that is the one that the strategy recommends, or the winner of the last ranking.

    \b
    Examples:
      bbopt best runs.db vessel
      bbopt best runs.db vessel --json | jq .trial.params

    JSON: {"trial": ...}, null while nothing feasible was told.
    """
    with opened(store, name) as opt:
        trial = opt.best()
        if as_json:
            print_json({"trial": None if trial is None else trial.to_json()})
        elif trial is None:
            note(f"{name}: nothing feasible was told yet")
        else:
            print_trials([trial], opt.task)


@click.command(short_help="Show the best compromises of several objectives.")
@study_arguments
@json_option
def front(store: str, name: str, as_json: bool) -> None:
    """Show the best compromises of several objectives: told, within all limits, and beaten by none in every objective.

    \b
    Example:
      bbopt front runs.db truss

    JSON: {"trials": [...]}, empty while nothing feasible was told.
    """
    with opened(store, name) as opt:
        trials = opt.front()
        if trials or as_json:
            _show(trials, opt, as_json)
        else:
            note(f"{name}: nothing feasible was told yet")


@click.command(context_settings=NEGATIVE_NUMBERS, short_help="Put a point in front of the queue.")
@study_arguments
@click.argument("params", nargs=-1, required=True, metavar="NAME=VALUE...")
@json_option
def enqueue(store: str, name: str, params: tuple[str, ...], as_json: bool) -> None:
    """Put a point in front of the queue: the next ask hands it out. `-` reads it as JSON from standard input.

    \b
    Examples:
      bbopt enqueue runs.db vessel width=0.5 bolts=4 steel=S355
      bbopt best runs.db coarse --json | bbopt enqueue runs.db fine -

    JSON: {"trial": ...}, with its number and status "queued".
    """
    with opened(store, name) as opt:
        trial = opt.enqueue(read_params(params, opt.task.space))
        _changed(opt, trial.number, as_json)


@click.command(context_settings=NEGATIVE_NUMBERS, short_help="Record a point that was never asked.")
@study_arguments
@click.argument("params", nargs=-1, required=True, metavar="NAME=VALUE...")
@click.option("--value", "values", multiple=True, required=True, metavar="[METRIC=]VALUE", help="A result; repeatable.")
@std_option
@cost_option
@gradient_option
@json_option
def add(store: str, name: str, params: tuple[str, ...], values: tuple[str, ...], std: tuple[str, ...],
        cost: float | None, gradient: str | None, as_json: bool) -> None:  # fmt: skip
    """Record a point that was never asked, with its result. `-` reads the point as JSON from standard input.

    \b
    Example:
      bbopt add runs.db vessel width=0.5 bolts=4 steel=S355 --value cost=12.5 --value stress=230

    JSON: {"trial": ...}, the new trial.
    """
    with opened(store, name) as opt:
        point = read_params(params, opt.task.space)
        result = {"std": deviations_of(std), "cost": cost, "gradient": gradient_of(gradient)}
        trial = opt.add(point, values_of(values), **result)
        _changed(opt, trial.number, as_json)


@click.command(context_settings=NEGATIVE_NUMBERS, short_help="Correct a result.")
@study_arguments
@number_argument
@click.argument("values", nargs=-1, required=True, metavar="[METRIC=]VALUE...")
@std_option
@cost_option
@gradient_option
@json_option
def amend(store: str, name: str, number: int, values: tuple[str, ...], std: tuple[str, ...], cost: float | None,
          gradient: str | None, as_json: bool) -> None:  # fmt: skip
    """Correct the result of trial NUMBER: all its values, and --std, --cost and --gradient if it has them. The log keeps the old ones.

    \b
    Example:
      bbopt amend runs.db vessel 7 cost=6210.5 stress=240

    JSON: {"trial": ...}, the trial as it is now.
    """
    with opened(store, name) as opt:
        opt.amend(number, values_of(values), std=deviations_of(std), cost=cost, gradient=gradient_of(gradient))
        _changed(opt, number, as_json)


@click.command(short_help="Take an answer back.")
@study_arguments
@number_argument
@click.option("--rater", metavar="WHO", help="Take back only what this person ranked.")
@json_option
def retract(store: str, name: str, number: int, rater: str | None, as_json: bool) -> None:
    """Take the answer of trial NUMBER back: it is open again. The log keeps what was there.

    \b
    Examples:
      bbopt retract runs.db vessel 7
      bbopt retract runs.db faces 3 --rater ann

    JSON: {"trial": ...}, the trial as it is now.
    """
    with opened(store, name) as opt:
        opt.retract(number, rater=rater)
        _changed(opt, number, as_json)


@click.command(short_help="Take an open trial out.")
@study_arguments
@number_argument
@json_option
def cancel(store: str, name: str, number: int, as_json: bool) -> None:
    """Take trial NUMBER out, open or queued: nobody will answer it.

    \b
    Example:
      bbopt cancel runs.db vessel 7

    JSON: {"trial": ...}, the trial as it is now.
    """
    with opened(store, name) as opt:
        opt.cancel(number)
        _changed(opt, number, as_json)
