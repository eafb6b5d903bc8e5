"""Read a benchmark folder: the definition, the problems, and the log of every run, as plain records.

The log is read by `bbopt.book.Book` without making a strategy, so that a report of runs of a GP does not load torch.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import problems
from bbopt.book import Book, rows_of
from bbopt.errors import UsageError
from bbopt.parameters import Categorical, Fixed, Float, Int
from bbopt.record import AGAIN, CANCELLED, IMPOSSIBLE, LOST, OK, RANKED, STATUS
from bbopt.report.data import Bench, Limit, Parameter, ProblemFacts, Run
from bbopt.report.theme import number
from bbopt.store import SQLiteStore
from bbopt.task import Task

__all__ = ["load", "problem_facts"]

DEFINITION, RUNS, STORE = "bench.json", "runs.json", "runs.db"
ANSWERED = (OK, LOST, AGAIN, IMPOSSIBLE, CANCELLED, RANKED)


def load(folder: Path) -> Bench:
    """All records of a benchmark folder, complete or not. Raises UsageError where there is none."""
    from bbopt.bench.plan import read_json

    definition = read_json(folder / DEFINITION)
    if not definition:
        raise UsageError(
            f"expected a folder of `bbopt bench` with a {DEFINITION}, got {folder}; run the benchmark first"
        )
    ends = read_json(folder / RUNS)
    facts = tuple(problem_facts(name) for name in definition["problems"])
    runs: list[Run] = []
    chosen: dict[str, str] = {}
    if (folder / STORE).exists():
        store = SQLiteStore(folder / STORE, create=False)
        try:
            known = set(store.studies())
            chosen = _chosen(store, known, definition)
            for one in facts:
                task = problems.get(one.name).task
                for strategy in definition["strategies"]:
                    for seed in definition["seeds"]:
                        study = f"{one.name}/{strategy}/{seed}"
                        end = ends.get(study, {})
                        if study in known or end:
                            runs.append(_run(store if study in known else None, study, one, task, strategy, seed, end))
        finally:
            store.close()
    return Bench(
        title=_title(definition["suite"], facts),
        strategies=tuple(definition["strategies"]),
        problems=facts,
        seeds=tuple(definition["seeds"]),
        budget=definition["budget"],
        initial=min(definition["initial"], definition["budget"]),
        runs=tuple(runs),
        protocol=_protocol(definition, ends),
        strategy_fields={name: chosen.get(name) or _configuration(s) for name, s in definition["strategies"].items()},
    )


def _run(
    store: SQLiteStore | None,
    study: str,
    facts: ProblemFacts,
    task: Task,
    strategy: str,
    seed: int,
    end: Mapping[str, Any],
) -> Run:
    """One run from its log: the trials that are answered, in the order of their numbers."""
    definition = store.definition(study) if store else {"retries": 0, "quorum": 1}
    book = Book(task, definition["retries"], definition["quorum"], scripted=False)
    told: dict[int, float] = {}
    for event in store.read(study, 0) if store else []:
        book.apply(event)
        if event.kind in ("tell", "fail", "amend", "tell_query", "fail_rows"):
            moment = datetime.datetime.fromisoformat(event.time).timestamp()
            told.update(dict.fromkeys(_numbers(book, event.body), moment))
    rows = [
        (record, row) for record in book.records for row in np.flatnonzero(np.isin(record.status, ANSWERED)).tolist()
    ]
    n, m = len(rows), task.m
    metrics = np.array([record.metrics[row] for record, row in rows]).reshape(n, len(task.metrics))
    _, G = book.inside(metrics)
    ok = np.array([record.status[row] == OK for record, row in rows], dtype=bool)
    worst = np.maximum(G.max(axis=1), 0.0) if task.c and n else np.zeros(n)
    numbers = tuple(record.query.first + row for record, row in rows)
    return Run(
        problem=facts.name,
        strategy=strategy,
        seed=seed,
        objective=np.where(ok, metrics[:, 0], np.nan),
        constraints=np.where(ok[:, None], metrics[:, m:], np.nan),
        feasible=ok & (worst <= 0.0),
        violation=np.where(ok, worst, np.nan),
        seconds=np.array(
            [record.issues[0].seconds or 0.0 if record.issues else 0.0 for record, _ in rows], dtype=np.float64
        ),
        told_at=np.array([told.get(number, np.nan) for number in numbers], dtype=np.float64),
        params=tuple(task.space.decode(record.query.X[row]) for record, row in rows),
        numbers=numbers,
        status=tuple(STATUS[int(record.status[row])] for record, row in rows),
        error=str(end.get("traceback", "")) if end.get("state") == "failed" else "",
        exhausted=end.get("state") == "exhausted",
    )


def _numbers(book: Book, body: dict[str, Any]) -> list[int]:
    """Trials that an answer is about."""
    if "number" in body:
        return [body["number"]]
    record = book.records[body["query"]]
    numbers: list[int] = (record.query.first + rows_of(record, body.get("rows"))).tolist()
    return numbers


def problem_facts(name: str) -> ProblemFacts:
    """What a report says of a problem of `bbopt.problems`. Raises UsageError for an unknown name."""
    problem = problems.get(name)
    task, optimum = problem.task, problem.optimum
    space = task.space
    reached = dict(problem(optimum.params)) if optimum.params is not None and optimum.value is not None else {}
    objective = task.objectives[0]
    return ProblemFacts(
        name=name,
        objective=objective.name,
        maximize=objective.maximize,
        parameters=tuple(Parameter(key, _domain(space.parameters[key])) for key in space.names),
        constraints=tuple(Limit(item.name, item.lower, item.upper) for item in task.constraints),
        optimum=optimum.value,
        optimum_params=optimum.params,
        optimum_constraints={item.name: reached[item.name] for item in task.constraints} if reached else None,
        dimension=space.dimension,
        docs=problem.docs,
        source=problem.source,
    )


def _domain(parameter: Any) -> str:
    """The domain of a parameter in words."""
    if isinstance(parameter, Fixed):
        return f"fixed at {parameter.value}"
    if isinstance(parameter, Categorical):
        choices = ", ".join(str(choice) for choice in parameter.choices)
        return choices if len(choices) <= 32 else f"{len(parameter.choices)} choices"
    if isinstance(parameter, (Float, Int)) and parameter.low is not None and parameter.high is not None:
        text = f"{number(float(parameter.low), 7)} … {number(float(parameter.high), 7)}"
        step = parameter.step
        if isinstance(parameter, Int):
            text += " whole" if step in (None, 1) else f" step {step}"
        elif step:
            text += f" step {number(float(step), 6)}"
        return text + (" log" if parameter.log else "")
    return "unbounded"


class _Definitions(Protocol):
    def definition(self, name: str) -> dict[str, Any]: ...


def _chosen(store: _Definitions, studies: Set[str], definition: Mapping[str, Any]) -> dict[str, str]:
    """What `auto` has chosen, in words, by the name that it has in this benchmark."""
    found = {}
    for name, strategy in definition["strategies"].items():
        if strategy.get("name") == "auto":
            mine = [store.definition(study)["strategy"] for study in sorted(studies) if study.split("/")[1] == name]
            counts = Counter(_configuration(made) for made in mine)
            found[name] = "auto, which chose " + ", ".join(
                f"{made} in {n} run{'s' * (n != 1)}" for made, n in counts.most_common()
            )
    return {name: text for name, text in found.items() if not text.endswith("chose ")}


def _title(suite: str, facts: Sequence[ProblemFacts]) -> str:
    """The suite, or the problems of a selection."""
    if suite != "selection":
        return suite
    return ", ".join(one.label for one in facts) if len(facts) <= 3 else f"{len(facts)} problems"


def _configuration(strategy: Mapping[str, Any]) -> str:
    """A strategy with its options, as one would write it."""
    name = strategy.get("name") or str(strategy.get("class", "")).rpartition(":")[2]
    options = ", ".join(f"{key}={value!r}" for key, value in strategy.get("options", {}).items())
    return f"{name}({options})" if options else str(name)


def _protocol(definition: Mapping[str, Any], ends: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Date, versions and machine, from the sessions that worked on the folder."""
    sessions = definition.get("sessions", [])
    rows = []
    if sessions:
        days = sorted({session["began"][:10] for session in sessions})
        rows.append(("Date", days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}, {len(sessions)} sessions"))
    spent = sum(float(end.get("wall_seconds", 0.0)) for end in ends.values())
    if spent:
        rows.append(("Time of all runs", f"{spent:.0f} s" if spent < 120 else f"{spent / 60:.0f} min"))
    machines = {_machine(session.get("machine", {}), session.get("workers")) for session in sessions}
    rows.append(("Machine", "; ".join(sorted(machines))))
    found = {", ".join(f"{name} {text}" for name, text in session.get("versions", {}).items()) for session in sessions}
    rows.append(("Versions", "; ".join(sorted(found))))
    rows.append(("Initial design", definition.get("initial_design", "")))
    return tuple((name, text) for name, text in rows if text)


def _machine(machine: Mapping[str, Any], workers: Any) -> str:
    parts = [
        machine.get("processor"),
        f"{machine.get('cores')} cores",
        machine.get("system"),
        f"{workers} worker process{'es' * (workers != 1)}",
    ]
    return ", ".join(str(part) for part in parts if part)
