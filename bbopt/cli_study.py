"""Commands about a study as a whole: create, list, show; and what all commands on one study share."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from bbopt.cli_input import read_strategy, read_task
from bbopt.cli_output import (
    json_option,
    limits_text,
    note,
    plain,
    print_facts,
    print_json,
    print_table,
    print_trials,
    value_text,
)
from bbopt.errors import UsageError

if TYPE_CHECKING:
    from bbopt.optimizer import Optimizer
    from bbopt.store import Event
    from bbopt.task import Task
    from bbopt.trial import Trial

__all__ = ["create", "list_", "number_argument", "opened", "report_trials", "show", "study_arguments"]

LAST = 20  # trials that people are shown
LONG = 200  # characters of an option, such as data of earlier studies, which people are not shown

number_argument = click.argument("number", type=click.IntRange(0))
store_argument = click.argument("store", type=click.Path(dir_okay=False))


def study_arguments(command: Callable[..., None]) -> Callable[..., None]:
    """STORE and NAME, which every command on one study begins with."""
    return store_argument(click.argument("name")(command))


@contextlib.contextmanager
def opened(store: str, name: str, asks: bool = False) -> Iterator[Optimizer]:
    """A study, closed afterwards. One whose strategy is a class of the user's own can be read and told here; `asks` says
    that the strategy itself is needed."""
    from bbopt.optimizer import Optimizer
    from bbopt.store import SQLiteStore

    file = SQLiteStore(store, create=False)
    try:
        strategy = file.definition(name)["strategy"]
        stand_in = None if asks or "name" in strategy else _stand_in(strategy)
        yield Optimizer.open(file, name, strategy=stand_in)
    finally:
        file.close()


def _stand_in(document: dict[str, Any]) -> Any:
    """Something with the name and the options of a strategy whose code is not here: it says what it is, and cannot ask."""
    module, _, path = document["class"].partition(":")

    def missing(*_: Any) -> Any:
        raise UsageError(
            f"the code of the strategy {document['class']} is not in the store: ask from Python, with an instance"
        )

    methods = dict.fromkeys(("init", "ask", "tell"), missing)
    traits = {"handles": frozenset(), "learns": "rows", "instant": True}
    options = document["options"]
    kind: Any = dataclasses.make_dataclass(path, list(options), namespace={**methods, **traits}, frozen=True)
    kind.__module__, kind.__qualname__ = module, path
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in options.items()})


def _strategy_name(opt: Optimizer) -> str:
    from bbopt import table

    document = table.to_json(opt.strategy)
    texts = {name: json.dumps(value) for name, value in document["options"].items()}
    options = ", ".join(f"{name}={text if len(text) < LONG else '...'}" for name, text in texts.items())
    return str(document.get("name") or document["class"]) + (f" ({options})" if options else "")


def _study(opt: Optimizer, store: str) -> dict[str, Any]:
    """What `list`, `show` and `create` say of a study."""
    from bbopt import table

    best = opt.best() if opt.task.m == 1 else None
    return {
        "name": opt.name,
        "store": store,
        "strategy": table.to_json(opt.strategy),
        "reason": opt.reason,
        "seed": opt.seed,
        "budget": opt.budget,
        "retries": opt.retries,
        "statuses": opt.statuses(),
        "best": None if best is None else best.to_json(),
    }


@click.command(short_help="Make a study.")
@study_arguments
@click.option("--problem", metavar="P", help="The task of a built-in problem; see `bbopt problems`.")
@click.option("--task", "task_file", metavar="FILE.json", type=click.Path(dir_okay=False, allow_dash=True),
              help="A task as JSON (-: standard input): what Task.to_json gives, or any document with a \"task\".")  # fmt: skip
@click.option("--strategy", default="auto", show_default=True, metavar="S[:option=value,...]",
              help="A name from `bbopt strategies`, with options.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of all randomness of the study.")
@click.option("--budget", type=click.IntRange(1), help="Evaluations planned in all; a hint for `auto`.")
@click.option("--retries", default=2, show_default=True, type=click.IntRange(0), help="How often a lost trial returns.")
@click.option("--quorum", default=1, show_default=True, type=click.IntRange(1), help="Raters for each ranked query.")
@click.option("--earlier", multiple=True, metavar="STORE:STUDY",
              help="A study of a similar task to start from; repeatable.")  # fmt: skip
@click.option("--or-open", is_flag=True, help="No error if the study is there, as long as its task is the same.")
@json_option
def create(store: str, name: str, problem: str | None, task_file: str | None, strategy: str, seed: int,
           budget: int | None, retries: int, quorum: int, earlier: tuple[str, ...], or_open: bool,
           as_json: bool) -> None:  # fmt: skip
    """Make the study NAME in the file STORE, which is made if it is not there.

    \b
    Examples:
      bbopt create runs.db vessel --problem pressure_vessel --strategy gp --seed 1
      bbopt create runs.db mine --task task.json
      bbopt create runs.db second --task task.json --earlier runs.db:mine
      bbopt show runs.db vessel --json | bbopt create runs.db again --task -

    \b
    A task.json by hand (objectives, constraints and where may be left out):
      {"space": {"width": {"type": "Float", "low": 0.1, "high": 2, "log": true},
                 "bolts": {"type": "Int", "low": 2, "high": 12},
                 "steel": {"type": "Categorical", "choices": ["S235", "S355"]}},
       "objectives": [{"name": "cost"}],
       "constraints": [{"name": "stress", "upper": 250}],
       "where": ["width * bolts <= 10"]}
    With "feedback": "ranking" people put candidates in order instead of measuring them: `bbopt serve`, `bbopt rank`.

    JSON: name, store, strategy, reason (why this strategy), seed, budget, retries, statuses (trials by status), best.
    """
    from bbopt import problems
    from bbopt.errors import StudyExists
    from bbopt.optimizer import Optimizer

    if (problem is None) == (task_file is None):
        raise click.UsageError("expected either --problem or --task")
    task = problems.get(problem).task if problem is not None else read_task(task_file or "-")
    make = Optimizer.create_or_open if or_open else Optimizer
    try:
        made = make(task, read_strategy(strategy), seed=seed, budget=budget, store=store, name=name, retries=retries,
                    quorum=quorum, earlier=[_earlier(word) for word in earlier])  # fmt: skip
    except StudyExists:
        raise StudyExists(
            f"{store} has a study {name!r} already; choose another name, or go on with it by --or-open"
        ) from None
    with made:
        if as_json:
            print_json(_study(made, store))
        else:
            click.echo(f"{made.name} in {store}: {_strategy_name(made)}, {made.reason}")


def _earlier(word: str) -> dict[str, Any]:
    """The told points of the study that `STORE:STUDY` names."""
    from bbopt.earlier_data import earlier

    store, _, name = word.rpartition(":")
    if not store or not name:
        raise click.UsageError(f"--earlier: expected STORE:STUDY, such as runs.db:vessel, got {word!r}")
    with opened(store, name) as opt:
        return earlier(opt)


@click.command("list")
@store_argument
@json_option
def list_(store: str, as_json: bool) -> None:
    """List the studies in STORE.

    \b
    Example:
      bbopt list runs.db

    JSON: {"studies": [...]}, each as `bbopt create --json` prints it.
    """
    from bbopt.store import SQLiteStore

    file = SQLiteStore(store, create=False)
    names = file.studies()
    file.close()
    documents, rows = [], []
    for name in names:
        with opened(store, name) as opt:
            document = _study(opt, store)
            statuses = document["statuses"]
            best = document["best"] or {"values": None}
            value = (best["values"] or {}).get(opt.task.objectives[0].name)
            if value is None and document["best"] is not None:  # after rankings
                value = f"trial {best['number']}"
            objectives = ", ".join(item.name for item in opt.task.objectives)
        documents.append(document)
        strategy = document["strategy"]
        rows.append([name, str(strategy.get("name") or strategy["class"]), str(sum(statuses.values())),
                     str(statuses.get("open", 0)), str(statuses.get("ok", 0) + statuses.get("ranked", 0)), objectives, value_text(value, 8)])  # fmt: skip
    if as_json:
        print_json({"studies": documents})
    elif rows:
        print_table(["study", "strategy", "trials", "open", "told", "objective", "best"], rows)
    else:
        note(f"no studies in {store}")


@click.command(short_help="Show a study, or a trial of it.")
@study_arguments
@click.argument("number", required=False, type=int)
@click.option(
    "--log", is_flag=True, help="What was asked, told and corrected, in order; for NUMBER only what names it."
)
@click.option(
    "--last", type=click.IntRange(0), help=f"Only the last trials, or log entries. [default: {LAST} in tables]"
)
@json_option
def show(store: str, name: str, number: int | None, log: bool, last: int | None, as_json: bool) -> None:
    """Show a study (its task, strategy and trials), or the trial NUMBER of it.

    \b
    Examples:
      bbopt show runs.db vessel
      bbopt show runs.db vessel 7
      bbopt show runs.db vessel 7 --log
      bbopt show runs.db vessel --json > vessel.json     # `bbopt create --task vessel.json` reads it

    JSON: a study as `bbopt create --json` prints it, with "task", "trials" and "rankings" (what people ranked: query, rater,
    groups of trials best first, unseen, verdict, applied, time, position, details); for a NUMBER {"trial": ...}; with --log
    {"log": [...]} of position, time (UTC), writer, kind and body, where arrays are lists and null is "not told".
    """
    with opened(store, name) as opt:
        if log:
            _show_log(opt.history(number), last, as_json)
        elif number is not None:
            trial = opt.trial(number)
            print_json({"trial": trial.to_json()}) if as_json else print_trials([trial], opt.task)
        else:
            _show_study(opt, store, last, as_json)


def _show_study(opt: Optimizer, store: str, last: int | None, as_json: bool) -> None:
    from bbopt.cli_rankings import print_rankings, ranked_json, ranking_facts

    trials, answers = opt.trials(), opt.rankings()
    if as_json:
        kept = trials if last is None else _last(trials, last)
        answers = answers if last is None else _last(answers, last)
        document = {**_study(opt, store), "task": opt.task.to_json(), "trials": [trial.to_json() for trial in kept]}
        print_json({**document, "rankings": [ranked_json(answer) for answer in answers]})
        return
    counts = Counter(trial.status for trial in trials)
    by_status = ", ".join(f"{count} {status}" for status, count in counts.items())
    facts = {
        "study": f"{opt.name} in {store}",
        "strategy": f"{_strategy_name(opt)}, {opt.reason}",
        "seed": str(opt.seed),
        "budget": value_text(opt.budget),
        **task_facts(opt.task),
        "trials": f"{len(trials)}" + (f": {by_status}" if trials else ""),
        **ranking_facts(opt),
    }
    best = opt.best() if opt.task.m == 1 else None
    if best is not None:
        values = ", ".join(f"{name} = {value:.8g}" for name, value in (best.values or {}).items())
        design = ", ".join(f"{name}={value_text(value)}" for name, value in best.params.items())
        facts["best"] = (f"trial {best.number}" if best.number >= 0 else design) + (f": {values}" if values else "")
    print_facts(facts)
    kept = _last(trials, LAST if last is None else last)
    if kept:
        click.echo("")
        print_trials(kept, opt.task, 6)
    shown = _last(answers, LAST if last is None else last)
    if shown:
        click.echo("")
        print_rankings(shown)


def _last(items: list[Any], n: int) -> list[Any]:
    return items[max(0, len(items) - n) :]


def task_facts(task: Task) -> dict[str, str]:
    """A task in words, a line per parameter and limit."""
    goals = [
        f"{'maximize' if item.maximize else 'minimize'} {item.name}"
        + (f", {item.risk_text} over {', '.join(task.environment)}" if item.over else "")
        for item in task.objectives
    ]
    noise = {item.name: item.noise for item in task.objectives if item.noise is not None}
    noise |= {item.name: item.noise for item in task.constraints if item.noise is not None}
    facts = {
        "parameters": "\n".join(f"{name}: {_parameter_text(p)}" for name, p in task.space.parameters.items()),
        "objectives" if task.m > 1 else "objective": ", ".join(goals),
        "limits": "\n".join(map(limits_text, task.constraints)),
        "where": "\n".join(task.where),
        "noise": ", ".join(f"{name}: {value}" for name, value in noise.items()),
        "feedback": "" if task.feedback == "values" else task.feedback,
    }
    return {name: text for name, text in facts.items() if text}


def _parameter_text(parameter: Any) -> str:
    kind = type(parameter).__name__
    if kind == "Fixed":
        return f"fixed at {value_text(parameter.value)}"
    if kind == "Categorical":
        text = ("ordered " if parameter.ordered else "") + "one of " + ", ".join(map(value_text, parameter.choices))
    elif parameter.axis.low is None:
        text = f"Float, without bounds, scale {parameter.scale:g}"
    else:
        text = f"{kind}, {parameter.low:.12g} to {parameter.high:.12g}"
        text += ", log" if parameter.log else ""
        text += f", step {parameter.step:g}" if parameter.step else ""
    if getattr(parameter, "shape", None):
        text += f", shape {parameter.shape}"
    text += f", {parameter.role}" if parameter.role != "design" else ""
    if getattr(parameter, "normal", None):
        text += f", normal with mean {parameter.normal[0]:g} and standard deviation {parameter.normal[1]:g}"
    if getattr(parameter, "weights", None):
        text += ", weights " + ", ".join(f"{weight:g}" for weight in parameter.weights)
    return text + (f", when {parameter.when}" if parameter.when else "")


def _show_log(events: list[Event], last: int | None, as_json: bool) -> None:
    if as_json:
        kept = events if last is None else _last(events, last)
        print_json({"log": [dataclasses.asdict(event) for event in kept]})
        return
    kept = _last(events, LAST if last is None else last)
    rows = []
    for event in kept:
        body = ", ".join(f"{key}={_brief(value)}" for key, value in event.body.items() if value not in (None, "", {}))
        rows.append([str(event.position), event.time, event.writer, event.kind, body])
    print_table(["position", "time (UTC)", "writer", "kind", "what"], rows)


def _brief(value: Any) -> str:
    text = value_text(plain(value), 8)
    return text if len(text) <= 60 else text[:57] + "..."


def report_trials(opt: Optimizer, trials: list[Trial], as_json: bool, text: str) -> None:
    """Trials that were changed: as JSON, or a word about them for people."""
    print_json({"trials": [trial.to_json() for trial in trials]}) if as_json else click.echo(f"{opt.name}: {text}")
