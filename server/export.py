"""A study as a file: trials as the core writes them to CSV, answers one line per item and rater, or everything as JSON."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import bbopt
from server.ledger import FIRST, Ledger, person, phase_of, revision_of
from server.rooms import Room
from server.service import Content

FORMAT = 1
COLUMNS = ("answer", "query", "rater", "repeat", "recorded", "revision", "elapsed_ms", "verdict", "applied", "withdrawn",
           "number", "group")  # fmt: skip


def trials_csv(room: Room) -> str:
    """All trials: number, status, attempt, parameters, metrics, errors, cost; as `bbopt export` writes them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trials.csv"
        room.opt.to_csv(path)
        return path.read_text("utf-8")


def answers_csv(room: Room) -> str:
    """All answers in the order of the log, a line per trial: the group it was put in, from 1 for the best; empty for one
    that was not looked at. A verdict on the whole slate has lines without groups."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for answer in room.ledger().answers:
        facts = _facts(answer)
        group = {row: place + 1 for place, rows in enumerate(answer.ranking.groups) for row in rows}
        for row in range(answer.size):
            line = {**facts, "number": answer.first + row, "group": group.get(row)}
            writer.writerow([_cell(line[column]) for column in COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A cell; text of people's own that a spreadsheet would take for a formula gets an apostrophe."""
    if isinstance(value, bool):
        return int(value)
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def everything(room: Room, definition: dict[str, Any]) -> str:
    """The study as JSON: definition, trials, slates, answers."""
    ledger: Ledger = room.ledger()
    total = sum(room.opt.statuses().values())
    document = {
        "format": FORMAT,
        "study": room.name,
        "definition": definition,
        "trials": [room.opt.trial(number).to_json() for number in range(total)],
        "slates": [
            {
                "query": slate.query,
                "numbers": list(slate.numbers),
                "phase": phase_of(slate),
                "asked": slate.asked,
                "owner": slate.owner,
                "quorum": slate.quorum,
                "answered": slate.answered,
                "cancelled": slate.cancelled,
            }
            for slate in ledger.slates
        ],
        "answers": [
            {
                **_facts(answer),
                "groups": [[answer.first + row for row in rows] for rows in Content.of(answer).groups],
                "unseen": [answer.first + row for row in Content.of(answer).unseen],
            }
            for answer in ledger.answers
        ],
    }
    return json.dumps(document, allow_nan=False, indent=1)


def _facts(answer: bbopt.Ranked) -> dict[str, Any]:
    rater, look = person(answer.rater)
    return {
        "answer": answer.position,
        "query": answer.query,
        "rater": rater,
        "repeat": look != FIRST,
        "recorded": answer.time,
        "revision": revision_of(answer),
        "elapsed_ms": answer.details.get("elapsed_ms"),
        "verdict": Content.of(answer).verdict,
        "applied": answer.applied,
        "withdrawn": answer.withdrawn,
    }


def filename(study: str, what: str, ending: str) -> str:
    """A name for the file that every system takes.

    >>> filename("my study: é", "trials", "csv")
    'my-study-trials.csv'
    """
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", study).strip("-.") or "study"
    return f"{stem[:60]}-{what}.{ending}"
