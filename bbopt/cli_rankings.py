"""Commands about what people rank: rank, settle, agreement; and rankings as `bbopt show` and `bbopt export` give them."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bbopt.cli_output import json_option, note, print_facts, print_json, print_table
from bbopt.cli_study import number_argument, opened, report_trials, study_arguments

if TYPE_CHECKING:
    from bbopt.agreement import RaterAgreement
    from bbopt.optimizer import Optimizer
    from bbopt.slates import Ranked

__all__ = ["agreement", "rank", "settle"]


@click.command(short_help="Rank the trials of one query.")
@study_arguments
@click.argument("order", nargs=-1, metavar="[NUMBER[=NUMBER]]...")
@click.option("--unseen", multiple=True, type=click.IntRange(0), metavar="NUMBER", help="Not looked at; repeatable.")
@click.option("--rater", default="", metavar="WHO", help="Who ranked, where several people do.")
@click.option(
    "--verdict", type=click.Choice(["all bad", "cannot tell"]), help="About the whole slate, in place of ranks."
)
@click.option("--replace", is_flag=True, help="Put this in the place of what the same person ranked before.")
@json_option
def rank(store: str, name: str, order: tuple[str, ...], unseen: tuple[int, ...], rater: str, verdict: Any,
         replace: bool, as_json: bool) -> None:  # fmt: skip
    """Rank the trials of one query, best first; `=` joins those that are equally good.

    Trials of the query that were handed out and are not named are worse than those that are, unless they were --unseen.
    With all of them --unseen the slate is skipped. `bbopt ask --whole` hands out a query as a whole.

    \b
    Examples:
      bbopt rank runs.db faces 3 1=2 5              # 3 is best, then 1 and 2 alike, then 5
      bbopt rank runs.db faces 3 1 --unseen 4 --rater ann
      bbopt rank runs.db faces 3 --verdict "all bad"

    JSON: {"trials": [...]}, all trials of the query as they are now.
    """
    groups: list[list[int]] = []
    for word in order:
        numbers = word.split("=")
        if not all(text.isdecimal() for text in numbers):
            raise click.UsageError(f"expected numbers of trials, tied ones as 1=2, got {word!r}")
        groups.append([int(text) for text in numbers])
    if not groups and not unseen:
        raise click.UsageError("expected the numbers of trials, best first, or all of a query by --unseen to skip it")
    with opened(store, name, asks=True) as opt:
        opt.rank(groups, unseen=unseen, rater=rater, verdict=verdict, replace=replace)
        said = verdict or " > ".join(" = ".join(map(str, group)) for group in groups)
        _report_query(opt, groups[0][0] if groups else unseen[0], as_json, f"ranked {said}" if said else "skipped")


def _report_query(opt: Optimizer, number: int, as_json: bool, text: str) -> None:
    slate = next(slate for slate in opt.slates() if number in slate.numbers)
    trials = [opt.trial(each) for each in slate.numbers]
    waits = f"; {len(slate.raters)} of {slate.quorum} people" if slate.open else ""
    report_trials(opt, trials, as_json, text + waits)


@click.command(short_help="Close a query that too few have ranked.")
@study_arguments
@number_argument
@json_option
def settle(store: str, name: str, number: int, as_json: bool) -> None:
    """Close the query of trial NUMBER with the people who have ranked it so far, though these are fewer than its quorum.

    What comes later is kept and not applied. Taking one of these answers back opens the query again.

    \b
    Example:
      bbopt settle runs.db faces 3

    JSON: {"trials": [...]}, all trials of the query as they are now.
    """
    with opened(store, name) as opt:
        opt.settle(number)
        _report_query(opt, number, as_json, f"settled the query of trial {number}")


@click.command(short_help="Show how far people agree.")
@study_arguments
@json_option
def agreement(store: str, name: str, as_json: bool) -> None:
    """Show how far the people who rank agree, with each other and with themselves.

    tau: Kendall's tau-b in the slates that both ranked, 1 for the same order, -1 for the opposite one. W: Kendall's
    coefficient of concordance of all, 0 to 1. ties: share of compared pairs. circular: triads a > b > c > a of one person;
    zeta: 1 for none of them, 0 for as many as there can be. repeats: slates shown twice, with tau between the two looks.

    \b
    Examples:
      bbopt agreement runs.db faces
      bbopt agreement runs.db faces --json | jq .pairs

    JSON: pairs (raters, slates, tau), w, w_slates, and raters (rater, answers, tie_rate, triads, circular_triads, zeta,
    repeats: null or slates and tau); null is "cannot be said".
    """
    with opened(store, name) as opt:
        found = opt.agreement()
    if as_json:
        print_json(found.to_json())
        return
    if not found.raters:
        note(f"{name}: nobody has ranked anything yet")
        return
    print_table(["rater", "answers", "ties", "circular", "zeta", "repeats"], map(_person, found.raters))
    if found.pairs:
        click.echo("")
        rows = [[*pair.raters, str(pair.slates), _text(pair.tau)] for pair in found.pairs]
        print_table(["rater", "and", "slates", "tau"], rows)
    if found.w is not None:
        click.echo("")
        print_facts(
            {"W": f"{found.w:.2f} over {found.w_slates} slate{'s' * (found.w_slates != 1)} that several ranked in full"}
        )


def _person(rater: RaterAgreement) -> list[str]:
    ties = "-" if rater.tie_rate is None else f"{100 * rater.tie_rate:.0f} %"
    circular = f"{rater.circular_triads} of {rater.triads}" if rater.triads else "-"
    repeats = f"{rater.repeats}, tau {_text(rater.consistency)}" if rater.repeats else "-"
    return [rater.rater or "(no name)", str(rater.answers), ties, circular, _text(rater.zeta), repeats]


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


# -- for `bbopt show` and `bbopt export` ---------------------------------------------------------------------------------


def ranked_json(answer: Ranked) -> dict[str, Any]:
    """An answer as JSON values, in trial numbers."""
    ranking, first = answer.ranking, answer.first
    return {
        "query": answer.query,
        "rater": answer.rater,
        "groups": [[first + row for row in group] for group in ranking.groups],
        "unseen": [first + row for row in ranking.unseen],
        "verdict": ranking.verdict,
        "applied": answer.applied,
        "time": answer.time,
        "position": answer.position,
        "details": dict(answer.details),
    }


def ranking_facts(opt: Optimizer) -> dict[str, str]:
    """Who ranked how often, and how many queries wait; nothing for a study in which nobody ranks."""
    answers, slates = opt.rankings(), opt.slates()
    if opt.task.feedback != "ranking" and not answers:
        return {}
    by_rater = Counter(answer.rater or "(no name)" for answer in answers)
    people = ", ".join(f"{count} by {rater}" for rater, count in by_rater.items())
    count = Counter("answered" if slate.answered else "cancelled" if slate.cancelled else "open" for slate in slates)
    return {
        "rankings": f"{len(answers)}" + (f": {people}" if people else ""),
        "queries": ", ".join(f"{count[name]} {name}" for name in ("answered", "open", "cancelled") if count[name])
        or "0",
    }


def print_rankings(answers: Iterable[Ranked]) -> None:
    """A table with a line per answer."""
    rows = []
    for answer in answers:
        said = ranked_json(answer)
        order = said["verdict"] or " > ".join(" = ".join(map(str, group)) for group in said["groups"]) or "skipped"
        unseen = ", ".join(map(str, said["unseen"])) if said["groups"] else ""
        applied = "yes" if answer.applied else "no"
        rows.append([str(answer.query), answer.rater or "(no name)", order, unseen, applied, answer.time])
    print_table(["query", "rater", "order", "unseen", "counts", "time (UTC)"], rows)


def write_rankings(opt: Optimizer, path: Path | None) -> int:
    """CSV with a line per answer and trial, to a file or (None) to standard output; how many answers there are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["position", "time", "query", "rater", "trial", "place", "verdict", "applied", "details"])
    answers = opt.rankings()
    for answer in answers:
        places = {row: place for place, group in enumerate(answer.ranking.groups, start=1) for row in group}
        for row in range(answer.size):
            writer.writerow([answer.position, answer.time, answer.query, answer.rater, answer.first + row, places.get(row, ""),
                             answer.ranking.verdict or "", int(answer.applied), json.dumps(dict(answer.details))])  # fmt: skip
    if path is None:
        click.echo(text.getvalue(), nl=False)
    else:
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
    return len(answers)
